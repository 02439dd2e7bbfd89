//! What a browser signs: a compact JWS (RFC 7515) of one shape and one algorithm.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::core::error::DeviceRefusal;
use crate::core::record::{DEVICE_KEY_LEN, DeviceKey};

/// Longer ones are no browser's: a registration's with our challenge has some 400 bytes.
const MAX_BYTES: usize = 2_048;
/// Length of a signature in bytes: r and s (RFC 7518, section 3.4).
const SIGNATURE_LEN: usize = 64;
const COORDINATE_LEN: usize = 32;

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    typ: Cow<'a, str>,
    #[serde(borrow)]
    jwk: Option<Jwk<'a>>,
    /// Extensions that a reader has to understand, of which there are none (RFC 7515, section 4.1.11).
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Jwk<'a> {
    #[serde(borrow)]
    kty: Cow<'a, str>,
    #[serde(borrow)]
    crv: Cow<'a, str>,
    #[serde(borrow)]
    x: Cow<'a, str>,
    #[serde(borrow)]
    y: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Payload {
    jti: String,
}

/// A proof of the right shape. Nothing of it may be believed yet.
pub(crate) struct Jws<'t> {
    /// What was signed, as text.
    signed: &'t str,
    signature: Signature,
    challenge: String,
    key: Option<(DeviceKey, VerifyingKey)>,
}

impl<'t> Jws<'t> {
    pub(crate) fn parse(text: &'t str) -> Result<Self, DeviceRefusal> {
        if text.len() > MAX_BYTES {
            return Err(DeviceRefusal::TooLong);
        }
        let malformed = DeviceRefusal::Malformed;
        let (signed, signature) = text.rsplit_once('.').ok_or(malformed)?;
        let (head, payload) = signed.split_once('.').ok_or(malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
        let (head, payload) = (decode(head)?, decode(payload)?);
        let Head { alg, typ, jwk, crit } = serde_json::from_slice(&head).map_err(|_| malformed)?;
        if alg != "ES256" {
            return Err(DeviceRefusal::Algorithm);
        }
        if typ != "dbsc+jwt" || crit.is_some() {
            return Err(malformed);
        }
        let key = jwk.map(|jwk| jwk.read().ok_or(DeviceRefusal::Key)).transpose()?;
        let Payload { jti: challenge } = serde_json::from_slice(&payload).map_err(|_| malformed)?;
        let signature = decode(signature)?;
        if signature.len() != SIGNATURE_LEN {
            return Err(DeviceRefusal::Signature);
        }
        let signature = Signature::from_slice(&signature).map_err(|_| DeviceRefusal::Signature)?;
        Ok(Self { signed, signature, challenge, key })
    }

    /// The challenge that it answers.
    pub(crate) fn challenge(&self) -> &str {
        &self.challenge
    }

    /// The key that came along, which a registration has and a refresh has not.
    pub(crate) fn key(&self) -> Option<DeviceKey> {
        self.key.as_ref().map(|(key, _)| *key)
    }

    /// Whether it is signed by the key that came along.
    pub(crate) fn verify_own(&self) -> Result<(), DeviceRefusal> {
        let (_, key) = self.key.as_ref().ok_or(DeviceRefusal::Key)?;
        self.check(key)
    }

    /// Whether it is signed by this key.
    pub(crate) fn verify(&self, key: &DeviceKey) -> Result<(), DeviceRefusal> {
        self.check(&VerifyingKey::from_sec1_bytes(&key.0).map_err(|_| DeviceRefusal::Key)?)
    }

    fn check(&self, key: &VerifyingKey) -> Result<(), DeviceRefusal> {
        key.verify(self.signed.as_bytes(), &self.signature).map_err(|_| DeviceRefusal::Signature)
    }
}

impl Jwk<'_> {
    /// The key, if it is a point of the curve.
    fn read(&self) -> Option<(DeviceKey, VerifyingKey)> {
        if self.kty != "EC" || self.crv != "P-256" {
            return None;
        }
        let mut point = [0; 1 + 2 * COORDINATE_LEN];
        point[0] = 4;
        let (x, y) = point[1..].split_at_mut(COORDINATE_LEN);
        for (text, coordinate) in [(&self.x, x), (&self.y, y)] {
            let bytes: [u8; COORDINATE_LEN] =
                URL_SAFE_NO_PAD.decode(text.as_bytes()).ok()?.try_into().ok()?;
            coordinate.copy_from_slice(&bytes);
        }
        let key = VerifyingKey::from_sec1_bytes(&point).ok()?;
        let mut compressed = [0; DEVICE_KEY_LEN];
        compressed[0] = 2 + (point[2 * COORDINATE_LEN] & 1);
        compressed[1..].copy_from_slice(&point[1..=COORDINATE_LEN]);
        Some((DeviceKey(compressed), key))
    }
}
