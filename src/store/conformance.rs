//! What every [`Store`] has to do, as a test that any implementation can run.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use sealed_session::store::{MemoryStore, conformance};
//!
//! # fn test() -> impl Future<Output = ()> {
//! conformance::run(async || MemoryStore::new())
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
//! # }
//! ```
//!
//! It takes about three seconds, because real time has to pass. The store has to use the computer's clock or its
//! server's, and the two have to agree to the second.

mod parallel;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::sleep;

use crate::store::{Expected, NewRow, ROW_KEY_LEN, Revision, Row, RowKey, Store, Written};

const HOUR: Duration = Duration::from_secs(3_600);
const WRITERS: usize = 64;

/// Checks a store. Each call of the factory returns an empty store, isolated from the earlier ones: by prefix, by table,
/// by collection.
///
/// # Panics
/// If the store does not behave as [`Store`] says; the message names the case, what was expected and what was found.
pub async fn run<S: Store>(factory: impl AsyncFn() -> S) {
    // Each in a place of its own, or all of them together would take more stack than a thread of a test has.
    Box::pin(round_trip(&factory().await)).await;
    Box::pin(data_of_every_kind(&factory().await)).await;
    Box::pin(creating(&factory().await)).await;
    Box::pin(compare_and_set(&factory().await)).await;
    Box::pin(expired(&factory().await)).await;
    Box::pin(extending(&factory().await)).await;
    Box::pin(deleting(&factory().await)).await;
    Box::pin(sweeping(&factory().await)).await;
    Box::pin(counting_and_clearing(&factory().await)).await;
    Box::pin(isolation(&factory().await, &factory().await)).await;
    Box::pin(parallel::writers(factory().await)).await;
    Box::pin(parallel::creators(factory().await)).await;
    Box::pin(parallel::extenders(factory().await)).await;
    Box::pin(parallel::sweepers(factory().await)).await;
    Box::pin(far_expiries(&factory().await)).await;
    Box::pin(given_up(&factory().await)).await;
    Box::pin(time_passes(&factory().await)).await;
}

/// Checks that two handles of one store, such as those of two processes, see each other's rows at once.
///
/// # Panics
/// If they do not.
pub async fn shared(here: &impl Store, there: &impl Store) {
    let (key, first) = (key(1), Revision::random());
    expect("shared: create here", put(here, &key, b"here", first, Expected::Absent).await, Written::Done);
    expect("shared: seen there", data(there, &key).await, Some(b"here".to_vec()));
    expect("shared: refused there", create(there, &key).await, Written::Conflict);
    let second = Revision::random();
    expect(
        "shared: write there",
        put(there, &key, b"there", second, Expected::At(first)).await,
        Written::Done,
    );
    expect(
        "shared: stale here",
        put(here, &key, b"late", first, Expected::At(first)).await,
        Written::Conflict,
    );
    expect("shared: seen here", data(here, &key).await, Some(b"there".to_vec()));
    expect("shared: deleted here", here.delete(&key).await.unwrap(), true);
    expect("shared: gone there", data(there, &key).await, None);
}

async fn round_trip(store: &impl Store) {
    let (key, revision) = (key(1), Revision::random());
    expect("absent", store.load(&key).await.unwrap(), None);
    let expires_at = OffsetDateTime::now_utc() + HOUR;
    let row = NewRow { data: b"data", revision, expires_at };
    expect("create", store.write(&key, row, Expected::Absent).await.unwrap(), Written::Done);
    let found = store.load(&key).await.unwrap().expect("conformance, round trip: the row is not there");
    expect("round trip: data", found.data, b"data".to_vec());
    expect("round trip: revision", found.revision, revision);
    within_a_second("round trip: expiry", found.expires_at, expires_at);
}

async fn data_of_every_kind(store: &impl Store) {
    let large: Vec<u8> = (0..1_usize << 20).map(|i| (i * 31 % 251) as u8).collect();
    let every_byte: Vec<u8> = (0..=255).collect();
    for (n, data) in [&b""[..], b"\0", b"\xff\xfe\0\r\n'\"\\", &every_byte, &large].into_iter().enumerate() {
        let key = RowKey::from_bytes([n as u8 * 63; ROW_KEY_LEN]);
        let written = put(store, &key, data, Revision::from_bytes([0xff; 16]), Expected::Absent).await;
        expect("binary data: create", written, Written::Done);
        let found = self::data(store, &key).await;
        assert!(
            found.as_deref() == Some(data),
            "conformance, binary data of {} bytes: came back otherwise",
            data.len()
        );
        let other: Vec<u8> = data.iter().rev().copied().collect();
        let written = put(
            store,
            &key,
            &other,
            Revision::from_bytes([0; 16]),
            Expected::At(Revision::from_bytes([0xff; 16])),
        );
        expect("binary data: replace", written.await, Written::Done);
        let found = self::data(store, &key).await;
        assert!(
            found == Some(other),
            "conformance, binary data of {} bytes: came back otherwise",
            data.len()
        );
    }
}

