//! Changes of a roster: each reads what is there under every key of the ring, and writes over exactly that.

use std::collections::HashSet;

use super::{MAX_LINES, Noted, Overflow, RosterProtocol, is_login};
use crate::core::clock::Millis;
use crate::core::envelope::RowSealer;
use crate::core::error::StoreError;
use crate::core::key::KeyId;
use crate::core::lifetime::SKEW;
use crate::core::record::{HOUR, Line, ROSTER_HEAD, SessionId, hour};
use crate::store::revocation::Need;
use crate::store::rows::{Put, RowLock};
use crate::store::{Expected, Revision, RowKey};

/// A line to put into a roster.
pub(crate) struct Entry<'a> {
    pub(crate) line: Line,
    /// The session's new name; `None`: as before.
    pub(crate) label: Option<&'a str>,
    /// The session that it replaces.
    pub(crate) replaces: Option<SessionId>,
    /// Whether it is subject to the limit: it is a login, or comes back after all sessions of the subject were ended.
    pub(crate) counts: bool,
    /// Whether no session is ended for its sake, and it is over if there is no room.
    pub(crate) yields: bool,
    /// How much later than necessary the end is noted, if it has moved.
    pub(crate) slack: Millis,
}

/// What became of an [`Entry`].
pub(crate) enum Enrolled {
    /// The session has a new line: in place of this one, if there was one.
    Added {
        former: Option<Line>,
        /// How many sessions the subject has by now.
        sessions: usize,
    },
    /// Its line was there, and is up to date.
    Kept,
    /// The subject has as many sessions as it may have.
    Refused,
    /// Its line was there for a moment, and somebody has ended it; or there is no room for what [yields](Entry::yields).
    Ended,
}

/// The rosters of a subject under the keys of the ring, the primary's first.
pub(super) struct Kept(Vec<KeptRow>);

struct KeptRow {
    key: KeyId,
    place: RowKey,
    /// Empty if none can be read.
    lines: Vec<Line>,
    revision: Option<Revision>,
}

impl Kept {
    /// All lines, each once. What the primary's row says goes first; a use, or an end, is as late as any of them says.
    pub(super) fn merged(&self) -> Vec<Line> {
        let Some((primary, rest)) = self.0.split_first() else { return Vec::new() };
        let mut lines = primary.lines.clone();
        for line in rest.iter().flat_map(|row| &row.lines) {
            match lines.iter_mut().find(|known| known.id == line.id) {
                Some(known) => {
                    known.seen = known.seen.max(line.seen);
                    known.end = known.end.max(line.end);
                }
                None => lines.push(line.clone()),
            }
        }
        lines
    }

    fn find(&self, id: SessionId) -> Option<Line> {
        self.0.iter().flat_map(|row| &row.lines).find(|line| line.id == id).cloned()
    }

    /// Whether the primary's row has lines of other generations than a login's: former ones, or newer ones, if all were ended
    /// since the login has asked. Zero says nothing about others: sessions from before a key was there have it, too.
    fn has_others_than(&self, login: &Line) -> bool {
        let mut lines = self.0.first().into_iter().flat_map(|primary| &primary.lines);
        login.generation != 0 && lines.any(|line| line.generation != login.generation)
    }
}

impl KeptRow {
    fn expected(&self) -> Expected {
        self.revision.map_or(Expected::Absent, Expected::At)
    }

    fn has_any(&self, ids: &[SessionId]) -> bool {
        self.lines.iter().any(|line| ids.contains(&line.id))
    }
}

