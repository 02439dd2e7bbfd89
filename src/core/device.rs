//! Sessions that are bound to a device: what is sealed for that, and which of them a request may use.
//!
//! Device Bound Session Credentials (draft of the W3C): the browser makes a key pair that does not leave
//! the device, and proves every few minutes that it has it. Each proof is answered with a short cookie, without which the session's
//! cookie is good for nothing. What is sealed:
//!
//! | what | in | says | until |
//! |---|---|---|---|
//! | challenge of a registration | `Secure-Session-Registration` | this session may get a key | the proof's life and 5 minutes, 15 at most |
//! | challenge of a refresh | `Secure-Session-Challenge` | this session, of this key | the proof's life and 5 minutes |
//! | proof | a cookie | who has this key has just proved it, for this session | the proof's life |
//! | identifier | what the browser calls it | this key was registered for this session | its key leaves the ring |
//!
//! The first three are sealed like transient values, each under a purpose of its own. The identifier is authenticated and not
//! sealed: it holds a public key and a tag over that and the session's id, but not the id. So whoever knows both can say it again.
//!
//! # Security
//! A proof is judged by its key, so what renews a session leaves it good; the key is in the session's cookie, sealed. A session gets its
//! key once, by a proof of its own id.

#[cfg(feature = "device-binding")]
pub(crate) mod jws;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::core::clock::Millis;
use crate::core::cookie::{CookieConfig, SetCookie};
use crate::core::envelope::{Engine, Sealer, sealed_len};
use crate::core::error::DeviceRefusal;
use crate::core::event::EventSink;
use crate::core::key::{KEY_ID_LEN, Key, KeyRing, Purpose};
use crate::core::lifetime::SKEW;
use crate::core::record::{
    DEVICE_KEY_LEN, Device, DeviceKey, Header, SESSION_ID_LEN, SessionId, TransientContent, decode_transient,
    encode_transient, encoded_transient_len,
};
use crate::core::short_cookie::ShortCookie;

/// For how long a session that was offered to a device is good without one, where one is required.
const GRACE: Millis = Millis(15 * 60_000);
/// The longest that a proof can be said to be good.
pub(crate) const MAX_PROOF_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How much longer than a proof a challenge is good: the browser answers it at the proof's end.
const CHALLENGE_SPARE: Millis = Millis(5 * 60_000);
/// How long before a proof's end its browser forgets it, so that none is sent that is over when it arrives.
const PROOF_SPARE: Millis = Millis(60_000);
/// What stands behind the session's name in that of its proof.
const PROOF: &str = "-proof";

const TAG_LEN: usize = 16;
const IDENTIFIER_LEN: usize = KEY_ID_LEN + DEVICE_KEY_LEN + TAG_LEN;

/// Whether sessions have to be bound to a device; see the guide `device_binding`.
///
/// # Security
/// Whoever copies the cookies of a bound session has it until the proof among them is over, ten minutes by default, and what is
/// left of a challenge's life if they have taken an answered one along. Malware that stays on the device asks it for
/// proofs like the browser does; nothing helps against that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceBinding {
    /// Where the browser can: a session that it does not bind goes on as it is.
    ///
    /// A copy of the cookie from before the binding is good until it ends, or with a store for
    /// [`Revocation`](crate::Revocation)'s time at most.
    WhereOffered,
    /// Everywhere: a session is over 15 minutes after [`authenticate`](crate::Session::authenticate) unless it is bound by then,
    /// and no use prolongs that. Most browsers cannot bind sessions yet.
    ///
    /// For a session that was switched to somebody else by [`set_subject`](crate::Session::set_subject) they count from there, or
    /// its last [`renew`](crate::Session::renew), so a stolen one goes on for as long as it can do either: let only bound sessions
    /// ([`Session::device`](crate::Session::device)) do that.
    ///
    /// Sessions that were never authenticated, or from before this was chosen, are not held to it.
    Required,
}

