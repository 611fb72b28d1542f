//! What Django and the pages answer comes before what was read as text.

use deploykit::internal::django::{Database, SiteFacts, StaticFacts};
use deploykit::operations::smoke_check::{PageResult, Problem};

use super::*;
use crate::asked::Broken;

fn facts(place: &Place) -> SiteFacts {
    SiteFacts {
        django: "5.2".to_owned(),
        python: "3.13.1".to_owned(),
        settings: "config.settings".to_owned(),
        settings_file: None,
        base: place.site.clone(),
        time_zone: None,
        debug: false,
        allowed_hosts: vec!["www.example.org".to_owned()],
        wsgi_application: None,
        apps: vec!["django.contrib.admin".to_owned()],
        static_files: StaticFacts {
            installed: true,
            root: Some("/srv/static".into()),
            url: None,
            storage: None,
            local: true,
            manifest: false,
        },
        uploads: Vec::new(),
        databases: vec![Database {
            alias: "default".to_owned(),
            engine: String::new(),
            vendor: "postgresql".to_owned(),
            file: None,
            twins: Vec::new(),
        }],
        maintenance_status_file: Some("/srv/status.json".into()),
        commands: vec!["maintenanceon".to_owned(), "maintenanceoff".to_owned()],
        modules: Default::default(),
    }
}

/// A site whose settings are computed in ways that no text tells.
fn computed() -> Place {
    let place = Place::new("site");
    place.file("manage.py", &manage("config.settings"));
    place.file("config/settings.py", "STATIC_ROOT = compute()\nALLOWED_HOSTS = compute()\n");
    place.file("requirements.txt", "Django\n");
    place.file("assets/site.css", "");
    fs::create_dir_all(place.site.join("../venv")).unwrap();
    fs::write(place.site.join("../venv/pyvenv.cfg"), "").unwrap();
    place.file(
        "../../etc/supervisor.conf",
        "[unix_http_server]\nfile=/x\n[supervisord]\n[program:web]\n\
        command=@SRV@/venv/bin/gunicorn config.wsgi -b 127.0.0.1:8009\ndirectory=@SITE@\n",
    );
    place.commit();
    place
}

fn answer(path: &str, status: Option<u16>, location: Option<&str>) -> PageResult {
    let problem = match status {
        None => Some(Problem::NoAnswer { reason: "connection refused".to_owned(), temporary: true }),
        Some(200) => None,
        Some(found) => Some(Problem::Status { expected: Some(200), found }),
    };
    PageResult {
        path: path.to_owned(),
        url: format!("https://www.example.org{path}"),
        status,
        location: location.map(str::to_owned),
        problems: problem.into_iter().collect(),
        ..PageResult::default()
    }
}

/// Returns the findings with their public address known.
fn asked() -> (Place, Findings) {
    let place = computed();
    let mut findings = place.look().unwrap();
    findings.ask_django("config.settings", &facts(&place), Some("/login/".to_owned()));
    findings.base.question = None;
    (place, findings)
}

fn pages(findings: &Findings) -> String {
    let text = findings.to_toml();
    let line = text.lines().find(|line| line.starts_with("pages = ")).unwrap();
    line.split(" #").next().unwrap().trim().to_owned()
}

