//! `list`, `revoke`, `sweep` and `count`: what is in a store.

use clap::Args;
use sealed_session::{KeyRing, RevokeError, SessionId, SessionSummary, Sessions, SessionsBuilder};
use serde_json::{Value, json};

use crate::output::{Failure, Output};
use crate::settings::{Address, Name, Ring, shown, span, wait};

/// How many expired rows are dropped at a time, so that no statement holds a store up.
const BATCH: usize = 1_000;

/// Options of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// The subject whose sessions are listed.
    #[arg(long, value_name = "SUBJECT", allow_hyphen_values = true)]
    subject: String,
    #[command(flatten)]
    ring: Ring,
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    store: Address,
}

/// Options of `revoke`.
#[derive(Debug, Args)]
#[group(id = "whom", required = true, multiple = false, args = ["session", "subject"])]
pub(crate) struct Revoke {
    /// The session's id, as `inspect` shows it.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    session: Option<String>,
    /// The subject: all its sessions, or the one of --handle.
    #[arg(long, value_name = "SUBJECT", allow_hyphen_values = true)]
    subject: Option<String>,
    /// The handle of one of the subject's sessions, as `list` shows it.
    #[arg(
        long,
        value_name = "HANDLE",
        allow_hyphen_values = true,
        requires = "subject",
        conflicts_with = "session"
    )]
    handle: Option<String>,
    #[command(flatten)]
    ring: Ring,
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    store: Address,
    /// The servers' `max_duration`. The mark lasts twice as long, as cookies may where `active` is as long as that.
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

/// What the servers' sessions have in common with those that are listed or ended here.
async fn sessions(ring: KeyRing, name: &Name, store: &Address) -> Result<SessionsBuilder, Failure> {
    let builder = Sessions::builder(ring).cookie_name(&name.name);
    Ok(builder.secure(sealed_session::Secure::Always).store(store.open().await?))
}

fn failed(error: RevokeError) -> Failure {
    Failure::outside(&error)
}

impl List {
    /// Lists the sessions of the subject.
    pub(crate) fn run(self) -> Result<Output, Failure> {
        let ring = self.ring.open()?;
        wait(async {
            let sessions = sessions(ring, &self.name, &self.store).await?.build();
            let sessions = sessions.map_err(|error| Failure::given(&error))?;
            let listed = sessions.of(&self.subject).await.map_err(failed)?;
            let mut lines: Vec<_> = listed.iter().map(line).collect();
            if lines.is_empty() {
                lines.push(format!(
                    "no session of {:?} is listed in this store under these keys and the cookie name {}; servers with \
                     `roster(false)`, or with revocation off, list none",
                    self.subject, self.name.name
                ));
            }
            let documents: Vec<_> = listed.iter().map(document).collect();
            Ok(Output::lines(lines, json!({ "subject": self.subject, "sessions": documents })))
        })
    }
}

/// One line, whatever the label is: `Debug` leaves no character that could end it, or move what stands around it.
fn line(session: &SessionSummary) -> String {
    let login = session.authenticated_at.and_then(|at| at.replace_nanosecond(0).ok());
    let login = login.map_or_else(|| "never".to_owned(), shown);
    // Of the last use the hour is known, and no more is shown.
    let seen = shown(session.seen_at);
    let hour = seen.split_once(':').map_or(&*seen, |(hour, _)| hour);
    let label = session.label.as_ref().map_or_else(|| "no label".to_owned(), |label| format!("{label:?}"));
    let SessionSummary { handle, log_id, .. } = session;
    format!("{handle}  log {log_id}  login {login:<20}  seen {hour}h  {label}")
}

fn document(session: &SessionSummary) -> Value {
    json!({
        "handle": session.handle,
        "log_id": session.log_id.to_string(),
        "authenticated_at": session.authenticated_at.map(shown),
        "seen_at": shown(session.seen_at),
        "label": session.label,
    })
}

impl Revoke {
    /// Ends the session, or those of the subject.
    pub(crate) fn run(self) -> Result<Output, Failure> {
        let ring = self.ring.open()?;
        let id = self.session.map(|text| text.parse::<SessionId>()).transpose();
        let id = id.map_err(|error| Failure::given(&error))?;
        wait(async {
            let sessions = sessions(ring, &self.name, &self.store)
                .await?
                .max_duration(self.max_duration)
                // Of servers whose `active` is as long as their duration cookies last twice as long.
                .lifetime(sealed_session::Lifetime::new(self.max_duration).active(self.max_duration))
                .build()
                .map_err(|error| Failure::given(&error))?;
            match (id, &self.subject, &self.handle) {
                (Some(id), ..) => {
                    sessions.revoke(id).await.map_err(failed)?;
                    let line = format!(
                        "session {id} is ended; servers notice within their revocation time, 60 s by default"
                    );
                    Ok(Output::line(line, json!({ "revoked": { "session": id.to_string() } })))
                }
                (None, Some(subject), Some(handle)) => {
                    if !sessions.end(subject, handle).await.map_err(failed)? {
                        return Err(Failure::mistake(format!(
                            "{subject:?} has no session of the handle {handle:?}, or not any more; `sealed-session list \
                             --subject` shows those that there are"
                        )));
                    }
                    let line = format!(
                        "session {handle} of {subject:?} is ended; servers notice within their revocation time, 60 s \
                         by default"
                    );
                    let document = json!({ "revoked": { "subject": subject, "handle": handle } });
                    Ok(Output::line(line, document))
                }
                (None, Some(subject), None) => {
                    // What the list says is for people; whoever is to be logged out is, whether it can be read or not.
                    let listed = sessions.of(subject).await.ok().map(|listed| listed.len());
                    sessions.revoke_subject(subject).await.map_err(failed)?;
                    let told =
                        listed.map_or_else(|| "an unknown number".to_owned(), |listed| listed.to_string());
                    let line = format!(
                        "all sessions of {subject:?} are ended, of which {told} were listed here; servers notice \
                         within their revocation time, 60 s by default"
                    );
                    Ok(Output::line(line, json!({ "revoked": { "subject": subject, "listed": listed } })))
                }
                (None, None, _) => Err(Failure::mistake("give --session ID or --subject SUBJECT")),
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
