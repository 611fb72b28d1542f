//! What a kind of service manager is. Each is a file of this directory and an entry of the list in `mod.rs`.

use std::path::{Path, PathBuf};

use super::{Connected, Service, ServiceError};
use crate::command::Command;
use crate::host::{CommandError, Host};
use crate::keys::{Reader, Section};

/// The settings of a service under one kind of manager.
pub(crate) trait Settings {
    /// Describes the manager's own keys of `[[services]]`.
    fn section() -> Section
    where
        Self: Sized;

    /// Reads these keys; `None`: one is missing that nothing can replace, which is reported.
    fn read(reader: &Reader<'_>) -> Option<Self>
    where
        Self: Sized;

    /// Makes the settings that flags of a command line describe.
    fn of_flags(flags: Flags) -> Self
    where
        Self: Sized;

    /// Tells whether flags describe the same service: the manager finds it at the same place, whatever its settings.
    fn is_same(&self, name: &str, described: &Self, described_name: &str) -> bool
    where
        Self: Sized,
    {
        let _ = described;
        name == described_name
    }

    /// Tells whether services of this kind can be started and stopped with sudo.
    fn can_use_sudo() -> bool
    where
        Self: Sized,
    {
        false
    }

    /// Returns why this service cannot use sudo, although others of its kind can.
    fn needs_no_sudo(&self) -> Option<&'static str> {
        None
    }

    /// Connects to the manager.
    fn connect<'a>(&'a self, service: &'a Service, host: &'a Host) -> Connected<'a>;

    /// Returns the commands that the settings give: start, stop and status. Each is empty where the manager knows it.
    fn commands(&self) -> [&[String]; 3] {
        [&[]; 3]
    }

    /// Returns the directory that these commands run in; default: the caller's own.
    fn directory(&self) -> Option<&Path> {
        None
    }

    /// Tells whether a service with this name starts jobs that its stop waits for.
    fn starts_jobs(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Tells whether the settings say how to stop the service.
    fn can_be_stopped(&self) -> bool {
        true
    }
}

/// What flags of a command line say of a service. A kind of manager has a use for those that are keys of its section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `config`.
    pub config: PathBuf,
    /// `user`.
    pub user: bool,
    /// `pidfile`.
    pub pidfile: PathBuf,
    /// `start`; empty if not given.
    pub start: Vec<String>,
    /// `stop`; empty if not given.
    pub stop: Vec<String>,
    /// `status`; empty if not given.
    pub status: Vec<String>,
}

impl Service {
    /// Makes a command that changes the service.
    pub(super) fn program(&self, name: &str) -> Command {
        if self.sudo { Command::new("sudo").args(["-n", name]) } else { Command::new(name) }
    }

    /// Makes the error of a command about the service, such as `status`.
    pub(super) fn failed(&self, what: &'static str, source: CommandError) -> ServiceError {
        let service = self.name.clone();
        match source {
            CommandError::Cancelled { .. } => ServiceError::Cancelled { service },
            source => ServiceError::Command { service, what, source: Box::new(source) },
        }
    }
}

/// Lists the kinds of managers: what the kind is, its name in the configuration, and the type of its settings.
macro_rules! managers {
    ($($(#[doc = $doc:literal])+ $name:literal => $kind:ident($settings:ty);)+) => {
        /// What starts and stops a service.
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Manager {
            $($(#[doc = $doc])+ $kind($settings),)+
        }

        /// A kind of service manager.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum ManagerKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        $crate::keys::choices!(ManagerKind { $($name => $kind),+ });

        impl Manager {
            pub(crate) fn settings(&self) -> &dyn $crate::services::Settings {
                match self {
                    $(Manager::$kind(settings) => settings,)+
                }
            }

            /// Returns the commands that its settings give: start, stop and status. Each is empty where the manager
            /// itself knows it.
            #[must_use]
            pub fn commands(&self) -> [&[String]; 3] {
                self.settings().commands()
            }

            /// Tells whether flags describe the same service: the manager finds it at the same place, whatever its
            /// settings.
            #[must_use]
            pub fn is_same(&self, name: &str, described: &Manager, described_name: &str) -> bool {
                match (self, described) {
                    $((Manager::$kind(one), Manager::$kind(other)) => {
                        $crate::services::Settings::is_same(one, name, other, described_name)
                    })+
                    _ => false,
                }
            }

            /// Returns its kind.
            #[must_use]
            pub fn kind(&self) -> ManagerKind {
                match self {
                    $(Manager::$kind(_) => ManagerKind::$kind,)+
                }
            }
        }

        impl ManagerKind {
            /// All kinds.
            pub const ALL: &[ManagerKind] = &[$(ManagerKind::$kind),+];

            /// Returns its name in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(ManagerKind::$kind => $name,)+
                }
            }

            /// Tells whether services of this kind have a key of their own.
            #[must_use]
            pub fn has_key(self, key: &str) -> bool {
                self.section().keys.iter().any(|known| known.name.rsplit('.').next() == Some(key))
            }

            /// Makes the manager that flags of a command line describe.
            #[must_use]
            pub fn of_flags(self, flags: $crate::services::Flags) -> Manager {
                match self {
                    $(ManagerKind::$kind => Manager::$kind(<$settings as $crate::services::Settings>::of_flags(flags)),)+
                }
            }

            pub(crate) fn section(self) -> $crate::keys::Section {
                match self {
                    $(ManagerKind::$kind => <$settings as $crate::services::Settings>::section(),)+
                }
            }

            pub(crate) fn read(self, reader: &$crate::keys::Reader<'_>) -> Option<Manager> {
                match self {
                    $(ManagerKind::$kind => <$settings as $crate::services::Settings>::read(reader).map(Manager::$kind),)+
                }
            }

            pub(crate) fn can_use_sudo(self) -> bool {
                match self {
                    $(ManagerKind::$kind => <$settings as $crate::services::Settings>::can_use_sudo(),)+
                }
            }
        }
    };
}

pub(super) use managers;
