//! `deploykit rehearse`: an update is rehearsed on copies of the databases.

use std::fs;

use serde_json::Value;
use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::documents::assert_documented;
use crate::run::on;
use crate::support::releases::add_column;
use crate::support::site::TestSite;

const HOME: &str = "project/guestbook/templates/guestbook/home.html";

#[test]
fn a_broken_page_is_found_while_the_site_serves() {
    let Some(site) = TestSite::builder().rehearsal().start() else { return };
    let site = &site;
    let good = site.newest().unwrap();
    let home = fs::read_to_string(good.join(HOME)).unwrap();
    site.publish(|tree| fs::write(tree.join(HOME), "{% broken %}\n").unwrap()).unwrap();
    let refused = on(site, &["rehearse"]).run().expect(4);
    let text = refused.text(Some(site));
    let (_, said) = text.split_once("  ✗ rehearse-pages").unwrap_or_else(|| panic!("{text}"));
    assert_data_eq!(
        said,
        str![[r#"
 [S] s

Error: step `rehearse-pages` failed: the new version fails on a copy of the site, which serves as before: `/`: expected status 200, got 500 ("Server Error (500)"): TemplateSyntaxError in guestbook/templates/guestbook/home.html, line 1: Invalid block tag on line 1: 'broken'. Did you forget to register or load this tag?
Nothing was changed: [COMMIT] is still the live version.
Hint: fix the code and push it; the site stays on the old version. If the code is right and only the rehearsal fails, add `--no-rehearsal`

"#]]
        .raw()
    );
    let document = on(site, &["rehearse", "--json"]).run().expect(4).json();
    assert_documented("failure", &document);
    assert_documented("report", &document["result"]);
    assert_eq!(document["result"]["failure"]["step"], "rehearse-pages");
    let rehearsal = &document["result"]["rehearsal"];
    assert_documented("rehearsal", rehearsal);
    assert_eq!(rehearsal["pages"][0]["status"], 500);
    let exception = rehearsal["pages"][0]["exception"].as_str().unwrap();
    assert!(
        exception.starts_with("TemplateSyntaxError in guestbook/templates/guestbook/home.html, line 1: ")
    );
    assert_eq!(rehearsal["live"][0]["status"], 200);

    // Without a rehearsal, the plan does not mention it.
    let left_out = on(site, &["plan", "--no-rehearsal"]).run().expect(0);
    assert!(!left_out.text(Some(site)).contains("rehears"), "{}", left_out.text(Some(site)));

    site.publish(|tree| fs::write(tree.join(HOME), &home).unwrap()).unwrap();
    let rehearsed = on(site, &["rehearse", "--json"]).run().expect(0);
    assert_documented("plan", &rehearsed.json());
    let rehearsal = &rehearsed.json()["plan"]["rehearsal"];
    assert_documented("rehearsal", rehearsal);
    assert_eq!(
        (&rehearsal["copies"][0]["rows"], &rehearsal["skipped"]),
        (&true.into(), &serde_json::json!([]))
    );
    assert!(rehearsed.text(Some(site)).contains("✓ rehearse-pages"), "{}", rehearsed.text(Some(site)));
    assert!(!site.root.join("site/.deploykit/rehearsal").exists());
    assert!(site.page("/").unwrap().body.contains("Release 1"));
}

/// What was rehearsed is in the report of an update and of its rollback, and among the events.
#[test]
fn reports_and_events_say_what_was_rehearsed() {
    let Some(site) = TestSite::builder().rehearsal().start() else { return };
    let site = &site;
    site.publish(add_column).unwrap();
    for (command, time) in [("update", "applied_ms"), ("rollback", "reversed_ms")] {
        let events = site.root.join(format!("{command}.jsonl"));
        let args = [command, "--json", "-y", "--now", "--events", events.to_str().unwrap()];
        let report = on(site, &args).run().expect(0).json();
        assert_documented("report", &report);
        let rehearsal = &report["rehearsal"];
        assert_documented("rehearsal", rehearsal);
        let database = &rehearsal["databases"][0];
        assert!(database[time].is_u64(), "{database:#}");
        assert_eq!(rehearsal["pages"].as_array().map(Vec::len), Some(2), "{rehearsal:#}");
        assert_eq!(rehearsal["live"].as_array().map(Vec::len), Some(2), "{rehearsal:#}");

        let events = fs::read_to_string(&events).unwrap();
        let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let told: Vec<Value> = events.filter(|event| event["event"] == "rehearsed").collect();
        assert_eq!(told.iter().map(|event| &event["rehearsal"]).collect::<Vec<_>>(), [rehearsal]);
        let shown = on(site, &["report", "--json"]).run().expect(0).json();
        assert_eq!(&shown["rehearsal"], rehearsal);
    }
}
