//! What is said of an update during which requests wait.

use std::fs;

use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::documents::assert_documented;
use crate::run::{on, steady};
use crate::support::releases::publish_good;
use crate::support::site::TestSite;
use crate::support::site::demo_site::Holder;

#[test]
fn requests_will_wait_and_have_waited() {
    let Some(site) = TestSite::builder().nginx().held_by(Holder::Supervisor).start() else { return };
    let site = &site;
    let text = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, text.replace("[maintenance]\n", "[maintenance]\nwhen = \"needed\"\n")).unwrap();
    publish_good(site, "next");

    let plan = on(site, &["plan"]).run().expect(0);
    let shown = steady(&plan.stdout, Some(site));
    let (_, shown) = shown.split_once("at once\n").unwrap();
    let memory =
        |part: &str| part.split_once(" MB").map_or(String::new(), |(_, rest)| format!("[N] MB{rest}"));
    let mut parts = shown.split("it takes ");
    let first = parts.next().unwrap_or_default().to_owned();
    let shown = parts.fold(first, |text, part| text + "it takes " + &memory(part));
    assert_data_eq!(
        shown,
        str![[r#"
  stop-workers     worker

Window: the new version is started beforehand; requests will wait, about [S] s (a rule of thumb: no comparable update of this site yet)
  stop-web         gunicorn:web-0
                     process [PID] (`sleep`) holds the socket of `gunicorn:web-0`
                     if this is undone, a second web server of the old version serves at once; it takes [N] MB of memory (2 workers) until the run ends
  code             [COMMIT] → [COMMIT]: 1 new commit on origin/main
                     [COMMIT] Release next
  open-gate        the web server that was started beforehand serves
                     it takes [N] MB of memory (2 workers) in addition to the web service, until `hand-over`
  smoke-check      /, /about/

Afterwards
  start-web        gunicorn:web-0
  start-workers    worker
  hand-over        the web service serves, and the web server that was started beforehand ends
  stay-up          gunicorn:web-0, worker

Not needed
  announce         the window will be short, and requests wait meanwhile
  wait             the window opens at once
  page-up          the window will be short, and requests wait meanwhile
  backup           no migrations are pending
  virtualenv       the installed packages are the 5 that the requirements ask for
  static           no static file was added, changed or removed
  migrate          no migrations are pending in the database
  start-required   all run
  page-down        the window will be short, and requests wait meanwhile
  maintenance-off  the window will be short, and requests wait meanwhile

Once it is finished, `deploykit rollback` can roll it back.

"#]]
        .raw()
    );
    let document = on(site, &["plan", "--json"]).run().expect(0).json();
    assert_documented("plan", &document);
    assert_eq!(document["plan"]["requests_wait"], true);

    let update = on(site, &["update", "-y"]).run().expect(0);
    let said = steady(&update.stdout, Some(site));
    assert_eq!(
        said.lines().last(),
        Some("Updated to [COMMIT] in [S] s; requests waited for [S] s, [S] s expected.")
    );
    let report = on(site, &["report", "--json"]).run().expect(0).json();
    assert_eq!(report["requests_wait"], true);
}
