//! The cookies of our name that a request carries: each is judged, and at most one is taken.

use std::sync::Arc;

use tokio::time::Instant;

use crate::core::clock::Millis;
use crate::core::cookie::scan_both;
use crate::core::envelope::{Parsed, Sealer};
use crate::core::error::Rejection;
use crate::core::key::Reload;
use crate::core::lifetime::{self, SKEW, Terms, Verdict};
use crate::core::record::{self, Header, Packed, SessionId};
use crate::core::state::{Besides, Loaded};

/// At most this many cookies of our name are opened per request. A browser sends more than one only if somebody
/// planted them.
const MAX_OPENED: usize = 8;
/// Of several proofs, which only somebody who plants them makes, so many are looked at.
const MAX_PROOFS: usize = 4;

/// A cookie that was accepted. Both parts stay where they were made for as long as they are needed: a session is moved when
/// it is made, and they are not.
pub(crate) struct Candidate {
    pub(crate) loaded: Box<Loaded>,
    pub(crate) entries: Arc<Packed>,
}

/// A cookie that was not.
pub(crate) struct Refusal {
    pub(crate) reason: Rejection,
    /// The session, if it is an authentic cookie of one.
    pub(crate) id: Option<SessionId>,
    /// Whether no later answer could have replaced it by a good one, so that it may be removed from the browser.
    pub(crate) removable: bool,
    /// Whether another server may take it, which has longer limits, as while these are changed.
    #[cfg_attr(
        not(all(feature = "device-binding", any(feature = "actix", feature = "tower"))),
        allow(dead_code)
    )]
    pub(crate) lives_elsewhere: bool,
}

impl Refusal {
    /// One that stays in the browser.
    pub(crate) fn of(reason: Rejection) -> Self {
        Self { reason, id: None, removable: false, lives_elsewhere: false }
    }
}

/// What a request's `Cookie` headers come to.
#[derive(Default)]
pub(crate) struct Found {
    /// The cookie to take, or why there is none; `None` without any cookie of our name.
    pub(crate) outcome: Option<Result<Candidate, Refusal>>,
    /// How many cookies of our name there were.
    pub(crate) cookies: usize,
    /// How many of them are live.
    pub(crate) live: usize,
    /// What is not taken and has to be remembered.
    pub(crate) besides: Option<Box<Besides>>,
    /// Whether live ones had different session ids.
    pub(crate) ambiguous: bool,
    /// What became of looking for a key that one of them names.
    pub(crate) reload: Option<Reload>,
    /// When the request came, if somebody was there to notice.
    pub(crate) arrived: Option<Instant>,
    /// The proofs of devices, as they came.
    pub(crate) proofs: Vec<Box<[u8]>>,
}

/// Looks at every cookie of exactly our name, and gathers those of the proof's, if there are any.
pub(crate) fn choose<H: AsRef<[u8]>>(
    cookie_headers: impl IntoIterator<Item = H>,
    (name, proof): (&str, Option<&str>),
    sealer: &Sealer,
    terms: &Terms,
    now: Millis,
) -> Found {
    let mut found = Found::default();
    let (mut opened, mut looked) = (0, false);
    for header in cookie_headers {
        for (is_proof, value) in scan_both(header.as_ref(), (name, proof)) {
            if is_proof {
                found.keep_proof(value);
                continue;
            }
            found.cookies += 1;
            let mut parsed = parse(value, sealer);
            if let Err(Refusal { reason: Rejection::UnknownKey(_), .. }) = parsed
                && !std::mem::replace(&mut looked, true)
            {
                found.reload = sealer.ring().look_for_unknown(Some(now));
                parsed = parse(value, sealer);
            }
            let judged = parsed.and_then(|parsed| {
                // What is over the limit is refused like what the cipher refuses: nobody but an attacker sends it.
                opened += 1;
                if opened > MAX_OPENED {
                    Err(refuse(false)(Rejection::Tampered))
                } else {
                    open(parsed, terms, now)
                }
            });
            found.take(judged, value);
        }
    }
    found
}

impl Found {
    fn keep_proof(&mut self, value: &[u8]) {
        if self.proofs.len() < MAX_PROOFS {
            self.proofs.push(value.into());
        }
    }

    /// Keeps the best: a live one before a refused one, the newest of the live, the one that came furthest of the
    /// refused.
    fn take(&mut self, judged: Result<Candidate, Refusal>, value: &[u8]) {
        self.live += usize::from(judged.is_ok());
        let stays = judged.as_ref().is_err_and(|refusal| !refusal.removable);
        let better = match (&self.outcome, &judged) {
            (None, _) | (Some(Err(_)), Ok(_)) => true,
            (Some(Ok(_)), Err(_)) => false,
            (Some(Err(best)), Err(other)) => rank(other.reason) > rank(best.reason),
            (Some(Ok(best)), Ok(other)) => {
                self.ambiguous |= best.header().id != other.header().id;
                other.is_newer_than(best)
            }
        };
        if stays || self.outcome.is_some() {
            self.remember(&judged, better, stays.then_some(value));
        }
        if better {
            self.outcome = Some(judged);
        }
    }

