use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use serde_bytes::ByteBuf;
use serde_json::json;

use super::*;

#[track_caller]
fn round_trips<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let bytes = encode(&value).unwrap();
    assert_eq!(decode::<T>(&bytes).unwrap(), value);
    _ = to_json(&bytes);
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Shape {
    Unit,
    Newtype(u32),
    Nothing(Option<u8>),
    Tuple(i8, String),
    Struct { a: Option<Box<Shape>>, b: Vec<Option<u8>> },
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Nested {
    maybe: Option<Inner>,
    several: Vec<Option<Inner>>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Inner {
    deeper: Option<Vec<Option<String>>>,
}

#[test]
fn whatever_serde_knows_reads_back_as_it_was_written() {
    round_trips(());
    round_trips(true);
    round_trips('é');
    round_trips("text".to_owned());
    for integer in [i64::MIN, -1, 0, 1, 127, 128, 255, 65_536, i64::MAX] {
        round_trips(integer);
    }
    round_trips(u64::MAX);
    for integer in [0, 1, u128::from(u64::MAX), u128::from(u64::MAX) + 1, u128::MAX] {
        round_trips(integer);
    }
    for integer in [i128::MIN, i128::from(i64::MIN) - 1, -1, 0, i128::MAX] {
        round_trips(integer);
    }
    for float in [0.0, -0.0, 1.5, f64::MIN, f64::MAX, f64::EPSILON, f64::INFINITY, f64::NEG_INFINITY] {
        round_trips(float);
    }
    round_trips(0.1_f32);
    assert!(decode::<f64>(&encode(&f64::NAN).unwrap()).unwrap().is_nan());
    round_trips(ByteBuf::from((0..=255).collect::<Vec<u8>>()));
    round_trips(vec![0_u8, 255]);
    round_trips((1_u8, "two".to_owned(), [3_i64; 3]));
    round_trips(BTreeMap::from([(-1_i64, "minus"), (1, "one")].map(|(k, v)| (k, v.to_owned()))));
    round_trips(HashMap::from([(u64::MAX, vec![1_u8])]));
    round_trips(json!({ "a": [null, true, 1, -1, 1.5, "x", { "": [] }], "b": u64::MAX }));
    let shapes = [
        Shape::Unit,
        Shape::Newtype(7),
        Shape::Nothing(None),
        Shape::Nothing(Some(1)),
        Shape::Tuple(-1, "x".into()),
        Shape::Struct { a: None, b: vec![] },
    ];
    for shape in shapes {
        round_trips(shape.clone());
        round_trips(Some(shape.clone()));
        round_trips(vec![Some(shape.clone()), None]);
        round_trips(Shape::Struct { a: Some(Box::new(shape)), b: vec![None, Some(1)] });
    }
    round_trips(Some(Nested { maybe: None, several: vec![] }));
    round_trips(Nested {
        maybe: Some(Inner { deeper: Some(vec![None, Some("x".into())]) }),
        several: vec![None, Some(Inner { deeper: None }), Some(Inner { deeper: Some(vec![]) })],
    });
}

#[test]
fn like_json_messagepack_has_one_nil_so_some_none_reads_back_as_none() {
    assert_eq!(decode::<Option<Option<u8>>>(&encode(&Some(None::<u8>)).unwrap()).unwrap(), None);
    assert_eq!(serde_json::from_value::<Option<Option<u8>>>(json!(Some(None::<u8>))).unwrap(), None);
}

#[derive(Serialize)]
struct Before {
    name: String,
    dropped: u8,
}

#[derive(Deserialize, PartialEq, Debug)]
struct After {
    name: String,
    #[serde(default)]
    gained: u32,
    #[serde(default)]
    gained_too: Option<Vec<String>>,
}

#[test]
fn a_struct_may_be_renamed_gain_defaulted_fields_and_lose_others() {
    let bytes = encode(&Before { name: "ada".into(), dropped: 1 }).unwrap();
    let after = decode::<After>(&bytes).unwrap();
    assert_eq!(after, After { name: "ada".into(), gained: 0, gained_too: None });
}

#[test]
fn integers_have_no_width() {
    assert_eq!(decode::<u32>(&encode(&7_i32).unwrap()).unwrap(), 7);
    assert_eq!(decode::<i8>(&encode(&7_u64).unwrap()).unwrap(), 7);
    assert!(decode::<u8>(&encode(&256_u32).unwrap()).is_err());
    assert!(decode::<u32>(&encode(&-1_i32).unwrap()).is_err());
}

#[test]
fn a_value_of_another_type_and_a_cut_one_are_errors_not_garbage() {
    let text = encode("text").unwrap();
    assert!(decode::<u32>(&text).is_err());
    assert!(decode::<Vec<u8>>(&text).is_err());
    assert!(decode::<After>(&encode(&1).unwrap()).is_err());
    assert!(decode::<After>(&encode(&json!({ "gained": 1 })).unwrap()).is_err());
    for cut in 0..text.len() {
        assert!(decode::<String>(&text[..cut]).is_err());
    }
}

#[test]
fn what_json_has_not_is_shown_as_near_as_it_gets() {
    #[track_caller]
    fn shown<T: Serialize>(value: T, json: Json) {
        assert_eq!(to_json(&encode(&value).unwrap()), json);
    }
    shown(ByteBuf::from(vec![1, 2]), json!([1, 2]));
    shown(BTreeMap::from([(1, "one")]), json!({ "1": "one" }));
    shown(f64::NAN, Json::Null);
    shown(Shape::Tuple(-1, "x".into()), json!({ "Tuple": [-1, "x"] }));
    shown(Some(Shape::Unit), json!("Unit"));
    shown(json!({ "a": [1, null] }), json!({ "a": [1, null] }));
    assert_eq!(to_json(b"\xc1"), Json::Null, "bytes that are no value do not panic");
}
