//! Lets the fuzz targets reach what only authenticated bytes come to. Not a part of the interface.

#![allow(missing_docs, missing_debug_implementations)]

use std::time::Duration;

use crate::core::clock::Millis;
use crate::core::envelope::{Engine, Opened, Parsed, RowSealer, Sealer};
use crate::core::key::{Key, KeyId, KeyRing, Purpose};
use crate::core::lifetime::{self, Due, Lifetime, Terms, Verdict};
use crate::core::record::{self, RowContent, SessionId, Times};
use crate::core::value;

fn opened(text: &[u8]) -> Opened {
    Opened { buf: text.to_vec(), plaintext: 0..text.len(), key: KeyId([0; 4]), retired_key: false }
}

fn padded(mut text: Vec<u8>) -> Vec<u8> {
    text.resize(text.len().next_multiple_of(32), 0);
    text
}

/// Reads a record; what can be read is written back to the letter.
pub fn record(text: &[u8]) -> bool {
    let Ok((header, entries)) = record::decode(opened(text)) else { return false };
    let mut again = Vec::new();
    record::encode(&header, entries.extent().count, entries.iter(), &mut again);
    assert_eq!(again.len(), header.encoded_len(entries.extent()));
    // A length that was written longer than it has to be reads the same; the text is not the canonical one then.
    let (header_again, entries_again) =
        record::decode(opened(&padded(again))).expect("what was written is read");
    assert_eq!(header, header_again);
    assert!(entries.iter().eq(entries_again.iter()));
    true
}

/// Reads a row; what can be read is written back to the letter.
pub fn row(text: &[u8]) -> bool {
    match record::decode_row(opened(text)) {
        Err(_) => false,
        Ok(RowContent::Live { counter, ancestry, device, entries }) => {
            let mut again = Vec::new();
            record::encode_live(
                counter,
                &ancestry,
                device.as_deref(),
                entries.extent().count,
                entries.iter(),
                &mut again,
            );
            assert_eq!(
                again.len(),
                record::encoded_row_len(device.as_ref().map_or(0, |key| key.0.len()), entries.extent())
            );
            match record::decode_row(opened(&padded(again))) {
                Ok(RowContent::Live { counter: c, ancestry: a, device: d, entries: e }) => {
                    assert_eq!((c, a, d), (counter, ancestry, device));
                    assert!(e.iter().eq(entries.iter()));
                }
                _ => panic!("what was written is read"),
            }
            true
        }
        Ok(RowContent::Bound(device)) => {
            let mut again = Vec::new();
            record::encode_bound(&device, &mut again);
            assert!(text.starts_with(&again), "a bound session's row has one spelling");
            true
        }
        Ok(RowContent::Ended(replacement)) => {
            let mut again = Vec::new();
            record::encode_ended(replacement, &mut again);
            assert!(text.starts_with(&again), "a mark has one spelling");
            true
        }
        Ok(RowContent::Roster(lines)) => {
            let mut again = Vec::new();
            record::encode_roster(&lines, &mut again);
            assert!(text.starts_with(&again), "a list has one spelling");
            true
        }
        Ok(RowContent::Generation(generation)) => {
            let mut again = Vec::new();
            record::encode_generation(generation, &mut again);
            assert!(
                matches!(record::decode_row(opened(&padded(again))), Ok(RowContent::Generation(g)) if g == generation)
            );
            true
        }
    }
}

/// Reads what is read once; what can be read is written back to the letter.
pub fn transient(text: &[u8]) -> bool {
    let opened = opened(text);
    let Ok(content) = record::decode_transient(&opened) else { return false };
    let mut again = Vec::new();
    record::encode_transient(&content, &mut again);
    assert_eq!(again.len(), record::encoded_transient_len(content.suffix, content.value.len()));
    let again = self::opened(&padded(again));
    assert_eq!(record::decode_transient(&again).expect("what was written is read"), content);
    true
}

/// Shows any bytes as JSON, and reads them as values of several types.
pub fn value(bytes: &[u8]) {
    let _ = value::to_json(bytes);
    let _ = value::decode_integer(bytes);
    let _ = value::decode::<String>(bytes);
    let _ = value::decode::<Vec<Option<u64>>>(bytes);
    let _ = value::decode::<std::collections::BTreeMap<String, f64>>(bytes);
    if let Ok(json) = value::decode::<serde_json::Value>(bytes)
        && let Ok(again) = value::encode(&json)
    {
        assert_eq!(value::decode::<serde_json::Value>(&again).expect("what was written is read"), json);
        assert_eq!(value::to_json(&again), json);
    }
}

/// The key of all that the targets seal and open.
pub fn key() -> Key {
    Key::from_bytes([1; 32])
}

