//! Sessions that are bound to the device of their browser, with a device in software.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, REFRESH, SET_COOKIE};
use p256::ecdsa::Signature;
use p256::ecdsa::signature::Signer as _;
use sealed_session::{
    ConfigError, DeviceBinding, DeviceRefusal, DeviceState, Event, Key, KeyRing, Lifetime, LoginGuard,
    ManualClock, Origin, Rejection, Session, Sessions, SessionsBuilder,
};
use serde_json::{Value, json};

use crate::device_key::base64;
pub(crate) use crate::device_key::{Device, quoted};
use crate::framework;
use crate::support::{Answer, Bed, Jar, MINUTE, MS, Reply, Sent, Wrapped, futures_of, key, start};

const PATH: &str = "/device-binding/s";
const PROOF: &str = "s-proof";
const TEN_MINUTES: Duration = Duration::from_secs(600);
pub(crate) const UNPROVEN: Origin = Origin::Rejected(Rejection::Unproven);
pub(crate) const CHALLENGE: HeaderName = HeaderName::from_static("secure-session-challenge");
pub(crate) const REGISTRATION: HeaderName = HeaderName::from_static("secure-session-registration");

fn bound() -> Bed {
    Bed::with(|builder| builder.device_binding(DeviceBinding::WhereOffered))
}

impl Device {
    /// What it sends to prove itself again.
    fn proof(&self, challenge: &str) -> String {
        self.sign(&json!({ "alg": "ES256", "typ": "dbsc+jwt" }), &json!({ "jti": challenge }))
    }
}

/// A browser that knows of two cookies, and what it calls its session.
#[derive(Clone, Default)]
pub(crate) struct Browser {
    pub(crate) session: Jar,
    pub(crate) proof: Option<String>,
    pub(crate) identifier: Option<String>,
    pub(crate) challenge: Option<String>,
}

impl Browser {
    fn keep(&mut self, reply: &Reply) {
        self.session.keep(reply);
        for line in reply.all(SET_COOKIE) {
            if let Some(value) = line.strip_prefix("s-proof=") {
                let value = value.split(';').next().unwrap();
                self.proof = (!value.is_empty()).then(|| format!("{PROOF}={value}"));
            }
        }
        if let [line] = reply.all(CHALLENGE)[..] {
            self.challenge = Some(quoted(line, "").to_owned());
        }
    }

    pub(crate) fn cookies(&self) -> Vec<&[u8]> {
        self.session.0.iter().chain(&self.proof).map(String::as_bytes).collect()
    }

    /// A request to a handler that does this.
    pub(crate) async fn visit(&mut self, bed: &Bed, work: impl Fn(&Session) + 'static) -> Reply {
        let reply = bed.raw(&self.cookies(), work).await;
        self.keep(&reply);
        reply
    }

    /// What the next request would see.
    pub(crate) async fn sees(&self, bed: &Bed) -> (Origin, Option<String>, DeviceState) {
        let seen = std::rc::Rc::new(std::cell::Cell::new(None));
        let out = std::rc::Rc::clone(&seen);
        bed.raw(&self.cookies(), move |session| {
            out.set(Some((session.origin(), session.subject(), session.device())));
        })
        .await;
        seen.take().unwrap()
    }

    pub(crate) async fn log_in(&mut self, bed: &Bed, user: &'static str) -> Reply {
        self.visit(bed, move |session| session.authenticate(user).unwrap()).await
    }

    /// A request of the browser's own.
    async fn post(&self, bed: &Bed, headers: &[(&str, &str)]) -> Reply {
        let mut sent = Sent::get(&self.cookies());
        sent.method = "POST";
        sent.headers.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        let handler = async |_| Ok(Answer::new(StatusCode::NOT_FOUND));
        framework::ask_at(Wrapped::Once(&bed.sessions), PATH, &sent, handler).await
    }

    pub(crate) async fn register_with(&mut self, bed: &Bed, proof: &str) -> Reply {
        let reply = self.post(bed, &[("secure-session-response", proof)]).await;
        // Only a body has a type.
        let types = if reply.body.is_empty() { vec![] } else { vec!["application/json"] };
        assert_eq!(reply.all(CONTENT_TYPE), types);
        self.keep(&reply);
        if reply.status == StatusCode::OK {
            let body: Value = serde_json::from_slice(&reply.body).unwrap();
            self.identifier = Some(body["session_identifier"].as_str().unwrap().to_owned());
        }
        reply
    }

    /// Its POST to the same path later, with a proof or without.
    pub(crate) async fn refresh_with(&mut self, bed: &Bed, proof: Option<&str>) -> Reply {
        let identifier = self.identifier.clone().unwrap();
        let mut headers = vec![("sec-secure-session-id", identifier.as_str())];
        headers.extend(proof.map(|proof| ("secure-session-response", proof)));
        let reply = self.post(bed, &headers).await;
        self.keep(&reply);
        reply
    }

    pub(crate) async fn refresh(&mut self, bed: &Bed, device: &Device) -> Reply {
        let challenge = self.challenge.clone().unwrap();
        self.refresh_with(bed, Some(&device.proof(&challenge))).await
    }

    /// In which somebody has logged in, with a device that is registered and not in the session's cookie yet.
    pub(crate) async fn registered(bed: &Bed, user: &'static str, device: &Device) -> Self {
        let mut browser = Self::default();
        let reply = browser.log_in(bed, user).await;
        let challenge = quoted(reply.all(REGISTRATION)[0], "challenge=").to_owned();
        let reply = browser.register_with(bed, &device.registration(&challenge)).await;
        assert_eq!(reply.status, StatusCode::OK);
        browser
    }

    /// The same, and it is.
    pub(crate) async fn bound(bed: &Bed, user: &'static str, device: &Device) -> Self {
        let mut browser = Self::registered(bed, user, device).await;
        let reply = browser.visit(bed, |_| ()).await;
        assert!(reply.set_cookie().is_some() && !reply.removes());
        assert_eq!(browser.sees(bed).await, (Origin::Resumed, Some(user.into()), DeviceState::Bound));
        bed.events();
        browser
    }
}

