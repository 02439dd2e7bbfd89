//! Sealing and opening: the only place that knows the wire layout and the cipher.
//!
//! ```text
//! base64url( suite 1 | key id 4 | nonce 24 | ciphertext of the padded plaintext | tag 16 )
//! ```
//!
//! # Security
//! XAES-256-GCM (C2SP) has nonces of 192 bits, so that there is no practical limit on the number of seals under one key.
//! Exactly one key, named by the authenticated key id, is tried per cookie, so a ring is no partitioning oracle. There is
//! no compression, and padding to blocks hides small differences in length.

#[doc(hidden)]
pub mod bench;
mod epoch;
mod gcm;
mod rows;
mod seen;
mod xaes;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::NO_PAD;
use thread_local::ThreadLocal;

use self::epoch::Epoch;
pub(crate) use self::gcm::Engine;
use self::gcm::Gcm;
pub(crate) use self::rows::RowSealer;
use self::seen::Seen;
use self::xaes::{NONCE_LEN, PREFIX_LEN, Xaes};
use crate::core::clock::Millis;
use crate::core::error::Rejection;
use crate::core::key::{KEY_ID_LEN, KeyId, KeyRing, Purpose, Snapshot};

/// The suite byte of XAES-256-GCM over records of version 1.
pub(crate) const SUITE: u8 = 1;
/// Suite and key id, which are authenticated with the ciphertext.
const AAD_LEN: usize = 1 + KEY_ID_LEN;
const HEAD_LEN: usize = AAD_LEN + NONCE_LEN;
const TAG_LEN: usize = 16;
const OVERHEAD: usize = HEAD_LEN + TAG_LEN;
/// Plaintexts are padded with zeros to a multiple of this.
pub(crate) const BLOCK_LEN: usize = 32;
/// Longer values cannot have come from a browser, which keeps at most this much of name and value.
const MAX_VALUE_LEN: usize = 4096;

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

/// Lays a message out in `buf`: what goes before the plaintext, what `write` appends, and the padding.
fn lay_out(buf: &mut Vec<u8>, key: KeyId, nonce: &[u8; NONCE_LEN], write: impl FnOnce(&mut Vec<u8>)) {
    buf.clear();
    buf.push(SUITE);
    buf.extend_from_slice(&key.0);
    buf.extend_from_slice(nonce);
    write(buf);
    buf.resize(HEAD_LEN + padded(buf.len() - HEAD_LEN), 0);
}

/// Encrypts a message that was laid out, and appends its tag.
fn encrypt(gcm: &Gcm, buf: &mut Vec<u8>) {
    let (head, text) = buf.split_at_mut(HEAD_LEN);
    let tag = gcm.seal(halves(head).1, &head[..AAD_LEN], text);
    buf.extend_from_slice(&tag);
}

/// The two halves of the nonce that stands in a message's head.
fn halves(head: &[u8]) -> (&[u8; PREFIX_LEN], &[u8; NONCE_LEN - PREFIX_LEN]) {
    let (prefix, rest) = head[AAD_LEN..HEAD_LEN].split_first_chunk().expect("a head has its length");
    (prefix, rest.try_into().expect("a head has its length"))
}

/// Seals and opens for one purpose and one cookie name under the keys of a ring.
pub(crate) struct Sealer {
    ring: KeyRing,
    purpose: Purpose,
    name: Box<str>,
    engine: Engine,
    ciphers: ArcSwap<Ciphers>,
}

/// The ciphers of one snapshot of the ring, built once; the primary's is the first. With them goes what the threads have
/// derived from them, when the ring changes.
struct Ciphers {
    keys: Arc<Snapshot>,
    /// Apart from the ciphers, so that looking for an id in a large ring reads one small array.
    ids: Vec<KeyId>,
    of: Vec<Xaes>,
    threads: ThreadLocal<RefCell<Thread>>,
}

/// What one thread keeps of its seals and opens.
#[derive(Default)]
struct Thread {
    epoch: Option<Epoch>,
    seen: Seen,
    /// Where messages are laid out.
    buf: Vec<u8>,
}

