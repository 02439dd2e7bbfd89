//! Sessions that are bound to a device, with a store: what is said there is true of every cookie that they have had.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::SET_COOKIE;
use sealed_session::store::Store as _;
use sealed_session::{
    CommitContext, CommitError, DeviceBinding, DeviceState, Event, FailurePolicy, KeyRing, Lifetime, Origin,
    Overflow, Placement, Rejection, Revocation, Session, SessionsBuilder,
};

use crate::device_binding::{Browser, CHALLENGE, Device, REGISTRATION, UNPROVEN, quoted};
use crate::spy::{Fate, Spy, guarded, other_node, status};
use crate::support::{Answer, Bed, DAY, Jar, MINUTE, MS, Reply, key, now};

const REVOKED: Origin = Origin::Rejected(Rejection::Revoked);

fn offered(builder: SessionsBuilder) -> SessionsBuilder {
    builder.device_binding(DeviceBinding::WhereOffered)
}

/// Two nodes over one store.
fn nodes() -> (Bed, Bed, Arc<Spy>) {
    let (bed, spy) = guarded(offered);
    let node = other_node(&bed, &spy, offered);
    (bed, node, spy)
}

/// A browser that has copied the session's cookie, and no proof.
fn copy(browser: &Browser) -> Browser {
    Browser { session: browser.session.clone(), ..Browser::default() }
}

fn large(session: &Session) {
    session.insert("large", "x".repeat(5_000)).unwrap();
}

async fn placement(bed: &Bed, browser: &Browser) -> bool {
    let seen = Arc::new(std::sync::Mutex::new(None));
    let out = Arc::clone(&seen);
    browser.clone().visit(bed, move |session| *out.lock().unwrap() = Some(session.placement())).await;
    let placement = seen.lock().unwrap().take().unwrap();
    matches!(placement, Placement::Store { .. })
}

#[actix_web::test]
async fn a_copy_from_before_the_binding_is_nobodys_here_at_once_and_elsewhere_within_the_time() {
    for in_store in [false, true] {
        let (bed, node, spy) = nodes();
        let device = Device::new(1);
        let mut browser = Browser::registered(&bed, "ada", &device).await;
        if in_store {
            let mut unbound = copy(&browser);
            unbound.visit(&bed, large).await;
            browser.session = unbound.session;
        }
        let thief = copy(&browser);
        for at in [&bed, &node] {
            assert_eq!(thief.sees(at).await, (Origin::Resumed, Some("ada".into()), DeviceState::Offered));
        }
        spy.calls();
        browser.visit(&bed, |_| ()).await;
        // A row for one in its cookie; the one that is there says it otherwise.
        let calls: &[&str] = if in_store { &["load", "write"] } else { &["write"] };
        assert_eq!(spy.calls(), calls);
        bed.events();

        assert_eq!(thief.sees(&bed).await, (UNPROVEN, None, DeviceState::Free));
        let reply = thief.clone().visit(&bed, |_| ()).await;
        // Where the row is read the browser is asked for what the owner has.
        assert_eq!(reply.all(CHALLENGE).len(), usize::from(in_store));
        assert_eq!(reply.set_cookie(), None);
        // The other node has asked a moment ago, unless it reads the row anyway.
        let elsewhere = if in_store { UNPROVEN } else { Origin::Resumed };
        assert_eq!(thief.sees(&node).await.0, elsewhere);
        node.clock.advance(MINUTE);
        assert_eq!(thief.sees(&node).await.0, UNPROVEN);

        for at in [&bed, &node] {
            assert_eq!(browser.sees(at).await, (Origin::Resumed, Some("ada".into()), DeviceState::Bound));
            // An older cookie with the proof is the owner's: a late answer has brought it.
            let late = Browser { session: thief.session.clone(), ..browser.clone() };
            assert_eq!(late.sees(at).await.2, DeviceState::Bound);
            // Without one the browser is given another, and told of no end.
            let mut without = Browser { proof: None, ..late };
            assert_eq!(without.refresh_with(at, None).await.status, StatusCode::FORBIDDEN);
            assert_eq!(without.refresh(at, &device).await.status, StatusCode::OK);
            assert_eq!(without.sees(at).await.2, DeviceState::Bound);
        }
        assert_eq!(placement(&node, &browser).await, in_store);
        bed.clock.advance(20 * MINUTE);
        assert_eq!(browser.refresh_with(&bed, None).await.status, StatusCode::FORBIDDEN);
        assert_eq!(browser.refresh(&bed, &device).await.status, StatusCode::OK);
        assert_eq!(browser.sees(&node).await.0, Origin::Resumed);
    }
}

#[actix_web::test]
async fn a_bound_session_costs_the_store_what_any_other_does() {
    let (bed, _, spy) = nodes();
    let mut browser = Browser::bound(&bed, "ada", &Device::new(1)).await;
    bed.clock.advance(2 * MINUTE);
    spy.calls();
    browser.visit(&bed, |session| session.insert("n", 1).unwrap()).await;
    assert_eq!(spy.calls(), ["load", "load"], "the session and the subject");
    browser.visit(&bed, |session| session.insert("n", 2).unwrap()).await;
    assert_eq!(spy.calls(), [""; 0], "and not again within the time");
}

