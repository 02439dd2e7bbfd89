//! The envelope of rows: the same layout without base64, under a key that needs the session's id as well. And where
//! the row of a subject is, which only a holder of the key can tell.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::Rng as _;
use sha2::Sha256;
use xaes_256_gcm::aead::AeadInOut as _;
use xaes_256_gcm::aead::inout::InOutBuf;
use xaes_256_gcm::{Nonce, Tag, Xaes256Gcm};
use zeroize::Zeroizing;

use super::{
    BLOCK_LEN, Draft, HEAD_LEN, NONCE_LEN, OVERHEAD, Opened, SUITE, TAG_LEN, associated_data, padded,
};
use crate::error::Rejection;
use crate::key::{KEY_ID_LEN, KEY_LEN, Key, KeyId, KeyRing, Purpose, Snapshot, row_key};
use crate::store::RowKey;

/// Seals and opens the rows of sessions whose cookie has one name, under the keys of a ring.
pub(crate) struct RowSealer {
    ring: KeyRing,
    name: Box<str>,
    subkeys: ArcSwap<Subkeys>,
}

/// What is derived from one snapshot of the ring, the primary's first.
struct Subkeys {
    keys: Arc<Snapshot>,
    of: Vec<Subkey>,
}

struct Subkey {
    id: KeyId,
    row: Zeroizing<[u8; KEY_LEN]>,
    /// Keyed, so that a subject costs no more than its own hash.
    lookup: Hmac<Sha256>,
}

