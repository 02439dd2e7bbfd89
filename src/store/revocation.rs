//! What ends sessions from outside: the ended rows of their ids, the generations of their subjects, and what this
//! process knows of both.
//!
//! A cookie session has no row. The store has to be asked whether one was written to end it, or because another request
//! moved it into the store; and so for its subject's generation. The answers are cached for as long as the configuration
//! allows.

mod breaker;
mod cache;
mod subjects;

use std::time::Duration;

use self::breaker::Breaker;
pub(crate) use self::cache::AnswerCache;
use crate::core::clock::Millis;
use crate::core::error::{ConfigError, Rejection, StoreError};
use crate::core::measure::{self, About, Answered};
use crate::core::record::{Header, Replacement, SessionId};
use crate::store::RowKey;
use crate::store::rows::{Deadline, Found, Living, RowLock, RowLocks, Visit, row_key};

/// Answers of each kind are kept for at most twice as many sessions or subjects: some 40 MiB when full, including
/// subjects and lists.
const ANSWERS: usize = 1 << 16;
const MAX_EVERY: Duration = Duration::from_secs(24 * 3600);

/// How often the store is asked whether a session in a cookie, or its subject, has been revoked.
///
/// Between two queries the last answer is trusted, so a session that another process ends may go on for that long in this
/// one. What prolongs or moves a session does not rely on it, but asks at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// Never. Sessions in cookies end only by their lifetimes, and `revoke` and `revoke_subject` are errors.
    Off,
    /// With each request that uses a session.
    EveryRequest,
    /// At most once in this time per session, per subject, and per process. From 1 ms to 24 hours.
    Every(Duration),
}

/// What happens to a session if the store does not say whether it, or its user, was revoked: to one in a cookie, and to one in
/// the store if only its user's row, in another part of it, cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailurePolicy {
    /// 503: no session is used that might have been revoked.
    Closed,
    /// It is used. A store that is down ends nobody's session, but lets revoked ones go on for as long. Use prolongs none
    /// meanwhile: with a short idle limit, or in its last 5 minutes ([`Lifetime::active`](crate::Lifetime::active)), a session
    /// ends although it is used. What ends a session, gives it another id or subject, or changes its times by `touch` or
    /// `set_duration`, still gets 503.
    Open,
}

/// What is known of a session in a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Alive,
    /// Likewise, but only with cookies that say that they are bound to its device, which it is until it ends.
    Bound,
    /// And what took its place, if that is known.
    Ended(Option<Replacement>),
}

/// Whether somebody can do without an answer, and does while that part of the store is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Vital,
    Optional,
}

/// Asks the store, and remembers.
pub(crate) struct Revoking {
    every: Millis,
    pub(crate) on_failure: FailurePolicy,
    sessions: AnswerCache<SessionId, Status>,
    subjects: AnswerCache<RowKey, Option<u64>>,
    /// The generations that this process has given, and those that they replaced.
    own_generations: AnswerCache<RowKey, (u64, Option<u64>)>,
    /// One query per row at a time; those who waited find the answer.
    asking: RowLocks<()>,
    breaker: Breaker,
}

impl Revocation {
    /// `None`: off.
    pub(crate) fn interval(self) -> Result<Option<Millis>, ConfigError> {
        let min = Duration::from_millis(1);
        match self {
            Self::Off => Ok(None),
            Self::EveryRequest => Ok(Some(Millis::ZERO)),
            Self::Every(every) if every >= min && every <= MAX_EVERY => Ok(Some(Millis::span(every))),
            Self::Every(value) => {
                Err(ConfigError::OutOfRange { setting: "revocation", value, min, max: MAX_EVERY })
            }
        }
    }
}

impl Revoking {
    pub(crate) fn new(every: Millis, on_failure: FailurePolicy) -> Self {
        Self {
            every,
            on_failure,
            sessions: AnswerCache::new(ANSWERS),
            subjects: AnswerCache::new(ANSWERS),
            own_generations: AnswerCache::new(ANSWERS / 16),
            asking: RowLocks::default(),
            breaker: Breaker::default(),
        }
    }

    /// Whether the session is known to have been ended. Ids are never reused.
    pub(crate) fn has_ended(&self, id: SessionId) -> bool {
        matches!(self.sessions.get(&id), Some((Status::Ended(_), _)))
    }

    /// What took the place of this session, as far as is known.
    pub(crate) fn replacement(&self, id: SessionId) -> Option<Replacement> {
        match self.sessions.get(&id)? {
            (Status::Ended(by), _) => by,
            _ => None,
        }
    }

