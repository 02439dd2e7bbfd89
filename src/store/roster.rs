//! A subject's roster: the list of its sessions, in a row of its own. It lists sessions, and ends none by itself: a
//! session is ended by its mark, which is written before the line goes.
//!
//! A lost line is missing from the list until the session is used in another hour, but never costs a session. A leftover
//! line of a session that has ended is detected when the list is read, or when it would count.

mod edit;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use time::OffsetDateTime;

use crate::core::clock::Millis;
use crate::core::error::StoreError;
use crate::core::event::Event;
use crate::core::key::KeyId;
use crate::core::lifetime;
use crate::core::record::{HOUR, Header, Line, LogId, MAX_LINE, ROSTER_HEAD, SessionId, hour};
use crate::store::revocation::{AnswerCache, Need, Revoking};
use crate::store::rows::{Found, RowLocks, Rows, Visit};

pub(crate) use self::edit::{Enrolled, Entry};

/// The most lines of one roster.
pub(crate) const MAX_LINES: usize = 1_000;
/// What this process remembers having noted: for at most twice as many sessions, like the answers about them.
const NOTED: usize = 1 << 16;
/// How many sessions of a list are queried at a time.
const AT_ONCE: usize = 32;

/// What happens to a login that would give its subject more sessions than
/// [`max_sessions`](crate::SessionsBuilder::max_sessions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest sessions are ended.
    EndOldest,
    /// The login is refused: [`CommitError::TooManySessions`](crate::CommitError::TooManySessions), which the
    /// integrations answer with 403, and the request's session stays as it was.
    Refuse,
}

/// A session of a subject, as [`Sessions::of`](crate::Sessions::of) lists it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionSummary {
    /// Names it for [`Sessions::end`](crate::Sessions::end): 22 characters of base64url, which do not reveal the
    /// session's id. It changes with the sealing key, so read the list again rather than keep it; a retired key's handle
    /// still works.
    pub handle: String,
    /// What stands for it in logs.
    pub log_id: LogId,
    /// What [`Session::set_label`](crate::Session::set_label) called it.
    ///
    /// # Security
    /// As the application got it, perhaps from a browser: escape it where it is shown.
    pub label: Option<String>,
    /// When the subject was authenticated in it; `None`: never, it was `set_subject`.
    pub authenticated_at: Option<OffsetDateTime>,
    /// The hour of its last known use, rounded down. A use is noted when the store is asked anyway whether the session
    /// was revoked, at most once an hour by each process.
    pub seen_at: OffsetDateTime,
}

impl fmt::Debug for SessionSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSummary")
            .field("handle", &self.handle)
            .field("log_id", &self.log_id)
            .field("authenticated_at", &self.authenticated_at)
            .field("seen_at", &self.seen_at)
            .finish_non_exhaustive()
    }
}

/// How long rosters may become, and what this process knows to be in them.
pub(crate) struct Roster {
    pub(crate) most: Option<(usize, Overflow)>,
    /// How long a use may go without a query.
    every: Millis,
    noted: AnswerCache<SessionId, Noted>,
    turns: RowLocks<()>,
}

/// The end, at the least, that a session's line has in the row of a key. The time of the note is beside it.
#[derive(Clone, Copy)]
struct Noted {
    key: KeyId,
    end: Millis,
}

impl Roster {
    pub(crate) fn new(most: Option<(usize, Overflow)>, every: Millis) -> Self {
        Self { most, every, noted: AnswerCache::new(NOTED), turns: RowLocks::default() }
    }
}

/// What a request, or a reader of the list, does with rosters.
pub(crate) struct RosterProtocol<'a> {
    pub(crate) roster: &'a Roster,
    pub(crate) revoking: &'a Revoking,
    pub(crate) visit: Visit<'a>,
}

