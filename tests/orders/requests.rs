//! One request, from its arrival to its answer, and what it says of itself.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::Deref;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use sealed_session::{
    CommitContext, CommitError, DeviceState, Inspection, Origin, Placement, Rejection, RevokeError, Session,
    SessionId, Sessions,
};
use time::OffsetDateTime;

use crate::programs::{NAMES, Op};
use crate::world::Beginning;

/// What a request does to the entries, as far as it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The entries of the former user are gone.
    Empties,
    /// All entries are removed.
    Clears,
    Set(&'static str, String),
    Add(&'static str, i64),
    Unset(&'static str),
}

/// What somebody sees of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) origin: Origin,
    pub(crate) subject: Option<String>,
    pub(crate) entries: Entries,
    pub(crate) stored: bool,
}

pub(crate) type Entries = BTreeMap<String, String>;

/// The first letters of values tell who wrote them, for whom.
const TOLD: usize = 8;

impl View {
    pub(crate) fn of(session: &Session) -> Self {
        let short = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text[..text.len().min(TOLD)].to_owned(),
            other => other.to_string(),
        };
        Self {
            origin: session.origin(),
            subject: session.subject(),
            entries: session.entries().into_iter().map(|(key, value)| (key, short(value))).collect(),
            stored: matches!(session.placement(), Placement::Store { .. }),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The cookie as `name=value`.
    Cookie(String),
    Removal,
    Nothing,
    Failed(&'static str, String),
}

/// What became of a request, as it tells itself.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) loaded: Option<View>,
    pub(crate) effects: Vec<Effect>,
    /// What the handler left.
    pub(crate) left: Option<View>,
    /// Its `save` was acknowledged, and the session is in the store.
    pub(crate) saved: bool,
    /// What its session is called in the list of its subject's, when it is over.
    pub(crate) handle: Option<String>,
    /// What it found in ada's list, by the same name.
    pub(crate) listed: Option<Vec<String>>,
    /// The session that it found there and went to end, and whether it was told that it has.
    pub(crate) other: Option<(String, bool)>,
    /// `None`: it was dropped.
    pub(crate) answer: Option<Answer>,
}

/// How far a request has come, as the scheduler has to know.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) at_handler: Cell<bool>,
    pub(crate) outcome: RefCell<Outcome>,
}

/// A value that is `len` long and tells who wrote it for whom.
pub(crate) fn value(who: char, subject: Option<&str>, len: usize) -> String {
    format!("{:.<len$}", format!("{who}@{}", subject.unwrap_or("-")))
}

const HALF_A_DAY: Duration = Duration::from_secs(12 * 3600);

/// More than a cookie may hold, by the configuration of the world.
pub(crate) const LARGE: usize = 700;

/// What a session is called by `label`.
pub(crate) const LABEL: &str = "phone";

pub(crate) fn told(who: char, subject: Option<&str>) -> String {
    value(who, subject, TOLD)
}

/// One request, from its arrival to its answer.
pub(crate) async fn request(who: usize, op: Op, node: Sessions, start: Rc<Beginning>, place: Rc<Place>) {
    let answer = match op {
        Op::Revoke => revoked(node.revoke(start.id.unwrap()).await),
        Op::RevokeSubject => revoked(node.revoke_subject("ada").await),
        Op::List => {
            let listed = node.of("ada").await;
            revoked(listed.map(|lines| {
                let handles = lines.into_iter().map(|line| line.handle).collect();
                place.outcome.borrow_mut().listed = Some(handles);
            }))
        }
        _ => match node.load(cookies_of(op, &start)).await {
            Err(error) => Answer::Failed("load", error.to_string()),
            Ok(session) => {
                place.outcome.borrow_mut().loaded = Some(View::of(&session));
                let session = Named { session, outcome: &place.outcome };
                pause(&place.at_handler).await;
                let revoked = match op {
                    Op::EverywhereElse if session.subject().is_some() => node.revoke_subject("ada").await,
                    _ => Ok(()),
                };
                match revoked {
                    Ok(()) => answered(who, op, &node, &session, &place.outcome).await,
                    Err(error) => Answer::Failed("revoke", format!("{error:?}")),
                }
            }
        },
    };
    place.outcome.borrow_mut().answer = Some(answer);
}

/// What the handler does, and what comes of it.
async fn answered(
    who: usize,
    op: Op,
    node: &Sessions,
    session: &Session,
    outcome: &RefCell<Outcome>,
) -> Answer {
    handle(who, op, session, outcome).await;
    if op == Op::EndOther {
        end_other(node, session, outcome).await;
    }
    let lines = node.commit(session, CommitContext::default()).await;
    // Beside it may be that of the device's proof.
    match lines.map(|lines| lines.into_iter().find(|line| line.starts_with("s="))) {
        Ok(Some(line)) if line.starts_with("s=;") => Answer::Removal,
        Ok(Some(line)) => Answer::Cookie(line.split(';').next().unwrap().to_owned()),
        Ok(None) => Answer::Nothing,
        Err(error) => Answer::Failed(kind(&error), format!("{error:?}")),
    }
}

/// Tells what its session is called when it is over, also if the request is dropped.
struct Named<'a> {
    session: Session,
    outcome: &'a RefCell<Outcome>,
}

impl Deref for Named<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        self.outcome.borrow_mut().handle = self.session.handle();
    }
}

/// What the browser sends along.
fn cookies_of(op: Op, start: &Beginning) -> impl Iterator<Item = &String> {
    let cookie = match op {
        Op::LoginThere | Op::LoginLargeThere => None,
        Op::DestroyThere => start.there.as_ref().map(|there| &there.cookie),
        // From before the binding, if it is bound: of a cookie that says so a copy is refused without a question.
        op if op.is_stolen() => start.unbound.as_ref().or(start.cookie.as_ref()),
        _ => start.cookie.as_ref(),
    };
    cookie.into_iter().chain(start.proof.as_ref().filter(|_| !op.is_stolen()))
}