impl RosterProtocol<'_> {
    /// Reads the rosters. One that cannot be read is empty, and will be written over.
    pub(super) async fn read(&self, subject: &str) -> Result<Kept, StoreError> {
        let mut kept = Vec::new();
        for (key, place) in self.visit.rows.sealer.roster_rows(subject) {
            let (lines, revision) = match self.visit.rows.load_roster(&place, self.visit.deadline).await? {
                Some((lines, revision)) => (lines.unwrap_or_default(), Some(revision)),
                None => (Vec::new(), None),
            };
            kept.push(KeptRow { key, place, lines, revision });
        }
        Ok(Kept(kept))
    }

    /// Puts a line into the primary key's roster, and ensures that there are not too many.
    pub(crate) async fn enroll(&self, subject: &str, entry: Entry<'_>) -> Result<Enrolled, StoreError> {
        let _lock = self.lock(subject).await?;
        let mut gone = Vec::from_iter(entry.replaces);
        // What was there before the first try: later ones may find what an earlier one has written.
        let mut before = None;
        let mut tries = 0;
        loop {
            let mut kept = self.read(subject).await?;
            let found = (kept.find(entry.line.id), entry.replaces.and_then(|id| kept.find(id)));
            let (same, former) = before.get_or_insert(found);
            if entry.counts && kept.has_others_than(&entry.line) {
                self.ask_generation(&mut kept.0[0], subject).await?;
            }
            let others = |kept: &Kept, gone: &[SessionId]| {
                let mut others = kept.merged();
                others.retain(|line| {
                    line.id != entry.line.id && !gone.contains(&line.id) && !self.is_over(line)
                });
                others
            };
            let mut beside = others(&kept, &gone);
            if entry.counts && self.is_full(&beside) {
                // Others may have changed this very line, written by a driver's repeated command: then one of them may
                // have taken its place, and must not lose it again.
                let again = tries > 0 && kept.find(entry.line.id).is_none();
                if again && self.has_ended(entry.line.id).await? {
                    return Ok(Enrolled::Ended);
                }
                self.ask_generations(&mut kept, subject).await?;
                beside = others(&kept, &gone);
                let has_place = self.refuses() && self.has_place(&kept, &entry).await?;
                if !has_place && !self.make_room(&mut beside, &mut gone, entry.yields).await? {
                    return Ok(if entry.yields { Enrolled::Ended } else { Enrolled::Refused });
                }
            }
            let line = entry.over(kept.find(entry.line.id).as_ref().or(same.as_ref()), former.as_ref());
            if !self.write(&kept, (&line, &beside), &gone).await? {
                self.pause(tries).await?;
                tries += 1;
                continue;
            }
            let noted = Noted { key: kept.0[0].key, end: line.end };
            self.roster.noted.put(line.id, noted, self.visit.now);
            // A line that was there and is no more has been removed meanwhile, so it is new again. Or it is under another
            // key, where it may have been removed since: only the primary's row cannot be changed unnoticed.
            let stood = kept.0[0].has_any(&[line.id]);
            let (same, former) = before.unwrap_or_default();
            return Ok(match same {
                Some(_) if stood => Enrolled::Kept,
                _ => Enrolled::Added { former, sessions: beside.len() + 1 },
            });
        }
    }

    /// Writes the line into the primary's row beside its others, unless it is there and nothing has to go; and removes
    /// what is gone from other keys' rows. False: the primary's row has changed meanwhile.
    async fn write(
        &self,
        kept: &Kept,
        (line, others): (&Line, &[Line]),
        gone: &[SessionId],
    ) -> Result<bool, StoreError> {
        let Some((primary, rest)) = kept.0.split_first() else { return Ok(true) };
        if !primary.lines.contains(line) || primary.has_any(gone) {
            let stay: HashSet<_> = others.iter().map(|other| other.id.0).collect();
            let stays = |known: &&Line| stay.contains(&known.id.0);
            let mut lines: Vec<Line> = primary.lines.iter().filter(stays).cloned().collect();
            lines.push(line.clone());
            bound(&mut lines, self.visit.limits.stored.map_or(usize::MAX, |stored| stored.max_row));
            if !self.put(primary, &lines).await? {
                return Ok(false);
            }
        }
        for row in rest.iter().filter(|row| row.has_any(gone)) {
            let _ = self.remove_from(row.key, row.place, gone).await;
        }
        Ok(true)
    }

    /// Removes lines from all rosters of a subject.
    pub(crate) async fn remove(&self, subject: &str, ids: &[SessionId]) -> Result<(), StoreError> {
        let _lock = self.lock(subject).await?;
        let mut outcome = Ok(());
        for (key, place) in self.visit.rows.sealer.roster_rows(subject) {
            outcome = outcome.and(self.remove_from(key, place, ids).await);
        }
        outcome
    }

    async fn remove_from(&self, key: KeyId, place: RowKey, ids: &[SessionId]) -> Result<(), StoreError> {
        for tries in 0.. {
            let Some((Some(lines), revision)) =
                self.visit.rows.load_roster(&place, self.visit.deadline).await?
            else {
                return Ok(());
            };
            let mut row = KeptRow { key, place, lines, revision: Some(revision) };
            if !row.has_any(ids) {
                return Ok(());
            }
            row.lines.retain(|line| !ids.contains(&line.id) && !self.is_over(line));
            if self.put(&row, &row.lines).await? {
                return Ok(());
            }
            self.pause(tries).await?;
        }
        Ok(())
    }

    /// Writes these lines in place of those that were read; false: others have done so.
    async fn put(&self, row: &KeptRow, lines: &[Line]) -> Result<bool, StoreError> {
        let until = lines.iter().map(|line| line.end).max().unwrap_or(self.visit.now).plus(SKEW);
        // To the hour, or the row of a session that ends at the same moment could be recognized by that.
        let put = Put {
            place: &row.place,
            expected: row.expected(),
            revision: Revision::random(),
            expires_at: hour(until).plus(HOUR),
            deadline: self.visit.deadline,
        };
        self.visit.rows.write_roster(row.key, lines, put).await
    }

    /// Whether one more would be too many, going by the list.
    fn is_full(&self, others: &[Line]) -> bool {
        self.roster.most.is_some_and(|(most, _)| self.count(others) >= most)
    }

    /// Whether there are no more than before, because the entry has been accepted already, or replaces a session that
    /// goes on. The line alone does not show that: it may be left over, or a late use may have restored it.
    async fn has_place(&self, kept: &Kept, entry: &Entry<'_>) -> Result<bool, StoreError> {
        let stands = |id: &SessionId| kept.find(*id).is_some();
        match entry.replaces.filter(stands) {
            _ if stands(&entry.line.id) => Ok(true),
            // What never counted has none.
            Some(former) if !entry.yields && kept.find(former).is_some_and(|line| is_login(&line)) => {
                Ok(!self.has_ended(former).await?)
            }
            _ => Ok(false),
        }
    }

    /// Keeps the others to one less than the limit; false: there are too many, and no session is ended for a login, or
    /// for this one, which `yields`.
    async fn make_room(
        &self,
        others: &mut Vec<Line>,
        gone: &mut Vec<SessionId>,
        yields: bool,
    ) -> Result<bool, StoreError> {
        let Some((most, overflow)) = self.roster.most.filter(|_| self.is_full(others)) else {
            return Ok(true);
        };
        // A line may be left over from an ended session; for that no other has to go.
        let needed = self.count(others) + 1 - most;
        let (ended, outcome) = self.drop_ended(others, needed).await;
        gone.extend(ended);
        outcome?;
        match overflow {
            _ if !self.is_full(others) => Ok(true),
            Overflow::Refuse => Ok(false),
            Overflow::EndOldest if yields => Ok(false),
            Overflow::EndOldest => {
                gone.extend(self.end_oldest(others, most - 1).await?);
                Ok(true)
            }
        }
    }

    /// Asks under each key that has lines for the subject's present generation, and drops the lines of others.
    pub(super) async fn ask_generations(&self, kept: &mut Kept, subject: &str) -> Result<(), StoreError> {
        for row in kept.0.iter_mut().filter(|row| !row.lines.is_empty()) {
            self.ask_generation(row, subject).await?;
        }
        Ok(())
    }

    async fn ask_generation(&self, row: &mut KeptRow, subject: &str) -> Result<(), StoreError> {
        let Some(place) = self.visit.rows.sealer.subject_row(row.key, subject) else { return Ok(()) };
        let present = self.revoking.ask_subject_now(&self.visit, &place, Need::Vital).await?;
        if let Some(present) = present {
            row.lines.retain(|line| line.generation == present);
        }
        Ok(())
    }

    /// Whether this process is changing the roster just now.
    pub(super) fn is_changing(&self, subject: &str) -> bool {
        self.roster.turns.is_held(&self.visit.rows.sealer.roster_rows(subject)[0].1)
    }

    /// One change of a subject's roster at a time in this process.
    async fn lock(&self, subject: &str) -> Result<RowLock<'_, ()>, StoreError> {
        let place = self.visit.rows.sealer.roster_rows(subject)[0].1;
        self.roster.turns.lock(place, self.visit.deadline).await.ok_or_else(too_busy)
    }

    async fn pause(&self, tries: u32) -> Result<(), StoreError> {
        self.visit.rows.pause(tries, self.visit.deadline).await.map_err(|_| too_busy())
    }
}

