//! Sessions that move into the store: when, how they live there, and how they come back.

use std::collections::BTreeMap;

use sealed_session::store::{MemoryStore, Store};
use sealed_session::{
    CommitContext, CommitError, ConfigError, Event, InsertError, KeyRing, Lifetime, MAX_NAME_VALUE_BYTES,
    Origin, Placement, Rejection, Secure, Session, Sessions,
};

use crate::spy::stored;
use crate::support::{Bed, DAY, Jar, MINUTE, MS, NAME, key, now};

/// More than any cookie holds.
fn large() -> String {
    "x".repeat(5_000)
}

fn is_stored(session: &Session) -> bool {
    matches!(session.placement(), Placement::Store { .. })
}

/// A browser whose session lives in the store, with `n` = 1 and `large`.
pub(crate) async fn spilled(bed: &Bed) -> Jar {
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.insert("large", large()).unwrap()).await;
    bed.events();
    jar
}

#[actix_web::test]
async fn a_session_that_outgrows_its_cookie_moves_into_the_store_and_nothing_of_it_is_lost() {
    let (bed, spy) = stored(|builder| builder);
    let mut jar = bed.logged_in().await;
    let before = bed.see(&jar, |session| (session.id(), session.created_at())).await;
    bed.events();
    assert_eq!(spy.calls(), [""; 0]);

    let reply = bed.visit(&mut jar, |session| session.insert("large", large()).unwrap()).await;
    assert!(reply.set_cookie().unwrap().len() < 400, "a reference is small");
    assert_eq!(spy.calls(), ["write"]);
    let [Event::Resumed { .. }, Event::Spilled { id, bytes }, Event::Reissued { .. }] = bed.events()[..]
    else {
        panic!("other events")
    };
    assert_eq!(id, before.0);
    assert!(bytes > 5_000);

    let seen = bed
        .see(&jar, |session| {
            assert!(is_stored(session));
            assert_eq!(session.get::<u8>("n").unwrap(), Some(1));
            assert_eq!(session.get::<String>("large").unwrap(), Some(large()));
            (session.id(), session.created_at())
        })
        .await;
    assert_eq!(seen, before);
    assert_eq!(spy.calls(), ["load"]);
}

