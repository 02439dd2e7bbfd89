//! What has to hold after a schedule, whatever its order was, asked with every cookie that a browser may hold by then, since
//! either of the answers may be the last one that it received.
//!
//! | what was promised | where it is asserted |
//! |---|---|
//! | an acknowledged change is there unless the session ended or a later change of that key replaced it; a sum lies between the acknowledged and the attempted increments; a request's changes are there all or none | `allows`, `orders` |
//! | the last answer that the browser received is the session | `check_cookie` of each answer's cookie, and `check_follow_up` |
//! | what was ended is refused at once here, elsewhere after the stated time | `must_be_over`, asked at once, later and at the cookie's end; no new cookie comes of it: `check_issued` |
//! | without a fault nobody is logged out, with one at most the session that a request was renewing or ending | `check_request`, and `may_be_over` in `check_cookie` |
//! | no request sees an entry written under another subject; no cookie from before a login opens what came after it | `foreign` in `check_request`, `check_safety` |
//! | every reference that a browser holds leads to a live row or one that was ended; row and mark outlive every cookie of the id | `check_cookie`, the last time a moment before the cookie's end |
//! | every request ends within its deadline, on every node | `stuck` and `LONGEST` |
//! | no failure without a fault | `check_request` |
//! | a commit that ends a session and has begun is carried to its end, unless a call of its own fails | `was_being_ended` |
//! | nothing leaves a request under a good key that a revoked one had sealed | `is_disowned` in `check_issued` |

use std::collections::BTreeSet;
use std::time::Duration;

use sealed_session::{Clock as _, CommitContext, Origin, Rejection, SessionId, Sessions};
use time::OffsetDateTime;

use crate::programs::{Happening, NAMES, Op, Program, Revoking, Special};
use crate::requests::{Answer, Effect, Entries, Inspected, View, inspected};
use crate::schedule::{Finished, Told};
use crate::steps::Verdict;
use crate::world::{Beginning, HEARD, Time, World};

/// A schedule that is over, and what is known of it.
struct Case<'a> {
    program: &'a Program,
    start: &'a Beginning,
    finished: &'a Finished,
    time: &'a Time,
    /// Whether the answer's cookie holds the session itself, so that what it did is nowhere else.
    in_cookie: Vec<bool>,
    /// Whether the answer's cookie is over already, so that nobody knows whether it held the session.
    unread: Vec<bool>,
    /// The users who have logged in and have what the visitor had.
    kept_by: BTreeSet<String>,
    failures: Vec<String>,
}

/// A cookie that a browser may hold: the one that all requests carried, or that of an answer.
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

impl Asked {
    fn at_end(self) -> bool {
        self.when == AT_END
    }
}

const AT_END: &str = "at its end";
/// The last moment of a cookie is this much before its end.
const LAST: Duration = Duration::from_millis(1);

