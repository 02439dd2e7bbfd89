//! Keys and the ring that holds them, through the life of each: pending, primary, retired, revoked.
//!
//! # Security
//! A retired key protects against nodes that still seal with it, not against a thief: whoever has a key that opens,
//! primary, pending or retired, can read and forge sessions. A leaked key has to be revoked.

#[cfg(unix)]
mod custody;
mod document;
mod file;
mod follow;
mod ring;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

pub use self::file::KeyFile;
pub(crate) use self::follow::{Reload, Snapshot};
pub use self::ring::{KeyInfo, KeyRing, KeySource, KeyState};
use crate::core::error::KeyError;
use crate::core::random;

/// Length of a [`Key`] in bytes.
pub const KEY_LEN: usize = 32;
/// Length of a [`KeyId`] in bytes.
pub(crate) const KEY_ID_LEN: usize = 4;
/// Length of a key as base64url text without padding.
const KEY_TEXT_LEN: usize = (KEY_LEN * 8).div_ceil(6);
/// The first part of the info of each derivation.
const LIBRARY: &[u8] = b"sealed-session/1";
/// A derivation secret with fewer distinct bytes than this is no random one: 32 random hex digits have 14.
const MIN_DISTINCT_BYTES: usize = 8;

/// What a subkey is for. The root key itself enters no cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Cookie,
    /// Rows in a store; each is sealed under a key of its own, derived from this one.
    Row,
    /// Where a store keeps what is said of a subject.
    Lookup,
    /// Where a store keeps a subject's roster, and how its lines are named.
    Roster,
    /// Tokens against cross-site request forgery.
    Csrf,
    /// Cookies that are read once.
    Transient,
    /// Challenges that a browser answers with a new device key.
    DeviceRegistration,
    /// Challenges that it answers with that key's signature again.
    DeviceRefresh,
    /// Cookies that say until when a device has proved itself.
    DeviceProof,
    /// What a browser calls a session that it has bound.
    DeviceIdentifier,
}

impl Purpose {
    /// The word that stands in the HKDF info.
    fn label(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Row => "row",
            Self::Lookup => "lookup",
            Self::Roster => "roster",
            Self::Csrf => "csrf",
            Self::Transient => "transient",
            Self::DeviceRegistration => "device registration",
            Self::DeviceRefresh => "device refresh",
            Self::DeviceProof => "device proof",
            Self::DeviceIdentifier => "device identifier",
        }
    }
}

/// Names a key without telling anything about it: 4 bytes derived from the key by HKDF-SHA-256.
///
/// It travels in the clear at the head of each cookie, so that exactly one key is tried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) [u8; KEY_ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    /// Reads the 8 hexadecimal digits that `Display` writes.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.len() == 2 * KEY_ID_LEN && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u32::from_str_radix(text, 16) {
            Ok(id) if digits => Ok(Self(id.to_be_bytes())),
            _ => Err(KeyError::Id),
        }
    }
}

/// A root key: 32 bytes from which the working keys are derived. Zeroized when dropped, never printed, compared in
/// constant time.
///
/// ```
/// use sealed_session::Key;
///
/// let key = Key::generate();
/// let text = key.export(); // for a secret manager; treat it as a password
/// assert_eq!(text.parse::<Key>()?, key);
/// assert!(!format!("{key:?}").contains(text.as_str()));
/// # Ok::<(), sealed_session::KeyError>(())
/// ```
#[derive(Clone)]
pub struct Key {
    /// In one place, wherever the key is moved or cloned to: what a list of keys leaves when it grows is not wiped.
    root: Arc<Zeroizing<[u8; KEY_LEN]>>,
    id: KeyId,
}

impl Key {
    /// A fresh key of random bytes from the operating system.
    #[must_use]
    pub fn generate() -> Self {
        let mut root = Zeroizing::new([0; KEY_LEN]);
        random::fill_from_system(root.as_mut_slice());
        Self::of(root)
    }

