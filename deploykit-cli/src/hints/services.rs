//! Hints about services and jobs.

use deploykit::errors::{JobsError, MemoryError};
use deploykit::services::ServiceError;
use deploykit::update::JobError;

pub(super) fn hint(error: &ServiceError) -> Option<String> {
    Some(match error {
        ServiceError::NobodyAnswers { .. } | ServiceError::NoSocket { .. } => {
            "start supervisord; if it runs, correct the service's `config`".into()
        }
        ServiceError::UnknownUnit { .. } => {
            "name it with `unit`; `user = true` when it is one of `systemctl --user`".into()
        }
        ServiceError::Systemd { source, .. } if source.tail().join(" ").contains("uthentication") => {
            "set `sudo = true` to run `sudo -n systemctl`, or add a polkit rule"
                .into()
        }
        ServiceError::WouldNotStop { service, .. } => {
            format!("make this change and restart `{service}` yourself, so that it applies")
        }
        ServiceError::StillRunning { .. } => {
            "raise `stop-timeout`; with `kill = \"auto\"`, deploykit kills the processes that still run after that time"
                .into()
        }
        ServiceError::JobRuns { service, .. } => {
            format!("update when the job does not run, or raise `stop-timeout` of `{service}`")
        }
        ServiceError::SocketTaken { old: true, .. } => {
            "end these processes; with `kill = \"auto\"` deploykit kills them after `stop-timeout`".into()
        }
        ServiceError::SocketTaken { .. } => "stop these processes, or let them use another address".into(),
        ServiceError::Signal { .. } => {
            "let the user who runs deploykit end the service's processes, or stop the service with `systemctl`".into()
        }
        ServiceError::Several { errors } => return errors.iter().find_map(hint),
        _ => return None,
    })
}

pub(super) fn of_memory(error: &MemoryError) -> String {
    let step = &error.step;
    match error.group {
        Some(_) => format!(
            "raise the limit of the control group, such as `MemoryMax` of its systemd unit, or lower `needs-memory` of `{step}`"
        ),
        None => {
            format!("stop other programs on the machine, add memory, or lower `needs-memory` of `{step}`")
        }
    }
}

pub(super) fn of_jobs(error: &JobsError) -> Option<String> {
    match error {
        JobsError::StillRun { .. } => {
            Some("update when these jobs do not run, or raise `maintenance.wait-for-jobs`".into())
        }
        _ => None,
    }
}

pub(super) fn of_job(error: &JobError) -> Option<String> {
    Some(match error {
        JobError::Blocked { running: true, .. } => "raise `--wait`, or skip the job with `--skip`".into(),
        JobError::Blocked { .. } => {
            "run `deploykit recover`, or `deploykit recover --forward`; until then, jobs do not start".into()
        }
        JobError::State(_) => "run the job as the user who updates the site".into(),
        _ => return None,
    })
}
