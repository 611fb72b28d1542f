//! Private indexes, constraints and hashes, with requirements files and with each kind of lock, with real pip and uv.

use std::os::unix::fs::PermissionsExt;

use deploykit::errors::LockFileError;
use deploykit::operations::pip_install::Lock;
use serde_json::{Value, json};

use super::*;

/// The index wants it; no file that stays may hold it, in whatever way it is written.
const PASSWORD: &str = "hunter@22";

/// A site whose packages are in a private index only.
struct Private {
    site: PythonSite,
    index: Index,
    /// Without packages.
    public: Index,
    hash: String,
}

impl Private {
    fn new() -> Self {
        let site = PythonSite::new();
        for version in ["1.0", "1.5", "2.0"] {
            site.wheel("alpha", version, &[]);
        }
        site.install_by_hand(&["alpha==1.0"]);
        let file = site.wheels.join("alpha-2.0-py3-none-any.whl");
        let hash =
            run(std::process::Command::new("sha256sum").arg(&file)).split(' ').next().unwrap().to_owned();
        let path = |name: &str| site.directory.path().join(name);
        fs::create_dir_all(path("home")).unwrap();
        fs::create_dir_all(path("bin")).unwrap();
        fs::write(path("home/.netrc"), format!("machine 127.0.0.1 login me password {PASSWORD}\n")).unwrap();
        let keyring = format!("#!/bin/sh\n[ \"$1 $3\" = 'get me' ] && echo '{PASSWORD}'\n");
        fs::write(path("bin/keyring"), keyring).unwrap();
        fs::set_permissions(path("bin/keyring"), fs::Permissions::from_mode(0o755)).unwrap();
        let index = Index::private(vec![site.wheels.clone()], "me", PASSWORD);
        Private { index, public: Index::serve(Vec::new()), site, hash }
    }

