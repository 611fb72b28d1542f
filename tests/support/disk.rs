//! Small disks that fill and turn read-only when a test wants it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk of its own for one directory, which sees again what was in it before when this value ends.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts an empty disk; `None` where only root may do so, or a container forbids it.
    pub fn mount(directory: &Path, size: &str) -> Option<Disk> {
        // A number of inodes that is no limit could not be lowered later.
        let options = format!("size={size},mode=0700,nr_inodes=9999");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Disk(directory.to_owned()));
        }
        // Not `skip`: nothing that could be installed is missing.
        eprintln!("skipped: a small disk cannot be mounted here");
        None
    }

    /// Mounts a disk with what is in the directory.
    pub fn with_contents(directory: &Path, size: &str) -> Option<Disk> {
        let copy = directory.with_extension("copy");
        let contents = |directory: &Path| directory.join(".");
        let cp = |from: &Path, to: &Path| {
            let done = Command::new("cp").arg("-a").args([&contents(from), to]).status();
            assert!(done.is_ok_and(|status| status.success()), "cannot copy {}", from.display());
        };
        std::fs::create_dir(&copy).expect("a directory");
        cp(directory, &copy);
        let disk = Disk::mount(directory, size);
        if disk.is_some() {
            cp(&copy, directory);
        }
        std::fs::remove_dir_all(&copy).expect("a directory that can be removed");
        disk
    }

    /// Makes a directory, as it is, a mount of its own.
    pub fn around(directory: &Path) -> Option<Disk> {
        let mount = Command::new("mount").arg("--bind").args([directory, directory]).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Disk(directory.to_owned()));
        }
        eprintln!("skipped: nothing can be mounted here");
        None
    }

    /// Gives it another size.
    pub fn resize(&self, size: &str) {
        sh(&self.remount(&format!("size={size}")));
    }

    fn remount(&self, option: &str) -> String {
        format!("mount -o remount,{option} {}", self.0.display())
    }

    /// Returns the shell command that leaves no room on it; [`Disk::free`] makes room again.
    pub fn fill(&self) -> String {
        let file = self.0.join(FILLER);
        let file = file.display();
        // The last bytes, too: a block that is begun takes some more.
        format!(
            "(dd if=/dev/zero of={file} bs=64k; dd if=/dev/zero bs=1 count=8192 >> {file}) 2>/dev/null; true"
        )
    }

    /// Returns the shell command that leaves no inode on it.
    pub fn use_up_inodes(&self) -> String {
        let used = format!("$(df --output=iused {} | tail -n 1 | tr -d ' ')", self.0.display());
        self.remount(&format!("nr_inodes={used}"))
    }

    /// Returns the shell command that makes it read-only for whoever opens a file from now on.
    pub fn make_read_only(&self) -> String {
        let directory = self.0.display();
        format!("mount --rbind {directory} {directory} && mount -o remount,bind,ro {directory}")
    }

    /// Makes room again.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.0.join(FILLER));
        sh(&self.remount("nr_inodes=9999"));
    }

    /// Makes it writable again.
    pub fn make_writable(&self) {
        sh(&format!("umount --lazy {}", self.0.display()));
    }
}

/// Runs a shell command, which must succeed.
#[track_caller]
pub fn sh(script: &str) {
    let done = Command::new("/bin/sh").args(["-c", script]).status();
    assert!(done.is_ok_and(|status| status.success()), "{script}");
}

const FILLER: &str = ".filler";

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Returns the files below a directory whose names begin so.
pub fn names_with(directory: &Path, beginning: &str) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            } else if entry.file_name().to_string_lossy().starts_with(beginning) {
                found.push(entry.path());
            }
        }
    }
    found
}
