//! Payloads of every size that matters, through each engine: no cookie over the limit, nothing lost.

use sealed_session::{CommitContext, MAX_NAME_VALUE_BYTES, Placement, Sessions};

use crate::engines::{Engine, sessions};

/// Sizes around each boundary: of blocks of the envelope, of the spill, of a cookie, of length prefixes, of pages.
fn sizes() -> impl Iterator<Item = usize> {
    let around = |at: usize| at.saturating_sub(3)..at + 4;
    (1..120)
        .chain((120..2_000).step_by(97))
        .chain(2_000..2_260)
        .chain((2_260..4_200).step_by(61))
        .chain([251, 256, 3_008, 3_072, 4_094, 8_192, 16_384, 32_768].into_iter().flat_map(around))
        .chain(65_500..65_541)
}

async fn check(engine: Engine) {
    let place = engine.place();
    let sessions: Sessions = sessions(place.open().await).build().unwrap();
    let (mut in_cookies, mut in_rows) = (0, 0);
    for size in sizes() {
        let payload: String = (0..size).map(|i| char::from(b'a' + (i * 7 % 26) as u8)).collect();
        let session = sessions.load(["other=1"]).await.unwrap();
        session.insert("payload", &payload).unwrap();
        session.insert("size", size).unwrap();
        let line = sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
        let pair = line.split(';').next().unwrap();
        assert!(pair.len() - 1 <= MAX_NAME_VALUE_BYTES, "{size}: {}", pair.len());

        let next = sessions.load([pair]).await.unwrap();
        match next.placement() {
            Placement::Cookie { bytes } => {
                assert_eq!(bytes, pair.len() - 1);
                in_cookies += 1;
            }
            Placement::Store { .. } => in_rows += 1,
            other => panic!("{other:?}"),
        }
        assert_eq!(next.get::<String>("payload").unwrap().as_ref(), Some(&payload), "{size}");
        assert_eq!(next.get::<usize>("size").unwrap(), Some(size));
        // And a change of the one that is there.
        next.insert("payload", payload.chars().rev().collect::<String>()).unwrap();
        let line = sessions.commit(&next, CommitContext::default()).await.unwrap().pop();
        let again = sessions.load([line.as_deref().map_or(pair, |line| line.split(';').next().unwrap())]);
        let again = again.await.unwrap().get::<String>("payload").unwrap().unwrap();
        assert!(again.chars().rev().eq(payload.chars()), "{size}");
    }
    assert!(in_cookies > 300 && in_rows > 100, "{in_cookies} in cookies, {in_rows} in rows");
}

on_each_engine!(check);
