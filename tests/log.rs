//! What is in the log: stable fields, and no secret. In a process of its own, because who listens is asked once for all
//! threads.

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sealed_session::store::{
    Expected, MemoryStore, NewRow, Revision, Row, RowKey, Store, StoreError, Written,
};
use sealed_session::{CommitContext, Key, KeyRing, Revocation, Session, SessionId, Sessions};
use time::OffsetDateTime;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A store whose next load fails when told to.
#[derive(Debug)]
struct Failing(MemoryStore, Arc<Mutex<bool>>);

#[async_trait]
impl Store for Failing {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        if std::mem::take(&mut *self.1.lock().unwrap()) {
            return Err(StoreError::Unavailable("told to fail".into()));
        }
        self.0.load(key).await
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        self.0.write(key, row, expected).await
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        self.0.extend(key, at, expires_at).await
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        self.0.delete(key).await
    }

    async fn sweep(&self, limit: usize) -> Result<u64, StoreError> {
        self.0.sweep(limit).await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.0.count().await
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.0.clear().await
    }
}

/// One request; the cookie that the browser has then.
async fn visit(sessions: &Sessions, pair: &str, work: impl FnOnce(&Session)) -> String {
    let session = sessions.load([pair]).await.unwrap();
    work(&session);
    let line = sessions.commit(&session, CommitContext::default()).await.unwrap().pop();
    line.map_or_else(|| pair.to_owned(), |line| line.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn the_log_has_stable_fields_and_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let fails = Arc::new(Mutex::new(false));
    let key = Key::generate();
    let ring = KeyRing::new(key.clone());
    let builder = Sessions::builder(ring.clone()).cookie_name("s").revocation(Revocation::EveryRequest);
    let sessions = builder.store(Failing(MemoryStore::new(), Arc::clone(&fails))).build().unwrap();
    let pair = visit(&sessions, "", |session| {
        session.set_subject("secret-subject").unwrap();
        session.insert("secret-name", "secret-value").unwrap();
    })
    .await;
    let id = sessions.inspect(&pair[2..]).unwrap().id;
    // A login, whose former and new id one line has both of.
    let pair = visit(&sessions, &pair, |session| {
        let before = session.log_id();
        session.authenticate("secret-subject").unwrap();
        assert_ne!(session.log_id(), before);
    })
    .await;
    let (former, id) = (id, sessions.inspect(&pair[2..]).unwrap().id);
    let large = visit(&sessions, &pair, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    let flip = if &pair[80..81] == "A" { "B" } else { "A" };
    visit(&sessions, &format!("{}{flip}{}", &pair[..80], &pair[81..]), |_| ()).await;
    let other = sessions.issue(|session| session.insert("n", 1)).await.unwrap();
    let others = sessions.inspect(&other[2..]).unwrap().id;
    *fails.lock().unwrap() = true;
    visit(&sessions, &other, |_| ()).await;
    ring.rotate(Key::generate()).unwrap();
    ring.revoke(key.id()).unwrap();
    visit(&sessions, &large, |_| ()).await;

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let named = |field: &str, id: SessionId| format!(" {field}={}", id.log_id());
    let (of_former, of_it) = (named("session", former), named("session", id));
    let lines =
        |parts: &[&str]| text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
    for parts in [
        &["DEBUG", "sealed_session:", "event=\"started\"", &of_former, "bytes="][..],
        &["DEBUG", "event=\"renewed\"", &of_it, &named("former", former)],
        &["DEBUG", "event=\"authenticated\"", &of_it, "reason=\"again\""],
        &["DEBUG", "event=\"spilled\"", &of_it, "bytes="],
        &["WARN", "event=\"store_failed\"", "reason=\"unavailable\"", "operation=\"load\"", "told to fail"],
        &["WARN", "event=\"unconfirmed\"", &named("session", others)],
        &["DEBUG", "event=\"rejected\"", "reason=\"tampered\""],
        &["WARN", "event=\"rejected\"", "reason=\"revoked_key\"", "key="],
    ] {
        assert_eq!(lines(parts), 1, "{parts:?} in {text}");
    }
    for span in ["session.load", "session.commit"] {
        assert!(lines(&[&format!("{span}{{session={}}}", id.log_id())]) > 0, "{span} in {text}");
    }
    // No part of an id is logged either.
    let parts = [former, id, others].map(|id| id.to_string());
    let parts = parts.iter().flat_map(|id| [&id[..5], &id[8..13], &id[16..]]);
    for secret in parts.chain(["secret-", key.export().as_str(), &pair[2..], &large[2..]]) {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
