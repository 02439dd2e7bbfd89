use std::path::PathBuf;

use super::*;

#[test]
fn a_list_names_the_number_of_the_key_that_is_wrong() {
    let good = Key::generate().export();
    let error = KeyRing::parse(&format!("{}, nonsense", *good)).unwrap_err();
    assert!(error.to_string().contains("number 2"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("43 characters"));
    assert!(matches!(KeyRing::parse(" "), Err(KeyError::Empty)));
    assert!(matches!(KeyRing::parse(&format!("{0},{0}", *good)), Err(KeyError::Duplicate { .. })));
    assert!(matches!(KeyRing::from_env("SEALED_SESSION_NOT_SET"), Err(KeyError::Environment { .. })));
}

#[test]
fn a_ring_from_the_environment_opens_and_seals_and_is_not_changed() {
    let (new, old) = (Key::generate(), Key::generate());
    let ring = KeyRing::of_variable("SESSION_KEYS", &format!("{},{}", *new.export(), *old.export())).unwrap();
    assert_eq!(ring.ids(), [new.id(), old.id()]);
    type Change = fn(&KeyRing, KeyId) -> Result<(), KeyError>;
    let changes: [Change; 6] = [
        |ring, _| ring.rotate(Key::generate()),
        |ring, _| ring.add_retired(Key::generate()),
        |ring, _| ring.schedule(Key::generate(), OffsetDateTime::UNIX_EPOCH),
        |ring, old| ring.promote(old),
        |ring, old| ring.retire(old, None),
        |ring, old| ring.revoke(old),
    ];
    for change in changes {
        let error = change(&ring, old.id()).unwrap_err();
        assert!(
            matches!(&error, KeyError::ReadOnlyEnvironment { name } if name == "SESSION_KEYS"),
            "{error}"
        );
    }
    assert_eq!(ring.ids(), [new.id(), old.id()]);
    assert!(!ring.reload().unwrap());
}

/// A deploy brings it to one server after the other, and none seals with a key that another one lacks.
#[test]
fn a_document_in_the_environment_rotates_at_its_moment_everywhere() {
    let (new, old) = (Key::generate(), Key::generate());
    let document = format!(
        r#"{{"version": 1, "keys": [
            {{"key": "{}", "state": "pending", "not_before": "2027-01-01T00:00:00Z"}},
            {{"key": "{}", "state": "primary"}}
        ]}}"#,
        *new.export(),
        *old.export()
    );
    let ring = KeyRing::of_variable("SESSION_KEYS", &document).unwrap();
    let moment = Millis::of(time::macros::datetime!(2027-01-01 00:00 UTC));
    for (now, primary) in [(moment.minus(Millis(1)), old.id()), (moment, new.id())] {
        ring.tick(now, false);
        assert_eq!(ring.primary(), primary);
        assert!(ring.opens(old.id()) && ring.opens(new.id()));
    }
}

/// A ring over a new file, in a folder of its own.
fn fresh_file() -> (PathBuf, PathBuf, KeyRing) {
    let folder = std::env::temp_dir().join(format!("sealed-session-ring-{}", Key::generate().id()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("session.keys");
    let ring = KeyRing::open_or_create(&path).unwrap();
    (folder, path, ring)
}

#[test]
fn what_a_ring_writes_it_reads_again_whatever_the_key() {
    let (folder, path, ring) = fresh_file();
    let key = Key::from_bytes([0; 32]);
    ring.rotate(key.clone()).unwrap();
    let again = KeyRing::open(&path).map(|ring| ring.primary());
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(again.unwrap(), key.id());
}

/// A moment that RFC 3339 does not have would be missing in the file, which then opens with other keys, or not at all.
#[test]
fn moments_beyond_those_that_a_file_can_name_are_kept_as_the_nearest() {
    use time::PrimitiveDateTime;

    let (folder, path, ring) = fresh_file();
    let first = ring.primary();
    let [came, never] = [Key::generate(), Key::generate()];
    ring.schedule(came.clone(), PrimitiveDateTime::MIN.assume_utc()).unwrap();
    ring.schedule(never.clone(), PrimitiveDateTime::MAX.assume_utc()).unwrap();
    ring.retire(first, Some(PrimitiveDateTime::MIN.assume_utc())).unwrap();
    let again = KeyRing::open(&path);
    std::fs::remove_dir_all(&folder).unwrap();
    let again = again.unwrap();
    assert_eq!(again.primary(), came.id());
    assert!(again.opens(never.id()) && !again.opens(first));
}

#[test]
fn rotating_moves_a_known_key_to_the_front_and_is_seen_by_clones() {
    let [a, b, c] = [1, 2, 3].map(|n| Key::from_bytes([n; 32]));
    let ring = KeyRing::from_keys([a.clone(), b.clone()]).unwrap();
    let clone = ring.clone();
    ring.rotate(c.clone()).unwrap();
    assert_eq!(clone.ids(), [c.id(), a.id(), b.id()]);
    ring.rotate(b.clone()).unwrap();
    assert_eq!(clone.ids(), [b.id(), c.id(), a.id()]);
    ring.rotate(b.clone()).unwrap();
    assert_eq!(clone.ids(), [b.id(), c.id(), a.id()]);
    assert!(matches!(ring.add_retired(a), Err(KeyError::Duplicate { .. })));
}

/// A server without requests hears the time from nobody, but knows where to ask.
#[test]
fn what_is_changed_long_after_the_last_request_goes_by_the_time_that_it_is() {
    let [a, b, c] = [1, 2, 3].map(|n| Key::from_bytes([n; 32]));
    let now = Millis::of(OffsetDateTime::now_utc());
    let ago = |minutes: i64| Millis(now.0 - minutes * 60_000);
    for by_computer in [true, false] {
        let ring = KeyRing::new(a.clone());
        ring.tick(ago(60), by_computer);
        ring.schedule(b.clone(), ago(30).to_datetime()).unwrap();
        ring.rotate(c.clone()).unwrap();
        ring.tick(now, by_computer);
        let primary = if by_computer { &c } else { &b };
        assert_eq!(ring.primary(), primary.id());
    }
}

#[test]
fn what_finds_nothing_new_leaves_the_ciphers_that_there_are() {
    let ring = KeyRing::new(Key::generate());
    let edition = ring.edition();
    // It makes the state seen, for the first time by this clock.
    ring.tick(Millis(1_000), false);
    assert_eq!(ring.edition(), edition);
    ring.rotate(Key::generate()).unwrap();
    assert_ne!(ring.edition(), edition);
}
