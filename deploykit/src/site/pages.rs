//! The pages of `[smoke]`.

use std::time::Duration;

use crate::keys::{Reader, Table, keys};
use crate::smoke::Page;

keys! {
    /// Keys of a page in `smoke.pages`.
    pub(super) struct PageKeys in "smoke.pages" {
        /// A path, or a URL.
        "path" => path: Option<String>, required "is missing", commented "/about/";
        /// The expected status.
        "status" => status: Option<u16>, by status, type "integer, 100 to 599", shown "`200`, or any 3xx with `redirect`",
            commented 200_usize;
        /// The expected target of the redirect.
        "redirect" => redirect: Option<String>, commented "/accounts/login/";
        /// Text that the page must contain.
        "contains" => contains: Option<String>, commented "About";
        /// Text that the page must not contain.
        "lacks" => lacks: Option<String>, commented "Traceback";
        /// Maximum response time of this page.
        "within" => within: Option<Duration>, shown "`smoke.timeout`", commented "2s";
    }
}

pub(super) fn pages(smoke: &Reader<'_>, key: &'static str) -> Option<Vec<Page>> {
    let mut pages = Vec::new();
    for (text, reader) in smoke.items(key) {
        let page = match text {
            Some(path) => Some(Page::new(path)),
            None => table(&reader),
        };
        if let Some(problem) = page.as_ref().and_then(wrong_path) {
            reader.problem(reader.span(), &reader.name("path"), problem);
        }
        reader.finish();
        pages.extend(page);
    }
    Some(pages)
}

/// Returns what is wrong with the path of a page.
pub(super) fn wrong_path(page: &Page) -> Option<String> {
    let path = &page.path;
    let is_right = path.starts_with('/') || path.starts_with("http://") || path.starts_with("https://");
    (!is_right).then(|| format!("`{path}` does not start with `/`, `http://` or `https://`"))
}

fn table(reader: &Reader<'_>) -> Option<Page> {
    let keys = PageKeys::read(reader);
    Some(Page {
        status: keys.status,
        redirect: keys.redirect,
        contains: keys.contains.into_iter().collect(),
        lacks: keys.lacks.into_iter().collect(),
        within: keys.within,
        ..Page::new(keys.path?)
    })
}

fn status(reader: &Reader<'_>, key: &'static str) -> Option<Option<u16>> {
    reader.number(key, 100..600).map(Some)
}
