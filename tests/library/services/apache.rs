//! Apache with mod_wsgi: the page, and what becomes of a request that is under way when it is stopped.

use std::path::PathBuf;

use super::*;
use crate::support::site::demo_site::{Address, Port, visitor};

/// The modules of Debian's Apache.
const MODULES: &str = "/usr/lib/apache2/modules";

/// As the documents have it: the visitors' address shows the page, and the one that deploykit asks does not.
fn configuration(site: &Path, visitors: &Port, asked: &Port) -> String {
    let modules = ["mpm_event", "authz_core", "rewrite", "alias", "wsgi"];
    let load = modules.map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n")).concat();
    // Apache serves as root no more than its own daemons do.
    let user = if rustix::process::geteuid().is_root() { "User www-data\nGroup www-data\n" } else { "" };
    let (site, visitors, asked) = (site.display(), visitors.address(), asked.address());
    format!(
        "ServerRoot {site}\nServerName localhost\nPidFile {site}/apache.pid\nErrorLog {site}/error.log\n\
         Listen {visitors}\nListen {asked}\n{user}{load}WSGISocketPrefix {site}/wsgi\n\
         WSGIDaemonProcess site processes=2 threads=2 home={site}\nWSGIProcessGroup site\n\
         WSGIApplicationGroup %{{GLOBAL}}\nWSGIScriptAlias / {site}/mysite.py\n\
         <Directory {site}>\nRequire all granted\n</Directory>\n\
         <VirtualHost {visitors}>\nAlias /maintenance.html {site}/maintenance.html\nRewriteEngine On\n\
         RewriteCond {site}/maintenance.html -f\nRewriteCond %{{REQUEST_URI}} !=/maintenance.html\n\
         RewriteRule ^ - [R=503,L]\nErrorDocument 503 /maintenance.html\n</VirtualHost>\n\
         <VirtualHost {asked}>\n</VirtualHost>\n"
    )
}

/// Ends it, whatever became of the test.
struct Stopped<'a>(&'a Service);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let _ = perform(self.0, Goal::Stopped);
    }
}

#[test]
fn apache_shows_the_page_and_completes_requests_at_a_graceful_stop() {
    let Some(apache) = crate::support::program("apache2") else { return };
    if !PathBuf::from(MODULES).join("mod_wsgi.so").exists() {
        crate::support::skip("mod_wsgi is not installed; run tests/run");
    }
    let site = wsgi();
    fs::set_permissions(site.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let application = fs::read_to_string(site.path().join("mysite.py")).unwrap() + "\napplication = app\n";
    fs::write(site.path().join("mysite.py"), &application).unwrap();
    let [visitors, asked] = [(), ()].map(|()| Port::reserve().unwrap());
    let file = site.path().join("site.conf");
    fs::write(&file, configuration(site.path(), &visitors, &asked)).unwrap();
    let apache = |how: &str| -> Vec<String> {
        [&*apache.to_string_lossy(), "-f", &*file.to_string_lossy(), "-k", how].map(str::to_owned).to_vec()
    };
    let service = |stop: &str| {
        // Not by its pidfile, which Apache removes before its last processes have ended and closed their sockets.
        let processes = format!("{}.* -f {}", apache("start")[0], file.display());
        let manager = CommandManager {
            start: apache("start"),
            stop: apache(stop),
            status: ["pgrep", "-f", &processes].map(str::to_owned).to_vec(),
            ..Default::default()
        };
        quick(Service::new("apache", Role::Web, Manager::Command(manager)))
    };
    let get = |port: &Port, path: &str| {
        let address = Address::Tcp(port.address());
        visitor::request(&address, "localhost", path, None, Duration::from_secs(60))
            .map(|answer| (answer.status, answer.body))
    };
    let answer = |status: u16, body: &str| Some((status, body.to_owned()));
    let mark = site.path().join("slow");
    for (stop, completes) in [("graceful-stop", true), ("stop", false)] {
        let web = service(stop);
        let _stopped = Stopped(&web);
        perform(&web, Goal::Running).unwrap();
        perform(&web, Goal::StaysUp).unwrap();
        assert_eq!(get(&visitors, "/").ok(), answer(200, "hello"));
        let completed = std::thread::scope(|scope| {
            let slow = scope.spawn(|| get(&visitors, "/slow").ok());
            eventually("the slow request is under way", || mark.exists());
            fs::write(site.path().join("maintenance.html"), "soon").unwrap();
            assert_eq!(get(&visitors, "/").ok(), answer(503, "soon"));
            perform(&web, Goal::Stopped).unwrap();
            slow.join().unwrap() == answer(200, "hello")
        });
        assert_eq!(completed, completes, "{stop}");
        get(&visitors, "/").unwrap_err();

        // The new version answers behind the page before visitors see it.
        fs::write(site.path().join("mysite.py"), application.replace("hello", "newer")).unwrap();
        perform(&web, Goal::Running).unwrap();
        eventually("the new version answers", || get(&asked, "/").ok() == answer(200, "newer"));
        assert_eq!(get(&visitors, "/").ok(), answer(503, "soon"));
        fs::remove_file(site.path().join("maintenance.html")).unwrap();
        assert_eq!(get(&visitors, "/").ok(), answer(200, "newer"));
        perform(&web, Goal::Stopped).unwrap();
        fs::write(site.path().join("mysite.py"), &application).unwrap();
        fs::remove_file(&mark).unwrap();
    }
}
