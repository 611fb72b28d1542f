//! Submodules and the staged tree.

use super::*;

/// An upstream with a submodule `lib/sub`, served by git's own protocol, which a clone of a submodule may use.
struct WithSubmodule {
    repositories: Repositories,
    sub: PathBuf,
    _server: crate::support::git::Server,
}

impl WithSubmodule {
    fn new() -> Self {
        let repositories = Repositories::new(FILES);
        let directory = repositories.directory.path().to_owned();
        let server = daemon(&directory);
        let sub = directory.join("sub");
        git(&directory, &["init", "-q", "-b", "main", "sub"]);
        repositories.commit(&sub, "sub 1", &[("s.py", "s = 1\n")]);
        let url = format!("git://127.0.0.1:{}/sub", server.port);
        git(&repositories.developer, &["submodule", "--quiet", "add", &url, "vendor/sub"]);
        repositories.publish("with a submodule", &[]);
        WithSubmodule { repositories, sub, _server: server }
    }

    fn publish_another(&self) {
        self.repositories.commit(&self.sub, "sub 2", &[("s.py", "s = 2\n")]);
        let inner = self.repositories.developer.join("vendor/sub");
        git(&inner, &["pull", "-q"]);
        git(&self.repositories.developer, &["add", "vendor/sub"]);
        self.repositories.publish("a newer submodule", &[]);
    }
}

#[test]
fn a_submodule_comes_changes_and_goes_with_the_checkout() {
    let with = WithSubmodule::new();
    let repositories = &with.repositories;
    there_and_back(repositories, &repositories.update());
    assert_eq!(repositories.read("vendor/sub/s.py"), "s = 1\n");
    with.publish_another();
    let there = plan_move(&repositories.update());
    assert!(there.submodules && there.changes[0].submodule);
    there_and_back(repositories, &repositories.update());
    assert_eq!(repositories.read("vendor/sub/s.py"), "s = 2\n");
    write(&repositories.live.join("vendor/sub/untracked"), "mine");
    assert!(matches!(plan(&repositories.update()), Ok(Target::UpToDate { .. })));
    git(&repositories.developer, &["rm", "-q", "vendor/sub"]);
    repositories.publish("without", &[]);
    let there = plan_move(&repositories.update());
    perform(&there.checkout);
    perform(&there.checkout.reverse());
    assert_eq!(repositories.read("vendor/sub/s.py"), "s = 2\n");
    assert_eq!(repositories.read("vendor/sub/untracked"), "mine");
}

#[test]
fn a_hook_of_a_submodule_fails_neither_way() {
    let with = WithSubmodule::new();
    let repositories = &with.repositories;
    perform(&plan_move(&repositories.update()).checkout);
    with.publish_another();
    let there = plan_move(&repositories.update());
    let git_of_it = repositories.live.join(".git/modules/vendor/sub");
    super::hooks::install(&git_of_it.join("hooks/post-checkout"), "touch ran; exit 1");
    perform(&there.checkout);
    assert_eq!(repositories.read("vendor/sub/s.py"), "s = 2\n");
    assert!(repositories.live.join("vendor/sub/ran").exists());
    perform(&there.checkout.reverse());
    assert_eq!(repositories.read("vendor/sub/s.py"), "s = 1\n");
    // It is no excuse for a checkout that was not done.
    let lock = git_of_it.join("index.lock");
    write(&lock, "");
    let error = there.checkout.perform(&Host::new()).unwrap_err();
    assert!(matches!(error, GitError::Command { .. }), "{error}");
}

#[test]
fn changes_in_a_submodule_are_local_changes() {
    let with = WithSubmodule::new();
    let repositories = &with.repositories;
    perform(&plan_move(&repositories.update()).checkout);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    repositories.write("vendor/sub/s.py", "edited\n");
    let message = refusal(&repositories.update()).to_string();
    assert!(message.ends_with("`vendor/sub` (submodule)"), "{message}");
    perform(&plan_move(&keeping(repositories)).checkout);
    assert_eq!(repositories.read("vendor/sub/s.py"), "edited\n");
}

