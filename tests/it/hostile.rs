//! Whatever stands in a cookie: a new session, status 200, never data.

use sealed_session::{CommitContext, Origin, Session};

use crate::support::{Bed, now};

fn refused(session: &Session) {
    assert!(matches!(session.origin(), Origin::Rejected(_)), "{:?}", session.origin());
    assert!(session.is_empty() && session.subject().is_none());
}

/// Loads, looks, writes and commits, without the framework between.
fn request(bed: &Bed, header: &[u8]) -> Session {
    let session = now(bed.sessions.load([header])).unwrap();
    let again = now(bed.sessions.load([header])).unwrap();
    again.insert("n", 2).unwrap();
    assert!(now(bed.sessions.commit(&again, CommitContext::default())).unwrap().pop().is_some());
    session
}

#[actix_web::test]
async fn every_single_byte_mutation_of_a_valid_cookie_gives_a_new_session() {
    let bed = Bed::new();
    let good = bed.logged_in().await.0.unwrap().into_bytes();
    for at in 2..good.len() {
        for byte in (1..=255_u8).filter(|&byte| byte != good[at]) {
            let mut bad = good.clone();
            bad[at] = byte;
            // Before the value starts and behind it, white space is none of the value, and `;` ends it.
            let blank = byte == b' ' || byte == b'\t' || byte == b'\n' || byte == b'\r' || byte == 12;
            if blank && (at == 2 || at == good.len() - 1) {
                continue;
            }
            refused(&now(bed.sessions.load([&bad])).unwrap());
        }
    }
}

#[actix_web::test]
async fn mutations_answer_200_through_the_whole_service() {
    let bed = Bed::new();
    let good = bed.logged_in().await.0.unwrap().into_bytes();
    for at in 2..good.len() {
        let mut bad = good.clone();
        bad[at] = if bad[at] == b'x' { b'y' } else { b'x' };
        bed.raw(&[&bad], refused).await;
        bad[at] = 0xfe;
        bed.raw(&[&bad], refused).await;
    }
}

#[actix_web::test]
async fn every_truncation_and_extension_of_a_valid_cookie_gives_a_new_session() {
    let bed = Bed::new();
    let good = bed.logged_in().await.0.unwrap();
    for len in 2..good.len() {
        refused(&request(&bed, &good.as_bytes()[..len]));
        bed.raw(&[&good.as_bytes()[..len]], refused).await;
    }
    for more in [
        "A",
        "AA",
        "AAA",
        "AAAA",
        "=",
        "==",
        "%3D",
        "\"",
        ".",
        ",",
        "+",
        "/",
        &"A".repeat(43),
        &"A".repeat(86),
    ] {
        bed.raw(&[format!("{good}{more}").as_bytes()], refused).await;
        bed.raw(&[format!("s={more}{}", &good[2..]).as_bytes()], refused).await;
    }
    bed.raw(&[format!("s=\"\"{}\"\"", &good[2..]).as_bytes()], refused).await;
}

#[actix_web::test]
async fn a_hundred_thousand_random_cookies_give_new_sessions() {
    let bed = Bed::new();
    let good = bed.logged_in().await.0.unwrap();
    let mut seed = 99_u64;
    let mut random = move |bound: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % bound as u64) as usize
    };
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for round in 0..100_000 {
        let len = match round % 3 {
            0 => good.len() - 2,
            1 => random(300),
            _ => random(4_200),
        };
        let mut header = b"s=".to_vec();
        if round % 2 == 0 {
            header.extend((0..len).map(|_| alphabet[random(64)]));
            // Half of these are of our suite and name our key, so that they come as far as the cipher.
            if round % 4 == 0 && len >= 8 {
                header[2..8].copy_from_slice(&good.as_bytes()[2..8]);
            }
        } else {
            header.extend((0..len).map(|_| {
                loop {
                    let byte = random(256) as u8;
                    if byte >= b' ' && byte != 127 && byte != b';' {
                        break byte;
                    }
                }
            }));
        }
        refused(&now(bed.sessions.load([&header])).unwrap());
        if round % 50 == 0 {
            bed.raw(&[&header], refused).await;
        }
    }
}

#[actix_web::test]
async fn an_id_from_outside_is_never_adopted() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    let id = bed.see(&jar, Session::id).await;
    let header = format!("s={id}; session={id}; id={id}");
    bed.raw(&[header.as_bytes()], move |session| assert_ne!(session.id(), id)).await;
}
