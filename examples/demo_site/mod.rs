//! A small, real Django site in a directory of its own, to try updates on: a Git remote, a checkout, a virtualenv, a
//! database, static files, and gunicorn with a worker under supervisor.
//!
//! The README's quickstart builds it; so do the end-to-end tests and the benches (`#[path]` to this file). It stays
//! clear of the library it serves to try out. Everything lies under one directory:
//!
//! ```text
//! ROOT/origin.git            the remote; `publish` puts new versions there
//! ROOT/site/                 the checkout, with secrets.json and deploykit.toml, which Git ignores
//! ROOT/venv/                 the virtualenv
//! ROOT/data/                 db.sqlite3, static/, maintenance.json, worker.json (the worker's sign of life)
//! ROOT/supervisor.conf       runs `gunicorn` and `worker`; nginx.conf, when there is nginx in front
//! ROOT/log/ run/ www/        logs, sockets, the maintenance page
//! ROOT/wheels-extra/         packages for single tests
//! ```

mod build;
pub mod crowd;
mod held;
pub mod process;
pub mod supervisor;
mod texts;
mod versions;
pub mod visitor;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use held::Holder;
pub use process::{Error, Port, Server, run, wait_until};
pub use supervisor::Program;
pub use visitor::{Address, Answer, Visit};

use process::{io_error, sealed};

/// The host name that the site answers to.
pub const HOST: &str = "demo.example";

/// The secret that release 2 asks for and release 1 does not know.
pub const NEW_SECRET: &str = "VISITOR_SALT";

/// The directory that Unix sockets lie in must leave them fewer than 108 bytes.
const LONGEST_ROOT: usize = 80;

/// How to build a site.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Python that virtualenvs are made with.
    pub python: PathBuf,
    /// Installs packages with uv instead of pip.
    pub uv: Option<PathBuf>,
    /// uv's cache; default: one under the site's own directory. Sharing it makes sites quick to build.
    pub uv_cache: Option<PathBuf>,
    /// A directory of wheels, for installing without a network.
    pub wheels: Option<PathBuf>,
    /// Default: supervisor is installed into a virtualenv under the site's own directory.
    pub supervisord: Option<PathBuf>,
    /// Puts nginx in front, which serves the maintenance page.
    pub nginx: Option<PathBuf>,
    /// Lets gunicorn listen on a Unix socket; default: on a TCP port.
    pub unix_socket: bool,
    /// Lets somebody else hold gunicorn's socket, so that visitors wait while gunicorn restarts.
    pub holder: Option<Holder>,
    /// How long the worker takes to end, in seconds; default: 0.
    pub worker_lingers: f32,
    /// Whether updates are rehearsed on a copy of the database.
    pub rehearsal: bool,
    /// Entries in the guestbook; default: 3.
    pub entries: u32,
    /// Keeps the guestbook on a database server; default: in a SQLite file.
    pub server: Option<DatabaseServer>,
    /// The directory of the first version, which may be a Git repository with a history; default: release 1 of this example.
    pub first: Option<PathBuf>,
    /// The address of a package index, in place of `wheels` and PyPI.
    pub index: Option<String>,
    /// What the worker is, from the virtualenv's `bin`; default: `manage.py work`.
    pub worker: Option<String>,
}

/// A database on a server, empty.
#[derive(Clone, Debug)]
pub struct DatabaseServer {
    /// What settings.DATABASES says of it, as JSON, with its password.
    pub settings: String,
    /// The package that Django reaches it with.
    pub driver: String,
}

impl Options {
    /// A site without nginx whose packages are fetched by pip.
    pub fn new(python: impl Into<PathBuf>) -> Options {
        Options {
            python: python.into(),
            uv: None,
            uv_cache: None,
            wheels: None,
            supervisord: None,
            nginx: None,
            unix_socket: false,
            holder: None,
            worker_lingers: 0.0,
            rehearsal: true,
            entries: 3,
            server: None,
            first: None,
            index: None,
            worker: None,
        }
    }
}

