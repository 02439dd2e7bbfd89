//! Keys and the ring that holds them: one primary that seals, any number of retired ones that only open.
//!
//! # Security
//! A retired key protects against nodes that still seal with it, not against a thief: whoever has a key of the ring,
//! primary or retired, can read and forge sessions. A leaked key has to leave the ring.

mod file;

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use rand::Rng as _;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::error::KeyError;

/// Length of a [`Key`] in bytes.
pub const KEY_LEN: usize = 32;
/// Length of a [`KeyId`] in bytes.
pub(crate) const KEY_ID_LEN: usize = 4;
/// Length of a key as base64url text without padding.
const KEY_TEXT_LEN: usize = (KEY_LEN * 8).div_ceil(6);
/// A derivation secret with fewer distinct bytes than this is no random one: 32 random hex digits have 14.
const MIN_DISTINCT_BYTES: usize = 8;

/// What a subkey is for. The root key itself enters no cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Cookie,
    /// Rows in a store; each is sealed under a key of its own, derived from this one.
    Row,
}

impl Purpose {
    /// The word that stands in the HKDF label and in the associated data.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Row => "row",
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
    root: Zeroizing<[u8; KEY_LEN]>,
    id: KeyId,
}

impl Key {
    /// A fresh key from the thread's cryptographic random generator.
    #[must_use]
    pub fn generate() -> Self {
        let mut root = Zeroizing::new([0; KEY_LEN]);
        rand::rng().fill_bytes(root.as_mut_slice());
        Self::of(root)
    }

    /// The key with these bytes.
    ///
    /// # Security
    /// They must come from a cryptographic random generator. For a secret of another form use
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
        expand(secret, "derived root", root.as_mut_slice());
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

    /// The working key for one purpose.
    pub(crate) fn subkey(&self, purpose: Purpose) -> Zeroizing<[u8; KEY_LEN]> {
        let mut subkey = Zeroizing::new([0; KEY_LEN]);
        expand(self.root.as_slice(), purpose.label(), subkey.as_mut_slice());
        subkey
    }

    fn of(root: Zeroizing<[u8; KEY_LEN]>) -> Self {
        let mut id = [0; KEY_ID_LEN];
        expand(root.as_slice(), "key id", &mut id);
        Self { root, id: KeyId(id) }
    }
}

/// The key of one row, which needs both the ring's key and the session's id.
pub(crate) fn row_key(row_subkey: &[u8; KEY_LEN], id: &[u8]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    Hkdf::<Sha256>::new(None, row_subkey)
        .expand_multi_info(&[b"sealed-session/1 row of ", id], key.as_mut_slice())
        .expect("the length is one block");
    key
}

