//! Mistakes that stores make, each of which the public suite has to notice.

use std::sync::Mutex;

use async_trait::async_trait;
use sealed_session::store::{
    Expected, MemoryStore, NewRow, Revision, Row, RowKey, Store, StoreError, Written, conformance,
};
use time::OffsetDateTime;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    LastWriterWins,
    CreatesOverPresent,
    WritesWhereNothingIs,
    RevivesTheExpired,
    RefusesOverExpired,
    ShowsExpired,
    KeepsTheEarlierExpiry,
    ExtendsToEarlier,
    ExtendCreates,
    ExtendChangesTheRevision,
    ExtendIgnoresTheRevision,
    ExtendDeniesWhatLasts,
    ExtendWritesBack,
    CutsData,
    ForgetsTheRevision,
    DeleteTellsNothing,
    CountsExpired,
    ClearsNothing,
    SweepsTheLiving,
    SharesAll,
    SweepsWhatItHasFound,
    ForgetsAfterAMonth,
    AnswersTheFormer,
}

const ALL: [Mistake; 23] = {
    use Mistake::*;
    [
        LastWriterWins,
        CreatesOverPresent,
        WritesWhereNothingIs,
        RevivesTheExpired,
        RefusesOverExpired,
        ShowsExpired,
        KeepsTheEarlierExpiry,
        ExtendsToEarlier,
        ExtendCreates,
        ExtendChangesTheRevision,
        ExtendIgnoresTheRevision,
        ExtendDeniesWhatLasts,
        ExtendWritesBack,
        CutsData,
        ForgetsTheRevision,
        DeleteTellsNothing,
        CountsExpired,
        ClearsNothing,
        SweepsTheLiving,
        SharesAll,
        SweepsWhatItHasFound,
        ForgetsAfterAMonth,
        AnswersTheFormer,
    ]
};

type Rows = Vec<(RowKey, Row)>;

#[derive(Debug)]
struct Wrong {
    mistake: Option<Mistake>,
    rows: std::sync::Arc<Mutex<Rows>>,
    /// An answer that nobody has read from its connection.
    unread: Mutex<Option<Option<Row>>>,
}

impl Wrong {
    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn with<R>(&self, f: impl FnOnce(&mut Rows, OffsetDateTime) -> R) -> R {
        f(&mut self.rows.lock().unwrap(), OffsetDateTime::now_utc())
    }
}