fn refusals(bed: &Bed) -> Vec<DeviceRefusal> {
    let reason = |event| if let Event::DeviceRefused { reason, .. } = event { Some(reason) } else { None };
    bed.events().into_iter().filter_map(reason).collect()
}

/// Everything that is told of devices.
#[cfg(feature = "metrics")]
pub(crate) async fn traffic() {
    offers().await;
    refreshes().await;
    second_keys().await;
    thefts().await;
    no_registrations().await;
    no_proofs().await;
}

#[actix_web::test]
async fn only_the_answer_to_a_login_offers_a_binding() {
    offers().await;
}

async fn offers() {
    let bed = bound();
    let mut browser = Browser::default();
    let reply = browser.visit(&bed, |session| session.insert("cart", 1).unwrap()).await;
    assert!(reply.all(REGISTRATION).is_empty());
    let reply = browser.visit(&bed, |session| session.set_subject("ada").unwrap()).await;
    assert!(reply.all(REGISTRATION).is_empty(), "nobody has proved anything");
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Free);

    let reply = browser.log_in(&bed, "ada").await;
    let [line] = reply.all(REGISTRATION)[..] else { panic!("{reply:?}") };
    let challenge = quoted(line, "challenge=");
    assert_eq!(line, format!("(ES256);path=\"{PATH}\";challenge=\"{challenge}\""));
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Offered);
    assert!(bed.events().iter().any(|event| matches!(event, Event::DeviceOffered { .. })));

    let works: [fn(&Session); 4] =
        [|session| session.insert("n", 1).unwrap(), Session::renew, Session::touch, |_| ()];
    for work in works {
        let reply = browser.visit(&bed, work).await;
        assert!(reply.all(REGISTRATION).is_empty() && reply.all(CHALLENGE).is_empty());
    }
    let reply = browser.log_in(&bed, "ada").await;
    assert_eq!(reply.all(REGISTRATION).len(), 1, "who has no key is asked at each login");
}

#[actix_web::test]
async fn a_registration_sets_the_proof_alone_and_the_next_request_gets_the_key() {
    let bed = bound();
    let device = Device::new(1);
    let mut browser = Browser::default();
    let reply = browser.log_in(&bed, "ada").await;
    let challenge = quoted(reply.all(REGISTRATION)[0], "challenge=").to_owned();
    let before = browser.session.0.clone();
    bed.events();
    let reply = browser.register_with(&bed, &device.registration(&challenge)).await;
    assert_eq!(reply.status, StatusCode::OK);
    let [line] = reply.all(SET_COOKIE)[..] else { panic!("{reply:?}") };
    let (value, attributes) = line.split_once("; ").unwrap();
    assert!(value.starts_with("s-proof="), "{line}");
    assert_eq!(attributes, "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=540");
    assert_eq!(reply.all(CACHE_CONTROL), ["no-store"]);
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    let identifier = browser.identifier.clone().unwrap();
    let expected = json!({
        "session_identifier": identifier,
        "refresh_url": PATH,
        "scope": { "include_site": false, "scope_specification": [] },
        "credentials": [
            { "type": "cookie", "name": PROOF, "attributes": "HttpOnly; SameSite=Lax; Secure; Path=/" }
        ],
    });
    assert_eq!(body, expected);
    let id = bed.see(&browser.session, Session::id).await;
    assert!(!identifier.contains(&id.to_string()));
    assert!(reply.all(CHALLENGE)[0].ends_with(&format!("\";id=\"{identifier}\"")));
    let told = Event::DeviceProved { id, registered: true };
    assert!(bed.events().contains(&told));

    assert_eq!(browser.session.0, before);
    let reply = browser.visit(&bed, |session| assert_eq!(session.device(), DeviceState::Bound)).await;
    assert!(reply.set_cookie().is_some(), "a request that only looks gives it its key");
    assert!(bed.events().contains(&Event::DeviceBound { id }));
    assert_eq!(
        bed.see(&Jar(browser.session.0.clone()), Session::origin).await,
        UNPROVEN,
        "with the proof alone"
    );
    assert_eq!(browser.visit(&bed, |_| ()).await.set_cookie(), None, "once");
}

#[actix_web::test]
async fn without_a_proof_a_bound_session_is_nobodys_and_stays_as_it_is() {
    thefts().await;
}

async fn thefts() {
    let bed = bound();
    let mut browser = Browser::bound(&bed, "ada", &Device::new(1)).await;
    browser.visit(&bed, |session| session.insert("secret", 1).unwrap()).await;
    let thief = Browser { proof: None, ..browser.clone() };
    let works: [fn(&Session); 6] = [
        |_| (),
        |session| session.insert("n", 1).unwrap(),
        Session::clear,
        Session::renew,
        |session| session.set_subject("eve").unwrap(),
        |session| drop(session.csrf_token()),
    ];
    for work in works {
        let reply = thief
            .clone()
            .visit(&bed, move |session| {
                assert_eq!((session.origin(), session.subject(), session.len()), (UNPROVEN, None, 0));
                assert_eq!(session.device(), DeviceState::Free);
                work(session);
            })
            .await;
        let [line] = reply.all(SET_COOKIE)[..] else { panic!("{reply:?}") };
        assert!(line.starts_with("s-proof=; ") && line.contains("Max-Age=0"), "{line}");
        let expected = format!("\";id=\"{}\"", browser.identifier.as_ref().unwrap());
        assert!(reply.all(CHALLENGE)[0].ends_with(&expected), "{reply:?}");
        assert_eq!(reply.all(CACHE_CONTROL), ["no-store"]);
    }
    // Who logs out where the proof has run out is out in this browser, and nowhere else.
    let reply = thief.clone().visit(&bed, Session::destroy).await;
    let removed: Vec<&str> =
        reply.all(SET_COOKIE).iter().map(|line| line.split("; ").next().unwrap()).collect();
    assert_eq!(removed, ["s=", "s-proof="]);
    assert!(reply.all(CHALLENGE).is_empty(), "there is nothing left to prove");
    assert_eq!(bed.rejections(), vec![Rejection::Unproven; 7]);
    // The owner is not disturbed.
    assert_eq!(browser.sees(&bed).await.1.as_deref(), Some("ada"));
    // Whoever logs in has a session of their own.
    let mut other = thief.clone();
    let reply = other.log_in(&bed, "eve").await;
    assert_eq!(reply.all(REGISTRATION).len(), 1);
    assert_eq!(other.sees(&bed).await, (Origin::Resumed, Some("eve".into()), DeviceState::Offered));
    assert!(other.visit(&bed, |session| assert!(!session.contains_key("secret"))).await.status.is_success());
}