    fn path(&self, name: &str) -> String {
        self.site.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// Returns the address of the private index, for `me` or `me:password`.
    fn url_of(&self, person: &str) -> String {
        self.index.url.replace("://", &format!("://{}@", person.replace(PASSWORD, "hunter%4022")))
    }

    fn url(&self) -> String {
        self.url_of(&format!("me:{PASSWORD}"))
    }

    fn host(&self, variables: &[(&str, String)]) -> Host {
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.site.host_with(&variables)
    }

    /// Returns variables that make `keyring` known.
    fn keyring(&self) -> Vec<(&'static str, String)> {
        let uv = self.site.uv.as_deref().and_then(Path::parent).map(|path| path.display().to_string());
        let path = format!("{}:{}:/usr/bin:/bin", self.path("bin"), uv.unwrap_or_default());
        let provider = "subprocess".to_owned();
        vec![("PATH", path), ("PIP_KEYRING_PROVIDER", provider.clone()), ("UV_KEYRING_PROVIDER", provider)]
    }

    /// Returns variables that tell pip and uv of an index.
    fn told(&self, url: &str) -> Vec<(&'static str, String)> {
        vec![("PIP_INDEX_URL", url.to_owned()), ("UV_DEFAULT_INDEX", url.to_owned())]
    }

    fn netrc(&self) -> Vec<(&'static str, String)> {
        vec![("HOME", self.path("home"))]
    }

    /// Updates the packages, looks for the password in all that stays, and undoes it.
    fn update(&self, what: &str, operation: &PipInstall, host: &Host, expected: &str) {
        let what = format!("{what}, {:?}", operation.installer);
        let check =
            operation.check(host).unwrap_or_else(|error| panic!("{what}: {error} {:?}", error.tail()));
        let Check::Change(change) = &check else { panic!("{what}: {check:?}") };
        let mut context = Context::from(host.clone());
        operations::perform(change, &mut context).unwrap_or_else(|error| {
            panic!("{what}: {} {}", deploykit::error_chain(&error), self.site.transcript())
        });
        assert_eq!(self.site.live("alpha", &[]), format!("alpha {expected}"), "{what}");
        let Action::BuildVirtualenv(build) = &change.actions[0] else { panic!("{what}: {change:?}") };
        let marker = fs::read_to_string(build.staged.join(".deploykit-complete")).unwrap();
        for kept in [serde_json::to_string(change).unwrap(), marker, self.site.transcript()] {
            assert!(!kept.contains("hunter"), "{what}: {kept}");
        }
        operations::undo(change, &mut context).unwrap();
        fs::remove_dir_all(&self.site.virtualenvs).unwrap();
    }

    /// Updates the packages, or where pip takes long and does the same in a plan, only plans to.
    fn find(&self, what: &str, operation: &PipInstall, host: &Host, expected: &str) {
        if operation.installer == Installer::Uv {
            return self.update(what, operation, host, expected);
        }
        let planned =
            operation.plan(host).unwrap_or_else(|error| panic!("{what}: {error} {:?}", error.tail()));
        let Prepared::Upgrade(upgrade) = &planned else { panic!("{what}: {planned:?}") };
        assert_eq!(upgrade.build.packages.get("alpha").unwrap().version, expected, "{what}");
        for kept in [format!("{planned:?}"), self.site.transcript()] {
            assert!(!kept.contains("hunter"), "{what}: {kept}");
        }
    }

    fn failure(&self, operation: &PipInstall, host: &Host) -> PythonError {
        let error = operation.build(host).unwrap_err();
        let said = format!("{error} {error:?} {:?} {}", error.tail(), self.site.transcript());
        assert!(!said.contains("hunter"), "{said}");
        error
    }
}

#[test]
fn requirements_find_a_private_index_by_each_way_that_pip_and_uv_know() {
    let private = Private::new();
    let url = private.url();
    fs::write(private.path("pip.conf"), format!("[global]\nindex-url = {url}\n")).unwrap();
    fs::write(private.path("uv.toml"), format!("index-url = \"{url}\"\n")).unwrap();
    let of_index = |url: &str| format!("--index-url {url}\nalpha\n");
    let (plain, user) = (private.index.url.clone(), private.url_of("me"));
    let settings = vec![
        ("PIP_CONFIG_FILE", private.path("pip.conf")),
        ("UV_CONFIG_FILE", private.path("uv.toml")),
        ("UV_NO_CONFIG", "false".to_owned()),
    ];
    let extra = vec![("PIP_EXTRA_INDEX_URL", url.clone()), ("UV_EXTRA_INDEX_URL", url.clone())];
    let former = vec![("PIP_INDEX_URL", url.clone()), ("UV_INDEX_URL", url.clone())];
    let cases = [
        ("the URL", of_index(&url), vec![], vec![]),
        ("netrc of the home directory", of_index(&plain), private.netrc(), vec![]),
        ("NETRC", of_index(&plain), vec![("NETRC", private.path("home/.netrc"))], vec![]),
        ("keyring", of_index(&user), private.keyring(), vec![]),
        (
            "keyring, with a variable",
            "alpha\n".into(),
            [private.told(&user), private.keyring()].concat(),
            vec![],
        ),
        (
            "keyring, with an argument",
            of_index(&user),
            private.keyring()[..1].to_vec(),
            vec!["--keyring-provider", "subprocess"],
        ),
        ("variables", "alpha\n".into(), private.told(&url), vec![]),
        ("former variables", "alpha\n".into(), former, vec![]),
        ("one more index", "alpha\n".into(), [private.told(&private.public.url), extra].concat(), vec![]),
        ("files of settings", "alpha\n".into(), settings, vec![]),
        ("arguments", "alpha\n".into(), private.netrc(), vec!["--index-url", &plain]),
    ];
    for (what, requirements, variables, extra_args) in cases {
        private.site.requirements(&requirements);
        let extra_args: Vec<String> = extra_args.into_iter().map(str::to_owned).collect();
        for (installer, _) in tools() {
            let operation =
                PipInstall { extra_args: extra_args.clone(), ..operation(&private.site, installer) };
            private.find(what, &operation, &private.host(&variables), "2.0");
        }
    }
    // Settings of uv that name no index leave the packages to pip, if only pip knows an index.
    private.site.requirements("alpha\n");
    let manifest = private.site.checkout.join("pyproject.toml");
    fs::write(&manifest, "[tool.uv]\npackage = false\n").unwrap();
    let host = private.host(&[("PIP_INDEX_URL", private.url())]);
    private.find("an index of pip", &operation(&private.site, Installer::Auto), &host, "2.0");
    fs::remove_file(manifest).unwrap();
    // Without the password.
    private.site.requirements(&format!("{}==2.0\n", of_index(&plain).trim_end()));
    for (installer, tool) in tools() {
        let error = private.failure(&operation(&private.site, installer), &private.host(&[]));
        let PythonError::AccessRefused { url, status, .. } = &error else { panic!("{tool:?}: {error:?}") };
        assert!(url.starts_with(&private.index.url), "{url}");
        assert_eq!(status, "401 Unauthorized");
        // The index refuses what it allowed while the packages were resolved.
        let operation = operation(&private.site, installer);
        let Prepared::Upgrade(upgrade) = operation.plan(&private.host(&private.netrc())).unwrap() else {
            panic!("{tool:?}")
        };
        let error = upgrade.build(&private.host(&[])).unwrap_err();
        assert!(matches!(error, PythonError::AccessRefused { .. }), "{tool:?}: {error:?}");
    }
}

#[test]
fn constraints_and_hashes_hold_wherever_they_are_demanded() {
    let private = Private::new();
    let site = &private.site;
    let constraints = site.checkout.join("constraints.txt");
    fs::write(&constraints, "alpha<2\n").unwrap();
    let named = constraints.to_str().unwrap().to_owned();
    let variables = vec![("PIP_CONSTRAINT", named.clone()), ("UV_CONSTRAINT", named)];
    let demands = vec![("PIP_REQUIRE_HASHES", "1".to_owned()), ("UV_REQUIRE_HASHES", "1".to_owned())];
    let hashed = format!("alpha==2.0 --hash=sha256:{}\n", private.hash);
    let cases = [
        ("a file's constraints", "-c constraints.txt\nalpha\n".to_owned(), vec![], vec![], "1.5"),
        ("constraints in variables", "alpha\n".to_owned(), variables, vec![], "1.5"),
        ("constraints in arguments", "alpha\n".to_owned(), vec![], vec!["-c", "constraints.txt"], "1.5"),
        ("hashes demanded by arguments", hashed.clone(), vec![], vec!["--require-hashes"], "2.0"),
        ("hashes demanded by variables", hashed, demands.clone(), vec![], "2.0"),
    ];
    for (what, requirements, variables, extra_args, expected) in cases {
        site.requirements(&requirements);
        let extra_args: Vec<String> = extra_args.into_iter().map(str::to_owned).collect();
        let host = private.host(&[private.told(&private.url()), variables].concat());
        for (installer, _) in tools() {
            let operation = PipInstall { extra_args: extra_args.clone(), ..operation(site, installer) };
            private.find(what, &operation, &host, expected);
        }
    }
    site.requirements("alpha==2.0\n");
    for (installer, tool) in tools() {
        let strict = PipInstall { extra_args: vec!["--require-hashes".into()], ..operation(site, installer) };
        let error = private.failure(&strict, &private.host(&private.told(&private.url())));
        assert!(error.tail().join("\n").contains("hash"), "{tool:?}: {error} {:?}", error.tail());
    }
}

/// Returns what Python's JSON of a value hashes to, by which Poetry, PDM and Pipenv know their lock again.
fn content_hash(content: &Value, separators: &str) -> String {
    let code = "import hashlib, json, sys; value = json.loads(sys.argv[1]); \
                text = json.dumps(value, sort_keys=True, separators=json.loads(sys.argv[2])); \
                print(hashlib.sha256(text.encode()).hexdigest())";
    let (content, mut python) = (content.to_string(), std::process::Command::new("python3"));
    run(python.args(["-c", code, &content, separators])).trim().to_owned()
}

const SPACED: &str = r#"[", ", ": "]"#;
const COMPACT: &str = r#"[",", ":"]"#;

impl Private {
    /// Writes a lock that has `alpha` from the private index, as the tool writes it.
    fn lock(&self, name: &str) -> Lock {
        let directory = self.site.checkout.join(name.trim_end_matches(".lock"));
        fs::create_dir_all(&directory).unwrap();
        let write = |file: &str, text: String| fs::write(directory.join(file), text).unwrap();
        let project = "[project]\nname = \"site\"\nversion = \"1\"\nrequires-python = \">=3.8\"\ndependencies = [\"alpha\"]\n";
        let (plain, hash) = (&self.index.url, &self.hash);
        let wheel = "alpha-2.0-py3-none-any.whl";
        let files = format!("files = [{{ file = \"{wheel}\", hash = \"sha256:{hash}\" }}]\n");
        let written = plain.replace("://", "://${CORP_USER}:${CORP_PASSWORD}@");
        match name {
            "uv.lock" => {
                let index =
                    format!("[[tool.uv.index]]\nname = \"corp-index\"\nurl = \"{plain}\"\ndefault = true\n");
                write("pyproject.toml", format!("{project}\n{index}"));
                let uv = deploykit::Command::new(program("uv").unwrap()).args(["lock", "-q"]);
                let host =
                    self.host(&[self.own("uv.lock"), vec![("UV_NO_CONFIG", "false".to_owned())]].concat());
                host.run(&uv.directory(&directory).with_site_variables()).unwrap();
            }
            "poetry.lock" => {
                let source = json!([{ "name": "corp-index", "url": plain, "priority": "primary" }]);
                let table = format!(
                    "[[tool.poetry.source]]\nname = \"corp-index\"\nurl = \"{plain}\"\npriority = \"primary\"\n"
                );
                write("pyproject.toml", format!("{project}\n{table}"));
                let content = json!({
                    "project": { "requires-python": ">=3.8", "dependencies": ["alpha"] },
                    "tool": { "poetry": { "source": source } },
                });
                let hash = content_hash(&content, SPACED);
                let package =
                    format!("[[package]]\nname = \"alpha\"\nversion = \"2.0\"\ngroups = [\"main\"]\n{files}");
                let source = format!(
                    "[package.source]\ntype = \"legacy\"\nurl = \"{plain}\"\nreference = \"corp-index\"\n"
                );
                let metadata = format!(
                    "[metadata]\nlock-version = \"2.1\"\npython-versions = \">=3.8\"\ncontent-hash = \"{hash}\"\n"
                );
                write("poetry.lock", format!("{package}\n{source}\n{metadata}"));
            }
            "pdm.lock" => {
                let table = format!(
                    "[[tool.pdm.source]]\nname = \"pypi\"\nurl = \"{}\"\n\n[[tool.pdm.source]]\nname = \"corp-index\"\nurl = \"{written}\"\n",
                    self.public.url
                );
                write("pyproject.toml", format!("{project}\n{table}"));
                let content = json!({
                    "sources": [{ "name": "pypi", "url": self.public.url }, { "name": "corp-index", "url": written }],
                    "dependencies": ["alpha"],
                    "dev-dependencies": {},
                    "optional-dependencies": {},
                    "requires-python": ">=3.8",
                    "resolution": {},
                });
                let hash = content_hash(&content, SPACED);
                let metadata = format!(
                    "[metadata]\ngroups = [\"default\"]\nstrategy = [\"inherit_metadata\"]\nlock_version = \"4.5.0\"\ncontent_hash = \"sha256:{hash}\"\n"
                );
                let package = format!(
                    "[[package]]\nname = \"alpha\"\nversion = \"2.0\"\ngroups = [\"default\"]\n{files}"
                );
                write("pdm.lock", format!("{metadata}\n{package}"));
            }
            "Pipfile.lock" => {
                let sources = json!([{ "name": "corp-index", "url": written, "verify_ssl": false }]);
                write(
                    "Pipfile",
                    format!(
                        "[[source]]\nname = \"corp-index\"\nurl = \"{written}\"\nverify_ssl = false\n\n[packages]\nalpha = {{ version = \"*\", index = \"corp-index\" }}\n"
                    ),
                );
                let content = json!({
                    "_meta": { "sources": sources, "requires": {} },
                    "default": { "alpha": { "version": "*", "index": "corp-index" } },
                    "develop": {},
                });
                let lock = json!({
                    "_meta": { "hash": { "sha256": content_hash(&content, COMPACT) }, "pipfile-spec": 6, "requires": {}, "sources": sources },
                    "default": { "alpha": { "hashes": [format!("sha256:{hash}")], "index": "corp-index", "version": "==2.0" } },
                    "develop": {},
                });
                write("Pipfile.lock", lock.to_string());
            }
            _ => write(
                "pylock.toml",
                format!(
                    "lock-version = \"1.0\"\ncreated-by = \"test\"\n\n[[packages]]\nname = \"alpha\"\nversion = \"2.0\"\nindex = \"{plain}\"\nwheels = [{{ name = \"{wheel}\", url = \"https://files.example/{wheel}\", hashes = {{ sha256 = \"{hash}\" }} }}]\n"
                ),
            ),
        }
        Lock::new(directory.join(name))
    }

