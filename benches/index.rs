//! A package index on this machine, so that no network is measured: nginx shows a directory for each package.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::demo_site::{Address, Port, Server, visitor, wait_until};

pub struct Index {
    pub url: String,
    _server: Server,
    _port: Port,
}

impl Index {
    /// Serves the wheels of a directory as PEP 503 wants it.
    pub fn start(nginx: &Path, wheels: &Path, directory: &Path) -> Outcome<Index> {
        let simple = directory.join("simple");
        for entry in fs::read_dir(wheels)? {
            let wheel = entry?.path();
            let Some(name) = wheel.file_name().and_then(|name| name.to_str()) else { continue };
            let project = name.split('-').next().unwrap_or(name).to_lowercase().replace(['_', '.'], "-");
            fs::create_dir_all(simple.join(&project))?;
            fs::copy(&wheel, simple.join(project).join(name))?;
        }
        let port = Port::reserve()?;
        let config = directory.join("index.conf");
        fs::write(&config, text(directory, &simple, &port.address()))?;
        let mut command = Command::new(nginx);
        command.arg("-e").arg(directory.join("index.log")).arg("-p").arg(directory).arg("-c").arg(&config);
        let server = Server::start(&command, &directory.join("index-output.log"))?;
        let address = Address::from(port.address().as_str());
        let asks = || visitor::request(&address, "index", "/django/", None, Duration::from_secs(5));
        if !wait_until(Duration::from_secs(30), || asks().is_ok_and(|answer| answer.status == 200)) {
            return Err("the package index does not answer".into());
        }
        Ok(Index { url: format!("http://{}/", port.address()), _server: server, _port: port })
    }
}

fn text(directory: &Path, simple: &Path, address: &str) -> String {
    let (directory, simple) = (directory.display(), simple.display());
    // As root, nginx would hand its work to a user who may not read the directory.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {directory}/{kind};\n"))
        .concat();
    format!(
        "\
{user}daemon off;
worker_processes 1;
pid {directory}/index.pid;
events {{}}
http {{
    access_log off;
{temporary}    server {{
        listen {address};
        root {simple};
        autoindex on;
        autoindex_exact_size off;
    }}
}}
"
    )
}
