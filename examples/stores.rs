//! Each store by its address: a session that outgrows its cookie, and comes back.
//!
//! ```sh
//! cargo run --features memory --example stores -- memory
//! cargo run --features redis --example stores -- redis://127.0.0.1/
//! cargo run --features postgres --example stores -- postgres://localhost/app
//! ```
//!
//! The features are `memory`, `redb`, `redis`, `mongodb`, `postgres`, `mysql` and `sqlite`. A store with options of its own
//! is made by its type, such as `RedisStoreOptions::new().prefix("app:").connect(url)`.

use std::error::Error;
use std::process::ExitCode;

use sealed_session::{CommitContext, Key, KeyRing, Placement, Session, Sessions, store};

/// One request; the browser's cookie afterwards.
async fn visit(
    sessions: &Sessions,
    cookie: &mut String,
    work: impl FnOnce(&Session),
) -> Result<(), Box<dyn Error>> {
    let session = sessions.load([&cookie]).await?;
    work(&session);
    for line in sessions.commit(&session, CommitContext::default()).await? {
        *cookie = line.split(';').next().unwrap_or_default().to_owned();
    }
    let seen = sessions.load([&cookie]).await?;
    let place = match seen.placement() {
        Placement::Cookie { bytes } => format!("in its cookie of {bytes} bytes"),
        Placement::Store { bytes } => {
            format!("in a row of {bytes} bytes, with a cookie of {}", cookie.len() - 1)
        }
        _ => "elsewhere".into(),
    };
    println!("{:?} {place}", seen.keys());
    Ok(())
}

async fn run(address: &str) -> Result<(), Box<dyn Error>> {
    let sessions =
        Sessions::builder(KeyRing::new(Key::generate())).store(store::open_lazy(address).await?).build()?;
    let mut cookie = String::new();
    let fill = |key: &'static str, size: usize| {
        move |session: &Session| {
            session.insert(key, "x".repeat(size)).expect("it is far below max_stored_bytes")
        }
    };
    visit(&sessions, &mut cookie, fill("small", 100)).await?;
    visit(&sessions, &mut cookie, fill("large", 10_000)).await?;
    visit(&sessions, &mut cookie, |session| assert!(session.remove("large"))).await?;
    println!("it stays there, until it is renewed:");
    visit(&sessions, &mut cookie, Session::renew).await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: stores ADDRESS, such as memory or redis://127.0.0.1/");
        return ExitCode::from(2);
    };
    match run(&address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stores: {error:?}");
            ExitCode::FAILURE
        }
    }
}
