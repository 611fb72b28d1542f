//! Sites whose listening socket is held, as `docs/held-sockets.md` configures them.

use super::DemoSite;

/// Who keeps the listening socket while gunicorn restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A second process of an `[fcgi-program:gunicorn]`.
    Supervisor,
    /// A socket unit. Whoever starts the site installs the units of [`DemoSite::units`]; supervisor runs the worker.
    Systemd,
    /// `deploykit hold-socket` under supervisor, by this path of deploykit.
    Keeper(&'static str),
}

/// An `[fcgi-program:gunicorn]` whose second process only keeps the socket.
const FCGI: &str = r#"[fcgi-program:gunicorn]
socket=tcp://127.0.0.1:8000
socket_backlog=4096
numprocs=2
process_name=web-%(process_num)d
command=/bin/sh -c '[ %(process_num)d = 1 ] && exec sleep infinity; exec /srv/venv/bin/gunicorn --workers 2 -b fd://0 config.wsgi'
directory=/srv/site/project
environment=DJANGO_SETTINGS_MODULE="config.settings.production"
stopwaitsecs=35
redirect_stderr=true
stdout_logfile=/srv/site/log/gunicorn.log
"#;

/// The lines for a Unix socket, whose file gunicorn would remove with `-b fd://0`.
const FCGI_UNIX: &str = "\
socket=unix:///srv/site/run/gunicorn.sock
command=/bin/sh -c '[ %(process_num)d = 1 ] && exec sleep infinity; export LISTEN_PID=$$ LISTEN_FDS=1; exec /srv/venv/bin/gunicorn --workers 2 config.wsgi 3<&0'
";

/// The service that it is.
const FCGI_SERVICE: &str = r#"[[services]]
name = "gunicorn:web-0"
manager = "supervisor"
config = "/etc/supervisor/supervisord.conf"
role = "web"
stop-timeout = "40s"
"#;

/// More arguments of gunicorn, by way of its environment.
pub(super) const ARGUMENTS: &str = "--no-control-socket --graceful-timeout 5";

/// Returns what supervisor calls the program that serves.
pub(super) fn program(holder: Option<Holder>) -> &'static str {
    match holder {
        None | Some(Holder::Systemd | Holder::Keeper(_)) => "gunicorn",
        Some(Holder::Supervisor) => "gunicorn:web-0",
    }
}

impl DemoSite {
    /// Returns the units that hold the socket and serve: names and texts.
    pub fn units(&self) -> [(&'static str, String); 2] {
        ["gunicorn.socket", "gunicorn.service"].map(|name| (name, self.documented(name)))
    }

    /// Returns the section of `supervisor.conf` for a web whose socket is held.
    pub(super) fn held_program(&self) -> Option<String> {
        let (mut text, unix) = match self.options.holder? {
            Holder::Systemd => return Some(String::new()),
            Holder::Supervisor => (self.here(FCGI), self.here(FCGI_UNIX)),
            Holder::Keeper(_) => (self.documented("supervisor"), self.documented("supervisor-unix")),
        };
        for line in unix.lines().filter(|_| self.options.unix_socket) {
            let (key, _) = line.split_once('=').unwrap_or_default();
            let start = text.find(&format!("\n{key}=")).map_or(0, |at| at + 1);
            let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
            text.replace_range(start..end, line);
        }
        Some(text)
    }

    /// Returns the web's section of `deploykit.toml`.
    pub(super) fn held_service(&self) -> Option<String> {
        Some(match self.options.holder? {
            Holder::Supervisor => self.here(FCGI_SERVICE),
            Holder::Systemd => self.documented("toml systemd"),
            Holder::Keeper(_) => self.documented("toml supervisor"),
        })
    }

    /// Returns the block of the document with this name, with this site's paths instead of those that stand there.
    pub fn documented(&self, name: &str) -> String {
        const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/held-sockets.md"));
        let is_it = |line: &&str| {
            line.strip_prefix("```").is_some_and(|info| info == name || info.split(' ').nth(1) == Some(name))
        };
        let lines = DOCUMENT.lines().skip_while(|line| !is_it(line)).skip(1);
        let text: String = lines.take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
        assert!(!text.is_empty(), "docs/held-sockets.md has no block `{name}`");
        self.here(&text)
    }

    /// Returns a text with this site's paths instead of those that stand there.
    fn here(&self, text: &str) -> String {
        let root = self.root.display();
        let (address, socket) = match self.gunicorn_address.strip_prefix("unix:") {
            Some(path) => ("127.0.0.1:8000", path),
            None => (self.gunicorn_address.as_str(), "/srv/site/run/gunicorn.sock"),
        };
        let deploykit = match self.options.holder {
            Some(Holder::Keeper(path)) => path,
            _ => "deploykit",
        };
        text.replace("/srv/site/run/gunicorn.sock", socket)
            .replace("127.0.0.1:8000", address)
            .replace("/usr/local/bin/deploykit", deploykit)
            .replace("/srv/site/.deploykit", &format!("{root}/site/.deploykit"))
            .replace("/srv/site/project", &format!("{root}/site/project"))
            .replace("/srv/site/run", &format!("{root}/run"))
            .replace("/srv/site/log", &format!("{root}/log"))
            .replace("/srv/venv", &format!("{root}/venv"))
            .replace("/etc/supervisor/supervisord.conf", &format!("{root}/supervisor.conf"))
            // Only root can boot a systemd for it.
            .replace(
                "User=site",
                &format!("Environment=DEMO_DATA={root}/data \"GUNICORN_CMD_ARGS={ARGUMENTS}\""),
            )
            .replace("sudo = true\n", "")
    }
}
