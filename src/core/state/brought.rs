//! What a request brings: the session of the cookie that is taken, its row, and the cookies beside it; and when it came.

use std::sync::Arc;

use super::{Replaced, State};
use crate::core::clock::Millis;
use crate::core::key::KeyId;
use crate::core::lifetime::Due;
use crate::core::record::{DeviceKey, Header};
use crate::core::row_name::{Ancestry, Revision};

/// A response later than this carries no cookie that only prolongs, because a newer one may have been set meanwhile.
const SLOW: Millis = Millis(500);

/// What was loaded from the request's cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) header: Header,
    pub(crate) due: Option<Due>,
    /// The key that had sealed it.
    pub(crate) key_id: KeyId,
    /// Whether that key is retired.
    pub(crate) retired_key: bool,
}

/// The row of a session, as it was when last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadedRow {
    pub(crate) revision: Revision,
    pub(crate) ancestry: Ancestry,
    pub(crate) expires_at: Millis,
    /// The highest counter of a cookie that is known to have led to it.
    pub(crate) counter: u32,
    /// The device that the session is bound to, as far as the row says.
    pub(crate) device: Option<Arc<DeviceKey>>,
    /// Whether a retired key had sealed it.
    pub(crate) retired_key: bool,
}

/// The cookies of our name that a request carries beside the one that is taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Besides {
    /// Live ones, of other sessions.
    pub(crate) others: Vec<Header>,
    /// A refused one that stays in the browser: its value, or the id of the session that is over.
    pub(crate) refused: Option<Box<[u8]>>,
    /// The session of a cookie that is refused because the session is over.
    pub(crate) over: Option<Box<Header>>,
    /// What the session is to be called in the list of its subject's.
    pub(crate) label: Option<Box<str>>,
    /// The session that is bound to a device of which there was no proof.
    pub(crate) unproven: Option<Unproven>,
    /// The session of a cookie that was refused because one of a subject took its place.
    pub(crate) replaced: Option<Replaced>,
}

/// A session whose device did not prove itself.
#[derive(Debug, Clone)]
pub(crate) struct Unproven {
    pub(crate) session: Box<Loaded>,
    /// None: it was to have one by now, or it is not known which.
    pub(crate) key: Option<Arc<DeviceKey>>,
}

impl State {
    /// Whether the answer comes so late that the browser may have a newer cookie by now.
    pub(crate) fn is_late(&self, now: Millis) -> bool {
        now.minus(self.now) > SLOW || self.arrived.is_some_and(|at| at.elapsed() > SLOW.to_duration())
    }
}
