//! What is told of sessions: each thing once, to the hook, to the log and to the metrics, and never a secret.

use sealed_session::{Event, KeyRing, Lifetime, Rejection, Session};

use crate::spy::{guarded, stored};
use crate::support::{Bed, DAY, Jar, MINUTE, key, start};

/// The words of the events since the last time.
fn words(bed: &Bed) -> Vec<&'static str> {
    bed.events().iter().map(Event::as_str).collect()
}

#[actix_web::test]
async fn a_life_is_told_event_by_event_and_each_of_them_once() {
    let (bed, _) = guarded(|builder| builder.lifetime(Lifetime::new(DAY).active(MINUTE)));
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| session.insert("n", 1).unwrap()).await;
    assert_eq!(words(&bed), ["started"]);
    bed.visit(&mut jar, |_| ()).await;
    assert_eq!(words(&bed), ["resumed"]);
    bed.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    assert_eq!(words(&bed), ["resumed", "reissued"]);
    bed.clock.advance(DAY - MINUTE / 2);
    bed.visit(&mut jar, |_| ()).await;
    assert_eq!(words(&bed), ["resumed", "extended"]);
    bed.sessions.keys().rotate(key(2)).unwrap();
    bed.visit(&mut jar, |_| ()).await;
    assert_eq!(words(&bed), ["resumed", "resealed"]);
    bed.visit(&mut jar, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    assert_eq!(words(&bed), ["resumed", "spilled", "reissued"]);
    bed.visit(&mut jar, |session| assert!(session.remove("large"))).await;
    assert_eq!(words(&bed), ["resumed", "written"]);
    bed.visit(&mut jar, |session| session.set_subject("ada").unwrap()).await;
    assert_eq!(words(&bed), ["resumed", "renewed", "returned"]);
    // One that never was in the store has not returned from there.
    bed.visit(&mut jar, Session::renew).await;
    assert_eq!(words(&bed), ["resumed", "renewed"]);
    let mut before = jar.clone();
    bed.visit(&mut jar, Session::destroy).await;
    assert_eq!(words(&bed), ["resumed", "ended"]);
    bed.visit(&mut before, |_| ()).await;
    assert_eq!(words(&bed), ["rejected"]);
    bed.sessions.revoke_subject("ada").await.unwrap();
    assert_eq!(words(&bed).last(), Some(&"subject_revoked"));
}

/// A cookie for each way to be refused.
pub(crate) async fn refused() -> Vec<(Bed, Jar, Rejection)> {
    let mut all = Vec::new();
    let lifetime = Lifetime::new(60 * MINUTE).active(MINUTE).idle(20 * MINUTE).absolute(50 * MINUTE);
    let fresh = |ring: KeyRing| {
        Bed::on(ring, sealed_session::ManualClock::at(start()), |builder| {
            builder.lifetime(lifetime).store(sealed_session::store::MemoryStore::new())
        })
    };
    let ring = || KeyRing::new(key(1));
    let jar = fresh(ring()).logged_in().await;
    let with = |f: &dyn Fn(&str) -> String| Jar(Some(format!("s={}", f(jar.value()))));

    all.push((fresh(ring()), with(&|value| format!("{value}!")), Rejection::Malformed));
    all.push((fresh(ring()), with(&|value| format!("B{}", &value[1..])), Rejection::UnknownSuite(5)));
    all.push((fresh(KeyRing::new(key(2))), jar.clone(), Rejection::UnknownKey(key(1).id())));
    let revoked = KeyRing::from_keys([key(2), key(1)]).unwrap();
    revoked.revoke(key(1).id()).unwrap();
    all.push((fresh(revoked), jar.clone(), Rejection::RevokedKey(key(1).id())));
    let other = if &jar.value()[80..81] == "A" { "B" } else { "A" };
    let tampered = with(&|value| format!("{}{other}{}", &value[..80], &value[81..]));
    all.push((fresh(ring()), tampered, Rejection::Tampered));

    let idle = fresh(ring());
    idle.clock.advance(20 * MINUTE);
    all.push((idle, jar.clone(), Rejection::Expired(sealed_session::End::Idle)));
    let no_idle = Lifetime::new(60 * MINUTE).absolute(50 * MINUTE);
    let absolute = Bed::on(ring(), sealed_session::ManualClock::at(start()), |b| b.lifetime(no_idle));
    absolute.clock.advance(50 * MINUTE);
    all.push((absolute, jar.clone(), Rejection::Expired(sealed_session::End::Absolute)));
    let plain = Lifetime::new(60 * MINUTE);
    let duration = Bed::on(ring(), sealed_session::ManualClock::at(start()), |b| b.lifetime(plain));
    duration.clock.advance(60 * MINUTE);
    all.push((duration, jar.clone(), Rejection::Expired(sealed_session::End::Duration)));
    let future = fresh(ring());
    future.clock.set(start() - 2 * MINUTE);
    all.push((future, jar.clone(), Rejection::Future));

    let (bed, _) = stored(|builder| builder);
    let reference = crate::stored::spilled(&bed).await;
    all.push((fresh(ring()), reference, Rejection::Missing));
    let (bed, _) = guarded(|builder| builder);
    let ended = bed.logged_in().await;
    bed.peek(&ended, Session::destroy).await;
    bed.events();
    all.push((bed, ended, Rejection::Revoked));
    all
}

