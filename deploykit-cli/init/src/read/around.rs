//! Finds and reads the files of service managers and web servers: in the checkout, beside it and where they are installed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::files::{Tree, directory_name, entries_of, file_name, real, text};
use super::program::Program;
use super::supervisor::Conf;
use super::{script, supervisor, systemd};

/// The files of service managers and web servers.
#[derive(Default)]
pub(crate) struct Around {
    /// Programs of service managers, of all sites.
    pub programs: Vec<Program>,
    /// Files of nginx with their text.
    pub nginx: Vec<(PathBuf, String)>,
}

impl Around {
    /// Reads the files of the checkout and beside it, and those in other places: files, or directories of files.
    pub(crate) fn read(top: &Path, tree: &Tree, elsewhere: &[PathBuf]) -> Self {
        let mut files: Vec<PathBuf> = elsewhere
            .iter()
            .flat_map(|place| if place.is_dir() { entries_of(place) } else { vec![place.clone()] })
            .collect();
        files.extend(tree.files.iter().filter(|file| is_settings(file)).cloned());
        // A directory of many sites' configurations is common; which of them are this site's is decided later.
        if let Some(parent) = top.parent().filter(|parent| parent.parent().is_some()) {
            for entry in entries_of(parent) {
                let name = file_name(&entry);
                if ["conf", "config", "etc", "deploy", "supervisor", "supervisord", "nginx"]
                    .contains(&name.as_str())
                {
                    files.extend(entries_of(&entry).into_iter().filter(|file| is_settings(file)));
                } else if is_settings(&entry) {
                    files.push(entry);
                }
            }
        }
        let mut around = Around::default();
        let (mut confs, mut sockets): (Vec<Conf>, Vec<(String, String)>) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for file in files.into_iter().filter(|file| seen.insert(real(file))) {
            let Some(text) = text(&file) else { continue };
            let name = file_name(&file);
            if let Some(stem) = name.strip_suffix(".socket") {
                sockets.extend(systemd::socket(&text).map(|address| (stem.to_owned(), address)));
            } else if name.ends_with(".service") {
                around.programs.extend(systemd::parse(&text, &file));
            } else if let Some(conf) = supervisor::parse(&text, &file) {
                confs.push(conf);
            } else if text.contains("server") && text.contains('{') && !text.contains("{%") {
                around.nginx.push((file, text));
            }
        }
        for program in &mut around.programs {
            if let Some((_, address)) = sockets.iter().find(|(stem, _)| *stem == program.name) {
                program.socket = Some(address.clone());
            }
        }
        around.programs.extend(supervisor::join(confs));
        for program in &mut around.programs {
            let started = script::words_of(program);
            program.command.extend(started);
        }
        around
    }
}

fn is_settings(file: &Path) -> bool {
    let (name, directory) = (file_name(file), directory_name(file));
    let extension = file.extension().unwrap_or_default().to_string_lossy();
    let known = ["conf", "ini", "service", "socket", "nginx"].contains(&extension.as_ref());
    file.is_file()
        && (known || name.contains("nginx") || directory.contains("nginx") || directory.starts_with("sites-"))
}
