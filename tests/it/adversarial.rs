//! What an attacker, a wrong clock or a flood may try, and what comes of it.

use std::collections::BTreeSet;
use std::time::Instant;

#[cfg(feature = "memory")]
use sealed_session::store::Store;
use sealed_session::{KeyRing, ManualClock, Origin, Rejection, Session};
use time::OffsetDateTime;

#[cfg(feature = "memory")]
use crate::spy::guarded;
#[cfg(feature = "memory")]
use crate::stored::spilled;
use crate::support::{Bed, DAY, Jar, MINUTE, MS, key, now, start};

async fn origin(bed: &Bed, jar: &Jar) -> Origin {
    bed.see(jar, Session::origin).await
}

const SECRET: &str = "token=7f3a9c51e8d2";
/// Thirty-two bytes without a repetition, of none that is in the secret: what an attacker puts before a guess to bring
/// the end of the text to the border of a block.
const FILLER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&*";

/// The length of name + value when this stands beside the secret.
async fn length(bed: &Bed, chosen: &str) -> usize {
    let fill = |session: &Session| {
        session.insert("chosen", chosen)?;
        session.insert("secret", SECRET)
    };
    bed.sessions.issue(fill).await.unwrap().len()
}

/// The next letter guessed, with all letters before it known: of one length, and one of them right.
fn next_letters() -> impl Iterator<Item = String> {
    let letters = ('a'..='z').chain('0'..='9');
    letters.map(|letter| format!("token={letter}{}", "~".repeat(SECRET.len() - 7)))
}

/// The same text compressed and padded: what came before, from three bytes on, is a reference of two bytes.
fn compressed_length(chosen: &str) -> usize {
    let text = format!("chosen={chosen};secret={SECRET}");
    let (mut at, mut len) = (0, 0_usize);
    while at < text.len() {
        let is_seen = |end: &usize| text[..at].contains(&text[at..*end]);
        let seen = (at + 3..=text.len()).take_while(is_seen).last();
        (at, len) = seen.map_or((at + 1, len + 1), |end| (end, len + 2));
    }
    len.next_multiple_of(32)
}

/// Compression would make a guess that agrees with the secret shorter (CRIME, BREACH). Here the length is a function of
/// the lengths, in blocks of 32 bytes, wherever in its block a guess ends.
#[actix_web::test]
async fn the_length_of_a_cookie_tells_nothing_of_what_stands_beside_an_attackers_text() {
    let bed = Bed::new();
    let mut all = BTreeSet::new();
    for filler in 0..32 {
        let filler = &FILLER[..filler];
        let mut lengths = BTreeSet::new();
        // Guesses of the same length, from wholly wrong to wholly right.
        for right in 0..=SECRET.len() {
            let guess = format!("{}{}", &SECRET[..right], "~".repeat(SECRET.len() - right));
            lengths.insert(length(&bed, &format!("{filler}{guess}")).await);
        }
        for guess in next_letters() {
            lengths.insert(length(&bed, &format!("{filler}{guess}")).await);
        }
        assert_eq!(lengths.len(), 1, "one length for all guesses behind {filler:?}: {lengths:?}");
        all.extend(lengths);
    }
    assert_eq!(all.len(), 2, "the fillers cross one border of a block");

    // And in all there are no more lengths than blocks.
    let mut by_size = BTreeSet::new();
    for n in 0..320 {
        by_size.insert(length(&bed, &"a".repeat(n)).await);
    }
    assert!(by_size.len() <= 320 / 32 + 1, "{by_size:?}");
}

/// The right letter saves one byte, which the padding hides everywhere but at the border of a block.
#[test]
fn with_compression_the_right_letter_would_show_behind_one_of_the_fillers() {
    let told = |filler: &usize| {
        let length = |guess: String| compressed_length(&format!("{}{guess}", &FILLER[..*filler]));
        next_letters().map(length).collect::<BTreeSet<_>>().len() > 1
    };
    assert_eq!((0..32).filter(told).count(), 1);
    assert!(!told(&0), "without a filler it would not have been seen");
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
        let header_bytes = header.into_bytes();
        bed.raw(&[&header_bytes], move |session| {
            assert_eq!(session.origin() == Origin::Resumed, found);
        })
        .await;
    }
    // In several headers, as HTTP/2 sends them.
    let headers: Vec<&[u8]> = std::iter::repeat_n(&b"a=1"[..], 200).chain([good.as_bytes()]).collect();
    bed.raw(&headers, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
}

/// How many cookies go through the cipher is counted in src/core/candidates.rs; this is about the looking for them.
#[test]
fn eight_times_as_long_a_header_takes_about_eight_times_as_long() {
    let bed = Bed::new();
    let fastest = |header: &str| {
        let took = |_| {
            let began = Instant::now();
            assert_ne!(now(bed.sessions.load([header])).unwrap().origin(), Origin::Resumed);
            began.elapsed()
        };
        (0..30).map(took).min().unwrap()
    };
    for part in ["s=; ", ";", "c=v; ", "s=\"", "x", "=", " "] {
        let [short, long] = [4 << 10, 32 << 10].map(|len| fastest(&part.repeat(len / part.len())));
        // What grows with the square takes 64 times as long.
        assert!(long < 24 * short, "{part:?}: {short:?}, {long:?}");
    }
}