async fn creating(store: &impl Store) {
    let (key, revision) = (key(1), Revision::random());
    expect("create", put(store, &key, b"first", revision, Expected::Absent).await, Written::Done);
    expect("create over a present row", create(store, &key).await, Written::Conflict);
    let same = put(store, &key, b"second", revision, Expected::Absent).await;
    expect("create over a present row of the same revision", same, Written::Conflict);
    expect("a refused create changes nothing", data(store, &key).await, Some(b"first".to_vec()));
}

async fn compare_and_set(store: &impl Store) {
    let (key, other_key) = (key(1), self::key(2));
    let [first, second, third] = [(); 3].map(|()| Revision::random());
    expect(
        "write at a missing row",
        put(store, &key, b"x", first, Expected::At(second)).await,
        Written::Conflict,
    );
    expect("it creates nothing", data(store, &key).await, None);
    expect("create", put(store, &key, b"first", first, Expected::Absent).await, Written::Done);
    expect("create", put(store, &other_key, b"other", first, Expected::Absent).await, Written::Done);
    let written = put(store, &key, b"second", second, Expected::At(first)).await;
    expect("write at the present revision", written, Written::Done);
    let written = put(store, &key, b"third", third, Expected::At(first)).await;
    expect("write at a former revision", written, Written::Conflict);
    let found = store.load(&key).await.unwrap().expect("conformance, compare-and-set: the row is gone");
    expect("a conflict changes nothing", (found.data, found.revision), (b"second".to_vec(), second));
    expect("other rows stay", data(store, &other_key).await, Some(b"other".to_vec()));
    let same = put(store, &key, b"second", third, Expected::At(second)).await;
    expect("write of the same data", same, Written::Done);

    let early = OffsetDateTime::now_utc() + HOUR / 2;
    let row = NewRow { data: b"fourth", revision: first, expires_at: early };
    expect(
        "write with an earlier expiry",
        store.write(&key, row, Expected::At(third)).await.unwrap(),
        Written::Done,
    );
    let found = store.load(&key).await.unwrap().expect("conformance, compare-and-set: the row is gone");
    within_a_second("the later expiry stays", found.expires_at, OffsetDateTime::now_utc() + HOUR);
    let late = OffsetDateTime::now_utc() + 2 * HOUR;
    let row = NewRow { data: b"fifth", revision: second, expires_at: late };
    expect(
        "write with a later expiry",
        store.write(&key, row, Expected::At(first)).await.unwrap(),
        Written::Done,
    );
    let found = store.load(&key).await.unwrap().expect("conformance, compare-and-set: the row is gone");
    within_a_second("the later expiry counts", found.expires_at, late);
}

async fn expired(store: &impl Store) {
    let (key, revision) = (key(1), Revision::random());
    let past = OffsetDateTime::now_utc() - HOUR;
    let row = NewRow { data: b"old", revision, expires_at: past };
    expect("create an expired row", store.write(&key, row, Expected::Absent).await.unwrap(), Written::Done);
    expect("expired is absent", store.load(&key).await.unwrap(), None);
    let written = put(store, &key, b"new", Revision::random(), Expected::At(revision)).await;
    expect("write at an expired row", written, Written::Conflict);
    let extended = store.extend(&key, revision, OffsetDateTime::now_utc() + HOUR).await.unwrap();
    expect("extend an expired row", extended, false);
    expect("delete an expired row", store.delete(&key).await.unwrap(), false);
    expect("expired stays absent", store.load(&key).await.unwrap(), None);

    let row = NewRow { data: b"old", revision, expires_at: past };
    expect("create an expired row", store.write(&key, row, Expected::Absent).await.unwrap(), Written::Done);
    let in_an_hour = OffsetDateTime::now_utc() + HOUR;
    let row = NewRow { data: b"new", revision, expires_at: in_an_hour };
    let written = store.write(&key, row, Expected::Absent).await.unwrap();
    expect("create over an expired row that was not swept", written, Written::Done);
    let found =
        store.load(&key).await.unwrap().expect("conformance, create over an expired row: it is not there");
    expect("create over an expired row: data", found.data, b"new".to_vec());
    within_a_second("create over an expired row: expiry", found.expires_at, in_an_hour);
}

