//! A site on a database server: what people are told about its copy.

use std::fs;

use regex_lite::Regex;
use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::run::on;
use crate::support::database::{Database, Engine};
use crate::support::releases::publish_irreversible_migration_and_broken_page;
use crate::support::site::TestSite;

/// Returns the lines that contain one of these.
fn lines(text: &str, wanted: &[&str]) -> String {
    let chosen = text.lines().filter(|line| wanted.iter().any(|word| line.contains(word)));
    chosen.map(|line| format!("{line}\n")).collect()
}

#[test]
fn what_becomes_of_the_copy_is_said_before_and_after() {
    let Some(database) = Database::new(Engine::PostgreSql) else { return };
    let Some(site) = TestSite::builder().database(&database).start() else { return };
    publish_irreversible_migration_and_broken_page(&site);
    let config = fs::read_to_string(&site.config).unwrap();
    fs::create_dir(site.root.join("bin")).unwrap();
    let path = format!("env = {{ PATH = \"{}/bin\", ", site.root.display());
    fs::write(&site.config, config.replace("env = { ", &path)).unwrap();
    let refused = on(&site, &["update", "-y"]).run().expect(4).text(Some(&site));
    assert_data_eq!(lines(&refused, &["Error", "pg_dump", "Hint", "Nothing"]), str![[r#"
Error: step `migrations` failed: `pg_dump` is not installed, and the database cannot be copied and restored without it
Nothing was changed: [COMMIT] is still the live version.
Hint: install it (Debian: postgresql-client), or add its directory to PATH in `site.env`, or name a program of your own in `database.backup-command`

"#]].raw());

    let damage = "\n[[steps]]\nname = \"damage\"\nafter = \"migrate\"\n\
        run = [\"sh\", \"-c\", \"truncate -s 100 .deploykit/runs/*/backup.dump\"]\n";
    fs::write(&site.config, config + damage).unwrap();
    let plan = on(&site, &["plan"]).run().expect(0).text(Some(&site));
    // How large an empty database is depends on the server's version.
    let plan = Regex::new("about [0-9]+ MB").unwrap().replace(&plan, "about [N] MB");
    assert_data_eq!(
        lines(&plan, &["backup", "RunPython", "migrate", "Cannot be rolled back"]),
        str![[r#"
  backup           about [N] MB in about 1 s (a rule of thumb): only the copy can undo the migrations
                     `guestbook.0002_shout`: RunPython without `reverse_code`
  migrate          1 migration
  damage           sh -c truncate -s 100 .deploykit/runs/*/backup.dump
Once it is finished, only `deploykit rollback --from-copy` can roll it back, and what is written until then is lost: `guestbook.0002_shout`: RunPython without `reverse_code`.

"#]]
        .raw()
    );
    let held = on(&site, &["update", "-y", "-q"]).run().expect(6).text(Some(&site));
    assert_data_eq!(lines(&held, &["Held", "could not be undone", "backup.dump", "Hint"]), str![[r#"
Held: the site's services are stopped, and no page is configured to say so. A person is needed.
  `migrate` could not be undone: the database is not what it was; its copy from before the migrations is `/srv/site/.deploykit/runs/[RUN]/backup.dump`: `pg_restore` exited with code 1: pg_restore: error: could not read from input file: end of file
Hint: restore the database to its state before these migrations, then run `deploykit recover`
Hint: every command with all its output is in /srv/site/.deploykit/runs/[RUN]/output.log

"#]].raw());
}
