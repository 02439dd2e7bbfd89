//! A device in software: the key of a browser, and what it signs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A device with a key.
pub(crate) struct Device(pub(crate) SigningKey);

impl Device {
    pub(crate) fn new(n: u8) -> Self {
        Self(SigningKey::from_slice(&[n; 32]).unwrap())
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = self.0.verifying_key().to_sec1_point(false);
        let bytes = point.as_bytes();
        json!({ "kty": "EC", "crv": "P-256", "x": base64(&bytes[1..33]), "y": base64(&bytes[33..]) })
    }

    /// A JWS of this head and payload, signed with this key.
    pub(crate) fn sign(&self, head: &Value, payload: &Value) -> String {
        let text = format!("{}.{}", base64(head.to_string()), base64(payload.to_string()));
        let signature: Signature = self.0.sign(text.as_bytes());
        format!("{text}.{}", base64(signature.to_bytes()))
    }

    /// What a browser sends to register.
    pub(crate) fn registration(&self, challenge: &str) -> String {
        let head = json!({ "alg": "ES256", "typ": "dbsc+jwt", "jwk": self.jwk() });
        self.sign(&head, &json!({ "jti": challenge }))
    }
}

/// The text between the first two double quotes, or behind this name.
pub(crate) fn quoted<'l>(line: &'l str, name: &str) -> &'l str {
    let from = line.find(&format!("{name}\"")).unwrap() + name.len() + 1;
    line[from..].split('"').next().unwrap()
}
