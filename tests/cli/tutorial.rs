//! The tutorial and the guides, followed on a site: their commands run in order, and what is shown is what they print.
//!
//! `SNAPSHOTS=overwrite` writes what they print now into the pages, and draws the pictures again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anstyle_svg::Term;
use regex_lite::Regex;
use snapbox::{Data, assert_data_eq};

use crate::run::steady;
use crate::support::releases::{add_column, add_migration, append};
use crate::support::root;
use crate::support::site::TestSite;

/// The guides whose commands run on the site of the tutorial, after it. The other blocks of `docs/` that are marked as shell
/// are parsed only: what they need is not there, or they are not for a reader's site.
const GUIDES: [&str; 7] = [
    "how-to/supervisor.md",
    "how-to/systemd.md",
    "how-to/packages.md",
    "how-to/staging.md",
    "how-to/cron.md",
    "exit-codes.md",
    "how-to/rollback.md",
];

/// A reader at a shell on the server.
struct Reader {
    site: TestSite,
    directory: PathBuf,
    /// The last command.
    typed: String,
    /// What it printed, with its colours.
    printed: String,
}

impl Reader {
    /// Takes a site that no deploykit has updated yet, and that has a new commit.
    fn new() -> Option<Reader> {
        let site = TestSite::builder().nginx().rehearsal().start()?;
        fs::remove_file(&site.config).unwrap();
        // It confirms, and does not wait for the announced time.
        let script = format!(
            "#!/bin/sh\ncase $1 in update | rollback)\n    for flag in -y --now; do\n        case \" $* \" in\n            \
             *\" $flag \"*) ;;\n            *) set -- \"$@\" $flag ;;\n        esac\n    done ;;\nesac\n\
             exec {} --color always \"$@\"\n",
            env!("CARGO_BIN_EXE_deploykit")
        );
        let bin = site.root.join("bin");
        fs::create_dir(&bin).unwrap();
        let program = bin.join("deploykit");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        site.publish_as("Ask for the mood", |tree| {
            add_column(tree);
            append(tree, "project/guestbook/static/guestbook/site.css", "h1 { color: #235 }\n");
            append(tree, "requirements/production.txt", "humanize\n");
        })
        .unwrap();
        Some(Reader { directory: site.root.clone(), site, typed: String::new(), printed: String::new() })
    }

