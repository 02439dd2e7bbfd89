//! The envelope of rows: the same layout without base64, under a key that needs the session's id as well. And where
//! the row of a subject is, which only a holder of the key can tell.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::gcm::{Engine, Gcm};
use super::xaes::{NONCE_LEN, Prefix, Xaes};
use super::{
    AAD_LEN, BLOCK_LEN, HEAD_LEN, OVERHEAD, Opened, SUITE, TAG_LEN, encrypt, halves, lay_out, padded,
};
use crate::core::error::Rejection;
use crate::core::key::{KEY_ID_LEN, Key, KeyId, KeyRing, Purpose, RowSubkey, Snapshot};
use crate::core::random;
use crate::core::row_name::RowKey;

/// What the key of rosters is used for: the first byte of what is authenticated.
const ROSTER_PLACE: u8 = 0;
const ROSTER_HANDLE: u8 = 1;
/// Length of a session's handle in bytes.
pub(crate) const HANDLE_LEN: usize = 16;

/// Seals and opens the rows of sessions whose cookie has one name, under the keys of a ring.
pub(crate) struct RowSealer {
    engine: Engine,
    ring: KeyRing,
    name: Box<str>,
    subkeys: ArcSwap<Subkeys>,
}

/// What is derived from one snapshot of the ring, the primary's first.
pub(super) struct Subkeys {
    keys: Arc<Snapshot>,
    pub(super) of: Vec<Subkey>,
}

pub(super) struct Subkey {
    pub(super) id: KeyId,
    pub(super) row: RowSubkey,
    /// Keyed, so that a subject costs no more than its own hash.
    lookup: Hmac<Sha256>,
    /// Likewise, of rosters and of their lines.
    roster: Hmac<Sha256>,
}

