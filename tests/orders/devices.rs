//! What has to hold of sessions that are bound to a device. The owner's requests come with a proof; who has copied the cookie has
//! none. A session is bound when an answer to the owner says so, or from the beginning.
//!
//! | what was promised | where it is asserted |
//! |---|---|
//! | without a proof nothing is to be seen of a bound session, here at once, elsewhere after the stated time, nor by any copy of a cookie that it ever had, up to that cookie's end | `check_request`, `check_copy` |
//! | and nothing is changed in it by who came after that, nor is it ended, but by a login as its owner, who gets nothing of it | `check_owner`, `takes_over` |
//! | what the owner has ended, or such a login, is over | `has_ended` |
//! | it is bound or taken over, never both | `check_exclusive` |
//! | whoever comes with a proof binds it, and is refused only where it is over | `check_request` |
//! | the owner has it, with what was acknowledged to the owner; a sum lies between the acknowledged and the attempted increments | `check_owner` |
//! | no failure without a fault, none takes longer than its deadline | `check_request` |

use std::time::Duration;

use sealed_session::{Origin, Rejection, SessionId, Sessions};

use crate::invariants::LONGEST;
use crate::programs::{NAMES, Op, Program, Revoking, Special};
use crate::requests::{Answer, Effect, Entries, Inspected, View, inspected};
use crate::schedule::{Finished, Told};
use crate::world::{Beginning, HEARD, Time, World};

const UNPROVEN: Origin = Origin::Rejected(Rejection::Unproven);
/// The last moment of a cookie is this much before its end.
const LAST: Duration = Duration::from_millis(1);

/// A cookie that somebody holds: the one that all requests carried, or that of an answer.
struct Cookie {
    issuer: Option<usize>,
    text: String,
    told: Inspected,
    /// Whether it opens, without a proof, something of the session that all came with.
    opens_the_former: bool,
}

struct Case<'a> {
    program: &'a Program,
    start: &'a Beginning,
    finished: &'a Finished,
    time: &'a Time,
    cookies: Vec<Cookie>,
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
    let mut case = Case { program, start, finished, time, cookies: Vec::new(), failures: Vec::new() };
    case.cookies = case.held(world);
    case.all().for_each(|who| case.check_request(who));
    case.check_exclusive();
    for later in [false, true] {
        if later {
            world.clock.advance(HEARD);
        }
        for (at, node) in world.nodes.iter().enumerate() {
            for number in 0..case.cookies.len() {
                case.check_copy(node, number, Some(at).filter(|_| !later));
                case.check_owner(node, number, later);
            }
        }
    }
    case.cookies.sort_by_key(|cookie| cookie.told.expires_at);
    for number in 0..case.cookies.len() {
        world.clock.set(case.cookies[number].told.expires_at - LAST);
        // What is known elsewhere by then is in the store.
        case.check_copy(&world.unknowing(program.setup.revoking), number, None);
    }
    case.failures
}