impl RosterProtocol<'_> {
    /// The same, with all its time before it.
    pub(crate) fn anew(self) -> Self {
        Self { visit: self.visit.anew(), ..self }
    }

    /// The line of a session with this header.
    pub(crate) fn line(&self, header: &Header) -> Line {
        let (end, _) = lifetime::first_end(&header.times, &self.visit.limits.terms, self.visit.now);
        Line {
            id: header.id,
            generation: header.generation,
            created_at: header.times.created_at,
            authenticated_at: header.authenticated_at,
            seen: hour(self.visit.now),
            end,
            label: "".into(),
        }
    }

    /// Notes that a session is used and goes on, unless this process has done so within an hour and the line reaches as
    /// far as the session. Does not wait for concurrent changes of the list. If the store fails, the line is lost.
    pub(crate) async fn note(&self, header: &Header, label: Option<&str>) {
        let Some(subject) = header.subject.as_deref() else { return };
        let line = self.line(header);
        let primary = self.visit.rows.sealer.ring().primary();
        let is_noted = self.roster.noted.get(&line.id).is_some_and(|(noted, at)| {
            noted.key == primary && self.visit.now.minus(at).0.abs() < HOUR.0 && noted.end >= line.end
        });
        if label.is_none() && (is_noted || self.is_changing(subject)) {
            return;
        }
        let tenth = Millis(header.times.duration.0 / 10);
        let slack = HOUR.min(self.visit.limits.use_span(&header.times).max(tenth));
        // If it fails, not again until it would have been moved again.
        let (id, noted) = (line.id, Noted { key: primary, end: line.end.plus(slack) });
        let entry = Entry { line, label, replaces: None, counts: false, yields: false, slack };
        let enrolled = self.enroll(subject, entry).await;
        if enrolled.is_err() {
            self.roster.noted.put(id, noted, self.visit.now);
        }
        self.unless_ended(subject, id, enrolled).await;
    }

    /// Puts back the line of a session that goes on after all.
    pub(crate) async fn restore(&self, subject: &str, line: Line) {
        let (id, label) = (line.id, line.label.clone());
        let entry = Entry {
            line,
            label: Some(&label),
            replaces: None,
            counts: false,
            yields: false,
            slack: Millis::ZERO,
        };
        let enrolled = self.enroll(subject, entry).await;
        self.unless_ended(subject, id, enrolled).await;
    }

    /// Removes an added line if its session was ended meanwhile: whoever ended it may have looked for the line too early.
    async fn unless_ended(&self, subject: &str, id: SessionId, enrolled: Result<Enrolled, StoreError>) {
        if let Ok(Enrolled::Added { .. }) = enrolled
            && let Ok(Err(_)) = self.revoking.ask_session_now(&self.visit, id, Need::Vital).await
        {
            let _ = self.remove(subject, &[id]).await;
        }
    }

    /// The sessions of a subject that are not over, most recently used first.
    pub(crate) async fn list(&self, subject: &str) -> Result<Vec<Line>, StoreError> {
        let mut kept = self.read(subject).await?;
        self.ask_generations(&mut kept, subject).await?;
        let mut lines = kept.merged();
        lines.retain(|line| !self.is_over(line));
        // A session is listed if the store does not answer in time.
        let gone = self.drop_ended(&mut lines, usize::MAX).await.0;
        if !gone.is_empty() {
            // Whoever ended them could not remove them, or did not know whose they were.
            let _ = self.remove(subject, &gone).await;
        }
        lines.sort_by_key(|line| std::cmp::Reverse((line.seen, line.began())));
        Ok(lines)
    }

    /// The id that a subject's handle stands for; and whether it goes on, by what the list and the subject's generation say. It is
    /// ended even if not, because a line may end before its session, and be judged by another key's generation.
    pub(crate) async fn find(
        &self,
        subject: &str,
        handle: &str,
    ) -> Result<Option<(SessionId, bool)>, StoreError> {
        let mut kept = self.read(subject).await?;
        let lines = kept.merged();
        let is_meant = |line: &&Line| self.handles(subject, line.id).any(|known| known == handle);
        let Some(id) = lines.iter().find(is_meant).map(|line| line.id) else { return Ok(None) };
        let goes_on = match self.ask_generations(&mut kept, subject).await {
            Ok(()) => kept.merged().iter().any(|line| line.id == id),
            Err(_) => true,
        };
        Ok(Some((id, goes_on)))
    }

    pub(crate) fn summary(&self, subject: &str, line: &Line) -> SessionSummary {
        let authenticated = line.authenticated_at != Millis::ZERO;
        SessionSummary {
            handle: self.handles(subject, line.id).next().unwrap_or_default(),
            log_id: line.id.log_id(),
            label: (!line.label.is_empty()).then(|| line.label.to_string()),
            authenticated_at: authenticated.then(|| line.authenticated_at.to_datetime()),
            seen_at: line.seen.to_datetime(),
        }
    }

    fn handles(&self, subject: &str, id: SessionId) -> impl Iterator<Item = String> + use<> {
        handles(self.visit.rows, subject, id)
    }

    /// Whether a login of the subject in this session would be let in now.
    pub(crate) async fn has_room(&self, subject: &str, own: SessionId) -> Result<bool, StoreError> {
        let Some((most, Overflow::Refuse)) = self.roster.most else { return Ok(true) };
        let lines = self.list(subject).await?;
        Ok(lines.iter().any(|line| line.id == own && is_login(line)) || self.count(&lines) < most)
    }

    fn refuses(&self) -> bool {
        self.roster.most.is_some_and(|(_, overflow)| overflow == Overflow::Refuse)
    }

    /// How many of these sessions count against the limit: those that somebody logged in to, and, where logins over the
    /// limit are refused, only those in use.
    fn count(&self, lines: &[Line]) -> usize {
        lines.iter().filter(|line| self.counts(line)).count()
    }

    fn counts(&self, line: &Line) -> bool {
        is_login(line) && !(self.refuses() && self.is_unseen(line))
    }

    /// Whether this line is no longer needed, because its session has lasted as long as it could, or comes from a wrong
    /// clock, so that none of its cookies is accepted.
    fn is_over(&self, line: &Line) -> bool {
        line.end <= self.visit.now || line.created_at > self.visit.now.plus(lifetime::SKEW)
    }

    /// Whether a session is out of use: unused for longer than a use prolongs it, or than its idle limit. The last use is
    /// known to the hour, and another within an hour need not be noted.
    fn is_unseen(&self, line: &Line) -> bool {
        let times = lifetime::birth(&self.visit.limits.terms, self.visit.now);
        let silence = HOUR.plus(HOUR).plus(self.roster.every).plus(self.visit.limits.use_span(&times));
        line.seen.plus(silence) < self.visit.now
    }

    /// Drops lines of sessions whose row says that they have ended, until `needed` of those that count are found, and returns
    /// which; and a failed query.
    async fn drop_ended(
        &self,
        lines: &mut Vec<Line>,
        needed: usize,
    ) -> (Vec<SessionId>, Result<(), StoreError>) {
        let (mut gone, mut found, mut outcome) = (Vec::new(), 0, Ok(()));
        for some in lines.chunks(AT_ONCE) {
            let asked = join_all(some.iter().map(|line| self.has_ended(line.id))).await;
            for (line, ended) in some.iter().zip(asked) {
                match ended {
                    Ok(true) => {
                        gone.push(line.id);
                        found += usize::from(self.counts(line));
                    }
                    Ok(false) => {}
                    Err(error) => outcome = Err(error),
                }
            }
            if outcome.is_err() || found >= needed {
                break;
            }
        }
        lines.retain(|line| !gone.contains(&line.id));
        (gone, outcome)
    }

    /// This is not cached for requests: a use is noted when the store is asked for a request.
    async fn has_ended(&self, id: SessionId) -> Result<bool, StoreError> {
        if self.revoking.has_ended(id) {
            return Ok(true);
        }
        let found = self.visit.rows.load(id, self.visit.deadline).await?;
        if let Found::Ended(_, by) = found {
            self.revoking.heard_of_end(id, by, self.visit.now);
        }
        Ok(found.living().is_err())
    }

    /// Ends the oldest sessions of those that count, until so many are left.
    async fn end_oldest(&self, lines: &mut Vec<Line>, left: usize) -> Result<Vec<SessionId>, StoreError> {
        // Of those that began at the same moment, the one whose line came first.
        let mut oldest: Vec<_> =
            lines.iter().filter(|line| is_login(line)).map(|line| (line.began(), line.id)).collect();
        oldest.sort_by_key(|(began, _)| *began);
        oldest.truncate(oldest.len().saturating_sub(left));
        let mut ended = Vec::new();
        for (_, id) in oldest {
            self.visit.end_by_id(id, self.revoking).await?;
            self.visit.rows.sink.tell(&Event::Displaced { id });
            ended.push(id);
        }
        lines.retain(|line| !ended.contains(&line.id));
        Ok(ended)
    }
}

/// Whether somebody has logged in to this session, so that it ever counts.
fn is_login(line: &Line) -> bool {
    line.authenticated_at != Millis::ZERO
}

/// The handles of a subject's session, under each key of the ring.
pub(crate) fn handles(rows: &Rows, subject: &str, id: SessionId) -> impl Iterator<Item = String> + use<> {
    rows.sealer.handles(subject, &id.0).into_iter().map(|handle| URL_SAFE_NO_PAD.encode(handle))
}

/// The smallest row that so many lines fit into.
pub(crate) const fn row_for(lines: usize) -> usize {
    ROSTER_HEAD + lines * MAX_LINE
}
