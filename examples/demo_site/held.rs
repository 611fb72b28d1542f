//! Sites whose listening socket is held, as `docs/held-sockets.md` configures them.

use super::DemoSite;

/// Who keeps the listening socket while gunicorn restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A second process of an `[fcgi-program:gunicorn]`.
    Supervisor,
    /// A socket unit. Whoever starts the site installs the units of [`DemoSite::units`]; supervisor runs the worker.
    Systemd,
    /// A program that starts gunicorn whenever it has ended; deploykit finds gunicorn by its pidfile.
    Keeper,
}

/// More arguments of gunicorn, by way of its environment.
pub(super) const ARGUMENTS: &str = "--no-control-socket --graceful-timeout 5";

/// Returns what supervisor calls the program that serves.
pub(super) fn program(holder: Option<Holder>) -> &'static str {
    match holder {
        None | Some(Holder::Systemd) => "gunicorn",
        Some(Holder::Supervisor) => "gunicorn:web-0",
        Some(Holder::Keeper) => "keeper",
    }
}

impl DemoSite {
    /// Returns the units that hold the socket and serve: names and texts.
    pub fn units(&self) -> [(&'static str, String); 2] {
        ["gunicorn.socket", "gunicorn.service"].map(|name| (name, self.documented(name)))
    }

    /// Returns the section of `supervisor.conf` for a web whose socket is held.
    pub(super) fn held_program(&self) -> Option<String> {
        match self.options.holder? {
            Holder::Systemd => Some(String::new()),
            Holder::Supervisor if self.options.unix_socket => {
                let mut text = self.documented("supervisor");
                for line in self.documented("supervisor-unix").lines() {
                    let (key, _) = line.split_once('=').unwrap_or_default();
                    let start = text.find(&format!("\n{key}=")).map_or(0, |at| at + 1);
                    let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
                    text.replace_range(start..end, line);
                }
                Some(text)
            }
            Holder::Supervisor => Some(self.documented("supervisor")),
            Holder::Keeper => Some(format!(
                "\
[program:keeper]
command={python} {root}/keeper.py
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={root}/log/gunicorn.log
",
                python = self.options.python.display(),
                root = self.root.display()
            )),
        }
    }

    /// Returns the web's section of `deploykit.toml`.
    pub(super) fn held_service(&self) -> Option<String> {
        let name = match self.options.holder? {
            Holder::Supervisor => "supervisor",
            Holder::Systemd => "systemd",
            Holder::Keeper => "gunicorn",
        };
        Some(self.documented(&format!("toml {name}")))
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
        let root = self.root.display();
        let (address, socket) = match self.gunicorn_address.strip_prefix("unix:") {
            Some(path) => ("127.0.0.1:8000", path),
            None => (self.gunicorn_address.as_str(), "/srv/site/run/gunicorn.sock"),
        };
        let python_address = match address.split_once(':') {
            Some((host, port)) => format!("(\"{host}\", {port})"),
            None => String::new(),
        };
        text.replace("/srv/site/run/gunicorn.sock", socket)
            .replace("(\"127.0.0.1\", 8000)", &python_address)
            .replace("127.0.0.1:8000", address)
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
