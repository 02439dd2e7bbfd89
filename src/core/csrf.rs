//! Tokens that show that a form comes from a page of its session: derived from the session's id, masked, never stored.
//!
//! ```text
//! base64url( key id 4 | mask 16 | mask XOR tag 16 )      tag = HMAC-SHA-256(csrf key of the name, what it is of)[..16]
//! ```
//!
//! # Security
//! The mask is random for each token, so that the length of a compressed page gives none away (BREACH). A tag of 128 bits
//! is half of the hash's output, which RFC 2104, section 5, allows, and each guess costs a request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::core::error::CsrfError;
use crate::core::key::{KEY_ID_LEN, Key, KeyId, KeyRing, Purpose};
use crate::core::random;
use crate::core::record::SessionId;

const TAG_LEN: usize = 16;
const LEN: usize = KEY_ID_LEN + 2 * TAG_LEN;
const TEXT_LEN: usize = LEN.div_ceil(3) * 4;
const _: () = assert!(LEN.is_multiple_of(3), "the text has no padding to leave out");

/// What a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// The session of this id.
    Session(SessionId),
    /// A refused cookie that stays in the browser: by its value, or by the id of its session if that is over. Issuing a
    /// session for the token's sake could overwrite a newer one.
    Refused(Box<[u8]>),
}

/// A token under the ring's primary key.
pub(crate) fn token(ring: &KeyRing, name: &str, of: &Binding) -> String {
    let keys = ring.snapshot();
    let key = &keys.keys[0];
    let (mask, tag) = (random::from_thread::<TAG_LEN>(), tag(key, name, of));
    let mut token = [0; LEN];
    let (head, rest) = token.split_at_mut(KEY_ID_LEN);
    head.copy_from_slice(&key.id().0);
    rest[..TAG_LEN].copy_from_slice(&mask);
    rest[TAG_LEN..].copy_from_slice(&xor(mask, tag));
    URL_SAFE_NO_PAD.encode(token)
}

/// Whether the token is valid, under any key of the ring.
pub(crate) fn verify(ring: &KeyRing, name: &str, of: &Binding, token: &str) -> Result<(), CsrfError> {
    let mut bytes = [0; LEN];
    if token.len() != TEXT_LEN || URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) != Ok(LEN) {
        return Err(CsrfError::Malformed);
    }
    let (key_id, rest) = bytes.split_first_chunk().expect("it has this length");
    let (mask, masked) = rest.split_first_chunk().expect("it has this length");
    let masked = masked.first_chunk().expect("it has this length");
    let (keys, named) = (ring.snapshot(), KeyId(*key_id));
    let key = keys.keys.iter().find(|key| key.id() == named).ok_or(CsrfError::UnknownKey(named))?;
    let same = xor(*mask, *masked).ct_eq(&tag(key, name, of));
    let is_of_nobody = *of == Binding::Session(SessionId::NONE);
    if bool::from(same) && !is_of_nobody { Ok(()) } else { Err(CsrfError::OtherSession) }
}

fn tag(key: &Key, name: &str, of: &Binding) -> [u8; TAG_LEN] {
    let subkey = key.subkey(Purpose::Csrf, name);
    let mut mac = Hmac::<Sha256>::new_from_slice(subkey.as_slice()).expect("HMAC takes keys of any length");
    match of {
        Binding::Session(id) => mac.update(&id.0),
        Binding::Refused(cookie) => {
            mac.update(b"refused");
            mac.update(&Sha256::digest(cookie));
        }
    }
    let full = mac.finalize().into_bytes();
    *full.first_chunk().expect("the hash is longer")
}

