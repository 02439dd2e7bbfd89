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

/// A file on a disk that has room up to a place in it.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    room: Arc<AtomicU64>,
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
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
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
    store: RedbStore,
    room: Arc<AtomicU64>,
    /// How often the file was.
    opened: Arc<AtomicU32>,
}

fn on_disk(place: &Place, rest: Duration) -> OnDisk {
    let (room, opened) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicU32::new(0)));
    let (path, of_disk, count) = (place.file(), Arc::clone(&room), Arc::clone(&opened));
    let opens = move || {
        count.fetch_add(1, Ordering::SeqCst);
        let file = std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = FileBackend::new(file.unwrap()).map_err(failure)?;
        // Nothing is kept in memory.
        file::database(Disk { file, room: Arc::clone(&of_disk) }, 0)
    };
    let store = RedbStoreOptions::new().start(Box::new(opens), rest).unwrap();
    OnDisk { store, room, opened }
}

#[tokio::test]
async fn after_a_full_disk_rows_are_read_and_once_there_is_room_they_are_written() {
    let place = Place::new("full");
    let OnDisk { store, room, opened } = on_disk(&place, Duration::ZERO);
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
    let OnDisk { store, room, opened } = on_disk(&place, Duration::MAX);
    room.store(4_096, Ordering::SeqCst);
    for _ in 0..3 {
        let full = create(&store, 1, b"data").await;
        assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
        assert_eq!(opened.load(Ordering::SeqCst), 2);
        room.store(u64::MAX, Ordering::SeqCst);
    }
    assert!(store.load(&key(1)).await.unwrap().is_none());
}