    /// What is known of the session of a cookie; `None`: it is time to ask. `bound`: the cookie says that it is bound to a device. If
    /// it does not, and the session is, only the row says to which.
    pub(crate) fn status(&self, id: SessionId, bound: bool, now: Millis) -> Option<Status> {
        match self.sessions.get(&id)? {
            (ended @ Status::Ended(_), _) => Some(ended),
            (Status::Bound, _) if !bound => Some(Status::Bound),
            (Status::Alive | Status::Bound, asked) => self.is_fresh(asked, now).then_some(Status::Alive),
        }
    }

    /// Waits for a concurrent query of the same row, whose answer will do. Where each request has to ask, there is
    /// nothing to wait for.
    async fn question_lock(
        &self,
        place: RowKey,
        deadline: Deadline,
    ) -> Result<Option<RowLock<'_, ()>>, StoreError> {
        if self.every == Millis::ZERO {
            return Ok(None);
        }
        self.asking.lock(place, deadline).await.map(Some).ok_or_else(too_busy)
    }

    /// Asks for a session in a cookie, unless another request has meanwhile: where it is, or why it is over.
    pub(crate) async fn ask_session(
        &self,
        visit: &Visit<'_>,
        &Header { id, ref device, .. }: &Header,
    ) -> Result<Result<Living, Rejection>, StoreError> {
        if self.has_ended(id) {
            return counted(About::Session, true, Ok(Err(Rejection::Revoked)));
        }
        let mut is_known = false;
        let ask = async {
            let _lock = self.question_lock(row_key(id), visit.deadline).await?;
            let bound = device.bound().is_some();
            let known = self.status(id, bound, visit.now).filter(|known| *known != Status::Bound);
            is_known = known.is_some();
            match known {
                Some(Status::Ended(_)) => Ok(Err(Rejection::Revoked)),
                Some(_) => Ok(Ok(Living::InCookie(None))),
                None => self.breaker.guard(visit, &row_key(id), self.load_session(visit, id)).await,
            }
        };
        let answer = ask.await;
        counted(About::Session, is_known, answer)
    }

    /// Asks, whatever is cached.
    pub(crate) async fn ask_session_now(
        &self,
        visit: &Visit<'_>,
        id: SessionId,
        need: Need,
    ) -> Result<Result<Living, Rejection>, StoreError> {
        let question = self.load_session(visit, id);
        let answer = match need {
            Need::Vital => question.await,
            Need::Optional => self.breaker.guard(visit, &row_key(id), question).await,
        };
        counted(About::Session, false, answer)
    }

    async fn load_session(
        &self,
        visit: &Visit<'_>,
        id: SessionId,
    ) -> Result<Result<Living, Rejection>, StoreError> {
        let now = visit.now;
        let epoch = self.sessions.epoch(&id);
        let found = visit.rows.load(id, visit.deadline).await?;
        match &found {
            // No end is undone, be its mark there still or not.
            Found::Absent | Found::Bound(..) if self.has_ended(id) => {}
            Found::Absent => self.sessions.learn(id, Status::Alive, now, epoch),
            Found::Bound(..) => self.sessions.learn(id, Status::Bound, now, epoch),
            // What this process has done since is newer.
            Found::Ended(_, by) => self.sessions.decide(id, epoch, |known, is_newest| match known {
                Some((Status::Ended(known), _)) if !is_newest => (Status::Ended(known.and(*by)), now),
                _ => (Status::Ended(*by), now),
            }),
            Found::Live(_) | Found::Unreadable(..) => {}
        }
        Ok(found.living())
    }

    /// This process has ended the session, and nothing took its place.
    pub(crate) fn ended(&self, id: SessionId, now: Millis) {
        self.sessions.put(id, Status::Ended(None), now);
    }

    /// This process has given the session another id; `by`: what its mark says of that, if there is anything left to take up.
    pub(crate) fn renewed(&self, id: SessionId, by: Option<Replacement>, now: Millis) {
        match by {
            Some(_) => self.heard_of_end(id, by, now),
            None => self.ended(id, now),
        }
    }

    /// The session is over, and perhaps something took its place; unless this process knows of its end already, which may be one for
    /// good.
    pub(crate) fn heard_of_end(&self, id: SessionId, by: Option<Replacement>, now: Millis) {
        self.sessions.decide(id, 0, |known, _| match known {
            // Nor is it any newer.
            Some((ended @ Status::Ended(_), asked)) => (ended, asked),
            _ => (Status::Ended(by), now),
        });
    }

    /// What has taken the place of a session that is over, as far as the store says so, and has been asked as recently as of one
    /// that goes on: it may have been ended for good since.
    pub(crate) async fn present_replacement(&self, visit: &Visit<'_>, id: SessionId) -> Option<Replacement> {
        let now = visit.now;
        let known = || match self.sessions.get(&id)? {
            (Status::Ended(Some(by)), asked) => Some((by, asked == now || self.is_fresh(asked, now))),
            _ => None,
        };
        known()?;
        let _lock = self.question_lock(row_key(id), visit.deadline).await.ok()?;
        match known()? {
            (by, true) => Some(by),
            (_, false) => {
                let question = self.load_session(visit, id);
                let answer = self.breaker.guard(visit, &row_key(id), question).await;
                let over = counted(About::Session, false, answer).ok()?.err()?;
                self.replacement(id).filter(|_| over == Rejection::Revoked)
            }
        }
    }

    /// This process has bound the session, in its cookie, to a device.
    pub(crate) fn bound(&self, id: SessionId, now: Millis) {
        // Whatever is known of its end is newer.
        let epoch = self.sessions.epoch(&id);
        self.sessions.decide(id, epoch, |present, _| match present {
            Some(ended @ (Status::Ended(_), _)) => ended,
            _ => (Status::Bound, now),
        });
    }

    /// The session is in a row from now on, so the store has to be asked about its cookies; unless it has been ended since.
    pub(crate) fn spilled(&self, id: SessionId) {
        self.sessions.forget_if(&id, |known| !matches!(known, Status::Ended(_)));
    }

    /// Does something optional to the row of this session, so not while the breaker is open.
    pub(crate) async fn unless_down<T>(
        &self,
        visit: &Visit<'_>,
        id: SessionId,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.breaker.guard(visit, &row_key(id), work).await
    }

    /// By absolute distance, so that a clock that was set back does not make an answer last.
    fn is_fresh(&self, asked: Millis, now: Millis) -> bool {
        now.minus(asked).0.abs() < self.every.0
    }
}