#[actix_web::test]
async fn just_under_the_limit_stays_and_one_byte_more_spills_by_name_and_value() {
    for (above, name) in [(3_072, NAME), (300, NAME), (4_096, NAME), (1_000, "__Host-Http-session")] {
        let (bed, spy) =
            stored(|builder| builder.spill_above(above).response_head_budget(1 << 20).cookie_name(name));
        let (mut stayed, mut moved) = (0, usize::MAX);
        for len in 0..above {
            let session = bed.sessions.load(["a=1"]).await.unwrap();
            session.insert("x", "v".repeat(len)).unwrap();
            let told = session.placement();
            let line = bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
            let size = line.split(';').next().unwrap().len() - 1;
            assert!(size <= MAX_NAME_VALUE_BYTES);
            match told {
                Placement::Cookie { bytes } => {
                    assert_eq!(bytes, size);
                    assert_eq!(spy.calls(), [""; 0]);
                    stayed = stayed.max(size);
                }
                Placement::Store { .. } => {
                    assert_eq!(spy.calls(), ["write"]);
                    moved = moved.min(len);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(stayed <= above && stayed > above - 44, "{stayed} of {above}");
        assert!(moved < above);
    }
}

#[actix_web::test]
async fn a_cookie_of_exactly_the_threshold_is_kept_and_exactly_what_browsers_keep_too() {
    // Lengths go in steps: with a name of 25 bytes 4,096 is one, with "s" it is 275.
    let name = "a-name-of-25-bytes-and-so";
    for (name, above, len) in [(name, 4_096, 2_931), (NAME, 275, 86)] {
        let (bed, _) =
            stored(|builder| builder.spill_above(above).response_head_budget(1 << 20).cookie_name(name));
        let cookie =
            bed.sessions.issue(|session| session.insert("x", "v".repeat(len)).unwrap()).await.unwrap();
        assert_eq!(cookie.len() - 1, above);
        let session = bed.sessions.load([&cookie]).await.unwrap();
        assert_eq!(session.placement(), Placement::Cookie { bytes: above });
        session.renew();
        assert_eq!(session.placement(), Placement::Cookie { bytes: above });
        session.insert("x", "v".repeat(len + 1)).unwrap();
        assert!(is_stored(&session));
    }
}

/// What is padded to the size of an empty session is none.
#[actix_web::test]
async fn at_the_smallest_spill_above_no_entry_is_ever_in_a_cookie() {
    let least = match Sessions::builder(KeyRing::new(key(1)))
        .cookie_name(NAME)
        .store(MemoryStore::new())
        .spill_above(1)
        .build()
    {
        Err(ConfigError::Bytes { min, .. }) => min,
        other => panic!("{other:?}"),
    };
    for (above, goes) in [(least, true), (least + 1, false)] {
        let (bed, _) = stored(|builder| builder.spill_above(above));
        let mut jar = Jar::default();
        bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
        assert!(matches!(bed.see(&jar, Session::placement).await, Placement::Cookie { .. }), "no entry");
        bed.visit(&mut jar, |session| session.insert("n", 1).unwrap()).await;
        let is_stored = matches!(bed.see(&jar, Session::placement).await, Placement::Store { .. });
        assert_eq!(is_stored, goes, "{above}");
    }
}

#[actix_web::test]
async fn a_session_that_was_loaded_spills_when_it_grows_or_is_renewed_over_the_threshold_and_not_by_being_read()
 {
    let (bed, _) = stored(|builder| builder);
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.insert("text", "x".repeat(2_600)).unwrap()).await;
    assert!(bed.see(&jar, is_stored).await, "over the threshold, and under what browsers keep");

    // One that is over the threshold of now, because that was lowered since.
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.insert("text", "x".repeat(1_000)).unwrap()).await;
    let (lower, _) = stored(|builder| builder.spill_above(1_000));
    assert!(!lower.see(&jar, is_stored).await);
    let renewed = &mut jar.clone();
    lower.visit(renewed, Session::renew).await;
    assert!(lower.see(renewed, is_stored).await, "renewed");
    lower.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    assert!(lower.see(&jar, is_stored).await, "changed");
}

#[actix_web::test]
async fn a_response_head_that_would_be_over_its_budget_makes_the_session_spill() {
    let (bed, _) = stored(|builder| builder);
    let head_with = async |others: usize| {
        let session = bed.sessions.load(["a=1"]).await.unwrap();
        session.insert("x", "v".repeat(1_000)).unwrap();
        let context = CommitContext { response_head_bytes: others, secure: true };
        let line = bed.sessions.commit(&session, context).await.unwrap().pop().unwrap();
        let head = others
            + "set-cookie: \r\n".len()
            + line.len()
            + "vary: Cookie\r\ncache-control: no-store\r\n".len();
        (is_stored(&session), head)
    };
    let mut largest = 0;
    for others in (100..4_000).step_by(13) {
        let (stored, head) = head_with(others).await;
        if !stored {
            assert!(head <= 4_096, "{head}");
            largest = largest.max(head);
        }
    }
    assert!(largest > 4_096 - 64, "{largest}");
    bed.events();
    // Even the reference does not fit: it is sent, and told.
    let (stored, head) = head_with(4_000).await;
    assert!(stored);
    let told = || {
        bed.events().into_iter().find_map(|event| match event {
            Event::HeadOverBudget { bytes, budget, .. } => Some((bytes, budget)),
            _ => None,
        })
    };
    let (bytes, budget) = told().unwrap();
    assert!(bytes >= head && bytes < head + 32 && budget == 4_096);
    // Exactly the budget is within it.
    let exactly = 4_000 + budget - bytes;
    head_with(exactly).await;
    assert_eq!(told(), None);
    head_with(exactly + 1).await;
    assert_eq!(told(), Some((4_097, 4_096)));
}

/// The longest text with which a session stays in its cookie, as responses that carry this header besides.
async fn longest(bed: &Bed, header: &'static str) -> usize {
    let (mut fits, mut spills) = (0, 3_000);
    while fits + 1 < spills {
        let len = (fits + spills) / 2;
        let reply = bed
            .call(&[], move |request| {
                now(request.session())?.insert("text", "x".repeat(len))?;
                Ok(crate::support::Answer::ok().with(actix_web::http::header::LINK, header))
            })
            .await;
        let cookie = reply.set_cookie().unwrap().split(';').next().unwrap().to_owned();
        match bed.see(&Jar(Some(cookie)), is_stored).await {
            true => spills = len,
            false => fits = len,
        }
    }
    fits
}

#[actix_web::test]
async fn what_is_reserved_of_the_head_is_left_to_others_byte_by_byte() {
    let long: &'static str = Box::leak("x".repeat(700).into_boxed_str());
    let short = &long[..700 - 256];
    let (bed, _) = stored(|builder| builder.response_head_budget(2_000));
    let (reserving, _) = stored(|builder| builder.response_head_budget(2_000).response_head_reserve(256));
    assert_eq!(longest(&bed, long).await, longest(&reserving, short).await);
    assert!(longest(&bed, short).await > longest(&reserving, short).await);
}

#[actix_web::test]
async fn a_mere_extension_that_does_not_fit_the_head_waits_as_long_as_it_can_and_then_spills() {
    let lifetime = Lifetime::new(60 * MINUTE).active(10 * MINUTE);
    let (bed, spy) = stored(|builder| builder.lifetime(lifetime));
    let session = bed.sessions.load(["a=1"]).await.unwrap();
    session.insert("x", "v".repeat(1_500)).unwrap();
    let line = bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
    let cookie = line.split(';').next().unwrap().to_owned();
    let crowded = CommitContext { response_head_bytes: 2_500, secure: true };
    for (after, expected) in [(51 * MINUTE, false), (55 * MINUTE - MS, false), (55 * MINUTE, true)] {
        bed.clock.set(crate::support::start() + after);
        let session = bed.sessions.load([&cookie]).await.unwrap();
        let line = bed.sessions.commit(&session, crowded).await.unwrap().pop();
        assert_eq!(line.is_some(), expected, "{after:?}");
        assert_eq!(!spy.calls().is_empty(), expected);
    }
}

#[actix_web::test]
async fn a_stored_session_stays_there_however_small_it_gets_until_renew_brings_it_back() {
    let (bed, spy) = stored(|builder| builder);
    let mut jar = spilled(&bed).await;
    bed.visit(&mut jar, |session| assert!(session.remove("large"))).await;
    assert!(bed.see(&jar, is_stored).await);
    let reference = jar.clone();
    bed.events();
    spy.calls();

    let id = bed.see(&jar, Session::id).await;
    bed.visit(&mut jar, Session::renew).await;
    assert_eq!(
        spy.calls(),
        ["load", "load", "write"],
        "the row of the old id is ended, and there is no new one"
    );
    assert!(matches!(
        bed.events()[..],
        [_, Event::Resumed { .. }, Event::Renewed { from, .. }, Event::Returned { .. }] if from == id
    ));
    bed.visit(&mut jar, move |session| {
        assert!(!is_stored(session));
        assert_ne!(session.id(), id);
        assert_eq!(session.get::<u8>("n").unwrap(), Some(1));
    })
    .await;
    assert_eq!(spy.calls(), [""; 0]);
    assert_eq!(bed.see(&reference, Session::origin).await, Origin::Rejected(Rejection::Revoked));
}

#[actix_web::test]
async fn renew_of_a_session_that_is_still_large_gives_it_another_row_and_ends_the_old_one() {
    let (bed, spy) = stored(|builder| builder);
    let mut jar = spilled(&bed).await;
    let old = jar.clone();
    let birth = bed.see(&jar, Session::created_at).await;
    spy.calls();
    bed.clock.advance(MINUTE);
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    assert_eq!(spy.calls(), ["load", "write", "write"]);
    let (stored, created_at, subject) =
        bed.see(&jar, |session| (is_stored(session), session.created_at(), session.subject())).await;
    assert!(stored && created_at == birth + MINUTE);
    assert_eq!(subject.as_deref(), Some("ada"));
    assert_eq!(bed.see(&jar, |session| session.get::<String>("large").unwrap()).await, Some(large()));
    assert_eq!(bed.see(&old, Session::origin).await, Origin::Rejected(Rejection::Revoked));
}

#[actix_web::test]
async fn reading_a_stored_session_is_one_call_writing_it_one_more_and_neither_issues_a_cookie() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    spy.calls();
    let read = bed.peek(&jar, |session| assert!(session.contains_key("n"))).await;
    assert_eq!((read.set_cookie(), spy.calls()), (None, vec!["load"]));
    let same = bed.peek(&jar, |session| session.insert("n", 1).unwrap()).await;
    assert_eq!((same.set_cookie(), spy.calls()), (None, vec!["load"]));
    let write = bed.peek(&jar, |session| session.insert("n", 2).unwrap()).await;
    assert_eq!((write.set_cookie(), spy.calls()), (None, vec!["load", "write"]));
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(2));
    bed.call(&[jar.0.as_ref().unwrap().as_bytes()], |_| Ok(crate::support::Answer::ok())).await;
    assert_eq!(spy.calls(), ["load"], "of the look before; an untouched request makes none");
}