async fn extending(store: &impl Store) {
    let (key, revision) = (key(1), Revision::random());
    let now = OffsetDateTime::now_utc();
    expect("extend a missing row", store.extend(&key, revision, now + HOUR).await.unwrap(), false);
    expect("it creates nothing", store.load(&key).await.unwrap(), None);
    expect("create", put(store, &key, b"data", revision, Expected::Absent).await, Written::Done);
    let other = Revision::random();
    for (what, at, to, fine, expected) in [
        ("extend at another revision", other, now + 2 * HOUR, false, now + HOUR),
        ("extend at another revision, to earlier", other, now + HOUR / 2, false, now + HOUR),
        ("extend to later", revision, now + 2 * HOUR, true, now + 2 * HOUR),
        ("extend to the same", revision, now + 2 * HOUR, true, now + 2 * HOUR),
        ("extend to earlier", revision, now + HOUR / 2, true, now + 2 * HOUR),
        ("extend to the past", revision, now - HOUR, true, now + 2 * HOUR),
    ] {
        expect(what, store.extend(&key, at, to).await.unwrap(), fine);
        let found =
            store.load(&key).await.unwrap().unwrap_or_else(|| panic!("conformance, {what}: the row is gone"));
        within_a_second(what, found.expires_at, expected);
        expect(what, (found.data, found.revision), (b"data".to_vec(), revision));
    }
    expect("write", put(store, &key, b"next", other, Expected::At(revision)).await, Written::Done);
    let late = now + 3 * HOUR;
    expect("extend at a former revision", store.extend(&key, revision, late).await.unwrap(), false);
    expect("extend at the present revision", store.extend(&key, other, late).await.unwrap(), true);
    let found = store.load(&key).await.unwrap().expect("conformance, extend after a write: the row is gone");
    expect("extend after a write", (found.data, found.revision), (b"next".to_vec(), other));
    within_a_second("extend after a write", found.expires_at, late);
}

async fn deleting(store: &impl Store) {
    let key = key(1);
    expect("delete a missing row", store.delete(&key).await.unwrap(), false);
    expect("create", create(store, &key).await, Written::Done);
    expect("delete", store.delete(&key).await.unwrap(), true);
    expect("deleted is absent", store.load(&key).await.unwrap(), None);
    expect("delete again", store.delete(&key).await.unwrap(), false);
    expect("create after delete", create(store, &key).await, Written::Done);
}

async fn sweeping(store: &impl Store) {
    let past = OffsetDateTime::now_utc() - HOUR;
    for n in 0..10 {
        let row = NewRow { data: b"old", revision: Revision::random(), expires_at: past };
        expect("create", store.write(&key(n), row, Expected::Absent).await.unwrap(), Written::Done);
        expect("create", create(store, &key(100 + n)).await, Written::Done);
    }
    let some = store.sweep(3).await.unwrap();
    assert!(some <= 3, "conformance, sweep of 3: {some} were dropped");
    let all = some + store.sweep(1_000).await.unwrap();
    assert!(all <= 10, "conformance, sweep: {all} of 10 expired rows were dropped");
    expect("sweep finds nothing more", store.sweep(1_000).await.unwrap(), 0);
    for n in 0..10 {
        expect("the living stay", data(store, &key(100 + n)).await, Some(b"data".to_vec()));
    }
}

async fn counting_and_clearing(store: &impl Store) {
    expect("count of nothing", store.count().await.unwrap(), 0);
    for n in 0..10 {
        expect("create", create(store, &key(n)).await, Written::Done);
        let expires_at = OffsetDateTime::now_utc() - HOUR;
        let row = NewRow { data: b"old", revision: Revision::random(), expires_at };
        expect("create", store.write(&key(100 + n), row, Expected::Absent).await.unwrap(), Written::Done);
    }
    expect("count leaves out the expired", store.count().await.unwrap(), 10);
    store.clear().await.unwrap();
    expect("count after clear", store.count().await.unwrap(), 0);
    expect("absent after clear", store.load(&key(1)).await.unwrap(), None);
    expect("create after clear", create(store, &key(1)).await, Written::Done);
}

async fn isolation(one: &impl Store, other: &impl Store) {
    let key = key(1);
    expect("isolation: create", create(one, &key).await, Written::Done);
    expect("isolation: not in the other", other.load(&key).await.unwrap(), None);
    expect("isolation: count of the other", other.count().await.unwrap(), 0);
    expect("isolation: create in the other", create(other, &key).await, Written::Done);
    other.clear().await.unwrap();
    expect("isolation: clear of the other", data(one, &key).await, Some(b"data".to_vec()));
}

