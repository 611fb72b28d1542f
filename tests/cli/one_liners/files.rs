//! Commands that write a file, and those that need none.

use super::*;

pub fn secrets(site: &TestSite) {
    let set = |name: &str| on(site, &["secrets", "set", name]);
    assert_data_eq!(
        said(site, &["secrets", "check"]),
        str![[r#"
exit code 0
--- stdout
nothing is missing

"#]]
        .raw()
    );
    fs::set_permissions(&site.secrets, fs::Permissions::from_mode(0o640)).unwrap();
    assert_data_eq!(
        set("API_TOKEN").input("a \"token\"\n").run().text(Some(site)),
        str![[r#"
exit code 0
--- stdout
API_TOKEN is set in /srv/site/secrets.json

"#]]
        .raw()
    );
    let text = fs::read_to_string(&site.secrets).unwrap();
    assert_data_eq!(
        &text,
        str![[r#"
{
    "SECRET_KEY": "not-so-secret-but-long-enough-for-a-demo-0123456789",
    "API_TOKEN": "a \"token\""
}

"#]]
        .raw()
    );
    assert_eq!(fs::metadata(&site.secrets).unwrap().permissions().mode() & 0o777, 0o640);
    assert_data_eq!(
        set("API_TOKEN").input("").run().text(Some(site)),
        str![[r#"
exit code 2
--- stderr
Error: no value for `API_TOKEN`: nothing was written

"#]]
        .raw()
    );
    assert_eq!(fs::read_to_string(&site.secrets).unwrap(), text);
    let answer = on(site, &["secrets", "set", "API_TOKEN", "--json"]).input("another").run().expect(0);
    assert_documented("secrets-set", &answer.json());
    document(site, "secrets-check", &["secrets", "check"]);
    // On a terminal it is asked for, and not shown.
    let Some(mut terminal) = set("API_TOKEN").on_terminal() else { return };
    terminal.wait_for("Value of API_TOKEN");
    terminal.type_in("never-shown\n");
    let done = terminal.finish().expect(0);
    assert!(!done.stdout.contains("never-shown"), "{}", done.stdout);
    assert!(fs::read_to_string(&site.secrets).unwrap().contains("\"API_TOKEN\": \"never-shown\""));
}

pub fn init(site: &TestSite) {
    assert_data_eq!(
        said(site, &["init"]),
        str![[r#"
exit code 4
--- stderr
Error: there is a configuration already: `/srv/site/deploykit.toml`
Hint: run `deploykit init --check` to compare it with the site, or `deploykit init --print` to see what `init` would write

"#]]
        .raw()
    );
    let old = fs::read_to_string(&site.config).unwrap();
    fs::remove_file(&site.config).unwrap();
    let printed = document(site, "init-print", &["init", "--print"]);
    assert!(!site.config.exists());
    let wrote = on(site, &["init"]).run().expect(0);
    assert_data_eq!(
        wrote.text(Some(site)),
        str![[r#"
exit code 0
--- stdout
Wrote /srv/site/deploykit.toml
Read it through, then look at what an update would do: deploykit plan
--- stderr
Booting Django once to read its settings

"#]]
        .raw()
    );
    assert_eq!(fs::read_to_string(&site.config).unwrap(), printed["configuration"].as_str().unwrap());
    // What is needed beside it is in the environment of whoever calls.
    let data = site.root.join("data").display().to_string();
    let plan = on(site, &["plan"]).env("DEMO_DATA", &data).run();
    assert_data_eq!(
        plan.text(Some(site)),
        str![[r#"
exit code 0
--- stdout
Nothing to do: the code, the packages, the static files and the database are as they must be.
`/srv/site/secrets.json` has changed since [TIME]; services read it when they start.
Hint: make the services read the files: `deploykit services restart`
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  [COMMIT] is the newest
  ✓ services [S] s  gunicorn running, worker running
  ✓ pages [S] s  1 of 1 answer as expected
  ✓ staged-tree [S] s
  ✓ secrets [S] s  1 required secret found
  ✓ staged-virtualenv [S] s  the installed packages are the 5 that the requirements ask for
  ✓ check [S] s  Django [VERSION] boots, no errors
  ✓ migrations [S] s  none pending
  ✓ collect [S] s  nothing changes

"#]]
        .raw()
    );
    let written = fs::read_to_string(&site.config).unwrap();
    fs::remove_file(&site.config).unwrap();
    let elsewhere = on(site, &["init", "--files-only", "-c", "none/deploykit.toml"]).run().expect(4).stderr;
    let hint = format!("\nHint: create the directory first: `mkdir -p {}/none`", site.checkout.display());
    assert!(elsewhere.contains(&hint), "{elsewhere}");
    document(site, "init", &["init"]);
    compared(site, &written);
    fs::write(&site.config, old).unwrap();
}

/// What the configuration says otherwise than the site is named, and what is open in it.
fn compared(site: &TestSite, written: &str) {
    let data = site.root.join("data").display().to_string();
    let check = || on(site, &["init", "--check", "--exit-code"]).env("DEMO_DATA", &data).run();
    assert_data_eq!(
        check().text(Some(site)),
        str![[r#"
exit code 0
--- stdout
/srv/site/deploykit.toml: no differences from what was found on the site.
--- stderr
Booting Django once to read its settings

"#]]
        .raw()
    );
    assert_data_eq!(
        said(site, &["init", "--check", "--files-only"]),
        str![[r#"
exit code 0
--- stdout
Note: Django, the services and the pages were not asked: `--files-only`
/srv/site/deploykit.toml: no differences from what was found on the site; what was not asked was not compared.

"#]]
        .raw()
    );
    let (start, rest) = written.split_once("[[services]]").unwrap();
    let without_the_first = &rest[rest.find("[[services]]").unwrap()..];
    let changed = format!("{start}{without_the_first}").replace("pages = [\"/\"]", "pages = [\"/none/\"]");
    let open = changed.replace("[smoke]\n", "[smoke]\n# NEEDS A PERSON: which pages\n#   must work?\n");
    fs::write(&site.config, open.replace("branch = \"main\"", "branch = \"old\"")).unwrap();
    assert_data_eq!(
        check().text(Some(site)),
        str![[r#"
exit code 10
--- stdout
git.branch: the file has `old`, found `main` (the branch that is checked out)
services.gunicorn: the file lacks this service: web of supervisor (../supervisor.conf)
smoke.pages: the file has `/none/`: expected status 200, got 404 ("Not Found")
Needs a person: `smoke.base`: which pages must work?
  at /srv/site/deploykit.toml:42
--- stderr
Booting Django once to read its settings

"#]]
        .raw()
    );
    // Settings that do not boot differ from those found, too.
    let module = written.split("settings = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    fs::write(&site.config, written.replace(&format!("\"{module}\""), "\"config.none\"")).unwrap();
    let done = check().expect(10);
    let difference = format!("site.settings: the file has `config.none`, found `{module}` (");
    assert!(done.stdout.starts_with(&difference), "{}", done.stdout);
    assert!(done.stdout.contains("\nNote: Django was not asked: "), "{}", done.stdout);
    fs::write(&site.config, open.replace("branch = \"main\"", "branch = \"old\"")).unwrap();
    let document = on(site, &["init", "--check", "--json"]).env("DEMO_DATA", &data).run().expect(0);
    assert_documented("init-check", &document.json());
    let without = |word: &str, text: &str| -> String {
        text.lines().filter(|line| !line.starts_with(word)).map(|line| format!("{line}\n")).collect()
    };
    let plan = || on(site, &["plan"]).env("DEMO_DATA", &data).run();
    fs::write(&site.config, &open).unwrap();
    assert_data_eq!(
        plan().text(Some(site)),
        str![[r#"
exit code 4
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  [COMMIT] is the newest
  ✗ services [S] s

Error: step `services` failed: `smoke.pages` are to be checked, and no service has `role = "web"`
Nothing was changed: [COMMIT] is still the live version.
Hint: write `role = "web"` into the `[[services]]` table of the service that answers requests; without a `role` it is a worker
Hint: answer `smoke.base` in /srv/site/deploykit.toml:42: which pages must work?

"#]]
        .raw()
    );
    fs::write(&site.config, without("pages = ", &without("requirements = ", &open))).unwrap();
    assert_data_eq!(
        plan().text(Some(site)),
        str![[r#"
exit code 0
--- stdout
Nothing to do: the code, the packages, the static files and the database are as they must be.
`/srv/site/secrets.json` has changed since [TIME]; services read it when they start.
Hint: make the services read the files: `deploykit services restart`
Needs a person: `smoke.base`: which pages must work?
  at /srv/site/deploykit.toml:41
Warning: no service has the role `web`: the program that serves the site is not restarted and keeps running the old code.
Warning: [smoke] has no page and no command: whether the new version works is not checked.
Warning: [python] has neither `requirements` nor `lock`: packages are left as they are.
--- stderr
Preparing; the site serves as before
  ✓ fetch [S] s  [COMMIT] is the newest
  ✓ services [S] s  worker running
  ✓ pages [S] s  no pages are configured
  ✓ staged-tree [S] s
  ✓ secrets [S] s  1 required secret found
  ✓ staged-virtualenv [S] s  no requirements are configured
  ✓ check [S] s  Django [VERSION] boots, no errors
  ✓ migrations [S] s  none pending
  ✓ collect [S] s  nothing changes

"#]]
        .raw()
    );
}

/// The operations of a checkout and a virtualenv that nobody wrote a configuration for.
pub fn without_a_configuration(site: &TestSite) {
    releases::publish_good(site, "good");
    let away = |args: &[&str]| -> Cli {
        let cli = deploykit("/", args);
        site.environment().iter().fold(cli, |cli, (name, value)| cli.env(name, value))
    };
    let checkout = site.checkout.display().to_string();
    let update = ["git-update", "--repository", &checkout, "--branch", "main"];
    let text = |done: Done| done.text(Some(site));
    assert_data_eq!(
        text(away(&[&update[..], &["--check"]].concat()).run()),
        str![[r#"
exit code 0
--- stdout
git-update: [COMMIT] → [COMMIT]: 1 new commit on origin/main
  [COMMIT] Release good

"#]]
        .raw()
    );
    let asked = [&update[..], &["--check", "--exit-code"]].concat();
    away(&asked).run().expect(10);
    let done = away(&[&update[..], &["--json"]].concat()).run().expect(0);
    assert_documented("done", &done.json());
    assert_data_eq!(
        text(away(&update).run()),
        str![[r#"
exit code 0
--- stdout
git-update: nothing to do: no new commits on origin/main

"#]]
        .raw()
    );
    away(&asked).run().expect(0);
    assert_data_eq!(
        text(away(&["git-update", "--repository", "/"]).run()),
        str![[r#"
exit code 4
--- stderr
Error: `/` is not the top of a Git checkout
Hint: set `--repository` to the directory that holds `.git`

"#]]
        .raw()
    );
    let requirements = site.checkout.join("requirements/production.txt").display().to_string();
    let virtualenv = site.virtualenv.display().to_string();
    let install = ["pip-install", "--virtualenv", &virtualenv, "-r", &requirements];
    assert_data_eq!(
        text(away(&install).run()),
        str![[r#"
exit code 0
--- stdout
pip-install: nothing to do: the installed packages are the 5 that the requirements ask for

"#]]
        .raw()
    );
    let installed = support::site::demo_site::run(
        site.command(site.virtualenv.join("bin/python")).args(["-m", "pip", "freeze"]),
    )
    .unwrap();
    let locked = installed.lines().map(|line| {
        let (name, version) = line.split_once("==").unwrap();
        let hash = "0".repeat(64);
        format!("[[packages]]\nname = {name:?}\nversion = {version:?}\nwheels = [{{ hashes = {{ sha256 = {hash:?} }} }}]\n")
    });
    let lock = site.root.join("pylock.toml");
    fs::write(&lock, format!("lock-version = \"1.0\"\n{}", locked.collect::<String>())).unwrap();
    let lock = lock.display().to_string();
    let install = ["pip-install", "--virtualenv", &virtualenv, "--lock", &lock];
    assert_data_eq!(
        text(away(&install).run()),
        str![[r#"
exit code 0
--- stdout
pip-install: nothing to do: the installed packages are the 5 of `pylock.toml`

"#]]
        .raw()
    );
    assert_data_eq!(
        text(away(&[&install[..], &["--group", "prod"]].concat()).run()),
        str![[r#"
exit code 4
--- stderr
Error: `/srv/pylock.toml` has no group `prod`: it has none

"#]]
        .raw()
    );
    let more = site.root.join("more.txt");
    let names = fs::read_to_string(&requirements).unwrap();
    fs::write(&more, format!("{names}\nhumanize\n").replace("-r ", &format!("-r {checkout}/requirements/")))
        .unwrap();
    let more = more.display().to_string();
    let install = ["pip-install", "--virtualenv", &virtualenv, "-r", &more, "--installer", "uv"];
    let own = support::tools().join("venv/bin").display().to_string();
    let path = format!("{own}:{}", std::env::var("PATH").unwrap());
    let with_uv = |args: &[&str]| away(&[&install[..], args].concat()).env("PATH", &path).run();
    assert_data_eq!(
        text(with_uv(&["--check"])),
        str![[r#"
exit code 0
--- stdout
pip-install: + humanize [VERSION]
  + humanize [VERSION]

"#]]
        .raw()
    );
    with_uv(&["--check", "--exit-code"]).expect(10);
    assert_data_eq!(
        text(with_uv(&[])),
        str![[r#"
exit code 0
--- stdout
pip-install: + humanize [VERSION]
  + humanize [VERSION]

"#]]
        .raw()
    );
    let python = site.virtualenv.join("bin/python");
    assert!(Command::new(python).args(["-c", "import humanize"]).status().unwrap().success());
}
