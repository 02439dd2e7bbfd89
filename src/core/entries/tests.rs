use super::*;
use crate::core::clock::Millis;
use crate::core::envelope::Opened;
use crate::core::key::KeyId;
use crate::core::record::{self, Header, Place, SessionId, Times};

fn loaded(entries: &BTreeMap<String, Vec<u8>>) -> Entries {
    let times = Times {
        created_at: Millis(0),
        anchor: Millis(0),
        sealed_at: Millis(0),
        duration: Millis(1),
        own: false,
        horizon: Millis(1),
        given: 0,
    };
    let header = Header {
        id: SessionId([0; 16]),
        counter: 1,
        times,
        persistent: None,
        place: Place::Cookie,
        subject: None,
        generation: 0,
        authenticated_at: Millis::ZERO,
        device: record::Device::Free,
    };
    let mut buf = Vec::new();
    record::encode(&header, entries.len(), entries.iter().map(|(k, v)| (k.as_str(), v)), &mut buf);
    buf.resize(buf.len().next_multiple_of(32), 0);
    let plaintext = 0..buf.len();
    let (_, packed) =
        record::decode(Opened { buf, plaintext, key: KeyId([0; 4]), retired_key: false }).unwrap();
    Entries::new(packed)
}

fn base(entries: &[(&str, i64)]) -> Entries {
    loaded(&entries.iter().map(|(k, v)| ((*k).to_owned(), value::encode_integer(*v))).collect())
}

fn integer(entries: &Entries, key: &str) -> Option<i64> {
    value::decode_integer(entries.get(key)?.bytes())
}

fn one(value: i64) -> Vec<u8> {
    value::encode_integer(value)
}

fn seen(entries: &Entries) -> BTreeMap<String, Vec<u8>> {
    entries.iter().map(|(key, bytes)| (key.to_owned(), bytes.into_owned())).collect()
}

fn named(values: &[(&str, i64)]) -> BTreeMap<String, Vec<u8>> {
    values.iter().map(|(key, value)| ((*key).to_owned(), one(*value))).collect()
}

/// The same changes over what others have left.
fn over(entries: &Entries, others: &[(&str, i64)]) -> Entries {
    entries.rebased(Packed::collect(base(others).iter())).unwrap()
}

#[test]
fn what_ends_as_it_was_loaded_is_no_change_whatever_happened_between() {
    let mut entries = base(&[("a", 1), ("b", 2)]);
    assert!(!entries.changed());
    entries.set("a", one(1));
    assert!(!entries.changed(), "the same value");
    entries.set("a", one(9));
    assert!(entries.changed());
    entries.set("a", one(1));
    assert!(!entries.changed(), "set back");
    assert!(entries.remove("b"));
    assert!(entries.changed());
    entries.set("b", one(2));
    assert!(!entries.changed(), "removed and set again");
    entries.set("c", one(3));
    assert!(entries.remove("c"));
    assert!(!entries.changed(), "set and removed");
    entries.add("a", 5).unwrap();
    entries.add("a", -5).unwrap();
    assert!(!entries.changed(), "added and subtracted");
    entries.clear();
    assert!(entries.changed());
    entries.set("b", one(2));
    entries.set("a", one(1));
    assert!(!entries.changed(), "cleared and filled again");
}

#[test]
fn a_change_deep_inside_a_value_is_a_change() {
    let nested = |leaf: i64| value::encode(&serde_json::json!({ "a": [1, { "b": [leaf] }] })).unwrap();
    let mut entries = loaded(&BTreeMap::from([("deep".to_owned(), nested(1)), ("x".to_owned(), one(1))]));
    entries.set("deep", nested(2));
    assert!(entries.changed());
    entries.set("deep", nested(1));
    assert!(!entries.changed());
}

#[test]
fn removing_what_is_not_there_is_no_change() {
    let mut entries = base(&[("a", 1)]);
    assert!(!entries.remove("x"));
    assert!(entries.remove("a"));
    assert!(!entries.remove("a"));
    assert_eq!((entries.len(), entries.is_empty()), (0, true));
}

