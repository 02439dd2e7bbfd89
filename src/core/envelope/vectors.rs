//! Known answers: the official ones of XAES-256-GCM, and golden cookies that an independent implementation made.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value as Json;
use sha3::Shake128;
use sha3::digest::{ExtendableOutput as _, Update as _, XofReader as _};

use super::gcm::Engine;
use super::xaes::NONCE_LEN;
use super::*;
use crate::core::csrf::Binding;
use crate::core::device;
use crate::core::error::CsrfError;
use crate::core::key::Key;
use crate::core::record::{
    self, Device, DeviceKey, Header, Line, Packed, Place, Replacement, RowContent, SessionId, SubjectTag,
};
use crate::core::row_name::{Ancestry, Revision};

fn file(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn xaes() -> Json {
    file(include_str!("../../../tests/vectors/xaes-256-gcm.json"))
}

fn cookies() -> Json {
    file(include_str!("../../../tests/vectors/cookie-v1.json"))
}

fn text<'a>(of: &'a Json, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_else(|| panic!("{field} in {of}"))
}

fn bytes(of: &Json, field: &str) -> Vec<u8> {
    unhex(text(of, field))
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(of: &Json, field: &str) -> [u8; N] {
    bytes(of, field).try_into().unwrap()
}

fn encrypted(engine: Engine, key: [u8; 32], nonce: [u8; 24], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let (prefix, rest) = nonce.split_first_chunk().unwrap();
    let mut buf = plaintext.to_vec();
    let tag = Xaes::new(engine, &key).derive(prefix).seal(rest.try_into().unwrap(), aad, &mut buf);
    buf.extend_from_slice(&tag);
    buf
}

/// All that there are in this build.
pub(super) fn engines() -> Vec<Engine> {
    vec![
        Engine::RustCrypto,
        #[cfg(feature = "aws-lc-rs")]
        Engine::AwsLc,
    ]
}

/// Like [`Sealer::seal`], under the primary and with this nonce.
fn seal_with_nonce(
    sealer: &Sealer,
    nonce: [u8; NONCE_LEN],
    write: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    let (ciphers, mut buf) = (sealer.ciphers(), Vec::new());
    lay_out(&mut buf, ciphers.ids[0], &nonce, write);
    encrypt(&ciphers.of[0].derive(halves(&buf).0), &mut buf);
    encode(&buf, out);
}

#[test]
fn the_cipher_gives_the_official_answers() {
    let vectors = xaes();
    let official = vectors["official_vectors"].as_array().unwrap();
    assert_eq!(official.len(), 2);
    for vector in official {
        for engine in engines() {
            let sealed = encrypted(
                engine,
                array(vector, "key"),
                array(vector, "nonce"),
                &bytes(vector, "aad"),
                &bytes(vector, "plaintext"),
            );
            assert_eq!(sealed, bytes(vector, "ciphertext_and_tag"), "{engine:?}");
        }
    }
}

#[test]
fn the_cipher_gives_the_official_accumulated_digest_of_ten_thousand_messages() {
    let vectors = xaes();
    let digests = vectors["official_accumulated"]["digests"].as_array().unwrap();
    let expected = digests.iter().find(|digest| digest["iterations"] == 10_000).unwrap();
    for engine in engines() {
        let mut random = Shake128::default().finalize_xof();
        let mut read = |len: usize| {
            let mut bytes = vec![0; len];
            random.read(&mut bytes);
            bytes
        };
        let mut all = Shake128::default();
        for _ in 0..10_000 {
            let key = read(32).try_into().unwrap();
            let nonce = read(24).try_into().unwrap();
            let len = read(1)[0];
            let plaintext = read(len.into());
            let len = read(1)[0];
            let aad = read(len.into());
            all.update(&encrypted(engine, key, nonce, &aad, &plaintext));
        }
        let mut digest = [0; 32];
        all.finalize_xof().read(&mut digest);
        assert_eq!(digest.to_vec(), bytes(expected, "shake128_32"), "{engine:?}");
    }
}

/// The same bytes, and so each opens what the other has sealed; within epochs, across them, and what was altered.
#[cfg(feature = "aws-lc-rs")]
#[test]
fn each_engine_opens_what_the_other_has_sealed_and_refuses_what_the_other_refuses() {
    let ring = KeyRing::new(Key::from_bytes([1; 32]));
    let [ours, theirs] = [Engine::RustCrypto, Engine::AwsLc]
        .map(|engine| Sealer::with_engine(engine, ring.clone(), Purpose::Cookie, "s"));
    for len in (0..100).chain([288, 1_000, 2_900]) {
        let plaintext: Vec<u8> = (0..len).map(|n| n as u8).collect();
        for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
            let mut value = Vec::new();
            from.seal(None, Millis(len), |text| text.extend_from_slice(&plaintext), &mut value);
            if plaintext.is_empty() {
                // No record is.
                assert!(from.parse(&value).is_err() && to.parse(&value).is_err());
                continue;
            }
            let opened = to.parse(&value).unwrap().open().unwrap();
            assert!(opened.buf[opened.plaintext].starts_with(&plaintext));
            let last = value.len() - 5;
            value[last] = if value[last] == b'A' { b'B' } else { b'A' };
            for sealer in [from, to] {
                assert_eq!(sealer.parse(&value).unwrap().open().unwrap_err(), Rejection::Tampered);
            }
        }
    }
    let nonce = [7; NONCE_LEN];
    let sealed = [&ours, &theirs].map(|sealer| {
        let mut out = Vec::new();
        seal_with_nonce(sealer, nonce, |text| text.extend_from_slice(b"data"), &mut out);
        out
    });
    assert_eq!(sealed[0], sealed[1]);
}