/// What binds the sessions of one cookie.
pub(crate) struct Binder {
    mode: DeviceBinding,
    path: String,
    proof: ShortCookie,
    registration: Challenges,
    refresh: Challenges,
    ring: KeyRing,
    /// The session's cookie.
    name: String,
    cookie_path: String,
}

/// What a request may do with a session.
pub(crate) enum DeviceVerdict {
    /// As without binding.
    Fine,
    /// The device has proved itself to a session that has no key yet, and is to get this one.
    Heals(Arc<DeviceKey>),
    /// There is no proof of this key; `None`: there was to be a key by now.
    Unproven(Option<Arc<DeviceKey>>),
}

/// What a live proof says.
struct Proof {
    id: SessionId,
    key: DeviceKey,
}

impl Binder {
    /// `config` is that of the session's cookie, validated, with `Secure` and without a domain.
    pub(crate) fn new(
        engine: Engine,
        ring: &KeyRing,
        config: &CookieConfig,
        (mode, path, life): (DeviceBinding, String, Duration),
        sink: EventSink,
    ) -> Self {
        let (name, life) = (&config.name, Millis::span(life));
        let proof_config = CookieConfig { name: proof_name(name), formerly: Vec::new(), ..config.clone() };
        let bytes =
            proof_config.name.len() + sealed_len(encoded_transient_len("", SESSION_ID_LEN + DEVICE_KEY_LEN));
        let kept = life.minus(PROOF_SPARE).max(Millis(life.0 / 2));
        // Servers with another lifetime of proofs, as while that is changed, know what each other gave out.
        let longest = Millis::span(MAX_PROOF_LIFETIME);
        let challenges = |purpose, life, longest| Challenges {
            sealer: Sealer::with_engine(engine, ring.clone(), purpose, name),
            life,
            longest,
        };
        let answered = life.plus(CHALLENGE_SPARE);
        Self {
            mode,
            path,
            proof: ShortCookie::new(
                (engine, Purpose::DeviceProof),
                ring.clone(),
                &proof_config,
                (life, bytes),
                sink,
            )
            .kept_for(kept)
            .up_to(longest),
            registration: challenges(Purpose::DeviceRegistration, answered.min(GRACE), GRACE),
            refresh: challenges(Purpose::DeviceRefresh, answered, longest.plus(CHALLENGE_SPARE)),
            ring: ring.clone(),
            name: name.clone(),
            cookie_path: config.path.clone(),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(ring: &KeyRing, config: &CookieConfig) -> Self {
        let settings = (DeviceBinding::WhereOffered, "/".into(), Duration::from_secs(600));
        Self::new(Engine::DEFAULT, ring, config, settings, EventSink::default())
    }

    /// Where browsers register devices and refresh proofs.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The name of the proof's cookie.
    pub(crate) fn proof_name(&self) -> &str {
        self.proof.name()
    }

    /// What the browser is told of the proof's attributes.
    pub(crate) fn proof_attributes(&self) -> &str {
        self.proof.writer().attributes(true).trim_start_matches("; ")
    }

    /// The rules that keep browsers from fetching proofs for what the cookie is not sent to; the last one that matches counts.
    pub(crate) fn scope(&self) -> serde_json::Value {
        let path = self.cookie_path.as_str();
        if path == "/" {
            return json!([]);
        }
        json!([
            { "type": "exclude", "domain": "*", "path": "/" },
            { "type": "include", "domain": "*", "path": path },
        ])
    }

    fn proofs<'p>(&self, proofs: &'p [Box<[u8]>], now: Millis) -> impl Iterator<Item = Proof> + use<'p, '_> {
        proofs.iter().filter_map(move |proof| {
            let value = self.proof.read(proof, now)?;
            let (id, key) = subject_of(&value)?;
            Some(Proof { id, key: key? })
        })
    }

    /// What a request with these proofs may do with a session.
    pub(crate) fn judge(&self, header: &Header, proofs: &[Box<[u8]>], now: Millis) -> DeviceVerdict {
        match &header.device {
            Device::Free => DeviceVerdict::Fine,
            Device::Bound(key) => match self.proofs(proofs, now).any(|proof| proof.key == **key) {
                true => DeviceVerdict::Fine,
                false => DeviceVerdict::Unproven(Some(Arc::clone(key))),
            },
            Device::Offered => match self.key_proved(header.id, proofs, now) {
                Some(key) => DeviceVerdict::Heals(Arc::new(key)),
                None if self.is_overdue(header, now) => DeviceVerdict::Unproven(None),
                None => DeviceVerdict::Fine,
            },
        }
    }

    /// The key of a live proof that was made for this session.
    pub(crate) fn key_proved(&self, id: SessionId, proofs: &[Box<[u8]>], now: Millis) -> Option<DeviceKey> {
        self.proofs(proofs, now).find(|proof| proof.id == id).map(|proof| proof.key)
    }

    /// Whether a session is over that does not get a key.
    pub(crate) fn is_required(&self) -> bool {
        self.mode == DeviceBinding::Required
    }

    fn is_overdue(&self, header: &Header, now: Millis) -> bool {
        // Who goes on as somebody else is never authenticated, and has until so long after that.
        let since = match header.authenticated_at {
            Millis::ZERO => header.times.created_at,
            at => at,
        };
        self.is_required() && now >= since.plus(GRACE)
    }

    /// A proof from now on.
    pub(crate) fn prove(&self, id: SessionId, key: &DeviceKey, now: Millis) -> SetCookie {
        let value = [&id.0[..], &key.0].concat();
        self.proof
            .set("", &value, true, now)
            .unwrap_or_else(|_| unreachable!("its size was reckoned at build()"))
    }

    /// What makes the browser forget the proof, and fetch another one before its next request.
    pub(crate) fn remove_proof(&self) -> SetCookie {
        self.proof.remove("", true)
    }

    /// The value of `Secure-Session-Registration`, which asks the browser for a key of this session's.
    pub(crate) fn offer(&self, id: SessionId, now: Millis) -> Vec<u8> {
        let challenge = self.registration.make(id, None, now);
        format!("(ES256);path=\"{}\";challenge=\"{challenge}\"", self.path).into_bytes()
    }

    /// What that line comes to.
    pub(crate) fn offer_line_len(&self) -> usize {
        const AROUND: usize = "secure-session-registration: (ES256);path=\"\";challenge=\"\"\r\n".len();
        AROUND + self.path.len() + sealed_len(encoded_transient_len("", SESSION_ID_LEN))
    }

    /// The value of `Secure-Session-Challenge`, which the browser's next proof answers.
    pub(crate) fn challenge(&self, id: SessionId, key: &DeviceKey, identifier: &str, now: Millis) -> Vec<u8> {
        format!("\"{}\";id=\"{identifier}\"", self.refresh.make(id, Some(key), now)).into_bytes()
    }

    /// The session that a live challenge of a registration is for.
    pub(crate) fn registers(&self, challenge: &str, now: Millis) -> Result<SessionId, DeviceRefusal> {
        match self.registration.open(challenge, now)? {
            (id, None) => Ok(id),
            (_, Some(_)) => Err(DeviceRefusal::Challenge),
        }
    }

    /// Whether it is a live challenge of a refresh of this key.
    pub(crate) fn check_refresh(
        &self,
        challenge: &str,
        key: &DeviceKey,
        now: Millis,
    ) -> Result<(), DeviceRefusal> {
        match self.refresh.open(challenge, now)? {
            (_, Some(of)) if of == *key => Ok(()),
            _ => Err(DeviceRefusal::OtherSession),
        }
    }

    /// What a browser calls the session with this key, which was registered under this id.
    pub(crate) fn identifier(&self, id: SessionId, key: &DeviceKey) -> String {
        let keys = self.ring.snapshot();
        let primary = &keys.keys[0];
        let tag = self.tag(primary, id, key);
        URL_SAFE_NO_PAD.encode([&primary.id().0[..], &key.0, &tag].concat())
    }

    /// The key in an identifier that has the shape of one. Nothing of it may be believed yet.
    pub(crate) fn named_key(identifier: &str) -> Option<DeviceKey> {
        let bytes = Self::identifier_bytes(identifier)?;
        DeviceKey::read(&bytes[KEY_ID_LEN..][..DEVICE_KEY_LEN])
    }

    /// Whether an identifier was made for this session.
    pub(crate) fn names(&self, identifier: &str, id: SessionId) -> bool {
        let Some((bytes, key)) = Self::identifier_bytes(identifier).zip(Self::named_key(identifier)) else {
            return false;
        };
        let keys = self.ring.snapshot();
        let named = keys.keys.iter().find(|root| bytes.starts_with(&root.id().0));
        named.is_some_and(|root| self.tag(root, id, &key).ct_eq(&bytes[KEY_ID_LEN + DEVICE_KEY_LEN..]).into())
    }

    fn identifier_bytes(identifier: &str) -> Option<[u8; IDENTIFIER_LEN]> {
        const TEXT_LEN: usize = (IDENTIFIER_LEN * 4).div_ceil(3);
        (identifier.len() == TEXT_LEN)
            .then(|| URL_SAFE_NO_PAD.decode(identifier).ok()?.try_into().ok())
            .flatten()
    }

    fn tag(&self, root: &Key, id: SessionId, key: &DeviceKey) -> [u8; TAG_LEN] {
        let subkey = root.subkey(Purpose::DeviceIdentifier, &self.name);
        let mut mac =
            Hmac::<Sha256>::new_from_slice(subkey.as_slice()).expect("HMAC takes keys of any length");
        mac.update(&id.0);
        mac.update(&key.0);
        *mac.finalize().into_bytes().first_chunk().expect("the hash is longer")
    }
}

/// The name of the proof of a session's cookie. Chromium registers no cookie whose name has a prefix with `Http-` in it, so the
/// prefix is the one without; the cookie is `HttpOnly` all the same if the session's is.
fn proof_name(session: &str) -> String {
    const PREFIX: &str = "__Host-Http-";
    match session.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => format!("__Host-{rest}{PROOF}"),
        _ => format!("{session}{PROOF}"),
    }
}

