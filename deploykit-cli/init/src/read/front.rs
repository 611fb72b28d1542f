//! A site as a web server in front of it describes it, whichever server that is.

use std::path::PathBuf;

/// A virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Front {
    pub file: PathBuf,
    pub names: Vec<String>,
    pub https: bool,
    /// What it passes on: the path of the request, and where to, as `smoke.connect` has it.
    pub passes: Vec<(String, String)>,
    /// The text of its definition.
    pub text: String,
    /// Programs that it runs itself: `WSGIScriptAlias`.
    pub wsgi: Option<Wsgi>,
}

/// What mod_wsgi runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wsgi {
    pub script: PathBuf,
    pub home: Option<PathBuf>,
    pub path: Vec<PathBuf>,
    /// Where it is asked without TLS, as `smoke.connect` has it.
    pub listens: Option<String>,
}

impl Front {
    /// Returns the path of the requests that are passed on to an address.
    pub(crate) fn passes_to(&self, address: &str) -> Option<&str> {
        let of = |(path, to): &'_ &(String, String)| is_same(to, address).then_some(path.len());
        let shortest = self.passes.iter().filter(|pass| of(pass).is_some()).min_by_key(|pass| of(pass))?;
        Some(&shortest.0)
    }
}

/// Tells whether two addresses are the same one.
fn is_same(one: &str, other: &str) -> bool {
    let plain = |text: &str| text.replace("localhost", "127.0.0.1").replace("unix:/var/run/", "unix:/run/");
    plain(one) == plain(other)
}

/// Returns where a URL of a proxy leads, as `smoke.connect` has it: `http://unix:/run/x.sock:/`, `http://127.0.0.1:80/x`.
pub(crate) fn address(url: &str) -> Option<String> {
    let url = url.strip_prefix("http://").unwrap_or(url);
    if let Some(path) = url.strip_prefix("unix:") {
        let path = path.split(['|', ':']).next().unwrap_or(path);
        let path = PathBuf::from("/").join(path.trim_start_matches('/'));
        return Some(format!("unix:{}", path.display()));
    }
    let host = url.split(['/', '$']).next().unwrap_or(url);
    (!host.is_empty()).then(|| host.to_owned())
}