#[actix_web::test]
async fn use_extends_a_stored_session_and_its_row_and_writing_does_not() {
    let lifetime = Lifetime::new(60 * MINUTE).active(10 * MINUTE);
    let (bed, spy) = stored(|builder| builder.lifetime(lifetime));
    let mut jar = spilled(&bed).await;
    spy.calls();
    bed.clock.advance(49 * MINUTE);
    let write = bed.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    assert_eq!((write.set_cookie(), spy.calls()), (None, vec!["load", "write"]));

    bed.clock.advance(2 * MINUTE);
    let extended = bed.visit(&mut jar, |_| {}).await;
    assert_eq!(extended.attribute("Max-Age"), Some("1140"), "19 minutes");
    assert_eq!(spy.calls(), ["load", "extend"]);

    // A write and an extension at once are one call.
    bed.clock.advance(10 * MINUTE);
    bed.visit(&mut jar, |session| session.insert("n", 3).unwrap()).await;
    assert_eq!(spy.calls(), ["load", "write"]);
    bed.clock.advance(19 * MINUTE - MS);
    let look = |session: &Session| {
        session.skip_renewal();
        session.get::<u8>("n").unwrap()
    };
    assert_eq!(bed.see(&jar, look).await, Some(3));
    bed.clock.advance(MS);
    assert!(matches!(bed.see(&jar, Session::origin).await, Origin::Rejected(Rejection::Expired(_))));
    // The row outlives the session by the skew that clocks may have, and then leaves.
    assert_eq!(spy.rows.count().await.unwrap(), 1);
    bed.clock.advance(MINUTE - MS);
    assert_eq!(spy.rows.count().await.unwrap(), 1);
    bed.clock.advance(MS);
    assert_eq!(spy.rows.count().await.unwrap(), 0);
}

