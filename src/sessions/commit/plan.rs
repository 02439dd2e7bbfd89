//! What a response has to do about the session: the one decision, made from what is known without asking.

use crate::core::clock::Millis;
use crate::core::device::Binder;
use crate::core::key::KeyId;
use crate::core::lifetime::{self, Due};
use crate::core::record::{Header, Place};
use crate::core::state::{CookieStep, Renewal, Stage, State};
use crate::sessions::{CommitContext, Core};

/// What stands in the response head around the value of `Set-Cookie`, and the lines that forbid caching it.
const SET_COOKIE_LINE: usize = "set-cookie: \r\n".len();
const CACHE_LINES: usize = "vary: Cookie\r\ncache-control: no-store\r\n".len();

/// What a commit goes by from its plan to its cookie, whatever the clock and the ring say meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Millis,
    pub(super) primary: KeyId,
    pub(super) context: CommitContext,
}

/// A step at the row, then one at the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) row: RowStep,
    pub(super) cookie: CookieStep,
    /// The key that the cookie came under, if it is to stay under that instead of the primary.
    pub(super) former_key: Option<KeyId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowStep {
    /// The row stays as it is, or there is none.
    Leave,
    /// The session moves into a new row.
    Create,
    /// The session's changes are applied to the row.
    Write,
    /// The row lives longer.
    Extend,
    /// A row is made that says which device a session in its cookie is bound to.
    Bind,
    /// The session is put where it belongs under its new id, then the row of its former id is ended.
    Replace,
    /// The row is ended, or one is made that says so.
    End,
}

impl Plan {
    pub(super) const NOTHING: Self = Self::new(RowStep::Leave, CookieStep::Leave);

    const fn new(row: RowStep, cookie: CookieStep) -> Self {
        Self { row, cookie, former_key: None }
    }

    pub(super) fn of(core: &Core, state: &State, context: &CommitContext) -> Self {
        let stored = state.row.is_some();
        // While revocation is on, a row says that a session is over even if it never had one.
        let has_end = stored || state.loaded.as_ref().is_some_and(|loaded| core.can_end(&loaded.header));
        let ends_others = || state.others().iter().any(|other| core.can_end(other));
        match state.stage {
            Stage::Committed | Stage::Detached | Stage::Foreign => return Self::NOTHING,
            // Of a session without a proof nothing was loaded, unless a login took it over. So it is not ended, which could be a
            // thief's wish; but this browser forgets it.
            Stage::Destroyed if has_end || ends_others() => {
                return Self::new(RowStep::End, CookieStep::Remove);
            }
            Stage::Destroyed if state.cookies > 0 => return Self::new(RowStep::Leave, CookieStep::Remove),
            Stage::Destroyed => return Self::NOTHING,
            _ if state.is_unproven() => return Self::NOTHING,
            Stage::Open => {}
        }
        // A user who has authenticated gets a session without anything that was loaded.
        if core.is_disowned(state) && !state.authenticated {
            return Self::NOTHING;
        }
        if has_end && state.is_renewed() {
            return Self::new(RowStep::Replace, CookieStep::Issue);
        }
        // The refused cookie may be good on another node, and a newer one may be in its place by now.
        if state.is_empty() && state.loaded.is_none() && state.leaves_refused() {
            return Self::NOTHING;
        }
        if core.is_worthless(state) {
            let removes = state.loaded.is_some() || state.remove_refused;
            // A row that was empty before may have been filled by another request by now.
            return match (removes, stored) {
                (true, true) if state.saved => Self::new(RowStep::Write, CookieStep::Leave),
                (true, true) => Self::new(RowStep::Write, CookieStep::Leave).if_row_differs(state),
                (true, false) => Self::new(RowStep::Leave, CookieStep::Remove),
                (false, _) => Self::NOTHING,
            };
        }
        let mut cookie = state.cookie_step(&core.limits);
        if stored && state.from_pre_spill_cookie && (state.differs_from_row() || state.saved) {
            cookie = CookieStep::Issue;
        }
        if stored && (state.differs_from_row() || state.has_retired_key()) {
            return Self::new(RowStep::Write, cookie);
        }
        match cookie {
            CookieStep::Leave => Self::NOTHING,
            cookie if stored => Self::new(RowStep::Extend, cookie),
            cookie => Self::placed(core, state, cookie, context),
        }
    }

