//! PostgreSQL and MariaDB: real servers, migrated, reversed, copied and put back.

mod connections;
mod copies;
mod hangs;
mod pooled;
mod refused;
mod schema;

use std::collections::BTreeMap;

use deploykit::Host;
use deploykit::action::Context;
use deploykit::internal::django::{
    BackupDatabase, DatabaseState, DjangoError, Migrate, PutBack, RestoreDatabase,
};

use crate::support::database::{Database, Engine};
use crate::support::django::Site;

/// Runs tests on each kind of server.
macro_rules! on_each_engine {
    ($($name:ident),* $(,)?) => {
        mod postgresql {
            $(#[test] fn $name() { super::$name(crate::support::database::Engine::PostgreSql); })*
        }
        mod mariadb {
            $(#[test] fn $name() { super::$name(crate::support::database::Engine::MariaDb); })*
        }
    };
}
pub(crate) use connections::proxy;
pub(crate) use on_each_engine;

/// A site whose first migrations are applied, with two rows.
pub(crate) fn migrated(engine: Engine) -> Option<(Site, Database)> {
    let database = Database::new(engine)?;
    let site = migrated_on(&database)?;
    Some((site, database))
}

pub(crate) fn migrated_on(database: &Database) -> Option<Site> {
    let site = Site::on(database)?;
    let (host, mut session) = (Host::new(), site.boot());
    let plan = session.on("default").migrations(&host).expect("a plan");
    session.on("default").migrate(&host, &plan.applied, &plan.ids()).expect("the first migrations");
    database.sql("INSERT INTO shop_item (name) VALUES ('one'), ('two')");
    Some(site)
}

/// Plans and migrates; returns the state of before, the result, and what the actions need.
fn migrate(site: &Site) -> (DatabaseState, Result<(), DjangoError>, Context) {
    let host = Host::new();
    let mut session = site.boot();
    let before = session.on("default").state(&host).expect("a state");
    let plan = session.on("default").migrations(&host).expect("a plan").ids();
    let mut context = Context { host, django: Some(session) };
    let action = Migrate { project: site.project.clone(), before: before.clone(), plan };
    let result = action.perform(&mut context);
    (before, result, context)
}

fn backup(site: &Site) -> BackupDatabase {
    let (project, path) = (site.project.clone(), site.path("backup"));
    BackupDatabase::new(project, path)
}

fn restore(site: &Site, before: &DatabaseState, copied: bool) -> RestoreDatabase {
    let backup = copied.then(|| site.path("backup"));
    let (project, before) = (site.project.clone(), before.clone());
    RestoreDatabase::new(project, before, backup)
}

/// Fails with a list of what is not as before.
#[track_caller]
pub(crate) fn assert_same(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    let differs = |(name, value): &(&String, &String)| {
        before.get(*name) != Some(*value) || after.get(*name) != Some(*value)
    };
    let lines: Vec<_> = before.iter().chain(after).filter(differs).collect();
    assert!(lines.is_empty(), "{lines:#?}");
}
