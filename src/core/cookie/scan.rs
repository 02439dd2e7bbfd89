//! The request's `Cookie` headers, looked through as bytes.

use memchr::memchr_iter;

/// The values of all cookies of exactly this name, in the order of the headers, out of the quotes that may stand around
/// them. Bytes, not text: foreign or malformed pairs never hide ours.
pub(crate) fn scan<'h>(header: &'h [u8], name: &str) -> impl Iterator<Item = &'h [u8]> {
    let mut start = 0;
    memchr_iter(b';', header).chain([header.len()]).filter_map(move |end| {
        let pair = header[start..end].trim_ascii();
        start = end + 1;
        value_of(pair, name)
    })
}

/// Like [`scan`] for two names at once: whether it is the second, and the value.
pub(crate) fn scan_both<'h>(
    header: &'h [u8],
    (name, other): (&str, Option<&str>),
) -> impl Iterator<Item = (bool, &'h [u8])> {
    let mut start = 0;
    memchr_iter(b';', header).chain([header.len()]).filter_map(move |end| {
        let pair = header[start..end].trim_ascii();
        start = end + 1;
        let own = value_of(pair, name).map(|value| (false, value));
        own.or_else(|| Some((true, value_of(pair, other?)?)))
    })
}

fn value_of<'h>(pair: &'h [u8], name: &str) -> Option<&'h [u8]> {
    // The name is compared before `=` is looked for, so that foreign values are not read a second time.
    let value = pair.strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"=")?;
    Some(unquoted(value.trim_ascii_start()))
}

/// The cookies whose name is this base with a separator and more behind it: that, and the value.
pub(crate) fn scan_suffixed<'h>(
    header: &'h [u8],
    base: &str,
    separator: char,
) -> impl Iterator<Item = (&'h str, &'h [u8])> {
    header.split(|&byte| byte == b';').filter_map(move |pair| {
        let rest = pair.trim_ascii().strip_prefix(base.as_bytes())?;
        let (suffix, value) = str_until(rest, b'=')?;
        Some((suffix.strip_prefix(separator)?, unquoted(value.trim_ascii_start())))
    })
}

fn str_until(bytes: &[u8], end: u8) -> Option<(&str, &[u8])> {
    let at = bytes.iter().position(|&byte| byte == end)?;
    Some((str::from_utf8(bytes[..at].trim_ascii_end()).ok()?, &bytes[at + 1..]))
}

/// A cookie's value without the one pair of double quotes that may stand around it (RFC 6265, section 4.1.1). Clients in
/// Java and .NET send it so. Any other quote is a part of the value, which then is none of ours.
pub(crate) fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    }
}
