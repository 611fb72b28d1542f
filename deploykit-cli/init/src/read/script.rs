//! Reads the shell script that starts a program.

use std::path::{Path, PathBuf};

use super::files::{file_name, text};
use super::program::{Program, SERVERS, words};

/// What a shell script starts.
#[derive(Default)]
pub(crate) struct Started {
    /// The words that it starts something with.
    pub words: Vec<String>,
    /// The directory that it changes to.
    pub directory: Option<PathBuf>,
    /// The files that it reads variables from: `. ./.env`.
    pub sourced: Vec<PathBuf>,
}

/// Returns what a program's shell script starts; nothing when it is no script.
pub(crate) fn started(program: &Program) -> Started {
    let directory = program.directory.clone().unwrap_or_default();
    let first = program.command.first().map(|word| file_name(Path::new(word))).unwrap_or_default();
    if ["sh", "bash", "dash", "zsh"].contains(&first.as_str())
        && let Some(flag) = program.command[1..].iter().position(|word| is_command_flag(word))
    {
        let inline = program.command.get(flag + 2).cloned().unwrap_or_default();
        return script_words(&inline.replace("&&", "\n").replace(';', "\n"));
    }
    let files =
        program.command.iter().take(2).map(|word| directory.join(word)).filter(|path| path.is_absolute());
    let script = files.filter_map(|path| text(&path)).find(|text| {
        let first = text.lines().next().unwrap_or_default();
        first.starts_with("#!") && first.trim_end().ends_with("sh")
    });
    script.map(|script| script_words(&script)).unwrap_or_default()
}

/// Tells whether a shell's argument says that the next one is a script: `-c`, `-lc`.
fn is_command_flag(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|flags| flags.ends_with('c') && flags.chars().all(char::is_alphabetic))
}

/// Returns what the lines of a start script start, with the script's own variables filled in.
fn script_words(script: &str) -> Started {
    let script = script.replace("\\\n", " ");
    let mut variables: Vec<(String, String)> = Vec::new();
    let fill = |line: &str, variables: &[(String, String)]| {
        // The longest name first: `$SITE_DIR` is not `$SITE`.
        let mut variables: Vec<&(String, String)> = variables.iter().collect();
        variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        variables.iter().fold(line.to_owned(), |line, (name, value)| {
            line.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
        })
    };
    let mut found = Started::default();
    for line in script.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let assigned = line.strip_prefix("export ").unwrap_or(line);
        if let Some((name, value)) = assigned.split_once('=')
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            let value = value.split(" #").next().unwrap_or(value);
            let value = words(&fill(value, &variables)).into_iter().next().unwrap_or_default();
            variables.push((name.to_owned(), value));
            continue;
        }
        let line = fill(line, &variables);
        let words = words(&line);
        if let [command, path] = words.as_slice()
            && command == "cd"
            && path.starts_with('/')
        {
            found.directory = Some(PathBuf::from(path));
        }
        let starts = |word: &String| {
            let name = file_name(Path::new(word));
            SERVERS.contains(&name.as_str())
                || ["celery", "manage.py", "django-admin", "activate"].contains(&name.as_str())
        };
        if words.iter().any(starts) {
            found.words.extend(
                words
                    .into_iter()
                    .skip_while(|word| ["exec", "source", ".", "nohup"].contains(&word.as_str())),
            );
        } else if let [command, path] = words.as_slice()
            && [".", "source"].contains(&command.as_str())
        {
            found.sourced.push(PathBuf::from(path));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_script_is_read_with_its_variables() {
        let script = "#!/bin/bash\nSITE=/srv/site\nSITE_SOCK=$SITE/run/x.sock # here\n# gunicorn old\n\
                      source /srv/venv/bin/activate\nexec gunicorn app:application \\\n  --bind=unix:${SITE_SOCK}\n";
        let words = script_words(script).words;
        assert_eq!(
            words,
            ["/srv/venv/bin/activate", "gunicorn", "app:application", "--bind=unix:/srv/site/run/x.sock"]
        );
    }

    #[test]
    fn a_command_of_a_shell_is_a_script() {
        let program = Program {
            command: words(
                "/bin/bash -lc 'cd /srv/site && set -a && . ./.env; exec /srv/venv/bin/gunicorn x -b :1'",
            ),
            ..Program::default()
        };
        let started = started(&program);
        assert_eq!(started.words, ["/srv/venv/bin/gunicorn", "x", "-b", ":1"]);
        assert_eq!(started.directory, Some("/srv/site".into()));
        assert_eq!(started.sourced, [PathBuf::from("./.env")]);
    }
}
