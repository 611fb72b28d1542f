//! stub
pub(crate) mod unix;
