//! Lets the benchmark `seal` time the envelope alone. Not a part of the interface.

#![allow(missing_docs, missing_debug_implementations)]

use super::{Draft, Sealer};
use crate::key::{Key, KeyRing, Purpose};

pub struct Envelope(Sealer);

impl Envelope {
    pub fn new(key: Key, name: &str) -> Self {
        Self(Sealer::new(KeyRing::new(key), Purpose::Cookie, name))
    }

    pub fn seal(&self, plaintext: &[u8], out: &mut Vec<u8>) {
        let mut draft = Draft::with_capacity(plaintext.len());
        draft.plaintext().extend_from_slice(plaintext);
        self.0.seal(draft, None, out);
    }

    pub fn open(&self, value: &[u8]) -> Option<Vec<u8>> {
        self.0.parse(value).and_then(super::Parsed::open).ok().map(|opened| opened.buf)
    }
}