#[actix_web::test]
async fn the_limits_of_a_lifetime_hold_in_the_store_to_the_millisecond() {
    for lifetime in [
        Lifetime::new(60 * MINUTE).fixed(),
        Lifetime::new(DAY).fixed().absolute(60 * MINUTE),
        Lifetime::new(DAY).fixed().idle(60 * MINUTE),
    ] {
        let (bed, _) = stored(|builder| builder.lifetime(lifetime));
        let jar = spilled(&bed).await;
        bed.clock.advance(60 * MINUTE - MS);
        assert_eq!(bed.see(&jar, Session::origin).await, Origin::Resumed);
        bed.clock.advance(MS);
        assert!(matches!(bed.see(&jar, Session::origin).await, Origin::Rejected(Rejection::Expired(_))));
    }
}

#[actix_web::test]
async fn a_stored_session_that_is_used_every_day_is_over_after_thirty_and_its_row_goes() {
    let (bed, spy) = stored(|builder| builder.lifetime(Lifetime::new(2 * DAY)));
    let mut jar = spilled(&bed).await;
    for _ in 0..29 {
        bed.clock.advance(DAY);
        bed.visit(&mut jar, Session::touch).await;
    }
    bed.clock.advance(DAY - MS);
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Resumed);
    bed.clock.advance(MS);
    let over = Origin::Rejected(Rejection::Expired(sealed_session::End::Absolute));
    assert_eq!(bed.see(&jar, Session::origin).await, over);
    bed.clock.advance(MINUTE);
    assert_eq!(spy.rows.count().await.unwrap(), 0);
}

#[actix_web::test]
async fn a_renewed_use_of_the_idle_limit_and_a_longer_duration_keep_the_row_alive() {
    let (bed, _) = stored(|builder| builder.lifetime(Lifetime::new(DAY).idle(60 * MINUTE)));
    let mut jar = spilled(&bed).await;
    for _ in 0..10 {
        bed.clock.advance(59 * MINUTE);
        bed.visit(&mut jar, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
    }

    let (bed, _) = stored(|builder| builder);
    let mut jar = spilled(&bed).await;
    bed.visit(&mut jar, |session| session.set_duration(30 * DAY).unwrap()).await;
    bed.clock.advance(30 * DAY - MS);
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(1));
}

#[actix_web::test]
async fn destroy_ends_the_row_for_good_and_every_cookie_that_leads_to_it() {
    let (bed, spy) = stored(|builder| builder);
    let mut jar = spilled(&bed).await;
    let mut copies = vec![jar.clone()];
    bed.visit(&mut jar, |session| session.set_duration(2 * DAY).unwrap()).await;
    copies.push(jar.clone());
    spy.calls();
    let reply = bed
        .visit(&mut jar, |session| {
            session.destroy();
            assert!(matches!(session.insert("n", 1), Err(InsertError::Destroyed)));
        })
        .await;
    assert!(reply.removes());
    assert_eq!(spy.calls(), ["load", "write"]);
    for copy in &copies {
        assert_eq!(bed.see(copy, Session::origin).await, Origin::Rejected(Rejection::Revoked));
    }
    assert!(bed.events().iter().any(|event| matches!(event, Event::Ended { destroyed: true, .. })));
    // It says so for as long as any cookie of it could be alive.
    bed.clock.advance(2 * DAY - MS);
    assert_eq!(bed.see(&copies[1], Session::origin).await, Origin::Rejected(Rejection::Revoked));
    bed.clock.advance(2 * MINUTE + MS);
    assert_eq!(spy.rows.count().await.unwrap(), 0);
}

