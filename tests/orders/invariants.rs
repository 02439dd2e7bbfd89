//! What has to hold after a schedule, whatever its order was, asked with every cookie that a browser may hold by then.

use std::time::Duration;

use sealed_session::{Origin, Rejection, SessionId};
use time::OffsetDateTime;

use crate::gate::at_once;
use crate::programs::{Answer, Effect, Entries, Inspected, NAMES, Op, Program, Revoking, View, inspected};
use crate::schedule::{Finished, Told};
use crate::world::{Beginning, HEARD, World};

/// A schedule that is over, and what is known of it.
struct Case<'a> {
    program: &'a Program,
    start: &'a Beginning,
    finished: &'a Finished,
    /// Whether the answer's cookie holds the session itself, so that what it did is nowhere else.
    in_cookie: [bool; 2],
    failures: Vec<String>,
}

/// A cookie that a browser may hold: the one that both requests carried, or that of an answer.
struct Cookie {
    issuer: Option<usize>,
    text: String,
    expires_at: OffsetDateTime,
    id: SessionId,
    subject: Option<String>,
    stored: bool,
}

/// Who is asked, and whether that is so late that the node has heard of what others did.
#[derive(Clone, Copy)]
struct Asked {
    node: usize,
    later: bool,
    when: &'static str,
}

/// The last moment of a cookie is this much before its end.
const LAST: Duration = Duration::from_millis(1);

/// Everything that does not hold, in sentences.
pub(crate) fn broken(
    program: &Program,
    start: &Beginning,
    world: &World,
    finished: &Finished,
) -> Vec<String> {
    let mut case = Case { program, start, finished, in_cookie: [false; 2], failures: Vec::new() };
    if finished.stuck {
        return vec!["a request never ends".to_owned()];
    }
    for who in [0, 1] {
        case.check_request(who);
    }
    let cookies = case.cookies(world);
    for cookie in &cookies {
        if let Some(issuer) = cookie.issuer {
            case.in_cookie[issuer] = !cookie.stored;
            case.check_issued(cookie, issuer);
        }
    }
    for (when, later) in [("at once", false), ("later", true)] {
        if later {
            world.clock.advance(HEARD);
        }
        for node in 0..world.nodes.len() {
            for cookie in &cookies {
                case.check_cookie(world, cookie, Asked { node, later, when });
            }
        }
    }
    for cookie in &cookies {
        // What it leads to lasts as long as it does, and so does what ended it.
        world.clock.set(cookie.expires_at - LAST);
        case.check_cookie(world, cookie, Asked { node: 0, later: true, when: "at its end" });
    }
    case.failures
}