    /// Into the cookie, or into the store.
    pub(super) fn placed(core: &Core, state: &State, cookie: CookieStep, context: &CommitContext) -> Self {
        match core.place(state, context) {
            Place::Cookie if core.revoking.is_some() && state.is_being_bound() => {
                Self::new(RowStep::Bind, cookie)
            }
            Place::Cookie => Self::new(RowStep::Leave, cookie),
            Place::Store => Self::new(RowStep::Create, cookie),
        }
    }

    fn if_row_differs(self, state: &State) -> Self {
        if state.differs_from_row() { self } else { Self::NOTHING }
    }

    /// What remains where the cookie stays as it is.
    pub(super) fn without_cookie(self, state: &State) -> Self {
        match self.row {
            RowStep::Write => Self { cookie: CookieStep::Leave, ..self }.if_row_differs(state),
            _ => Self::NOTHING,
        }
    }

    /// What remains if a mere prolongation can wait for the next request, and the removal of a cookie that was refused: a login
    /// may have put another one in its place meanwhile.
    pub(super) fn in_time(self, core: &Core, state: &State, moment: &Moment) -> Self {
        let removes_refused =
            self.cookie == CookieStep::Remove && state.stage == Stage::Open && state.loaded.is_none();
        if removes_refused && state.is_late(moment.now) {
            return Self::NOTHING;
        }
        let is_deferred = self.cookie == CookieStep::Prolong && core.is_deferrable(state, moment);
        if is_deferred { self.without_cookie(state) } else { self }
    }

    /// Whether the plan ends a session's id.
    pub(super) fn ends(self) -> bool {
        matches!(self.row, RowStep::Replace | RowStep::End)
    }

    pub(super) fn issues(self) -> bool {
        matches!(self.cookie, CookieStep::Prolong | CookieStep::Issue)
    }

    /// Whether the store is needed.
    pub(super) fn needs_store(self, core: &Core, state: &State, moment: &Moment) -> bool {
        self.row != RowStep::Leave || core.is_named(state) || self.has_to_ask(core, state, moment)
    }

    /// Whether the store has to be asked first whether the session, or all of its subject's, were ended.
    pub(super) fn has_to_ask(self, core: &Core, state: &State, moment: &Moment) -> bool {
        if core.revoking.is_none() || !self.issues() && self.row != RowStep::Create {
            return false;
        }
        let of_subject = state.header.subject.is_some();
        match self.row {
            RowStep::Leave => core.moves(state, moment),
            // These meet the session's row anyway.
            RowStep::Write | RowStep::Extend | RowStep::Bind => of_subject && core.moves(state, moment),
            RowStep::Create | RowStep::Replace => of_subject,
            RowStep::End => false,
        }
    }
}

impl Core {
    /// A commit's moment, by this clock.
    pub(super) fn moment(&self, now: Millis, context: &CommitContext) -> Moment {
        Moment { now, primary: self.sealer.ring().primary(), context: *context }
    }

    /// Where a session that is not in the store yet belongs.
    pub(super) fn place(&self, state: &State, context: &CommitContext) -> Place {
        let whole = self.limits.name_value(state.whole_len(&self.limits));
        let fits = !state.outgrows_cookie(&self.limits) && self.head_overrun(state, whole, context).is_none();
        if fits { Place::Cookie } else { Place::Store }
    }

