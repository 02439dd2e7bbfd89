//! How a ring follows the time and its source: which keys there are, and what each may do by now.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::document::{self, Member};
use super::file::{KeyFile, Stamp};
use super::ring::{KeyRing, KeySource, KeyState};
use super::{Key, KeyId};
use crate::core::clock::{Clock as _, Millis, SystemClock};
use crate::core::error::KeyError;

/// How often a ring looks whether its keys have changed, unless it is told otherwise.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Shared {
    current: ArcSwap<Snapshot>,
    /// Which snapshot that is, its primary, and whether any key is revoked in it: cheaper to look at than the snapshot.
    edition: AtomicU64,
    primary: AtomicU32,
    revokes: AtomicBool,
    /// The moment from which on [`KeyRing::tick`] has something to do, in milliseconds.
    next: AtomicI64,
    /// The latest moment that the ring was told, and whether by the computer's clock, which can be asked again.
    seen: AtomicI64,
    by_computer: AtomicBool,
    state: Mutex<RingState>,
    /// Whether it follows a file.
    is_file: bool,
}

/// What the ring is told, from which each snapshot follows.
pub(super) struct RingState {
    pub(super) members: Vec<Member>,
    backing: KeyBacking,
    pub(super) interval: Millis,
    /// When the source was last looked at, and last because of an unknown key.
    looked: Millis,
    looked_for_unknown: Option<Millis>,
}

pub(super) enum KeyBacking {
    Memory,
    /// A variable of this name, which was read once.
    Environment(String),
    File {
        file: KeyFile,
        stamp: Option<Stamp>,
    },
    Source(Box<dyn KeySource>),
}

/// What the keys may do at one moment. A change makes a new one, of another edition.
pub(crate) struct Snapshot {
    /// Counts the changes.
    pub(crate) edition: u64,
    /// Those that open, the primary first; never empty.
    pub(crate) keys: Vec<Key>,
    /// Of each whether what it opens is to be re-sealed.
    pub(crate) retired: Vec<bool>,
    pub(crate) revoked: Vec<KeyId>,
}

/// What a look at the source came to.
#[derive(Debug)]
pub(crate) enum Reload {
    Changed,
    Failed(KeyError),
}