#[actix_web::test]
async fn a_session_that_is_bound_takes_its_key_along_into_the_store() {
    let (bed, node, _) = nodes();
    let device = Device::new(1);
    let mut browser = Browser::registered(&bed, "ada", &device).await;
    let before = copy(&browser);
    browser.visit(&bed, |_| ()).await;
    browser.visit(&bed, large).await;
    assert!(placement(&bed, &browser).await);
    for at in [&bed, &node] {
        assert_eq!(before.sees(at).await.0, UNPROVEN);
        assert_eq!(copy(&browser).sees(at).await.0, UNPROVEN);
        assert_eq!(browser.sees(at).await.2, DeviceState::Bound);
    }
    // Written again, and emptied, it says so still.
    browser.visit(&node, |session| session.insert("n", 1).unwrap()).await;
    browser.visit(&node, |session| assert!(session.remove("large"))).await;
    assert_eq!(before.sees(&bed).await.0, UNPROVEN);
    // Back in a cookie it has another id, of which there is no cookie from before.
    browser.visit(&node, Session::renew).await;
    assert!(!placement(&node, &browser).await);
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Bound);
    assert_eq!(before.sees(&bed).await.0, REVOKED);
}

#[actix_web::test]
async fn who_has_moved_the_session_meanwhile_loses_nothing_and_the_key_is_said_there() {
    for moves_first in [true, false] {
        let (bed, node, spy) = nodes();
        let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
        let before = copy(&browser);
        let (mut slow, mut quick) = (before.clone(), browser.clone());
        // Both requests began with the cookie of the login; one of them without the proof.
        if moves_first {
            slow.visit(&node, large).await;
            quick.visit(&bed, |session| session.insert("n", 1).unwrap()).await;
        } else {
            assert_eq!(before.sees(&node).await.0, Origin::Resumed);
            quick.visit(&bed, |session| session.insert("n", 1).unwrap()).await;
            slow.visit(&node, large).await;
        }
        spy.calls();
        for answer in [slow.session, quick.session] {
            browser.session = answer;
            assert_eq!(copy(&browser).sees(&bed).await.0, UNPROVEN, "{moves_first}");
            let seen = browser.sees(&node).await;
            assert_eq!(seen, (Origin::Resumed, Some("ada".into()), DeviceState::Bound), "{moves_first}");
            assert!(placement(&bed, &browser).await, "{moves_first}");
        }
        assert_eq!(before.sees(&bed).await.0, UNPROVEN);
    }
}

#[actix_web::test]
async fn a_request_that_began_before_the_binding_writes_its_data_and_leaves_the_key() {
    let (bed, node, _) = nodes();
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let mut unbound = copy(&browser);
    unbound.visit(&bed, large).await;
    browser.session = unbound.session;
    let before = copy(&browser);
    let late = node.sessions.load(before.cookies()).await.unwrap();
    late.insert("late", 1).unwrap();
    browser.visit(&bed, |session| session.insert("mine", 1).unwrap()).await;
    node.sessions.commit(&late, CommitContext::default()).await.unwrap();
    assert_eq!(before.sees(&node).await.0, UNPROVEN);
    browser.visit(&node, |session| assert_eq!(session.keys(), ["large", "late", "mine"])).await;
}

/// Whoever logs in as somebody else ends nobody's session that is on another device, whenever that was said of it.
#[actix_web::test]
async fn a_login_leaves_a_session_alone_that_is_bound_in_this_moment_and_begins_another() {
    for (in_store, here) in [(false, false), (false, true), (true, false), (true, true)] {
        let (bed, node, spy) = nodes();
        let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
        if in_store {
            let mut unbound = copy(&browser);
            unbound.visit(&bed, large).await;
            browser.session = unbound.session;
        }
        let at = if here { &bed } else { &node };
        let late = at.sessions.load(copy(&browser).cookies()).await.unwrap();
        late.authenticate("bob").unwrap();
        late.insert("his", 1).unwrap();
        let owner = bed.sessions.clone();
        let cookies: Vec<Vec<u8>> = browser.cookies().into_iter().map(<[u8]>::to_vec).collect();
        let bound = Arc::new(std::sync::Mutex::new(Vec::new()));
        let out = Arc::clone(&bound);
        spy.before("write", move || {
            let session = now(owner.load(&cookies)).unwrap();
            *out.lock().unwrap() = now(owner.commit(&session, CommitContext::default())).unwrap();
        });
        let lines = at.sessions.commit(&late, CommitContext::default()).await.unwrap();
        let jar = |lines: &[String]| Jar(Some(lines[0].split(';').next().unwrap().to_owned()));
        let bob = Browser { session: jar(&lines), ..Browser::default() };
        browser.session = jar(&bound.lock().unwrap());
        let told = format!("in store {in_store}, here {here}");
        let untrue = |event: &Event| {
            matches!(event, Event::Returned { .. } | Event::Ended { .. } | Event::Lost { .. })
        };
        let events = at.events();
        assert!(!events.iter().any(untrue), "{told}: {events:?}");
        for asked in [&bed, &node] {
            assert_eq!(bob.sees(asked).await.1.as_deref(), Some("bob"), "{told}");
            let seen = browser.sees(asked).await;
            assert_eq!(seen, (Origin::Resumed, Some("ada".into()), DeviceState::Bound), "{told}");
            asked.clock.advance(MINUTE);
        }
        assert_eq!(copy(&browser).sees(at).await.0, UNPROVEN, "{told}");
        bob.clone().visit(&bed, |session| assert_eq!(session.keys(), ["his"])).await;
        assert_eq!(placement(&bed, &browser).await, in_store, "{told}");
        for user in ["ada", "bob"] {
            assert_eq!(bed.sessions.of(user).await.unwrap().len(), 1, "{told}: {user}");
        }
    }
}

/// Registers a device with the challenge of this login.
async fn register(browser: &mut Browser, bed: &Bed, login: &Reply, device: &Device) -> StatusCode {
    let challenge = quoted(login.all(REGISTRATION)[0], "challenge=").to_owned();
    browser.register_with(bed, &device.registration(&challenge)).await.status
}

