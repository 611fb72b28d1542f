//! What a person should know of the migrations beside those that will be applied.

use crate::django::reasons::named;
use crate::django::{LackingMigration, MigrationId, MigrationPlan, OtherDatabase};

/// Says what is pending in databases that are not migrated.
pub(super) fn of_others(others: &[OtherDatabase]) -> Vec<String> {
    let one = |other: &OtherDatabase| {
        let alias = &other.database;
        if let Some(unknown) = &other.unknown {
            return Some(format!(
                "alias `{alias}` is not in `database.migrate`, and which of its migrations are applied is not known ({unknown})"
            ));
        }
        let count = match other.pending.len() {
            0 => return None,
            1 => "1 pending migration".to_owned(),
            count => format!("{count} pending migrations"),
        };
        Some(format!(
            "alias `{alias}` has {count}, and is not in `database.migrate`: add it there, or migrate it by hand: manage.py \
             migrate --database {alias}"
        ))
    };
    others.iter().filter_map(one).collect()
}

/// Says what is odd about the history of migrations.
pub(super) fn notices(plan: &MigrationPlan) -> Vec<String> {
    let mut notices = Vec::new();
    let lacking = |is_wanted: fn(&LackingMigration) -> bool| -> Vec<&MigrationId> {
        plan.lacking.iter().filter(|one| is_wanted(one)).map(|one| &one.id).collect()
    };
    let own = lacking(|one| one.installed);
    if !own.is_empty() {
        let required = match plan.required.as_slice() {
            [] => String::new(),
            columns => {
                let columns: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
                format!(
                    "; the new code does not know {}, which must have a value: inserting a row fails",
                    columns.join(", ")
                )
            }
        };
        notices.push(format!(
            "applied, and missing from the new version: {}. What they changed stays in the database{required}",
            named(&own)
        ));
    }
    let others = lacking(|one| !one.installed);
    if !others.is_empty() {
        notices.push(format!(
            "applied, and their apps are not installed in the new version: {}. Their tables stay in the database",
            named(&others)
        ));
    }
    if !plan.doubtful.is_empty() {
        notices.push(format!(
            "migrations may fail, since the database seems to have already what they create: {}",
            plan.doubtful.join(", ")
        ));
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> MigrationId {
        MigrationId { app: "shop".into(), name: name.into() }
    }

    #[test]
    fn what_the_new_version_lacks_is_named_with_what_it_means() {
        let plan = MigrationPlan {
            lacking: vec![
                LackingMigration { id: id("0002_code"), installed: true },
                LackingMigration { id: id("0001_gone"), installed: false },
            ],
            required: vec!["shop_item.code".into()],
            ..MigrationPlan::default()
        };
        assert_eq!(
            notices(&plan),
            [
                "applied, and missing from the new version: `shop.0002_code`. What they changed stays in the database; \
                 the new code does not know `shop_item.code`, which must have a value: inserting a row fails",
                "applied, and their apps are not installed in the new version: `shop.0001_gone`. Their tables stay in the \
                 database",
            ]
        );
        assert!(notices(&MigrationPlan::default()).is_empty());
    }

    #[test]
    fn what_is_pending_elsewhere_has_its_command() {
        let other = |pending, unknown: Option<&str>| OtherDatabase {
            database: "users".into(),
            pending,
            unknown: unknown.map(str::to_owned),
        };
        let said = |pending, unknown| of_others(&[other(pending, unknown)]).concat();
        assert_eq!(
            said(vec![id("0001")], None),
            "alias `users` has 1 pending migration, and is not in `database.migrate`: add it there, or migrate it by hand: manage.py \
             migrate --database users"
        );
        assert!(said(vec![id("0001"), id("0002")], None).contains("2 pending migrations"));
        assert!(said(vec![], None).is_empty());
        assert!(said(vec![], Some("KeyError")).contains("KeyError"));
    }
}
