//! What the fuzz targets do with their bytes. The targets are one line each, so that the same runs as a plain test
//! over the seeds: `cargo test --manifest-path fuzz/Cargo.toml --no-default-features`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sealed_session::__fuzz as inner;
use sealed_session::store::{Expected, NewRow, Revision, Row, RowKey, Store, StoreError, Written};
use sealed_session::{
    CommitContext, DeviceRefusal, KeyRing, Lifetime, ManualClock, Origin, Placement, Session, Sessions,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// When all that is sealed in the seeds was sealed.
const NOW: i64 = 1_767_225_600;

fn start() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).expect("a moment of this century")
}

fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn ring() -> KeyRing {
    KeyRing::new(inner::key())
}

/// Built once, or the fuzzer would do little else.
fn sessions() -> Sessions {
    thread_local! {
        static SESSIONS: Sessions = built();
    }
    SESSIONS.with(Sessions::clone)
}

fn built() -> Sessions {
    let builder = Sessions::builder(ring()).cookie_name("s").clock(ManualClock::at(start()));
    builder
        .lifetime(Lifetime::new(Duration::from_secs(86_400)).idle(Duration::from_secs(3_600)))
        .build()
        .expect("good")
}

/// `Cookie` headers, one a line, as a request brings them: whatever they are, there is a session, and an answer.
pub fn cookie_header(data: &[u8]) -> Origin {
    let sessions = sessions();
    let headers: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    let session = block_on(sessions.load(&headers)).expect("no cookie is an error");
    let origin = session.origin();
    if origin != Origin::Resumed {
        assert!(session.is_empty() && session.subject().is_none());
    }
    session.insert("n", 1).unwrap_or_default();
    let line = block_on(sessions.commit(&session, CommitContext::default())).expect("no store, no error");
    for line in line {
        let pair = line.split(';').next().unwrap_or_default();
        assert!(pair.len() - 1 <= sealed_session::MAX_NAME_VALUE_BYTES && pair.starts_with("s="));
        assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
    }
    for header in headers {
        let _ = sessions.inspect(header);
    }
    origin
}

/// What a browser sends of its device: see there.
pub fn device(data: &[u8]) -> (bool, Option<DeviceRefusal>) {
    inner::device(data)
}

/// `Cookie` headers, one a line behind a suffix, for what is read once, for flash messages and for tokens: whatever they are,
/// nothing fails, and what is sent back is a header. Whether there was a value.
pub fn transient(data: &[u8]) -> bool {
    thread_local! {
        static KIND: sealed_session::Transient<Value> =
            sessions().transient("once").secure(sealed_session::Secure::Never).build().expect("good");
    }
    inner::transient(data);
    let mut lines = data.split(|&byte| byte == b'\n');
    let suffix = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let headers: Vec<&[u8]> = lines.collect();
    let sessions = sessions();
    let session = block_on(sessions.load(&headers)).expect("no cookie is an error");
    assert!(session.verify_csrf(&suffix).is_err());
    let flash = sessions.flash(&session, &headers);
    let _ = flash.take();
    let _ = flash.info(suffix.as_str());
    let lines = flash.commit(true).into_iter();
    KIND.with(|kind| {
        let taken = kind.take(&headers);
        let of_suffix = kind.take_for(&suffix, &headers);
        let put = kind.put_for(&suffix, &headers, &Value::Null);
        assert!(put.as_ref().map_or(true, |put| put.len() <= 9));
        let removals = [&taken, &of_suffix].map(|taken| taken.as_ref().map(|taken| taken.removal.clone()));
        for line in lines.chain(put.into_iter().flatten()).chain(removals.into_iter().flatten()) {
            assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{line}");
            let name = line.split('=').next().unwrap_or_default();
            assert!(name == "s-flash" || name == "once" || name.starts_with("once."), "{line}");
        }
        taken.is_some() || of_suffix.is_some()
    })
}

/// A cookie's value: what opens has the shape that it was sealed in. Whether it opens.
pub fn envelope(data: &[u8]) -> bool {
    inner::envelope(data).is_some()
}

