use super::*;
use crate::clock::Millis;
use crate::envelope::Opened;
use crate::key::KeyId;
use crate::record::{self, Header, Place, SessionId, Times};

fn loaded(entries: &BTreeMap<String, Vec<u8>>) -> Entries {
    let times = Times {
        created_at: Millis(0),
        anchor: Millis(0),
        sealed_at: Millis(0),
        duration: Millis(1),
        own: false,
    };
    let header = Header {
        id: SessionId([0; 16]),
        counter: 1,
        times,
        persistent: None,
        place: Place::Cookie,
        subject: None,
        generation: 0,
    };
    let mut buf = Vec::new();
    record::encode(&header, entries.len(), entries.iter().map(|(k, v)| (k.as_str(), v)), &mut buf);
    buf.resize(buf.len().next_multiple_of(32), 0);
    let plaintext = 0..buf.len();
    let (_, packed) =
        record::decode(Opened { buf, plaintext, key: KeyId([0; 4]), by_primary: true }).unwrap();
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
fn a_barrier_hides_what_was_loaded_and_a_second_one_hides_more() {
    let mut entries = base(&[("a", 1), ("b", 2), ("c", 3)]);
    let keep = |keys: &[&str]| keys.iter().map(|k| Box::from(*k)).collect::<BTreeSet<Box<str>>>();
    entries.set("d", one(4));
    entries.retain(&keep(&["a", "b", "d"]));
    assert_eq!(entries.iter().map(|(k, _)| k).collect::<Vec<_>>(), ["a", "b", "d"]);
    entries.retain(&keep(&["b", "c", "d"]));
    assert_eq!(entries.iter().map(|(k, _)| k).collect::<Vec<_>>(), ["b", "d"], "c does not come back");
    assert!(entries.get("c").is_none() && !entries.contains("c"));
    assert_eq!(entries.add("a", 1), Ok(1), "a hidden one counts as 0");
    entries.clear();
    assert!(entries.is_empty() && entries.changed());
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
        let original: BTreeMap<String, Vec<u8>> =
            (0..random(6)).map(|_| (key(random(7)), one(random(3) as i64))).collect();
        let mut entries = loaded(&original);
        let mut model = original.clone();
        for _ in 0..random(12) {
            let key = key(random(7));
            match random(7) {
                0 | 1 => {
                    let value = one(random(3) as i64);
                    entries.set(&key, value.clone());
                    model.insert(key, value);
                }
                2 | 3 => assert_eq!(entries.remove(&key), model.remove(&key).is_some(), "round {round}"),
                4 => {
                    let by = random(5) as i64 - 2;
                    let sum = by + model.get(&key).map_or(0, |v| value::decode_integer(v).unwrap());
                    assert_eq!(entries.add(&key, by), Ok(sum), "round {round}");
                    model.insert(key, one(sum));
                }
                5 => {
                    let keep: BTreeSet<Box<str>> = (0..4).map(|_| self::keys(random(7)).into()).collect();
                    entries.retain(&keep);
                    model.retain(|key, _| keep.contains(key.as_str()));
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
            assert_eq!(entries.changed(), model != original, "round {round}");
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
