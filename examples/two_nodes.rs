//! Two processes, one site: both follow one key file, and both use one Redis.
//!
//! `cargo run --features redis --example two_nodes -- redis://127.0.0.1/` starts two servers, plays a user that meets now
//! the one, now the other, and tells what happens. Nothing is sticky: any node takes any cookie.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use actix_web::web::{get, post};
use actix_web::{App, HttpServer};
use sealed_session::store::RedisStore;
use sealed_session::{Key, KeyRing, Placement, Revocation, Session, SessionMiddleware, Sessions};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

// What runs on each node.

async fn whoami(session: Session) -> actix_web::Result<String> {
    let place = match session.placement() {
        Placement::Store { .. } => "in Redis",
        _ => "in its cookie",
    };
    let user = session.subject().unwrap_or_else(|| "nobody".into());
    Ok(format!("{user}, {} items, {place}", session.get::<Vec<u32>>("cart")?.unwrap_or_default().len()))
}

async fn login(session: Session) -> actix_web::Result<String> {
    session.authenticate("ada")?;
    whoami(session).await
}

async fn shop(session: Session) -> actix_web::Result<String> {
    session.insert("cart", (1_000_000..1_001_000).collect::<Vec<u32>>())?;
    whoami(session).await
}

async fn logout(session: Session) -> &'static str {
    session.destroy();
    "bye"
}

async fn node(port: u16, redis: &str, keys: &str) -> Result<()> {
    let sessions = Sessions::builder(KeyRing::open(keys)?)
        .store(RedisStore::connect_lazy(redis)?)
        // Both nodes must have the same lifetimes, cookie name and store. One that did not see a logout itself asks for
        // it with each request here; by default it asks once a minute.
        .revocation(Revocation::EveryRequest)
        .build()?;
    let app = move || {
        App::new()
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/", get().to(whoami))
            .route("/login", post().to(login))
            .route("/shop", post().to(shop))
            .route("/logout", post().to(logout))
    };
    Ok(HttpServer::new(app).workers(1).bind(("127.0.0.1", port))?.run().await?)
}

// The user, and their browser.

struct Browser {
    cookie: String,
}

impl Browser {
    fn ask(&mut self, port: u16, request: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\nCookie: {}\r\n\r\n",
            self.cookie
        )?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let (head, body) = response.split_once("\r\n\r\n").ok_or("no response")?;
        if let Some(line) = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")) {
            self.cookie = line.split(';').next().unwrap_or_default().to_owned();
        }
        Ok(body.to_owned())
    }

    fn sees(&mut self, what: &str, port: u16, request: &str, expected: &str) -> Result<()> {
        let body = self.ask(port, request)?;
        println!("{what}: {body} ({} bytes of cookie)", self.cookie.len());
        if body == expected { Ok(()) } else { Err(format!("expected {expected:?}").into()) }
    }
}

struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn start(redis: &str, keys: &Path) -> Result<(Node, u16)> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let mut command = Command::new(std::env::current_exe()?);
    let node = Node(command.args(["node", &port.to_string(), redis]).arg(keys).spawn()?);
    let patience = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if patience.elapsed() > Duration::from_secs(10) {
            return Err("the node does not start".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((node, port))
}

fn scene(redis: &str, keys: &Path) -> Result<()> {
    let ring = KeyRing::open_or_create(keys)?;
    let ((_one, first), (_two, second)) = (start(redis, keys)?, start(redis, keys)?);

    let mut ada = Browser { cookie: String::new() };
    ada.sees("Ada logs in at the first node", first, "POST /login", "ada, 0 items, in its cookie")?;
    ada.sees("and the second knows her", second, "GET /", "ada, 0 items, in its cookie")?;
    ada.sees("Her cart outgrows the cookie", second, "POST /shop", "ada, 1000 items, in Redis")?;
    ada.sees("and the first node finds it", first, "GET /", "ada, 1000 items, in Redis")?;

    // The first node sees it within a second, and seals the session anew. The second one, which may not have looked yet,
    // meets a key that it does not know, and looks at the file before it answers.
    ring.rotate(Key::generate())?;
    println!("The key is rotated, in the file that both follow.");
    let (patience, former) = (Instant::now(), ada.cookie.clone());
    while ada.cookie == former {
        ada.ask(first, "GET /")?;
        if patience.elapsed() > Duration::from_secs(10) {
            return Err("the first node does not follow the file".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    ada.sees("The first node has sealed it anew", first, "GET /", "ada, 1000 items, in Redis")?;
    ada.sees("and the second opens that", second, "GET /", "ada, 1000 items, in Redis")?;

    let mut copy = Browser { cookie: ada.cookie.clone() };
    ada.sees("She logs out at the first node", first, "POST /logout", "bye")?;
    copy.sees("A copy of her cookie, at the second", second, "GET /", "nobody, 0 items, in its cookie")?;
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["node", port, redis, keys] => port
            .parse()
            .map_err(Box::from)
            .and_then(|port| actix_web::rt::System::new().block_on(node(port, redis, keys))),
        [redis] => {
            let folder = std::env::temp_dir().join(format!("two-nodes-{}", std::process::id()));
            let outcome = std::fs::create_dir(&folder)
                .map_err(Box::from)
                .and_then(|()| scene(redis, &folder.join("session.keys")));
            _ = std::fs::remove_dir_all(folder);
            outcome
        }
        _ => {
            eprintln!("usage: two_nodes ADDRESS, such as redis://127.0.0.1/");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("two_nodes: {error:?}");
            ExitCode::FAILURE
        }
    }
}
