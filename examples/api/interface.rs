//! What the interface takes and answers, whatever framework it is served by.

use sealed_session::{
    CsrfError, DeviceState, Flash, InsertError, MAX_LABEL_BYTES, Origin, ParseSessionIdError, Placement,
    Session, SessionId, SessionSummary, TransientError,
};
use serde::Deserialize;
use serde_json::{Value, json};
use time::macros::format_description;

/// More than any session may hold, so that the session's own limit is the one that answers.
pub(crate) const MAX_BODY: usize = 2 << 20;

/// What `GET /session` answers.
pub(crate) fn describe(session: &Session) -> Value {
    let authenticated_at = session.authenticated_at();
    let fresh = authenticated_at.map(|at| (time::OffsetDateTime::now_utc() - at).whole_milliseconds() as i64);
    let (origin, rejection) = match session.origin() {
        Origin::New => ("new", None),
        Origin::Resumed => ("resumed", None),
        Origin::Rejected(reason) => ("rejected", Some(reason.as_str())),
        Origin::CrossSite => ("cross-site", None),
        _ => ("unknown", None),
    };
    let (placement, bytes) = match session.placement() {
        Placement::Cookie { bytes } => ("cookie", bytes),
        Placement::Store { bytes } => ("store", bytes),
        _ => ("unknown", 0),
    };
    json!({
        "id": session.id().to_string(),
        "origin": origin,
        "rejection": rejection,
        "placement": placement,
        "bytes": bytes,
        "created_at": rfc3339(session.created_at()),
        "expires_at": rfc3339(session.expires_at()),
        "remaining_ms": session.remaining().as_millis() as u64,
        "subject": session.subject(),
        "authenticated_at": authenticated_at.map(rfc3339),
        "fresh_ms": fresh.map(|ms| ms.max(0)),
        "device": if session.device() == DeviceState::Bound { "bound" } else { "none" },
        "entries": session.entries(),
    })
}

fn rfc3339(at: time::OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"))
        .expect("a moment in UTC has all these parts")
}

#[derive(Deserialize)]
pub(crate) struct Subject {
    pub(crate) subject: String,
}

#[derive(Deserialize)]
pub(crate) struct Token {
    pub(crate) token: String,
}

#[derive(Deserialize)]
pub(crate) struct Text {
    pub(crate) text: String,
}

/// What `GET /flash` answers.
pub(crate) fn texts(flash: &Flash) -> Vec<String> {
    flash.take().into_iter().map(|message| message.text).collect()
}

#[derive(Deserialize)]
pub(crate) struct Handle {
    pub(crate) handle: String,
}

#[derive(Deserialize)]
pub(crate) struct Label {
    pub(crate) label: String,
}

/// The label that `POST /label` asks for. `set_label` would cut a longer one; this interface says so.
pub(crate) fn label(Label { label }: &Label) -> Result<&str, Refusal> {
    let (size, limit) = (label.len(), MAX_LABEL_BYTES);
    match size > limit {
        true => Err(Refusal::too_large(format!("a label may have {limit} bytes, not {size}"), size, limit)),
        false => Ok(label),
    }
}

/// What `GET /sessions` answers.
pub(crate) fn listed(session: &Session, listed: &[SessionSummary]) -> Value {
    let own = session.handle();
    let line = |summary: &SessionSummary| {
        json!({
            "handle": summary.handle,
            "label": summary.label,
            "authenticated_at": summary.authenticated_at.map(rfc3339),
            "seen_at": rfc3339(summary.seen_at),
            "current": own.as_ref() == Some(&summary.handle),
        })
    };
    listed.iter().map(line).collect()
}

#[derive(Deserialize)]
pub(crate) struct OwnDuration {
    pub(crate) ms: u64,
}

#[derive(Deserialize)]
pub(crate) struct Persistent {
    pub(crate) on: bool,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Whom {
    Id { id: String },
    Subject { subject: String },
}

#[derive(Deserialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: String,
}

#[derive(Deserialize)]
pub(crate) struct Wait {
    pub(crate) ms: u64,
}

#[derive(Deserialize)]
pub(crate) struct Head {
    pub(crate) bytes: usize,
}

impl Head {
    /// Headers of that many bytes in all.
    pub(crate) fn padding(&self) -> Result<impl Iterator<Item = (String, String)>, Refusal> {
        const SHORTEST: usize = "x-pad-0: \r\n".len();
        const LONGEST: usize = 64 << 10;
        const LINE: usize = 1024;

        let bytes = self.bytes;
        if bytes != 0 && !(SHORTEST..=LONGEST).contains(&bytes) {
            return Err(Refusal::bad(format!(
                "bytes is {bytes}, and neither 0 nor from {SHORTEST} to {LONGEST}"
            )));
        }
        let lines = bytes.div_ceil(LINE);
        Ok((0..lines).map(move |n| {
            let length = bytes / lines + usize::from(n < bytes % lines);
            let name = format!("x-pad-{n}");
            let value = "x".repeat(length - name.len() - ": \r\n".len());
            (name, value)
        }))
    }
}

/// What the client has to do otherwise.
#[derive(Debug, thiserror::Error)]
#[error("{body}")]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Refusal {
    pub(crate) fn new(status: u16, error: String) -> Self {
        Self { status, body: json!({ "error": error }) }
    }

    pub(crate) fn bad(error: String) -> Self {
        Self::new(400, error)
    }

    pub(crate) fn absent(key: &str) -> Self {
        Self::new(404, format!("no entry {key:?}"))
    }

    pub(crate) fn no_session() -> Self {
        Self::new(404, "the subject has no session of this handle".to_owned())
    }

    pub(crate) fn too_large(error: String, size: usize, limit: usize) -> Self {
        Self { status: 413, body: json!({ "error": error, "size": size, "limit": limit }) }
    }
}

/// Whose sessions are listed.
pub(crate) fn subject(session: &Session) -> Result<String, Refusal> {
    session.subject().ok_or_else(|| Refusal::new(401, "nobody has logged in to this session".to_owned()))
}

/// The session that `POST /revoke` names.
pub(crate) fn session_id(text: &str) -> Result<SessionId, Refusal> {
    text.parse().map_err(|error: ParseSessionIdError| Refusal::bad(error.to_string()))
}

/// The status that `GET /status/{code}` asks for; `None`: the handler is to fail.
pub(crate) fn wanted_status(code: u16) -> Result<Option<u16>, Refusal> {
    match code {
        0 => Ok(None),
        200..=599 => Ok(Some(code)),
        other => Err(Refusal::bad(format!("status {other} is neither 0 nor from 200 to 599"))),
    }
}

impl From<CsrfError> for Refusal {
    fn from(error: CsrfError) -> Self {
        Self::new(403, error.to_string())
    }
}

impl From<TransientError> for Refusal {
    fn from(error: TransientError) -> Self {
        let message = error.to_string();
        match error {
            TransientError::TooLarge { size, limit } => Self::too_large(message, size, limit),
            TransientError::CrossSite => Self::new(403, message),
            _ => Self::new(500, message),
        }
    }
}

impl From<InsertError> for Refusal {
    fn from(error: InsertError) -> Self {
        let message = error.to_string();
        match error {
            InsertError::TooLarge { size, limit } | InsertError::SubjectTooLong { size, limit } => {
                Self::too_large(message, size, limit)
            }
            InsertError::NotCountable { .. } => Self::new(409, message),
            InsertError::CrossSite => Self::new(403, message),
            InsertError::Encode { .. } | InsertError::Duration { .. } | InsertError::EmptySubject => {
                Self::bad(message)
            }
            _ => Self::new(500, message),
        }
    }
}
