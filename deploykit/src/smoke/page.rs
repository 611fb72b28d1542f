//! One page: what is expected of it, what came, and what is wrong with that.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::text::same_place;
use crate::http::{Answer, BODY_LIMIT};

/// What is expected of one page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// A path on the base, or an absolute URL.
    pub path: String,
    /// The status; default 200, or any of 3xx where a redirect is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Where it redirects to: a path on the same site, or an absolute URL. Without a `?` the query may be anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// Texts that must be in the first MiB of the body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// Texts that must not be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// How long the answer may take; default: as long as the check's `timeout`.
    #[serde(
        default,
        rename = "within_ms",
        with = "crate::millis::maybe",
        skip_serializing_if = "Option::is_none"
    )]
    pub within: Option<Duration>,
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// There is none.
    NoAnswer {
        /// Why.
        reason: String,
        /// A server that is just starting looks like this.
        temporary: bool,
    },
    /// There is no answer: the manager of the service has given it up.
    ServiceFailed {
        /// The service that serves the page.
        service: String,
    },
    /// The site's error page, with the expected status: only a rehearsal sees the exception.
    ErrorPage {
        /// The status.
        status: u16,
    },
    /// Another status.
    Status {
        /// What it should be; `None`: a redirect, 3xx.
        expected: Option<u16>,
        /// What it is.
        found: u16,
    },
    /// A redirect to somewhere else.
    Redirect {
        /// Where it should lead.
        expected: String,
        /// The header `Location`.
        found: Option<String>,
    },
    /// A text is not there.
    TextMissing {
        /// The text.
        text: String,
        /// The body is larger than what is searched.
        truncated: bool,
    },
    /// The body could not be made text of, so nothing can be said about texts on the page.
    Unread {
        /// Why not.
        reason: String,
    },
    /// A text is there that should not be.
    TextPresent {
        /// The text.
        text: String,
    },
    /// The answer is right but took too long.
    Slow {
        /// How long it took.
        #[serde(rename = "took_ms", with = "crate::millis")]
        took: Duration,
        /// How long it may take.
        #[serde(rename = "within_ms", with = "crate::millis")]
        within: Duration,
    },
}

/// What came when a page was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageResult {
    /// The page's path, as in the settings.
    pub path: String,
    /// What was asked for.
    pub url: String,
    /// The status of the last answer; `None`: there was none.
    pub status: Option<u16>,
    /// Its header `Location`.
    pub location: Option<String>,
    /// The title or the first words of its body, secrets removed.
    pub excerpt: String,
    /// How long the last answer took.
    #[serde(rename = "duration_ms", with = "crate::millis")]
    pub duration: Duration,
    /// What is wrong with it; empty: it is as expected.
    pub problems: Vec<Problem>,
    /// How often it was asked for.
    pub attempts: u32,
    /// From the first question to the last answer.
    #[serde(rename = "elapsed_ms", with = "crate::millis")]
    pub elapsed: Duration,
    /// It was not as expected yet, and not asked again: another page was known to be wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
}

impl Page {
    /// Makes a page that is expected to answer 200.
    pub fn new(path: impl Into<String>) -> Self {
        Page { path: path.into(), ..Page::default() }
    }

    /// Compares an answer with what is expected.
    pub(super) fn judge(&self, url: &str, answer: &Answer) -> Vec<Problem> {
        let mut problems = Vec::new();
        let expected = self.status.or(if self.redirect.is_some() { None } else { Some(200) });
        let right = expected.map_or((300..400).contains(&answer.status), |status| status == answer.status);
        if !right {
            problems.push(Problem::Status { expected, found: answer.status });
        }
        if let Some(expected) = &self.redirect
            && right
            && !answer.location.as_ref().is_some_and(|found| same_place(url, expected, found))
        {
            let (expected, found) = (expected.clone(), answer.location.clone());
            problems.push(Problem::Redirect { expected, found });
        }
        let cannot_find = |text: &String| {
            answer.unread.as_ref().filter(|unread| !(unread.except_ascii && text.is_ascii())).is_some()
        };
        let (contains, lacks) = (self.contains.iter(), self.lacks.iter());
        // An error page lacks every text; that is not worth a line of its own.
        if let Some(unread) = &answer.unread
            && (contains.filter(|_| right).chain(lacks)).any(cannot_find)
        {
            problems.push(Problem::Unread { reason: unread.reason.clone() });
            return problems;
        }
        if right {
            for text in self.contains.iter().filter(|text| !answer.body.contains(text.as_str())) {
                problems.push(Problem::TextMissing { text: text.clone(), truncated: answer.truncated });
            }
        }
        for text in self.lacks.iter().filter(|text| answer.body.contains(text.as_str())) {
            problems.push(Problem::TextPresent { text: text.clone() });
        }
        if let Some(within) = self.within
            && problems.is_empty()
            && answer.duration > within
        {
            problems.push(Problem::Slow { took: answer.duration, within });
        }
        problems
    }
}