/// Counts a query by where its answer came from.
fn counted<T>(about: About, is_known: bool, answer: Result<T, StoreError>) -> Result<T, StoreError> {
    let answered = match (&answer, is_known) {
        (Err(_), _) => Answered::Failed,
        (Ok(_), true) => Answered::Memory,
        (Ok(_), false) => Answered::Store,
    };
    measure::question(about, answered);
    answer
}

fn too_busy() -> StoreError {
    StoreError::Timeout("another request's question was not answered either".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::{Place, SubjectTag};

    #[test]
    fn an_answer_counts_for_its_time_and_not_for_longer_when_the_clock_is_set_back() {
        let revoking = Revoking::new(Millis(60_000), FailurePolicy::Open);
        let id = SessionId([1; 16]);
        let noon = 1_000_000_000;
        revoking.sessions.put(id, Status::Alive, Millis(noon));
        for (now, known) in [(0, true), (59_999, true), (60_000, false), (-59_999, true), (-60_000, false)] {
            assert_eq!(
                revoking.status(id, false, Millis(noon + now)),
                known.then_some(Status::Alive),
                "{now}"
            );
        }
        revoking.bound(id, Millis(noon));
        assert_eq!(revoking.status(id, true, Millis(noon)), Some(Status::Alive));
        assert_eq!(revoking.status(id, false, Millis(noon)), Some(Status::Bound), "its row says to which");
        assert_eq!(revoking.status(id, true, Millis(noon + 60_000)), None);
        revoking.ended(id, Millis(noon));
        assert_eq!(revoking.status(id, false, Millis(noon + 86_400_000)), Some(Status::Ended(None)));
        // Whoever ended it for good has the last word, and whoever does not know the cause takes nothing away.
        let by = Replacement { by: SubjectTag::of("ada"), place: Place::Cookie };
        revoking.renewed(id, Some(by), Millis(noon));
        assert_eq!(revoking.replacement(id), None);
        let other = SessionId([2; 16]);
        revoking.renewed(other, Some(by), Millis(noon));
        revoking.heard_of_end(other, None, Millis(noon));
        assert_eq!(revoking.replacement(other), Some(by));
        revoking.ended(other, Millis(noon));
        assert_eq!(revoking.replacement(other), None);
        let always = Revoking::new(Millis::ZERO, FailurePolicy::Open);
        always.sessions.put(id, Status::Alive, Millis(noon));
        assert_eq!(always.status(id, false, Millis(noon)), None);
    }
}