#[test]
fn settings_that_no_text_tells_are_asked_for() {
    let place = computed();
    let mut findings = place.look().unwrap();
    assert!(findings.questions.iter().any(|question| question.key == "smoke.base"));
    findings.ask_django("config.settings", &facts(&place), Some("/login/".to_owned()));
    let text = findings.to_toml();
    check(&text, &findings.questions);
    for part in [
        "STATIC_ROOT is /srv/static (asked Django)",
        "[database]                                 # asked Django: `default` (postgresql)",
        "status-file = ",
        "www.example.org",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert_eq!(findings.maintenance.value, Some(FoundMaintenance::Own));
    assert_eq!(findings.pages_to_ask(), ["/", "/login/", "/admin/login/"]);
}

#[test]
fn what_would_harm_the_site_is_found_in_the_real_settings() {
    let place = computed();
    let with = |change: &dyn Fn(&mut SiteFacts)| {
        let mut findings = place.look().unwrap();
        let mut facts = facts(&place);
        change(&mut facts);
        findings.ask_django("config.settings", &facts, None);
        findings
    };
    let debug = with(&|facts| facts.debug = true);
    assert!(
        debug
            .questions
            .iter()
            .any(|question| question.key == "site.settings" && question.why.contains("DEBUG"))
    );
    let tracked = with(&|facts| facts.static_files.root = Some(facts.base.join("assets")));
    assert!(tracked.to_toml().contains("collect = \"never\""), "{}", tracked.to_toml());
    let uploads = with(&|facts| facts.uploads = vec!["/srv/static/uploads".into()]);
    assert!(uploads.to_toml().contains("clear = \"never\""), "{}", uploads.to_toml());
    let events = Database {
        alias: "events".to_owned(),
        engine: String::new(),
        vendor: "sqlite".to_owned(),
        file: None,
        twins: Vec::new(),
    };
    let twin = Database { alias: "replica".to_owned(), twins: vec!["default".to_owned()], ..events.clone() };
    let several = with(&|facts| facts.databases.extend([events.clone(), twin.clone()]));
    let question = several.questions.iter().find(|question| question.key == "database.migrate").unwrap();
    assert_eq!(
        question.why,
        "which databases does an update migrate? there are `default` (postgresql), `events` (sqlite)"
    );
    let tenants = with(&|facts| facts.commands.push("migrate_schemas".to_owned()));
    assert!(tenants.to_toml().contains("migrate-command = [\"migrate_schemas\"]"), "{}", tenants.to_toml());
    let other = with(&|facts| facts.settings = "config.other".to_owned());
    assert_eq!(other.settings.value.as_deref(), Some("config.other"));
}

#[test]
fn pages_are_written_as_they_answer() {
    let after = |results: &[PageResult]| {
        let (_place, mut findings) = asked();
        assert!(!findings.pages_answered(results));
        findings
    };
    let (index, login) = (answer("/", Some(302), Some("/login/?next=/")), answer("/login/", Some(200), None));
    assert_eq!(pages(&after(&[answer("/", Some(200), None), login.clone()])), "pages = [\"/\"]");
    assert_eq!(
        pages(&after(&[index.clone(), answer("/admin/login/", Some(200), None), login.clone()])),
        "pages = [{ path = \"/\", redirect = \"/login/\" }, \"/login/\"]"
    );
    assert_eq!(
        pages(&after(&[answer("/", Some(403), None), answer("/login/", Some(404), None)])),
        "pages = [{ path = \"/\", status = 403 }]"
    );
    assert_eq!(pages(&after(&[answer("/", Some(404), None), login])), "pages = [\"/login/\"]");
    let asks = |results: &[PageResult], key: &str| {
        let findings = after(results);
        assert!(findings.questions.iter().any(|question| question.key == key), "{:?}", findings.questions);
        findings
    };
    asks(&[answer("/", Some(500), None)], "smoke.pages");
    asks(&[answer("/", Some(404), None)], "smoke.pages");
    asks(&[answer("/", Some(400), None)], "smoke.base");
    let silent = asks(&[answer("/", None, None)], "smoke.pages");
    assert!(silent.unasked()[0].contains("connection refused"));
}

#[test]
fn a_redirect_to_https_corrects_the_address() {
    let (_place, mut findings) = asked();
    findings.base.value = Some("http://www.example.org/".to_owned());
    let mut index = answer("/", Some(301), Some("https://www.example.org/"));
    index.url = "http://www.example.org/".to_owned();
    assert!(findings.pages_answered(&[index]));
    assert_eq!(findings.base.value.as_deref(), Some("https://www.example.org/"));
    assert!(!findings.pages_answered(&[answer("/", Some(200), None)]));
    assert_eq!(pages(&findings), "pages = [\"/\"]");
    for (base, target, expected) in [
        ("http://example.org:8000/", "https://www.example.org/x/", "https://www.example.org/"),
        ("http://www.example.org/", "https://Example.org:8443?next=/", "https://Example.org:8443/"),
    ] {
        findings.base.value = Some(base.to_owned());
        let index = PageResult { url: base.to_owned(), ..answer("/", Some(301), Some(target)) };
        assert!(findings.pages_answered(&[index]));
        assert_eq!(findings.base.value.as_deref(), Some(expected));
    }
}

#[test]
fn a_redirect_to_a_login_server_is_a_page_and_not_the_address() {
    let (_place, mut findings) = asked();
    findings.base.value = Some("http://www.example.org/".to_owned());
    let mut index = answer("/", Some(302), Some("https://sso.example.org/login?next=/"));
    index.url = "http://www.example.org/".to_owned();
    assert!(!findings.pages_answered(&[index]));
    assert_eq!(findings.base.value.as_deref(), Some("http://www.example.org/"));
    assert_eq!(pages(&findings), "pages = [{ path = \"/\", redirect = \"https://sso.example.org/login\" }]");
}

#[test]
fn a_django_that_does_not_boot_is_named_in_the_file() {
    let place = computed();
    let mut findings = place.look().unwrap();
    findings.django_failed("there is no `/srv/venv/bin/python`", None);
    assert!(findings.questions.iter().all(|question| question.key != "site.settings"));
    assert!(findings.to_toml().contains("# Django was not asked: there is no `/srv/venv/bin/python`"));
    findings.django_failed("KeyError:\n'DB_PASSWORD'", Some(Broken::Settings));
    let question = findings.questions.iter().find(|question| question.key == "site.settings").unwrap();
    assert_eq!(
        question.why,
        "Django does not boot with `config.settings`: KeyError: 'DB_PASSWORD'; if a variable is missing, name its file in `site.env-file`"
    );
    let mut other = place.look().unwrap();
    other.django_failed("SyntaxError: invalid syntax", Some(Broken::Settings));
    let question = other.questions.iter().find(|question| question.key == "site.settings").unwrap();
    assert_eq!(question.why, "Django does not boot with `config.settings`: SyntaxError: invalid syntax");
    let mut open = place.look().unwrap();
    open.env_file.question = Some("where is `DB_PASSWORD`?".to_owned());
    open.django_failed("KeyError: 'DB_PASSWORD'", Some(Broken::Settings));
    assert!(open.questions.iter().all(|question| question.key != "site.settings"));
    findings.django_failed("No module named 'django'", Some(Broken::Virtualenv));
    assert!(findings.questions.iter().any(|question| question.key == "python.virtualenv"));
}

#[test]
fn a_configuration_is_compared_with_the_site() {
    let (place, findings) = asked();
    let file = place.site.join("deploykit.toml");
    let written = findings.to_toml();
    let differences = |text: &str| {
        let config = Config::parse(text, &file, None).unwrap();
        let all = findings.differences(&config).unwrap();
        all.into_iter().map(|one| (one.key, one.configured, one.found)).collect::<Vec<_>>()
    };
    // The virtualenv of this test has no Python.
    let gone = |keys: Vec<(String, Option<String>, Option<String>)>| -> Vec<(String, Option<String>, Option<String>)> {
        keys.into_iter().filter(|(key, ..)| key != "python.virtualenv").collect()
    };
    assert_eq!(gone(differences(&written)), []);
    let changed = written
        .replace("requirements.txt", "requirements/old.txt")
        .replace("role = \"web\"", "role = \"worker\"")
        .replace("127.0.0.1:8009", "127.0.0.1:8008")
        .replace("branch = \"master\"", "branch = \"old\"");
    let keys: Vec<String> = gone(differences(&changed)).into_iter().map(|(key, ..)| key).collect();
    assert_eq!(keys, ["git.branch", "python.requirements", "smoke.connect", "services.web.role"]);
    let start = written.find("[[services]]").unwrap();
    let end = written.find("[maintenance]").unwrap();
    let without = written[..start].to_owned() + &written[end..];
    let expected = ("services.web".to_owned(), None, Some("web of supervisor".to_owned()));
    assert_eq!(gone(differences(&without)), [expected]);
    // What is asked about is not held against anybody.
    let mut unsure = findings.clone();
    unsure.branch.question = Some("which?".to_owned());
    let config =
        Config::parse(&written.replace("branch = \"master\"", "branch = \"old\""), &file, None).unwrap();
    assert!(unsure.differences(&config).unwrap().iter().all(|one| one.key != "git.branch"));
}

#[test]
fn documents_contradict_nobody_and_another_python_is_a_difference() {
    let (place, mut findings) = asked();
    let file = place.site.join("deploykit.toml");
    let config = Config::parse(&findings.to_toml(), &file, None).unwrap();
    findings.settings = crate::findings::Found::new("config.live".to_owned(), "docs/install.md");
    findings.python =
        Some(("`pyproject.toml` requires Python >=3.12; which one?".to_owned(), "3.12".to_owned()));
    let keys = |findings: &Findings| -> Vec<String> {
        let all = findings.differences(&config).unwrap();
        all.into_iter().map(|one| one.key).filter(|key| key != "python.virtualenv").collect()
    };
    assert_eq!(keys(&findings), ["site.settings", "python.python"]);
    // `init --check` boots the configured settings; what is wrong with them does not hide the difference.
    let mut checked = findings.clone();
    checked.ask_django("config.settings", &SiteFacts { debug: true, ..facts(&place) }, None);
    assert!(keys(&checked).contains(&"site.settings".to_owned()));
    findings.documents.push("docs/install.md".to_owned());
    assert_eq!(keys(&findings), ["python.python"]);
}

#[test]
fn what_means_the_same_is_no_difference() {
    let (place, mut findings) = asked();
    let run = place.directory.path().join("run");
    fs::create_dir(&run).unwrap();
    std::os::unix::fs::symlink(&run, place.directory.path().join("var-run")).unwrap();
    findings.requirements.value = Some(["a.txt", "b.txt"].map(|name| place.site.join(name)).to_vec());
    let step = crate::findings::FoundStep {
        name: "build".to_owned(),
        after: "staged-tree",
        manage: false,
        command: vec!["npm".to_owned()],
        outputs: crate::findings::Found::default(),
        rehearse: false,
        source: String::new(),
    };
    findings.steps = vec![step];
    let file = place.site.join("deploykit.toml");
    let keys = |findings: &Findings, text: &str| {
        let config = Config::parse(text, &file, None).unwrap();
        let all = findings.differences(&config).unwrap();
        let told = all.into_iter().map(|one| (one.key, one.configured.unwrap_or_default()));
        told.filter(|(key, _)| key != "python.virtualenv").collect::<Vec<_>>()
    };
    let written = findings.to_toml();
    let gone = |name: &str| ("python.requirements".to_owned(), place.site.join(name).display().to_string());
    assert_eq!(keys(&findings, &written), [gone("a.txt"), gone("b.txt")]);
    for name in ["a.txt", "b.txt"] {
        place.file(name, "");
    }
    let start = written.find("status-file = ").unwrap();
    let status_file = written[start..].lines().next().unwrap();
    let same = written
        .replace("[\"a.txt\", \"b.txt\"]", "[\"b.txt\", \"a.txt\"]")
        .replace("https://www.example.org/", "https://WWW.example.org")
        .replace("127.0.0.1:8009", "localhost:8009")
        .replace("run = [\"npm\"]", "run = [\"make\"]")
        .replace(status_file, "");
    assert_eq!(keys(&findings, &same), []);
    let other = same.replace("localhost:8009", "localhost:8010").replace("\"b.txt\", ", "");
    let told: Vec<String> = keys(&findings, &other).into_iter().map(|(key, _)| key).collect();
    assert_eq!(told, ["python.requirements", "smoke.connect"]);
    let socket = |directory: &str| format!("unix:{}/{directory}/x.sock", place.directory.path().display());
    findings.connect.value = Some(socket("run"));
    let linked = findings.to_toml().replace(&socket("run"), &socket("var-run"));
    assert!(linked.contains(&socket("var-run")));
    assert_eq!(keys(&findings, &linked), []);
}

#[test]
fn the_named_file_and_environment_are_obeyed() {
    let place = computed();
    place.file("config/settings_staging.py", "");
    let file = place.directory.path().join("etc/site.toml");
    let request = Request {
        directory: place.site.clone(),
        file: Some(file.clone()),
        environment: Some("staging".to_owned()),
    };
    let findings = look_also_in(&request, &Host::new(), &[], None).unwrap();
    assert_eq!(findings.settings.value.as_deref(), Some("config.settings_staging"));
    let table: toml::Table = findings.to_toml().parse().unwrap();
    assert_eq!(table["environment"].as_str(), Some("staging"));
    assert_eq!(table["site"]["repository"].as_str(), Some("../srv/site"));
    assert_eq!(findings.write().unwrap(), file);
    let again = look_also_in(&request, &Host::new(), &[], None).unwrap();
    assert!(matches!(again.may_be_written(), Err(InitError::Exists { path }) if path == file));
}
