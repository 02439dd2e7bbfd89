//! What a store brings: revocation, the lists of subjects' sessions, and the limits of what is kept there.

use std::time::Duration;

use super::SessionsBuilder;
use crate::core::browser::MAX_NAME_VALUE_BYTES;
use crate::core::envelope::{RowSealer, sealed_len};
use crate::core::error::ConfigError;
use crate::core::record;
use crate::core::state::StoreLimits;
use crate::store::revocation::{FailurePolicy, Revocation, Revoking};
use crate::store::roster::{MAX_LINES, Roster, row_for};

/// The name + value from which on a session spills: what leaves a quarter of a browser's limit to other growth, and
/// lets a usual response head stay below [`HEAD_BUDGET`].
const SPILL_ABOVE: usize = 3_072;
/// nginx reads a response head into one page of memory by default (`proxy_buffer_size`).
const HEAD_BUDGET: usize = 4_096;
/// A head of less than this has no room for a reference beside the usual headers.
const MIN_HEAD_BUDGET: usize = 512;
const MAX_HEAD_BUDGET: usize = 1 << 20;
const MAX_STORED: usize = 1 << 20;
/// Less would be no more than a cookie holds.
const MIN_MAX_STORED: usize = 8_192;
/// MongoDB's documents have at most 16 MiB.
const MAX_MAX_STORED: usize = 15 << 20;
const REVOCATION_EVERY: Duration = Duration::from_secs(60);
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_STORE_TIMEOUT: Duration = Duration::from_secs(60);

impl SessionsBuilder {
    pub(super) fn revoking(&self) -> Result<Option<Revoking>, ConfigError> {
        if self.store.is_none() {
            return match (self.revocation, self.revocation_failure) {
                (None | Some(Revocation::Off), None) => Ok(None),
                (None | Some(Revocation::Off), Some(_)) => {
                    Err(ConfigError::NeedsStore { setting: "revocation_failure" })
                }
                (Some(_), _) => Err(ConfigError::NeedsStore { setting: "revocation" }),
            };
        }
        let every = self.revocation.unwrap_or(Revocation::Every(REVOCATION_EVERY)).interval()?;
        let on_failure = self.revocation_failure.unwrap_or(FailurePolicy::Open);
        Ok(every.map(|every| Revoking::new(every, on_failure)))
    }

    /// The lists of subjects' sessions, if there are any.
    pub(super) fn listed(&self, revokes: bool) -> Result<Option<Roster>, ConfigError> {
        let setting = match (self.max_sessions, self.roster) {
            (Some(_), _) => Some("max_sessions"),
            (None, Some(true)) => Some("roster"),
            (None, _) => None,
        };
        let because = match (revokes, self.roster) {
            (_, Some(false)) => Some("roster(false)"),
            (false, _) => Some("revocation(Revocation::Off)"),
            (true, _) => None,
        };
        match (setting, because) {
            (Some(setting), _) if self.store.is_none() => return Err(ConfigError::NeedsStore { setting }),
            (Some(setting), Some(because)) => return Err(ConfigError::NeedsRoster { setting, because }),
            (None, Some(_)) => return Ok(None),
            (_, None) => {}
        }
        if let Some((value, _)) = self.max_sessions {
            let (setting, min, max) = ("max_sessions", 1, MAX_LINES);
            if !(min..=max).contains(&value) {
                return Err(ConfigError::Count { setting, value, min, max });
            }
            let (room, min) =
                (self.max_stored_bytes.unwrap_or(MAX_STORED), RowSealer::sealed_len(row_for(value)));
            if room < min {
                let (setting, value, max) = ("max_stored_bytes", room, MAX_MAX_STORED);
                return Err(ConfigError::Bytes { setting, value, min, max });
            }
        }
        let every = self.revocation.unwrap_or(Revocation::Every(REVOCATION_EVERY)).interval()?;
        Ok(Some(Roster::new(self.max_sessions, every.unwrap_or_default())))
    }

    /// What a store changes about a session's limits, and how long it is waited for.
    pub(super) fn stored(&self) -> Result<(Option<StoreLimits>, Duration), ConfigError> {
        let bytes = |setting, value: Option<usize>, default, min, max| match value.unwrap_or(default) {
            value if (min..=max).contains(&value) => Ok(value),
            value => Err(ConfigError::Bytes { setting, value, min, max }),
        };
        let empty = record::encoded_len(None, 0, record::Extent::default());
        let smallest = self.cookie.name.len() + sealed_len(empty);
        let head_budget = bytes(
            "response_head_budget",
            self.response_head_budget,
            HEAD_BUDGET,
            MIN_HEAD_BUDGET,
            MAX_HEAD_BUDGET,
        )?;
        let most = head_budget - MIN_HEAD_BUDGET;
        let reserve = bytes("response_head_reserve", self.response_head_reserve, 0, 0, most)?;
        let given = self.spill_above.filter(|above| *above != 0);
        let spill_above = bytes("spill_above", given, SPILL_ABOVE, smallest, MAX_NAME_VALUE_BYTES)?;
        let always = self.spill_above == Some(0) || spill_above == smallest;
        let limits = StoreLimits {
            // What is padded to the size of an empty session is no empty session.
            spill_above: if always { 0 } else { spill_above },
            head_budget: head_budget - reserve,
            max_row: bytes(
                "max_stored_bytes",
                self.max_stored_bytes,
                MAX_STORED,
                MIN_MAX_STORED,
                MAX_MAX_STORED,
            )?,
        };
        let timeout = self.store_timeout.unwrap_or(STORE_TIMEOUT);
        let min = Duration::from_millis(1);
        if timeout < min || timeout > MAX_STORE_TIMEOUT {
            let (setting, max) = ("store_timeout", MAX_STORE_TIMEOUT);
            return Err(ConfigError::OutOfRange { setting, value: timeout, min, max });
        }
        if self.store.is_some() {
            return Ok((Some(limits), timeout));
        }
        let settings = [
            ("spill_above", self.spill_above.is_some()),
            ("response_head_budget", self.response_head_budget.is_some()),
            ("response_head_reserve", self.response_head_reserve.is_some()),
            ("max_stored_bytes", self.max_stored_bytes.is_some()),
            ("store_timeout", self.store_timeout.is_some()),
        ];
        match settings.into_iter().find(|(_, set)| *set) {
            Some((setting, _)) => Err(ConfigError::NeedsStore { setting }),
            None => Ok((None, timeout)),
        }
    }
}
