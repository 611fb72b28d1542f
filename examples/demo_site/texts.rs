//! The demo site's configuration: what supervisor, nginx, deploykit and the script `benches/by_hand.sh` read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{DemoSite, HOST, Holder, held};

impl DemoSite {
    /// Returns the text of `supervisor.conf`.
    pub(super) fn supervisor_text(&self) -> String {
        let root = self.root.display();
        let venv = self.virtualenv.display();
        let project = self.checkout.join("project");
        let project = project.display();
        let lingers = self.options.worker_lingers;
        let worker = self.options.worker.as_deref().unwrap_or("python manage.py work");
        let gunicorn = self.gunicorn_command();
        let web = self.held_program().unwrap_or_else(|| {
            format!(
                "\
[program:gunicorn]
command={gunicorn}
directory={project}
stopwaitsecs=30
redirect_stderr=true
stdout_logfile={root}/log/gunicorn.log
"
            )
        });
        // The document's gunicorn has no arguments for tests.
        let arguments = match self.options.holder {
            // Of no use where supervisor manages it; others find gunicorn by its pidfile.
            Some(Holder::Keeper(_)) => {
                format!(",GUNICORN_CMD_ARGS=\"{} --pid {root}/run/gunicorn.pid\"", held::ARGUMENTS)
            }
            Some(_) => format!(",GUNICORN_CMD_ARGS=\"{}\"", held::ARGUMENTS),
            None => String::new(),
        };
        format!(
            "\
[unix_http_server]
file={root}/run/supervisor.sock
chmod=0700

[supervisord]
logfile={root}/log/supervisord.log
pidfile={root}/run/supervisord.pid
childlogdir={root}/log
environment=DEMO_DATA=\"{root}/data\",DJANGO_SETTINGS_MODULE=\"config.settings.production\"{arguments}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{root}/run/supervisor.sock

{web}
[program:worker]
command={venv}/bin/{worker}
directory={project}
environment=DEMO_WORKER_LINGERS=\"{lingers}\"
stopwaitsecs=60
redirect_stderr=true
stdout_logfile={root}/log/worker.log
"
        )
    }

    /// Returns gunicorn's command line.
    pub(super) fn gunicorn_command(&self) -> String {
        let bind = &self.gunicorn_address;
        let gunicorn = self.virtualenv.join("bin/gunicorn");
        format!(
            "{} --no-control-socket --graceful-timeout 5 --workers 2 -b {bind} config.wsgi",
            gunicorn.display()
        )
    }