#[actix_web::test]
async fn of_two_devices_the_first_has_the_session() {
    let (bed, node, _) = nodes();
    let (owner, foreign) = (Device::new(1), Device::new(2));
    let mut browser = Browser::default();
    let login = browser.log_in(&bed, "ada").await;
    let mut thief = browser.clone();
    assert_eq!(register(&mut browser, &bed, &login, &owner).await, StatusCode::OK);
    assert_eq!(register(&mut thief, &bed, &login, &foreign).await, StatusCode::OK);
    // The other node has not heard of it, and writes no key over the first one.
    assert_eq!(copy(&thief).sees(&node).await.2, DeviceState::Offered);
    browser.visit(&bed, |_| ()).await;
    assert_eq!(thief.visit(&node, |_| ()).await.set_cookie(), None);
    node.clock.advance(MINUTE);
    for at in [&bed, &node] {
        assert_eq!(thief.sees(at).await.0, UNPROVEN);
        assert_eq!(browser.sees(at).await.2, DeviceState::Bound);
    }
    // Nor does a session that is bound get another key, also where the cookie does not say that it is.
    let mut again = Browser { session: thief.session.clone(), ..Browser::default() };
    assert_eq!(register(&mut again, &bed, &login, &foreign).await, StatusCode::FORBIDDEN);
    // The owner's browser registers once more, with its key lost: it has to log in again.
    browser.proof = None;
    assert_eq!(browser.sees(&bed).await.0, UNPROVEN);
}

#[actix_web::test]
async fn no_copy_gets_past_the_binding_on_a_node_that_has_not_heard_of_it() {
    type Work = fn(&Session);
    let works: [(&str, Work); 5] = [
        ("prolong", |_| ()),
        ("touch", Session::touch),
        ("renew", Session::renew),
        ("large", large),
        ("bob", |session| session.set_subject("bob").unwrap()),
    ];
    let short = |builder: SessionsBuilder| {
        let lifetime = Lifetime::new(5 * MINUTE).active(3 * MINUTE).without_absolute();
        offered(builder.lifetime(lifetime))
    };
    for (what, work) in works {
        let (bed, spy) = guarded(short);
        let node = other_node(&bed, &spy, short);
        let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
        let before = copy(&browser);
        bed.clock.advance(4 * MINUTE);
        assert_eq!(before.sees(&node).await.0, Origin::Resumed);
        browser.visit(&bed, |_| ()).await;
        let mut thief = before.clone();
        let code = status(&node, &mut thief.session, work).await;
        let ends = matches!(what, "renew" | "bob");
        assert_eq!(code == StatusCode::SERVICE_UNAVAILABLE, ends, "{what}: {code}");
        assert_eq!(thief.session.0 == before.session.0, what != "large", "{what}");
        bed.clock.advance(MINUTE - MS);
        for copied in [&thief, &before] {
            assert!(matches!(copied.sees(&node).await.0, Origin::Rejected(_)), "{what}");
        }
        for at in [&bed, &node] {
            assert_eq!(browser.sees(at).await.1.as_deref(), Some("ada"), "{what}");
        }
        assert_eq!(bed.sessions.of("ada").await.unwrap().len(), 1, "{what}");
    }
}

#[actix_web::test]
async fn a_copys_login_begins_another_session_and_ends_the_one_that_it_was_of() {
    for heard in [false, true] {
        let (bed, node, _) = nodes();
        let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
        let before = copy(&browser);
        assert_eq!(before.sees(&node).await.0, Origin::Resumed);
        browser.visit(&bed, |session| session.insert("secret", 1).unwrap()).await;
        browser.visit(&bed, large).await;
        let mut other = before.clone();
        let at = if heard { &bed } else { &node };
        assert_eq!(before.sees(at).await.0 == UNPROVEN, heard);
        other
            .visit(at, |session| {
                session.authenticate("ada").unwrap();
                session.insert("n", 1).unwrap();
            })
            .await;
        other.visit(&bed, |session| assert_eq!(session.keys(), ["n"])).await;
        assert_eq!(browser.sees(&bed).await.0, REVOKED, "{heard}");
        assert_eq!(bed.sessions.of("ada").await.unwrap().len(), 1, "{heard}");
    }
}

#[actix_web::test]
async fn a_login_where_the_key_was_lost_takes_the_place_of_the_session_that_it_was_of() {
    for (overflow, large_one) in
        [(Overflow::Refuse, false), (Overflow::Refuse, true), (Overflow::EndOldest, true)]
    {
        let (bed, _) = guarded(|builder| offered(builder).max_sessions(1, overflow));
        let mut browser = Browser::bound(&bed, "ada", &Device::new(1)).await;
        browser
            .visit(&bed, move |session| {
                session.insert("secret", "x".repeat(if large_one { 5_000 } else { 1 })).unwrap()
            })
            .await;
        // So that the row is as new as the cookie.
        browser.visit(&bed, |session| session.insert("n", 1).unwrap()).await;
        let bound = browser.clone();
        browser.proof = None;
        assert_eq!(browser.sees(&bed).await.0, UNPROVEN);
        let session = bed.sessions.load(bound.session.0.iter()).await.unwrap();
        assert!(bed.sessions.has_room("ada", &session).await.unwrap());
        let reply = browser.log_in(&bed, "ada").await;
        assert_eq!(reply.all(REGISTRATION).len(), 1, "the new session is offered anew");
        browser.visit(&bed, |session| assert!(session.is_empty())).await;
        assert_eq!(bound.sees(&bed).await.0, REVOKED);
        assert_eq!(bed.sessions.of("ada").await.unwrap().len(), 1);
        // Another user's login ends nothing of hers.
        let mut guest = Browser { proof: None, ..Browser::bound(&bed, "bob", &Device::new(2)).await };
        let bobs = guest.session.clone();
        guest.log_in(&bed, "eve").await;
        assert_eq!(bed.sessions.of("bob").await.unwrap().len(), 1);
        assert_eq!(Browser { session: bobs, ..Browser::default() }.sees(&bed).await.0, UNPROVEN);
    }
}

