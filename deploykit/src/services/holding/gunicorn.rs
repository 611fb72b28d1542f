//! A gunicorn without a manager: what starts it at boot is nowhere that deploykit can see.

use std::path::Path;

use super::{HoldingError, Wanted};
use crate::command::quote;

impl Wanted<'_> {
    /// Says what a person has to do for a gunicorn that this command starts in this directory.
    pub(in crate::services) fn by_hand(&self, start: &[String], directory: Option<&Path>) -> HoldingError {
        let hold = match self.hold_socket() {
            Ok(hold) => hold,
            Err(error) => return error,
        };
        let stays = start.iter().filter(|word| !["-D", "--daemon"].contains(&word.as_str()));
        let words: Vec<String> = hold.iter().chain(stays).map(|word| quote(word)).collect();
        let here = self.main.directory();
        let directory = directory.or(here.as_deref()).unwrap_or(Path::new("/"));
        let line = format!("cd {} && exec {}", quote(&directory.to_string_lossy()), words.join(" "));
        HoldingError::ByHand {
            service: self.service.to_owned(),
            reason: "what starts it at boot is not known".to_owned(),
            todo: format!(
                "start it at boot with this line, in a crontab behind `@reboot`:\n\n{line}\n\nset `start = []` for `{}` in \
                 deploykit.toml, stop gunicorn, run the line once in the background, and run this command again",
                self.service
            ),
        }
    }
}