impl Entry<'_> {
    /// The line, merged with that of this session, or of the one that it replaces.
    fn over(&self, same: Option<&Line>, former: Option<&Line>) -> Line {
        let mut line = self.line.clone();
        let before = same.or(former);
        line.label = match (self.label, before) {
            (Some(label), _) => label.into(),
            (None, Some(before)) => before.label.clone(),
            (None, None) => "".into(),
        };
        if let Some(same) = same {
            line.seen = line.seen.max(same.seen);
            line.end = if line.end <= same.end { same.end } else { line.end.plus(self.slack) };
        }
        line
    }
}

/// Drops the lines least recently seen, beyond what a roster may have. The newest is the last, and stays.
fn bound(lines: &mut Vec<Line>, max_row: usize) {
    let mut len = ROSTER_HEAD + lines.iter().map(Line::encoded_len).sum::<usize>();
    while lines.len() > MAX_LINES || RowSealer::sealed_len(len) > max_row {
        let others = lines.len().saturating_sub(1);
        let Some((unseen, _)) = lines[..others].iter().enumerate().min_by_key(|(_, line)| line.seen) else {
            return;
        };
        len -= lines.remove(unseen).encoded_len();
    }
}

fn too_busy() -> StoreError {
    StoreError::Timeout("others kept changing the list of the subject's sessions".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::{HOUR, MAX_LABEL_BYTES};

    fn line(n: u16, hours: i64, label: usize) -> Line {
        let mut id = [1; 16];
        id[..2].copy_from_slice(&n.to_le_bytes());
        Line {
            id: SessionId(id),
            generation: 0,
            created_at: Millis(1),
            authenticated_at: Millis::ZERO,
            seen: Millis(hours * HOUR.0),
            end: Millis(i64::MAX),
            label: "x".repeat(label).into(),
        }
    }

    #[test]
    fn a_roster_has_a_thousand_lines_and_those_who_were_not_seen_for_longest_go() {
        let mut lines: Vec<_> =
            (0..1_003).map(|n| line(n, i64::from(n % 500) + 1, MAX_LABEL_BYTES)).collect();
        lines.push(line(2_000, 0, 0));
        let (longest, newest) = (lines[1].clone(), lines[1_003].clone());
        bound(&mut lines, usize::MAX);
        assert_eq!(lines.len(), MAX_LINES);
        assert!(!lines.contains(&longest) && lines.last() == Some(&newest), "the newest stays");
        let (max_row, before) = (RowSealer::sealed_len(super::super::row_for(MAX_LINES)), lines.clone());
        bound(&mut lines, max_row);
        assert_eq!(lines, before, "a thousand of the longest fit what the builder asks for");
        bound(&mut lines, 8_192);
        assert!((40..60).contains(&lines.len()) && lines.last() == Some(&newest));
        bound(&mut lines, 0);
        assert_eq!(lines, [newest], "one stays, whatever fits");
    }

    #[test]
    fn lists_of_several_keys_are_one_and_the_primarys_word_goes_first() {
        let row = |key, lines| KeptRow {
            key: KeyId([key; 4]),
            place: RowKey::from_bytes([key; 32]),
            lines,
            revision: None,
        };
        let (mut moved, old) = (line(1, 5, 3), line(1, 7, 9));
        moved.end = Millis(4);
        let kept = Kept(vec![row(1, vec![moved.clone()]), row(2, vec![line(2, 1, 0), old.clone()])]);
        let merged = kept.merged();
        assert_eq!(merged, [Line { seen: old.seen, end: old.end, ..moved }, line(2, 1, 0)]);
    }
}
