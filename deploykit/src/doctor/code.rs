//! The code and what runs it: the checkout, the virtualenv, the secrets, Django.

use std::collections::BTreeSet;
use std::error::Error;

use super::findings::Findings;
use super::look::Look;
use crate::django::CheckReport;
use crate::git::{self, short};
use crate::operations::git_update::{GitFacts, GitUpdate};
use crate::secrets::SecretsOutcome;
use crate::services::ServiceState;
use crate::update::PreparationError;
use crate::update::prepare::{secrets_found, shut_out};
use crate::update::secrets::compare;

pub(super) fn git(look: &mut Look<'_>, findings: &mut Findings) {
    let update = look.site.git_update(None);
    let repository = update.repository.display();
    let tip = update.to_fetch().ask(&look.host);
    let checkout = update.check_checkout(&look.host);
    match (tip, checkout) {
        (Ok(tip), Ok(facts)) => findings.good(told(&update, &facts, &tip)),
        (tip, checkout) => {
            if let Err(error) = tip {
                let command = format!("git -C {repository} ls-remote {}", update.remote);
                findings.error(error, format!("`{command}` shows what the remote answers"));
            }
            if let Err(error) = checkout {
                findings.error(error, format!("`git -C {repository} status` shows the checkout"));
            }
        }
    }
}

/// Says where the checkout and the remote's branch are.
fn told(update: &GitUpdate, facts: &GitFacts, tip: &str) -> String {
    let GitUpdate { remote, branch, .. } = update;
    let mut text = format!("the checkout is at {}", facts.head);
    if facts.head.branch.as_ref() != Some(branch) {
        text.push_str(&format!("; an update checks out `{branch}`"));
    }
    if tip == facts.head.commit {
        text.push_str(&format!("; that is the newest commit of {remote}/{branch}"));
    } else {
        text.push_str(&format!(
            "; {remote}/{branch} is at {}: `deploykit plan` shows what is new",
            short(tip)
        ));
    }
    text
}

pub(super) fn python(look: &mut Look<'_>, findings: &mut Findings) {
    let Ok(install) = look.site.pip_install_after(None) else { return };
    let virtualenv = install.virtualenv.display();
    match install.means(&look.host) {
        Err(error) => findings.error(error, format!("check that `{virtualenv}/bin/python` runs")),
        Ok((version, None)) => findings.good(format!("Python {version} in {virtualenv}")),
        Ok((version, Some(installer))) => {
            findings.good(format!("Python {version} in {virtualenv}, packages by {installer}"));
        }
    }
    let states: Vec<ServiceState> = look.states.iter().flatten().cloned().collect();
    let shut = shut_out(&states, &install.virtualenvs, &install.virtualenv);
    if let Some((service, user, directory)) = shut.filter(|_| !install.wanted.is_empty()) {
        let way_out = format!("chmod o+x {}", directory.display());
        findings.error(PreparationError::VirtualenvShut { service, user, directory }, way_out);
    }
}

pub(super) fn secrets(look: &mut Look<'_>, findings: &mut Findings) {
    let section = &look.site.config().secrets;
    if section.file.is_none() && section.required.is_empty() {
        findings.good("no secrets file is configured");
        return;
    }
    let outcome = compared(look);
    let boots = look.django().is_some() || !look.knows_django();
    match outcome {
        Err(error) => findings.error(error, "correct that file, or the key in [secrets]"),
        Ok((outcome, asked)) => judge_secrets(look, outcome, asked, boots, findings),
    }
}

/// Compares the names that the live settings ask for with the secrets file.
fn compared(look: &Look<'_>) -> Result<(SecretsOutcome, usize), Box<dyn Error + Send + Sync>> {
    let live = git::head(&look.site.config().site.repository)?.commit;
    compare(look.site, &live, &live, &BTreeSet::new())
}

/// Names what is missing. The live code runs without what it tolerates, unless it does not boot.
fn judge_secrets(
    look: &Look<'_>,
    SecretsOutcome { mut missing, mut tolerated, .. }: SecretsOutcome,
    asked: usize,
    boots: bool,
    findings: &mut Findings,
) {
    if !boots {
        missing.append(&mut tolerated);
    }
    if missing.is_empty() {
        findings.good(secrets_found(asked, &tolerated));
        return;
    }
    let file = look.site.config().secrets.file.clone().unwrap_or_default();
    findings.error(PreparationError::SecretsMissing { file, missing }, "`deploykit secrets set NAME`");
}

pub(super) fn django(look: &mut Look<'_>, findings: &mut Findings) {
    const SHOWS: &str = "`deploykit manage -- check` shows the whole error";
    if let Some(error) = look.django_fault() {
        findings.error(error, SHOWS);
        return;
    }
    let host = look.host.clone();
    let Some(django) = look.django() else { return };
    match django.session.check(&host, None) {
        Err(error) => findings.error(error, SHOWS),
        Ok(report) => judge_checks(&django.facts.django, &report, findings),
    }
}

fn judge_checks(version: &str, report: &CheckReport, findings: &mut Findings) {
    let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
    if errors.is_empty() {
        findings.good(format!("Django {version} boots, no errors"));
        return;
    }
    findings.problem(
        format!("{} of `manage.py check`:\n{}", git::counted(errors.len(), "error"), errors.join("\n")),
        "fix the code and push it, or correct the settings and variables that it reads",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::django::{CheckMessage, Level as DjangoLevel};
    use crate::doctor::Level;
    use crate::doctor::findings::testing::found;
    use crate::git::Head;

    #[test]
    fn where_the_checkout_is_and_what_the_remote_has() {
        let update = GitUpdate { branch: "main".into(), ..GitUpdate::new("/srv/site") };
        let facts = |branch: Option<&str>| GitFacts {
            head: Head { branch: branch.map(str::to_owned), commit: "a".repeat(40), branch_commit: None },
            ..GitFacts::default()
        };
        let same = told(&update, &facts(Some("main")), &"a".repeat(40));
        assert_eq!(same, "the checkout is at `main` (aaaaaaa); that is the newest commit of origin/main");
        let newer = told(&update, &facts(None), &"b".repeat(40));
        assert_eq!(
            newer,
            "the checkout is at aaaaaaa (detached); an update checks out `main`; origin/main is at bbbbbbb: \
             `deploykit plan` shows what is new"
        );
    }

    #[test]
    fn errors_of_the_system_checks_are_a_problem() {
        let message = |level| CheckMessage {
            level,
            id: Some("models.E001".into()),
            message: "no".into(),
            hint: None,
            object: None,
        };
        let report =
            |level| CheckReport { messages: vec![message(level)], application: None, other_settings: None };
        let judged = |level| found(|findings| judge_checks("5.2", &report(level), findings));
        assert_eq!(judged(DjangoLevel::Warning), [(Level::Good, "Django 5.2 boots, no errors".into(), None)]);
        let errors = judged(DjangoLevel::Error);
        let text = "1 error of `manage.py check`:\n(models.E001) no";
        assert_eq!((errors.len(), errors[0].0, errors[0].1.as_str()), (1, Level::Problem, text));
    }
}
