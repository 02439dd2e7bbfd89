//! `keygen` and `keys`: making keys, and leading those of a file through their life.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use sealed_session::{Key, KeyError, KeyFile, KeyId, KeyRing, KeyState};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::output::{Failure, Output};
use crate::settings::{Custody, input, keys_failed, moment, shown, span};

/// What can be done with a key file.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Lists the keys by their ids, with what each may do.
    ///
    /// Example: sealed-session keys list --file session.keys
    List(File),
    /// Makes a fresh key the primary, or plans to; the former primary is retired.
    ///
    /// Servers that share the file follow at once. Where each has a file of its own, this would make another key for each:
    /// make one with keygen, and give it to all of them with --key-stdin and the same --at.
    ///
    /// Example: sealed-session keys rotate --file session.keys --in 15m
    Rotate(Rotate),
    /// Says until when a key that does not seal any more is to open; for ever, if nothing is said.
    ///
    /// Example: sealed-session keys retire --file session.keys 1a2b3c4d --in 30d
    Retire(Retire),
    /// Takes a leaked key's power away: nothing that it has sealed is accepted any more.
    ///
    /// If it is the primary, the pending key or else a fresh one becomes it, in the same step. If it was not the primary all
    /// the time since it leaked, revoke the keys that have sealed since as well: what it forged is sealed by them by now.
    ///
    /// Example: sealed-session keys revoke --file session.keys 1a2b3c4d
    Revoke(Revoke),
}

/// The key file.
#[derive(Debug, Args)]
pub(crate) struct File {
    /// The key file; the first rotation makes it.
    #[arg(long, value_name = "PATH")]
    file: PathBuf,
    #[command(flatten)]
    custody: Custody,
}

impl File {
    fn given(&self) -> KeyFile {
        self.custody.file(&self.file)
    }

    fn open(&self) -> Result<KeyRing, Failure> {
        self.given().open().map_err(keys_failed)
    }
}

/// Options of `keys rotate`.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    file: File,
    /// Becomes the primary after this span, such as 15m, and only opens until then.
    #[arg(long = "in", value_parser = span, value_name = "SPAN")]
    after: Option<Duration>,
    /// Becomes the primary at this moment, such as 2027-01-31T12:00:00Z, and only opens until then.
    #[arg(long, value_parser = moment, value_name = "MOMENT", conflicts_with = "after")]
    at: Option<OffsetDateTime>,
    /// Takes the key from standard input, instead of making one.
    #[arg(long)]
    key_stdin: bool,
}

/// Options of `keys retire`.
#[derive(Debug, Args)]
pub(crate) struct Retire {
    #[command(flatten)]
    file: File,
    /// The key's id, as `keys list` shows it.
    id: String,
    /// Opens for this span from now on, such as 30d.
    #[arg(long = "in", value_parser = span, value_name = "SPAN")]
    after: Option<Duration>,
    /// Opens until this moment.
    #[arg(long, value_parser = moment, value_name = "MOMENT", conflicts_with = "after")]
    at: Option<OffsetDateTime>,
}

/// Options of `keys revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    file: File,
    /// The key's id, as `keys list` shows it.
    id: String,
}

/// A fresh key.
pub(crate) fn generate() -> Output {
    let key = Key::generate();
    let text = key.export();
    Output::line(text.as_str(), json!({ "id": key.id().to_string(), "key": text.as_str() }))
}

impl Keys {
    /// Does it, and lists what there is then.
    pub(crate) fn run(self) -> Result<Output, Failure> {
        match self {
            Self::List(file) => list(&file.open()?, None),
            Self::Rotate(options) => options.run(),
            Self::Retire(options) => options.run(),
            Self::Revoke(options) => options.run(),
        }
    }
}

impl Rotate {
    fn run(self) -> Result<Output, Failure> {
        let path = &self.file.file;
        let when = moment_of(self.after, self.at)?;
        if when.is_some_and(is_over) {
            return Err(Failure::mistake("that moment is over; leave it out, and the key seals at once"));
        }
        if !path.exists() {
            if self.key_stdin || when.is_some() {
                return Err(Failure::mistake(format!(
                    "there is no key file {0}; make it with `sealed-session keys rotate --file {0}` first",
                    path.display()
                )));
            }
            let ring = self.file.given().open_or_create().map_err(keys_failed)?;
            let done = format!("key {} seals; {} was made", ring.primary(), path.display());
            return list(&ring, Some(done));
        }
        let fresh = match self.key_stdin {
            true => input("a key")?.parse::<Key>().map_err(|error| Failure::given(&error))?,
            false => Key::generate(),
        };
        let id = fresh.id();
        let ring = self.file.open()?;
        match when {
            Some(at) => {
                ring.schedule(fresh, at).map_err(keys_failed)?;
                list(&ring, Some(format!("key {id} opens from now on and seals from {} on", shown(at))))
            }
            None => {
                ring.rotate(fresh).map_err(keys_failed)?;
                list(&ring, Some(format!("key {id} seals from now on")))
            }
        }
    }
}

