//! Databases that cannot be copied.

use deploykit::plan::Plan;

use super::releases::{Outcome, outcome_of};
use crate::support::database::{Database, Engine};
use crate::support::releases::{add_column, write};
use crate::support::site::TestSite;
use crate::update::add;

fn ready(outcome: Outcome) -> Box<Plan> {
    match outcome {
        Outcome::Ready(plan) => plan,
        Outcome::Refused(step, why) => panic!("{step}: {why}"),
    }
}

#[test]
fn a_database_may_be_missing_while_it_does_not_change() {
    let Some(database) = Database::new(Engine::PostgreSql) else { return };
    let Some(site) = TestSite::builder().database(&database).rehearsal().start() else { return };
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    // Whoever restores is another user.
    let owner = database.sql("SELECT current_user");
    database.sql(&format!("CREATE TABLE own (id int CHECK (current_user = '{owner}'))"));
    database.sql("INSERT INTO own VALUES (1)");

    let page = |tree: &std::path::Path| {
        write(tree, "project/guestbook/templates/guestbook/home.html", "{% broken %}\n");
    };
    let plan = ready(outcome_of(&site, &first, "a page", page));
    let [.., missing, unsure] = &plan.notices[..] else { panic!("{:?}", plan.notices) };
    assert!(
        missing.starts_with("database `default` was not rehearsed on a copy: `pg_restore` failed"),
        "{missing}"
    );
    assert!(
        unsure.starts_with("the update was not rehearsed on a copy: without database `default`: "),
        "{unsure}"
    );

    let plan = ready(outcome_of(&site, &first, "a migration", add_column));
    let why =
        "the update was not rehearsed on a copy: database `default` cannot be copied: `pg_restore` failed";
    assert!(plan.notices.iter().any(|notice| notice.starts_with(why)), "{:?}", plan.notices);

    add(&site, "[rehearsal]\nwhen = \"always\"");
    let Outcome::Refused(step, why) = outcome_of(&site, &first, "a page", page) else { panic!("ready") };
    assert_eq!(step, "rehearse-migrations", "{why}");
    assert!(why.contains("database `default` cannot be copied"), "{why}");
}