#[actix_web::test]
async fn while_the_store_is_down_a_session_is_not_bound_yet_and_goes_on() {
    for fate in [Fate::Fails, Fate::TimesOut, Fate::AppliedButTimesOut] {
        for writes in [false, true] {
            let (bed, _, spy) = nodes();
            let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
            bed.events();
            // What was written all the same is found, if the store can be asked for it.
            spy.next([fate, if fate == Fate::Fails { Fate::Passes } else { Fate::Fails }]);
            let reply = browser
                .visit(&bed, move |session| {
                    if writes {
                        session.insert("n", 1).unwrap();
                    }
                })
                .await;
            spy.passes_all();
            assert_eq!(reply.status, StatusCode::OK);
            assert!(writes || !reply.removes());
            assert!(bed.events().iter().all(|event| !matches!(event, Event::DeviceBound { .. })));
            if writes {
                browser.visit(&bed, |session| assert_eq!(session.get("n").unwrap(), Some(1))).await;
            }
            let other = other_node(&bed, &spy, offered);
            browser.visit(&other, |session| assert_eq!(session.device(), DeviceState::Bound)).await;
            assert!(
                other.events().iter().any(|event| matches!(event, Event::DeviceBound { .. })),
                "{fate:?}"
            );
            assert_eq!(copy(&browser).sees(&other).await.0, UNPROVEN);
        }
    }
}

#[actix_web::test]
async fn a_bound_session_ends_like_any_other() {
    for way in 0..5 {
        let (bed, node, _) = nodes();
        let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
        let before = copy(&browser);
        browser.visit(&bed, |_| ()).await;
        let bound = browser.clone();
        let id = bed.sessions.load(bound.cookies()).await.unwrap().id();
        match way {
            0 => drop(browser.visit(&bed, Session::destroy).await),
            1 => bed.sessions.revoke(id).await.unwrap(),
            2 => bed.sessions.revoke_subject("ada").await.unwrap(),
            3 => {
                let handle = &bed.sessions.of("ada").await.unwrap()[0].handle;
                assert!(bed.sessions.end("ada", handle).await.unwrap());
            }
            _ => drop(browser.visit(&bed, Session::renew).await),
        }
        node.clock.advance(MINUTE);
        for at in [&bed, &node] {
            assert_eq!(bound.sees(at).await.0, REVOKED, "{way}");
            assert!(matches!(before.sees(at).await.0, REVOKED | UNPROVEN), "{way}");
        }
        assert_eq!(browser.sees(&bed).await.2 == DeviceState::Bound, way == 4);
    }
}

#[actix_web::test]
async fn the_row_lasts_as_long_as_any_cookie_from_before_and_no_longer() {
    let short = |builder: SessionsBuilder| {
        offered(
            builder
                .lifetime(Lifetime::new(10 * MINUTE).without_absolute())
                .revocation(Revocation::EveryRequest),
        )
    };
    let (bed, spy) = guarded(short);
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let before = copy(&browser);
    browser.visit(&bed, |_| ()).await;
    bed.clock.advance(10 * MINUTE - MS);
    assert_eq!(before.sees(&bed).await.0, UNPROVEN);
    bed.clock.advance(MS);
    assert!(matches!(before.sees(&bed).await.0, Origin::Rejected(Rejection::Expired(_))));
    bed.clock.advance(2 * DAY);
    bed.sessions.store().unwrap().sweep(100).await.unwrap();
    assert_eq!(spy.rows.count().await.unwrap(), 0);
}

#[actix_web::test]
async fn switched_off_what_the_rows_say_of_devices_counts_for_nothing() {
    for in_store in [false, true] {
        let (bed, _, spy) = nodes();
        let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
        let before = copy(&browser);
        browser.visit(&bed, |_| ()).await;
        if in_store {
            browser.visit(&bed, large).await;
        }
        let off = other_node(&bed, &spy, |builder| builder);
        for jar in [&before, &copy(&browser)] {
            assert_eq!(jar.sees(&off).await.1.as_deref(), Some("ada"));
        }
        if in_store {
            // But they stay.
            before.clone().visit(&off, |session| session.insert("n", 1).unwrap()).await;
            assert_eq!(before.sees(&bed).await.0, UNPROVEN);
        }
        let unasked = other_node(&bed, &spy, |builder| offered(builder.revocation(Revocation::Off)));
        let elsewhere = if in_store { UNPROVEN } else { Origin::Resumed };
        let sees = before.sees(&unasked).await.0;
        assert_eq!(
            sees,
            if in_store { Origin::Resumed } else { elsewhere },
            "nobody asks for one in its cookie"
        );
    }
}

/// The key that it keeps takes room in the row where nothing is bound any more as well.
#[actix_web::test]
async fn switched_off_a_bound_session_fits_its_row_with_its_key() {
    let (bed, spy) = guarded(offered);
    let off = other_node(&bed, &spy, |builder| builder.max_stored_bytes(8_192));
    let mut browser = Browser::bound(&bed, "ada", &Device::new(1)).await;
    browser.visit(&bed, large).await;
    let seen = Arc::new(std::sync::Mutex::new(None));
    let said = Arc::clone(&seen);
    browser
        .visit(&off, move |session| {
            let fits = |len: &usize| session.insert("large", "x".repeat(*len)).is_ok();
            (5_000..9_000).rev().find(fits).unwrap();
            *said.lock().unwrap() = Some(session.placement());
        })
        .await;
    let Some(Placement::Store { bytes }) = *seen.lock().unwrap() else { panic!("{seen:?}") };
    assert!(bytes <= 8_192, "{bytes}");
    let session = off.sessions.load(browser.cookies()).await.unwrap();
    session.insert("n", 1).unwrap_err();
    session.reload().await.unwrap();
    let mut lens = Vec::new();
    for row in spy.row_keys() {
        lens.extend(spy.rows.load(&row).await.unwrap().map(|row| row.data.len()));
    }
    assert!(lens.contains(&bytes), "{bytes}: {lens:?}");
}

