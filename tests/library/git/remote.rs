//! Remotes that are missing, silent, or reached over a network.

use super::*;

#[test]
fn a_missing_branch_and_a_missing_remote_name_what_is_there() {
    let repositories = Repositories::new(FILES);
    let update = GitUpdate { branch: "master".to_owned(), ..repositories.update() };
    let message = "the remote `origin` has no branch `master`; it has `main`";
    assert_eq!(refusal(&update).to_string(), message);
    assert_eq!(update.target(&Host::new()).unwrap_err().to_string(), message);
    let update = GitUpdate { remote: "upstream".to_owned(), ..repositories.update() };
    assert_eq!(refusal(&update).to_string(), "the repository has no remote `upstream`; it has `origin`");
}

#[test]
fn a_remote_that_fails_says_why() {
    let repositories = Repositories::new(FILES);
    fs::rename(&repositories.upstream, repositories.directory.path().join("gone")).unwrap();
    let error = refusal(&repositories.update());
    assert_eq!(
        error.to_string(),
        format!(
            "cannot fetch from the remote `origin` ({0}): '{0}' does not appear to be a git repository",
            repositories.upstream.display()
        )
    );
}

#[test]
fn a_remote_that_never_speaks_is_given_up() {
    let repositories = Repositories::new(FILES);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://127.0.0.1:{}/x.git", listener.local_addr().unwrap().port());
    git(&repositories.live, &["remote", "set-url", "origin", &url]);
    let update = GitUpdate { deadline: Duration::from_millis(500), ..repositories.update() };
    assert_eq!(
        refusal(&update).to_string(),
        format!("the remote `origin` ({url}) did not answer within 0.5 s")
    );
}

#[test]
fn git_daemon_and_http_are_fetched_from() {
    let repositories = Repositories::new(FILES);
    let directory = repositories.directory.path();
    let git_server = daemon(directory);
    let url = format!("git://127.0.0.1:{}/upstream.git", git_server.port);
    git(&repositories.live, &["remote", "set-url", "origin", &url]);
    let second = repositories.publish("second", &[("a.py", "a = 2\n")]);
    let fetched = repositories.update().fetch(&Host::new()).unwrap();
    assert_eq!((fetched.before, fetched.after), (Some(head(&repositories.live)), second));
    let Some(http) = http_server(directory, None) else { return };
    let url = format!("http://me:hunter22@127.0.0.1:{}/upstream.git", http.port);
    git(&repositories.live, &["remote", "set-url", "origin", &url]);
    git(&repositories.live, &["config", "http.proxy", ""]);
    let third = repositories.publish("third", &[("a.py", "a = 3\n")]);
    assert_eq!(plan_move(&repositories.update()).to(), third);
    git(&repositories.live, &["remote", "set-url", "origin", &url.replace("upstream", "none")]);
    let message = refusal(&repositories.update()).to_string();
    assert!(message.contains("me:***@127") && !message.contains("hunter22"), "{message}");
}

#[test]
fn a_password_in_an_address_opens_the_remote_and_its_submodules() {
    let repositories = Repositories::new(FILES);
    let directory = repositories.directory.path();
    let Some(server) = http_server(directory, Some("me:a@b c")) else { return };
    let with_submodules = below_one_another(&repositories);
    let url = |person: &str, path: &str| format!("http://{person}127.0.0.1:{}/{path}.git", server.port);
    let live = &repositories.live;
    git(live, &["config", "http.proxy", ""]);
    // What the user's own helper says about this server is not true.
    git(live, &["config", "credential.helper", "!printf 'username=me\npassword=old\n' #"]);
    for (remote, short) in [
        (url("me:a%40b%20c@", "upstream"), None),
        ("host:upstream.git".to_owned(), Some(url("me:a%40b%20c@", ""))),
    ] {
        git(live, &["remote", "set-url", "origin", &remote]);
        if let Some(base) = short {
            git(live, &["config", &format!("url.{}.insteadOf", base.trim_end_matches(".git")), "host:"]);
        }
        let config = fs::read_to_string(live.join(".git/config")).unwrap();
        repositories.publish("another", &[]);
        let there = plan_move(&repositories.update());
        assert_eq!(git(live, &["rev-parse", "refs/remotes/origin/main"]), there.to());
        assert_eq!(fs::read_to_string(live.join(".git/config")).unwrap(), config);
    }
    git(live, &["remote", "set-url", "origin", &url("me:a%40b%20c@", "upstream")]);
    let next = directory.join("next");
    StagedTree::prepare(&Host::new(), live, &next, &with_submodules, &[], None).unwrap();
    assert_eq!(fs::read_to_string(next.join("sub/nested/n.py")).unwrap(), "n = 1\n");
    perform(&plan_move(&repositories.update()).checkout);
    assert_eq!(repositories.read("sub/nested/n.py"), "n = 1\n");
    // With none in the address, that helper is asked.
    let mine = "!printf 'username=me\npassword=a@b c\n' #";
    git(live, &["config", "credential.helper", mine]);
    git(live, &["remote", "set-url", "origin", &url("", "upstream")]);
    let another = repositories.publish("yet another", &[]);
    assert_eq!(plan_move(&repositories.update()).to(), another);
}
