//! Keys as text: the list that fits into an environment variable, and the JSON document that tells each key's state.

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{OffsetDateTime, UtcOffset};
use zeroize::Zeroizing;

use super::{Key, KeyId, KeyState};
use crate::core::clock::Millis;
use crate::core::error::KeyError;

/// The version of the document.
const VERSION: u32 = 1;
/// How long a retired key stays in the file after its end, where it opens nothing.
const KEPT: Millis = Millis(7 * 24 * 3_600_000);
/// The moments that RFC 3339 has, and a file can name.
const EARLIEST: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const LATEST: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);
const LIKE: &str = r#"a valid key document looks like {"version":1,"keys":[{"key":"..","state":"primary"}]}"#;

/// A key and what it may do, as it was written down.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: KeyId,
    /// Exactly those that are revoked have none.
    pub(super) key: Option<Key>,
    pub(super) state: KeyState,
}

impl Member {
    pub(super) fn primary(key: Key) -> Self {
        Self::of(key, KeyState::Primary)
    }

    pub(super) fn of(key: Key, state: KeyState) -> Self {
        Self { id: key.id(), key: Some(key), state }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    version: u32,
    #[serde(borrow)]
    keys: Vec<Entry<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    state: Word,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Pending,
    Primary,
    Retired,
    Revoked,
}

/// Reads a document, or a list of keys.
pub(super) fn parse(text: &str) -> Result<Vec<Member>, KeyError> {
    // Editors of Windows put a byte order mark there.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        return read(text)
            .map_err(|reason| KeyError::Document { path: None, reason: format!("{reason}; {LIKE}") });
    }
    if text.trim().is_empty() {
        return Err(KeyError::Empty);
    }
    let parse = |(i, text): (usize, &str)| {
        text.trim().parse().map_err(|source| KeyError::InList { number: i + 1, source: Box::new(source) })
    };
    listed(text.split(',').enumerate().map(parse).collect::<Result<Vec<Key>, _>>()?)
}

/// The members that a mere list of keys makes.
pub(super) fn listed(keys: impl IntoIterator<Item = Key>) -> Result<Vec<Member>, KeyError> {
    let mut members: Vec<Member> = Vec::new();
    for key in keys {
        check_new(&members, key.id())?;
        let state = match members.is_empty() {
            true => KeyState::Primary,
            false => KeyState::Retired { not_after: None },
        };
        members.push(Member::of(key, state));
    }
    if members.is_empty() { Err(KeyError::Empty) } else { Ok(members) }
}

/// Reads a document. What is wrong with it is told without quoting it, because a slip may have put a key anywhere.
fn read(text: &str) -> Result<Vec<Member>, String> {
    let document: Document<'_> = serde_json::from_str(text)
        .map_err(|e| format!("unexpected content at line {}, column {}", e.line(), e.column()))?;
    if document.version != VERSION {
        return Err(format!("its version is {}, and this library reads {VERSION}", document.version));
    }
    let mut members: Vec<Member> = Vec::new();
    for (i, entry) in document.keys.iter().enumerate() {
        let member = entry.member().map_err(|reason| format!("its key number {} {reason}", i + 1))?;
        check_new(&members, member.id).map_err(|error| error.to_string())?;
        members.push(member);
    }
    match members.iter().filter(|member| member.state == KeyState::Primary).count() {
        1 => Ok(members),
        n => Err(format!("it has {n} primary keys instead of one")),
    }
}

impl Entry<'_> {
    fn member(&self) -> Result<Member, String> {
        let key = self.key.map(Key::read).transpose().map_err(|e| format!("is unusable: {e}"))?;
        let told = self.id.as_deref().map(str::parse::<KeyId>).transpose();
        let told = told.map_err(|e| format!("has an unusable id: {e}"))?;
        let id = match (&key, told) {
            (None, None) => return Err("has neither a key nor an id".into()),
            (None, Some(id)) => id,
            (Some(key), None) => key.id(),
            (Some(key), Some(id)) if key.id() == id => id,
            (Some(key), Some(_)) => return Err(format!("has another id, {}, than it says", key.id())),
        };
        let moment = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => OffsetDateTime::parse(text, &Rfc3339).map(Some).map_err(|_| {
                format!("has a {name} that is no moment of RFC 3339, such as 2027-01-01T00:00:00Z")
            }),
        };
        let not_before = moment("not_before", &self.not_before)?;
        let not_after = moment("not_after", &self.not_after)?;
        let state = match (self.state, not_before, not_after) {
            (Word::Pending, Some(not_before), None) => KeyState::Pending { not_before },
            (Word::Pending, None, _) => return Err("is pending and needs a not_before".into()),
            (Word::Primary, None, None) => KeyState::Primary,
            (Word::Retired, None, not_after) => KeyState::Retired { not_after },
            (Word::Revoked, None, None) => return Ok(Member { id, key: None, state: KeyState::Revoked }),
            (_, Some(_), _) => return Err("has a not_before, which only a pending key has".into()),
            (_, _, Some(_)) => return Err("has a not_after, which only a retired key has".into()),
        };
        match key {
            Some(key) => Ok(Member::of(key, state)),
            None => Err("has no key, which only a revoked one may lack".into()),
        }
    }
}

