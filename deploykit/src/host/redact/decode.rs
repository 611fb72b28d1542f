//! Reads through the ways in which programs write a text: backslashes, percent signs, character references.

/// How often what was read is read again: JSON in an address in a log is three ways in one another.
const LAYERS: usize = 8;

/// One character, with the bytes of the source that stand for it.
#[derive(Clone, Copy)]
struct Piece {
    char: char,
    start: usize,
    end: usize,
}

/// A text as it reads when every way of writing it is undone, and where each of its bytes stands in the source.
pub(super) struct Decoded {
    pub(super) text: String,
    /// For each byte of `text`, the bytes of the source.
    from: Vec<(usize, usize)>,
}

impl Decoded {
    /// Returns `None` where a text reads as it stands.
    pub(super) fn of(source: &str) -> Option<Self> {
        if !source.contains(['\\', '%', '&', '+']) {
            return None;
        }
        let pieces = source.char_indices();
        let mut pieces: Vec<Piece> =
            pieces.map(|(start, char)| Piece { char, start, end: start + char.len_utf8() }).collect();
        let mut changed = false;
        for _ in 0..LAYERS {
            match once(&pieces) {
                Some(read) => (pieces, changed) = (read, true),
                None => break,
            }
        }
        if !changed {
            return None;
        }
        let mut decoded = Decoded { text: String::new(), from: Vec::new() };
        for piece in pieces {
            decoded.text.push(piece.char);
            decoded.from.resize(decoded.text.len(), (piece.start, piece.end));
        }
        Some(decoded)
    }

    /// Returns the bytes of the source that a part of the text stands for.
    pub(super) fn source(&self, start: usize, end: usize) -> Option<(usize, usize)> {
        Some((self.from.get(start)?.0, self.from.get(end.checked_sub(1)?)?.1))
    }
}

/// What one escape stands for.
enum Read {
    Char(char),
    /// A byte of a character, or a character of Latin-1.
    Byte(u8),
}

/// Undoes one layer; `None`: there is none.
fn once(pieces: &[Piece]) -> Option<Vec<Piece>> {
    let mut read = Vec::with_capacity(pieces.len());
    let mut bytes: Vec<(u8, usize, usize)> = Vec::new();
    let (mut at, mut changed) = (0, false);
    while let Some(piece) = pieces.get(at) {
        let rest = &pieces[at + 1..];
        let found = match piece.char {
            '\\' => backslash(rest),
            '%' => number(rest, 2, 16).and_then(|value| Some((Read::Byte(u8::try_from(value).ok()?), 2))),
            '&' => reference(rest),
            '+' => Some((Read::Char(' '), 0)),
            _ => None,
        };
        let (what, length) = match found {
            Some((what, more)) => (what, more + 1),
            None => (Read::Char(piece.char), 1),
        };
        changed |= found_something(&what, piece, length);
        let end = pieces[at + length - 1].end;
        match what {
            Read::Byte(byte) => bytes.push((byte, piece.start, end)),
            Read::Char(char) => {
                characters(&mut bytes, &mut read);
                read.push(Piece { char, start: piece.start, end });
            }
        }
        at += length;
    }
    characters(&mut bytes, &mut read);
    changed.then_some(read)
}

fn found_something(what: &Read, piece: &Piece, length: usize) -> bool {
    length > 1 || !matches!(what, Read::Char(char) if *char == piece.char)
}

/// Makes characters of bytes: of UTF-8 where they are that, else of Latin-1.
fn characters(bytes: &mut Vec<(u8, usize, usize)>, read: &mut Vec<Piece>) {
    let raw: Vec<u8> = bytes.iter().map(|(byte, ..)| *byte).collect();
    let mut at = 0;
    for chunk in raw.utf8_chunks() {
        for char in chunk.valid().chars() {
            let end = at + char.len_utf8();
            read.push(Piece { char, start: bytes[at].1, end: bytes[end - 1].2 });
            at = end;
        }
        for byte in chunk.invalid() {
            read.push(Piece { char: char::from(*byte), start: bytes[at].1, end: bytes[at].2 });
            at += 1;
        }
    }
    bytes.clear();
}

