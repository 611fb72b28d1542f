//! Errors as text.

/// Returns an error with its causes in one text: `the first: the second: the third`.
#[must_use]
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent error hands on both its text and its cause.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Logs a failure that makes no difference to what follows, such as a leftover that cannot be removed.
pub(crate) fn warn<T, E: std::error::Error + 'static>(result: Result<T, E>) {
    if let Err(error) = result {
        log::warn!("{}", error_chain(&error));
    }
}
