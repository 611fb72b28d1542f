//! `deploykit rehearse`: an update is rehearsed on copies of the databases.

use std::fs;

use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::documents::assert_documented;
use crate::run::on;
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

    // Without a rehearsal, the plan does not mention it.
    let left_out = on(site, &["plan", "--no-rehearsal"]).run().expect(0);
    assert!(!left_out.text(Some(site)).contains("rehears"), "{}", left_out.text(Some(site)));

    site.publish(|tree| fs::write(tree.join(HOME), &home).unwrap()).unwrap();
    let rehearsed = on(site, &["rehearse", "--json"]).run().expect(0);
    assert_documented("plan", &rehearsed.json());
    assert!(rehearsed.text(Some(site)).contains("✓ rehearse-pages"), "{}", rehearsed.text(Some(site)));
    assert!(!site.root.join("site/.deploykit/rehearsal").exists());
    assert!(site.page("/").unwrap().body.contains("Release 1"));
}
