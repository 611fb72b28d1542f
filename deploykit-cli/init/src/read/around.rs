//! Finds and reads the files of service managers and web servers: in the checkout, beside it and where they are installed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use deploykit::internal::names;

use super::cron::Job;
use super::files::{Tree, directory_name, entries_of, file_name, is_aside, is_below, is_dotenv, real, text};
use super::front::Front;
use super::program::Program;
use super::supervisor::Conf;
use super::uwsgi::Options;
use super::{apache, caddy, cron, nginx, script, supervisor, systemd};

/// The files of service managers and web servers.
#[derive(Default)]
pub(crate) struct Around {
    /// Programs of service managers, of all sites.
    pub programs: Vec<Program>,
    /// Files of nginx with their text.
    pub nginx: Vec<(PathBuf, String)>,
    /// The virtual hosts of all web servers.
    pub fronts: Vec<Front>,
    /// Cron jobs.
    pub jobs: Vec<Job>,
}

/// The kinds of files that have to be seen together.
#[derive(Default)]
struct Files {
    confs: Vec<Conf>,
    sockets: Vec<(PathBuf, String)>,
    units: Vec<(PathBuf, String)>,
    timers: Vec<(PathBuf, String)>,
    ini: Vec<(PathBuf, String)>,
    jobs: Vec<Job>,
}

impl Around {
    /// Reads the files of the checkout, beside it and from there up to the home directory, and those in other places: files, or
    /// directories of files.
    pub(crate) fn read(top: &Path, tree: &Tree, elsewhere: &[PathBuf], home: Option<&Path>) -> Self {
        let mut around = Around::default();
        let mut found = Files::default();
        let mut seen = BTreeSet::new();
        let installed: Vec<PathBuf> = elsewhere.iter().flat_map(|place| listed(place)).collect();
        for file in &installed {
            // Instances of a template are links to one file.
            if seen.insert(real(file)) || file_name(file).contains('@') {
                around.add(file, &mut found);
            }
        }
        let is_own = |file: &&PathBuf| {
            is_settings(file) && !is_aside(top, file) && !is_below(top, file, &["docker", "containers"])
        };
        let own = tree.files.iter().filter(is_own).cloned();
        for file in own.chain(beside(top, home)).filter(|file| seen.insert(real(file))) {
            around.add(&file, &mut found);
        }
        around.units(&found, &installed);
        around.programs.extend(supervisor::join(std::mem::take(&mut found.confs)));
        for program in &mut around.programs {
            let started = script::started(program);
            program.command.extend(started.words);
            program.directory = program.directory.take().or(started.directory);
            let directory = program.directory.clone().unwrap_or_default();
            let sourced = started.sourced.iter().map(|file| names::normal(&directory.join(file)));
            program.environment_files.extend(sourced.filter(|file| is_dotenv(file)));
            program.installed |= installed.contains(&program.file);
        }
        around.uwsgi(&found, &installed);
        around.jobs.extend(found.jobs.into_iter().filter(|job| !job.at_boot));
        around.fronts.extend(nginx::fronts(&around.nginx));
        around.apache(&installed);
        around
    }

    fn add(&mut self, file: &Path, found: &mut Files) {
        let Some(text) = text(file) else { return };
        let (name, directory) = (file_name(file), directory_name(file));
        if name.ends_with(".socket") {
            found.sockets.extend(systemd::socket(&text).map(|address| (file.to_owned(), address)));
        } else if name.ends_with(".service") {
            found.units.push((file.to_owned(), text));
        } else if name.ends_with(".timer") {
            found.timers.push((file.to_owned(), systemd::timer(&text, file)));
        } else if directory.starts_with("cron") {
            found.jobs.extend(cron::parse(&text, file));
        } else if text.lines().any(|line| line.trim() == "[uwsgi]") {
            found.ini.push((file.to_owned(), text));
        } else if let Some(conf) = supervisor::parse(&text, file) {
            found.confs.push(conf);
        } else if name == "Caddyfile" {
            self.fronts.extend(caddy::parse(&text, file));
        } else if text.to_lowercase().contains("<virtualhost") {
            self.fronts.extend(apache::parse(&text, file));
        } else if text.contains("server") && text.contains('{') && !text.contains("{%") {
            self.nginx.push((file.to_owned(), text));
        }
    }

    fn units(&mut self, found: &Files, installed: &[PathBuf]) {
        for (file, unit) in &found.units {
            let name = file_name(file);
            let template = name.split_once('@').map_or(name.clone(), |(stem, _)| format!("{stem}@.service"));
            let drop_in = |path: &&PathBuf| {
                let directory = directory_name(path);
                directory == format!("{name}.d") || directory == format!("{template}.d")
            };
            let drop_ins: Vec<String> =
                installed.iter().filter(drop_in).filter_map(|path| text(path)).collect();
            let timer = found.timers.iter().find(|(_, unit)| *unit == name);
            let Some(mut program) = systemd::parse(unit, file, &drop_ins, timer.is_some()) else { continue };
            if let Some((timer, _)) = timer {
                // The timer is stopped; its job is waited for.
                program.unit = Some(file_name(timer));
                program.file.clone_from(timer);
            }
            let known = |known: &Program| known.unit == program.unit && known.file.starts_with("/etc");
            if self.programs.iter().any(known) {
                continue;
            }
            // A socket that only the repository ships holds nothing for a service that is installed.
            let socket = file.with_file_name(format!("{}.socket", program.name));
            let held = found.sockets.iter().find(|(file, _)| *file == socket);
            program.socket = held.map(|(_, address)| address.clone());
            self.programs.push(program);
        }
    }

