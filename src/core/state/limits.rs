//! What bounds a session, and whether it fits its place.

use std::sync::Arc;

use crate::core::clock::Millis;
use crate::core::entries::Entries;
use crate::core::envelope::{self, RowSealer};
use crate::core::error::InsertError;
use crate::core::lifetime::{self, Terms};
use crate::core::record::{self, Device, DeviceKey, Extent, Times};

/// What bounds a session, as numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) terms: Terms,
    pub(crate) rolling: bool,
    /// Tells the sessions of one `Sessions` from those of another.
    pub(crate) owner: u64,
    /// Length of the device key that a session may get at any time; 0: it gets none.
    pub(crate) device_key: usize,
    /// Length of the cookie's name.
    pub(crate) name_len: usize,
    /// The most that name + value may come to, and the longest plaintext that respects it.
    pub(crate) max_name_value: usize,
    pub(crate) max_plaintext: usize,
    /// With a store: what it changes.
    pub(crate) stored: Option<StoreLimits>,
}

/// What bounds the cookie and the row of a session that may live in a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreLimits {
    /// The name + value from which on a session spills; 0: whatever has an entry.
    pub(crate) spill_above: usize,
    /// The response head from which on it does.
    pub(crate) head_budget: usize,
    /// The most that a row may have.
    pub(crate) max_row: usize,
}

impl StoreLimits {
    pub(crate) fn check(&self, row: usize) -> Result<(), InsertError> {
        if row <= self.max_row {
            return Ok(());
        }
        Err(InsertError::TooLarge { size: row, limit: self.max_row })
    }
}

impl Limits {
    /// Length of a record with these, and with room for a device key wherever a session may come to one, or has one from
    /// where sessions are bound.
    pub(super) fn encoded_len(&self, subject: Option<&str>, device: &Device, entries: Extent) -> usize {
        record::encoded_len(subject, self.device_key.max(device.key_len()), entries)
    }

    /// Likewise, of the row that they make.
    pub(crate) fn row_len(&self, device_key: usize, entries: Extent) -> usize {
        RowSealer::sealed_len(record::encoded_row_len(self.device_key.max(device_key), entries))
    }

    /// Whether a session that is found to be bound to this device is elsewhere, for a request that is known to come from those. It gets
    /// nothing of the session then, and may not end it.
    pub(crate) fn is_elsewhere(&self, found: Option<&Arc<DeviceKey>>, ours: &[&Device]) -> bool {
        let binds = self.device_key != 0;
        binds && found.is_some_and(|key| ours.iter().all(|own| own.bound() != Some(key)))
    }

    pub(super) fn reference_len(&self, subject: Option<&str>, device: &Device) -> usize {
        self.encoded_len(subject, device, Extent::default())
    }

    /// Whether a session of this subject with these entries fits its place.
    pub(super) fn check_subject(
        &self,
        subject: &str,
        device: &Device,
        entries: &Entries,
    ) -> Result<(), InsertError> {
        let alone = self.reference_len(Some(subject), device);
        if alone > self.max_plaintext {
            let (size, limit) = (self.name_value(alone), self.max_name_value);
            return Err(InsertError::SubjectTooLong { size, limit });
        }
        match self.stored {
            None => self.check(self.encoded_len(Some(subject), device, entries.extent())),
            Some(_) => Ok(()),
        }
    }

    /// Whether a session with so much of entries fits its place. One that came larger than is permitted by now may become
    /// smaller step by step, if only it fits its cookie as it is.
    pub(super) fn check_extent(
        &self,
        (subject, device, row_key): (Option<&str>, &Device, usize),
        extent: Extent,
        present: Extent,
    ) -> Result<(), InsertError> {
        let checked = match self.stored {
            None => self.check(self.encoded_len(subject, device, extent)),
            Some(stored) => stored.check(self.row_len(row_key, extent)),
        };
        let alone = |extent| record::encoded_len(None, 0, extent);
        let fits = || {
            self.stored.is_some()
                || record::encoded_len(subject, device.key_len(), extent) <= self.max_plaintext
        };
        checked.or_else(|error| if alone(extent) <= alone(present) && fits() { Ok(()) } else { Err(error) })
    }

    /// For how long one use of a session lets the next one wait.
    pub(crate) fn use_span(&self, times: &Times) -> Millis {
        match (self.rolling, self.terms.idle) {
            (true, idle) => lifetime::duration(times, &self.terms).min(idle.unwrap_or(Millis(i64::MAX))),
            (false, Some(idle)) => idle,
            (false, None) => lifetime::active(times, &self.terms),
        }
    }

    pub(crate) fn check(&self, plaintext: usize) -> Result<(), InsertError> {
        if plaintext <= self.max_plaintext {
            return Ok(());
        }
        Err(InsertError::TooLarge { size: self.name_value(plaintext), limit: self.max_name_value })
    }

    pub(crate) fn name_value(&self, plaintext: usize) -> usize {
        self.name_len + envelope::sealed_len(plaintext)
    }
}
