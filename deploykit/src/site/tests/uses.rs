//! Configurations that are changed in code, and those that lack keys.

use super::*;
use crate::Site;

#[test]
fn a_configuration_that_was_changed_in_code_is_checked_like_a_file() {
    let mut config = parsed(EVERYTHING);
    config.check().unwrap();
    config.site.settings = None;
    config.python.virtualenv = Some("venv".into());
    config.site.project = "/elsewhere".into();
    config.secrets.pattern = "(".into();
    config.database.backup_command = None;
    config.database.deadline = Duration::ZERO;
    config.maintenance.off = None;
    config.smoke.base = Some("example.org".into());
    config.smoke.connect = None;
    config.smoke.pages[1].path = "about".into();
    config.services[1].name = "gunicorn".into();
    config.services[2].sudo = true;
    config.steps[0].name = "migrate".into();
    config.steps[0].outputs = vec!["../up".into()];
    config.steps[1].outputs = vec!["dist".into()];
    let error = config.check().unwrap_err().to_string();
    assert_data_eq!(error, str![[r#"
/srv/site/deploykit.toml:1: `site.settings`: is missing
/srv/site/deploykit.toml:1: `python.virtualenv`: `venv` is not an absolute path
/srv/site/deploykit.toml:1: `site.project`: is not inside the repository `/srv/site/checkout`
/srv/site/deploykit.toml:1: `secrets.pattern`: found open group without closing ')'
/srv/site/deploykit.toml:1: `database.restore-command`: `backup-command` is missing: it makes the copy that `restore-command` restores
/srv/site/deploykit.toml:1: `database.deadline`: expected at least "1s"
/srv/site/deploykit.toml:1: `maintenance.on`: `off` is missing: `off` undoes what `on` did
/srv/site/deploykit.toml:1: `smoke.base`: expected a URL that starts with `http://` or `https://`
/srv/site/deploykit.toml:1: `maintenance.page`: `smoke.connect` is missing: while the page is up, the public address answers 503; give the address that the application server listens on
/srv/site/deploykit.toml:1: `services[1].name`: there are two services named `gunicorn`
/srv/site/deploykit.toml:1: `services[2].sudo`: only `manager = "command"` and `manager = "systemd"` run commands with sudo
/srv/site/deploykit.toml:1: `steps[0].name`: `migrate` is a built-in step
/srv/site/deploykit.toml:1: `steps[0].outputs`: `../up` is not a relative path inside the repository
/srv/site/deploykit.toml:1: `steps[1].outputs`: only a step of the preparation can have `outputs`; this step runs in the checkout
/srv/site/deploykit.toml:1: `smoke.pages[1].path`: `about` does not start with `/`, `http://` or `https://`
"#]].raw());
}

#[test]
fn a_configuration_may_lack_required_keys_that_nobody_uses() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("deploykit.toml");
    let text = "[[services]]\nname = \"web\"\nmanager = \"command\"\nrole = \"web\"\nstart = [\"true\"]\nstatus = [\"true\"]\n\
                [smoke]\nbase = \"http://127.0.0.1:8000\"\n\
                [[steps]]\nname = \"build\"\nafter = \"staged-tree\"\nrun = [\"make\"]\noutputs = [\"dist\"]\n";
    std::fs::write(&file, text).unwrap();
    let site = Site::load_partial(&file, None).unwrap();
    // Nothing tells the service's processes from other ones that listen there.
    assert_eq!(site.config().services[0].serves, None);
    let missing = |error: ConfigError| match error {
        ConfigError::Invalid(mistakes) => mistakes.problems.into_iter().map(|problem| problem.key).collect(),
        other => vec![other.to_string()],
    };
    assert_eq!(missing(site.virtualenv().unwrap_err()), ["python.virtualenv"]);
    assert_eq!(missing(site.pip_install().unwrap_err()), ["python.virtualenv"]);
    let all = ["site.settings", "python.virtualenv"];
    assert_eq!(missing(site.project().unwrap_err()), all);
    assert_eq!(missing(Site::load(&file, None).unwrap_err()), all);
    assert_eq!(missing(Site::new(site.config().clone()).unwrap_err()), all);
}

#[test]
fn values_that_are_changed_in_code_change_what_identifies_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("deploykit.toml");
    std::fs::write(&file, LEAST).unwrap();
    let read = Site::load(&file, None).unwrap();
    let same = Site::new(read.config().clone()).unwrap();
    assert_eq!(read.fingerprint(), same.fingerprint());
    let mut config = read.config().clone();
    config.python.upgrade = UpgradeStrategy::Eager;
    let changed = Site::new(config.clone()).unwrap();
    assert_ne!(read.fingerprint(), changed.fingerprint());
    assert_eq!(Site::new(config).unwrap().fingerprint(), changed.fingerprint());
}

#[test]
fn a_broken_configuration_beside_a_virtualenv_counts_if_it_may_name_it() {
    let top = tempfile::tempdir().unwrap();
    let virtualenv = top.path().join("venv");
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(top.path().join(name)).unwrap();
        std::fs::write(top.path().join(name).join("deploykit.toml"), text).unwrap();
    };
    write("venv", "");
    std::fs::remove_file(virtualenv.join("deploykit.toml")).unwrap();
    let found =
        || Site::of_virtualenv(&virtualenv, None).map(|site| site.map(|site| site.config().path.clone()));
    write("other", "[python]\nvirtualenv = \"../its-own\"\nunknown = 1\n");
    assert_eq!(found().unwrap(), None);
    write("broken", "[python]\nvirtualenv = \"../venv\"\nunknown = 1\n");
    assert!(found().unwrap_err().to_string().contains("`python.unknown`: unknown key"));
    write("site", "[python]\nvirtualenv = \"../venv\"\n");
    assert_eq!(found().unwrap(), Some(top.path().join("site/deploykit.toml")));
}
