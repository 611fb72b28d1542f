//! The types of values: how each is read from TOML, described, and written as TOML.

use std::path::PathBuf;
use std::time::Duration;

use super::Reader;

/// A type of values that a key can have.
pub(crate) trait Value: Sized {
    /// Returns the type's name in the reference.
    fn kind() -> String;

    /// Reads the value of a key; `None`: it is missing or wrong, and a mistake is reported.
    fn read(reader: &Reader<'_>, key: &'static str) -> Option<Self>;
}

/// What can be written as TOML.
pub(crate) trait Toml {
    /// Returns the value as TOML; empty when there is none.
    fn toml(&self) -> String;
}

macro_rules! values {
    ($($type:ty => $kind:literal, $read:expr;)+) => {
        $(impl Value for $type {
            fn kind() -> String {
                $kind.to_owned()
            }

            fn read(reader: &Reader<'_>, key: &'static str) -> Option<Self> {
                $read(reader, key)
            }
        })+
    };
}

values! {
    String => "string", Reader::text;
    PathBuf => "path", Reader::path;
    bool => "boolean", Reader::flag;
    Duration => "duration", Reader::duration;
    Vec<String> => "array of strings", Reader::texts;
    Vec<Vec<String>> => "array of arrays of strings", Reader::commands;
    Vec<(String, String)> => "table of strings", Reader::pairs;
}

impl<T: Value> Value for Option<T> {
    fn kind() -> String {
        T::kind()
    }

    fn read(reader: &Reader<'_>, key: &'static str) -> Option<Self> {
        T::read(reader, key).map(Some)
    }
}

impl Toml for str {
    fn toml(&self) -> String {
        toml::Value::from(self).to_string()
    }
}

impl Toml for String {
    fn toml(&self) -> String {
        self.as_str().toml()
    }
}

impl Toml for PathBuf {
    fn toml(&self) -> String {
        self.display().to_string().toml()
    }
}

impl Toml for bool {
    fn toml(&self) -> String {
        self.to_string()
    }
}

impl Toml for usize {
    fn toml(&self) -> String {
        self.to_string()
    }
}

impl Toml for Duration {
    fn toml(&self) -> String {
        written(*self).toml()
    }
}

/// Returns a duration as a configuration has it: `1h 30m`.
pub(crate) fn written(duration: Duration) -> String {
    let duration = jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX);
    format!("{duration:#}")
}

impl<T: Toml> Toml for Option<T> {
    fn toml(&self) -> String {
        self.as_ref().map_or_else(String::new, Toml::toml)
    }
}

impl<T: Toml> Toml for Vec<T> {
    fn toml(&self) -> String {
        if self.is_empty() { String::new() } else { self.as_slice().toml() }
    }
}

impl<T: Toml> Toml for [T] {
    fn toml(&self) -> String {
        format!("[{}]", self.iter().map(Toml::toml).collect::<Vec<_>>().join(", "))
    }
}

impl<T: Toml, const N: usize> Toml for [T; N] {
    fn toml(&self) -> String {
        self.as_slice().toml()
    }
}

impl<T: Toml + ?Sized> Toml for &T {
    fn toml(&self) -> String {
        (**self).toml()
    }
}

/// TOML as it is.
pub(crate) struct Raw(pub(crate) &'static str);

impl Toml for Raw {
    fn toml(&self) -> String {
        self.0.to_owned()
    }
}

/// Declares the strings that stand for the variants of an enum.
macro_rules! choices {
    ($type:ty { $($name:literal => $variant:ident),+ $(,)? }) => {
        impl $crate::keys::Value for $type {
            fn kind() -> String {
                let names = [$(concat!("`\"", $name, "\"`")),+];
                match names.split_last() {
                    Some((last, [])) => (*last).to_owned(),
                    Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
                    None => String::new(),
                }
            }

            fn read(reader: &$crate::keys::Reader<'_>, key: &'static str) -> Option<Self> {
                reader.choice(key, &[$(($name, <$type>::$variant)),+])
            }
        }

        impl $crate::keys::Toml for $type {
            fn toml(&self) -> String {
                // Some enums have variants that the file cannot choose.
                let names = [$(($name, <$type>::$variant)),+];
                let name = names.iter().find(|(_, value)| value == self);
                name.map_or_else(String::new, |(name, _)| $crate::keys::Toml::toml(*name))
            }
        }
    };
}
pub(crate) use choices;
