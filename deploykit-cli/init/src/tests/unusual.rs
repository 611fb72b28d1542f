//! Sites that are laid out in other ways.

use deploykit::internal::secrets::{compile_pattern, names_asked_for};

use super::*;

#[test]
fn a_project_below_src_with_units_and_an_env_file() {
    let place = Place::new("shop");
    place.file("src/manage.py", &manage("shop.settings"));
    place.file("src/shop/wsgi.py", "setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n");
    place.file(
        "src/shop/settings.py",
        "SECRET_KEY = env('SECRET_KEY')\nDEBUG = env.bool('DEBUG', default=False)\nALLOWED_HOSTS = env.list('HOSTS')\nSECURE_SSL_REDIRECT = True\n",
    );
    place.file("requirements.txt", "Django\n");
    place.file("requirements-dev.txt", "pytest\n");
    place.file(".env", "SECRET_KEY=hunter2\nexport HOSTS='localhost,shop.example'\n");
    place.file(".venv/pyvenv.cfg", "");
    place.file(
        "../../etc/shop.service",
        "[Service]\nWorkingDirectory=@SITE@/src\nEnvironmentFile=@SITE@/.env\n\
         ExecStart=@SITE@/.venv/bin/gunicorn shop.wsgi\n",
    );
    place.file("../../etc/shop.socket", "[Socket]\nListenStream=/run/shop.sock\n");
    place.file(
        "../../etc/other.service",
        "[Service]\nWorkingDirectory=/srv/other\nExecStart=/srv/other/bin/gunicorn x\n",
    );
    place.commit();
    let (findings, text) = place.found();
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(findings.questions, [], "{text}");
    assert_eq!(table["site"]["project"].as_str(), Some("src"));
    assert_eq!(table["site"]["env-file"].as_str(), Some(".env"));
    assert_eq!(table["python"]["virtualenv"].as_str(), Some(".venv"));
    assert_eq!(table["python"]["requirements"][0].as_str(), Some("requirements.txt"));
    assert_eq!(table["smoke"]["base"].as_str(), Some("https://shop.example/"));
    assert_eq!(table["smoke"]["connect"].as_str(), Some("unix:/run/shop.sock"));
    let services = table["services"].as_array().unwrap();
    assert_eq!(services.len(), 1, "{text}");
    assert_eq!(services[0]["manager"].as_str(), Some("systemd"), "{text}");
    assert_eq!(services[0]["unit"].as_str(), Some("shop.service"), "{text}");
    assert_eq!(services[0]["stop-timeout"].as_str(), Some("100s"));
    let pattern = compile_pattern(table["secrets"]["pattern"].as_str().unwrap()).unwrap();
    let asks = |code: &str| names_asked_for(code, &pattern);
    assert_eq!(asks("env('SECRET_KEY')"), ["SECRET_KEY"]);
    assert_eq!(asks("env.list( \"TOKENS\", cast=int)"), ["TOKENS"]);
    assert_eq!(asks("env.bool('DEBUG', default=False)"), [""; 0]);
    assert!(!text.contains("hunter2"));
}

#[test]
fn one_settings_module_for_every_environment_is_understood() {
    let place = Place::new("coralnet");
    place.file("project/manage.py", &manage("config.settings"));
    place.file(
        "project/config/settings.py",
        "REPO_DIR = Path(__file__).resolve().parent.parent.parent\nCoralNetEnv.read_env(REPO_DIR / '.env')\n\
         SITE_DIR = env.path('SITE_DIR', default=REPO_DIR.parent)\nSTATIC_ROOT = SITE_DIR / 'static_serve'\n\
         KEY = env('SECRET_KEY')\nTIME_ZONE = env('TIME_ZONE', default='UTC')\n",
    );
    place.file(".env", "SETTINGS_BASE=staging\nSECRET_KEY=hunter2\n");
    for name in ["local", "staging", "production"] {
        place.file(&format!("requirements/{name}.txt"), "Django\n");
    }
    place.commit();
    let (findings, text) = place.found();
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["environment"].as_str(), Some("staging"));
    assert_eq!(table["python"]["requirements"][0].as_str(), Some("requirements/staging.txt"));
    assert_eq!(table["secrets"]["file"].as_str(), Some(".env"));
    assert_eq!(findings.env_file.value, None, "the settings read it by themselves: {text}");
    let root = place.site.parent().unwrap().join("static_serve");
    assert_eq!(findings.static_root.value.as_deref(), root.to_str());
    assert!(!text.contains("hunter2"));
}

