//! The command line as people and scripts meet it: the real binary, its words, documents and exit codes.

#[path = "../support/mod.rs"]
mod support;

mod run;

#[test]
fn playground() {
    let mut site = support::site::TestSite::builder().nginx().start().unwrap();
    site.keep();
    println!("{}", site.root.display());
    std::fs::write("/tmp/w/play", site.root.display().to_string()).unwrap();
    while std::path::Path::new("/tmp/w/play").exists() {
        if let Ok(name) = std::fs::read_to_string("/tmp/w/publish") {
            std::fs::remove_file("/tmp/w/publish").unwrap();
            use support::releases::*;
            match name.trim() {
                "release2" => site.publish_release_2().unwrap(),
                "good" => publish_good(&site, "good"),
                "home" => publish_broken_home(&site),
                "migration" => publish_failing_migration(&site),
                "held" => publish_irreversible_migration_and_broken_page(&site),
                "worker" => publish_dying_worker(&site),
                "settings" => publish_settings_error(&site),
                "views" => publish_broken_views(&site),
                "req" => publish_unknown_requirement(&site),
                "conflict" => publish_conflicting_requirements(&site),
                "style" => publish_broken_stylesheet(&site),
                "wsgi" => publish_broken_wsgi(&site),
                "silent" => publish_silent_home(&site),
                "edit" => publish_over_an_edit(&site),
                "rewritten" => publish_rewritten_history(&site),
                _ => panic!("{name}"),
            };
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