/// The document of these members.
pub(super) fn write(members: &[Member]) -> Zeroizing<Vec<u8>> {
    let exported: Vec<Option<Zeroizing<String>>> =
        members.iter().map(|member| member.key.as_ref().map(Key::export)).collect();
    // As far as RFC 3339 goes: moments before it have come, and those after it never do.
    let moment =
        |at: OffsetDateTime| at.clamp(EARLIEST, LATEST).to_offset(UtcOffset::UTC).format(&Rfc3339).ok();
    let keys = members.iter().zip(&exported).map(|(member, key)| {
        let (state, not_before, not_after) = match member.state {
            KeyState::Pending { not_before } => (Word::Pending, moment(not_before), None),
            KeyState::Primary => (Word::Primary, None, None),
            KeyState::Retired { not_after } => (Word::Retired, None, not_after.and_then(moment)),
            KeyState::Revoked => (Word::Revoked, None, None),
        };
        let key = key.as_ref().map(|key| key.as_str());
        Entry { id: Some(member.id.to_string()), key, state, not_before, not_after }
    });
    let document = Document { version: VERSION, keys: keys.collect() };
    // Of full length from the start: what a longer one replaces is freed as it is.
    let mut text = Zeroizing::new(Vec::with_capacity(64 + 256 * members.len()));
    serde_json::to_writer_pretty(&mut *text, &document).expect("strings and numbers are JSON");
    text.push(b'\n');
    text
}

pub(super) fn check_new(members: &[Member], id: KeyId) -> Result<(), KeyError> {
    match members.iter().any(|member| member.id == id) {
        true => Err(KeyError::Duplicate { id }),
        false => Ok(()),
    }
}

pub(super) fn find(members: &mut [Member], id: KeyId) -> Result<&mut Member, KeyError> {
    members.iter_mut().find(|member| member.id == id).ok_or(KeyError::NotInRing { id })
}

/// Puts the key in front, wherever it was, and retires the former primary.
pub(super) fn make_primary(members: &mut Vec<Member>, key: Key) {
    members.retain(|member| member.id != key.id());
    for member in members.iter_mut().filter(|member| member.state == KeyState::Primary) {
        member.state = KeyState::Retired { not_after: None };
    }
    members.insert(0, Member::primary(key));
}

/// The pending key whose time comes first.
pub(super) fn next_primary(members: &[Member]) -> Option<Key> {
    let pending = members.iter().filter_map(|member| match member.state {
        KeyState::Pending { not_before } => Some((not_before, member.key.clone()?)),
        _ => None,
    });
    pending.min_by_key(|(not_before, _)| *not_before).map(|(_, key)| key)
}

/// Turns what was written down into what holds at `now`: of the pending keys whose time has come the last one is the
/// primary, those before it are retired, and retired keys past their time are gone.
pub(super) fn settle(members: &mut Vec<Member>, now: Millis) {
    settle_to_keep(members, now);
    members.retain(|member| match member.state {
        KeyState::Retired { not_after: Some(not_after) } => now < Millis::of(not_after),
        _ => true,
    });
}

/// The same for what is written down, where retired keys stay for a while: a slip, or a clock that is days ahead on
/// the machine that changes the file, would otherwise take them for good.
pub(super) fn settle_to_keep(members: &mut Vec<Member>, now: Millis) {
    let came = |member: &Member| match member.state {
        KeyState::Pending { not_before } if Millis::of(not_before) <= now => Some(not_before),
        _ => None,
    };
    let last = members.iter().enumerate().filter_map(|(i, member)| Some((came(member)?, i))).max();
    if let Some((_, last)) = last {
        for (i, member) in members.iter_mut().enumerate() {
            if i == last {
                member.state = KeyState::Primary;
            } else if member.state == KeyState::Primary || came(member).is_some() {
                member.state = KeyState::Retired { not_after: None };
            }
        }
    }
    members.retain(|member| match member.state {
        KeyState::Retired { not_after: Some(not_after) } => now < Millis::of(not_after).plus(KEPT),
        _ => true,
    });
}

/// The next moment at which [`settle`] has something to do.
pub(super) fn next_turn(members: &[Member], now: Millis) -> Millis {
    let turns = members.iter().filter_map(|member| match member.state {
        KeyState::Pending { not_before } => Some(Millis::of(not_before)),
        KeyState::Retired { not_after } => not_after.map(Millis::of),
        KeyState::Primary | KeyState::Revoked => None,
    });
    turns.filter(|at| *at > now).min().unwrap_or(Millis(i64::MAX))
}
