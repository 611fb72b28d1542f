//! Cron jobs, which `exec` keeps out of an update.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use snapbox::prelude::*;
use snapbox::{assert_data_eq, str};

use crate::documents::assert_documented;
use crate::run::{Running, deploykit, on, wait_for};
use crate::support::releases::publish_good;
use crate::support::site::TestSite;
use crate::support::snapshot::{Snapshot, assert_same};
use crate::updates::Pause;

/// Starts a job that writes a line into a file, and then runs until it is told to end.
fn started(site: &TestSite, name: &str, flags: &[&str]) -> Running {
    let line = format!("echo {name} >> ran; while [ ! -e end ]; do sleep 0.05; done");
    let args = [&["exec"], flags, &["--", "sh", "-c", &line]].concat();
    on(site, &args).in_directory(&site.root).env("DEPLOYKIT_CONFIG", site.config.to_str().unwrap()).start()
}

fn ran(site: &TestSite) -> String {
    fs::read_to_string(site.root.join("ran")).unwrap_or_default()
}

#[test]
fn jobs_wait_for_an_update_and_an_update_waits_for_jobs() {
    let Some(site) = TestSite::builder().start() else { return };
    let site = &site;
    let exec = |args: &[&str]| on(site, &[&["exec"], args].concat());
    the_first_job_begins_after_the_plan(site);

    // It is the command: directory, input, output, exit code.
    let done = exec(&["--", "sh", "-c", "pwd; cat; echo oops >&2; exit 7"]).input("said").run();
    let done = done.expect(7);
    assert_eq!(done.stdout, format!("{}\nsaid", site.checkout.display()));
    assert_eq!(done.stderr, "oops\n");
    exec(&["--skip", "--", "true"]).run().expect(0);
    let done = exec(&["--", "no-such-program", "x"]).run().expect(127);
    assert!(done.stderr.contains("cannot run `no-such-program`: No such file"), "{}", done.stderr);
    assert!(done.stderr.contains("\nHint: write the absolute path of the program: "), "{}", done.stderr);
    let done = exec(&["--", "/no-such-program"]).run().expect(127);
    assert!(!done.stderr.contains("Hint:"), "{}", done.stderr);
    let done = exec(&["--", "/"]).run().expect(126);
    assert!(done.stderr.contains("\nHint: name a program: this is a directory"), "{}", done.stderr);
    let script = site.root.join("job-of-nobody");
    fs::write(&script, "#!/no-such-interpreter\n").unwrap();
    for (mode, hint) in
        [(0o600, "make the file executable: "), (0o700, "the file exists, but not the interpreter")]
    {
        fs::set_permissions(&script, fs::Permissions::from_mode(mode)).unwrap();
        for named in [script.to_str().unwrap(), "job-of-nobody"] {
            let path = format!("{}:{}", site.root.display(), std::env::var("PATH").unwrap());
            let done = exec(&["--", named]).env("PATH", &path).run().expect(126);
            assert!(done.stderr.contains(&format!("\nHint: {hint}")), "{}", done.stderr);
        }
    }
    exec(&["true"]).run().expect(2);

    // Two jobs that run: the plan names them, and an update that does not want to wait is refused.
    fs::write(
        &site.config,
        fs::read_to_string(&site.config)
            .unwrap()
            .replace("[maintenance]\n", "[maintenance]\nwait-for-jobs = \"1s\"\n"),
    )
    .unwrap();
    publish_good(site, "jobs");
    let (first, second) = (started(site, "first", &[]), started(site, "second", &["--skip"]));
    wait_for("both jobs run", || ran(site).lines().count() == 2);
    let plan = on(site, &["plan"]).run().expect(0);
    let (_, rows) = plan.stdout.split_once("  jobs  ").expect("a row");
    assert!(
        rows.trim_start().starts_with("2 jobs run now; the step waits up to 1s for their end\n"),
        "{}",
        plan.stdout
    );
    assert!(rows.contains(&format!("(process {}, since ", first.id())), "{}", plan.stdout);
    assert_documented("plan", &on(site, &["plan", "--json"]).run().expect(0).json());
    let before = Snapshot::of(site);
    let refused = on(site, &["update", "-y"]).run().expect(4);
    let said = &refused.stderr;
    assert!(
        said.contains("after 1s, 2 jobs still run:") && said.contains("`sh -c 'echo first >> ran; "),
        "{said}"
    );
    assert!(said.contains(&format!("(process {}, since ", second.id())), "{said}");
    assert!(said.contains("or raise `maintenance.wait-for-jobs`"), "{said}");
    assert_same(&before, &Snapshot::of(site));

    // A job that is killed leaves nothing in the way, and one that ends in time is waited for.
    first.signal(Signal::KILL);
    let config = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, config.replace("wait-for-jobs = \"1s\"", "wait-for-jobs = \"5m\"")).unwrap();
    drop(first);
    let pause = Pause::after(site, "code");
    let update = on(site, &["update", "-y"]).start();
    wait_for_the_step(site);
    // From now on, none starts.
    let skipped = exec(&["--skip", "--", "touch", "skipped"]).run().expect(0);
    assert!(skipped.stderr.starts_with("skipped: run "), "{}", skipped.stderr);
    assert_eq!(exec(&["-q", "--skip", "--", "touch", "skipped"]).run().expect(0).stderr, "");
    let late = exec(&["--wait", "200ms", "--", "touch", "late"]).run().expect(4);
    assert!(late.stderr.contains(" is changing the site\n"), "{}", late.stderr);
    let waiting = started(site, "third", &[]);
    assert!(!ran(site).contains("third"));
    fs::write(site.root.join("end"), "").unwrap();
    second.finish().expect(0);
    pause.wait();
    exec(&["--skip", "--", "touch", "skipped"]).run().expect(0);
    assert!(!ran(site).contains("third"));

    // A killed update keeps jobs out until it is rolled back.
    update.signal(Signal::KILL);
    drop(update);
    let late = exec(&["--wait", "200ms", "--", "touch", "late"]).run().expect(4);
    assert!(late.stderr.contains(" is unfinished\n"), "{}", late.stderr);
    pause.go_on();
    on(site, &["recover"]).run().expect(0);
    waiting.finish().expect(0);
    assert!(ran(site).ends_with("third\n"));
    assert!(!site.checkout.join("late").exists() && !site.checkout.join("skipped").exists());
    site.wait_until_serving(Duration::from_secs(60)).unwrap();
}