/// What a copy does on a node that has not heard of the binding is nobody's loss but its own.
#[actix_web::test]
async fn what_a_copy_writes_before_its_node_has_heard_does_not_replace_what_the_owner_has() {
    let (bed, node, _) = nodes();
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let mut thief = copy(&browser);
    assert_eq!(thief.sees(&node).await.0, Origin::Resumed);
    browser.visit(&bed, |session| session.insert("mine", 1).unwrap()).await;
    for _ in 0..3 {
        thief.visit(&node, |session| session.increment("n", 1).map(drop).unwrap()).await;
    }
    thief.visit(&node, large).await;
    assert_eq!(thief.sees(&node).await.0, UNPROVEN);
    bed.clock.advance(MINUTE);
    for at in [&bed, &node] {
        let mut own = browser.clone();
        own.visit(at, |session| assert_eq!(session.keys(), ["mine"])).await;
    }
}

#[actix_web::test]
async fn a_copy_ends_nobodys_session() {
    for in_store in [false, true] {
        let (bed, node, _) = nodes();
        let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
        let before = copy(&browser);
        assert_eq!(before.sees(&node).await.0, Origin::Resumed);
        browser.visit(&bed, |_| ()).await;
        if in_store {
            browser.visit(&bed, large).await;
        }
        bed.clock.advance(MINUTE / 2);
        let cookie = before.session.0.clone().unwrap();
        for at in [&bed, &node] {
            // Its logout, that of another session beside it, and the login of somebody else.
            before.clone().visit(at, Session::destroy).await;
            let mut eve = Browser::default();
            eve.log_in(at, "eve").await;
            let both = format!("{cookie}; {}", eve.session.0.as_ref().unwrap());
            at.raw(&[both.as_bytes()], |session| {
                assert_eq!(session.subject().as_deref(), Some("eve"));
                session.destroy();
            })
            .await;
            assert_eq!(eve.sees(at).await.0, REVOKED);
            let mut guest = before.clone();
            guest.log_in(at, "eve").await;
            assert_eq!(guest.sees(at).await.1.as_deref(), Some("eve"), "{in_store}");
        }
        for at in [&bed, &node] {
            assert_eq!(browser.sees(at).await.1.as_deref(), Some("ada"), "{in_store}");
        }
        assert_eq!(bed.sessions.of("ada").await.unwrap().len(), 1, "{in_store}");
        assert_eq!(bed.sessions.of("eve").await.unwrap().len(), 2, "{in_store}");
    }
}

#[actix_web::test]
async fn while_the_store_is_down_a_copy_is_refused_where_the_binding_is_known() {
    let (bed, _, spy) = nodes();
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let before = copy(&browser);
    browser.visit(&bed, |_| ()).await;
    spy.go_down(true);
    bed.clock.advance(5 * MINUTE);
    assert_eq!(before.sees(&bed).await.0, UNPROVEN);
    assert_eq!(browser.sees(&bed).await.1.as_deref(), Some("ada"));
}

#[actix_web::test]
async fn what_moves_a_session_is_refused_where_its_binding_cannot_be_said() {
    type Work = fn(&Session);
    let works: [(&str, Work, StatusCode); 4] = [
        ("read", |_| (), StatusCode::OK),
        ("write", |session| session.insert("n", 1).unwrap(), StatusCode::OK),
        ("touch", Session::touch, StatusCode::SERVICE_UNAVAILABLE),
        ("shorten", |session| session.set_duration(MINUTE * 60).unwrap(), StatusCode::SERVICE_UNAVAILABLE),
    ];
    for (what, work, expected) in works {
        // Each use would prolong it.
        let lifetime = Lifetime::new(5 * MINUTE).active(4 * MINUTE).without_absolute();
        let (bed, spy) = guarded(|builder| offered(builder.lifetime(lifetime)));
        let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
        let ends = |jar: &Jar| bed.sessions.inspect(jar.value()).unwrap().expires_at;
        let before = ends(&browser.session);
        bed.clock.advance(MINUTE * 2);
        // The session and its subject are asked for; then the write fails.
        let asked: &[Fate] = if expected == StatusCode::OK { &[Fate::Passes; 2] } else { &[Fate::Passes; 3] };
        spy.next(asked.iter().copied().chain([Fate::Fails, Fate::Fails]));
        let reply = bed
            .call(&browser.cookies(), move |request| {
                work(&crate::support::now(request.session())?);
                Ok(Answer::ok())
            })
            .await;
        spy.passes_all();
        assert_eq!(reply.status, expected, "{what}");
        assert_eq!(reply.set_cookie().is_some(), what == "write", "{what}");
        browser.session.keep(&reply);
        assert_eq!(ends(&browser.session), before, "{what}");
        browser.visit(&bed, |_| ()).await;
        assert_eq!(browser.sees(&bed).await.2, DeviceState::Bound, "{what}");
    }
}

