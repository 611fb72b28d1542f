//! What the site's own steps make beside the live site: it goes live in the window and comes back with the update.

use deploykit::error_chain;

use super::*;

const BUILD: &str = "mkdir -p dist fresh/deep; cp project/config/release.py dist/app.js; cp dist/app.js project/made.mo; \
                     cp dist/app.js fresh/deep/new.js; rm -f dist/old.js; \
                     date +%s%N > dist/app.js.gz";

/// A step that builds into `dist`, which git ignores, beside a tracked file, and where nothing was.
fn configure_build(site: &DemoSite, outputs: &str) {
    let root = site.root.display();
    add(
        site,
        &format!(
            "[[steps]]\nname = \"build\"\nafter = \"staged-virtualenv\"\n{outputs}\nrun = [\"sh\", \"-c\", \"echo $VIRTUAL_ENV > \
             {root}/run/env; command -v python >> {root}/run/env; {BUILD}\"]\n"
        ),
    );
}

fn built(site: &DemoSite) -> Vec<Option<String>> {
    let files = ["dist/app.js", "dist/old.js", "project/made.mo", "fresh/deep/new.js"];
    files.into_iter().map(|file| fs::read_to_string(site.checkout.join(file)).ok()).collect()
}

#[test]
fn what_steps_make_goes_live_with_the_update_and_back_with_it() {
    let Some(site) = TestSite::builder().start() else { return };
    fs::write(site.checkout.join(".git/info/exclude"), "/dist/\n/fresh/\n*.mo\n").unwrap();
    for file in ["dist/app.js", "dist/old.js", "project/made.mo"] {
        write(&site.checkout, file, "old\n");
    }
    let first = built(&site);
    publish_release_2(&site);

    configure_build(&site, "");
    let before = Snapshot::of(&site);
    let error = run_update(&site).unwrap_err();
    let UpdateError::Prepare { step, source, .. } = &error else { panic!("{error}") };
    assert_eq!(step, "build");
    assert_eq!(
        error_chain(source.as_ref()),
        "step `build` writes into `dist`, `project/made.mo`, which the live site uses: `dist/app.js`, `dist/app.js.gz`, `dist/old.js`, \
         `project/made.mo`"
    );
    assert_same(&before, &Snapshot::of(&site));
    assert_tidy(&site);

    configure(
        &site,
        "name = \"build\"\n",
        "name = \"build\"\noutputs = [\"dist\", \"project/made.mo\", \"fresh\"]\n",
    );
    site.publish(|tree| write(tree, "project/x.enc", "é\n")).unwrap();
    // Not all at once: git cannot add a file in an encoding that it does not know.
    let scratch = site.newest().unwrap();
    write(&scratch, ".gitattributes", "x.enc working-tree-encoding=KLINGON-8\nx.ptr filter=lfs\n");
    write(&scratch, "x.ptr", "version https://git-lfs.github.com/spec/v1\noid sha256:7\nsize 7\n");
    for args in [
        &["add", ".gitattributes", "x.ptr"][..],
        &["commit", "-qm", "Attributes"],
        &["push", "-q", "origin", "HEAD:main"],
    ] {
        site.git(&scratch, args).unwrap();
    }
    site.git(&site.checkout, &["config", "filter.lfs.process", ""]).unwrap();
    site.git(&site.checkout, &["config", "filter.lfs.smudge", "cat"]).unwrap();
    let (_, told) = updated(&site);
    let notices = told.notices();
    assert!(notices.contains("pointers of Git LFS instead of contents: `x.ptr`"), "{notices}");
    assert!(notices.contains("git does not know the encoding `KLINGON-8`: `project/x.enc`"), "{notices}");
    let release = Some("RELEASE = \"2\"\n".to_owned());
    let second = vec![release.clone(), None, release.clone(), release];
    assert_eq!(built(&site), second);
    assert!(told.done().windows(2).any(|steps| steps == ["code", "outputs"]), "{:?}", told.done());
    let environment = fs::read_to_string(site.root.join("run/env")).unwrap();
    let [virtualenv, python] = environment.lines().collect::<Vec<_>>()[..] else { panic!("{environment}") };
    assert_eq!(fs::canonicalize(virtualenv).unwrap(), fs::canonicalize(&site.virtualenv).unwrap());
    assert!(
        virtualenv.contains("/environments/") && python == format!("{virtualenv}/bin/python"),
        "{environment}"
    );
    assert_tidy(&site);
    // Each build writes the time, which alone is nothing new; and right after an update nobody builds.
    let (report, told) = request(&site, &Request::default());
    assert_eq!((report.unwrap().outcome, told.done()), (Outcome::Unchanged, vec!["fetch"]));
    let compressed = || fs::read(site.checkout.join("dist/app.js.gz")).unwrap();
    let before = compressed();
    let (report, told) = request(&site, &Request { look: true, ..Request::default() });
    let report = report.unwrap();
    assert!(report.outcome == Outcome::Unchanged && told.done().contains(&"build"), "{report:#?}");
    let kept = "outputs of the site's own steps differ and stay as they are";
    assert!(
        report
            .notices
            .iter()
            .any(|notice| notice.starts_with(kept) && notice.ends_with(": `dist/app.js.gz`")),
        "{report:#?}"
    );
    assert_eq!(compressed(), before);
    // What is missing comes back: the plan says so.
    let planned = || {
        let (loaded, mut quiet) = (load(&site), |_: &Record| ());
        let prepared = update::prepare(&loaded, &Request::default(), None, &mut quiet).unwrap();
        let Prepared::Ready(update) = prepared else { panic!("there is something to do") };
        let outputs = update.plan().steps.iter().find(|step| step.id == "outputs").unwrap();
        outputs.change.details.clone()
    };
    fs::rename(site.checkout.join("dist"), site.root.join("run/dist")).unwrap();
    assert_eq!(planned(), ["dist"]);
    fs::rename(site.root.join("run/dist"), site.checkout.join("dist")).unwrap();

    publish_broken_home(&site);
    write(&site.checkout, "dist/app.js", "edited\n");
    assert_eq!(planned(), ["dist/app.js", "dist/app.js.gz"]);
    let report = run_update(&site).unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:#?}");
    assert_eq!(built(&site)[0].as_deref(), Some("edited\n"), "the undo brings back what was live");
    site.git(&site.newest().unwrap(), &["push", "-q", "--force", "origin", "HEAD~1:main"]).unwrap();

    let mut notices = String::new();
    let look = |plan: &Plan| notices = plan.notices.join("\n");
    let (result, told) = rollback_of(&site, None, look, &mut |_| ());
    assert_eq!(result.unwrap().outcome, Outcome::Updated);
    let said = "own steps are not run: `build`; their outputs from before the update are restored: `dist`";
    assert!(notices.contains(said), "{notices}");
    assert!(told.done().windows(2).any(|steps| steps == ["outputs", "code"]), "{:?}", told.done());
    assert_eq!(built(&site), first);
    let kept =
        names(&site.root).into_iter().filter(|path| path.to_string_lossy().contains(".site.deploykit-"));
    assert_eq!(kept.count(), 0, "what it kept goes with it");
}