impl PageResult {
    /// Returns where the page redirects to, when an answer without a redirect is expected: a path of the same site, or an
    /// absolute URL, without query and fragment.
    #[must_use]
    pub fn redirects_to(&self) -> Option<String> {
        let is_redirect =
            |problem: &Problem| matches!(problem, Problem::Status { expected: Some(..300), found: 300..400 });
        let location = self.location.as_ref().filter(|_| self.problems.iter().any(is_redirect))?;
        Some(super::text::place(&self.url, location))
    }
}

impl Problem {
    /// Tells whether a server that is just starting looks like this.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Problem::NoAnswer { temporary, .. } => *temporary,
            Problem::Status { found, .. } => matches!(found, 502..=504),
            _ => false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoAnswer { reason, .. } => f.write_str(reason),
            Problem::ServiceFailed { service } => {
                write!(f, "service `{service}` has failed, and is not started again")
            }
            Problem::Status { expected: Some(expected), found } => {
                write!(f, "expected status {expected}, got {found}")
            }
            Problem::ErrorPage { status } => {
                write!(f, "an exception was raised, and the error page has status {status}")
            }
            Problem::Status { expected: None, found } => write!(f, "expected a redirect, got {found}"),
            Problem::Redirect { expected, found: Some(found) } => {
                write!(f, "expected a redirect to `{expected}`, got one to `{found}`")
            }
            Problem::Redirect { expected, found: None } => {
                write!(f, "expected a redirect to `{expected}`, got one without a target")
            }
            Problem::TextMissing { text, truncated: false } => write!(f, "the text `{text}` is missing"),
            Problem::TextMissing { text, truncated: true } => {
                write!(f, "the text `{text}` is not in the first {BODY_LIMIT} bytes")
            }
            Problem::TextPresent { text } => write!(f, "the text `{text}` is there"),
            Problem::Unread { reason } => write!(f, "its text cannot be searched: {reason}"),
            Problem::Slow { took, within } => {
                write!(f, "expected within {:.2} s, took {:.2} s", within.as_secs_f64(), took.as_secs_f64())
            }
        }
    }
}