    /// Before it is decided: live ones of other sessions than the best, and a refused one that is the best so far.
    fn remember(&mut self, judged: &Result<Candidate, Refusal>, better: bool, stays: Option<&[u8]>) {
        let besides = self.besides.get_or_insert_default();
        if better {
            besides.refused = stays.map(Into::into);
        }
        let (worse, best) = match &self.outcome {
            Some(former) if better => (Some(former), judged),
            Some(best) => (Some(judged), best),
            None => (None, judged),
        };
        if let (Some(Ok(worse)), Ok(best)) = (worse, best) {
            besides.others.push(worse.header().clone());
            besides.others.retain(|other| other.id != best.header().id);
        }
    }
}

/// Judges one cookie value.
pub(crate) fn judge(value: &[u8], sealer: &Sealer, terms: &Terms, now: Millis) -> Result<Candidate, Refusal> {
    open(parse(value, sealer)?, terms, now)
}

fn parse(value: &[u8], sealer: &Sealer) -> Result<Parsed, Refusal> {
    sealer.parse(value).map_err(|reason| refuse(reason == Rejection::Malformed)(reason))
}

fn open(parsed: Parsed, terms: &Terms, now: Millis) -> Result<Candidate, Refusal> {
    let opened = parsed.open().map_err(refuse(true))?;
    let (key_id, retired_key) = (opened.key, opened.retired_key);
    // Authentic, so another version of this library made it, which may still need it.
    let (header, entries) = record::decode(opened).map_err(|_| refuse(false)(Rejection::Malformed))?;
    let due = match lifetime::judge(&header.times, terms, now) {
        Verdict::Live => None,
        Verdict::Due(due) => Some(due),
        Verdict::Over { end, at } => {
            // A node with longer limits may take it, so that one may remove it.
            let lives_elsewhere = lifetime::may_live_elsewhere(&header.times, terms, now);
            let refusal = refuse(now.minus(at) > SKEW && !lives_elsewhere)(Rejection::Expired(end));
            return Err(Refusal { id: Some(header.id), lives_elsewhere, ..refusal });
        }
        Verdict::Future => return Err(Refusal { id: Some(header.id), ..refuse(false)(Rejection::Future) }),
    };
    let loaded = Box::new(Loaded { header, due, key_id, retired_key });
    Ok(Candidate { loaded, entries: Arc::new(entries) })
}

fn refuse(removable: bool) -> impl Fn(Rejection) -> Refusal {
    move |reason| Refusal { removable, ..Refusal::of(reason) }
}

impl Candidate {
    pub(crate) fn header(&self) -> &Header {
        &self.loaded.header
    }

    /// Of one session the later issue counts; of different ones the one sealed last.
    fn is_newer_than(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.header(), other.header());
        if ours.id == theirs.id {
            return ours.counter > theirs.counter;
        }
        ours.times.sealed_at > theirs.times.sealed_at
    }
}