/// Challenges of one purpose.
struct Challenges {
    sealer: Sealer,
    life: Millis,
    /// One that has longer than this to live is none of ours.
    longest: Millis,
}

impl Challenges {
    fn make(&self, id: SessionId, key: Option<&DeviceKey>, now: Millis) -> String {
        let value = [&id.0[..], key.map_or(&[], |key| &key.0[..])].concat();
        let content = TransientContent { until: now.plus(self.life), suffix: "", value: &value };
        let mut out = Vec::new();
        self.sealer.seal(None, now, |text| encode_transient(&content, text), &mut out);
        String::from_utf8(out).expect("base64url is ASCII")
    }

    fn open(&self, challenge: &str, now: Millis) -> Result<(SessionId, Option<DeviceKey>), DeviceRefusal> {
        let foreign = DeviceRefusal::Challenge;
        let opened =
            self.sealer.parse(challenge.as_bytes()).and_then(|parsed| parsed.open()).map_err(|_| foreign)?;
        let TransientContent { until, value, .. } = decode_transient(&opened).map_err(|_| foreign)?;
        if now >= until || until.minus(now) > self.longest.plus(SKEW) {
            return Err(DeviceRefusal::ChallengeExpired);
        }
        subject_of(value).ok_or(foreign)
    }
}

/// The session that a challenge or a proof is about, and its device's key, if it has one.
pub(crate) fn subject_of(value: &[u8]) -> Option<(SessionId, Option<DeviceKey>)> {
    let (id, key) = value.split_first_chunk()?;
    let key = if key.is_empty() { None } else { Some(DeviceKey::read(key)?) };
    Some((SessionId(*id), key))
}
