//! Answers that come late: what need not be issued any more, and what must not.

use super::Action;
use crate::clock::Millis;
use crate::lifetime;
use crate::sessions::{CommitContext, Inner};
use crate::state::{Reissue, State};

/// An answer later than this carries no cookie that only prolongs, because a newer one may have been set meanwhile.
const SLOW: Millis = Millis(500);

impl Inner {
    /// Whether the key that had sealed the session was revoked since this request began. What it had sealed must not go
    /// on under another one.
    pub(super) fn is_disowned(&self, state: &State) -> bool {
        state.loaded.as_ref().is_some_and(|loaded| self.sealer.ring().has_revoked(loaded.key_id))
    }

    /// Takes nothing along that a key had sealed which is revoked by now, where a login makes it another session.
    pub(super) fn leave_behind(&self, state: &mut State) {
        if state.authenticated && self.is_disowned(state) {
            state.start_empty();
        }
    }

    /// Whether this process knows that the session is over, so that no late answer puts its cookie over a newer one.
    pub(super) fn is_known_to_be_over(&self, state: &State, now: Millis) -> bool {
        self.revoking.as_ref().zip(state.loaded.as_ref()).is_some_and(|(revoking, loaded)| {
            loaded.header.id == state.header.id && revoking.is_ended(loaded.header.id, now) == Some(true)
        })
    }

    /// What remains of an action if a mere prolongation can wait for the next request.
    pub(super) fn in_time(
        &self,
        state: &State,
        action: Action,
        context: &CommitContext,
        now: Millis,
    ) -> Action {
        match action {
            Action::Issue(reissue) | Action::Spill(reissue) | Action::Extend(reissue)
                if self.may_wait(state, reissue, context, now) =>
            {
                Action::Keep
            }
            Action::Write(reissue) if self.may_wait(state, reissue, context, now) => {
                if state.differs_from_row() { Action::Write(Reissue::No) } else { Action::Keep }
            }
            action => action,
        }
    }

    /// Whether the session need not be prolonged now, and better is not: the answer came so late that a newer cookie
    /// may have been set meanwhile, or the cookie would make the response head too large.
    pub(super) fn may_wait(
        &self,
        state: &State,
        reissue: Reissue,
        context: &CommitContext,
        now: Millis,
    ) -> bool {
        if reissue != Reissue::Mere {
            return false;
        }
        let terms = &self.limits.terms;
        let (end, _) = lifetime::first_end(&state.header.times, terms, now);
        // For how long one use lets the next one wait.
        let times = &state.header.times;
        let span = match (self.limits.rolling, terms.idle) {
            (true, idle) => lifetime::duration(times, terms).min(idle.unwrap_or(Millis(i64::MAX))),
            (false, idle) => lifetime::active(times, terms).max(idle.unwrap_or(Millis::ZERO)),
        };
        let absolute = lifetime::absolute_end(times, terms).map_or(span, |end| end.minus(times.created_at));
        let spare = Millis(span.min(absolute).0 / 2);
        let name_value = self.limits.name_value(state.plaintext_len());
        let is_late = now.minus(state.now) > SLOW;
        // Near the absolute end a cookie moves nothing any more.
        let gains = lifetime::first_end(&state.sealed_times(&self.limits, now), terms, now).0 > end;
        (end.minus(now) > spare || !gains) && (is_late || self.head_overrun(name_value, context).is_some())
    }
}