#[test]
fn the_staged_tree_sees_what_the_live_checkout_sees() {
    let repositories = Repositories::new(FILES);
    let second = repositories.publish("second", &[("a.py", "a = 2\n"), ("b.py", ""), ("media/.keep", "x\n")]);
    let live = &repositories.live;
    git(live, &["config", "core.excludesFile", "/dev/null"]);
    write(&live.join(".git/info/exclude"), "/media/\n/venv/\n/.deploykit/\n/var/\n");
    write(&live.join(".git/hooks/post-checkout"), "#!/bin/sh\ntouch hooked\n");
    fs::set_permissions(
        live.join(".git/hooks/post-checkout"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    repositories.write("local.py", "SECRET = 1\n");
    repositories.write("media/photo", "photo");
    repositories.write("notes/one", "note");
    repositories.write("venv/bin/python", "python");
    repositories.write("var/cache/big", "big");
    repositories.write("var/data", "data");
    repositories.write("lib/__pycache__/c.pyc", "");
    repositories.write("gone/__pycache__/c.pyc", "");
    repositories.write("lib/c.py", "edited\n");
    fs::set_permissions(live.join("lib/c.py"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    repositories.write("staged.py", "staged\n");
    git(live, &["add", "staged.py"]);
    let path = live.join(".deploykit/next");
    let host = Host::new();
    Repositories::update(&repositories).fetch(&host).unwrap();
    let before = repositories.state();
    let exclude = [PathBuf::from("venv"), live.join("var/cache")];
    let next = StagedTree::prepare(&host, live, &path, &second, &exclude, None).unwrap();
    let link = |name: &str| format!("-> {}", live.join(name).display());
    let expected = [
        (".gitignore", "644 *.log\nlocal.py\n__pycache__\n".to_owned()),
        ("a.py", "644 a = 2\n".to_owned()),
        ("lib", "directory".to_owned()),
        ("lib/c.py", "755 edited\n".to_owned()),
        ("local.py", link("local.py")),
        ("media", link("media")),
        ("notes", link("notes")),
        ("staged.py", "644 staged\n".to_owned()),
        ("var", "directory".to_owned()),
        ("var/data", link("var/data")),
    ];
    let expected: std::collections::BTreeMap<PathBuf, String> =
        expected.into_iter().map(|(path, text)| (path.into(), text)).collect();
    assert_eq!(files_below(&path), expected);
    let again = StagedTree::prepare(&host, live, &path, &second, &exclude, None).unwrap();
    assert_eq!((files_below(&path), &again), (expected, &next));
    assert_eq!(git(live, &["worktree", "list"]).lines().count(), 2);
    next.remove(&host).unwrap();
    next.remove(&host).unwrap();
    assert!(!path.exists());
    assert_eq!(git(live, &["worktree", "list"]).lines().count(), 1);
    fs::remove_dir(live.join(".deploykit")).unwrap();
    assert_eq!(repositories.state(), before);
}

#[test]
fn the_staged_tree_has_hidden_edits_and_empty_directories() {
    let repositories = Repositories::new(FILES);
    let second = repositories.publish("second", &[("a.py", "a = 2\n"), ("new/keep", "x\n")]);
    let live = &repositories.live;
    repositories.write("b.py", "b = 'edited'\n");
    repositories.write("lib/c.py", "c = 'edited'\n");
    git(live, &["update-index", "--skip-worktree", "b.py"]);
    git(live, &["update-index", "--assume-unchanged", "lib/c.py"]);
    for directory in ["logs", "lib/run/now", "new"] {
        fs::create_dir_all(live.join(directory)).unwrap();
    }
    let host = Host::new();
    repositories.update().fetch(&host).unwrap();
    let path = repositories.directory.path().join("next");
    StagedTree::prepare(&host, live, &path, &second, &[], None).unwrap();
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    assert_eq!((read("b.py").as_str(), read("lib/c.py").as_str()), ("b = 'edited'\n", "c = 'edited'\n"));
    assert_eq!(fs::read_link(path.join("logs")).unwrap(), live.join("logs"));
    assert_eq!(fs::read_link(path.join("lib/run")).unwrap(), live.join("lib/run"));
    assert!(fs::symlink_metadata(path.join("new")).unwrap().is_dir());
}

#[test]
fn a_damaged_staged_tree_is_replaced_and_the_live_one_untouched() {
    let repositories = Repositories::new(FILES);
    let live = &repositories.live;
    write(&live.join(".git/info/exclude"), "/.deploykit/\n");
    let path = live.join(".deploykit/next");
    let host = Host::new();
    let commit = head(live);
    StagedTree::prepare(&host, live, &path, &commit, &[], None).unwrap();
    for damaged in [path.join(".git"), live.join(".git/worktrees/next")] {
        deploykit::internal::files::remove_tree(&damaged).unwrap();
        repositories.write("a.py", "a = 'edited'\n");
        StagedTree::prepare(&host, live, &path, &commit, &[], None).unwrap();
        assert_eq!(fs::read_to_string(path.join("a.py")).unwrap(), "a = 'edited'\n");
        assert_eq!(repositories.read("a.py"), "a = 'edited'\n");
    }
    assert_eq!(git(live, &["branch", "--show-current"]), "main");
}

#[test]
fn a_parked_tree_is_brought_to_the_commit_and_to_what_the_live_one_sees_now() {
    let repositories = Repositories::new(FILES);
    let live = &repositories.live;
    write(&live.join(".git/info/exclude"), "/.deploykit/\n");
    let [path, parked] = ["beside", "parked"].map(|name| live.join(".deploykit").join(name));
    let host = Host::new();
    let first = head(live);
    let prepare = |commit: &str| {
        StagedTree::prepare(&host, live, &path, commit, &[], Some(Parked { place: &parked, keep: &[] }))
            .unwrap()
    };
    let inode = |name: &str| {
        let found = fs::metadata(path.join(name)).unwrap();
        (std::os::unix::fs::MetadataExt::ino(&found), found.modified().unwrap())
    };

    repositories.write("media/photo", "photo");
    repositories.write("local.py", "SECRET = 1\n");
    let tree = prepare(&first);
    let kept = inode("a.py");
    // What a step of the site's own might leave: changed, made and removed files, also where the live site's are linked.
    write(&path.join("lib/c.py"), "c = 'changed'\n");
    write(&path.join("lib/made.py"), "");
    write(&path.join("gone/__pycache__/x.pyc"), "");
    write(&path.join(".gitignore"), "");
    write(&live.join(".git/worktrees/beside/index.lock"), "");
    tree.park(&host, &parked).unwrap();
    assert!(!path.exists() && parked.join("files/a.py").exists());
    assert_eq!(git(live, &["worktree", "list"]).lines().count(), 1, "the site's own git knows nothing of it");

    // Meanwhile the live site lost one file and got another one.
    fs::remove_file(live.join("local.py")).unwrap();
    repositories.write("other.log", "log");
    let second = repositories.publish("Second", &[("b.py", "b = 2\n")]);
    Repositories::update(&repositories).fetch(&host).unwrap();
    prepare(&second);
    assert_eq!(inode("a.py"), kept, "what did not change is not written");
    let updated = files_below(&path);
    StagedTree { repository: live.clone(), path: path.clone(), commit: second.clone() }
        .remove(&host)
        .unwrap();
    StagedTree::prepare(&host, live, &path, &second, &[], None).unwrap();
    assert_eq!(updated, files_below(&path), "as if it had been made anew");
    assert_eq!(repositories.read("media/photo"), "photo");
}

#[test]
fn what_steps_keep_for_their_next_run_stays_in_a_parked_tree() {
    let repositories = Repositories::new(FILES);
    let live = &repositories.live;
    write(&live.join(".git/info/exclude"), "/.deploykit/\n/web/\n");
    let [path, parked] = ["beside", "parked"].map(|name| live.join(".deploykit").join(name));
    let (host, commit) = (Host::new(), head(live));
    // A site that was built by hand before.
    repositories.write("web/node modules/live", "live");
    let keep = ["web/node modules".into(), "web/[cache]".into()];
    let prepare = |keep: &[PathBuf]| {
        StagedTree::prepare(&host, live, &path, &commit, keep, Some(Parked { place: &parked, keep })).unwrap()
    };
    let tree = prepare(&[]);
    assert!(path.join("web").is_symlink());
    tree.park(&host, &parked).unwrap();
    let tree = prepare(&keep);
    assert!(!path.join("web/node modules").exists());
    for file in ["web/node modules/a/b.js", "web/[cache]/x", "web/other/y"] {
        write(&path.join(file), "made");
    }
    tree.park(&host, &parked).unwrap();
    prepare(&keep);
    assert_eq!(fs::read_to_string(path.join("web/node modules/a/b.js")).unwrap(), "made");
    assert!(path.join("web/[cache]/x").exists() && !path.join("web/other").exists());
    let left: Vec<_> = files_below(&live.join("web")).into_keys().collect();
    assert_eq!(left, ["node modules", "node modules/live"].map(PathBuf::from));
}

#[test]
fn a_parked_tree_that_cannot_be_used_is_made_anew() {
    let repositories = Repositories::new(FILES);
    let live = &repositories.live;
    write(&live.join(".git/info/exclude"), "/.deploykit/\n");
    let [path, parked] = ["beside", "parked"].map(|name| live.join(".deploykit").join(name));
    let (host, commit) = (Host::new(), head(live));
    let prepare =
        || StagedTree::prepare(&host, live, &path, &commit, &[], Some(Parked { place: &parked, keep: &[] }));
    for damaged in [".git", "a.py", "index", "HEAD"] {
        prepare().unwrap().park(&host, &parked).unwrap();
        let part = if ["index", "HEAD"].contains(&damaged) { "git" } else { "files" };
        write(&parked.join(part).join(damaged), "damaged");
        repositories.write("untracked.py", "live");
        prepare().unwrap();
        assert_eq!(fs::read_to_string(path.join("a.py")).unwrap(), repositories.read("a.py"), "{damaged}");
        assert_eq!(git(&path, &["rev-parse", "HEAD"]).trim(), commit, "{damaged}");
        assert_eq!(repositories.read("untracked.py"), "live", "{damaged}");
        assert_eq!(git(live, &["worktree", "list"]).lines().count(), 2, "{damaged}");
    }
    // Another file system, or one that is not ours: the tree goes, or is refused.
    let tree = prepare().unwrap();
    tree.park(&host, Path::new("/proc/parked")).unwrap();
    assert!(!path.exists());
    let tree = prepare().unwrap();
    std::os::unix::fs::symlink("/tmp", &parked).unwrap();
    assert!(tree.park(&host, &parked).is_err());
    assert!(!path.exists(), "it goes all the same");
    let error = deploykit::error_chain(&prepare().unwrap_err());
    assert!(error.contains("symbolic link"), "{error}");
}

#[test]
fn the_staged_tree_has_its_submodules() {
    let with = WithSubmodule::new();
    let repositories = &with.repositories;
    perform(&plan_move(&repositories.update()).checkout);
    with.publish_another();
    let there = plan_move(&repositories.update());
    let before = State::of(&repositories.live);
    let path = repositories.directory.path().join("next");
    let next = StagedTree::prepare(&Host::new(), &repositories.live, &path, there.to(), &[], None).unwrap();
    assert_eq!(fs::read_to_string(path.join("vendor/sub/s.py")).unwrap(), "s = 2\n");
    assert_eq!(repositories.read("vendor/sub/s.py"), "s = 1\n");
    next.remove(&Host::new()).unwrap();
    assert_eq!(State::of(&repositories.live), before);
}

#[test]
fn a_directory_that_is_tracked_for_its_name_is_the_live_one() {
    let repositories = Repositories::new(FILES);
    let live = &repositories.live;
    write(&live.join(".git/info/exclude"), "/.deploykit/\n/uploads/*\n!/uploads/.gitkeep\n");
    let [path, parked] = ["beside", "parked"].map(|name| live.join(".deploykit").join(name));
    let host = Host::new();
    let prepare = |commit: &str| {
        Repositories::update(&repositories).fetch(&host).unwrap();
        StagedTree::prepare(&host, live, &path, commit, &[], Some(Parked { place: &parked, keep: &[] }))
            .unwrap()
    };
    let first = repositories.publish("first", &[("uploads/.gitkeep", "\n")]);
    perform(&plan_move(&repositories.update()).checkout);
    repositories.write("uploads/photo", "photo");

    let tree = prepare(&first);
    fs::create_dir(path.join("uploads/sorted")).unwrap();
    fs::rename(path.join("uploads/photo"), path.join("uploads/sorted/photo")).unwrap();
    assert_eq!(repositories.read("uploads/sorted/photo"), "photo");
    tree.park(&host, &parked).unwrap();
    assert_eq!(repositories.read("uploads/sorted/photo"), "photo");

    let second = repositories.publish("second", &[("uploads/.gitkeep", "kept\n"), ("b.py", "b = 2\n")]);
    let tree = prepare(&second);
    assert_eq!(fs::read_link(path.join("uploads")).unwrap(), live.join("uploads"));
    assert_eq!(repositories.read("uploads/.gitkeep"), "\n", "the live file is not written");
    assert_eq!(git(live, &["status", "--porcelain"]), "");
    tree.park(&host, &parked).unwrap();

    // What is more than a placeholder is the new version's own.
    let third = repositories.publish("third", &[("uploads/code.py", "code = 1\n")]);
    prepare(&third);
    let link = |name: &str| format!("-> {}", live.join(name).display());
    let found = files_below(&path);
    assert_eq!(found[Path::new("uploads/code.py")], "644 code = 1\n");
    assert_eq!(found[Path::new("uploads/.gitkeep")], "644 kept\n");
    assert_eq!(found[Path::new("uploads/sorted")], link("uploads/sorted"));
    assert_eq!(repositories.read("uploads/sorted/photo"), "photo");
    assert_eq!(git(live, &["status", "--porcelain"]), "");
}