/// The plaintext of a cookie. Whether it is one.
pub fn record(data: &[u8]) -> bool {
    inner::record(data)
}

/// The plaintext of a row. Whether it is one.
pub fn row(data: &[u8]) -> bool {
    inner::row(data)
}

/// The bytes of an entry's value.
pub fn value(data: &[u8]) {
    inner::value(data);
}

/// Takes numbers from the front of the data, and zeros when that is used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    fn number(&mut self) -> u64 {
        (0..5).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Operations on a session beside a map, with commits in between: they agree, wherever the session is kept.
pub fn session(data: &[u8]) {
    const KEYS: [&str; 4] = ["a", "b", "", "ключ"];
    let mut data = Bytes(data);
    let clock = ManualClock::at(start());
    let store = sealed_session::store::MemoryStore::new().clock(clock.clone());
    let stores = data.byte().is_multiple_of(2);
    let builder = Sessions::builder(ring()).cookie_name("s").clock(clock);
    let builder = if stores { builder.store(store).spill_above(600) } else { builder };
    let sessions = builder.build().expect("good");

    let mut model: BTreeMap<String, Value> = BTreeMap::new();
    let mut cookie = String::new();
    let mut session = block_on(sessions.load([&cookie])).expect("nothing fails");
    while !data.is_empty() {
        let key = KEYS[usize::from(data.byte()) % KEYS.len()];
        match data.byte() % 12 {
            0 | 1 => {
                let value = match data.byte() % 5 {
                    0 => json!(data.number()),
                    1 => json!("x".repeat(usize::from(data.byte()) * 8)),
                    2 => json!({ "a": [data.byte(), null], "": true }),
                    3 => json!(-i64::from(data.byte())),
                    _ => Value::Null,
                };
                // Without a store a session may be full.
                if session.insert(key, &value).is_ok() {
                    model.insert(key.into(), value);
                } else {
                    assert!(!stores);
                }
            }
            2 => {
                assert_eq!(session.remove(key), model.remove(key).is_some());
            }
            3 => {
                session.clear();
                model.clear();
            }
            4 => {
                session.retain(|kept| kept != key);
                model.remove(key);
            }
            5 => {
                let by = i64::from(data.byte()) - 100;
                let before = model.get(key).map_or(Some(0), Value::as_i64);
                match (session.increment(key, by), before.and_then(|before| before.checked_add(by))) {
                    (Ok(sum), Some(expected)) => {
                        assert_eq!(sum, expected);
                        model.insert(key.into(), json!(sum));
                    }
                    (Ok(sum), None) => panic!("{sum} of {before:?} and {by}"),
                    (Err(_), _) => {}
                }
            }
            6 => session.renew(),
            7 => session.touch(),
            8 => {
                let taken: Option<Value> = session.take(key).expect("any value is a JSON value");
                assert_eq!(taken, model.remove(key));
            }
            9 => {
                session.destroy();
                model.clear();
                cookie = commit(&sessions, &session, cookie);
                assert!(cookie.is_empty());
                session = block_on(sessions.load([&cookie])).expect("nothing fails");
            }
            _ => {
                cookie = commit(&sessions, &session, cookie);
                session = block_on(sessions.load([&cookie])).expect("nothing fails");
                assert_eq!(session.origin() == Origin::Resumed, !cookie.is_empty());
            }
        }
        assert_eq!(session.entries(), model);
        assert_eq!(session.len(), model.len());
        if matches!(session.placement(), Placement::Cookie { .. }) {
            assert!(session.cookie_bytes() <= sealed_session::MAX_NAME_VALUE_BYTES);
        }
    }
}

/// The browser's cookie after the answer.
fn commit(sessions: &Sessions, session: &Session, cookie: String) -> String {
    let line = block_on(sessions.commit(session, CommitContext::default())).expect("nothing fails").pop();
    match line {
        None => cookie,
        Some(line) if line.starts_with("s=;") => String::new(),
        Some(line) => line.split(';').next().unwrap_or_default().to_owned(),
    }
}

