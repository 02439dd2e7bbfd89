//! Counts round trips as they are on the wire: a proxy that notices each time a client speaks after its server did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// A proxy on a port of its own, in a thread of its own.
pub(crate) struct Turns {
    pub(crate) port: u16,
    count: Arc<AtomicU64>,
}

impl Turns {
    pub(crate) fn before(server: u16) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
                tell.send(listener.local_addr().unwrap().port()).unwrap();
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    client.set_nodelay(true).unwrap();
                    server.set_nodelay(true).unwrap();
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let servers_turn = Arc::new(AtomicBool::new(false));
                    let (counted, turn) = (Arc::clone(&counted), Arc::clone(&servers_turn));
                    tokio::spawn(copy(from_client, to_server, move || {
                        if !turn.swap(true, Ordering::SeqCst) {
                            counted.fetch_add(1, Ordering::SeqCst);
                        }
                    }));
                    tokio::spawn(copy(from_server, to_client, move || {
                        servers_turn.store(false, Ordering::SeqCst)
                    }));
                }
            });
        });
        Self { port: told.recv().unwrap(), count }
    }

    /// How many there were since the last time.
    pub(crate) fn take(&self) -> u64 {
        self.count.swap(0, Ordering::SeqCst)
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, each: impl Fn()) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        each();
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