#[actix_web::test]
async fn a_proof_is_good_until_its_end_and_for_its_key_alone() {
    let bed = bound();
    let (one, two) = (Device::new(1), Device::new(2));
    let (ada, bob) = (Browser::bound(&bed, "ada", &one).await, Browser::bound(&bed, "bob", &two).await);
    let swapped = Browser { proof: bob.proof.clone(), ..ada.clone() };
    assert_eq!(swapped.sees(&bed).await.0, UNPROVEN, "another's");
    let tampered = Browser { proof: ada.proof.clone().map(|proof| proof.replace('A', "B")), ..ada.clone() };
    assert_eq!(tampered.sees(&bed).await.0, UNPROVEN);
    let of_session = Browser { proof: Some(format!("{PROOF}={}", ada.session.value())), ..ada.clone() };
    assert_eq!(of_session.sees(&bed).await.0, UNPROVEN, "the session's cookie in its place");
    // Of several the good one counts.
    let both = format!("{}; {}", bob.proof.clone().unwrap(), ada.proof.clone().unwrap());
    let both = Browser { proof: Some(both), ..ada.clone() };
    assert_eq!(both.sees(&bed).await.0, Origin::Resumed);
    bed.clock.advance(TEN_MINUTES - MS);
    assert_eq!(ada.sees(&bed).await.0, Origin::Resumed);
    bed.clock.advance(MS);
    assert_eq!(ada.sees(&bed).await.0, UNPROVEN);
}

#[actix_web::test]
async fn a_refresh_moves_the_end_and_takes_one_request() {
    refreshes().await;
}

async fn refreshes() {
    let bed = bound();
    let device = Device::new(1);
    let mut browser = Browser::bound(&bed, "ada", &device).await;
    let thief = browser.clone();
    for _ in 0..20 {
        bed.clock.advance(Duration::from_secs(500));
        let former = browser.proof.clone();
        let reply = browser.refresh(&bed, &device).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.all(SET_COOKIE).len(), 1, "the proof alone");
        assert_ne!(browser.proof, former);
        assert_eq!(browser.sees(&bed).await.0, Origin::Resumed);
    }
    assert_eq!(thief.sees(&bed).await.0, UNPROVEN, "with both cookies from before");
    // Without a challenge at hand it asks for one.
    let reply = browser.refresh_with(&bed, None).await;
    assert_eq!(
        (reply.status, reply.all(SET_COOKIE).len(), reply.all(CHALLENGE).len()),
        (StatusCode::FORBIDDEN, 0, 1)
    );
    assert_eq!(refusals(&bed), [], "that is how it asks");
    assert_eq!(browser.refresh(&bed, &device).await.status, StatusCode::OK);
}

#[actix_web::test]
async fn a_session_that_has_a_key_never_gets_another() {
    second_keys().await;
}

async fn second_keys() {
    let bed = bound();
    let (device, other) = (Device::new(1), Device::new(2));
    let mut browser = Browser::default();
    let reply = browser.log_in(&bed, "ada").await;
    let challenge = quoted(reply.all(REGISTRATION)[0], "challenge=").to_owned();
    browser.register_with(&bed, &device.registration(&challenge)).await;
    browser.visit(&bed, |_| ()).await;
    bed.events();
    let mut thief = browser.clone();
    for by in [&device, &other] {
        let reply = thief.register_with(&bed, &by.registration(&challenge)).await;
        assert_eq!((reply.status, reply.all(SET_COOKIE).len()), (StatusCode::FORBIDDEN, 0));
    }
    assert_eq!(refusals(&bed), [DeviceRefusal::Bound; 2]);
    let reply = browser.log_in(&bed, "ada").await;
    assert!(reply.all(REGISTRATION).is_empty(), "the same user again");
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Bound);
}

#[actix_web::test]
async fn what_is_no_registration_is_refused_by_name_and_tells_nothing() {
    no_registrations().await;
}