impl Retire {
    fn run(self) -> Result<Output, Failure> {
        let (ring, id) = (self.file.open()?, key_id(&self.id)?);
        let until = moment_of(self.after, self.at)?;
        if until.is_some_and(is_over) {
            return Err(Failure::mistake(
                "that moment is over; what is to open nothing from now on is revoked",
            ));
        }
        ring.retire(id, until).map_err(keys_failed)?;
        let until =
            until.map_or("for as long as it is in the file".into(), |at| format!("until {}", shown(at)));
        list(&ring, Some(format!("key {id} opens {until}, and what it opens is sealed anew")))
    }
}

impl Revoke {
    fn run(self) -> Result<Output, Failure> {
        let (ring, id) = (self.file.open()?, key_id(&self.id)?);
        let former = ring.primary();
        match ring.revoke(id) {
            // In one step with the other, or servers would seal anew, in between, what it has forged.
            Err(KeyError::Primary { .. }) => ring.replace(id, Key::generate()),
            outcome => outcome,
        }
        .map_err(keys_failed)?;
        let primary = ring.primary();
        let then = match primary == former {
            false => format!("key {primary} seals in its place"),
            true => format!(
                "if it leaked, what it forged may be sealed by {primary} by now: revoke each key that has sealed since"
            ),
        };
        list(&ring, Some(format!("key {id} opens nothing any more; {then}")))
    }
}

/// By more than the clocks of two machines differ.
fn is_over(moment: OffsetDateTime) -> bool {
    moment < OffsetDateTime::now_utc() - time::Duration::minutes(5)
}

fn key_id(text: &str) -> Result<KeyId, Failure> {
    text.parse().map_err(|error: KeyError| Failure::given(&error))
}

fn moment_of(after: Option<Duration>, at: Option<OffsetDateTime>) -> Result<Option<OffsetDateTime>, Failure> {
    match after {
        Some(span) => OffsetDateTime::now_utc()
            .replace_nanosecond(0)
            .unwrap_or_else(|_| OffsetDateTime::now_utc())
            .checked_add(span.try_into().unwrap_or(time::Duration::MAX))
            .map(Some)
            .ok_or_else(|| Failure::mistake("that is after the year 9999; give a shorter span")),
        None => Ok(at),
    }
}

fn list(ring: &KeyRing, done: Option<String>) -> Result<Output, Failure> {
    let mut lines: Vec<String> = done.clone().into_iter().collect();
    let mut keys = Vec::new();
    for info in ring.list() {
        let (state, word, moment) = match info.state {
            KeyState::Pending { not_before } => {
                (format!("pending   opens; seals from {} on", shown(not_before)), "pending", Some(not_before))
            }
            KeyState::Primary => ("primary   seals and opens".into(), "primary", None),
            KeyState::Retired { not_after: Some(not_after) } if not_after <= OffsetDateTime::now_utc() => {
                (format!("retired   opens nothing since {}", shown(not_after)), "retired", Some(not_after))
            }
            KeyState::Retired { not_after: Some(not_after) } => {
                (format!("retired   opens until {}", shown(not_after)), "retired", Some(not_after))
            }
            KeyState::Retired { not_after: None } => ("retired   opens".into(), "retired", None),
            KeyState::Revoked => ("revoked   opens nothing".into(), "revoked", None),
            _ => ("unknown to this version".into(), "unknown", None),
        };
        lines.push(format!("{}  {state}", info.id));
        let mut key = json!({ "id": info.id.to_string(), "state": word });
        match (info.state, moment) {
            (KeyState::Pending { .. }, Some(at)) => key["not_before"] = shown(at).into(),
            (_, Some(at)) => key["not_after"] = shown(at).into(),
            _ => {}
        }
        keys.push(key);
    }
    let mut document = json!({ "keys": keys });
    if let Some(done) = done {
        document["done"] = Value::from(done);
    }
    Ok(Output::lines(lines, document))
}