#[actix_web::test]
async fn a_session_that_was_moved_meanwhile_and_is_too_large_with_this_requests_part_is_no_cookie() {
    let (bed, node, _) = {
        let small = |builder: SessionsBuilder| offered(builder.max_stored_bytes(8_192));
        let (bed, spy) = guarded(small);
        let node = other_node(&bed, &spy, small);
        (bed, node, spy)
    };
    let browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    assert_eq!(copy(&browser).sees(&bed).await.0, Origin::Resumed);
    copy(&browser).visit(&node, |session| session.insert("large", "x".repeat(7_000)).unwrap()).await;
    let reply = bed
        .call(&browser.cookies(), |request| {
            crate::support::now(request.session())?.insert("more", "y".repeat(2_000)).unwrap();
            Ok(Answer::ok())
        })
        .await;
    assert_eq!((reply.status, reply.set_cookie()), (StatusCode::SERVICE_UNAVAILABLE, None));
}

#[actix_web::test]
async fn a_stored_session_is_read_while_its_binding_cannot_be_written() {
    let (bed, _, spy) = nodes();
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let mut unbound = copy(&browser);
    unbound.visit(&bed, large).await;
    browser.session = unbound.session;
    spy.calls();
    spy.next([Fate::Passes, Fate::Fails, Fate::Fails]);
    let reply = browser.visit(&bed, |session| assert_eq!(session.keys(), ["large"])).await;
    assert_eq!(reply.set_cookie(), None);
    assert_eq!(spy.calls()[..2], ["load", "write"]);
    spy.passes_all();
    browser.visit(&bed, |_| ()).await;
    assert_eq!(copy(&browser).sees(&bed).await.0, UNPROVEN);
}

#[actix_web::test]
async fn a_row_that_names_a_device_lasts_as_long_as_any_cookie_from_before() {
    let (bed, _) = guarded(|builder| offered(builder.revocation(Revocation::EveryRequest)));
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let before = copy(&browser);
    browser
        .visit(&bed, |session| {
            session.set_duration(60 * MINUTE).unwrap();
            large(session);
        })
        .await;
    bed.clock.advance(3 * 60 * MINUTE);
    let swept = bed.sessions.store().unwrap().sweep(100).await.unwrap();
    assert_eq!((before.sees(&bed).await.0, swept), (UNPROVEN, 0));
    bed.clock.advance(21 * 60 * MINUTE - MS);
    assert_eq!(before.sees(&bed).await.0, UNPROVEN);
}

#[actix_web::test]
async fn a_stream_of_a_copy_reads_nothing_that_came_after_the_binding() {
    let (bed, node, _) = nodes();
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let mut unbound = copy(&browser);
    unbound.visit(&bed, large).await;
    browser.session = unbound.session;
    let stream = node.sessions.load(copy(&browser).cookies()).await.unwrap();
    node.sessions.commit(&stream, CommitContext::default()).await.unwrap();
    stream.reload().await.unwrap();
    browser.visit(&bed, |session| session.insert("secret", 1).unwrap()).await;
    assert!(matches!(stream.reload().await, Err(CommitError::Ended)));
    assert_eq!(stream.keys(), ["large"]);
}

/// Nobody ends a session whose device is not there; what else the browser has is over.
#[actix_web::test]
async fn a_logout_without_a_proof_ends_the_other_sessions_of_the_browser() {
    let (bed, _, _) = nodes();
    let other = bed.logged_in().await;
    bed.clock.advance(MS);
    let browser = Browser::bound(&bed, "ada", &Device::new(1)).await;
    let mut late = copy(&browser);
    late.session.0 = Some(format!("{}; {}", late.session.0.unwrap(), other.0.as_ref().unwrap()));
    let reply = late.visit(&bed, Session::destroy).await;
    assert!(reply.removes());
    assert_eq!(bed.see(&other, Session::origin).await, Origin::Rejected(Rejection::Revoked));
    assert_eq!(browser.sees(&bed).await.1.as_deref(), Some("ada"));
}

/// The same where the session is in its cookie.
#[actix_web::test]
async fn a_stream_of_a_copy_hears_of_the_binding() {
    let (bed, node, _) = nodes();
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let before = copy(&browser);
    let [stream, here] = [&node, &bed].map(|at| at.sessions.load(before.cookies()));
    let (stream, here) = (stream.await.unwrap(), here.await.unwrap());
    for (at, session) in [(&node, &stream), (&bed, &here)] {
        at.sessions.commit(session, CommitContext::default()).await.unwrap();
        session.reload().await.unwrap();
    }
    browser.visit(&bed, |_| ()).await;
    assert_eq!(browser.sees(&bed).await.2, DeviceState::Bound);
    assert!(matches!(here.reload().await, Err(CommitError::Ended)), "at once");
    bed.clock.advance(MINUTE);
    assert!(matches!(stream.reload().await, Err(CommitError::Ended)));
}

#[actix_web::test]
async fn the_key_that_had_sealed_the_row_may_go_once_the_session_has_another() {
    let (bed, node, _) = nodes();
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let before = copy(&browser);
    browser.visit(&bed, |_| ()).await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    let reply = browser.visit(&bed, |_| ()).await;
    assert!(reply.set_cookie().is_some(), "sealed again");
    bed.sessions.keys().revoke(key(1).id()).unwrap();
    bed.clock.advance(2 * MINUTE);
    let mut again = Browser { proof: None, ..browser.clone() };
    for at in [&bed, &node] {
        assert_eq!(again.sees(at).await.0, UNPROVEN, "and not missing");
        assert!(matches!(before.sees(at).await.0, Origin::Rejected(Rejection::RevokedKey(_))));
        // Its identifier is of the key that is gone, so its device has to be registered again.
        assert_eq!(again.refresh_with(at, None).await.status, StatusCode::FORBIDDEN);
    }
}