#[actix_web::test]
async fn emptying_removes_the_cookie_and_leaves_an_empty_row_to_expire() {
    let (bed, spy) = stored(|builder| builder);
    let mut jar = spilled(&bed).await;
    let copy = jar.clone();
    let reply = bed.visit(&mut jar, Session::clear).await;
    assert!(reply.removes());
    assert!(bed.events().iter().any(|event| matches!(event, Event::Ended { destroyed: false, .. })));
    assert_eq!(spy.rows.count().await.unwrap(), 1);
    assert_eq!(bed.see(&copy, |session| (session.origin(), session.len())).await, (Origin::Resumed, 0));
    let reply = bed.peek(&copy, |session| assert!(session.is_empty())).await;
    assert_eq!(
        reply.set_cookie(),
        None,
        "it was empty before, and by now another request may have filled it"
    );
    // One with a subject stays.
    let mut jar = spilled(&bed).await;
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    let reply = bed.visit(&mut jar, Session::clear).await;
    assert_eq!(reply.set_cookie(), None);
    // Renewed and emptied at once: nothing is written under the new id, and the old one is ended.
    let mut jar = spilled(&bed).await;
    let copy = jar.clone();
    let rows = spy.rows.count().await.unwrap();
    let reply = bed
        .visit(&mut jar, |session| {
            session.renew();
            session.clear();
        })
        .await;
    assert!(reply.removes());
    assert_eq!(spy.rows.count().await.unwrap(), rows);
    assert_eq!(bed.see(&copy, Session::origin).await, Origin::Rejected(Rejection::Revoked));
}

#[actix_web::test]
async fn a_row_that_vanished_is_a_new_session_that_says_so_and_keeps_the_cookie() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    spy.rows.clear().await.unwrap();
    let reply = bed.peek(&jar, |session| {
        assert_eq!(session.origin(), Origin::Rejected(Rejection::Missing));
        assert!(session.is_empty());
    });
    assert_eq!(reply.await.set_cookie(), None);
    assert_eq!(bed.rejections(), [Rejection::Missing]);
    // What is written then is another session.
    let id = now(bed.sessions.load([jar.0.as_ref().unwrap()])).unwrap().id();
    let mut jar = jar;
    bed.visit(&mut jar, |session| session.insert("n", 5).unwrap()).await;
    assert_ne!(bed.see(&jar, Session::id).await, id);
    assert_eq!(spy.rows.count().await.unwrap(), 0);
}

#[actix_web::test]
async fn garbage_in_a_row_is_a_new_session_and_a_log_line_and_never_a_failure() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let other = spilled(&bed).await;
    let keys = spy.row_keys();
    let foreign = spy.rows.load(&keys[1]).await.unwrap().unwrap().data;
    let good = spy.rows.load(&keys[0]).await.unwrap().unwrap();
    let mut flipped = good.data.clone();
    flipped[100] ^= 1;
    for garbage in [vec![], b"garbage".to_vec(), vec![0; 10_000], flipped, good.data[..80].to_vec(), foreign]
    {
        spy.overwrite(&keys[0], &garbage).await;
        bed.events();
        // Which of the two has the first key is not known; the other is untouched.
        let origins = [bed.see(&jar, Session::origin).await, bed.see(&other, Session::origin).await];
        assert!(origins.contains(&Origin::Resumed), "{origins:?}");
        assert!(origins.contains(&Origin::Rejected(Rejection::Missing)), "{origins:?}");
        let told = bed.events();
        assert_eq!(
            told.iter().filter(|event| matches!(event, Event::StoreFailed { kind: "corrupt", .. })).count(),
            1
        );
    }
}

/// A websocket, which no request follows that would be refused.
#[actix_web::test]
async fn a_stream_ends_with_the_absolute_limit_however_long_the_store_keeps_its_row() {
    let lifetime = Lifetime::new(DAY).fixed().absolute(2 * DAY);
    let (bed, _) = stored(|builder| builder.lifetime(lifetime).spill_above(0));
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| {
        session.insert("n", 1).unwrap();
        session.set_duration(30 * DAY).unwrap();
    })
    .await;
    let stream = bed.sessions.load(jar.0.iter()).await.unwrap();
    bed.sessions.commit(&stream, CommitContext::default()).await.unwrap();
    bed.clock.advance(2 * DAY - MS);
    stream.reload().await.unwrap();
    stream.insert("n", 2).unwrap();
    stream.save().await.unwrap();
    stream.insert("n", 3).unwrap();
    bed.clock.advance(MS);
    for outcome in [stream.save().await, stream.reload().await] {
        assert!(matches!(outcome, Err(CommitError::Ended)), "{outcome:?}");
    }
    assert!(matches!(bed.see(&jar, Session::origin).await, Origin::Rejected(Rejection::Expired(_))));
}

