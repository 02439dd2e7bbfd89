//! Every error that the interface can give, provoked, and found in `docs/errors.md` to the letter.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use sealed_session::store::{StoreError, open, open_existing};
use sealed_session::{
    CommitContext, CommitError, CsrfError, End, Key, KeyError, KeyFile, KeyId, KeyRing, KeySource, Lifetime,
    LoginGuard, ManualClock, Origin, Overflow, Rejection, Revocation, RevokeError, SameSite, Secure,
    SessionId, Sessions, SessionsBuilder, Source, Zeroizing,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

fn builder() -> SessionsBuilder {
    Sessions::builder(KeyRing::new(Key::from_bytes([1; 32])))
}

/// The message with its causes. `Debug`, which `main` and `unwrap` print, is the same.
#[track_caller]
fn message<T>(outcome: Result<T, impl Error + 'static>) -> String {
    let Err(error) = outcome else { panic!("it should have failed") };
    let (mut line, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        if !line.contains(&error.to_string()) {
            line = format!("{line}: {error}");
        }
        cause = error.source();
    }
    assert_eq!(format!("{error:?}"), line);
    line
}

fn of_configuration() -> Vec<String> {
    let seconds = Duration::from_secs;
    vec![
        message(builder().cookie_name("my session").build()),
        message(builder().secure(Secure::Never).build()),
        message(builder().path("shop").build()),
        message(builder().cookie_name("s").secure(Secure::Auto).same_site(SameSite::None).build()),
        message(builder().lifetime(Lifetime::new(Duration::ZERO)).build()),
        message(builder().lifetime(Lifetime::new(seconds(60)).active(Duration::ZERO)).build()),
        message(builder().lifetime(Lifetime::new(seconds(60)).absolute(Duration::ZERO)).build()),
        message(builder().lifetime(Lifetime::new(seconds(60)).idle(Duration::ZERO)).build()),
        message(builder().spill_above(2_048).build()),
        message(builder().lifetime(Lifetime::new(seconds(60)).active(seconds(300))).build()),
        message(builder().cookie_name("session").path("shop").build()),
        message(builder().cookie_name("session").domain("my site").build()),
        message(builder().trusted_origin("app.example.com").build()),
        message(builder().trusted_origin("https://*.example.com").build()),
        message(builder().cookie_name("session").formerly("/", None).build()),
        message(builder().formerly("/app", None).build()),
        message(auto().transient::<u8>("oidc").build()),
        message(builder().build().unwrap().transient::<u8>("session").build()),
        message(builder().build().unwrap().transient::<u8>("a.b").build()),
        message(builder().build().unwrap().transient::<u8>("oidc").lifetime(seconds(7_200)).build()),
        message(LoginGuard::new("login")),
        message(LoginGuard::new("/login").and_then(|guard| guard.fresh(Duration::ZERO))),
    ]
}

fn auto() -> Sessions {
    builder().cookie_name("session").secure(Secure::Auto).build().unwrap()
}

#[derive(Debug)]
struct Vault;

impl KeySource for Vault {
    fn load(&self) -> Result<Zeroizing<String>, Source> {
        Err("permission denied".into())
    }
}

/// The key is in it, and not to be in what is said about it.
#[derive(Debug)]
#[expect(dead_code, reason = "its Debug form would tell it")]
struct Constant(&'static str);

impl KeySource for Constant {
    fn load(&self) -> Result<Zeroizing<String>, Source> {
        Ok(Key::from_bytes([1; 32]).export())
    }
}

fn of_keys() -> Vec<String> {
    let one = Key::from_bytes([1; 32]);
    let text = one.export();
    let ring = KeyRing::new(one.clone());
    let mut messages = vec![
        message("hunter2".parse::<Key>()),
        message(format!("{}=", *text).parse::<Key>()),
        message("A".repeat(43).parse::<Key>()),
        message("0aF9".repeat(16).parse::<Key>()),
        message(format!("{}!", &text[1..]).parse::<Key>()),
        message(format!("{}_", &text[1..]).parse::<Key>()),
        message(Key::derive_from(b"correct horse battery staple")),
        message(Key::derive_from(&[7; 32])),
        message(Key::derive_from(&b"x9!k2#mQ".repeat(4))),
        message(Key::derive_from(&(0..32).collect::<Vec<u8>>())),
        message(Key::derive_from(b"1212112212211222121122121221121212")),
        message(Key::derive_from(b"the quick brown fox jumps over the lazy dog")),
        message(KeyRing::parse("")),
        message(KeyRing::parse(&format!("{},{}", *text, *text))),
        message(KeyRing::from_env("SESSION_KEYS_OF_NOBODY")),
        KeyError::ReadOnlyEnvironment { name: "SESSION_KEYS".into() }.to_string(),
        message(KeyRing::parse(&format!("{},hunter2", *text))),
        message(KeyRing::open("/nowhere/session.keys")),
        message(KeyRing::parse("{}")),
        message(KeyRing::parse(r#"{"version":2,"keys":[]}"#)),
        message(KeyRing::parse(r#"{"version":1,"keys":[]}"#)),
        message(KeyRing::parse(r#"{"version":1,"keys":[{"state":"primary"}]}"#)),
        message(KeyRing::parse(r#"{"version":1,"keys":[{"id":"ab0d8468","state":"primary"}]}"#)),
        message(KeyRing::parse(&format!(
            r#"{{"version":1,"keys":[{{"key":"{}","state":"pending"}}]}}"#,
            *text
        ))),
        message("xyz".parse::<KeyId>()),
        message(ring.promote(Key::from_bytes([2; 32]).id())),
        message(ring.retire(one.id(), None)),
        message(ring.revoke(one.id())),
        {
            let ring = KeyRing::from_keys([one.clone(), Key::from_bytes([2; 32])]).unwrap();
            message(ring.replace(Key::from_bytes([2; 32]).id(), Key::from_bytes([3; 32])))
        },
        message(KeyRing::from_source(Constant("secret")).unwrap().rotate(Key::from_bytes([2; 32]))),
        message(KeyRing::from_source(Vault)),
    ];
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("sealed-session-errors-{}.keys", Key::generate().id()));
        let mut told = |content: &[u8], mode| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let told = message::<KeyRing>(KeyRing::open(&path));
            std::fs::remove_file(&path).unwrap();
            messages.push(told.replace(path.to_str().unwrap(), "session.keys"));
        };
        told(text.as_bytes(), 0o644);
        told(&[0xfe; 32], 0o600);
        told(b"hunter2", 0o600);
        messages.push(message(KeyRing::open("/")));
        messages.push(message(KeyFile::new("/").allow_readable().open()));
    }
    messages
}

struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a lock is poisoned"))
    }
}

impl<'de> Deserialize<'de> for Unwritable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

/// Of tokens for forms, transient cookies and flash messages.
async fn of_forms() -> Vec<String> {
    let sessions = builder().build().unwrap();
    let session = sessions.load([""]).await.unwrap();
    let elsewhere = Sessions::builder(KeyRing::new(Key::from_bytes([2; 32]))).build().unwrap();
    let foreign = elsewhere.load([""]).await.unwrap().csrf_token().unwrap();
    let of_other = sessions.load([""]).await.unwrap().csrf_token().unwrap();
    let resumed =
        sessions.load([sessions.issue(|session| session.insert("n", 1)).await.unwrap()]).await.unwrap();
    let renewed =
        sessions.load([sessions.issue(|session| session.insert("n", 1)).await.unwrap()]).await.unwrap();
    renewed.renew();
    let refused = CsrfError::Rejected(Rejection::Expired(End::Duration));
    let unwritable = sessions.transient::<Unwritable>("oidc").build().unwrap();
    let texts = sessions.transient::<String>("oidc").build().unwrap();
    let flash = sessions.flash(&session, [""]);
    let _ = flash.commit(true);
    vec![
        message(session.verify_csrf("none")),
        message(session.verify_csrf(&foreign)),
        message(resumed.verify_csrf(&of_other)),
        message(sessions.load([""]).await.unwrap().verify_csrf(&of_other)),
        message(renewed.verify_csrf(&of_other)),
        message(Err::<(), _>(refused)),
        message(Err::<(), _>(CsrfError::CrossSite)),
        message(texts.put(&"x".repeat(2_200))),
        message(unwritable.put(&Unwritable)),
        message(texts.put_for("a b", [""], &String::new())),
        message(flash.info("late")),
    ]
}

async fn of_sessions() -> Vec<String> {
    let sessions = builder().build().unwrap();
    let session = sessions.load::<&str>([]).await.unwrap();
    session.insert("name", "ada").unwrap();
    let mut messages = vec![
        message(session.insert("photo", "x".repeat(5_000))),
        message(session.insert("state", Unwritable)),
        message(session.get::<u32>("name")),
        message(session.update("name", |n: Option<u32>| n.unwrap_or(0) + 1)),
        message(session.increment("name", 1)),
        message(session.set_duration(Duration::ZERO)),
        message(session.set_subject("")),
        message(session.set_subject("x".repeat(5_000))),
        message("xyz".parse::<SessionId>()),
        message(session.insert("tree", (0..200).fold(json!(null), |tree, _| json!([tree])))),
    ];
    session.insert("hits", i64::MAX).unwrap();
    messages.push(message(session.increment("hits", 1)));
    session.destroy();
    messages.push(message(session.insert("name", "bob")));
    let session = sessions.load::<&str>([]).await.unwrap();
    sessions.commit(&session, CommitContext::default()).await.unwrap();
    messages.push(message(session.insert("name", "bob")));
    messages.push(message(builder().build().unwrap().commit(&session, CommitContext::default()).await));
    messages.push(message(sessions.revoke_subject("ada").await));
    messages.push(message(sessions.issue(|session| session.destroy()).await));
    messages
}

async fn of_stores() -> Vec<String> {
    // What real stores say is in the tests of the stores; here is what stands around it.
    let refused = || "connection refused".into();
    let failed = || Err::<(), _>(StoreError::Unavailable(refused()));
    vec![
        message(failed()),
        message(Err::<(), _>(StoreError::Misconfigured(
            "permission denied for table sealed_sessions".into(),
        ))),
        message(Err::<(), _>(StoreError::Timeout("2s passed".into()))),
        message(Err::<(), _>(StoreError::Full("OOM command not allowed".into()))),
        message(Err::<(), _>(StoreError::Corrupt("the fields are not those of a row".into()))),
        message(Err::<(), _>(CommitError::NotEnded {
            set_cookies: Vec::new(),
            source: StoreError::Unavailable(refused()),
        })),
        message(Err::<(), _>(RevokeError::Store(StoreError::Unavailable(refused())))),
        message(Err::<(), _>(CommitError::Conflict)),
        message(Err::<(), _>(CommitError::Ended)),
        message(Err::<(), _>(CommitError::TooManySessions)),
        message(open("sqlserver://db").await.map(drop)),
        message(open("redb").await.map(drop)),
        message(open("redb:").await.map(drop)),
        message(open("sqlite").await.map(drop)),
        message(open_existing("redb:x", Some("shop")).await.map(drop)),
        message(open_existing("redb:/nowhere/sessions.redb", None).await.map(drop)),
    ]
}

/// The sentence of each refusal, without what is different in each.
async fn of_refusals() -> Vec<String> {
    let at = |seconds: i64| time::OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap();
    let clock = ManualClock::at(at(0));
    let ring = KeyRing::new(Key::from_bytes([1; 32]));
    let build = |ring: &KeyRing, name: &str| {
        Sessions::builder(ring.clone()).cookie_name(name).clock(clock.clone()).build().unwrap()
    };
    let sessions = build(&ring, "s");
    let cookie = sessions.issue(|session| session.insert("n", 1)).await.unwrap();
    let reason = async |sessions: &Sessions, cookie: &str| {
        let Origin::Rejected(reason) = sessions.load([cookie]).await.unwrap().origin() else {
            panic!("{cookie} was accepted");
        };
        reason.to_string()
    };
    let mut messages = vec![
        reason(&sessions, "s=nonsense").await,
        reason(&sessions, &format!("s=_{}", &cookie[3..])).await,
        reason(&build(&ring, "t"), &cookie.replacen("s=", "t=", 1)).await,
        reason(&build(&KeyRing::new(Key::from_bytes([2; 32])), "s"), &cookie).await,
    ];
    clock.set(at(-3_600));
    messages.push(reason(&sessions, &cookie).await);
    clock.set(at(3_600 * 25));
    messages.push(reason(&sessions, &cookie).await);
    clock.set(at(0));
    ring.rotate(Key::from_bytes([3; 32])).unwrap();
    ring.revoke(Key::from_bytes([1; 32]).id()).unwrap();
    messages.push(reason(&sessions, &cookie).await);
    messages.push(sealed_session::InsertError::CrossSite.to_string());
    messages.push(sealed_session::TransientError::CrossSite.to_string());
    messages.push(sealed_session::Rejection::Missing.to_string());
    messages.push(sealed_session::Rejection::Revoked.to_string());
    messages.push(sealed_session::Rejection::Unproven.to_string());
    messages
}

#[cfg(feature = "axum")]
fn of_layers() -> [String; 4] {
    use sealed_session::tower::SessionRejection;
    [
        SessionRejection::NotLayered.to_string(),
        SessionRejection::SharedCookie.to_string(),
        SessionRejection::CrossSite.to_string(),
        SessionRejection::NotAuthenticated.to_string(),
    ]
}

#[cfg(feature = "device-binding")]
fn of_devices() -> Vec<String> {
    use sealed_session::DeviceBinding;
    let bound = |builder: SessionsBuilder| builder.device_binding(DeviceBinding::WhereOffered);
    vec![
        message(bound(builder()).device_binding_path("/elsewhere").path("/app").cookie_name("s").build()),
        message(builder().proof_lifetime(Duration::from_secs(600)).build()),
        message(bound(builder()).proof_lifetime(Duration::ZERO).build()),
        message(bound(builder()).cookie_name("s").secure(Secure::Auto).build()),
        message(bound(builder()).cookie_name("s").domain("example.com").build()),
        message(bound(builder()).partitioned(true).build()),
    ]
}

async fn without_middleware() -> String {
    use actix_web::{App, test, web};
    let app = App::new().route("/", web::get().to(|_: sealed_session::Session| async { "" }));
    let response =
        test::call_service(&test::init_service(app).await, test::TestRequest::get().to_request()).await;
    response.response().error().expect("a response of 500 has its error").to_string()
}

async fn with_one_cookie_for_two() -> String {
    use actix_web::{App, test, web};
    use sealed_session::{Scoped, SessionMiddleware};
    enum Admin {}
    let ring = KeyRing::new(Key::generate());
    let sessions = || Sessions::builder(ring.clone()).cookie_name("session").build().unwrap();
    let app = App::new()
        .route("/", web::get().to(|_: Scoped<Admin>| async { "" }))
        .wrap(SessionMiddleware::new(sessions()))
        .wrap(SessionMiddleware::scoped::<Admin>(sessions()));
    let response =
        test::call_service(&test::init_service(app).await, test::TestRequest::get().to_request()).await;
    let told = response.response().error().expect("a response of 500 has its error").to_string();
    told.replace(std::any::type_name::<Admin>(), "my_app::Admin")
}

#[cfg(feature = "memory")]
async fn with_a_store() -> Vec<String> {
    let store = || sealed_session::store::MemoryStore::new();
    let sessions = builder().store(store()).build().unwrap();
    let session = sessions.load::<&str>([]).await.unwrap();
    vec![
        message(builder().store(store()).spill_above(100_000).build()),
        message(builder().store(store()).revocation(Revocation::Every(Duration::ZERO)).build()),
        message(session.insert("film", "x".repeat(2 << 20))),
        message(builder().store(store()).max_sessions(0, Overflow::Refuse).build()),
        message(
            builder().store(store()).revocation(Revocation::Off).max_sessions(1, Overflow::Refuse).build(),
        ),
        message(builder().store(store()).roster(false).build().unwrap().of("ada").await),
    ]
}

#[cfg(feature = "redb")]
async fn of_files() -> Vec<String> {
    use sealed_session::store::RedbStore;
    let path = std::env::temp_dir().join(format!("sealed-session-errors-{}.redb", Key::generate().id()));
    let told = || message(RedbStore::open(&path)).replace(path.to_str().unwrap(), "/app/sessions.redb");
    let one = RedbStore::open(&path).unwrap();
    let twice = told();
    drop(one);
    std::fs::write(&path, "something else").unwrap();
    assert!(matches!(RedbStore::open(&path), Err(StoreError::Corrupt(_))));
    let foreign = told();
    std::fs::remove_file(&path).unwrap();
    let nowhere = message(open("redb:/nowhere/sessions.redb").await.map(drop));
    vec![twice, foreign, nowhere]
}

/// Each is the cause of a `StoreError`, which the first line of its section has.
#[cfg(feature = "redis")]
async fn of_certificates() -> Vec<String> {
    use sealed_session::store::RedisStoreOptions;
    let cause = |message: String| {
        message.strip_prefix("the session store cannot be used as it is configured: ").unwrap().to_owned()
    };
    let opened = async |parameters: &str| {
        message(open(&format!("rediss://127.0.0.1:1/?{parameters}")).await.map(drop))
    };
    let options = || RedisStoreOptions::new().root_certificates("none");
    let showing = |chain: &str, key: &str| {
        message(RedisStoreOptions::new().client_certificate(chain, key).connect_lazy("rediss://127.0.0.1:1/"))
    };
    // Whatever is in the place of a key, nothing of it is told.
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for key in [
        "-----BEGIN PRIVATE KEY-----\\ns3cret",
        "-----BEGIN PRIVATE KEY----- s3cret -----END PRIVATE KEY-----",
        "s3cret",
    ] {
        assert_eq!(showing(certificate, key), showing(certificate, "none"));
    }
    let messages = [
        opened("ssl_certfile=/app/client.pem").await,
        opened("ssl_ca_certs=/nowhere/ca.pem").await,
        message(options().connect_lazy("rediss://127.0.0.1:1/")),
        message(options().connect_lazy("redis://127.0.0.1:1/")),
        showing("none", "none"),
        showing(certificate, "none"),
        opened("tls=true").await,
    ];
    let missing = opened(&format!("ssl_certfile={}&ssl_keyfile=s3cret", file!())).await;
    assert!(missing.contains("`ssl_keyfile`") && !missing.contains("s3cret"), "{missing}");
    messages.map(cause).to_vec()
}

#[tokio::test]
async fn every_message_is_in_the_book_and_the_book_has_no_other() {
    let _ = (Revocation::Off, Overflow::Refuse);
    let mut messages = of_configuration();
    messages.extend(of_keys());
    messages.extend(of_sessions().await);
    messages.extend(of_forms().await);
    messages.extend(of_stores().await);
    messages.extend(of_refusals().await);
    messages.push(without_middleware().await);
    messages.push(with_one_cookie_for_two().await);
    #[cfg(feature = "axum")]
    messages.extend(of_layers());
    #[cfg(feature = "device-binding")]
    messages.extend(of_devices());
    #[cfg(feature = "memory")]
    messages.extend(with_a_store().await);
    #[cfg(feature = "redb")]
    messages.extend(of_files().await);
    #[cfg(feature = "redis")]
    messages.extend(of_certificates().await);

    let page = include_str!("../../docs/errors.md");
    // A message stands in a line of its own, indented as code.
    let book: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let said: BTreeSet<&str> = messages.iter().map(String::as_str).collect();
    let missing: Vec<_> = said.difference(&book).collect();
    assert!(missing.is_empty(), "not in docs/errors.md:\n    {}", join(&missing));
    if cfg!(all(
        feature = "axum",
        feature = "device-binding",
        feature = "memory",
        feature = "redb",
        feature = "redis"
    )) {
        let unknown: Vec<_> = book.difference(&said).collect();
        assert!(unknown.is_empty(), "only in docs/errors.md:\n    {}", join(&unknown));
    }
}

fn join(lines: &[&&str]) -> String {
    lines.iter().map(|line| **line).collect::<Vec<_>>().join("\n    ")
}

#[test]
fn no_error_about_keys_shows_one() {
    let text = Key::from_bytes([7; 32]).export();
    let cut = &text[..42];
    for error in [
        cut.parse::<Key>().unwrap_err(),
        KeyRing::parse(&format!("{cut}!")).unwrap_err(),
        KeyRing::parse(&format!("{{\"version\":1,\"keys\":[{{\"key\":\"{cut}\"}}]}}")).unwrap_err(),
    ] {
        let (KeyError::Encoding { .. } | KeyError::Document { .. } | KeyError::InList { .. }) = error else {
            panic!("{error}");
        };
        assert!(!format!("{error} {error:?}").contains(&text[..8]), "{error:?}");
    }
}
