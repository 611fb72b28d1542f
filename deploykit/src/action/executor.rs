//! The executor: performs the actions of a single operation and of the steps of a run.

use super::{Action, ActionError, Context, Part, parts};

/// Performs actions in order, until one fails or the end is requested; calls `begins` before each.
///
/// What [can be cut short](Action::can_be_cut_short) stops at once when the end is requested. Any other action is completed: nobody
/// could know which half of it to undo. When it fails, its own error is returned.
pub(crate) fn perform(
    actions: &[Action],
    context: &mut Context,
    mut begins: impl FnMut(&Action),
) -> Result<(), ActionError> {
    for part in parts(actions) {
        if context.host.is_cancelled() {
            return Err(ActionError::Interrupted);
        }
        if let Part::One(action) = &part {
            begins(action);
        }
        match &part {
            Part::One(action) if action.can_be_cut_short() => part.perform(context).map_err(|error| {
                if context.host.is_cancelled() { ActionError::Interrupted } else { error }
            })?,
            _ => uninterrupted(context, |context| part.perform(context))?,
        }
    }
    Ok(())
}

/// Performs every action to its end, even after one has failed, and returns the failures.
pub(crate) fn perform_each<'a>(
    actions: impl IntoIterator<Item = &'a Action>,
    context: &mut Context,
) -> Vec<ActionError> {
    uninterrupted(context, |context| {
        parts(actions).iter().filter_map(|part| part.perform(context).err()).collect()
    })
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

    #[test]
    fn what_is_done_to_its_end_fails_by_itself() {
        let cancel = Cancel::new().unwrap();
        let mut context = Context::from(Host::new().with_cancel(cancel.clone()));
        let missing =
            Action::WriteFile { path: "/no/such/file".into(), contents: String::new(), mode: 0o600 };
        let failed = perform(std::slice::from_ref(&missing), &mut context, |_| cancel.request()).unwrap_err();
        assert!(matches!(failed, ActionError::File(_)), "{failed}");
        // A request does not keep the second from being done.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("there");
        let there = Action::WriteFile { path: path.clone(), contents: String::new(), mode: 0o600 };
        assert_eq!(perform_each([&missing, &there], &mut context).len(), 1);
        assert!(path.exists());
    }
}
