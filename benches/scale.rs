//! Sites that are large in one thing each, and `deploykit plan` against what a person would have to wait for anyway.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::demo_site::{DemoSite, run};
use crate::program::{Cost, DEPLOYKIT, seconds};
use crate::stage::{Stage, directory_of};
use crate::table::Row;

const FILES: usize = 100_000;
const COMMITS: usize = 50_000;
const STATIC_FILES: usize = 50_000;
const MIGRATIONS: usize = 400;
const PACKAGES: usize = 60;
const MANY_PACKAGES: usize = 300;
const RUNS: usize = 1_000;

/// How many modules a package has: as many as is usual, or few, so that many packages are quick to make.
const MODULES: usize = 80;
const FEW_MODULES: usize = 8;

/// How many pairs of ours and theirs are timed.
const PAIRS: usize = 3;

/// The same for what is nearly as quick with both.
const LOCK_PAIRS: usize = 7;

/// How often `status` is timed.
const STATUS: usize = 20;

/// What the plan of a large site may take in memory, in megabytes.
const MEMORY: f64 = 200.0;

/// A repository of many files and commits, of which the next update changes one.
pub fn repository() -> Outcome<Vec<Row>> {
    let stage = grown(|site| import(&site.origin))?;
    // A second tree that is there already, as ours is from the update before.
    let tree = stage.beside("tree");
    let add = ["worktree", "add", "-q", "--detach", &tree.to_string_lossy(), "origin/main"];
    stage.site.git(&stage.site.checkout, &add)?;
    let theirs = || {
        let git = |directory: &Path, args: &[&str]| {
            let mut command = stage.command("git");
            seconds(command.arg("-C").arg(directory).args(args))
        };
        let live = &stage.site.checkout;
        Ok(git(live, &["fetch", "-q", "origin", "main"])?
            + git(live, &["status", "--porcelain", "--untracked-files=no"])?
            + git(live, &["status", "--porcelain", "--ignored"])?
            + git(&tree, &["clean", "-ffdxq"])?
            + git(&tree, &["checkout", "-q", "--force", "--detach", "origin/main"])?)
    };
    let steps = ["fetch", "staged-tree"];
    pairs(&stage, "100,000 files, 50,000 commits", &steps, "its git commands", 1.3, theirs)
}

/// Many static files, of which the next update changes one.
pub fn static_files() -> Outcome<Vec<Row>> {
    let stage = grown(|site| {
        site.publish(|tree| {
            for number in 0..STATIC_FILES {
                let directory = tree.join(format!("project/guestbook/static/many/{}", number / 500));
                let _ = fs::create_dir_all(&directory);
                // Pictures are not compressed once more, which would be all that is measured.
                let _ = fs::write(directory.join(format!("{number}.png")), format!("{number}\n").repeat(100));
            }
        })?;
        Ok(())
    })?;
    // As it is typed: over the live files, of which nearly all are the newest.
    let theirs = || seconds(stage.site.python().args(["manage.py", "collectstatic", "--noinput"]));
    pairs(&stage, "50,000 static files", &[], "collectstatic", 1.3, theirs)
}

/// Many migrations that wait.
pub fn migrations() -> Outcome<Vec<Row>> {
    let stage = grown(|_| Ok(()))?;
    stage.site.publish(|tree| {
        let directory = tree.join("project/guestbook/migrations");
        let mut last = newest_migration(&directory);
        for number in 0..MIGRATIONS {
            let name = format!("1{number:03}_more");
            let mut text = String::from("from django.db import migrations, models\n\n\n");
            let _ = write!(
                text,
                "class Migration(migrations.Migration):\n    dependencies = [(\"guestbook\", \"{last}\")]\n    operations = [\n        migrations.CreateModel(\n            name=\"More{number}\", fields=[(\"id\", models.AutoField(primary_key=True))]\n        )\n    ]\n"
            );
            let _ = fs::write(directory.join(format!("{name}.py")), text);
            last = name;
        }
    })?;
    // It sees the same migrations, and nothing else of the new version.
    let tree = stage.beside("tree");
    stage.site.git(&stage.site.checkout, &["fetch", "-q", "origin", "main"])?;
    let add = ["worktree", "add", "-q", "--detach", &tree.to_string_lossy(), "origin/main"];
    stage.site.git(&stage.site.checkout, &add)?;
    fs::copy(&stage.site.secrets, tree.join("secrets.json"))?;
    let theirs = || {
        let project = tree.join("project");
        let mut seen = 0.0;
        for args in [&["check"][..], &["migrate", "--plan"]] {
            seen += seconds(stage.site.python().current_dir(&project).arg("manage.py").args(args))?;
        }
        Ok(seen)
    };
    pairs(&stage, "400 pending migrations", &[], "check and migrate --plan", 3.0, theirs)
}