impl Sealer {
    /// With the engine of the build.
    #[cfg(any(test, feature = "__fuzzing"))]
    pub(crate) fn new(ring: KeyRing, purpose: Purpose, name: &str) -> Self {
        Self::with_engine(Engine::DEFAULT, ring, purpose, name)
    }

    pub(crate) fn with_engine(engine: Engine, ring: KeyRing, purpose: Purpose, name: &str) -> Self {
        let ciphers = Ciphers::build(engine, Arc::clone(&ring.snapshot()), purpose, name);
        Self { ring, purpose, name: name.into(), engine, ciphers: ArcSwap::from_pointee(ciphers) }
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    /// Seals what `write` appends under the given key of the ring, or else the primary, and appends the base64url text to
    /// `out`. `now` is what the wall clock shows at this moment, not when the request came.
    pub(crate) fn seal(
        &self,
        under: Option<KeyId>,
        now: Millis,
        write: impl FnOnce(&mut Vec<u8>),
        out: &mut Vec<u8>,
    ) {
        let ciphers = self.ciphers();
        let key = under.and_then(|under| ciphers.ids.iter().position(|id| *id == under)).unwrap_or(0);
        let Thread { epoch, buf, .. } = &mut *ciphers.threads.get_or_default().borrow_mut();
        let (gcm, nonce) = Epoch::next(epoch, (key, &ciphers.of[key]), now);
        lay_out(buf, ciphers.ids[key], &nonce, write);
        encrypt(gcm, buf);
        #[cfg(test)]
        check_seal(&ciphers.of[key], buf);
        encode(buf, out);
    }

    /// Decodes a value and finds its key: everything that can be known without the cipher.
    pub(crate) fn parse(&self, value: &[u8]) -> Result<Parsed, Rejection> {
        // No suite can have shorter values than this one, whose parts are all at their minimum.
        if value.len() < sealed_len(1) || value.len() > MAX_VALUE_LEN {
            return Err(Rejection::Malformed);
        }
        let len = value.len() * 3 / 4;
        // `vec![0; len]` asks the allocator for zeros, which takes glibc longer than to write so few.
        #[expect(clippy::slow_vector_initialization)]
        let mut buf = Vec::with_capacity(len);
        buf.resize(len, 0);
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
        let ciphers = Ciphers::build(self.engine, Arc::clone(&keys), self.purpose, &self.name);
        self.ciphers.store(Arc::new(ciphers));
        self.ciphers.load()
    }
}

impl Ciphers {
    fn build(engine: Engine, keys: Arc<Snapshot>, purpose: Purpose, name: &str) -> Self {
        let ids = keys.keys.iter().map(|key| key.id()).collect();
        let of = keys.keys.iter().map(|key| Xaes::new(engine, &key.subkey(purpose, name))).collect();
        Self { keys, ids, of, threads: ThreadLocal::new() }
    }
}

/// Appends the base64url text.
fn encode(message: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + (message.len() * 4).div_ceil(3), 0);
    BASE64.encode_slice(message, &mut out[start..]).expect("the length is exact");
}

/// Holds what was sealed against the other implementation: it opens it, and seals the same.
#[cfg(test)]
fn check_seal(xaes: &Xaes, message: &[u8]) {
    let (head, sealed) = message.split_at(HEAD_LEN);
    let text = twin_opens(xaes, head, sealed).expect("the other implementation opens it");
    assert_eq!(xaes.twin_seals(head[AAD_LEN..].try_into().unwrap(), &head[..AAD_LEN], &text), sealed);
}

