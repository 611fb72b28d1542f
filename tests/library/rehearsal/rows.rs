//! Which changes of rows are seen.

use std::time::Duration;

use deploykit::Host;
use deploykit::internal::django::RowDigests;

use crate::database::{migrated, on_each_engine};
use crate::support::database::Engine;
use crate::support::django::Site;

fn digests(site: &Site) -> RowDigests {
    site.boot().on("default").digests(&Host::new(), Duration::from_secs(30)).expect("digests")
}

on_each_engine! {
    every_value_counts,
}

/// Types of columns, each with two values that are easily confused.
fn confusable(engine: Engine) -> Vec<[&'static str; 3]> {
    let mut found = vec![
        ["varchar(9)", "NULL", "''"],
        ["varchar(9)", "NULL", "'NULL'"],
        ["varchar(9)", "'a'", "'A'"],
        ["varchar(9)", "'a'", "'a '"],
        ["varchar(9)", "'1'", "'1.0'"],
        ["numeric(9, 3)", "1.001", "1.002"],
        ["double precision", "0.3", "0.30000000000000004"],
        ["timestamp(6)", "'2026-10-25 01:00:00.000001'", "'2026-10-25 01:00:00.000002'"],
    ];
    found.extend(match engine {
        Engine::PostgreSql => [
            ["real", "1e-40", "'NaN'"],
            ["float8", "1.7976931348623157e308", "'Infinity'"],
            ["real", "16777216", "16777218"],
            ["bytea", r"'\x00ff'", r"'\x00fe'"],
            ["json", "'{\"a\": 1}'", "'{\"a\":1}'"],
            ["jsonb", "'[1, null]'", "'[1, \"null\"]'"],
            ["text[]", "'{NULL}'", "'{\"NULL\"}'"],
            ["timestamptz", "'infinity'", "'294276-01-01 UTC'"],
            ["interval", "'1 day'", "'24 hours'"],
        ],
        Engine::MariaDb => [
            ["blob", "x'00ff'", "x'00fe'"],
            ["bit(8)", "b'0'", "b'1'"],
            ["json", "'{\"a\": 1}'", "'{\"a\":1}'"],
            ["float", "1", "1.0000001"],
            ["time(3)", "'-838:00:00.001'", "'-838:00:00.002'"],
            ["point", "point(1, 2)", "point(1, 3)"],
            ["varchar(9) CHARACTER SET latin1", "'e'", "'é'"],
            ["text COLLATE utf8mb4_general_ci", "'ä'", "'a'"],
            ["bigint unsigned", "18446744073709551615", "18446744073709551614"],
        ],
    });
    found
}

fn every_value_counts(engine: Engine) {
    let Some((site, database)) = migrated(engine) else { return };
    let pairs = confusable(engine);
    let each = |sql: &dyn Fn(usize, &[&str; 3]) -> String| {
        pairs.iter().enumerate().map(|(number, pair)| sql(number, pair)).collect::<String>()
    };
    database.sql(&each(&|number, [kind, one, _]| {
        format!("CREATE TABLE pair_{number:02} (id int, value {kind} NULL); INSERT INTO pair_{number:02} VALUES (1, {one});")
    }));
    database.sql(
        "CREATE TABLE borders (a varchar(9), b varchar(9)); INSERT INTO borders VALUES ('x,', 'y');
        CREATE TABLE swapped (a int, b int); INSERT INTO swapped VALUES (1, 2), (2, 1), (3, 3);
        CREATE TABLE turned (a varchar(9), b int); INSERT INTO turned VALUES ('first', 1), ('last', 2)",
    );
    let before = digests(&site);
    assert_eq!(before.left, [""; 0]);
    database.sql(&each(&|number, [_, _, other]| format!("UPDATE pair_{number:02} SET value = {other};")));
    database.sql(
        "UPDATE borders SET a = 'x', b = ',y'; UPDATE swapped SET a = 3 - a, b = 3 - b WHERE a = 1; DROP TABLE turned;
        CREATE TABLE turned (b int, a varchar(9)); INSERT INTO turned VALUES (2, 'last'), (1, 'first')",
    );
    let mut expected: Vec<String> =
        (0..pairs.len()).map(|number| format!("`pair_{number:02}` has different values")).collect();
    expected.insert(0, "`borders` has different values".to_owned());
    expected.push("`swapped` has different values".to_owned());
    let now = digests(&site);
    assert_eq!(now.since(&before), expected);
    assert_eq!(now, digests(&site));
}

#[test]
fn what_cannot_be_read_is_not_compared() {
    let Some(site) = Site::new() else { return };
    let (host, mut session) = (Host::new(), site.boot());
    let plan = session.on("default").migrations(&host).expect("a plan");
    session.on("default").migrate(&host, &plan.applied, &plan.ids()).expect("the first migrations");
    site.sql("CREATE TABLE odd (id integer, at datetime)");
    site.sql("INSERT INTO odd VALUES (1, '2026-13-01 00:00:00')");
    site.sql("CREATE VIEW names AS SELECT name FROM shop_item");
    let before = digests(&site);
    assert_eq!(before.left, ["odd"]);
    assert!(before.digests.contains_key("shop_item"), "{before:?}");
    site.sql("DROP VIEW names");
    site.sql("CREATE VIEW names AS SELECT id FROM shop_item");
    assert_eq!(digests(&site).since(&before), ["`view names` has different values"]);
}

#[test]
fn tables_of_others_and_of_other_schemas_are_not_compared() {
    let Some((site, database)) = migrated(Engine::PostgreSql) else { return };
    database.sql("CREATE SCHEMA audit");
    database.sql("CREATE TABLE audit.log (id int)");
    database.sql("CREATE TABLE closed (id int)");
    database.sql("REVOKE ALL ON closed FROM CURRENT_USER");
    let found = digests(&site);
    assert_eq!(found.left, ["audit.log", "closed"]);
    assert_eq!(found.digests["shop_item"].0, 2);
}
