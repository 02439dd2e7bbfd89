//! An address at which nobody is until it is opened, and then this server; and errors in full.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) struct Gate {
    address: SocketAddr,
    server: u16,
    /// Bound and not listening: connections are refused, and nobody else gets the port.
    closed: Option<TcpSocket>,
    opened: Option<JoinHandle<()>>,
    pub(crate) connections: Arc<AtomicU32>,
    hushed: watch::Sender<()>,
    /// Whether the server's answers wait.
    held_up: watch::Sender<bool>,
    /// Of the connections made while this is so, but for the very first, the server's first message is passed on, as MongoDB has
    /// them, and no other. The first is the one by which its driver watches the server.
    pub(crate) only_greets: Arc<AtomicBool>,
}

impl Gate {
    /// Before the server of this address.
    pub(crate) fn before(url: &str) -> Self {
        let port = url.split_once("127.0.0.1:").unwrap().1;
        let digits = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
        let closed = bound(([127, 0, 0, 1], 0).into());
        let address = closed.local_addr().unwrap();
        let server = port[..digits].parse().unwrap();
        Self {
            address,
            server,
            closed: Some(closed),
            opened: None,
            connections: Arc::default(),
            hushed: watch::Sender::default(),
            held_up: watch::Sender::default(),
            only_greets: Arc::default(),
        }
    }

    /// The address with the gate in it.
    pub(crate) fn url(&self, url: &str) -> String {
        url.replacen(&format!("127.0.0.1:{}", self.server), &self.at(), 1)
    }

    pub(crate) fn at(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn open(&mut self) {
        self.listen(true);
    }

    /// Connections are made and end at once.
    pub(crate) fn open_to_nobody(&mut self) {
        self.listen(false);
    }

    fn listen(&mut self, leads_on: bool) {
        let listener = self.closed.take().unwrap().listen(1024).unwrap();
        let (server, connections) = (self.server, Arc::clone(&self.connections));
        let (hushed, held_up, only_greets) =
            (self.hushed.clone(), self.held_up.clone(), Arc::clone(&self.only_greets));
        self.opened = Some(tokio::spawn(async move {
            let mut going = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let is_first = connections.fetch_add(1, Ordering::SeqCst) == 0;
                if leads_on {
                    let (mut hushed, only_greets) =
                        (hushed.subscribe(), !is_first && only_greets.load(Ordering::SeqCst));
                    let held_up = held_up.subscribe();
                    going.spawn(async move {
                        let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                        if only_greets {
                            greet(&mut client, &mut server).await;
                        }
                        tokio::select! {
                            _ = pass_on(&mut client, &mut server, held_up) => {}
                            _ = hushed.changed() => std::future::pending().await,
                        }
                    });
                }
            }
        }));
    }

    /// The connections that there are carry nothing any more, and do not end. New ones do.
    pub(crate) fn hush(&self) {
        self.hushed.send_replace(());
    }

    /// Whether the server's answers wait here. They are passed on later.
    pub(crate) fn hold_up(&self, holds_up: bool) {
        self.held_up.send_replace(holds_up);
    }

    /// All connections end, and new ones are refused.
    pub(crate) async fn close(&mut self) {
        let opened = self.opened.take().unwrap();
        opened.abort();
        assert!(opened.await.unwrap_err().is_cancelled());
        self.closed = Some(bound(self.address));
    }
}

async fn pass_on(
    client: &mut TcpStream,
    server: &mut TcpStream,
    mut held_up: watch::Receiver<bool>,
) -> io::Result<()> {
    let ((mut asks, mut hears), (mut answers, mut takes)) = (client.split(), server.split());
    let asking = async {
        tokio::io::copy(&mut asks, &mut takes).await?;
        takes.shutdown().await
    };
    let answering = async {
        let mut answer = [0; 8_192];
        loop {
            let len = answers.read(&mut answer).await?;
            let _ = held_up.wait_for(|held_up| !held_up).await;
            if len == 0 {
                return hears.shutdown().await;
            }
            hears.write_all(&answer[..len]).await?;
        }
    };
    tokio::try_join!(asking, answering).map(drop)
}

async fn greet(client: &mut TcpStream, server: &mut TcpStream) {
    let ((mut asks, mut hears), (mut answers, mut takes)) = (client.split(), server.split());
    let greeting = async {
        let len = answers.read_u32_le().await.unwrap();
        let mut rest = vec![0; len as usize - 4];
        answers.read_exact(&mut rest).await.unwrap();
        hears.write_all(&[&len.to_le_bytes()[..], &rest].concat()).await.unwrap();
    };
    let asking = async { tokio::io::copy(&mut asks, &mut takes).await };
    tokio::select! { () = greeting => std::future::pending().await, _ = asking => {} }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// An error with its causes.
pub(crate) fn in_full(error: &dyn Error) -> String {
    let (mut line, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