async fn no_registrations() {
    let bed = bound();
    let (device, other) = (Device::new(1), Device::new(2));
    let mut browser = Browser::default();
    let reply = browser.log_in(&bed, "ada").await;
    let challenge = quoted(reply.all(REGISTRATION)[0], "challenge=").to_owned();
    let others = Browser::default().log_in(&bed, "bob").await;
    let others = quoted(others.all(REGISTRATION)[0], "challenge=").to_owned();
    let bound = Browser::bound(&bed, "eve", &other).await;
    let payload = json!({ "jti": challenge });
    let head = |alg: &str, typ: &str, jwk: Value| json!({ "alg": alg, "typ": typ, "jwk": jwk });
    let good = device.registration(&challenge);
    let with_key = |change: fn(&mut Value)| {
        let mut jwk = device.jwk();
        change(&mut jwk);
        device.sign(&head("ES256", "dbsc+jwt", jwk), &payload)
    };
    let der = {
        let text = good.rsplit_once('.').unwrap().0;
        let signature: Signature = device.0.sign(text.as_bytes());
        format!("{text}.{}", base64(signature.to_der().as_bytes()))
    };
    let cases = [
        (DeviceRefusal::Missing, None),
        (DeviceRefusal::Malformed, Some(String::new())),
        (DeviceRefusal::Malformed, Some("no.proof".into())),
        (DeviceRefusal::Malformed, Some(format!("{good}."))),
        (DeviceRefusal::Malformed, Some(good.replacen('.', "..", 1))),
        (DeviceRefusal::TooLong, Some("x".repeat(2_049))),
        (DeviceRefusal::Algorithm, Some(device.sign(&head("none", "dbsc+jwt", device.jwk()), &payload))),
        (DeviceRefusal::Algorithm, Some(device.sign(&head("RS256", "dbsc+jwt", device.jwk()), &payload))),
        (DeviceRefusal::Malformed, Some(device.sign(&head("ES256", "jwt", device.jwk()), &payload))),
        (
            DeviceRefusal::Malformed,
            Some(device.sign(
                &json!({ "alg": "ES256", "typ": "dbsc+jwt", "jwk": device.jwk(), "crit": ["b64"] }),
                &payload,
            )),
        ),
        (DeviceRefusal::Malformed, Some(device.sign(&head("ES256", "dbsc+jwt", device.jwk()), &json!({})))),
        (DeviceRefusal::Key, Some(device.proof(&challenge))),
        (DeviceRefusal::Key, Some(with_key(|jwk| jwk["crv"] = "P-384".into()))),
        (DeviceRefusal::Key, Some(with_key(|jwk| jwk["kty"] = "RSA".into()))),
        (DeviceRefusal::Key, Some(with_key(|jwk| jwk["y"] = jwk["x"].clone()))),
        (DeviceRefusal::Key, Some(with_key(|jwk| jwk["x"] = "AAAA".into()))),
        (DeviceRefusal::Challenge, Some(device.registration("made-up"))),
        (DeviceRefusal::Challenge, Some(device.registration(bound.challenge.as_deref().unwrap()))),
        (DeviceRefusal::Challenge, Some(device.registration(browser.session.value()))),
        (DeviceRefusal::OtherSession, Some(device.registration(&others))),
        (DeviceRefusal::Signature, Some(der)),
        (DeviceRefusal::Signature, Some(good.replace(good.rsplit('.').next().unwrap(), &base64([0; 64])))),
        (DeviceRefusal::Signature, Some(other.sign(&head("ES256", "dbsc+jwt", device.jwk()), &payload))),
    ];
    for (reason, proof) in cases {
        let headers: Vec<_> = proof.iter().map(|proof| ("secure-session-response", proof.as_str())).collect();
        bed.events();
        let reply = browser.post(&bed, &headers).await;
        let seen = (reply.status, reply.body.len(), reply.all(SET_COOKIE).len(), reply.all(CHALLENGE).len());
        assert_eq!(seen, (StatusCode::FORBIDDEN, 0, 0, 0), "{reason:?}");
        assert_eq!(refusals(&bed), [reason], "{proof:?}");
    }
    let twice = [("secure-session-response", good.as_str()); 2];
    assert_eq!(browser.post(&bed, &twice).await.status, StatusCode::FORBIDDEN);
    assert_eq!(refusals(&bed), [DeviceRefusal::Duplicate]);
    // Of a cookie that is none, and of somebody who was never offered one.
    let headers = [("secure-session-response", good.as_str())];
    let mut spoilt = browser.clone();
    spoilt.session.0.as_mut().unwrap().pop();
    assert_eq!(spoilt.post(&bed, &headers).await.status, StatusCode::FORBIDDEN);
    assert_eq!(refusals(&bed), [DeviceRefusal::NoSession]);
    let mut free = Browser::default();
    free.visit(&bed, |session| session.insert("n", 1).unwrap()).await;
    assert_eq!(free.post(&bed, &headers).await.status, StatusCode::FORBIDDEN);
    assert_eq!(refusals(&bed), [DeviceRefusal::NotOffered]);
    // In double quotes it is the same.
    let quotes = format!("\"{good}\"");
    let reply = browser.clone().register_with(&bed, &quotes).await;
    assert_eq!(reply.status, StatusCode::OK);
    bed.clock.advance(TEN_MINUTES + 5 * MINUTE);
    bed.events();
    assert_eq!(browser.register_with(&bed, &good).await.status, StatusCode::FORBIDDEN);
    assert_eq!(refusals(&bed), [DeviceRefusal::ChallengeExpired]);
}

#[actix_web::test]
async fn what_is_no_proof_gets_a_challenge_and_nothing_else() {
    no_proofs().await;
}

async fn no_proofs() {
    let bed = bound();
    let (device, other) = (Device::new(1), Device::new(2));
    let mut ada = Browser::default();
    let reply = ada.log_in(&bed, "ada").await;
    let of_registration = quoted(reply.all(REGISTRATION)[0], "challenge=").to_owned();
    let mut ada = Browser::bound(&bed, "ada", &device).await;
    let bob = Browser::bound(&bed, "bob", &other).await;
    let (challenge, others) = (ada.challenge.clone().unwrap(), bob.challenge.clone().unwrap());
    for (reason, proof) in [
        (DeviceRefusal::Signature, other.proof(&challenge)),
        (DeviceRefusal::OtherSession, device.proof(&others)),
        (DeviceRefusal::Challenge, device.proof(&of_registration)),
        (DeviceRefusal::Challenge, device.proof("made-up")),
        (DeviceRefusal::Key, device.registration(&challenge)),
        (
            DeviceRefusal::Algorithm,
            device.sign(&json!({ "alg": "none", "typ": "dbsc+jwt" }), &json!({ "jti": challenge })),
        ),
        (DeviceRefusal::Malformed, "x".into()),
        (DeviceRefusal::TooLong, "x".repeat(4_000)),
    ] {
        bed.events();
        let reply = ada.clone().refresh_with(&bed, Some(&proof)).await;
        let seen = (reply.status, reply.body.len(), reply.all(SET_COOKIE).len(), reply.all(CHALLENGE).len());
        assert_eq!(seen, (StatusCode::FORBIDDEN, 0, 0, 1), "{reason:?}");
        assert_eq!(refusals(&bed), [reason]);
    }
    // A browser's session of another key ends there.
    let mut strange = Browser { identifier: bob.identifier.clone(), ..ada.clone() };
    let reply = strange.refresh_with(&bed, None).await;
    assert_eq!((reply.status, reply.all(CHALLENGE).len()), (StatusCode::FORBIDDEN, 0));
    assert_eq!(refusals(&bed), [DeviceRefusal::OtherKey]);
    for identifier in ["", "x", "\"", &"A".repeat(71), &"A".repeat(5_000)] {
        strange.identifier = Some(identifier.to_owned());
        let reply = strange.refresh_with(&bed, None).await;
        assert_eq!((reply.status, reply.all(CHALLENGE).len()), (StatusCode::FORBIDDEN, 0), "{identifier}");
    }
    bed.clock.advance(TEN_MINUTES + 5 * MINUTE);
    bed.events();
    assert_eq!(ada.refresh_with(&bed, Some(&device.proof(&challenge))).await.status, StatusCode::FORBIDDEN);
    assert_eq!(refusals(&bed), [DeviceRefusal::ChallengeExpired]);
    assert_eq!(ada.refresh(&bed, &device).await.status, StatusCode::OK, "with the fresh one");
}

