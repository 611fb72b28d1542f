//! Checkouts that are not plain, and what is no checkout.

use super::*;

#[test]
fn a_shallow_clone_of_one_branch_stays_one() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    git(&repositories.developer, &["push", "-q", "origin", "HEAD:other"]);
    fs::remove_dir_all(&repositories.live).unwrap();
    let url = format!("file://{}", repositories.upstream.display());
    git(repositories.directory.path(), &["clone", "-q", "--depth=1", &url, "live"]);
    repositories.publish("third", &[("a.py", "a = 3\n"), ("d.py", "d\n")]);
    repositories.publish("fourth", &[("a.py", "a = 4\n")]);
    assert_eq!(plan_move(&repositories.update()).commit_count, 2);
    there_and_back(&repositories, &repositories.update());
    assert_eq!(git(&repositories.live, &["rev-parse", "--is-shallow-repository"]), "true");
    assert_eq!(
        git(
            &repositories.live,
            &["for-each-ref", "--format=%(refname)", "refs/tags", "refs/remotes/origin/other"]
        ),
        ""
    );
}

#[test]
fn filters_that_are_missing_are_named() {
    let repositories = Repositories::new(FILES);
    let attributes = "*.bin filter=made-up\n*.txt filter=other\n*.none filter=unused\n*.ok filter=fine\n";
    let files = [(".gitattributes", attributes), ("x.bin", "x\n"), ("x.txt", "x\n"), ("x.ok", "x\n")];
    repositories.publish("second", &files);
    git(&repositories.live, &["config", "filter.other.smudge", "no-such-program-at-all %f"]);
    git(&repositories.live, &["config", "filter.fine.smudge", "cat"]);
    let there = plan_move(&repositories.update());
    let notices: Vec<String> = there.notices.iter().map(ToString::to_string).collect();
    assert_eq!(
        notices,
        [
            "`.gitattributes` asks for the filter `made-up`, which git is not configured with: its files are checked out as \
             the repository has them",
            "the filter `other` runs `no-such-program-at-all`, which is not installed: its files are checked out as the \
             repository has them"
        ]
    );
    there_and_back(&repositories, &repositories.update());
}

#[test]
fn a_sparse_checkout_stays_sparse() {
    let repositories = Repositories::new(FILES);
    git(&repositories.live, &["sparse-checkout", "set", "kept"]);
    assert!(!repositories.live.join("lib/c.py").exists());
    repositories.publish(
        "second",
        &[("a.py", "a = 2\n"), ("lib/c.py", "c = 2\n"), ("lib/n.py", "n\n"), ("kept/k.py", "k\n")],
    );
    there_and_back(&repositories, &repositories.update());
    assert!(repositories.live.join("kept/k.py").exists() && !repositories.live.join("lib").exists());
    let tree = repositories.directory.path().join("next");
    let next =
        StagedTree::prepare(&Host::new(), &repositories.live, &tree, &head(&repositories.live), &[], None)
            .unwrap();
    assert!(tree.join("kept/k.py").exists() && !tree.join("lib").exists());
    next.remove(&Host::new()).unwrap();
}

#[test]
fn filters_and_line_ends_are_applied() {
    let repositories = Repositories::new(FILES);
    git(&repositories.live, &["config", "filter.shout.smudge", "tr a-z A-Z"]);
    git(&repositories.live, &["config", "filter.shout.clean", "tr A-Z a-z"]);
    repositories.publish(
        "second",
        &[
            (".gitattributes", "*.txt filter=shout\n*.bat eol=crlf\n"),
            ("one.txt", "hello\n"),
            ("run.bat", "x\n"),
        ],
    );
    there_and_back(&repositories, &repositories.update());
    assert_eq!(
        (repositories.read("one.txt"), repositories.read("run.bat")),
        ("HELLO\n".into(), "x\r\n".into())
    );
    repositories.publish("third", &[("one.txt", "goodbye\n"), ("two.txt", "x\n")]);
    let before = repositories.state();
    let there = plan_move(&repositories.update());
    write(&repositories.live.join(".git/index.lock"), "");
    repositories.write("one.txt", "GOODB");
    repositories.write("two.txt", "X\n");
    perform(&there.checkout.reverse());
    assert_eq!(repositories.state(), before);
}

#[test]
fn a_merge_that_waits_is_not_passed_over() {
    let repositories = Repositories::new(FILES);
    git(&repositories.live, &["checkout", "-q", "-b", "topic"]);
    repositories.commit(&repositories.live, "mine", &[("a.py", "mine\n")]);
    git(&repositories.live, &["checkout", "-q", "main"]);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    git(&repositories.live, &["pull", "-q"]);
    repositories.publish("third", &[("b.py", "b = 3\n")]);
    assert!(!git_says(&repositories.live, &["merge", "topic"]));
    assert_eq!(
        refusal(&keeping(&repositories)).to_string(),
        format!("a merge is in progress in `{}`", repositories.live.display())
    );
}

#[test]
fn a_locked_index_is_named() {
    let repositories = Repositories::new(FILES);
    repositories.publish("second", &[("a.py", "a = 2\n")]);
    let lock = repositories.live.join(".git/index.lock");
    write(&lock, "");
    let error = refusal(&repositories.update());
    let message = error.to_string();
    assert!(message.starts_with(&format!("`{}` is there, ", lock.display())), "{message}");
    assert!(matches!(error, GitError::IndexLocked { path, age: Some(_) } if path == lock));
}