    /// The key with these bytes, whatever they are: also those that no generator makes, such as 32 zeros, which suit tests.
    ///
    /// # Security
    /// They must come from a cryptographic random generator, and nothing checks that. For a secret of another form use
    /// [`derive_from`](Self::derive_from). The caller's own copy is not zeroized.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self::of(Zeroizing::new(bytes))
    }

    /// Derives a key from a secret of another form, such as the 64 hex digits that a secret manager made, with
    /// HKDF-SHA-256 (RFC 5869).
    ///
    /// # Errors
    /// [`KeyError::Weak`] for fewer than 32 bytes and for obvious human text: one repeated byte or block, too few
    /// different bytes, a counting sequence, or nothing but words.
    ///
    /// # Security
    /// HKDF does not slow a guesser down, so a password is never good enough, however long. The checks catch
    /// mistakes; they cannot prove that a secret is random.
    ///
    /// ```
    /// use sealed_session::Key;
    ///
    /// assert!(Key::derive_from(b"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c").is_ok());
    /// assert!(Key::derive_from(b"change me change me change me change me").is_err());
    /// ```
    pub fn derive_from(secret: &[u8]) -> Result<Self, KeyError> {
        if let Some(reason) = weakness(secret) {
            return Err(KeyError::Weak { reason });
        }
        let mut root = Zeroizing::new([0; KEY_LEN]);
        expand(secret, &[b"derived root"], root.as_mut_slice());
        Ok(Self::of(root))
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key as 43 characters of base64url without padding, which [`FromStr`] reads back.
    ///
    /// # Security
    /// Whoever has this text can read and forge every session. The returned string is zeroized when dropped; copies
    /// of it are not.
    #[must_use]
    pub fn export(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.root.as_slice()))
    }

    /// The working key for one purpose and the cookie of one name.
    pub(crate) fn subkey(&self, purpose: Purpose, name: &str) -> Zeroizing<[u8; KEY_LEN]> {
        let mut subkey = Zeroizing::new([0; KEY_LEN]);
        let parts = [purpose.label().as_bytes(), name.as_bytes()];
        expand(self.root.as_slice(), &parts, subkey.as_mut_slice());
        subkey
    }

    fn of(root: Zeroizing<[u8; KEY_LEN]>) -> Self {
        let mut id = [0; KEY_ID_LEN];
        expand(root.as_slice(), &[b"key id"], &mut id);
        Self { root: Arc::new(root), id: KeyId(id) }
    }
}

/// What the keys of rows are derived from. The first half of HKDF does not depend on the row, so it is done once.
pub(crate) struct RowSubkey(Hkdf<Sha256>);

impl RowSubkey {
    pub(crate) fn of(subkey: &[u8; KEY_LEN]) -> Self {
        Self(Hkdf::new(None, subkey))
    }

    /// The key of one row, which needs both the ring's key and the session's id.
    pub(crate) fn row_key(&self, id: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        expand_with(&self.0, &[b"row of", id], key.as_mut_slice());
        key
    }
}

/// HKDF-SHA-256 without salt. The info is the library and these parts, each behind its length as two bytes, most
/// significant first, so that no two lists of parts look the same.
fn expand(secret: &[u8], parts: &[&[u8]], out: &mut [u8]) {
    expand_with(&Hkdf::new(None, secret), parts, out);
}

fn expand_with(extracted: &Hkdf<Sha256>, parts: &[&[u8]], out: &mut [u8]) {
    let mut info = Vec::with_capacity(128);
    for part in [LIBRARY].iter().chain(parts) {
        let len = u16::try_from(part.len()).expect("build() limits the cookie name");
        info.extend_from_slice(&len.to_be_bytes());
        info.extend_from_slice(part);
    }
    const _: () = assert!(KEY_LEN <= 255 * 32, "HKDF-SHA-256 yields at most 255 blocks");
    extracted.expand(&info, out).expect("the length is checked above");
}

impl FromStr for Key {
    type Err = KeyError;

