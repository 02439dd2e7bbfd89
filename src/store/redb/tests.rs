use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt as _;

use super::*;

/// A file of its own, with its folder.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sealed-session-redb-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("sessions.redb")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn key(n: u8) -> RowKey {
    RowKey::from_bytes([n; ROW_KEY_LEN])
}

async fn create(store: &RedbStore, n: u8, data: &[u8]) -> Result<Written, StoreError> {
    let expires_at = OffsetDateTime::now_utc() + Duration::from_secs(3_600);
    let row = NewRow { data, revision: Revision::random(), expires_at };
    Store::write(store, &key(n), row, Expected::Absent).await
}

/// A clock that holds up who asks it.
#[derive(Default)]
struct HeldUp {
    lock: Mutex<()>,
    is_asked: AtomicBool,
}

impl Clock for Arc<HeldUp> {
    fn now(&self) -> OffsetDateTime {
        self.is_asked.store(true, Ordering::SeqCst);
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        OffsetDateTime::now_utc()
    }
}

/// As after an `fsync` that took long: those who were told meanwhile that it failed cost nothing more.
#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_carried_out() {
    let (place, clock) = (Place::new("given-up"), Arc::new(HeldUp::default()));
    let store = RedbStoreOptions::new().clock(Arc::clone(&clock)).open(place.file()).unwrap();
    let held = clock.lock.lock().unwrap();
    let mut waits = std::pin::pin!(create(&store, 0, b"data"));
    assert!((&mut waits).now_or_never().is_none());
    while !clock.is_asked.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    // More than one transaction takes.
    for n in (1..=255).chain(1..=255) {
        assert!(create(&store, n, b"data").now_or_never().is_none());
    }
    let mut last = std::pin::pin!(create(&store, 1, b"data"));
    assert!((&mut last).now_or_never().is_none());
    drop(held);
    assert_eq!(waits.await.unwrap(), Written::Done);
    assert_eq!(last.await.unwrap(), Written::Done, "nobody else has written it");
    assert_eq!(store.count().await.unwrap(), 2);
}