/// How far a refused cookie came.
fn rank(reason: Rejection) -> u8 {
    match reason {
        Rejection::Malformed => 0,
        Rejection::UnknownSuite(_) => 1,
        Rejection::UnknownKey(_) => 2,
        Rejection::RevokedKey(_) => 3,
        Rejection::Tampered => 4,
        Rejection::Future => 5,
        Rejection::Expired(_) => 6,
        // Told by the store, which is asked for one cookie alone.
        Rejection::Missing | Rejection::Revoked => 7,
        // Told of the one that was taken.
        Rejection::Unproven => 8,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::envelope::TRIALS;
    use crate::core::key::{Key, KeyRing, Purpose};
    use crate::core::lifetime::Lifetime;
    use crate::core::state::{Origin, State};

    const NOW: Millis = Millis(1_767_225_600_000);

    fn key(n: u8) -> Key {
        Key::from_bytes([n; 32])
    }

    fn sealer(keys: impl IntoIterator<Item = u8>) -> Sealer {
        let ring = KeyRing::from_keys(keys.into_iter().map(key)).unwrap();
        Sealer::new(ring, Purpose::Cookie, "s")
    }

    /// A cookie sealed by this key, and the same with a changed last character.
    fn sealed(header: &Header, n: u8) -> String {
        let write = |text: &mut Vec<u8>| record::encode(header, 0, std::iter::empty::<(&str, &[u8])>(), text);
        let mut value = Vec::new();
        sealer([n]).seal(None, NOW, write, &mut value);
        String::from_utf8(value).unwrap()
    }

    fn cookie(n: u8) -> (String, String) {
        let good = sealed(&State::new(Origin::New, &terms(), NOW).header, n);
        let mut bad = good.clone().into_bytes();
        bad[100] = if bad[100] == b'A' { b'B' } else { b'A' };
        (good, String::from_utf8(bad).unwrap())
    }

    fn terms() -> Terms {
        Lifetime::default().terms(Duration::from_secs(86_400)).unwrap()
    }

    /// How many trials the header costs, and how many cookies of it are live.
    fn trials(header: &str, sealer: &Sealer) -> (usize, usize) {
        let before = TRIALS.get();
        let found = choose([header], ("s", None), sealer, &terms(), NOW);
        (TRIALS.get() - before, found.live)
    }

    /// Rings that try each key let an attacker halve the possible keys with each cookie that several keys open (Len,
    /// Grubbs, Ristenpart 2021). Here the cookie names its key, and the name is authenticated.
    #[test]
    fn of_a_ring_of_a_hundred_keys_exactly_one_is_tried_per_cookie() {
        let ring = sealer(1..=100);
        for n in [1, 2, 50, 100] {
            let (good, bad) = cookie(n);
            assert_eq!(trials(&format!("s={good}"), &ring), (1, 1));
            assert_eq!(trials(&format!("s={bad}"), &ring), (1, 0));
            // Under the name of another key it is that one, and no other, that is tried.
            let stranger = cookie(if n == 1 { 2 } else { 1 }).0;
            let renamed = format!("s={}{}", &stranger[..7], &good[7..]);
            assert_eq!(trials(&renamed, &ring), (1, 0));
        }
        assert_eq!(trials(&format!("s={}", cookie(101).0), &ring), (0, 0));
        assert_eq!(trials("s=AAAA; s=; s=!; t=1", &ring), (0, 0));
    }

    #[test]
    fn of_cookies_that_are_equally_good_or_equally_bad_the_first_counts() {
        let ring = sealer([1, 2]);
        let outcome = |first: &str, second: &str| {
            choose([format!("s={first}; s={second}")], ("s", None), &ring, &terms(), NOW).outcome.unwrap()
        };
        let taken = |first: &str, second: &str| outcome(first, second).ok().unwrap();

        // Of one session, with one counter, as two parallel responses have it.
        let header = State::new(Origin::New, &terms(), NOW).header;
        let (under_one, under_two) = (sealed(&header, 1), sealed(&header, 2));
        assert_eq!(taken(&under_one, &under_two).loaded.key_id, key(1).id());
        assert_eq!(taken(&under_two, &under_one).loaded.key_id, key(2).id());
        let newer = sealed(&Header { counter: 1, ..header.clone() }, 1);
        assert_eq!(taken(&newer, &under_two).header().counter, 1);
        assert_eq!(taken(&under_two, &newer).header().counter, 1);

        // Of different sessions that were sealed in the same millisecond.
        let other = State::new(Origin::New, &terms(), NOW).header;
        assert_eq!(taken(&under_one, &sealed(&other, 1)).header().id, header.id);
        assert_eq!(taken(&sealed(&other, 1), &under_one).header().id, other.id);

        let reason = |first: &str, second: &str| outcome(first, second).err().unwrap().reason;
        let (unknown, other_unknown) = (cookie(3).0, cookie(4).0);
        assert_eq!(reason(&unknown, &other_unknown), Rejection::UnknownKey(key(3).id()));
        assert_eq!(reason(&other_unknown, &unknown), Rejection::UnknownKey(key(4).id()));
    }

    #[test]
    fn a_flood_of_cookies_costs_eight_trials_and_the_good_one_among_the_first_is_found() {
        let (good, bad) = cookie(1);
        let ring = sealer([1]);
        let flood = |before: usize, after: usize| {
            let bad = format!("s={bad}; ");
            format!("{}s={good}; {}x=1", bad.repeat(before), bad.repeat(after))
        };
        assert_eq!(trials(&flood(0, 200), &ring), (8, 1));
        assert_eq!(trials(&flood(7, 193), &ring), (8, 1));
        assert_eq!(trials(&flood(8, 192), &ring), (8, 0));
        // What cannot be a cookie costs none, however much there is of it.
        let rubbish = format!("{}s={good}", "s=rubbish; a=1; ".repeat(9_000));
        assert!(rubbish.len() > 128 << 10);
        assert_eq!(trials(&rubbish, &ring), (1, 1));
    }
}
