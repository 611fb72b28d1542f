//! Puts the answers of the booted Django and of the running site in the place of what was read as text.

use std::path::{Path, PathBuf};

use deploykit::internal::django::{Database, SiteFacts};
use deploykit::internal::names;
use deploykit::internal::python::unfit;
use deploykit::operations::smoke_check::PageResult;

use crate::choose::{maintenance, project, web};
use crate::findings::{ASKED, Findings, Found, FoundPage, MIGRATE_SCHEMAS};

/// Parts of the error for a missing variable: by `os.environ[…]`, django-environ and python-decouple.
const LACKS_VARIABLE: [&str; 3] = ["KeyError: ", " environment variable", "Declare it as envvar"];

/// What keeps Django from booting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The virtualenv, which has no Django or no Python.
    Virtualenv,
    /// The settings, or what they need.
    Settings,
}

impl Findings {
    /// Returns the file that is written.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns what could not be asked, and why, as sentences.
    #[must_use]
    pub fn unasked(&self) -> &[String] {
        &self.unasked
    }

    /// Records that Django could not be booted, for this reason.
    ///
    /// `broken`: the virtualenv, or else the settings, do not work as they are configured, so an update would fail, too.
    pub fn django_failed(&mut self, why: &str, broken: Option<Broken>) {
        let why = why.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        self.unasked.push(format!("Django was not asked: {why}"));
        match broken {
            Some(Broken::Virtualenv) if self.virtualenv.question.is_none() => {
                self.virtualenv.question = Some(format!("Django does not start with it: {why}"));
            }
            // Variables that are missing are asked for already.
            Some(Broken::Settings) if self.env_file.question.is_some() => {}
            Some(Broken::Settings) if self.settings.question.is_none() => {
                let module = self.settings.value.clone().unwrap_or_default();
                let lacks_variable = LACKS_VARIABLE.iter().any(|part| why.contains(part));
                let way_out = match lacks_variable {
                    true => "; if a variable is missing, name its file in `site.env-file`",
                    false => "",
                };
                self.settings.question =
                    Some(format!("Django does not boot with `{module}`: {why}{way_out}"));
            }
            _ => {}
        }
        self.number();
    }

    /// Replaces what was read as text by what the Django says that was booted with these settings; `login` is the page of
    /// `LOGIN_URL`.
    pub fn ask_django(&mut self, settings: &str, facts: &SiteFacts, login: Option<String>) {
        let top = self.repository.value.clone().unwrap_or_default();
        if settings != facts.settings {
            let source = format!("{ASKED}: manage.py uses it whatever the environment says");
            self.settings = Found::new(facts.settings.clone(), source);
        }
        let development = self.environment.value.as_deref() == Some("development");
        // `init --check` boots the configured settings, which may be others than those found.
        let is_found = self.settings.value.as_ref() == Some(&facts.settings);
        if facts.debug && !development && is_found && self.settings.question.is_none() {
            let why = "`DEBUG` is on with these settings and variables; are they those of the running site?";
            self.settings.question = Some(why.to_owned());
        }
        self.static_files(&top, facts);
        // What the virtualenv's own file says may be of an older Python.
        let fits = |directory: &Path| unfit(directory, &facts.python).is_none();
        if fits(&top) && self.project.value.as_deref().is_none_or(fits) {
            self.python = None;
        }
        let project = self.project.value.clone().unwrap_or_else(|| top.clone());
        self.status_file = match &facts.maintenance_status_file {
            Some(file) => Found::new(names::normal(&project.join(file)), ASKED),
            None => Found::default(),
        };
        self.maintenance = maintenance::known_to_django(self.maintenance.clone(), facts);
        // Of several aliases of one database, the first one, or `default`, stands for it.
        let first = |one: &&Database| {
            one.alias == "default" || one.twins.iter().all(|twin| twin != "default" && *twin > one.alias)
        };
        self.databases =
            facts.databases.iter().filter(first).map(|one| (one.alias.clone(), one.vendor.clone())).collect();
        self.migrate_command = if facts.commands.iter().any(|command| command == MIGRATE_SCHEMAS) {
            Found::new(vec![MIGRATE_SCHEMAS.to_owned()], format!("{ASKED}: it has this command"))
        } else {
            Found::default()
        };
        if self.base.question.is_some() || self.base.value.is_none() {
            let hosts = web::public_hosts(&facts.allowed_hosts);
            if !hosts.is_empty() {
                let hosts = Some((hosts, PathBuf::from(ASKED)));
                (self.base, _) = web::base(&top, hosts, &[], self.connect.value.as_deref(), self.secure);
            }
        }
        if self.base.value.is_some() && self.pages.value.is_none() {
            self.pages.value = Some(vec![FoundPage::new("/")]);
        }
        let login = login.filter(|path| path.starts_with('/'));
        if let (Some(login), Some(page)) = (&login, self.pages.value.iter_mut().flatten().next())
            && page.redirect.is_some()
        {
            page.redirect = Some(login.clone());
        }
        let admin = facts.apps.iter().any(|app| app == "django.contrib.admin");
        self.more_pages = login.into_iter().chain(admin.then(|| "/admin/login/".to_owned())).collect();
        self.number();
    }