/// Reads what follows a backslash in JSON, Python, Rust, C and shells, with how many characters that are.
fn backslash(rest: &[Piece]) -> Option<(Read, usize)> {
    let byte = |value: u32| u8::try_from(value).ok().map(Read::Byte);
    Some(match rest.first()?.char {
        'n' => (Read::Char('\n'), 1),
        'r' => (Read::Char('\r'), 1),
        't' => (Read::Char('\t'), 1),
        'b' => (Read::Char('\u{8}'), 1),
        'f' => (Read::Char('\u{c}'), 1),
        'v' => (Read::Char('\u{b}'), 1),
        'a' => (Read::Char('\u{7}'), 1),
        'x' => (byte(number(&rest[1..], 2, 16)?)?, 3),
        'u' if rest.get(1).is_some_and(|piece| piece.char == '{') => {
            let length = rest.iter().take(10).position(|piece| piece.char == '}')?;
            let value = number(&rest[2..length], length - 2, 16)?;
            (Read::Char(char::from_u32(value)?), length + 1)
        }
        'u' => {
            let first = number(&rest[1..], 4, 16)?;
            let second = match (rest.get(5).map(|piece| piece.char), rest.get(6).map(|piece| piece.char)) {
                (Some('\\'), Some('u')) => number(&rest[7..], 4, 16),
                _ => None,
            };
            let pair = second.and_then(|second| {
                let units = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
                let is_pair = (0xd800..0xdc00).contains(&first);
                char::decode_utf16(units).next()?.ok().filter(|_| is_pair)
            });
            match pair {
                Some(char) => (Read::Char(char), 11),
                None => (Read::Char(char::from_u32(first)?), 5),
            }
        }
        'U' => (Read::Char(char::from_u32(number(&rest[1..], 8, 16)?)?), 9),
        '0'..='7' => (byte(number(rest, 3, 8)?)?, 3),
        other if !other.is_alphanumeric() => (Read::Char(other), 1),
        _ => return None,
    })
}

/// Reads a character reference of HTML.
fn reference(rest: &[Piece]) -> Option<(Read, usize)> {
    let length = rest.iter().take(10).position(|piece| piece.char == ';')?;
    let name: String = rest[..length].iter().map(|piece| piece.char).collect();
    let char = match name.as_str() {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        _ => {
            let digits = name.strip_prefix('#')?;
            let value = match digits.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => digits.parse(),
            };
            char::from_u32(value.ok()?)?
        }
    };
    Some((Read::Char(char), length + 1))
}

/// Reads so many digits.
fn number(pieces: &[Piece], digits: usize, radix: u32) -> Option<u32> {
    let digits = pieces.get(..digits).filter(|digits| !digits.is_empty())?;
    digits
        .iter()
        .try_fold(0_u32, |value, piece| value.checked_mul(radix)?.checked_add(piece.char.to_digit(radix)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> String {
        Decoded::of(text).map_or_else(|| text.to_owned(), |decoded| decoded.text)
    }

    #[test]
    fn every_way_of_writing_is_undone() {
        for (written, text) in [
            (r#"a\"b\\c\/d"#, "a\"b\\c/d"),
            (r"\u00e4\ud83d\udd11", "ä🔑"),
            (r"\xe4 \xc3\xa4 \U0001f511 \u{1f511}", "ä ä 🔑 🔑"),
            (r"\303\244.txt", "ä.txt"),
            ("%C3%A4+b%2Bc", "ä b c"),
            ("&lt;b&gt;&amp;&#x27;&#39;&#228;", "<b>&''ä"),
            (r#"\\\"\\n"#, "\"\n"),
            ("%2541", "A"),
            (r"\ud83d alone \q \u12 %zz &x; &", r"\ud83d alone \q \u12 %zz &x; &"),
            ("", ""),
        ] {
            assert_eq!(decoded(written), text, "{written}");
        }
    }

    #[test]
    fn each_part_is_found_in_the_source() {
        let source = r"ab \u00e4%20c";
        let decoded = Decoded::of(source).unwrap();
        assert_eq!(decoded.text, "ab ä c");
        let (start, end) = decoded.source(3, 6).unwrap();
        assert_eq!(&source[start..end], r"\u00e4%20");
    }
}