/// The lifetime's arithmetic beside a model of a few lines.
pub fn lifetime(data: &[u8]) {
    const SKEW: i64 = 60_000;
    const MAX_DURATION: u64 = 34_560_000_000;
    const THIRTY_DAYS: i64 = 2_592_000_000;
    let mut data = Bytes(data);
    let span = |data: &mut Bytes<'_>| data.number() % 40_000_000_000;
    let maybe = |data: &mut Bytes<'_>| data.byte().is_multiple_of(2).then(|| span(data));
    let (duration, active) = (span(&mut data), maybe(&mut data));
    let absolute = match data.byte() % 4 {
        1 => inner::Absolute::Nothing,
        3 => inner::Absolute::Without,
        _ => inner::Absolute::For(span(&mut data)),
    };
    let idle = maybe(&mut data);
    let mut now = NOW * 1_000;
    let Some(mut life) = inner::Life::begin((duration, active, absolute, idle), now) else {
        let absurd = |span: Option<u64>| span.is_some_and(|span| span == 0);
        assert!(
            duration == 0
                || duration > MAX_DURATION
                || absurd(active)
                || absolute == inner::Absolute::For(0)
                || absurd(idle)
                || active.is_some_and(|active| active > duration)
        );
        return;
    };
    let number = |span: u64| i64::try_from(span).expect("40 bits");
    let mut d = number(duration);
    let configured_a = number(active.unwrap_or(300_000.min(duration)));
    let (born, mut anchor, mut sealed, mut is_own) = (now, now, now, false);
    let limit = |d: i64| match absolute {
        inner::Absolute::Nothing => Some(born + THIRTY_DAYS.max(d)),
        inner::Absolute::Without => None,
        inner::Absolute::For(span) => Some(born + number(span)),
    };
    while !data.is_empty() {
        // Forward mostly, and sometimes back.
        let step = number(span(&mut data));
        now += if data.byte().is_multiple_of(16) { -(step % 200_000) } else { step % (d + 2) };
        let (touches, writes) = (data.byte().is_multiple_of(4), data.byte().is_multiple_of(3));
        let own = data.byte().is_multiple_of(8).then(|| 1 + span(&mut data) % MAX_DURATION);
        let found = life.request(now, touches, writes);
        // What a shorter duration has left of a longer one is postponed by no use.
        let is_remainder = is_own && anchor == born - 1;
        let a = if is_remainder { 0 } else { configured_a.min(d) };
        let by_duration = (anchor + d).min(now + d.max(2 * a));
        let end = [limit(d), idle.map(|span| sealed + number(span))]
            .into_iter()
            .flatten()
            .fold(by_duration, i64::min);
        let expected = if born > now + SKEW || sealed > now + SKEW {
            inner::Use::Future
        } else if now >= end {
            inner::Use::Over
        } else if by_duration - now < a {
            inner::Use::Extends
        } else if idle.is_some_and(|idle| now - sealed > number(idle) / 10) {
            inner::Use::Refreshes
        } else {
            inner::Use::Live
        };
        assert_eq!(found, expected);
        if matches!(found, inner::Use::Future | inner::Use::Over) {
            return;
        }
        if touches {
            anchor = if is_remainder { anchor } else { anchor.max(now) };
        } else if found == inner::Use::Extends {
            anchor = (anchor + a).min(now + d.max(2 * a) - d);
        }
        if touches || writes || found != inner::Use::Live {
            sealed = now;
        }
        if let Some(own) = own {
            let own = number(own);
            life.set_duration(now, own);
            (anchor, d) = match (limit(own), limit(d)) {
                (Some(limit), Some(former)) if limit < former.min(now + own) => {
                    (born - 1, (former.min(now + own) - born + 1).min(number(MAX_DURATION)))
                }
                _ => (now, own),
            };
            (sealed, is_own) = (now, true);
        }
        let a = configured_a.min(d);
        let (ends, marks) = life.ends(now);
        assert!(ends <= now + d.max(2 * a) && marks >= ends.min(anchor + d));
    }
}

/// A store that holds one row, whatever is asked for.
#[derive(Debug)]
struct Holding(Vec<u8>);

