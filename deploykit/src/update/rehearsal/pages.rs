//! What the pages of a rehearsal show of the other version.

use super::lacks_rights;
use crate::django::PageRecord;
use crate::operations::smoke_check::{PageResult, Problem};
use crate::plan::RehearsedPage;

/// Adds what the answers do not show: an exception whose error page has the expected status.
pub(in crate::update) fn note_exceptions(results: &mut [PageResult], records: &[PageRecord]) {
    for page in results.iter_mut().filter(|page| page.problems.is_empty()) {
        // Earlier ones belong to attempts that were not as expected.
        let last = records.iter().rfind(|record| fits(&record.path, page));
        if let (true, Some(status)) = (last.is_some_and(|record| record.unhandled), page.status) {
            page.problems.push(Problem::ErrorPage { status });
        }
    }
}

/// Sorts the pages that are not as expected: those that show that the new version is broken, and what is said of the others. `own`
/// are the site's own steps that the rehearsal leaves out and that pages may need. `in_scratch`: another role owns the copy.
pub(in crate::update) fn judge(
    results: &[PageResult],
    records: &[PageRecord],
    own: &[&str],
    in_scratch: bool,
) -> (Vec<PageResult>, Vec<String>) {
    let (mut failing, mut unsure) = (Vec::new(), Vec::new());
    for page in results.iter().filter(|page| !page.problems.is_empty()) {
        let of_page: Vec<&PageRecord> = records.iter().filter(|record| fits(&record.path, page)).collect();
        let network = of_page.iter().flat_map(|record| &record.network).next();
        let read_only = of_page.iter().find_map(|record| record.read_only.as_ref());
        let mut exceptions = of_page.iter().flat_map(|record| &record.exceptions);
        let is_denied = in_scratch
            && exceptions
                .clone()
                .any(|one| one.exception.starts_with("django.db.") && lacks_rights(&one.message));
        let why = match (network, read_only, own) {
            (Some(place), ..) => format!("it tries to connect to {place}, which a rehearsal cannot reach"),
            (None, Some(path), _) => format!("it writes to `{path}`, which a rehearsal cannot write to"),
            _ if is_denied => "it needs rights that the role of `rehearsal.database-url` lacks".to_owned(),
            (None, None, []) => {
                failing.push(page.clone());
                continue;
            }
            (None, None, own) => {
                format!("it may need {}, which is rehearsed only with `rehearse = true`", steps(own))
            }
        };
        let raised = exceptions.next();
        let raised = raised.map(|exception| format!(": {}", exception.raised())).unwrap_or_default();
        unsure.push(format!("{page}{raised}, on a copy of the site; {why}"));
    }
    (failing, unsure)
}

/// Returns what a version answered for the plan, with what happened meanwhile.
pub(in crate::update) fn answered(results: &[PageResult], records: &[PageRecord]) -> Vec<RehearsedPage> {
    let page = |page: &PageResult| {
        let of_page: Vec<&PageRecord> = records.iter().filter(|record| fits(&record.path, page)).collect();
        let exception = of_page.iter().flat_map(|record| &record.exceptions).next();
        RehearsedPage {
            path: page.path.clone(),
            status: page.status,
            duration: page.duration,
            problems: page.problems.clone(),
            exception: exception.map(|exception| exception.raised().to_string()),
            network: of_page.iter().flat_map(|record| record.network.iter().cloned()).collect(),
        }
    };
    results.iter().map(page).collect()
}

