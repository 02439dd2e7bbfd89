//! What is in the log: stable fields, and no secret. In a process of its own, because who listens is asked once for all
//! threads.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sealed_session::store::{
    Expected, MemoryStore, NewRow, Revision, Row, RowKey, Store, StoreError, Written,
};
use sealed_session::{CommitContext, Key, KeyRing, Revocation, Session, SessionId, Sessions};
use time::OffsetDateTime;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// What is logged from now on in this thread, from this level on.
    fn listen(level: tracing::Level) -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A store whose next so many loads and writes fail when told to.
#[derive(Debug)]
struct Failing(MemoryStore, Arc<AtomicUsize>);

impl Failing {
    fn ask(&self) -> Result<(), StoreError> {
        let failing = self.1.fetch_update(Relaxed, Relaxed, |calls| calls.checked_sub(1)).is_ok();
        if failing { Err(StoreError::Unavailable("told to fail".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Store for Failing {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        self.ask()?;
        self.0.load(key).await
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        self.ask()?;
        self.0.write(key, row, expected).await
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        self.0.extend(key, at, expires_at).await
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        self.0.delete(key).await
    }

    async fn sweep(&self, limit: usize) -> Result<u64, StoreError> {
        self.0.sweep(limit).await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.0.count().await
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.0.clear().await
    }
}

/// One request; the cookie that the browser has then.
async fn visit(sessions: &Sessions, pair: &str, work: impl FnOnce(&Session)) -> String {
    let session = sessions.load([pair]).await.unwrap();
    work(&session);
    let line = sessions.commit(&session, CommitContext::default()).await.unwrap().pop();
    line.map_or_else(|| pair.to_owned(), |line| line.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn the_log_has_stable_fields_and_no_secret() {
    let (log, _guard) = Log::listen(tracing::Level::TRACE);

    let fails = Arc::new(AtomicUsize::new(0));
    let key = Key::generate();
    let ring = KeyRing::new(key.clone());
    let builder = Sessions::builder(ring.clone()).cookie_name("s").revocation(Revocation::EveryRequest);
    let sessions = builder.store(Failing(MemoryStore::new(), Arc::clone(&fails))).build().unwrap();
    let pair = visit(&sessions, "", |session| {
        session.set_subject("secret-subject").unwrap();
        session.insert("secret-name", "secret-value").unwrap();
    })
    .await;
    let id = sessions.inspect(&pair[2..]).unwrap().id;
    // A login, whose former and new id one line has both of.
    let pair = visit(&sessions, &pair, |session| {
        let before = session.log_id();
        session.authenticate("secret-subject").unwrap();
        assert_ne!(session.log_id(), before);
    })
    .await;
    let (former, id) = (id, sessions.inspect(&pair[2..]).unwrap().id);
    let large = visit(&sessions, &pair, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    let flip = if &pair[80..81] == "A" { "B" } else { "A" };
    visit(&sessions, &format!("{}{flip}{}", &pair[..80], &pair[81..]), |_| ()).await;
    let other = sessions.issue(|session| session.insert("n", 1)).await.unwrap();
    let others = sessions.inspect(&other[2..]).unwrap().id;
    fails.store(1, Relaxed);
    visit(&sessions, &other, |_| ()).await;
    ring.rotate(Key::generate()).unwrap();
    ring.revoke(key.id()).unwrap();
    for _ in 0..3 {
        visit(&sessions, &large, |_| ()).await;
    }

    let text = log.text();
    let named = |field: &str, id: SessionId| format!(" {field}={}", id.log_id());
    let (of_former, of_it) = (named("session", former), named("session", id));
    let lines =
        |parts: &[&str]| text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
    for parts in [
        &["DEBUG", "sealed_session:", "event=\"started\"", &of_former, "bytes="][..],
        &["DEBUG", "event=\"renewed\"", &of_it, &named("former", former)],
        &["DEBUG", "event=\"authenticated\"", &of_it, "reason=\"again\""],
        &["DEBUG", "event=\"spilled\"", &of_it, "bytes="],
        &["WARN", "event=\"store_failed\"", "reason=\"unavailable\"", "operation=\"load\"", "told to fail"],
        &["WARN", "event=\"unconfirmed\"", &named("session", others)],
        &["DEBUG", "event=\"rejected\"", "reason=\"tampered\""],
        &["WARN", "event=\"rejected\"", "reason=\"revoked_key\"", "key="],
    ] {
        assert_eq!(lines(parts), 1, "{parts:?} in {text}");
    }
    for span in ["session.load", "session.commit"] {
        assert!(lines(&[&format!("{span}{{session={}}}", id.log_id())]) > 0, "{span} in {text}");
    }
    // No part of an id is logged either.
    let parts = [former, id, others].map(|id| id.to_string());
    let parts = parts.iter().flat_map(|id| [&id[..5], &id[8..13], &id[16..]]);
    for secret in parts.chain(["secret-", key.export().as_str(), &pair[2..], &large[2..]]) {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

/// Everybody has to log in again after a start with a new key, and the log says so at the level that servers run with.
#[tokio::test]
async fn a_fresh_key_file_and_the_first_cookie_of_an_unknown_key_are_not_overheard() {
    let (log, _guard) = Log::listen(tracing::Level::INFO);
    let folder = std::env::temp_dir().join(format!("sealed-session-log-{}", Key::generate().id()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("session.keys");
    let start = || KeyRing::open_or_create(&path).unwrap();
    let sessions = |ring| Sessions::builder(ring).cookie_name("s").build().unwrap();
    let former = sessions(start());
    let made = |ring: &KeyRing| format!("key={} path={}", ring.primary(), path.display());
    assert!(log.text().contains(&made(former.keys())), "{}", log.text());
    let cookie = former.issue(|session| session.insert("n", 1)).await.unwrap();
    start();
    assert_eq!(log.text().lines().count(), 1, "the file is there: {}", log.text());
    std::fs::remove_file(&path).unwrap();
    let now = sessions(start());
    for _ in 0..10 {
        now.load([&cookie]).await.unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let text = log.text();
    let warned: Vec<&str> = text.lines().filter(|line| line.contains("WARN")).collect();
    let [line] = warned[..] else { panic!("one warning is enough: {text}") };
    assert!(
        line.contains("reason=\"unknown_key\"") && line.contains("was a new key made at this start"),
        "{line}"
    );
    assert!(text.contains(&made(now.keys())), "{text}");
}

/// A login that cannot be saved is logged under the id that the events of it have, as the cookie that is not sent would.
#[cfg(all(feature = "actix", feature = "axum"))]
#[tokio::test]
async fn a_failed_login_has_its_session_in_the_log() {
    use actix_web::{App, test, web};
    use axum::routing::get;
    use sealed_session::{SessionLayer, SessionMiddleware};
    use tower::ServiceExt as _;

    async fn login(session: Session) -> String {
        let before = session.log_id();
        session.authenticate("ada").unwrap();
        session.insert("large", "x".repeat(5_000)).unwrap();
        let now = session.log_id();
        assert_ne!(before, now);
        *LOGGED_IN.lock().unwrap() = now.to_string();
        String::new()
    }
    static LOGGED_IN: Mutex<String> = Mutex::new(String::new());

    let (log, _guard) = Log::listen(tracing::Level::WARN);
    let fails = Arc::new(AtomicUsize::new(0));
    let builder = Sessions::builder(KeyRing::new(Key::generate())).cookie_name("s");
    let sessions = builder.store(Failing(MemoryStore::new(), Arc::clone(&fails))).build().unwrap();
    let cookie = sessions.issue(|session| session.insert("cart", 1)).await.unwrap();
    let layered = axum::Router::new().route("/", get(login)).layer(SessionLayer::new(sessions.clone()));
    let wrapped = App::new().route("/", web::get().to(login)).wrap(SessionMiddleware::new(sessions));
    let wrapped = test::init_service(wrapped).await;
    for framework in ["axum", "actix-web"] {
        fails.store(usize::MAX, Relaxed);
        let status = if framework == "axum" {
            let request = axum::http::Request::get("/").header("cookie", &cookie);
            let request = request.body(axum::body::Body::empty()).unwrap();
            layered.clone().oneshot(request).await.unwrap().status().as_u16()
        } else {
            let request = test::TestRequest::get().insert_header(("cookie", cookie.as_str()));
            test::call_service(&wrapped, request.to_request()).await.status().as_u16()
        };
        assert_eq!(status, 503, "{framework}");
        let text = String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
        let line =
            text.lines().find(|line| line.contains("answered with 503")).expect("the failure is logged");
        let told = format!(" session={} ", LOGGED_IN.lock().unwrap());
        assert!(line.contains(&told), "{framework}: {told} in {text}");
    }
}

/// What answers with a failure says whose session it was, as every event does.
#[cfg(all(feature = "actix", feature = "axum"))]
#[tokio::test]
async fn a_failure_has_the_session_in_the_log_and_a_missing_middleware_is_told_to_whoever_asks() {
    use actix_web::{App, test, web};
    use axum::routing::get;
    use sealed_session::{CsrfError, InsertError, SessionLayer, SessionMiddleware, Subject, ValueError};
    use tower::ServiceExt as _;

    async fn reads(session: Session) -> Result<&'static str, ValueError> {
        session.get::<u32>("name").map(|_| "")
    }
    async fn refuses(_: Session) -> Result<&'static str, CsrfError> {
        Err(CsrfError::NoSession)
    }
    async fn writes_late(session: Session) -> Result<&'static str, InsertError> {
        // The request's work goes on in another turn by then.
        tokio::task::yield_now().await;
        session.destroy();
        session.renew();
        session.insert("n", 1).map(|()| "")
    }

    let (log, _guard) = Log::listen(tracing::Level::WARN);
    let sessions = Sessions::builder(KeyRing::new(Key::generate())).cookie_name("s").build().unwrap();
    let cookie = sessions.issue(|session| session.insert("name", "ada")).await.unwrap();
    let told = format!(" session={} ", sessions.inspect(&cookie[2..]).unwrap().id.log_id());
    let taken = || std::mem::take(&mut *log.0.lock().unwrap());

    let layered = |router: axum::Router| router.layer(SessionLayer::new(sessions.clone()));
    let inner = layered(axum::Router::new().route("/", get(reads)));
    let app = axum::Router::new()
        .route("/reads", get(reads))
        .route("/late", get(writes_late))
        .route("/refuses", get(refuses))
        // A request within the request that is of the same session.
        .route(
            "/within",
            get(|_: Session, outer: axum::extract::Request| {
                let mut request = axum::extract::Request::new(axum::body::Body::empty());
                *request.headers_mut() = outer.headers().clone();
                inner.oneshot(request)
            }),
        );
    let app = layered(app);
    let said = |status: u16, text: &str| {
        let lines: Vec<&str> = text.lines().collect();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(&told)), "{told} in {text}");
        assert!(text.contains(&format!("answered with {status}")), "{text}");
    };
    for (path, status) in [("/reads", 500), ("/late", 500), ("/refuses", 403), ("/within", 500)] {
        let request =
            axum::http::Request::get(path).header("cookie", &cookie).body(axum::body::Body::empty());
        assert_eq!(app.clone().oneshot(request.unwrap()).await.unwrap().status(), status);
        said(status, &String::from_utf8(taken()).unwrap());
    }
    let app = App::new()
        .route("/reads", web::get().to(reads))
        .route("/late", web::get().to(writes_late))
        .route("/refuses", web::get().to(refuses))
        .wrap(SessionMiddleware::new(sessions.clone()));
    let app = test::init_service(app).await;
    for (path, status) in [("/reads", 500), ("/late", 500), ("/refuses", 403)] {
        let request = test::TestRequest::get().uri(path).insert_header(("cookie", cookie.as_str()));
        assert_eq!(test::call_service(&app, request.to_request()).await.status(), status);
        said(status, &String::from_utf8(taken()).unwrap());
    }
    // A task that outlives its request, or goes on beside it, leaves nothing behind for the next one in its thread; and of two
    // sessions of one request none is told, rather than the wrong one.
    enum Admin {}
    async fn strays(request: axum::extract::Request) -> Result<&'static str, InsertError> {
        use sealed_session::tower::SessionExt as _;
        let (parts, _) = request.into_parts();
        tokio::spawn(async move { drop(parts.session().await) }).await.unwrap();
        Ok("")
    }
    async fn both(one: Session, other: sealed_session::Scoped<Admin>) -> Result<&'static str, ValueError> {
        assert_ne!(one.id(), other.id());
        one.get::<u32>("name").map(|_| "")
    }
    let admin = Sessions::builder(sessions.keys().clone()).cookie_name("admin").build().unwrap();
    let of_admin = admin.issue(|session| session.insert("name", "root")).await.unwrap();
    let app = axum::Router::new()
        .route("/strays", get(strays))
        .route("/both", get(both))
        .route("/fails", get(|| async { Err::<&str, _>(InsertError::Destroyed) }))
        .layer(SessionLayer::new(sessions.clone()))
        .layer(SessionLayer::scoped::<Admin>(admin));
    for (path, status) in [("/strays", 200), ("/fails", 500), ("/both", 500)] {
        let request = axum::http::Request::get(path).header("cookie", format!("{cookie}; {of_admin}"));
        let request = request.body(axum::body::Body::empty());
        assert_eq!(app.clone().oneshot(request.unwrap()).await.unwrap().status(), status, "{path}");
        let text = String::from_utf8(taken()).unwrap();
        assert_eq!(text.contains("answered with 500"), status == 500, "{text}");
        assert!(!text.contains("session="), "{path}: {text}");
    }
    // Of a request that has none, none is told.
    let error = InsertError::Destroyed;
    drop(actix_web::ResponseError::error_response(&error));
    assert!(!String::from_utf8(taken()).unwrap().contains("session="));

    // An `Option` would hide it, and nobody be logged in.
    let bare =
        App::new().route("/", web::get().to(|user: Option<Subject>| async move { format!("{user:?}") }));
    let response =
        test::call_service(&test::init_service(bare).await, test::TestRequest::get().to_request()).await;
    assert_eq!(response.status(), 200);
    let text = String::from_utf8(taken()).unwrap();
    assert!(text.contains("ERROR") && text.contains("no `SessionMiddleware` provides it"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    let bare = App::new().route("/", web::get().to(|_: Subject| async { "" }));
    let response =
        test::call_service(&test::init_service(bare).await, test::TestRequest::get().to_request()).await;
    assert_eq!(response.status(), 500);
    assert_eq!(String::from_utf8(taken()).unwrap().lines().count(), 1, "told once");
}

/// A subscriber is the application's code, and may add the session's id to each line.
#[test]
fn whoever_receives_the_log_may_ask_the_session() {
    struct Asks(Session);

    impl tracing::Subscriber for Asks {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
            tracing::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            let _ = self.0.log_id();
        }
        fn enter(&self, _: &tracing::Id) {}
        fn exit(&self, _: &tracing::Id) {}
    }

    let (done, waits) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let sessions = Sessions::builder(KeyRing::new(Key::generate())).build().unwrap();
        let session = runtime.block_on(sessions.load([""])).unwrap();
        session.destroy();
        let _guard = tracing::subscriber::set_default(Asks(session.clone()));
        session.touch();
        session.remove("n");
        done.send(()).unwrap();
    });
    waits.recv_timeout(std::time::Duration::from_secs(10)).expect("it waits for itself");
}