/// Nor does `reload` undo what others have done, where this request has done nothing in the end.
#[actix_web::test]
async fn a_reload_after_changes_that_came_to_nothing_takes_what_is_there() {
    let (bed, _) = stored(|builder| builder);
    let mut jar = spilled(&bed).await;
    let session = bed.sessions.load(jar.0.iter()).await.unwrap();
    session.increment("n", 1).unwrap();
    session.increment("n", -1).unwrap();
    let refilled = bed.sessions.load(jar.0.iter()).await.unwrap();
    let entries = refilled.entries();
    refilled.clear();
    for (key, value) in entries {
        refilled.insert(&key, value).unwrap();
    }
    bed.visit(&mut jar, |session| {
        assert!(session.remove("n"));
        session.insert("theirs", 1).unwrap();
    })
    .await;
    for session in [session, refilled] {
        session.reload().await.unwrap();
        assert_eq!(session.get::<i64>("theirs").unwrap(), Some(1));
        assert_eq!(session.get::<i64>("n").unwrap(), None);
    }
}

#[actix_web::test]
async fn an_id_from_outside_is_never_adopted() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let id = bed.see(&jar, Session::id).await;
    let row = spy.row_keys()[0].to_string();
    spy.calls();
    for guess in [id.to_string(), row, "s:1".into(), "0".into()] {
        let mut jar = Jar(Some(format!("s={guess}")));
        bed.visit(&mut jar, |session| session.insert("n", 9).unwrap()).await;
        assert_ne!(bed.see(&jar, Session::id).await, id);
    }
    assert_eq!(spy.calls(), [""; 0]);
}

#[actix_web::test]
async fn a_reference_where_there_is_no_store_is_missing_and_stays_in_the_browser() {
    let (bed, _) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let storeless = Bed::new();
    let reply =
        storeless.peek(&jar, |session| assert_eq!(session.origin(), Origin::Rejected(Rejection::Missing)));
    assert_eq!(reply.await.set_cookie(), None);
}

#[actix_web::test]
async fn a_rotated_key_reseals_the_row_and_then_the_reference_and_a_retired_one_still_opens_both() {
    let (bed, spy) = stored(|builder| builder);
    let mut jar = spilled(&bed).await;
    let before = jar.clone();
    let key_of = async |spy: &crate::spy::Spy| {
        spy.rows.load(&spy.row_keys()[0]).await.unwrap().unwrap().data[1..5].to_vec()
    };
    let old = key_of(&spy).await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    spy.calls();
    let reply = bed.visit(&mut jar, |session| assert_eq!(session.len(), 2)).await;
    assert!(reply.set_cookie().is_some());
    assert_eq!(spy.calls(), ["load", "write"]);
    assert!(matches!(bed.events()[..], [Event::Resumed { .. }, Event::Resealed { .. }]));
    assert_ne!(key_of(&spy).await, old);
    let again = bed.visit(&mut jar, |session| assert_eq!(session.len(), 2)).await;
    assert_eq!((again.set_cookie(), spy.calls()), (None, vec!["load"]));
    // The older reference leads to the same row and is itself re-sealed.
    assert!(bed.peek(&before, |session| assert_eq!(session.len(), 2)).await.set_cookie().is_some());
}

#[actix_web::test]
async fn the_store_has_its_own_limit_exactly_and_the_subject_has_to_fit_the_reference() {
    let (bed, _) = stored(|builder| builder.max_stored_bytes(10_000));
    let mut jar = spilled(&bed).await;
    bed.visit(&mut jar, |session| {
        let longest =
            (5_000..10_001).rev().find(|&len| session.insert("large", "v".repeat(len)).is_ok()).unwrap();
        let error = session.insert("large", "v".repeat(longest + 1)).unwrap_err();
        let InsertError::TooLarge { size, limit } = error else { panic!("{error}") };
        assert!(limit == 10_000 && size > limit && size <= limit + 32);
        let Placement::Store { bytes } = session.placement() else { panic!() };
        assert!(bytes <= limit && bytes > limit - 32);
        let subject = session.set_subject("s".repeat(4_000)).unwrap_err();
        assert!(matches!(subject, InsertError::SubjectTooLong { limit: 4_096, .. }));
        session.set_subject("s".repeat(2_500)).unwrap();
    })
    .await;
    assert_eq!(bed.see(&jar, Session::subject).await.unwrap().len(), 2_500);
}

#[actix_web::test]
async fn above_0_is_above_nothing_whatever_the_cookies_name() {
    for name in ["s", "__Host-Http-administration"] {
        let (bed, _) = stored(|builder| builder.cookie_name(name).spill_above(0));
        let session = bed.sessions.load([""]).await.unwrap();
        session.insert("n", 1).unwrap();
        bed.sessions.commit(&session, CommitContext::default()).await.unwrap();
        assert!(matches!(session.placement(), Placement::Store { .. }), "{name}");
    }
}