async fn end_other(node: &Sessions, session: &Session, outcome: &RefCell<Outcome>) {
    let (Some(subject), own) = (session.subject(), session.handle()) else { return };
    let Ok(listed) = node.of(&subject).await else { return };
    let Some(other) = listed.into_iter().map(|line| line.handle).find(|handle| Some(handle) != own.as_ref())
    else {
        return;
    };
    outcome.borrow_mut().other = Some((other.clone(), false));
    let ended = matches!(node.end(&subject, &other).await, Ok(true));
    outcome.borrow_mut().other = Some((other, ended));
}

fn revoked(outcome: Result<(), RevokeError>) -> Answer {
    match outcome {
        Ok(()) => Answer::Nothing,
        Err(error) => Answer::Failed("revoke", format!("{error:?}")),
    }
}

fn kind(error: &CommitError) -> &'static str {
    match error {
        CommitError::Store(_) => "store",
        CommitError::NotEnded { .. } => "not ended",
        CommitError::Conflict => "conflict",
        CommitError::Ended => "ended",
        CommitError::TooManySessions => "too many",
        _ => "other",
    }
}

/// A point where anything else may go first.
async fn pause(at: &Cell<bool>) {
    at.set(true);
    let mut first = true;
    poll_fn(|_| if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await;
    at.set(false);
}

async fn handle(who: usize, op: Op, session: &Session, outcome: &RefCell<Outcome>) {
    let (op, subject) = (op.handled(), session.subject());
    let text = |len| value(NAMES[who], session.subject().as_deref(), len);
    let mut effects = Vec::new();
    let mut set = |key: &'static str, len| {
        session.insert(key, text(len)).unwrap();
        effects.push(Effect::Set(key, told(NAMES[who], session.subject().as_deref())));
    };
    match op {
        Op::Read | Op::Revoke | Op::RevokeSubject | Op::List | Op::EndOther => {}
        Op::Label => session.set_label(LABEL).unwrap(),
        Op::Set => set("a", TOLD),
        Op::SetQuietly => {
            session.skip_renewal();
            set("a", TOLD);
        }
        Op::Other => set("b", TOLD),
        Op::Grow => set(["large", "larger", "largest"][who], LARGE),
        Op::Increment => {
            let by = [1, 10, 100][who];
            session.increment("n", by).unwrap();
            effects.push(Effect::Add("n", by));
        }
        Op::Shrink | Op::Remove => {
            let key = if op == Op::Shrink { "large" } else { "a" };
            if session.remove(key) {
                effects.push(Effect::Unset(key));
            }
        }
        Op::Clear => {
            if !session.is_empty() {
                session.clear();
                effects.push(Effect::Clears);
            }
        }
        Op::Shorten => session.set_duration(HALF_A_DAY).unwrap(),
        Op::Renew => session.renew(),
        Op::EverywhereElse if subject.is_some() => session.renew(),
        Op::EverywhereElse => {}
        Op::LoginThere | Op::LoginLargeThere => {
            session.authenticate("ada").unwrap();
            let len = if op == Op::LoginLargeThere { LARGE } else { TOLD };
            session.insert("login", text(len)).unwrap();
            effects.push(Effect::Set("login", told(NAMES[who], Some("ada"))));
        }
        Op::LoginSame | Op::LoginOther | Op::Impersonate => {
            let user = if op == Op::LoginSame { "ada" } else { "bob" };
            match op {
                Op::Impersonate => session.set_subject(user).unwrap(),
                _ => session.authenticate(user).unwrap(),
            }
            let empties = subject.is_some_and(|former| former != user);
            effects.extend(empties.then_some(Effect::Empties));
            // Who writes nothing has nothing changed either.
            if op != Op::Impersonate {
                session.insert("login", text(TOLD)).unwrap();
                effects.push(Effect::Set("login", told(NAMES[who], Some(user))));
            }
        }
        Op::Destroy | Op::DestroyThere => session.destroy(),
        Op::Touch => session.touch(),
        Op::Token => drop(session.csrf_token().unwrap()),
        Op::Save => set("saved", TOLD),
        _ => unreachable!("it is handled as another one"),
    }
    {
        let mut outcome = outcome.borrow_mut();
        outcome.effects = effects;
        outcome.left = Some(View::of(session));
    }
    if op == Op::Save {
        let in_row = matches!(session.placement(), Placement::Store { .. });
        outcome.borrow_mut().saved = session.save().await.is_ok() && in_row;
        // What it reads is looked at by the next request.
        let _ = session.reload().await;
    }
}

/// What a cookie says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Inspected {
    pub(crate) id: SessionId,
    pub(crate) subject: Option<String>,
    pub(crate) stored: bool,
    pub(crate) expires_at: OffsetDateTime,
    pub(crate) authenticated_at: Option<OffsetDateTime>,
    pub(crate) is_retired: bool,
    pub(crate) is_bound: bool,
}

/// Of the cookie `name=value`, unless it is refused.
pub(crate) fn inspected(node: &Sessions, cookie: &str) -> Result<Inspected, Rejection> {
    let Inspection { id, subject, placement, expires_at, authenticated_at, retired_key, device, .. } =
        node.inspect(cookie.split_once('=').unwrap().1)?;
    let (is_retired, is_bound) = (retired_key, device == DeviceState::Bound);
    let stored = matches!(placement, Placement::Store { .. });
    Ok(Inspected { id, subject, stored, expires_at, authenticated_at, is_retired, is_bound })
}