/// Many packages, of which the next update changes none, or two.
pub fn packages() -> Outcome<Vec<Row>> {
    let stage = with_packages(PACKAGES, MODULES)?;
    let mut rows = two_of(&stage, PACKAGES)?;
    rows.push(locked(&stage, PACKAGES)?);
    let stage = with_packages(MANY_PACKAGES, FEW_MODULES)?;
    rows.extend(none_of(&stage, MANY_PACKAGES)?);
    rows.extend(two_of(&stage, MANY_PACKAGES)?);
    Ok(rows)
}

/// A site with so many packages of so many modules.
fn with_packages(count: usize, modules: usize) -> Outcome<Stage> {
    grown(|site| {
        let mut make = Command::new("python3");
        make.args(["-c", WHEELS]).arg(&site.extra_wheels).args([count.to_string(), modules.to_string()]);
        run(&mut make)?;
        site.publish(|tree| require(tree, count, 1))?;
        Ok(())
    })
}

/// Changes none of a site's packages: what is asked about them, against an installation that finds all of them.
fn none_of(stage: &Stage, count: usize) -> Outcome<Vec<Row>> {
    let theirs = || {
        let mut pip = stage.site.command(stage.site.virtualenv.join("bin/python"));
        pip.args(["-m", "pip", "install", "-q", "--find-links"]).arg(&stage.site.extra_wheels);
        seconds(pip.arg("-r").arg(stage.site.checkout.join("requirements/production.txt")))
    };
    let (mut plans, mut steps) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let before = if pair % 2 == 0 { Some(theirs()?) } else { None };
        let (Cost { seconds: plan, .. }, step) = planned(stage, &["staged-virtualenv"])?;
        let theirs = before.map_or_else(theirs, Ok)?;
        println!(
            "none of {count} packages: plan {plan:.2} s, of that packages {step:.2} s, pip {theirs:.2} s"
        );
        plans.push(plan / theirs);
        steps.push(step / theirs);
    }
    Ok(vec![
        Row::limited(
            &format!("none of {count} packages changes: staged virtualenv / pip install"),
            "x",
            0.1,
            steps,
        ),
        Row::limited(
            &format!("none of {count} packages changes: the whole plan / pip install"),
            "x",
            1.5,
            plans,
        ),
    ])
}

/// Plans, and returns what that cost and how long these steps took together.
fn planned(stage: &Stage, steps: &[&str]) -> Outcome<(Cost, f64)> {
    let output = stage.beside("plan");
    let cost = crate::program::run(stage.command(DEPLOYKIT).args(["plan", "-v"]), &output)?;
    let told = fs::read_to_string(output.with_extension("err"))?;
    let took = |step: &&str| duration(&told, step).ok_or(format!("there was no step `{step}`"));
    let took = steps.iter().map(took).sum::<Result<f64, String>>()?;
    Ok((cost, took))
}

/// Changes two of a site's packages: the environment alone, against a fresh one.
fn two_of(stage: &Stage, count: usize) -> Outcome<Vec<Row>> {
    stage.site.publish(|tree| require(tree, count, 2))?;
    let environments = stage.site.checkout.join(".deploykit/environments");
    let live = fs::canonicalize(&stage.site.virtualenv)?;
    let tree = stage.beside("tree");
    stage.site.git(&stage.site.checkout, &["fetch", "-q", "origin", "main"])?;
    let add = ["worktree", "add", "-q", "--detach", &tree.to_string_lossy(), "origin/main"];
    stage.site.git(&stage.site.checkout, &add)?;
    let fresh = stage.beside("fresh");
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        remove_staged(stage)?;
        let _ = fs::remove_dir_all(&fresh);
        let (_, ours) = planned(stage, &["staged-virtualenv"])?;
        let mut pip = stage.site.command(fresh.join("bin/python"));
        pip.args(["-m", "pip", "install", "-q", "--find-links"]).arg(&stage.site.extra_wheels);
        pip.arg("-r").arg(tree.join("requirements/production.txt"));
        let theirs =
            seconds(stage.site.command("python3").args(["-m", "venv"]).arg(&fresh))? + seconds(&mut pip)?;
        println!("2 of {count} packages: staged virtualenv {ours:.2} s, a fresh one by pip {theirs:.2} s");
        times.push(ours / theirs);
        let next =
            fs::read_dir(&environments)?.flatten().map(|entry| entry.path()).find(|path| *path != live);
        sizes.push(room(&next.ok_or("no environment is left")?)? / room(&fresh)?);
    }
    Ok(vec![
        Row::limited(
            &format!("2 of {count} packages change: staged virtualenv / a fresh one"),
            "x",
            0.1,
            times,
        ),
        Row::limited(
            &format!("2 of {count} packages change: its room on the disk / a fresh one's"),
            "x",
            0.1,
            sizes,
        ),
    ])
}

