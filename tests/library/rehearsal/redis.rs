//! A private Redis server in the rehearsal, in place of the live one.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::releases::{Outcome, outcome_of};
use crate::support::corpus::in_home;
use crate::support::program;
use crate::support::releases::{add_column, append, write};
use crate::support::site::TestSite;
use crate::support::site::demo_site::wait_until;
use crate::support::snapshot::{Snapshot, assert_same};

/// A live Redis server with keys.
struct Redis {
    server: Child,
    port: u16,
}

impl Redis {
    fn start(server: &Path, directory: &Path) -> Redis {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let mut command = Command::new(server);
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--requirepass",
            "hidden \" canary",
        ]);
        command
            .args(["--save", "", "--enable-debug-command", "local", "--unixsocket"])
            .arg(directory.join("redis.sock"));
        let server = command.stdout(Stdio::null()).current_dir(directory).spawn().expect("it starts");
        let redis = Redis { server, port };
        assert!(wait_until(Duration::from_secs(60), || redis.ask(&["PING"]) == "PONG"), "it does not answer");
        redis.ask(&["SET", "live", "here"]);
        redis.ask(&["LPUSH", "celery", "a task"]);
        redis
    }

    fn ask(&self, words: &[&str]) -> String {
        let mut client = Command::new("redis-cli");
        client.args(["-p", &self.port.to_string()]).env("REDISCLI_AUTH", "hidden \" canary").args(words);
        String::from_utf8_lossy(&client.output().expect("a client").stdout).trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A cache in Redis without a package.
const CACHE: &str = r#"
import socket
from urllib.parse import unquote, urlsplit

from django.core.cache.backends.base import BaseCache


class RedisCache(BaseCache):
    def __init__(self, location, params):
        super().__init__(params)
        self.url = urlsplit(location)

    def ask(self, *words):
        if self.url.scheme == "unix":
            client = socket.socket(socket.AF_UNIX)
            client.connect(self.url.path)
        else:
            client = socket.create_connection((self.url.hostname, self.url.port))
        with client, client.makefile("rb") as answers:
            for one in (("AUTH", unquote(self.url.password)), words):
                data = [str(word).encode() for word in one]
                parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in data)
                client.sendall(b"*%d\r\n%s" % (len(data), parts))
                line = answers.readline().strip()
                if line.startswith(b"-"):
                    raise OSError(line.decode())
            return answers.read(int(line[1:])).decode() if line.startswith(b"$") and line != b"$-1" else None

    def get(self, key, default=None, version=None):
        return self.ask("GET", key) or default

    def set(self, key, value, timeout=None, version=None):
        self.ask("SET", key, value)

    def clear(self):
        self.ask("FLUSHALL")
"#;

#[test]
fn the_live_server_is_not_reached() {
    let Some(server) = program("redis-server") else { return };
    let Some(site) = TestSite::builder().rehearsal().start() else { return };
    let first = site.git(&site.checkout, &["rev-parse", "HEAD"]).expect("a commit").trim().to_owned();
    let directory = tempfile::tempdir().expect("a directory");
    let redis = Redis::start(&server, directory.path());
    let before = (Snapshot::of(&site), redis.ask(&["DEBUG", "DIGEST"]), redis.ask(&["DBSIZE"]));
    let (port, place) = (redis.port, directory.path().join("redis.sock"));
    let release = |more: &str, page: &str| {
        let caches = format!(
            "\nCACHES = {{\n    \"default\": {{\"BACKEND\": \"guestbook.redis.RedisCache\", \
             \"LOCATION\": \"redis://:hidden%20%22%20canary@127.0.0.1:{port}/0\"}},\n    \
             \"unix\": {{\"BACKEND\": \"guestbook.redis.RedisCache\", \
             \"LOCATION\": \"unix://:hidden%20%22%20canary@{}\"}},\n{more}}}\n",
            place.display()
        );
        let page = page.to_owned();
        move |tree: &Path| {
            add_column(tree);
            write(tree, "project/guestbook/redis.py", CACHE);
            append(tree, "project/config/settings/production.py", &caches);
            in_home(tree, &page);
        }
    };

    let uses = "from django.core.cache import caches; assert caches['default'].get('live') is None; \
                caches['default'].set('a', 'b'); assert caches['default'].get('a') == 'b'; \
                caches['unix'].clear(); assert type(caches['unix']).__name__ == 'RedisCache'; \
                assert caches['default'].get('a') == 'b'";
    let Outcome::Ready(plan) = outcome_of(&site, &first, "a cache", release("", uses)) else {
        panic!("it was refused")
    };
    assert_eq!(plan.notices, [""; 0]);

    // Where there can be none, that cache alone is in memory.
    let more = "    \"tls\": {\"BACKEND\": \"guestbook.redis.RedisCache\", \"LOCATION\": \"rediss://127.0.0.1:1/0\"},\n";
    let uses = format!("{uses}; assert type(caches['tls']).__name__ == 'LocMemCache'");
    let Outcome::Ready(plan) = outcome_of(&site, &first, "a cache with TLS", release(more, &uses)) else {
        panic!("it was refused")
    };
    let said = "the rehearsal has no Redis at 127.0.0.1:1, and keeps caches and Celery queues in memory: its clients require TLS";
    assert_eq!(plan.notices, [said]);

    let Outcome::Refused(step, why) =
        outcome_of(&site, &first, "a wrong cache", release("", &format!("{uses}; assert False")))
    else {
        panic!("not refused")
    };
    assert_eq!(step, "rehearse-pages", "{why}");
    let after = (Snapshot::of(&site), redis.ask(&["DEBUG", "DIGEST"]), redis.ask(&["DBSIZE"]));
    assert_same(&before.0, &after.0);
    assert_eq!((before.1, before.2), (after.1, after.2));
}
