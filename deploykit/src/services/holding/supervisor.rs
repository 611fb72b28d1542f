//! A program of supervisor: `deploykit hold-socket` comes before its command.

use std::path::{Path, PathBuf};

use procfs::process::Process;

use super::{ChangedFile, HoldingError, SocketChange, Wanted, read, unfit};
use crate::command::{Command, quote};
use crate::host::ini;

/// How long supervisor must wait at least for the end of `hold-socket`, seconds: that waits for 30 s.
const STOP: u64 = 40;

/// supervisor's own default for `stopwaitsecs`.
const STOPWAITSECS: u64 = 10;

/// Makes the change for a program whose configuration is in one of these files; the first is supervisord's own.
pub(in crate::services) fn change(
    wanted: &Wanted<'_>,
    program: &str,
    files: &[PathBuf],
) -> Result<SocketChange, HoldingError> {
    let unfit = |reason: String| unfit(wanted.service, reason);
    if program.contains(':') {
        return Err(unfit("it is a program of a group".to_owned()));
    }
    let (section, fcgi) = (format!("program:{program}"), format!("fcgi-program:{program}"));
    let mut found: Vec<(&PathBuf, String)> = Vec::new();
    for path in files {
        let Some(text) = read(path)? else { continue };
        let sections = ini::parse(&text).map_err(|error| unfit(format!("`{}`: {error}", path.display())))?;
        if sections.has(&fcgi) {
            return Err(unfit("it is an `[fcgi-program:x]` with one process".to_owned()));
        }
        let is_member = |group: &str| {
            let programs = sections.get(group, "programs").unwrap_or_default();
            group.starts_with("group:") && programs.split(',').any(|member| member.trim() == program)
        };
        if sections.names().any(is_member) {
            return Err(unfit("it is a program of a group".to_owned()));
        }
        found.extend(sections.names().filter(|name| **name == section).map(|_| (path, text.clone())));
    }
    let [(path, before)] = found.as_slice() else {
        return Err(unfit(match found.len() {
            0 => format!("supervisor's configuration files have no `[{section}]`"),
            _ => format!("supervisor's configuration files have several `[{section}]`"),
        }));
    };
    wanted.not_in_the_checkout(path)?;
    let words: Vec<String> =
        wanted.hold_socket()?.iter().map(|word| quote(word).replace('%', "%%")).collect();
    let after = edited(before, &section, &words.join(" ")).map_err(unfit)?;
    let file = ChangedFile {
        path: path.canonicalize().unwrap_or_else(|_| (*path).clone()),
        before: Some(before.clone()),
        after,
    };
    let main = files.first().cloned().unwrap_or_default();
    let update = Command::new(supervisorctl(wanted)).arg("-c").arg(main).args(["update", program]);
    let update = update.deadline(std::time::Duration::from_secs(300));
    Ok(SocketChange {
        files: vec![file],
        apply: vec![update.clone()],
        before_undo: Vec::new(),
        undo: vec![update],
    })
}

/// Finds the `supervisorctl` beside the supervisord that started the program.
fn supervisorctl(wanted: &Wanted<'_>) -> PathBuf {
    let parent = Process::new(wanted.main.pid).and_then(|process| process.stat()).map(|stat| stat.ppid);
    let words = parent.and_then(Process::new).and_then(|process| process.cmdline()).unwrap_or_default();
    let server = words.iter().map(Path::new).find(|word| word.ends_with("supervisord"));
    let beside = server.map(|server| server.with_file_name("supervisorctl"));
    beside.filter(|path| path.is_absolute() && path.exists()).unwrap_or_else(|| "supervisorctl".into())
}