/// A site; its servers end with this value, its files stay.
#[derive(Debug)]
pub struct DemoSite {
    /// The directory that everything lies in, without links.
    pub root: PathBuf,
    /// The bare repository that the checkout fetches from.
    pub origin: PathBuf,
    pub checkout: PathBuf,
    pub virtualenv: PathBuf,
    pub static_root: PathBuf,
    pub secrets: PathBuf,
    pub database: PathBuf,
    /// What `maintenanceon` writes.
    pub maintenance_status: PathBuf,
    /// The page that nginx serves while it exists.
    pub maintenance_page: PathBuf,
    /// The worker's sign of life.
    pub heartbeat: PathBuf,
    /// `deploykit.toml`.
    pub config: PathBuf,
    pub supervisor_config: PathBuf,
    pub supervisor_socket: PathBuf,
    pub supervisorctl: PathBuf,
    /// A directory that the installer looks into.
    pub extra_wheels: PathBuf,
    /// What supervisor calls gunicorn: `gunicorn`, or `gunicorn:web-0` when its socket is held.
    pub gunicorn_service: String,
    /// `127.0.0.1:PORT` or `unix:PATH`.
    pub gunicorn_address: String,
    /// What visitors talk to: nginx, when there is one, or gunicorn.
    pub front_address: String,
    pub options: Options,
    supervisord: PathBuf,
    /// Kept for the site while its servers restart.
    _ports: Vec<Port>,
    nginx_server: Option<Server>,
    supervisor_server: Option<Server>,
}

/// Returns the directory of a release in this example.
pub fn release_directory(number: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/demo_site/release-{number}"))
}

impl DemoSite {
    /// Builds the site at release 1: all but its running servers. `root` is created; it should be empty.
    pub fn create(root: &Path, options: &Options) -> Result<DemoSite, Error> {
        fs::create_dir_all(root).map_err(io_error(format!("create {}", root.display())))?;
        let root = root.canonicalize().map_err(io_error(format!("find {}", root.display())))?;
        if root.as_os_str().len() > LONGEST_ROOT {
            let source = std::io::Error::from(std::io::ErrorKind::InvalidFilename);
            return Err(io_error(format!("put Unix sockets under {}, which is too long", root.display()))(
                source,
            ));
        }
        for directory in ["data/static", "log", "run", "www", "wheels-extra"] {
            fs::create_dir_all(root.join(directory)).map_err(io_error(format!("create {directory}")))?;
        }
        let site = DemoSite::describe(root, options)?;
        std::thread::scope(|scope| {
            let tools = scope.spawn(|| site.install_supervisor());
            let packages = scope.spawn(|| site.make_virtualenv());
            site.make_repositories()?;
            packages.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            tools.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        site.write_files()?;
        site.fill_database()?;
        Ok(site)
    }

    /// Decides where everything lies.
    fn describe(root: PathBuf, options: &Options) -> Result<DemoSite, Error> {
        let mut ports = Vec::new();
        let mut reserve = || -> Result<String, Error> {
            let port = Port::reserve()?;
            let address = port.address();
            ports.push(port);
            Ok(address)
        };
        let gunicorn_address = if options.unix_socket {
            format!("unix:{}", root.join("run/site.sock").display())
        } else {
            reserve()?
        };
        let front_address = if options.nginx.is_some() { reserve()? } else { gunicorn_address.clone() };
        let supervisord = options.supervisord.clone().unwrap_or_else(|| root.join("tools/bin/supervisord"));
        let checkout = root.join("site");
        Ok(DemoSite {
            origin: root.join("origin.git"),
            virtualenv: root.join("venv"),
            static_root: root.join("data/static"),
            secrets: checkout.join("secrets.json"),
            database: root.join("data/db.sqlite3"),
            maintenance_status: root.join("data/maintenance.json"),
            maintenance_page: root.join("www/maintenance.html"),
            heartbeat: root.join("data/worker.json"),
            config: checkout.join("deploykit.toml"),
            supervisor_config: root.join("supervisor.conf"),
            supervisor_socket: root.join("run/supervisor.sock"),
            supervisorctl: supervisord.with_file_name("supervisorctl"),
            extra_wheels: root.join("wheels-extra"),
            checkout,
            gunicorn_service: held::program(options.holder).to_owned(),
            gunicorn_address,
            front_address,
            options: options.clone(),
            supervisord,
            _ports: ports,
            nginx_server: None,
            supervisor_server: None,
            root,
        })
    }

    /// Makes a command in the site's environment, apart from the caller's own settings of Python, pip and Git.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = sealed(program.as_ref(), &self.root, self.is_local());
        command.envs(self.environment());
        command.current_dir(&self.root);
        command
    }

    /// Tells whether packages come from this machine, whatever the caller's own settings say.
    fn is_local(&self) -> bool {
        self.options.wheels.is_some() || self.options.index.is_some()
    }

    /// Returns the variables that the site's programs, pip and uv want to see.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let text = |path: &Path| path.display().to_string();
        let mut variables = BTreeMap::from([
            ("DEMO_DATA".to_owned(), text(&self.root.join("data"))),
            ("DJANGO_SETTINGS_MODULE".to_owned(), "config.settings.production".to_owned()),
            ("PIP_DISABLE_PIP_VERSION_CHECK".to_owned(), "1".to_owned()),
        ]);
        let cache = self.options.uv_cache.clone().unwrap_or_else(|| self.root.join("cache/uv"));
        variables.insert("UV_CACHE_DIR".to_owned(), text(&cache));
        if let Some(index) = &self.options.index {
            variables.insert("PIP_INDEX_URL".to_owned(), index.clone());
            variables.insert("UV_DEFAULT_INDEX".to_owned(), index.clone());
        }
        if let Some(wheels) = &self.options.wheels {
            for tool in ["PIP", "UV"] {
                variables.insert(format!("{tool}_NO_INDEX"), "1".to_owned());
                variables.insert(format!("{tool}_FIND_LINKS"), text(wheels));
            }
        }
        variables
    }