#[async_trait]
impl Store for Holding {
    async fn load(&self, _: &RowKey) -> Result<Option<Row>, StoreError> {
        let expires_at = start() + Duration::from_secs(60);
        Ok(Some(Row { data: self.0.clone(), revision: Revision::from_bytes([0; 16]), expires_at }))
    }

    async fn write(&self, _: &RowKey, _: NewRow<'_>, _: Expected) -> Result<Written, StoreError> {
        Ok(Written::Done)
    }

    async fn extend(&self, _: &RowKey, _: Revision, _: OffsetDateTime) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn delete(&self, _: &RowKey) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn sweep(&self, _: usize) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn count(&self) -> Result<u64, StoreError> {
        Ok(1)
    }

    async fn clear(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Any bytes as the row that a good cookie leads to, or sealed as it should be: a session, a new one, and never a failure.
pub fn stored_row(data: &[u8]) -> Origin {
    thread_local! {
        static REFERENCE: String = {
            let store = sealed_session::store::MemoryStore::new().clock(ManualClock::at(start()));
            let builder = Sessions::builder(ring()).cookie_name("s").clock(ManualClock::at(start()));
            let sessions = builder.store(store).build().expect("good");
            block_on(sessions.issue(|session| session.insert("large", "x".repeat(5_000)))).expect("good")
        };
    }
    let (is_sealed, data) = data.split_first().map_or((false, data), |(first, rest)| (first % 2 == 1, rest));
    let id = REFERENCE.with(|cookie| sessions().inspect(&cookie[2..]).expect("good").id);
    let row = if is_sealed { inner::seal_row(id, data) } else { data.to_vec() };
    let store: Arc<dyn Store> = Arc::new(Holding(row));
    let builder = Sessions::builder(ring()).cookie_name("s").clock(ManualClock::at(start()));
    let sessions = builder.store(store).build().expect("good");
    REFERENCE.with(|cookie| {
        let session = block_on(sessions.load([cookie])).expect("no row is an error");
        let origin = session.origin();
        assert!(matches!(origin, Origin::Resumed | Origin::Rejected(_)));
        session.insert("n", 1).expect("it fits");
        let _ = block_on(sessions.commit(&session, CommitContext::default()));
        assert_eq!(session.get::<u8>("n").expect("a number"), Some(1));
        origin
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use std::path::Path;

    use sealed_session::{DeviceRefusal, End, Origin, Rejection};

    /// Runs a target over its seeds, and over what a fuzzer would make of them first. What it says of each seed.
    fn over<T>(target: &str, run: fn(&[u8]) -> T) -> BTreeMap<String, T> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let seeds = root.join("seeds").join(target);
        let mut said = BTreeMap::new();
        for seed in std::fs::read_dir(&seeds).unwrap_or_else(|e| panic!("{}: {e}", seeds.display())) {
            let seed = seed.expect("a seed");
            let data = std::fs::read(seed.path()).expect("a seed");
            said.insert(seed.file_name().into_string().expect("a name"), run(&data));
            for cut in 0..data.len().min(300) {
                run(&data[..cut]);
                for flip in [1, 0x80, 0xff] {
                    let mut flipped = data.clone();
                    flipped[cut] ^= flip;
                    run(&flipped);
                }
            }
        }
        assert!(said.len() >= 3, "{target} has {} seeds", said.len());
        said
    }

    /// Without this all seeds could be refused at the door, and a target would try nothing.
    fn says<T: PartialEq + Debug>(target: &str, run: fn(&[u8]) -> T, expected: &[(T, &[&str])]) {
        let mut said = over(target, run);
        for (expected, seeds) in expected {
            for seed in *seeds {
                assert_eq!(said.remove(*seed).as_ref(), Some(expected), "{target}/{seed}");
            }
        }
        assert!(said.is_empty(), "of these seeds nothing is expected: {said:?}");
    }

    #[test]
    fn cookie_header() {
        let rejected = Origin::Rejected;
        says(
            "cookie_header",
            crate::cookie_header,
            &[
                (
                    Origin::Resumed,
                    &["plain", "subject", "authenticated", "own", "old", "others", "twice", "foreign"],
                ),
                (rejected(Rejection::Expired(End::Idle)), &["expired"]),
                (rejected(Rejection::Missing), &["reference"]),
                (rejected(Rejection::Tampered), &["tampered"]),
                (rejected(Rejection::Malformed), &["garbage"]),
                (Origin::New, &["none"]),
            ],
        );
    }

    #[test]
    fn transient() {
        says(
            "transient",
            crate::transient,
            &[
                (true, &["once", "of_suffix", "among_others", "quoted"]),
                (false, &["expired", "other_suffix", "other_name", "flash", "garbage", "planted", "record"]),
            ],
        );
    }

    #[test]
    fn device() {
        let why = |refusal| (true, Some(refusal));
        says(
            "device",
            crate::device,
            &[
                ((true, None), &["registration", "refresh", "escaped"]),
                (why(DeviceRefusal::Signature), &["other_payload", "der", "zeros"]),
                (why(DeviceRefusal::Algorithm), &["none", "rs256"]),
                (why(DeviceRefusal::Key), &["off_curve", "p384"]),
                (why(DeviceRefusal::Malformed), &["twice", "crit", "typ", "parts", "empty"]),
                ((false, Some(DeviceRefusal::TooLong)), &["long"]),
                ((false, Some(DeviceRefusal::Malformed)), &["garbage"]),
            ],
        );
    }

    #[test]
    fn envelope() {
        says(
            "envelope",
            crate::envelope,
            &[
                (true, &["plain", "subject", "authenticated", "own", "reference", "old"]),
                (false, &["tampered", "other_key", "other_name", "other_suite", "padded"]),
            ],
        );
    }

    #[test]
    fn record() {
        says(
            "record",
            crate::record,
            &[
                (true, &["plain", "subject", "authenticated", "own", "reference", "old"]),
                (true, &["long", "many", "found_long_length", "offered", "bound"]),
                (false, &["flags", "device_key", "device_key_cut", "order", "padding", "short"]),
            ],
        );
    }

    #[test]
    fn row() {
        says(
            "row",
            crate::row,
            &[
                (
                    true,
                    &["live", "live_bound", "empty", "bound", "ended", "replaced", "generation", "roster"],
                ),
                (
                    false,
                    &[
                        "kind",
                        "bound_to_no_point",
                        "live_bound_cut",
                        "generation_cut",
                        "ended_and_more",
                        "replaced_and_more",
                        "lines",
                        "label",
                    ],
                ),
            ],
        );
    }

    #[test]
    fn stored_row() {
        says(
            "stored_row",
            crate::stored_row,
            &[
                (Origin::Resumed, &["sealed-live", "sealed-live_bound", "sealed-empty"]),
                (Origin::Rejected(Rejection::Revoked), &["sealed-ended", "sealed-replaced"]),
                (
                    Origin::Rejected(Rejection::Missing),
                    &["sealed-bound", "sealed-generation", "sealed-roster", "garbage", "short"],
                ),
            ],
        );
    }

    #[test]
    fn value() {
        over("value", crate::value);
    }

    #[test]
    fn session() {
        over("session", crate::session);
    }

    #[test]
    fn lifetime() {
        over("lifetime", crate::lifetime);
        // A fuzzer is not always at hand, and the model should hold without one.
        let mut state = 2026_u64;
        for _ in 0..20_000 {
            let random = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            });
            crate::lifetime(&random.take(300).collect::<Vec<u8>>());
        }
    }

    /// A fuzzer finds what several bytes stand for by itself only by luck.
    #[test]
    fn dictionaries_have_tokens_that_libfuzzer_reads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dict");
        for target in
            ["cookie_header", "envelope", "record", "row", "value", "session", "lifetime", "stored_row"]
        {
            let text = std::fs::read_to_string(folder.join(format!("{target}.dict"))).expect(target);
            let tokens = text.lines().filter(|line| !line.starts_with('#'));
            let is_quoted = |line: &str| line.len() > 2 && line.starts_with('"') && line.ends_with('"');
            assert!(tokens.clone().all(is_quoted), "{target}");
            assert!(tokens.count() >= 8, "{target}");
        }
    }
}
