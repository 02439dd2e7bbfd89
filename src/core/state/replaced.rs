//! What is left of a session that is over because one of a subject took its place: a login as the same subject, sent twice or
//! again, takes it up.

use super::{Limits, Loaded, State};
use crate::core::entries::Entries;
use crate::core::lifetime;
use crate::core::record::{Extent, SubjectTag, Times};

/// A session that is over because one of a subject took its place: what is left for whoever logs in as the same.
#[derive(Debug, Clone)]
pub(crate) struct Replaced {
    pub(crate) session: Box<Loaded>,
    /// Without those that this request has removed since.
    pub(crate) entries: Entries,
    /// A duration of its own, unless this request has set or reset one.
    pub(crate) own: Option<Times>,
    /// What was said of its persistence, unless this request says it.
    pub(crate) persistent: Option<bool>,
    pub(crate) by: SubjectTag,
}

impl State {
    /// This session with what its cookie held, whose session is over because one of this subject took its place: the login is
    /// sent twice, or the answer to the first was lost. `None`: nothing of the kind, or nothing for them.
    pub(crate) fn with_replaced(&self, subject: &str, limits: &Limits) -> Option<Self> {
        let Replaced { session, entries, own, persistent, by } = self.besides.as_ref()?.replaced.as_ref()?;
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
        if let (Some(own), false) = (own, state.header.times.own) {
            state.header.times = *own;
        }
        state.header.persistent = state.header.persistent.or(*persistent);
        state.loaded = Some(session.clone());
        Some(state)
    }

    /// Forgets what was loaded, because that session is over. What this request has set stays; what it would have of one that was taken
    /// up, which has been ended for good, does not.
    pub(crate) fn start_empty(&mut self, limits: &Limits) {
        self.entries = self.entries.over_nothing();
        let Some(Replaced { own, persistent, .. }) =
            self.besides.as_mut().and_then(|besides| besides.replaced.take())
        else {
            return;
        };
        if own.is_some() {
            let plain = Times { own: false, duration: limits.terms.duration, ..self.header.times };
            self.header.times = lifetime::sealed(&plain, &limits.terms);
        }
        if persistent.is_some() {
            self.header.persistent = None;
        }
    }

    /// What would be taken up.
    pub(crate) fn replaced_mut(&mut self) -> Option<&mut Replaced> {
        self.besides.as_mut()?.replaced.as_mut()
    }

    /// Removes an entry, also of what would be taken up; whether there was one to be seen.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        if let Some(replaced) = self.replaced_mut() {
            replaced.entries.remove(key);
        }
        self.entries.remove(key)
    }
}
