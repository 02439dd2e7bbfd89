//! The generations of subjects: a session is its subject's while it has the present one, and another one ends all that the subject
//! had.

use super::{Need, Revoking, counted};
use crate::core::clock::Millis;
use crate::core::error::StoreError;
use crate::core::key::KeyId;
use crate::core::lifetime::SKEW;
use crate::core::measure::About;
use crate::core::random;
use crate::core::record::Header;
use crate::store::rows::{Put, Rows, Visit};
use crate::store::{Expected, Revision, RowKey};

impl Revoking {
    /// Whether the subject at this place is known to have another generation than the session; `None`: it is time to
    /// ask.
    pub(crate) fn is_subject_known_revoked(
        &self,
        place: &RowKey,
        generation: u64,
        now: Millis,
    ) -> Option<bool> {
        let (present, asked) = self.subjects.get(place)?;
        self.is_fresh(asked, now).then(|| differs(present, generation))
    }

    /// Whether the subject has been revoked since the session began. Of what is cached, only what lets the session go on
    /// counts: another generation cached here may mean that the session has a newer one, given elsewhere. But if the
    /// store does not answer, the session is over.
    pub(crate) async fn is_subject_revoked(
        &self,
        visit: &Visit<'_>,
        place: &RowKey,
        Header { id, generation, times, .. }: &Header,
    ) -> Result<bool, StoreError> {
        let known = || match self.has_ended(*id) {
            true => Some(true),
            false => self.is_subject_known_revoked(place, *generation, visit.now),
        };
        let mut is_known = false;
        let ask = async {
            let _lock = self.question_lock(*place, visit.deadline).await?;
            if known() == Some(false) || self.has_ended(*id) {
                is_known = true;
                return Ok(known() == Some(true));
            }
            let present = self.breaker.guard(visit, place, self.load_subject(visit, place)).await?;
            let revoked = differs(present, *generation);
            if revoked {
                self.ended(*id, visit.now);
            }
            Ok(revoked)
        };
        if known() == Some(false) {
            return counted(About::Subject, true, Ok(false));
        }
        let answer = ask.await;
        match counted(About::Subject, is_known, answer) {
            Err(_) if known() == Some(true) || self.has_replaced(place, *generation, times.created_at) => {
                Ok(true)
            }
            answer => answer,
        }
    }

    /// The same, without assuming anything where the store does not answer.
    pub(crate) async fn ask_subject_revoked(
        &self,
        visit: &Visit<'_>,
        place: &RowKey,
        header: &Header,
    ) -> Result<bool, StoreError> {
        let present = self.ask_subject_now(visit, place, Need::Optional).await?;
        Ok(differs(present, header.generation))
    }

    /// Asks, whatever is cached.
    pub(crate) async fn ask_subject_now(
        &self,
        visit: &Visit<'_>,
        place: &RowKey,
        need: Need,
    ) -> Result<Option<u64>, StoreError> {
        let question = self.load_subject(visit, place);
        let answer = match need {
            Need::Vital => question.await,
            Need::Optional => self.breaker.guard(visit, place, question).await,
        };
        counted(About::Subject, false, answer)
    }

    async fn load_subject(&self, visit: &Visit<'_>, place: &RowKey) -> Result<Option<u64>, StoreError> {
        let epoch = self.subjects.epoch(place);
        let row = visit.rows.load_generation(place, visit.deadline).await?;
        let generation = row.map(|(generation, _)| generation).transpose()?;
        self.subjects.learn(*place, generation, visit.now, epoch);
        Ok(generation)
    }

    /// Gives the subject another generation under every key of the ring, and returns it, so that sessions of former ones
    /// are no longer the subject's; even if the former one cannot be read. The rows last until the last of those is over.
    pub(crate) async fn replace_generation(
        &self,
        visit: Visit<'_>,
        subject: &str,
    ) -> Result<u64, StoreError> {
        let Visit { rows, now, deadline, .. } = visit;
        // Sessions that began before the subject had any have zero.
        let generation = u64::from_ne_bytes(random::from_system()).max(1);
        let mut written: Vec<KeyId> = Vec::new();
        // A key added meanwhile may have sealed a session by the time the others' rows are written, even one that another
        // process has read from the file and this one has not.
        while let Some((key, place)) = next_row(rows, subject, &written).or_else(|| {
            rows.look_for_keys(now);
            next_row(rows, subject, &written)
        }) {
            let (mut expected, mut replaced) = (Expected::Absent, None);
            for tries in 0.. {
                let (revision, expires_at) = (Revision::random(), visit.mark_end_of_any());
                let put = Put { place: &place, expected, revision, expires_at, deadline };
                if rows.write_generation(key, generation, put).await? {
                    break;
                }
                (expected, replaced) = match rows.load_generation(&place, deadline).await? {
                    // The conflict was with ourselves: a driver has repeated the write.
                    Some((Ok(present), _)) if present == generation => break,
                    // An unreadable one belonged to nobody.
                    Some((former, revision)) => (Expected::At(revision), Some(former.unwrap_or(generation))),
                    None => (Expected::Absent, None),
                };
                let patience = rows.pause(tries, deadline).await;
                patience
                    .map_err(|_| StoreError::Timeout("other requests kept writing the subject".into()))?;
            }
            self.subjects.put(place, Some(generation), now);
            self.own_generations.put(place, (generation, replaced), now);
            written.push(key);
        }
        Ok(generation)
    }

    /// A subject's generation, if this process has put it there `since` then, in place of the session's. A session
    /// revoked before that does not come back by revoking others.
    pub(crate) fn own_generation(&self, place: &RowKey, since: Millis, of: u64) -> Option<u64> {
        let ((generation, replaced), at) = self.own_generations.get(place)?;
        (at >= since && !differs(replaced, of)).then_some(generation)
    }

    /// Whether this generation, if this process has put it at this place, is there in place of that one or of none.
    pub(crate) fn has_replaced_nothing_but(&self, place: &RowKey, own: u64, of: u64) -> bool {
        let known = self.own_generations.get(place);
        known.is_none_or(|((generation, replaced), _)| generation != own || !differs(replaced, of))
    }

    /// Whether this process itself has ended what the subject had in this generation, however long ago: no answer is needed.
    /// Later ones may have it again, once the row has gone, which takes longer than clocks differ.
    fn has_replaced(&self, place: &RowKey, of: u64, created_at: Millis) -> bool {
        let own = self.own_generations.get(place);
        own.is_some_and(|((own, replaced), at)| {
            own != of && replaced.unwrap_or(0) == of && created_at <= at.plus(SKEW)
        })
    }
}

/// The row of the subject under a key of the ring other than these.
fn next_row(rows: &Rows, subject: &str, but: &[KeyId]) -> Option<(KeyId, RowKey)> {
    rows.sealer.subject_rows(subject).into_iter().find(|(key, _)| !but.contains(key))
}

fn differs(present: Option<u64>, generation: u64) -> bool {
    present.is_some_and(|present| present != generation)
}
