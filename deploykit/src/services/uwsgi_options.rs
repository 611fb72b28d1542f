//! The options of a uWSGI: those of its command line, its variables and its ini files.
//!
//! Source: <https://uwsgi-docs.readthedocs.io/en/latest/Configuration.html>.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use procfs::process::Process;

use super::ProcessId;
use crate::names;

/// How deep files may include each other.
const DEEPEST: usize = 8;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Options with their values, in the order in which they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    values: Vec<(String, String)>,
    /// The directory that relative paths belong to.
    directory: PathBuf,
    /// The first file that was read.
    file: Option<PathBuf>,
    /// Everything could be read: what is not there is not set.
    pub(super) whole: bool,
}

impl Options {
    /// Reads a command line, from its program on, and what it names; `None` when it starts no uWSGI.
    pub(super) fn of(
        words: &[String],
        variables: &BTreeMap<OsString, OsString>,
        directory: &Path,
    ) -> Option<Self> {
        // `env A=b /venv/bin/uwsgi …` has it at the third place.
        let program = words.iter().take(8).position(|word| is_program(word))?;
        let (values, directory) = (Vec::new(), directory.to_owned());
        let mut options = Options { values, directory, file: None, whole: true };
        for (name, value) in variables {
            if let Some(name) = name.to_str().and_then(|name| name.strip_prefix("UWSGI_")) {
                options.set(name, &value.to_string_lossy(), 0);
            }
        }
        let mut words = words[program + 1..].iter().peekable();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                if !word.starts_with('-') {
                    options.include(word, 0);
                }
                continue;
            };
            match name.split_once('=') {
                Some((name, value)) => options.set(name, value, 0),
                None => {
                    // Of an option without a value the next word is a file, or another option's beginning.
                    let value = words.peek().filter(|word| !word.starts_with('-')).copied();
                    options.set(name, value.map_or("", String::as_str), 0);
                }
            }
        }
        Some(options)
    }

    /// Reads the file of a vassal, which is called `name` while it is in use, and the files that it includes.
    pub(super) fn of_vassal(file: &Path, name: &Path) -> Self {
        let directory = crate::host::files::parent(name).to_owned();
        let mut options = Options { values: Vec::new(), directory, file: Some(name.to_owned()), whole: true };
        let is_ini = name.extension().is_some_and(|extension| extension == "ini");
        let is_small = file.metadata().is_ok_and(|found| found.is_file() && found.len() <= LARGEST);
        match std::fs::read(file) {
            Ok(bytes) if is_ini && is_small => options.read(&String::from_utf8_lossy(&bytes), name, 0),
            _ => options.whole = false,
        }
        options
    }

    fn set(&mut self, name: &str, value: &str, depth: usize) {
        let name = name.trim().to_ascii_lowercase().replace('_', "-");
        match name.as_str() {
            "ini" | "include" | "config" => self.include(value, depth + 1),
            // Other formats, and options from elsewhere.
            "xml" | "yaml" | "yml" | "json" | "ini-paste" | "ini-paste-logged" | "inherit" | "lua" => {
                self.whole = false;
            }
            _ => self.values.push((name, value.to_owned())),
        }
    }

    fn include(&mut self, name: &str, depth: usize) {
        // `site.ini:production` is a section of the file.
        let file = name.rsplit_once(':').map_or(name, |(file, _)| file);
        let path = names::normal(&self.directory.join(file));
        let is_ini = path.extension().is_some_and(|extension| extension == "ini");
        let is_small = path.metadata().is_ok_and(|found| found.is_file() && found.len() <= LARGEST);
        if !is_ini || file != name || !is_small || depth > DEEPEST {
            // Beside files, a word is what an option's value is.
            self.whole &= !is_ini
                && !path.extension().is_some_and(|e| ["xml", "yml", "yaml", "json"].iter().any(|x| e == *x));
            return;
        }
        match std::fs::read(&path) {
            Ok(bytes) => {
                self.file.get_or_insert_with(|| path.clone());
                self.read(&String::from_utf8_lossy(&bytes), &path, depth);
            }
            Err(_) => self.whole = false,
        }
    }

    /// Reads the text of an ini file.
    fn read(&mut self, text: &str, file: &Path, depth: usize) {
        let mut is_ours = false;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(section) = line.strip_prefix('[') {
                is_ours = section.trim_end_matches(']').trim() == "uwsgi";
                continue;
            }
            if !is_ours {
                continue;
            }
            let (name, value) =
                line.split_once('=').map_or((line, "true"), |(name, value)| (name.trim(), value.trim()));
            // Loops and conditions apply to the lines that follow.
            if name.starts_with("if-") || name.starts_with("for") || name.starts_with("@") {
                self.whole = false;
            }
            match self.expand(value, file) {
                Some(value) => self.set(name, &value, depth),
                None => self.set(name, value, depth),
            }
        }
    }

    /// Fills in uWSGI's own variables; `None` when one is not known.
    fn expand(&self, text: &str, file: &Path) -> Option<String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(['%', '$']) {
            let (before, found) = rest.split_at(start);
            result.push_str(before);
            let end = found.find(')');
            if let (Some(inner), Some(end)) = (found.get(2..).filter(|_| found[1..].starts_with('(')), end) {
                let name = inner.get(..end - 2)?;
                if found.starts_with('$') {
                    return None;
                }
                result.push_str(self.last(name)?);
                rest = &found[end + 1..];
                continue;
            }
            let mut chars = found.chars();
            let (first, magic) = (chars.next()?, chars.next());
            let part = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
            let directory = file.parent()?;
            let value = match (first, magic) {
                ('%', Some('d')) => format!("{}/", directory.display()),
                ('%', Some('p')) => file.display().to_string(),
                ('%', Some('s')) => part(file.file_name())?,
                ('%', Some('n')) => part(file.file_stem())?,
                ('%', Some('c')) => part(directory.file_name())?,
                ('%', Some('%')) => "%".to_owned(),
                ('%', Some(_)) => return None,
                _ => {
                    result.push(first);
                    rest = &found[first.len_utf8()..];
                    continue;
                }
            };
            result.push_str(&value);
            rest = chars.as_str();
        }
        result.push_str(rest);
        Some(result)
    }

    fn all<'o>(&'o self, name: &'o str) -> impl DoubleEndedIterator<Item = &'o str> {
        self.values.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the last value of an option.
    pub(super) fn last<'o>(&'o self, name: &'o str) -> Option<&'o str> {
        self.all(name).next_back()
    }

    /// Tells whether an option is on.
    fn is_on(&self, name: &str) -> bool {
        self.last(name).is_some_and(|value| {
            !["false", "no", "off", "0"].iter().any(|off| value.eq_ignore_ascii_case(off))
        })
    }

    /// Returns the path that an option names, if that is known.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.last(name).filter(|value| !value.is_empty() && !value.contains(['%', '$', '@']))?;
        Some(self.directory.join(self.last("chdir").unwrap_or_default()).join(value))
    }

    /// Returns the file that options are written into.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Returns what a signal makes of uWSGI, by its number.
    pub(super) fn on_signal(&self, signal: i32) -> OnSignal {
        let hooked = format!("unix_signal:{signal} ");
        let hook = self.all("hook-master-start").find_map(|hook| hook.strip_prefix(&hooked));
        let ends = self.is_on("exit-on-reload");
        match (signal, hook.map(str::trim)) {
            (_, Some("gracefully_kill_them_all")) => OnSignal::Ends,
            (1, None) if ends => OnSignal::Ends,
            (15, None) if ends || self.is_on("die-on-term") => OnSignal::Interrupts,
            (1 | 15, None) => OnSignal::Reloads,
            _ => OnSignal::Interrupts,
        }
    }
}

