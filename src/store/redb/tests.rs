use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use futures_util::FutureExt as _;
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::*;

/// A file of its own, with its folder.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("sealed-session-redb-{name}-{}", crate::Key::generate().id()));
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

impl HeldUp {
    /// A store over a disk that stands still once this is locked.
    fn store(name: &str) -> (Place, Arc<Self>, RedbStore) {
        let (place, clock) = (Place::new(name), Arc::<Self>::default());
        let store = RedbStoreOptions::new().clock(Arc::clone(&clock)).open(place.file()).unwrap();
        (place, clock, store)
    }

    /// Waits until somebody is held up.
    fn until_asked(&self) {
        while !self.is_asked.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    }
}

/// As after an `fsync` that took long: those who were told meanwhile that it failed cost nothing more.
#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_carried_out() {
    let (_place, clock, store) = HeldUp::store("given-up");
    let held = clock.lock.lock().unwrap();
    let mut waits = std::pin::pin!(create(&store, 0, b"data"));
    assert!((&mut waits).now_or_never().is_none());
    clock.until_asked();
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

/// The requests have given up long before the disk goes on, and their rows would wait all the same.
#[tokio::test]
async fn what_waits_for_a_disk_that_stands_still_does_not_fill_the_memory() {
    const LARGE: usize = 1 << 20;
    let (_place, clock, store) = HeldUp::store("standstill");
    let held = clock.lock.lock().unwrap();
    let mut waits = std::pin::pin!(create(&store, 0, b"data"));
    assert!((&mut waits).now_or_never().is_none());
    clock.until_asked();
    let (mut taken, data) = (0, vec![7; LARGE]);
    let refused = loop {
        match create(&store, 1, &data).now_or_never() {
            None => taken += LARGE,
            Some(answer) => break answer,
        }
        assert!(taken <= MOST_WAITING + LARGE, "there is no end");
    };
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(taken > MOST_WAITING - LARGE);
    drop(held);
    assert_eq!(waits.await.unwrap(), Written::Done);
    while let Err(error) = create(&store, 2, b"data").await {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    // The last job is dropped after it was answered.
    while store.waiting.load(Ordering::SeqCst) > 0 {
        thread::yield_now();
    }
}

/// Two processes that write one file lose each other's rows, and then the file.
#[tokio::test]
async fn the_file_is_locked_as_long_as_it_is_open_and_no_longer() {
    let place = Place::new("locked");
    let one = RedbStoreOptions::new().open(place.file()).unwrap();
    assert_eq!(create(&one, 1, b"data").await.unwrap(), Written::Done);
    let refused = RedbStoreOptions::new().open(place.file());
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    // Also for who knows nothing of this library.
    assert!(redb::Database::open(place.file()).is_err());
    drop(one);
    let again = RedbStoreOptions::new().open(place.file()).unwrap();
    assert!(again.load(&key(1)).await.unwrap().is_some());
}

/// A file on a disk that has room up to a place in it.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    room: Arc<AtomicU64>,
    fails_to_sync: Arc<AtomicBool>,
    asked: Arc<Asked>,
}

/// How often the disk was asked for what.
#[derive(Debug, Default)]
struct Asked {
    syncs: AtomicU32,
    writes: AtomicU32,
}

