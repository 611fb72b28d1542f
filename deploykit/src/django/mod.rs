//! Django.
use crate::action::Context;
use crate::host::Host;
use serde::{Deserialize, Serialize};
/// Stub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DjangoError {}
/// Stub.
#[derive(Debug)]
pub struct Session {}
/// Stub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Migrate {}
impl Migrate {
    /// Stub.
    pub fn perform(&self, _context: &mut Context) -> Result<(), DjangoError> {
        Ok(())
    }
}
/// Stub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestoreDatabase {}
impl RestoreDatabase {
    /// Stub.
    pub fn perform(&self, _context: &mut Context) -> Result<(), DjangoError> {
        Ok(())
    }
}
/// Stub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announce {}
impl Announce {
    /// Stub.
    pub fn perform(&self, _host: &Host) -> Result<(), DjangoError> {
        Ok(())
    }
}
