//! A socket that is held: nobody fails, and the question is how long they wait.

use std::fs;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::demo_site::crowd::{Crowd, OFTEN};
use crate::demo_site::{DemoSite, HOST, Holder, run, wait_until};
use crate::stage::Stage;
use crate::table::Row;

/// How long requests wait for an update while supervisor holds the socket, against what no update can do without: the
/// end of the web's processes, the migrations themselves, and the start of the web until its first page.
pub fn row(rounds: usize) -> Outcome<Row> {
    let mut stage = Stage::build(Some(Holder::Supervisor))?;
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        stage.begin()?;
        let site = &stage.site;
        let text = fs::read_to_string(&site.config)?;
        fs::write(&site.config, text.replace("[maintenance]\n", "[maintenance]\nwhen = \"needed\"\n"))?;
        let crowd = || -> Outcome<Crowd> {
            let crowd = Crowd::come(&[&site.gunicorn_address], HOST, OFTEN);
            let served = wait_until(Duration::from_secs(30), || crowd.served() > 100);
            if served { Ok(crowd) } else { Err("nobody is served".into()) }
        };
        let visitors = crowd()?;
        run(&mut stage.update())?;
        let seen = visitors.leave();
        if let Some(failed) = seen.iter().find(|one| !one.is_good()) {
            return Err(format!("{}: {:?}", failed.request, failed.answer).into());
        }
        let longest = seen.iter().map(|one| one.waited.as_secs_f64()).fold(0.0, f64::max);

        let visitors = crowd()?;
        let started = Instant::now();
        site.stop_gunicorn()?;
        let stop = started.elapsed().as_secs_f64();
        let migrations = migrations(site)?;
        let started = Instant::now();
        let (page, start) = std::thread::scope(|scope| {
            let starts = scope.spawn(|| site.start_gunicorn());
            let page = site.page("/");
            let start = started.elapsed().as_secs_f64();
            starts.join().map_err(|_| "a panic")??;
            Outcome::Ok((page?, start))
        })?;
        drop(visitors.leave());
        if page.status != 200 {
            return Err(format!("the page is {}", page.status).into());
        }
        println!(
            "    held: {longest:.2} s; by itself: {stop:.2} s stop, {migrations:.2} s migrations, {start:.2} s start"
        );
        ratios.push(longest / (stop + migrations + start));
    }
    Ok(Row::limited("held socket: longest wait / stop, migrations and start", "x", 1.5, ratios))
}

/// Returns how long the migrations of release 2 take in a Django that is booted, seconds; they are reversed before.
fn migrations(site: &DemoSite) -> Outcome<f64> {
    const SCRIPT: &str = "\
import time
import django
django.setup()
from django.core.management import call_command
call_command('migrate', 'guestbook', '0001', verbosity=0)
begun = time.monotonic()
call_command('migrate', verbosity=0)
print(time.monotonic() - begun)
";
    Ok(run(site.python().args(["-c", SCRIPT]))?.trim().parse()?)
}
