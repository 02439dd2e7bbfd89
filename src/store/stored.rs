//! What requests do to a session in the store: the protocol around its row, which serializes them.
//!
//! A session's id has at most one row, and that row is alive or ended. It is created once, by the spill; each write names
//! the revision that it saw, and one that comes too late applies its changes to what is there by then; ending it is
//! final, because nothing writes over an ended row and nobody recreates a row that has gone.

use std::sync::Arc;

use crate::core::clock::Millis;
use crate::core::error::{CommitError, Rejection, StoreError};
use crate::core::record::{self, Device, DeviceKey, Place, Replacement, SessionId, SubjectTag};
use crate::core::state::{LoadedRow, State};
use crate::store::revocation::Revoking;
use crate::store::rows::{Content, Found, LiveRow, RowWriter, Visit};

/// Why a session is not in the store as its request wanted.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// Another request ended it, or its row is gone: this request's changes are lost with it.
    Lost(Rejection),
    Failed(CommitError),
}

impl<E: Into<CommitError>> From<E> for NotDone {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What came of ending a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    /// Somebody else had ended it, perhaps by giving it another id, under which it goes on.
    WasOver,
    /// It is bound to another device.
    Refused,
}

/// What became of the session in whose place another one is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Former {
    /// It is over, and this is what its mark says of the other one.
    Over(Option<Replacement>),
    /// It is somebody else's, on another device, and goes on.
    Spared,
}

impl Former {
    /// What its mark says took its place.
    pub(crate) fn successor(self) -> Option<Replacement> {
        match self {
            Self::Over(by) => by,
            Self::Spared => None,
        }
    }
}

