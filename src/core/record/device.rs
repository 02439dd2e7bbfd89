//! Whether a session is bound to a device, and to which.

use std::sync::Arc;

use super::NotARecord;

/// Whether a session is bound to a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Device {
    #[default]
    Free,
    /// Its browser was asked for a key.
    Offered,
    /// It is good together with a proof of this key alone.
    Bound(Arc<DeviceKey>),
}

impl Device {
    pub(crate) fn state(&self) -> DeviceState {
        match self {
            Self::Free => DeviceState::Free,
            Self::Offered => DeviceState::Offered,
            Self::Bound(_) => DeviceState::Bound,
        }
    }

    /// The device that it is bound to, if it is.
    pub(crate) fn bound(&self) -> Option<&Arc<DeviceKey>> {
        if let Self::Bound(key) = self { Some(key) } else { None }
    }

    pub(super) fn is_offered(&self) -> bool {
        !matches!(self, Self::Free)
    }

    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Free | Self::Offered => &[],
            Self::Bound(key) => &key.0,
        }
    }

    /// Length of its key; 0: it has none.
    pub(crate) fn key_len(&self) -> usize {
        self.key().len()
    }

    pub(super) fn read(offered: bool, key: &[u8]) -> Result<Self, NotARecord> {
        match (offered, key) {
            (false, []) => Ok(Self::Free),
            (true, []) => Ok(Self::Offered),
            (true, key) => Ok(Self::Bound(Arc::new(DeviceKey::read(key).ok_or(NotARecord)?))),
            (false, _) => Err(NotARecord),
        }
    }
}

/// Whether a session is bound to the device of its browser (`DeviceBinding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceState {
    /// It is not, and nobody has asked for it.
    Free,
    /// It is not yet: its browser was asked for a key. Most cannot make one, and leave it at that.
    Offered,
    /// It is: the cookie is good together with a proof of the device's key alone.
    Bound,
}

impl DeviceState {
    /// A short stable word for logs and JSON: `free`, `offered` or `bound`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Offered => "offered",
            Self::Bound => "bound",
        }
    }
}

/// Length of a [`DeviceKey`] in bytes.
pub(crate) const DEVICE_KEY_LEN: usize = 33;

/// The public key of a device: a point of the curve P-256, compressed (SEC 1, section 2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceKey(pub(crate) [u8; DEVICE_KEY_LEN]);

impl DeviceKey {
    /// The key of these bytes, by their shape: whether the point is one of the curve is asked where a signature is verified.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let key: [u8; DEVICE_KEY_LEN] = bytes.try_into().ok()?;
        matches!(key[0], 2 | 3).then_some(Self(key))
    }
}
