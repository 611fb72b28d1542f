//! The umask that a site's files were made with, whatever the caller's own is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use rustix::fs::Mode;
use rustix::thread::UnshareFlags;

/// How many files of a directory are looked at.
const LOOKED_AT: usize = 500;

/// A umask: the permissions that new files and directories lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Umask(u32);

impl Umask {
    /// Returns the umask that most files of a directory were made with: those in it, and those one level below; `extension`
    /// picks some of them. Hidden files are left out, since they are often secret, and so are those of other users than
    /// the directory's owner.
    ///
    /// Only owner and group may write to new files, and their owner always may.
    #[must_use]
    pub fn of_files(directory: &Path, extension: Option<&str>) -> Option<Umask> {
        let owner = fs::metadata(directory).ok()?.uid();
        let mut found: BTreeMap<Umask, usize> = BTreeMap::new();
        let (mut directories, mut left) = (vec![(directory.to_owned(), true)], LOOKED_AT);
        while let Some((directory, is_top)) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten().take(left) {
                left -= 1;
                let path = entry.path();
                let Ok(metadata) = entry.metadata() else { continue };
                if entry.file_name().to_string_lossy().starts_with('.') || metadata.uid() != owner {
                } else if metadata.is_dir() && is_top {
                    directories.push((path, false));
                } else if metadata.is_file()
                    && extension.is_none_or(|wanted| path.extension().is_some_and(|found| found == wanted))
                {
                    *found.entry(Umask::of_mode(metadata.mode())).or_default() += 1;
                }
            }
        }
        // Where as many say one as the other, the stricter one.
        found.into_iter().max_by_key(|(umask, count)| (*count, *umask)).map(|(umask, _)| umask)
    }

    /// Returns the umask of this thread, as far as the system tells.
    #[must_use]
    pub fn current() -> Option<Umask> {
        let status = fs::read_to_string("/proc/thread-self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
        u32::from_str_radix(line.trim(), 8).ok().map(Umask)
    }

    /// Makes it the umask of this whole process. It is for programs that do this when they begin: other threads that make
    /// files notice.
    pub fn set_for_process(self) {
        rustix::process::umask(Mode::from_raw_mode(self.0));
    }

    /// Returns the umask that would have made a file with this mode, as far as that can be told.
    fn of_mode(mode: u32) -> Umask {
        let lacks = !mode & 0o066;
        // Who may not read a file may not enter a directory.
        let enters = (lacks & 0o044) >> 2;
        Umask(lacks | enters | 0o002)
    }
}

/// Takes this umask for a thread that makes files for a host, and for nobody else.
pub(super) fn take(umask: Option<Umask>) {
    if let Some(umask) = umask.filter(|umask| Umask::current() != Some(*umask)) {
        set_for_this_thread(umask);
    }
}

/// Does something with this umask. Where the current one is another, on a thread of its own: the umask of others stays.
pub(crate) fn with_umask<T: Send>(umask: Option<Umask>, work: impl FnOnce() -> T + Send) -> T {
    let Some(umask) = umask.filter(|umask| Umask::current() != Some(*umask)) else { return work() };
    let on_own_thread = || {
        set_for_this_thread(umask);
        work()
    };
    thread::scope(|scope| scope.spawn(on_own_thread).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

/// Gives this thread, and the programs that it starts, a umask of their own.
fn set_for_this_thread(umask: Umask) {
    #[expect(deprecated, reason = "unsafe are only flags that concern descriptors")]
    let is_alone = rustix::thread::unshare(UnshareFlags::FS);
    match is_alone {
        Ok(()) => umask.set_for_process(),
        // Some containers forbid it.
        Err(error) => log::warn!("files are made with the umask of this process: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mask(umask: &str) -> Umask {
        Umask(u32::from_str_radix(umask, 8).unwrap())
    }

    #[test]
    fn a_mode_tells_the_umask_that_made_it() {
        let told = |mode| format!("{:03o}", Umask::of_mode(mode).0);
        let modes = [0o644, 0o755, 0o664, 0o640, 0o600, 0o666, 0o444, 0o777];
        assert_eq!(modes.map(told), ["022", "022", "002", "027", "077", "002", "022", "002"]);
    }

    #[test]
    fn most_files_say_it_and_secrets_do_not_count() {
        let top = tempfile::tempdir().unwrap();
        assert_eq!(Umask::of_files(top.path(), None), None);
        fs::create_dir(top.path().join("config")).unwrap();
        let files = [("manage.py", 0o644), ("config/a.py", 0o644), ("config/b.py", 0o600), ("x.json", 0o600)];
        for (name, mode) in files.into_iter().chain([(".a.py", 0o600), (".b.py", 0o600), (".c.py", 0o600)]) {
            fs::write(top.path().join(name), "").unwrap();
            fs::set_permissions(top.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        assert_eq!(Umask::of_files(top.path(), Some("py")), Some(mask("022")));
        assert_eq!(Umask::of_files(top.path(), None), Some(mask("077")), "as many: the stricter one");
    }

    #[test]
    fn a_umask_is_of_its_own_thread_and_of_what_that_starts() {
        let before = Umask::current().unwrap();
        let other = if before == mask("027") { mask("077") } else { mask("027") };
        let (inside, child) = with_umask(Some(other), || {
            let child = std::process::Command::new("sh").args(["-c", "umask"]).output().unwrap();
            (Umask::current(), String::from_utf8(child.stdout).unwrap())
        });
        if inside != Some(before) {
            assert_eq!((inside, child.trim()), (Some(other), &*format!("{:04o}", other.0)));
        }
        assert_eq!(Umask::current(), Some(before));
        assert_eq!(with_umask(None, Umask::current), Some(before));
    }
}
