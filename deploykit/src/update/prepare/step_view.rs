//! The site's own `manage.py` commands of the preparation find the staged tree at the live path.

use std::fs;
use std::path::{Path, PathBuf};

use super::Preparation;
use crate::command::Command;
use crate::django::{Mounted, Project, in_view};
use crate::git::StagedTree;
use crate::host::files::{self, FileError, Found, InPath, look};
use crate::names;

/// What is on the disk for such a command while it runs.
pub(super) struct StepView<'t> {
    tree: &'t StagedTree,
    /// Where the command finds the live checkout.
    place: PathBuf,
    /// A link to where the command's Python is in the live checkout.
    linked: Option<PathBuf>,
}

impl Preparation<'_, '_> {
    /// Makes what a command of this project needs on the disk; it is removed when the value is dropped.
    pub(super) fn step_view<'t>(
        &mut self,
        tree: &'t StagedTree,
        project: &Project,
    ) -> Result<StepView<'t>, FileError> {
        let mut name = tree.repository.file_name().unwrap_or_default().to_owned();
        name.push(".live");
        let place = names::beside(&tree.repository.with_file_name(name), names::NEXT);
        self.mark()?.add(place.clone())?;
        fs::create_dir(&place).at("create the directory", &place)?;
        let mut view = StepView { tree, place, linked: None };
        if let Ok(python) = project.python.strip_prefix(&tree.repository)
            && let Some(missing) =
                names::above(python).into_iter().find(|path| look(&tree.path.join(path)) == Found::Nothing)
        {
            tree.link(missing)?;
            view.linked = Some(missing.to_owned());
        }
        Ok(view)
    }
}

impl StepView<'_> {
    /// Returns a command that runs this one in the view; `directory` is its working directory there.
    pub(super) fn show(&self, command: Command, directory: &Path) -> Command {
        let tree = Mounted { live: self.tree.repository.clone(), staged: self.tree.path.clone() };
        in_view(command, &tree, directory, &self.place)
    }
}

/// It does not outlive the command.
impl Drop for StepView<'_> {
    fn drop(&mut self) {
        if let Some(linked) = &self.linked {
            crate::error::warn(files::remove_file(&self.tree.path.join(linked)));
        }
        crate::error::warn(files::remove_tree(&self.place));
    }
}