    /// Runs `git` in a directory and returns its output.
    pub fn git(&self, directory: &Path, args: &[&str]) -> Result<String, Error> {
        let mut command = self.command("git");
        command.current_dir(directory);
        command.args([
            "-c",
            "user.name=Demo",
            "-c",
            "user.email=demo@example.org",
            "-c",
            "commit.gpgsign=false",
        ]);
        run(command.args(args))
    }

    /// Runs `manage.py` in the checkout with the virtualenv's Python.
    pub fn manage(&self, args: &[&str]) -> Result<String, Error> {
        run(self.python().arg("manage.py").args(args))
    }

    /// Makes a command of the virtualenv's Python, in the project's directory.
    pub fn python(&self) -> Command {
        let mut command = self.command(self.virtualenv.join("bin/python"));
        command.current_dir(self.checkout.join("project"));
        command
    }

    /// Starts the servers and waits until the site answers and the worker works.
    pub fn start(&mut self) -> Result<(), Error> {
        self.start_servers()?;
        self.wait_until_serving(Duration::from_secs(60))
    }

    /// Starts the servers, as a machine does that comes up.
    pub fn start_servers(&mut self) -> Result<(), Error> {
        self.start_supervisord()?;
        if let Some(nginx) = self.options.nginx.clone() {
            let config = self.root.join("nginx.conf");
            write(&config, &self.nginx_text())?;
            let mut command = self.command(nginx);
            command
                .arg("-e")
                .arg(self.root.join("log/nginx.log"))
                .arg("-p")
                .arg(&self.root)
                .arg("-c")
                .arg(config);
            self.nginx_server = Some(Server::start(&command, &self.root.join("log/nginx-output.log"))?);
        }
        Ok(())
    }

