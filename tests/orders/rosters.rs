//! What has to hold of the lists of sessions after a schedule. Whether a session is alive is asked with its cookie on a node
//! that has seen nothing and keeps no lists; what is listed, on another one that has seen nothing.
//!
//! | what was promised | where it is asserted |
//! |---|---|
//! | without a fault a list holds exactly the subject's sessions that are alive, each once; a session that became another's is in the other's list | `check_lists` |
//! | what has ended is in no list, whatever went wrong | `check_lists`, `check_look` |
//! | without a fault no line is left over of a session that has ended, but by `revoke_subject`, which leaves the list alone, and where another request came with it meanwhile, which may have put the line back | `check_leftovers` |
//! | a fault costs one line at most, or where a call is never answered, those of the process that waited for it to the end of their time; and they are back when their session is used in another hour; or it leaves one line of a session whose cookie nobody has got | `check_lists`, `check_next_hour` |
//! | after a revocation that has failed what is sealed under a retired key may go on and be in no list | `check_list` |
//! | all nodes see the same list | `check_nodes` |
//! | who looks sees what was there before, and nothing that had ended before | `check_look` |
//! | a name stays with its session, and goes with it to its next id | `check_names` |
//! | a session ends by what was done to it, or by a login over the limit: never more of them than are over it, and none while the limit leaves room for all that began later; with as many alive as there may be | `check_ends`, `check_counts` |
//! | never more sessions alive than the limit; one more at most with a fault, which has cost a line, and where a renewal meets a renewal or a login that comes with the same session, or with `Refuse` a login a login | `check_counts` |
//! | what was acknowledged to have ended has | `check_ends` |
//! | a login gets a cookie or a failure; without a fault it fails only where its session was ended meanwhile by another login, by somebody who looked or by `revoke_subject`, and is refused only where there was no room | `check_request` |

use std::collections::BTreeSet;
use std::time::Duration;

use sealed_session::{Origin, Overflow, SessionSummary, Sessions};
use time::OffsetDateTime;

use crate::invariants::LONGEST;
use crate::programs::{NAMES, Op, Program};
use crate::requests::{Answer, LABEL, Outcome, inspected};
use crate::schedule::{Finished, Told};
use crate::steps::Verdict;
use crate::world::{Beginning, HEARD, HOUR, Time, World};

const USERS: [&str; 2] = ["ada", "bob"];
/// For how long a request waits for the store, where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(2);

/// A session of which somebody has a cookie, be it over or not.
struct Held {
    issuer: Option<usize>,
    cookie: String,
    handle: String,
    subject: String,
    began: OffsetDateTime,
    is_alive: bool,
    /// A retired key had sealed it.
    is_retired: bool,
}

struct Case<'a> {
    program: &'a Program,
    start: &'a Beginning,
    finished: &'a Finished,
    world: &'a World,
    time: &'a Time,
    /// It has seen nothing, and keeps lists.
    node: Sessions,
    held: Vec<Held>,
    failures: Vec<String>,
}

/// Everything that does not hold, in sentences.
pub(crate) fn broken(
    (program, start, time): (&Program, &Beginning, &Time),
    world: &World,
    finished: &Finished,
) -> Vec<String> {
    if finished.stuck {
        return vec!["a request never ends".to_owned()];
    }
    if !finished.faults.is_empty() {
        time.recover();
    }
    let (node, held, failures) = (world.fresh(true), Vec::new(), Vec::new());
    let mut case = Case { program, start, finished, world, time, node, held, failures };
    case.held = case.hold();
    if case.finished.is_forgetful() {
        // Nothing is promised but that the list can be read and has nothing twice.
        case.check_lists();
        return case.failures;
    }
    case.all().for_each(|who| case.check_request(who));
    case.check_ends();
    case.check_counts();
    case.all().for_each(|who| case.check_look(who));
    if !case.finished.is_faulted() {
        case.check_leftovers();
    }
    case.check_lists();
    case.check_nodes();
    if !case.finished.is_faulted() {
        case.check_names();
    }
    case.check_next_hour();
    case.failures
}