#[actix_web::test]
async fn a_refresh_says_what_is_over_and_leaves_what_cannot_be_told() {
    let ring = KeyRing::new(key(1));
    let clock = ManualClock::at(start());
    let bed = Bed::on(ring.clone(), clock.clone(), |builder| {
        builder.device_binding(DeviceBinding::WhereOffered).lifetime(Lifetime::new(2 * TEN_MINUTES).fixed())
    });
    let device = Device::new(1);
    let mut browser = Browser::bound(&bed, "ada", &device).await;
    let identifier = browser.identifier.clone().unwrap();
    let over = |reply: &Reply| {
        assert_eq!(reply.status, StatusCode::OK);
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body, json!({ "session_identifier": identifier, "continue": false }));
        let [line] = reply.all(SET_COOKIE)[..] else { panic!("{reply:?}") };
        assert!(line.starts_with("s-proof=; "), "{line}");
    };
    let mut absent = Browser { session: Jar::default(), ..browser.clone() };
    over(&absent.refresh_with(&bed, None).await);
    // Not of this ring, and not whole.
    let elsewhere =
        Bed::on(KeyRing::new(key(2)), clock, |builder| builder.device_binding(DeviceBinding::WhereOffered));
    assert_eq!(browser.clone().refresh_with(&elsewhere, None).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let mut tampered = browser.clone();
    tampered.session.0.as_mut().unwrap().pop();
    assert_eq!(tampered.refresh_with(&bed, None).await.status, StatusCode::SERVICE_UNAVAILABLE);
    // Offered, and not known to have a key.
    let mut offered = Browser { identifier: browser.identifier.clone(), ..Browser::default() };
    offered.log_in(&bed, "bob").await;
    assert_eq!(offered.refresh_with(&bed, None).await.status, StatusCode::SERVICE_UNAVAILABLE);

    bed.clock.advance(2 * TEN_MINUTES);
    over(&browser.clone().refresh_with(&bed, None).await);
    bed.clock.advance(MS);
    ring.rotate(Key::generate()).unwrap();
    ring.revoke(key(1).id()).unwrap();
    over(&browser.refresh_with(&bed, None).await);
}

#[actix_web::test]
async fn what_renews_a_session_leaves_its_proof_and_another_user_gets_nothing_of_it() {
    let ring = KeyRing::new(key(1));
    let bed = Bed::on(ring.clone(), ManualClock::at(start()), |builder| {
        builder.device_binding(DeviceBinding::WhereOffered)
    });
    let device = Device::new(1);
    let mut browser = Browser::bound(&bed, "ada", &device).await;
    let works: [fn(&Session); 3] =
        [Session::renew, |session| session.authenticate("ada").unwrap(), Session::touch];
    for work in works {
        browser.visit(&bed, work).await;
        assert_eq!(browser.sees(&bed).await, (Origin::Resumed, Some("ada".into()), DeviceState::Bound));
        assert_eq!(browser.refresh(&bed, &device).await.status, StatusCode::OK);
    }
    ring.rotate(key(2)).unwrap();
    assert!(browser.visit(&bed, |_| ()).await.set_cookie().is_some(), "sealed anew");
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Bound);
    assert_eq!(browser.refresh(&bed, &device).await.status, StatusCode::OK);

    let reply = browser.visit(&bed, |session| session.set_subject("bob").unwrap()).await;
    assert!(reply.all(REGISTRATION).is_empty());
    assert_eq!(browser.sees(&bed).await, (Origin::Resumed, Some("bob".into()), DeviceState::Bound));
    let thief = Browser { proof: None, ..browser.clone() };
    assert_eq!(thief.sees(&bed).await.0, UNPROVEN, "who goes on as somebody else is on the same device");
    assert_eq!(browser.refresh(&bed, &device).await.status, StatusCode::OK);
    let reply = browser.log_in(&bed, "eve").await;
    assert_eq!(reply.all(REGISTRATION).len(), 1, "offered anew");
    assert_eq!(
        browser.sees(&bed).await.2,
        DeviceState::Offered,
        "the former key's proof is none of this session"
    );
}

#[actix_web::test]
async fn whichever_answer_comes_last_after_a_login_the_session_gets_its_key() {
    let bed = bound();
    let device = Device::new(1);
    let mut browser = Browser::default();
    let reply = browser.log_in(&bed, "ada").await;
    let challenge = quoted(reply.all(REGISTRATION)[0], "challenge=").to_owned();
    let page = browser.visit(&bed, |session| session.insert("n", 1).unwrap()).await;
    browser.register_with(&bed, &device.registration(&challenge)).await;
    browser.visit(&bed, |_| ()).await;
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Bound);
    browser.keep(&page);
    assert_eq!(
        browser.visit(&bed, |_| ()).await.all(SET_COOKIE).len(),
        1,
        "the page was slow, and its cookie has no key"
    );
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Bound);
    // And if the browser slept in between, for longer than the proof.
    browser.keep(&page);
    bed.clock.advance(TEN_MINUTES);
    browser.proof = None;
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Offered);
    assert_eq!(browser.refresh(&bed, &device).await.status, StatusCode::OK, "by what the browser calls it");
    browser.visit(&bed, |_| ()).await;
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Bound);
}