#[actix_web::test]
async fn each_reason_to_refuse_a_cookie_is_reached_and_told_once() {
    let all = refused().await;
    let mut reasons: Vec<_> = all.iter().map(|(.., reason)| reason.as_str()).collect();
    reasons.dedup();
    let every = [
        "malformed",
        "unknown_suite",
        "unknown_key",
        "revoked_key",
        "tampered",
        "expired",
        "future",
        "missing",
        "revoked",
    ];
    assert_eq!(reasons, every);
    for (bed, jar, reason) in all {
        bed.peek(&jar, move |session| {
            assert_eq!(session.origin(), sealed_session::Origin::Rejected(reason));
        })
        .await;
        // Whose it is can be told of what is authentic.
        let authentic = ["expired", "future", "missing", "revoked"].contains(&reason.as_str());
        let id = authentic.then(|| Bed::new().sessions.inspect(jar.value()).unwrap().id);
        assert_eq!(bed.events(), [Event::Rejected { id, reason }]);
    }
}

#[cfg(feature = "metrics")]
#[actix_web::test]
async fn metrics_count_events_with_their_reasons_and_take_the_sizes_of_cookies() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let guard = metrics::set_default_local_recorder(&recorder);
    for (bed, jar, _) in refused().await {
        bed.peek(&jar, |_| ()).await;
    }
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    drop(guard);

    let mut rejected = Vec::new();
    let mut cookies = Vec::new();
    for (key, _, _, value) in snapshots.snapshot().into_vec() {
        let labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
        match (key.key().name(), value) {
            ("sealed_session_events_total", DebugValue::Counter(n)) if n > 0 && labels[0] == "rejected" => {
                rejected.push((labels[1].clone(), n));
            }
            ("sealed_session_cookie_bytes", DebugValue::Histogram(sizes)) => cookies = sizes,
            _ => {}
        }
    }
    rejected.sort();
    let once = |reason: &str| (reason.to_owned(), 1);
    assert_eq!(
        rejected,
        [
            ("expired".to_owned(), 3),
            once("future"),
            once("malformed"),
            once("missing"),
            once("revoked"),
            once("revoked_key"),
            once("tampered"),
            once("unknown_key"),
            once("unknown_suite"),
        ]
    );
    let size = jar.0.unwrap().len() - 1;
    assert!(cookies.iter().filter(|bytes| ***bytes == size as f64).count() >= 2, "{cookies:?} and {size}");
}
