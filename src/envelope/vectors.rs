//! Known answers: the official ones of XAES-256-GCM, and golden cookies that an independent implementation made.

use serde_json::Value as Json;
use sha3::Shake128;
use sha3::digest::{ExtendableOutput as _, Update as _, XofReader as _};

use super::*;
use crate::record::{self, Header, Place};

fn file(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

fn xaes() -> Json {
    file(include_str!("../../tests/vectors/xaes-256-gcm.json"))
}

fn cookies() -> Json {
    file(include_str!("../../tests/vectors/cookie-v1.json"))
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

fn encrypt(key: [u8; 32], nonce: [u8; 24], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let cipher = Xaes256Gcm::new(&key.into());
    let mut buf = plaintext.to_vec();
    let tag = cipher.encrypt_inout_detached(&nonce.into(), aad, InOutBuf::from(&mut buf[..])).unwrap();
    buf.extend_from_slice(&tag);
    buf
}

#[test]
fn the_cipher_gives_the_official_answers() {
    let vectors = xaes();
    let official = vectors["official_vectors"].as_array().unwrap();
    assert_eq!(official.len(), 2);
    for vector in official {
        let sealed = encrypt(
            array(vector, "key"),
            array(vector, "nonce"),
            &bytes(vector, "aad"),
            &bytes(vector, "plaintext"),
        );
        assert_eq!(sealed, bytes(vector, "ciphertext_and_tag"));
    }
}

#[test]
fn the_cipher_gives_the_official_accumulated_digest_of_ten_thousand_messages() {
    let vectors = xaes();
    let digests = vectors["official_accumulated"]["digests"].as_array().unwrap();
    let expected = digests.iter().find(|digest| digest["iterations"] == 10_000).unwrap();
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
        all.update(&encrypt(key, nonce, &aad, &plaintext));
    }
    let mut digest = [0; 32];
    all.finalize_xof().read(&mut digest);
    assert_eq!(digest.to_vec(), bytes(expected, "shake128_32"));
}

fn sealer(vector: &Json) -> Sealer {
    let keys = vector["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().parse().unwrap());
    Sealer::new(KeyRing::from_keys(keys).unwrap(), Purpose::Cookie, text(vector, "name"))
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
        "own_duration": header.times.own,
        "persistent": header.persistent,
        "in_store": header.place == Place::Store,
        "subject": header.subject.as_deref(),
        "generation": header.generation,
    })
}

#[test]
fn golden_cookies_open_to_what_they_hold_and_are_sealed_to_the_letter() {
    let vectors = cookies();
    let good = vectors["good"].as_array().unwrap();
    assert!(good.len() >= 6);
    for vector in good {
        let what = text(vector, "what");
        let sealer = sealer(vector);
        let value = text(vector, "value");
        let opened = sealer.parse(value.as_bytes()).unwrap().open().unwrap();
        assert_eq!(opened.current, vector["retired_key"] == false, "{what}");
        let (header, entries) = record::decode(opened).unwrap();
        assert_eq!(spelled(&header), vector["header"], "{what}");
        let read: Vec<Json> =
            entries.iter().map(|(key, bytes)| serde_json::json!([key, hex(bytes)])).collect();
        assert_eq!(Json::from(read), vector["entries"], "{what}");

        if vector["retired_key"] == false {
            let mut draft = Draft::with_capacity(0);
            record::encode(&header, entries.extent().count, entries.iter(), draft.plaintext());
            let mut out = Vec::new();
            sealer.seal_with_nonce(draft, None, array(vector, "nonce"), &mut out);
            assert_eq!(str::from_utf8(&out).unwrap(), value, "{what}");
        }
    }
}

#[test]
fn golden_forgeries_are_refused_for_the_reason_that_they_name() {
    let vectors = cookies();
    let bad = vectors["bad"].as_array().unwrap();
    assert!(bad.len() >= 10);
    for vector in bad {
        let outcome = sealer(vector).parse(text(vector, "value").as_bytes()).and_then(Parsed::open);
        let reason = match outcome {
            Err(rejection) => rejection.as_str(),
            Ok(opened) => record::decode(opened).map_or("malformed", |_| "accepted"),
        };
        assert_eq!(reason, text(vector, "rejection"), "{}", text(vector, "what"));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The row that a session with this header and entry would have; every third one has ended.
fn fresh_row(key: &Key, header: &Header, entry: &[u8]) -> Json {
    let sealer = RowSealer::new(KeyRing::new(key.clone()), "fresh");
    let mut draft = Draft::with_capacity(0);
    let ended = header.counter.is_multiple_of(3);
    if ended {
        record::encode_ended(draft.plaintext());
    } else {
        record::encode_live(header.counter, 1, [("key", entry)].into_iter(), draft.plaintext());
    }
    let entries = (!ended).then(|| serde_json::json!([["key", hex(entry)]]));
    serde_json::json!({
        "key": crate::rows::row_key(header.id).to_string(), "data": hex(&sealer.seal(&header.id.0, None, draft)),
        "ended": ended, "counter": (!ended).then_some(header.counter), "entries": entries,
    })
}

/// Writes cookies and rows of random keys into the file that `WIRE_FORMAT_OUT` names, for `tests/wire_format.py verify`.
#[test]
fn fresh_cookies_are_written_for_the_independent_reader() {
    let mut lines = String::new();
    for round in 0..50 {
        let key = Key::generate();
        let sealer = Sealer::new(KeyRing::new(key.clone()), Purpose::Cookie, "fresh");
        let terms =
            crate::lifetime::Lifetime::default().terms(std::time::Duration::from_secs(86_400)).unwrap();
        let now = crate::clock::Millis(1_767_225_600_000 + round);
        let mut header = crate::state::State::new(crate::state::Origin::New, &terms, now).header;
        header.counter = round as u32;
        header.subject = (round > 25).then(|| "é".repeat(round as usize * 7).into());
        let entry = vec![round as u8; round as usize * 30];
        let mut draft = Draft::with_capacity(0);
        record::encode(&header, 1, [("key", &entry)].into_iter(), draft.plaintext());
        let mut out = Vec::new();
        sealer.seal(draft, None, &mut out);
        let (read, _) = record::decode(sealer.parse(&out).unwrap().open().unwrap()).unwrap();
        assert_eq!(read, header);
        let value = str::from_utf8(&out).unwrap();
        let entries = serde_json::json!([["key", hex(&entry)]]);
        let row = fresh_row(&key, &header, &entry);
        let line = serde_json::json!({
            "keys": [key.export().as_str()], "name": "fresh", "value": value,
            "header": spelled(&header), "entries": entries, "row": row,
        });
        lines.push_str(&format!("{line}\n"));
    }
    if let Some(path) = std::env::var_os("WIRE_FORMAT_OUT") {
        std::fs::write(path, lines).unwrap();
    }
}
