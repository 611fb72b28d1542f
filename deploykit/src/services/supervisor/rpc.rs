//! XML-RPC calls to a supervisord.
//!
//! Source: <http://xmlrpc.com/spec.md>.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dxr::{FaultResponse, MethodCall, MethodResponse, Value};
use ureq::Agent;
use ureq::unversioned::resolver::DefaultResolver;

use super::config::{Address, Place};
use crate::http::unix::UnixConnector;
use crate::services::ServiceError;

/// How long one call may take. None of ours waits for a process.
const DEADLINE: Duration = Duration::from_secs(20);

/// The largest answer; one process takes a kilobyte.
const MOST: u64 = 16 << 20;

pub(super) struct Client {
    agent: Agent,
    url: String,
    address: Address,
}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// supervisord says why.
    Fault { code: i32, text: String },
    /// It could not be asked.
    Other(ServiceError),
}

impl Client {
    pub(super) fn new(address: Address) -> Self {
        // A proxy of the environment has no business between us and this machine's own socket.
        let config = Agent::config_builder()
            .timeout_global(Some(DEADLINE))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build();
        let (agent, url) = match &address.place {
            Place::Unix(path) => (
                Agent::with_parts(config, UnixConnector { path: path.clone() }, DefaultResolver::default()),
                "http://127.0.0.1/RPC2".to_owned(),
            ),
            Place::Http(authority) => (config.new_agent(), format!("http://{authority}/RPC2")),
        };
        Client { agent, url, address }
    }

    /// Returns the address, for messages.
    pub(super) fn server(&self) -> String {
        self.address.place.to_string()
    }

    pub(super) fn protocol_error(&self, what: String) -> ServiceError {
        ServiceError::Protocol { server: self.server(), what }
    }

    pub(super) fn call(&self, method: &str, params: Vec<Value>) -> Result<Value, CallError> {
        let call = MethodCall { name: Cow::Borrowed(method), params };
        let body = call.to_xml().map_err(|error| self.other(error.to_string()))?;
        let body = format!("<?xml version=\"1.0\"?>{body}");
        let mut request = self.agent.post(&self.url).header("Content-Type", "text/xml");
        if let Some((user, password)) = &self.address.credentials {
            let pair = STANDARD.encode(format!("{user}:{password}"));
            request = request.header("Authorization", format!("Basic {pair}"));
        }
        let mut response = request.send(body).map_err(|error| CallError::Other(self.failed(error)))?;
        match response.status().as_u16() {
            200 => {}
            401 => return Err(CallError::Other(ServiceError::Unauthorized { server: self.server() })),
            code => return Err(self.other(format!("HTTP status {code}"))),
        }
        let body = response.body_mut().with_config().limit(MOST).read_to_vec();
        let body = body.map_err(|error| CallError::Other(self.failed(error)))?;
        match answer(&body) {
            Some(Ok(value)) => Ok(value),
            Some(Err((code, text))) => Err(CallError::Fault { code, text }),
            None => Err(self.other("its answer is not XML-RPC".to_owned())),
        }
    }

    fn other(&self, what: String) -> CallError {
        CallError::Other(self.protocol_error(what))
    }

    fn failed(&self, error: ureq::Error) -> ServiceError {
        let server = self.server();
        match error {
            ureq::Error::Timeout(_) => ServiceError::NoAnswer { server, deadline: DEADLINE },
            ureq::Error::Io(source) => match source.kind() {
                io::ErrorKind::NotFound => ServiceError::NoSocket { server },
                io::ErrorKind::ConnectionRefused => ServiceError::NobodyAnswers { server },
                io::ErrorKind::PermissionDenied => ServiceError::Denied { server },
                _ => ServiceError::Connection { server, source },
            },
            error => ServiceError::Protocol { server, what: error.to_string() },
        }
    }
}

/// Reads an answer: a value, a fault's number and text, or nothing that is XML-RPC.
pub(super) fn answer(body: &[u8]) -> Option<Result<Value, (i32, String)>> {
    let text = String::from_utf8_lossy(body);
    if let Ok(response) = MethodResponse::from_xml(&text) {
        return Some(Ok(response.value));
    }
    let fault = FaultResponse::from_xml(&text).ok()?.fault;
    Some(Err((fault.code(), fault.string().to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_faults_are_read_as_supervisor_writes_them() {
        let value = b"<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><array><data>\n<value><struct>\n\
            <member>\n<name>pid</name>\n<value><int>12</int></value>\n</member>\n\
            <member>\n<name>spawnerr</name>\n<value><string></string></value>\n</member>\n\
            </struct></value>\n</data></array></value>\n</param>\n</params>\n</methodResponse>\n";
        let Some(Ok(Value::Array(list))) = answer(value) else { panic!("no list") };
        let Value::Struct(members) = &list[0] else { panic!("no struct") };
        assert_eq!(members["pid"], Value::Integer(12));
        assert_eq!(members["spawnerr"], Value::String(String::new()));
        let fault = b"<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n\
            <name>faultCode</name>\n<value><int>10</int></value>\n</member>\n<member>\n<name>faultString</name>\n\
            <value><string>BAD_NAME: x</string></value>\n</member>\n</struct></value>\n</fault>\n</methodResponse>\n";
        assert_eq!(answer(fault), Some(Err((10, "BAD_NAME: x".to_owned()))));
        assert_eq!(answer(b"<html>Not found</html>"), None);
        assert_eq!(answer(b"\xff\x00"), None);
    }
}