    /// Types a block into a shell, which must end with this code.
    #[track_caller]
    fn types(&mut self, block: &str, code: i32) {
        if block.contains("--from-copy") {
            // There must be an update that only its copy undoes.
            let body = "def shout(apps, schema_editor):\n    pass\n";
            let add = |tree: &Path| {
                add_migration(tree, "0003_shout", "0002_entry_mood", body, "migrations.RunPython(shout)");
            };
            self.site.publish_as("Shout", add).unwrap();
            self.types("deploykit update --now", 0);
        }
        self.typed = block.trim_end().lines().last().unwrap().to_owned();
        let root = self.site.root.display().to_string();
        let left = self.site.root.join("run/directory");
        let block =
            block.replace("/usr/local/bin/deploykit", "deploykit").replace("/srv/", &format!("{root}/"));
        let mut shell = Command::new("sh");
        self.site.dress(&mut shell);
        let path = shell.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path).unwrap();
        let path = format!("{root}/bin:{}", path.to_str().unwrap());
        shell.env("PATH", path).env("TZ", "UTC").current_dir(&self.directory);
        shell.arg("-ec").arg(format!("trap 'pwd >{}' EXIT\nexec 2>&1 </dev/null\n{block}", left.display()));
        let done = shell.output().unwrap();
        self.printed = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(code), "{block}\n{}", self.printed);
        self.directory = fs::read_to_string(left).unwrap().trim_end().into();
    }

    /// Returns a text as the site of the page would have it, and not this one in its temporary directory.
    fn told(&self, text: &str) -> String {
        let text = text.replace(&self.site.root.display().to_string(), "/srv");
        text.replace(&self.site.gunicorn_address, "127.0.0.1:8000")
    }

    /// Returns the last command's output without colours.
    fn text(&self) -> String {
        self.told(&anstream::adapter::strip_str(&self.printed).to_string())
    }

    /// Does what a page says, and returns the page with what is to be seen now.
    fn follows(&mut self, page: &Path) -> String {
        let document = fs::read_to_string(page).unwrap();
        let picture = Regex::new(r"\]\(images/([a-z]+)\.svg\)").unwrap();
        let mut written = String::new();
        for (index, part) in document.split("\n```").enumerate() {
            let separator = if index == 0 { "" } else { "\n```" };
            let (info, text) = part.split_once('\n').unwrap_or((part, ""));
            let text = match info.split_once(' ').unwrap_or((info, "")) {
                _ if index % 2 == 0 => {
                    if let Some(found) = picture.captures(part) {
                        self.sees(&page.with_file_name(format!("images/{}.svg", &found[1])));
                    }
                    text.to_owned()
                }
                ("sh", code) => {
                    let code = code.strip_prefix("exit-").map_or(0, |code| code.parse().unwrap());
                    self.types(text, code);
                    text.to_owned()
                }
                ("text", _) => current(text, &self.text(), false),
                ("toml", _) if page.ends_with("tutorial.md") => {
                    let config = fs::read_to_string(&self.site.config).unwrap();
                    current(text, &self.told(&config), true)
                }
                _ => text.to_owned(),
            };
            written.push_str(&format!("{separator}{info}\n{text}"));
        }
        // What the last part lacks.
        written.truncate(written.trim_end().len());
        written + "\n"
    }

    /// Compares a picture with the last output.
    fn sees(&self, picture: &Path) {
        let name = picture.display();
        let printed = self.told(&self.printed);
        // Only on a slow machine.
        let lines = printed.trim_end().lines().filter(|line| !line.ends_with(" so far"));
        let text = lines.fold(format!("$ {}", self.typed), |text, line| format!("{text}\n{line}"));
        let drawn = Term::new().render_svg(&text);
        let drawn = drawn.replace(".dimmed { opacity: 0.4; }", ".dimmed { opacity: 0.7; }");
        assert!(drawn.len() < 60_000, "{name} has {} bytes", drawn.len());
        let old = fs::read_to_string(picture).unwrap_or_default();
        let drawn = if is_shown(&lettering(&old), &lettering(&drawn), false) { old } else { drawn };
        assert_data_eq!(drawn, Data::read_from(picture, None).raw());
    }
}

/// Returns the text in a picture.
fn lettering(svg: &str) -> String {
    let lines = svg.split("<tspan x=").skip(1).map(|line| {
        let line = Regex::new("^[^>]*>|<[^>]*>").unwrap().replace_all(line, "").into_owned();
        let line = line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

/// Puts names in the place of what differs from run to run.
fn lasting(text: &str) -> String {
    let text = steady(text, None);
    [(r"\b[0-9a-f]{7}\b", "[COMMIT]"), (r"\b\d+ kB\b", "[SIZE]"), (r" +(#|\n)", " $1")]
        .into_iter()
        .fold(text, |text, (pattern, name)| {
            Regex::new(pattern).unwrap().replace_all(&text, name).into_owned()
        })
}

/// Tells whether a text is what is printed. A line `…` stands for any number of lines; with `gaps`, it is everywhere.
fn is_shown(shown: &str, printed: &str, gaps: bool) -> bool {
    let (shown, printed) = (lasting(shown), lasting(printed));
    let mut printed = printed.trim_end().lines();
    let mut gap = gaps;
    for line in shown.trim_end().lines() {
        if line.trim() == "…" {
            gap = true;
            continue;
        }
        let found = if gap { printed.any(|other| other == line) } else { printed.next() == Some(line) };
        if !found {
            return false;
        }
        gap = gaps;
    }
    gap || printed.next().is_none()
}

/// Returns a text that is shown if it is still what is printed, else what is printed.
fn current(shown: &str, printed: &str, gaps: bool) -> String {
    if is_shown(shown, printed, gaps) { shown.to_owned() } else { printed.trim_end().to_owned() }
}

#[test]
fn is_followed_on_a_site() {
    let Some(mut reader) = Reader::new() else { return };
    for page in ["tutorial.md"].iter().chain(&GUIDES) {
        let page = root().join("docs").join(page);
        let written = reader.follows(&page);
        assert_data_eq!(written, Data::read_from(&page, None).raw());
    }
}
