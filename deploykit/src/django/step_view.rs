//! The view that the site's own commands have in the preparation.

use std::path::Path;

use serde_json::{Value, json};

use super::Mounted;
use super::probe::{LOADER, PROGRAM};
use crate::command::Command;
use crate::names;

/// Lets a command of the site's Python that runs in the staged tree run with that tree at the live path, wherever the kernel
/// allows it. `directory` is the working directory then, and `place` an empty directory in neither tree: there the live
/// one is meanwhile.
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