/// The plan has no step for jobs, since there was none; the run waits for the job all the same.
fn the_first_job_begins_after_the_plan(site: &TestSite) {
    publish_good(site, "first");
    let Some(mut update) = on(site, &["update"]).on_terminal() else { return };
    update.wait_for("[y/N]");
    assert!(!update.screen().contains("jobs"), "{}", update.screen());
    let job = started(site, "early", &[]);
    wait_for("the job runs", || ran(site).contains("early"));
    update.type_in("y\n");
    wait_for_the_step(site);
    fs::write(site.root.join("end"), "").unwrap();
    job.finish().expect(0);
    update.wait_for(" s for 1 job");
    assert!(update.screen().contains("waited "), "{}", update.screen());
    update.finish().expect(0);
    for file in ["end", "ran"] {
        fs::remove_file(site.root.join(file)).unwrap();
    }
}

/// Waits until an update waits for jobs.
fn wait_for_the_step(site: &TestSite) {
    let entry = "\"entry\":\"step_started\",\"step\":\"jobs\"";
    wait_for("an update waits for jobs", || {
        let runs = fs::read_dir(site.config.with_file_name(".deploykit/runs")).unwrap().flatten();
        runs.map(|run| run.path().join("journal.jsonl")).any(|journal| {
            fs::read_to_string(journal).is_ok_and(|text| text.ends_with("\n") && last_is(&text, entry))
        })
    });
}

/// Tells whether the last line of a journal has this.
fn last_is(journal: &str, entry: &str) -> bool {
    journal.lines().last().is_some_and(|line| line.contains(entry))
}