/// The most that a request may take: its load, its question, its write, and the look for it, each in the store's time.
pub(crate) const LONGEST: Duration = Duration::from_secs(4 * 2);

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
    program.happening.iter().for_each(|what| world.mend(*what));
    let (in_cookie, unread) = (vec![false; program.ops.len()], vec![false; program.ops.len()]);
    let (kept_by, failures) = (BTreeSet::new(), Vec::new());
    let mut case = Case { program, start, finished, time, in_cookie, unread, kept_by, failures };
    for who in case.all() {
        case.in_cookie[who] = case.removes_mere_cookie(who);
        case.check_request(who);
    }
    let cookies = case.cookies(world);
    for who in case.all() {
        let has_one = matches!(case.told(who).outcome.answer, Some(Answer::Cookie(_)));
        case.unread[who] = has_one && cookies.iter().all(|cookie| cookie.issuer != Some(who));
    }
    for cookie in &cookies {
        if let Some(issuer) = cookie.issuer {
            case.in_cookie[issuer] |= !cookie.stored;
            case.check_issued(cookie, issuer);
        }
    }
    for (when, later) in [("at once", false), ("later", true)] {
        if later {
            world.clock.advance(HEARD);
        }
        for node in 0..world.nodes.len() {
            for cookie in &cookies {
                case.check_cookie(&world.nodes[node], cookie, Asked { node, later, when });
            }
        }
    }
    let mut cookies = cookies;
    cookies.sort_by_key(|cookie| cookie.expires_at);
    let now = world.clock.now();
    for cookie in cookies.iter().filter(|cookie| cookie.expires_at - LAST > now) {
        // What it leads to lasts as long as it does, and so does what ended it.
        world.clock.set(cookie.expires_at - LAST);
        // Who has been asked before knows it, whatever has become of the rows. Nobody but the store does now.
        let unknowing = world.unknowing(program.setup.revoking);
        case.check_cookie(&unknowing, cookie, Asked { node: 0, later: true, when: AT_END });
    }
    // Without revocation nobody asks, so a cookie is worth what is in it, as often as it is sent.
    let fences = start.stored || !case.off();
    if case.kept_by.len() > 1 && fences && !case.finished.is_forgetful() && !case.is_at_end() {
        case.fail(format!("{:?} both have what the visitor had", case.kept_by));
    }
    let last = cookies.last().map(|cookie| cookie.expires_at);
    for cookie in cookies.iter().filter(|cookie| Some(cookie.expires_at) == last) {
        case.check_follow_up(world, cookie);
    }
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
        (answered && !lost && !self.is_disowned(who)) || outcome.saved
    }

    /// Whether the key that had sealed its session was revoked before it was done. Nothing comes of what it did.
    fn is_disowned(&self, who: usize) -> bool {
        let Finished { happened, .. } = self.finished;
        let revoked = self.program.happening == Some(Happening::RevokeKey) && happened.is_some();
        revoked && *happened < self.told(who).done && self.resumed(who)
    }

    fn resumed(&self, who: usize) -> bool {
        self.told(who).outcome.loaded.as_ref().is_some_and(|view| view.origin == Origin::Resumed)
    }

    fn is_refused_for_its_end(&self, who: usize) -> bool {
        let loaded = &self.told(who).outcome.loaded;
        loaded.as_ref().is_some_and(|view| view.origin == Origin::Rejected(Rejection::Revoked))
    }

    fn logs_in(&self, who: usize) -> bool {
        matches!(self.op(who), Op::LoginSame | Op::LoginOther)
    }

    /// Whether it gives the session another id, or means to.
    fn renews(&self, who: usize) -> bool {
        let becomes_bob = self.op(who) == Op::Impersonate && self.start.subject != Some("bob");
        matches!(self.op(who), Op::Renew | Op::EverywhereElse) || becomes_bob || self.logs_in(who)
    }

    /// Whether it ends all sessions of ada's, those of the browser or all others.
    fn ends_all(&self, who: usize) -> bool {
        matches!(self.op(who), Op::RevokeSubject | Op::EverywhereElse)
    }

    /// Whether it was so on the node of this request, which leaves the store alone for a while then.
    fn is_faulted_near(&self, who: usize) -> bool {
        let node = self.program.node(who);
        let faults = self.finished.faults.iter().filter(|(_, verdict)| *verdict != Verdict::Repeated);
        faults.map(|(faulty, _)| *faulty).any(|faulty| self.program.node(faulty) == node)
    }

    /// Whether sessions end for other reasons than what requests do.
    fn is_at_end(&self) -> bool {
        self.finished.happened.is_some() && self.program.happening.is_some_and(|what| !what.spares())
    }

    /// Whether the commit asks the store whether the session goes on.
    fn prolongs(&self, who: usize) -> bool {
        let resealed = match self.program.setup.special {
            // For the other node the key is the primary one.
            Special::Behind => self.program.node(who) == 0,
            _ => self.program.start.is_retired(),
        };
        let is_used = self.program.is_due() && self.op(who) != Op::SetQuietly;
        matches!(self.op(who), Op::Touch | Op::Shorten) || is_used || resealed
    }

    /// Whether it has removed a cookie that held the session, which is known nowhere else.
    fn removes_mere_cookie(&self, who: usize) -> bool {
        let Told { outcome, .. } = self.told(who);
        let in_row = outcome.left.as_ref().is_some_and(|view| view.stored);
        self.op(who) != Op::Destroy && outcome.answer == Some(Answer::Removal) && !in_row
    }

    /// Whether the one has made the session that of the user as whom the other logs in, so that the other keeps what it came with.
    fn is_same_login(&self, by: usize, login: usize) -> bool {
        let user = |who: usize| match self.op(who) {
            Op::LoginSame => Some("ada"),
            Op::LoginOther => Some("bob"),
            _ => None,
        };
        let whose = self.start.subject.is_none() || self.start.subject == user(login);
        self.logs_in(login) && whose && user(by) == user(login)
    }

    /// Whether it may have ended the session that both began with.
    fn may_end(&self, who: usize) -> bool {
        match self.op(who) {
            Op::Revoke => true,
            Op::RevokeSubject => self.start.subject == Some("ada"),
            // Also with a cookie that was refused because another session took the place of this one.
            Op::Destroy => self.resumed(who) || !self.off() && self.is_refused_for_its_end(who),
            _ => self.renews(who) && self.resumed(who),
        }
    }

    /// Whether the browser may have a newer cookie, which the node of this request knew before its commit.
    fn has_replaced_before(&self, by: usize, who: usize) -> bool {
        let Told { outcome, done, .. } = self.told(by);
        let has_cookie = matches!(outcome.answer, Some(Answer::Cookie(_)));
        let is_known = done.is_some() && *done < self.told(who).handled && !self.off();
        let is_here = self.program.node(by) == self.program.node(who);
        has_cookie && is_known && is_here && self.resumed(who) && self.renews(by) && self.resumed(by)
    }

    fn check_request(&mut self, who: usize) {
        let name = NAMES[who];
        let Told { outcome, lost, left, took, .. } = self.told(who);
        let faulted = self.finished.is_faulted();
        let is_limited = self.program.setup.special.limit().is_some();
        let succeeds = self.logs_in(who) && !self.is_at_end() && !is_limited;
        // By its clock it has revoked the others before it was there itself.
        let is_set_back =
            self.op(who) == Op::EverywhereElse && self.program.happening == Some(Happening::Back);
        let ended_by_other = self.others(who).any(|other| self.may_end(other))
            || self.is_at_end()
            || self.finished.is_forgetful()
            || is_set_back;
        let mut found = Vec::new();
        if let Some(view) = &outcome.loaded {
            let fine = match (self.start.cookie.is_some(), view.origin) {
                (false, Origin::New) | (true, Origin::Resumed) => true,
                (true, Origin::Rejected(Rejection::Revoked)) => ended_by_other,
                // Its clock is wrong at this moment.
                (true, Origin::Rejected(_)) if self.program.happening == Some(Happening::Back) => true,
                _ => self.is_at_end() || self.finished.is_forgetful(),
            };
            if !fine {
                found.push(format!("{name} meets {:?}", view.origin));
            }
            found.extend(foreign(view).map(|what| format!("{name} {what}")));
            // Its cookie stays in the browser, if that has no newer one by now.
            let wrote = !outcome.effects.is_empty() || self.logs_in(who) || self.op(who) == Op::Impersonate;
            let refused = matches!(view.origin, Origin::Rejected(Rejection::Revoked | Rejection::Missing));
            if refused && !wrote && matches!(outcome.answer, Some(Answer::Cookie(_))) {
                found.push(format!("{name} puts a session with nothing in it over the browser's"));
            }
        }
        match &outcome.answer {
            // A login is never too late.
            Some(Answer::Failed("ended", _)) if ended_by_other && !succeeds => {}
            // The row that it had written is over by the time that it would end the other one.
            Some(Answer::Failed("conflict", _)) if self.is_at_end() => {}
            // Under which key it was to be sealed is not known any more.
            Some(Answer::Failed("store", _)) if self.program.happening == Some(Happening::RevokeKey) => {}
            Some(Answer::Failed(kind, error)) if !faulted || self.finished.loses_write => {
                found.push(format!("{name} fails ({kind}): {error}"))
            }
            Some(Answer::Removal) => {
                let empty = outcome
                    .left
                    .as_ref()
                    .is_some_and(|view| view.entries.is_empty() && view.subject.is_none());
                // What is nobody's may have been emptied by another one.
                let emptied =
                    self.start.subject.is_none() && self.others(who).any(|other| self.op(other) == Op::Clear);
                let emptied = emptied || self.finished.is_forgetful();
                let asked_for = self.op(who) == Op::Destroy;
                if !asked_for && !empty && !emptied {
                    found.push(format!("{name} removes the cookie"));
                }
                if let Some(by) = self.others(who).find(|&by| !asked_for && self.has_replaced_before(by, who))
                {
                    let by = NAMES[by];
                    found.push(format!("{name} removes the cookie that {by} has given the browser"));
                }
            }
            Some(Answer::Nothing) if !faulted && succeeds => {
                found.push(format!("{name} logs in, and gets no cookie"));
            }
            Some(Answer::Nothing)
                if !faulted
                    && !self.is_at_end()
                    && !lost
                    && !self.start.stored
                    && !outcome.effects.is_empty() =>
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
        if *took > LONGEST {
            found.push(format!("{name} takes {took:?}"));
        }
        if *lost && (!ended_by_other || succeeds && !faulted) {
            found.push(format!("{name} is told that the session is over"));
        }
        if outcome.answer.is_some() != left.is_some() {
            found.push(format!("{name} does not come to an answer"));
        }
        found.into_iter().for_each(|sentence| self.fail(sentence));
    }

    fn cookies(&self, world: &World) -> Vec<Cookie> {
        let cookie = |issuer: Option<usize>, text: &String| {
            // What is refused whatever it leads to leads nowhere.
            let told = match issuer {
                None => self.start.told.clone(),
                // By the clock that it was sealed by, since another one takes an end that is too far off for an earlier one.
                Some(who) => inspected(&world.nodes[self.program.node(who)], text).ok(),
            };
            let Inspected { id, subject, stored, expires_at, .. } = told?;
            Some(Cookie { issuer, text: text.clone(), expires_at, id, subject, stored })
        };
        let issued = self.all().filter_map(|who| match &self.told(who).outcome.answer {
            Some(Answer::Cookie(text)) => cookie(Some(who), text),
            _ => None,
        });
        self.start.cookie.iter().filter_map(|text| cookie(None, text)).chain(issued).collect()
    }

    /// Who begins to commit when the session was ended gets no cookie out of it any more.
    fn check_issued(&mut self, cookie: &Cookie, issuer: usize) {
        if self.finished.is_forgetful() || !self.resumed(issuer) || self.logs_in(issuer) {
            return;
        }
        if self.is_disowned(issuer) {
            self.fail(format!("{} issues a cookie of what a revoked key had sealed", NAMES[issuer]));
        }
        let known = self.others(issuer).filter(|&by| self.knows_the_end_by(issuer, by));
        let must_not: Vec<usize> = known.filter(|&by| self.must_not_issue(cookie, issuer, by)).collect();
        for by in must_not {
            self.fail(format!("{} issues a cookie of a session that {} has ended", NAMES[issuer], NAMES[by]));
        }
    }

    fn must_not_issue(&self, cookie: &Cookie, issuer: usize, by: usize) -> bool {
        let here = self.program.node(issuer) == self.program.node(by);
        let asks = !self.is_faulted_near(issuer);
        let prolongs = self.prolongs(issuer);
        let renewed = Some(cookie.id) != self.start.id;
        let is_of_subject = || match renewed {
            // Mere data asks nothing, and what it is sealed with is refused by then.
            false => asks && prolongs,
            // "Everywhere but here."
            true => asks && !(here && matches!(self.op(issuer), Op::Renew | Op::EverywhereElse)),
        };
        let is_of_id = || match renewed {
            false => (here && !self.off()) || (asks && (prolongs || self.start.stored)),
            true => asks,
        };
        self.ends_all(by) && is_of_subject() || self.op(by) != Op::RevokeSubject && is_of_id()
    }

    /// Whether another request had ended the session, and said so, before this one began to commit.
    fn knows_the_end(&self, who: usize) -> bool {
        self.others(who).any(|by| self.knows_the_end_by(who, by))
    }

    fn knows_the_end_by(&self, who: usize, by: usize) -> bool {
        self.has_ended(by) && self.told(by).left < self.told(who).handled
    }

    /// Whether it has ended the session that both began with, and said so.
    fn has_ended(&self, who: usize) -> bool {
        let has_row = self.told(who).outcome.loaded.as_ref().is_some_and(|view| view.stored);
        self.may_end(who) && self.is_acknowledged(who) && (!self.off() || (has_row && self.start.stored))
    }

    /// Whether its mark was on the way while the clock jumped, so that it ends sooner than a cookie that another request is given
    /// since then, by more than the spare time of marks.
    fn is_dated_before_a_jump(&self, who: usize, cookie: &Cookie) -> bool {
        let Told { handled, left, .. } = self.told(who);
        let happened = &self.finished.happened;
        let since = |issuer: usize| issuer != who && *happened < self.told(issuer).began;
        self.program.happening == Some(Happening::Forward)
            && !(self.op(who) == Op::Revoke || self.ends_all(who))
            && (handled < happened && happened < left)
            && cookie.issuer.is_some_and(since)
    }

    fn must_be_over(&self, cookie: &Cookie, asked: Asked) -> bool {
        let Asked { node, later, .. } = asked;
        self.all().any(|who| {
            let here =
                self.program.node(who) == node || later || self.program.setup.revoking == Revoking::Every;
            if !self.has_ended(who) || asked.at_end() && self.is_dated_before_a_jump(who, cookie) {
                return false;
            }
            let is_ended_by_id = self.op(who) != Op::RevokeSubject
                && Some(cookie.id) == self.start.id
                && (here || cookie.stored);
            if is_ended_by_id || !self.ends_all(who) {
                return is_ended_by_id;
            }
            // "Everywhere but here" takes a renewal along that overlaps, so it is one of those that begin.
            let begins = |issuer: usize| {
                let with = matches!(self.op(issuer), Op::Renew | Op::EverywhereElse)
                    && self.program.node(issuer) == self.program.node(who);
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
        self.all().any(|who| {
            let Told { outcome, began, handled, .. } = self.told(who);
            let has_begun = match self.op(who) {
                Op::Revoke | Op::RevokeSubject => began.is_some(),
                _ => handled.is_some() && !self.off(),
            };
            // Its end fails if its call does, or if it has waited too long for one of its process without an answer.
            let node = self.program.node(who);
            let fails = |&(faulty, verdict): &(usize, Verdict)| match verdict {
                Verdict::Silent => self.program.node(faulty) == node,
                Verdict::Repeated => false,
                verdict => faulty == who && !verdict.drops(),
            };
            let can_end = has_begun && !self.finished.faults.iter().any(fails);
            outcome.answer.is_none() && can_end && self.may_end(who) && Some(cookie.id) == self.start.id
        })
    }

    fn may_be_over(&self, cookie: &Cookie) -> bool {
        self.all().any(|who| match self.op(who) {
            Op::RevokeSubject => cookie.subject.as_deref() == Some("ada"),
            Op::EverywhereElse => cookie.issuer != Some(who) && cookie.subject.as_deref() == Some("ada"),
            _ => self.may_end(who) && Some(cookie.id) == self.start.id,
        })
    }

    fn check_cookie(&mut self, node: &Sessions, cookie: &Cookie, asked: Asked) {
        let whose = cookie.issuer.map_or("the first".to_owned(), |who| format!("{}'s", NAMES[who]));
        let head = format!("{whose} cookie, {} on node {}", asked.when, asked.node);
        let view = match self.time.wait(node.load([&cookie.text])) {
            Ok(session) => View::of(&session),
            Err(error) => return self.fail(format!("{head}: {error:?}")),
        };
        let (forgetful, at_end) = (self.finished.is_forgetful(), self.is_at_end());
        if view.origin == Origin::Resumed {
            self.check_safety(&head, cookie, &view);
        }
        match view.origin {
            _ if forgetful => {}
            Origin::Resumed if self.must_be_over(cookie, asked) => {
                self.fail(format!("{head}: opens a session that is over"));
            }
            Origin::Resumed if asked.later && self.was_being_ended(cookie) => {
                self.fail(format!("{head}: opens a session whose end was begun and dropped"));
            }
            Origin::Resumed => {
                let mut allowed = Vec::new();
                let is_allowed = |entries: Entries| {
                    allowed.push(entries);
                    allowed.last() == Some(&view.entries)
                };
                let is_of_visitor = |(key, value)| self.start.entries.get(key) == Some(value);
                if self.start.subject.is_none()
                    && cookie.issuer.is_some_and(|issuer| self.logs_in(issuer))
                    && view.entries.iter().any(is_of_visitor)
                {
                    self.kept_by.extend(view.subject.clone());
                }
                if !self.allows(cookie, asked, is_allowed) {
                    self.fail(format!("{head}: holds {:?}, which is none of {allowed:?}", view.entries));
                }
            }
            _ if at_end => {}
            Origin::Rejected(Rejection::Missing) => self.fail(format!("{head}: leads nowhere")),
            origin if !self.may_be_over(cookie) => self.fail(format!("{head}: {origin:?}")),
            _ => {}
        }
    }

    /// What holds whatever the store does.
    fn check_safety(&mut self, head: &str, cookie: &Cookie, view: &View) {
        if let Some(what) = foreign(view) {
            self.fail(format!("{head}: {what}"));
        }
        if view.subject != cookie.subject {
            self.fail(format!("{head}: is {:?}'s", view.subject));
        }
        if Some(cookie.id) == self.start.id && view.entries.contains_key("login") {
            self.fail(format!("{head}: from before the login, and opens what came after it"));
        }
    }

    /// A request that comes with this cookie later goes on with what it opens.
    fn check_follow_up(&mut self, world: &World, cookie: &Cookie) {
        const KEY: &str = "after";
        let node = &world.nodes[0];
        let outcome = self.time.wait(async {
            let session = node.load([&cookie.text]).await.map_err(|error| format!("{error:?}"))?;
            if session.origin() != Origin::Resumed {
                return Ok(None);
            }
            session.insert(KEY, "1").map_err(|error| format!("{error:?}"))?;
            let expected = View::of(&session).entries;
            let lines = node.commit(&session, CommitContext::default()).await;
            let line = lines.map_err(|error| format!("{error:?}"))?.pop();
            let next = line.as_ref().map_or(&cookie.text[..], |line| line.split(';').next().unwrap());
            let session = node.load([next]).await.map_err(|error| format!("{error:?}"))?;
            Ok::<_, String>(Some((View::of(&session), expected)))
        });
        match outcome {
            Ok(None) => {}
            Ok(Some((view, expected))) if view.entries == expected => {}
            _ if self.finished.is_forgetful() => {}
            Ok(Some((view, expected))) => self.fail(format!(
                "the next request leaves {:?} {:?} instead of {expected:?}",
                view.origin, view.entries
            )),
            Err(error) => self.fail(format!("the next request fails: {error}")),
        }
    }

    /// What the session of this cookie may hold: what all began with and what was done to it since, in any order; all
    /// that was acknowledged, and all of a request or nothing.
    fn allows(&self, cookie: &Cookie, asked: Asked, mut is: impl FnMut(Entries) -> bool) -> bool {
        let renewed = Some(cookie.id) != self.start.id;
        let base = &self.start.entries;
        let mut may: Vec<(usize, bool)> = Vec::new();
        if let Some(issuer) = cookie.issuer {
            let Told { outcome, .. } = self.told(issuer);
            if outcome.effects.first() == Some(&Effect::Empties) {
                return is(applied(&Entries::new(), &[&outcome.effects]));
            }
            if self.others(issuer).any(|by| self.may_end(by) && self.is_same_login(by, issuer)) {
                return self.allows_sent_twice(issuer, is);
            }
            // Whose cookie was refused begins another session.
            if !self.resumed(issuer) {
                return is(applied(&Entries::new(), &[&outcome.effects]));
            }
            let may_be_over = self.others(issuer).any(|by| self.may_end(by)) || self.is_at_end();
            if self.logs_in(issuer) && may_be_over {
                if is(applied(&Entries::new(), &[&outcome.effects])) {
                    return true;
                }
                if self.knows_the_end(issuer) && !self.is_faulted_near(issuer) {
                    return false;
                }
            }
            if !renewed && !cookie.stored {
                let left = outcome.left.as_ref();
                if left.is_some_and(|view| is(view.entries.clone())) {
                    return true;
                }
            }
            may.push((issuer, true));
        }
        for who in self.all() {
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
            may.push((who, leads && self.is_acknowledged(who) && !self.unread[who]));
        }
        self.orders(&may).into_iter().any(|order| {
            let effects: Vec<&[Effect]> =
                order.iter().map(|&who| &self.told(who).outcome.effects[..]).collect();
            is(applied(base, &effects))
        })
    }

    /// The same for a login, where another request has made the session that of the same user: it keeps what it came with, with or
    /// without what others have done since. It is empty only where something else may have ended the session, or moved it.
    fn allows_sent_twice(&self, login: usize, mut is: impl FnMut(Entries) -> bool) -> bool {
        let Told { outcome, .. } = self.told(login);
        let origin = outcome.loaded.as_ref().map(|view| view.origin);
        let came = match origin {
            Some(Origin::Resumed) => true,
            Some(Origin::Rejected(Rejection::Revoked)) => !self.start.stored,
            _ => false,
        };
        let others = || self.others(login).filter(|&who| !self.is_same_login(who, login));
        let moves = |who| matches!(self.op(who), Op::Grow | Op::Shrink | Op::Remove | Op::Clear);
        let alone = others().all(|who| !self.may_end(who) && !moves(who));
        // Who came too late may be all that a process knows of the end, and so of a cookie that it refuses.
        let is_late = |who| self.told(who).lost && self.program.node(who) == self.program.node(login);
        let is_told = origin != Some(Origin::Resumed) && self.others(login).any(is_late);
        let undisturbed = !self.finished.is_faulted() && !self.is_at_end() && alone && !is_told;
        let is_kept = came && undisturbed && !self.program.start.has_older_cookie();
        if !is_kept && is(applied(&Entries::new(), &[&outcome.effects])) {
            return true;
        }
        // Nothing is left of what was ended on purpose before. Another user's login may have met the end by this one's.
        let on_purpose = |&by: &usize| !self.logs_in(by) || self.start.subject.is_some();
        if others().filter(on_purpose).any(|by| self.knows_the_end_by(login, by)) {
            return false;
        }
        // Nor of a row that is gone.
        if !came {
            return false;
        }
        let began = self.told(login).began;
        let is_there =
            |who: usize| self.start.stored && self.is_acknowledged(who) && self.told(who).left < began;
        let mut may = vec![(login, true)];
        may.extend(
            others().filter(|&who| self.resumed(who) && !self.renews(who)).map(|who| (who, is_there(who))),
        );
        self.orders(&may).into_iter().any(|order| {
            let effects = order.iter().map(|&who| &self.told(who).outcome.effects[..]);
            is(applied(&self.start.entries, &effects.collect::<Vec<_>>()))
        })
    }

    /// Every order of those that must be there and of some of those that may. Who came after another one had its answer
    /// comes after it.
    fn orders(&self, may: &[(usize, bool)]) -> Vec<Vec<usize>> {
        let mut orders = vec![Vec::new()];
        let mut whole = Vec::new();
        while let Some(order) = orders.pop() {
            for &(who, _) in may.iter().filter(|(who, _)| !order.contains(who)) {
                let Told { left, .. } = self.told(who);
                let too_late = |&before: &usize| left.is_some() && *left < self.told(before).began;
                if !order.iter().any(too_late) {
                    orders.push([&order[..], &[who]].concat());
                }
            }
            if may.iter().all(|(who, must)| !must || order.contains(who)) {
                whole.push(order);
            }
        }
        whole
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
            Effect::Empties | Effect::Clears => entries.clear(),
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
