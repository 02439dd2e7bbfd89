//! Sealing and opening: the only file that knows the wire layout and the cipher.
//!
//! ```text
//! base64url( suite 1 | key id 4 | nonce 24 | ciphertext of the padded plaintext | tag 16 )
//! ```
//!
//! # Security
//! XAES-256-GCM (C2SP) with random 192-bit nonces has no practical limit on the number of seals under one key. Exactly
//! one key, named by the authenticated key id, is tried per cookie, so a ring is no partitioning oracle. There is no
//! compression, and padding to blocks hides small differences in length. The nonces come from the thread's ChaCha
//! generator, which is not reseeded by `fork`: a process that forks after sealing must not seal on both sides.

#[doc(hidden)]
pub mod bench;
mod rows;

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::NO_PAD;
use rand::Rng as _;
use xaes_256_gcm::aead::inout::InOutBuf;
use xaes_256_gcm::aead::{AeadInOut as _, KeyInit as _};
use xaes_256_gcm::{Nonce, Tag, Xaes256Gcm};

pub(crate) use self::rows::RowSealer;
use crate::error::Rejection;
use crate::key::{KEY_ID_LEN, Key, KeyId, KeyRing, Purpose, Snapshot};

/// The suite byte of XAES-256-GCM over records of version 1.
pub(crate) const SUITE: u8 = 1;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
const HEAD_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;
const OVERHEAD: usize = HEAD_LEN + TAG_LEN;
/// Plaintexts are padded with zeros to a multiple of this.
const BLOCK_LEN: usize = 32;
/// Longer values cannot have come from a browser, which keeps at most this much of name and value.
const MAX_VALUE_LEN: usize = 4096;
/// The first part of the associated data.
const LABEL: &str = "sealed-session";

const _: () = assert!(size_of::<Nonce>() == NONCE_LEN && size_of::<Tag>() == TAG_LEN);

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
type Base64 = base64::engine::simd::Simd;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static BASE64: LazyLock<Base64> = LazyLock::new(|| Base64::url_safe(NO_PAD));

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Base64 = base64::engine::GeneralPurpose;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static BASE64: LazyLock<Base64> = LazyLock::new(|| Base64::new(&base64::alphabet::URL_SAFE, NO_PAD));

/// Length of the base64url text that a plaintext of `len` bytes becomes.
pub(crate) const fn sealed_len(len: usize) -> usize {
    ((OVERHEAD + padded(len)) * 4).div_ceil(3)
}

/// The longest plaintext whose base64url text has at most `len` characters, or `None` if not even an empty one fits.
pub(crate) const fn max_plaintext_len(len: usize) -> Option<usize> {
    match (len * 3 / 4).checked_sub(OVERHEAD) {
        Some(room) => Some(room / BLOCK_LEN * BLOCK_LEN),
        None => None,
    }
}

const fn padded(len: usize) -> usize {
    len.next_multiple_of(BLOCK_LEN)
}

/// A buffer with room for everything around the plaintext, so that it is sealed where it was written.
pub(crate) struct Draft(Vec<u8>);

impl Draft {
    pub(crate) fn with_capacity(plaintext: usize) -> Self {
        let mut buf = Vec::with_capacity(OVERHEAD + padded(plaintext));
        buf.resize(HEAD_LEN, 0);
        Self(buf)
    }