#[actix_web::test]
async fn a_session_that_was_emptied_and_saved_leaves_the_browser_as_one_that_was_emptied() {
    let (bed, _) = stored(|builder| builder);
    for saves in [false, true] {
        let jar = spilled(&bed).await;
        let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
        session.clear();
        if saves {
            session.save().await.unwrap();
        }
        let lines = bed.sessions.commit(&session, CommitContext::default()).await.unwrap();
        assert!(matches!(&lines[..], [line] if line.contains("Max-Age=0")), "{saves}: {lines:?}");
    }
}

/// Its data is where it belongs, and only the cookie could have been removed.
#[actix_web::test]
async fn a_session_that_was_emptied_and_saved_costs_no_failure_when_the_store_goes_then() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    session.clear();
    session.save().await.unwrap();
    spy.go_down(true);
    assert_eq!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap(), Vec::<String>::new());

    // But the browser's cookie, which is from before the session moved, must not keep what was cleared.
    let (bed, spy) = crate::spy::guarded(|builder| builder);
    let before = bed.logged_in().await;
    bed.visit(&mut before.clone(), |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    let session = bed.sessions.load([before.0.as_ref().unwrap()]).await.unwrap();
    assert!(matches!(session.placement(), Placement::Store { .. }));
    session.clear();
    session.save().await.unwrap();
    spy.go_down(true);
    bed.sessions.commit(&session, CommitContext::default()).await.unwrap_err();
}

/// A deploy has lowered the limit. Whoever makes such a session smaller meets another request.
#[actix_web::test]
async fn a_row_that_is_larger_than_permitted_by_now_is_made_smaller_over_what_others_write() {
    let (before, spy) = stored(|builder| builder.max_stored_bytes(20_000));
    let after = crate::spy::other_node(&before, &spy, |builder| {
        builder.revocation(sealed_session::Revocation::Off).max_stored_bytes(8_192)
    });
    let mut jar = before.logged_in().await;
    before.visit(&mut jar, |session| session.insert("large", "x".repeat(12_000)).unwrap()).await;
    let shrinks = after.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    assert!(shrinks.insert("large", "x".repeat(13_000)).is_err());
    shrinks.insert("large", "x".repeat(10_000)).unwrap();
    before.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    after.sessions.commit(&shrinks, CommitContext::default()).await.unwrap();
    let seen = after.see(&jar, |session| {
        (session.get::<String>("large").unwrap().unwrap().len(), session.get("n").unwrap())
    });
    assert_eq!(seen.await, (10_000, Some(2)));
}

#[actix_web::test]
async fn save_writes_what_is_in_the_store_and_nothing_else() {
    let (bed, spy) = stored(|builder| builder);
    let jar = bed.logged_in().await;
    let cookie = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    cookie.insert("n", 2).unwrap();
    cookie.save().await.unwrap();
    assert_eq!(spy.calls(), [""; 0]);

    let jar = spilled(&bed).await;
    let reference = jar.0.as_ref().unwrap();
    spy.calls();
    let session = bed.sessions.load([reference]).await.unwrap();
    session.save().await.unwrap();
    assert_eq!(spy.calls(), ["load"], "nothing was changed");
    session.insert("a", 1).unwrap();
    session.save().await.unwrap();
    assert_eq!(spy.calls(), ["write"]);
    let other = bed.sessions.load([reference]).await.unwrap();
    assert_eq!(other.get::<u8>("a").unwrap(), Some(1));
    other.increment("n", 10).unwrap();
    bed.sessions.commit(&other, CommitContext::default()).await.unwrap();

    session.increment("n", 1).unwrap();
    session.save().await.unwrap();
    assert_eq!(session.get::<u8>("n").unwrap(), Some(12), "the rest of the request sees what others wrote");
    session.increment("n", 1).unwrap();
    assert_eq!(bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop(), None);
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(13));
}

#[actix_web::test]
async fn after_the_response_reload_opens_the_entries_of_a_stored_session_once_more() {
    let (bed, _) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let session = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    session.insert("a", 1).unwrap();
    bed.sessions.commit(&session, CommitContext::default()).await.unwrap();
    assert!(matches!(session.insert("b", 1), Err(InsertError::Committed)));
    session.save().await.unwrap();

    bed.visit(&mut jar.clone(), |other| other.insert("a", 2).unwrap()).await;
    session.reload().await.unwrap();
    assert_eq!(session.get::<u8>("a").unwrap(), Some(2));
    session.insert("b", 1).unwrap();
    session.save().await.unwrap();
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("b").unwrap()).await, Some(1));
    for refused in [session.set_duration(DAY), session.set_subject("ada"), session.set_persistent(true)] {
        assert!(matches!(refused, Err(InsertError::Committed)));
    }
    session.destroy();
    session.renew();
    session.insert("c", 1).unwrap();
    session.save().await.unwrap();
    assert_eq!(bed.see(&jar, Session::len).await, 5);

    bed.visit(&mut jar.clone(), Session::destroy).await;
    assert!(matches!(session.reload().await, Err(CommitError::Ended)));
    session.insert("d", 1).unwrap();
    assert!(matches!(session.save().await, Err(CommitError::Ended)));
    assert_eq!(bed.see(&jar, Session::origin).await, Origin::Rejected(Rejection::Revoked));
}

