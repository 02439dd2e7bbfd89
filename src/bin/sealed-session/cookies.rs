//! `inspect`, `why` and `size`: what a cookie is, what a server would make of it, and how large one would be.

use clap::Args;
use sealed_session::store::MemoryStore;
use sealed_session::{
    Clock as _, DeviceState, End, FailurePolicy, Inspection, KeyState, MAX_NAME_VALUE_BYTES, Origin,
    Placement, Rejection, Revocation, Sessions, SessionsBuilder,
};
use serde_json::{Map, Value, json};

use crate::output::{Failure, Output};
use crate::settings::{Limits, Name, Ring, Rows, input, open, shown, wait};

/// The builder's default for `spill_above`.
const SPILL_ABOVE: usize = 3_072;

/// Options of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    ring: Ring,
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    limits: Limits,
    /// Shows the values of the entries as well, which may be secrets of a user.
    #[arg(long)]
    show_values: bool,
}

/// Options of `why`.
#[derive(Debug, Args)]
pub(crate) struct Why {
    #[command(flatten)]
    ring: Ring,
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    limits: Limits,
    /// The servers' store, to be asked whether the session is there and was not revoked.
    #[arg(long, env = "SEALED_SESSION_STORE", hide_env_values = true, value_name = "ADDRESS")]
    store: Option<String>,
    #[command(flatten)]
    rows: Rows,
}

/// Options of `size`.
#[derive(Debug, Args)]
pub(crate) struct Size {
    #[command(flatten)]
    name: Name,
    /// The session's subject.
    #[arg(long, allow_hyphen_values = true)]
    subject: Option<String>,
    /// The configured `spill_above`, in bytes.
    #[arg(long, default_value_t = SPILL_ABOVE, value_name = "BYTES")]
    spill_above: usize,
}

/// The cookies of one name that were found in the input: more than one, as the browser sends them, if their paths or domains differ.
struct Found {
    name: String,
    values: Vec<String>,
}

/// What a server would go by.
struct Chosen<'a> {
    name: &'a str,
    value: &'a str,
    told: Result<Inspection, Rejection>,
    /// What it is among several.
    remark: Option<String>,
}

