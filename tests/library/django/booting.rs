//! Sites that boot, and sites that do not.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use deploykit::internal::django::{DjangoError, Level, Part, Session};
use deploykit::{Host, Redactor, Variables};

use crate::support::django::Site;

fn boot_error(site: &Site) -> DjangoError {
    Session::boot(&Host::new(), &site.project).expect_err("it does not boot")
}

#[test]
fn a_site_says_what_it_is_and_nothing_secret() {
    let Some(site) = Site::new() else { return };
    let mut session = site.boot();
    let facts = session.facts(&Host::new()).unwrap();
    assert!(facts.django.contains('.') && facts.python.starts_with("3."), "{facts:?}");
    assert_eq!(facts.settings, "config.settings");
    assert_eq!(facts.settings_file.as_deref(), Some(&*site.path("config/settings.py")));
    assert_eq!(facts.time_zone.as_deref(), Some("UTC"));
    assert_eq!(facts.static_files.root.as_deref(), Some(&*site.path("www/static")));
    assert!(facts.static_files.local && !facts.static_files.manifest);
    assert!(facts.uploads.is_empty(), "{:?}", facts.uploads);
    assert_eq!(facts.databases[0].vendor, "sqlite");
    assert_eq!(facts.databases[0].file.as_deref(), Some(&*site.path("db.sqlite3")));
    assert!(facts.commands.contains(&"migrate".to_owned()));
    assert_eq!(facts.maintenance_status_file.as_deref(), Some(&*site.path("maintenance.json")));
    let names: Vec<&str> = facts
        .foreign_modules(&site.project.directory, Path::new("/nowhere"))
        .iter()
        .map(|found| found.0)
        .collect();
    assert_eq!(names, ["config", "config.settings", "shop", "shop.models"]);
    assert!(facts.foreign_modules(Path::new("/nowhere"), &site.project.directory).is_empty());
    let text = format!("{facts:?}{}{session:?}", serde_json::to_string(&facts).unwrap());
    for secret in ["hunter22", "someone", "db.internal", "not-a-real-key"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(!site.path("db.sqlite3").exists(), "looking makes no database");
    let written = std::fs::read_dir(site.path("config"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name() == "__pycache__");
    assert_eq!(written.count(), 0, "looking leaves nothing behind");
}

#[test]
fn a_site_says_where_its_uploads_go() {
    let Some(site) = Site::new() else { return };
    let settings = "
MEDIA_ROOT = 'uploads'
STORAGES = {
    'default': {'BACKEND': 'django.core.files.storage.FileSystemStorage', 'OPTIONS': {'location': '/srv/photos'}},
    'bucket': {'BACKEND': 'django.core.files.storage.InMemoryStorage', 'OPTIONS': {'location': 'prefix'}},
    'staticfiles': {'BACKEND': 'django.contrib.staticfiles.storage.StaticFilesStorage'},
}
";
    site.append("config/settings.py", settings);
    let facts = site.boot().facts(&Host::new()).unwrap();
    assert_eq!(facts.uploads, [Path::new("/srv/photos"), &*site.path("uploads")]);
}

#[test]
fn settings_that_raise_are_shown_with_their_traceback() {
    let Some(site) = Site::new() else { return };
    site.append("config/settings.py", "TOKEN = os.environ['NO_SUCH_VARIABLE']\n");
    let error = boot_error(&site);
    assert_eq!(error.to_string(), "cannot load settings module `config.settings`");
    assert_eq!(error.source().unwrap().to_string(), "KeyError: 'NO_SUCH_VARIABLE'");
    assert!(error.tail().iter().any(|line| line.contains("os.environ['NO_SUCH_VARIABLE']")), "{error:?}");
    assert!(!error.tail().iter().any(|line| line.contains("<deploykit>")), "{error:?}");
}

#[test]
fn a_settings_module_that_is_missing_is_told_from_one_that_imports_a_missing_one() {
    let Some(mut site) = Site::new() else { return };
    site.project.settings = "config.nowhere".into();
    let error = boot_error(&site);
    assert!(
        matches!(&error, DjangoError::NoSettings { module, .. } if module == "config.nowhere"),
        "{error:?}"
    );
    site.project.settings = "config.settings".into();
    site.append("config/settings.py", "import no_such_package\n");
    let error = boot_error(&site);
    assert!(matches!(&error, DjangoError::Broken { part: Part::Settings(_), .. }), "{error:?}");
    assert_eq!(error.raised().unwrap().message, "No module named 'no_such_package'");
}

#[test]
fn an_app_that_cannot_be_imported_is_named() {
    let Some(site) = Site::new() else { return };
    site.append("shop/models.py", "import no_such_package\n");
    let error = boot_error(&site);
    assert!(matches!(&error, DjangoError::Broken { part: Part::Apps, .. }), "{error:?}");
    assert!(error.tail().iter().any(|line| line.contains("shop/models.py")), "{error:?}");
}

#[test]
fn no_manage_py_and_no_python_are_told_apart() {
    let Some(mut site) = Site::new() else { return };
    std::fs::remove_file(site.path("manage.py")).unwrap();
    let error = boot_error(&site);
    assert_eq!(error.to_string(), format!("there is no `{}`", site.path("manage.py").display()));
    site.write("manage.py", "");
    let error = boot_error(&site);
    assert!(matches!(&error, DjangoError::NotCalled { .. }), "{error:?}");
    site.write("manage.py", "1 / 0");
    let error = boot_error(&site);
    assert!(matches!(&error, DjangoError::Broken { part: Part::ManagePy, .. }), "{error:?}");
    assert_eq!(error.raised().unwrap().exception, "ZeroDivisionError");
    site.project.python = site.path("venv/bin/python");
    assert!(matches!(boot_error(&site), DjangoError::Start { .. }));
}

#[test]
fn what_manage_py_does_beforehand_happens() {
    let Some(mut site) = Site::new() else { return };
    let manage = site.read("manage.py");
    site.write(
        "manage.py",
        &format!(
            "import os, sys\nos.environ['FROM_DOTENV'] = 'yes'\nsys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lib'))\n{manage}"
        ),
    );
    site.write("lib/helper.py", "VALUE = 1\n");
    site.append("config/settings.py", "import helper\nassert os.environ['FROM_DOTENV'] == 'yes'\n");
    // Without settings of ours, those that `manage.py` sets by default.
    site.project.settings = String::new();
    let mut variables = Variables::new();
    variables.set("DJANGO_SETTINGS_MODULE", "config.settings");
    let host = Host::new().with_variables(variables);
    let mut session = Session::boot(&host, &site.project).unwrap();
    assert_eq!(session.facts(&host).unwrap().settings, "config.settings");
}

#[test]
fn what_the_site_prints_does_not_disturb_the_answers() {
    let Some(site) = Site::new() else { return };
    site.append(
        "config/settings.py",
        "print('{\"ok\": 1}')\nimport subprocess\nsubprocess.run(['echo', '{}'])\nos.write(1, b'half')\n",
    );
    site.append(
        "shop/models.py",
        "import sys\nsys.__stdout__.write('more\\n')\nassert sys.stdin.read() == ''\n",
    );
    let mut session = site.boot();
    assert!(session.check(&Host::new(), None).unwrap().messages.is_empty());
}

#[test]
fn system_checks_are_reported_and_exceptions_have_their_part() {
    let Some(site) = Site::new() else { return };
    site.append("shop/models.py", "    class Meta:\n        ordering = ['nothing']\n");
    let report = site.boot().check(&Host::new(), None).unwrap();
    let errors: Vec<_> = report.errors().map(|message| message.id.as_deref().unwrap()).collect();
    assert_eq!(errors, ["models.E015"]);
    assert!(report.messages.iter().all(|message| message.level == Level::Error));
    assert_eq!(report.application.as_deref(), Some("config.wsgi:application"));

    site.write("config/urls.py", "import no_such_package\n");
    let error = site.boot().check(&Host::new(), None).unwrap_err();
    assert!(matches!(&error, DjangoError::Broken { part: Part::Urls, .. }), "{error:?}");
}

#[test]
fn an_application_that_raises_is_found_also_when_it_is_gunicorns_own() {
    let Some(site) = Site::new() else { return };
    site.write("serve.py", "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'config.other'\nfrom config.wsgi import application as app\n");
    let mut session = site.boot();
    let host = Host::new();
    let report = session.check(&host, Some("serve:app")).unwrap();
    assert_eq!(report.other_settings.as_deref(), Some("config.other"));
    let error = session.check(&host, Some("serve")).unwrap_err();
    assert_eq!(error.to_string(), "cannot load application `serve`");
    assert_eq!(error.raised().unwrap().exception, "AttributeError");
    site.append("config/wsgi.py", "raise RuntimeError('no broker')\n");
    let error = site.boot().check(&host, None).unwrap_err();
    assert_eq!(error.to_string(), "cannot load application `config.wsgi:application`");
    assert_eq!(error.source().unwrap().to_string(), "RuntimeError: no broker");
}

#[test]
fn a_site_that_hangs_is_ended() {
    let Some(site) = Site::new() else { return };
    site.append("config/settings.py", "import time\nprint('waiting', flush=True)\ntime.sleep(600)\n");
    let error = Session::boot_within(&Host::new(), &site.project, Duration::from_secs(3)).unwrap_err();
    assert!(matches!(&error, DjangoError::Ended { during: "boot", .. }), "{error:?}");
    assert_eq!(error.tail(), ["waiting"]);
}

#[test]
fn a_site_that_ends_the_process_is_reported() {
    let Some(site) = Site::new() else { return };
    site.append("config/settings.py", "print('bye', flush=True)\nos._exit(7)\n");
    let error = boot_error(&site);
    assert_eq!(error.to_string(), "the site's Python did not finish: boot");
    assert_eq!(error.tail(), ["bye"]);
    site.append("config/settings.py", "");
    let text = site.read("config/settings.py").replace("os._exit(7)", "raise SystemExit('enough')");
    site.write("config/settings.py", &text);
    let error = boot_error(&site);
    assert_eq!(error.raised().unwrap().to_string(), "SystemExit: enough");
}

#[test]
fn it_ends_when_nobody_needs_it_any_more() {
    let Some(site) = Site::new() else { return };
    let session = site.boot();
    let pid = session.id().unwrap();
    session.close(&Host::new());
    let deadline = Instant::now() + Duration::from_secs(30);
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < deadline, "it lives on");
        std::thread::yield_now();
    }
}

#[test]
fn secrets_of_the_environment_reach_the_site_and_no_value_of_ours() {
    let Some(site) = Site::new() else { return };
    site.append("config/settings.py", "raise ValueError('bad key ' + os.environ['TOKEN'])\n");
    let mut variables = Variables::new();
    variables.set("TOKEN", "s3cr3t-value");
    let host =
        Host::new().with_variables(variables).with_redactor(Redactor::new(["s3cr3t-value".to_owned()]));
    let error = Session::boot(&host, &site.project).unwrap_err();
    assert_eq!(error.raised().unwrap().message, "bad key ***");
    assert!(!format!("{error:?}{host:?}").contains("s3cr3t-value"));
    let command = site.project.manage(["check"]);
    assert!(!format!("{command:?}{}", serde_json::to_string(&command).unwrap()).contains("s3cr3t-value"));
}
