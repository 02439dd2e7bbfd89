//! What `fork` does to sealing: the documented hazard is real, `reseed` and a pause end it, and what comes from the
//! operating system differs with and without. Its own program with one thread, as a process that forks should be.

fn main() {
    #[cfg(unix)]
    unix::main();
}

#[cfg(unix)]
mod unix {
    use std::io::{Read as _, Write as _};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use async_trait::async_trait;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use fork::{Fork, fork, waitpid};
    use sealed_session::store::{Expected, NewRow, Revision, Row, RowKey, Store, Written};
    use sealed_session::{
        CommitContext, Key, KeyRing, ManualClock, Revocation, Session, Sessions, StoreError, reseed,
    };
    use time::OffsetDateTime;

    /// The first half of a nonce stays for an epoch, the second is drawn for each message.
    const PREFIX: usize = 12;
    const NONCE: std::ops::Range<usize> = 5..29;

    /// A session that is committed after `fill`: its id, and the nonce of its cookie.
    fn commit(sessions: &Sessions, fill: impl FnOnce(&Session)) -> [Vec<u8>; 2] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (id, line) = runtime.block_on(async {
            let session: Session = sessions.load([""]).await.unwrap();
            fill(&session);
            let line = sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
            (session.id().to_string(), line)
        });
        let value = line.split([';', '=']).nth(1).unwrap();
        [id.into_bytes(), URL_SAFE_NO_PAD.decode(value).unwrap()[NONCE].to_vec()]
    }

    fn login(sessions: &Sessions) -> [Vec<u8>; 2] {
        commit(sessions, |session| session.authenticate("ada").unwrap())
    }

    /// What `work` comes to in the parent and in the child, which does `prepare` before. It has N parts.
    fn twins<const N: usize>(prepare: fn(), work: impl Fn() -> [Vec<u8>; N]) -> [[Vec<u8>; N]; 2] {
        let (mut from_child, mut to_parent) = std::io::pipe().unwrap();
        match fork().unwrap() {
            Fork::Child => {
                prepare();
                to_parent.write_all(&work().concat()).unwrap();
                to_parent.flush().unwrap();
                std::process::exit(0);
            }
            Fork::Parent(child) => {
                drop(to_parent);
                let mut told = Vec::new();
                from_child.read_to_end(&mut told).unwrap();
                waitpid(child).unwrap();
                let here = work();
                assert_eq!(told.len(), here.concat().len(), "the child has told all of it");
                let mut rest = told.as_slice();
                let there = here.each_ref().map(|part| {
                    let (this, others) = rest.split_at(part.len());
                    rest = others;
                    this.to_vec()
                });
                [here, there]
            }
        }
    }

    /// Keeps nothing but the revision and the content that was written last.
    #[derive(Debug, Default)]
    struct Last(Mutex<[Vec<u8>; 2]>);

    #[async_trait]
    impl Store for Last {
        async fn load(&self, _: &RowKey) -> Result<Option<Row>, StoreError> {
            Ok(None)
        }

        async fn write(&self, _: &RowKey, row: NewRow<'_>, _: Expected) -> Result<Written, StoreError> {
            *self.0.lock().unwrap() = [row.revision.as_bytes().to_vec(), row.data.to_vec()];
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
            Ok(0)
        }

        async fn clear(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    pub(crate) fn main() {
        let ring = KeyRing::new(Key::generate());
        let clock = ManualClock::at(OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600));
        let sessions = Sessions::builder(ring.clone()).clock(clock.clone()).build().unwrap();
        login(&sessions);

        // So that this program can fail: a copied generator repeats itself, as SECURITY.md says.
        let [parent, child] = twins(|| {}, || login(&sessions));
        assert_eq!(parent[1], child[1], "the nonces of twins are the same unless the child is reseeded");
        assert_ne!(parent[0], child[0], "ids come from the operating system");

        let [parent, child] = twins(reseed, || {
            let [[id, nonce], [next_id, next]] = [login(&sessions), login(&sessions)];
            [id, nonce, next_id, next]
        });
        for (a, b) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
            assert_ne!(parent[a - 1], child[b - 1]);
            // Not even the half that stays for an epoch.
            assert_ne!(parent[a][..PREFIX], child[b][..PREFIX], "an epoch goes on in both");
            assert_ne!(parent[a][PREFIX..], child[b][PREFIX..]);
        }

        // As two machines that were resumed from one snapshot, and nobody was told.
        clock.advance(Duration::from_millis(60_001));
        let [parent, child] = twins(|| {}, || login(&sessions));
        assert_eq!(parent[1][PREFIX..], child[1][PREFIX..], "the generator is a copy still");
        assert_ne!(parent[1][..PREFIX], child[1][..PREFIX], "but a pause has ended the epoch");

        let store = Arc::new(Last::default());
        let stored =
            Sessions::builder(ring).store(Arc::clone(&store)).revocation(Revocation::Off).build().unwrap();
        let spill = || {
            commit(&stored, |session| session.insert("large", "x".repeat(5_000)).unwrap());
            let [revision, data] = store.0.lock().unwrap().clone();
            [revision, data[NONCE][..PREFIX].to_vec(), data[NONCE][PREFIX..].to_vec()]
        };
        spill();
        let [parent, child] = twins(|| {}, spill);
        for (what, (parent, child)) in ["revision", "nonce", "nonce"].iter().zip(parent.iter().zip(&child)) {
            assert_ne!(parent, child, "the {what} of a row comes from the operating system");
        }
        println!("fork: all of it holds");
    }
}