    /// Returns the variables in which the tool of a lock looks for a user and a password.
    fn own(&self, name: &str) -> Vec<(&'static str, String)> {
        let [user, password] = match name {
            "uv.lock" => ["UV_INDEX_CORP_INDEX_USERNAME", "UV_INDEX_CORP_INDEX_PASSWORD"],
            "poetry.lock" => {
                ["POETRY_HTTP_BASIC_CORP_INDEX_USERNAME", "POETRY_HTTP_BASIC_CORP_INDEX_PASSWORD"]
            }
            "pdm.lock" | "Pipfile.lock" => ["CORP_USER", "CORP_PASSWORD"],
            _ => return self.netrc(),
        };
        vec![(user, "me".to_owned()), (password, PASSWORD.to_owned())]
    }
}

#[test]
fn each_lock_finds_its_private_index_with_the_variables_of_its_tool_and_the_installer_s() {
    if program("uv").is_none() {
        return;
    }
    let private = Private::new();
    for name in ["uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml"] {
        let lock = private.lock(name);
        private.site.transcript();
        for (installer, _) in tools() {
            let operation = PipInstall { wanted: lock.clone().into(), ..operation(&private.site, installer) };
            let own = private.own(name);
            private.update(&format!("{name}, own variables"), &operation, &private.host(&own), "2.0");
            if name == "pdm.lock" || name == "Pipfile.lock" {
                let error = private.failure(&operation, &private.host(&own[..1]));
                let PythonError::Lock(LockFileError::NoVariable { index, variable, .. }) = &error else {
                    panic!("{name}: {error:?}")
                };
                assert_eq!((index.as_str(), variable.as_str()), ("corp-index", "CORP_PASSWORD"));
            }
            // With pip it is the same, and takes long.
            if installer == Installer::Pip || name == "pdm.lock" || name == "Pipfile.lock" {
                continue;
            }
            let netrc = private.host(&private.netrc());
            private.update(&format!("{name}, netrc"), &operation, &netrc, "2.0");
            let error = private.failure(&operation, &private.host(&[]));
            assert!(matches!(error, PythonError::AccessRefused { .. }), "{name}: {error:?}");
            // Another index in a variable does not make the lock one that is out of date.
            let mirror = vec![("UV_DEFAULT_INDEX", private.public.url.clone())];
            let host = private.host(&[private.own(name), mirror].concat());
            private.update(&format!("{name}, another index"), &operation, &host, "2.0");
        }
    }
}

#[test]
fn each_lock_goes_with_constraints_that_allow_it_and_with_a_keyring() {
    let private = Private::new();
    let (allows, forbids) = (private.path("allows.txt"), private.path("forbids.txt"));
    fs::write(&allows, "alpha>1\n").unwrap();
    fs::write(&forbids, "alpha<2\n").unwrap();
    let constraint =
        |file: &str| vec![("PIP_CONSTRAINT", file.to_owned()), ("UV_CONSTRAINT", file.to_owned())];
    let hashes = vec![("PIP_REQUIRE_HASHES", "1".to_owned()), ("UV_REQUIRE_HASHES", "1".to_owned())];
    for name in ["pylock.toml", "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"] {
        if name == "uv.lock" && program("uv").is_none() {
            continue;
        }
        let lock = private.lock(name);
        let of_lock = name != "pylock.toml";
        let told = if of_lock { private.own(name) } else { private.told(&private.url()) };
        for (installer, tool) in tools() {
            // With pip it is the same, and takes long.
            if of_lock && installer == Installer::Pip {
                continue;
            }
            let operation = PipInstall { wanted: lock.clone().into(), ..operation(&private.site, installer) };
            let named = |what: &str| format!("{name}, {what}");
            let keyring = match name {
                "pdm.lock" | "Pipfile.lock" => None,
                "pylock.toml" => Some([private.told(&private.url_of("me")), private.keyring()].concat()),
                _ => Some([private.own(name)[..1].to_vec(), private.keyring()].concat()),
            };
            if let Some(keyring) = keyring {
                private.update(&named("keyring"), &operation, &private.host(&keyring), "2.0");
            }
            let allowing = private.host(&[told.clone(), constraint(&allows)].concat());
            private.update(&named("a constraint"), &operation, &allowing, "2.0");
            let strict = PipInstall { extra_args: vec!["--require-hashes".into()], ..operation.clone() };
            let host = private.host(&[told.clone(), hashes.clone()].concat());
            private.update(&named("hashes demanded"), &strict, &host, "2.0");

            let by_argument =
                PipInstall { extra_args: vec!["-c".into(), forbids.clone()], ..operation.clone() };
            let by_variable = private.host(&[told.clone(), constraint(&forbids)].concat());
            let errors = [
                private.failure(&by_argument, &private.host(&told)),
                private.failure(&operation, &by_variable),
            ];
            for error in errors {
                let PythonError::Constrained { constraint, .. } = &error else {
                    panic!("{name}, {tool:?}: {error:?}")
                };
                assert_eq!(constraint, "alpha<2", "{name}, {tool:?}");
            }
        }
    }
}
