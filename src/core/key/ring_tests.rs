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
