//! Which databases are copied without their rows, because a copy would be too large or take too long.

use std::time::Duration;

use super::size;
use crate::keys::{Size, written};
use crate::site::RehearsalSection;
use crate::state::Copied;

/// Returns up to which size a database is copied with all rows, in bytes.
pub(in crate::update) fn most(limits: &RehearsalSection, copied: &Copied, alias: &str) -> u64 {
    let Size(most) = limits.limit;
    copied.possible(alias, limits.time_limit).map_or(most, |possible| possible.min(most))
}

/// Says why a database of so many bytes was copied without its rows; `copied` are the copies before.
pub(in crate::update) fn without_rows(
    limits: &RehearsalSection,
    copied: &Copied,
    alias: &str,
    bytes: u64,
) -> String {
    let RehearsalSection { limit, time_limit, .. } = limits;
    let why = match copied.expected(alias, bytes) {
        Some(expected) if bytes <= limit.0 => format!(
            "by the speed of the last copy it would take {}, more than `rehearsal.time-limit` ({})",
            written(Duration::from_secs(expected.as_secs())),
            written(*time_limit)
        ),
        _ => format!("it is larger ({}) than `rehearsal.limit` ({limit})", size(bytes)),
    };
    format!(
        "database `{alias}` was copied without its rows: {why}; neither migrations nor pages were rehearsed on data"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::django::When;

    #[test]
    fn what_is_too_large_or_takes_too_long_is_copied_without_rows() {
        let (limit, time_limit) = (Size(2_000_000_000), Duration::from_secs(90));
        let limits = RehearsalSection { when: When::Auto, limit, time_limit, database_url: None };
        let mut copied = Copied::default();
        assert_eq!(most(&limits, &copied, "default"), 2_000_000_000);
        let said = without_rows(&limits, &copied, "default", 2_500_000_000);
        assert_eq!(
            said,
            "database `default` was copied without its rows: it is larger (2500 MB) than `rehearsal.limit` (2 GB); \
             neither migrations nor pages were rehearsed on data"
        );
        // Faster than the limits ask for.
        copied.add("default", 1_000_000_000, 10_000);
        assert_eq!(most(&limits, &copied, "default"), 2_000_000_000);
        assert_eq!(without_rows(&limits, &copied, "default", 2_500_000_000), said);
        copied.add("default", 1_000_000_000, 80_000);
        assert_eq!(most(&limits, &copied, "default"), 1_125_000_000);
        assert_eq!(most(&limits, &copied, "other"), 2_000_000_000);
        assert_eq!(
            without_rows(&limits, &copied, "default", 1_250_000_000),
            "database `default` was copied without its rows: by the speed of the last copy it would take 1m 40s, more \
             than `rehearsal.time-limit` (1m 30s); neither migrations nor pages were rehearsed on data"
        );
    }
}