/// Marks of what was revoked last for years. Some servers take a long span for a date, or cut it off.
async fn far_expiries(store: &impl Store) {
    let years = |years: u32| OffsetDateTime::now_utc() + 24 * HOUR * 365 * years;
    let (key, revision, first) = (key(1), Revision::random(), years(10));
    let row = NewRow { data: b"data", revision, expires_at: first };
    expect("create", store.write(&key, row, Expected::Absent).await.unwrap(), Written::Done);
    let load =
        async || store.load(&key).await.unwrap().expect("conformance, ten years: the row is not there");
    within_a_second("an expiry in ten years", load().await.expires_at, first);
    let later = years(20);
    expect("extend by ten years", store.extend(&key, revision, later).await.unwrap(), true);
    within_a_second("an expiry in twenty years", load().await.expires_at, later);
    expect("sweep leaves it", store.sweep(10).await.unwrap(), 0);
    expect("count", store.count().await.unwrap(), 1);
}

/// A call whose future was dropped half-way leaves nothing to the next one.
async fn given_up(store: &impl Store) {
    let (one, other) = (key(1), key(2));
    for (key, data) in [(&one, b"one"), (&other, b"two")] {
        let written = put(store, key, data, Revision::random(), Expected::Absent).await;
        expect("create", written, Written::Done);
    }
    for _ in 0..16 {
        {
            let mut load = pin!(store.load(&one));
            poll_fn(|context| {
                let _ = load.as_mut().poll(context);
                Poll::Ready(())
            })
            .await;
        }
        expect("a load after one that was given up", data(store, &other).await, Some(b"two".to_vec()));
    }
}

/// A row is there until its expiry, to the second, and no longer.
async fn time_passes(store: &impl Store) {
    let (key, revision) = (key(1), Revision::random());
    let expires_at = OffsetDateTime::now_utc() + Duration::from_millis(1_500);
    let row = NewRow { data: b"data", revision, expires_at };
    expect("create", store.write(&key, row, Expected::Absent).await.unwrap(), Written::Done);
    let extended = self::key(2);
    let row = NewRow { data: b"data", revision, expires_at };
    expect("create", store.write(&extended, row, Expected::Absent).await.unwrap(), Written::Done);
    expect("extend", store.extend(&extended, revision, expires_at + HOUR).await.unwrap(), true);

    while store.load(&key).await.unwrap().is_some() {
        let late = OffsetDateTime::now_utc() - expires_at;
        assert!(late < time::Duration::SECOND, "conformance, expiry: a row is still there {late} after it");
        sleep(Duration::from_millis(20)).await;
    }
    let early = expires_at - OffsetDateTime::now_utc();
    assert!(early < time::Duration::SECOND, "conformance, expiry: a row was gone {early} before it");
    expect(
        "write at an expired row",
        put(store, &key, b"x", revision, Expected::At(revision)).await,
        Written::Conflict,
    );
    expect("an extended row stays", data(store, &extended).await, Some(b"data".to_vec()));
    expect("count leaves out the expired", store.count().await.unwrap(), 1);
    expect("create over an expired row", create(store, &key).await, Written::Done);
}

fn key(n: u8) -> RowKey {
    RowKey::from_bytes([n; ROW_KEY_LEN])
}

async fn put(
    store: &impl Store,
    key: &RowKey,
    data: &[u8],
    revision: Revision,
    expected: Expected,
) -> Written {
    let row = NewRow { data, revision, expires_at: OffsetDateTime::now_utc() + HOUR };
    store
        .write(key, row, expected)
        .await
        .unwrap_or_else(|error| panic!("conformance: a write failed: {error:?}"))
}

async fn create(store: &impl Store, key: &RowKey) -> Written {
    put(store, key, b"data", Revision::random(), Expected::Absent).await
}

async fn data(store: &impl Store, key: &RowKey) -> Option<Vec<u8>> {
    let row = store.load(key).await.unwrap_or_else(|error| panic!("conformance: a load failed: {error:?}"));
    row.map(|Row { data, .. }| data)
}

#[track_caller]
fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) {
    assert!(found == expected, "conformance, {what}: expected {expected:?}, found {found:?}");
}

#[track_caller]
fn within_a_second(what: &str, found: OffsetDateTime, expected: OffsetDateTime) {
    let apart = (found - expected).abs();
    assert!(apart <= time::Duration::SECOND, "conformance, {what}: {found} is {apart} apart from {expected}");
}