impl RowSealer {
    pub(crate) fn new(ring: KeyRing, name: &str) -> Self {
        let subkeys = Subkeys::build(Arc::clone(&ring.snapshot()));
        Self { ring, name: name.into(), subkeys: ArcSwap::from_pointee(subkeys) }
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Length of the row that a plaintext of `len` bytes becomes.
    pub(crate) const fn sealed_len(len: usize) -> usize {
        OVERHEAD + padded(len)
    }

    /// Seals the draft for what has this id, under the given key of the ring or else the primary.
    pub(crate) fn seal(&self, id: &[u8], under: Option<KeyId>, Draft(mut buf): Draft) -> Vec<u8> {
        let subkeys = self.subkeys();
        let given = under.and_then(|under| subkeys.of.iter().find(|subkey| subkey.id == under));
        let Subkey { id: key_id, row, .. } = given.unwrap_or(&subkeys.of[0]);
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        buf.resize(HEAD_LEN + padded(buf.len() - HEAD_LEN), 0);
        buf[0] = SUITE;
        buf[1..=KEY_ID_LEN].copy_from_slice(&key_id.0);
        buf[1 + KEY_ID_LEN..HEAD_LEN].copy_from_slice(&nonce);
        let tag = self
            .cipher(row, id)
            .encrypt_inout_detached(&nonce.into(), &self.aad(*key_id), InOutBuf::from(&mut buf[HEAD_LEN..]))
            .expect("a row is far below the 64 GiB that one GCM message may have");
        buf.extend_from_slice(&tag);
        buf
    }

    /// Whether the ring lacks the key that a row names.
    pub(crate) fn lacks_key_of(&self, row: &[u8]) -> bool {
        let named = row.get(1..=KEY_ID_LEN).filter(|_| row[0] == SUITE);
        named.is_some_and(|named| self.subkeys().of.iter().all(|subkey| subkey.id.0 != named))
    }

    /// Opens a row of the session of this id.
    pub(crate) fn open(&self, id: &[u8], mut buf: Vec<u8>) -> Result<Opened, Rejection> {
        if buf.len() < OVERHEAD + BLOCK_LEN || !(buf.len() - OVERHEAD).is_multiple_of(BLOCK_LEN) {
            return Err(Rejection::Malformed);
        }
        if buf[0] != SUITE {
            return Err(Rejection::UnknownSuite(buf[0]));
        }
        let mut key_id = KeyId([0; KEY_ID_LEN]);
        key_id.0.copy_from_slice(&buf[1..=KEY_ID_LEN]);
        let subkeys = self.subkeys();
        let known = subkeys.of.iter().position(|known| known.id == key_id);
        let key = known.ok_or(Rejection::UnknownKey(key_id))?;

        let (head, body) = buf.split_at_mut(HEAD_LEN);
        let (text, tag) = body.split_at_mut(body.len() - TAG_LEN);
        let nonce = Nonce::try_from(&head[1 + KEY_ID_LEN..]).expect("the slice has the nonce's length");
        let tag = Tag::try_from(&*tag).expect("the slice has the tag's length");
        self.cipher(&subkeys.of[key].row, id)
            .decrypt_inout_detached(&nonce, &self.aad(key_id), InOutBuf::from(text), &tag)
            .map_err(|_| Rejection::Tampered)?;
        let plaintext = HEAD_LEN..buf.len() - TAG_LEN;
        Ok(Opened { buf, plaintext, key: key_id, current: !subkeys.keys.retired[key] })
    }

    /// Where the ring's keys keep the generation of a subject, each in a row of its own: by HMAC-SHA-256 of the cookie's
    /// name, a zero byte and the subject.
    pub(crate) fn subject_rows(&self, subject: &str) -> Vec<(KeyId, RowKey)> {
        self.subkeys().of.iter().map(|subkey| (subkey.id, self.place(subkey, subject))).collect()
    }

    /// The row of a subject under one key, if that is in the ring.
    pub(crate) fn subject_row(&self, key: KeyId, subject: &str) -> Option<RowKey> {
        self.subkeys().of.iter().find(|subkey| subkey.id == key).map(|subkey| self.place(subkey, subject))
    }

    fn place(&self, subkey: &Subkey, subject: &str) -> RowKey {
        let mut mac = subkey.lookup.clone();
        mac.update(self.name.as_bytes());
        mac.update(&[0]);
        mac.update(subject.as_bytes());
        RowKey::from_bytes(mac.finalize().into_bytes().into())
    }

    fn cipher(&self, subkey: &[u8; KEY_LEN], id: &[u8]) -> Xaes256Gcm {
        Xaes256Gcm::new((&*row_key(subkey, id)).into())
    }

    fn aad(&self, key_id: KeyId) -> Box<[u8]> {
        associated_data(key_id, Purpose::Row, &self.name)
    }

    fn subkeys(&self) -> Guard<Arc<Subkeys>> {
        let subkeys = self.subkeys.load();
        if subkeys.keys.edition == self.ring.edition() {
            return subkeys;
        }
        let keys = self.ring.snapshot();
        self.subkeys.store(Arc::new(Subkeys::build(Arc::clone(&keys))));
        self.subkeys.load()
    }
}

impl Subkeys {
    fn build(keys: Arc<Snapshot>) -> Self {
        let subkey = |key: &Key| Subkey {
            id: key.id(),
            row: key.subkey(Purpose::Row),
            lookup: Hmac::new_from_slice(&*key.subkey(Purpose::Lookup)).expect("HMAC takes any length"),
        };
        let of = keys.keys.iter().map(subkey).collect();
        Self { keys, of }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(keys: impl IntoIterator<Item = u8>, name: &str) -> RowSealer {
        let keys = keys.into_iter().map(|n| Key::from_bytes([n; 32]));
        RowSealer::new(KeyRing::from_keys(keys).unwrap(), name)
    }

    fn seal(sealer: &RowSealer, id: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut draft = Draft::with_capacity(plaintext.len());
        draft.plaintext().extend_from_slice(plaintext);
        sealer.seal(id, None, draft)
    }

    #[test]
    fn a_row_opens_with_its_ring_its_id_and_its_name_and_with_nothing_less() {
        let row = seal(&sealer([1], "s"), b"id", b"data");
        assert_eq!(row.len(), RowSealer::sealed_len(4));
        let opened = sealer([1], "s").open(b"id", row.clone()).unwrap();
        assert_eq!(&opened.buf[opened.plaintext][..5], b"data\0");
        assert!(opened.current);
        assert!(!sealer([2, 1], "s").open(b"id", row.clone()).unwrap().current);

        let refused = |sealer: RowSealer, id: &[u8]| sealer.open(id, row.clone()).unwrap_err();
        assert_eq!(refused(sealer([1], "s"), b"other"), Rejection::Tampered);
        assert_eq!(refused(sealer([1], "other"), b"id"), Rejection::Tampered);
        assert!(matches!(refused(sealer([2], "s"), b"id"), Rejection::UnknownKey(_)));
    }

    #[test]
    fn a_changed_byte_a_cut_or_an_added_byte_is_refused_anywhere() {
        let sealer = sealer([1], "s");
        let row = seal(&sealer, b"id", &[7; 40]);
        for at in 0..row.len() {
            let mut changed = row.clone();
            changed[at] ^= 1;
            assert!(sealer.open(b"id", changed).is_err(), "{at}");
            assert!(sealer.open(b"id", row[..at].to_vec()).is_err(), "cut at {at}");
        }
        for more in [1, 16, 31, 32, 64] {
            let longer = [&row[..], &vec![0; more]].concat();
            assert!(sealer.open(b"id", longer).is_err(), "{more} more");
        }
    }

    #[test]
    fn a_rotated_ring_seals_rows_under_its_new_key_at_once_and_opens_the_old() {
        let sealer = sealer([1], "s");
        let old = seal(&sealer, b"id", b"data");
        sealer.ring.rotate(Key::from_bytes([2; 32])).unwrap();
        assert!(!sealer.open(b"id", old).unwrap().current);
        assert!(sealer.open(b"id", seal(&sealer, b"id", b"data")).unwrap().current);
    }

    #[test]
    fn a_cookie_is_no_row_and_a_row_is_no_cookie() {
        assert_ne!(Purpose::Row.label(), Purpose::Cookie.label());
        let key = Key::from_bytes([1; 32]);
        assert_ne!(*key.subkey(Purpose::Row), *key.subkey(Purpose::Cookie));
        assert_ne!(*row_key(&key.subkey(Purpose::Row), b"a"), *row_key(&key.subkey(Purpose::Row), b"b"));
    }
}
