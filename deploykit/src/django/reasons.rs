//! Reasons that several migrations share, each said once.

use super::MigrationId;

/// How many migrations are named that share a reason.
const NAMED: usize = 4;

/// A migration, and what is said of it.
pub(crate) type Reason = (MigrationId, String);

/// Says each of these texts of one migration.
pub(crate) fn reasons(id: &MigrationId, texts: &[String]) -> Vec<Reason> {
    texts.iter().map(|text| (id.clone(), text.clone())).collect()
}

/// Writes a line for each reason, with the migrations that it is said of: "`shop.0002`: RunSQL without `reverse_sql`".
pub(crate) fn grouped(reasons: &[Reason]) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<&MigrationId>)> = Vec::new();
    for (id, text) in reasons {
        match groups.iter_mut().find(|(known, _)| known == text) {
            Some((_, ids)) if ids.contains(&id) => {}
            Some((_, ids)) => ids.push(id),
            None => groups.push((text, vec![id])),
        }
    }
    groups.iter().map(|(text, ids)| format!("{}: {text}", named(ids))).collect()
}

/// Names migrations, many of them by their number.
pub(crate) fn named(ids: &[&MigrationId]) -> String {
    let quoted = |ids: &[&MigrationId]| ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    match ids {
        [one] => format!("`{one}`"),
        _ if ids.len() <= NAMED + 1 => format!("{} migrations ({})", ids.len(), quoted(ids)),
        _ => {
            let shown = ids.get(..NAMED).unwrap_or_default();
            format!("{} migrations ({} and {} more)", ids.len(), quoted(shown), ids.len() - NAMED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> MigrationId {
        MigrationId { app: "shop".into(), name: format!("{number:04}") }
    }

    #[test]
    fn one_reason_is_said_once() {
        let mut all: Vec<Reason> =
            (2..16).map(|number| (id(number), "RunPython without".to_owned())).collect();
        all.insert(3, (id(3), "RunSQL".to_owned()));
        all.push((id(2), "RunPython without".to_owned()));
        let lines = grouped(&all);
        assert_eq!(
            lines,
            [
                "14 migrations (`shop.0002`, `shop.0003`, `shop.0004`, `shop.0005` and 10 more): RunPython without",
                "`shop.0003`: RunSQL"
            ]
        );
        assert_eq!(named(&[&id(1), &id(2)]), "2 migrations (`shop.0001`, `shop.0002`)");
        assert!(grouped(&[]).is_empty());
    }
}
