//! What would shorten the windows of updates.

use super::findings::Findings;
use super::look::Look;
use super::windows::seconds;
use crate::django::When;
use crate::plan::StepKind;
use crate::services::{Manager, Service};

/// A step that takes less than this is not worth a change, in milliseconds.
const LONG: u64 = 1000;

pub(super) fn window(look: &mut Look<'_>, findings: &mut Findings) {
    if !look.has_visitors() {
        return;
    }
    let Some(windows) = look.windows() else {
        findings.good("no update has been measured yet");
        return;
    };
    let mut text = match windows.runs {
        1 => format!("{} in the last update", seconds(windows.median_ms)),
        runs => format!("{} in the median of the last {runs} updates", seconds(windows.median_ms)),
    };
    let Some(longest) = &windows.longest_step else {
        findings.good(text);
        return;
    };
    text.push_str(&format!("; `{longest}` takes longest ({})", seconds(windows.longest_step_ms)));
    let way_out = (windows.longest_step_ms >= LONG).then(|| shortens(look, longest)).flatten();
    match way_out {
        Some(way_out) => findings.advice(text, way_out),
        None => findings.good(text),
    }
}

/// Says what shortens a step, if anything is known.
fn shortens(look: &Look<'_>, step: &StepKind) -> Option<String> {
    let web = look.web().first().map(|(service, _)| *service);
    match step {
        StepKind::StopWeb => Some(stops_sooner(web?)),
        StepKind::StartWeb | StepKind::SmokeCheck if !look.is_held() => {
            Some(format!("hold the socket of the web, so that the new version can be started beforehand: `deploykit services hold {}`", web?.name))
        }
        StepKind::Migrate => Some(
            "`deploykit rehearse` shows before an update how long each pending migration takes and what it locks; split \
             those that take long into smaller ones"
                .to_owned(),
        ),
        StepKind::Backup if look.site.config().database.backup == When::Always => {
            Some("set `database.backup = \"auto\"`: only migrations that may lose something are preceded by a copy".to_owned())
        }
        StepKind::Backup => {
            Some("`deploykit plan` says which migration needs a copy, and why; one that can be reversed needs none".to_owned())
        }
        StepKind::Own(name) => Some(format!(
            "let step `{name}` run before the window: set `after = \"collect\"`, and `outputs` to what it makes in the checkout"
        )),
        _ => None,
    }
}

fn stops_sooner(web: &Service) -> String {
    let setting = match web.manager {
        Manager::Supervisor(_) => "gunicorn's `graceful_timeout`, and supervisor's `stopwaitsecs`",
        Manager::Systemd(_) => "gunicorn's `graceful_timeout`, and systemd's `TimeoutStopSec`",
        _ => "the server's timeout for running requests, such as gunicorn's `graceful_timeout`",
    };
    format!(
        "`{}` waits for running requests: make these shorter, or lower {setting}, which then interrupt them",
        web.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{CommandManager, Role};

    #[test]
    fn each_manager_has_its_setting() {
        let service = Service::new("web", Role::Web, Manager::Command(CommandManager::default()));
        assert!(stops_sooner(&service).contains("`graceful_timeout`, which"), "{}", stops_sooner(&service));
    }
}
