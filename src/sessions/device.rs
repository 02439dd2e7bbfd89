//! The path at which browsers register devices and refresh proofs, answered by the middleware itself.
//!
//! A request with `Sec-Secure-Session-Id`, which no page can send, refreshes a proof; any other registers a key. Both
//! come from the browser itself, whatever site the user came from; the challenge that they answer protects against other
//! sites.
//!
//! After a login that came from another site, such as an identity provider, the registration comes without the cookie
//! that the login has just set, because that is `SameSite=Lax`. It then relies on its challenge, which says which session
//! it is for.
//!
//! | | answer |
//! |---|---|
//! | a valid registration | 200, and the proof |
//! | any other registration | 403 |
//! | a refresh without a proof of possession, or with an invalid one | 403, and a challenge |
//! | a valid refresh | 200, and the proof |
//! | a refresh of a session that has ended | 200, which says that it is over |
//! | a refresh of a session other than the cookie's | 403, which ends it in the browser |
//! | what cannot be decided now | 503, which ends nothing |

use std::pin::Pin;

use serde_json::json;

use super::{By, Opening, Sessions};
use crate::core::clock::Millis;
use crate::core::cookie::SetCookie;
use crate::core::device::jws::Jws;
use crate::core::device::{Binder, DeviceVerdict};
use crate::core::error::{DeviceRefusal, Rejection};
use crate::core::event::Event;
use crate::core::record::{Device, DeviceKey, SessionId};
use crate::core::session::Session;
use crate::core::state::Origin;

/// The values of these headers in a request that asks for this path.
pub(crate) struct DeviceRequest {
    /// Of `Sec-Secure-Session-Id`.
    identifier: Header,
    /// Of `Secure-Session-Response`.
    proof: Header,
}

/// A header that may come once.
enum Header {
    None,
    One(String),
    Several,
}

impl Header {
    fn of<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::None,
            // What is not text counts as empty, which is no proof.
            (Some(value), None) => {
                Self::One(str::from_utf8(value).unwrap_or_default().trim().trim_matches('"').to_owned())
            }
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

impl DeviceRequest {
    pub(crate) fn new<'v>(
        identifiers: impl Iterator<Item = &'v [u8]>,
        proofs: impl Iterator<Item = &'v [u8]>,
    ) -> Self {
        Self { identifier: Header::of(identifiers), proof: Header::of(proofs) }
    }

    /// The proof, if there is exactly one.
    fn proof(&self) -> Result<Jws<'_>, DeviceRefusal> {
        match &self.proof {
            Header::None => Err(DeviceRefusal::Missing),
            Header::One(text) => Jws::parse(text),
            Header::Several => Err(DeviceRefusal::Duplicate),
        }
    }
}

/// The response to the browser.
#[derive(Default)]
pub(crate) struct DeviceAnswer {
    pub(crate) status: u16,
    pub(crate) proof: Option<SetCookie>,
    /// The value of `Secure-Session-Challenge`.
    pub(crate) challenge: Option<Vec<u8>>,
    /// JSON, or nothing.
    pub(crate) body: String,
}

impl DeviceAnswer {
    fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
}

/// What is known of the session that a request is about.
struct Known {
    id: SessionId,
    device: Device,
}

impl Sessions {
    /// Whether a request is for the binding of devices.
    pub(crate) fn answers_devices(&self, method: &str, path: &str) -> bool {
        self.core.device.as_ref().is_some_and(|device| method == "POST" && path == device.path())
    }

    /// Answers a request to the path of the binding.
    pub(crate) fn answer_device<H: AsRef<[u8]>>(
        &self,
        request: DeviceRequest,
        cookie_headers: impl IntoIterator<Item = H>,
    ) -> Pin<Box<dyn Future<Output = DeviceAnswer> + Send>> {
        let now = self.now();
        let mut found = self.find(cookie_headers, now);
        let proofs = std::mem::take(&mut found.proofs);
        let lives_elsewhere = matches!(&found.outcome, Some(Err(refusal)) if refusal.lives_elsewhere);
        // Whether its device has proved itself is decided here.
        let opening = self.take_as(DeviceVerdict::Fine, &mut found, now, By::Device);
        let sessions = self.clone();
        Box::pin(async move {
            let Some(binder) = &sessions.core.device else { return DeviceAnswer::of(404) };
            let session = match opening {
                // Only the servers with the longest limits say that it is over.
                _ if lives_elsewhere => return DeviceAnswer::of(503),
                Opening::Ready(session) => session,
                Opening::Referenced(chosen) => match sessions.fetch(*chosen).await {
                    Ok(session) => session,
                    Err(_) => return DeviceAnswer::of(503),
                },
            };
            match &request.identifier {
                Header::None => sessions.register(binder, &session, &request, now),
                Header::One(identifier) => {
                    sessions.refresh(binder, &session, (identifier, &proofs), &request, now)
                }
                Header::Several => sessions.refused(None, DeviceRefusal::Duplicate),
            }
        })
    }

    fn refused(&self, id: Option<SessionId>, reason: DeviceRefusal) -> DeviceAnswer {
        self.tell(&Event::DeviceRefused { id, reason });
        DeviceAnswer::of(403)
    }

