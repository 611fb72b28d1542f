//! The little that the demo site asks of supervisord itself, over its Unix socket.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::DemoSite;

/// A program under supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// `RUNNING`, `STOPPED`, `FATAL`…
    pub state: String,
    /// 0 when there is no process.
    pub pid: u32,
}

/// Returns the programs that supervisord knows, by name: `program`, or `group:program` where they differ.
///
/// # Errors
///
/// When nobody answers at the socket.
pub fn programs(socket: &Path) -> io::Result<BTreeMap<String, Program>> {
    let answer = call(socket, "supervisor.getAllProcessInfo", &[])?;
    // Each program is one `<struct>`; members are `<name>pid</name> <value><int>7</int></value>`.
    let programs = answer.split("<struct>").skip(1).filter_map(|text| {
        let member = |name: &str| {
            let rest = text.split_once(&format!("<name>{name}</name>"))?.1;
            let value = rest.split_once("<value>")?.1.split_once("</value>")?.0;
            let value = value.trim_start_matches(|c| c != '>').trim_start_matches('>');
            Some(value.split('<').next()?.to_owned())
        };
        let pid = member("pid")?.parse().ok()?;
        let (name, group) = (member("name")?, member("group")?);
        let name = if name == group { name } else { format!("{group}:{name}") };
        Some((name, Program { state: member("statename")?, pid }))
    });
    Ok(programs.collect())
}

impl DemoSite {
    /// Stops gunicorn and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When supervisor refuses.
    pub fn stop_gunicorn(&self) -> io::Result<()> {
        call(&self.supervisor_socket, "supervisor.stopProcess", &[&self.gunicorn_service]).map(|_| ())
    }

    /// Starts gunicorn and waits until supervisor believes that it runs: a second longer than its visitors.
    ///
    /// # Errors
    ///
    /// When supervisor refuses, or it does not live as long.
    pub fn start_gunicorn(&self) -> io::Result<()> {
        call(&self.supervisor_socket, "supervisor.startProcess", &[&self.gunicorn_service]).map(|_| ())
    }
}

/// Calls a method whose parameters are strings, and returns the XML of the answer.
///
/// # Errors
///
/// When nobody answers, or the answer is a fault.
pub fn call(socket: &Path, method: &str, parameters: &[&str]) -> io::Result<String> {
    let parameters: String = parameters
        .iter()
        .map(|text| format!("<param><value><string>{text}</string></value></param>"))
        .collect();
    let body =
        format!("<methodCall><methodName>{method}</methodName><params>{parameters}</params></methodCall>");
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "POST /RPC2 HTTP/1.0\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.contains("<fault>") || !answer.contains("<methodResponse>") {
        return Err(io::Error::other(answer));
    }
    Ok(answer)
}