/// What becomes of a uWSGI that gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnSignal {
    /// It ends when the requests under way are complete.
    Ends,
    /// It ends at once.
    Interrupts,
    /// It does not end.
    Reloads,
}

/// Tells whether a program is uWSGI: Debian calls it `uwsgi-core` and `uwsgi_python3`, too.
pub(super) fn is_program(word: &str) -> bool {
    let name = Path::new(word).file_name().unwrap_or_default().to_string_lossy();
    ["uwsgi", "uwsgi-core", "pyuwsgi"].contains(&&*name)
        || name.starts_with("uwsgi_python")
        || name.starts_with("uwsgi-python")
}

/// Tells whether a process with this first word, which may be a title, is uWSGI.
pub(super) fn is_process(word: &str) -> bool {
    is_program(word) || word.contains("uWSGI")
}

/// Reads the options of a running uWSGI; `None` when the process is another program.
pub(super) fn options_of(process: ProcessId) -> Option<Options> {
    let variables = Process::new(process.pid).and_then(|process| process.environ()).unwrap_or_default();
    let variables = variables.into_iter().collect();
    Options::of(&process.words(), &variables, &process.directory().unwrap_or_default())
}

/// Reads bytes as an ini file.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(text: &str) {
    let mut options =
        Options { values: Vec::new(), directory: PathBuf::from("/nowhere"), file: None, whole: true };
    options.read(text, Path::new("/nowhere/site.ini"), 0);
    let _ = (options.on_signal(15), options.path("logto"), options.path("daemonize"));
    let words: Vec<String> =
        std::iter::once("uwsgi").chain(text.split_whitespace()).map(str::to_owned).collect();
    let _ = Options::of(&words, &BTreeMap::new(), Path::new("/nowhere")).map(|options| options.on_signal(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str, directory: &Path) -> Options {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Options::of(&words, &BTreeMap::new(), directory).unwrap()
    }

    fn ini(text: &str) -> (tempfile::TempDir, Options) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("site.ini"), text).unwrap();
        let options = of("/venv/bin/uwsgi --ini site.ini", directory.path());
        (directory, options)
    }

    #[test]
    fn options_stand_in_lines_files_and_variables() {
        let text = "[other]\ndie-on-term = true\n[uwsgi]\n; no\n# no\nbase = /srv\nlogto = %(base)/%n.log\n\
                    daemonize=%dlog/%%\nmaster\nhttp = :8000\n";
        let (directory, options) = ini(text);
        assert!(options.whole && !options.is_on("die-on-term") && options.is_on("master"), "{options:?}");
        assert_eq!(options.path("logto"), Some("/srv/site.log".into()));
        assert_eq!(options.last("daemonize"), Some(format!("{}/log/%", directory.path().display()).as_str()));
        assert_eq!(options.file(), Some(&*directory.path().join("site.ini")));
        let line = of("uwsgi --socket /run/s --die-on-term --logto=x.log", directory.path());
        assert!(line.whole && line.is_on("die-on-term"), "{line:?}");
        assert_eq!(line.path("logto"), Some(directory.path().join("x.log")));
        let variables =
            BTreeMap::from([("UWSGI_DIE_ON_TERM".into(), "1".into()), ("HOME".into(), "/".into())]);
        let variable = Options::of(&["uwsgi".to_owned()], &variables, directory.path()).unwrap();
        assert!(variable.is_on("die-on-term"));
        assert_eq!(Options::of(&["gunicorn".to_owned()], &variables, directory.path()), None);
    }

    #[test]
    fn files_include_others() {
        let (directory, _) = ini("[uwsgi]\nini = %dcommon.ini\n");
        std::fs::write(directory.path().join("common.ini"), "[uwsgi]\ndie_on_term = yes\nini = %dsite.ini\n")
            .unwrap();
        let options = of("uwsgi site.ini", directory.path());
        assert!(options.is_on("die-on-term"), "{options:?}");
    }

    #[test]
    fn what_cannot_be_read_is_known() {
        for text in ["inherit = /etc/x.ini", "if-env = A", "ini = none.ini", "for = a b", "yaml = x.yml"] {
            let (_directory, options) = ini(&format!("[uwsgi]\n{text}\n"));
            assert!(!options.whole, "{text}: {options:?}");
        }
        let directory = tempfile::tempdir().unwrap();
        for line in ["uwsgi x.ini", "uwsgi --yaml x.yml", "uwsgi x.xml", "uwsgi --ini x.ini:y"] {
            assert!(!of(line, directory.path()).whole, "{line}");
        }
        assert!(of("uwsgi --http :8000 --module site.wsgi", directory.path()).whole);
    }

    #[test]
    fn a_signal_ends_uwsgi_or_does_not() {
        let on = |text: &str, signal| ini(&format!("[uwsgi]\n{text}\n")).1.on_signal(signal);
        assert_eq!(on("", 15), OnSignal::Reloads);
        assert_eq!(on("", 1), OnSignal::Reloads);
        assert_eq!(on("", 2), OnSignal::Interrupts);
        assert_eq!(on("", 3), OnSignal::Interrupts);
        assert_eq!(on("die-on-term = true", 15), OnSignal::Interrupts);
        assert_eq!(on("die-on-term = false", 15), OnSignal::Reloads);
        assert_eq!(on("die-on-term = true", 1), OnSignal::Reloads);
        assert_eq!(on("exit-on-reload = true", 15), OnSignal::Interrupts);
        assert_eq!(on("exit-on-reload = true", 1), OnSignal::Ends);
        assert_eq!(on("hook-master-start = unix_signal:15 gracefully_kill_them_all", 15), OnSignal::Ends);
    }
}
