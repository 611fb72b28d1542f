//! The border between what others wrote and the terminal.
//!
//! Subjects of commits, names of files and packages, what remotes, programs and visitors said: none of it may move the cursor, hide
//! text, turn it around or set the clipboard. Whatever a person is shown goes through [`visible`]; documents of `--json` do not, since JSON
//! writes such characters as escapes itself.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// What stands before our own control sequences. Nobody can guess it, so nobody else can write one.
static OWN: LazyLock<String> = LazyLock::new(|| {
    let number = || RandomState::new().build_hasher().finish();
    format!("\u{1b}{:016x}{:016x}", number(), number())
});

/// Marks the control sequences of a text that we wrote ourselves.
pub fn own(text: &str) -> String {
    text.replace('\u{1b}', &OWN)
}

/// Makes the control characters of a text visible, apart from line breaks, tabs and [our own](own) colours.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut parts = text.split(OWN.as_str());
    push_visible(&mut shown, parts.next().unwrap_or_default());
    for part in parts {
        shown.push('\u{1b}');
        push_visible(&mut shown, part);
    }
    Cow::Owned(shown)
}

/// The same for a text that is one line: line breaks are made visible, too.
pub fn line(text: &str) -> Cow<'_, str> {
    match visible(text) {
        text if text.contains('\n') => Cow::Owned(text.replace('\n', "\\n")),
        text => text,
    }
}

/// Indents all lines but the first, so that what somebody else wrote does not look like a line of ours.
pub fn indented(text: &str) -> Cow<'_, str> {
    if !text.contains('\n') {
        return Cow::Borrowed(text);
    }
    let lines = text.split('\n').enumerate().map(|(index, line)| {
        if index == 0 || line.is_empty() || line.starts_with(' ') {
            line.to_owned()
        } else {
            format!("  {line}")
        }
    });
    Cow::Owned(lines.collect::<Vec<_>>().join("\n"))
}

fn push_visible(shown: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(is_hidden) {
        shown.push_str(&rest[..at]);
        let mut chars = rest[at..].chars();
        match chars.next() {
            Some('\r') => shown.push_str("\\r"),
            Some(c) if u32::from(c) < 0x80 => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            Some(c) => shown.extend(c.escape_unicode()),
            None => {}
        }
        rest = chars.as_str();
    }
    shown.push_str(rest);
}

/// Tells whether a terminal does something else with a character than to show it.
fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        _ if c.is_control() => true,
        // Direction, line and paragraph separators, what has no width, tags. Joiners are left alone: scripts and emoji need them.
        '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::human::{BAD, paint};

    #[test]
    fn control_characters_are_shown() {
        for (text, shown) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("fix\u{1b}[2K\r  deadbee", r"fix\x1b[2K\r  deadbee"),
            ("\u{1b}]52;c;ZXZpbA==\u{7}", r"\x1b]52;c;ZXZpbA==\x07"),
            ("a\u{8}\u{7f}\u{9b}31mb", r"a\x08\x7f\u{9b}31mb"),
            ("user\u{202e}gpj.exe\u{2066}", r"user\u{202e}gpj.exe\u{2066}"),
            ("a\u{2028}b\u{200b}\u{feff}\u{e0041}", r"a\u{2028}b\u{200b}\u{feff}\u{e0041}"),
            ("Größe 👩\u{200d}💻 می\u{200c}خواهم", "Größe 👩\u{200d}💻 می\u{200c}خواهم"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(line("a\nHint: b"), r"a\nHint: b");
        assert_eq!(indented("a\nHint: b\n  c\n"), "a\n  Hint: b\n  c\n");
    }

    #[test]
    fn only_our_own_colours_are_colours() {
        let painted = paint(BAD, "a\u{1b}[8mb");
        let plain = format!("{BAD}a\\x1b[8mb{BAD:#}");
        assert_eq!(visible(&painted), plain);
        // Who copies what was shown does not get any further.
        assert_eq!(visible(&plain), plain.replace('\u{1b}', "\\x1b"));
        assert_eq!(visible(&own(&plain)), plain);
    }
}
