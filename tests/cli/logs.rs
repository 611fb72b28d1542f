//! `logs` where no log can be shown.

use std::fs;

use crate::run::deploykit;

#[test]
fn logs_of_a_service_whose_manager_is_silent_name_the_manager() {
    let service = |name: &str| {
        format!("[[services]]\nname = \"{name}\"\nmanager = \"supervisor\"\nconfig = \"{name}.conf\"\n")
    };
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let sound = "[[services]]\nname = \"api\"\nmanager = \"gunicorn\"\npidfile = \"p\"\n\
                 start = [\"gunicorn\", \"--error-logfile\", \"api.log\", \"api\"]\n";
    let config = service("web") + &service("worker") + sound + "[logs]\nnginx = \"n.log\"\n";
    fs::write(here.join("deploykit.toml"), config).unwrap();
    fs::write(here.join("web.conf"), "[unix_http_server]\nfile = %(here)s/s\n").unwrap();
    let logs = |name: &str| deploykit(here, &["logs", name]).run();
    let silent = logs("web").expect(4).stderr;
    assert!(
        silent.starts_with("Error: supervisord does not run") && silent.contains("start supervisord"),
        "{silent}"
    );
    assert!(logs("worker").expect(4).stderr.contains("worker.conf"));
    logs("nginx").expect(0);
    let all = deploykit(here, &["logs"]).run().expect(0);
    assert!(all.stdout.contains("--- api (") && all.stdout.contains("--- nginx ("), "{}", all.stdout);
    assert!(
        all.stderr.contains("supervisord does not run") && all.stderr.contains("worker.conf"),
        "{}",
        all.stderr
    );
    logs("apache").expect(2);
}
