//! What is left of a session that is over because one of a subject took its place: a login as the same subject, sent twice or
//! again, takes it up.

use super::{Limits, Loaded, State};
use crate::core::entries::Entries;
use crate::core::lifetime;
use crate::core::record::{Extent, Header, SubjectTag, Times};

/// A session that is over because one of a subject took its place: what is left for whoever logs in as the same.
#[derive(Debug, Clone)]
pub(crate) struct Replaced {
    pub(crate) session: Box<Loaded>,
    /// Without those that this request has removed since.
    pub(crate) entries: Entries,
    pub(crate) by: SubjectTag,
}

impl State {
    /// This session with what its cookie held, whose session is over because one of this subject took its place: the login is
    /// sent twice, or the answer to the first was lost. `None`: nothing of the kind, or nothing for them.
    pub(crate) fn with_replaced(&self, subject: &str, limits: &Limits) -> Option<Self> {
        let Replaced { session, entries, by } = self.besides.as_ref()?.replaced.as_ref()?;
        let Header { times, persistent, .. } = session.header;
        let former = session.header.subject.as_deref();
        let is_theirs = *by == SubjectTag::of(subject) && former.is_none_or(|former| former == subject);
        if self.loaded.is_some() || self.header.subject.is_some() || !is_theirs {
            return None;
        }
        let mut state = self.clone();
        // What this request has changed goes over it.
        state.entries = entries.settled();
        state.entries.replay(&self.entries).ok()?;
        let extent = state.entries.extent();
        limits.check_extent((Some(subject), &state.header.device, 0), extent, Extent::default()).ok()?;
        if times.own && !state.sets_duration {
            state.header.times = times;
        }
        if !state.sets_persistence {
            state.header.persistent = persistent;
        }
        state.loaded = Some(session.clone());
        Some(state)
    }

    /// Forgets what was loaded, or taken up, because that session is over. What this request has set stays, and says how long the
    /// session lasts, and where: nothing of the former one's does.
    pub(crate) fn start_empty(&mut self, limits: &Limits) {
        self.entries = self.entries.over_nothing();
        if let Some(besides) = &mut self.besides {
            besides.replaced = None;
        }
        if !self.sets_duration {
            let plain = Times { own: false, duration: limits.terms.duration, ..self.header.times };
            self.header.times = lifetime::sealed(&plain, &limits.terms);
        }
        if !self.sets_persistence {
            self.header.persistent = None;
        }
    }

    /// Removes an entry, also of what would be taken up; whether there was one to be seen.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        if let Some(replaced) = self.besides.as_mut().and_then(|besides| besides.replaced.as_mut()) {
            replaced.entries.remove(key);
        }
        self.entries.remove(key)
    }
}
