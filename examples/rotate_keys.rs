//! The life of keys, and what users notice of it: nothing, until one leaks.
//!
//! `cargo run --example rotate_keys` plays a week in a moment, with a clock that is set by hand. In production the key
//! file does the same for running servers: see `sealed-session keys --help`.

use std::error::Error;
use std::time::Duration;

use sealed_session::{
    Clock, CommitContext, Key, KeyRing, KeyState, Lifetime, ManualClock, Origin, Sessions, SystemClock,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// One request that reads the session; the browser's cookie afterwards.
async fn visit(sessions: &Sessions, cookie: &mut String) -> Result<Origin, Box<dyn Error>> {
    let session = sessions.load([&cookie]).await?;
    for line in sessions.commit(&session, CommitContext::default()).await? {
        *cookie = line.split(';').next().unwrap_or_default().to_owned();
    }
    Ok(session.origin())
}

fn tell(ring: &KeyRing, what: &str) {
    println!("{what}");
    for key in ring.list() {
        let state = match key.state {
            KeyState::Pending { not_before } => format!("pending until {not_before}"),
            KeyState::Retired { not_after: Some(not_after) } => format!("retired, opens until {not_after}"),
            KeyState::Retired { not_after: None } => "retired".into(),
            state => format!("{state:?}").to_lowercase(),
        };
        println!("    {}  {state}", key.id);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = ManualClock::at(SystemClock.now());
    let ring = KeyRing::new(Key::generate());
    let first = ring.primary();
    let lifetime = Lifetime::new(7 * DAY);
    let sessions = Sessions::builder(ring.clone()).lifetime(lifetime).clock(clock.clone()).build()?;
    let mut cookie = sessions.issue(|session| session.insert("user", "ada")).await?;
    tell(&ring, "A ring of one key, and a session that it seals.");

    let next = Key::generate();
    ring.schedule(next.clone(), clock.now() + DAY)?;
    assert_eq!(visit(&sessions, &mut cookie).await?, Origin::Resumed);
    tell(
        &ring,
        "A second key is planned: it opens already, so that no node seals what another does not know.",
    );

    clock.advance(DAY);
    assert_eq!(visit(&sessions, &mut cookie).await?, Origin::Resumed);
    let value = cookie.split_once('=').map(|(_, value)| value.to_owned()).unwrap_or_default();
    assert_eq!(sessions.inspect(&value)?.key_id, next.id());
    tell(&ring, "A day later it seals. The session was sealed anew, and its user did not notice.");

    ring.retire(first, Some(clock.now() + 7 * DAY))?;
    clock.advance(5 * DAY);
    assert_eq!(visit(&sessions, &mut cookie).await?, Origin::Resumed);
    tell(&ring, "The first key opens for as long as a session that it sealed can be alive.");

    // In one step: what a thief has forged with it would be sealed anew by a server that looks in between.
    ring.replace(next.id(), Key::generate())?;
    let origin = visit(&sessions, &mut cookie).await?;
    assert!(matches!(origin, Origin::Rejected(_)));
    tell(
        &ring,
        "The second key has leaked. What it sealed is worth nothing, and the user has to log in again:",
    );
    println!("    {origin:?}");
    Ok(())
}
