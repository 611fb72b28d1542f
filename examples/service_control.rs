//! Starts, restarts and stops a service that has commands of its own.
//!
//! ```sh
//! cargo run -p deploykit --example service_control
//! ```

use std::error::Error;
use std::path::Path;

use deploykit::operations::service_control::{ServiceControl, Want};
use deploykit::operations::{self, ApplyError};
use deploykit::services::{CommandManager, Manager, Role, Service, Status};
use deploykit::{Check, Context, Host};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let host = Host::new();
    let mut context = Context::from(host.clone());
    let queue = Service::new("queue", Role::Worker, Manager::Command(commands(directory.path())));
    let status = || queue.state(&host).map(|state| state.status);
    let mut reach = |want| -> Result<(), ApplyError> {
        match operations::apply(&ServiceControl { services: vec![queue.clone()], want }, &mut context)? {
            Check::Change(change) => println!("{} → {}", change.before, change.after),
            Check::Unchanged { reason } => println!("nothing to do: {reason}"),
        }
        Ok(())
    };

    reach(Want::Start)?;
    assert_eq!(status()?, Status::Running);
    reach(Want::Start)?;
    let first = std::fs::read_to_string(directory.path().join("pid"))?;
    reach(Want::Restart)?;
    assert_ne!(std::fs::read_to_string(directory.path().join("pid"))?, first);
    reach(Want::Stop)?;
    assert_eq!(status()?, Status::Stopped);
    Ok(())
}

/// A service that keeps its process id in a file.
fn commands(directory: &Path) -> CommandManager {
    let sh = |script: &str| vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
    CommandManager {
        start: sh("sleep 300 > /dev/null 2>&1 & echo $! > pid"),
        stop: sh("kill $(cat pid) && rm pid"),
        status: sh("test -e pid && kill -0 $(cat pid)"),
        directory: Some(directory.to_owned()),
        ..CommandManager::default()
    }
}
