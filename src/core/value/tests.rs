use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::IpAddr;

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

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct UnitStruct;

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Newtype(u8);

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Pair(u8, String);

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
    round_trips(vec![Some(UnitStruct), None]);
    round_trips(Some(Newtype(3)));
    round_trips(vec![Some(Pair(3, "x".into())), None]);
    round_trips(BTreeMap::from([(true, 'a')]));
    round_trips(BTreeMap::from([((1_u8, 2_u8), vec![Ok::<u8, String>(1), Err("x".into())])]));
    round_trips(std::time::Duration::from_millis(1_500));
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

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(tag = "kind")]
enum Tagged {
    Empty,
    Full { ip: IpAddr, shape: Shape, bytes: ByteBuf },
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(tag = "kind", content = "of")]
enum Adjacent {
    Empty,
    Full(IpAddr),
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(untagged)]
enum Untagged {
    Number(u32),
    Address(IpAddr),
    Pair(u8, Option<String>),
    Struct { a: i64 },
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Flat {
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<u8>,
    #[serde(flatten)]
    inner: Option<FlatInner>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct FlatInner {
    ip: IpAddr,
    more: u8,
}

#[test]
fn types_with_two_forms_read_back_also_from_where_serde_buffers_them() {
    let ip: IpAddr = "2001:db8::1".parse().unwrap();
    let bytes = ByteBuf::from(vec![0, 255]);
    round_trips(vec![Some(ip), None]);
    round_trips(Tagged::Empty);
    round_trips(vec![Tagged::Full { ip, shape: Shape::Tuple(-1, "x".into()), bytes }]);
    round_trips(vec![Adjacent::Empty, Adjacent::Full(ip)]);
    round_trips(vec![Untagged::Number(1), Untagged::Address(ip), Untagged::Pair(1, None)]);
    round_trips(Untagged::Struct { a: -1 });
    round_trips(Flat { absent: None, inner: Some(FlatInner { ip, more: 1 }) });
    round_trips(Flat { absent: Some(1), inner: None });
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
    assert_eq!(decode::<u128>(&encode(&7_u64).unwrap()).unwrap(), 7);
    assert_eq!(decode::<f64>(&encode(&7).unwrap()).unwrap(), 7.0);
    // 128 bits are the exception: they are 16 bytes whatever the number.
    assert!(decode::<u64>(&encode(&7_u128).unwrap()).is_err());
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
    for (number, fits) in [(u64::MAX, false), (i64::MAX as u64, true)] {
        assert_eq!(decode_integer(&encode(&number).unwrap()).is_some(), fits);
    }
    for cut in 0..text.len() {
        assert!(decode::<String>(&text[..cut]).is_err());
    }
    let nested = encode(&json!({ "a": [1, { "b": "text" }], "c": 1.5 })).unwrap();
    for cut in 0..nested.len() {
        assert!(decode::<Json>(&nested[..cut]).is_err(), "cut at {cut}");
        assert_eq!(to_json(&nested[..cut]), Json::Null, "cut at {cut}");
    }
}

#[test]
fn a_value_never_reads_as_a_shorter_one_with_the_rest_left_over() {
    let three = encode(&(1, 2, 3)).unwrap();
    assert!(decode::<(u8, u8)>(&three).is_err());
    assert!(decode::<Vec<(u8, u8)>>(&encode(&[(1, 2, 3), (4, 5, 6)]).unwrap()).is_err());
    assert!(decode::<()>(&three).is_err());
    assert!(decode::<Vec<Shape>>(&encode(&json!([{ "Unit": 5 }, "Unit"])).unwrap()).is_err());
}

#[test]
fn what_json_has_not_is_shown_as_near_as_it_gets() {
    #[track_caller]
    fn shown<T: Serialize>(value: T, json: Json) {
        assert_eq!(to_json(&encode(&value).unwrap()), json);
    }
    shown(ByteBuf::from(vec![1, 2]), json!([1, 2]));
    shown(BTreeMap::from([(1, "one")]), json!({ "1": "one" }));
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        shown(float, Json::Null);
        shown(vec![Some(float), None], json!([null, null]));
    }
    shown(f32::NAN, Json::Null);
    shown(0.5_f32, json!(0.5));
    shown(u64::MAX, json!(u64::MAX));
    shown(i64::MIN, json!(i64::MIN));
    shown(1_u128, json!([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
    shown('é', json!("é"));
    shown((), Json::Null);
    shown(None::<u8>, Json::Null);
    shown((1, "two", [3.5]), json!([1, "two", [3.5]]));
    shown(
        BTreeMap::from([((1, true), ()), ((2, false), ())]),
        json!({ "[1,true]": null, "[2,false]": null }),
    );
    shown(BTreeMap::from([(i64::MIN, u64::MAX)]), json!({ "-9223372036854775808": u64::MAX }));
    shown("10.0.0.1".parse::<IpAddr>().unwrap(), json!("10.0.0.1"));
    shown(UnitStruct, json!([]));
    shown(Shape::Newtype(7), json!({ "Newtype": 7 }));
    shown(Shape::Struct { a: None, b: vec![Some(1)] }, json!({ "Struct": { "a": null, "b": [1] } }));
    shown(Shape::Tuple(-1, "x".into()), json!({ "Tuple": [-1, "x"] }));
    shown(Some(Shape::Unit), json!("Unit"));
    shown(json!({ "a": [1, null] }), json!({ "a": [1, null] }));
    assert_eq!(to_json(&[0xd4, 5, 42]), json!([5, [42]]), "an extension: its type and its bytes");
    assert_eq!(to_json(b"\xc1"), Json::Null, "bytes that are no value do not panic");
    for byte in 0..=255 {
        _ = to_json(&[byte, byte, byte, byte, byte, byte]);
    }
}

#[test]
fn a_value_however_deep_is_shown_without_exhausting_the_stack() {
    // As deep as serde_json reads text.
    let deepest = 127;
    let mut deep = encode(&1).unwrap();
    for depth in 1..=1_000 {
        deep.insert(0, 0x91);
        assert_eq!(to_json(&deep).is_array(), depth <= deepest, "{depth}");
    }
}

#[test]
fn maps_as_keys_of_maps_are_shown_in_no_more_text_than_they_have_bytes() {
    shown_key(BTreeMap::from([(BTreeMap::from([("a", [Some("b\""), None])]), 1)]), "{a:[b\",null]}");
    let mut deep = encode("k").unwrap();
    for depth in 1..=127 {
        deep = [&[0x81], &deep[..], &[0xc0]].concat();
        let Json::Object(shown) = to_json(&deep) else { panic!("{depth}") };
        assert!(shown.keys().all(|key| key.len() <= 8 * depth), "{depth}");
    }

    #[track_caller]
    fn shown_key<T: Serialize>(value: T, key: &str) {
        assert_eq!(to_json(&encode(&value).unwrap()), json!({ key: 1 }));
    }
}

#[test]
fn what_is_nested_too_deeply_to_be_read_is_refused_when_it_is_written() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    enum Chain {
        End,
        Link { next: Option<Box<Chain>> },
    }

    let mut deep = json!(1);
    for depth in 1..=300 {
        // Up to 15 items and more than that begin with different bytes.
        let mut items = |n| (1..n).map(Json::from).chain([deep.take()]).collect();
        deep = match depth % 3 {
            0 => Json::Array(items(1)),
            1 => Json::Array(items(16)),
            _ => json!({ "a": deep }),
        };
        match encode(&deep) {
            Ok(bytes) => {
                assert!(depth <= 127, "{depth}");
                assert_eq!(decode::<Json>(&bytes).unwrap(), deep);
                assert_eq!(to_json(&bytes), deep);
            }
            Err(error) => {
                assert!(depth > 127 && error.to_string().contains("127 levels"), "{depth}: {error}")
            }
        }
    }
    let mut chain = Chain::End;
    let mut deepest = 0;
    while let Ok(bytes) = encode(&chain) {
        assert_eq!(decode::<Chain>(&bytes).unwrap(), chain, "what was accepted can be read");
        chain = Chain::Link { next: Some(Box::new(chain)) };
        deepest += 1;
    }
    assert!(deepest > 50, "{deepest}");
    round_trips(vec![vec![vec![0x90_u8; 3]; 100]; 3]);
    round_trips(ByteBuf::from(vec![0x91; 2_000]));
}

#[test]
fn a_value_of_another_kind_is_named_in_words() {
    let told = |value: Json| decode::<u32>(&encode(&value).unwrap()).unwrap_err().to_string();
    assert_eq!(told(json!("ada")), "it holds a string where another type is expected");
    assert_eq!(told(json!("x".repeat(40))), "it holds a string where another type is expected");
    assert_eq!(told(json!([1])), "it holds a list where another type is expected");
    assert_eq!(told(json!({ "n": 1 })), "it holds a map where another type is expected");
    // These serde names itself.
    assert_eq!(told(json!(true)), "invalid type: boolean \"..\", expected u32");
    assert_eq!(told(json!(null)), "invalid type: unit value, expected u32");
    let bytes = encode(&ByteBuf::from([1, 2])).unwrap();
    let error = decode::<u32>(&bytes).unwrap_err().to_string();
    assert_eq!(error, "it holds bytes where another type is expected");
    for value in [json!(0), json!(-1), json!(300), json!(-300), json!(u64::MAX), json!(i64::MIN)] {
        assert_eq!(kind(encode(&value).unwrap()[0]), "an integer", "{value}");
    }
    for (value, named) in [
        (encode(&1.5_f32), "a float"),
        (encode(&1.5), "a float"),
        (encode(&[0_u16; 20][..]), "a list"),
        (encode(&BTreeMap::from_iter((0..20).map(|n| (n, n)))), "a map"),
    ] {
        assert_eq!(kind(value.unwrap()[0]), named);
    }
}

/// Errors of reading are logged by whoever answers them with 500.
#[test]
fn what_cannot_be_read_is_not_quoted() {
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    enum Role {
        User,
        Admin,
    }
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Cart {
        items: u8,
    }
    #[derive(Debug)]
    struct Picky;
    impl<'de> serde::Deserialize<'de> for Picky {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            Err(serde::de::Error::custom(format!("no address: {text:?} at 1")))
        }
    }

    fn told<T: serde::de::DeserializeOwned + std::fmt::Debug>(value: impl serde::Serialize) -> String {
        decode::<T>(&encode(&value).unwrap()).unwrap_err().to_string()
    }

    let secret = "s3cret, expected \"`s3cret";
    for (text, expected) in [
        (told::<Vec<u32>>(secret), "invalid type: string \"..\", expected a sequence"),
        (told::<Vec<u32>>(44_444), "invalid type: integer \"..\", expected a sequence"),
        (told::<Vec<u32>>(4.25), "invalid type: floating point \"..\", expected a sequence"),
        (told::<char>(secret), "invalid value: string \"..\", expected a character"),
        (told::<std::num::NonZeroU8>(0), "invalid value: integer \"..\", expected a nonzero u8"),
        (told::<Role>(secret), "unknown variant \"..\", expected `User` or `Admin`"),
        (told::<Picky>(secret), "no address: \"..\" at 1"),
        (told::<(u8, u8)>(vec![1]), "invalid length 1, expected a tuple of size 2"),
        (told::<Cart>(serde_json::json!({"total": secret})), "unknown field `total`, expected `items`"),
        (told::<Cart>(serde_json::json!({})), "missing field `items`"),
    ] {
        assert!(!text.contains("s3cret") && !text.contains("44444") && !text.contains("4.25"), "{text}");
        assert_eq!(text, expected);
    }
}

/// As the documentation of `insert` says, and where serde does not buffer all is well.
#[test]
fn a_unit_struct_reads_back_but_from_an_untagged_enum() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Id {
        n: u64,
        of: std::marker::PhantomData<u8>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Owner {
        User(Id),
    }
    let id = || Id { n: 1, of: std::marker::PhantomData };
    assert_eq!(decode::<Id>(&encode(&id()).unwrap()).unwrap(), id());
    assert!(decode::<Owner>(&encode(&Owner::User(id())).unwrap()).is_err());
}
