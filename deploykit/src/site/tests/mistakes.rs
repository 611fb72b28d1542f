//! What is wrong with a configuration.

use super::*;

#[test]
fn unknown_names_come_with_the_nearest_known_one() {
    assert_data_eq!(
        mistakes(
            "[sit]\n[staging]\nrequired = true\n[static]\nclaer = \"auto\"\ncollect = \"alwys\"\n[maintenance]\n\
             status_file = \"x\"\n[wholly-unlike-anything]\n"
        ),
        str![[r#"
1: sit: unknown key; did you mean `site`?
2: staging: unknown key
5: static.claer: unknown key; did you mean `clear`?
6: static.collect: `alwys` is not one of `auto`, `always`, `never`; did you mean `always`?
8: maintenance.status_file: unknown key; did you mean `status-file`?
9: wholly-unlike-anything: unknown key

"#]]
        .raw()
    );
}

#[test]
fn what_stays_in_its_place_keeps_its_python() {
    assert_data_eq!(
        mistakes("in-place = true\npython = \"3.12\"\n"),
        str![[r#"
2: python.python: `in-place` is set too: the virtualenv then keeps its Python

"#]]
        .raw()
    );
}

#[test]
fn names_of_services_are_names_of_files() {
    let service =
        |name: &str| format!("[[services]]\nname = \"{name}\"\nmanager = \"systemd\"\nkill = \"always\"\n");
    let names = ["..", ".", "a/b", "-x", ".hidden", r"a\u0007b", " ", "celery:", "a b", &"x".repeat(201)];
    let text: String = names.map(service).concat().replace("kill = \"always\"\n", "");
    assert_data_eq!(
        mistakes(&text),
        str![[r#"
2: services[0].name: starts with `.` or `-`
5: services[1].name: starts with `.` or `-`
8: services[2].name: contains `/`, which a file name cannot contain
11: services[3].name: starts with `.` or `-`
14: services[4].name: starts with `.` or `-`
17: services[5].name: contains a control character
20: services[6].name: is empty
29: services[9].name: is longer than 200 bytes

"#]]
        .raw()
    );
    assert_data_eq!(
        mistakes(&service("web")),
        str![[r#"
4: services[0].kill: `always` is not one of `auto`, `never`

"#]]
        .raw()
    );
}

#[test]
fn outputs_are_paths_that_a_preparation_can_exchange() {
    let step = |after: &str, outputs: &str| {
        format!(
            "[[steps]]\nname = \"own-{after}\"\nafter = \"{after}\"\nrun = [\"x\"]\noutputs = {outputs}\n"
        )
    };
    let mut text = step("staged-tree", "[\"dist\", \"./made/x.mo\", \"/tmp\", \"../up\", \".\", \".git/x\"]");
    text += &step("collect", "[\"dist/inner\", \".deploykit\"]");
    text += &step("code", "[\"late\"]");
    text += "[[steps]]\nname = \"more\"\nafter = \"check\"\nrun = [\"x\"]\ncache = [\"dist\", \"/x\"]\nneeds-memory = \"4G\"\n";
    text += "[[steps]]\nname = \"last\"\nafter = \"code\"\nrun = [\"x\"]\nneeds-memory = 4\n";
    assert_data_eq!(
        mistakes(&text),
        str![[r#"
1: steps: output `dist` is inside cache `dist`
1: steps: output `dist/inner` is inside output `dist`
5: steps[0].outputs: `/tmp` is not a relative path inside the repository
5: steps[0].outputs: `../up` is not a relative path inside the repository
5: steps[0].outputs: `.` is not a relative path inside the repository
5: steps[0].outputs: `.git/x` is not a relative path inside the repository
10: steps[1].outputs: `.deploykit` would replace `/srv/site/.deploykit`
15: steps[2].outputs: only a step of the preparation can have `outputs`; this step runs in the checkout
20: steps[3].cache: `/x` is not a relative path inside the repository
21: steps[3].needs-memory: `4G` is not a size such as "4 GB": expected an integer and one of MB, GB, TB, MiB, GiB, TiB
26: steps[4].needs-memory: expected a size such as "4 GB", found an integer

"#]]
        .raw()
    );
}

#[test]
fn a_step_has_a_name_of_its_own() {
    let step = |name: &str| format!("[[steps]]\nname = \"{name}\"\nafter = \"code\"\nrun = [\"x\"]\n");
    let text = ["build", "migrate", "build"].map(step).concat();
    assert_data_eq!(
        mistakes(&text),
        str![[r#"
6: steps[1].name: `migrate` is a built-in step
10: steps[2].name: another step is named `build`

"#]]
        .raw()
    );
}

#[test]
fn types_and_values_are_checked() {
    assert_data_eq!(
        mistakes(
            "[git]\nbranch = 3\nremote = \"\"\nverify-signature = \"yes\"\ndeadline = 60\n\
             [smoke]\nbase = \"example.org\"\nconnect = \"unix:\"\ntimeout = \"fast\"\ncommands = [\"./check\"]\n\
             [secrets]\npattern = \"(\"\nrequired = [\"A\", 1]\n\
             [maintenance]\non = [\"maintenanceon\"]\nnotice = \"-5m\"\n\
             [hooks]\nafter-success = [[]]\n[logs]\nnginx = [\"a\"]\n"
        ),
        str![[r#"
2: git.branch: expected a string, found an integer
3: git.remote: is empty
4: git.verify-signature: expected a boolean, found a string
5: git.deadline: expected a duration such as "20m", found an integer
7: smoke.base: expected a URL that starts with `http://` or `https://`
8: smoke.connect: expected `HOST:PORT`, `unix:/PATH`, `uwsgi:HOST:PORT` or `uwsgi:unix:/PATH`, found `unix:`
9: smoke.timeout: `fast` is not a duration; write "30s", "20m", "1h 30m" or "7d"
10: smoke.commands: expected an array of strings such as ["./check"]
12: secrets.pattern: found open group without closing ')'
13: secrets.required: expected a string, found an integer
15: maintenance.on: `off` is missing: `off` undoes what `on` did
16: maintenance.notice: `-5m` is not a duration; write "30s", "20m", "1h 30m" or "7d"
18: hooks.after-success: expected an array of strings such as ["./check"]
20: logs.nginx: expected a string, found an array

"#]]
        .raw()
    );
    assert_data_eq!(
        mistakes("[site.x]\n[git]\n[git.branch]\n[[secrets]]\n"),
        str![[r#"
1: site.x: unknown key
3: git.branch: expected a string, found a table
4: secrets: expected a table, found an array

"#]]
        .raw()
    );
}

#[test]
fn the_pattern_for_secrets_has_a_group() {
    assert_data_eq!(
        mistakes("[secrets]\npattern = 'get_secret'\n"),
        str![[r#"
2: secrets.pattern: the pattern for secrets needs a group, `(…)`, around the name

"#]]
        .raw()
    );
}

#[test]
fn durations_are_written_as_people_write_them() {
    let notice =
        |text: &str| parsed(&format!("{LEAST}[maintenance]\nnotice = \"{text}\"\n")).maintenance.notice;
    for (text, seconds) in
        [("0s", 0), ("30s", 30), ("20m", 1200), ("1h 30m", 5400), ("1h30m", 5400), ("7d", 604_800)]
    {
        assert_eq!(notice(text), Duration::from_secs(seconds), "{text}");
    }
    for text in ["20", "m", "-1s", "1 fortnight", "1e9y"] {
        let text = format!("[maintenance]\nnotice = \"{text}\"");
        assert!(mistakes(&text).contains("is not a duration"), "{text}");
    }
}

#[test]
fn services_lack_nothing() {
    assert_data_eq!(
        mistakes(
            "[[services]]\n[[services]]\nname = \"a\"\nmanager = \"upstart\"\n[[services]]\nname = \"a\"\n\
             manager = \"supervisor\"\nrole = \"db\"\nsudo = true\n[[services]]\nname = \"b\"\nmanager = \"command\"\n\
             stop-timeout = \"x\"\npidfile = \"p\"\n[[services]]\nname = \"c\"\nmanager = \"gunicorn\"\n"
        ),
        str![[r#"
1: services[0].name: is missing
1: services[0].manager: is missing: `supervisor`, `systemd`, `command`, `gunicorn` or `uwsgi`
4: services[1].manager: `upstart` is not one of `supervisor`, `systemd`, `command`, `gunicorn`, `uwsgi`
5: services[2].config: is missing
6: services[2].name: there are two services named `a`
8: services[2].role: `db` is not one of `web`, `worker`, `timer`, `required`
9: services[2].sudo: only `manager = "command"` and `manager = "systemd"` run commands with sudo
10: services[3].start: is missing
10: services[3].status: is missing: a command that exits with 0 while the service runs
13: services[3].stop-timeout: `x` is not a duration; write "30s", "20m", "1h 30m" or "7d"
14: services[3].pidfile: unknown key
15: services[4].pidfile: is missing
15: services[4].start: is missing

"#]]
        .raw()
    );
    let error = parse_as(&format!("services = 3\nsteps = [1, \"x\"]\n{LEAST}"), None).unwrap_err();
    assert_data_eq!(
        error.to_string(),
        str![[r#"
/srv/site/deploykit.toml:1: `services`: expected an array, found an integer
/srv/site/deploykit.toml:2: `steps[0]`: expected a table, found an integer
/srv/site/deploykit.toml:2: `steps`: expected a table: [[steps]]
"#]]
        .raw()
    );
}

#[test]
fn steps_have_a_place_and_one_task() {
    assert_data_eq!(
        mistakes(
            "[[steps]]\nname = \"a\"\nafter = \"migrat\"\nmanage = [\"x\"]\n[[steps]]\nname = \"b\"\nafter = \"static\"\n\
             [[steps]]\nname = \"c\"\nafter = \"static\"\nmanage = [\"x\"]\nrun = [\"y\"]\n[[steps]]\nrun = [\"z\"]\n\
             [[steps]]\nname = \"d\"\nafter = \"finish\"\nrun = [\"z\"]\nprocess = true\nrehearse = true\n"
        ),
        str![[r#"
3: steps[0].after: `migrat` is not one of `staged-tree`, `staged-virtualenv`, `check`, `collect`, `stop-workers`, `page-up`, `stop-web`, `code`, `virtualenv`, `static`, `migrate`, `start-web`, `page-down`, `start-workers`, `finish`; did you mean `migrate`?
5: steps[1].run: expected either `manage = ["command"]` or `run = ["program"]`
12: steps[2].run: expected either `manage = ["command"]` or `run = ["program"]`
13: steps[3].name: is missing
13: steps[3].after: is missing
19: steps[4].process: `run` always starts a process of its own; only `manage` can have `process`
20: steps[4].rehearse: only a step that follows `static` or `migrate` is rehearsed

"#]].raw()
    );
}

#[test]
fn pages_and_the_page_fit_together() {
    assert_data_eq!(
        mistakes(
            "[smoke]\npages = [\"/\", 3, { status = 200 }, { path = \"/a/\", status = 700, txt = \"x\" }]\n"
        ),
        str![[r#"
2: smoke.pages: `base` is missing: the address that the paths belong to
2: smoke.pages[1]: expected a table, found an integer
2: smoke.pages[2].path: is missing
2: smoke.pages[3].status: `700` is not an integer from 100 to 599
2: smoke.pages[3].txt: unknown key

"#]]
        .raw()
    );
    assert_data_eq!(
        mistakes("[maintenance]\npage = \"www/m.html\"\n[smoke]\nbase = \"https://example.org\"\npages = [\"/\"]\n"),
        str![[r#"
2: maintenance.page: `smoke.connect` is missing: while the page is up, the public address answers 503; give the address that the application server listens on

"#]].raw()
    );
    assert_data_eq!(
        mistakes("[maintenance]\nstart-early = true\n"),
        str![[r#"
2: maintenance.start-early: `page` is missing: visitors must not reach the web before the migrations are done

"#]]
        .raw()
    );
    // Whole addresses need no base.
    parsed(&format!("{LEAST}[smoke]\npages = [\"https://example.org/\"]\n"));
}

#[test]
fn a_restore_command_needs_a_backup_command() {
    assert_data_eq!(
        mistakes("[database]\nrestore-command = [\"./put-back\"]\n"),
        str![[r#"
2: database.restore-command: `backup-command` is missing: it makes the copy that `restore-command` restores

"#]]
        .raw()
    );
}

#[test]
fn a_follower_cannot_wait_for_a_command_of_the_site() {
    let follower = "[environments.production.site]\nrole = \"follower\"\npause-limit = \"0s\"\n";
    assert_data_eq!(
        mistakes(&format!("{follower}[database]\nmigrate-command = [\"migrate_schemas\"]\n")),
        str![[r#"
3: site.pause-limit: expected at least "1s"
5: database.migrate-command: `site.role` is `follower`: what the command does is not known beforehand, so nothing tells when the leader has done it

"#]]
        .raw()
    );
}

#[test]
fn aliases_of_databases_are_named_once() {
    let text = "[database]\nmigrate = [\"default\", \"a/b\", \"default\"]\ndirect = { default = \"default\", events = \"x\" }\n";
    assert_data_eq!(
        mistakes(text),
        str![[r#"
2: database.migrate: `a/b` cannot be used in a file name: it is empty, starts with `.` or contains `/`
2: database.migrate: `default` is named twice
3: database.direct: `default` is in `migrate`: it would be migrated twice
3: database.direct: `events` is not in `migrate`

"#]]
        .raw()
    );
    let none = mistakes("[database]\nmigrate-command = []\n");
    assert!(
        none.contains("database.migrate-command: names no command; name one, or remove the key"),
        "{none}"
    );
    let none = mistakes("[database]\nmigrate = []\n");
    assert!(none.contains("names no database; without this key, `default` is migrated"), "{none}");
}

#[test]
fn ten_mistakes_are_shown_at_once() {
    let text = "environment = \"prod\"\n[site]\nproject = \"..\"\n[git]\nbranch = 1\nbranhc = \"x\"\n[python]\n\
                requirements = \"x.txt\"\ninstaller = \"conda\"\n[static]\ncollect = true\n[database]\nbackup = \"yes\"\n\
                [[services]]\nname = \"a\"\n[smoke]\nbase = 1\n";
    let error = parse_as(text, None).unwrap_err().to_string();
    assert_data_eq!(error, str![[r#"
/srv/site/deploykit.toml:1: `environment`: `prod` is not one of `production`, `staging`, `development`
/srv/site/deploykit.toml:2: `site.settings`: is missing: the site's DJANGO_SETTINGS_MODULE, such as "config.settings"
/srv/site/deploykit.toml:3: `site.project`: is not inside the repository `/srv/site`
/srv/site/deploykit.toml:5: `git.branch`: expected a string, found an integer
/srv/site/deploykit.toml:6: `git.branhc`: unknown key; did you mean `branch`?
/srv/site/deploykit.toml:7: `python.virtualenv`: is missing: the directory of the site's virtualenv
/srv/site/deploykit.toml:8: `python.requirements`: expected an array of strings, found a string
/srv/site/deploykit.toml:9: `python.installer`: `conda` is not one of `auto`, `pip`, `uv`
/srv/site/deploykit.toml:11: `static.collect`: expected a string, found a boolean
/srv/site/deploykit.toml:13: `database.backup`: `yes` is not one of `auto`, `always`, `never`
/srv/site/deploykit.toml:14: `services[0].manager`: is missing: `supervisor`, `systemd`, `command`, `gunicorn` or `uwsgi`
/srv/site/deploykit.toml:17: `smoke.base`: expected a string, found an integer
"#]].raw());
}

#[test]
fn packages_come_from_requirements_or_from_a_lock() {
    let problems = |keys: &str| {
        let text = format!("[site]\nsettings = \"x\"\n[python]\nvirtualenv = \"venv\"\n{keys}\n");
        parse_as(&text, None).map(|_| ()).map_err(|error| error.to_string())
    };
    problems("lock = \"uv.lock\"\ngroups = [\"prod\"]\nextras = [\"x\"]\nproject = \"backend\"").unwrap();
    problems("lock = \"locks/pylock.prod.toml\"").unwrap();
    assert_data_eq!(
        problems("requirements = [\"r.txt\"]\nlock = \"poetry.lock\"").unwrap_err(),
        str![[r#"
/srv/site/deploykit.toml:5: `python.requirements`: `lock` is set too: packages come from one of them
/srv/site/deploykit.toml:6: `python.lock`: `requirements` is set too: packages come from one of them
"#]]
        .raw()
    );
    assert_data_eq!(
        problems("groups = [\"prod\"]\nextras = [\"x\"]\nproject = \"backend\"").unwrap_err(),
        str![[r#"
/srv/site/deploykit.toml:5: `python.groups`: cannot be used without `lock`
/srv/site/deploykit.toml:6: `python.extras`: cannot be used without `lock`
/srv/site/deploykit.toml:7: `python.project`: cannot be used without `lock`
"#]]
        .raw()
    );
    assert_data_eq!(
        problems("lock = \"requirements.lock\"").unwrap_err(),
        str![[r#"
/srv/site/deploykit.toml:5: `python.lock`: `/srv/site/requirements.lock` is not named as a lock file: expected `uv.lock`, `poetry.lock`, `pdm.lock`, `Pipfile.lock`, `pylock.toml`, `pylock.*.toml`
"#]]
        .raw()
    );
}

#[test]
fn what_is_no_toml_is_shown_by_its_line() {
    let text = format!("{LEAST}[git\nbranch = \"main\nremote = = \"x\"\n");
    let error = parse_as(&text, None).unwrap_err().to_string();
    assert_data_eq!(
        error,
        str![[r#"
/srv/site/deploykit.toml:5: unclosed table, expected `]`
/srv/site/deploykit.toml:7: extra `=`, expected nothing
/srv/site/deploykit.toml:7: unexpected key or value, expected newline, `#`
"#]]
        .raw()
    );
}

#[test]
fn the_environment_is_one_of_three() {
    let error = parse_as(LEAST, Some("prod")).unwrap_err().to_string();
    assert_data_eq!(error, str!["/srv/site/deploykit.toml:1: there is no environment `prod`: expected `production`, `staging` or `development`"].raw());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text: String) {
        let _ = parse_as(&text, None);
    }

    /// Lines that are there with others in their place reach deeper than any text.
    #[test]
    fn no_mixture_of_keys_and_values_makes_it_panic(
        lines in proptest::collection::vec(
            (proptest::sample::select(EVERYTHING.lines().collect::<Vec<_>>()), any::<proptest::sample::Index>(), any::<bool>()),
            0..20,
        ),
        environment in proptest::sample::select(vec![None, Some("staging"), Some("development")]),
    ) {
        let all: Vec<&str> = EVERYTHING.lines().collect();
        let text: String = lines.iter().map(|(line, other, swap)| {
            match (line.split_once(" = "), other.get(&all).split_once(" = ")) {
                (Some((key, _)), Some((_, value))) if *swap => format!("{key} = {value}\n"),
                _ => format!("{line}\n"),
            }
        }).collect();
        if let Err(ConfigError::Invalid(mistakes)) = parse_as(&text, environment) {
            prop_assert!(!mistakes.problems.is_empty());
            for problem in &mistakes.problems {
                prop_assert!(problem.span.end <= text.len(), "{problem:?}");
                prop_assert!(mistakes.line(problem) >= 1);
            }
        }
    }
}