#[async_trait]
impl Store for Wrong {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        if self.is(Mistake::AnswersTheFormer) {
            let mine = self.with(|rows, now| {
                rows.iter().find(|(k, row)| k == key && row.expires_at > now).map(|(_, row)| row.clone())
            });
            let former = self.unread.lock().unwrap().replace(mine);
            tokio::task::yield_now().await;
            let mine = self.unread.lock().unwrap().take();
            return Ok(former.or(mine).flatten());
        }
        let a_month = time::Duration::days(30);
        if self.is(Mistake::ForgetsAfterAMonth)
            && self.with(|rows, now| rows.iter().any(|(k, row)| k == key && row.expires_at - now > a_month))
        {
            return Ok(None);
        }
        Ok(self.with(|rows, now| {
            let (_, mut row) = rows.iter().find(|(k, _)| k == key)?.clone();
            if self.is(Mistake::CutsData) {
                row.data.truncate(1 << 16);
            }
            if self.is(Mistake::ForgetsTheRevision) {
                row.revision = Revision::random();
            }
            (row.expires_at > now || self.is(Mistake::ShowsExpired)).then_some(row)
        }))
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        Ok(self.with(|rows, now| {
            let present = rows.iter().find(|(k, _)| k == key).map(|(_, row)| row.clone());
            let live = present.clone().filter(|row| row.expires_at > now);
            let fine = match (expected, &live) {
                (Expected::Absent, None) => present.is_none() || !self.is(Mistake::RefusesOverExpired),
                (Expected::Absent, Some(_)) => self.is(Mistake::CreatesOverPresent),
                (Expected::At(at), Some(live)) => live.revision == at || self.is(Mistake::LastWriterWins),
                (Expected::At(at), None) => {
                    let expired = present.as_ref().is_some_and(|row| row.revision == at);
                    (expired && self.is(Mistake::RevivesTheExpired))
                        || (present.is_none() && self.is(Mistake::WritesWhereNothingIs))
                }
            };
            if !fine {
                return Written::Conflict;
            }
            let mut expires_at = row.expires_at;
            if let Some(live) = live {
                let early = self.is(Mistake::KeepsTheEarlierExpiry);
                expires_at =
                    if early { expires_at.min(live.expires_at) } else { expires_at.max(live.expires_at) };
            }
            rows.retain(|(k, _)| k != key);
            rows.push((*key, Row { data: row.data.to_vec(), revision: row.revision, expires_at }));
            Written::Done
        }))
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        if self.is(Mistake::ExtendWritesBack) {
            let before = self.load(key).await?.filter(|row| row.revision == at);
            tokio::task::yield_now().await;
            return Ok(before.is_some_and(|row| {
                self.with(|rows, _| rows.retain(|(k, _)| k != key));
                let expires_at = expires_at.max(row.expires_at);
                self.with(|rows, _| rows.push((*key, Row { expires_at, ..row })));
                true
            }));
        }
        Ok(self.with(|rows, now| {
            let any = self.is(Mistake::ExtendIgnoresTheRevision);
            let found = rows
                .iter_mut()
                .find(|(k, row)| k == key && row.expires_at > now && (any || row.revision == at));
            let Some((_, row)) = found else {
                if self.is(Mistake::ExtendCreates) {
                    rows.push((*key, Row { data: vec![], revision: Revision::random(), expires_at }));
                }
                return false;
            };
            if row.expires_at >= expires_at && self.is(Mistake::ExtendDeniesWhatLasts) {
                return false;
            }
            let later = row.expires_at.max(expires_at);
            row.expires_at = if self.is(Mistake::ExtendsToEarlier) { expires_at } else { later };
            if self.is(Mistake::ExtendChangesTheRevision) {
                row.revision = Revision::random();
            }
            true
        }))
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        Ok(self.with(|rows, now| {
            let was_there = rows.iter().any(|(k, row)| k == key && row.expires_at > now);
            rows.retain(|(k, _)| k != key);
            was_there || self.is(Mistake::DeleteTellsNothing)
        }))
    }

    async fn sweep(&self, limit: usize) -> Result<u64, StoreError> {
        if self.is(Mistake::SweepsWhatItHasFound) {
            let found: Vec<RowKey> = self.with(|rows, now| {
                let expired = rows.iter().filter(|(_, row)| row.expires_at <= now);
                expired.map(|(key, _)| *key).take(limit).collect()
            });
            tokio::task::yield_now().await;
            self.with(|rows, _| rows.retain(|(key, _)| !found.contains(key)));
            return Ok(found.len() as u64);
        }
        Ok(self.with(|rows, now| {
            let before = rows.len();
            let mut left = limit;
            rows.retain(|(_, row)| {
                let goes = left > 0 && (row.expires_at <= now || self.is(Mistake::SweepsTheLiving));
                left -= usize::from(goes);
                !goes
            });
            (before - rows.len()) as u64
        }))
    }

    async fn count(&self) -> Result<u64, StoreError> {
        let all = self.is(Mistake::CountsExpired);
        Ok(self.with(|rows, now| rows.iter().filter(|(_, row)| all || row.expires_at > now).count() as u64))
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.with(|rows, _| {
            if self.is(Mistake::ClearsNothing) {
            } else {
                rows.clear()
            }
        });
        Ok(())
    }
}

async fn run(mistake: Option<Mistake>) {
    let shared = std::sync::Arc::new(Mutex::new(Rows::new()));
    conformance::run(async || {
        let rows = match mistake {
            Some(Mistake::SharesAll) => shared.clone(),
            _ => std::sync::Arc::default(),
        };
        Wrong { mistake, rows, unread: Mutex::default() }
    })
    .await;
}

#[tokio::test]
async fn the_suite_passes_a_store_without_a_mistake_and_notices_each_of_twenty_three() {
    run(None).await;
    std::panic::set_hook(Box::new(|_| {}));
    let mut unnoticed = Vec::new();
    for mistake in ALL {
        let local = tokio::task::LocalSet::new();
        let outcome =
            local.run_until(async move { tokio::task::spawn_local(run(Some(mistake))).await }).await;
        if outcome.is_ok() {
            unnoticed.push(format!("{mistake:?}"));
        }
    }
    // Two stores that are not one.
    let local = tokio::task::LocalSet::new();
    let apart = async { conformance::shared(&MemoryStore::new(), &MemoryStore::new()).await };
    if local.run_until(async move { tokio::task::spawn_local(apart).await }).await.is_ok() {
        unnoticed.push("two that are not one".into());
    }
    let _ = std::panic::take_hook();
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}