/// HKDF-SHA-256 without salt; the info is `"sealed-session/1 " + label`.
fn expand(secret: &[u8], label: &str, out: &mut [u8]) {
    const _: () = assert!(KEY_LEN <= 255 * 32, "HKDF-SHA-256 yields at most 255 blocks");
    Hkdf::<Sha256>::new(None, secret)
        .expand_multi_info(&[b"sealed-session/1 ", label.as_bytes()], out)
        .expect("the length is checked above");
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() != KEY_TEXT_LEN {
            return Err(KeyError::Encoding { found: format!("this text has {} bytes", text.len()) });
        }
        let mut root = Zeroizing::new([0; KEY_LEN]);
        match URL_SAFE_NO_PAD.decode_slice_unchecked(text, root.as_mut_slice()) {
            Ok(KEY_LEN) => Ok(Self::of(root)),
            _ => Err(KeyError::Encoding { found: "this text has other characters in it".into() }),
        }
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

/// The keys of a deployment: the primary seals and opens, retired ones only open. What a retired key opens is
/// re-sealed under the primary with the next response.
///
/// Clones share their keys: [`rotate`](Self::rotate) on one is seen by all.
///
/// ```
/// use sealed_session::{Key, KeyRing};
///
/// let (old, new) = (Key::generate(), Key::generate());
/// let ring = KeyRing::new(old.clone());
/// ring.rotate(new.clone())?;
/// assert_eq!(ring.primary(), new.id());
/// assert_eq!(ring.ids(), [new.id(), old.id()]);
/// # Ok::<(), sealed_session::KeyError>(())
/// ```
#[derive(Clone)]
pub struct KeyRing {
    shared: Arc<Shared>,
}

struct Shared {
    keys: ArcSwap<Vec<Key>>,
    writing: Mutex<()>,
}

impl KeyRing {
    /// A ring with a primary key and no retired ones.
    #[must_use]
    pub fn new(primary: Key) -> Self {
        Self {
            shared: Arc::new(Shared { keys: ArcSwap::from_pointee(vec![primary]), writing: Mutex::new(()) }),
        }
    }

    /// A ring of these keys, the primary first.
    ///
    /// # Errors
    /// [`KeyError::Empty`] for no key, [`KeyError::Duplicate`] for two keys with one id.
    pub fn from_keys(keys: impl IntoIterator<Item = Key>) -> Result<Self, KeyError> {
        let mut keys = keys.into_iter();
        let ring = Self::new(keys.next().ok_or(KeyError::Empty)?);
        for key in keys {
            ring.add_retired(key)?;
        }
        Ok(ring)
    }

    /// Reads a comma-separated list of keys in base64url, the primary first. Spaces around a key are allowed.
    ///
    /// # Errors
    /// [`KeyError::Empty`], [`KeyError::InList`] with the number of the unusable key, [`KeyError::Duplicate`].
    pub fn parse(list: &str) -> Result<Self, KeyError> {
        if list.trim().is_empty() {
            return Err(KeyError::Empty);
        }
        let parse = |(i, text): (usize, &str)| {
            text.trim().parse().map_err(|source| KeyError::InList { number: i + 1, source: Box::new(source) })
        };
        Self::from_keys(list.split(',').enumerate().map(parse).collect::<Result<Vec<Key>, _>>()?)
    }

    /// Reads the list of [`parse`](Self::parse) from an environment variable.
    ///
    /// # Errors
    /// [`KeyError::Environment`] if it is not set, and those of [`parse`](Self::parse).
    pub fn from_env(name: &str) -> Result<Self, KeyError> {
        let list = std::env::var(name).map_err(|_| KeyError::Environment { name: name.into() })?;
        Self::parse(&Zeroizing::new(list))
    }

    /// Opens the key file at `path`, or makes one with a fresh key (mode 0600) if there is none. Of several processes
    /// that start at once, one makes the file and all use it.
    ///
    /// The file is a JSON document:
    /// `{"version": 1, "keys": [{"key": "<base64url>", "state": "primary"}, {"key": "..", "state": "retired"}]}`.
    ///
    /// # Errors
    /// [`KeyError::Permissions`] if the file's group or others have any access (Unix only; on other systems protect
    /// it by other means), [`KeyError::Document`] if it is not such a document, [`KeyError::Io`].
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        match file::read(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                file::create(path, &Key::generate()).map_err(|source| KeyError::Io {
                    action: "create",
                    path: path.into(),
                    source,
                })?;
                file::read(path)
            }
            outcome => outcome,
        }
    }

    /// Adds a key that only opens.
    ///
    /// In a rolling deploy a new key goes to all nodes in this way first, and is made the primary by
    /// [`rotate`](Self::rotate) once every node has it.
    ///
    /// # Errors
    /// [`KeyError::Duplicate`] if the ring has a key of that id.
    pub fn add_retired(&self, key: Key) -> Result<(), KeyError> {
        self.change(|keys| match keys.iter().find(|k| k.id == key.id) {
            Some(_) => Err(KeyError::Duplicate { id: key.id }),
            None => {
                keys.push(key);
                Ok(())
            }
        })
    }

    /// Makes `key` the primary; the former primary is retired. A key that is in the ring already moves to the front.
    /// Takes effect at once, for all clones, in this process. Nothing is written to a key file.
    ///
    /// # Errors
    /// [`KeyError::Duplicate`] if the ring has another key of that id.
    pub fn rotate(&self, key: Key) -> Result<(), KeyError> {
        self.change(|keys| {
            match keys.iter().position(|k| k.id == key.id) {
                Some(at) if keys[at] == key => keys[..=at].rotate_right(1),
                Some(_) => return Err(KeyError::Duplicate { id: key.id }),
                None => keys.insert(0, key),
            }
            Ok(())
        })
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn primary(&self) -> KeyId {
        self.snapshot()[0].id
    }

    /// The ids of all keys, the primary first.
    #[must_use]
    pub fn ids(&self) -> Vec<KeyId> {
        self.snapshot().iter().map(Key::id).collect()
    }

    /// The keys as they are now, the primary first; never empty. A later change makes a new list, so two snapshots
    /// are the same exactly if they are the same allocation.
    pub(crate) fn snapshot(&self) -> arc_swap::Guard<Arc<Vec<Key>>> {
        self.shared.keys.load()
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<Key>) -> Result<(), KeyError>) -> Result<(), KeyError> {
        let _writing = self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = Vec::clone(&self.snapshot());
        edit(&mut keys)?;
        self.shared.keys.store(Arc::new(keys));
        Ok(())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing").field(&self.ids()).finish()
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
        for bad in ["", "x", &format!("{}=", *good), &standard, &format!("{}A", *good), &loose_bits] {
            let error = bad.parse::<Key>().unwrap_err().to_string();
            assert!(error.contains("43 characters of base64url"), "{error}");
            assert!(bad.len() < 2 || !error.contains(bad), "{error}");
        }
    }

    #[test]
    fn no_printed_form_of_a_key_or_ring_contains_key_material() {
        let key = Key::from_bytes(*b"0123456789abcdef0123456789abcdef");
        let ring = KeyRing::new(key.clone());
        for printed in [format!("{key:?}"), format!("{key:#?}"), format!("{ring:?}"), format!("{ring:#?}")] {
            assert!(printed.len() < 60, "{printed}");
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

    #[test]
    fn a_list_names_the_number_of_the_key_that_is_wrong() {
        let good = Key::generate().export();
        let error = KeyRing::parse(&format!("{}, nonsense", *good)).unwrap_err();
        assert!(error.to_string().contains("number 2"), "{error}");
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("43 characters"));
        assert!(matches!(KeyRing::parse(" "), Err(KeyError::Empty)));
        assert!(matches!(KeyRing::parse(&format!("{0},{0}", *good)), Err(KeyError::Duplicate { .. })));
        assert!(matches!(KeyRing::from_env("SEALED_SESSION_NOT_SET"), Err(KeyError::Environment { .. })));
    }

    #[test]
    fn rotating_moves_a_known_key_to_the_front_and_is_seen_by_clones() {
        let [a, b, c] = [1, 2, 3].map(|n| Key::from_bytes([n; 32]));
        let ring = KeyRing::from_keys([a.clone(), b.clone()]).unwrap();
        let clone = ring.clone();
        ring.rotate(c.clone()).unwrap();
        assert_eq!(clone.ids(), [c.id(), a.id(), b.id()]);
        ring.rotate(b.clone()).unwrap();
        assert_eq!(clone.ids(), [b.id(), c.id(), a.id()]);
        ring.rotate(b.clone()).unwrap();
        assert_eq!(clone.ids(), [b.id(), c.id(), a.id()]);
        assert!(matches!(ring.add_retired(a), Err(KeyError::Duplicate { .. })));
    }
}
