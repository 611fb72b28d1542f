//! The table of keys: what reads `deploykit.toml` and what describes it come from one row per key.
//!
//! [`keys!`] declares a table of the file. From its rows it makes the struct that [`Config`](crate::site::Config) holds, the
//! reader of each key with its default, and the [`Section`] of the reference, which `deploykit docs` prints and from which
//! `docs/configuration.md` and `examples/deploykit.toml` are written.

mod problem;
mod reader;
mod reference;
mod size;
mod value;

pub use problem::Problem;
pub(crate) use reader::{Problems, Reader, merge, nearest, place};
pub use reference::{Key, Section};
pub(crate) use reference::{Row, default_text};
pub use size::Size;
pub(crate) use value::{Raw, Toml, Value, choices, written};

use serde::{Deserialize, Serialize};

/// The environment of a site: it decides what an update does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// All steps.
    #[default]
    Production,
    /// All steps but the announcement.
    Staging,
    /// No maintenance, no services; local changes are kept.
    Development,
}

impl Environment {
    pub(crate) const ALL: [Environment; 3] =
        [Environment::Production, Environment::Staging, Environment::Development];

    /// Returns its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Environment::Production => "production",
            Environment::Staging => "staging",
            Environment::Development => "development",
        }
    }
}

choices!(Environment { "production" => Production, "staging" => Staging, "development" => Development });

/// A table of the configuration; [`keys!`] implements it.
pub(crate) trait Table: Sized {
    /// Returns the defaults.
    fn defaults(environment: Environment) -> Self;

    /// Reads the table. A mistake is reported to the reader, and the default takes the value's place.
    fn read(reader: &Reader<'_>) -> Self;

    /// Describes the table.
    fn section() -> Section;
}

/// Declares a table of the configuration with one row per key.
///
/// After `in` comes the header in the file. `after` gives the lines that stand before the keys in the example, `then` the
/// lines after them. A row begins with the sentences about the key, which rustdoc, the reference and the example show. Then
/// come the name in the file, the field, its type, and these parts in this order, each only where it applies:
///
/// | part | meaning |
/// |---|---|
/// | `= VALUE` | the default; without it: none, empty or false |
/// | `, in ENVIRONMENT VALUE` | the default in that environment |
/// | `, required "MESSAGE"` | the key must be there; otherwise this message is reported |
/// | `, by FUNCTION` | reads the value, where the type alone does not say how |
/// | `, type "WORDS"` | the type in the reference; without it: what the type says |
/// | `, shown "WORDS"` | the default in the reference; without it: the value |
/// | `, example VALUE` | the value in the example; without it: the default |
/// | `, commented VALUE` | an example that cannot stand beside the other keys: it becomes a comment |
macro_rules! keys {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $name:ident in $header:literal $(after $lead:literal)? $(then $more:literal)? {
            $(
                $(#[doc = $doc:literal])+
                $key:literal => $field:ident: $type:ty
                    $(= $default:expr)?
                    $(, in $environment:ident $other:expr)?
                    $(, required $missing:literal)?
                    $(, by $by:expr)?
                    $(, type $kind:literal)?
                    $(, shown $shown:literal)?
                    $(, example $example:expr)?
                    $(, commented $commented:expr)?
                ;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        $vis struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl $crate::keys::Table for $name {
            fn defaults(environment: $crate::keys::Environment) -> Self {
                let _ = environment;
                $name {
                    $($field: {
                        $(if environment == $crate::keys::Environment::$environment { $other } else)?
                        { $crate::keys::keys!(@first $($default.into())? ; Default::default()) }
                    },)+
                }
            }

            fn read(reader: &$crate::keys::Reader<'_>) -> Self {
                let mut table = Self::defaults(reader.environment());
                $(
                    let read: fn(&$crate::keys::Reader<'_>, &'static str) -> Option<$type> =
                        $crate::keys::keys!(@first $($by)? ; $crate::keys::Value::read);
                    if let Some(value) = read(reader, $key) {
                        table.$field = value;
                    }
                    $(reader.require($key, $missing);)?
                )+
                table
            }

            fn section() -> $crate::keys::Section {
                let all = $crate::keys::Environment::ALL.map(Self::defaults);
                let [production, ..] = &all;
                let _ = (&all, production);
                let rows = vec![$($crate::keys::Row {
                    name: $key,
                    about: &[$($doc),+],
                    kind: $crate::keys::keys!(@first $($kind.to_owned())? ; <$type as $crate::keys::Value>::kind()),
                    default: $crate::keys::keys!(
                        @first $($shown.to_owned())? $({ let _ = $missing; "required".to_owned() })? ;
                        $crate::keys::default_text(all.each_ref().map(|table| &table.$field))
                    ),
                    example: $crate::keys::keys!(
                        @first $($crate::keys::Toml::toml(&$example))? $($crate::keys::Toml::toml(&$commented))? ;
                        $crate::keys::Toml::toml(&production.$field)
                    ),
                    commented: $crate::keys::keys!(@is_there $($commented)?),
                }),+];
                $crate::keys::Section::new(
                    $header,
                    &[$($about),+],
                    $crate::keys::keys!(@first $($lead)? ; ""),
                    rows,
                    $crate::keys::keys!(@first $($more)? ; ""),
                )
            }
        }
    };
    (@first ; $last:expr) => { $last };
    (@first $first:expr ; $last:expr) => { $first };
    (@is_there) => { false };
    (@is_there $there:expr) => { true };
}
pub(crate) use keys;
