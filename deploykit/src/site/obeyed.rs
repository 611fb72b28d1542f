//! The files that a configuration names and that must be trusted like it: they are read, or run, as the caller.

use std::path::{Path, PathBuf};

use super::Config;

impl Config {
    /// Returns the environment file and the programs that are started by a path from the configuration's directory, or from that of their service.
    pub(super) fn obeyed(&self) -> impl Iterator<Item = PathBuf> {
        let lists = [&self.smoke.commands, &self.hooks.after_success, &self.hooks.after_failure];
        let commands = lists
            .into_iter()
            .flatten()
            .chain(&self.database.backup_command)
            .chain(&self.database.restore_command);
        let words = commands.flatten().filter_map(|word| Some(self.directory.join(word.strip_prefix("./")?)));
        let programs = self.services.iter().flat_map(|service| {
            let settings = service.manager.settings();
            settings.commands().into_iter().filter_map(|argv| relative(argv, settings.directory()))
        });
        self.site.env_file.iter().cloned().chain(words).chain(programs).collect::<Vec<_>>().into_iter()
    }
}

/// Returns the program of an argument list if it is named by a path from the directory that it is started in.
fn relative(argv: &[String], directory: Option<&Path>) -> Option<PathBuf> {
    let program = Path::new(argv.first()?);
    let is_relative = program.is_relative() && program.components().count() > 1;
    is_relative.then(|| directory.map_or_else(|| program.to_owned(), |directory| directory.join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_by_a_path_are_obeyed_and_programs_of_the_path_are_not_looked_for() {
        let text = r#"
            [site]
            settings = "x"
            env-file = "site.env"
            [python]
            virtualenv = "venv"
            [database]
            backup-command = ["./copy", "pg_dump"]
            restore-command = ["/usr/local/bin/restore"]
            [[services]]
            name = "web"
            manager = "command"
            start = ["bin/start", "-x"]
            status = ["pgrep", "./web"]
            directory = "/srv/run"
            [smoke]
            commands = [["sh", "./check"]]
            [hooks]
            after-failure = [["./tell"]]
        "#;
        let config = Config::parse(text, Path::new("/srv/site/deploykit.toml"), None).unwrap();
        let obeyed: Vec<PathBuf> = config.obeyed().collect();
        let wanted = [
            "/srv/site/site.env",
            "/srv/site/check",
            "/srv/site/tell",
            "/srv/site/copy",
            "/srv/run/bin/start",
        ];
        assert_eq!(obeyed, wanted.map(PathBuf::from));
    }
}
