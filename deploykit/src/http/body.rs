//! Makes text of the bytes of an answer: undoes compression, and reads its charset.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// How far a page is searched for the charset that it names.
const META: usize = 1024;

/// What is told of a body by its headers.
#[derive(Debug, Default)]
pub(super) struct About {
    /// `Content-Encoding`, all of them.
    pub(super) codings: String,
    /// `Content-Type`.
    pub(super) kind: String,
}

/// The text of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) truncated: bool,
    pub(super) unread: Option<Unread>,
}

/// Why the text of a body cannot be searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The reason, such as a compression that was not asked for.
    pub reason: String,
    /// Texts of ASCII alone can be found all the same.
    pub except_ascii: bool,
}

/// Reads a body, of which no more than `limit` bytes are kept; `truncated` says that there were more of them.
pub(super) fn read(mut body: Vec<u8>, mut truncated: bool, about: &About, limit: u64) -> Text {
    let codings: Vec<String> =
        about.codings.split(',').map(|coding| coding.trim().to_ascii_lowercase()).collect();
    for coding in codings.iter().rev().filter(|coding| !coding.is_empty() && *coding != "identity") {
        let unread = |reason| {
            let unread = Some(Unread { reason, except_ascii: false });
            Text { text: String::new(), truncated, unread }
        };
        let inflated = match coding.as_str() {
            "gzip" | "x-gzip" => inflated(MultiGzDecoder::new(body.as_slice()), limit),
            // What the standard calls so has a frame; some servers leave it out.
            "deflate" if has_zlib_frame(&body) => inflated(ZlibDecoder::new(body.as_slice()), limit),
            "deflate" => inflated(DeflateDecoder::new(body.as_slice()), limit),
            _ => return unread(format!("it is compressed with `{coding}`, which was not asked for")),
        };
        (body, truncated) = match inflated {
            (text, Ok(more)) => (text, truncated || more),
            // Of half a stream half a text comes.
            (text, Err(_)) if truncated => (text, true),
            (_, Err(error)) => {
                return unread(format!("it is compressed with `{coding}` and damaged: {error}"));
            }
        };
    }
    let (text, unread) = decoded(&body, &about.kind);
    Text { text, truncated, unread }
}

/// Returns what could be read, no more than `limit` bytes, and whether there is more.
fn inflated(reader: impl Read, limit: u64) -> (Vec<u8>, std::io::Result<bool>) {
    let mut text = Vec::new();
    let read = reader.take(limit + 1).read_to_end(&mut text);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = text.len() > limit;
    text.truncate(limit);
    (text, read.map(|_| more))
}

fn has_zlib_frame(body: &[u8]) -> bool {
    matches!(body, [first, second, ..] if first & 0xf == 8 && u16::from_be_bytes([*first, *second]) % 31 == 0)
}

/// Reads bytes in the charset that they, the header or the page name; UTF-8 where none does.
fn decoded(body: &[u8], kind: &str) -> (String, Option<Unread>) {
    match body {
        [0xef, 0xbb, 0xbf, rest @ ..] => return (lenient(rest), None),
        [0xfe, 0xff, rest @ ..] => return (utf_16(rest, u16::from_be_bytes), None),
        [0xff, 0xfe, rest @ ..] => return (utf_16(rest, u16::from_le_bytes), None),
        _ => {}
    }
    let named = charset(kind.as_bytes());
    let in_page = || {
        let found = charset(&body[..body.len().min(META)])?;
        // A page that can be searched for it is not in UTF-16.
        Some(if found.starts_with("utf-16") { "utf-8".to_owned() } else { found })
    };
    let Some(charset) = named.or_else(in_page) else { return (lenient(body), None) };
    match charset.as_str() {
        "utf-8" | "utf8" => (lenient(body), None),
        "utf-16" | "utf-16le" => (utf_16(body, u16::from_le_bytes), None),
        "utf-16be" => (utf_16(body, u16::from_be_bytes), None),
        // Whatever is called so is read as the last one, as browsers do.
        "iso-8859-1" | "iso8859-1" | "iso_8859-1" | "latin1" | "l1" | "ascii" | "us-ascii"
        | "windows-1252" | "cp1252" => (body.iter().map(|byte| western(*byte)).collect(), None),
        "iso-8859-15" | "iso8859-15" | "iso_8859-15" | "latin9" | "latin-9" | "l9" => {
            (body.iter().map(|byte| latin_9(*byte)).collect(), None)
        }
        other => {
            let like_ascii = [
                "iso-8859-",
                "iso8859-",
                "iso_8859-",
                "windows-",
                "cp12",
                "koi8",
                "gb",
                "big5",
                "euc-",
                "shift",
                "sjis",
                "tis-",
                "mac",
                "x-mac",
            ];
            let except_ascii = like_ascii.iter().any(|start| other.starts_with(start));
            let reason = format!("its charset is `{other}`, which deploykit does not read");
            (lenient(body), Some(Unread { reason, except_ascii }))
        }
    }
}

