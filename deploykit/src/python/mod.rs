//! Python: virtualenvs, pip and uv.
use crate::host::Host;
use serde::{Deserialize, Serialize};
/// Stub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PythonError {}
/// Stub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Build {}
impl Build {
    /// Stub.
    pub fn perform(&self, _host: &Host) -> Result<(), PythonError> {
        Ok(())
    }
}
