//! What the environment says: `PORT`, `STORE`, `MAX_SESSIONS` and `OVERFLOW`.

use std::env::{self, VarError};
use std::error::Error;
use std::time::Duration;

use sealed_session::{Key, KeyRing, Overflow, Sessions, store};

/// How long ago a login may be for what logs others out.
pub(crate) const RECENTLY: Duration = Duration::from_secs(5 * 60);

/// A variable's value, or none if it is not set.
fn var(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(value)) => Err(format!("{name} is {value:?}, but it must be Unicode")),
    }
}

/// The port to listen on; 0 takes a free one.
pub(crate) fn port() -> Result<u16, String> {
    let Some(port) = var("PORT")? else { return Ok(8080) };
    port.parse().map_err(|_| format!("PORT is {port:?}, but it must be from 0 to 65535"))
}

/// How many sessions a user may have, and what becomes of one more.
fn most() -> Result<Option<(usize, Overflow)>, String> {
    let overflow = match var("OVERFLOW")?.as_deref() {
        None => None,
        Some("end-oldest") => Some(Overflow::EndOldest),
        Some("refuse") => Some(Overflow::Refuse),
        Some(other) => return Err(format!("OVERFLOW is {other:?}, but it must be end-oldest or refuse")),
    };
    let Some(most) = var("MAX_SESSIONS")? else {
        return match overflow {
            None => Ok(None),
            Some(_) => Err("OVERFLOW is set, but MAX_SESSIONS is not: set it too, or unset OVERFLOW".into()),
        };
    };
    let most =
        most.parse().map_err(|_| format!("MAX_SESSIONS is {most:?}, but it must be a whole number"))?;
    Ok(Some((most, overflow.unwrap_or(Overflow::EndOldest))))
}

pub(crate) async fn sessions() -> Result<Sessions, Box<dyn Error>> {
    let address = var("STORE")?.unwrap_or_else(|| "memory".into());
    // What was ended is forgotten with the memory of this process, so no cookie may outlive it either.
    let keys = match &*address {
        "memory" => KeyRing::new(Key::generate()),
        _ => KeyRing::open_or_create("session.keys")?,
    };
    // With a store there is a list of each user's sessions, by default.
    let mut builder = Sessions::builder(keys).store(store::open_lazy(&address).await?);
    if let Some((most, overflow)) = most()? {
        builder = builder.max_sessions(most, overflow);
    }
    Ok(builder.build()?)
}
