//! Sizes, such as `4 GB`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Reader, Toml, Value};

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub u64);

/// What a unit multiplies by.
const UNITS: [(&str, u64); 6] = [
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [megabytes, gigabytes, terabytes, ..] = UNITS;
        let fits =
            |(_, factor): &(_, u64)| self.0 > 0 && self.0.is_multiple_of(*factor) || self.0 / factor >= 10;
        let (unit, factor) = [terabytes, gigabytes].into_iter().find(fits).unwrap_or(megabytes);
        // Rounded down: never more than there is.
        write!(f, "{} {unit}", self.0 / factor)
    }
}

impl FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = (text[..end].parse::<u64>().map_err(|_| ())?, text[end..].trim());
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor).ok_or(())?;
        number.checked_mul(*factor).map(Size).ok_or(())
    }
}

impl Value for Size {
    fn kind() -> String {
        "size".to_owned()
    }

    fn read(reader: &Reader<'_>, key: &'static str) -> Option<Self> {
        let text = reader.string(key, "a size such as \"4 GB\"")?;
        let size = text.parse().ok();
        if size.is_none() {
            let units = UNITS.map(|(unit, _)| unit).join(", ");
            reader.wrong(
                key,
                format!("`{text}` is not a size such as \"4 GB\": expected an integer and one of {units}"),
            );
        }
        size
    }
}

impl Toml for Size {
    fn toml(&self) -> String {
        self.to_string().toml()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        let bytes = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(bytes("4 GB"), Ok(4_000_000_000));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        for wrong in ["", "4", "GB", "4 gb", "-1 GB", "1.5 GB", "99999999999 TB"] {
            assert_eq!(bytes(wrong), Err(()), "{wrong}");
        }
        assert_eq!(Size(1_999_999_999).to_string(), "1999 MB");
        assert_eq!(Size(4 << 30).to_string(), "4294 MB");
        assert_eq!(Size(15_999_999_999).to_string(), "15 GB");
        assert_eq!(Size(4_000_000_000).to_string(), "4 GB");
        assert_eq!(Size(1_500_000_000_000).to_string(), "1500 GB");
        assert_eq!(Size(2_000_000_000_000).to_string(), "2 TB");
        assert_eq!(Size(16 << 40).to_string(), "17 TB");
        assert_eq!(Size(0).to_string(), "0 MB");
    }
}
