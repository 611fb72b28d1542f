//! Names of users.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::process::Process;

use super::{Host, ProcessId};
use crate::command::Command;

/// How long a directory service may take to name a user.
const DEADLINE: Duration = Duration::from_secs(5);

/// Returns the name of a user, or `user 1234` when nothing on this machine names it.
pub(crate) fn user_name(uid: u32) -> String {
    name(uid).unwrap_or_else(|| format!("user {uid}"))
}

/// Returns the same for a message.
pub(crate) fn shown_user(uid: u32) -> String {
    name(uid).map_or_else(|| format!("user {uid}"), |name| format!("`{name}`"))
}

fn name(uid: u32) -> Option<String> {
    let file = std::fs::read("/etc/passwd").unwrap_or_default();
    name_in(&String::from_utf8_lossy(&file), uid).or_else(|| {
        // LDAP, SSSD and systemd's dynamic users stand in no file.
        let command = Command::new("getent").args(["passwd", &uid.to_string()]).deadline(DEADLINE);
        name_in(&Host::new().run(&command).ok()?.stdout, uid)
    })
}

/// Returns the name of the user who runs this process.
pub(crate) fn own_name() -> String {
    user_name(rustix::process::geteuid().as_raw())
}

/// Finds the first directory on the way to `path` that the user of a process cannot pass.
///
/// Access control lists may let more users pass than the mode says, so where there is one nothing is found.
pub(crate) fn barred(process: ProcessId, path: &Path) -> Option<PathBuf> {
    let status = Process::new(process.pid).and_then(|process| process.status()).ok()?;
    let groups: Vec<u32> = status.groups.iter().copied().chain([status.egid]).collect();
    let cannot_pass = |directory: &Path| {
        let Ok(found) = std::fs::metadata(directory) else { return false };
        let mode = found.mode();
        let bit = if found.uid() == status.euid {
            0o100
        } else if groups.contains(&found.gid()) {
            0o010
        } else {
            0o001
        };
        mode & bit == 0 && !has_access_list(directory)
    };
    let real = path.ancestors().find_map(|path| path.canonicalize().ok())?;
    let directories: Vec<&Path> = real.ancestors().collect();
    directories.into_iter().rev().find(|directory| cannot_pass(directory)).map(Path::to_owned)
}

/// Source: `acl(5)`.
fn has_access_list(path: &Path) -> bool {
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0]).is_ok_and(|length| length > 0)
}

/// Returns the name of a number in a text like `/etc/passwd` or `/etc/group`.
///
/// Source: `passwd(5)` and `group(5)`.
pub(super) fn name_in(table: &str, number: u32) -> Option<String> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn users_have_names_or_are_called_by_their_number() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(3_999_999_991), "user 3999999991");
        assert_eq!(
            (shown_user(0).as_str(), shown_user(3_999_999_991).as_str()),
            ("`root`", "user 3999999991")
        );
        let text =
            "root:x:0:0:root:/root:/bin/bash\n\n# www-data\n+::::::\nwww-data:x:33:33::/var/www:/bin/sh\n";
        assert_eq!(name_in(text, 33).as_deref(), Some("www-data"));
        assert_eq!(name_in(text, 3), None);
    }

    #[test]
    fn a_directory_that_cannot_be_passed_is_found() {
        let me = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let shut = directory.path().join("shut");
        std::fs::create_dir(&shut).unwrap();
        let inside = shut.join("not/there/yet");
        let with = |mode| {
            std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(mode)).unwrap();
            barred(me, &inside)
        };
        assert_eq!(with(0o700), None);
        assert_eq!(with(0o677), Some(shut.canonicalize().unwrap()), "the owner's own bit counts");
        assert_eq!(with(0o100), None);
    }
}
