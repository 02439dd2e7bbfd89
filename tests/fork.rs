//! What `fork` does to sealing: the documented hazard is real, `reseed` ends it, and ids differ with and without. Its own
//! program with one thread, as a process that forks should be.

fn main() {
    #[cfg(unix)]
    unix::main();
}

#[cfg(unix)]
mod unix {
    use std::io::{Read as _, Write as _};

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use fork::{Fork, fork, waitpid};
    use sealed_session::{CommitContext, Key, KeyRing, Session, Sessions, reseed};

    /// A new session's id, and the nonce that its cookie was sealed with.
    fn login(sessions: &Sessions) -> [Vec<u8>; 2] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (id, line) = runtime.block_on(async {
            let session: Session = sessions.load([""]).await.unwrap();
            session.authenticate("ada").unwrap();
            let line = sessions.commit(&session, CommitContext::default()).await.unwrap().unwrap();
            (session.id().to_string(), line)
        });
        let value = line.split([';', '=']).nth(1).unwrap();
        let message = URL_SAFE_NO_PAD.decode(value).unwrap();
        [id.into_bytes(), message[5..29].to_vec()]
    }

    /// Two logins in the parent and two in the child, after `prepare` in the child.
    fn twins(sessions: &Sessions, prepare: fn()) -> [[[Vec<u8>; 2]; 2]; 2] {
        let (mut from_child, mut to_parent) = std::io::pipe().unwrap();
        match fork().unwrap() {
            Fork::Child => {
                prepare();
                for login in [login(sessions), login(sessions)].concat() {
                    to_parent.write_all(&login).unwrap();
                }
                to_parent.flush().unwrap();
                std::process::exit(0);
            }
            Fork::Parent(child) => {
                drop(to_parent);
                let mut told = Vec::new();
                from_child.read_to_end(&mut told).unwrap();
                waitpid(child).unwrap();
                assert_eq!(told.len(), 2 * (22 + 24), "the child has told both of its logins");
                let of_child = [0, 1].map(|n| {
                    let login = &told[n * 46..][..46];
                    [login[..22].to_vec(), login[22..].to_vec()]
                });
                [[login(sessions), login(sessions)], of_child]
            }
        }
    }

    pub(crate) fn main() {
        let sessions = Sessions::builder(KeyRing::new(Key::generate())).build().unwrap();
        login(&sessions);

        // So that this program can fail: a copied generator repeats itself, as SECURITY.md says.
        let [[parent, _], [child, _]] = twins(&sessions, || {});
        assert_eq!(parent[1], child[1], "the nonces of twins are the same unless the child is reseeded");
        assert_ne!(parent[0], child[0], "ids come from the operating system");

        let [parent, child] = twins(&sessions, reseed);
        for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert_ne!(parent[a][0], child[b][0]);
            // Not even the half that stays for an epoch.
            assert_ne!(parent[a][1][..12], child[b][1][..12], "an epoch goes on in both");
            assert_ne!(parent[a][1][12..], child[b][1][12..]);
        }
        println!("fork: 4 passed, 0 failed");
    }
}
