//! uvicorn and hypercorn take a held socket only by an option: a person changes their command.

use super::{HoldingError, Wanted};
use crate::command::quote;

/// How a server takes a socket.
pub(super) struct ByOption {
    server: &'static str,
    /// The options that say where it listens.
    listens: &'static [&'static str],
    /// Those that name descriptor 3 in their place.
    descriptor: [&'static str; 2],
}

impl ByOption {
    pub(super) fn of(server: &str) -> Option<Self> {
        let (server, listens, descriptor): (_, &[&str], _) = match server {
            "uvicorn" => ("uvicorn", &["--host", "--port", "--uds", "--fd"], ["--fd", "3"]),
            "hypercorn" => ("hypercorn", &["-b", "--bind"], ["-b", "fd://3"]),
            _ => return None,
        };
        Some(ByOption { server, listens, descriptor })
    }
}

impl Wanted<'_> {
    /// Says what a person has to do for a server with this command line.
    pub(super) fn by_option(&self, how: &ByOption, words: &[String]) -> HoldingError {
        let hold = match self.hold_socket() {
            Ok(hold) => hold,
            Err(error) => return error,
        };
        let hold = hold.iter().map(String::as_str);
        let line = hold.chain(without(words, how.listens)).chain(how.descriptor);
        let line: Vec<String> = line.map(quote).collect();
        HoldingError::ByHand {
            service: self.service.to_owned(),
            reason: format!("{} takes a held socket only by an option in its command", how.server),
            todo: format!(
                "write this command for `{0}` into the manager's files, restart the service, and check with \
                 `deploykit services hold {0}`:\n\n{1}",
                self.service,
                line.join(" ")
            ),
        }
    }
}

/// Leaves out options, each with its value.
fn without<'w>(words: &'w [String], options: &'w [&str]) -> impl Iterator<Item = &'w str> {
    let mut is_value = false;
    words.iter().map(String::as_str).filter(move |word| {
        let is_option = !is_value && options.contains(&word.split('=').next().unwrap_or_default());
        let stays = !is_option && !is_value;
        is_value = is_option && !word.contains('=');
        stays
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_say_where_to_listen_are_left_out() {
        let left = |server: &str, line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let how = ByOption::of(server).expect("a server");
            without(&words, how.listens).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            left("uvicorn", "uvicorn --host ::1 a:b --port=8000 --workers 2"),
            "uvicorn a:b --workers 2"
        );
        assert_eq!(left("hypercorn", "hypercorn --bind unix:/s -w 2 a:b -b ::1"), "hypercorn -w 2 a:b");
    }
}
