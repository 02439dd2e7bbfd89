//! A small application around one session, a browser for it, and a clock that moves when told to.

use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, SET_COOKIE};
use sealed_session::{Event, Key, KeyRing, ManualClock, Rejection, Session, Sessions, SessionsBuilder};
use time::OffsetDateTime;

use crate::framework;
pub(crate) use crate::framework::{Failure, Request};

pub(crate) const NAME: &str = "s";
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

/// Sessions with a manual clock and a record of their events.
pub(crate) struct Bed {
    pub(crate) sessions: Sessions,
    pub(crate) clock: ManualClock,
    events: Arc<Mutex<Vec<Event>>>,
}

/// The scope of independent sessions.
pub(crate) struct Admin;

/// What stands around the handler.
#[derive(Clone, Copy)]
pub(crate) enum Wrapped<'a> {
    Not,
    Once(&'a Sessions),
    /// First the inner one.
    Twice(&'a Sessions, &'a Sessions),
    Scoped {
        site: &'a Sessions,
        of_admin: &'a Sessions,
    },
}

/// What a client sends.
#[derive(Clone)]
pub(crate) struct Sent<'a> {
    pub(crate) method: &'a str,
    pub(crate) headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Sent<'a> {
    /// With these `Cookie` headers.
    pub(crate) fn get(cookies: &[&'a [u8]]) -> Self {
        Self { method: "GET", headers: cookies.iter().map(|cookie| ("cookie", *cookie)).collect() }
    }
}

/// What a handler answers.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, &'static str)>,
    pub(crate) body: &'static str,
}

impl Answer {
    pub(crate) fn ok() -> Self {
        Self::new(StatusCode::OK)
    }

    pub(crate) fn new(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: "" }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn body(mut self, body: &'static str) -> Self {
        self.body = body;
        self
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn all(&self, name: HeaderName) -> Vec<&str> {
        self.headers.get_all(name).map(|value| value.to_str().unwrap()).collect()
    }

    /// The session's `Set-Cookie`; there is never more than one.
    pub(crate) fn set_cookie(&self) -> Option<&str> {
        let ours = self.all(SET_COOKIE).into_iter().filter(|line| line.starts_with("s=")).collect::<Vec<_>>();
        assert!(ours.len() <= 1, "{ours:?}");
        ours.first().copied()
    }

    pub(crate) fn removes(&self) -> bool {
        self.set_cookie().is_some_and(|line| line.starts_with("s=;") && line.contains("; Max-Age=0;"))
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.set_cookie()?.split("; ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    }
}

/// A browser that keeps one cookie.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jar(pub(crate) Option<String>);

impl Jar {
    pub(crate) fn value(&self) -> &str {
        self.0.as_deref().expect("the browser has a cookie").strip_prefix("s=").unwrap()
    }

    pub(crate) fn keep(&mut self, reply: &Reply) {
        if let Some(line) = reply.set_cookie() {
            self.0 = (!reply.removes()).then(|| line.split(';').next().unwrap().to_owned());
        }
    }
}

pub(crate) fn start() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap()
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(configure: impl FnOnce(SessionsBuilder) -> SessionsBuilder) -> Self {
        Self::on(KeyRing::new(key(1)), ManualClock::at(start()), configure)
    }

    /// With a store whose rows live by the same clock.
    #[cfg(feature = "memory")]
    pub(crate) fn stored(configure: impl FnOnce(SessionsBuilder) -> SessionsBuilder) -> Self {
        let clock = ManualClock::at(start());
        let store = sealed_session::store::MemoryStore::new().clock(clock.clone());
        Self::on(KeyRing::new(key(1)), clock, |builder| configure(builder.store(store)))
    }

    /// Another node: the same clock, another configuration or ring.
    pub(crate) fn on(
        keys: KeyRing,
        clock: ManualClock,
        configure: impl FnOnce(SessionsBuilder) -> SessionsBuilder,
    ) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&events);
        let builder = Sessions::builder(keys)
            .cookie_name(NAME)
            .clock(clock.clone())
            .on_event(move |event| log.lock().unwrap().push(event.clone()));
        Self { sessions: configure(builder).build().unwrap(), clock, events }
    }

    /// Takes the events since the last time.
    pub(crate) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    pub(crate) fn rejections(&self) -> Vec<Rejection> {
        let reason = |event| if let Event::Rejected { reason, .. } = event { Some(reason) } else { None };
        self.events().into_iter().filter_map(reason).collect()
    }

    /// One request with these `Cookie` headers to a handler that is the closure.
    pub(crate) async fn call<F>(&self, cookies: &[&[u8]], handler: F) -> Reply
    where
        F: Fn(Request) -> Result<Answer, Failure> + 'static,
    {
        framework::ask(Wrapped::Once(&self.sessions), cookies, async move |request| handler(request)).await
    }

    /// One request to a handler that does `work` with the session and answers 200.
    pub(crate) async fn visit(&self, jar: &mut Jar, work: impl Fn(&Session) + 'static) -> Reply {
        let reply = self.peek(jar, work).await;
        jar.keep(&reply);
        reply
    }

    /// The same, but the browser does not see the answer.
    pub(crate) async fn peek(&self, jar: &Jar, work: impl Fn(&Session) + 'static) -> Reply {
        let cookies: Vec<&[u8]> = jar.0.iter().map(String::as_bytes).collect();
        self.raw(&cookies, work).await
    }

    /// The same with any `Cookie` headers.
    pub(crate) async fn raw(&self, cookies: &[&[u8]], work: impl Fn(&Session) + 'static) -> Reply {
        let reply = self
            .call(cookies, move |request| {
                work(&futures_of(request.session()));
                Ok(Answer::ok())
            })
            .await;
        assert_eq!(reply.status, StatusCode::OK);
        reply
    }

    /// A browser whose session holds `n` = 1.
    pub(crate) async fn logged_in(&self) -> Jar {
        let mut jar = Jar::default();
        self.visit(&mut jar, |session| session.insert("n", 1).unwrap()).await;
        self.events();
        jar
    }

    /// What `work` sees of the session.
    pub(crate) async fn see<T: 'static>(&self, jar: &Jar, look: impl Fn(&Session) -> T + 'static) -> T {
        let seen = Rc::new(std::cell::Cell::new(None));
        let out = Rc::clone(&seen);
        self.peek(jar, move |session| out.set(Some(look(session)))).await;
        seen.take().unwrap()
    }
}

/// Without a store nothing waits, and for a [`Spy`] neither, so a future is ready when first asked.
pub(crate) fn futures_of(future: impl Future<Output = Result<Session, Failure>>) -> Session {
    now(future).unwrap()
}

pub(crate) fn now<F: Future>(future: F) -> F::Output {
    use std::task::{Context, Poll, Waker};
    // Of a task that has polled much, tokio's locks and timers ask for a pause.
    let future = tokio::task::coop::unconstrained(future);
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing waits here"),
    }
}