    /// Returns the text of `deploykit.toml`.
    pub(super) fn config_text(&self) -> String {
        let root = self.root.display();
        let address = &self.gunicorn_address;
        let web = self.held_service().unwrap_or_else(|| {
            format!(
                "\
[[services]]
name = \"gunicorn\"
manager = \"supervisor\"
config = \"{root}/supervisor.conf\"
role = \"web\"
"
            )
        });
        let page = match self.options.nginx {
            Some(_) => format!("page = \"{root}/www/maintenance.html\"\n"),
            None => String::new(),
        };
        let nginx_log = match self.options.nginx {
            Some(_) => format!("nginx = \"{root}/log/nginx.log\"\n"),
            None => String::new(),
        };
        let rehearsal = if self.options.rehearsal { "" } else { "[rehearsal]\nwhen = \"never\"\n\n" };
        let mut installer = vec![format!("--find-links={root}/wheels-extra")];
        installer.extend(self.options.index.iter().map(|index| format!("--index-url={index}")));
        if let Some(wheels) = &self.options.wheels {
            installer.push("--no-index".to_owned());
            installer.push(format!("--find-links={}", wheels.display()));
        }
        let mut requirements = vec!["requirements/production.txt".to_owned()];
        requirements.extend(self.options.server.iter().map(|_| format!("{root}/data/driver.txt")));
        format!(
            "\
environment = \"production\"

[site]
repository = \".\"
project = \"project\"
settings = \"config.settings.production\"
env = {{ DEMO_DATA = \"{root}/data\" }}

[git]
branch = \"main\"

[python]
virtualenv = \"../venv\"
requirements = {requirements:?}
extra-args = {installer:?}

[secrets]
file = \"secrets.json\"

{web}
[[services]]
name = \"worker\"
manager = \"supervisor\"
config = \"{root}/supervisor.conf\"
role = \"worker\"

{rehearsal}[maintenance]
{page}notice = \"0s\"

[smoke]
base = \"http://{HOST}/\"
connect = \"{address}\"
deadline = \"20s\"
settle = \"1s\"
pages = [{{ path = \"/\", contains = \"Guestbook\" }}, {{ path = \"/about/\", contains = \"About\" }}]

[logs]
gunicorn = \"{root}/log/gunicorn.log\"
worker = \"{root}/log/worker.log\"
{nginx_log}"
        )
    }

    /// Returns the text of `nginx.conf`.
    pub(super) fn nginx_text(&self) -> String {
        let root = self.root.display();
        let front = &self.front_address;
        let backend = &self.gunicorn_address;
        // As root, nginx would hand its work to a user who may not read the directory.
        let by_root = fs::metadata(&self.root).is_ok_and(|meta| meta.uid() == 0);
        let user = if by_root { "user root;\n" } else { "" };
        format!(
            "\
{user}daemon off;
worker_processes 1;
pid {root}/run/nginx.pid;
error_log {root}/log/nginx.log;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {root}/run/nginx-body;
    proxy_temp_path {root}/run/nginx-proxy;
    fastcgi_temp_path {root}/run/nginx-fastcgi;
    uwsgi_temp_path {root}/run/nginx-uwsgi;
    scgi_temp_path {root}/run/nginx-scgi;
    server {{
        listen {front};
        recursive_error_pages on;
        error_page 503 /maintenance.html;
        location = /maintenance.html {{
            internal;
            root {root}/www;
            # The page may go between the question below and its answer.
            error_page 404 = @page_gone;
            add_header Retry-After 30 always;
        }}
        location @page_gone {{
            add_header Retry-After 1 always;
            return 503 \"Back in a second.\";
        }}
        location / {{
            if (-f {root}/www/maintenance.html) {{ return 503; }}
            proxy_set_header Host $host;
            proxy_pass http://{backend};
        }}
    }}
}}
"
        )
    }

    /// Returns what `benches/by_hand.sh` wants to see: the update as a person types it.
    pub fn by_hand_environment(&self) -> BTreeMap<String, String> {
        let text = |path: &Path| path.display().to_string();
        let mut variables = self.environment();
        variables.insert("SITE_CHECKOUT".to_owned(), text(&self.checkout));
        variables.insert("SITE_BRANCH".to_owned(), "main".to_owned());
        variables.insert("SITE_VIRTUALENV".to_owned(), text(&self.virtualenv));
        variables.insert("SITE_REQUIREMENTS".to_owned(), "requirements/production.txt".to_owned());
        variables.insert("SITE_SUPERVISORCTL".to_owned(), text(&self.supervisorctl));
        variables.insert("SITE_SUPERVISOR_CONFIG".to_owned(), text(&self.supervisor_config));
        variables.insert("SITE_SERVICES".to_owned(), format!("{} worker", self.gunicorn_service));
        variables.insert("SITE_URL".to_owned(), format!("http://{HOST}/"));
        variables.insert("SITE_ADDRESS".to_owned(), self.gunicorn_address.clone());
        if self.options.nginx.is_some() {
            variables.insert("SITE_MAINTENANCE_PAGE".to_owned(), text(&self.maintenance_page));
        }
        let links = self.options.wheels.iter().chain([&self.extra_wheels]).map(|path| text(path));
        variables.insert("PIP_FIND_LINKS".to_owned(), links.collect::<Vec<_>>().join(" "));
        variables
    }
}
