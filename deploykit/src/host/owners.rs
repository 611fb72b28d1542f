//! Whom a file belongs to, and who else may write it: a file that another user may write is not trusted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use thiserror::Error;

use super::files::{self, FileError, InPath};
use super::users::{name_in, user_name};

/// Why a file is not trusted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DistrustError {
    /// It belongs to a user other than the caller and root.
    #[error("`{}` belongs to {owner}, and is not trusted when {caller} runs deploykit", path.display())]
    Foreign {
        /// The file, or the symbolic link to it.
        path: PathBuf,
        /// The owner's name.
        owner: String,
        /// The caller's name.
        caller: String,
    },
    /// Others may write it.
    #[error("{who} may write `{}`, so it is not trusted", path.display())]
    Writable {
        /// The file, or the directory that it is in.
        path: PathBuf,
        /// Who: `everyone`, or a group.
        who: String,
    },
    /// root must not work on another user's checkout.
    #[error("`{}` belongs to {owner}, and root does not work on a site of somebody else", path.display())]
    RootOverOther {
        /// The checkout, its state directory or the virtualenv.
        path: PathBuf,
        /// The owner's name.
        owner: String,
    },
    /// The caller cannot write to a directory that a run changes.
    #[error("`{}` belongs to {owner}, and {caller} cannot write to it", path.display())]
    NotWritable {
        /// The state directory, or the one in which it would be made.
        path: PathBuf,
        /// The owner's name.
        owner: String,
        /// The caller's name.
        caller: String,
    },
    /// It cannot be read who owns it.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Who calls, and what the machine knows of users and groups.
struct Caller<'t> {
    user: u32,
    passwd: &'t str,
    group: &'t str,
}

/// Tells whether a file is trusted: it belongs to the caller or to root, and nobody else may write it.
///
/// A group may write it when it is the owner's private one, as distributions with umask 002 make them. A symbolic link counts
/// as well as what it leads to. Everyone may write the directory only where the sticky bit keeps each from replacing the files of others.
///
/// # Errors
///
/// When it is not trusted, or cannot be read.
pub fn trusted(path: &Path) -> Result<(), DistrustError> {
    let user = rustix::process::geteuid().as_raw();
    let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
    let caller = Caller { user, passwd: &passwd, group: &group };
    let link = fs::symlink_metadata(path).at("look at", path)?;
    let found = fs::metadata(path).at("look at", path)?;
    let directory = files::parent(path);
    let above = fs::metadata(directory).at("look at", directory)?;
    caller.owns(path, link.uid())?;
    caller.owns(path, found.uid())?;
    caller.alone_writes(path, found.mode(), found.uid(), found.gid())?;
    if above.mode() & 0o1002 == 0o002 {
        return Err(DistrustError::Writable { path: directory.to_owned(), who: "everyone".to_owned() });
    }
    Ok(())
}

/// Refuses that root works on another user's files: what root makes there shuts the owner out. What is not there
/// is fine.
///
/// # Errors
///
/// When root calls and another user owns it.
pub fn not_root_over_others(path: &Path) -> Result<(), DistrustError> {
    let owner = match fs::metadata(path) {
        Ok(found) if rustix::process::geteuid().is_root() => found.uid(),
        _ => return Ok(()),
    };
    if owner == 0 {
        return Ok(());
    }
    Err(DistrustError::RootOverOther { path: path.to_owned(), owner: user_name(owner) })
}

/// Refuses a state directory, there or still to be made, that is not the caller's to write.
///
/// # Errors
///
/// When it belongs to another user, or the directory above, in which it must be made, cannot be written.
pub(crate) fn is_writable(state: &Path) -> Result<(), DistrustError> {
    let Some((path, found)) = state.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)))
    else {
        return Ok(());
    };
    let user = rustix::process::geteuid().as_raw();
    let refused = if path == state {
        found.uid() != user
    } else {
        rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).is_err()
    };
    if !refused {
        return Ok(());
    }
    let (owner, caller) = (user_name(found.uid()), user_name(user));
    Err(DistrustError::NotWritable { path: path.to_owned(), owner, caller })
}

/// Tells whether a file is the caller's own or root's; one that cannot be looked at is not.
pub(crate) fn is_ours(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    fs::metadata(path).is_ok_and(|found| [user, 0].contains(&found.uid()))
}

