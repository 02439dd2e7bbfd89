//! How long the session lives, and what postpones its end.

use std::time::Duration;

use time::OffsetDateTime;

use super::Session;
use crate::core::clock::Millis;
use crate::core::error::InsertError;
use crate::core::lifetime;
use crate::core::record::Times;
use crate::core::state::Renewal;

impl Session {
    /// Counts the duration from now, and re-issues the cookie.
    pub fn touch(&self) {
        self.if_open("touch", |state| state.renewal = Renewal::Touch);
    }

    /// Keeps this request from prolonging the session, even if it writes: for polling and background requests, which are
    /// no sign of a user. [`touch`](Self::touch) overrides it.
    pub fn skip_renewal(&self) {
        self.if_open("skip_renewal", |state| {
            if state.renewal == Renewal::Auto {
                state.renewal = Renewal::Skip;
            }
        });
    }

    /// Gives this session a duration of its own, counted from now; "remember me". From 1 ms to the builder's
    /// `max_duration`.
    ///
    /// Other limits still apply. Only the default absolute limit gives way to a duration of more than 30 days, but it is
    /// counted from the birth of the session's id ([`Lifetime::absolute`](crate::Lifetime::absolute)). So call this at
    /// login, next to [`authenticate`](Self::authenticate). A duration that is shorter than the session is old ends it that
    /// long from now, or at the limit that the longer one gave it; no use moves that end, and another id gets what is left.
    ///
    /// # Errors
    /// [`InsertError::Duration`] below 1 ms or above the builder's `max_duration`; [`InsertError::Destroyed`],
    /// [`InsertError::Committed`], [`InsertError::CrossSite`].
    pub fn set_duration(&self, duration: Duration) -> Result<(), InsertError> {
        let max = self.limits().terms.max_duration;
        let span = Millis::span(duration);
        self.with(|state| {
            state.check_open()?;
            if span == Millis::ZERO || span > max {
                return Err(InsertError::Duration { duration, max: max.to_duration() });
            }
            state.sets_duration = true;
            let times = &mut state.header.times;
            *times = lifetime::with_own_duration(times, &self.limits().terms, span, state.now);
            Ok(())
        })
    }

    /// Undoes [`set_duration`](Self::set_duration): the configured duration applies, counted from now. For a login
    /// without "remember me" where an earlier one of the same user had it. The default absolute limit of 30 days applies
    /// again too. Without a duration of its own nothing changes.
    pub fn reset_duration(&self) {
        let duration = self.limits().terms.duration;
        self.if_open("reset_duration", |state| {
            state.sets_duration = true;
            let (now, times) = (state.now, &mut state.header.times);
            if times.own {
                *times = Times { anchor: now, duration, own: false, ..*times };
            }
        });
    }

    /// Sets whether browsers keep this session's cookie when they are closed, whatever is configured.
    ///
    /// # Errors
    /// [`InsertError::Destroyed`], [`InsertError::Committed`],
    /// [`InsertError::CrossSite`].
    pub fn set_persistent(&self, persistent: bool) -> Result<(), InsertError> {
        self.with(|state| {
            state.check_open()?;
            state.sets_persistence = true;
            state.header.persistent = Some(persistent);
            Ok(())
        })
    }

    /// The birth of the session's id.
    #[must_use]
    pub fn created_at(&self) -> OffsetDateTime {
        self.with(|state| state.header.times.created_at).to_datetime()
    }

    /// When the session ends if this request is its last use, including what this request prolongs.
    #[must_use]
    pub fn expires_at(&self) -> OffsetDateTime {
        self.with(|state| state.end(self.limits())).to_datetime()
    }

    /// The time from the arrival of this request to [`expires_at`](Self::expires_at).
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.with(|state| state.end(self.limits()).minus(state.now)).to_duration()
    }
}
