//! Services.
use crate::host::Host;
use serde::{Deserialize, Serialize};
/// Stub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {}
/// Stub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceAction {}
impl ServiceAction {
    /// Stub.
    pub fn perform(&self, _host: &Host) -> Result<(), ServiceError> {
        Ok(())
    }
}