impl Case<'_> {
    fn all(&self) -> std::ops::Range<usize> {
        0..self.program.ops.len()
    }

    fn others(&self, who: usize) -> impl Iterator<Item = usize> + use<> {
        self.all().filter(move |&other| other != who)
    }

    fn told(&self, who: usize) -> &Told {
        &self.finished.told[who]
    }

    /// Whether neither was over when the other began.
    fn do_overlap(&self, one: usize, other: usize) -> bool {
        let begins_within = |one, other| {
            let (told, left): (&Told, _) = (self.told(one), self.told(other).left);
            left.is_none() || told.began < left
        };
        begins_within(one, other) && begins_within(other, one)
    }

    fn op(&self, who: usize) -> Op {
        self.program.ops[who]
    }

    fn fail(&mut self, sentence: String) {
        if !self.failures.contains(&sentence) {
            self.failures.push(sentence);
        }
    }

    /// The sessions that there were, and those that came of requests, each once.
    fn hold(&self) -> Vec<Held> {
        let judge = self.world.fresh(false);
        let mut held: Vec<Held> = Vec::new();
        let first = self.start.cookie.as_ref().zip(self.start.handle.as_ref());
        let there = self.start.there.as_ref().map(|there| (&there.cookie, &there.handle));
        let issued = self.all().filter_map(|who| match &self.told(who).outcome {
            Outcome { answer: Some(Answer::Cookie(cookie)), handle: Some(handle), .. } => {
                Some((Some(who), cookie, handle))
            }
            _ => None,
        });
        let before = first.into_iter().chain(there).map(|(cookie, handle)| (None, cookie, handle));
        for (issuer, cookie, handle) in before.chain(issued) {
            let Ok(told) = inspected(&judge, cookie) else { continue };
            let (Some(subject), Some(began)) = (told.subject, told.authenticated_at) else { continue };
            let origin = self.time.wait(judge.load([cookie])).map(|session| session.origin());
            let is_alive = origin.is_ok_and(|origin| origin == Origin::Resumed);
            let (cookie, handle, is_retired) = (cookie.clone(), handle.clone(), told.is_retired);
            match held.iter_mut().find(|known| known.handle == handle) {
                Some(known) => known.is_alive |= is_alive,
                None => held.push(Held { issuer, cookie, handle, subject, began, is_alive, is_retired }),
            }
        }
        held
    }

    fn of(&self, user: &str) -> impl Iterator<Item = &Held> {
        self.held.iter().filter(move |held| held.subject == user)
    }

    fn alive(&self, user: &str) -> BTreeSet<String> {
        self.of(user).filter(|held| held.is_alive).map(|held| held.handle.clone()).collect()
    }

    fn name(&self, held: &Held) -> String {
        match held.issuer {
            Some(who) => format!("{}'s session", NAMES[who]),
            None if Some(&held.handle) == self.start.handle.as_ref() => "the first session".to_owned(),
            None => "the session there".to_owned(),
        }
    }

    fn logs_in(&self, who: usize) -> Option<&'static str> {
        match self.op(who) {
            Op::LoginSame | Op::LoginThere | Op::LoginLargeThere => Some("ada"),
            Op::LoginOther => Some("bob"),
            _ => None,
        }
    }

    fn is_refused(&self, who: usize) -> bool {
        matches!(self.told(who).outcome.answer, Some(Answer::Failed("too many", _)))
    }

    /// Whether it is there to end this session.
    fn means_to_end(&self, who: usize, held: &Held) -> bool {
        let is_first = Some(&held.handle) == self.start.handle.as_ref();
        match self.op(who) {
            Op::Destroy | Op::LoginSame | Op::LoginOther | Op::Renew => is_first,
            Op::DestroyThere => self.start.there.as_ref().is_some_and(|there| there.handle == held.handle),
            Op::RevokeSubject => held.subject == "ada",
            Op::EndOther => self.told(who).outcome.other.as_ref().is_some_and(|(it, _)| *it == held.handle),
            _ => false,
        }
    }

    /// Whether it has said that it ended this session.
    fn has_ended(&self, who: usize, held: &Held) -> bool {
        let Told { outcome, lost, began, .. } = self.told(who);
        let answered = matches!(outcome.answer, Some(Answer::Cookie(_) | Answer::Removal | Answer::Nothing));
        let said = match self.op(who) {
            Op::EndOther => matches!(&outcome.other, Some((_, true))),
            // What begins meanwhile is not concerned.
            Op::RevokeSubject => {
                answered
                    && held.issuer.is_none_or(|issuer| {
                        let left = self.told(issuer).left;
                        left.is_some() && left < *began
                    })
            }
            _ => answered && !lost,
        };
        said && self.means_to_end(who, held)
    }

    /// Whether another request may have put an end to the session that this one was about to begin.
    fn may_lose_its_place(&self, who: usize) -> bool {
        let displaces = matches!(self.program.setup.special.limit(), Some((_, Overflow::EndOldest)));
        self.others(who).any(|other| match self.op(other) {
            Op::EndOther => {
                let it = self.told(other).outcome.other.as_ref().map(|(it, _)| it);
                it.is_some() && it == self.told(who).outcome.handle.as_ref()
            }
            _ => displaces && self.logs_in(other).is_some() && self.logs_in(other) == self.logs_in(who),
        })
    }

    fn check_request(&mut self, who: usize) {
        let name = NAMES[who];
        let Told { outcome, lost, left, took, .. } = self.told(who);
        let mut found = Vec::new();
        let comes_with_first = !self.op(who).is_elsewhere();
        let first = self.held.iter().find(|held| match self.op(who) {
            Op::DestroyThere => self.start.there.as_ref().is_some_and(|there| there.handle == held.handle),
            _ => comes_with_first && Some(&held.handle) == self.start.handle.as_ref(),
        });
        let ended = first.is_some_and(|first| self.may_have_ended(who, first));
        match &outcome.answer {
            // Where there was no room.
            Some(Answer::Failed("too many", _)) if self.finished.is_faulted() || !self.has_had_room(who) => {}
            Some(Answer::Failed("ended", _)) if ended || self.may_lose_its_place(who) => {}
            Some(Answer::Failed(kind, error)) if !self.finished.is_faulted() || self.finished.loses_write => {
                found.push(format!("{name} fails ({kind}): {error}"));
            }
            Some(Answer::Removal | Answer::Nothing) if self.logs_in(who).is_some() => {
                found.push(format!("{name} logs in and gets no cookie"));
            }
            _ => {}
        }
        if *lost && !ended && !self.may_lose_its_place(who) {
            found.push(format!("{name} is told that the session is over"));
        }
        if outcome.answer.is_some() != left.is_some() {
            found.push(format!("{name} does not come to an answer"));
        }
        if *took > LONGEST {
            found.push(format!("{name} takes {took:?}"));
        }
        found.into_iter().for_each(|sentence| self.fail(sentence));
    }

    /// Whether others may have ended this session, which that request has come with.
    fn may_have_ended(&self, who: usize, held: &Held) -> bool {
        self.others(who).any(|other| self.means_to_end(other, held) || self.may_displace(other, held))
    }

    /// Whether this login may have ended the session to keep to the limit.
    fn may_displace(&self, who: usize, held: &Held) -> bool {
        let Some((most, Overflow::EndOldest)) = self.program.setup.special.limit() else { return false };
        if self.logs_in(who) != Some(&held.subject) || held.issuer == Some(who) {
            return false;
        }
        let later = self.held.iter().filter(|other| {
            other.issuer.is_none()
                && other.handle != held.handle
                && other.subject == held.subject
                && other.began >= held.began
        });
        let logins = self.all().filter(|&other| {
            held.issuer != Some(other)
                && self.logs_in(other) == Some(&held.subject)
                && !self.is_refused(other)
        });
        later.count() + logins.count() >= most
    }

    /// Whether a login that was refused need not have been.
    fn has_had_room(&self, who: usize) -> bool {
        let Some((most, _)) = self.program.setup.special.limit() else { return true };
        let user = self.logs_in(who).unwrap_or_default();
        let has_own = !self.op(who).is_elsewhere();
        let before = self.of(user).filter(|held| {
            let own = has_own && Some(&held.handle) == self.start.handle.as_ref();
            let began = self.told(who).began;
            let moves = |by| matches!(self.op(by), Op::Renew | Op::LoginSame);
            let gone = self.others(who).any(|by| {
                !moves(by) && self.has_ended(by, held) && self.told(by).left < began && !self.has_stayed(by)
            });
            held.issuer.is_none() && !own && !gone
        });
        // Of two that come with one session the second finds another in its place.
        let logins = self
            .others(who)
            .filter(|&other| has_own && self.op(other) == Op::Renew || self.logs_in(other) == Some(user));
        let logins = logins.filter(|&other| !self.is_refused(other));
        before.count() + logins.count() < most
    }

    /// Whether a renewal has taken a session along that this revocation was to end: "everywhere but here" cannot tell by
    /// whom it was revoked, so one that is under way in the same process stays.
    fn has_stayed(&self, revoked_by: usize) -> bool {
        let node = |who| self.program.node(who);
        let stays = |who: usize| {
            let has_cookie = matches!(self.told(who).outcome.answer, Some(Answer::Cookie(_)));
            self.op(who) == Op::Renew && has_cookie && node(who) == node(revoked_by)
        };
        self.op(revoked_by) == Op::RevokeSubject
            && self.others(revoked_by).any(|who| stays(who) && self.do_overlap(who, revoked_by))
    }

    fn check_ends(&mut self) {
        let mut found = Vec::new();
        for held in &self.held {
            let said = self.all().any(|who| self.has_ended(who, held));
            if held.is_alive && said {
                found.push(format!("{} goes on after its end was acknowledged", self.name(held)));
            }
            let may = self.all().any(|who| self.means_to_end(who, held) || self.may_displace(who, held));
            if !held.is_alive && !may {
                found.push(format!("{} is over, and nobody has ended it", self.name(held)));
            }
        }
        found.into_iter().for_each(|sentence| self.fail(sentence));
    }

    /// How many are alive, and how many had to go for others.
    fn check_counts(&mut self) {
        let limit = self.program.setup.special.limit();
        for user in USERS {
            let before = self.of(user).filter(|held| held.issuer.is_none()).count();
            let logins = self.all().filter(|&who| self.logs_in(who) == Some(user));
            let logins = logins.filter(|&who| !self.is_refused(who)).count();
            let alive = self.alive(user).len();
            let most = limit.map_or(usize::MAX, |(most, _)| most);
            // A login has counted the session as its own former one, and a renewal has made another of it meanwhile; or another
            // login has, and where logins are refused it does not end that one. Or a login has ended what a renewal was about
            // to make of the session, and another renewal was faster.
            let refuses = limit.is_some_and(|(_, overflow)| overflow == Overflow::Refuse);
            let moves = |who: usize| {
                let is_login = !self.op(who).is_elsewhere() && self.logs_in(who) == Some(user);
                is_login || self.op(who) == Op::Renew && self.start.subject == Some(user)
            };
            let both = self.all().any(|who| {
                (refuses || self.op(who) == Op::Renew)
                    && self.others(who).any(|other| moves(who) && moves(other) && self.do_overlap(who, other))
            });
            let spare = usize::from(self.finished.is_faulted() || both);
            if alive > most.saturating_add(spare) {
                self.fail(format!("{user} has {alive} sessions, and may have {most}"));
            }
            let meant = |held: &&Held| self.all().any(|who| self.means_to_end(who, held));
            let displaced = self.of(user).filter(|held| !held.is_alive && !meant(held)).count();
            if displaced > (before + logins).saturating_sub(most) {
                self.fail(format!(
                    "{displaced} sessions of {user} had to go, of {before} and {logins} logins"
                ));
            }
            let begun = self.all().filter(|&who| match self.op(who) {
                Op::LoginThere | Op::LoginLargeThere => user == "ada",
                Op::LoginOther => user == "bob" && self.start.subject != Some("bob"),
                _ => false,
            });
            let begun = begun.filter(|&who| !self.is_refused(who)).count();
            let ends = self.all().filter(|&who| match self.op(who) {
                Op::Destroy | Op::LoginOther => user == self.start.subject.unwrap_or_default(),
                Op::DestroyThere | Op::EndOther => user == "ada",
                _ => false,
            });
            let least = (before + begun).min(most).saturating_sub(ends.count());
            let all = user == "ada" && self.program.ops.contains(&Op::RevokeSubject);
            if alive < least && !all && !self.finished.is_faulted() {
                self.fail(format!("{user} has {alive} sessions, and {least} could go on"));
            }
        }
    }

    /// What somebody has found who looked while others were at work.
    fn check_look(&mut self, who: usize) {
        let Told { outcome, began, .. } = self.told(who);
        let Some(listed) = &outcome.listed else { return };
        let mut found = Vec::new();
        if listed.iter().collect::<BTreeSet<_>>().len() < listed.len() {
            found.push(format!("{} sees a session twice", NAMES[who]));
        }
        for held in self.of("ada") {
            let before = held.issuer.is_none_or(|issuer| {
                let left = self.told(issuer).left;
                left.is_some() && left < *began
            });
            let gone = self.others(who).any(|by| {
                let left = self.told(by).left;
                self.has_ended(by, held) && left.is_some() && left < *began
            });
            let is_listed = listed.contains(&held.handle);
            if before && held.is_alive && !is_listed && !self.finished.is_faulted() {
                found.push(format!("{} does not see {}", NAMES[who], self.name(held)));
            }
            if gone && is_listed {
                found.push(format!("{} sees {}, which had ended", NAMES[who], self.name(held)));
            }
        }
        found.into_iter().for_each(|sentence| self.fail(sentence));
    }

    /// Lines of what has ended: `of` would take them out, so `end` is asked, which goes by the lines alone.
    fn check_leftovers(&mut self) {
        let node = self.node.clone();
        let with_first = self.all().filter(|&who| !self.op(who).is_elsewhere()).count();
        let dead = self.held.iter().filter(|held| !held.is_alive);
        let dead = dead.filter(|held| with_first < 2 || Some(&held.handle) != self.start.handle.as_ref());
        let dead = dead.map(|held| {
            let leaves =
                self.all().any(|who| self.op(who) == Op::RevokeSubject && self.means_to_end(who, held));
            (held.subject.clone(), held.handle.clone(), leaves, self.name(held))
        });
        let failed = self.all().filter_map(|who| {
            let outcome = &self.told(who).outcome;
            let failed = matches!(outcome.answer, Some(Answer::Failed(..)));
            let handle = outcome.handle.as_ref().filter(|_| failed)?;
            let is_known = self.held.iter().any(|held| held.handle == *handle);
            let user = self.logs_in(who).unwrap_or("ada");
            (!is_known)
                .then(|| (user.to_owned(), handle.clone(), false, format!("what {} began", NAMES[who])))
        });
        let all: Vec<_> = dead.chain(failed).filter(|(_, _, leaves, _)| !leaves).collect();
        for (user, handle, _, what) in all {
            match self.time.wait(node.end(&user, &handle)) {
                Ok(false) => {}
                Ok(true) => self.fail(format!("a line is left over of {what}")),
                Err(error) => self.fail(format!("{what} cannot be ended: {error:?}")),
            }
        }
    }

    fn look(&mut self, node: &Sessions, user: &str) -> Vec<SessionSummary> {
        self.time.wait(node.of(user)).unwrap_or_else(|error| {
            self.fail(format!("{user}'s list: {error:?}"));
            Vec::new()
        })
    }

    fn check_lists(&mut self) {
        let node = self.node.clone();
        for user in USERS {
            let lines = self.look(&node, user);
            self.check_list(user, &lines, usize::from(self.finished.is_faulted()), "");
        }
    }

    /// A list against the sessions that are alive; `spare`: how many of them may be missing.
    fn check_list(&mut self, user: &str, lines: &[SessionSummary], spare: usize, when: &str) {
        let listed: BTreeSet<String> = lines.iter().map(|line| line.handle.clone()).collect();
        if listed.len() < lines.len() {
            self.fail(format!("{user}'s list has a session twice{when}"));
        }
        let alive = self.alive(user);
        let handles = |keeps: &dyn Fn(&Held) -> bool| -> BTreeSet<String> {
            self.of(user).filter(|held| keeps(held)).map(|held| held.handle.clone()).collect()
        };
        // It was revoked under the key that keeps the list, and goes on under the one that has sealed it.
        let has_failed = self.all().any(|who| {
            let answer = &self.told(who).outcome.answer;
            self.op(who) == Op::RevokeSubject && matches!(answer, Some(Answer::Failed(..)))
        });
        let half_revoked = handles(&|held| has_failed && held.is_retired);
        // Their turn did not come in their time.
        let is_silent = self.finished.faults.iter().any(|(_, verdict)| *verdict == Verdict::Silent);
        let waited = |who: usize| is_silent && self.told(who).took >= PATIENCE;
        let waited = handles(&|held| spare > 0 && held.issuer.is_some_and(waited));
        let dead =
            self.held.iter().filter(|held| listed.contains(&held.handle) && !alive.contains(&held.handle));
        // Of a row that the store has lost nobody can tell that it was there.
        let dead: Vec<String> =
            dead.filter(|_| !self.finished.is_forgetful()).map(|held| self.name(held)).collect();
        dead.into_iter()
            .for_each(|what| self.fail(format!("{user}'s list has {what}, which is not hers{when}")));
        let missing: Vec<_> =
            alive.difference(&listed).filter(|held| !half_revoked.contains(*held)).collect();
        let have_waited = missing.iter().all(|held| waited.contains(*held));
        let missing = missing.len();
        if missing > spare && !have_waited && !self.finished.is_forgetful() {
            self.fail(format!("{missing} sessions are missing in {user}'s list{when}"));
        }
        let unknown = listed.iter().filter(|handle| self.held.iter().all(|held| held.handle != **handle));
        let unknown = unknown.count();
        if unknown > usize::from(self.finished.is_faulted()) {
            self.fail(format!("{unknown} sessions in {user}'s list are nobody's{when}"));
        }
    }

    fn check_nodes(&mut self) {
        let fresh = self.node.clone();
        let handles = |lines: Vec<SessionSummary>| lines.into_iter().map(|line| line.handle).collect();
        for user in USERS {
            let expected: BTreeSet<String> = handles(self.look(&fresh, user));
            for (number, node) in self.world.nodes.iter().enumerate() {
                if handles(self.look(node, user)) != expected {
                    self.fail(format!("node {number} sees another list of {user}'s"));
                }
            }
        }
    }

    /// What was called so is called so still, under each id that came of it since.
    fn check_names(&mut self) {
        let node = self.node.clone();
        let lines = self.look(&node, self.start.subject.unwrap_or("ada"));
        for who in self.all() {
            if self.op(who) != Op::Label {
                continue;
            }
            let Told { outcome, lost, left, .. } = self.told(who);
            let resumed = outcome.loaded.as_ref().is_some_and(|view| view.origin == Origin::Resumed);
            if *lost || !resumed || matches!(outcome.answer, Some(Answer::Failed(..)) | None) {
                continue;
            }
            // Who logs in where the first session was ended, or is another by then, begins one that has no name.
            let first = self.held.iter().find(|held| Some(&held.handle) == self.start.handle.as_ref());
            let may_be_gone = |issuer: usize| {
                self.others(issuer).any(|by| {
                    let ends = |first| self.means_to_end(by, first) || self.may_displace(by, first);
                    self.told(by).began < self.told(issuer).left && first.is_some_and(ends)
                })
            };
            let is_named = |held: &&Held| match held.issuer {
                Some(issuer) => {
                    let told = self.told(issuer);
                    !self.op(issuer).is_elsewhere() && *left < told.began && !may_be_gone(issuer)
                }
                None => Some(&held.handle) == self.start.handle.as_ref(),
            };
            let named = self.held.iter().filter(is_named).filter(|held| held.is_alive);
            let nameless = named.filter(|held| {
                let line = lines.iter().find(|line| line.handle == held.handle);
                line.is_some_and(|line| line.label.as_deref() != Some(LABEL))
            });
            let nameless: Vec<String> = nameless.map(|held| self.name(held)).collect();
            nameless.into_iter().for_each(|what| self.fail(format!("{what} has lost its name")));
        }
    }

    /// A line that was lost comes back, and nobody goes for it.
    fn check_next_hour(&mut self) {
        if !self.finished.is_faulted() {
            return;
        }
        self.world.clock.advance(HOUR + HEARD);
        let node = self.node.clone();
        for held in self.held.iter().filter(|held| held.is_alive) {
            let origin = self.time.wait(node.load([&held.cookie])).map(|session| session.origin());
            if !origin.is_ok_and(|origin| origin == Origin::Resumed) {
                self.failures.push(format!("{} is over an hour later", self.name(held)));
            }
        }
        for user in USERS {
            let lines = self.look(&node, user);
            self.check_list(user, &lines, 0, " an hour later");
        }
    }
}