#[actix_web::test]
async fn a_session_that_started_in_the_store_can_be_saved_and_reloaded_like_any_other() {
    let (bed, _) = stored(|builder| builder);
    let session = bed.sessions.load(["a=1"]).await.unwrap();
    session.insert("large", large()).unwrap();
    let line = bed.sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
    session.reload().await.unwrap();
    session.insert("n", 1).unwrap();
    session.save().await.unwrap();
    let again = bed.sessions.load([line.split(';').next().unwrap()]).await.unwrap();
    assert_eq!(again.len(), 2);
}

#[actix_web::test]
async fn issue_spills_like_a_request_and_inspect_tells_a_reference() {
    let (bed, spy) = stored(|builder| builder);
    let pair = bed.sessions.issue(|session| session.insert("large", large())).await.unwrap();
    assert_eq!(spy.calls(), ["write"]);
    let session = bed.sessions.load([&pair]).await.unwrap();
    assert_eq!(session.get::<String>("large").unwrap(), Some(large()));
    let inspection = bed.sessions.inspect(&pair[2..]).unwrap();
    assert_eq!(inspection.placement, Placement::Store { bytes: pair.len() - 1 });
    assert_eq!(inspection.keys, [""; 0]);
}

#[actix_web::test]
async fn two_scopes_share_a_store_and_never_a_row() {
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let store: std::sync::Arc<dyn Store> = spy.clone();
    let admin = Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| {
        builder.cookie_name("admin").store(store)
    });
    let moved = format!("admin={}", jar.value());
    let session = admin.sessions.load([&moved]).await.unwrap();
    assert_eq!(session.origin(), Origin::Rejected(Rejection::Tampered));
    assert!(bed.sessions.store().is_some() && Bed::new().sessions.store().is_none());
}

#[actix_web::test]
async fn every_entry_of_any_size_comes_back_equal_wherever_it_is() {
    let (bed, _) = stored(|builder| builder);
    let mut jar = Jar::default();
    let mut expected = BTreeMap::new();
    for (n, len) in
        [0, 1, 31, 32, 500, 1_000, 2_000, 3_000, 10_000, 65_535, 65_536, 200_000].into_iter().enumerate()
    {
        let (key, value) = (format!("k{n}"), "v".repeat(len));
        expected.insert(key.clone(), value.clone());
        bed.visit(&mut jar, move |session| session.insert(&key, &value).unwrap()).await;
        let all = expected.clone();
        bed.peek(&jar, move |session| {
            for (key, value) in &all {
                assert_eq!(session.get::<String>(key).unwrap().as_ref(), Some(value));
            }
            assert_eq!(session.len(), all.len());
        })
        .await;
    }
}

#[actix_web::test]
async fn settings_that_need_a_store_or_are_out_of_range_are_errors() {
    let ring = || sealed_session::KeyRing::new(key(1));
    let error = |builder: sealed_session::SessionsBuilder| builder.build().unwrap_err();
    for (setting, builder) in [
        ("spill_above", Sessions::builder(ring()).spill_above(1_000)),
        ("response_head_budget", Sessions::builder(ring()).response_head_budget(4_096)),
        ("response_head_reserve", Sessions::builder(ring()).response_head_reserve(100)),
        ("max_stored_bytes", Sessions::builder(ring()).max_stored_bytes(1 << 20)),
        ("store_timeout", Sessions::builder(ring()).store_timeout(MINUTE)),
    ] {
        assert_eq!(error(builder), ConfigError::NeedsStore { setting });
    }
    let with = || Sessions::builder(ring()).secure(Secure::Always).store(MemoryStore::new());
    for (setting, builder) in [
        ("spill_above", with().spill_above(4_097)),
        ("spill_above", with().spill_above(10)),
        ("response_head_budget", with().response_head_budget(511)),
        ("response_head_reserve", with().response_head_reserve(4_096 - 511)),
        ("response_head_reserve", with().response_head_budget(1_000).response_head_reserve(489)),
        ("max_stored_bytes", with().max_stored_bytes(4_095)),
        ("max_stored_bytes", with().max_stored_bytes(16 << 20)),
    ] {
        let error = error(builder);
        assert!(error.to_string().starts_with(&format!("{setting} is ")), "{error}");
        assert!(matches!(error, ConfigError::Bytes { setting: found, .. } if found == setting));
    }
    for timeout in [std::time::Duration::ZERO, 2 * MINUTE] {
        assert!(matches!(error(with().store_timeout(timeout)), ConfigError::OutOfRange { .. }));
    }
}
