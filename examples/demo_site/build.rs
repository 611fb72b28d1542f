//! How the demo site comes into being: repositories, packages, files, a database.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::process::{Error, copy_tree, io_error, run};
use super::{DemoSite, release_directory, write};

impl DemoSite {
    pub(super) fn make_repositories(&self) -> Result<(), Error> {
        let scratch = self.scratch();
        copy_tree(&self.first(), &scratch)?;
        let origin = self.origin.display().to_string();
        self.git(&scratch, &["init", "-q", "-b", "main"])?;
        self.git(&scratch, &["add", "-A"])?;
        self.git(&scratch, &["commit", "-q", "-m", "Release 1"])?;
        self.git(&self.root, &["clone", "-q", "--bare", &scratch.display().to_string(), &origin])?;
        self.git(&scratch, &["remote", "add", "origin", &origin])?;
        self.git(&self.root, &["clone", "-q", &origin, &self.checkout.display().to_string()])?;
        Ok(())
    }

    /// Returns the directory of the first version.
    fn first(&self) -> PathBuf {
        self.options.first.clone().unwrap_or_else(|| release_directory(1))
    }

    pub(super) fn make_virtualenv(&self) -> Result<(), Error> {
        let requirements = self.first().join("requirements/production.txt");
        let requirements = requirements.display().to_string();
        let mut packages = vec!["pip", "-r", &requirements];
        packages.extend(self.options.server.as_ref().map(|server| server.driver.as_str()));
        self.new_environment(&self.virtualenv, &packages)
    }

    pub(super) fn install_supervisor(&self) -> Result<(), Error> {
        if self.options.supervisord.is_some() {
            return Ok(());
        }
        self.new_environment(&self.root.join("tools"), &["supervisor", "setuptools<81"])
    }

    fn new_environment(&self, path: &Path, packages: &[&str]) -> Result<(), Error> {
        match &self.options.uv {
            Some(uv) => {
                let mut command = self.command(uv);
                run(command.args(["venv", "-q", "--python"]).arg(&self.options.python).arg(path))?;
                let mut command = self.command(uv);
                command.args(["pip", "install", "-q", "--python"]).arg(path.join("bin/python"));
                run(command.args(packages))?;
            }
            None => {
                run(self.command(&self.options.python).args(["-m", "venv"]).arg(path))?;
                run(self.command(path.join("bin/pip")).args(["install", "-q"]).args(packages))?;
            }
        }
        Ok(())
    }

    pub(super) fn write_files(&self) -> Result<(), Error> {
        write(&self.supervisor_config, &self.supervisor_text())?;
        write(&self.config, &self.config_text())?;
        write_secret(
            &self.secrets,
            "{\n    \"SECRET_KEY\": \"not-so-secret-but-long-enough-for-a-demo-0123456789\"\n}\n",
        )?;
        let Some(server) = &self.options.server else { return Ok(()) };
        write(&self.root.join("data/driver.txt"), &server.driver)?;
        write_secret(&self.root.join("data/database.json"), &server.settings)
    }

    /// Brings up the database and the static files in one start of Python.
    pub(super) fn fill_database(&self) -> Result<(), Error> {
        const SCRIPT: &str = r#"
import sys
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("collectstatic", interactive=False, verbosity=0)
from guestbook.models import Entry
Entry.objects.bulk_create(Entry(author=f"Ada {n}", text=f"Line {n}") for n in range(int(sys.argv[1])))
"#;
        run(self.python().args(["-c", SCRIPT, &self.options.entries.to_string()]))?;
        Ok(())
    }
}

/// Writes a file that only its owner can read.
fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.map_err(io_error(format!("create {}", path.display())))?;
    write(path, text)
}