/// Changes the same two packages with a lock and with requirements files: the staged virtualenv alone.
fn locked(stage: &Stage, count: usize) -> Outcome<Row> {
    let wheels = directory_of("BENCH_WHEELS", "bench-wheels")?;
    let mut outcome = Ok(());
    stage.site.publish(|tree| {
        let mut write = stage.site.command(stage.site.virtualenv.join("bin/python"));
        write.args(["-c", LOCK]).arg(tree.join("pylock.toml")).arg(&wheels).arg(&stage.site.extra_wheels);
        outcome = run(&mut write).map(|_| ());
    })?;
    outcome?;
    let with_requirements = fs::read_to_string(&stage.site.config)?;
    let files = "requirements = [\"requirements/production.txt\"]";
    let with_lock = with_requirements.replace(files, "lock = \"pylock.toml\"");
    if with_lock == with_requirements {
        return Err("the configuration has no requirements file".into());
    }
    let prepare = |config: &str| {
        fs::write(&stage.site.config, config)?;
        remove_staged(stage)?;
        planned(stage, &["staged-virtualenv"]).map(|(_, seconds)| seconds)
    };
    let mut ratios = Vec::new();
    for pair in 0..LOCK_PAIRS {
        let before = if pair % 2 == 0 { Some(prepare(&with_requirements)?) } else { None };
        let lock = prepare(&with_lock)?;
        let requirements = before.map_or_else(|| prepare(&with_requirements), Ok)?;
        println!(
            "2 of {count} packages: with a lock {lock:.2} s, with requirements files {requirements:.2} s"
        );
        ratios.push(lock / requirements);
    }
    fs::write(&stage.site.config, with_requirements)?;
    let what =
        format!("2 of {count} packages change: staged virtualenv with a lock / with requirements files");
    Ok(Row::limited(&what, "x", 1.1, ratios))
}

/// Removes the virtualenvs that are not live.
fn remove_staged(stage: &Stage) -> Outcome<()> {
    let live = fs::canonicalize(&stage.site.virtualenv)?;
    let all = fs::read_dir(stage.site.checkout.join(".deploykit/environments"))?;
    for staged in all.flatten().map(|entry| entry.path()).filter(|path| *path != live) {
        fs::remove_dir_all(staged)?;
    }
    Ok(())
}

/// Writes `pylock.toml` for what is installed, with the second version of the first two packages.
const LOCK: &str = r#"
import hashlib, importlib.metadata, pathlib, re, sys
lock, *directories = map(pathlib.Path, sys.argv[1:])
wheels = {}
for path in (path for directory in directories for path in directory.glob("*.whl")):
    name, version = path.name.split("-")[:2]
    wheels[re.sub("[-_.]+", "-", name).lower(), version] = path
text = 'lock-version = "1.0"\ncreated-by = "bench"\n'
for package in importlib.metadata.distributions():
    name = re.sub("[-_.]+", "-", package.metadata["Name"]).lower()
    version = "2" if name in ("package0", "package1") else package.version
    wheel = wheels.get((name, version))
    if wheel is None and name in ("pip", "setuptools", "wheel"):
        continue
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    text += f'[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = [{{ name = "{wheel.name}", '
    text += f'url = "https://files.example/{wheel.name}", hashes = {{ sha256 = "{digest}" }} }}]\n'
lock.write_text(text)
"#;

/// A state directory with many past runs.
pub fn runs() -> Outcome<Vec<Row>> {
    let stage = grown(|_| Ok(()))?;
    let directory = stage.site.checkout.join(".deploykit/runs");
    let first =
        fs::read_dir(&directory)?.flatten().map(|entry| entry.path()).next().ok_or("there is no run")?;
    for number in 1..=RUNS {
        run(Command::new("cp").arg("-a").arg(&first).arg(directory.join(format!("20260101-{number}"))))?;
    }
    let time = |command: &str| -> Outcome<Vec<f64>> {
        (0..STATUS).map(|_| Ok(seconds(stage.command(DEPLOYKIT).arg(command))? * 1000.0)).collect()
    };
    Ok(vec![
        Row::limited("1,000 past runs: status, whole process", "ms", 50.0, time("status")?),
        Row::limited("1,000 past runs: history, whole process", "ms", 50.0, time("history")?),
    ])
}

/// A site that was made larger, updated to that, and has one more small change waiting.
fn grown(grow: impl FnOnce(&DemoSite) -> Outcome<()>) -> Outcome<Stage> {
    let mut stage = Stage::build()?;
    // Nobody who does this by hand has one.
    stage.configure("[rehearsal]\nwhen = \"never\"\n");
    stage.begin()?;
    grow(&stage.site)?;
    run(&mut stage.update())?;
    stage.site.publish(|tree| {
        let _ = fs::write(tree.join("project/guestbook/static/guestbook/print.css"), "a { order: new }\n");
    })?;
    Ok(stage)
}

