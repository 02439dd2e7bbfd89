//! Lets the benchmark `seal` time the envelope alone. Not a part of the interface.

#![allow(missing_docs, missing_debug_implementations)]

use super::{AAD_LEN, Engine, HEAD_LEN, Sealer, halves};
use crate::core::clock::Millis;
use crate::core::key::{Key, KeyRing, Purpose};

pub struct Envelope(Sealer);

impl Envelope {
    pub fn new(key: Key, name: &str) -> Self {
        Self(Sealer::with_engine(Engine::RustCrypto, KeyRing::new(key), Purpose::Cookie, name))
    }

    #[cfg(feature = "aws-lc-rs")]
    pub fn with_aws_lc(key: Key, name: &str) -> Self {
        Self(Sealer::with_engine(Engine::AwsLc, KeyRing::new(key), Purpose::Cookie, name))
    }

    pub fn seal(&self, plaintext: &[u8], out: &mut Vec<u8>) {
        self.seal_at(0, plaintext, out);
    }

    /// At this moment in milliseconds; one that lies before the last begins a sealing epoch.
    pub fn seal_at(&self, now: i64, plaintext: &[u8], out: &mut Vec<u8>) {
        self.0.seal(None, Millis(now), |text| text.extend_from_slice(plaintext), out);
    }

    pub fn open(&self, value: &[u8]) -> Option<Vec<u8>> {
        self.0.parse(value).and_then(super::Parsed::open).ok().map(|opened| opened.buf)
    }

    /// Opens it under a key that is derived for it alone.
    pub fn open_deriving(&self, value: &[u8]) -> Option<Vec<u8>> {
        let super::Parsed { mut buf, ciphers, key } = self.0.parse(value).ok()?;
        let (head, text_and_tag) = buf.split_at_mut(HEAD_LEN);
        let (prefix, nonce) = halves(head);
        let right = ciphers.of[key].derive(prefix).open(nonce, &head[..AAD_LEN], text_and_tag);
        right.then_some(buf)
    }
}
