//! Starts a Django project in a temporary directory and applies its migrations.
//!
//! Name the Python of a virtualenv that has Django:
//!
//! ```sh
//! cargo run -p deploykit --example django_manage -- venv/bin/python
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use deploykit::operations;
use deploykit::operations::django_manage::{DjangoManage, Project, Task};
use deploykit::{Check, Command, Context, Host};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let python = std::env::args_os().nth(1).map(PathBuf::from);
    migrate(&python.ok_or("expected the Python of a virtualenv with Django")?)
}

pub(crate) fn migrate(python: &Path) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let host = Host::new();
    let start = Command::new(python).args(["-m", "django", "startproject", "demo"]).arg(directory.path());
    host.run(&start)?;

    let project = Project::new(python, directory.path(), "demo.settings");
    let migrate = DjangoManage::new(project.clone(), Task::Migrate);
    let mut context = Context::from(host);
    let Check::Change(change) = operations::apply(&migrate, &mut context)? else {
        return Err("a new project has no pending migrations".into());
    };
    println!("{}", change.reason);
    println!("  {}", change.details.join("\n  "));
    let again = operations::apply(&migrate, &mut context)?;
    let Check::Unchanged { reason } = &again else {
        return Err("migrations are pending after they were applied".into());
    };
    println!("nothing to do: {reason}");

    let command = vec!["check".to_owned(), "--deploy".to_owned()];
    operations::apply(&DjangoManage::new(project, Task::Command(command)), &mut context)?;
    context.close();
    Ok(())
}