/// As browsers do it after a login that an identity provider has led to: the cookie is `SameSite=Lax`.
#[actix_web::test]
async fn a_registration_without_a_cookie_stands_on_its_challenge_and_gives_nothing_away() {
    let bed = bound();
    let (device, other) = (Device::new(1), Device::new(2));
    let mut browser = Browser::default();
    let reply = browser.log_in(&bed, "ada").await;
    let challenge = quoted(reply.all(REGISTRATION)[0], "challenge=").to_owned();
    let mut without = Browser::default();
    let reply = without.register_with(&bed, &device.registration(&challenge)).await;
    assert_eq!((reply.status, reply.all(SET_COOKIE).len()), (StatusCode::OK, 1));
    browser.proof.clone_from(&without.proof);
    browser.visit(&bed, |_| ()).await;
    assert_eq!(browser.sees(&bed).await, (Origin::Resumed, Some("ada".into()), DeviceState::Bound));
    // The same challenge once more, with another key: a proof that this session does not take.
    let mut thief = Browser { session: browser.session.clone(), ..Browser::default() };
    let mut without = Browser::default();
    without.register_with(&bed, &other.registration(&challenge)).await;
    thief.proof.clone_from(&without.proof);
    assert_eq!(thief.sees(&bed).await.0, UNPROVEN);
    // Nor with what was made up, or is over.
    for wrong in
        [other.registration("made-up"), other.proof(&challenge), device.registration(&challenge) + "A"]
    {
        assert_eq!(Browser::default().register_with(&bed, &wrong).await.status, StatusCode::FORBIDDEN);
    }
    bed.clock.advance(TEN_MINUTES + 5 * MINUTE);
    let reply = Browser::default().register_with(&bed, &device.registration(&challenge)).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
}

#[actix_web::test]
async fn the_end_of_a_session_takes_its_proof_along() {
    let bed = bound();
    let device = Device::new(1);
    let ends: [fn(&Session); 2] = [Session::destroy, |session| session.destroy()];
    for (bound, work) in [true, false].into_iter().zip(ends) {
        let mut browser = match bound {
            true => Browser::bound(&bed, "ada", &device).await,
            false => Browser::registered(&bed, "ada", &device).await,
        };
        let reply = browser.visit(&bed, work).await;
        assert_eq!(reply.all(SET_COOKIE).len(), 2, "{reply:?}");
        assert_eq!((browser.session.0.clone(), browser.proof.clone()), (None, None));
        let reply = browser.refresh_with(&bed, None).await;
        assert!(String::from_utf8(reply.body).unwrap().contains("\"continue\":false"));
    }
    let mut free = bed.logged_in().await;
    assert_eq!(
        bed.visit(&mut free, Session::destroy).await.all(SET_COOKIE).len(),
        1,
        "of one that was never offered"
    );
}

#[actix_web::test]
async fn where_a_device_is_required_a_login_is_good_for_a_quarter_of_an_hour_without() {
    let bed = Bed::with(|builder| builder.device_binding(DeviceBinding::Required));
    let device = Device::new(1);
    let mut browser = Browser::default();
    browser.log_in(&bed, "ada").await;
    let mut prolonged = browser.clone();
    let registered = Browser::registered(&bed, "bob", &device).await;
    let mut anonymous = Browser::default();
    anonymous.visit(&bed, |session| session.insert("cart", 1).unwrap()).await;
    bed.clock.advance(15 * MINUTE - MS);
    for work in [Session::renew, Session::touch] {
        prolonged.visit(&bed, work).await;
    }
    assert_eq!(browser.sees(&bed).await.0, Origin::Resumed);
    bed.clock.advance(MS);
    assert_eq!(browser.sees(&bed).await.0, UNPROVEN);
    assert_eq!(prolonged.sees(&bed).await.0, UNPROVEN, "nothing prolongs that");
    assert_eq!(anonymous.sees(&bed).await.0, Origin::Resumed, "nobody has logged in");
    let reply = browser.visit(&bed, |_| ()).await;
    assert!(reply.all(CHALLENGE).is_empty() && reply.set_cookie().is_none());
    // Who has registered and was away for a while comes back by a refresh.
    let mut late = registered;
    late.proof = None;
    assert_eq!(late.sees(&bed).await.0, UNPROVEN);
    let reply = late.refresh_with(&bed, None).await;
    assert_eq!(reply.all(CHALLENGE).len(), 1);
    assert_eq!(late.refresh(&bed, &device).await.status, StatusCode::OK);
    late.visit(&bed, |_| ()).await;
    assert_eq!(late.sees(&bed).await.2, DeviceState::Bound);
    browser.log_in(&bed, "ada").await;
    assert_eq!(browser.sees(&bed).await.0, Origin::Resumed);
}

#[actix_web::test]
async fn a_session_that_fits_without_its_key_fits_with_it() {
    let device = Device::new(1);
    let bed = bound();
    let mut browser = Browser::default();
    let reply = browser.log_in(&bed, "ada").await;
    let challenge = quoted(reply.all(REGISTRATION)[0], "challenge=").to_owned();
    // As much as goes in.
    browser
        .visit(&bed, |session| {
            let most =
                (0..4_000).rev().find(|len| session.insert("filler", "x".repeat(*len)).is_ok()).unwrap();
            assert!(most > 2_000 && session.insert("filler", "x".repeat(most + 1)).is_err());
        })
        .await;
    browser.register_with(&bed, &device.registration(&challenge)).await;
    let reply = browser.visit(&bed, |_| ()).await;
    let bytes = reply.set_cookie().unwrap().split(';').next().unwrap().len() - 1;
    assert!(bytes <= 4_096, "{bytes}");
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Bound);
}

#[actix_web::test]
async fn switched_off_the_path_is_the_applications_and_bound_sessions_are_free() {
    let (bed, off) = (bound(), Bed::new());
    let mut browser = Browser::bound(&bed, "ada", &Device::new(1)).await;
    let reply = browser.post(&off, &[]).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    browser.proof = None;
    assert_eq!(browser.sees(&off).await, (Origin::Resumed, Some("ada".into()), DeviceState::Bound));
    let reply = browser.log_in(&off, "bob").await;
    assert!(reply.all(REGISTRATION).is_empty() && reply.all(SET_COOKIE).len() == 1);
    // Other methods are the application's as well.
    let handler = async |_| Ok(Answer::new(StatusCode::IM_A_TEAPOT));
    let get = framework::ask_at(Wrapped::Once(&bed.sessions), PATH, &Sent::get(&[]), handler).await;
    assert_eq!(get.status, StatusCode::IM_A_TEAPOT);
}

