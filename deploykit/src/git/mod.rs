//! Git: git2 reads, the `git` executable transports and writes.
use crate::host::Host;
use serde::{Deserialize, Serialize};
/// Stub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {}
/// Stub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkout {}
impl Checkout {
    /// Stub.
    pub fn perform(&self, _host: &Host) -> Result<(), GitError> {
        Ok(())
    }
}