fn xor(mut a: [u8; TAG_LEN], b: [u8; TAG_LEN]) -> [u8; TAG_LEN] {
    a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "s";

    fn ring(keys: impl IntoIterator<Item = u8>) -> KeyRing {
        KeyRing::from_keys(keys.into_iter().map(|n| Key::from_bytes([n; 32]))).unwrap()
    }

    fn of(n: u8) -> Binding {
        Binding::Session(SessionId([n; 16]))
    }

    /// Otherwise a token would be valid again once its session is over.
    #[test]
    fn a_token_of_a_session_is_none_of_its_refused_cookie() {
        let (ring, id) = (ring([1]), of(7));
        let refused = Binding::Refused([7; 16].into());
        assert_eq!(verify(&ring, NAME, &refused, &token(&ring, NAME, &id)), Err(CsrfError::OtherSession));
        assert_eq!(verify(&ring, NAME, &id, &token(&ring, NAME, &refused)), Err(CsrfError::OtherSession));
        assert_eq!(verify(&ring, NAME, &refused, &token(&ring, NAME, &refused)), Ok(()));
        let other = Binding::Refused([8; 16].into());
        assert_eq!(verify(&ring, NAME, &other, &token(&ring, NAME, &refused)), Err(CsrfError::OtherSession));
    }

    #[test]
    fn a_token_is_of_one_session_one_name_and_one_ring() {
        let (ring, id) = (ring([1]), of(7));
        let token = token(&ring, NAME, &id);
        assert_eq!(token.len(), TEXT_LEN);
        assert_eq!(verify(&ring, NAME, &id, &token), Ok(()));
        assert_eq!(verify(&ring, NAME, &of(8), &token), Err(CsrfError::OtherSession));
        assert_eq!(verify(&ring, "t", &id, &token), Err(CsrfError::OtherSession));
        let other = self::ring([2]);
        assert_eq!(verify(&other, NAME, &id, &token), Err(CsrfError::UnknownKey(ring.primary())));
    }

    #[test]
    fn no_two_tokens_of_a_session_share_more_than_the_key_id() {
        let (ring, id) = (ring([1]), of(7));
        let decoded = |_| URL_SAFE_NO_PAD.decode(token(&ring, NAME, &id)).unwrap();
        let tokens: Vec<_> = (0..100).map(decoded).collect();
        for (n, one) in tokens.iter().enumerate() {
            for other in &tokens[n + 1..] {
                assert_eq!(one[..KEY_ID_LEN], other[..KEY_ID_LEN]);
                let differ = one[KEY_ID_LEN..].iter().zip(&other[KEY_ID_LEN..]).filter(|(a, b)| a != b);
                assert!(differ.count() > 20, "32 random bytes differ nearly everywhere");
            }
        }
    }

    #[test]
    fn each_changed_byte_and_every_other_shape_is_refused() {
        let (ring, id) = (ring([1]), of(7));
        let good = token(&ring, NAME, &id);
        for at in 0..good.len() {
            for other in ["A", "z", "_", "+", "=", " "] {
                let mut bad = good.clone();
                bad.replace_range(at..=at, other);
                assert_eq!(verify(&ring, NAME, &id, &bad).is_ok(), bad == good, "{bad}");
            }
        }
        for bad in ["", "x", &good[1..], &format!("{good}="), &format!("{good}AAAA"), &"\u{fc}".repeat(24)] {
            assert_eq!(verify(&ring, NAME, &id, bad), Err(CsrfError::Malformed), "{bad}");
        }
    }

    /// A visitor without a session has the id of nobody, so anybody with a key could make a token for it.
    #[test]
    fn there_is_no_token_of_no_session() {
        let ring = ring([1]);
        let nobody = Binding::Session(SessionId::NONE);
        let token = token(&ring, NAME, &nobody);
        assert_eq!(verify(&ring, NAME, &nobody, &token), Err(CsrfError::OtherSession));
    }

    #[test]
    fn a_token_is_good_under_a_retired_key_and_dead_under_a_revoked_one() {
        let (ring, id) = (ring([1]), of(7));
        let (old, token) = (ring.primary(), token(&ring, NAME, &id));
        ring.rotate(Key::from_bytes([2; 32])).unwrap();
        assert_eq!(verify(&ring, NAME, &id, &token), Ok(()));
        assert_ne!(self::token(&ring, NAME, &id)[..5], token[..5], "the primary makes new ones");
        ring.revoke(old).unwrap();
        assert_eq!(verify(&ring, NAME, &id, &token), Err(CsrfError::UnknownKey(old)));
    }
}