/// Reads what a browser sends of its device: what it calls its session in the first line, its proof in the second. Whether there is
/// an identifier, and why the proof is none.
#[cfg(feature = "device-binding")]
pub fn device(data: &[u8]) -> (bool, Option<crate::core::error::DeviceRefusal>) {
    use crate::core::device::Binder;
    use crate::core::device::jws::Jws;

    let text = String::from_utf8_lossy(data);
    let (identifier, proof) = text.split_once('\n').unwrap_or((&text, ""));
    let named = Binder::named_key(identifier);
    if let Some(key) = named {
        assert!(identifier.len() == 71 && matches!(key.0[0], 2 | 3));
    }
    let refusal = match Jws::parse(proof) {
        Ok(jws) => {
            assert!(proof.len() <= 2_048 && proof.matches('.').count() == 2);
            let own = jws.verify_own();
            // By the key as the session keeps it the same is true.
            if let Some(key) = jws.key() {
                assert_eq!(jws.verify(&key), own);
            }
            if jws.key().is_some() { own.err() } else { None }
        }
        Err(reason) => Some(reason),
    };
    (named.is_some(), refusal)
}

/// Opens a cookie's value.
pub fn envelope(text: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        static SEALER: Sealer = Sealer::new(KeyRing::new(key()), Purpose::Cookie, "s");
    }
    let opened = SEALER.with(|sealer| sealer.parse(text)).and_then(Parsed::open).ok()?;
    assert!(!opened.plaintext.is_empty() && opened.plaintext.len().is_multiple_of(32));
    Some(opened.buf[opened.plaintext].to_vec())
}

/// Seals the plaintext of a row of the session with this id.
pub fn seal_row(id: SessionId, text: &[u8]) -> Vec<u8> {
    let sealer = RowSealer::new(Engine::DEFAULT, KeyRing::new(key()), "s");
    sealer.seal(&id.0, None, text.len(), |out| out.extend_from_slice(text))
}

/// A session's times under a configuration, for a model to run beside.
pub struct Life {
    terms: Terms,
    times: Times,
}

/// What is said of the absolute limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absolute {
    Nothing,
    Without,
    For(u64),
}

/// What a use of a session comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Over,
    Future,
    Live,
    Extends,
    Refreshes,
}

impl Life {
    /// None: the configuration is refused.
    pub fn begin(
        (duration, active, absolute, idle): (u64, Option<u64>, Absolute, Option<u64>),
        now: i64,
    ) -> Option<Self> {
        let ms = Duration::from_millis;
        let mut lifetime = Lifetime::new(ms(duration));
        if let Some(active) = active {
            lifetime = lifetime.active(ms(active));
        }
        lifetime = match absolute {
            Absolute::Nothing => lifetime,
            Absolute::Without => lifetime.without_absolute(),
            Absolute::For(absolute) => lifetime.absolute(ms(absolute)),
        };
        if let Some(idle) = idle {
            lifetime = lifetime.idle(ms(idle));
        }
        let terms = lifetime.terms(ms(34_560_000_000)).ok()?;
        Some(Self { terms, times: lifetime::birth(&terms, Millis(now)) })
    }

    /// One request: what it finds, and what is sealed if it is to be.
    pub fn request(&mut self, now: i64, touches: bool, writes: bool) -> Use {
        let now = Millis(now);
        let found = match lifetime::judge(&self.times, &self.terms, now) {
            Verdict::Over { .. } => return Use::Over,
            Verdict::Future => return Use::Future,
            Verdict::Live => Use::Live,
            Verdict::Due(Due::Extend) => Use::Extends,
            Verdict::Due(Due::Refresh) => Use::Refreshes,
        };
        let used = match found {
            _ if touches => lifetime::touch(&self.times, now),
            Use::Extends => lifetime::extend(&self.times, &self.terms, now),
            _ => self.times,
        };
        if touches || writes || found != Use::Live {
            self.times = lifetime::sealed(&lifetime::reseal(&used, &self.terms, now), &self.terms);
        }
        found
    }

    /// Gives a session that is alive a duration of its own, as `set_duration` does, and seals it.
    pub fn set_duration(&mut self, now: i64, own: i64) {
        let now = Millis(now);
        let times = lifetime::with_own_duration(&self.times, &self.terms, Millis(own), now);
        self.times = lifetime::sealed(&lifetime::reseal(&times, &self.terms, now), &self.terms);
    }

    /// When it ends if nobody uses it, and until when a mark would have to last.
    pub fn ends(&self, now: i64) -> (i64, i64) {
        let now = Millis(now);
        (
            lifetime::first_end(&self.times, &self.terms, now).0.0,
            lifetime::mark_end(&self.times, &self.terms, now).minus(lifetime::MARK_SPARE).0,
        )
    }
}
