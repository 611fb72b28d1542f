//! Reads cron's tables.
//!
//! Source: `crontab(5)`.

use std::path::{Path, PathBuf};

use super::files::directory_name;

/// A line of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub file: PathBuf,
    pub command: String,
    /// It starts several times an hour.
    pub often: bool,
    /// It starts with the machine.
    pub at_boot: bool,
}

/// Reads a table; those of users have no column for the user.
pub(crate) fn parse(text: &str, file: &Path) -> Vec<Job> {
    let user = usize::from(directory_name(file) != "crontabs");
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let first = line.split_whitespace().next()?;
            let is_time =
                first.starts_with('@') || first.starts_with(|c: char| c.is_ascii_digit() || c == '*');
            let columns = if first.starts_with('@') { 1 } else { 5 };
            let mut rest = line;
            for _ in 0..columns + user {
                rest = rest.split_once(char::is_whitespace)?.1.trim_start();
            }
            is_time.then(|| Job {
                file: file.to_owned(),
                command: rest.to_owned(),
                often: first.contains(['*', '/', ',', '-']) && columns == 5,
                at_boot: first == "@reboot",
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_starts_and_how_often() {
        let text = "# x\nPATH=/bin\n@reboot me /bin/a b\n*/5 * * * * me /bin/c\n17 4 * * * me /bin/d\n";
        let jobs = parse(text, Path::new("/etc/cron.d/site"));
        let told: Vec<_> = jobs.iter().map(|job| (job.command.as_str(), job.often, job.at_boot)).collect();
        assert_eq!(told, [("/bin/a b", false, true), ("/bin/c", true, false), ("/bin/d", false, false)]);
        let own = parse("* * * * * /bin/c d\n", Path::new("/var/spool/cron/crontabs/me"));
        assert_eq!(own[0].command, "/bin/c d");
    }
}