/// Tells whether a request was for this page.
pub(in crate::update) fn fits(path: &str, page: &PageResult) -> bool {
    let asked = page
        .url
        .split_once("://")
        .map_or(page.url.as_str(), |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    asked.split(['?', '#']).next() == path.split('?').next()
}

fn steps(own: &[&str]) -> String {
    let named: Vec<String> = own.iter().map(|name| format!("step `{name}`")).collect();
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::django::PageException;

    fn page(path: &str, status: u16) -> PageResult {
        let expected = Some(200);
        let problems =
            if status == 200 { Vec::new() } else { vec![Problem::Status { expected, found: status }] };
        let url = format!("https://example.org{path}");
        PageResult { path: path.to_owned(), url, status: Some(status), problems, ..PageResult::default() }
    }

    fn record(path: &str) -> PageRecord {
        PageRecord { path: path.to_owned(), ..PageRecord::default() }
    }

    #[test]
    fn a_page_that_fails_by_itself_shows_a_broken_version() {
        let results = [page("/", 500), page("/good/", 200), page("/gone/?a=1", 404)];
        let (failing, unsure) = judge(&results, &[record("/"), record("/gone/?a=1")], &[], false);
        assert_eq!(failing.iter().map(|page| page.path.as_str()).collect::<Vec<_>>(), ["/", "/gone/?a=1"]);
        assert_eq!(unsure, Vec::<String>::new());
    }

    #[test]
    fn a_page_that_lacks_something_of_the_machine_is_no_evidence() {
        let network = PageRecord { network: vec!["api.example.org:443".to_owned()], ..record("/a/") };
        let disk = PageRecord { read_only: Some("/mnt/x".to_owned()), ..record("/b/") };
        let (failing, unsure) = judge(&[page("/a/", 500), page("/b/", 500)], &[network, disk], &[], false);
        assert_eq!(failing, []);
        assert_eq!(
            unsure,
            [
                "`/a/`: expected status 200, got 500, on a copy of the site; it tries to connect to \
                 api.example.org:443, which a rehearsal cannot reach",
                "`/b/`: expected status 200, got 500, on a copy of the site; it writes to `/mnt/x`, which a rehearsal \
                 cannot write to",
            ]
        );
        let (failing, unsure) = judge(&[page("/c/", 500)], &[], &["compress"], false);
        assert_eq!(failing, []);
        let end = "it may need step `compress`, which is rehearsed only with `rehearse = true`";
        assert!(unsure[0].ends_with(end), "{unsure:?}");
        let message =
            "(1142, \"SELECT command denied to user 'x'@'localhost' for table `live`.`t`\")".to_owned();
        let exception = "django.db.utils.OperationalError".to_owned();
        let denied = PageException { exception, message, ..PageException::default() };
        let records = [PageRecord { exceptions: vec![denied], ..record("/d/") }];
        assert_eq!(judge(&[page("/d/", 500)], &records, &[], false).1, [""; 0]);
        let (failing, unsure) = judge(&[page("/d/", 500)], &records, &[], true);
        assert_eq!(failing, []);
        let end = "on a copy of the site; it needs rights that the role of `rehearsal.database-url` lacks";
        assert!(unsure[0].ends_with(end), "{unsure:?}");
    }

    #[test]
    fn an_error_page_may_have_any_status() {
        let error = PageRecord { unhandled: true, ..record("/b/") };
        let records = [record("/a/"), error.clone(), error, record("/b/")];
        let mut results = [page("/a/", 200), page("/b/", 200), page("/c/", 200)];
        note_exceptions(&mut results, &records);
        assert!(results.iter().all(|page| page.problems.is_empty()), "the last attempt counts");
        note_exceptions(&mut results, &records[..3]);
        let said = "`/b/`: an exception was raised, and the error page has status 200";
        assert_eq!(judge(&results, &records[..3], &[], false).0[0].to_string(), said);
    }

    #[test]
    fn a_request_is_told_from_others_by_its_path() {
        let whole = PageResult { path: "https://example.org/a/?b=1".to_owned(), ..page("/a/?b=1", 200) };
        assert!(fits("/a/", &whole) && fits("/a/?b=1", &whole) && !fits("/a", &whole) && !fits("/", &whole));
        let top = PageResult { url: "https://example.org".to_owned(), ..page("", 200) };
        assert!(fits("/", &top));
    }
}
