//! Visitors while a site is updated whose socket is held: every one of them is served.

use std::time::Duration;

use super::site::TestSite;
use super::site::demo_site::{HOST, wait_until};
use super::visitor::{Crowd, OFTEN, Seen};

/// Does something while visitors come, half of them past nginx, and returns what they saw.
pub fn among_visitors<T>(site: &TestSite, act: impl FnOnce() -> T) -> (T, Vec<Seen>) {
    let crowd = Crowd::come(&[&site.front_address, &site.gunicorn_address], HOST, OFTEN);
    let more = |than: usize| wait_until(Duration::from_secs(60), || crowd.served() > than);
    assert!(more(50), "nobody is served:\n{}", site.logs());
    let done = act();
    assert!(more(crowd.served() + 50), "nobody is served any more:\n{}", site.logs());
    (done, crowd.leave())
}

/// Fails unless every visitor got what it asked for from one of these releases, and what was written is there.
#[track_caller]
pub fn assert_all_served(site: &TestSite, entries_before: usize, seen: &[Seen], releases: &[&str]) {
    for one in seen {
        let answer =
            one.answer.as_ref().unwrap_or_else(|error| panic!("{}: {error}\n{}", one.request, site.logs()));
        let expected = if one.wrote { 201 } else { 200 };
        assert_eq!(answer.status, expected, "{}: {}\n{}", one.request, answer.body, site.logs());
        if one.request.ends_with("/version/") {
            let is_one =
                releases.iter().any(|name| answer.body.contains(&format!("\"release\": \"{name}\"")));
            assert!(is_one, "half a release: {}", answer.body);
        }
    }
    let written = seen.iter().filter(|one| one.wrote).count();
    assert!(written > 20, "only {written} of {} wrote", seen.len());
    assert_eq!(entries(site), entries_before + written);
    let longest = seen.iter().map(|one| one.waited).max().unwrap_or_default();
    eprintln!("{} requests, {written} of them writes, the longest took {longest:.2?}", seen.len());
}

/// Returns how many entries the home page counts.
pub fn entries(site: &TestSite) -> usize {
    let body = site.page("/").unwrap().body;
    let count = body.split(" entries").next().and_then(|text| text.rsplit('>').next());
    // Release 2 writes a thousand as 1,000.
    count
        .and_then(|count| count.replace(',', "").parse().ok())
        .unwrap_or_else(|| panic!("no entries are counted: {body}"))
}