#[test]
fn increments_add_to_whatever_integer_is_there() {
    let mut entries = base(&[("a", 40)]);
    assert_eq!(entries.add("a", 1), Ok(41));
    assert_eq!(entries.add("a", 1), Ok(42));
    assert_eq!(integer(&entries, "a"), Some(42));
    assert_eq!(entries.add("new", -3), Ok(-3));
    entries.set("own", one(10));
    assert_eq!(entries.add("own", 5), Ok(15));
    entries.remove("a");
    assert_eq!(entries.add("a", 7), Ok(7), "a removed one counts as 0");
    assert_eq!(integer(&entries, "a"), Some(7));
    assert_eq!(entries.len(), 3);
}

#[test]
fn only_the_sum_has_to_be_in_the_range_however_far_the_increments_go() {
    let mut entries = base(&[("min", i64::MIN)]);
    assert_eq!(entries.add("min", i64::MAX), Ok(-1));
    assert_eq!(entries.add("min", i64::MAX), Ok(i64::MAX - 1));
    assert_eq!(integer(&entries, "min"), Some(i64::MAX - 1));
    assert_eq!(entries.add("min", 2), Err(NotCountable::OutOfRange));
    assert_eq!(entries.add("min", i64::MIN), Ok(-2));
    assert_eq!(entries.add("min", i64::MIN + 2), Ok(i64::MIN));
    assert!(!entries.changed());
}

#[test]
fn nothing_is_added_to_what_was_loaded_and_is_no_integer() {
    let kept = [
        ("bool", value::encode(&true).unwrap()),
        ("float", value::encode(&1.0).unwrap()),
        ("large", value::encode(&(i64::MAX as u64 + 1)).unwrap()),
        ("nil", value::encode(&()).unwrap()),
        ("text", value::encode("1").unwrap()),
    ];
    let mut entries = loaded(&kept.clone().map(|(key, bytes)| (key.to_owned(), bytes)).into());
    for (key, bytes) in &kept {
        assert_eq!(entries.add(key, 0), Err(NotCountable::NoInteger), "{key}");
        assert_eq!(entries.get(key).unwrap().bytes(), bytes, "{key}");
    }
    assert!(!entries.changed());
    entries.remove("text");
    assert_eq!(entries.add("text", 0), Ok(0), "a removed one counts as 0");
}

#[test]
fn increments_that_are_impossible_change_nothing() {
    let mut entries = base(&[("max", i64::MAX), ("min", i64::MIN)]);
    entries.set("text", value::encode("x").unwrap());
    entries.set("large", value::encode(&u64::MAX).unwrap());
    entries.set("float", value::encode(&1.0).unwrap());
    let before: Vec<_> = entries.iter().map(|(k, v)| (k.to_owned(), v.into_owned())).collect();
    assert_eq!(entries.add("max", 1), Err(NotCountable::OutOfRange));
    assert_eq!(entries.add("min", -1), Err(NotCountable::OutOfRange));
    for key in ["text", "large", "float"] {
        assert_eq!(entries.add(key, 1), Err(NotCountable::NoInteger), "{key}");
    }
    assert_eq!(entries.add("max", -1), Ok(i64::MAX - 1));
    assert_eq!(entries.add("max", 1), Ok(i64::MAX));
    assert!(before.into_iter().eq(entries.iter().map(|(k, v)| (k.to_owned(), v.into_owned()))));
}

#[test]
fn a_barrier_hides_what_was_loaded() {
    let mut entries = base(&[("a", 1), ("b", 2), ("c", 3)]);
    entries.set("d", one(4));
    entries.clear();
    assert!(entries.is_empty() && entries.changed());
    assert!(entries.get("c").is_none() && !entries.contains("c"));
    assert_eq!(entries.add("a", 1), Ok(1), "a hidden one counts as 0");
    entries.set("c", one(3));
    assert_eq!(integer(&entries, "c"), Some(3), "what is set after a barrier stays");
    assert_eq!(entries.iter().map(|(k, _)| k).collect::<Vec<_>>(), ["a", "c"], "the rest does not come back");
}

