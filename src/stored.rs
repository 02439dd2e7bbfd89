//! What requests do to a session in the store: the protocol around its row, which is its fence.
//!
//! A session's id has at most one row, and that row is alive or ended. It is created once, by the spill; each write
//! names the revision that it saw, and one that comes too late puts its changes over what is there by then; ending it
//! is final, because nothing writes over an ended row and nobody creates a row that has gone.

use crate::clock::Millis;
use crate::error::{CommitError, Rejection, StoreError};
use crate::lifetime::{self, SKEW};
use crate::record::{Place, SessionId};
use crate::rows::{Content, Found, LiveRow, Rows};
use crate::state::{Limits, LoadedRow, State};
use crate::store::{Expected, Revision};

/// What became of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Fate {
    Kept,
    /// Another request ended it, or its row is gone: this request's changes are lost with it.
    Lost(Rejection),
}

/// One commit's dealings with the store.
pub(crate) struct Dealings<'a> {
    pub(crate) rows: &'a Rows,
    pub(crate) limits: &'a Limits,
    /// When the commit began.
    pub(crate) now: Millis,
}

impl Dealings<'_> {
    /// Moves the session out of its cookie into a row. If a parallel request was faster, both requests' changes are
    /// in it afterwards.
    pub(crate) async fn spill(&self, work: &mut State) -> Result<Fate, CommitError> {
        work.header.place = Place::Store;
        self.put(work, Expected::Absent, true).await
    }

    /// Writes the session's entries over those that it was loaded with.
    pub(crate) async fn write(&self, work: &mut State) -> Result<Fate, CommitError> {
        match work.row.as_ref().map(|row| row.revision) {
            Some(revision) => self.put(work, Expected::At(revision), false).await,
            None => Ok(Fate::Lost(Rejection::Missing)),
        }
    }

    async fn put(&self, work: &mut State, first: Expected, creates: bool) -> Result<Fate, CommitError> {
        let (id, deadline) = (work.header.id, self.rows.deadline());
        let issued =
            work.loaded.as_ref().filter(|loaded| loaded.header.id == id).map_or(0, |l| l.header.counter);
        let mut counter = work.row.as_ref().map_or(issued, |row| row.counter.max(issued));
        let mut expected = first;
        let turn = self.rows.queue(id, deadline).await?;
        let (mut look, mut tried) = (turn.waited, None);
        for tries in 0.. {
            if look {
                match self.rows.load(id, deadline).await? {
                    // The conflict was with ourselves: a driver repeated a write whose answer it had not got.
                    Found::Live(row) if tried == Some(row.revision) => {
                        work.row = Some(row.seen());
                        break;
                    }
                    Found::Live(row) => {
                        expected = Expected::At(row.revision);
                        let newer = creates && issued > row.counter;
                        counter = counter.max(row.counter);
                        // The answer to a former spill was lost and the browser went on with its cookie: what that
                        // holds is newer than all of the row. Else the row has what others wrote meanwhile.
                        if !newer {
                            self.rebase(work, row)?;
                        }
                    }
                    Found::Absent if creates => expected = Expected::Absent,
                    Found::Absent | Found::Unreadable(_) => return Ok(Fate::Lost(Rejection::Missing)),
                    Found::Ended(_) => return Ok(Fate::Lost(Rejection::Revoked)),
                }
            }
            let content = Content::Live { counter, entries: &work.entries };
            let (revision, expires_at) = (Revision::random(), work.row_end(self.limits, self.now));
            if self.rows.write(id, content, (revision, expires_at), expected, deadline).await? {
                let before = work.row.as_ref().map_or(Millis::ZERO, |row| row.expires_at);
                work.row = Some(stored_row(revision, expires_at.max(before), counter));
                break;
            }
            if look {
                self.rows.pause(tries, deadline).await?;
            }
            (look, tried) = (true, Some(revision));
        }
        Ok(Fate::Kept)
    }

    /// Sees to it that the row lives as long as the cookie that is about to be issued. It is asked even where the row
    /// does, because it is the question whether the session goes on: a login elsewhere might else have its cookie
    /// replaced by the one that it ended.
    pub(crate) async fn extend(&self, work: &State) -> Result<Fate, CommitError> {
        let (id, deadline) = (work.header.id, self.rows.deadline());
        let expires_at = work.row_end(self.limits, self.now);
        let Some(mut at) = work.row.as_ref().map(|row| row.revision) else {
            return Ok(Fate::Lost(Rejection::Missing));
        };
        let mut turn = None;
        for tries in 0.. {
            if self.rows.extend(id, at, expires_at, deadline).await? {
                break;
            }
            // Somebody writes the session. From here on that is nobody of this process.
            match turn {
                None => turn = Some(self.rows.queue(id, deadline).await?),
                Some(_) => self.rows.pause(tries, deadline).await?,
            }
            match self.rows.load(id, deadline).await? {
                Found::Live(row) if row.expires_at >= expires_at => break,
                Found::Live(row) => at = row.revision,
                Found::Ended(_) => return Ok(Fate::Lost(Rejection::Revoked)),
                Found::Absent | Found::Unreadable(_) => return Ok(Fate::Lost(Rejection::Missing)),
            }
        }
        Ok(Fate::Kept)
    }

    /// Gives the session its new id: writes the new row where there is to be one, then ends the old. What others have
    /// written to the old one meanwhile comes along. `place` decides where the session is to be, or nowhere.
    pub(crate) async fn replace(
        &self,
        work: &mut State,
        place: impl Fn(&State) -> Option<Place>,
    ) -> Result<Fate, CommitError> {
        let Some((old, mut expected, ended_until)) = self.old(work) else {
            return Ok(Fate::Lost(Rejection::Missing));
        };
        let in_cookie = expected == Expected::Absent;
        let issued = work.loaded.as_ref().map_or(0, |loaded| loaded.header.counter);
        let deadline = self.rows.deadline();
        let mut written: Option<Revision> = None;
        let ending = Revision::random();
        let turn = self.rows.queue(old, deadline).await?;
        let (mut look, mut is_over) = (turn.waited, false);
        for tries in 0.. {
            if look {
                match self.rows.load(old, deadline).await? {
                    Found::Live(row) => {
                        expected = Expected::At(row.revision);
                        // As in `put`: a cookie that was issued since the session moved has all of it.
                        if !(in_cookie && issued > row.counter) {
                            self.rebase(work, row)?;
                        }
                    }
                    // The conflict was with ourselves: a driver repeated the write whose answer it had not got.
                    Found::Ended(by) if by == ending => break,
                    Found::Absent if in_cookie => expected = Expected::Absent,
                    // Somebody has ended it meanwhile. Who has been authenticated begins another all the same.
                    Found::Ended(_) | Found::Absent if work.authenticated => {
                        work.start_empty();
                        is_over = true;
                    }
                    Found::Unreadable(revision) if work.authenticated => {
                        work.start_empty();
                        expected = Expected::At(revision);
                    }
                    Found::Ended(_) | Found::Absent | Found::Unreadable(_) => {
                        if written.is_some() {
                            // What fails here expires by itself, and no cookie leads to it.
                            let _ = self.rows.delete(work.header.id, deadline).await;
                        }
                        return Err(CommitError::Ended);
                    }
                }
            }
            if written.is_some() || place(work) == Some(Place::Store) {
                work.header.place = Place::Store;
                let content = Content::Live { counter: 0, entries: &work.entries };
                let present = written.map_or(Expected::Absent, Expected::At);
                let row = (Revision::random(), work.row_end(self.limits, self.now));
                if !self.rows.write(work.header.id, content, row, present, deadline).await? {
                    // Nobody else knows the id yet, so it can only be a driver that has repeated the write.
                    match self.rows.load(work.header.id, deadline).await? {
                        Found::Live(present) if present.revision == row.0 => {}
                        _ => return Err(CommitError::Conflict),
                    }
                }
                written = Some(row.0);
            }
            if is_over
                || self.rows.write(old, Content::Ended, (ending, ended_until), expected, deadline).await?
            {
                break;
            }
            if look {
                self.rows.pause(tries, deadline).await?;
            }
            look = true;
        }
        let expires_at = work.row_end(self.limits, self.now);
        work.row = written.map(|revision| stored_row(revision, expires_at, 0));
        Ok(Fate::Kept)
    }

    /// Ends the session that was loaded, for good.
    pub(crate) async fn end(&self, work: &State) -> Result<(), StoreError> {
        match self.old(work) {
            Some((id, expected, until)) => self.end_row(id, expected, until).await,
            None => Ok(()),
        }
    }

    /// Ends the session of this id, whatever is expected in its row; the mark lasts `until` then.
    pub(crate) async fn end_row(
        &self,
        id: SessionId,
        mut expected: Expected,
        until: Millis,
    ) -> Result<(), StoreError> {
        let in_cookie = expected == Expected::Absent;
        let deadline = self.rows.deadline();
        let out_of_time = |_| StoreError::Timeout("other requests kept writing the session".into());
        let turn = self.rows.queue(id, deadline).await.map_err(out_of_time)?;
        let mut look = turn.waited;
        for tries in 0.. {
            if look {
                match self.rows.load(id, deadline).await? {
                    Found::Live(LiveRow { revision, .. }) | Found::Unreadable(revision) => {
                        expected = Expected::At(revision);
                    }
                    Found::Absent if in_cookie => expected = Expected::Absent,
                    Found::Ended(by) => {
                        // The mark that is there may be shorter than this one has to be.
                        if self.rows.extend(id, by, until, deadline).await? {
                            break;
                        }
                        self.rows.pause(tries, deadline).await.map_err(out_of_time)?;
                        continue;
                    }
                    Found::Absent => break,
                }
            }
            if self.rows.write(id, Content::Ended, (Revision::random(), until), expected, deadline).await? {
                break;
            }
            if look {
                self.rows.pause(tries, deadline).await.map_err(out_of_time)?;
            }
            look = true;
        }
        Ok(())
    }

    /// The row that is to be ended: its session's id, what is expected there, and until when it has to say so. Then no
    /// cookie of that id can be alive any more, wherever it was issued.
    fn old(&self, work: &State) -> Option<(SessionId, Expected, Millis)> {
        let header = &work.loaded.as_ref()?.header;
        let until = lifetime::last_end(&header.times, &self.limits.terms, self.now).plus(SKEW);
        let expected = work.row.as_ref().map_or(Expected::Absent, |row| Expected::At(row.revision));
        Some((header.id, expected, until))
    }

    /// Puts this request's changes over what others have left.
    fn rebase(&self, work: &mut State, row: LiveRow) -> Result<(), CommitError> {
        work.entries = work.entries.rebased(row.entries).map_err(|_| CommitError::Conflict)?;
        match self.limits.stored {
            Some(stored) => stored.check(Rows::row_len(&work.entries)).map_err(|_| CommitError::Conflict),
            None => Ok(()),
        }
    }

    /// Reads the row again; this request's changes go over what is there.
    pub(crate) async fn reload(&self, work: &mut State) -> Result<Fate, CommitError> {
        match self.rows.load(work.header.id, self.rows.deadline()).await? {
            Found::Live(row) => {
                let seen = row.seen();
                self.rebase(work, row)?;
                work.row = Some(seen);
                Ok(Fate::Kept)
            }
            Found::Ended(_) => Ok(Fate::Lost(Rejection::Revoked)),
            Found::Absent | Found::Unreadable(_) => Ok(Fate::Lost(Rejection::Missing)),
        }
    }
}

fn stored_row(revision: Revision, expires_at: Millis, counter: u32) -> LoadedRow {
    LoadedRow { revision, expires_at, counter, current: true }
}
