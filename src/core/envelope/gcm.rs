//! AES-256-GCM under one key, by either of two engines that make the same bytes.

use aes::Aes256Enc;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{AesGcm, Tag};

use super::TAG_LEN;
use crate::core::key::KEY_LEN;

/// Length of the nonce in bytes.
pub(super) const GCM_NONCE_LEN: usize = 12;

/// Who does the ciphering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The crates `aes` and `aes-gcm`, in Rust.
    #[cfg_attr(feature = "aws-lc-rs", allow(dead_code, reason = "for tests and benchmarks beside the other"))]
    RustCrypto,
    /// AWS-LC, in C and assembler.
    #[cfg(feature = "aws-lc-rs")]
    AwsLc,
}

impl Engine {
    #[cfg(not(feature = "aws-lc-rs"))]
    pub(crate) const DEFAULT: Self = Self::RustCrypto;
    #[cfg(feature = "aws-lc-rs")]
    pub(crate) const DEFAULT: Self = Self::AwsLc;
}

/// A key that is ready to seal and open. It is wiped when dropped.
#[cfg_attr(feature = "aws-lc-rs", allow(clippy::large_enum_variant, reason = "one engine is in use"))]
pub(super) enum Gcm {
    RustCrypto(AesGcm<Aes256Enc, U12>),
    #[cfg(feature = "aws-lc-rs")]
    AwsLc(aws_lc_rs::aead::LessSafeKey),
}

impl Gcm {
    pub(super) fn new(engine: Engine, key: &[u8; KEY_LEN]) -> Self {
        match engine {
            Engine::RustCrypto => Self::RustCrypto(AesGcm::new(key.into())),
            #[cfg(feature = "aws-lc-rs")]
            Engine::AwsLc => {
                use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
                Self::AwsLc(LessSafeKey::new(
                    UnboundKey::new(&AES_256_GCM, key).expect("the key has the cipher's length"),
                ))
            }
        }
    }

    /// Encrypts in place and returns the tag.
    pub(super) fn seal(&self, nonce: &[u8; GCM_NONCE_LEN], aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        const FITS: &str = "a session is far below the 64 GiB that one GCM message may have";
        match self {
            Self::RustCrypto(aead) => {
                aead.encrypt_inout_detached(nonce.into(), aad, InOutBuf::from(text)).expect(FITS).into()
            }
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), text).expect(FITS);
                tag.as_ref().try_into().expect("the tag has the cipher's length")
            }
        }
    }

    /// Decrypts a text in place, behind which its tag stands. False if the tag is not right; nothing of the text may be
    /// believed then.
    pub(super) fn open(&self, nonce: &[u8; GCM_NONCE_LEN], aad: &[u8], text_and_tag: &mut [u8]) -> bool {
        match self {
            Self::RustCrypto(aead) => {
                let (text, tag) = text_and_tag.split_at_mut(text_and_tag.len() - TAG_LEN);
                let tag = Tag::try_from(&*tag).expect("the slice has the tag's length");
                aead.decrypt_inout_detached(nonce.into(), aad, InOutBuf::from(text), &tag).is_ok()
            }
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(*nonce);
                key.open_in_place(nonce, Aad::from(aad), text_and_tag).is_ok()
            }
        }
    }
}
