//! Values: MessagePack with field names, so that a struct may gain `#[serde(default)]` fields between two deploys.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::core::error::Source;

/// Values are nested less deeply than this, like JSON that `serde_json` reads, so that the stack bears reading any.
const MAX_DEPTH: usize = 128;
/// Most values fit into as much without moving while they are written.
const USUAL_LEN: usize = 512;
/// Reading a type may count a level more than once, so what was accepted has room to be read.
const MAX_READ_DEPTH: usize = 2 * MAX_DEPTH;

// Human-readable, because serde reads flattened structs and tagged or untagged enums as such whatever they were
// written as: an `IpAddr` in one of them would be lost.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Source> {
    let mut bytes = Vec::with_capacity(USUAL_LEN);
    value.serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map().with_human_readable())?;
    if is_too_deep(&bytes) { Err("it is nested more than 127 levels deep".into()) } else { Ok(bytes) }
}

fn is_too_deep(bytes: &[u8]) -> bool {
    // Each level is an array or a map and starts with one of these bytes; few values have so many that a walk is due.
    // In chunks whose count fits into a byte, so that many bytes are counted at once.
    let may_nest = |&byte: &u8| u8::from(byte & 0xe0 == 0x80 || byte & 0xfc == 0xdc);
    let count = |chunk: &[u8]| usize::from(chunk.iter().map(may_nest).sum::<u8>());
    if bytes.chunks(128).map(count).sum::<usize>() < MAX_DEPTH {
        return false;
    }
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(MAX_DEPTH);
    IgnoredAny::deserialize(&mut reader).is_err()
}

/// Reads one value. The record that it comes from was authenticated and tells its length, so nothing follows it.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Source> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
    reader.set_max_depth(MAX_READ_DEPTH);
    T::deserialize(&mut reader).map_err(|error| match error {
        rmp_serde::decode::Error::TypeMismatch(marker) => {
            format!("it holds {} where another type is expected", kind(marker.to_u8())).into()
        }
        rmp_serde::decode::Error::Syntax(text) => without_values(&text).into(),
        error => error.into(),
    })
}

/// What serde, or the type's own code, says of a value that it cannot read, without what it quotes of that: errors reach the
/// log. What was expected stays, and so do the names of fields.
fn without_values(text: &str) -> String {
    let names_field =
        ["missing field", "unknown field", "duplicate field"].iter().any(|head| text.starts_with(head));
    let is_serdes =
        ["invalid type", "invalid value", "unknown variant"].iter().any(|head| text.starts_with(head));
    let (found, expected) = match text.rsplit_once(", expected ") {
        Some((found, expected)) if is_serdes => (found, format!(", expected {expected}")),
        _ => (text, String::new()),
    };
    let is_quote = |c| c == '"' || c == '`' || c == '\'';
    match (found.find(is_quote), found.rfind(is_quote)) {
        (Some(first), Some(last)) if !names_field => {
            format!("{}\"..\"{}{expected}", &found[..first], &found[last + 1..])
        }
        _ => text.to_owned(),
    }
}

/// What begins with this byte (the MessagePack specification, "Formats").
fn kind(first: u8) -> &'static str {
    match first {
        0x00..=0x7f | 0xcc..=0xd3 | 0xe0..=0xff => "an integer",
        0x80..=0x8f | 0xde | 0xdf => "a map",
        0x90..=0x9f | 0xdc | 0xdd => "a list",
        0xa0..=0xbf | 0xd9..=0xdb => "a string",
        0xc0 => "nothing",
        0xc2 | 0xc3 => "a boolean",
        0xc4..=0xc6 => "bytes",
        0xca | 0xcb => "a float",
        0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => "something unknown",
    }
}

pub(crate) fn encode_integer(value: i64) -> Vec<u8> {
    encode(&value).expect("writing an integer into a Vec does not fail")
}

pub(crate) fn decode_integer(bytes: &[u8]) -> Option<i64> {
    decode(bytes).ok()
}

/// Any value as JSON, for display: bytes become arrays of numbers, keys of maps become text, and a number that JSON
/// does not have becomes null.
pub(crate) fn to_json(bytes: &[u8]) -> Json {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(MAX_DEPTH);
    Shown::deserialize(&mut reader).map_or(Json::Null, |Shown(json)| json)
}

struct Shown(Json);

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShownVisitor).map(Shown)
    }
}

struct ShownVisitor;

impl<'de> Visitor<'de> for ShownVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Json, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Json, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Json, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Json, E> {
        Ok(v.into())
    }

    fn visit_str<E>(self, v: &str) -> Result<Json, E> {
        Ok(v.into())
    }

    fn visit_bytes<E>(self, v: &[u8]) -> Result<Json, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(Shown(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some((Shown(key), Shown(value))) = map.next_entry()? {
            object.insert(text(key), value);
        }
        Ok(Json::Object(object))
    }
}

/// A key as text, in which nothing is escaped: with maps as keys of maps that doubled the text with each level.
fn text(key: Json) -> String {
    match key {
        Json::String(text) => text,
        Json::Array(items) => format!("[{}]", items.into_iter().map(text).collect::<Vec<_>>().join(",")),
        Json::Object(entries) => {
            let pairs = entries.into_iter().map(|(key, value)| format!("{key}:{}", text(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
#[path = "value/tests.rs"]
mod tests;
