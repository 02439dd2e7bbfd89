//! `revoke`, `sweep` and `count`: what is in a store.

use clap::Args;
use sealed_session::{RevokeError, SessionId, Sessions};
use serde_json::json;

use crate::output::{Failure, Output};
use crate::settings::{Address, Name, Ring, span, wait};

/// How many expired rows are dropped at a time, so that no statement holds a store up.
const BATCH: usize = 1_000;

/// Options of `revoke`.
#[derive(Debug, Args)]
#[group(id = "whom", required = true, multiple = false, args = ["session", "subject"])]
pub(crate) struct Revoke {
    /// The session's id, as `inspect` shows it.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    session: Option<String>,
    /// The subject: all its sessions.
    #[arg(long, value_name = "SUBJECT", allow_hyphen_values = true)]
    subject: Option<String>,
    #[command(flatten)]
    ring: Ring,
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    store: Address,
    /// The servers' `max_duration`: how long the mark has to last.
    #[arg(long, value_parser = span, default_value = "400d", value_name = "SPAN")]
    max_duration: std::time::Duration,
}

/// Options of `sweep`.
#[derive(Debug, Args)]
pub(crate) struct Sweep {
    #[command(flatten)]
    store: Address,
}

/// Options of `count`.
#[derive(Debug, Args)]
pub(crate) struct Count {
    #[command(flatten)]
    store: Address,
}

impl Revoke {
    /// Ends the session, or those of the subject.
    pub(crate) fn run(self) -> Result<Output, Failure> {
        let ring = self.ring.open()?;
        let id = self.session.map(|text| text.parse::<SessionId>()).transpose();
        let id = id.map_err(|error| Failure::given(&error))?;
        wait(async {
            let store = self.store.open().await?;
            let sessions = Sessions::builder(ring)
                .cookie_name(&self.name.name)
                .secure(sealed_session::Secure::Always)
                .max_duration(self.max_duration)
                .lifetime(sealed_session::Lifetime::new(self.max_duration))
                .store(store)
                .build()
                .map_err(|error| Failure::given(&error))?;
            let failed = |error: RevokeError| Failure::outside(&error);
            match (id, &self.subject) {
                (Some(id), _) => {
                    sessions.revoke(id).await.map_err(failed)?;
                    let line = format!(
                        "session {id} is ended; servers notice within their revocation time, 60 s by default"
                    );
                    Ok(Output::line(line, json!({ "revoked": { "session": id.to_string() } })))
                }
                (None, Some(subject)) => {
                    sessions.revoke_subject(subject).await.map_err(failed)?;
                    let line = format!(
                        "all sessions of {subject:?} are ended; servers notice within their revocation time, 60 s by \
                         default"
                    );
                    Ok(Output::line(line, json!({ "revoked": { "subject": subject } })))
                }
                (None, None) => Err(Failure::mistake("give --session ID or --subject SUBJECT")),
            }
        })
    }
}

impl Sweep {
    /// Drops what has expired.
    pub(crate) fn run(self) -> Result<Output, Failure> {
        wait(async {
            let store = self.store.open().await?;
            let mut dropped = 0;
            loop {
                let batch = store.sweep(BATCH).await.map_err(|error| Failure::outside(&error))?;
                dropped += batch;
                if batch < BATCH as u64 {
                    break;
                }
            }
            Ok(Output::line(format!("{dropped} expired rows dropped"), json!({ "dropped": dropped })))
        })
    }
}

impl Count {
    /// Counts what has not.
    pub(crate) fn run(self) -> Result<Output, Failure> {
        wait(async {
            let count = self.store.open().await?.count().await.map_err(|error| Failure::outside(&error))?;
            Ok(Output::line(format!("{count} rows"), json!({ "rows": count })))
        })
    }
}
