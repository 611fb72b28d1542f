//! The demo site for tests: built without a network, from the test tools, in a temporary directory.

#[path = "../../examples/demo_site/mod.rs"]
pub mod demo_site;

use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::time::Duration;

use demo_site::{DatabaseServer, DemoSite, Holder, Options, Port, Server, run, wait_until};

use super::database::Database;

/// How the checkout reaches its remote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// A path.
    #[default]
    File,
    /// `git://`, by a real `git daemon`.
    Daemon,
    /// `http://`, by a real `git http-backend`.
    Http,
}

/// What a site shall be like.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder builds nothing until `build` or `start`"]
pub struct Builder {
    nginx: bool,
    transport: Transport,
    unix_socket: bool,
    holder: Option<Holder>,
    without_uv: bool,
    worker_lingers: f32,
    rehearsal: bool,
    database: Option<Database>,
}

impl Builder {
    /// Puts nginx in front.
    pub fn nginx(mut self) -> Self {
        self.nginx = true;
        self
    }

    /// Fetches over the network.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Lets gunicorn listen on a Unix socket.
    pub fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// Lets somebody else hold gunicorn's socket.
    pub fn held_by(mut self, holder: Holder) -> Self {
        self.holder = Some(holder);
        self
    }

    /// Builds the site by venv and pip.
    pub fn without_uv(mut self) -> Self {
        self.without_uv = true;
        self
    }

    /// Gives the worker seconds of work to finish when it is told to end.
    pub fn worker_lingers(mut self, seconds: f32) -> Self {
        self.worker_lingers = seconds;
        self
    }

    /// Rehearses every update, which takes its time.
    pub fn rehearsal(mut self) -> Self {
        self.rehearsal = true;
        self
    }

    /// Keeps the site's rows on a server.
    pub fn database(mut self, database: &Database) -> Self {
        self.database = Some(database.clone());
        self
    }

    /// Builds the site without its servers; `None` where a tool is missing.
    pub fn build(self) -> Option<TestSite> {
        let python = super::program("python3")?;
        let mut options = Options::new(python.canonicalize().expect("a program is a file"));
        options.wheels = Some(super::wheels()?);
        options.supervisord = Some(super::program("supervisord")?);
        if !self.without_uv {
            options.uv = Some(super::program("uv")?);
            options.uv_cache = Some(super::tools().join("uv-cache"));
        }
        if self.nginx {
            options.nginx = Some(super::program("nginx")?);
        }
        options.unix_socket = self.unix_socket;
        options.holder = self.holder;
        options.worker_lingers = self.worker_lingers;
        options.rehearsal = self.rehearsal;
        options.server = self.database.map(|database| DatabaseServer {
            settings: database.settings(),
            driver: database.engine.driver().to_owned(),
        });
        let directory = tempfile::Builder::new().prefix("site-").tempdir().expect("a temporary directory");
        let site = DemoSite::create(directory.path(), &options).unwrap_or_else(|error| panic!("{error}"));
        let remote = serve_origin(&site, self.transport);
        Some(TestSite { site, remote, directory })
    }

    /// Builds the site and lets it serve; `None` where a tool is missing.
    pub fn start(self) -> Option<TestSite> {
        let mut site = self.build()?;
        site.site.start().unwrap_or_else(|error| panic!("{error}"));
        Some(site)
    }
}

/// A site in a temporary directory. It ends, and vanishes, with this value.
#[derive(Debug)]
pub struct TestSite {
    // In the order in which they end.
    site: DemoSite,
    remote: Option<(Server, Port)>,
    directory: tempfile::TempDir,
}

impl TestSite {
    /// Describes a site.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Ends the remote's server: fetching fails from now on. Does nothing for a remote that is a path.
    pub fn killed_remote(&mut self) {
        self.remote = None;
    }

    /// Gives a program the environment in which a person of this site would start it: nothing of the caller's own
    /// settings of Python, pip and Git, and uv in the `PATH`.
    pub fn dress(&self, command: &mut Command) {
        let like = self.site.command(command.get_program());
        for (name, value) in like.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let own = [super::tools().join("venv/bin")];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)));
        command.env("PATH", path.expect("directories without colons"));
    }

    /// Updates the site as a person does, by `benches/by_hand.sh`.
    pub fn update_by_hand(&self) -> Result<String, demo_site::Error> {
        let mut command = self.site.command("/bin/sh");
        command.arg(super::root().join("benches/by_hand.sh")).envs(self.site.by_hand_environment());
        run(&mut command)
    }

    /// Keeps the directory when the test ends, to look into it.
    pub fn keep(&mut self) {
        self.directory.disable_cleanup(true);
        eprintln!("kept: {}", self.directory.path().display());
    }
}

impl Deref for TestSite {
    type Target = DemoSite;

    fn deref(&self) -> &DemoSite {
        &self.site
    }
}

impl DerefMut for TestSite {
    fn deref_mut(&mut self) -> &mut DemoSite {
        &mut self.site
    }
}

fn serve_origin(site: &DemoSite, transport: Transport) -> Option<(Server, Port)> {
    if transport == Transport::File {
        return None;
    }
    let port = Port::reserve().expect("a free port");
    let number = port.number().to_string();
    let (scheme, command) = if transport == Transport::Daemon {
        let mut command = site.command("git");
        command.args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
        command.arg(format!("--port={number}")).arg(format!("--base-path={}", site.root.display()));
        command.arg(&site.origin);
        ("git", command)
    } else {
        let mut command = site.command(&site.options.python);
        command.arg(super::root().join("tests/support/git_http.py")).arg(&number).arg(&site.root);
        ("http", command)
    };
    let server = Server::start(&command, &site.root.join("log/remote.log")).expect("the remote starts");
    let address = port.address();
    let up = wait_until(Duration::from_secs(30), || TcpStream::connect(&address).is_ok());
    assert!(up, "the remote does not answer:\n{}", site.logs());
    let url = format!("{scheme}://{address}/origin.git");
    site.git(&site.checkout, &["remote", "set-url", "origin", &url]).expect("a remote");
    Some((server, port))
}
