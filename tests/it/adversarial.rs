//! What an attacker, a wrong clock or a flood may try, and what comes of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sealed_session::{KeyRing, Origin, Rejection, Session};

use crate::support::{Bed, DAY, Jar, MINUTE, MS, key, start};

async fn origin(bed: &Bed, jar: &Jar) -> Origin {
    bed.see(jar, Session::origin).await
}

/// The cookie's length when this stands beside the secret.
async fn length(bed: &Bed, chosen: &str, secret: &'static str) -> usize {
    let mut jar = Jar::default();
    let chosen = chosen.to_owned();
    bed.visit(&mut jar, move |session| {
        session.insert("chosen", &chosen).unwrap();
        session.insert("secret", secret).unwrap();
    })
    .await;
    jar.value().len()
}

/// Compression would make a guess that agrees with the secret shorter (CRIME, BREACH). Here the length is a function of
/// the lengths, in blocks of 32 bytes.
#[actix_web::test]
async fn the_length_of_a_cookie_tells_nothing_of_what_stands_beside_an_attackers_text() {
    const SECRET: &str = "token=7f3a9c51e8d2";
    let bed = Bed::new();
    let mut lengths = BTreeSet::new();
    // Guesses of the same length, from wholly wrong to wholly right.
    for right in 0..=SECRET.len() {
        let guess = format!("{}{}", &SECRET[..right], "~".repeat(SECRET.len() - right));
        lengths.insert(length(&bed, &guess, SECRET).await);
    }
    for letter in ('a'..='z').chain('0'..='9') {
        lengths
            .insert(length(&bed, &format!("token={letter}{}", "~".repeat(SECRET.len() - 7)), SECRET).await);
    }
    assert_eq!(lengths.len(), 1, "one length for all guesses: {lengths:?}");

    // And in all there are no more lengths than blocks.
    let mut by_size = BTreeSet::new();
    for n in 0..320 {
        by_size.insert(length(&bed, &"a".repeat(n), SECRET).await);
    }
    assert!(by_size.len() <= 320 / 32 + 1, "{by_size:?}");
}

#[actix_web::test]
async fn floods_of_cookies_and_headers_of_128_kib_are_answered_and_cost_no_session() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    let good = jar.0.clone().unwrap();
    let mut tampered = good.clone();
    tampered.replace_range(80..81, if &good[80..81] == "A" { "B" } else { "A" });
    let others = (0..200).map(|n| format!("c{n}=v; ")).collect::<String>();
    let eight = format!("{tampered}; ").repeat(7);
    let large = format!("filler={}; ", "x".repeat(128 << 10));
    for (header, found) in [
        (format!("{others}{good}"), true),
        (format!("{eight}{good}"), true),
        (format!("{large}{good}"), true),
        (format!("{others}{large}{eight}{good}"), true),
        (format!("{}{}", format!("{tampered}; ").repeat(200), good), false),
        ("s=; ".repeat(30_000), false),
        (";".repeat(128 << 10), false),
        (format!("s={}", "A".repeat(128 << 10)), false),
        (format!("s=\"{}\"", "A".repeat(4_000)), false),
    ] {
        let began = Instant::now();
        let header_bytes = header.into_bytes();
        bed.raw(&[&header_bytes], move |session| {
            assert_eq!(session.origin() == Origin::Resumed, found);
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(2), "a flood is no work");
    }
    // In several headers, as HTTP/2 sends them.
    let headers: Vec<&[u8]> = std::iter::repeat_n(&b"a=1"[..], 200).chain([good.as_bytes()]).collect();
    bed.raw(&headers, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
}

#[actix_web::test]
async fn a_clock_that_jumps_a_day_ends_sessions_or_refuses_them_and_never_prolongs_one() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    let end = bed.see(&jar, Session::expires_at).await;

    bed.clock.set(start() - DAY);
    assert_eq!(origin(&bed, &jar).await, Origin::Rejected(Rejection::Future));
    bed.clock.set(start() + MINUTE);
    assert_eq!(origin(&bed, &jar).await, Origin::Resumed, "and it is there again when the clock is right");

    // A session that was used while the clock was a day ahead does not live longer for it when it is right again.
    bed.clock.set(start() + DAY - MINUTE);
    bed.visit(&mut jar, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
    let prolonged = bed.see(&jar, Session::expires_at).await;
    assert!(prolonged - end <= 5 * MINUTE);
    bed.clock.set(start() + MINUTE);
    assert_eq!(origin(&bed, &jar).await, Origin::Rejected(Rejection::Future));

    let mut fresh = bed.logged_in().await;
    bed.clock.advance(DAY);
    assert!(matches!(origin(&bed, &fresh).await, Origin::Rejected(Rejection::Expired(_))));
    bed.visit(&mut fresh, |session| session.insert("n", 2).unwrap()).await;
    assert_eq!(origin(&bed, &fresh).await, Origin::Resumed, "a new one works");
}

#[actix_web::test]
async fn two_nodes_whose_clocks_differ_by_less_than_a_minute_agree_and_by_more_do_not() {
    let ring = KeyRing::new(key(1));
    for (skew, agree) in [(59 * 1_000 * MS, true), (MINUTE, true), (MINUTE + MS, false)] {
        let ahead = Bed::on(ring.clone(), sealed_session::ManualClock::at(start() + skew), |builder| builder);
        let behind = Bed::on(ring.clone(), sealed_session::ManualClock::at(start()), |builder| builder);
        let mut jar = ahead.logged_in().await;
        let found = origin(&behind, &jar).await;
        assert_eq!(found == Origin::Resumed, agree, "{skew:?}: {found:?}");
        if !agree {
            assert_eq!(found, Origin::Rejected(Rejection::Future));
            continue;
        }
        // Back and forth, neither ends it too early nor prolongs it by the difference each time.
        let mut ends = BTreeSet::new();
        for node in [&behind, &ahead].into_iter().cycle().take(20) {
            node.visit(&mut jar, |session| session.insert("n", session.len()).unwrap()).await;
            // What each sees differs by the difference; what is sealed does not move.
            ends.insert(ahead.see(&jar, Session::expires_at).await);
        }
        assert_eq!(ends.len(), 1, "{ends:?}");
    }
}