fn lenient(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// Returns the name behind `charset=`, in lower case.
fn charset(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    text.match_indices("charset").find_map(|(at, word)| {
        let rest = text[at + word.len()..].trim_start().strip_prefix('=')?.trim_start();
        let rest = rest.trim_start_matches(['"', '\'']);
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_:.".contains(c))).unwrap_or(rest.len());
        (end > 0).then(|| rest[..end].to_owned())
    })
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Source: <https://encoding.spec.whatwg.org/index-windows-1252.txt>
const WESTERN: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

fn western(byte: u8) -> char {
    match byte {
        0x80..=0x9f => WESTERN[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

fn latin_9(byte: u8) -> char {
    match byte {
        0xa4 => '€',
        0xa6 => 'Š',
        0xa8 => 'š',
        0xb4 => 'Ž',
        0xb8 => 'ž',
        0xbc => 'Œ',
        0xbd => 'œ',
        0xbe => 'Ÿ',
        _ => char::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn text(body: &[u8], codings: &str, kind: &str) -> Text {
        let about = About { codings: codings.to_owned(), kind: kind.to_owned() };
        read(body.to_vec(), false, &about, 100)
    }

    macro_rules! packed {
        ($encoder:ident, $bytes:expr) => {{
            let mut encoder = $encoder::new(Vec::new(), Compression::fast());
            encoder.write_all($bytes).unwrap();
            encoder.finish().unwrap()
        }};
    }

    #[test]
    fn compression_is_undone() {
        let page = "Größe".as_bytes();
        for (body, codings) in [
            (packed!(GzEncoder, page), "gzip"),
            (packed!(GzEncoder, page), "X-GZIP, identity"),
            (packed!(ZlibEncoder, page), "deflate"),
            (packed!(DeflateEncoder, page), "deflate"),
            (packed!(GzEncoder, &packed!(ZlibEncoder, page)), "deflate, gzip"),
            (page.to_vec(), ""),
        ] {
            assert_eq!(
                text(&body, codings, ""),
                Text { text: "Größe".to_owned(), ..Text::default() },
                "{codings}"
            );
        }
        // A small file that becomes a large one.
        let bomb = text(&packed!(GzEncoder, &[b'a'; 100_000]), "gzip", "");
        assert_eq!((bomb.text.len(), bomb.truncated, bomb.unread), (100, true, None));
        let half = &packed!(GzEncoder, b"some text that is not there as a whole")[..30];
        let about = About { codings: "gzip".to_owned(), kind: String::new() };
        let cut = read(half.to_vec(), true, &about, 100);
        assert!(cut.text.starts_with("some") && cut.truncated && cut.unread.is_none(), "{cut:?}");
    }

    #[test]
    fn what_cannot_be_undone_is_said() {
        for (body, codings, reason) in [
            (&b"\x0b\x02\x80"[..], "br", "it is compressed with `br`, which was not asked for"),
            (b"plain", "gzip", "it is compressed with `gzip` and damaged"),
            (b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b", "gzip", "it is compressed with `gzip` and damaged"),
        ] {
            let unread = text(body, codings, "").unread.unwrap();
            assert!(unread.reason.starts_with(reason) && !unread.except_ascii, "{unread:?}");
        }
    }

    #[test]
    fn the_charset_is_that_of_the_answer() {
        for (body, kind, expected) in [
            (&b"Gr\xf6\xdfe \x80"[..], "text/html; charset=ISO-8859-1", "Größe €"),
            (b"Gr\xf6\xdfe \xa4", "text/html;charset=\"iso-8859-15\"", "Größe €"),
            (b"<meta charset=latin1>\xfc", "text/html", "<meta charset=latin1>ü"),
            (b"G\0r\0\xf6\0", "text/html; charset=utf-16le", "Grö"),
            (b"\xfe\xff\0G\0r\0\xf6", "text/html; charset=latin1", "Grö"),
            (b"\xef\xbb\xbfGr\xc3\xb6", "text/html; charset=latin1", "Grö"),
            (b"Gr\xc3\xb6 \xff", "text/html; charset=utf-8", "Grö \u{fffd}"),
            (b"<meta charset=\"utf-16\">Gr\xc3\xb6", "", "<meta charset=\"utf-16\">Grö"),
            (b"Gr\xc3\xb6", "", "Grö"),
        ] {
            assert_eq!(text(body, "", kind), Text { text: expected.to_owned(), ..Text::default() }, "{kind}");
        }
        for (kind, except_ascii) in
            [("text/html; charset=Shift_JIS", true), ("text/html; charset=ebcdic", false)]
        {
            assert_eq!(text(b"abc", "", kind).unread.unwrap().except_ascii, except_ascii);
        }
    }
}
