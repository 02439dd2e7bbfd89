//! Keys through their life: pending, primary, retired, revoked; from files and sources that change under the running
//! application.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealed_session::{Event, KeyError, KeyRing, KeySource, KeyState, Origin, Rejection, Session, Source};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::support::{Bed, Jar, MINUTE, MS, key, start};

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path =
            std::env::temp_dir().join(format!("sealed-session-{}", sealed_session::Key::generate().id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn keys(&self) -> PathBuf {
        self.0.join("session.keys")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn on(ring: &KeyRing, bed: &Bed) -> Bed {
    Bed::on(ring.clone(), bed.clock.clone(), |builder| builder)
}

async fn origin(bed: &Bed, jar: &Jar) -> Origin {
    bed.see(jar, Session::origin).await
}

fn states(ring: &KeyRing) -> Vec<(sealed_session::KeyId, KeyState)> {
    ring.list().into_iter().map(|info| (info.id, info.state)).collect()
}

#[actix_web::test]
async fn a_pending_key_opens_at_once_and_seals_from_its_moment_on() {
    let bed = Bed::new();
    let ring = bed.sessions.keys();
    let ahead = on(&KeyRing::from_keys([key(2), key(1)]).unwrap(), &bed);
    let mut early = ahead.logged_in().await;
    let mut jar = bed.logged_in().await;
    ring.schedule(key(2), start() + MINUTE).unwrap();
    assert!(matches!(ring.schedule(key(2), start()), Err(KeyError::Duplicate { .. })));

    // What a node that is ahead has sealed is good, and is not sealed back.
    assert_eq!(bed.visit(&mut early, |session| assert_eq!(session.len(), 1)).await.set_cookie(), None);
    bed.clock.advance(MINUTE - MS);
    assert_eq!(bed.visit(&mut jar, |_| ()).await.set_cookie(), None);
    assert_eq!(ring.primary(), key(1).id());
    bed.clock.advance(MS);
    assert!(bed.visit(&mut jar, |session| assert_eq!(session.len(), 1)).await.set_cookie().is_some());
    assert_eq!(bed.sessions.inspect(jar.value()).unwrap().key_id, key(2).id());
    assert_eq!(ring.ids(), [key(2).id(), key(1).id()]);
    assert_eq!(
        states(ring),
        [(key(1).id(), KeyState::Retired { not_after: None }), (key(2).id(), KeyState::Primary)]
    );
}

#[actix_web::test]
async fn of_two_pending_keys_that_came_meanwhile_the_later_one_is_the_primary() {
    let bed = Bed::new();
    let ring = bed.sessions.keys();
    bed.logged_in().await;
    ring.schedule(key(3), start() + 3 * MINUTE).unwrap();
    ring.schedule(key(2), start() + 2 * MINUTE).unwrap();
    bed.clock.advance(10 * MINUTE);
    bed.logged_in().await;
    assert_eq!(ring.ids(), [key(3).id(), key(1).id(), key(2).id()]);
}

#[actix_web::test]
async fn a_retired_key_opens_until_its_moment_and_is_unknown_then() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    let ring = bed.sessions.keys();
    assert!(matches!(ring.retire(key(1).id(), None), Err(KeyError::Primary { action: "retire", .. })));
    ring.rotate(key(2)).unwrap();
    ring.retire(key(1).id(), Some(start() + MINUTE)).unwrap();
    bed.clock.advance(MINUTE - MS);
    assert_eq!(origin(&bed, &jar).await, Origin::Resumed);
    bed.clock.advance(MS);
    assert_eq!(origin(&bed, &jar).await, Origin::Rejected(Rejection::UnknownKey(key(1).id())));
    assert_eq!(ring.ids(), [key(2).id()]);
    // What was a slip can be taken back for a week, and is forgotten then.
    ring.retire(key(1).id(), None).unwrap();
    assert_eq!(origin(&bed, &jar).await, Origin::Resumed);
    ring.retire(key(1).id(), Some(start())).unwrap();
    bed.clock.set(start() + 7 * 24 * 60 * MINUTE - MS);
    origin(&bed, &jar).await;
    assert_eq!(ring.ids(), [key(2).id()]);
    ring.retire(key(1).id(), Some(start())).unwrap();
    // The ring hears of the time when there is something to do.
    ring.schedule(key(3), start() + 7 * 24 * 60 * MINUTE).unwrap();
    bed.clock.advance(MS);
    origin(&bed, &jar).await;
    assert_eq!(ring.primary(), key(3).id());
    assert!(matches!(ring.retire(key(1).id(), None), Err(KeyError::NotInRing { .. })));
}

/// Otherwise a server that looks in between seals anew what the leaked key has forged.
#[actix_web::test]
async fn a_leaked_primary_is_replaced_in_one_step_and_no_other_key_is() {
    let pending = KeyState::Pending { not_before: start() + MINUTE };
    let retired = KeyState::Retired { not_after: None };
    {
        let folder = Folder::new();
        let bed = Bed::new();
        let text = [1, 2].map(|n| key(n).export().to_string()).join(",");
        std::fs::write(folder.keys(), text).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(folder.keys(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let ring = KeyRing::open(folder.keys()).unwrap();
        on(&ring, &bed).logged_in().await;
        ring.schedule(key(3), start() + MINUTE).unwrap();
        let before = std::fs::metadata(folder.keys()).unwrap();
        assert!(matches!(ring.replace(key(1).id(), key(1)), Err(KeyError::Duplicate { .. })));
        assert!(matches!(ring.replace(key(7).id(), key(9)), Err(KeyError::NotInRing { .. })));
        // What these have forged is the primary's by now, which would be retired, and sealed anew once more.
        for other in [2, 3] {
            assert!(matches!(ring.replace(key(other).id(), key(9)), Err(KeyError::NotPrimary { .. })));
        }
        assert_eq!(std::fs::metadata(folder.keys()).unwrap().modified().unwrap(), before.modified().unwrap());
        ring.replace(key(1).id(), key(9)).unwrap();
        let expected = [(9, KeyState::Primary), (1, KeyState::Revoked), (2, retired), (3, pending)];
        assert_eq!(states(&ring), expected.map(|(n, state)| (key(n).id(), state)));
        assert_eq!(states(&KeyRing::open(folder.keys()).unwrap()).len(), 4);
        assert!(matches!(ring.replace(key(1).id(), key(10)), Err(KeyError::NotPrimary { .. })), "twice");
        assert!(
            matches!(ring.replace(key(9).id(), key(1)), Err(KeyError::Duplicate { .. })),
            "it is revoked"
        );
    }
}

#[actix_web::test]
async fn of_a_revoked_primary_the_key_that_is_pending_first_takes_the_place_in_the_same_step() {
    let bed = Bed::new();
    let ring = bed.sessions.keys();
    bed.logged_in().await;
    ring.schedule(key(3), start() + 3 * MINUTE).unwrap();
    ring.schedule(key(2), start() + 2 * MINUTE).unwrap();
    ring.revoke(key(1).id()).unwrap();
    assert_eq!(ring.ids(), [key(2).id(), key(3).id()]);
    assert_eq!(ring.primary(), key(2).id());
}

/// A draft has all keys in it, and whoever was killed while writing it leaves it behind.
#[test]
fn what_an_interrupted_change_has_left_is_removed_by_a_later_one() {
    let folder = Folder::new();
    let ring = KeyRing::open_or_create(folder.keys()).unwrap();
    let put = |name: &str, hours: u64| {
        let file = std::fs::File::create(folder.0.join(name)).unwrap();
        let at = std::time::SystemTime::now() - Duration::from_secs(3_600 * hours + 60);
        file.set_modified(at).unwrap();
    };
    put("session.keys.0123456789abcdef.tmp", 1);
    let others = [
        ("session.keys.1123456789abcdef.tmp", 0), // somebody may be writing it
        ("session.keys.123456789abcdef.tmp", 1),
        ("session.keys.0123456789abcdeg.tmp", 1),
        ("session.keys.0123456789abcdef", 1),
        ("other.keys.0123456789abcdef.tmp", 1),
    ];
    others.iter().for_each(|(name, hours)| put(name, *hours));
    ring.rotate(key(2)).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort_unstable();
    let mut expected = vec!["session.keys"];
    expected.extend(others.map(|(name, _)| name));
    expected.sort_unstable();
    assert_eq!(left, expected);
}

#[actix_web::test]
async fn a_source_that_panics_costs_no_request_and_is_asked_again() {
    struct Slips(Arc<Mutex<u32>>);
    impl KeySource for Slips {
        fn load(&self) -> Result<Zeroizing<String>, Source> {
            let turn = {
                let mut turns = self.0.lock().unwrap();
                *turns += 1;
                *turns
            };
            assert_ne!(turn, 2, "an application's mistake");
            Ok(key(turn as u8).export())
        }
    }
    let ring = KeyRing::from_source(Slips(Arc::default())).unwrap();
    let bed = on(&ring, &Bed::new());
    let jar = bed.logged_in().await;
    bed.clock.advance(Duration::from_secs(1));
    assert_eq!(origin(&bed, &jar).await, Origin::Resumed);
    let told = bed.events().into_iter().find(|event| matches!(event, Event::KeysFailed { .. }));
    assert!(matches!(told, Some(Event::KeysFailed { error }) if error.contains("it panicked")));
    bed.clock.advance(Duration::from_secs(1));
    origin(&bed, &Jar::default()).await;
    assert_eq!(ring.ids(), [key(3).id()]);
}

#[actix_web::test]
async fn a_revoked_key_opens_nothing_is_counted_apart_and_nobody_else_notices() {
    let bed = Bed::new();
    let ring = bed.sessions.keys();
    let stolen = bed.logged_in().await;
    assert!(matches!(ring.revoke(key(1).id()), Err(KeyError::Primary { action: "revoke", .. })));
    ring.rotate(key(2)).unwrap();
    let mut other = bed.logged_in().await;
    ring.revoke(key(1).id()).unwrap();
    let reply = bed.peek(&stolen, |session| assert!(session.is_empty())).await;
    assert_eq!(reply.set_cookie(), None, "the browser may have a newer cookie by now");
    assert_eq!(bed.rejections(), [Rejection::RevokedKey(key(1).id())]);
    assert_eq!(origin(&bed, &other).await, Origin::Resumed);
    let reply = bed.visit(&mut other, |session| session.insert("other", 1).unwrap()).await;
    assert!(reply.set_cookie().is_some());
    assert_eq!(states(ring)[1], (key(1).id(), KeyState::Revoked));
    // It does not come back by mistake.
    assert!(matches!(ring.rotate(key(1)), Err(KeyError::Duplicate { .. })));
    assert!(matches!(ring.add_retired(key(1)), Err(KeyError::Duplicate { .. })));
}

#[actix_web::test]
async fn a_request_under_way_does_not_launder_what_a_revoked_key_had_sealed() {
    let works: [fn(&Session); 4] =
        [|_| (), |session| session.insert("n", 2).unwrap(), Session::renew, Session::touch];
    for work in works {
        let bed = Bed::new();
        let forged = bed.logged_in().await;
        bed.sessions.keys().rotate(key(2)).unwrap();
        let ring = bed.sessions.keys().clone();
        let reply = bed.peek(&forged, move |session| {
            assert_eq!(session.origin(), Origin::Resumed);
            work(session);
            ring.revoke(key(1).id()).unwrap();
        });
        assert_eq!(reply.await.set_cookie(), None);
    }
}

#[actix_web::test]
async fn a_key_file_is_followed_by_every_process_within_the_interval() {
    let (folder, bed) = (Folder::new(), Bed::new());
    let here = KeyRing::open_or_create(folder.keys()).unwrap().reload_every(MINUTE);
    let there = KeyRing::open(folder.keys()).unwrap().reload_every(MINUTE);
    let (one, other) = (on(&here, &bed), on(&there, &bed));
    let first = here.primary();
    let mut jar = one.logged_in().await;
    assert_eq!(origin(&other, &jar).await, Origin::Resumed);

    here.rotate(key(2)).unwrap();
    one.visit(&mut jar, |_| ()).await;
    // The other one meets a key that it does not know, and looks at once.
    assert_eq!(origin(&other, &jar).await, Origin::Resumed);
    assert_eq!(there.ids(), [key(2).id(), first]);
    assert!(other.events().contains(&Event::KeysReloaded { primary: key(2).id() }));

    // What is taken away is noticed when it is time.
    here.revoke(first).unwrap();
    here.rotate(key(3)).unwrap();
    bed.clock.advance(MINUTE - MS);
    origin(&other, &Jar::default()).await;
    assert_eq!(there.ids(), [key(2).id(), first]);
    bed.clock.advance(MS);
    origin(&other, &Jar::default()).await;
    assert_eq!(there.ids(), [key(3).id(), key(2).id()]);
    assert_eq!(other.events().iter().filter(|e| matches!(e, Event::KeysReloaded { .. })).count(), 1);
    assert_eq!(states(&there), states(&here));
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "no draft is left behind");
}

/// A clock that was ahead and is set back does not keep the keys as they are until the time that it showed.
#[actix_web::test]
async fn a_key_file_is_followed_after_the_clock_was_set_back() {
    let (folder, bed) = (Folder::new(), Bed::new());
    let here = KeyRing::open_or_create(folder.keys()).unwrap();
    let there = KeyRing::open(folder.keys()).unwrap().reload_every(MINUTE);
    let other = on(&there, &bed);
    bed.clock.advance(60 * MINUTE);
    origin(&other, &Jar::default()).await;
    bed.clock.set(start());
    origin(&other, &Jar::default()).await;
    here.rotate(key(2)).unwrap();
    bed.clock.advance(MINUTE);
    origin(&other, &Jar::default()).await;
    assert_eq!(there.primary(), key(2).id());
}

/// Also of a revocation that was in the file before the process was there.
#[actix_web::test]
async fn a_key_is_revoked_for_whoever_reads_of_it_and_no_other_is() {
    let (folder, bed) = (Folder::new(), Bed::new());
    let ring = KeyRing::open_or_create(folder.keys()).unwrap();
    let revoked = ring.primary();
    let stolen = on(&ring, &bed).logged_in().await;
    let stranger = on(&KeyRing::new(key(9)), &bed).logged_in().await;
    ring.rotate(key(2)).unwrap();
    ring.revoke(revoked).unwrap();
    let later = on(&KeyRing::open(folder.keys()).unwrap(), &bed);
    assert_eq!(origin(&later, &stolen).await, Origin::Rejected(Rejection::RevokedKey(revoked)));
    assert_eq!(origin(&later, &stranger).await, Origin::Rejected(Rejection::UnknownKey(key(9).id())));
}

#[actix_web::test]
async fn unknown_keys_make_it_look_once_per_interval_however_many_come() {
    #[derive(Debug)]
    struct Counted(Arc<Mutex<usize>>);
    impl KeySource for Counted {
        fn load(&self) -> Result<Zeroizing<String>, Source> {
            *self.0.lock().unwrap() += 1;
            Ok(key(1).export())
        }
    }
    let asked = Arc::new(Mutex::new(0));
    let ring = KeyRing::from_source(Counted(Arc::clone(&asked))).unwrap().reload_every(MINUTE);
    let bed = on(&ring, &Bed::new());
    let strangers: Vec<Jar> = {
        let mut jars = Vec::new();
        for n in 10..30 {
            jars.push(on(&KeyRing::new(key(n)), &bed).logged_in().await);
        }
        jars
    };
    assert_eq!(*asked.lock().unwrap(), 1);
    for minute in 0..3 {
        for jar in &strangers {
            assert!(matches!(origin(&bed, jar).await, Origin::Rejected(Rejection::UnknownKey(_))));
        }
        // One for the unknown ones, and from the second minute on one because it is time.
        assert_eq!(*asked.lock().unwrap(), 2 + 2 * minute);
        bed.clock.advance(MINUTE);
    }
    assert!(matches!(ring.rotate(key(2)), Err(KeyError::ReadOnly { .. })));
}

#[actix_web::test]
async fn a_source_that_changes_is_followed_and_one_that_fails_leaves_the_keys_as_they_are() {
    #[derive(Debug, Clone, Default)]
    struct Fetched(Arc<Mutex<Option<String>>>);
    impl KeySource for Fetched {
        fn load(&self) -> Result<Zeroizing<String>, Source> {
            self.0.lock().unwrap().clone().map(Zeroizing::new).ok_or("the vault is sealed".into())
        }
    }
    let source = Fetched::default();
    let error = KeyRing::from_source(source.clone()).unwrap_err();
    assert!(matches!(error, KeyError::Source { .. }));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("vault"));

    let set = |text: &str| *source.0.lock().unwrap() = Some(text.to_owned());
    set(&key(1).export());
    let ring = KeyRing::from_source(source.clone()).unwrap();
    let bed = on(&ring, &Bed::new());
    let jar = bed.logged_in().await;
    let (one, two) = (key(1).export(), key(2).export());
    set(&format!("{}, {}", *two, *one));
    bed.clock.advance(Duration::from_secs(1));
    assert_eq!(origin(&bed, &jar).await, Origin::Resumed);
    assert_eq!(ring.ids(), [key(2).id(), key(1).id()]);
    for broken in [None, Some("nonsense".to_owned()), Some(String::new())] {
        *source.0.lock().unwrap() = broken;
        bed.events();
        bed.clock.advance(Duration::from_secs(1));
        assert_eq!(origin(&bed, &jar).await, Origin::Resumed);
        assert_eq!(ring.ids(), [key(2).id(), key(1).id()]);
        let told = bed.events().into_iter().filter(|event| matches!(event, Event::KeysFailed { .. })).count();
        assert_eq!(told, 1);
    }
    assert!(ring.reload().is_err());
    set(&two);
    assert!(ring.reload().unwrap());
    assert!(!ring.reload().unwrap());
}

#[actix_web::test]
async fn a_file_that_is_gone_or_broken_is_told_and_costs_nobody_a_session() {
    let (folder, bed) = (Folder::new(), Bed::new());
    let ring = KeyRing::open_or_create(folder.keys()).unwrap();
    let bed = on(&ring, &bed);
    let jar = bed.logged_in().await;
    let good = std::fs::read(folder.keys()).unwrap();
    let breaks: [&dyn Fn(&Path); 2] =
        [&|path| std::fs::remove_file(path).unwrap(), &|path| std::fs::write(path, "{").unwrap()];
    for harm in breaks {
        harm(&folder.keys());
        bed.events();
        for _ in 0..2 {
            bed.clock.advance(Duration::from_secs(1));
            assert_eq!(origin(&bed, &jar).await, Origin::Resumed);
        }
        let told: Vec<String> = bed
            .events()
            .into_iter()
            .filter_map(|event| if let Event::KeysFailed { error } = event { Some(error) } else { None })
            .collect();
        assert_eq!(told.len(), 2);
        assert!(told[0].contains("session.keys"), "{told:?}");
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(folder.keys());
        std::io::Write::write_all(&mut file.unwrap(), &good).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(folder.keys(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        bed.clock.advance(Duration::from_secs(1));
        assert_eq!(origin(&bed, &jar).await, Origin::Resumed);
        assert_eq!(bed.events().iter().filter(|e| matches!(e, Event::KeysFailed { .. })).count(), 0);
    }
}

#[actix_web::test]
async fn a_broken_file_is_not_read_for_every_unknown_key_that_somebody_sends() {
    let (folder, bed) = (Folder::new(), Bed::new());
    let ring = KeyRing::open_or_create(folder.keys()).unwrap();
    let bed = on(&ring, &bed);
    bed.logged_in().await;
    let stranger = on(&KeyRing::new(key(9)), &bed).logged_in().await;
    std::fs::write(folder.keys(), "{").unwrap();
    for _ in 0..50 {
        assert!(matches!(origin(&bed, &stranger).await, Origin::Rejected(Rejection::UnknownKey(_))));
    }
    let told = bed.events().iter().filter(|event| matches!(event, Event::KeysFailed { .. })).count();
    assert!((1..=2).contains(&told), "{told}");
}

#[test]
fn processes_that_change_the_file_at_once_lose_nothing_of_each_other() {
    let folder = Folder::new();
    let path = folder.keys();
    let first = KeyRing::open_or_create(&path).unwrap();
    std::thread::scope(|scope| {
        for n in 10..26 {
            let ring = KeyRing::open(&path).unwrap();
            scope.spawn(move || {
                ring.schedule(key(n), OffsetDateTime::now_utc() + Duration::from_secs(3_600)).unwrap();
                if n % 2 == 0 {
                    ring.revoke(key(n).id()).unwrap();
                }
            });
        }
    });
    let ring = KeyRing::open(&path).unwrap();
    assert_eq!(ring.list().len(), 17);
    assert_eq!(ring.list().iter().filter(|info| info.state == KeyState::Revoked).count(), 8);
    assert_eq!(ring.primary(), first.primary());
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = first.rotate(key(9));
        assert!(error.is_ok());
    }
    let text = std::fs::read_to_string(&path).unwrap();
    for n in (10..26).step_by(2) {
        assert!(!text.contains(key(n).export().as_str()), "a revoked key is forgotten");
    }
}

#[test]
fn documents_say_each_state_and_slips_are_named_without_quoting_a_key() {
    let text = |n: u8| key(n).export().to_string();
    let id = |n: u8| key(n).id().to_string();
    let moment = "2026-01-01T00:01:00Z";
    let good = format!(
        r#"{{"version": 1, "keys": [
            {{"key": "{}", "state": "pending", "not_before": "2999-01-01T00:00:00+01:00"}},
            {{"id": "{}", "key": "{}", "state": "primary"}},
            {{"key": "{}", "state": "retired", "not_after": "2999-01-01T00:00:00Z"}},
            {{"key": "{}", "state": "retired"}},
            {{"id": "{}", "state": "revoked"}},
            {{"key": "{}", "state": "revoked"}}]}}"#,
        text(1),
        id(2),
        text(2),
        text(3),
        text(4),
        id(5),
        text(6)
    );
    let ring = KeyRing::parse(&good).unwrap();
    assert_eq!(ring.ids(), [2, 1, 3, 4].map(|n| key(n).id()));
    assert_eq!(ring.list().len(), 6);
    assert_eq!(ring.list()[5].state, KeyState::Revoked);
    // As some editors write it.
    assert_eq!(KeyRing::parse(&format!("\u{feff}{good}")).unwrap().ids(), ring.ids());
    assert_eq!(KeyRing::parse(&format!("\u{feff}{}", text(1))).unwrap().primary(), key(1).id());

    let document =
        |keys: &str| format!(r#"{{"version":1,"keys":[{{"key":"{}","state":"primary"}},{keys}]}}"#, text(1));
    for (keys, word) in [
        (format!(r#"{{"key":"{}","state":"pending"}}"#, text(2)), "needs a not_before"),
        (
            format!(r#"{{"key":"{}","state":"retired","not_before":"{moment}"}}"#, text(2)),
            "only a pending key",
        ),
        (
            format!(r#"{{"key":"{}","state":"revoked","not_after":"{moment}"}}"#, text(2)),
            "only a retired key",
        ),
        (format!(r#"{{"key":"{}","state":"retired","not_after":"tomorrow"}}"#, text(2)), "RFC 3339"),
        (format!(r#"{{"id":"{}","state":"retired"}}"#, id(2)), "has no key"),
        (r#"{"state":"revoked"}"#.to_owned(), "neither a key nor an id"),
        (format!(r#"{{"id":"{}","key":"{}","state":"retired"}}"#, id(3), text(2)), "another id"),
        (r#"{"id":"xyz","state":"revoked"}"#.to_owned(), "8 hexadecimal digits"),
        (format!(r#"{{"key":"{}","state":"retired"}}"#, text(1)), "already"),
        (format!(r#"{{"key":"{}","state":"primary"}}"#, text(2)), "2 primary keys"),
        (format!(r#"{{"key":"{}","state":"retired","secret":1}}"#, text(2)), "line 1"),
    ] {
        let error = KeyRing::parse(&document(&keys)).unwrap_err().to_string();
        assert!(error.contains(word), "{keys}: {error}");
        assert!((1..4).all(|n| !error.contains(&text(n))), "{error}");
    }
}

#[test]
fn a_key_id_reads_back_from_its_text() {
    let id = key(1).id();
    assert_eq!(id.to_string().parse::<sealed_session::KeyId>().unwrap(), id);
    for bad in ["", "1234567", "123456789", "+1234567", "1234567g", "１２３４５６７８"] {
        let error = bad.parse::<sealed_session::KeyId>().unwrap_err();
        assert!(error.to_string().contains("8 hexadecimal digits"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_may_hold_bare_keys_and_becomes_a_document_when_the_ring_changes_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = Folder::new();
    let write = |text: &str| {
        std::fs::write(folder.keys(), text).unwrap();
        std::fs::set_permissions(folder.keys(), std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let (one, two) = (key(1).export(), key(2).export());
    write(&format!("{}\n", *one));
    let ring = KeyRing::open_or_create(folder.keys()).unwrap();
    assert_eq!(states(&ring), [(key(1).id(), KeyState::Primary)], "as `keygen > file` writes it");
    ring.rotate(key(2)).unwrap();
    let retired = KeyState::Retired { not_after: None };
    assert!(std::fs::read_to_string(folder.keys()).unwrap().starts_with('{'));
    assert_eq!(states(&KeyRing::open(folder.keys()).unwrap())[0].0, key(2).id());

    write(&format!("{}, {}", *two, *one));
    let ring = KeyRing::open(folder.keys()).unwrap();
    assert_eq!(states(&ring), [(key(2).id(), KeyState::Primary), (key(1).id(), retired)]);
    for bad in ["", " \n", "hunter2", &format!("{},hunter2", *one)] {
        write(bad);
        let error = KeyRing::open(folder.keys()).unwrap_err().to_string();
        assert!(error.contains("session.keys") && !error.contains("hunter2"), "{bad:?}: {error}");
        let reason = if bad.trim().is_empty() { "needs at least one" } else { "this text has 7 bytes" };
        assert!(error.contains(reason) && !error.contains('{'), "{bad:?}: {error}");
    }
}