#[test]
fn what_is_no_checkout_is_told_apart() {
    let repositories = Repositories::new(FILES);
    let inner = repositories.live.join("lib");
    let directory = repositories.directory.path();
    let error = |path: &Path| GitUpdate::new(path).target(&Host::new()).unwrap_err();
    assert_eq!(
        error(&inner).to_string(),
        format!(
            "`{}` is not the top of a Git checkout; the top is `{}`",
            inner.display(),
            repositories.live.display()
        )
    );
    assert_eq!(
        error(directory).to_string(),
        format!("`{}` is not the top of a Git checkout", directory.display())
    );
    assert!(matches!(error(&directory.join("none")), GitError::NotARepository { .. }));
    assert!(matches!(error(&repositories.upstream), GitError::Bare { .. }));
    git(directory, &["init", "-q", "--object-format=sha256", "sha256"]);
    assert!(matches!(error(&directory.join("sha256")), GitError::Unsupported { .. }));
    if git_says(directory, &["init", "-q", "--ref-format=reftable", "reftable"]) {
        assert!(matches!(error(&directory.join("reftable")), GitError::Unsupported { .. }));
    }
    git(directory, &["init", "-q", "-b", "main", "unborn"]);
    git(&directory.join("unborn"), &["fetch", "-q", "../upstream.git", "main:refs/remotes/origin/main"]);
    let unborn = GitUpdate { branch: "main".into(), ..GitUpdate::new(directory.join("unborn")) };
    assert!(matches!(unborn.target(&Host::new()), Err(GitError::NoCommit { .. })));
}

#[test]
fn a_repository_of_somebody_else_is_not_trusted() {
    if !rustix::process::geteuid().is_root() {
        crate::support::skip("only root can give files away")
    }
    let repositories = Repositories::new(FILES);
    for path in [repositories.live.clone(), repositories.live.join(".git")] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let error = repositories.update().target(&Host::new()).unwrap_err();
    assert!(matches!(error, GitError::DubiousOwnership { .. }), "{error}");
}

#[test]
fn a_signature_is_asked_for() {
    let repositories = Repositories::new(FILES);
    let unsigned = repositories.publish("unsigned", &[("a.py", "a = 2\n")]);
    let update = GitUpdate { verify_signature: true, ..repositories.update() };
    assert_eq!(
        refusal(&update).to_string(),
        format!("`{} unsigned` has no good signature of a trusted key", &unsigned[..7])
    );
    if crate::support::program("ssh-keygen").is_none() {
        return;
    }
    let key = repositories.directory.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let signers = repositories.directory.path().join("signers");
    fs::write(&signers, format!("ada@example.org {public}")).unwrap();
    for (name, value) in
        [("gpg.format", "ssh"), ("user.signingKey", key.to_str().unwrap()), ("commit.gpgSign", "true")]
    {
        git(&repositories.developer, &["config", name, value]);
    }
    let signed = repositories.publish("signed", &[("a.py", "a = 3\n")]);
    assert!(matches!(refusal(&update), GitError::Unsigned { .. }), "the key is unknown");
    git(&repositories.live, &["config", "gpg.ssh.allowedSignersFile", signers.to_str().unwrap()]);
    assert_eq!(plan_move(&update).to(), signed);
}

#[test]
fn a_signature_of_a_key_that_nobody_vouches_for_is_not_good() {
    let Some(gpg) = crate::support::program("gpg") else { return };
    let repositories = Repositories::new(FILES);
    let home = repositories.directory.path().join("gnupg");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let gpg = |args: &[&str], input: &str| {
        let mut command = std::process::Command::new(&gpg);
        command.arg("--homedir").arg(&home).args(["--batch", "--quiet", "--passphrase", ""]).args(args);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "gpg {args:?}");
    };
    gpg(&["--quick-generate-key", "ada@example.org", "ed25519", "sign", "never"], "");
    let program = repositories.directory.path().join("gpg.sh");
    fs::write(&program, format!("#!/bin/sh\nexec gpg --homedir '{}' \"$@\"\n", home.display())).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for repository in [&repositories.developer, &repositories.live] {
        git(repository, &["config", "gpg.program", program.to_str().unwrap()]);
    }
    git(&repositories.developer, &["config", "user.signingKey", "ada@example.org"]);
    git(&repositories.developer, &["config", "commit.gpgSign", "true"]);
    let signed = repositories.publish("signed", &[("a.py", "a = 2\n")]);
    // A key that somebody made is trusted by whoever made it; here it is to be one that was only fetched.
    let trust = |how: &str| {
        let mut list = std::process::Command::new("gpg");
        let listed =
            list.arg("--homedir").arg(&home).args(["--list-keys", "--with-colons"]).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let key =
            listed.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned();
        gpg(&["--import-ownertrust"], &format!("{key}:{how}:\n"));
    };
    let update = GitUpdate { verify_signature: true, ..repositories.update() };
    trust("2");
    assert!(
        git_says(&repositories.live, &["fetch", "-q"])
            && git_says(&repositories.live, &["verify-commit", &signed])
    );
    assert!(matches!(refusal(&update), GitError::Unsigned { .. }), "git alone is content with it");
    trust("6");
    assert_eq!(plan_move(&update).to(), signed);
    let _ =
        std::process::Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "all"]).status();
}
