//! A store of one's own: seven methods, and the public suite that says whether they are right. It is run on a toy that
//! is, and on one with a mistake that is easily made, which it catches.
//!
//! `cargo run --features conformance --example own_store`

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Mutex;

use sealed_session::store::{
    Expected, NewRow, Revision, Row, RowKey, Store, StoreError, Written, async_trait, conformance,
};
use sealed_session::time::OffsetDateTime;

#[derive(Debug, Default)]
struct Toy {
    rows: Mutex<HashMap<RowKey, Row>>,
    /// Writes without looking at the revision, as many stores do: the last one wins, whatever it has read.
    careless: bool,
}

impl Toy {
    fn live<R>(&self, f: impl FnOnce(&mut HashMap<RowKey, Row>) -> R) -> R {
        let mut rows = self.rows.lock().expect("nobody panics under the lock");
        rows.retain(|_, row| row.expires_at > OffsetDateTime::now_utc());
        f(&mut rows)
    }
}

#[async_trait]
impl Store for Toy {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        Ok(self.live(|rows| rows.get(key).cloned()))
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        let NewRow { data, revision, mut expires_at } = row;
        Ok(self.live(|rows| {
            match (expected, rows.get(key)) {
                (Expected::Absent, None) => {}
                (Expected::At(expected), Some(present)) if present.revision == expected || self.careless => {
                    expires_at = expires_at.max(present.expires_at);
                }
                _ => return Written::Conflict,
            }
            rows.insert(*key, Row { data: data.to_vec(), revision, expires_at });
            Written::Done
        }))
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        Ok(self.live(|rows| {
            let row = rows.get_mut(key).filter(|row| row.revision == at);
            row.map(|row| row.expires_at = row.expires_at.max(expires_at)).is_some()
        }))
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        Ok(self.live(|rows| rows.remove(key).is_some()))
    }

    async fn sweep(&self, _: usize) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn count(&self) -> Result<u64, StoreError> {
        Ok(self.live(|rows| rows.len() as u64))
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.live(HashMap::clear);
        Ok(())
    }
}

#[actix_web::main]
async fn main() -> ExitCode {
    conformance::run(async || Toy::default()).await;
    println!("the toy store conforms");

    let careless = async || Toy { careless: true, ..Toy::default() };
    let caught = actix_web::rt::spawn(async move { conformance::run(careless).await }).await;
    match caught {
        Err(_) => println!("the careless one does not, as the message above says"),
        Ok(()) => {
            println!("the careless one was not caught");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