    /// Append the plaintext here.
    pub(crate) fn plaintext(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

/// Seals and opens for one purpose and one cookie name under the keys of a ring.
pub(crate) struct Sealer {
    ring: KeyRing,
    purpose: Purpose,
    name: Box<str>,
    ciphers: ArcSwap<Ciphers>,
}

/// The ciphers of one snapshot of the ring, built once; the primary's is the first.
struct Ciphers {
    keys: Arc<Snapshot>,
    /// Apart from the ciphers, so that looking for an id in a large ring reads one small array.
    ids: Vec<KeyId>,
    of: Vec<Cipher>,
}

struct Cipher {
    aead: Xaes256Gcm,
    aad: Box<[u8]>,
}

impl Sealer {
    pub(crate) fn new(ring: KeyRing, purpose: Purpose, name: &str) -> Self {
        let ciphers = Ciphers::build(Arc::clone(&ring.snapshot()), purpose, name);
        Self { ring, purpose, name: name.into(), ciphers: ArcSwap::from_pointee(ciphers) }
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Seals the draft under the given key of the ring, or else the primary, and appends the base64url text to `out`.
    pub(crate) fn seal(&self, draft: Draft, under: Option<KeyId>, out: &mut Vec<u8>) {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        self.seal_with_nonce(draft, under, nonce, out);
    }

    fn seal_with_nonce(
        &self,
        Draft(mut buf): Draft,
        under: Option<KeyId>,
        nonce: [u8; NONCE_LEN],
        out: &mut Vec<u8>,
    ) {
        let ciphers = self.ciphers();
        let key = under.and_then(|under| ciphers.ids.iter().position(|id| *id == under)).unwrap_or(0);
        let cipher = &ciphers.of[key];
        buf.resize(HEAD_LEN + padded(buf.len() - HEAD_LEN), 0);
        buf[0] = SUITE;
        buf[1..=KEY_ID_LEN].copy_from_slice(&ciphers.ids[key].0);
        buf[1 + KEY_ID_LEN..HEAD_LEN].copy_from_slice(&nonce);
        let tag = cipher
            .aead
            .encrypt_inout_detached(&nonce.into(), &cipher.aad, InOutBuf::from(&mut buf[HEAD_LEN..]))
            .expect("a session is far below the 64 GiB that one GCM message may have");
        buf.extend_from_slice(&tag);

        let start = out.len();
        out.resize(start + (buf.len() * 4).div_ceil(3), 0);
        BASE64.encode_slice(&buf, &mut out[start..]).expect("the length is exact");
    }

    /// Decodes a value and finds its key: everything that can be known without the cipher.
    pub(crate) fn parse(&self, value: &[u8]) -> Result<Parsed, Rejection> {
        // No suite can have shorter values than this one, whose parts are all at their minimum.
        if value.len() < sealed_len(1) || value.len() > MAX_VALUE_LEN {
            return Err(Rejection::Malformed);
        }
        let mut buf = vec![0; value.len() * 3 / 4];
        if BASE64.decode_slice(value, &mut buf) != Ok(buf.len()) {
            return Err(Rejection::Malformed);
        }
        if buf[0] != SUITE {
            return Err(Rejection::UnknownSuite(buf[0]));
        }
        if !(buf.len() - OVERHEAD).is_multiple_of(BLOCK_LEN) {
            return Err(Rejection::Malformed);
        }
        let mut id = KeyId([0; KEY_ID_LEN]);
        id.0.copy_from_slice(&buf[1..=KEY_ID_LEN]);
        let ciphers = self.ciphers();
        match ciphers.ids.iter().position(|&known| known == id) {
            Some(key) => Ok(Parsed { buf, ciphers, key }),
            None if ciphers.keys.revoked.contains(&id) => Err(Rejection::RevokedKey(id)),
            None => Err(Rejection::UnknownKey(id)),
        }
    }

    /// The ciphers of the ring as it is now; they are built anew only after the ring has changed.
    fn ciphers(&self) -> arc_swap::Guard<Arc<Ciphers>> {
        let ciphers = self.ciphers.load();
        if ciphers.keys.edition == self.ring.edition() {
            return ciphers;
        }
        let keys = self.ring.snapshot();
        self.ciphers.store(Arc::new(Ciphers::build(Arc::clone(&keys), self.purpose, &self.name)));
        self.ciphers.load()
    }
}

impl Ciphers {
    fn build(keys: Arc<Snapshot>, purpose: Purpose, name: &str) -> Self {
        let cipher = |key: &Key| Cipher {
            aead: Xaes256Gcm::new((&*key.subkey(purpose)).into()),
            aad: associated_data(key.id(), purpose, name),
        };
        let (ids, of) = keys.keys.iter().map(|key| (key.id(), cipher(key))).unzip();
        Self { keys, ids, of }
    }
}

/// Each part behind its length as two bytes, most significant first, so that no two lists of parts look the same.
fn associated_data(id: KeyId, purpose: Purpose, name: &str) -> Box<[u8]> {
    let parts = [LABEL.as_bytes(), &[SUITE], &id.0, purpose.label().as_bytes(), name.as_bytes()];
    let prefixed = |part: &[u8]| {
        let len = u16::try_from(part.len()).expect("build() limits the cookie name");
        [&len.to_be_bytes(), part].concat()
    };
    parts.into_iter().flat_map(prefixed).collect()
}

#[cfg(test)]
thread_local! {
    /// How often this thread has asked a cipher.
    pub(crate) static TRIALS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A value with a plausible shape and a known key. Nothing of it may be believed yet.
pub(crate) struct Parsed {
    buf: Vec<u8>,
    ciphers: arc_swap::Guard<Arc<Ciphers>>,
    key: usize,
}

impl Parsed {
    /// The one AEAD trial.
    pub(crate) fn open(self) -> Result<Opened, Rejection> {
        #[cfg(test)]
        TRIALS.with(|trials| trials.set(trials.get() + 1));
        let Self { mut buf, ciphers, key } = self;
        let Cipher { aead, aad } = &ciphers.of[key];
        let (head, body) = buf.split_at_mut(HEAD_LEN);
        let (text, tag) = body.split_at_mut(body.len() - TAG_LEN);
        let nonce = Nonce::try_from(&head[1 + KEY_ID_LEN..]).expect("the slice has the nonce's length");
        let tag = Tag::try_from(&*tag).expect("the slice has the tag's length");
        aead.decrypt_inout_detached(&nonce, aad, InOutBuf::from(text), &tag)
            .map_err(|_| Rejection::Tampered)?;
        let plaintext = HEAD_LEN..buf.len() - TAG_LEN;
        Ok(Opened { buf, plaintext, key: ciphers.ids[key], current: !ciphers.keys.retired[key] })
    }
}

/// Authentic bytes: they were sealed by a holder of the key, for this purpose and cookie name.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) buf: Vec<u8>,
    /// Where the padded plaintext stands in `buf`.
    pub(crate) plaintext: Range<usize>,
    pub(crate) key: KeyId,
    /// False if a retired key opened it, so that it is to be re-sealed.
    pub(crate) current: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(keys: impl IntoIterator<Item = u8>, name: &str) -> Sealer {
        let keys = keys.into_iter().map(|n| Key::from_bytes([n; 32]));
        Sealer::new(KeyRing::from_keys(keys).unwrap(), Purpose::Cookie, name)
    }

    fn seal(sealer: &Sealer, plaintext: &[u8]) -> Vec<u8> {
        let mut draft = Draft::with_capacity(plaintext.len());
        draft.plaintext().extend_from_slice(plaintext);
        let mut out = Vec::new();
        sealer.seal(draft, None, &mut out);
        out
    }

    fn open(sealer: &Sealer, value: &[u8]) -> Result<Vec<u8>, Rejection> {
        let opened = sealer.parse(value)?.open()?;
        Ok(opened.buf[opened.plaintext].to_vec())
    }

    #[test]
    fn every_length_opens_to_what_was_sealed_padded_with_zeros_and_has_the_length_foretold() {
        let sealer = sealer([1], "s");
        for len in (1..200).chain([1_024, 2_900, 3_008]) {
            let plaintext: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let value = seal(&sealer, &plaintext);
            assert_eq!(value.len(), sealed_len(len), "{len}");
            let opened = open(&sealer, &value).unwrap();
            assert_eq!(opened[..len], plaintext);
            assert!(opened[len..].iter().all(|&b| b == 0) && opened.len().is_multiple_of(BLOCK_LEN));
        }
    }

    #[test]
    fn the_largest_plaintext_fits_and_one_byte_more_does_not() {
        for room in [0, 59, 60, 100, 103, 3_000, 4_000, 4_095, 4_096] {
            match max_plaintext_len(room) {
                None => assert!(sealed_len(0) > room),
                Some(len) => assert!(sealed_len(len) <= room && sealed_len(len + 1) > room, "{room}"),
            }
        }
    }

    #[test]
    fn each_rejection_is_told_apart() {
        let sealer = sealer([1], "s");
        let good = seal(&sealer, b"data");
        let with = |at: usize, byte: u8| {
            let mut value = good.clone();
            value[at] = byte;
            open(&sealer, &value).unwrap_err()
        };
        assert_eq!(open(&sealer, b"").unwrap_err(), Rejection::Malformed);
        assert_eq!(open(&sealer, &good[..good.len() - 1]).unwrap_err(), Rejection::Malformed);
        assert_eq!(open(&sealer, &vec![b'A'; 5_000]).unwrap_err(), Rejection::Malformed);
        assert_eq!(with(40, b'+'), Rejection::Malformed);
        assert_eq!(with(40, b'='), Rejection::Malformed);
        assert_eq!(with(40, 0xff), Rejection::Malformed);
        assert!(matches!(with(0, b'_'), Rejection::UnknownSuite(_)));
        assert!(matches!(with(4, b'!'), Rejection::Malformed));
        assert!(matches!(with(3, if good[3] == b'A' { b'B' } else { b'A' }), Rejection::UnknownKey(_)));
        assert_eq!(with(50, if good[50] == b'A' { b'B' } else { b'A' }), Rejection::Tampered);
    }

    #[test]
    fn a_value_opens_only_under_its_own_name_and_key() {
        let value = seal(&sealer([1], "a"), b"data");
        assert!(open(&sealer([2, 1], "a"), &value).is_ok());
        assert_eq!(open(&sealer([1], "b"), &value).unwrap_err(), Rejection::Tampered);
        assert!(matches!(open(&sealer([2], "a"), &value).unwrap_err(), Rejection::UnknownKey(_)));
    }

    #[test]
    fn associated_data_tells_apart_what_concatenation_would_not() {
        let id = KeyId([0; 4]);
        assert_eq!(
            &*associated_data(id, Purpose::Cookie, "ab"),
            b"\0\x0esealed-session\0\x01\x01\0\x04\0\0\0\0\0\x06cookie\0\x02ab"
        );
    }

    #[test]
    fn a_rotated_ring_seals_under_its_new_key_at_once() {
        let sealer = sealer([1], "s");
        let old = seal(&sealer, b"data");
        sealer.ring().rotate(Key::from_bytes([2; 32])).unwrap();
        assert!(!sealer.parse(&old).unwrap().open().unwrap().current);
        let opened = sealer.parse(&seal(&sealer, b"data")).unwrap().open().unwrap();
        assert!(opened.current);
        assert_eq!(opened.key, Key::from_bytes([2; 32]).id());
    }
}

#[cfg(test)]
mod vectors;
