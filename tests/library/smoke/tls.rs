//! Certificates.

use super::*;

// TLS

/// A directory with `ca.pem`, and `site.pem` + `site.key` for `site.example` signed by it.
fn certificates() -> Option<tempfile::TempDir> {
    let openssl = program("openssl")?;
    let directory = tempfile::tempdir().unwrap();
    let run = |line: &str| {
        must(process::Command::new(&openssl).args(line.split(' ')).current_dir(directory.path()));
    };
    fs::write(directory.path().join("names"), "subjectAltName=DNS:site.example\n").unwrap();
    run(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=Test",
    );
    run(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout site.key -out site.csr -subj /CN=site.example",
    );
    run(
        "x509 -req -in site.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out site.pem -days 2 -extfile names",
    );
    Some(directory)
}

/// Serves compressed pages with very many headers over TLS that say which name the client asked for, in the handshake and in the request.
fn tls_server(directory: &Path) -> Option<(Running, u16)> {
    let python = program("python3")?;
    let script = r#"
import gzip, http.server, ssl
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = gzip.compress(f"sni={self.connection.asked} host={self.headers['Host']}".encode())
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        for number in range(300):
            self.send_header(f"X-Number-{number}", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("site.pem", "site.key")
class Socket(ssl.SSLSocket): asked = None
context.sslsocket_class = Socket
def remember(sock, name, _): sock.asked = name
context.sni_callback = remember
class Server(http.server.ThreadingHTTPServer):
    def get_request(self):
        sock, address = super().get_request()
        sock.settimeout(30)
        return context.wrap_socket(sock, server_side=True), address
    def handle_error(self, *args): pass
server = Server(("127.0.0.1", 0), Page)
print(server.server_port, flush=True)
server.serve_forever()
"#;
    let mut command = process::Command::new(python);
    command.args(["-c", script]).current_dir(directory).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Running::start(&mut command);
    let port = running.first_line().parse().unwrap();
    Some((running, port))
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let Some(directory) = certificates() else { return };
    let Some((_server, port)) = tls_server(directory.path()) else { return };
    let mut check = check(&format!("https://site.example:{port}/"), &["/"]);
    check.connect = Some(tcp(port));
    let refused = check.run(&Host::new()).unwrap();
    let [Problem::NoAnswer { reason, temporary: false }] = &refused[0].problems[..] else {
        panic!("{refused:?}")
    };
    assert!(reason.contains("UnknownIssuer"), "{reason}");

    check.ca = Some(directory.path().join("ca.pem"));
    check.pages[0].contains = vec![format!("sni=site.example host=site.example:{port}")];
    check.perform(&Host::new()).unwrap();

    // The same, at another port than the URL's.
    check.base = Some("https://site.example/".to_owned());
    check.connect = Some(format!("https://127.0.0.1:{port}").parse().unwrap());
    check.pages[0].contains = vec!["sni=site.example host=site.example".to_owned()];
    check.perform(&Host::new()).unwrap();

    check.base = Some("https://other.example/".to_owned());
    check.pages[0].contains.clear();
    let refused = failing(check.perform(&Host::new()));
    let text = refused[0].to_string();
    assert!(text.contains("cannot trust") && text.contains("other.example"), "{text}");
    assert!(matches!(refused[0].problems[..], [Problem::NoAnswer { temporary: false, .. }]));

    // Plain HTTP at the TLS server's door.
    check.connect = Some(format!("http://127.0.0.1:{port}").parse().unwrap());
    let refused = check.run(&Host::new()).unwrap();
    assert!(matches!(refused[0].problems[..], [Problem::NoAnswer { .. }]), "{refused:?}");
}

#[test]
fn certificates_that_cannot_be_read_are_refused_before_anything_is_asked() {
    let mut check = check("https://site.example/", &["/"]);
    check.ca = Some("/nowhere/ca.pem".into());
    let error = check.perform(&Host::new()).unwrap_err();
    assert_eq!(error.to_string(), "cannot use the certificates in `/nowhere/ca.pem`");
}