    /// Adds what the options of a uWSGI say, and the ones that no manager runs.
    fn uwsgi(&mut self, found: &Files, installed: &[PathBuf]) {
        let mut emperors =
            vec![PathBuf::from("/etc/uwsgi/vassals"), PathBuf::from("/etc/uwsgi-emperor/vassals")];
        self.programs.retain_mut(|program| {
            let Some(options) = Options::of_command(program) else { return true };
            if let Some(directory) = options.emperor() {
                emperors.push(directory);
                return false;
            }
            options.fill(program);
            true
        });
        let mut files = found.ini.clone();
        for file in emperors.iter().flat_map(|directory| entries_of(directory)) {
            let text = if files.iter().any(|(known, _)| *known == file) { None } else { text(&file) };
            files.extend(text.map(|text| (file, text)));
        }
        let is_app = |file: &PathBuf| {
            let enabled = file.parent().is_some_and(|directory| directory.ends_with("uwsgi/apps-enabled"));
            enabled && installed.contains(file)
        };
        let apps: Vec<&PathBuf> = files.iter().map(|(file, _)| file).filter(|file| is_app(file)).collect();
        for (file, text) in &files {
            let options = Options::of_ini(text, file);
            if is_app(file) {
                let others = apps.iter().filter(|other| **other != file);
                self.programs.push(options.app(file, others.map(|other| file_name(other)).collect()));
                continue;
            }
            let vassal = emperors.iter().any(|directory| file.parent() == Some(directory));
            let name = file.to_string_lossy();
            let at_boot = found.jobs.iter().find(|job| job.at_boot && job.command.contains(name.as_ref()));
            if options.emperor().is_none() && (vassal || at_boot.is_some()) {
                let start = at_boot.map(|job| job.command.as_str()).unwrap_or_default();
                self.programs.extend(options.program(file, start, vassal));
            }
        }
    }

    /// Adds the Apache that runs a project itself.
    fn apache(&mut self, installed: &[PathBuf]) {
        for front in &self.fronts {
            let Some(wsgi) = &front.wsgi else { continue };
            // Other names that the same Apache serves, not only to send them elsewhere.
            let foreign = self.fronts.iter().filter(|other| {
                other.file.ancestors().nth(2) == front.file.ancestors().nth(2)
                    && other.wsgi.as_ref() != Some(wsgi)
                    && !other.names.iter().any(|name| front.names.contains(name))
            });
            let unit = if front.file.iter().any(|part| part == "httpd") { "httpd" } else { "apache2" };
            self.programs.push(Program {
                name: unit.to_owned(),
                command: vec!["mod_wsgi".to_owned(), wsgi.script.to_string_lossy().into_owned()],
                directory: wsgi.path.first().cloned(),
                home: wsgi.home.clone(),
                listens: wsgi.listens.clone(),
                unit: Some(format!("{unit}.service")),
                file: front.file.clone(),
                installed: installed.contains(&front.file),
                shared: foreign.filter_map(|other| other.names.first().cloned()).collect(),
                ..Program::default()
            });
        }
    }
}

/// Lists the files of a place; of a directory those in it, and systemd's drop-ins and instances below it.
fn listed(place: &Path) -> Vec<PathBuf> {
    if !place.is_dir() {
        return vec![place.to_owned()];
    }
    let (mut files, mut instances) = (Vec::new(), Vec::new());
    for entry in entries_of(place) {
        let name = file_name(&entry);
        if name.ends_with(".service.d") {
            files.extend(entries_of(&entry).into_iter().filter(|file| file_name(file).ends_with(".conf")));
        } else if name.ends_with(".wants") {
            let instance =
                |file: &PathBuf| file_name(file).contains('@') && file_name(file).ends_with(".service");
            instances.extend(entries_of(&entry).into_iter().filter(instance));
        } else {
            files.push(entry);
        }
    }
    files.extend(instances);
    files
}

/// Lists the files of settings beside the checkout and, where it is in the home directory, from there up to that: a directory of many
/// sites' configurations is common. Which of them are this site's is decided later.
fn beside(top: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let is_near = |directory: &&Path| {
        Some(*directory) == top.parent() || home.is_some_and(|home| real(directory).starts_with(home))
    };
    let above = top.ancestors().skip(1).filter(is_near).filter(|directory| directory.parent().is_some());
    for entry in above.flat_map(entries_of) {
        let name = file_name(&entry);
        if ["conf", "config", "etc", "deploy", "supervisor", "supervisord", "nginx"].contains(&name.as_str())
        {
            files.extend(entries_of(&entry).into_iter().filter(|file| is_settings(file)));
        } else if is_settings(&entry) {
            files.push(entry);
        }
    }
    files
}

fn is_settings(file: &Path) -> bool {
    let (name, directory) = (file_name(file), directory_name(file));
    let extension = file.extension().unwrap_or_default().to_string_lossy();
    let known = ["conf", "ini", "service", "socket", "timer", "nginx"].contains(&extension.as_ref());
    file.is_file()
        && (known || name.contains("nginx") || directory.contains("nginx") || directory.starts_with("sites-"))
}
