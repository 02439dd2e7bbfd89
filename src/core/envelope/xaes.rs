//! XAES-256-GCM ([C2SP](https://c2sp.org/XAES-256-GCM)): an AES-256-GCM key for the first half of each nonce, derived by
//! two AES blocks, so that random nonces of 192 bits are safe.

use aes::Aes256Enc;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::gcm::{Engine, GCM_NONCE_LEN, Gcm};
use crate::core::key::KEY_LEN;

/// Length of the part of a nonce that the message key is derived from, in bytes.
pub(super) const PREFIX_LEN: usize = 12;
/// Length of a nonce in bytes.
pub(super) const NONCE_LEN: usize = PREFIX_LEN + GCM_NONCE_LEN;

pub(super) type Prefix = [u8; PREFIX_LEN];

/// An XAES key, from which the keys of messages are derived.
pub(super) struct Xaes {
    engine: Engine,
    aes: Aes256Enc,
    /// K1 of the specification, the subkey of CMAC (NIST SP 800-38B, section 6.1).
    k1: Zeroizing<[u8; 16]>,
    /// The other implementation, under the same key.
    #[cfg(test)]
    twin: xaes_256_gcm::Xaes256Gcm,
}

impl Xaes {
    pub(super) fn new(engine: Engine, key: &[u8; KEY_LEN]) -> Self {
        let aes = Aes256Enc::new(key.into());
        let mut l = aes::Block::default();
        aes.encrypt_block(&mut l);
        let doubled = u128::from_be_bytes(l.into()) << 1;
        // By the bit that went out, without a branch on it.
        let carried = u128::from(l[0] >> 7) * 0b1000_0111;
        l.zeroize();
        Self {
            engine,
            aes,
            k1: Zeroizing::new((doubled ^ carried).to_be_bytes()),
            #[cfg(test)]
            twin: xaes_256_gcm::Xaes256Gcm::new(key.into()),
        }
    }

    /// The AES-256-GCM of all nonces that begin with `prefix`.
    pub(super) fn derive(&self, prefix: &Prefix) -> Gcm {
        Gcm::new(self.engine, &self.message_key(prefix))
    }

    pub(super) fn message_key(&self, prefix: &Prefix) -> Zeroizing<[u8; KEY_LEN]> {
        let block = |counter| {
            let mut block = *self.k1;
            block
                .iter_mut()
                .zip([0, counter, b'X', 0].iter().chain(prefix))
                .for_each(|(to, from)| *to ^= from);
            aes::Block::from(block)
        };
        let mut blocks = [block(1), block(2)];
        self.aes.encrypt_blocks(&mut blocks);
        let mut key = Zeroizing::new([0; KEY_LEN]);
        for (half, block) in key.chunks_exact_mut(16).zip(&mut blocks) {
            half.copy_from_slice(block);
            block.zeroize();
        }
        key
    }
}

#[cfg(test)]
impl Xaes {
    /// What the crate `xaes-256-gcm` makes of a message, its tag behind it; `None`: it refuses it.
    pub(super) fn twin_opens(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        use xaes_256_gcm::aead::{AeadInOut as _, inout::InOutBuf};
        let (text, tag) = sealed.split_at(sealed.len() - super::TAG_LEN);
        let (mut text, tag) = (text.to_vec(), xaes_256_gcm::Tag::try_from(tag).unwrap());
        let opened = self.twin.decrypt_inout_detached(nonce.into(), aad, InOutBuf::from(&mut text[..]), &tag);
        opened.ok().map(|()| text)
    }

    /// What it makes of a plaintext.
    pub(super) fn twin_seals(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], text: &[u8]) -> Vec<u8> {
        use xaes_256_gcm::aead::{AeadInOut as _, inout::InOutBuf};
        let mut text = text.to_vec();
        let tag = self.twin.encrypt_inout_detached(nonce.into(), aad, InOutBuf::from(&mut text[..])).unwrap();
        text.extend_from_slice(&tag);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::ZeroizeOnDrop;

    #[test]
    fn what_keys_are_kept_in_is_wiped_when_dropped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<Aes256Enc>();
        wiped::<aes_gcm::AesGcm<Aes256Enc, aes_gcm::aead::consts::U12>>();
        wiped::<Zeroizing<[u8; 16]>>();
    }
}