async fn jumps(bed: &Bed, browser: impl AsyncFn() -> Jar) {
    let mut jar = browser().await;
    let end = bed.see(&jar, Session::expires_at).await;

    bed.clock.set(start() - DAY);
    assert_eq!(origin(bed, &jar).await, Origin::Rejected(Rejection::Future));
    bed.clock.set(start() + MINUTE);
    assert_eq!(origin(bed, &jar).await, Origin::Resumed, "and it is there again when the clock is right");

    // A session that was used while the clock was a day ahead does not live longer for it when it is right again.
    bed.clock.set(start() + DAY - MINUTE);
    let reply = bed.visit(&mut jar, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
    assert!(reply.set_cookie().is_some());
    let prolonged = bed.see(&jar, Session::expires_at).await;
    assert_eq!(prolonged - end, 5 * MINUTE);
    bed.clock.set(start() + MINUTE);
    assert_eq!(origin(bed, &jar).await, Origin::Rejected(Rejection::Future));
    bed.clock.set(start() + DAY);
    assert_eq!(bed.see(&jar, |session| session.get::<u8>("n").unwrap()).await, Some(1));

    let mut fresh = browser().await;
    bed.clock.advance(DAY);
    assert!(matches!(origin(bed, &fresh).await, Origin::Rejected(Rejection::Expired(_))));
    bed.visit(&mut fresh, |session| session.insert("n", 2).unwrap()).await;
    assert_eq!(origin(bed, &fresh).await, Origin::Resumed, "a new one works");
}

#[actix_web::test]
async fn a_clock_that_jumps_a_day_ends_sessions_or_refuses_them_and_never_prolongs_one() {
    let bed = Bed::new();
    jumps(&bed, async || bed.logged_in().await).await;
}

#[cfg(feature = "memory")]
#[actix_web::test]
async fn a_clock_that_jumps_a_day_does_the_same_to_a_session_in_the_store() {
    let (bed, spy) = guarded(|builder| builder);
    jumps(&bed, async || spilled(&bed).await).await;
    assert!(spy.calls().contains(&"extend"), "the row's end moves with the cookie's");
}

#[cfg(feature = "memory")]
#[actix_web::test]
async fn a_row_that_was_dropped_while_the_clock_was_ahead_is_missing_and_no_failure() {
    let (bed, spy) = guarded(|builder| builder);
    let mut jar = spilled(&bed).await;
    bed.clock.set(start() + DAY + 2 * MINUTE);
    spilled(&bed).await;
    assert_eq!(spy.rows.count().await.unwrap(), 1, "that of the other, which came when this one's was over");
    bed.clock.set(start() + MINUTE);
    assert_eq!(origin(&bed, &jar).await, Origin::Rejected(Rejection::Missing));
    bed.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    assert_eq!(origin(&bed, &jar).await, Origin::Resumed, "a new one works");
}

/// What both nodes agree on, whatever their clocks show: the end that is sealed in the cookie.
fn sealed_end(ahead: &Bed, jar: &Jar) -> OffsetDateTime {
    ahead.sessions.inspect(jar.value()).unwrap().expires_at
}

#[actix_web::test]
async fn two_nodes_whose_clocks_differ_by_less_than_a_minute_agree_and_by_more_do_not() {
    let ring = KeyRing::new(key(1));
    for (skew, agree) in [(59 * 1_000 * MS, true), (MINUTE, true), (MINUTE + MS, false)] {
        let ahead = Bed::on(ring.clone(), ManualClock::at(start() + skew), |builder| builder);
        let behind = Bed::on(ring.clone(), ManualClock::at(start()), |builder| builder);
        let mut jar = ahead.logged_in().await;
        let found = origin(&behind, &jar).await;
        assert_eq!(found == Origin::Resumed, agree, "{skew:?}: {found:?}");
        if !agree {
            assert_eq!(found, Origin::Rejected(Rejection::Future));
            continue;
        }
        let end = sealed_end(&ahead, &jar);
        assert_eq!(end, start() + skew + DAY);

        // Back and forth: each answer seals anew, and neither ends the session sooner nor prolongs it by the difference.
        let mut count = 1;
        let back_and_forth = async |jar: &mut Jar, count: &mut i64, times| {
            let mut ends = Vec::new();
            for node in [&behind, &ahead].into_iter().cycle().take(times) {
                *count += 1;
                let expected = *count;
                let write = move |session: &Session| assert_eq!(session.increment("n", 1).unwrap(), expected);
                assert!(node.visit(jar, write).await.set_cookie().is_some());
                ends.push(sealed_end(&ahead, jar));
            }
            ends
        };
        assert_eq!(back_and_forth(&mut jar, &mut count, 20).await, [end; 20]);

        // Both clocks in the last minutes: the first use prolongs, by five minutes, and the 19 others find that done.
        let set = |now: OffsetDateTime| {
            ahead.clock.set(now);
            behind.clock.set(now - skew);
        };
        set(end - 2 * MINUTE);
        assert_eq!(back_and_forth(&mut jar, &mut count, 20).await, [end + 5 * MINUTE; 20]);

        // And for an hour of use: prolonged when it is due, always to less than ten minutes from the later clock.
        let mut now = end - 2 * MINUTE;
        let mut prolonged = 0;
        let mut before = end + 5 * MINUTE;
        for _ in 0..60 {
            now += MINUTE;
            set(now);
            for after in back_and_forth(&mut jar, &mut count, 4).await {
                assert!(after == before || after == before + 5 * MINUTE, "{before} {after}");
                assert!(after > now && after - now < 10 * MINUTE, "{now} {after}");
                prolonged += i32::from(after != before);
                before = after;
            }
        }
        assert_eq!(prolonged, 12, "every five minutes");
        // Nobody came for long enough: both say so.
        set(before + skew);
        for node in [&behind, &ahead] {
            assert!(matches!(origin(node, &jar).await, Origin::Rejected(Rejection::Expired(_))));
        }
    }
}
