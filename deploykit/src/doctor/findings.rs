//! What is said about a site: one finding after another.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::error_chain;
use crate::host::Redactor;

macro_rules! topics {
    ($($(#[$doc:meta])* $name:ident $word:literal)*) => {
        /// What a finding is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Topic {
            $($(#[$doc])* $name,)*
        }

        impl Topic {
            /// All topics, in the order of their findings.
            pub const ALL: &[Topic] = &[$(Topic::$name),*];

            /// Returns its name: `git`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Topic::$name => $word,)*
                }
            }
        }
    };
}

topics! {
    /// The configuration: what it lacks, and which questions of `init` are open.
    Configuration "configuration"
    /// The user, and what the user may write.
    User "user"
    /// A run that goes on, pauses or is unfinished.
    Runs "runs"
    /// The checkout and its remote.
    Git "git"
    /// The virtualenv and the installer.
    Python "python"
    /// The secrets that the code asks for.
    Secrets "secrets"
    /// Whether Django boots.
    Django "django"
    /// The databases, and whether they can be copied.
    Database "database"
    /// The services and their managers.
    Services "services"
    /// The pages of the live site.
    Pages "pages"
    /// The room on the disks.
    Disk "disk"
    /// Who holds the listening socket of the web.
    Socket "socket"
    /// The maintenance page.
    Page "page"
    /// When maintenance is announced.
    Maintenance "maintenance"
    /// How long Django boots, and whether visitors wait for it.
    Boot "boot"
    /// How long the windows were, and what took longest.
    Window "window"
    /// Whether updates are rehearsed.
    Rehearsal "rehearsal"
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// An update works; with this, its window would be shorter, or its rollback more certain.
    Advice,
    /// An update would be refused, fail, or leave something out.
    Problem,
}

/// Something that was found about a site.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about.
    pub topic: Topic,
    /// How good it is.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// What to do, if it is not good: a command to type, or a key to set.
    pub way_out: Option<String>,
    /// The error that it was found by.
    #[serde(skip)]
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Finding {
    /// Makes a finding without a way out.
    #[must_use]
    pub fn new(topic: Topic, level: Level, text: impl Into<String>) -> Self {
        Finding { topic, level, text: text.into(), way_out: None, source: None }
    }
}

/// Collects findings, topic by topic.
#[derive(Debug, Default)]
pub(super) struct Findings {
    topic: Option<Topic>,
    all: Vec<Finding>,
}

impl Findings {
    /// Begins a topic, which the next findings are about.
    pub(super) fn begin(&mut self, topic: Topic) {
        self.topic = Some(topic);
    }

    /// Tells whether nothing was found about the topic yet.
    pub(super) fn is_empty(&self) -> bool {
        self.all.last().map(|last| last.topic) != self.topic
    }

    pub(super) fn good(&mut self, text: impl Into<String>) {
        self.add(Level::Good, text.into(), None, None);
    }

    pub(super) fn advice(&mut self, text: impl Into<String>, way_out: impl Into<String>) {
        self.add(Level::Advice, text.into(), Some(way_out.into()), None);
    }

    pub(super) fn problem(&mut self, text: impl Into<String>, way_out: impl Into<String>) {
        self.add(Level::Problem, text.into(), Some(way_out.into()), None);
    }

    /// Adds an error as a problem.
    pub(super) fn error(
        &mut self,
        error: impl Into<Box<dyn Error + Send + Sync>>,
        way_out: impl Into<String>,
    ) {
        let source: Arc<dyn Error + Send + Sync> = error.into().into();
        self.add(Level::Problem, error_chain(source.as_ref()), Some(way_out.into()), Some(source));
    }

    fn add(
        &mut self,
        level: Level,
        text: String,
        way_out: Option<String>,
        source: Option<Arc<dyn Error + Send + Sync>>,
    ) {
        // A check runs within its topic.
        let Some(topic) = self.topic else { return };
        // Several services have the same manager.
        if !self.all.iter().any(|other| other.topic == topic && other.text == text) {
            self.all.push(Finding { topic, level, text, way_out, source });
        }
    }

    /// Returns all findings without secrets.
    pub(super) fn hiding(self, redactor: &Redactor) -> Vec<Finding> {
        let hide = |mut finding: Finding| {
            for text in [&mut finding.text].into_iter().chain(&mut finding.way_out) {
                *text = redactor.redact(text).into_owned();
            }
            finding
        };
        self.all.into_iter().map(hide).collect()
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::{Findings, Level, Topic};

    /// Returns what a check finds: levels, texts and ways out.
    pub(in crate::doctor) fn found(
        check: impl FnOnce(&mut Findings),
    ) -> Vec<(Level, String, Option<String>)> {
        let mut findings = Findings::default();
        findings.begin(Topic::Git);
        check(&mut findings);
        findings.all.into_iter().map(|one| (one.level, one.text, one.way_out)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::found;
    use super::*;

    #[test]
    fn a_topic_is_one_word() {
        for topic in Topic::ALL {
            let word = serde_json::to_value(topic).unwrap();
            assert_eq!(word, topic.as_str());
            assert!(topic.as_str().chars().all(|c| c.is_ascii_lowercase()));
        }
    }

    #[test]
    fn an_error_is_a_problem_with_its_causes() {
        let error = std::io::Error::other("no");
        let all = found(|findings| {
            assert!(findings.is_empty());
            findings.error(error, "say yes");
            assert!(!findings.is_empty());
            findings.begin(Topic::Python);
            assert!(findings.is_empty());
        });
        assert_eq!(all, [(Level::Problem, "no".to_owned(), Some("say yes".to_owned()))]);
    }

    #[test]
    fn secrets_are_hidden() {
        let mut findings = Findings::default();
        findings.begin(Topic::Git);
        findings.problem("hunter22 is wrong", "set hunter22");
        let all = findings.hiding(&Redactor::new(["hunter22".to_owned()]));
        assert_eq!((all[0].text.as_str(), all[0].way_out.as_deref()), ("*** is wrong", Some("set ***")));
    }
}
