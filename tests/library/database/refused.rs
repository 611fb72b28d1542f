//! What a copy could fail on is found while the site serves.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use deploykit::Variables;
use deploykit::internal::django::Session;

use super::*;
use crate::support::program;

super::on_each_engine! { a_missing_tool_is_found_beforehand }

/// A host whose programs are these alone.
fn host_with(site: &Site, programs: &[&str]) -> Host {
    let directory = site.path("bin");
    fs::create_dir_all(&directory).unwrap();
    for name in programs {
        symlink(program(name).expect("a client beside the server"), directory.join(name)).unwrap();
    }
    let mut variables = Variables::new();
    variables.set("PATH", directory.display().to_string());
    Host::new().with_variables(variables)
}

fn asked(site: &Site, host: &Host) -> Result<deploykit::internal::django::BackupFacts, DjangoError> {
    Session::boot(host, &site.project)
        .unwrap_or_else(|error| panic!("{error:?}"))
        .on("default")
        .backup_facts(host)
}

fn a_missing_tool_is_found_beforehand(engine: Engine) {
    let Some((site, _database)) = migrated(engine) else { return };
    let facts = asked(&site, &Host::new()).unwrap();
    assert_eq!(facts.vendor, if engine == Engine::PostgreSql { "postgresql" } else { "mysql" });
    assert!((10_000..100_000_000).contains(&facts.size_bytes), "{facts:?}");
    let error = asked(&site, &host_with(&site, &[])).unwrap_err();
    let name = if engine == Engine::PostgreSql { "pg_dump" } else { "mariadb-dump" };
    assert_eq!(
        error.to_string(),
        format!("`{name}` is not installed, and the database cannot be copied and restored without it")
    );
    let some: &[&str] = if engine == Engine::PostgreSql { &["pg_dump", "perl"] } else { &["mariadb-dump"] };
    let error = asked(&site, &host_with(&site, some)).unwrap_err();
    let name = if engine == Engine::PostgreSql { "pg_restore" } else { "mariadb" };
    assert!(matches!(&error, DjangoError::ToolMissing { program } if program == name), "{error}");
}

#[test]
fn a_tool_older_than_the_server_is_found_beforehand() {
    let Some((site, _database)) = migrated(Engine::PostgreSql) else { return };
    let host = host_with(&site, &[]);
    let old = site.path("bin/pg_dump");
    fs::write(&old, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    let error = asked(&site, &host).unwrap_err();
    assert!(error.to_string().starts_with("`pg_dump` 9 cannot copy a database of PostgreSQL 1"), "{error}");
}

#[test]
fn a_table_that_the_site_may_not_replace_is_found_beforehand() {
    let Some((site, database)) = migrated(Engine::PostgreSql) else { return };
    database.sql_as_admin("CREATE TABLE theirs (id int)");
    let error = asked(&site, &Host::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the site's database user does not own `theirs`, so a copy could not be restored"
    );
}

#[test]
fn rights_that_putting_back_takes_are_found_beforehand() {
    let Some((site, database)) = migrated(Engine::MariaDb) else { return };
    let user = format!("{}@localhost", database.name);
    // A pattern that means this database, as phpMyAdmin and others write it.
    database.sql_as_admin(&format!(
        "REVOKE ALL ON {0}.* FROM {user}; GRANT ALL ON `{0}%`.* TO {user}; REVOKE DROP, INDEX ON `{0}%`.* FROM {user}",
        database.name
    ));
    let error = asked(&site, &Host::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the site's database user lacks DROP, INDEX, so a copy could not be restored"
    );
    database.sql_as_admin(&format!("GRANT ALL ON `{}%`.* TO {user}", database.name));
    asked(&site, &Host::new()).unwrap();
    database.sql_as_admin("CREATE VIEW theirs AS SELECT 1 AS one");
    let error = asked(&site, &Host::new()).unwrap_err();
    assert!(matches!(&error, DjangoError::NotOwned { names } if names == &["theirs"]), "{error}");
}
