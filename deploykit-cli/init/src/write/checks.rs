//! Writes how the site is checked, and where its logs are.

use deploykit::services::Role;

use super::Draft;
use super::lines::{array, key, quoted};
use crate::findings::{ASKED, FoundPage, FoundService};
use crate::read::files::shown;

impl Draft<'_> {
    pub(super) fn smoke(&mut self, development: bool) {
        let findings = self.findings;
        self.out.head("smoke", "[smoke]", "");
        let mut base = findings.base.clone();
        let known = base.value.is_some();
        if !known && !development && base.question.is_none() {
            base.question = Some("the site's public address; ALLOWED_HOSTS names no public host".to_owned());
        }
        self.out.text("base", &base, "\"https://www.example.org/\"");
        let mut connect = findings.connect.clone();
        if connect.value.is_none() && connect.question.is_none() && !development {
            let apache = |service: &FoundService| ["apache2", "httpd"].contains(&service.name.as_str());
            let services =
                findings.services.iter().any(|service| service.role == Role::Web && !apache(service));
            // Without a service there is a greater question already.
            connect.question = services.then(|| "where does the web service itself listen?".to_owned());
        }
        self.out.text("connect", &connect, "\"127.0.0.1:8000\"");
        let pages: Vec<String> = findings.pages.value.iter().flatten().map(page).collect();
        if pages.is_empty() {
            self.out.line("# pages = [\"/\"]", "with `base`");
            return;
        }
        if let Some(question) = &findings.pages.question {
            self.out.ask("pages", question);
        }
        let advice = "add what must work: { path = \"/about/\", contains = \"About\" }";
        let note = findings.pages.source.as_deref().unwrap_or(advice);
        self.out.line(&format!("pages = [{}]", pages.join(", ")), note);
    }

    pub(super) fn databases(&mut self) {
        let (databases, command) = (&self.findings.databases, &self.findings.migrate_command);
        if databases.is_empty() && command.value.is_none() {
            return;
        }
        let listed: Vec<String> =
            databases.iter().map(|(alias, vendor)| format!("`{alias}` ({vendor})")).collect();
        let listed = listed.join(", ");
        let note = if databases.is_empty() { String::new() } else { format!("{ASKED}: {listed}") };
        self.out.head("database", "[database]", &note);
        if databases.len() > 1 {
            self.out.ask("migrate", &format!("which databases does an update migrate? there are {listed}"));
            let aliases: Vec<String> = databases.iter().map(|(alias, _)| alias.clone()).collect();
            self.out.comment(&format!("migrate = {}", array(&aliases)));
        }
        self.out.value("migrate-command", command.value.as_deref().map(array), command, "");
    }

    pub(super) fn logs(&mut self) {
        if self.findings.logs.is_empty() {
            return;
        }
        self.out.head("logs", "[logs]", "");
        for (name, path) in &self.findings.logs {
            let path = quoted(&shown(&self.findings.directory, path));
            self.out.line(&format!("{} = {path}", key(name)), "");
        }
    }
}

/// Returns a page as it stands in `smoke.pages`.
fn page(page: &FoundPage) -> String {
    let path = quoted(&page.path);
    match (&page.redirect, page.status) {
        (Some(redirect), _) => format!("{{ path = {path}, redirect = {} }}", quoted(redirect)),
        (None, Some(status)) => format!("{{ path = {path}, status = {status} }}"),
        (None, None) => path,
    }
}