impl fmt::Display for PageResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: ", self.path)?;
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{problem}")?;
            if let (Problem::Status { .. }, Some(location)) = (problem, &self.location) {
                write!(f, " to `{location}`")?;
            }
        }
        if !self.excerpt.is_empty() {
            write!(f, " (\"{}\")", self.excerpt)?;
        }
        if self.attempts > 1 && !self.pending {
            write!(f, " after {} attempts in {:.1} s", self.attempts, self.elapsed.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://example.org/news/today?page=2";

    fn answer(status: u16, location: Option<&str>, body: &str) -> Answer {
        Answer {
            unread: None,
            status,
            location: location.map(str::to_owned),
            body: body.to_owned(),
            truncated: false,
            is_bridge: false,
            duration: Duration::from_millis(30),
        }
    }

    fn problems(page: &Page, answer: &Answer) -> Vec<String> {
        page.judge(URL, answer).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn two_hundred_is_expected_unless_something_else_is() {
        assert_eq!(problems(&Page::new("/"), &answer(200, None, "")), [""; 0]);
        assert_eq!(problems(&Page::new("/"), &answer(204, None, "")), ["expected status 200, got 204"]);
        let page = Page { status: Some(404), ..Page::new("/") };
        assert_eq!(problems(&page, &answer(404, None, "")), [""; 0]);
        assert_eq!(problems(&page, &answer(200, None, "")), ["expected status 404, got 200"]);
    }

    #[test]
    fn a_redirect_is_compared_as_a_place() {
        let page = Page { redirect: Some("/login/".to_owned()), ..Page::new("/") };
        for found in
            ["/login/", "/login/?next=/", "https://example.org/login/", "//example.org/login/", "../login/"]
        {
            let expected = if found == "../login/" { 1 } else { 0 };
            assert_eq!(problems(&page, &answer(302, Some(found), "")).len(), expected, "{found}");
        }
        assert_eq!(
            problems(&page, &answer(301, Some("http://example.org/login/"), "")),
            ["expected a redirect to `/login/`, got one to `http://example.org/login/`"]
        );
        assert_eq!(
            problems(&page, &answer(302, None, "")),
            ["expected a redirect to `/login/`, got one without a target"]
        );
        assert_eq!(problems(&page, &answer(200, None, "")), ["expected a redirect, got 200"]);
        let page = Page { redirect: Some("/login/?next=/".to_owned()), status: Some(302), ..Page::new("/") };
        assert_eq!(problems(&page, &answer(302, Some("/login/?next=/"), "")), [""; 0]);
        assert_eq!(problems(&page, &answer(302, Some("/login/"), "")).len(), 1);
        assert_eq!(
            problems(&page, &answer(301, Some("/login/?next=/"), "")),
            ["expected status 302, got 301"]
        );
        let page = Page { redirect: Some("https://www.example.org".to_owned()), ..Page::new("/") };
        assert_eq!(problems(&page, &answer(301, Some("https://www.example.org/"), "")), [""; 0]);
    }

    #[test]
    fn texts_are_looked_for() {
        let page = Page {
            contains: vec!["Welcome".to_owned(), "Bye".to_owned()],
            lacks: vec!["Traceback".to_owned()],
            ..Page::new("/")
        };
        assert_eq!(problems(&page, &answer(200, None, "Welcome, Bye")), [""; 0]);
        assert_eq!(
            problems(&page, &answer(200, None, "Welcome Traceback")),
            ["the text `Bye` is missing", "the text `Traceback` is there"]
        );
        let long = Answer { truncated: true, ..answer(200, None, "Bye") };
        assert_eq!(problems(&page, &long), ["the text `Welcome` is not in the first 1048576 bytes"]);
        assert_eq!(problems(&page, &answer(500, None, "")), ["expected status 200, got 500"]);
    }

    #[test]
    fn a_right_answer_may_be_too_late() {
        let page = Page { within: Some(Duration::from_millis(20)), ..Page::new("/") };
        assert_eq!(problems(&page, &answer(200, None, "")), ["expected within 0.02 s, took 0.03 s"]);
        assert_eq!(problems(&page, &answer(500, None, "")), ["expected status 200, got 500"]);
        let page = Page { within: Some(Duration::from_millis(40)), ..page };
        assert_eq!(problems(&page, &answer(200, None, "")), [""; 0]);
    }

    #[test]
    fn what_a_starting_server_answers_is_temporary() {
        let status = |found| Problem::Status { expected: Some(200), found }.is_temporary();
        assert!(status(502) && status(503) && status(504) && !status(500) && !status(501) && !status(404));
        assert!(!Problem::TextPresent { text: String::new() }.is_temporary());
    }

    #[test]
    fn a_redirect_in_place_of_an_answer_is_told_with_its_target() {
        let to = |page: Page, status, location: &str| {
            let answer = answer(status, Some(location), "");
            let url = "http://example.org/".to_owned();
            let (problems, location) = (page.judge(&url, &answer), answer.location);
            PageResult { path: page.path, url, problems, location, ..PageResult::default() }.redirects_to()
        };
        let home = || Page::new("/");
        assert_eq!(to(home(), 302, "/login/?next=/").as_deref(), Some("/login/"));
        assert_eq!(to(home(), 307, "http://example.org/login/#top").as_deref(), Some("/login/"));
        assert_eq!(to(home(), 301, "https://example.org/").as_deref(), Some("https://example.org/"));
        assert_eq!(to(home(), 301, "http://example.organic/").as_deref(), Some("http://example.organic/"));
        assert_eq!(to(home(), 500, "/login/"), None);
        assert_eq!(to(Page { status: Some(302), ..home() }, 302, "/login/"), None);
        assert_eq!(
            to(Page { redirect: Some("/".into()), ..home() }, 302, "/login/"),
            None,
            "it is expected to"
        );
    }
}
