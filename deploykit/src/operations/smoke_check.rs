//! Pages and commands that show that the site works.
use crate::host::Host;
use serde::{Deserialize, Serialize};
/// Stub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SmokeError {}
/// Stub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SmokeCheck {}
impl SmokeCheck {
    /// Stub.
    pub fn perform(&self, _host: &Host) -> Result<(), SmokeError> {
        Ok(())
    }
}
