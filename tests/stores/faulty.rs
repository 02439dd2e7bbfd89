//! A store that fails when told to, and lets others go first.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use sealed_session::store::{Expected, NewRow, Revision, Row, RowKey, Store, StoreError, Written};
use std::sync::Arc;
use time::OffsetDateTime;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Passes,
    /// Nothing happens, and the store says so.
    Fails,
    /// Nothing happens, and the store does not know.
    TimesOut,
    /// It happens, and the store does not know.
    AppliedButTimesOut,
}

#[derive(Debug)]
pub(crate) struct Faulty {
    store: Arc<dyn Store>,
    fates: Mutex<VecDeque<Fate>>,
    /// Where not 0, how long each call lets others go first.
    shuffle: AtomicU64,
}

impl Faulty {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, fates: Mutex::default(), shuffle: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self, fates: impl IntoIterator<Item = Fate>) {
        self.fates.lock().unwrap().extend(fates);
    }

    pub(crate) fn calm(&self) {
        self.fates.lock().unwrap().clear();
    }

    pub(crate) fn shuffle(&self, seed: u64) {
        self.shuffle.store(seed, Ordering::Relaxed);
    }

    async fn give_way(&self) {
        let seed = self.shuffle.load(Ordering::Relaxed);
        if seed != 0 {
            let next =
                seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) | 1;
            self.shuffle.store(next, Ordering::Relaxed);
            for _ in 0..next >> 61 {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn pass<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.give_way().await;
        let fate = self.fates.lock().unwrap().pop_front().unwrap_or(Fate::Passes);
        let answer = match fate {
            Fate::Passes => call.await,
            Fate::Fails => Err(StoreError::Unavailable("told to fail".into())),
            Fate::TimesOut => Err(StoreError::Timeout("told to fail".into())),
            Fate::AppliedButTimesOut => {
                call.await?;
                Err(StoreError::Timeout("told to fail".into()))
            }
        };
        self.give_way().await;
        answer
    }
}

#[async_trait]
impl Store for Faulty {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.pass(self.store.load(key)).await
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        self.pass(self.store.write(key, row, expected)).await
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        self.pass(self.store.extend(key, at, expires_at)).await
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        self.pass(self.store.delete(key)).await
    }

    async fn sweep(&self, limit: usize) -> Result<u64, StoreError> {
        self.store.sweep(limit).await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.store.count().await
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.store.clear().await
    }
}