#[test]
fn of_two_projects_the_one_that_the_services_run_is_the_sites() {
    let place = Place::new("two");
    place.file("a/manage.py", &manage("a.settings"));
    place.file("b/manage.py", &manage("b.settings"));
    place.file("a/a/settings.py", "");
    place.file("b/b/settings.py", "");
    place.file("tests/manage.py", &manage("t.settings"));
    place.commit();
    let (findings, text) = place.found();
    let asked = &findings.questions[0];
    assert_eq!((asked.key.as_str(), asked.line), ("site.project", 9), "{text}");
    assert_eq!(asked.why, "which project is the site's? there are `a/manage.py`, `b/manage.py`");

    place.file("../../etc/two.conf", "[program:web]\ncommand=/usr/bin/gunicorn b.wsgi\ndirectory=@SITE@/b\n");
    let (findings, text) = place.found();
    assert_eq!(findings.project.value, Some(place.site.join("b")), "{text}");
    assert_eq!(findings.settings.value.as_deref(), Some("b.settings"));
    // The supervisord that runs the program is not known.
    assert_eq!(
        findings.questions.iter().filter(|question| question.key == "services.web.config").count(),
        1,
        "{text}"
    );
}

#[test]
fn of_two_projects_the_one_that_is_named_is_the_sites() {
    let place = Place::new("two");
    for name in ["a", "b/c/d/e/f"] {
        place.file(&format!("{name}/manage.py"), &manage("x.settings"));
        place.file(&format!("{name}/x/settings.py"), "");
    }
    place.commit();
    let deep = place.site.join("b/c/d/e/f");
    let findings = look_also_in(&Request::from(deep.as_path()), &Host::new(), &[], None).unwrap();
    assert_eq!((&findings.project.value, &findings.project.question), (&Some(deep), &None));
}

#[test]
fn what_the_checkout_ships_for_servers_is_not_installed() {
    let place = Place::new("shop");
    place.file("manage.py", &manage("shop.settings"));
    place.file("shop/settings.py", "");
    place.file(
        "extras/docker/shop.service",
        "[Service]\nWorkingDirectory=@SITE@\nExecStart=gunicorn shop.wsgi\n",
    );
    place.file("deploy/uwsgi/apps-enabled/shop.ini", "[uwsgi]\nchdir = @SITE@\nmodule = shop.wsgi\n");
    place.commit();
    let (findings, text) = place.found();
    assert_eq!(findings.services, [], "{text}");
    let apache = "<VirtualHost *:80>\nServerName shop.example\nWSGIScriptAlias / @SITE@/shop/wsgi.py\n</VirtualHost>\n";
    place.file("deploy/apache2/sites-enabled/shop.conf", apache);
    let (findings, text) = place.found();
    let asked: Vec<&str> = findings.questions.iter().map(|question| question.key.as_str()).collect();
    assert!(asked.contains(&"services.apache2.name"), "{text}");
}

#[test]
fn programs_beside_the_checkout_come_before_those_that_it_ships() {
    let place = Place::new("shop");
    place.file("manage.py", &manage("shop.settings"));
    place.file("shop/settings.py", "");
    place.file(
        "supervisord.conf",
        "[supervisord]\n[program:uwsgi]\ncommand=uwsgi --http :9090 --module shop.wsgi\n",
    );
    place.commit();
    assert_eq!(place.found().0.services[0].name, "uwsgi");
    let own = "[supervisord]\n[unix_http_server]\nfile=/x\n[program:shop]\ncommand=gunicorn shop.wsgi\ndirectory=@SITE@\n";
    place.file("../conf/supervisor.conf", own);
    let names: Vec<String> = place.found().0.services.into_iter().map(|service| service.name).collect();
    assert_eq!(names, ["shop"]);
}

#[test]
fn a_supervisor_in_the_home_directory_is_found_from_a_checkout_deep_in_it() {
    let place = Place::new("home/sites/shop/src");
    place.file("manage.py", &manage("shop.settings"));
    place.file("shop/settings.py", "");
    place.file(
        "../../../supervisord.conf",
        "[unix_http_server]\nfile=/x\n[program:shop]\ncommand=gunicorn shop.wsgi\ndirectory=@SITE@\n",
    );
    place.commit();
    let names = |home: Option<&str>| -> Vec<String> {
        let home = home.map(|home| place.site.join(home).canonicalize().unwrap());
        let findings = look_also_in(&Request::from(place.site.as_path()), &Host::new(), &[], home).unwrap();
        findings.services.into_iter().map(|service| service.name).collect()
    };
    assert_eq!(names(Some("../../..")), ["shop"]);
    assert!(names(Some("../..")).is_empty());
    assert!(names(None).is_empty());
}