/// Times `deploykit plan`, or these steps of it, and something else in turn, and looks at its memory.
fn pairs(
    stage: &Stage,
    what: &str,
    steps: &[&str],
    other: &str,
    limit: f64,
    theirs: impl Fn() -> Outcome<f64>,
) -> Outcome<Vec<Row>> {
    let (mut ratios, mut memory) = (Vec::new(), Vec::new());
    let name =
        if steps.is_empty() { "plan".to_owned() } else { format!("{} of the plan", steps.join(" and ")) };
    for pair in 0..PAIRS {
        let before = if pair % 2 == 0 { Some(theirs()?) } else { None };
        let (cost, took) = planned(stage, steps)?;
        let ours = if steps.is_empty() { cost.seconds } else { took };
        let theirs = before.map_or_else(&theirs, Ok)?;
        println!("{what}: {name} {ours:.2} s ({:.2} s in all), {other} {theirs:.2} s", cost.seconds);
        ratios.push(ours / theirs);
        memory.push(cost.memory);
    }
    Ok(vec![
        Row::limited(&format!("{what}: {name} / {other}"), "x", limit, ratios),
        Row::limited(&format!("{what}: peak memory of the plan"), "MB", MEMORY, memory),
    ])
}

/// Adds many files and then commits to the newest version of a repository.
fn import(origin: &Path) -> Outcome<()> {
    let mut git = Command::new("git")
        .arg("-C")
        .arg(origin)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut input = BufWriter::new(git.stdin.take().ok_or("git has no input")?);
    for commit in 0..COMMITS {
        let time = 1_700_000_000 + commit;
        writeln!(input, "commit refs/heads/main\ncommitter A <a@example.org> {time} +0000\ndata 1\n-")?;
        let changed = if commit == 0 {
            writeln!(input, "from refs/heads/main^0")?;
            0..FILES
        } else {
            let number = commit * 7919 % FILES;
            number..number + 1
        };
        for number in changed {
            let text = format!("{commit} {number}");
            let path = format!("data/{}/{}/{number}.txt", number / 1000, number / 50 % 20);
            writeln!(input, "M 100644 inline {path}\ndata {}\n{text}", text.len())?;
        }
        writeln!(input)?;
    }
    input.flush()?;
    drop(input);
    if git.wait()?.success() { Ok(()) } else { Err("git fast-import failed".into()) }
}

fn newest_migration(directory: &Path) -> String {
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".py")?.to_owned()));
    names.filter(|name| name.starts_with('0')).max().unwrap_or_default()
}

/// Makes wheels, and of the first two also a second version.
const WHEELS: &str = r#"
import sys, zipfile
directory, count, modules = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
source = "".join(f"def function_{n}(one, two):\n    return one + two * {n}\n\n" for n in range(40))
for number in range(count):
    for version in [1, 2] if number < 2 else [1]:
        name = f"package{number}"
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(f"{directory}/{name}-{version}-py3-none-any.whl", "w") as wheel:
            files = {f"{name}/module{n}.py": source + f"VERSION = {version}\n" for n in range(modules)}
            files[f"{name}/__init__.py"] = ""
            files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            import base64, hashlib
            record = ""
            for path, text in files.items():
                wheel.writestr(path, text)
                digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
                record += f"{path},sha256={digest},{len(text)}\n"
            wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
"#;

/// Requires all of them, the first two in this version.
fn require(tree: &Path, count: usize, version: u32) {
    let path = tree.join("requirements/production.txt");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut text: String = text
        .lines()
        .filter(|line| !line.starts_with("package"))
        .fold(String::new(), |text, line| text + line + "\n");
    for number in 0..count {
        let version = if number < 2 { version } else { 1 };
        let _ = writeln!(text, "package{number}=={version}");
    }
    let _ = fs::write(path, text);
}

/// Reads how many seconds a step took: `✓ staged-virtualenv   2.4 s  2 packages change`.
fn duration(told: &str, step: &str) -> Option<f64> {
    let done = |line: &str| line.trim().strip_prefix("✓ ")?.strip_prefix(step).map(ToOwned::to_owned);
    let line = told.lines().find_map(done)?;
    let mut words = line.split_whitespace();
    let seconds = words.next()?.parse().ok()?;
    (words.next()? == "s").then_some(seconds)
}

/// Returns the bytes that a directory takes of the disk, without files that are elsewhere too.
fn room(directory: &Path) -> Outcome<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let found = entry.metadata()?;
        if found.is_dir() {
            bytes += room(&entry.path())?;
        } else if found.nlink() == 1 {
            #[expect(clippy::cast_precision_loss, reason = "a disk has fewer than 2^52 bytes")]
            let size = found.blocks() as f64 * 512.0;
            bytes += size;
        }
    }
    Ok(bytes)
}