    /// Starts supervisord, also after it was killed, and with it its programs.
    pub fn start_supervisord(&mut self) -> Result<(), Error> {
        let log = self.root.join("log/supervisord-output.log");
        // Not from a shell with settings of its own: what runs under it inherits its environment.
        let mut supervisor = sealed(&self.supervisord, &self.root, self.is_local());
        supervisor.current_dir(&self.root).arg("-n").arg("-c").arg(&self.supervisor_config);
        self.supervisor_server = Some(Server::start(&supervisor, &log)?);
        Ok(())
    }

    /// Returns what a person types to start the servers again, for a shell in any directory.
    pub fn start_command(&self) -> String {
        format!("{} -c {}", self.supervisord.display(), self.supervisor_config.display())
    }

    /// Returns what a person types to stop the servers.
    pub fn stop_command(&self) -> String {
        format!("{} -c {} shutdown", self.supervisorctl.display(), self.supervisor_config.display())
    }

    /// Waits until the home page answers and both programs run.
    pub fn wait_until_serving(&self, patience: Duration) -> Result<(), Error> {
        let serving = wait_until(patience, || {
            let programs = self.processes();
            programs.len() > usize::from(self.options.holder != Some(Holder::Systemd))
                && programs.values().all(|program| program.state == "RUNNING")
                && self.heartbeat.exists()
                && self.page("/").is_ok_and(|answer| answer.status == 200)
        });
        if serving {
            return Ok(());
        }
        Err(Error::Late { what: "a site that serves".to_owned(), log: self.logs() })
    }

    /// Ends the servers, politely.
    pub fn stop(&mut self) {
        self.nginx_server = None;
        if let Some(mut supervisor) = self.supervisor_server.take() {
            supervisor.end(Duration::from_secs(60));
        }
    }

    /// Returns the programs under supervisor, by name; none when it does not run.
    pub fn processes(&self) -> BTreeMap<String, Program> {
        supervisor::programs(&self.supervisor_socket).unwrap_or_default()
    }

    /// Asks the site for a page, as a visitor.
    pub fn page(&self, path: &str) -> std::io::Result<Answer> {
        let address = Address::from(self.front_address.as_str());
        visitor::request(&address, HOST, path, None, Duration::from_secs(30))
    }

    /// Writes an entry, as a visitor.
    pub fn write_entry(&self, author: &str, text: &str) -> std::io::Result<Answer> {
        let address = Address::from(self.front_address.as_str());
        let form = format!("author={}&text={}", author.replace(' ', "+"), text.replace(' ', "+"));
        visitor::request(&address, HOST, "/entries/", Some(&form), Duration::from_secs(30))
    }

    /// Returns a visit to the pages of the site, to be started.
    pub fn visit(&self) -> Visit {
        Visit::new(Address::from(self.front_address.as_str()))
    }

    /// Returns the release that answers: what `/version/` says.
    pub fn release(&self) -> Option<String> {
        let answer = self.page("/version/").ok()?;
        Some(answer.body.split_once("\"release\": \"")?.1.split('"').next()?.to_owned())
    }

    /// Adds a secret to `secrets.json`, as a person would.
    pub fn add_secret(&self, name: &str, value: &str) -> Result<(), Error> {
        let text = fs::read_to_string(&self.secrets).map_err(io_error("read secrets.json"))?;
        let text = text.trim_end().trim_end_matches('}').trim_end();
        write(&self.secrets, &format!("{text},\n    \"{name}\": \"{value}\"\n}}\n"))
    }

    /// Returns the ends of all logs, for messages.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let Ok(entries) = fs::read_dir(self.root.join("log")) else { return text };
        for entry in entries.flatten() {
            let log = fs::read(entry.path()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            text.push_str(&format!("--- {}\n", entry.file_name().display()));
            for line in &lines[lines.len().saturating_sub(30)..] {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }

    fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }
}

/// Ends everything at once, without waiting for what a worker may have begun.
impl Drop for DemoSite {
    fn drop(&mut self) {
        if self.supervisor_server.is_some() {
            self.power_off();
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(io_error(format!("write {}", path.display())))
}