impl Visit<'_> {
    /// Writes the session's entries over those that it was loaded with; or moves it out of its cookie into a row. If a parallel
    /// request was faster, the row has both requests' changes afterwards. True: another one waits to write it.
    pub(crate) async fn write(&self, work: &mut State) -> Result<bool, NotDone> {
        let (id, creates) = (work.header.id, work.row.is_none());
        work.header.place = Place::Store;
        let issued =
            work.loaded.as_ref().filter(|loaded| loaded.header.id == id).map_or(0, |l| l.header.counter);
        let mut counter = work.row.as_ref().map_or(issued, |row| row.counter.max(issued));
        let mut device = work.row_device();
        let mut row = self.rows.writer(id, work.row.as_deref(), self.deadline).await?;
        loop {
            match row.take_observed() {
                Some(Found::Live(live)) => {
                    counter = counter.max(live.seen.counter);
                    device = bound_first(work, live.seen.device.clone())?;
                    self.rebase(work, live)?;
                }
                Some(Found::Absent | Found::Bound(..)) if !creates => {
                    return Err(NotDone::Lost(Rejection::Missing));
                }
                Some(Found::Bound(first)) => {
                    if work.devices().iter().all(|own| own.bound() != Some(&first.device)) {
                        // The cookies on that device are newer than this request's.
                        counter = 0;
                    }
                    device = bound_first(work, Some(first.device))?;
                }
                Some(Found::Absent) | None => {}
                Some(Found::Unreadable(..)) => return Err(NotDone::Lost(Rejection::Missing)),
                Some(Found::Ended(..)) => return Err(NotDone::Lost(Rejection::Revoked)),
            }
            let content = Content::Live { counter, device: device.as_ref(), entries: &work.entries };
            if let Some(written) = row.write(content, self.end_of_row(work, device.as_ref())).await? {
                work.row = Some(Box::new(written));
                return Ok(row.is_awaited());
            }
        }
    }

    /// When the row expires. One that names a device for the first time has to outlast every cookie from before.
    fn end_of_row(&self, work: &State, device: Option<&Arc<DeviceKey>>) -> Millis {
        let end = work.row_end(self.limits, self.now);
        let is_first = device.is_some() && work.row.as_ref().is_none_or(|row| row.device.is_none());
        match (is_first, self.mark_of(work)) {
            (true, Some((_, last))) => end.max(last),
            _ => end,
        }
    }

    /// Records that the session in this cookie is bound to a device, for as long as any earlier cookie of it can be
    /// alive. False: a parallel request has moved the session into the store, so it has to be recorded there.
    pub(crate) async fn bind(&self, work: &State) -> Result<bool, NotDone> {
        let Some((id, until)) = self.mark_of(work) else { return Err(NotDone::Lost(Rejection::Missing)) };
        let mut row = self.rows.writer(id, None, self.deadline).await?;
        let mut key = work.header.device.bound().cloned();
        if key.is_none() {
            // Only the row knows it, where devices no longer count.
            row.refresh().await?;
        }
        loop {
            match row.take_observed() {
                Some(Found::Bound(first)) => {
                    key = bound_first(work, Some(first.device))?;
                    let lasts = first.expires_at >= until;
                    if !first.retired_key
                        && (lasts || self.rows.extend(id, first.revision, until, self.deadline).await?)
                    {
                        return Ok(true);
                    }
                }
                Some(Found::Live(_)) => return Ok(false),
                Some(Found::Unreadable(..)) => return Err(NotDone::Lost(Rejection::Missing)),
                Some(Found::Ended(..)) => return Err(NotDone::Lost(Rejection::Revoked)),
                Some(Found::Absent) | None => {}
            }
            // Where the row has gone, nothing is bound any more.
            let Some(key) = &key else { return Ok(true) };
            if row.write(Content::Bound(key), until).await?.is_some() {
                return Ok(true);
            }
        }
    }

    /// Ensures that the row lives as long as the cookie that is about to be issued. The store is asked even if the row
    /// does, because this also asks whether the session goes on: otherwise the cookie of a login elsewhere might be
    /// replaced by the one that it ended.
    pub(crate) async fn extend(&self, work: &State) -> Result<(), NotDone> {
        let (id, deadline) = (work.header.id, self.deadline);
        let expires_at = work.row_end(self.limits, self.now);
        let Some(row) = &work.row else { return Err(NotDone::Lost(Rejection::Missing)) };
        if self.rows.extend(id, row.revision, expires_at, deadline).await? {
            return Ok(());
        }
        // Somebody writes the session. From here on, nobody in this process does.
        let _lock = self.rows.lock(id, deadline).await?;
        let mut tries = 0;
        loop {
            let live = self.live(id).await?;
            let lasts = live.seen.expires_at >= expires_at;
            if lasts || self.rows.extend(id, live.seen.revision, expires_at, deadline).await? {
                return Ok(());
            }
            self.rows.pause(tries, deadline).await?;
            tries += 1;
        }
    }

    /// Gives the session its new id: writes the new row if there is to be one, then ends the old. What others have
    /// written to the old one meanwhile is taken along. `place` decides where the session is to be, if anywhere.
    pub(crate) async fn replace(
        &self,
        work: &mut State,
        place: impl Fn(&State) -> Option<Place>,
    ) -> Result<Former, NotDone> {
        let Some((old, ended_until)) = self.mark_of(work) else {
            return Err(NotDone::Lost(Rejection::Missing));
        };
        let (in_cookie, deadline) = (work.row.is_none(), self.deadline);
        let mut former = self.rows.ender(old, work.row.as_deref(), deadline).await?;
        // Only somebody who found it in the list can know its new id, and may have ended it before its row is there. It
        // is the same session, so the former id is over as well.
        let mut new = self.rows.writer(work.header.id, None, deadline).await?;
        let is_ended = |row: &mut RowWriter<'_>| matches!(row.take_observed(), Some(Found::Ended(..)));
        let (mut new_row, mut is_refused) = (None, is_ended(&mut new));
        let subject = work.header.subject.as_deref().map(SubjectTag::of);
        let from = if in_cookie { Place::Cookie } else { Place::Store };
        // Of a session that is bound to a device nothing is left for a request that may come from elsewhere. And nobody logs in twice by
        // a renewal, after which the former cookie is to be worth nothing.
        let is_bound = work.row_device().is_some() || work.devices().iter().any(|own| own.bound().is_some());
        let leaves = work.authenticated && !is_bound;
        let mut mark = subject.filter(|_| leaves).map(|by| Replacement { by, place: from });
        loop {
            let (mut is_over, mut is_spared) = (false, false);
            let observed = former.take_observed();
            let device = observed.as_ref().and_then(Found::device);
            mark = mark.filter(|_| device.is_none());
            // A request from a device other than the session's gets nothing of it. Its login begins another, and ends this one only if
            // it is the same user's.
            let is_elsewhere = self.limits.is_elsewhere(device, &work.devices());
            if let (Some(mark), Some(Found::Live(_))) = (&mut mark, &observed) {
                mark.place = Place::Store;
            }
            match observed {
                Some(Found::Live(_) | Found::Bound(..)) if is_elsewhere && work.authenticated => {
                    work.start_empty(self.limits);
                    is_spared = !ends_own(work);
                }
                Some(Found::Live(live)) if !is_elsewhere => drop(self.rebase(work, live)?),
                Some(Found::Bound(..)) if !is_elsewhere => {}
                None => {}
                Some(Found::Absent) if in_cookie => {}
                // Somebody has ended it meanwhile. A user who has authenticated begins another all the same, with what came with
                // this request if it was the same login, sent twice.
                Some(Found::Ended(at, by)) if work.authenticated => {
                    // The mark may end before this request's cookie does.
                    if !self.rows.extend(old, at, ended_until, deadline).await? {
                        former.refresh().await?;
                        continue;
                    }
                    if by.is_none() || by != mark {
                        work.start_empty(self.limits);
                    }
                    (mark, is_over) = (by, true);
                }
                Some(Found::Absent) if work.authenticated => {
                    work.start_empty(self.limits);
                    is_over = true;
                }
                Some(Found::Unreadable(..)) if work.authenticated => {
                    work.start_empty(self.limits);
                    mark = None;
                }
                Some(met) => {
                    if new_row.is_some() {
                        // If this fails, the row expires by itself, and no cookie leads to it.
                        let _ = self.rows.delete(work.header.id, deadline).await;
                    }
                    if is_elsewhere {
                        return Err(NotDone::Lost(Rejection::Unproven));
                    }
                    // It may be read again once this process has the key, so nobody is to remember that it has ended.
                    if let Found::Unreadable(..) = met {
                        return Err(NotDone::Lost(Rejection::Missing));
                    }
                    return Err(CommitError::Ended.into());
                }
            }
            if !is_refused && (new_row.is_some() || place(work) == Some(Place::Store)) {
                work.header.place = Place::Store;
                let device = work.header.device.bound().cloned();
                let content = Content::Live { counter: 0, device: device.as_ref(), entries: &work.entries };
                match new.write(content, work.row_end(self.limits, self.now)).await? {
                    Some(written) => new_row = Some(Box::new(written)),
                    None if is_ended(&mut new) => is_refused = true,
                    None => return Err(CommitError::Conflict.into()),
                }
            }
            // Who is about to lose the new one as well has nothing to come back to.
            let mark = mark.filter(|_| !is_refused);
            if is_spared {
                work.loaded = None;
            }
            if is_spared || is_over || former.write(Content::Ended(mark), ended_until).await?.is_some() {
                if is_refused {
                    return Err(CommitError::Ended.into());
                }
                work.row = new_row;
                return Ok(if is_spared { Former::Spared } else { Former::Over(mark) });
            }
        }
    }

    /// Ends the session of this id for good, whatever is in its row, and has this process know it; false: it was over already.
    pub(crate) async fn end_by_id(&self, id: SessionId, revoking: &Revoking) -> Result<bool, StoreError> {
        let ending = self.end(id, None, self.mark_end_of_any(), None).await?;
        revoking.ended(id, self.now);
        Ok(ending == Ending::Done)
    }

    /// Ends a session for good; the mark lasts `until` then. `loaded` is its row, if the request read one. Refused: it is elsewhere for
    /// a request from `ours`, and goes on; `None`: whoever asks may end it.
    pub(crate) async fn end(
        &self,
        id: SessionId,
        loaded: Option<&LoadedRow>,
        until: Millis,
        ours: Option<&[&Device]>,
    ) -> Result<Ending, StoreError> {
        let mut row = self.rows.ender(id, loaded, self.deadline).await.map_err(out_of_time)?;
        let mut ending = Ending::Done;
        loop {
            match row.take_observed() {
                // It lived only there, and has gone.
                Some(Found::Absent) if loaded.is_some() => return Ok(Ending::WasOver),
                Some(Found::Ended(by, None)) => {
                    // The present mark may end before this one has to.
                    if self.rows.extend(id, by, until, self.deadline).await? {
                        return Ok(Ending::WasOver);
                    }
                    row.refresh().await?;
                    continue;
                }
                // Nor is anything left for whoever took its place.
                Some(Found::Ended(_, Some(_))) => ending = Ending::WasOver,
                Some(found) if ours.is_some_and(|ours| self.limits.is_elsewhere(found.device(), ours)) => {
                    return Ok(Ending::Refused);
                }
                Some(Found::Live(_) | Found::Bound(_) | Found::Unreadable(..) | Found::Absent) | None => {}
            }
            if row.write(Content::Ended(None), until).await.map_err(out_of_time)?.is_some() {
                return Ok(ending);
            }
        }
    }

    /// The mark of the session that was loaded: its id, and until when its row has to say that it has ended. After that no cookie of
    /// that id can be alive, except those that [`lifetime::mark_end`] does not cover.
    ///
    /// [`lifetime::mark_end`]: crate::core::lifetime::mark_end
    fn mark_of(&self, work: &State) -> Option<(SessionId, Millis)> {
        let header = &work.loaded.as_ref()?.header;
        Some((header.id, self.mark_end(header)))
    }

    /// Applies this request's changes to what others have left. Not if the session came in a cookie that is newer than
    /// that: then the response to an earlier spill was lost, or not heard of, and the browser went on with its cookie.
    fn rebase(&self, work: &mut State, LiveRow { seen, entries }: LiveRow) -> Result<LoadedRow, CommitError> {
        if work.issued() > seen.counter {
            return Ok(seen);
        }
        let met = entries.extent();
        work.entries = work.entries.rebased(entries).map_err(|_| CommitError::Conflict)?;
        // What is larger than permitted by now may become smaller.
        let shrinks =
            record::encoded_len(None, 0, work.entries.extent()) <= record::encoded_len(None, 0, met);
        match self.limits.stored.filter(|_| !shrinks) {
            Some(stored) => stored.check(work.row_len()).map(|_| seen).map_err(|_| CommitError::Conflict),
            None => Ok(seen),
        }
    }

    /// Reads the row again, and applies this request's changes to it.
    pub(crate) async fn reload(&self, work: &mut State) -> Result<(), NotDone> {
        let row = self.live(work.header.id).await?;
        if self.limits.is_elsewhere(row.seen.device.as_ref(), &work.devices()) {
            return Err(NotDone::Lost(Rejection::Unproven));
        }
        work.row = Some(Box::new(self.rebase(work, row)?));
        Ok(())
    }

    async fn live(&self, id: SessionId) -> Result<LiveRow, NotDone> {
        let found = self.rows.load(id, self.deadline).await?;
        found.living().and_then(|living| living.row().ok_or(Rejection::Missing)).map_err(NotDone::Lost)
    }
}

/// Whether this is a login by the user whose session it was.
fn ends_own(work: &State) -> bool {
    let former = work.loaded.as_ref().map(|loaded| &loaded.header.subject);
    work.authenticated && former == Some(&work.header.subject)
}

/// The device of a session whose row was met, which another request may have bound first. A request that began before
/// that without a proof of its own accepts it.
fn bound_first(work: &State, met: Option<Arc<DeviceKey>>) -> Result<Option<Arc<DeviceKey>>, NotDone> {
    match (met, work.header.device.bound()) {
        (Some(first), Some(own)) if first != *own => Err(NotDone::Lost(Rejection::Unproven)),
        (None, own) => Ok(own.cloned()),
        (first, _) => Ok(first),
    }
}

/// What the caller that ends a session outside its request learns of other writers.
fn out_of_time(error: CommitError) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        _ => StoreError::Timeout("other requests kept writing the session".into()),
    }
}
