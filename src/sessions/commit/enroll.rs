//! What a commit does to the list of its subject's sessions: the line is written before the cookie is issued, and removed
//! after the session has ended.

use super::RowStep;
use super::settle::Confirmed;
use crate::core::clock::Millis;
use crate::core::cookie::SetCookies;
use crate::core::error::{CommitError, StoreError};
use crate::core::event::Event;
use crate::core::measure;
use crate::core::record::{Device, Header, Line, Place, SessionId};
use crate::core::session::Session;
use crate::core::state::{LoadedRow, Stage, State};
use crate::sessions::Core;
use crate::store::revocation::Need;
use crate::store::roster::{Enrolled, Entry, RosterProtocol};
use crate::store::rows::Visit;
use crate::store::stored::Ending;

/// A line that a commit has added to its subject's list before it did anything else.
pub(super) struct Listed {
    subject: Box<str>,
    id: SessionId,
    /// The line in whose place it is.
    former: Option<Line>,
    /// The session that was loaded.
    before: Option<Header>,
}

impl Listed {
    /// The session that was loaded goes on, and stays where it is listed.
    pub(super) fn spare_former(&mut self) {
        self.before = None;
    }
}

impl Core {
    /// Whether the list has to get the session's name.
    pub(super) fn is_named(&self, state: &State) -> bool {
        self.roster.is_some()
            && state.label().is_some()
            && state.stage == Stage::Open
            && state.header.subject.is_some()
            && !self.is_disowned(state)
            && !state.is_unproven()
    }

    /// Puts the session into its subject's list, if this id is to get its first cookie, and notes changes of its end.
    pub(super) async fn enroll(
        &self,
        work: &State,
        &Confirmed { plan, asked, .. }: &Confirmed,
        now: Millis,
    ) -> Result<Option<Listed>, CommitError> {
        let (Some(roster), Some(subject)) = (self.roster_at(now), work.header.subject.as_deref()) else {
            return Ok(None);
        };
        let loaded = work.loaded.as_ref().map(|loaded| &loaded.header);
        let is_new = loaded.is_none_or(|loaded| loaded.id != work.header.id);
        if plan.row == RowStep::End || is_new && !plan.issues() {
            return Ok(None);
        }
        if !is_new {
            if asked && plan.issues() || work.label().is_some() {
                roster.note(&work.header, work.label()).await;
            }
            return Ok(None);
        }
        let was_theirs = loaded.filter(|loaded| loaded.subject.as_deref() == Some(subject));
        // It was ended with all others of its subject but stays, so its place may be taken.
        let was_over = was_theirs.is_some_and(|loaded| loaded.generation != work.header.generation);
        let is_login = work.header.authenticated_at != Millis::ZERO;
        let stays = was_over && is_login && !work.authenticated;
        let entry = Entry {
            line: roster.line(&work.header),
            label: work.label(),
            replaces: was_theirs.map(|loaded| loaded.id),
            counts: work.authenticated || stays,
            yields: stays,
            slack: Millis::ZERO,
        };
        let (id, counts) = (work.header.id, entry.counts);
        match roster.enroll(subject, entry).await {
            Ok(Enrolled::Added { former, sessions }) => {
                if work.authenticated {
                    measure::subject_sessions(sessions);
                }
                Ok(Some(Listed { subject: subject.into(), id, former, before: loaded.cloned() }))
            }
            Ok(Enrolled::Kept) => Ok(None),
            Ok(Enrolled::Refused) => {
                self.sink.tell(&Event::LoginRefused { id: loaded.map(|loaded| loaded.id) });
                Err(CommitError::TooManySessions)
            }
            Ok(Enrolled::Ended) => {
                // Whoever logs in ends their own session wherever that is.
                let (devices, is_theirs) = (work.devices(), work.authenticated && was_theirs.is_some());
                if let Some(former) = loaded {
                    let ours = (!is_theirs).then_some(&devices[..]);
                    self.end_former(&roster, former, work.row.as_deref(), ours).await?;
                }
                self.tell_failure(id, &CommitError::Ended);
                Err(CommitError::Ended)
            }
            // Whether there is room is unknown.
            Err(error) if counts && roster.roster.most.is_some() => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// Makes the list match the commit's outcome.
    pub(super) async fn settle_listing(
        &self,
        Listed { subject, id, former, before }: Listed,
        session: &Session,
        outcome: Result<SetCookies, CommitError>,
        now: Millis,
    ) -> Result<SetCookies, CommitError> {
        let Some(roster) = self.roster_at(now) else { return outcome };
        if !matches!(&outcome, Ok(lines) if lines.own.is_some()) {
            let _ = roster.remove(&subject, &[id]).await;
            if let Some(line) = former.filter(|_| !matches!(outcome, Err(CommitError::Ended))) {
                roster.restore(&subject, line).await;
            }
            return outcome;
        }
        if let Some((former, id)) = before.as_ref().and_then(|it| Some((it.subject.as_deref()?, it.id)))
            && former != &*subject
        {
            let _ = roster.remove(former, &[id]).await;
        }
        // Somebody who found it in the list may have ended it. One in the store has met its row.
        if session.with(|state| state.header.place == Place::Cookie)
            && let Ok(Err(_)) = roster.revoking.ask_session_now(&roster.visit, id, Need::Vital).await
        {
            let _ = roster.remove(&subject, &[id]).await;
            roster.revoking.ended(id, now);
            if let Some(former) = before.as_ref().filter(|before| before.id != id) {
                // What its mark says of this one is nothing to come back to. If it stays, it needs the password again.
                let _ = self.end_former(&roster, former, None, None).await;
            }
            self.tell_failure(id, &CommitError::Ended);
            return Err(CommitError::Ended);
        }
        outcome
    }

    /// Ends the session under its former id as well, since it is the same session.
    async fn end_former(
        &self,
        roster: &RosterProtocol<'_>,
        former: &Header,
        row: Option<&LoadedRow>,
        ours: Option<&[&Device]>,
    ) -> Result<(), StoreError> {
        let visit = &roster.visit;
        if visit.end(former.id, row, visit.mark_end(former), ours).await? == Ending::Refused {
            return Ok(());
        }
        roster.revoking.ended(former.id, visit.now);
        self.strike_out([former], visit.anew()).await;
        Ok(())
    }

    /// Removes ended sessions from their subjects' lists.
    pub(super) async fn strike_out(&self, ended: impl IntoIterator<Item = &Header>, visit: Visit<'_>) {
        let Some(roster) = self.roster(visit) else { return };
        for header in ended {
            if let Some(subject) = header.subject.as_deref() {
                let _ = roster.remove(subject, &[header.id]).await;
            }
        }
    }
}
