//! The rehearsal: what it costs, what visitors notice of it, and whether the window with its migrations takes as long as was said.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Outcome;
use crate::crowd::Crowd;
use crate::demo_site::{DemoSite, Options, run, wait_until};
use crate::postgresql::PostgreSql;
use crate::program::{self, Cost, DEPLOYKIT};
use crate::stage::{directory_of, person, which};
use crate::table::Row;

/// Rows of the table that each release changes.
const ENTRIES: u32 = 100_000;

/// How many of them are saved one by one; all are changed by one statement, too.
const SAVED: u32 = 10_000;

/// From one visitor to the next: 20 a second, which two workers can bear where each request connects to the database anew.
const BEAT: Duration = Duration::from_millis(50);

/// What visitors ask for; the last one writes.
const PAGES: &[&str] = &["/", "/about/", "/version/", "/", ""];

/// A site, with its database in a file or on a server.
struct Place {
    // In the order in which they end.
    site: DemoSite,
    server: Option<PostgreSql>,
    directory: tempfile::TempDir,
}

/// One update.
struct Round {
    /// The middle answer meanwhile, over the one before.
    copy_slower: f64,
    migrations_slower: f64,
    /// Seconds.
    copy: f64,
    rehearsal: f64,
    window: f64,
    migrations: f64,
    /// Of the window, over its real duration.
    forecast: f64,
}

/// Updates such sites; the server's database has so many megabytes.
pub fn rows(rounds: usize, megabytes: usize) -> Outcome<Vec<Row>> {
    let mut rows = Place::build(None)?.measure("SQLite", rounds)?;
    let server = PostgreSql::start()?;
    let place = Place::build(Some(server))?;
    let size = place.server.as_ref().map_or(Ok(0.0), |server| {
        server.fill(megabytes)?;
        server.megabytes()
    })?;
    rows.extend(place.measure(&format!("PostgreSQL, {size:.0} MB"), rounds)?);
    Ok(rows)
}

impl Place {
    fn build(server: Option<PostgreSql>) -> Outcome<Place> {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let tools = directory_of("DEPLOYKIT_TEST_TOOLS", "test-tools")?;
        let options = Options {
            supervisord: Some(tools.join("venv/bin/supervisord")),
            uv: Some(tools.join("venv/bin/uv")),
            wheels: Some(tools.join("wheels")),
            nginx: Some(which("nginx")?),
            entries: ENTRIES,
            server: server.as_ref().map(PostgreSql::server),
            ..Options::new(tools.join("venv/bin/python").canonicalize()?)
        };
        let mut site = DemoSite::create(&directory.path().join("site"), &options)?;
        let text = fs::read_to_string(&site.config)?;
        // A copy of the whole database would be most of the window, and a slow machine is no reason to leave rows out.
        let more = "[rehearsal]\nwhen = \"always\"\ntime-limit = \"1h\"\n\n[database]\nbackup = \"never\"\n";
        fs::write(&site.config, format!("{text}\n{more}"))?;
        site.start()?;
        let place = Place { site, server, directory };
        // The first update is no measure of the next ones.
        place.publish(0)?;
        run(place.deploykit("update").arg("-y"))?;
        Ok(place)
    }

    fn measure(self, name: &str, rounds: usize) -> Outcome<Vec<Row>> {
        let mut all = Vec::new();
        for number in 1..=rounds {
            self.publish(number)?;
            all.push(self.update(name)?);
        }
        self.publish(rounds + 1)?;
        let without = self.plan("--no-rehearsal")?;
        let with = self.plan("--look")?;
        let each = |value: fn(&Round) -> f64| all.iter().map(value).collect::<Vec<f64>>();
        let what = |what: &str| format!("{name}: {what}");
        let mut rows = vec![
            Row::within(
                &what("forecast of a window with migrations / its duration"),
                1.3,
                each(|round| round.forecast),
            ),
            Row::limited(
                &what("middle answer, during the copy / before"),
                "x",
                1.5,
                each(|round| round.copy_slower),
            ),
            Row::limited(
                &what("middle answer, during the rehearsed migrations / before"),
                "x",
                2.0,
                each(|round| round.migrations_slower),
            ),
            Row::shown(&what("window"), "s", each(|round| round.window)),
            Row::shown(&what("its migrations"), "s", each(|round| round.migrations)),
            Row::shown(&what("rehearsal"), "s", each(|round| round.rehearsal)),
            Row::shown(&what("its copy"), "s", each(|round| round.copy)),
            Row::shown(&what("read from the disk for the rehearsal"), "MB", vec![with.read - without.read]),
            Row::shown(&what("written for the rehearsal"), "MB", vec![with.written - without.written]),
        ];
        if self.server.is_none() {
            // The copy of a small file is over before visitors can tell.
            rows.remove(1);
        }
        Ok(rows)
    }

    /// Publishes a release with a new column, an index and data in it; the first one has none.
    fn publish(&self, number: usize) -> Outcome<()> {
        let mut done = Ok(());
        self.site.publish(|tree| {
            let project = tree.join("project");
            done = fs::write(project.join("config/release.py"), format!("RELEASE = \"{}\"\n", number + 1))
                .and_then(|()| if number == 0 { Ok(()) } else { change(&project.join("guestbook"), number) });
        })?;
        Ok(done?)
    }

    fn deploykit(&self, command: &str) -> std::process::Command {
        let mut program = person(&self.site, DEPLOYKIT);
        program.arg(command);
        program
    }