    fn register(
        &self,
        binder: &Binder,
        session: &Session,
        request: &DeviceRequest,
        now: Millis,
    ) -> DeviceAnswer {
        let known = match known(session) {
            Ok(known) => Some(known),
            Err(Origin::New) => None,
            Err(_) => return self.refused(None, DeviceRefusal::NoSession),
        };
        match registered(binder, known.as_ref(), request, now) {
            Ok((id, key)) => {
                self.tell(&Event::DeviceProved { id, registered: true });
                proved(binder, id, &key, &binder.identifier(id, &key), now)
            }
            Err(reason) => self.refused(known.map(|known| known.id), reason),
        }
    }

    fn refresh(
        &self,
        binder: &Binder,
        session: &Session,
        (identifier, proofs): (&str, &[Box<[u8]>]),
        request: &DeviceRequest,
        now: Millis,
    ) -> DeviceAnswer {
        let Some(named) = Binder::named_key(identifier) else {
            return self.refused(None, DeviceRefusal::OtherKey);
        };
        let Known { id, device } = match known(session) {
            Ok(known) => known,
            Err(origin) if is_over(origin) => return over(binder, identifier),
            Err(_) => return DeviceAnswer::of(503),
        };
        let key = match device {
            Device::Bound(key) => *key,
            Device::Free => return self.refused(Some(id), DeviceRefusal::NotOffered),
            Device::Offered => {
                let named = binder.names(identifier, id).then_some(named);
                match binder.key_proved(id, proofs, now).or(named) {
                    Some(key) => key,
                    None => return DeviceAnswer::of(503),
                }
            }
        };
        if named != key {
            return self.refused(Some(id), DeviceRefusal::OtherKey);
        }
        match refreshed(binder, &key, request, now) {
            Ok(()) => {
                self.tell(&Event::DeviceProved { id, registered: false });
                proved(binder, id, &key, identifier, now)
            }
            Err(reason) => {
                let mut answer = DeviceAnswer::of(403);
                // This is how a browser asks for the challenge.
                if reason != DeviceRefusal::Missing {
                    answer = self.refused(Some(id), reason);
                }
                DeviceAnswer { challenge: Some(binder.challenge(id, &key, identifier, now)), ..answer }
            }
        }
    }
}

/// The session that a request is about, or why there is none.
fn known(session: &Session) -> Result<Known, Origin> {
    session.with(|state| match state.origin {
        Origin::Resumed => Ok(Known { id: state.header.id, device: state.header.device.clone() }),
        origin => Err(origin),
    })
}

/// Whether the session that a browser had is over for good.
fn is_over(origin: Origin) -> bool {
    match origin {
        Origin::New => true,
        Origin::Rejected(reason) => matches!(
            reason,
            Rejection::Expired(_) | Rejection::Revoked | Rejection::Missing | Rejection::RevokedKey(_)
        ),
        Origin::Resumed | Origin::CrossSite => false,
    }
}

/// The session that a registration is for and the key that it brings, if all of it is valid. The signature is verified
/// last.
fn registered(
    binder: &Binder,
    known: Option<&Known>,
    request: &DeviceRequest,
    now: Millis,
) -> Result<(SessionId, DeviceKey), DeviceRefusal> {
    match known.map(|known| &known.device) {
        Some(Device::Free) => return Err(DeviceRefusal::NotOffered),
        Some(Device::Bound(_)) => return Err(DeviceRefusal::Bound),
        // A session that is not there has no key as far as is known here. If it has one, it accepts no other.
        Some(Device::Offered) | None => {}
    }
    let proof = request.proof()?;
    let key = proof.key().ok_or(DeviceRefusal::Key)?;
    let id = binder.registers(proof.challenge(), now)?;
    if known.is_some_and(|known| known.id != id) {
        return Err(DeviceRefusal::OtherSession);
    }
    proof.verify_own()?;
    Ok((id, key))
}

fn refreshed(
    binder: &Binder,
    key: &DeviceKey,
    request: &DeviceRequest,
    now: Millis,
) -> Result<(), DeviceRefusal> {
    let proof = request.proof()?;
    if proof.key().is_some() {
        return Err(DeviceRefusal::Key);
    }
    binder.check_refresh(proof.challenge(), key, now)?;
    proof.verify(key)
}

/// A proof from now on, what the browser has to know about it, and the challenge for the next one.
fn proved(binder: &Binder, id: SessionId, key: &DeviceKey, identifier: &str, now: Millis) -> DeviceAnswer {
    let credential =
        json!({ "type": "cookie", "name": binder.proof_name(), "attributes": binder.proof_attributes() });
    let body = json!({
        "session_identifier": identifier,
        "refresh_url": binder.path(),
        "scope": { "include_site": false, "scope_specification": binder.scope() },
        "credentials": [credential],
    });
    DeviceAnswer {
        status: 200,
        proof: Some(binder.prove(id, key, now)),
        challenge: Some(binder.challenge(id, key, identifier, now)),
        body: body.to_string(),
    }
}

/// The browser's session is over, and its proof with it.
fn over(binder: &Binder, identifier: &str) -> DeviceAnswer {
    let body = json!({ "session_identifier": identifier, "continue": false }).to_string();
    DeviceAnswer { status: 200, proof: Some(binder.remove_proof()), challenge: None, body }
}
