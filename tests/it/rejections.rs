//! Why a cookie was refused, and when it is removed from the browser.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sealed_session::{End, KeyRing, Lifetime, Origin, Rejection, Session};

use crate::support::{Bed, DAY, MINUTE, MS, key};

const ABSENT: Option<&str> = None;

/// A cookie that was altered after it was decoded.
fn altered(good: &str, alter: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(good.strip_prefix("s=").unwrap()).unwrap();
    alter(&mut bytes);
    format!("s={}", URL_SAFE_NO_PAD.encode(bytes))
}

#[actix_web::test]
async fn every_reason_is_told_by_the_origin_and_by_exactly_one_event_and_only_some_remove_the_cookie() {
    let ring = || KeyRing::new(key(1));
    let bed = Bed::with(|builder| builder.lifetime(Lifetime::new(DAY).absolute(2 * DAY).idle(DAY / 2)));
    let good = bed.logged_in().await.0.unwrap();
    let foreign = Bed::on(KeyRing::new(key(7)), bed.clock.clone(), |b| b).logged_in().await.0.unwrap();
    let now = sealed_session::Clock::now(&bed.clock);
    let lifetimes = [
        (End::Duration, Lifetime::new(MINUTE)),
        (End::Absolute, Lifetime::new(DAY).absolute(MINUTE)),
        (End::Idle, Lifetime::new(DAY).idle(MINUTE)),
    ];

    let mut cases = vec![
        (now, "s=garbage".to_owned(), Rejection::Malformed, true),
        (now, "s=".to_owned(), Rejection::Malformed, true),
        (now, good[..good.len() - 1].to_owned(), Rejection::Malformed, true),
        (now, altered(&good, |b| b[0] = 9), Rejection::UnknownSuite(9), false),
        (now, foreign, Rejection::UnknownKey(key(7).id()), false),
        (now, altered(&good, |b| *b.last_mut().unwrap() ^= 1), Rejection::Tampered, true),
        (now - 2 * MINUTE, good.clone(), Rejection::Future, false),
    ];
    for (end, lifetime) in lifetimes {
        let own = Bed::on(ring(), bed.clock.clone(), |b| b.lifetime(lifetime)).logged_in().await.0.unwrap();
        cases.push((now + 2 * MINUTE, own.clone(), Rejection::Expired(end), false));
        cases.push((now + 2 * MINUTE + MS, own, Rejection::Expired(end), true));
        // A node that gives longer has issued it, and may go on with it.
        cases.push((now + 2 * MINUTE + MS, good.clone(), Rejection::Expired(end), false));
    }
    for (at, cookie, reason, removed) in cases {
        let lifetime = match reason {
            Rejection::Expired(wanted) => lifetimes.iter().find(|(end, _)| *end == wanted).unwrap().1,
            _ => Lifetime::new(DAY),
        };
        let node = Bed::on(ring(), bed.clock.clone(), |builder| builder.lifetime(lifetime));
        node.clock.set(at);
        let what = format!("{reason:?} {cookie}");
        let look = move |session: &Session| {
            assert_eq!(session.origin(), Origin::Rejected(reason));
            assert!(session.is_empty() && session.subject().is_none());
        };
        let reply = node.raw(&[cookie.as_bytes()], look).await;
        assert_eq!(reply.removes(), removed, "{what}");
        assert_eq!(reply.set_cookie().is_some(), removed, "{what}");
        assert_eq!(node.rejections(), [reason], "{what}");

        let beside = format!("{cookie}; s=another");
        assert_eq!(node.raw(&[beside.as_bytes()], |_| {}).await.set_cookie(), ABSENT, "of two: {what}");
        let reply = node.raw(&[cookie.as_bytes()], |session| session.insert("n", 1).unwrap()).await;
        assert!(reply.set_cookie().is_some() && !reply.removes(), "a write replaces it: {what}");
        let reply = node.raw(&[cookie.as_bytes()], Session::destroy).await;
        assert!(reply.removes(), "an explicit destroy removes it: {what}");
    }
}

#[actix_web::test]
async fn of_several_refused_cookies_the_one_that_came_furthest_is_told() {
    let bed = Bed::new();
    let good = bed.logged_in().await.0.unwrap();
    let tampered = altered(&good, |b| b[60] ^= 1);
    for header in [format!("s=x; {tampered}"), format!("{tampered}; s=x")] {
        let look = |session: &Session| assert_eq!(session.origin(), Origin::Rejected(Rejection::Tampered));
        assert_eq!(bed.raw(&[header.as_bytes()], look).await.set_cookie(), None);
        assert_eq!(bed.rejections(), [Rejection::Tampered]);
    }
}

#[test]
fn each_reason_has_a_stable_word() {
    for (reason, word) in [
        (Rejection::Malformed, "malformed"),
        (Rejection::UnknownSuite(2), "unknown_suite"),
        (Rejection::UnknownKey(key(1).id()), "unknown_key"),
        (Rejection::Tampered, "tampered"),
        (Rejection::Expired(End::Idle), "expired"),
        (Rejection::Future, "future"),
    ] {
        assert_eq!(reason.as_str(), word);
    }
}
