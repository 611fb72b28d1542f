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
    fs::rename(&repositories.upstream, repositories.folder.path().join("gone")).unwrap();
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
    let folder = repositories.folder.path();
    let git_server = daemon(folder);
    let url = format!("git://127.0.0.1:{}/upstream.git", git_server.port);
    git(&repositories.live, &["remote", "set-url", "origin", &url]);
    let second = repositories.publish("second", &[("a.py", "a = 2\n")]);
    let fetched = repositories.update().fetch(&Host::new()).unwrap();
    assert_eq!((fetched.before, fetched.after), (Some(head(&repositories.live)), second));
    let Some(http) = http_server(folder) else { return };
    let url = format!("http://me:hunter22@127.0.0.1:{}/upstream.git", http.port);
    git(&repositories.live, &["remote", "set-url", "origin", &url]);
    git(&repositories.live, &["config", "http.proxy", ""]);
    let third = repositories.publish("third", &[("a.py", "a = 3\n")]);
    assert_eq!(plan_move(&repositories.update()).to(), third);
    git(&repositories.live, &["remote", "set-url", "origin", &url.replace("upstream", "none")]);
    let message = refusal(&repositories.update()).to_string();
    assert!(message.contains("me:***@127") && !message.contains("hunter22"), "{message}");
}