/// Puts words before the command of a section, and lets supervisor wait for long enough.
fn edited(text: &str, section: &str, words: &str) -> Result<String, String> {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let name = |line: &str| Some(line.trim_start().strip_prefix('[')?.split(']').next()?.trim().to_owned());
    let start = lines.iter().position(|line| name(line).as_deref() == Some(section));
    let start = start.ok_or("its section has an unknown form")? + 1;
    let length = lines[start..].iter().position(|line| name(line).is_some());
    let end = length.map_or(lines.len(), |length| start + length);
    let key = |line: &str| {
        let is_key = line.starts_with(|first: char| first.is_alphabetic());
        line.split_once(['=', ':']).filter(|_| is_key).map(|(key, _)| key.trim().to_lowercase())
    };
    let places = |wanted: &str| -> Vec<usize> {
        (start..end).filter(|line| key(&lines[*line]).as_deref() == Some(wanted)).collect()
    };
    let value = |line: usize| {
        let value = lines[line].split_once(['=', ':']).map(|(_, value)| value).unwrap_or_default();
        value.split([';', '#']).next().unwrap_or_default().trim().to_owned()
    };
    if places("numprocs").iter().any(|line| value(*line) != "1") {
        return Err("it has several processes (`numprocs`)".to_owned());
    }
    let (commands, stops) = (places("command"), places("stopwaitsecs"));
    let (&[command], 0..=1) = (commands.as_slice(), stops.len()) else {
        return Err("its section has no `command`, or a key twice".to_owned());
    };
    let stop = stops.first().copied();
    let seconds = stop.map_or(Ok(STOPWAITSECS), |line| value(line).parse::<u64>());
    let seconds = seconds.map_err(|_| "its `stopwaitsecs` is computed".to_owned())?;
    let line = &lines[command];
    let at = line.find(['=', ':']).map_or(line.len(), |at| at + 1);
    let at = at + line[at..].len() - line[at..].trim_start_matches([' ', '\t']).len();
    if line[at..].trim().is_empty() {
        return Err("its command begins on another line than `command =`".to_owned());
    }
    lines[command].insert_str(at, &format!("{words} "));
    if seconds < STOP {
        let setting = format!("stopwaitsecs={STOP}\n");
        match stop {
            Some(line) => lines[line] = setting,
            None => lines.insert(command, setting),
        }
    }
    Ok(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_gets_words_before_it_and_supervisor_patience() {
        let text = "[program:api]\ncommand=other\n[program:web]\ndirectory=/srv\nCommand = g -w 2 ; two\n  app\n\n[x]\n";
        assert_eq!(
            edited(text, "program:web", "hold --").unwrap(),
            "[program:api]\ncommand=other\n[program:web]\ndirectory=/srv\nstopwaitsecs=40\nCommand = hold -- g -w 2 ; two\n  app\n\n[x]\n"
        );
        let text = "[program:web]\ncommand=g\nstopwaitsecs = 60 ; long\n";
        assert_eq!(
            edited(text, "program:web", "hold --").unwrap(),
            "[program:web]\ncommand=hold -- g\nstopwaitsecs = 60 ; long\n"
        );
        let text = "[program:web]\nstopwaitsecs=20\ncommand=g";
        assert_eq!(
            edited(text, "program:web", "hold --").unwrap(),
            "[program:web]\nstopwaitsecs=40\ncommand=hold -- g"
        );
    }

    #[test]
    fn unknown_forms_are_refused() {
        for (text, reason) in [
            ("[program:web]\n", "its section has no `command`, or a key twice"),
            ("[program:web]\ncommand=a\ncommand=b\n", "its section has no `command`, or a key twice"),
            ("[program:web]\ncommand=a\nnumprocs=2\n", "it has several processes (`numprocs`)"),
            ("[program:web]\ncommand=a\nstopwaitsecs=%(ENV_X)s\n", "its `stopwaitsecs` is computed"),
            ("[program:web]\ncommand=\n  a\n", "its command begins on another line than `command =`"),
        ] {
            assert_eq!(edited(text, "program:web", "hold --").unwrap_err(), reason, "{text}");
        }
    }
}