impl Found {
    /// Bare, in `name=value`, or in a header with any number of cookies.
    fn read(name: &str) -> Result<Self, Failure> {
        let text = input("a cookie, or a Cookie or Set-Cookie header,")?;
        let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > 1 {
            return Err(Failure::mistake(format!(
                "standard input has {lines} lines; give one cookie at a time"
            )));
        }
        let header = text.split_once(':').filter(|(name, _)| {
            ["cookie", "set-cookie"].contains(&name.trim().to_ascii_lowercase().as_str())
        });
        let cookies = header.map_or(text.as_str(), |(_, rest)| rest).trim();
        let pairs: Vec<(&str, &str)> = cookies
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let found = |name: &str, values: &[&str]| {
            Ok(Self { name: name.into(), values: values.iter().map(|&value| value.into()).collect() })
        };
        let named: Vec<&str> = pairs.iter().filter(|(n, _)| *n == name).map(|(_, value)| *value).collect();
        match &pairs[..] {
            _ if !named.is_empty() => found(name, &named),
            [] => found(name, &[cookies]),
            // Of a Set-Cookie the cookie comes first.
            [(name, value), rest @ ..] if rest.is_empty() || is_attribute(rest[0].0) => found(name, &[value]),
            pairs => Err(Failure::mistake(format!(
                "there is no cookie named {name} among {}; give --name",
                pairs.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// As a request has them.
    fn header(&self) -> String {
        let pairs: Vec<String> = self.values.iter().map(|value| format!("{}={value}", self.name)).collect();
        pairs.join("; ")
    }

    /// The newest good one, or else one that came furthest.
    async fn choose(&self, sessions: &Sessions) -> Result<Chosen<'_>, Failure> {
        let told: Vec<_> = self.values.iter().map(|value| sessions.inspect(value)).collect();
        let is_newer = |one: &Inspection, than: &Inspection| match one.id == than.id {
            true => one.counter > than.counter,
            false => one.sealed_at > than.sealed_at,
        };
        let good = told.iter().enumerate().filter_map(|(at, told)| Some((at, told.as_ref().ok()?)));
        let newest = good.reduce(|best, other| if is_newer(other.1, best.1) { other } else { best });
        let at = match newest {
            Some((at, _)) => at,
            // None of them is in a store.
            None => {
                let session = sessions.load([self.header()]).await;
                let origin = session.map_err(|error| Failure::outside(&error))?.origin();
                let same =
                    |told: &Result<_, _>| matches!(told, Err(reason) if Origin::Rejected(*reason) == origin);
                told.iter().position(same).unwrap_or(0)
            }
        };
        let (of, good) = (told.len(), told.iter().filter(|told| told.is_ok()).count());
        let remark = (of > 1).then(|| match good {
            0 => format!("That is number {} of {of} cookies of this name, none of which is good.", at + 1),
            1 => format!("That is number {} of {of} cookies of this name, the only good one.", at + 1),
            _ => format!(
                "That is number {} of {of} cookies of this name, the newest of {good} good ones.",
                at + 1
            ),
        });
        let chosen = self.values.iter().zip(told).nth(at);
        let (value, told) = chosen.ok_or_else(|| Failure::mistake("there is no cookie to judge"))?;
        Ok(Chosen { name: &self.name, value, told, remark })
    }
}

fn is_attribute(name: &str) -> bool {
    ["path", "domain", "max-age", "expires", "samesite"].contains(&name.to_ascii_lowercase().as_str())
}

fn builder(ring: &Ring, name: &str, limits: &Limits) -> Result<SessionsBuilder, Failure> {
    let builder = Sessions::builder(ring.open()?).cookie_name(name).max_duration(limits.max_duration);
    Ok(builder.lifetime(limits.lifetime()).clock(limits.clock()))
}

fn build(builder: SessionsBuilder) -> Result<Sessions, Failure> {
    builder.build().map_err(|error| Failure::given(&error))
}

impl Inspect {
    /// What the cookie says of itself.
    pub(crate) fn run(self) -> Result<Output, Failure> {
        let found = Found::read(&self.name.name)?;
        let sessions = build(builder(&self.ring, &found.name, &self.limits)?)?;
        let chosen = wait(found.choose(&sessions))?;
        let told = match &chosen.told {
            Ok(told) => told,
            Err(reason) => return Ok(rejected(&chosen, *reason)),
        };
        let now = self.limits.clock().now();
        let (place, bytes) = match told.placement {
            Placement::Cookie { bytes } => ("cookie", bytes),
            Placement::Store { bytes } => ("store", bytes),
            _ => ("unknown", 0),
        };
        let state = sessions.keys().list().into_iter().find(|key| key.id == told.key_id);
        let state = match state.map(|key| key.state) {
            Some(KeyState::Primary) => "primary",
            Some(KeyState::Pending { .. }) => "pending",
            _ => "retired",
        };
        let key = format!("{}, {state}", told.key_id);
        let left = told.expires_at - now;
        let mut lines = vec![
            format!("session   {}", told.id),
            format!("log       session={}", told.id.log_id()),
            format!(
                "cookie    {}, {bytes} bytes of {MAX_NAME_VALUE_BYTES}, issue number {}",
                found.name, told.counter
            ),
            format!("key       {key}"),
            format!("born      {}", shown(told.created_at)),
            format!("sealed    {}", shown(told.sealed_at)),
            format!("ends      {}, {} s from then on", shown(told.expires_at), left.whole_seconds()),
            format!("subject   {}", told.subject.as_deref().unwrap_or("none")),
            format!("login     {}", told.authenticated_at.map_or("never".to_owned(), shown)),
            format!("data      in the {place}"),
        ];
        if told.device != DeviceState::Free {
            lines.push(format!("device    {}", told.device.as_str()));
        }
        if let Some(own) = told.own_duration {
            lines.push(format!("duration  {} s, its own", own.as_secs_f64()));
        }
        lines.extend(chosen.remark.clone());
        let mut document = document(told, chosen.name, place, bytes);
        if self.show_values && place == "cookie" {
            let values = values(&sessions, &chosen)?;
            lines.extend(values.iter().map(|(key, value)| format!("entry     {key} = {value}")));
            document["entries"] = Value::Object(values);
        } else {
            lines.extend(told.keys.iter().map(|key| format!("entry     {key}")));
        }
        Ok(Output::lines(lines, document))
    }
}

fn document(told: &Inspection, name: &str, place: &str, bytes: usize) -> Value {
    json!({
        "session": told.id.to_string(),
        "log_id": told.id.log_id().to_string(),
        "name": name,
        "bytes": bytes,
        "counter": told.counter,
        "key": told.key_id.to_string(),
        "retired_key": told.retired_key,
        "created_at": shown(told.created_at),
        "sealed_at": shown(told.sealed_at),
        "expires_at": shown(told.expires_at),
        "own_duration_ms": told.own_duration.map(|own| own.as_millis() as u64),
        "persistent": told.own_persistence,
        "subject": told.subject,
        "authenticated_at": told.authenticated_at.map(shown),
        "device": told.device.as_str(),
        "placement": place,
        "keys": told.keys,
    })
}

fn values(
    sessions: &Sessions,
    Chosen { name, value, .. }: &Chosen<'_>,
) -> Result<Map<String, Value>, Failure> {
    wait(async {
        let session = sessions.load([format!("{name}={value}")]).await;
        Ok(session.map_err(|error| Failure::outside(&error))?.entries().into_iter().collect())
    })
}

impl Why {
    /// Whether the cookie would be accepted.
    pub(crate) fn run(self) -> Result<Output, Failure> {
        let found = Found::read(&self.name.name)?;
        let mut builder = builder(&self.ring, &found.name, &self.limits)?;
        let asks = self.store.is_some();
        wait(async {
            if let Some(address) = &self.store {
                builder = builder
                    .store(open(address, &self.rows).await?)
                    .revocation(Revocation::EveryRequest)
                    .revocation_failure(FailurePolicy::Closed)
                    // Whoever asks has not used the session, so its line in the user's list stays as it is.
                    .roster(false);
            }
            let sessions = build(builder)?;
            let chosen = found.choose(&sessions).await?;
            let told = match &chosen.told {
                Ok(told) => told,
                Err(reason) => return Ok(rejected(&chosen, *reason)),
            };
            if matches!(told.placement, Placement::Store { .. }) && !asks {
                return Err(Failure::mistake(
                    "the cookie is good, but the session is in a store; give --store to know about that too",
                ));
            }
            let session = sessions.load([found.header()]).await;
            match session.map_err(|error| Failure::outside(&error))?.origin() {
                Origin::Rejected(reason) => Ok(rejected(&chosen, reason).with_log_id(told)),
                _ => {
                    let proviso =
                        if asks { "" } else { "; whether it was revoked only its --store can tell" };
                    let bound = match told.device {
                        DeviceState::Bound => ", together with a proof of the device that it is bound to",
                        _ => "",
                    };
                    let until = shown(told.expires_at);
                    let line =
                        format!("It would be accepted{bound}, until {until} if nobody uses it{proviso}.");
                    let document = json!({ "accepted": true, "expires_at": until });
                    let lines = [line].into_iter().chain(chosen.remark.clone()).collect();
                    Ok(Output::lines(lines, document).with_log_id(told))
                }
            }
        })
    }
}

fn rejected(chosen: &Chosen<'_>, reason: Rejection) -> Output {
    let sentence = because(chosen, reason);
    let document = json!({ "accepted": false, "reason": reason.as_str(), "because": sentence });
    let lines = [sentence].into_iter().chain(chosen.remark.clone()).collect();
    Output::lines(lines, document).rejected()
}

/// One sentence: what is wrong, and what would help.
fn because(Chosen { name, value, .. }: &Chosen<'_>, reason: Rejection) -> String {
    match reason {
        Rejection::Malformed => format!(
            "It would be rejected as malformed: {} characters are not a sealed value, which is base64url without \
             padding and has from 188 to {MAX_NAME_VALUE_BYTES}; was it cut off or URL-encoded on the way?",
            value.len()
        ),
        Rejection::UnknownSuite(suite) => format!(
            "It would be rejected for its suite: {suite} is none that this version knows, so a newer version sealed \
             it, or it is no cookie of this library."
        ),
        Rejection::UnknownKey(key) => format!(
            "It would be rejected because key {key} had sealed it, which is not in this ring; give the ring of \
             the server that issued the cookie, or add that key as a retired one if nobody else can have it."
        ),
        Rejection::RevokedKey(key) => format!(
            "It would be rejected because key {key} had sealed it, which this ring has revoked; whoever it belongs \
             to has to log in again."
        ),
        Rejection::Tampered => format!(
            "It would be rejected as tampered with: the cipher refuses it under the name {name}, so it was altered, \
             cut, or issued under another cookie name; try --name."
        ),
        Rejection::Expired(end) => format!(
            "It would be rejected as expired: the {end} limit has passed{}.",
            match end {
                End::Idle => ", because nobody used it for too long",
                End::Given => ", which the limits were when it was sealed; they have been raised since",
                End::Absolute => ", which is counted from the session's birth and which no use postpones",
                _ => ", counted from its last extension",
            }
        ),
        Rejection::Future => {
            "It would be rejected because it was born or sealed more than 60 s in the future: a \
                              server's clock is wrong, this one's or that of the one that issued it."
                .into()
        }
        Rejection::Missing => {
            "It would be rejected because its data is not in the store: the row has expired, was \
                               deleted, cannot be read, or is in another store than this."
                .into()
        }
        Rejection::Revoked => {
            "It would be rejected as revoked: the session was destroyed, renewed under another id, \
                               or revoked by its id or its subject."
                .into()
        }
        other => format!("It would be rejected: {other}."),
    }
}

impl Size {
    /// How large the session would be.
    pub(crate) fn run(self) -> Result<Output, Failure> {
        let wrong = |why: String| {
            Failure::mistake(format!(
                "standard input is no JSON object of entries, such as {{\"n\": 1}}: {why}"
            ))
        };
        let text = input("a JSON object of entries")?;
        let entries: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        // With a store nothing is too large for the cookie, so it can be told how much it is.
        let ring = sealed_session::KeyRing::new(sealed_session::Key::generate());
        let limit = 15 << 20;
        let sessions = Sessions::builder(ring).cookie_name(&self.name.name).store(MemoryStore::new());
        let sessions = build(sessions.spill_above(self.spill_above).max_stored_bytes(limit))?;
        let session = wait(async {
            let session = sessions.load([""; 0]).await;
            session.map_err(|error| Failure::outside(&error))
        })?;
        for (key, value) in &entries {
            session.insert(key, value).map_err(|error| Failure::given(&error))?;
        }
        if let Some(subject) = &self.subject {
            session.set_subject(subject).map_err(|error| Failure::given(&error))?;
        }
        let bytes = session.cookie_bytes();
        let away = |limit: usize| match limit.checked_sub(bytes) {
            Some(left) => format!("{left} bytes left to"),
            None => format!("{} bytes over", bytes - limit),
        };
        let lines = vec![
            format!("{bytes} bytes of name and value"),
            format!("{} the {} at which it moves into a store", away(self.spill_above), self.spill_above),
            format!("{} the {MAX_NAME_VALUE_BYTES} that browsers keep", away(MAX_NAME_VALUE_BYTES)),
        ];
        let document = json!({
            "bytes": bytes,
            "spill_above": self.spill_above,
            "limit": MAX_NAME_VALUE_BYTES,
            "spills": bytes > self.spill_above,
            "fits": bytes <= MAX_NAME_VALUE_BYTES,
        });
        Ok(Output::lines(lines, document))
    }
}