    /// Reads what [`export`](Self::export) writes; spaces and line ends around it are ignored.
    ///
    /// # Errors
    /// [`KeyError::Encoding`] for anything else, and for one character all over, which stands for a key and is none.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        match is_one_character(text) {
            true => Err(KeyError::Encoding { found: instead_of_a_key(text) }),
            false => Self::read(text),
        }
    }
}

impl Key {
    /// Reads whatever [`export`](Self::export) may have written.
    fn read(text: &str) -> Result<Self, KeyError> {
        let mut root = Zeroizing::new([0; KEY_LEN]);
        if text.len() != KEY_TEXT_LEN
            || URL_SAFE_NO_PAD.decode_slice_unchecked(text, root.as_mut_slice()) != Ok(KEY_LEN)
        {
            return Err(KeyError::Encoding { found: instead_of_a_key(text) });
        }
        Ok(Self::of(root))
    }
}

fn is_one_character(text: &str) -> bool {
    text.bytes().all(|byte| byte == text.as_bytes()[0])
}

/// What a text is that is no key, and what helps; nothing of the text is in it.
fn instead_of_a_key(text: &str) -> String {
    const ANEW: &str = "make one with `sealed-session keygen` or `Key::generate()`";
    let is_url = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let unpadded = text.strip_suffix('=').unwrap_or(text);
    if text.len() == 2 * KEY_LEN && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        "this text is 64 hexadecimal digits; derive a key from them with `Key::derive_from`, or convert them with \
         `xxd -r -p | base64 | tr '+/' '-_' | tr -d '='`"
            .into()
    } else if text.len() != KEY_TEXT_LEN && unpadded.len() != KEY_TEXT_LEN {
        format!("this text has {} bytes; {ANEW}", text.len())
    } else if unpadded.len() != KEY_TEXT_LEN || !unpadded.bytes().all(|b| is_url(b) || b == b'+' || b == b'/')
    {
        format!("this text has other characters in it; {ANEW}")
    } else if is_one_character(text) {
        format!("this text is one character all over; {ANEW}")
    } else if text.bytes().all(is_url) {
        format!("the last character of this text ends no key, so it was cut or altered; {ANEW}")
    } else {
        "this text is base64 with `=`, `+` or `/`; convert it with `tr '+/' '-_' | tr -d '='`".into()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.root.as_slice().ct_eq(other.root.as_slice()).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, redacted)", self.id)
    }
}