#[cfg(test)]
fn twin_opens(xaes: &Xaes, head: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    xaes.twin_opens(head[AAD_LEN..].try_into().unwrap(), &head[..AAD_LEN], sealed)
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
        let (head, text_and_tag) = buf.split_at_mut(HEAD_LEN);
        let Thread { seen, .. } = &mut *ciphers.threads.get_or_default().borrow_mut();
        #[cfg(test)]
        let expected = twin_opens(&ciphers.of[key], head, text_and_tag);
        if !seen.open((key, &ciphers.of[key]), halves(head), &head[..AAD_LEN], text_and_tag) {
            #[cfg(test)]
            assert_eq!(expected, None, "the other implementation opens this");
            return Err(Rejection::Tampered);
        }
        let plaintext = HEAD_LEN..buf.len() - TAG_LEN;
        #[cfg(test)]
        assert_eq!(
            expected.as_deref(),
            Some(&buf[plaintext.clone()]),
            "the other implementation reads otherwise"
        );
        Ok(Opened { buf, plaintext, key: ciphers.ids[key], retired_key: ciphers.keys.retired[key] })
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
    pub(crate) retired_key: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::key::Key;

    const NOW: Millis = Millis(1_767_225_600_000);

    fn sealer(keys: impl IntoIterator<Item = u8>, name: &str) -> Sealer {
        let keys = keys.into_iter().map(|n| Key::from_bytes([n; 32]));
        Sealer::new(KeyRing::from_keys(keys).unwrap(), Purpose::Cookie, name)
    }

    fn seal(sealer: &Sealer, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        sealer.seal(None, NOW, |text| text.extend_from_slice(plaintext), &mut out);
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

    /// What of a value's nonce stays for an epoch.
    fn prefix(value: &[u8]) -> Vec<u8> {
        BASE64.decode(value).unwrap()[AAD_LEN..AAD_LEN + PREFIX_LEN].to_vec()
    }

    #[test]
    fn no_epoch_is_shared_by_two_threads_two_sealers_or_two_keys() {
        let ring = KeyRing::from_keys([1, 2].map(|n| Key::from_bytes([n; 32]))).unwrap();
        let [one, two] = ["s", "s"].map(|name| Sealer::new(ring.clone(), Purpose::Cookie, name));
        let under = |sealer: &Sealer, key: usize| {
            let mut out = Vec::new();
            sealer.seal(Some(ring.ids()[key]), NOW, |text| text.push(1), &mut out);
            prefix(&out)
        };
        let mut all = vec![under(&one, 0), under(&two, 0), under(&one, 1)];
        // One after the other, as what one thread has left may be found by the next; and at once.
        for _ in 0..3 {
            all.push(std::thread::scope(|scope| scope.spawn(|| under(&one, 0)).join().unwrap()));
        }
        std::thread::scope(|scope| {
            let at_once: Vec<_> = (0..3).map(|_| scope.spawn(|| under(&one, 0))).collect();
            all.extend(at_once.into_iter().map(|thread| thread.join().unwrap()));
        });
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        // While of one thread, sealer and key it is the same, but for one in a million.
        assert!((0..3).any(|_| under(&one, 0) == under(&one, 0)));
    }

    #[test]
    fn a_rotated_ring_begins_an_epoch_and_a_forged_flood_changes_nothing_that_is_kept() {
        let sealer = sealer([1], "s");
        let value = seal(&sealer, b"data");
        open(&sealer, &value).unwrap();
        let kept = |sealer: &Sealer| {
            let ciphers = sealer.ciphers();
            let thread = ciphers.threads.get_or_default().borrow();
            (thread.seen.len(), thread.epoch.is_some())
        };
        assert_eq!(kept(&sealer), (1, true));
        for n in 0..5_000_u32 {
            let mut forged = BASE64.decode(&value).unwrap();
            forged[AAD_LEN..AAD_LEN + 4].copy_from_slice(&n.to_le_bytes());
            let forged = BASE64.encode(forged);
            assert_eq!(open(&sealer, forged.as_bytes()).unwrap_err(), Rejection::Tampered);
        }
        assert_eq!(kept(&sealer), (1, true));
        sealer.ring().rotate(Key::from_bytes([2; 32])).unwrap();
        assert_eq!(kept(&sealer), (0, false));
        assert_ne!(prefix(&seal(&sealer, b"data")), prefix(&value));
        assert!(open(&sealer, &value).is_ok());
    }

    #[test]
    fn a_rotated_ring_seals_under_its_new_key_at_once() {
        let sealer = sealer([1], "s");
        let old = seal(&sealer, b"data");
        sealer.ring().rotate(Key::from_bytes([2; 32])).unwrap();
        assert!(sealer.parse(&old).unwrap().open().unwrap().retired_key);
        let opened = sealer.parse(&seal(&sealer, b"data")).unwrap().open().unwrap();
        assert!(!opened.retired_key);
        assert_eq!(opened.key, Key::from_bytes([2; 32]).id());
    }
}

#[cfg(test)]
mod vectors;
#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod wiping;
