//! The copy of a database in the scratch database that the configuration names.

mod copy_on_mariadb;
mod copy_on_postgresql;

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::releases::{Outcome, outcome_of, prepare_site, score_on};
use crate::database::on_each_engine;
use crate::support::corpus::in_home;
use crate::support::database::{Database, Engine};
use crate::support::django::Site;
use crate::support::probe::Probe;
use crate::support::releases::add_column;
use crate::support::site::TestSite;
use crate::support::site::demo_site::DemoSite;
use crate::support::snapshot::{self, Snapshot};

const PASSWORD: &str = "canary-of-the-scratch %'\\";

/// A scratch database on the live server, with a role of its own that cannot connect to the live database.
fn scratch(live: &Database) -> (Database, String) {
    let name = format!("{}_scratch", live.name);
    let quoted = PASSWORD.replace('\'', "''");
    let (statements, scheme, parameter) = match live.engine {
        Engine::PostgreSql => (
            format!(
                "CREATE ROLE {name} LOGIN PASSWORD '{quoted}'; CREATE DATABASE {name} OWNER {name}; \
                 REVOKE CONNECT ON DATABASE {0} FROM PUBLIC; GRANT CONNECT ON DATABASE {0} TO {0}",
                live.name
            ),
            "postgresql",
            "host",
        ),
        Engine::MariaDb => (
            format!(
                "CREATE DATABASE {name}; CREATE USER {name}@localhost IDENTIFIED BY '{}'; \
                 GRANT ALL ON `{}`.* TO {name}@localhost",
                quoted.replace('\\', "\\\\"),
                name.replace('_', "\\_")
            ),
            "mysql",
            "socket",
        ),
    };
    for statement in statements.split("; ") {
        live.sql_as_admin(statement);
    }
    let database = Database { name: name.clone(), password: PASSWORD.to_owned(), ..live.clone() };
    let place = live.host.replace('/', "%2F");
    let url = format!("{scheme}://{name}:canary-of-the-scratch%20%25%27%5C@/{name}?{parameter}={place}");
    (database, url)
}

/// Copies with this URL, and fails unless the reason and the help for what was not copied begin like this.
fn skipped(site: &Site, request: &Value, url: &str, expected: &str) -> Value {
    let mut request = request.clone();
    request["scratch_url"] = json!(url);
    let copies = Probe::boot(site).ok(&request);
    let (reason, help) = (&copies["skipped"]["default"]["reason"], &copies["skipped"]["default"]["help"]);
    let said = format!("{} | {}", reason.as_str().unwrap_or_default(), help.as_str().unwrap_or_default());
    assert!(said.starts_with(expected), "{said}\nexpected {expected}");
    assert!(!said.contains("canary"), "{said}");
    copies
}

/// Returns a text as parts of URLs are written.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}"))
}

/// Returns a database of which no private server can have a copy: its clients verify the certificate.
fn verified(engine: Engine) -> Option<Database> {
    match engine {
        Engine::PostgreSql => Database::new(engine),
        Engine::MariaDb => Database::with_tls(),
    }
}

/// Names a scratch database in the configuration, as its URL or by a variable.
fn configure(site: &DemoSite, config: &str, url: &str, named: &str) {
    let file = site.root.join("site.env");
    fs::write(&file, format!("SCRATCH='{url}'\nPGSSLMODE=verify-ca\n")).expect("a file");
    let config = config.replace("[site]\n", &format!("[site]\nenv-file = {file:?}\n"));
    fs::write(&site.config, format!("{config}\n[rehearsal]\ndatabase-url = \"{named}\"\n"))
        .expect("a configuration");
}

on_each_engine! {
    an_update_is_rehearsed_in_it,
    releases_are_told_apart_in_it,
}

/// If `RELEASES` asks for it: it takes as long as with a private server.
fn releases_are_told_apart_in_it(engine: Engine) {
    if std::env::var_os("RELEASES").is_none() {
        return;
    }
    let Some(database) = verified(engine) else { return };
    let Some(mut site) = TestSite::builder().database(&database).rehearsal().build() else { return };
    prepare_site(&mut site);
    let config = fs::read_to_string(&site.config).expect("a configuration");
    configure(&site, &config, &scratch(&database).1, "$SCRATCH");
    score_on(engine, &site, &format!("{engine:?}, in a scratch database"));
}

fn an_update_is_rehearsed_in_it(engine: Engine) {
    let Some(database) = verified(engine) else { return };
    let Some(site) = TestSite::builder().database(&database).rehearsal().start() else { return };
    let (scratch, url) = scratch(&database);
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    let config = fs::read_to_string(&site.config).expect("a configuration");
    let named = |name: &str| configure(&site, &config, &url, name);
    let ready = |release: &dyn Fn(&std::path::Path)| match outcome_of(&site, &first, "a release", release) {
        Outcome::Ready(plan) => plan,
        Outcome::Refused(step, why) => panic!("refused by {step}: {why}"),
    };
    let before = Snapshot::of(&site);

    named("$MISSING");
    let plan = ready(&add_column);
    let missing = "the update was not rehearsed on a copy: `site.env` and `site.env-file` lack the variable `MISSING` of \
                   `rehearsal.database-url`";
    assert_eq!(plan.notices, [missing]);

    named("$SCRATCH");
    let plan = ready(&add_column);
    assert_eq!(plan.notices, [""; 0]);
    let rehearsal = plan.rehearsal.expect("a rehearsal");
    assert_eq!(rehearsal.databases.len(), 1, "{rehearsal:?}");
    assert!(rehearsal.databases[0].all_rows && !rehearsal.pages.is_empty(), "{rehearsal:?}");
    let outcome = outcome_of(&site, &first, "a broken page", |tree| {
        add_column(tree);
        let page = tree.join("project/guestbook/templates/guestbook/home.html");
        fs::write(page, "{% broken %}").expect("a template");
    });
    let (step, why) = match outcome {
        Outcome::Refused(step, why) => (step, why),
        Outcome::Ready(plan) => panic!("not refused: {:?}", plan.notices),
    };
    assert_eq!(step, "rehearse-pages", "{why}");
    assert_eq!(scratch.facts(), BTreeMap::new());

    if engine == Engine::MariaDb {
        // Only there can a statement name another database.
        let live = database.name.clone();
        let plan = ready(&|tree| {
            let sql = format!("'SELECT 1 FROM `{live}`.django_migrations LIMIT 0'");
            in_home(tree, &format!("from django.db import connection; connection.cursor().execute({sql})"));
        });
        let [said] = &plan.notices[..] else { panic!("{:?}", plan.notices) };
        let why = format!(
            "SELECT command denied to user '{live}_scratch'@'localhost' for table `{live}`.`django_migrations`"
        );
        assert!(said.contains(&why), "{said}");
        assert!(said.ends_with("it needs rights that the role of `rehearsal.database-url` lacks"), "{said}");
    }

    fs::write(&site.config, config).expect("a configuration");
    fs::remove_file(site.root.join("site.env")).expect("a file");
    snapshot::assert_same(&before, &Snapshot::of(&site));
}