/// A node that lags behind a rotation must not have the browser give up its key.
#[actix_web::test]
async fn a_refresh_leaves_open_what_a_row_says_that_this_node_cannot_read_yet() {
    for in_store in [false, true] {
        let (bed, spy) = guarded(offered);
        let behind = KeyRing::new(key(1));
        let store = Arc::clone(&spy);
        let node = Bed::on(behind.clone(), bed.clock.clone(), |builder| offered(builder.store(store)));
        let device = Device::new(1);
        let mut browser = Browser::registered(&bed, "ada", &device).await;
        if in_store {
            browser.visit(&bed, large).await;
        }
        let before = browser.clone();
        bed.sessions.keys().rotate(key(2)).unwrap();
        // It writes the row, under the key that the other node lacks.
        browser.visit(&bed, |session| session.insert("n", 1).unwrap()).await;
        let refresh = async |bed| before.clone().refresh_with(bed, None).await;
        assert_eq!(refresh(&node).await.status, StatusCode::SERVICE_UNAVAILABLE, "{in_store}");
        behind.add_retired(key(2)).unwrap();
        assert_eq!(refresh(&node).await.status, StatusCode::FORBIDDEN, "it is asked for a proof");
        if in_store {
            // Under a key that has leaked it will never be read again.
            behind.revoke(key(2).id()).unwrap();
            assert_eq!(refresh(&node).await.status, StatusCode::OK);
        }
        // One that is gone is over.
        spy.rows.clear().await.unwrap();
        let reply = refresh(&node).await;
        let expected = if in_store { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(reply.status, expected);
        assert_eq!(String::from_utf8_lossy(&reply.body).contains(r#""continue":false"#), in_store);
    }
}

/// Nor one that knows shorter limits, as while they are lengthened: the session goes on elsewhere.
#[actix_web::test]
async fn a_refresh_leaves_open_whether_a_session_has_expired_that_others_may_take() {
    let lasting = |span| move |builder: SessionsBuilder| offered(builder.lifetime(Lifetime::new(span)));
    let (bed, spy) = guarded(lasting(2 * DAY));
    let short = other_node(&bed, &spy, lasting(DAY));
    let device = Device::new(1);
    let mut browser = Browser::bound(&bed, "ada", &device).await;
    bed.clock.advance(DAY + 2 * MINUTE);
    let expired = |origin| matches!(origin, Origin::Rejected(Rejection::Expired(_)));
    assert!(expired(browser.sees(&short).await.0));
    let reply = browser.clone().refresh_with(&short, None).await;
    assert_eq!((reply.status, reply.all(SET_COOKIE).len()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    assert_eq!(
        browser.refresh_with(&bed, None).await.status,
        StatusCode::FORBIDDEN,
        "it is asked for a proof"
    );
    assert_eq!(browser.refresh(&bed, &device).await.status, StatusCode::OK);
    assert_eq!(browser.sees(&bed).await.0, Origin::Resumed);
    bed.clock.advance(DAY);
    let reply = browser.refresh_with(&bed, None).await;
    assert!(String::from_utf8_lossy(&reply.body).contains(r#""continue":false"#), "nobody takes it any more");
}

/// Of a subject's generation the node knows an older one, from before another node has replaced it.
#[actix_web::test]
async fn a_refresh_leaves_open_whether_a_subject_was_revoked_where_the_store_does_not_tell() {
    for policy in [FailurePolicy::Open, FailurePolicy::Closed] {
        let configure = move |builder: SessionsBuilder| offered(builder).revocation_failure(policy);
        let (bed, spy) = guarded(configure);
        let node = other_node(&bed, &spy, configure);
        node.sessions.revoke_subject("ada").await.unwrap();
        let asked = node.sessions.issue(|session| session.authenticate("ada")).await.unwrap();
        assert_eq!(node.see(&Jar(Some(asked)), Session::origin).await, Origin::Resumed);
        bed.clock.advance(MINUTE / 2);
        bed.sessions.revoke_subject("ada").await.unwrap();
        let mut browser = Browser::bound(&bed, "ada", &Device::new(1)).await;
        spy.go_down(true);
        let status = browser.refresh_with(&node, None).await.status;
        let expected = match policy {
            FailurePolicy::Open => StatusCode::FORBIDDEN,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        assert_eq!(status, expected, "{policy:?}");
        spy.go_down(false);
        bed.clock.advance(MINUTE);
    }
}

/// As while that is changed.
#[actix_web::test]
async fn a_proof_of_a_server_with_another_lifetime_of_proofs_is_good_as_long_as_that_has_said() {
    let living = |span| move |builder: SessionsBuilder| offered(builder).proof_lifetime(span);
    let (long, spy) = guarded(living(20 * MINUTE));
    let short = other_node(&long, &spy, living(10 * MINUTE));
    let device = Device::new(1);
    let mut browser = Browser::bound(&long, "ada", &device).await;
    for at in [&short, &long] {
        assert_eq!(browser.sees(at).await.0, Origin::Resumed);
    }
    assert_eq!(browser.visit(&short, |_| ()).await.all(SET_COOKIE).len(), 0, "it stays in the browser");
    // So does the challenge.
    assert_eq!(browser.refresh_with(&long, None).await.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.refresh(&short, &device).await.status, StatusCode::OK);
    long.clock.advance(10 * MINUTE - MS);
    assert_eq!(browser.sees(&long).await.0, Origin::Resumed);
    long.clock.advance(MS);
    for at in [&short, &long] {
        assert_eq!(browser.sees(at).await.0, UNPROVEN);
    }
}

#[actix_web::test]
async fn with_revocation_off_a_login_ends_the_stored_session_whose_key_was_lost() {
    let (bed, _) = guarded(|builder| offered(builder.revocation(Revocation::Off)));
    let mut browser = Browser::bound(&bed, "ada", &Device::new(1)).await;
    browser.visit(&bed, large).await;
    let bound = browser.clone();
    browser.proof = None;
    browser.log_in(&bed, "ada").await;
    assert_eq!(bound.sees(&bed).await.0, REVOKED);
    browser.visit(&bed, |session| assert!(session.is_empty())).await;
}

#[actix_web::test]
async fn where_it_is_off_a_copy_is_renewed_like_any_other_session() {
    let (bed, _, spy) = nodes();
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let mut before = copy(&browser);
    browser.visit(&bed, |_| ()).await;
    let off = other_node(&bed, &spy, |builder| builder);
    let reply = before.visit(&off, Session::renew).await;
    assert!(reply.set_cookie().is_some());
    assert_eq!(before.sees(&off).await.1.as_deref(), Some("ada"));
}

/// Its row has to be sealed anew, under the next key, with what it says.
#[actix_web::test]
async fn where_it_is_off_a_session_goes_on_whose_row_a_retired_key_had_sealed() {
    let (bed, _, spy) = nodes();
    let device = Device::new(1);
    let mut browser = Browser::registered(&bed, "ada", &device).await;
    let mut before = copy(&browser);
    browser.visit(&bed, |_| ()).await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    let off = other_node(&bed, &spy, |builder| builder);
    before.visit(&off, |session| session.insert("n", 1).unwrap()).await;
    before.visit(&off, |session| assert_eq!(session.get("n").unwrap(), Some(1))).await;
    bed.sessions.keys().revoke(key(1).id()).unwrap();
    assert_eq!(before.sees(&bed).await.0, UNPROVEN, "the row says so still");
    // Nor does it need the row.
    spy.rows.clear().await.unwrap();
    bed.sessions.keys().rotate(key(3)).unwrap();
    let off = other_node(&bed, &spy, |builder| builder);
    before.visit(&off, |session| session.insert("n", 2).unwrap()).await;
    before.visit(&off, |session| assert_eq!(session.get("n").unwrap(), Some(2))).await;
}

#[actix_web::test]
async fn writers_that_hand_the_row_on_to_one_another_leave_its_key() {
    let (bed, _, spy) = nodes();
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let before = copy(&browser);
    browser.visit(&bed, |_| ()).await;
    browser.visit(&bed, large).await;
    // Without binding the requests know nothing of the key but what the row says.
    let off = other_node(&bed, &spy, |builder| builder);
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let session = off.sessions.load(before.cookies()).await.unwrap();
        session.increment("n", 1).unwrap();
        sessions.push(session);
    }
    spy.slowly(true);
    let commits = sessions.iter().map(|session| off.sessions.commit(session, CommitContext::default()));
    for outcome in futures_util::future::join_all(commits).await {
        outcome.unwrap();
    }
    spy.slowly(false);
    assert_eq!(before.sees(&bed).await.0, UNPROVEN);
    browser.visit(&bed, |session| assert_eq!(session.get("n").unwrap(), Some(4))).await;
}

/// What a login that fails was of is over as well, but for what is another user's and on another device.
#[actix_web::test]
async fn a_login_that_has_lost_its_place_ends_nobody_elses_session_on_another_device() {
    let limit = |builder: SessionsBuilder| offered(builder).max_sessions(1, Overflow::EndOldest);
    for (user, is_copy) in [("ada", false), ("ada", true), ("bob", false), ("bob", true)] {
        let told = format!("{user}, a copy {is_copy}");
        let (bed, spy) = guarded(limit);
        let node = other_node(&bed, &spy, limit);
        let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
        let before = copy(&browser);
        if !is_copy {
            browser.visit(&bed, |_| ()).await;
        }
        let comes = if is_copy { &before } else { &browser };
        let late = node.sessions.load(comes.cookies()).await.unwrap();
        late.authenticate(user).unwrap();
        // What was asked, and the list read and written, twice. Before it is read again the session is bound, and another login
        // takes the place.
        spy.calls();
        let asked = if is_copy { 4 } else { 3 };
        spy.next(std::iter::repeat_n(Fate::Passes, asked).chain([Fate::AppliedButConflicts]));
        let (after, owner) = (Arc::clone(&spy), bed.sessions.clone());
        let cookies: Vec<Vec<u8>> = browser.cookies().into_iter().map(<[u8]>::to_vec).collect();
        let bound = Arc::new(std::sync::Mutex::new(Vec::new()));
        let out = Arc::clone(&bound);
        spy.before("write", move || {
            after.before("load", move || {
                let session = now(owner.load(&cookies)).unwrap();
                *out.lock().unwrap() = now(owner.commit(&session, CommitContext::default())).unwrap();
                now(owner.issue(|session| session.authenticate(user))).unwrap();
            });
        });
        let outcome = node.sessions.commit(&late, CommitContext::default()).await;
        let calls = spy.calls();
        assert_eq!(calls.iter().position(|call| *call == "write"), Some(asked), "{told}: {calls:?}");
        assert!(matches!(outcome, Err(CommitError::Ended)), "{told}: {outcome:?}");
        if let [line, ..] = &bound.lock().unwrap()[..] {
            browser.session = Jar(line.split(';').next().map(str::to_owned));
        }
        assert_ne!(browser.session.0, before.session.0, "{told}: it was bound");
        let goes_on = is_copy && user == "bob";
        bed.clock.advance(MINUTE);
        for asked in [&node, &bed] {
            let expected = if goes_on { Origin::Resumed } else { REVOKED };
            assert_eq!(browser.sees(asked).await.0, expected, "{told}");
        }
        let of_ada = usize::from(goes_on || user == "ada");
        assert_eq!(bed.sessions.of("ada").await.unwrap().len(), of_ada, "{told}");
        assert_eq!(bed.sessions.of(user).await.unwrap().len(), 1, "{told}");
    }
}