fn read(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

impl Caller<'_> {
    fn owns(&self, path: &Path, owner: u32) -> Result<(), DistrustError> {
        if [self.user, 0].contains(&owner) {
            return Ok(());
        }
        let name = |user| name_in(self.passwd, user).unwrap_or_else(|| format!("user {user}"));
        let (owner, caller) = (name(owner), name(self.user));
        Err(DistrustError::Foreign { path: path.to_owned(), owner, caller })
    }

    fn alone_writes(&self, path: &Path, mode: u32, owner: u32, group: u32) -> Result<(), DistrustError> {
        let who = if mode & 0o002 != 0 {
            "everyone".to_owned()
        } else if mode & 0o020 != 0 && !self.is_private(group, owner) {
            match name_in(self.group, group) {
                Some(name) => format!("group `{name}`"),
                None => format!("group {group}"),
            }
        } else {
            return Ok(());
        };
        Err(DistrustError::Writable { path: path.to_owned(), who })
    }

    /// Tells whether a group has no member but this user. Where the machine does not know the user, who may come from
    /// a directory service, the numbers tell.
    fn is_private(&self, group: u32, owner: u32) -> bool {
        let Some(name) = name_in(self.passwd, owner) else {
            return group == owner && name_in(self.group, group).is_none();
        };
        let primary = |line: &str| line.split(':').nth(3).and_then(|field| field.parse().ok()) == Some(group);
        let users: Vec<&str> = self
            .passwd
            .lines()
            .filter(|line| primary(line))
            .filter_map(|line| line.split(':').next())
            .collect();
        let members = self
            .group
            .lines()
            .filter(|line| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(group))
            .flat_map(|line| line.split(':').nth(3).unwrap_or_default().split(','))
            .filter(|member| !member.is_empty());
        users.contains(&name.as_str()) && users.iter().copied().chain(members).all(|member| member == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n\
                          bob:x:1001:1001::/home/bob:/bin/sh\neve:x:1002:100::/home/eve:/bin/sh\n\
                          mallory:x:1003:100::/home/mallory:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nalice:x:1000:\nbob:x:1001:alice\nusers:x:100:\nweb:x:33:alice,bob\n";

    fn alice() -> Caller<'static> {
        Caller { user: 1000, passwd: PASSWD, group: GROUP }
    }

    #[test]
    fn a_state_directory_is_the_caller_s_to_write() {
        let place = tempfile::tempdir().unwrap();
        let (site, state) = (place.path().join("site"), place.path().join("site/.deploykit"));
        fs::create_dir(&site).unwrap();
        is_writable(&state).unwrap();
        fs::create_dir(&state).unwrap();
        is_writable(&state).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&state, Some(54_321), None).unwrap();
            let error = is_writable(&state).unwrap_err().to_string();
            assert!(error.contains("belongs to user 54321, and root cannot write to it"), "{error}");
        } else {
            fs::remove_dir(&state).unwrap();
            fs::set_permissions(&site, fs::Permissions::from_mode(0o555)).unwrap();
            let error = is_writable(&state).unwrap_err().to_string();
            assert!(error.contains("cannot write to it"), "{error}");
        }
    }

    #[test]
    fn a_file_of_somebody_else_is_not_obeyed() {
        let file = Path::new("/srv/deploykit.toml");
        assert!(alice().owns(file, 1000).is_ok() && alice().owns(file, 0).is_ok());
        let error = alice().owns(file, 1001).unwrap_err().to_string();
        assert_eq!(
            error,
            "`/srv/deploykit.toml` belongs to bob, and is not trusted when alice runs deploykit"
        );
        let error = alice().owns(file, 4711).unwrap_err().to_string();
        assert!(error.contains("belongs to user 4711"), "{error}");
    }

    #[test]
    fn only_the_private_group_of_the_owner_may_write() {
        let file = Path::new("f");
        let may = |mode, owner, group| alice().alone_writes(file, mode, owner, group);
        assert!(may(0o644, 1000, 33).is_ok());
        assert!(may(0o664, 1000, 1000).is_ok(), "umask 002 with a private group");
        assert!(may(0o664, 0, 0).is_ok(), "root's own");
        for (mode, owner, group, who) in [
            (0o666, 1000, 1000, "everyone"),
            (0o664, 1000, 33, "group `web`"),
            (0o664, 1001, 1001, "group `bob`"),
            (0o664, 1002, 100, "group `users`"),
            (0o664, 1000, 4711, "group 4711"),
        ] {
            let error = may(mode, owner, group).unwrap_err().to_string();
            assert_eq!(error, format!("{who} may write `f`, so it is not trusted"));
        }
        let service = |group| alice().alone_writes(file, 0o664, 70_000, group);
        assert!(service(70_000).is_ok() && service(1000).is_err(), "a user whom the machine does not know");
    }

    #[test]
    fn what_lies_where_everyone_may_replace_it_is_not_obeyed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deploykit.toml");
        fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&file, 0o644);
        trusted(&file).unwrap();
        mode(directory.path(), 0o1777);
        trusted(&file).unwrap();
        mode(directory.path(), 0o777);
        let error = trusted(&file).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("everyone may write `{}`, so it is not trusted", directory.path().display())
        );
        mode(directory.path(), 0o755);
        mode(&file, 0o666);
        assert!(trusted(&file).is_err());
        let link = directory.path().join("link");
        symlink(&file, &link).unwrap();
        assert!(trusted(&link).is_err(), "what a link leads to counts");
    }
}