/// What was counted meanwhile is lost, and told, where somebody has put something else there; the other changes are made.
#[test]
fn changes_are_made_again_over_what_is_there_by_then_but_for_sums_that_are_none() {
    let later = || {
        let mut later = base(&[("n", 1), ("gone", 1)]);
        later.add("n", 1).unwrap();
        later.set("own", one(5));
        later.remove("gone");
        later
    };
    for (there, expected, sum) in [
        (one(40), Ok(()), Some(41)),
        (value::encode("a word").unwrap(), Err(NotCountable::NoInteger), None),
        (one(i64::MAX), Err(NotCountable::OutOfRange), Some(i64::MAX)),
    ] {
        let mut entries =
            loaded(&BTreeMap::from([("n".to_owned(), there.clone()), ("gone".to_owned(), one(1))]));
        assert_eq!(entries.replay(&later()), expected);
        assert_eq!(integer(&entries, "n"), sum);
        assert_eq!((integer(&entries, "own"), entries.contains("gone")), (Some(5), false));
        assert!(expected.is_ok() || entries.get("n").is_some_and(|now| now.bytes() == there));
    }
}

/// What others have put there by then stays; but where nothing is left, what this request has set last is there.
#[test]
fn what_was_set_to_what_was_there_is_a_change_over_nothing_alone() {
    let mut entries = base(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
    for key in ["a", "b", "c"] {
        entries.set(key, one(entries.get(key).map(|v| value::decode_integer(v.bytes()).unwrap()).unwrap()));
    }
    entries.remove("b");
    entries.set("c", one(9));
    entries.add("a", 1).unwrap();
    entries.add("d", 1).unwrap();
    let rebased = over(&entries, &[("a", 5), ("b", 6), ("c", 7), ("d", 8)]);
    assert_eq!(seen(&rebased), named(&[("a", 6), ("c", 9), ("d", 9)]));
    for entries in [&entries, &rebased] {
        let bare = entries.over_nothing();
        assert_eq!(seen(&bare), named(&[("a", 2), ("c", 9), ("d", 1)]));
        assert_eq!(bare.extent(), Extent::of(seen(&bare).iter().map(|(k, v)| (&**k, v))));
    }
    // Also where all that was done has come to nothing.
    let mut entries = base(&[("a", 1)]);
    entries.clear();
    entries.set("a", one(1));
    entries.forget_idle_changes();
    assert_eq!(seen(&over(&entries, &[("a", 2)])), named(&[("a", 2)]));
    assert_eq!(seen(&entries.over_nothing()), named(&[("a", 1)]));
    // And what is made again later.
    let mut again = base(&[("a", 1)]);
    again.replay(&entries).unwrap();
    assert!(!again.changed());
    assert_eq!(seen(&again.over_nothing()), named(&[("a", 1)]));
    let mut again = base(&[("a", 2)]);
    again.replay(&entries).unwrap();
    assert_eq!((seen(&again), seen(&again.over_nothing())), (named(&[("a", 2)]), named(&[])));
}

#[test]
fn changes_that_came_to_nothing_do_not_come_to_something_over_other_entries() {
    let mut entries = base(&[("a", 1)]);
    entries.clear();
    entries.set("a", one(1));
    assert!(!entries.changed());
    let others = || Packed::collect([("a", one(1)), ("b", one(2))].iter().map(|(k, v)| (*k, v)));
    assert_eq!(
        integer(&entries.rebased(others()).unwrap(), "b"),
        None,
        "a parallel request's entry would go"
    );
    entries.forget_idle_changes();
    assert_eq!(integer(&entries.rebased(others()).unwrap(), "b"), Some(2));

    entries.set("c", one(3));
    entries.forget_idle_changes();
    assert_eq!(integer(&entries, "c"), Some(3), "a change that came to something is none of them");
}

#[test]
fn what_was_counted_up_and_down_again_is_left_to_others() {
    let mut entries = base(&[("n", 5)]);
    entries.add("n", 1).unwrap();
    entries.add("n", -1).unwrap();
    entries.add("n", 0).unwrap();
    entries.set("x", one(1));
    assert_eq!(seen(&entries), named(&[("n", 5), ("x", 1)]));
    assert_eq!(entries.extent(), Extent::of(seen(&entries).iter().map(|(k, v)| (&**k, v))));
    assert_eq!(seen(&over(&entries, &[])), named(&[("x", 1)]), "somebody has removed it");
    assert_eq!(seen(&over(&entries, &[("n", 7)])), named(&[("n", 7), ("x", 1)]));
    // Over nothing it begins to count.
    let mut entries = base(&[("a", 1)]);
    entries.add("n", 1).unwrap();
    entries.add("n", -1).unwrap();
    assert_eq!(seen(&entries), named(&[("a", 1), ("n", 0)]));
    // Nor does it undo what was set.
    let mut entries = base(&[("n", 5)]);
    entries.set("n", one(5));
    entries.add("n", 1).unwrap();
    entries.add("n", -1).unwrap();
    assert_eq!(seen(&entries.over_nothing()), named(&[("n", 5)]));
    // What cannot be counted over what others have left is a conflict, also if that is nothing.
    let mut entries = base(&[("n", -1)]);
    entries.add("n", i64::MAX).unwrap();
    entries.add("n", 1).unwrap();
    assert!(entries.rebased(Packed::collect(base(&[]).iter())).is_err());
}

#[test]
fn random_operations_agree_with_a_map() {
    let mut seed = 7_u64;
    let mut random = |bound: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % bound
    };
    for round in 0..20_000 {
        let key = |n| keys(n).to_owned();
        // Few values, so that they often meet; one is no integer, and two leave no room to count.
        let value = |n| match n {
            3 => value::encode("text").unwrap(),
            4 => one(i64::MAX),
            5 => one(i64::MIN),
            n => one(n as i64),
        };
        let original: BTreeMap<String, Vec<u8>> =
            (0..random(6)).map(|_| (key(random(7)), value(random(6)))).collect();
        let mut entries = loaded(&original);
        let mut model = original.clone();
        for _ in 0..random(12) {
            let key = key(random(7));
            match random(7) {
                0 | 1 => {
                    let value = value(random(6));
                    entries.set(&key, value.clone());
                    model.insert(key, value);
                }
                2 | 3 => assert_eq!(entries.remove(&key), model.remove(&key).is_some(), "round {round}"),
                4 => {
                    let by = random(5) as i64 - 2;
                    let sum = match model.get(&key).map(|v| value::decode_integer(v)) {
                        Some(None) => Err(NotCountable::NoInteger),
                        Some(Some(n)) => n.checked_add(by).ok_or(NotCountable::OutOfRange),
                        None => Ok(by),
                    };
                    assert_eq!(entries.add(&key, by), sum, "round {round}");
                    if let Ok(sum) = sum {
                        model.insert(key, one(sum));
                    }
                }
                5 => {
                    for _ in 0..4 {
                        let key = self::keys(random(7));
                        assert_eq!(entries.remove(key), model.remove(key).is_some(), "round {round}");
                    }
                }
                _ if random(4) == 0 => {
                    entries.clear();
                    model.clear();
                }
                _ => {}
            }
            let now: BTreeMap<String, Vec<u8>> =
                entries.iter().map(|(k, v)| (k.to_owned(), v.into_owned())).collect();
            assert_eq!(now, model, "round {round}");
            assert!(entries.iter().map(|(k, _)| k).is_sorted_by(|a, b| a < b), "round {round}");
            assert_eq!(entries.len(), model.len(), "round {round}");
            assert_eq!(entries.is_empty(), model.is_empty(), "round {round}");
            assert_eq!(entries.changed(), model != original, "round {round}");
            let extent = |model: &BTreeMap<String, Vec<u8>>| Extent::of(model.iter().map(|(k, v)| (&**k, v)));
            assert_eq!(entries.extent(), extent(&model), "round {round}");
            let (key, long) = (self::keys(random(7)), vec![0; 300]);
            model.insert(key.to_owned(), long.clone());
            assert_eq!(entries.extent_with(key, long.len()), extent(&model), "round {round}");
            model = now;
            for n in 0..7 {
                let key = self::keys(n);
                assert_eq!(entries.contains(key), model.contains_key(key), "round {round}");
                assert_eq!(
                    entries.get(key).map(|v| v.bytes().to_vec()),
                    model.get(key).cloned(),
                    "round {round}"
                );
            }
        }
    }
}

fn keys(n: u64) -> &'static str {
    ["", "a", "aa", "ab", "b", "c", "é"][n as usize]
}
