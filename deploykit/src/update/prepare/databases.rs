//! Which databases are migrated: whether there are such aliases, and whether they are different databases.

use super::Failed;
use crate::django::{Database, Databases, Session};
use crate::host::Host;
use crate::update::error::PreparationError;

/// Refuses aliases that the settings do not have, and two that are the same database.
pub(crate) fn check(wanted: &Databases, there: &[Database]) -> Result<(), PreparationError> {
    let keys = [
        ("database.migrate", &wanted.migrate),
        ("database.direct", &wanted.direct.values().cloned().collect()),
    ];
    for (key, aliases) in keys {
        if let Some(alias) = aliases.iter().find(|alias| !there.iter().any(|one| one.alias == **alias)) {
            let known = there.iter().map(|one| one.alias.clone()).collect();
            return Err(PreparationError::NoAlias { key, alias: alias.clone(), known });
        }
    }
    for alias in &wanted.migrate {
        let Some(database) = there.iter().find(|one| one.alias == *alias) else { continue };
        if let Some(twin) = database.twins.iter().find(|twin| wanted.migrate.contains(twin)) {
            return Err(PreparationError::SameDatabase { alias: alias.clone(), twin: twin.clone() });
        }
    }
    Ok(())
}

/// Tells whether a database is migrated through a pooler that keeps no sessions. Refuses a direct alias that leads through one, or
/// to another database.
pub(crate) fn is_pooled(
    wanted: &Databases,
    alias: &str,
    session: &mut Session,
    host: &Host,
) -> Result<bool, Failed> {
    let site = wanted.named(alias, session.on(alias).pooling(host, false))?;
    let Some(direct) = wanted.direct.get(alias) else { return Ok(site.shares) };
    let (alias, direct) = (alias.to_owned(), direct.clone());
    let straight = session.on(&alias).pooling(host, true)?;
    if straight.place != site.place {
        return Err(PreparationError::DirectElsewhere { alias, direct }.into());
    }
    if straight.shares {
        return Err(PreparationError::Pooled { alias: direct }.into());
    }
    Ok(false)
}

/// Names the databases that a command of the site's own may migrate, and that nobody copies.
pub(super) fn outside(wanted: &Databases, there: &[Database]) -> Vec<String> {
    let command = wanted.command.iter().flatten().next().map_or("", String::as_str);
    let is_known = |alias: &String| {
        wanted.migrate.contains(alias) || wanted.direct.values().any(|direct| direct == alias)
    };
    // Django has a stand-in for `{}`.
    let outside = there
        .iter()
        .filter(|one| one.vendor != "unknown" && !is_known(&one.alias) && !one.twins.iter().any(is_known));
    outside
        .map(|one| {
            format!(
                "alias `{}` is not in `database.migrate`: what `{command}` changes there is neither copied nor restored",
                one.alias
            )
        })
        .collect()
}

/// Warns of migrations through a pooler.
pub(in crate::update) fn pooled(alias: &str) -> String {
    format!(
        "alias `{alias}` reaches its server through a connection pooler in transaction mode, such as PgBouncer: settings and locks \
         of a session do not hold there, and a migration waits for a lock without a limit; add an alias to `DATABASES` that \
         connects to the server itself, and name it in `database.direct`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(alias: &str, twins: &[&str]) -> Database {
        let twins = twins.iter().map(|twin| (*twin).to_owned()).collect();
        let vendor = if alias == "nothing" { "unknown" } else { "sqlite" };
        Database { alias: alias.into(), engine: String::new(), vendor: vendor.into(), file: None, twins }
    }

    fn wanted(migrate: &[&str], direct: &[(&str, &str)]) -> Databases {
        Databases {
            migrate: migrate.iter().map(|alias| (*alias).to_owned()).collect(),
            command: None,
            direct: direct.iter().map(|(alias, other)| ((*alias).to_owned(), (*other).to_owned())).collect(),
        }
    }

    #[test]
    fn an_alias_that_is_missing_or_the_same_database_is_named() {
        let there =
            [database("default", &["replica"]), database("events", &[]), database("replica", &["default"])];
        let said = |wanted: Databases| check(&wanted, &there).map_err(|error| error.to_string());
        assert_eq!(said(wanted(&["default", "events"], &[])), Ok(()));
        assert_eq!(
            said(wanted(&["default", "event"], &[])).unwrap_err(),
            "`database.migrate` names `event`, but `DATABASES` has only `default`, `events`, `replica`"
        );
        let direct = said(wanted(&["default"], &[("default", "straight")])).unwrap_err();
        assert!(direct.starts_with("`database.direct` names `straight`"), "{direct}");
        assert_eq!(
            said(wanted(&["default", "replica"], &[])).unwrap_err(),
            "`default` and `replica` in `database.migrate` are the same database"
        );
        // As it is migrated past a pooler.
        assert_eq!(said(wanted(&["default"], &[("default", "replica")])), Ok(()));
    }

    #[test]
    fn a_database_that_a_command_may_change_and_nobody_copies_is_named() {
        let there = [
            database("default", &["replica"]),
            database("replica", &["default"]),
            database("events", &[]),
            database("straight", &[]),
            database("nothing", &[]),
        ];
        let said = |migrate: &[&str]| {
            let command = Some(vec!["migrate_multi".to_owned(), "--all".to_owned()]);
            outside(&Databases { command, ..wanted(migrate, &[("default", "straight")]) }, &there)
        };
        assert_eq!(
            said(&["default"]),
            [
                "alias `events` is not in `database.migrate`: what `migrate_multi` changes there is neither copied nor restored"
            ]
        );
        assert_eq!(said(&["default", "events"]), Vec::<String>::new());
    }
}