#[test]
fn programs_of_other_sites_are_left_out() {
    let place = coralnet();
    fs::remove_dir_all(place.site.join("config")).unwrap();
    place.file("../other/venv/pyvenv.cfg", "");
    place.file(
        "../../etc/supervisord.conf",
        "[inet_http_server]\nport=127.0.0.1:9001\n[include]\nfiles = conf.d/*.conf\n",
    );
    place.file(
        "../../etc/conf.d/sites.conf",
        "[program:other]\ncommand=@SRV@/other/venv/bin/gunicorn x\ndirectory=@SRV@/other\n\
         [program:coralnet2]\ncommand=/usr/bin/gunicorn x\ndirectory=@SRV@/coralnet2\n\
         [program:web]\ncommand=@SRV@/venv/bin/gunicorn config.wsgi -b unix:@SRV@/web.sock\n\
         [program:huey]\ncommand=@SRV@/venv/bin/python manage.py run_huey\ndirectory=@SITE@/project\n\
         [group:coralnet]\nprograms=web,huey\n",
    );
    let (findings, text) = place.found();
    let names: Vec<(&str, Role)> =
        findings.services.iter().map(|service| (service.name.as_str(), service.role)).collect();
    assert_eq!(names, [("web", Role::Web), ("huey", Role::Worker)], "{text}");
    let FoundManager::Supervisor { config, program } = &findings.services[0].manager else {
        panic!("{text}")
    };
    assert_eq!(config.as_deref(), Some(place.elsewhere().join("supervisord.conf").as_path()));
    assert_eq!(program.as_deref(), Some("coralnet:web"));
    let socket = format!("unix:{}", place.site.parent().unwrap().join("web.sock").display());
    assert_eq!(findings.connect.value, Some(socket));
    assert_eq!(findings.maintenance.value, Some(FoundMaintenance::Own));
}

#[test]
fn a_start_script_tells_where_gunicorn_listens() {
    let place = Place::new("site");
    place.file("manage.py", &manage("site.settings"));
    place.file("site/settings.py", "ALLOWED_HOSTS = ['.example.com']\n");
    place.file("bin/start", "#!/bin/bash\nSOCK=@SITE@/run/g.sock\nsource @SRV@/env/bin/activate\nexec gunicorn x \\\n -b unix:$SOCK\n");
    place.file("../env/pyvenv.cfg", "");
    place.file("../unused/pyvenv.cfg", "");
    place.file(
        "deploy/supervisor.conf",
        "[inet_http_server]\nport=:1\n[program:site]\ncommand=@SITE@/bin/start\n",
    );
    place.commit();
    let (findings, text) = place.found();
    assert_eq!(
        findings.connect.value,
        Some(format!("unix:{}", place.site.join("run/g.sock").display())),
        "{text}"
    );
    assert_eq!(findings.virtualenv.value, Some(place.site.parent().unwrap().join("env")));
    assert_eq!(findings.base.value.as_deref(), Some("https://example.com/"));
    assert_eq!(findings.services[0].role, Role::Web);
}

#[test]
fn a_page_without_an_address_behind_it_waits_for_a_person() {
    let place = coralnet();
    fs::remove_file(place.site.join("config/supervisor.conf")).unwrap();
    let (findings, text) = place.found();
    let keys: Vec<&str> = findings.questions.iter().map(|question| question.key.as_str()).collect();
    assert_eq!(keys, ["site.settings", "services", "maintenance.page"], "{text}");
    assert!(text.contains("\n# page = \"../maintenance.html\"\n"), "{text}");
    assert_eq!(
        findings.settings.value.as_deref(),
        Some("config.settings.production"),
        "production comes first"
    );
}

#[test]
fn files_that_show_what_secrets_look_like_hold_none() {
    let place = Place::new("shop");
    place.file("manage.py", &manage("shop.settings"));
    place.file("shop/settings.py", "SECRET_KEY = get_secret('SECRET_KEY')\n");
    // Tracked, or named so.
    place.file("secrets.json", "{}");
    place.commit();
    place.file("examples/secrets.json", "{}");
    place.file(".env.example", "SECRET_KEY=\n");
    assert_eq!(place.found().0.secrets_file.value, None);
    place.file(".env", "SECRET_KEY=x\n");
    assert!(place.found().0.secrets_file.value.is_some_and(|file| file.ends_with(".env")));
}
