//! What visitors see of an update: the socket, the page, the announcement, the boot.

use std::path::Path;

use super::findings::Findings;
use super::look::Look;
use super::windows::{Windows, seconds};
use crate::host::files;
use crate::keys::{Environment, written};
use crate::lock::Lock;
use crate::operations::maintenance::MaintenanceError;
use crate::services::{Holding, HoldingError, Service};
use crate::site::AnnounceWhen;
use crate::update::prepare::can_be_started;

pub(super) fn socket(look: &mut Look<'_>, findings: &mut Findings) {
    let (repository, page) = {
        let config = look.site.config();
        (&config.site.repository, config.maintenance.page.is_some())
    };
    let web: Vec<(&Service, Option<String>)> =
        look.web().into_iter().map(|(service, state)| (service, state.socket.holder.clone())).collect();
    let seen = seen(page, look.windows().filter(|_| !waited(look)).as_ref());
    for (service, holder) in web {
        let name = &service.name;
        if let Some(holder) = holder {
            findings.good(format!("{holder} holds the socket of `{name}`: requests wait during an update"));
            continue;
        }
        let text = format!("nothing holds the socket of `{name}`: {seen}");
        // Only whether it can be changed counts here, not which program would hold it.
        match service.holding(Path::new("deploykit"), repository, &look.host) {
            Ok(Holding::Held(holder)) => findings.good(format!("{holder} holds the socket of `{name}`")),
            Ok(Holding::Change(_)) | Err(HoldingError::ByHand { .. }) => findings.advice(
                text,
                format!("`deploykit services hold {name}` shows the change after which requests wait and none fails"),
            ),
            Err(error) => findings.advice(
                format!("{text}; {error}"),
                "hold it by hand: docs/held-sockets.md has examples",
            ),
        }
    }
}

/// Tells whether requests waited in the last update that was measured.
fn waited(look: &Look<'_>) -> bool {
    look.past.first().is_some_and(|report| report.requests_wait)
}

/// Says what visitors see of each update, and for how long it was so.
fn seen(has_page: bool, windows: Option<&Windows>) -> String {
    let what = if has_page { "visitors see the maintenance page" } else { "requests fail" };
    let long = match windows {
        None => String::new(),
        Some(Windows { runs: 1, median_ms, .. }) => format!(", {} in the last one", seconds(*median_ms)),
        Some(Windows { runs, median_ms, .. }) => {
            format!(", {} in the median of the last {runs}", seconds(*median_ms))
        }
    };
    format!("{what} during each update{long}")
}

pub(super) fn page(look: &mut Look<'_>, findings: &mut Findings) {
    let maintenance = &look.site.config().maintenance;
    if !look.has_visitors() {
        return;
    }
    let Some(page) = &maintenance.page else {
        if look.is_held() {
            findings.good("none is configured, and none is needed while requests wait");
        } else {
            findings.advice(
                "none is configured: during an update, visitors see an error of the server in front",
                "set `maintenance.page` to a file that the server in front shows while it exists; for nginx: \
                 `if (-f FILE) { return 503; }`",
            );
        }
        return;
    };
    let directory = files::parent(page);
    let is_running = Lock::holder(&look.state.lock()).is_some();
    if !directory.is_dir() {
        let way_out = format!("mkdir -p {}", directory.display());
        findings.error(MaintenanceError::NoDirectory { path: directory.to_owned() }, way_out);
    } else if page.exists() && !is_running && !look.is_unfinished() {
        findings.problem(
            format!(
                "`{}` is up, although no update is running: visitors see it, and an update leaves it there",
                page.display()
            ),
            "`deploykit maintenance off`",
        );
    } else {
        findings.good(format!("`{}`, shown only while an update needs it", page.display()));
    }
}

pub(super) fn maintenance(look: &mut Look<'_>, findings: &mut Findings) {
    let config = look.site.config();
    if !look.is_held() || config.environment != Environment::Production {
        return;
    }
    let hold = written(config.maintenance.hold);
    let window = look.windows().map(|windows| windows.median_ms);
    let is_longer = window.filter(|ms| u128::from(*ms) > config.maintenance.hold.as_millis());
    match (config.maintenance.when, is_longer) {
        (AnnounceWhen::Always, _) => findings.advice(
            "every update announces maintenance and shows the page, although requests would wait",
            format!("set `maintenance.when = \"needed\"`: windows of up to `maintenance.hold` ({hold}) then need neither"),
        ),
        (AnnounceWhen::Needed, Some(ms)) => findings.advice(
            format!("windows of {} are longer than `maintenance.hold` ({hold}), so they are announced", seconds(ms)),
            "shorten what is said about `window`, or raise `maintenance.hold` if visitors may wait for so long",
        ),
        (AnnounceWhen::Needed, None) => {
            findings.good(format!("only announced if requests would wait for longer than {hold}"));
        }
    }
}

pub(super) fn boot(look: &mut Look<'_>, findings: &mut Findings) {
    let Some(boot) = look.django().map(|django| crate::millis::of(django.session.boot_time())) else {
        return;
    };
    let text = format!("Django boots in {}", seconds(boot));
    if !look.is_held() {
        findings.good(text);
        return;
    }
    match can_be_started(look.site, &look.web()) {
        Ok(_) => findings.good(format!(
            "{text}; visitors need not wait for it: nothing is known that keeps the new version from being started beforehand"
        )),
        Err(reason) => findings.advice(
            format!("{text}, and requests wait for it: the web cannot be started beforehand: {}", reason.0),
            "docs/held-sockets.md, \"Started beforehand\", lists what that needs",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_measured_windows_have_figures() {
        let windows = |runs| Windows { runs, median_ms: 1500, longest_step: None, longest_step_ms: 0 };
        assert_eq!(seen(false, None), "requests fail during each update");
        let one = seen(true, Some(&windows(1)));
        assert_eq!(one, "visitors see the maintenance page during each update, 1.5 s in the last one");
        let many = seen(false, Some(&windows(3)));
        assert_eq!(many, "requests fail during each update, 1.5 s in the median of the last 3");
    }
}