impl Case<'_> {
    fn all(&self) -> std::ops::Range<usize> {
        0..self.program.ops.len()
    }

    fn told(&self, who: usize) -> &Told {
        &self.finished.told[who]
    }

    fn op(&self, who: usize) -> Op {
        self.program.ops[who]
    }

    fn fail(&mut self, sentence: String) {
        if !self.failures.contains(&sentence) {
            self.failures.push(sentence);
        }
    }

    fn held(&self, world: &World) -> Vec<Cookie> {
        let first = self.start.cookie.iter().chain(&self.start.unbound).map(|text| (None, text));
        let issued = self.all().filter_map(|who| match &self.told(who).outcome.answer {
            Some(Answer::Cookie(text)) => Some((Some(who), text)),
            _ => None,
        });
        let told = |(issuer, text): (Option<usize>, &String)| {
            let told = inspected(&world.nodes[0], text).expect("it was issued a moment ago");
            let session = self.time.wait(world.unknowing(self.program.setup.revoking).load([text]));
            let opens_the_former = session.is_ok_and(|session| {
                let view = View::of(&session);
                view.entries.iter().any(|(key, value)| self.start.entries.get(key) == Some(value))
            });
            Cookie { issuer, text: text.clone(), told, opens_the_former }
        };
        first.chain(issued).map(told).collect()
    }

    fn issued_by(&self, who: usize) -> Option<&Cookie> {
        self.cookies.iter().find(|cookie| cookie.issuer == Some(who))
    }

    fn resumed(&self, who: usize) -> bool {
        self.told(who).outcome.loaded.as_ref().is_some_and(|view| view.origin == Origin::Resumed)
    }

    fn is_acknowledged(&self, who: usize) -> bool {
        let Told { outcome, lost, .. } = self.told(who);
        !lost && matches!(outcome.answer, Some(Answer::Cookie(_) | Answer::Removal | Answer::Nothing))
    }

    /// Whether it may put an end to the session that all came with.
    fn may_end(&self, who: usize) -> bool {
        match self.op(who) {
            Op::RevokeSubject => true,
            // Nothing is left to her but the password.
            Op::StolenLoginSame => true,
            // A login as somebody else takes no session along that is not one's own to see.
            op => {
                matches!(op.handled(), Op::Renew | Op::LoginSame | Op::LoginOther | Op::Destroy)
                    && self.resumed(who)
            }
        }
    }

    fn renews(&self, who: usize) -> bool {
        matches!(self.op(who).handled(), Op::Renew | Op::LoginSame | Op::LoginOther)
    }

    /// Whether it has ended the session that all came with, and said so.
    fn has_ended(&self, who: usize) -> bool {
        let meets = self.told(who).outcome.loaded.as_ref().map(|view| view.origin);
        let met = match self.op(who) {
            Op::RevokeSubject => true,
            Op::StolenLoginSame => matches!(meets, Some(Origin::Resumed | UNPROVEN)),
            Op::Destroy | Op::Renew | Op::LoginSame => meets == Some(Origin::Resumed),
            _ => false,
        };
        met && self.is_acknowledged(who)
    }

    /// Whether an answer to the owner says that the session of this id is bound.
    fn binds(&self, who: usize, id: SessionId) -> bool {
        let says_so = |cookie: &Cookie| cookie.told.is_bound && cookie.told.id == id;
        !self.op(who).is_stolen() && self.issued_by(who).is_some_and(says_so)
    }

    fn is_bound(&self, id: SessionId) -> bool {
        let from_the_beginning = self.program.setup.special == Special::Bound && Some(id) == self.start.id;
        from_the_beginning || self.all().any(|who| self.binds(who, id))
    }

    /// Whether it was when this request came, and its node could know.
    fn was_known_to_be_bound(&self, who: usize) -> bool {
        let Some(id) = self.start.id else { return false };
        let node = |who| self.program.node(who);
        // What leads into the store is looked up there.
        let leads = self.start.told.as_ref().is_some_and(|told| told.stored);
        let asks = leads || self.program.setup.revoking == Revoking::Every;
        self.program.setup.special == Special::Bound
            || self.all().any(|by| {
                let (left, began) = (self.told(by).left, self.told(who).began);
                self.binds(by, id) && left < began && (asks || node(by) == node(who))
            })
    }

    /// Whether it has made a session of its own out of the one whose cookie it had copied.
    fn takes_over(&self, who: usize) -> bool {
        let issued = self.issued_by(who).filter(|_| self.op(who).is_stolen());
        issued.is_some_and(|cookie| {
            let is_new = Some(cookie.told.id) != self.start.id;
            is_new && (self.op(who) == Op::StolenRenew || cookie.opens_the_former)
        })
    }

    fn check_exclusive(&mut self) {
        let Some(id) = self.start.id.filter(|_| !self.finished.is_forgetful()) else { return };
        let taken: Vec<usize> = self.all().filter(|&who| self.takes_over(who)).collect();
        for who in taken {
            if self.is_bound(id) {
                self.fail(format!("{} takes over a session that is bound to a device", NAMES[who]));
            }
        }
    }

    fn check_request(&mut self, who: usize) {
        let name = NAMES[who];
        let Told { outcome, lost, left, took, .. } = self.told(who);
        let (op, faulted) = (self.op(who), self.finished.is_faulted());
        let others_end =
            self.all().any(|other| other != who && self.may_end(other)) || self.finished.is_forgetful();
        let may_be_bound = self.program.setup.special == Special::Bound
            || self.all().any(|other| other != who && !self.op(other).is_stolen());
        let logs_in = matches!(op.handled(), Op::LoginSame | Op::LoginOther);
        let mut found = Vec::new();
        if let Some(view) = &outcome.loaded {
            let fine = match view.origin {
                Origin::Resumed => !op.is_stolen() || faulted || !self.was_known_to_be_bound(who),
                Origin::Rejected(Rejection::Revoked) => others_end,
                UNPROVEN => op.is_stolen() && may_be_bound,
                _ => self.finished.is_forgetful(),
            };
            if !fine {
                found.push(format!("{name} meets {:?}", view.origin));
            }
            if view.origin == UNPROVEN {
                if view.subject.is_some() || !view.entries.is_empty() {
                    found.push(format!("{name} has no proof, and sees {view:?}"));
                }
                // Who logs out is forgotten by this browser, and by nobody else.
                let forgets = op == Op::StolenDestroy && outcome.answer == Some(Answer::Removal);
                let nothing = matches!(outcome.answer, Some(Answer::Nothing) | None);
                if !faulted && !logs_in && !forgets && !nothing {
                    found.push(format!("{name} has no proof, and gets {:?}", outcome.answer));
                }
            }
        }
        // Whoever would give it another id, and finds it bound by then.
        let renews = op == Op::StolenRenew && may_be_bound;
        match &outcome.answer {
            Some(Answer::Failed("ended", _)) if others_end && !logs_in || renews => {}
            Some(Answer::Failed(kind, error)) if !faulted || self.finished.loses_write => {
                found.push(format!("{name} fails ({kind}): {error}"));
            }
            Some(Answer::Removal) if op.handled() != Op::Destroy => {
                found.push(format!("{name} removes the cookie"));
            }
            Some(Answer::Nothing) if op == Op::StolenRenew && self.resumed(who) && !faulted => {
                found.push(format!("{name} is to have another id, and nobody says that it has not"));
            }
            Some(Answer::Nothing) if logs_in && !faulted => {
                found.push(format!("{name} logs in, and gets no cookie"));
            }
            _ => {}
        }
        if *lost && !others_end && !(op.is_stolen() && may_be_bound) {
            found.push(format!("{name} is told that the session is over"));
        }
        if outcome.answer.is_some() != left.is_some() {
            found.push(format!("{name} does not come to an answer"));
        }
        if *took > LONGEST {
            found.push(format!("{name} takes {took:?}"));
        }
        // Whoever comes with a proof has a bound session afterwards.
        let proves = !op.is_stolen() && !matches!(op, Op::RevokeSubject | Op::Destroy) && self.resumed(who);
        if proves && !faulted && self.is_acknowledged(who) && !others_end {
            let before = self.program.setup.special == Special::Bound;
            let fine = self.issued_by(who).map_or(before, |cookie| cookie.told.is_bound);
            if !fine {
                found.push(format!("{name} comes with a proof, and nothing is bound"));
            }
        }
        found.into_iter().for_each(|sentence| self.fail(sentence));
    }

    /// A copy of the cookie without a proof, on this node; `None`: on one that has heard of all.
    fn check_copy(&mut self, node: &Sessions, number: usize, at: Option<usize>) {
        let Cookie { issuer, text, told, .. } = &self.cookies[number];
        let whose = issuer.map_or("the first".to_owned(), |who| format!("{}'s", NAMES[who]));
        let asks = told.stored || told.is_bound || self.program.setup.revoking == Revoking::Every;
        let knows = at.is_none_or(|at| {
            asks || self.all().any(|by| self.program.node(by) == at && self.binds(by, told.id))
        });
        if !self.is_bound(told.id) || !knows || self.finished.is_forgetful() {
            return;
        }
        let view = match self.time.wait(node.load([text])) {
            Ok(session) => View::of(&session),
            Err(error) => return self.fail(format!("a copy of {whose} cookie: {error:?}")),
        };
        if view.origin == Origin::Resumed || view.subject.is_some() || !view.entries.is_empty() {
            let when = at.map_or("later", |_| "at once");
            self.fail(format!("a copy of {whose} cookie opens a bound session {when}: {view:?}"));
        }
    }

    /// The cookie with the owner's proof.
    fn check_owner(&mut self, node: &Sessions, number: usize, later: bool) {
        let Cookie { issuer, text, told, .. } = &self.cookies[number];
        // What somebody else has made of it is theirs.
        if issuer.is_some_and(|who| self.op(who).is_stolen())
            || !self.is_bound(told.id)
            || self.finished.is_forgetful()
        {
            return;
        }
        let is_first = Some(told.id) == self.start.id;
        let whose = issuer.map_or("the first".to_owned(), |who| format!("{}'s", NAMES[who]));
        let view = match self.time.wait(node.load([text].into_iter().chain(&self.start.proof))) {
            Ok(session) => View::of(&session),
            Err(error) => return self.fail(format!("{whose} cookie with a proof: {error:?}")),
        };
        // It is bound, so nobody without a proof has ended it.
        let may_be_over = self.all().any(|who| match self.op(who) {
            Op::RevokeSubject => true,
            Op::StolenLoginSame => is_first,
            op => is_first && !op.is_stolen() && self.may_end(who),
        });
        match view.origin {
            Origin::Resumed => {}
            Origin::Rejected(Rejection::Revoked) if may_be_over => return,
            origin => return self.fail(format!("{whose} cookie with a proof: {origin:?}")),
        }
        let mut found = Vec::new();
        if let Some(by) = self.all().find(|&who| later && is_first && self.has_ended(who)) {
            found.push(format!("{whose} cookie with a proof: opens a session that {} has ended", NAMES[by]));
        }
        if view.subject.as_deref() != Some("ada") {
            found.push(format!("{whose} cookie with a proof: is {:?}'s", view.subject));
        }
        for (key, value) in &view.entries {
            let writer =
                value.chars().next().and_then(|letter| NAMES.iter().position(|name| *name == letter));
            if writer.is_some_and(|who| self.op(who).is_stolen() && !self.resumed(who)) {
                found.push(format!("{whose} cookie with a proof: {key} was written without one"));
            }
        }
        // A session in its cookie is what the last answer says. What is written without a proof meets cookies that are newer.
        let was_stored = self.start.stored;
        let in_row = |who| self.issued_by(who).map_or(was_stored, |cookie| cookie.told.stored);
        // What was written in its row before it got another id came along.
        let former_may_be_over = self.all().any(|who| *issuer != Some(who) && self.may_end(who));
        let follows = issuer.is_some_and(|who| self.renews(who) && self.resumed(who)) && !former_may_be_over;
        let leads = if issuer.is_some() { told.stored } else { view.stored };
        let concerns = |who: usize| {
            let own = *issuer == Some(who);
            !self.op(who).is_stolen() && (own || in_row(who) && (leads && is_first || follows && was_stored))
        };
        let unchanged = |key: &str| view.entries.get(key) == self.start.entries.get(key);
        let mut sums = (0, 0);
        for who in self.all().filter(|&who| self.resumed(who) && !self.renews(who)) {
            for effect in &self.told(who).outcome.effects {
                let must = concerns(who) && self.is_acknowledged(who);
                match effect {
                    Effect::Set(key, _) if must && unchanged(key) => {
                        found.push(format!("{whose} cookie with a proof: lacks what {} set", NAMES[who]));
                    }
                    Effect::Add(_, by) => sums = (sums.0 + if must { *by } else { 0 }, sums.1 + by),
                    _ => {}
                }
            }
        }
        let number = |entries: &Entries| entries.get("n").map_or(0, |n| n.parse::<i64>().unwrap());
        let begins_empty = issuer.is_some_and(|who| self.op(who) == Op::LoginSame) && view.entries.len() < 2;
        let added = number(&view.entries) - number(&self.start.entries);
        // The login's own cookie has nothing of what came after it.
        let is_older = issuer.is_none() && self.start.unbound.as_ref() == Some(text) && !was_stored;
        let excused = is_older || begins_empty && former_may_be_over;
        if !excused && (added < sums.0 || added > sums.1) {
            found.push(format!("{whose} cookie with a proof: {added} were added, of {sums:?}"));
        }
        found.into_iter().for_each(|sentence| self.fail(sentence));
    }
}