    /// The size of the response head with a cookie of this name + value, if that is over the budget.
    pub(super) fn head_overrun(
        &self,
        state: &State,
        name_value: usize,
        context: &CommitContext,
    ) -> Option<(usize, usize)> {
        let budget = self.limits.stored?.head_budget;
        let line = SET_COOKIE_LINE + self.cookie.line_len(context.secure, name_value);
        let former = self.cookie.former_lens(context.secure).map(|len| SET_COOKIE_LINE + len);
        let offer =
            if self.offers(state) { self.device.as_ref().map_or(0, Binder::offer_line_len) } else { 0 };
        let lines = line + offer + if state.cookies > 1 { former.sum() } else { 0 };
        let lines = lines + if self.cache_headers { CACHE_LINES } else { 0 };
        let bytes = context.response_head_bytes.saturating_add(lines);
        (bytes > budget).then_some((bytes, budget))
    }

    /// Whether there is a place to record that a session was ended.
    pub(super) fn can_end(&self, header: &Header) -> bool {
        self.revoking.is_some() || (self.rows.is_some() && header.place == Place::Store)
    }

    /// Whether the session has nothing worth a cookie.
    pub(super) fn is_worthless(&self, state: &State) -> bool {
        state.is_empty() && !self.issue_empty
    }

    /// Whether the key that had sealed the session was revoked since this request began. What it had sealed must not live
    /// on under another key.
    pub(super) fn is_disowned(&self, state: &State) -> bool {
        state.loaded.as_ref().is_some_and(|loaded| self.sealer.ring().has_revoked(loaded.key_id))
    }

    /// Whether this process knows that the session is over, so that no late answer puts its cookie over a newer one.
    pub(super) fn is_known_to_be_over(&self, state: &State) -> bool {
        self.revoking.as_ref().zip(state.loaded.as_ref()).is_some_and(|(revoking, loaded)| {
            loaded.header.id == state.header.id && revoking.has_ended(loaded.header.id)
        })
    }

    /// Whether the cookie that is about to be issued reaches further than the one that was loaded.
    fn moves(&self, state: &State, moment: &Moment) -> bool {
        let Some(loaded) = &state.loaded else { return state.header.subject.is_some() };
        let (before, after) = (&loaded.header.times, state.sealed_times(&self.limits, moment.now));
        let lasts_longer = self.limits.terms.idle.is_some() || loaded.due == Some(Due::Refresh);
        let refreshed = lasts_longer && state.use_prolongs(&self.limits);
        state.renewal == Renewal::Touch
            || loaded.header.id != state.header.id
            || loaded.key_id != moment.primary
            || (before.anchor, before.duration, before.own) != (after.anchor, after.duration, after.own)
            || refreshed
    }

    /// Whether a session that is merely due need not and should not be prolonged now: the response came so late that a
    /// newer cookie may have been set meanwhile, or the cookie would make the response head too large.
    fn is_deferrable(&self, state: &State, &Moment { now, ref context, .. }: &Moment) -> bool {
        let terms = &self.limits.terms;
        let (end, _) = lifetime::first_end(&state.header.times, terms, now);
        let times = &state.header.times;
        let span = self.limits.use_span(times);
        let absolute = lifetime::absolute_end(times, terms).map_or(span, |end| end.minus(times.created_at));
        // Of a cookie from before the limits were raised, what it was told then counts.
        let told = lifetime::told(times).filter(|_| lifetime::given(times, terms) > times.given);
        let end = told.map_or(end, |span| end.min(times.sealed_at.plus(span)));
        let spare = Millis(told.unwrap_or(span.min(absolute)).0 / 2);
        let name_value = self.limits.name_value(state.plaintext_len(&self.limits));
        // Near the absolute end a cookie no longer moves anything.
        let gains =
            told.is_some() || lifetime::first_end(&state.sealed_times(&self.limits, now), terms, now).0 > end;
        (end.minus(now) > spare || !gains)
            && (state.is_late(now) || self.head_overrun(state, name_value, context).is_some())
    }
}