#[test]
fn the_help_has_the_exit_codes() {
    assert_data_eq!(
        deploykit("/", &["exec", "--help"]).run().expect(0).text(None),
        str![[r#"
exit code 0
--- stdout
Run a command, such as a cron job, once no update is running

Usage: deploykit exec [OPTIONS] -- <COMMAND>...

Arguments:
  <COMMAND>...  The command and its arguments

Options:
      --skip         If the site is being changed, skip the command and exit with 0
      --wait <TIME>  Maximum wait for an update or an unfinished run [default: 1h]
  -h, --help         Print help

Global options:
  -c, --config <FILE>       The configuration; default: deploykit.toml here or in a directory above
                            [env: DEPLOYKIT_CONFIG=]
  -e, --environment <NAME>  Override the environment; default: the one in the configuration [env:
                            DEPLOYKIT_ENVIRONMENT=] [possible values: production, staging,
                            development]
      --json                Print one JSON document on the standard output
  -q, --quiet               Print errors only
  -v, --verbose...          Print more; twice: every command
      --color <WHEN>        When to use colour [default: auto] [possible values: auto, always,
                            never]

Exit codes: that of the command, or
  0  not run: the site is being changed, and `--skip` is given
  2  usage error
  3  configuration error, or the configuration belongs to another user
  4  not run: the site was still being changed after `--wait`, or the job cannot be registered
126  the program cannot be executed
127  there is no such program

"#]]
        .raw()
    );
}

#[test]
fn a_job_meets_the_signals_of_its_group_and_dies_of_them() {
    let Some(site) = TestSite::builder().build() else { return };
    let Some(setsid) = crate::support::program("setsid") else { return };
    let mut command = Command::new(setsid);
    command.args([env!("CARGO_BIN_EXE_deploykit"), "exec", "--", "sh", "-c", "echo $$; sleep 600; true"]);
    let mut job = command.current_dir(site.config.parent().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    // Then the command has taken the place of deploykit.
    let mut line = String::new();
    BufReader::new(job.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), job.id().to_string());
    kill_process_group(Pid::from_child(&job), Signal::TERM).unwrap();
    assert_eq!(job.wait().unwrap().signal(), Some(15));
}

#[test]
fn cron_runs_a_job_once_the_run_before_it_is_over() {
    crate::support::leave_out_if_fast("cron");
    if !rustix::process::geteuid().is_root() {
        crate::support::skip("only root can run a cron of its own")
    }
    let Some(cron) = crate::support::program("cron") else { return };
    if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
        crate::support::skip("no mount namespace can be made here")
    }
    let directory = tempfile::Builder::new().prefix("deploykit-cron-").tempdir().unwrap();
    let path = directory.path();
    let config = path.join("deploykit.toml");
    fs::write(&config, "environment = \"production\"\n").unwrap();
    assert!(Command::new("git").args(["init", "--quiet"]).arg(path).status().unwrap().success());

    // A run in its window, and a crontab whose entries run when cron starts.
    let run = path.join(".deploykit/runs/20261128-1");
    let journal = run.join("journal.jsonl");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&run).unwrap();
    fs::write(&journal, JOURNAL).unwrap();
    let exec = format!("{} -q -c {} exec", env!("CARGO_BIN_EXE_deploykit"), config.display());
    let touch = |name: &str| format!("touch {}", path.join(name).display());
    let order = path.join("order");
    let say = |word: &str| format!("echo {word} >> {}", order.display());
    let tab = format!(
        "@reboot {}; {exec} --wait 2m -- sh -c '{}'\n@reboot {exec} --skip -- {}; {}\n",
        say("began"),
        say("ran"),
        touch("skipped"),
        touch("decided")
    );
    fs::write(path.join("crontab"), tab).unwrap();
    let script = "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /etc/cron.d && \
                  mount --bind /dev/null /etc/crontab && mount -t tmpfs -o mode=1730 tmpfs /var/spool/cron/crontabs && \
                  crontab crontab && exec \"$0\" -f";
    let mut command = Command::new("unshare");
    command.args(["--mount", "setpriv", "--pdeathsig", "KILL", "sh", "-c", script]).arg(cron);
    let mut cron = command.current_dir(path).spawn().unwrap();
    wait_for("the other job is skipped", || path.join("decided").exists());
    let registered = || fs::read_dir(path.join(".deploykit/jobs")).is_ok_and(|jobs| jobs.count() > 0);
    let said = || fs::read_to_string(&order).unwrap_or_default();
    wait_for("the first job begins", || said() == "began\n");
    wait_for("no job is registered", || !registered() && path.join(".deploykit/jobs").exists());
    fs::write(&order, "began\nover\n").unwrap();
    fs::write(&journal, format!("{JOURNAL}{OVER}")).unwrap();
    wait_for("the job runs", || said().ends_with("ran\n"));
    assert_eq!(said(), "began\nover\nran\n");
    assert!(!path.join("skipped").exists());
    cron.kill().unwrap();
    cron.wait().unwrap();
}

/// A journal of a run that stopped the web.
const JOURNAL: &str = concat!(
    r#"{"entry":"run_started","version":1,"run":"20261128-1","time":"2026-11-28T18:30:00Z","pid":1,"#,
    r#""user":"root","environment":"production","from":"a","to":"b","hold":[],"beside":[],"planned":[]}"#,
    "\n",
    r#"{"entry":"step_started","step":"stop-web","phase":"window","time":"2026-11-28T18:30:00Z","actions":[],"undo":[]}"#,
    "\n"
);

/// Its last line.
const OVER: &str = "{\"entry\":\"run_finished\",\"outcome\":\"updated\",\"time\":\"2026-11-28T18:31:00Z\"}\n";
