//! The command line tool as a user runs it: the built program, its output to the letter, its exit codes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sealed_session::store::{RedbStore, Store as _};
use sealed_session::{CommitContext, Key, KeyRing, Lifetime, ManualClock, Secure, Session, Sessions};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const NAME: &str = "__Host-Http-session";
const AN_HOUR_LATER: &str = "2026-01-01T01:00:00Z";

struct Run {
    out: String,
    err: String,
    code: i32,
}

/// Runs the tool with these arguments, environment and input.
fn run(args: &[&str], env: &[(&str, &str)], input: &str) -> Run {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_sealed-session"));
    tool.args(args).env_clear().envs(env.iter().copied());
    let mut child = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended without reading anything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}

fn done(args: &[&str], env: &[(&str, &str)], input: &str) -> String {
    let run = run(args, env, input);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{args:?}: {}", run.out);
    run.out
}

/// A golden cookie, its keys and its value.
fn golden(what: &str) -> (String, String) {
    let vectors: Value = serde_json::from_str(include_str!("vectors/cookie-v1.json")).unwrap();
    let good = vectors["good"].as_array().unwrap();
    let vector = good.iter().find(|vector| vector["what"] == what).unwrap();
    let keys: Vec<&str> =
        vector["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    (keys.join(","), vector["value"].as_str().unwrap().to_owned())
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("sealed-session-{}", Key::generate().id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

#[test]
fn inspect_tells_everything_but_the_values() {
    let (keys, value) = golden("subject and generation");
    let env = [("SESSION_KEYS", keys.as_str())];
    let expected = "\
session   ZGVmZ2hpamtsbW5vcHFycw
log       session=27f8668ab20a4463
cookie    __Host-Http-session, 250 bytes of 4096, issue number 7
key       7eae1d42, primary
born      2026-01-01T00:00:00Z
sealed    2026-01-01T00:00:01Z
ends      2026-01-02T00:00:00.123Z, 82800 s from then on
subject   ada@example.com
login     never
data      in the cookie
entry     n
entry     user
";
    let args = ["inspect", "--at", AN_HOUR_LATER];
    for input in [
        value.clone(),
        format!("  {value}\n"),
        format!("{NAME}={value}"),
        format!("Cookie: theme=dark; {NAME}={value}; other=1"),
        format!("set-cookie: {NAME}={value}; Path=/; Max-Age=86400; HttpOnly"),
    ] {
        assert_eq!(done(&args, &env, &input), expected, "{input}");
    }
    let shown = done(&[&args[..], &["--show-values"]].concat(), &env, &value);
    assert_eq!(
        shown,
        expected.replace("entry     n\nentry     user\n", "entry     n = 1\nentry     user = \"ada\"\n")
    );

    let json = |args: &[&str]| -> Value { serde_json::from_str(&done(args, &env, &value)).unwrap() };
    let told = json(&[&args[..], &["--json"]].concat());
    assert_eq!(
        told,
        serde_json::json!({
            "session": "ZGVmZ2hpamtsbW5vcHFycw", "log_id": "27f8668ab20a4463", "name": NAME, "bytes": 250, "counter": 7, "key": "7eae1d42",
            "retired_key": false, "created_at": "2026-01-01T00:00:00Z", "sealed_at": "2026-01-01T00:00:01Z",
            "expires_at": "2026-01-02T00:00:00.123Z", "own_duration_ms": null, "persistent": null,
            "subject": "ada@example.com", "authenticated_at": null, "device": "free", "placement": "cookie",
            "keys": ["n", "user"],
        })
    );
    assert_eq!(json(&[&args[..], &["--json", "--show-values"]].concat())["entries"]["user"], "ada");
    let (_, value) = golden("authenticated");
    assert!(done(&args, &env, &value).contains("login     2026-01-01T00:00:00.456Z\n"));
    let (_, value) = golden("bound to a device");
    assert!(done(&args, &env, &value).contains("\ndevice    bound\n"));
    // Of a Set-Cookie with another name the name is taken.
    let (keys, value) = golden("another name and key");
    let line = format!("Set-Cookie: s={value}; Path=/; Secure");
    assert!(done(&args, &[("SESSION_KEYS", &keys)], &line).contains("cookie    s, "));
}

#[test]
fn why_explains_each_reason_in_a_sentence() {
    let folder = Folder::new();
    let (keys, value) = golden("subject and generation");
    let says = |args: &[&str], keys: &str, input: &str, word: &str, sentence: &str| {
        let args = [&["why"], args].concat();
        let told = run(&args, &[("SESSION_KEYS", keys)], input);
        assert_eq!((told.code, told.err.as_str()), (1, ""), "{}", told.out);
        assert!(told.out.contains(sentence) && told.out.lines().count() == 1, "{}", told.out);
        let told = run(&[&args[..], &["--json"]].concat(), &[("SESSION_KEYS", keys)], input);
        let document: Value = serde_json::from_str(&told.out).unwrap();
        assert_eq!((document["accepted"].as_bool(), document["reason"].as_str()), (Some(false), Some(word)));
    };
    let at = ["--at", AN_HOUR_LATER];
    let with = |more: &[&'static str]| [&at[..], more].concat();
    says(&at, &keys, &value[..value.len() - 1], "malformed", "was it cut off or URL-encoded");
    says(&at, &keys, &format!("B{}", &value[1..]), "unknown_suite", "5 is none that this version knows");
    says(
        &at,
        &key(2).export(),
        &value,
        "unknown_key",
        "key 7eae1d42 had sealed it, which is not in this ring",
    );
    says(&with(&["--name", "other"]), &keys, &value, "tampered", "under the name other");
    says(&[], &keys, &value, "expired", "the duration limit has passed");
    says(&with(&["--absolute", "59m"]), &keys, &value, "expired", "counted from the session's birth");
    says(&with(&["--idle", "59m"]), &keys, &value, "expired", "because nobody used it for too long");
    says(&["--at", "2025-12-31T23:00:00Z"], &keys, &value, "future", "a server's clock is wrong");
    let revoked = KeyRing::open_or_create(folder.file("keys")).unwrap();
    revoked.add_retired(key(1)).unwrap();
    revoked.revoke(key(1).id()).unwrap();
    let file = folder.file("keys");
    says(
        &[&at[..], &["--file", &file]].concat(),
        &keys,
        &value,
        "revoked_key",
        "which this ring has revoked",
    );

    let accepted = run(&[&["why"], &at[..]].concat(), &[("SESSION_KEYS", &keys)], &value);
    assert_eq!(accepted.code, 0);
    assert_eq!(
        accepted.out,
        "It would be accepted, until 2026-01-02T00:00:00.123Z if nobody uses it; whether it was revoked only its \
         --store can tell.\nIn the log it is session=27f8668ab20a4463.\n"
    );
}

/// Sessions over a store in a file, which the tool opens in between.
fn over<T>(path: &str, work: impl AsyncFnOnce(Sessions) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = RedbStore::open(Path::new(path)).unwrap();
        let sessions = Sessions::builder(KeyRing::new(key(1))).secure(Secure::Always).store(store);
        work(sessions.build().unwrap()).await
    })
}

fn now<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

async fn cookie(sessions: &Sessions, fill: impl FnOnce(&Session)) -> String {
    let session = sessions.load([""; 0]).await.unwrap();
    fill(&session);
    let line = sessions
        .commit(&session, CommitContext { response_head_bytes: 0, secure: true })
        .await
        .unwrap()
        .pop();
    line.unwrap().split(';').next().unwrap().to_owned()
}

#[test]
fn sessions_are_revoked_counted_and_swept_in_the_store() {
    let folder = Folder::new();
    let path = folder.file("sessions.redb");
    let (small, large, adas) = over(&path, async |sessions| {
        let small = cookie(&sessions, |session| session.insert("n", 1).unwrap()).await;
        let large = cookie(&sessions, |session| session.insert("n", "x".repeat(5_000)).unwrap()).await;
        let adas = cookie(&sessions, |session| session.set_subject("ada").unwrap()).await;
        (small, large, adas)
    });
    let text = key(1).export();
    let store = format!("redb:{path}");
    let env = [("SESSION_KEYS", text.as_str()), ("SEALED_SESSION_STORE", store.as_str())];
    assert_eq!(done(&["count"], &env, ""), "2 rows\n", "the large one, and ada's list");
    for cookie in [&small, &large, &adas] {
        assert!(done(&["why"], &env, cookie).starts_with("It would be accepted, until "));
    }
    // The reference is good, but where it leads to is not known without the store.
    let alone = run(&["why"], &env[..1], &large);
    assert_eq!(alone.code, 2);
    assert!(alone.err.contains("give --store"), "{}", alone.err);

    let inspected: Value = serde_json::from_str(&done(&["inspect", "--json"], &env, &small)).unwrap();
    let id = inspected["session"].as_str().unwrap();
    let told = done(&["revoke", "--session", id, "--store", &store], &env[..1], "");
    assert_eq!(
        told,
        format!("session {id} is ended; servers notice within their revocation time, 60 s by default\n")
    );
    let told = done(&["revoke", "--subject", "ada", "--json", "--max-duration", "12h"], &env, "");
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["revoked"]["subject"], "ada");
    for cookie in [&small, &adas] {
        let told = run(&["why"], &env, cookie);
        assert_eq!(told.code, 1);
        assert!(told.out.contains("rejected as revoked"), "{}", told.out);
        assert!(told.out.contains("\nIn the log it is session="), "{}", told.out);
    }
    assert!(done(&["why"], &env, &large).starts_with("It would be accepted"));
    assert_eq!(done(&["count"], &env, ""), "4 rows\n");
    assert_eq!(done(&["sweep", "--json"], &env, ""), "{\n  \"dropped\": 0\n}\n");
    over(&path, async |sessions| sessions.store().unwrap().clear().await.unwrap());
    let told = run(&["why"], &env, &large);
    assert!(told.code == 1 && told.out.contains("its data is not in the store"), "{}", told.out);
    drop(ManualClock::at(OffsetDateTime::UNIX_EPOCH));
}

/// An application may have a table of its own. Whoever asks in another one must hear that it is not there.
#[cfg(feature = "sqlite")]
#[test]
fn rows_are_found_under_the_name_that_the_application_gives_them_and_none_are_made() {
    use sealed_session::store::SqlStoreOptions;

    let folder = Folder::new();
    let address = format!("sqlite:{}", folder.file("shop.sqlite"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let open = SqlStoreOptions::new().table("shop").create_table(true);
    runtime.block_on(async {
        let store = open.connect(&address).await.unwrap();
        let sessions = Sessions::builder(KeyRing::new(key(1))).secure(Secure::Always).store(store);
        cookie(&sessions.build().unwrap(), |session| session.authenticate("ada").unwrap()).await;
    });
    drop(runtime);
    let text = key(1).export();
    let env = [("SESSION_KEYS", text.as_str()), ("SEALED_SESSION_STORE", address.as_str())];
    for args in [&["count"][..], &["revoke", "--subject", "ada"], &["list", "--subject", "ada"]] {
        let told = run(args, &env, "");
        assert_eq!((told.code, told.out.as_str()), (3, ""), "{args:?}");
        assert!(told.err.contains("no such table: sealed_sessions"), "{}", told.err);
    }
    assert_eq!(done(&["count", "--rows", "shop"], &env, ""), "1 rows\n");
    let ended = done(&["revoke", "--subject", "ada", "--rows", "shop"], &env, "");
    assert!(ended.contains("all sessions of \"ada\" are ended, of which 1 were listed here"), "{ended}");
    let missing = run(&["count", "--store", "sqlite:/nowhere/at all.sqlite"], &[], "");
    assert!(missing.code == 3 && missing.err.contains("there is no such file"), "{}", missing.err);
}

/// Support asks it about a cookie that is over by now, as of a moment before the user had logged in again.
#[test]
fn asking_why_changes_nothing_in_the_store() {
    const HOUR: Duration = Duration::from_secs(3600);
    let folder = Folder::new();
    let path = folder.file("sessions.redb");
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let phone = runtime.block_on(async {
        let clock = ManualClock::at(now - 3 * HOUR);
        let builder =
            Sessions::builder(KeyRing::new(key(1))).clock(clock.clone()).lifetime(Lifetime::new(HOUR));
        let sessions = builder.store(RedbStore::open(Path::new(&path)).unwrap()).build().unwrap();
        let login = |session: &Session| session.authenticate("ada").unwrap();
        let phone = cookie(&sessions, login).await;
        clock.set(now);
        cookie(&sessions, login).await;
        phone
    });
    let text = key(1).export();
    let store = format!("redb:{path}");
    let env = [("SESSION_KEYS", text.as_str()), ("SEALED_SESSION_STORE", store.as_str())];
    let listed = || done(&["list", "--subject", "ada", "--json"], &env, "");
    let before = listed();
    assert_eq!(before.matches("handle").count(), 1, "{before}");
    let at = (now - 3 * HOUR + HOUR / 2).format(&Rfc3339).unwrap();
    let told = run(&["why", "--duration", "1h", "--at", &at], &env, &phone);
    assert!(told.out.starts_with("It would be accepted"), "{} {}", told.out, told.err);
    assert_eq!(listed(), before);
}

#[test]
fn the_sessions_of_a_subject_are_listed_and_ended_one_by_one() {
    // Whatever a terminal obeys, or shows in another order.
    const HOSTILE: &str = "x\r\n\u{1b}[2J\u{9b}1A\u{202e}\u{2066}\0\u{2028}\u{7f}\"\\\t\u{e0041}";
    let folder = Folder::new();
    let path = folder.file("sessions.redb");
    let cookies = over(&path, async |sessions| {
        let phone = cookie(&sessions, |session| {
            session.authenticate("ada").unwrap();
            session.set_label("Firefox auf Größe").unwrap();
        });
        let hostile = |session: &Session| {
            session.authenticate("ada").unwrap();
            session.set_label(HOSTILE).unwrap();
            session.insert("n", "x".repeat(5_000)).unwrap();
        };
        let bare = |session: &Session| session.set_subject("ada").unwrap();
        [phone.await, cookie(&sessions, hostile).await, cookie(&sessions, bare).await]
    });
    let text = key(1).export();
    let store = format!("redb:{path}");
    let env = [("SESSION_KEYS", text.as_str()), ("SEALED_SESSION_STORE", store.as_str())];

    let listed = done(&["list", "--subject", "ada"], &env, "");
    let lines: Vec<&str> = listed.split_terminator('\n').collect();
    assert_eq!(lines.len(), 3, "one line each: {listed}");
    assert!(
        !listed.contains(
            |c: char| c.is_control() && c != '\n' || "\u{202e}\u{2066}\u{2028}\u{e0041}".contains(c)
        )
    );
    let line = |end: &str| {
        *lines.iter().find(|line| line.ends_with(end)).unwrap_or_else(|| panic!("{end}: {listed}"))
    };
    let phone = line("  \"Firefox auf Größe\"");
    line(r#"  "x\r\n\u{1b}[2J\u{9b}1A\u{202e}\u{2066}\0\u{2028}\u{7f}\"\\\t\u{e0041}""#);
    assert!(line("  no label").contains("  login never                 seen 20"), "{listed}");
    let (handle, rest) = phone.split_once("  log ").unwrap();
    assert_eq!(handle.len(), 22);
    let (log_id, rest) = rest.split_once("  login ").unwrap();
    assert!(done(&["inspect"], &env, &cookies[0]).contains(&format!("\nlog       session={log_id}\n")));
    let (login, seen) = rest.split_at(20);
    let login = OffsetDateTime::parse(login, &Rfc3339).unwrap();
    assert!((OffsetDateTime::now_utc() - login).whole_minutes() < 5, "{phone}");
    let seen = seen.strip_prefix("  seen ").unwrap().split("  ").next().unwrap();
    let hour = |at: OffsetDateTime| format!("{}T{:02}h", at.date(), at.hour());
    assert!([hour(login), hour(OffsetDateTime::now_utc())].contains(&seen.to_owned()), "{phone}");

    let told = done(&["list", "--subject", "ada", "--json"], &env, "");
    assert!(
        told.is_ascii() || !told.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'),
        "{told}"
    );
    assert!(told.contains("\\u202e") && told.contains("\\udb40\\udc41"), "{told}");
    let document: Value = serde_json::from_str(&told).unwrap();
    let sessions = document["sessions"].as_array().unwrap();
    let of = |label: Value| sessions.iter().find(|session| session["label"] == label).unwrap();
    assert_eq!((sessions.len(), &document["subject"]), (3, &Value::from("ada")));
    assert_eq!(of("Firefox auf Größe".into())["handle"], handle);
    assert_eq!(of("Firefox auf Größe".into())["log_id"], log_id);
    assert!(of(HOSTILE.into())["authenticated_at"].is_string());
    let bare = of(Value::Null);
    assert_eq!(bare["authenticated_at"], Value::Null);
    assert!(bare["seen_at"].as_str().unwrap().ends_with(":00:00Z"), "{bare}");

    let told = done(&["revoke", "--subject", "ada", "--handle", handle], &env, "");
    assert_eq!(
        told,
        format!(
            "session {handle} of \"ada\" is ended; servers notice within their revocation time, 60 s by default\n"
        )
    );
    assert!(run(&["why"], &env, &cookies[0]).out.contains("rejected as revoked"));
    assert_eq!(run(&["why"], &env, &cookies[1]).code, 0, "the others go on");
    assert_eq!(run(&["why"], &env, &cookies[2]).code, 0);
    assert!(!done(&["list", "--subject", "ada"], &env, "").contains(handle));
    let bare = bare["handle"].as_str().unwrap();
    let told = done(&["revoke", "--json", "--subject", "ada", "--handle", bare], &env, "");
    let document: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(document, serde_json::json!({"revoked": {"subject": "ada", "handle": bare}}));
    assert_eq!(done(&["list", "--subject", "ada"], &env, "").lines().count(), 1);

    for (subject, handle) in [("ada", handle), ("ada", "-x"), ("bob", handle), ("ada", "\u{1b}[2J")] {
        let told = run(&["revoke", "--subject", subject, "--handle", handle], &env, "");
        assert_eq!((told.code, told.out.as_str()), (2, ""), "{}", told.err);
        assert!(
            told.err.contains("has no session of the handle") && !told.err.contains('\u{1b}'),
            "{}",
            told.err
        );
    }
    let none = "is listed in this store under these keys and the cookie name";
    for (args, keys) in [
        (&["list", "--subject", "nobody\u{1b}[2J"][..], &text),
        (&["list", "--subject", "ada", "--name", "other"], &text),
        (&["list", "--subject", "ada"], &key(2).export()),
    ] {
        let told = done(args, &[("SESSION_KEYS", keys.as_str()), env[1]], "");
        assert!(told.starts_with("no session of \"") && told.contains(none), "{told}");
        assert!(told.lines().count() == 1 && !told.contains('\u{1b}'), "{told}");
    }
    let told = done(&["list", "--subject", "bob", "--json"], &env, "");
    let document: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(document, serde_json::json!({"subject": "bob", "sessions": []}));
}

#[test]
fn why_knows_the_limit_of_thirty_days_and_what_may_be_said_otherwise_and_reads_quotes() {
    let at =
        |day: i64| OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap() + time::Duration::days(day);
    let clock = ManualClock::at(at(0));
    let thirty_days = std::time::Duration::from_secs(30 * 86_400);
    let builder = Sessions::builder(KeyRing::new(key(1))).lifetime(Lifetime::new(thirty_days));
    let sessions = builder.clock(clock.clone()).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Used on the twentieth day, so that its duration lasts until the fiftieth.
    let value = runtime.block_on(async {
        let pair = sessions.issue(|session| session.insert("n", 1)).await.unwrap();
        clock.set(at(20));
        let session = sessions.load([&pair]).await.unwrap();
        session.touch();
        let line = sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
        line.split(';').next().unwrap().split_once('=').unwrap().1.to_owned()
    });
    let text = key(1).export();
    let env = [("SESSION_KEYS", text.as_str())];
    let (before, after) = ("2026-01-30T12:00:00Z", "2026-02-01T00:00:00Z");
    for (at, more, right) in [
        (before, &[][..], "accepted, until 2026-01-31T00:00:00Z"),
        (after, &[], "counted from the session's birth"),
        // Unless it is used, and so issued anew, what it was told at first counts, to an eighth.
        (before, &["--absolute", "45d"], "accepted, until 2026-01-31T14:51:44Z"),
        (before, &["--without-absolute"], "accepted, until 2026-01-31T14:51:44Z"),
        (before, &["--without-absolute", "--active", "0s"], "accepted, until 2026-01-31T14:51:44Z"),
        // It was over before the limit was raised.
        (after, &["--absolute", "45d"], "they have been raised since"),
    ] {
        let args = [&["why", "--duration", "30d", "--at", at], more].concat();
        for input in [value.clone(), format!("Cookie: a=b; {NAME}=\"{value}\"")] {
            let told = run(&args, &env, &input);
            assert!(told.out.contains(right), "{more:?}: {} {}", told.out, told.err);
            assert_eq!(told.code, i32::from(!right.starts_with("accepted")));
        }
    }
    let told = run(&["why", "--absolute", "45d", "--without-absolute"], &env, &value);
    assert!(told.code == 2 && told.err.contains("cannot be used with"), "{}", told.err);
}

/// As a browser sends them that has the cookie of an earlier release too, or one that somebody has planted.
#[test]
fn of_several_cookies_of_one_name_it_is_judged_by_the_one_that_a_server_takes() {
    let clock = ManualClock::at(OffsetDateTime::now_utc() - Duration::from_secs(60));
    let sessions = Sessions::builder(KeyRing::new(key(1))).clock(clock.clone()).build().unwrap();
    let made = |n: u32| {
        clock.advance(Duration::from_secs(1));
        let pair = now(sessions.issue(|session| session.insert("n", n))).unwrap();
        let pair = pair.split(';').next().unwrap().to_owned();
        let id = sessions.inspect(pair.split_once('=').unwrap().1).unwrap().id;
        (pair, id.log_id().to_string())
    };
    let [(older, _), (newer, log_id)] = [made(1), made(2)];
    let bad = format!("{NAME}=nonsense");
    let (text, other) = (key(1).export(), key(2).export());
    let env = [("SESSION_KEYS", text.as_str())];
    let told = "That is number 2 of 3 cookies of this name, the newest of 2 good ones.";
    for order in [[&bad, &newer, &older], [&older, &newer, &bad]] {
        let header = format!("Cookie: {}", order.map(String::as_str).join("; "));
        let why = done(&["why"], &env, &header);
        assert!(why.contains("It would be accepted") && why.contains(told) && why.contains(&log_id), "{why}");
        let shown = done(&["inspect", "--show-values"], &env, &header);
        assert!(shown.contains(told) && shown.contains("n = 2"), "{shown}");
    }
    let why = done(&["why"], &env, &format!("Cookie: {bad}; {older}"));
    assert!(why.contains("That is number 2 of 2 cookies of this name, the only good one."), "{why}");
    // Of bad ones the one that came furthest.
    let refused = run(&["why"], &[("SESSION_KEYS", other.as_str())], &format!("Cookie: {bad}; {newer}"));
    assert_eq!(refused.code, 1);
    assert!(refused.out.contains("give the ring of the server"), "{}", refused.out);
    assert!(refused.out.contains("That is number 2 of 2 cookies of this name, none of which is good."));
}

#[test]
fn a_duration_of_its_own_counts_as_far_as_the_configuration_lets_it() {
    let clock = ManualClock::at(OffsetDateTime::now_utc() - Duration::from_secs(3 * 86_400));
    let sessions = Sessions::builder(KeyRing::new(key(1))).clock(clock).build().unwrap();
    let cookie =
        now(sessions.issue(|session| session.set_duration(Duration::from_secs(7 * 86_400)))).unwrap();
    let text = key(1).export();
    let env = [("SESSION_KEYS", text.as_str())];
    assert!(done(&["why"], &env, &cookie).contains("It would be accepted"));
    let why = run(&["why", "--max-duration", "2d"], &env, &cookie);
    assert_eq!(why.code, 1);
    assert!(why.out.contains("rejected as expired"), "{}", why.out);
    // Which a longer one of the server's needs.
    let longer = ["why", "--duration", "500d", "--without-absolute", "--max-duration", "500d"];
    assert_eq!(run(&longer, &env, &cookie).code, 0);
}

/// Whatever a browser has sent, the terminal of whoever asks obeys nothing of it.
#[test]
fn nothing_of_a_cookie_drives_the_terminal() {
    const HOSTILE: &str = "x\r\n\u{1b}[2J\u{9b}1A\u{202e}\u{2066}\0\u{2028}\u{7f}\t\u{e0041}";
    let sessions = Sessions::builder(KeyRing::new(key(1))).build().unwrap();
    let cookie = now(sessions.issue(|session| {
        session.set_subject(HOSTILE)?;
        session.insert(HOSTILE, HOSTILE)
    }))
    .unwrap();
    let text = key(1).export();
    let env = [("SESSION_KEYS", text.as_str())];
    let obeyed = |c: char| c.is_control() && c != '\n' || "\u{202e}\u{2066}\u{2028}\u{e0041}".contains(c);
    for json in [false, true] {
        let json = json.then_some("--json");
        let args = |args: &[&'static str]| -> Vec<&str> { args.iter().copied().chain(json).collect() };
        let shown = done(&args(&["inspect", "--show-values"]), &env, &cookie);
        assert!(!shown.contains(obeyed), "{shown:?}");
        if json.is_none() {
            assert_eq!(shown.lines().filter(|line| line.contains("u{1b}[2J")).count(), 2, "{shown}");
        }
        let refused = run(&args(&["why"]), &env, &format!("a{HOSTILE}=1; b{HOSTILE}=2"));
        assert_eq!(refused.code, 2);
        assert!(!refused.err.contains(obeyed), "{:?}", refused.err);
    }
}

#[test]
fn keys_of_a_file_go_through_their_life() {
    let folder = Folder::new();
    let file = folder.file("session.keys");
    let keys = |args: &[&str], input: &str| done(&[&["keys"], args, &["--file", &file]].concat(), &[], input);
    let first = keys(&["rotate"], "");
    let one = first.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(first, format!("key {one} seals; {file} was made\n{one}  primary   seals and opens\n"));

    let (two, text) = (key(2).id().to_string(), key(2).export());
    let pending = keys(&["rotate", "--key-stdin", "--at", "2999-01-01T00:00:00Z"], &text);
    assert_eq!(
        pending,
        format!(
            "key {two} opens from now on and seals from 2999-01-01T00:00:00Z on\n{one}  primary   seals and opens\n\
             {two}  pending   opens; seals from 2999-01-01T00:00:00Z on\n"
        )
    );
    // The primary has leaked: the pending one takes its place.
    let revoked = keys(&["revoke", &one], "");
    assert_eq!(
        revoked,
        format!(
            "key {one} opens nothing any more; key {two} seals in its place\n{two}  primary   seals and opens\n\
             {one}  revoked   opens nothing\n"
        )
    );
    let rotated = keys(&["rotate"], "");
    let three = rotated.split_whitespace().nth(1).unwrap().to_owned();
    let retired = keys(&["retire", &two, "--at", "2999-01-01T00:00:00Z"], "");
    assert!(
        retired
            .starts_with(&format!("key {two} opens until 2999-01-01T00:00:00Z, and what it opens is sealed"))
    );
    let listed: Value = serde_json::from_str(&keys(&["list", "--json"], "")).unwrap();
    assert_eq!(
        listed,
        serde_json::json!({"keys": [
            {"id": three, "state": "primary"},
            {"id": two, "state": "retired", "not_after": "2999-01-01T00:00:00Z"},
            {"id": one, "state": "revoked"},
        ]})
    );
    let revoked = keys(&["revoke", &three], "");
    assert!(revoked.contains("seals in its place"), "a fresh one: {revoked}");
    // It was not the primary, so what it forged may be the primary's by now.
    let revoked = keys(&["revoke", &two], "");
    assert!(revoked.contains("revoke each key that has sealed since"), "{revoked}");
    let soon = keys(&["rotate", "--in", "15m"], "");
    let moment = soon.lines().next().unwrap().rsplit_once("from ").unwrap().1.trim_end_matches(" on");
    assert!(moment.ends_with('Z') && !moment.contains('.'), "{moment}");
}

/// Otherwise `keygen > file` says that all is well, and the key is nowhere.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let tool =
        std::process::Command::new(env!("CARGO_BIN_EXE_sealed-session")).arg("keygen").stdout(full).output();
    let tool = tool.unwrap();
    assert_eq!(tool.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&tool.stderr).contains("the answer cannot be written"), "{tool:?}");
}

#[test]
fn keygen_makes_another_key_each_time() {
    let (one, other) = (done(&["keygen"], &[], ""), done(&["keygen"], &[], ""));
    assert_ne!(one, other);
    let key: Key = one.trim().parse().unwrap();
    assert_eq!(one.len(), 44);
    let told: Value = serde_json::from_str(&done(&["keygen", "--json"], &[], "")).unwrap();
    assert_eq!(told["key"].as_str().unwrap().parse::<Key>().unwrap().id().to_string(), told["id"]);
    drop(key);
}

#[test]
fn size_is_what_the_cookie_has() {
    let told = done(&["size"], &[], r#"{"n": 1}"#);
    assert_eq!(
        told,
        "207 bytes of name and value\n2865 bytes left to the 3072 at which it moves into a store\n3889 bytes left to \
         the 4096 that browsers keep\n"
    );
    let input = format!(r#"{{"text": "{}"}}"#, "x".repeat(3_500));
    let told: Value =
        serde_json::from_str(&done(&["size", "--json", "--subject", "ada"], &[], &input)).unwrap();
    let exact = Sessions::builder(KeyRing::new(key(1))).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let size = runtime.block_on(async {
        let session = exact.load([""; 0]).await.unwrap();
        session.set_subject("ada").unwrap();
        match session.insert("text", "x".repeat(3_500)) {
            Err(sealed_session::InsertError::TooLarge { size, .. }) => size,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(told["bytes"], size);
    assert_eq!((told["spills"].as_bool(), told["fits"].as_bool()), (Some(true), Some(false)));
    // Ids and subjects may begin with anything.
    done(&["size", "--subject", "-ada"], &[], "{}");
    let over = done(&["size"], &[], &input);
    assert!(over.contains(" bytes over the 3072") && over.contains(" bytes over the 4096"), "{over}");
}

#[test]
fn every_mistake_is_named_with_its_mend_and_has_its_exit_code() {
    let folder = Folder::new();
    let (keys, value) = golden("no entries");
    let env = [("SESSION_KEYS", keys.as_str())];
    let missing = folder.file("missing");
    let open = folder.file("open");
    std::fs::write(&open, "{}").unwrap();
    let unreachable = "redis://user:secret@127.0.0.1:1/";
    let ring = folder.file("session.keys");
    done(&["keys", "rotate", "--file", &ring], &[], "");
    for (args, env, input, code, words) in [
        (&["inspect"][..], &[][..], value.as_str(), 2, "SESSION_KEYS is not set; set it, or give --file"),
        (&["inspect", "--env", "OTHER"], &env, &value, 2, "OTHER is not set"),
        (&["inspect", "--file", &missing], &env, &value, 3, "cannot read the key file"),
        #[cfg(unix)]
        (&["inspect", "--file", &open], &env, &value, 2, "chmod 600"),
        (&["inspect"], &[("SESSION_KEYS", "short")], &value, 2, "43 characters of base64url"),
        (&["inspect"], &env, "", 2, "standard input is empty; a cookie"),
        (&["why"], &env, &format!("{value}\n\n{value}\n"), 2, "standard input has 2 lines; give one cookie"),
        (
            &["inspect"],
            &env,
            "Cookie: a=1; b=2",
            2,
            "no cookie named __Host-Http-session among a, b; give --name",
        ),
        (&["why", "--duration", "24"], &env, &value, 2, "such as 30d, 24h, 15m, 90s or 500ms"),
        (&["why", "--duration", "1h", "--active", "2h"], &env, &value, 2, "must not be longer"),
        (
            &["keys", "rotate", "--at", "2020-01-01T00:00:00Z", "--file", &missing],
            &env,
            "",
            2,
            "that moment is over",
        ),
        (
            &["keys", "retire", "1a2b3c4d", "--at", "2020-01-01T00:00:00Z", "--file", &ring],
            &env,
            "",
            2,
            "is over",
        ),
        (&["why", "--at", "today"], &env, &value, 2, "2027-01-31T12:00:00Z"),
        (&["why", "--store", "memory"], &env, &value, 2, "lives in the server's process"),
        (&["count", "--store", "memcached://x"], &env, "", 2, "begins with memory, redb:PATH"),
        (&["count"], &env, "", 2, "--store <ADDRESS>"),
        (&["count", "--store", "redb:/no/such/folder/file"], &env, "", 3, "there is no such file"),
        (
            &["count", "--store", "redb:x", "--rows", "shop"],
            &env,
            "",
            2,
            "keeps nothing but rows of sessions",
        ),
        (&["revoke", "--store", "redb:x"], &env, "", 2, "<--session <ID>|--subject <SUBJECT>>"),
        (&["revoke", "--session", "x", "--store", "redb:x"], &env, "", 2, "22 characters of base64url"),
        (&["revoke", "--handle", "x", "--store", "redb:x"], &env, "", 2, "--subject <SUBJECT>"),
        (
            &["revoke", "--session", "x", "--handle", "y", "--store", "redb:x"],
            &env,
            "",
            2,
            "'--session <ID>' cannot be used with '--handle <HANDLE>'",
        ),
        (&["list", "--store", "redb:x"], &env, "", 2, "--subject <SUBJECT>"),
        (&["list", "--subject", "ada"], &env, "", 2, "--store <ADDRESS>"),
        (
            &["list", "--subject", "ada", "--store", "redb:x"],
            &[],
            "",
            2,
            "SESSION_KEYS is not set; set it, or give",
        ),
        (&["list", "--subject", "ada", "--store", "memory"], &env, "", 2, "lives in the server's process"),
        (
            &["list", "--subject", "ada", "--store", "redb:/no/such/folder/file"],
            &env,
            "",
            3,
            "cannot be used as it is configured",
        ),
        (&["keys", "list", "--file", &missing], &env, "", 3, "cannot read the key file"),
        (&["keys", "rotate", "--in", "1h", "--file", &missing], &env, "", 2, "keys rotate --file"),
        (&["size"], &env, "[1]", 2, "no JSON object of entries"),
        (&["size", "--spill-above", "10"], &env, "{}", 2, "spill_above is 10 bytes"),
        (&["keys", "revoke", "xyz", "--file", &open], &env, "", 2, ""),
        (&["nonsense"], &env, "", 2, "unrecognized subcommand"),
    ] {
        let told = run(args, env, input);
        assert_eq!((told.code, told.out.as_str()), (code, ""), "{args:?}: {}", told.err);
        assert!(told.err.contains(words), "{args:?}: {}", told.err);
        assert!(!told.err.contains("secret"), "{}", told.err);
    }
    let ring = folder.file("ring");
    done(&["keys", "rotate", "--file", &ring], &[], "");
    for (args, words) in [
        (["keys", "retire", "ab0d8468", "--file", &ring], "no key ab0d8468 in the ring"),
        (["keys", "revoke", "xyz", "--file", &ring], "8 hexadecimal digits"),
    ] {
        let told = run(&args, &[], "");
        assert!(told.code == 2 && told.err.contains(words), "{}", told.err);
    }
    let primary = KeyRing::open(&ring).unwrap().primary().to_string();
    let told = run(&["keys", "retire", &primary, "--file", &ring, "--json"], &[], "");
    let document: Value = serde_json::from_str(&told.err).unwrap();
    assert!(document["error"].as_str().unwrap().contains("rotate to another key first"));
    // A password in the arguments is for everybody on the machine to read; it is used, but not in silence.
    #[cfg(feature = "redis")]
    {
        let told = run(&["count", "--store", unreachable], &env, "");
        assert!(told.code == 3 && told.err.contains("stands in the process list"), "{}", told.err);
        assert!(!told.err.contains("secret"), "{}", told.err);
        let told = run(&["count"], &[("SEALED_SESSION_STORE", unreachable)], "");
        assert!(told.code == 3 && !told.err.contains("process list"), "{}", told.err);
    }
    let _ = unreachable;
}

#[test]
fn help_has_examples_and_completions_are_scripts() {
    for command in ["inspect", "why", "size", "list", "revoke", "completions"] {
        let help = done(&[command, "--help"], &[], "");
        assert!(help.contains("Example: "), "{help}");
    }
    assert!(done(&["--help"], &[], "").contains("Exit codes: 0 done"));
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef sealed-session"), ("fish", "complete -c")]
    {
        assert!(done(&["completions", shell], &[], "").contains(word));
    }
}
