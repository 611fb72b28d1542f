//! References between pages, and the words on them.

/// The longest excerpt of a page that an error shows, in characters.
const EXCERPT: usize = 160;

/// Returns the absolute form of a reference found on the page at `base`.
pub(super) fn resolve(base: &str, reference: &str) -> String {
    if reference.starts_with("http://") || reference.starts_with("https://") {
        return reference.to_owned();
    }
    let scheme_end = base.find("://").map_or(0, |at| at + 3);
    if let Some(rest) = reference.strip_prefix("//") {
        return format!("{}{rest}", &base[..scheme_end]);
    }
    let base = base.split(['?', '#']).next().unwrap_or(base);
    let path_start = base[scheme_end..].find('/').map_or(base.len(), |at| scheme_end + at);
    let (site, path) = base.split_at(path_start);
    if reference.starts_with('/') {
        format!("{site}{reference}")
    } else if reference.is_empty() || reference.starts_with(['?', '#']) {
        format!("{site}{}{reference}", if path.is_empty() { "/" } else { path })
    } else {
        let directory = path.rfind('/').map_or("/", |at| &path[..=at]);
        format!("{site}{directory}{reference}")
    }
}

/// Tells whether a redirect leads where it should.
pub(super) fn same_place(url: &str, expected: &str, found: &str) -> bool {
    let any_query = !expected.contains('?');
    let place = |reference: &str| {
        let absolute = resolve(url, reference);
        let absolute = absolute.split('#').next().unwrap_or(&absolute);
        let (place, query) = absolute.split_once('?').unwrap_or((absolute, ""));
        // `https://example.org` and `https://example.org/` are one place.
        let bare = place.find("://").is_some_and(|at| !place[at + 3..].contains('/'));
        let slash = if bare { "/" } else { "" };
        (format!("{place}{slash}"), if any_query { String::new() } else { query.to_owned() })
    };
    place(expected) == place(found)
}

/// Returns where a reference on the page at `url` leads, without query and fragment: a path when it stays on the site.
pub(super) fn place(url: &str, reference: &str) -> String {
    let absolute = resolve(url, reference);
    let end = absolute.find(['?', '#']).unwrap_or(absolute.len());
    let place = &absolute[..end];
    let site = resolve(url, "/");
    match place.strip_prefix(site.trim_end_matches('/')) {
        Some("") => "/".to_owned(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        _ => place.to_owned(),
    }
}

/// Returns the title of a page, or its first words.
pub(super) fn excerpt(body: &str) -> String {
    // ASCII folding keeps every byte where it is.
    let folded = body.to_ascii_lowercase();
    let title = folded.find("<title").and_then(|at| {
        let start = at + folded[at..].find('>')? + 1;
        let end = start + folded[start..].find("</title")?;
        body.get(start..end)
    });
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let title = title.map(words).filter(|title| !title.is_empty());
    let text = title.unwrap_or_else(|| {
        let mut text = String::new();
        let mut in_tag = false;
        for c in body.chars().take(8 * 1024) {
            match c {
                '<' => in_tag = true,
                '>' if in_tag => {
                    in_tag = false;
                    text.push(' ');
                }
                c if !in_tag && (c.is_whitespace() || !c.is_control()) => text.push(c),
                _ => {}
            }
        }
        words(&text)
    });
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved() {
        for (base, reference, absolute) in [
            ("https://example.org", "/a/", "https://example.org/a/"),
            ("https://example.org", "a", "https://example.org/a"),
            ("https://example.org", "", "https://example.org/"),
            ("https://example.org/app/", "a?b", "https://example.org/app/a?b"),
            ("https://example.org/app/", "/a", "https://example.org/a"),
            ("https://example.org/app/x?y=/z", "a", "https://example.org/app/a"),
            ("https://example.org/app/x?y", "?q", "https://example.org/app/x?q"),
            ("https://example.org/", "//cdn.example.org/x", "https://cdn.example.org/x"),
            ("https://example.org/", "http://other/", "http://other/"),
        ] {
            assert_eq!(resolve(base, reference), absolute, "{reference} on {base}");
        }
    }

    #[test]
    fn an_excerpt_is_the_title_or_the_first_words() {
        for (body, expected) in [
            ("<html><head><TITLE lang=en>\n Server\n Error </title>", "Server Error"),
            ("<h1>Bad Gateway</h1>\n<p>nginx</p>", "Bad Gateway nginx"),
            ("<title></title>plain\u{0} words", "plain words"),
            ("<title>never ends", "never ends"),
            ("<title", ""),
            ("", ""),
        ] {
            assert_eq!(excerpt(body), expected, "{body}");
        }
        assert_eq!(excerpt(&"ü".repeat(1000)).chars().count(), EXCERPT + 1);
    }
}