fn weakness(secret: &[u8]) -> Option<&'static str> {
    let mut seen = [false; 256];
    secret.iter().for_each(|&byte| seen[usize::from(byte)] = true);
    let distinct = seen.iter().filter(|&&s| s).count();
    let repeats = |period: usize| secret[period..].iter().zip(secret).all(|(a, b)| a == b);
    let wordlike = |byte: &u8| byte.is_ascii_alphabetic() || b" -_.,'!?\t\r\n".contains(byte);
    let mixed = secret.iter().any(u8::is_ascii_uppercase)
        && secret.iter().any(u8::is_ascii_lowercase)
        && !secret.contains(&b' ');
    if secret.len() < KEY_LEN {
        Some("it has fewer than 32 bytes")
    } else if distinct == 1 {
        Some("it is one repeated byte")
    } else if (1..=secret.len() / 2).any(repeats) {
        Some("it is one repeated block")
    } else if secret.windows(3).all(|w| w[1].wrapping_sub(w[0]) == w[2].wrapping_sub(w[1])) {
        Some("it is a counting sequence")
    } else if distinct < MIN_DISTINCT_BYTES {
        Some("it has fewer than 8 different bytes")
    } else if secret.iter().all(wordlike) && !mixed {
        Some("it consists of words")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_that_are_too_short_or_written_by_a_human_are_refused() {
        for (secret, reason) in [
            (&b"short"[..], "fewer than 32 bytes"),
            (&[7; 31], "fewer than 32 bytes"),
            (&[7; 64], "one repeated byte"),
            (b"passw0rdpassw0rdpassw0rdpassw0rd", "repeated block"),
            (b"passw0rd!passw0rd!passw0rd!passw0rd!pa", "repeated block"),
            (b"abcdefghijklmnopqrstuvwxyz{|}~\x7f\x80\x81", "counting sequence"),
            (b"00112233001122330011223300112230", "fewer than 8"),
            (b"this-is-my-very-secret-session-key", "words"),
            (b"Correct horse battery staple, and then some", "words"),
            (b"THE_SECRET_KEY_OF_MY_APPLICATION_IN_PRODUCTION", "words"),
        ] {
            let error = Key::derive_from(secret).unwrap_err().to_string();
            assert!(error.contains(reason), "{secret:?}: {error}");
        }
    }

    #[test]
    fn secrets_from_a_generator_are_accepted_and_give_the_same_key_each_time() {
        for secret in [
            &b"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"[..],
            b"0f3b8e1d6a2c4f7e9b1d3a5c7e9f0b2d",
            // As few different bytes as may be.
            b"01234567765432100246135776543012",
            b"tgX9m2LQvR7pWc4YzKd8NfHs3JbAeU6T",
            b"xQzTbWmLpKcJvHgFdSaYnRuEiOoPtXbZqMwN",
        ] {
            assert_eq!(Key::derive_from(secret).unwrap(), Key::derive_from(secret).unwrap());
        }
        for _ in 0..1_000 {
            let secret: [u8; 32] = rand::random();
            assert!(Key::derive_from(&secret).is_ok());
        }
    }

    #[test]
    fn a_key_of_another_length_or_alphabet_is_refused_without_quoting_it() {
        let good = Key::from_bytes([0xfb; 32]).export();
        assert!(good.contains('-') || good.contains('_'));
        let standard = good.replace('-', "+").replace('_', "/");
        let loose_bits = format!("{}9", &good[..42]);
        let convert = "this text is base64 with `=`, `+` or `/`; convert it with `tr '+/' '-_' | tr -d '='`";
        for (bad, found) in [
            ("", "this text has 0 bytes; make one with"),
            ("x", "this text has 1 bytes; make one with"),
            (&format!("{}=", *good), convert),
            (&standard, convert),
            (&format!("{standard}="), convert),
            (&format!("{}A", *good), "this text has 44 bytes"),
            (&format!("{}==", *good), "this text has 45 bytes"),
            (&format!("{}=", &good[..42]), "this text has other characters in it; make one with"),
            (&format!("{}.", &good[..42]), "this text has other characters in it"),
            (&format!("{}\u{e9}", &good[..41]), "this text has other characters in it"),
            (&"A".repeat(43), "this text is one character all over; make one with"),
            (&loose_bits, "the last character of this text ends no key"),
            (&"0aF9".repeat(16), "this text is 64 hexadecimal digits; derive a key from them"),
            (&"0aG9".repeat(16), "this text has 64 bytes"),
        ] {
            let error = bad.parse::<Key>().unwrap_err().to_string();
            assert!(error.contains("43 characters of base64url"), "{error}");
            assert!(error.contains(found), "{bad}: {error}");
            assert!(bad.len() < 2 || !error.contains(bad), "{error}");
        }
        assert_eq!(format!(" {}\r\n", *good).parse::<Key>().unwrap().export(), good);
    }

    #[test]
    fn no_printed_form_of_a_key_or_ring_contains_key_material() {
        let key = Key::from_bytes(*b"0123456789abcdef0123456789abcdef");
        let ring = KeyRing::new(key.clone());
        for printed in [format!("{key:?}"), format!("{key:#?}"), format!("{ring:?}"), format!("{ring:#?}")] {
            assert!(printed.len() < 60 && printed.contains(&key.id().to_string()), "{printed}");
            assert!(!printed.contains("0123") && !printed.contains("MDEy") && !printed.contains("30313233"));
        }
    }

    #[test]
    fn an_id_depends_on_the_key_alone_and_is_no_part_of_it() {
        let key = Key::from_bytes([1; 32]);
        assert_eq!(key.id(), Key::from_bytes([1; 32]).id());
        assert_ne!(key.id(), Key::from_bytes([2; 32]).id());
        assert_ne!(key.id().0, [1; 4]);
    }
}