impl KeyRing {
    /// The keys as they are now.
    pub(crate) fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.shared.current.load()
    }

    /// Whether a key is there, in whatever state but revoked.
    pub(crate) fn opens(&self, id: KeyId) -> bool {
        self.snapshot().keys.iter().any(|key| key.id() == id)
    }

    /// The edition of the keys as they are now.
    pub(crate) fn edition(&self) -> u64 {
        self.shared.edition.load(Ordering::Acquire)
    }

    pub(super) fn primary_id(&self) -> KeyId {
        KeyId(self.shared.primary.load(Ordering::Acquire).to_be_bytes())
    }

    pub(crate) fn has_revoked(&self, id: KeyId) -> bool {
        self.shared.revokes.load(Ordering::Acquire) && self.snapshot().revoked.contains(&id)
    }

    /// Whether [`tick`](Self::tick) has anything to do at this moment.
    pub(crate) fn has_to_look(&self, now: Millis) -> bool {
        let was_set_back = now.0 < self.shared.seen.load(Ordering::Relaxed);
        now.0 >= self.shared.next.load(Ordering::Relaxed) || was_set_back
    }

    /// Tells the ring what time it is: keys begin to seal and cease to open by it, and the source is looked at by it.
    pub(crate) fn tick(&self, now: Millis, by_computer: bool) -> Option<Reload> {
        if !self.has_to_look(now) {
            return None;
        }
        // Whoever comes meanwhile goes on with the keys that there are.
        let mut state = self.try_state()?;
        self.shared.seen.store(now.0, Ordering::Relaxed);
        self.shared.by_computer.store(by_computer, Ordering::Relaxed);
        state.looked = state.looked.min(now);
        let due = now >= state.looked.plus(state.interval);
        let reload = if due { self.look(&mut state, now, false) } else { None };
        self.publish(&mut state, Some(now));
        reload
    }

    /// Looks for a key that a cookie or a row names and the ring does not know. Anybody can name any key, so nothing is
    /// read for that but a file that has changed, or what the interval allows once more.
    pub(crate) fn look_for_unknown(&self, now: Option<Millis>) -> Option<Reload> {
        let now = now.unwrap_or_else(|| self.now());
        let Some(mut state) = self.try_state() else {
            // Another request looks at this moment, and may find the key. A file is read in no time.
            if self.shared.is_file {
                drop(self.state());
            }
            return None;
        };
        let recently = state.looked_for_unknown.is_some_and(|at| now < at.plus(state.interval) && now >= at);
        match &state.backing {
            KeyBacking::Memory | KeyBacking::Environment(_) => return None,
            KeyBacking::File { file, stamp: Some(stamp) } if file.stamp().ok() == Some(*stamp) => {
                return None;
            }
            KeyBacking::File { stamp: Some(_), .. } => {}
            KeyBacking::File { .. } | KeyBacking::Source(_) if recently => return None,
            KeyBacking::File { .. } | KeyBacking::Source(_) => state.looked_for_unknown = Some(now),
        }
        self.look(&mut state, now, false)
    }

    pub(super) fn with(members: Vec<Member>, backing: KeyBacking) -> Self {
        let now = Millis::of(SystemClock.now());
        let snapshot = Snapshot::of(&members, now);
        let shared = Shared {
            edition: AtomicU64::new(0),
            primary: AtomicU32::new(snapshot.primary()),
            revokes: AtomicBool::new(!snapshot.revoked.is_empty()),
            is_file: matches!(backing, KeyBacking::File { .. }),
            current: ArcSwap::from_pointee(snapshot),
            next: AtomicI64::new(i64::MIN),
            seen: AtomicI64::new(i64::MIN),
            by_computer: AtomicBool::new(true),
            state: Mutex::new(RingState {
                members,
                backing,
                interval: Millis::span(RELOAD_INTERVAL),
                looked: now,
                looked_for_unknown: None,
            }),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, RingState> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, unless somebody else has it. A source that panicked has left nothing half done.
    fn try_state(&self) -> Option<MutexGuard<'_, RingState>> {
        match self.shared.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// By the clock of the sessions that use the ring, once there are any.
    pub(super) fn now(&self) -> Millis {
        match self.shared.by_computer.load(Ordering::Relaxed) {
            true => Millis::of(SystemClock.now()),
            false => Millis(self.shared.seen.load(Ordering::Relaxed)),
        }
    }

    /// Reads the keys anew where they have changed. What cannot be read leaves the ring as it is.
    pub(super) fn look(&self, state: &mut RingState, now: Millis, thoroughly: bool) -> Option<Reload> {
        state.looked = now;
        let read = match &mut state.backing {
            KeyBacking::Memory | KeyBacking::Environment(_) => return None,
            KeyBacking::File { file, stamp } => {
                if !thoroughly && stamp.is_some() && file.stamp_as_opened().ok() == *stamp {
                    return None;
                }
                // What was wrong with it is told again at each look.
                *stamp = None;
                file.read().map(|(members, new)| {
                    *stamp = Some(new);
                    members
                })
            }
            KeyBacking::Source(source) => asked(&**source),
        };
        match read {
            Ok(members) if members == state.members => None,
            Ok(members) => {
                state.members = members;
                self.publish(state, Some(now));
                Some(Reload::Changed)
            }
            Err(error) => Some(Reload::Failed(error)),
        }
    }

    /// Makes what the state says be seen, where that is something new.
    pub(super) fn publish(&self, state: &mut RingState, now: Option<Millis>) {
        let now = now.unwrap_or_else(|| self.now());
        let mut snapshot = Snapshot::of(&state.members, now);
        let former = self.shared.current.load();
        if !snapshot.is_like(&former) {
            snapshot.edition = former.edition + 1;
            let (edition, revokes) = (snapshot.edition, !snapshot.revoked.is_empty());
            let primary = snapshot.primary();
            self.shared.current.store(Arc::new(snapshot));
            self.shared.primary.store(primary, Ordering::Release);
            self.shared.revokes.store(revokes, Ordering::Release);
            self.shared.edition.store(edition, Ordering::Release);
        }
        if self.shared.seen.load(Ordering::Relaxed) == i64::MIN {
            // By whose clock it will go is not known yet; the first tick will tell.
            return;
        }
        let look = match state.backing {
            KeyBacking::Memory | KeyBacking::Environment(_) => Millis(i64::MAX),
            KeyBacking::File { .. } | KeyBacking::Source(_) => state.looked.plus(state.interval),
        };
        self.shared.next.store(document::next_turn(&state.members, now).min(look).0, Ordering::Relaxed);
    }

    pub(super) fn change(
        &self,
        edit: impl FnOnce(&mut Vec<Member>) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        let mut state = self.state();
        let now = self.now();
        let edit = |mut members: Vec<Member>| {
            document::settle_to_keep(&mut members, now);
            edit(&mut members)?;
            Ok(members)
        };
        match &mut state.backing {
            KeyBacking::Memory => state.members = edit(state.members.clone())?,
            KeyBacking::File { file, stamp } => {
                let (members, new) = file.edit(edit)?;
                *stamp = Some(new);
                state.members = members;
            }
            KeyBacking::Environment(name) => {
                return Err(KeyError::ReadOnlyEnvironment { name: name.clone() });
            }
            KeyBacking::Source(source) => {
                return Err(KeyError::ReadOnly { source_name: source.name().to_owned() });
            }
        }
        self.publish(&mut state, Some(now));
        Ok(())
    }
}

pub(super) fn asked(source: &dyn KeySource) -> Result<Vec<Member>, KeyError> {
    let asked =
        catch_unwind(AssertUnwindSafe(|| source.load())).unwrap_or_else(|_| Err("it panicked".into()));
    document::parse(&asked.map_err(|source| KeyError::Source { source })?)
}

impl Snapshot {
    fn primary(&self) -> u32 {
        u32::from_be_bytes(self.keys[0].id().0)
    }

    fn of(members: &[Member], now: Millis) -> Self {
        let mut members = members.to_vec();
        document::settle(&mut members, now);
        let rank = |member: &&Member| member.state != KeyState::Primary;
        let mut snapshot = Self { edition: 0, keys: Vec::new(), retired: Vec::new(), revoked: Vec::new() };
        let (first, others): (Vec<_>, Vec<_>) = members.iter().partition(|member| !rank(member));
        for member in first.into_iter().chain(others) {
            match &member.key {
                Some(key) => {
                    snapshot.keys.push(key.clone());
                    snapshot.retired.push(matches!(member.state, KeyState::Retired { .. }));
                }
                None => snapshot.revoked.push(member.id),
            }
        }
        snapshot
    }

    fn is_like(&self, other: &Self) -> bool {
        self.keys == other.keys && self.retired == other.retired && self.revoked == other.revoked
    }
}
