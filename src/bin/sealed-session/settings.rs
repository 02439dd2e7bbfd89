//! What several commands take: keys, the cookie's name, lifetimes, a store, moments and spans.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sealed_session::store::{self, Store};
use sealed_session::{Clock, KeyError, KeyFile, KeyRing, Lifetime, SystemClock};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::output::Failure;

/// Where the keys are.
#[derive(Debug, Args)]
pub(crate) struct Ring {
    /// The key file.
    #[arg(long, value_name = "PATH", conflicts_with = "env")]
    file: Option<PathBuf>,
    /// The environment variable with the keys.
    #[arg(long, value_name = "NAME", default_value = "SESSION_KEYS")]
    env: String,
    #[command(flatten)]
    custody: Custody,
}

impl Ring {
    /// Reads them.
    pub(crate) fn open(&self) -> Result<KeyRing, Failure> {
        match &self.file {
            Some(path) => self.custody.file(path).open(),
            None => KeyRing::from_env(&self.env),
        }
        .map_err(keys_failed)
    }
}

/// Who may read the key file.
#[derive(Debug, Args)]
pub(crate) struct Custody {
    /// Reads a key file that others than its owner can read or replace.
    #[arg(long)]
    allow_readable: bool,
}

impl Custody {
    /// The file at `path`.
    pub(crate) fn file(&self, path: &Path) -> KeyFile {
        let file = KeyFile::new(path);
        if self.allow_readable { file.allow_readable() } else { file }
    }
}

/// What is wrong with keys, in the words of the tool.
pub(crate) fn keys_failed(error: KeyError) -> Failure {
    match error {
        KeyError::Environment { name } => {
            Failure::mistake(format!("no keys: {name} is not set; set it, or give --file PATH or --env NAME"))
        }
        KeyError::Permissions { reason, .. } => Failure::mistake(format!(
            "{reason}; if others are kept away by other means, give --allow-readable"
        )),
        KeyError::Io { .. } => Failure::outside(&error),
        error => Failure::given(&error),
    }
}

/// The cookie's name, which is a part of what seals it.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The cookie's name, unless the input tells it.
    #[arg(long, default_value = "__Host-Http-session")]
    pub(crate) name: String,
}

/// The configuration that decides how long a session lives.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// The configured duration, such as 24h, 30m, 90s or 500ms.
    #[arg(long, value_parser = span, default_value = "24h", value_name = "SPAN")]
    duration: Duration,
    /// The configured active span; 5 minutes or the duration if that is less, by default. 0s is `fixed()`.
    #[arg(long, value_parser = span, value_name = "SPAN")]
    active: Option<Duration>,
    /// The configured absolute limit; 30 days or the duration if that is more, by default.
    #[arg(long, value_parser = span, value_name = "SPAN")]
    absolute: Option<Duration>,
    /// There is no absolute limit.
    #[arg(long, conflicts_with = "absolute")]
    without_absolute: bool,
    /// The configured idle limit.
    #[arg(long, value_parser = span, value_name = "SPAN")]
    idle: Option<Duration>,
    /// The configured maximum of a session's own duration.
    #[arg(long, value_parser = span, default_value = "400d", value_name = "SPAN")]
    pub(crate) max_duration: Duration,
    /// Judges as of this moment (RFC 3339) instead of now.
    #[arg(long, value_parser = moment, value_name = "MOMENT")]
    at: Option<OffsetDateTime>,
}

impl Limits {
    /// The lifetime.
    pub(crate) fn lifetime(&self) -> Lifetime {
        let mut lifetime = Lifetime::new(self.duration);
        if let Some(active) = self.active {
            lifetime = if active.is_zero() { lifetime.fixed() } else { lifetime.active(active) };
        }
        if let Some(absolute) = self.absolute {
            lifetime = lifetime.absolute(absolute);
        }
        if self.without_absolute {
            lifetime = lifetime.without_absolute();
        }
        if let Some(idle) = self.idle {
            lifetime = lifetime.idle(idle);
        }
        lifetime
    }

    /// The moment that counts.
    pub(crate) fn clock(&self) -> At {
        At(self.at)
    }
}

/// A moment that was given, or now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At(Option<OffsetDateTime>);

impl Clock for At {
    fn now(&self) -> OffsetDateTime {
        self.0.unwrap_or_else(|| SystemClock.now())
    }
}

/// The store.
#[derive(Debug, Args)]
pub(crate) struct Address {
    /// The store: redb:PATH, redis://.. or rediss://.., redis-cluster://HOST:PORT,.. or rediss-cluster://..,
    /// mongodb://.., postgres://.., mysql://.. or sqlite:PATH. An address with a password belongs into the environment variable.
    #[arg(long, env = "SEALED_SESSION_STORE", hide_env_values = true, value_name = "ADDRESS")]
    store: String,
    #[command(flatten)]
    rows: Rows,
}

/// Where in the store.
#[derive(Debug, Args)]
pub(crate) struct Rows {
    /// The prefix (Redis), table (SQL) or collection (MongoDB) of the application's rows, if it has set one.
    #[arg(long, env = "SEALED_SESSION_ROWS", value_name = "NAME")]
    rows: Option<String>,
}

impl Address {
    /// Opens it.
    pub(crate) async fn open(&self) -> Result<Arc<dyn Store>, Failure> {
        open(&self.store, &self.rows).await
    }
}

/// Opens a store by its address.
pub(crate) async fn open(address: &str, rows: &Rows) -> Result<Arc<dyn Store>, Failure> {
    let in_the_open = std::env::args().any(|argument| argument.ends_with(address));
    if in_the_open && address.split_once("://").is_some_and(|(_, rest)| has_password(rest)) {
        eprintln!(
            "sealed-session: warning: the store's password stands in the process list; put the address into \
             SEALED_SESSION_STORE instead"
        );
    }
    if address == "memory" {
        return Err(Failure::mistake(
            "the store `memory` lives in the server's process and cannot be reached",
        ));
    }
    store::open_existing(address, rows.rows.as_deref()).await.map_err(|error| match error {
        store::OpenError::Store(error) => Failure::outside(&error),
        error => Failure::given(&error),
    })
}

fn has_password(rest: &str) -> bool {
    let user = rest.split('/').next().and_then(|host| host.rsplit_once('@')).map(|(user, _)| user);
    user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
}

/// Runs what waits for a store.
pub(crate) fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::outside(&error))?.block_on(work)
}

/// All of standard input.
pub(crate) fn input(what: &str) -> Result<String, Failure> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprintln!("sealed-session: reading {what} from standard input; end it with Ctrl-D");
    }
    let mut text = String::new();
    stdin
        .read_to_string(&mut text)
        .map_err(|_| Failure::mistake(format!("standard input is not text; {what} is expected there")))?;
    match text.trim() {
        "" => Err(Failure::mistake(format!("standard input is empty; {what} is expected there"))),
        text => Ok(text.to_owned()),
    }
}

/// Reads a moment of RFC 3339.
pub(crate) fn moment(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "a moment looks like 2027-01-31T12:00:00Z".into())
}

/// Writes one.
pub(crate) fn shown(moment: OffsetDateTime) -> String {
    moment.format(&Rfc3339).unwrap_or_else(|_| moment.to_string())
}

/// Reads a span with its unit.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "a span is a whole number and a unit, such as 30d, 24h, 15m, 90s or 500ms".to_owned();
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..unit].parse().map_err(|_| wrong())?;
    let millis = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}