/// The key that it keeps takes room where nothing is bound any more as well.
#[actix_web::test]
async fn switched_off_a_bound_session_fits_its_cookie_with_its_key() {
    let (bed, off) = (bound(), Bed::new());
    let browser = Browser::bound(&bed, "ada", &Device::new(1)).await;
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let said = std::sync::Arc::clone(&seen);
    let reply = browser
        .clone()
        .visit(&off, move |session| {
            (0..4_000).rev().find(|len| session.insert("filler", "x".repeat(*len)).is_ok()).unwrap();
            *said.lock().unwrap() = Some(session.placement());
        })
        .await;
    let bytes = reply.set_cookie().unwrap().split(';').next().unwrap().len() - 1;
    assert!(bytes <= 4_096, "{bytes}");
    assert_eq!(*seen.lock().unwrap(), Some(sealed_session::Placement::Cookie { bytes }));
}

/// Or a binding that is switched on takes the last bytes of sessions, and nothing in them can be changed any more.
#[actix_web::test]
async fn what_is_larger_than_permitted_by_now_can_be_made_smaller() {
    let (before, after) = (Bed::new(), bound());
    let mut jar = before.logged_in().await;
    let fill = |session: &Session| {
        (0..4_000).rev().find(|len| session.insert("filler", "x".repeat(*len)).is_ok()).unwrap();
    };
    before.visit(&mut jar, fill).await;
    let session = after.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    let len = session.get::<String>("filler").unwrap().unwrap().len();
    assert!(session.insert("filler", "x".repeat(len + 1)).is_err());
    assert!(session.insert("other", 1).is_err());
    session.insert("filler", "y".repeat(len)).unwrap();
    session.insert("filler", "y".repeat(len - 1)).unwrap();
    assert_eq!(session.increment("n", 1).unwrap(), 2);
    let lines = after.sessions.commit(&session, sealed_session::CommitContext::default()).await.unwrap();
    assert!(lines[0].split(';').next().unwrap().len() - 1 <= 4_096);
    session.get::<String>("filler").unwrap().unwrap();
}

#[actix_web::test]
async fn another_sites_page_cannot_use_the_path_and_the_browsers_own_request_needs_no_origin() {
    let bed = bound();
    let device = Device::new(1);
    let mut browser = Browser::bound(&bed, "ada", &device).await;
    let identifier = browser.identifier.clone().unwrap();
    let from_elsewhere = [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")];
    let mut offered = Browser::default();
    offered.log_in(&bed, "bob").await;
    for (browser, reason) in [(&browser, DeviceRefusal::Bound), (&offered, DeviceRefusal::Missing)] {
        bed.events();
        let reply = browser.post(&bed, &from_elsewhere).await;
        assert_eq!((reply.status, reply.all(SET_COOKIE).len()), (StatusCode::FORBIDDEN, 0));
        assert_eq!(refusals(&bed), [reason], "without a challenge there is nothing to be had");
    }
    let proof = device.proof(browser.challenge.as_ref().unwrap());
    let own = [
        ("sec-fetch-site", "cross-site"),
        ("sec-secure-session-id", identifier.as_str()),
        ("secure-session-response", &proof),
    ];
    let reply = browser.post(&bed, &own).await;
    assert_eq!(reply.status, StatusCode::OK);
    browser.keep(&reply);
}

/// Nothing but a login does anything to a session whose device has not proved itself, also where the store knows of it.
#[cfg(feature = "memory")]
#[actix_web::test]
async fn with_a_store_an_unproven_session_is_neither_ended_nor_used() {
    let bed = Bed::stored(|builder| builder.device_binding(DeviceBinding::WhereOffered));
    let device = Device::new(1);
    for large in [false, true] {
        let mut browser = Browser::bound(&bed, "ada", &device).await;
        let text = "x".repeat(if large { 5_000 } else { 5 });
        browser.visit(&bed, move |session| session.insert("cart", &text).unwrap()).await;
        let mut thief = Browser::default();
        bed.clock.advance(MINUTE);
        thief.log_in(&bed, "eve").await;
        // Both cookies in one request, the thief's the newer one: its logout ends its own session alone.
        let both = format!("{}; {}", browser.session.0.as_ref().unwrap(), thief.session.0.as_ref().unwrap());
        bed.raw(&[both.as_bytes()], |session| {
            assert_eq!(session.subject().as_deref(), Some("eve"));
            session.destroy();
        })
        .await;
        let unproven = Browser { proof: None, ..browser.clone() };
        unproven.clone().visit(&bed, Session::destroy).await;
        assert_eq!(browser.sees(&bed).await.1.as_deref(), Some("ada"), "large: {large}");
        assert_eq!(thief.sees(&bed).await.0, Origin::Rejected(Rejection::Revoked));
        // The path of the binding is no use of the session.
        let seen = async || bed.sessions.of("ada").await.unwrap()[0].seen_at;
        let before = seen().await;
        bed.clock.advance(2 * 60 * MINUTE);
        bed.events();
        unproven.clone().refresh_with(&bed, None).await;
        assert!(bed.events().iter().all(|event| !matches!(event, Event::Resumed { .. })));
        assert_eq!(seen().await, before);
        // With its proof it ends.
        assert_eq!(browser.refresh_with(&bed, None).await.status, StatusCode::FORBIDDEN);
        assert_eq!(browser.refresh(&bed, &device).await.status, StatusCode::OK);
        let before = browser.clone();
        browser.visit(&bed, Session::destroy).await;
        assert_eq!(before.sees(&bed).await.0, Origin::Rejected(Rejection::Revoked));
    }
}

#[actix_web::test]
async fn where_a_device_is_required_it_is_also_where_nobody_can_be_asked_for_it() {
    let bed = Bed::with(|builder| builder.device_binding(DeviceBinding::Required));
    let session = bed.sessions.load::<&str>([]).await.unwrap();
    session.authenticate("ada").unwrap();
    let lines = bed.sessions.commit(&session, sealed_session::CommitContext::default()).await.unwrap();
    let cookie = lines[0].split(';').next().unwrap().to_owned();
    let mut browser = Browser { session: Jar(Some(cookie)), ..Browser::default() };
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Offered);
    bed.clock.advance(10 * MINUTE);
    browser.visit(&bed, |session| session.set_subject("bob").unwrap()).await;
    bed.clock.advance(15 * MINUTE - MS);
    assert_eq!(browser.sees(&bed).await.0, Origin::Resumed);
    bed.clock.advance(MS);
    assert_eq!(browser.sees(&bed).await.0, UNPROVEN, "nor does going on as somebody else free it");
}

