//! The executor: performs the actions of a single operation and of the steps of a run.

use super::{Action, ActionError, Context, Part, parts};

/// Performs actions in order, until one fails or the end is requested; calls `begins` before each.
///
/// A wait, a check or an own program of the site stops at once when the end is requested. Any other action is completed:
/// nobody could know which half of it to undo.
pub(crate) fn perform(
    actions: &[Action],
    context: &mut Context,
    mut begins: impl FnMut(&Action),
) -> Result<(), ActionError> {
    for part in parts(actions) {
        if context.host.is_cancelled() {
            return Err(ActionError::Interrupted);
        }
        let result = match &part {
            Part::One(action) => {
                begins(action);
                match action {
                    Action::Wait { .. } | Action::SmokeCheck(_) | Action::Run { .. } => part.perform(context),
                    _ => uninterrupted(context, |context| part.perform(context)),
                }
            }
            Part::Stops(_) => uninterrupted(context, |context| part.perform(context)),
        };
        match result {
            Ok(()) => {}
            Err(_) if context.host.is_cancelled() => return Err(ActionError::Interrupted),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Performs the actions that undo a change. They are always completed: half an undo would be worse than either state.
pub(crate) fn undo(actions: &[Action], context: &mut Context) -> Result<(), ActionError> {
    uninterrupted(context, |context| parts(actions).iter().try_for_each(|part| part.perform(context)))
}

/// Lends a context whose host ignores requests to end.
fn uninterrupted<T>(context: &mut Context, work: impl FnOnce(&mut Context) -> T) -> T {
    let host = context.host.clone();
    context.host = host.uninterrupted();
    let result = work(context);
    context.host = host;
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::host::{Cancel, Host};

    fn run(program: &str) -> Action {
        Action::Run { command: Command::new(program) }
    }

    #[test]
    fn a_request_to_end_is_told_from_a_failure_and_stays_with_the_host() {
        let cancel = Cancel::new().unwrap();
        let mut context = Context::from(Host::new().with_cancel(cancel.clone()));
        let failed = perform(&[run("false")], &mut context, |_| ()).unwrap_err();
        assert!(matches!(failed, ActionError::Command(_)), "{failed}");
        cancel.request();
        undo(&[run("true")], &mut context).unwrap();
        assert!(context.host.is_cancelled(), "the host is as it was");
        let mut begun = 0;
        let failed = perform(&[run("true")], &mut context, |_| begun += 1).unwrap_err();
        assert!(matches!(failed, ActionError::Interrupted), "{failed}");
        assert_eq!(begun, 0);
    }
}
