//! Runs the examples of the library, in this process.

use deploykit::event::Outcome;

use crate::support;
use crate::support::site::TestSite;
use crate::support::site::demo_site::NEW_SECRET;
use crate::update::load;

#[path = "../../examples/async_tokio.rs"]
#[expect(dead_code, reason = "its `main` reads the arguments of the process")]
mod async_tokio;
#[path = "../../examples/cancel.rs"]
mod cancel;
#[path = "../../examples/django_manage.rs"]
#[expect(dead_code, reason = "its `main` reads the arguments of the process")]
mod django_manage;
#[path = "../../examples/git_update.rs"]
mod git_update;
#[path = "../../examples/maintenance.rs"]
mod maintenance;
#[path = "../../examples/pip_install.rs"]
mod pip_install;
#[path = "../../examples/service_control.rs"]
mod service_control;
#[path = "../../examples/smoke_check.rs"]
mod smoke_check;

#[test]
fn a_checkout_is_updated() {
    let Some(_) = support::program("git") else { return };
    git_update::main().unwrap();
}

#[test]
fn a_package_is_installed() {
    let Some(_) = support::program("python3") else { return };
    pip_install::main().unwrap();
}

#[test]
fn a_project_is_migrated() {
    let Some(python) = support::django::python() else { return };
    django_manage::migrate(python).unwrap();
}

#[test]
fn a_service_starts_and_stops() {
    service_control::main().unwrap();
}

#[test]
fn a_maintenance_page_comes_and_goes() {
    maintenance::main().unwrap();
}

#[test]
fn pages_are_checked() {
    smoke_check::main().unwrap();
}

#[test]
fn a_site_is_updated_from_an_asynchronous_program() {
    let Some(site) = TestSite::builder().start() else { return };
    site.publish_release_2().unwrap();
    site.add_secret(NEW_SECRET, "a pinch of salt").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(async_tokio::update(load(&site))).unwrap(), Outcome::Updated);
    assert_eq!(site.release().as_deref(), Some("2"));
}

#[test]
fn an_operation_is_cancelled() {
    cancel::main().unwrap();
}