#[actix_web::test]
async fn a_setting_of_a_binding_that_is_off_is_refused_by_its_name() {
    type Set = fn(SessionsBuilder) -> SessionsBuilder;
    let settings: [(&str, Set); 2] = [
        ("device_binding_path", |builder| builder.device_binding_path("/devices")),
        ("proof_lifetime", |builder| builder.proof_lifetime(Duration::from_secs(600))),
    ];
    for (name, set) in settings {
        let refused = set(Sessions::builder(KeyRing::new(Key::generate()))).build().unwrap_err();
        assert!(
            matches!(refused, ConfigError::NeedsDeviceBinding { setting } if setting == name),
            "{refused}"
        );
    }
}

#[actix_web::test]
async fn names_and_paths_follow_the_cookie() {
    let device = |builder: SessionsBuilder| builder.device_binding(DeviceBinding::WhereOffered);
    for (name, path, at, proof) in [
        ("__Host-Http-session", "/", "/device-binding/__Host-Http-session", "__Host-session-proof"),
        ("__Http-session", "/app", "/app/device-binding/__Http-session", "__Http-session-proof"),
        ("session", "/app/", "/app/device-binding/session", "session-proof"),
    ] {
        let bed = Bed::with(|builder| device(builder.cookie_name(name).path(path)));
        let reply = bed.raw(&[], |session| session.authenticate("ada").unwrap()).await;
        let line = reply.all(REGISTRATION)[0].to_owned();
        assert_eq!(quoted(&line, "path="), at);
        let cookie = reply.all(SET_COOKIE)[0].split(';').next().unwrap().to_owned();
        let jws = Device::new(1).registration(quoted(&line, "challenge="));
        let headers = vec![("cookie", cookie.as_bytes()), ("secure-session-response", jws.as_bytes())];
        let handler = async |_| Ok(Answer::new(StatusCode::NOT_FOUND));
        let reply =
            framework::ask_at(Wrapped::Once(&bed.sessions), at, &Sent { method: "POST", headers }, handler)
                .await;
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["credentials"][0]["name"], proof);
        assert!(reply.all(SET_COOKIE)[0].starts_with(&format!("{proof}=")));
        let rules = body["scope"]["scope_specification"].as_array().unwrap();
        match path {
            "/" => assert!(rules.is_empty()),
            path => assert_eq!((&rules[1]["type"], &rules[1]["path"]), (&json!("include"), &json!(path))),
        }
    }
}

#[actix_web::test]
async fn scopes_have_a_path_and_a_proof_each() {
    let device = |builder: SessionsBuilder| builder.device_binding(DeviceBinding::WhereOffered);
    let (site, admin) = (Bed::with(device), Bed::with(|builder| device(builder.cookie_name("admin"))));
    let wrapped = Wrapped::Scoped { site: &site.sessions, of_admin: &admin.sessions };
    let both = async |request: crate::support::Request| {
        futures_of(request.session()).authenticate("ada").unwrap();
        futures_of(request.admin_session()).authenticate("root").unwrap();
        Ok(Answer::ok())
    };
    let reply = framework::ask_with(wrapped, &Sent::get(&[]), both).await;
    let mut paths: Vec<_> = reply.all(REGISTRATION).into_iter().map(|line| quoted(line, "path=")).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/device-binding/admin", PATH]);
    let refused = async |_| Ok(Answer::new(StatusCode::NOT_FOUND));
    for path in paths {
        let sent = Sent { method: "POST", headers: Vec::new() };
        assert_eq!(
            framework::ask_at(wrapped, path, &sent, refused).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
}

/// Browsers fetch no proof for what another site begins.
#[actix_web::test]
async fn a_link_from_another_site_that_comes_without_a_proof_is_loaded_again_by_our_own_page() {
    let bed = bound();
    let mut browser = Browser::bound(&bed, "ada", &Device::new(1)).await;
    let linked = [("sec-fetch-mode", "navigate"), ("sec-fetch-site", "cross-site")];
    let ask = async |browser: &Browser, method: &'static str, headers: &[(&'static str, &'static str)]| {
        let cookies = browser.cookies();
        let mut sent = Sent::get(&cookies);
        sent.method = method;
        sent.headers.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        let guard = LoginGuard::new("/login").unwrap();
        let inside = async |_| Ok(Answer::ok().body("inside"));
        framework::ask_behind(guard, Wrapped::Once(&bed.sessions), "/orders", &sent, inside).await
    };
    assert_eq!(ask(&browser, "GET", &linked).await.body, b"inside");
    bed.clock.advance(TEN_MINUTES);
    let reply = ask(&browser, "GET", &linked).await;
    assert_eq!((reply.status, &*reply.body), (StatusCode::OK, &b""[..]));
    assert_eq!((reply.all(REFRESH), reply.all(CONTENT_TYPE)), (vec!["0"], vec!["text/html"]));
    assert_eq!((reply.all(CACHE_CONTROL), reply.all(CHALLENGE).len()), (vec!["no-store"], 1));
    assert!(reply.all(SET_COOKIE)[0].starts_with("s-proof=;"), "so that the browser fetches one");

    // Everything else is sent to log in, and cannot go round in a circle.
    let own = [("sec-fetch-mode", "navigate"), ("sec-fetch-site", "same-origin")];
    let old = [("accept", "text/html")];
    let cases: [(&'static str, &[(&'static str, &'static str)]); 4] =
        [("GET", &own), ("GET", &old), ("POST", &linked), ("HEAD", &linked)];
    for (method, headers) in cases {
        let reply = ask(&browser, method, headers).await;
        assert!(
            matches!(reply.status, StatusCode::SEE_OTHER | StatusCode::FORBIDDEN),
            "{method} {headers:?}"
        );
    }
    let reply = ask(&Browser::default(), "GET", &linked).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "who is not logged in has to");
    browser.session = Jar(Some("s=forged".into()));
    assert_eq!(ask(&browser, "GET", &linked).await.status, StatusCode::SEE_OTHER);
}
