//! Where a login may lead to: a path of this origin, which neither a browser nor what stands before the application takes
//! for more.

use std::borrow::Cow;

/// The most bytes that [`local_path`] takes.
pub(crate) const MAX_LOCAL_PATH_BYTES: usize = 2_048;

/// `next`, if it is a path of this origin, with a query and a fragment if need be; what a login redirects to afterwards.
/// A `next` comes from an address, so anybody may have written it, and who redirects to it unread sends users who have just
/// logged in to a page that asks for their password once more (CWE-601, open redirect).
///
/// What is taken is less than what an address may be, so that it stays on the origin also where a proxy or a framework
/// decodes or tidies it up once more:
///
/// | rule | because otherwise |
/// |---|---|
/// | 1 to 2,048 bytes | a `Location` may become too long for a proxy |
/// | it begins with one `/` | `https://evil.example`, `javascript:` and `evil` are no paths, and `//evil.example` is a host |
/// | visible ASCII alone | browsers drop tabs and line feeds wherever they stand, so `/<tab>/evil.example` is a host; and a line feed ends a header |
/// | no `\`, anywhere | browsers take it for `/` |
/// | in the path no `//` | what drops a part before it makes it a host |
/// | in the path no `.` and `..`, nor `%2e` for them, nor these or nothing before a `;` | resolving `/.//evil.example` may leave `//evil.example`; servers of Java drop what follows a `;` |
/// | in the path no `%2f`, `%5c`, `%25`, no control characters | decoded, they are what is refused above; `%25` is for who decodes twice |
/// | in the path no `%` without two hexadecimal digits, and nothing that is not UTF-8 | what decoders make of these differs: of `%c0%af` some have made `/` |
///
/// In the query and the fragment there may be everything else, `//` and `https://` too: no address begins there.
///
/// # Security
/// The rules follow the WHATWG URL standard, section 4.4, and OWASP's cheat sheet on unvalidated redirects. This does not
/// tell whether there is such a page, nor whether it is harmless to go there: a page that does something when it is asked
/// for by `GET` does it after the login too.
///
/// ```
/// use sealed_session::local_path;
///
/// assert_eq!(local_path("/orders?page=2"), Some("/orders?page=2"));
/// assert_eq!(local_path("https://evil.example/"), None);
/// assert_eq!(local_path("//evil.example/"), None);
/// assert_eq!(local_path(r"/\evil.example/"), None);
/// ```
#[must_use]
pub fn local_path(next: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    if next.len() > MAX_LOCAL_PATH_BYTES || !next.bytes().all(is_plain) {
        return None;
    }
    let path = &next[..next.find(['?', '#']).unwrap_or(next.len())];
    let mut segments = path.strip_prefix('/')?.split('/');
    // Nothing may stand behind the last `/` alone.
    let last = segments.next_back()?;
    let stays = segments.all(|segment| !segment.is_empty() && is_name(segment)) && is_name(last);
    stays.then_some(next)
}

/// Whether a segment is a name, or nothing, and no more than that when it is decoded.
fn is_name(segment: &str) -> bool {
    let Some(decoded) = decode(segment) else { return false };
    let before_parameters = decoded.split(';').next().unwrap_or_default();
    !decoded.contains(['/', '\\', '%'])
        && !decoded.contains(char::is_control)
        && !matches!(before_parameters, "." | "..")
        && (!before_parameters.is_empty() || decoded.is_empty())
}

/// None: a `%` without two digits, or no UTF-8.
fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' { hex(bytes.next()?)? << 4 | hex(bytes.next()?)? } else { byte });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests;
