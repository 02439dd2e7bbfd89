//! Keys that change under living sessions.

use sealed_session::{Event, KeyError, KeyFile, KeyRing, Origin, Rejection, Session};

use crate::support::{Bed, Jar, key};

#[actix_web::test]
async fn a_retired_key_still_opens_and_the_cookie_is_sealed_once_under_the_new_one() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    let ring = KeyRing::from_keys([key(2), key(1)]).unwrap();
    let next = Bed::on(ring, bed.clock.clone(), |builder| builder);
    let before = next.sessions.inspect(jar.value()).unwrap();
    assert!(before.retired_key);
    let reply = next.visit(&mut jar, |session| assert_eq!(session.origin(), Origin::Resumed)).await;
    assert!(reply.set_cookie().is_some());
    let resealed = Event::Resealed { id: before.id, from: key(1).id(), to: key(2).id() };
    assert_eq!(next.events(), [Event::Resumed { id: before.id }, resealed]);
    let after = next.sessions.inspect(jar.value()).unwrap();
    assert_eq!((after.key_id, after.retired_key, after.expires_at), (key(2).id(), false, before.expires_at));
    assert_eq!(next.visit(&mut jar, |_| {}).await.set_cookie(), None, "once");
}

#[actix_web::test]
async fn an_unknown_key_gives_a_new_session_and_leaves_the_cookie_alone() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    let stranger = Bed::on(KeyRing::new(key(9)), bed.clock.clone(), |builder| builder);
    let reply = stranger.peek(&jar, |session| {
        assert_eq!(session.origin(), Origin::Rejected(Rejection::UnknownKey(key(1).id())));
        assert!(session.is_empty());
    });
    assert_eq!(reply.await.set_cookie(), None);
    assert_eq!(stranger.rejections(), [Rejection::UnknownKey(key(1).id())]);
}

#[actix_web::test]
async fn a_ring_that_is_rotated_at_run_time_is_seen_by_the_running_application() {
    let bed = Bed::new();
    let mut jar = bed.logged_in().await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    assert!(bed.visit(&mut jar, |session| assert_eq!(session.len(), 1)).await.set_cookie().is_some());
    assert_eq!(bed.sessions.inspect(jar.value()).unwrap().key_id, key(2).id());
    let mut fresh = Jar::default();
    bed.visit(&mut fresh, |session| session.insert("n", 1).unwrap()).await;
    assert_eq!(bed.sessions.inspect(fresh.value()).unwrap().key_id, key(2).id());
}

#[actix_web::test]
async fn a_rolling_deploy_in_two_steps_loses_no_session() {
    let old = Bed::on(KeyRing::new(key(1)), Bed::new().clock, |builder| builder);
    let rings = [vec![key(1), key(2)], vec![key(2), key(1)], vec![key(2)]]
        .map(|keys| KeyRing::from_keys(keys).unwrap());
    let nodes = rings.map(|ring| Bed::on(ring, old.clock.clone(), |builder| builder));
    let mut jar = old.logged_in().await;
    // At each step requests go to nodes of both the old and the new configuration.
    for pair in [[&old, &nodes[0]], [&nodes[0], &nodes[1]], [&nodes[1], &nodes[2]]] {
        for node in [pair[0], pair[1], pair[0], pair[1]] {
            node.visit(&mut jar, |session: &Session| assert_eq!(session.origin(), Origin::Resumed)).await;
        }
    }
}

#[cfg(unix)]
#[test]
fn a_key_file_that_is_not_there_is_named_by_its_absolute_path() {
    let error = KeyRing::open("no-folder/session.keys").unwrap_err().to_string();
    let path = std::env::current_dir().unwrap().join("no-folder/session.keys");
    assert!(error.contains(path.to_str().unwrap()), "{error}");
}

#[cfg(unix)]
#[test]
fn a_key_file_is_made_once_with_mode_0600_and_one_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder =
        std::env::temp_dir().join(format!("sealed-session-{}", sealed_session::Key::generate().id()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("session.keys");
    let rings: Vec<KeyRing> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..8).map(|_| scope.spawn(|| KeyRing::open_or_create(&path).unwrap())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(rings.windows(2).all(|pair| pair[0].ids() == pair[1].ids()), "all processes use one key");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no draft is left behind");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    for mode in [0o644, 0o604, 0o620, 0o666] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let error = KeyRing::open_or_create(&path).unwrap_err();
        assert!(matches!(&error, KeyError::Permissions { path: found, .. } if *found == path));
        let (told, mode) = (error.to_string(), format!("has mode {mode:04o}"));
        assert!(told.contains(&mode) && told.contains(&format!("chmod 600 {}", path.display())), "{told}");
        assert!(KeyFile::new(&path).allow_readable().open().is_ok());
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    assert!(KeyRing::open_or_create(&path).is_ok());

    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let (one, two) = (key(1).export(), key(2).export());
    let entry = |key: &str, state: &str| format!(r#"{{"key":"{key}","state":"{state}"}}"#);
    let document =
        |version: u8, keys: &[String]| format!(r#"{{"version":{version},"keys":[{}]}}"#, keys.join(","));
    std::fs::write(&path, document(1, &[entry(&two, "retired"), entry(&one, "primary")])).unwrap();
    assert_eq!(KeyRing::open_or_create(&path).unwrap().ids(), [key(1).id(), key(2).id()]);
    for (text, word) in [
        (String::new(), "is empty"),
        (document(2, &[entry(&one, "primary")]), "version is 2"),
        (document(1, &[]), "0 primary keys"),
        (document(1, &[entry(&one, "primary"), entry(&two, "primary")]), "2 primary keys"),
        (document(1, &[entry(&one, "primary"), entry(&one, "retired")]), "already"),
        (document(1, &[entry("short", "primary")]), "43 characters"),
        (document(1, &[entry(&one, "secret")]), "line 1"),
    ] {
        std::fs::write(&path, &text).unwrap();
        let error = KeyRing::open_or_create(&path).unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains(one.as_str()), "{error}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(KeyRing::open_or_create(&path), Err(KeyError::Io { action: "create", .. })));
}
