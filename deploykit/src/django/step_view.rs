//! The view that the site's own commands have in the preparation.

use std::path::Path;

use serde_json::{Value, json};

use super::Mounted;
use super::probe::{LOADER, PROGRAM};
use crate::command::Command;
use crate::names;

/// Returns a command that runs `command`, which is one of the site's Python in the staged tree, with that tree at the live path if the
/// kernel allows it. `directory` is then its working directory. `place` is an empty directory in neither tree: the command sees
/// the live tree there.
pub fn in_view(command: Command, tree: &Mounted, directory: &Path, place: &Path) -> Command {
    let words: Vec<String> = std::iter::once(command.program())
        .chain(command.arguments().iter().map(String::as_str))
        .map(names::text)
        .collect();
    let step = json!({
        "live": names::text(&tree.live),
        "staged": names::text(&tree.staged),
        "place": names::text(place),
        "directory": names::text(directory),
        "argv": words,
    });
    let lines = [Value::from(PROGRAM).to_string(), json!({ "step": step }).to_string()];
    command.run_by(["-c", LOADER], &(lines.join("\n") + "\n"))
}