impl Case<'_> {
    fn told(&self, who: usize) -> &Told {
        &self.finished.told[who]
    }

    fn op(&self, who: usize) -> Op {
        self.program.ops[who]
    }

    fn off(&self) -> bool {
        self.program.setup.revoking == Revoking::Off
    }

    fn fail(&mut self, sentence: String) {
        if !self.failures.contains(&sentence) {
            self.failures.push(sentence);
        }
    }

    /// Whether it was said to have been done. Who is told that the session is over has been told.
    fn is_acknowledged(&self, who: usize) -> bool {
        let Told { outcome, lost, .. } = self.told(who);
        let answered = matches!(outcome.answer, Some(Answer::Cookie(_) | Answer::Removal | Answer::Nothing));
        (answered && !lost) || outcome.saved
    }

    fn resumed(&self, who: usize) -> bool {
        self.told(who).outcome.loaded.as_ref().is_some_and(|view| view.origin == Origin::Resumed)
    }

    fn logs_in(&self, who: usize) -> bool {
        matches!(self.op(who), Op::LoginSame | Op::LoginOther)
    }

    /// Whether it gives the session another id, or means to.
    fn renews(&self, who: usize) -> bool {
        self.op(who) == Op::Renew || self.op(who) == Op::Impersonate || self.logs_in(who)
    }

    /// Whether it may have ended the session that both began with.
    fn may_end(&self, who: usize) -> bool {
        match self.op(who) {
            Op::Revoke => true,
            Op::RevokeSubject => self.start.subject.is_some(),
            Op::Destroy => self.resumed(who),
            _ => self.renews(who) && self.resumed(who),
        }
    }

    fn check_request(&mut self, who: usize) {
        let (name, other) = (NAMES[who], 1 - who);
        let Told { outcome, lost, left, .. } = self.told(who);
        let faulted = self.finished.fault.is_some();
        let ended_by_other = self.may_end(other);
        let mut found = Vec::new();
        if let Some(view) = &outcome.loaded {
            let fine = match (self.start.cookie.is_some(), view.origin) {
                (false, Origin::New) | (true, Origin::Resumed) => true,
                (true, Origin::Rejected(Rejection::Revoked)) => ended_by_other,
                _ => false,
            };
            if !fine {
                found.push(format!("{name} meets {:?}", view.origin));
            }
            found.extend(foreign(view).map(|what| format!("{name} {what}")));
        }
        match &outcome.answer {
            Some(Answer::Failed("conflict", _)) => {}
            Some(Answer::Failed("ended", _)) if ended_by_other => {}
            Some(Answer::Failed(kind, error)) if !faulted || self.finished.loses_write => {
                found.push(format!("{name} fails ({kind}): {error}"))
            }
            Some(Answer::Removal) => {
                let empty = outcome
                    .left
                    .as_ref()
                    .is_some_and(|view| view.entries.is_empty() && view.subject.is_none());
                if self.op(who) != Op::Destroy && !empty {
                    found.push(format!("{name} removes the cookie"));
                }
            }
            Some(Answer::Nothing)
                if !faulted && !lost && !self.start.stored && !outcome.effects.is_empty() =>
            {
                // Another node may take the cookie from before for the session.
                if outcome.loaded.as_ref().is_some_and(|view| view.stored) {
                    found.push(format!(
                        "{name} has changed what was moved meanwhile, and gets no reference to it"
                    ));
                }
                if self.start.cookie.is_none() {
                    found.push(format!("{name} has changed something, which is nowhere"));
                }
            }
            _ => {}
        }
        if *lost && !ended_by_other {
            found.push(format!("{name} is told that the session is over"));
        }
        if outcome.answer.is_some() != left.is_some() {
            found.push(format!("{name} does not come to an answer"));
        }
        found.into_iter().for_each(|sentence| self.fail(sentence));
    }

    fn cookies(&self, world: &World) -> Vec<Cookie> {
        let cookie = |issuer: Option<usize>, text: &String| {
            let Inspected { id, subject, stored, expires_at } = inspected(&world.nodes[0], text);
            Cookie { issuer, text: text.clone(), expires_at, id, subject, stored }
        };
        let issued = [0, 1].into_iter().filter_map(|who| match &self.told(who).outcome.answer {
            Some(Answer::Cookie(text)) => Some(cookie(Some(who), text)),
            _ => None,
        });
        self.start.cookie.iter().map(|text| cookie(None, text)).chain(issued).collect()
    }

    /// Who begins to commit when the session was ended gets no cookie out of it any more.
    fn check_issued(&mut self, cookie: &Cookie, issuer: usize) {
        let by = 1 - issuer;
        if !self.resumed(issuer) || !self.knows_the_end(issuer) || self.logs_in(issuer) {
            return;
        }
        let here = self.program.node(issuer) == self.program.node(by);
        let asks = self.finished.fault != Some(issuer);
        let prolongs = self.op(issuer) == Op::Touch || self.program.is_due();
        let of_subject = self.op(by) == Op::RevokeSubject;
        let renewed = Some(cookie.id) != self.start.id;
        let must_not = match (renewed, of_subject) {
            // Mere data asks nothing, and what it is sealed with is refused by then.
            (false, true) => asks && prolongs,
            (false, false) => (here && !self.off()) || (asks && (prolongs || self.start.stored)),
            // "Everywhere but here."
            (true, true) => asks && !(here && self.op(issuer) == Op::Renew),
            (true, false) => asks,
        };
        if must_not {
            self.fail(format!("{} issues a cookie of a session that {} has ended", NAMES[issuer], NAMES[by]));
        }
    }

    /// Whether the other request had ended the session, and said so, before this one began to commit.
    fn knows_the_end(&self, who: usize) -> bool {
        self.has_ended(1 - who) && self.told(1 - who).left < self.told(who).handled
    }

    /// Whether it has ended the session that both began with, and said so.
    fn has_ended(&self, who: usize) -> bool {
        let has_row = self.told(who).outcome.loaded.as_ref().is_some_and(|view| view.stored);
        self.may_end(who) && self.is_acknowledged(who) && (!self.off() || (has_row && self.start.stored))
    }

    fn must_be_over(&self, cookie: &Cookie, Asked { node, later, .. }: Asked) -> bool {
        [0, 1].into_iter().any(|who| {
            let here =
                self.program.node(who) == node || later || self.program.setup.revoking == Revoking::Every;
            if !self.has_ended(who) {
                return false;
            }
            if self.op(who) != Op::RevokeSubject {
                return Some(cookie.id) == self.start.id && (here || cookie.stored);
            }
            // "Everywhere but here" takes a renewal along that overlaps, so it is one of those that begin.
            let begins = |issuer: usize| {
                let with =
                    self.op(issuer) == Op::Renew && self.program.node(issuer) == self.program.node(who);
                with || self.logs_in(issuer)
            };
            let issuer = cookie.issuer.filter(|&issuer| begins(issuer));
            let earlier = issuer.is_none_or(|issuer| {
                let (left, began) = (self.told(issuer).left, self.told(who).began);
                left.is_some() && left < began
            });
            here && earlier && cookie.subject.as_deref() == Some("ada")
        })
    }

    /// Whether a request had begun the commit that ends it when its client went away.
    fn was_being_ended(&self, cookie: &Cookie) -> bool {
        [0, 1].into_iter().any(|who| {
            let Told { outcome, began, handled, .. } = self.told(who);
            let has_begun = match self.op(who) {
                Op::Revoke | Op::RevokeSubject => began.is_some(),
                _ => handled.is_some() && !self.off(),
            };
            outcome.answer.is_none() && has_begun && self.may_end(who) && Some(cookie.id) == self.start.id
        })
    }

    fn may_be_over(&self, cookie: &Cookie) -> bool {
        [0, 1].into_iter().any(|who| match self.op(who) {
            Op::RevokeSubject => cookie.subject.as_deref() == Some("ada"),
            _ => self.may_end(who) && Some(cookie.id) == self.start.id,
        })
    }

    fn check_cookie(&mut self, world: &World, cookie: &Cookie, asked: Asked) {
        let whose = cookie.issuer.map_or("the first".to_owned(), |who| format!("{}'s", NAMES[who]));
        let head = format!("{whose} cookie, {} on node {}", asked.when, asked.node);
        let view = match at_once(world.nodes[asked.node].load([&cookie.text])) {
            Ok(session) => View::of(&session),
            Err(error) => return self.fail(format!("{head}: {error:?}")),
        };
        match view.origin {
            Origin::Resumed if self.must_be_over(cookie, asked) => {
                self.fail(format!("{head}: opens a session that is over"));
            }
            Origin::Resumed if asked.later && self.was_being_ended(cookie) => {
                self.fail(format!("{head}: opens a session whose end was begun and dropped"));
            }
            Origin::Resumed => {
                if let Some(what) = foreign(&view) {
                    self.fail(format!("{head}: {what}"));
                }
                if view.subject != cookie.subject {
                    self.fail(format!("{head}: is {:?}'s", view.subject));
                }
                if Some(cookie.id) == self.start.id && view.entries.contains_key("login") {
                    self.fail(format!("{head}: from before the login, and opens what came after it"));
                }
                let allowed = self.allowed(cookie, asked);
                if !allowed.contains(&view.entries) {
                    self.fail(format!("{head}: holds {:?}, which is none of {allowed:?}", view.entries));
                }
            }
            Origin::Rejected(Rejection::Missing) => self.fail(format!("{head}: leads nowhere")),
            origin if !self.may_be_over(cookie) => self.fail(format!("{head}: {origin:?}")),
            _ => {}
        }
    }

    /// What the session of this cookie may hold: what both began with and what was done to it since, in any order; all
    /// that was acknowledged, and all of a request or nothing.
    fn allowed(&self, cookie: &Cookie, asked: Asked) -> Vec<Entries> {
        let renewed = Some(cookie.id) != self.start.id;
        let base = &self.start.entries;
        let mut may: Vec<(usize, bool)> = Vec::new();
        let mut allowed = Vec::new();
        if let Some(issuer) = cookie.issuer {
            let Told { outcome, .. } = self.told(issuer);
            // Whose cookie was refused begins another session.
            if outcome.effects.first() == Some(&Effect::Empties) || !self.resumed(issuer) {
                return vec![applied(&Entries::new(), &[&outcome.effects])];
            }
            if self.logs_in(issuer) && self.may_end(1 - issuer) {
                allowed.push(applied(&Entries::new(), &[&outcome.effects]));
                if self.knows_the_end(issuer) && self.finished.fault != Some(issuer) {
                    return allowed;
                }
            }
            if !renewed && !cookie.stored {
                allowed.extend(outcome.left.as_ref().map(|view| view.entries.clone()));
            }
            may.push((issuer, true));
        }
        for who in [0, 1] {
            let Told { outcome, .. } = self.told(who);
            // Who has another session by now, or none, has nothing to do with this one.
            if cookie.issuer == Some(who)
                || self.renews(who)
                || outcome.effects.is_empty()
                || !self.resumed(who)
            {
                continue;
            }
            if self.in_cookie[who] {
                continue;
            }
            let heard = self.program.node(who) == asked.node
                || asked.later
                || self.program.setup.revoking == Revoking::Every;
            // Where nobody asks, a cookie that holds a session is one.
            let follows = self.start.stored || !self.off();
            let leads = match (cookie.issuer, renewed) {
                (None, _) => cookie.stored || (heard && follows),
                (Some(_), false) => cookie.stored,
                (Some(_), true) => follows,
            };
            may.push((who, leads && self.is_acknowledged(who)));
        }
        let effects = |who: usize| &self.told(who).outcome.effects[..];
        match may[..] {
            [] => allowed.push(base.clone()),
            [(one, must)] => {
                allowed.push(applied(base, &[effects(one)]));
                allowed.extend((!must).then(|| base.clone()));
            }
            [(one, must_one), (other, must_other)] => {
                allowed.push(applied(base, &[effects(one), effects(other)]));
                allowed.push(applied(base, &[effects(other), effects(one)]));
                allowed.extend((!must_other).then(|| applied(base, &[effects(one)])));
                allowed.extend((!must_one).then(|| applied(base, &[effects(other)])));
                allowed.extend((!must_one && !must_other).then(|| base.clone()));
            }
            _ => unreachable!("there are two requests"),
        }
        allowed
    }
}

/// Entries that were written for another user.
fn foreign(view: &View) -> Option<String> {
    let written_for =
        |value: &String| value.split_once('@').map(|(_, user)| user.trim_end_matches('.').to_owned());
    let user = view.subject.as_deref().unwrap_or("-");
    let mut written = view.entries.values().filter_map(written_for);
    let foreign = written.find(|by| by != user && by != "-")?;
    Some(format!("sees as {user} what was written for {foreign}"))
}

fn applied(base: &Entries, effects: &[&[Effect]]) -> Entries {
    let mut entries = base.clone();
    for effect in effects.iter().copied().flatten() {
        match effect {
            Effect::Empties => entries.clear(),
            Effect::Set(key, value) => drop(entries.insert((*key).to_owned(), value.clone())),
            Effect::Unset(key) => drop(entries.remove(*key)),
            Effect::Add(key, by) => {
                let present = entries.get(*key).map_or(0, |value| value.parse::<i64>().unwrap());
                entries.insert((*key).to_owned(), (present + by).to_string());
            }
        }
    }
    entries
}