    fn static_files(&mut self, top: &Path, facts: &SiteFacts) {
        let root = facts.static_files.root.as_ref();
        self.static_root = match root {
            _ if !facts.static_files.installed => Found {
                source: Some(format!("{ASKED}: django.contrib.staticfiles is not installed")),
                ..Found::default()
            },
            Some(root) => Found::new(root.to_string_lossy().into_owned(), ASKED),
            None => Found { source: Some(format!("{ASKED}: no STATIC_ROOT")), ..Found::default() },
        };
        self.collect = project::collect(top, &self.static_root);
        let among = |root: &PathBuf| facts.uploads.iter().any(|uploads| uploads.starts_with(root));
        self.clear = if root.is_some_and(among) {
            Found::new("never".to_owned(), format!("{ASKED}: MEDIA_ROOT is in STATIC_ROOT"))
        } else {
            Found::default()
        };
    }

    /// Returns the pages to ask for, the most important one first; none while the public address is not known.
    #[must_use]
    pub fn pages_to_ask(&self) -> Vec<String> {
        if self.base.value.is_none() {
            return Vec::new();
        }
        let mut paths: Vec<String> =
            self.pages.value.iter().flatten().map(|page| page.path.clone()).collect();
        for path in &self.more_pages {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        paths
    }

    /// Writes what the pages answered. Returns whether the public address was corrected by it, so that they have to be asked
    /// again.
    pub fn pages_answered(&mut self, results: &[PageResult]) -> bool {
        let again = self.judge(results);
        self.number();
        again
    }

    fn judge(&mut self, results: &[PageResult]) -> bool {
        let Some(first) = results.first() else { return false };
        let Some(status) = first.status else {
            let why = first.problems.first().map(ToString::to_string).unwrap_or_default();
            self.unasked.push(format!("The pages are not known: `{}` did not answer: {why}", first.url));
            self.pages.question = Some(format!(
                "`{}` did not answer ({why}); does the site run, and is this what it answers?",
                first.path
            ));
            return false;
        };
        self.pages.question = None;
        let redirect = first.redirects_to();
        if let (Some(target), Some(base)) = (&redirect, &self.base.value)
            && let (Some(old), Some(new)) = (base.strip_prefix("http://"), target.strip_prefix("https://"))
            && site_name(old) == site_name(new)
        {
            let source = format!("{base} redirects there");
            self.base = Found::new(format!("https://{}/", host(new)), source);
            return true;
        }
        let Some(page) = answered(first) else { return false };
        let plain = |page: &FoundPage| page.status.is_none() && page.redirect.is_none();
        let mut others: Vec<FoundPage> = results[1..].iter().filter_map(answered).filter(plain).collect();
        // The page that everybody is sent to shows more than the redirect.
        others.sort_by_key(|other| Some(&other.path) != page.redirect.as_ref());
        others.truncate(1);
        let pages = match status {
            400 => {
                let why = "Django refuses this host (400); is it the public one?";
                self.base.question.get_or_insert_with(|| why.to_owned());
                return false;
            }
            404 if !others.is_empty() => others,
            404 | 405 | 410 | 500.. => {
                let why = format!("`{}` answers {status}; which pages must work?", first.path);
                self.pages.question = Some(why);
                return false;
            }
            _ if plain(&page) => vec![page],
            _ => [vec![page], others].concat(),
        };
        self.pages = Found::new(pages, "as the site answers");
        false
    }
}

/// Returns the host of a URL without its scheme, and its port.
fn host(url: &str) -> &str {
    url.split('/').next().unwrap_or(url)
}

/// Returns the host without its port and a leading `www.`: a site moves between these, a login server has another name.
fn site_name(url: &str) -> String {
    let host = host(url).to_lowercase();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => &host,
    };
    name.strip_prefix("www.").unwrap_or(name).to_owned()
}

/// Returns a page with what it answered; `None` when it did not.
fn answered(result: &PageResult) -> Option<FoundPage> {
    let status = result.status?;
    let redirect = result.redirects_to();
    let own = redirect.is_none() && status != 200;
    Some(FoundPage { path: result.path.clone(), status: own.then_some(status), redirect })
}