impl Asked {
    /// What it was since the last time: syncs, writes.
    fn take(&self) -> (u32, u32) {
        (self.syncs.swap(0, Ordering::SeqCst), self.writes.swap(0, Ordering::SeqCst))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.asked.syncs.fetch_add(1, Ordering::SeqCst);
        // Like a disk that learns late that it is full.
        if self.fails_to_sync.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.asked.writes.fetch_add(1, Ordering::SeqCst);
        if offset + data.len() as u64 > self.room.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

struct OnDisk {
    store: Arc<RedbStore>,
    room: Arc<AtomicU64>,
    fails_to_sync: Arc<AtomicBool>,
    asked: Arc<Asked>,
    /// How often the file was.
    opened: Arc<AtomicU32>,
    /// Who opens the file waits for it.
    opening: Arc<Mutex<()>>,
}

fn on_disk(place: &Place, rest: Rest) -> OnDisk {
    let (room, opened) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::<AtomicU32>::default());
    let (fails_to_sync, opening) = (Arc::<AtomicBool>::default(), Arc::<Mutex<()>>::default());
    let (file, asked) = (file::open(&place.file()).unwrap(), Arc::<Asked>::default());
    let opens: Box<Opens> = {
        let (room, opened) = (Arc::clone(&room), Arc::clone(&opened));
        let (fails_to_sync, opening) = (Arc::clone(&fails_to_sync), Arc::clone(&opening));
        let asked = Arc::clone(&asked);
        Box::new(move |has_lost| {
            opened.fetch_add(1, Ordering::SeqCst);
            drop(opening.lock().unwrap());
            let (room, fails_to_sync) = (Arc::clone(&room), Arc::clone(&fails_to_sync));
            let (file, asked) = (file::backend(&file)?, Arc::clone(&asked));
            // Nothing is kept in memory.
            file::database(Disk { file, room, fails_to_sync, asked }, 0, has_lost)
        })
    };
    let store = Arc::new(RedbStoreOptions::new().start(opens, rest).unwrap());
    OnDisk { store, room, fails_to_sync, asked, opened, opening }
}

/// A sync is what a write costs.
#[tokio::test]
async fn a_transaction_that_changes_nothing_does_not_reach_the_disk() {
    let place = Place::new("unchanged");
    let OnDisk { store, asked, .. } = on_disk(&place, |_| Duration::ZERO);
    let (first, second) = (Revision::random(), Revision::random());
    let expires_at = OffsetDateTime::now_utc() + Duration::from_secs(3_600);
    let row = |revision, expires_at| NewRow { data: b"data", revision, expires_at };
    let written = Store::write(&*store, &key(1), row(first, expires_at), Expected::Absent).await;
    assert_eq!(written.unwrap(), Written::Done);
    assert!(asked.take().0 > 0, "what is written is synced");
    assert_eq!(create(&store, 1, b"data").await.unwrap(), Written::Conflict);
    let stale = Store::write(&*store, &key(1), row(second, expires_at), Expected::At(second)).await;
    assert_eq!(stale.unwrap(), Written::Conflict);
    assert!(store.extend(&key(1), first, expires_at).await.unwrap());
    assert!(!store.extend(&key(1), second, expires_at + Duration::from_secs(60)).await.unwrap());
    assert!(!store.delete(&key(2)).await.unwrap());
    assert_eq!(store.sweep(100).await.unwrap(), 0);
    assert_eq!(asked.take().0, 0);
    let found = store.load(&key(1)).await.unwrap().unwrap();
    assert_eq!((found.revision, found.data), (first, b"data".to_vec()));

    let moved = expires_at + Duration::from_secs(60);
    assert!(store.extend(&key(1), first, moved).await.unwrap());
    let (syncs, with_expiries) = asked.take();
    assert!(syncs > 0, "what is extended is synced");
    let written = Store::write(&*store, &key(1), row(second, expires_at), Expected::At(first)).await;
    assert_eq!(written.unwrap(), Written::Done);
    let (syncs, without) = asked.take();
    assert!(syncs > 0 && without < with_expiries, "{without} writes of {with_expiries}: the expiry stays");
    let swept = RedbStoreOptions::new().clock(crate::ManualClock::at(moved + Duration::from_secs(1)));
    drop(store);
    let store = swept.open(place.file()).unwrap();
    assert_eq!(store.sweep(100).await.unwrap(), 1, "it is still known when it expires");
    assert!(store.delete(&key(1)).await.is_ok_and(|was_live| !was_live));
}

#[tokio::test]
async fn after_a_full_disk_rows_are_read_and_once_there_is_room_they_are_written() {
    let place = Place::new("full");
    let OnDisk { store, room, opened, .. } = on_disk(&place, |_| Duration::ZERO);
    assert_eq!(create(&store, 1, b"data").await.unwrap(), Written::Done);
    room.store(std::fs::metadata(place.file()).unwrap().len(), Ordering::SeqCst);
    let (mut written, before) = (Vec::new(), opened.load(Ordering::SeqCst));
    let full = loop {
        let n = 2 + written.len() as u8;
        match create(&store, n, &[n; 200_000]).await {
            Ok(_) => written.push(n),
            Err(error) => break (n, error),
        }
    };
    assert!(matches!(full.1, StoreError::Full(_)), "{full:?}");
    // Nothing can be written any more but what redb writes whenever it opens a file: where that begins.
    room.store(4_096, Ordering::SeqCst);
    for times in 1..=2 {
        assert_eq!(opened.load(Ordering::SeqCst), before + times);
        assert_eq!(store.load(&key(1)).await.unwrap().unwrap().data, b"data");
        for n in &written {
            assert_eq!(store.load(&key(*n)).await.unwrap().unwrap().data, [*n; 200_000]);
        }
        assert!(store.load(&key(full.0)).await.unwrap().is_none());
        let again = create(&store, full.0, b"data").await;
        assert!(matches!(again, Err(StoreError::Full(_))), "{again:?}");
    }
    // Not even that, so it cannot be opened again for a while.
    room.store(0, Ordering::SeqCst);
    create(&store, full.0, b"data").await.unwrap_err();
    assert!(matches!(store.load(&key(1)).await, Err(StoreError::Unavailable(_))));
    room.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(create(&store, full.0, &[9; 200_000]).await.unwrap(), Written::Done);
    assert_eq!(store.load(&key(full.0)).await.unwrap().unwrap().data, [9; 200_000]);
    assert_eq!(store.count().await.unwrap(), 2 + written.len() as u64);
}

/// Because each opening may read all of the file.
#[tokio::test]
async fn after_a_full_disk_nothing_is_tried_for_a_while() {
    let place = Place::new("pause");
    let OnDisk { store, room, opened, .. } = on_disk(&place, |_| Duration::MAX);
    room.store(4_096, Ordering::SeqCst);
    for _ in 0..3 {
        let full = create(&store, 1, b"data").await;
        assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
        assert_eq!(opened.load(Ordering::SeqCst), 2);
        room.store(u64::MAX, Ordering::SeqCst);
    }
    assert!(store.load(&key(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn what_could_not_be_synced_is_not_opened_again() {
    let place = Place::new("sync");
    let OnDisk { store, fails_to_sync, opened, .. } = on_disk(&place, |_| Duration::ZERO);
    assert_eq!(create(&store, 1, b"data").await.unwrap(), Written::Done);
    fails_to_sync.store(true, Ordering::SeqCst);
    let full = create(&store, 2, b"data").await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    fails_to_sync.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = create(&store, 2, b"data").await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

/// Nor is what failed to be synced while it was opened again.
#[tokio::test]
async fn what_could_not_be_synced_while_it_was_opened_again_stays_closed() {
    let place = Place::new("sync-again");
    let OnDisk { store, room, fails_to_sync, opened, opening, .. } = on_disk(&place, |_| Duration::ZERO);
    let held = opening.lock().unwrap();
    room.store(4_096, Ordering::SeqCst);
    let mut full = std::pin::pin!(create(&store, 1, b"data"));
    assert!((&mut full).now_or_never().is_none());
    while opened.load(Ordering::SeqCst) < 2 {
        thread::yield_now();
    }
    room.store(u64::MAX, Ordering::SeqCst);
    fails_to_sync.store(true, Ordering::SeqCst);
    drop(held);
    full.await.unwrap_err();
    fails_to_sync.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = create(&store, 1, b"data").await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}

#[expect(clippy::await_holding_lock, reason = "it is another thread that waits for it")]
#[tokio::test]
async fn while_the_file_is_opened_again_reads_fail_at_once_and_the_pause_is_longer_if_it_takes_long() {
    const TAKES: Duration = Duration::from_millis(200);
    assert_eq!([0, 100, 300].map(|ms| rest(Duration::from_millis(ms)).as_millis()), [2_000, 2_000, 3_000]);
    let place = Place::new("opening");
    let OnDisk { store, room, opened, opening, .. } = on_disk(&place, |opening| opening.saturating_mul(10));
    let held = opening.lock().unwrap();
    room.store(4_096, Ordering::SeqCst);
    let mut full = std::pin::pin!(create(&store, 1, b"data"));
    assert!((&mut full).now_or_never().is_none());
    while opened.load(Ordering::SeqCst) < 2 {
        thread::yield_now();
    }
    let began = Instant::now();
    let one = key(1);
    let load = tokio::time::timeout(Duration::from_secs(10), store.load(&one)).await;
    // Before it fails, or the runtime would wait for the read.
    while began.elapsed() < TAKES {
        thread::yield_now();
    }
    room.store(u64::MAX, Ordering::SeqCst);
    drop(held);
    let refused = load.expect("it does not wait");
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(matches!(full.await, Err(StoreError::Full(_))));
    let opened_again = Instant::now();
    assert!(store.load(&key(1)).await.unwrap().is_none());
    let mut refusals = 0;
    while create(&store, 1, b"data").await.is_err() {
        refusals += 1;
    }
    assert!(refusals > 0 && opened_again.elapsed() > 9 * TAKES, "{refusals}, {:?}", opened_again.elapsed());
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_opened_again_where_it_is() {
    let place = Place::new("moved");
    let OnDisk { store, room, opened, .. } = on_disk(&place, |_| Duration::ZERO);
    assert_eq!(create(&store, 1, b"data").await.unwrap(), Written::Done);
    std::fs::rename(place.file(), place.0.join("elsewhere.redb")).unwrap();
    room.store(4_096, Ordering::SeqCst);
    create(&store, 2, b"data").await.unwrap_err();
    room.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(create(&store, 2, b"data").await.unwrap(), Written::Done);
    assert!(opened.load(Ordering::SeqCst) > 1);
    assert_eq!(store.load(&key(1)).await.unwrap().unwrap().data, b"data");
    assert!(!place.file().exists());
}
