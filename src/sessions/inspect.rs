//! What a cookie says about itself.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Core, Sessions};
use crate::core::candidates::{self, Candidate};
use crate::core::clock::Millis;
use crate::core::cookie::unquoted;
use crate::core::error::Rejection;
use crate::core::key::KeyId;
use crate::core::lifetime;
use crate::core::record::{DeviceState, Header, Place, SessionId};
use crate::core::session::Placement;
use crate::core::state::Loaded;

/// What a cookie says about itself, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The session's id.
    pub id: SessionId,
    /// The key that sealed the cookie.
    pub key_id: KeyId,
    /// Whether that key is retired, so that the next request re-seals the session.
    pub retired_key: bool,
    /// How often a cookie of this id has been issued.
    pub counter: u32,
    /// The birth of the session's id.
    pub created_at: OffsetDateTime,
    /// When the cookie was sealed.
    pub sealed_at: OffsetDateTime,
    /// When the session ends if nobody uses it.
    pub expires_at: OffsetDateTime,
    /// When the duration is over, which activity postpones.
    pub duration_ends_at: OffsetDateTime,
    /// When the absolute limit comes; `None` [without one](crate::Lifetime::without_absolute).
    pub absolute_ends_at: Option<OffsetDateTime>,
    /// When the idle limit comes, if there is one.
    pub idle_ends_at: Option<OffsetDateTime>,
    /// The session's own duration, if it has one.
    pub own_duration: Option<Duration>,
    /// The session's own persistence, if it has one.
    pub own_persistence: Option<bool>,
    /// Whose session it is.
    pub subject: Option<String>,
    /// When the subject was last authenticated; `None`: never.
    pub authenticated_at: Option<OffsetDateTime>,
    /// Whether the session is bound to a device. Another cookie says whether the device has proved itself.
    pub device: DeviceState,
    /// Where the data is, and in either case the size of the cookie's name + value: the store is not asked.
    pub placement: Placement,
    /// The keys of the entries, in ascending order; none where they are in the store.
    pub keys: Vec<String>,
}

impl Sessions {
    /// What a cookie's value says about itself, now. As in a `Cookie` header, it may stand in double quotes.
    ///
    /// # Errors
    /// The [`Rejection`] that a request with this cookie would meet.
    pub fn inspect(&self, cookie_value: impl AsRef<[u8]>) -> Result<Inspection, Rejection> {
        let now = self.now();
        let value = unquoted(cookie_value.as_ref());
        let Core { sealer, limits, .. } = &*self.core;
        let candidate =
            candidates::judge(value, sealer, &limits.terms, now).map_err(|refusal| refusal.reason)?;
        let Candidate { loaded, entries } = candidate;
        let Loaded { header, key_id, retired_key, .. } = *loaded;
        let Header { id, counter, times, persistent, subject, place, authenticated_at, device, .. } = header;
        let bytes = limits.name_len + value.len();
        let end = lifetime::end_as_sealed(&times, &limits.terms, now);
        Ok(Inspection {
            id,
            key_id,
            retired_key,
            counter,
            created_at: times.created_at.to_datetime(),
            sealed_at: times.sealed_at.to_datetime(),
            expires_at: end.to_datetime(),
            duration_ends_at: lifetime::duration_end(&times, &limits.terms, now).to_datetime(),
            absolute_ends_at: lifetime::absolute_end(&times, &limits.terms).map(Millis::to_datetime),
            idle_ends_at: limits.terms.idle.map(|span| times.sealed_at.plus(span).to_datetime()),
            own_duration: times.own.then(|| times.duration.to_duration()),
            own_persistence: persistent,
            subject: subject.as_deref().map(str::to_owned),
            authenticated_at: (authenticated_at != Millis::ZERO).then(|| authenticated_at.to_datetime()),
            device: device.state(),
            placement: match place {
                Place::Cookie => Placement::Cookie { bytes },
                Place::Store => Placement::Store { bytes },
            },
            keys: entries.iter().map(|(key, _)| key.to_owned()).collect(),
        })
    }
}