impl RowSealer {
    pub(crate) fn new(engine: Engine, ring: KeyRing, name: &str) -> Self {
        let subkeys = Subkeys::build(Arc::clone(&ring.snapshot()), name);
        Self { engine, ring, name: name.into(), subkeys: ArcSwap::from_pointee(subkeys) }
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Length of the row that a plaintext of `len` bytes becomes.
    pub(crate) const fn sealed_len(len: usize) -> usize {
        OVERHEAD + padded(len)
    }

    /// Seals what `write` appends, of about `len` bytes, for what has this id, under the given key of the ring or else the
    /// primary. All of the nonce is drawn anew, and from the operating system: a row's key serves its row alone, so there
    /// is nothing to keep, and a prefix that a cookie has too would link them.
    pub(crate) fn seal(
        &self,
        id: &[u8],
        under: Option<KeyId>,
        len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<u8> {
        let subkeys = self.subkeys();
        let given = under.and_then(|under| subkeys.of.iter().find(|subkey| subkey.id == under));
        let Subkey { id: key_id, row, .. } = given.unwrap_or(&subkeys.of[0]);
        let nonce: [u8; NONCE_LEN] = random::from_system();
        let mut buf = Vec::with_capacity(Self::sealed_len(len));
        lay_out(&mut buf, *key_id, &nonce, write);
        encrypt(&self.cipher(row, id, halves(&buf).0), &mut buf);
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

        let (head, text_and_tag) = buf.split_at_mut(HEAD_LEN);
        let (prefix, nonce) = halves(head);
        if !self.cipher(&subkeys.of[key].row, id, prefix).open(nonce, &head[..AAD_LEN], text_and_tag) {
            return Err(Rejection::Tampered);
        }
        let plaintext = HEAD_LEN..buf.len() - TAG_LEN;
        Ok(Opened { buf, plaintext, key: key_id, retired_key: subkeys.keys.retired[key] })
    }

    /// Where the ring's keys keep the generation of a subject, each in a row of its own: by HMAC-SHA-256 of the subject.
    pub(crate) fn subject_rows(&self, subject: &str) -> Vec<(KeyId, RowKey)> {
        self.subkeys().of.iter().map(|subkey| (subkey.id, place(subkey, subject))).collect()
    }

    /// The row of a subject under one key, if that is in the ring.
    pub(crate) fn subject_row(&self, key: KeyId, subject: &str) -> Option<RowKey> {
        self.subkeys().of.iter().find(|subkey| subkey.id == key).map(|subkey| place(subkey, subject))
    }

    /// Where the ring's keys keep the roster of a subject, the primary's first.
    pub(crate) fn roster_rows(&self, subject: &str) -> Vec<(KeyId, RowKey)> {
        let place = |subkey: &Subkey| tagged(&subkey.roster, &[&[ROSTER_PLACE], subject.as_bytes()]);
        self.subkeys().of.iter().map(|subkey| (subkey.id, RowKey::from_bytes(place(subkey)))).collect()
    }

    /// What a session of a subject is called where its id must not be told, under each key of the ring, the primary's
    /// first.
    pub(crate) fn handles(&self, subject: &str, id: &[u8]) -> Vec<[u8; HANDLE_LEN]> {
        let handle = |subkey: &Subkey| {
            let tag = tagged(&subkey.roster, &[&[ROSTER_HANDLE], id, subject.as_bytes()]);
            *tag.first_chunk().expect("a tag is longer")
        };
        self.subkeys().of.iter().map(handle).collect()
    }

    /// The cipher of one row, for nonces that begin like this.
    pub(super) fn cipher(&self, subkey: &RowSubkey, id: &[u8], prefix: &Prefix) -> Gcm {
        Xaes::new(self.engine, &subkey.row_key(id)).derive(prefix)
    }

    pub(super) fn subkeys(&self) -> Guard<Arc<Subkeys>> {
        let subkeys = self.subkeys.load();
        if subkeys.keys.edition == self.ring.edition() {
            return subkeys;
        }
        let keys = self.ring.snapshot();
        self.subkeys.store(Arc::new(Subkeys::build(Arc::clone(&keys), &self.name)));
        self.subkeys.load()
    }
}

fn place(subkey: &Subkey, subject: &str) -> RowKey {
    RowKey::from_bytes(tagged(&subkey.lookup, &[subject.as_bytes()]))
}

fn tagged(keyed: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

impl Subkeys {
    fn build(keys: Arc<Snapshot>, name: &str) -> Self {
        let of = keys.keys.iter().map(|key| Subkey::derive(key, name)).collect();
        Self { keys, of }
    }
}

impl Subkey {
    pub(super) fn derive(key: &Key, name: &str) -> Self {
        let keyed =
            |purpose| Hmac::new_from_slice(&*key.subkey(purpose, name)).expect("HMAC takes any length");
        Self {
            id: key.id(),
            row: RowSubkey::of(&key.subkey(Purpose::Row, name)),
            lookup: keyed(Purpose::Lookup),
            roster: keyed(Purpose::Roster),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(keys: impl IntoIterator<Item = u8>, name: &str) -> RowSealer {
        let keys = keys.into_iter().map(|n| Key::from_bytes([n; 32]));
        RowSealer::new(Engine::DEFAULT, KeyRing::from_keys(keys).unwrap(), name)
    }

    fn seal(sealer: &RowSealer, id: &[u8], plaintext: &[u8]) -> Vec<u8> {
        sealer.seal(id, None, plaintext.len(), |text| text.extend_from_slice(plaintext))
    }

    #[test]
    fn a_row_opens_with_its_ring_its_id_and_its_name_and_with_nothing_less() {
        let row = seal(&sealer([1], "s"), b"id", b"data");
        assert_eq!(row.len(), RowSealer::sealed_len(4));
        let opened = sealer([1], "s").open(b"id", row.clone()).unwrap();
        assert_eq!(&opened.buf[opened.plaintext][..5], b"data\0");
        assert!(!opened.retired_key);
        assert!(sealer([2, 1], "s").open(b"id", row.clone()).unwrap().retired_key);

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
        assert!(sealer.open(b"id", old).unwrap().retired_key);
        assert!(!sealer.open(b"id", seal(&sealer, b"id", b"data")).unwrap().retired_key);
    }

    #[test]
    fn a_cookie_is_no_row_and_a_row_is_no_cookie() {
        let key = Key::from_bytes([1; 32]);
        assert_ne!(*key.subkey(Purpose::Row, "s"), *key.subkey(Purpose::Cookie, "s"));
        assert_ne!(*key.subkey(Purpose::Row, "s"), *key.subkey(Purpose::Row, "t"));
        let subkey = RowSubkey::of(&key.subkey(Purpose::Row, "s"));
        assert_ne!(*subkey.row_key(b"a"), *subkey.row_key(b"b"));
    }
}
