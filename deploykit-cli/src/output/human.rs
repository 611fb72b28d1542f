//! Words for people: durations, times, colours, tables.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::OnceLock;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use deploykit::Site;
use deploykit::plan::Forecast;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::visible::{line, own};

pub const GOOD: Style = AnsiColor::Green.on_default();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const WARN: Style = AnsiColor::Yellow.on_default();
pub const DIM: Style = Style::new().dimmed();
pub const BOLD: Style = Style::new().bold();

/// The width that lines keep to where they can.
pub const WIDTH: usize = 100;

/// A quoted command longer than this stands on a line of its own.
const LONG: usize = 60;

/// Wraps a text in a style; nothing stays nothing.
pub fn paint(style: Style, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("{}{text}{}", own(&style.to_string()), own(&format!("{style:#}")))
}

/// Writes a duration as a person says it: `0.42 s`, `8.1 s`, `3 min 20 s`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    // Rounded first: 59.99 s are a minute.
    let whole = (duration + Duration::from_millis(500)).as_secs();
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, seconds) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{minutes} min {seconds} s"),
        _ => format!("{hours} h {minutes} min"),
    }
}

pub fn milliseconds(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

/// Writes how long a window is expected to be: a rule of thumb has no decimals.
pub fn expected(forecast: Forecast) -> String {
    if forecast.runs > 0 {
        return duration(forecast.window());
    }
    let seconds = forecast.window_ms.div_ceil(1000).max(1);
    if seconds < 60 { format!("{seconds} s") } else { duration(Duration::from_secs(seconds)) }
}

/// The site whose clock counts.
static SITE: OnceLock<Site> = OnceLock::new();

/// Shows times by a site's clock from now on.
pub fn use_clock_of(site: &Site) {
    // A command has one site.
    let _ = SITE.set(site.clone());
}

/// Returns the site's time zone; that of whoever reads it while the site's is not known.
fn zone() -> TimeZone {
    let name = SITE.get().and_then(Site::time_zone);
    name.and_then(|name| TimeZone::get(&name).ok()).unwrap_or_else(TimeZone::system)
}

/// Writes a time by the site's clock: `2026-11-22 18:41 CET`.
pub fn date_and_time(time: Timestamp) -> String {
    in_zone(time, zone())
}

fn in_zone(time: Timestamp, zone: TimeZone) -> String {
    time.to_zoned(zone).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

/// Writes the times that a message has in the library's form, such as `2026-11-22T17:41:00Z`, by the site's clock.
pub fn with_times(message: &str) -> Cow<'_, str> {
    with_times_in(message, zone)
}

fn with_times_in(message: &str, zone: impl Fn() -> TimeZone) -> Cow<'_, str> {
    /// The shortest form.
    const FORM: &str = "2026-11-22T17:41:00Z";
    let mut text = String::new();
    let mut rest = message;
    while let Some(at) = rest.find('T') {
        let start =
            at.checked_sub(FORM.find('T').unwrap_or_default()).filter(|start| rest.is_char_boundary(*start));
        let time = start.and_then(|start| {
            let length = rest[start..].find('Z').filter(|length| *length < 2 * FORM.len())? + 1;
            let time: Timestamp = rest[start..start + length].parse().ok()?;
            Some((start, start + length, time))
        });
        let (before, end) = time.map_or((at + 1, at + 1), |(start, end, _)| (start, end));
        text.push_str(&rest[..before]);
        if let Some((_, _, time)) = time {
            text.push_str(&in_zone(time, zone()));
        }
        rest = &rest[end..];
    }
    if text.is_empty() { Cow::Borrowed(message) } else { Cow::Owned(text + rest) }
}

/// Cuts a text to a number of characters; what is left out shows as `…`.
pub fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut clipped: String = text.chars().take(width.saturating_sub(1)).collect();
    clipped.truncate(clipped.trim_end().len());
    clipped.push('…');
    clipped
}

/// Gives every long quoted command of a message a line of its own, so that the words around it stay together, and writes
/// its times by the site's clock.
pub fn unwind(message: &str) -> String {
    let message = with_times(message);
    let mut text = String::new();
    let parts: Vec<&str> = message.split('`').collect();
    for (index, part) in parts.iter().enumerate() {
        // Odd parts stand between backticks, unless the last one is missing.
        if index % 2 == 0 {
            text.push_str(part);
        } else if index + 1 == parts.len() {
            let _ = write!(text, "`{part}");
        } else if part.chars().count() > LONG && part.contains(' ') {
            let _ = write!(text, "\n  `{part}`");
        } else {
            let _ = write!(text, "`{part}`");
        }
    }
    // The text before such a line does not end in a space.
    text.replace(" \n  `", "\n  `")
}

/// Writes rows in aligned columns; the last column is not padded.
pub fn table(rows: &[Vec<String>], indent: &str) -> String {
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|cell| line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut text_line = indent.to_owned();
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == row.len() {
                text_line.push_str(cell);
            } else {
                let _ = write!(text_line, "{cell:<width$}  ", width = widths[column]);
            }
        }
        text.push_str(text_line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let texts: Vec<String> =
            [0, 420, 8_100, 59_940, 59_990, 200_000, 3_599_700, 7_500_000].map(milliseconds).into();
        let expected =
            ["0.00 s", "0.42 s", "8.1 s", "59.9 s", "1 min", "3 min 20 s", "1 h 0 min", "2 h 5 min"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn times_of_the_library_are_shown_by_the_site_s_clock() {
        let shown =
            |text: &str| with_times_in(text, || TimeZone::get("America/Los_Angeles").unwrap()).into_owned();
        assert_eq!(
            shown("Too soon: 2026-11-22T17:41:00Z, not 2026-07-01T00:00:00.5Z."),
            "Too soon: 2026-11-22 09:41 PST, not 2026-06-30 17:00 PDT."
        );
        for text in ["The Tree: TZ", "2026-11-22 17:41", "x2026-13-45T17:41:00Z", "äT17:41:00Z"] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".into(), "b".into()], vec!["long".into(), "c".into()]];
        assert_eq!(table(&rows, "  "), "  a     b\n  long  c\n");
    }

    #[test]
    fn long_texts_are_clipped_between_characters() {
        assert_eq!(clip("übergröße", 9), "übergröße");
        assert_eq!(clip("über größe", 6), "über…");
        assert_eq!(clip("", 0), "");
    }

    #[test]
    fn long_commands_get_lines_of_their_own() {
        let command = "cd /srv/site && uv pip compile --no-header --no-annotate requirements.txt";
        assert_eq!(
            unwind(&format!("cannot resolve `a`: `{command}` exited with code 1")),
            format!("cannot resolve `a`:\n  `{command}` exited with code 1")
        );
        assert_eq!(unwind("`a` and `b`"), "`a` and `b`");
        assert_eq!(unwind("one ` alone"), "one ` alone");
    }
}