    fn plan(&self, option: &str) -> Outcome<Cost> {
        program::run(self.deploykit("plan").arg(option), &self.beside("output"))
    }

    fn update(&self, name: &str) -> Outcome<Round> {
        let (events, output) = (self.beside("events.jsonl"), self.beside("output"));
        if events.exists() {
            fs::remove_file(&events)?;
        }
        // What was written before is nobody's business here.
        rustix::fs::sync();
        let before = Instant::now();
        let crowd = Crowd::start(&self.site.front_address, BEAT, PAGES);
        if !wait_until(Duration::from_secs(60), || crowd.served() > 200) {
            return Err(format!("nobody is served:\n{}", self.site.logs()).into());
        }
        let cost =
            program::run(self.deploykit("update").args(["-y", "--json", "--events"]).arg(&events), &output)?;
        let seen = crowd.finish();
        let report: Value = serde_json::from_str(&fs::read_to_string(&output)?)?;
        let events = fs::read_to_string(&events)?;
        let events = events.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let step = |event: &str, step: &str| {
            let found = events.iter().find(|one| one["event"] == event && one["step"] == step);
            found.ok_or_else(|| format!("no `{event}` of `{step}`"))
        };
        let at = |event: &str, name: &str| -> Outcome<Instant> {
            Ok(cost.began + Duration::from_secs_f64(seconds(&step(event, name)?["elapsed_ms"])))
        };
        // The live version is booted on the copies first.
        let (begun, migrates) =
            (at("step_started", "live-check")?, at("step_started", "rehearse-migrations")?);
        let migrated = at("step_finished", "rehearse-migrations")?;
        // Written as soon as the copies are there.
        let copied = fs::metadata(self.site.checkout.join(".deploykit/copied.json"))?.modified()?;
        let copied = Instant::now() - copied.elapsed()?;
        let usual = seen.median_wait(before, cost.began);
        let (forecast, window) = (seconds(&report["forecast"]["window_ms"]), seconds(&report["window_ms"]));
        let migrate = step("step_finished", "migrate")?;
        println!(
            "{name}: middle answers {:.1} ms before, {:.1} ms during the copy, {:.1} ms during the migrations",
            usual * 1e3,
            seen.median_wait(begun, copied) * 1e3,
            seen.median_wait(migrates, migrated) * 1e3
        );
        println!(
            "{name}: {window:.2} s of window, forecast {forecast:.2} s; migrate {:.2} s; {}",
            seconds(&migrate["duration_ms"]),
            step("step_finished", "rehearse-migrations")?["outcome"]
        );
        Ok(Round {
            copy_slower: seen.median_wait(begun, copied) / usual,
            migrations_slower: seen.median_wait(migrates, migrated) / usual,
            copy: copied.saturating_duration_since(begun).as_secs_f64(),
            rehearsal: at("step_finished", "rehearse-pages")?.saturating_duration_since(begun).as_secs_f64(),
            window,
            migrations: seconds(&migrate["duration_ms"]),
            forecast: forecast / window,
        })
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Adds a column with an index, and fills it.
fn change(app: &std::path::Path, number: usize) -> std::io::Result<()> {
    let models = app.join("models.py");
    let text = fs::read_to_string(&models)?;
    let field = format!("mood_{number} = models.CharField(max_length=80, default=\"\")");
    let index = format!("models.Index(fields=[\"mood_{number}\"], name=\"entry_mood_{number}\")");
    let written = "    written = models.DateTimeField(auto_now_add=True)\n";
    let text = text.replace(written, &format!("{written}    {field}\n"));
    fs::write(&models, text.replace("name=\"entry_author\")", &format!("name=\"entry_author\"), {index}")))?;
    let (last, column, data) = (2 * number - 1, 2 * number, 2 * number + 1);
    let last = if number == 1 { "0001_initial".to_owned() } else { format!("{last:04}_fill_{}", number - 1) };
    let column = format!("{column:04}_mood_{number}");
    let head = "from django.db import migrations, models\nfrom django.db.models.functions import Upper\n";
    let class = |before: &str, operations: &str| {
        format!(
            "\n\nclass Migration(migrations.Migration):\n    dependencies = [(\"guestbook\", \"{before}\")]\n    \
             operations = [{operations}]\n"
        )
    };
    let operations = format!(
        "migrations.AddField(\"entry\", \"mood_{number}\", models.CharField(max_length=80, default=\"\")), \
         migrations.AddIndex(\"entry\", {index})"
    );
    let migrations = app.join("migrations");
    fs::write(migrations.join(format!("{column}.py")), format!("{head}{}", class(&last, &operations)))?;
    let fill = format!(
        "\n\ndef fill(apps, schema_editor):\n    entries = apps.get_model(\"guestbook\", \"Entry\").objects\n    \
         for entry in entries.order_by(\"pk\")[:{SAVED}]:\n        entry.mood_{number} = entry.author[:8]\n        \
         entry.save(update_fields=[\"mood_{number}\"])\n    entries.update(mood_{number}=Upper(\"author\"))\n"
    );
    let class = class(&column, "migrations.RunPython(fill, migrations.RunPython.noop)");
    fs::write(migrations.join(format!("{data:04}_fill_{number}.py")), format!("{head}{fill}{class}"))
}

/// Reads milliseconds as seconds.
fn seconds(value: &Value) -> f64 {
    value.as_f64().map_or(f64::NAN, |milliseconds| milliseconds / 1000.0)
}