fn ring(vector: &Json) -> KeyRing {
    let keys = vector["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().parse().unwrap());
    KeyRing::from_keys(keys).unwrap()
}

/// One for each ring and name, so that cookies of one epoch, and forgeries of it, meet what an earlier one has left.
#[derive(Default)]
struct Sealers(HashMap<String, Sealer>);

impl Sealers {
    fn of(&mut self, vector: &Json) -> &Sealer {
        let name = text(vector, "name");
        let sealer = || Sealer::new(ring(vector), Purpose::Cookie, name);
        self.0.entry(format!("{} {name}", vector["keys"])).or_insert_with(sealer)
    }
}

/// The header as the vectors spell it.
fn spelled(header: &Header) -> Json {
    serde_json::json!({
        "id": header.id.to_string(),
        "counter": header.counter,
        "created_at": header.times.created_at.0,
        "anchor": header.times.anchor.0,
        "sealed_at": header.times.sealed_at.0,
        "duration": header.times.duration.0,
        "horizon": header.times.horizon.0,
        "given": header.times.given,
        "own_duration": header.times.own,
        "persistent": header.persistent,
        "in_store": header.place == Place::Store,
        "subject": header.subject.as_deref(),
        "generation": header.generation,
        "authenticated_at": header.authenticated_at.0,
        "device": match &header.device {
            Device::Free => Json::Null,
            Device::Offered => "offered".into(),
            Device::Bound(key) => hex(&key.0).into(),
        },
    })
}

#[test]
fn golden_cookies_open_to_what_they_hold_and_are_sealed_to_the_letter() {
    let vectors = cookies();
    let good = vectors["good"].as_array().unwrap();
    assert!(good.len() >= 16);
    let mut sealers = Sealers::default();
    for vector in good {
        let what = text(vector, "what");
        let sealer = sealers.of(vector);
        let value = text(vector, "value");
        let opened = sealer.parse(value.as_bytes()).unwrap().open().unwrap();
        assert_eq!(opened.retired_key, vector["retired_key"] == true, "{what}");
        let (header, entries) = record::decode(opened).unwrap();
        assert_eq!(spelled(&header), vector["header"], "{what}");
        assert_eq!(listed(&entries), vector["entries"], "{what}");

        if vector["retired_key"] == false {
            let write =
                |text: &mut Vec<u8>| record::encode(&header, entries.extent().count, entries.iter(), text);
            let mut out = Vec::new();
            seal_with_nonce(sealer, array(vector, "nonce"), write, &mut out);
            assert_eq!(str::from_utf8(&out).unwrap(), value, "{what}");
        }
    }
    let prefixes = good.iter().map(|vector| &text(vector, "nonce")[..2 * PREFIX_LEN]);
    assert_eq!(prefixes.collect::<HashSet<_>>().len(), good.len() - 1, "two of them are of one epoch");
}

#[test]
fn a_secret_of_another_form_gives_the_golden_key() {
    let vectors = cookies();
    let vector = &vectors["derived_key"];
    let key = Key::derive_from(text(vector, "secret").as_bytes()).unwrap();
    assert_eq!(*key.export(), text(vector, "key"));
    assert_eq!(key.id().to_string(), text(vector, "id"));
}

#[test]
fn golden_forgeries_are_refused_for_the_reason_that_they_name() {
    let vectors = cookies();
    let mut sealers = Sealers::default();
    for vector in vectors["good"].as_array().unwrap() {
        sealers.of(vector).parse(text(vector, "value").as_bytes()).unwrap().open().unwrap();
    }
    let bad = vectors["bad"].as_array().unwrap();
    assert!(bad.len() >= 40);
    for vector in bad {
        let opened = sealers.of(vector).parse(text(vector, "value").as_bytes()).and_then(Parsed::open);
        check_refusal(vector, opened, |opened| record::decode(opened).is_ok());
    }
}

/// By the cipher or before it, or else by the one who reads what it has opened, as the vector says.
fn check_refusal(vector: &Json, opened: Result<Opened, Rejection>, is_read: impl FnOnce(Opened) -> bool) {
    let what = text(vector, "what");
    assert_eq!(opened.is_ok(), vector["opens"] == true, "{what}");
    let reason = match opened {
        Err(rejection) => rejection.as_str(),
        Ok(opened) => ["malformed", "accepted"][usize::from(is_read(opened))],
    };
    assert_eq!(reason, text(vector, "rejection"), "{what}");
}

fn row_sealer(vector: &Json) -> RowSealer {
    RowSealer::new(Engine::DEFAULT, ring(vector), text(vector, "name"))
}

/// The place of a row, and what its key is derived from: the id of a session, or the place itself.
fn owner(vector: &Json, sealer: &RowSealer, data: &[u8]) -> (String, Vec<u8>) {
    match vector["subject"].as_str() {
        Some(subject) => {
            let key = KeyId(data[1..AAD_LEN].try_into().unwrap());
            let rosters = sealer.roster_rows(subject);
            let place = match vector["row"]["kind"].as_str() {
                Some("roster") => rosters.iter().find(|(of, _)| *of == key).unwrap().1,
                _ => sealer.subject_row(key, subject).unwrap(),
            };
            (place.to_string(), place.as_bytes().to_vec())
        }
        None => {
            let id: SessionId = text(vector, "id").parse().unwrap();
            (crate::store::rows::row_key(id).to_string(), id.0.to_vec())
        }
    }
}

#[test]
fn golden_rows_stand_where_they_ought_to_and_open_and_are_sealed_to_the_letter() {
    let vectors = cookies();
    let good = vectors["good_rows"].as_array().unwrap();
    assert!(good.len() >= 9);
    for vector in good {
        let (what, sealer, data) = (text(vector, "what"), row_sealer(vector), bytes(vector, "data"));
        let (place, unique) = owner(vector, &sealer, &data);
        assert_eq!(place, text(vector, "place"), "{what}");
        let opened = sealer.open(&unique, data.clone()).unwrap();
        let (key, plaintext) = (opened.key, opened.buf[opened.plaintext.clone()].to_vec());
        assert_eq!(opened.retired_key, vector["retired_key"] == true, "{what}");
        let content = record::decode_row(opened).unwrap();
        assert_eq!(spelled_row(&content), vector["row"], "{what}");
        if let RowContent::Roster(lines) = &content {
            assert_eq!(handles(&sealer, key, text(vector, "subject"), lines), vector["handles"], "{what}");
        }

        let subkeys = sealer.subkeys();
        let subkey = subkeys.of.iter().find(|subkey| subkey.id == key).unwrap();
        let mut out = Vec::new();
        lay_out(&mut out, key, &array(vector, "nonce"), |out| write_row(&content, out));
        assert_eq!(out[HEAD_LEN..], plaintext, "{what}");
        encrypt(&sealer.cipher(&subkey.row, &unique, halves(&out).0), &mut out);
        assert_eq!(out, data, "{what}");
    }
}

#[test]
fn golden_forgeries_of_rows_are_refused_for_the_reason_that_they_name() {
    let vectors = cookies();
    let bad = vectors["bad_rows"].as_array().unwrap();
    assert!(bad.len() >= 15);
    for vector in bad {
        let (sealer, data) = (row_sealer(vector), bytes(vector, "data"));
        let (_, unique) = owner(vector, &sealer, &data);
        check_refusal(vector, sealer.open(&unique, data), |opened| record::decode_row(opened).is_ok());
    }
}

#[test]
fn golden_transient_cookies_open_to_what_they_hold_and_are_sealed_to_the_letter() {
    let vectors = cookies();
    let good = vectors["good_transient"].as_array().unwrap();
    assert!(good.len() >= 8);
    for vector in good {
        let what = text(vector, "what");
        let sealer = Sealer::new(ring(vector), Purpose::Transient, text(vector, "base"));
        let opened = sealer.parse(text(vector, "cookie").as_bytes()).unwrap().open().unwrap();
        assert_eq!(opened.retired_key, vector["retired_key"] == true, "{what}");
        let content = record::decode_transient(&opened).unwrap();
        let told = (content.until.0, content.suffix, hex(content.value));
        let wanted =
            (vector["until"].as_i64().unwrap(), text(vector, "suffix"), text(vector, "value").into());
        assert_eq!(told, wanted, "{what}");
        if vector["retired_key"] == false {
            let mut out = Vec::new();
            let write = |text: &mut Vec<u8>| record::encode_transient(&content, text);
            seal_with_nonce(&sealer, array(vector, "nonce"), write, &mut out);
            assert_eq!(str::from_utf8(&out).unwrap(), text(vector, "cookie"), "{what}");
        }
    }
    for vector in vectors["bad_transient"].as_array().unwrap() {
        let sealer = Sealer::new(ring(vector), Purpose::Transient, text(vector, "base"));
        let opened = sealer.parse(text(vector, "cookie").as_bytes()).and_then(Parsed::open);
        check_refusal(vector, opened, |opened| record::decode_transient(&opened).is_ok());
    }
}

#[test]
fn golden_tokens_are_of_their_session_and_forged_ones_of_none() {
    let vectors = cookies();
    let verified = |vector: &Json| {
        let of = match vector["refused"].as_str() {
            Some(cookie) => Binding::Refused(cookie.as_bytes().into()),
            None => Binding::Session(text(vector, "id").parse().unwrap()),
        };
        crate::core::csrf::verify(&ring(vector), text(vector, "name"), &of, text(vector, "token"))
    };
    let (good, bad) = (vectors["good_csrf"].as_array().unwrap(), vectors["bad_csrf"].as_array().unwrap());
    assert!(good.len() >= 4 && bad.len() >= 8);
    for vector in good {
        assert_eq!(verified(vector), Ok(()), "{}", text(vector, "what"));
    }
    for vector in bad {
        let reason = match verified(vector) {
            Ok(()) => "accepted",
            Err(CsrfError::Malformed) => "malformed",
            Err(CsrfError::UnknownKey(_)) => "unknown_key",
            Err(CsrfError::OtherSession) => "other_session",
            Err(error) => panic!("{error}"),
        };
        assert_eq!(reason, text(vector, "rejection"), "{}", text(vector, "what"));
    }
}

#[test]
fn golden_challenges_and_proofs_of_devices_are_of_their_purpose_and_identifiers_to_the_letter() {
    let vectors = cookies();
    let opened = |vector: &Json| {
        let purpose = match text(vector, "purpose") {
            "device registration" => Purpose::DeviceRegistration,
            "device refresh" => Purpose::DeviceRefresh,
            "device proof" => Purpose::DeviceProof,
            other => panic!("{other}"),
        };
        let sealer = Sealer::new(ring(vector), purpose, text(vector, "name"));
        let opened = sealer.parse(text(vector, "text").as_bytes()).and_then(Parsed::open);
        let opened = opened.map_err(|reason| reason.as_str())?;
        let content = record::decode_transient(&opened).map_err(|_| "malformed")?;
        let (id, key) = device::subject_of(content.value).ok_or("malformed")?;
        if key.is_some() != (purpose != Purpose::DeviceRegistration) {
            return Err("malformed");
        }
        Ok((content.until.0, id.to_string(), key.map(|key| hex(&key.0)), opened.retired_key))
    };
    let (good, bad) = (vectors["good_device"].as_array().unwrap(), vectors["bad_device"].as_array().unwrap());
    assert!(good.len() >= 6 && bad.len() >= 15);
    for vector in good {
        let key = vector["key"].as_str().map(str::to_owned);
        let retired = vector["retired_key"] == true;
        let wanted = (vector["until"].as_i64().unwrap(), text(vector, "id").to_owned(), key, retired);
        assert_eq!(opened(vector), Ok(wanted), "{vector}");
    }
    for vector in bad {
        assert_eq!(opened(vector), Err(text(vector, "rejection")), "{vector}");
    }
    for vector in vectors["device_identifiers"].as_array().unwrap() {
        let (id, key) =
            (text(vector, "id").parse().unwrap(), DeviceKey::read(&bytes(vector, "key")).unwrap());
        let (ring, identifier) = (ring(vector), text(vector, "identifier"));
        let config =
            crate::core::cookie::CookieConfig { name: text(vector, "name").into(), ..Default::default() };
        let binder = device::Binder::for_tests(&ring, &config);
        assert!(binder.names(identifier, id));
        assert_eq!(device::Binder::named_key(identifier), Some(key));
        let other = SessionId([1; 16]);
        assert!(!binder.names(identifier, other), "another session's");
        if vector["keys"].as_array().unwrap().len() == 1 {
            assert_eq!(binder.identifier(id, &key), identifier);
        }
    }
}

fn write_row(content: &RowContent, out: &mut Vec<u8>) {
    match content {
        RowContent::Live { counter, ancestry, device, entries } => {
            let count = entries.extent().count;
            record::encode_live(*counter, ancestry, device.as_deref(), count, entries.iter(), out);
        }
        RowContent::Bound(device) => record::encode_bound(device, out),
        RowContent::Ended(replacement) => record::encode_ended(*replacement, out),
        RowContent::Generation(generation) => record::encode_generation(*generation, out),
        RowContent::Roster(lines) => record::encode_roster(lines, out),
    }
}

/// What the lines of a roster are called, under the key that sealed it.
fn handles(sealer: &RowSealer, key: KeyId, subject: &str, lines: &[Line]) -> Json {
    let at = sealer.roster_rows(subject).iter().position(|(of, _)| *of == key).unwrap();
    lines.iter().map(|line| URL_SAFE_NO_PAD.encode(sealer.handles(subject, &line.id.0)[at])).collect()
}

/// The row as the vectors spell it.
fn spelled_row(content: &RowContent) -> Json {
    match content {
        RowContent::Live { counter, ancestry, device, entries } => {
            let device = device.as_ref().map(|key| hex(&key.0));
            serde_json::json!({
                "kind": "live", "counter": counter, "ancestry": hex(&ancestry.0), "device": device,
                "entries": listed(entries),
            })
        }
        RowContent::Bound(device) => serde_json::json!({ "kind": "bound", "device": hex(&device.0) }),
        RowContent::Ended(None) => serde_json::json!({ "kind": "ended" }),
        RowContent::Ended(Some(Replacement { by, place })) => {
            serde_json::json!({ "kind": "replaced", "was_stored": *place == Place::Store, "by": hex(&by.0) })
        }
        RowContent::Generation(generation) => {
            serde_json::json!({ "kind": "generation", "generation": generation })
        }
        RowContent::Roster(lines) => serde_json::json!({ "kind": "roster", "lines": lines
            .iter()
            .map(|line| serde_json::json!({
                "id": line.id.to_string(), "generation": line.generation, "created_at": line.created_at.0,
                "authenticated_at": line.authenticated_at.0, "seen": line.seen.0, "end": line.end.0,
                "label": *line.label,
            }))
            .collect::<Vec<_>>()
        }),
    }
}

fn listed(entries: &Packed) -> Json {
    entries.iter().map(|(key, bytes)| serde_json::json!([key, hex(bytes)])).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The row that a session with this header and entry would have, every third one ended, and that of its subject.
fn fresh_rows(key: &Key, header: &Header, entry: &[u8]) -> Json {
    let sealer = RowSealer::new(Engine::DEFAULT, KeyRing::new(key.clone()), "fresh");
    let opened = |unique: &[u8], data: &[u8]| {
        spelled_row(&record::decode_row(sealer.open(unique, data.to_vec()).unwrap()).unwrap())
    };
    let id = &header.id.0;
    let data = sealer.seal(id, None, 0, |text| {
        if header.counter.is_multiple_of(3) {
            let by = header.subject.as_deref().map(SubjectTag::of);
            record::encode_ended(by.map(|by| Replacement { by, place: header.place }), text);
        } else if let (Some(device), true) = (header.device.bound(), header.counter.is_multiple_of(2)) {
            record::encode_bound(device, text);
        } else {
            let device = header.device.bound().map(|key| &**key);
            let ancestry = Ancestry::default().followed_by(Revision::random());
            record::encode_live(header.counter, &ancestry, device, 1, [("key", entry)].into_iter(), text);
        }
    });
    let mut rows = vec![serde_json::json!({
        "id": header.id.to_string(), "place": crate::store::rows::row_key(header.id).to_string(),
        "data": hex(&data), "row": opened(id, &data),
    })];
    if let Some(subject) = header.subject.as_deref() {
        let place = sealer.subject_row(key.id(), subject).unwrap();
        let data = sealer.seal(place.as_bytes(), Some(key.id()), 9, |text| {
            record::encode_generation(u64::from(header.counter) << 40 | 1, text);
        });
        rows.push(serde_json::json!({
            "subject": subject, "place": place.to_string(),
            "data": hex(&data), "row": opened(place.as_bytes(), &data),
        }));
        let lines = [Line {
            id: header.id,
            generation: header.generation,
            created_at: header.times.created_at,
            authenticated_at: header.authenticated_at,
            seen: record::hour(header.times.sealed_at),
            end: header.times.anchor.plus(header.times.duration),
            label: subject.chars().take(header.counter as usize).collect::<String>().into(),
        }];
        let place = sealer.roster_rows(subject)[0].1;
        let data =
            sealer.seal(place.as_bytes(), Some(key.id()), 0, |text| record::encode_roster(&lines, text));
        rows.push(serde_json::json!({
            "subject": subject, "place": place.to_string(),
            "data": hex(&data), "row": opened(place.as_bytes(), &data),
            "handles": handles(&sealer, key.id(), subject, &lines),
        }));
    }
    rows.into()
}

/// Writes cookies and rows of random keys into the file that `WIRE_FORMAT_OUT` names, for `tests/wire_format.py verify`.
#[test]
fn fresh_cookies_are_written_for_the_independent_reader() {
    let mut lines = String::new();
    for round in 0..50 {
        let key = Key::generate();
        let sealer = Sealer::new(KeyRing::new(key.clone()), Purpose::Cookie, "fresh");
        let terms =
            crate::core::lifetime::Lifetime::default().terms(std::time::Duration::from_secs(86_400)).unwrap();
        let now = crate::core::clock::Millis(1_767_225_600_000 + round);
        let mut state = crate::core::state::State::new(crate::core::state::Origin::New, &terms, now);
        state.identify();
        let mut header = state.header;
        header.counter = round as u32;
        header.subject = (round > 25).then(|| "é".repeat(round as usize * 7).into());
        header.authenticated_at = crate::core::clock::Millis(if round > 35 { now.0 - round } else { 0 });
        header.device = match round % 5 {
            0 => Device::Free,
            1 => Device::Offered,
            _ => Device::Bound(
                DeviceKey::read(&[&[2 + (round as u8 & 1)][..], &[round as u8; 32]].concat()).unwrap().into(),
            ),
        };
        let entry = vec![round as u8; round as usize * 30];
        let write = |text: &mut Vec<u8>| record::encode(&header, 1, [("key", &entry)].into_iter(), text);
        let mut out = Vec::new();
        sealer.seal(None, now, write, &mut out);
        let (read, _) = record::decode(sealer.parse(&out).unwrap().open().unwrap()).unwrap();
        assert_eq!(read, header);
        let value = str::from_utf8(&out).unwrap();
        let entries = serde_json::json!([["key", hex(&entry)]]);
        let rows = fresh_rows(&key, &header, &entry);
        let line = serde_json::json!({
            "keys": [key.export().as_str()], "name": "fresh", "value": value,
            "header": spelled(&header), "entries": entries, "rows": rows,
        });
        lines.push_str(&format!("{line}\n"));
    }
    if let Some(path) = std::env::var_os("WIRE_FORMAT_OUT") {
        std::fs::write(path, lines).unwrap();
    }
}
