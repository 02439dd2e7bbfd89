//! Without a subscriber of `tracing` the facade `log` gets what happens. In a process of its own, because the first
//! subscriber of a process ends that.

use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record};
use sealed_session::{Key, KeyRing, Sessions};

static LINES: Mutex<Vec<(Level, String, String)>> = Mutex::new(Vec::new());

struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = (record.level(), record.target().to_owned(), record.args().to_string());
        LINES.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn the_facade_log_gets_what_happens_where_nobody_listens_to_tracing() {
    log::set_logger(&Lines).unwrap();
    log::set_max_level(LevelFilter::Debug);

    let ring = KeyRing::new(Key::generate());
    let sessions = Sessions::builder(ring.clone()).cookie_name("s").build().unwrap();
    let cookie = sessions.issue(|session| session.insert("n", 1)).await.unwrap();
    let log_id = sessions.inspect(&cookie[2..]).unwrap().id.log_id();
    let former = ring.primary();
    ring.rotate(Key::generate()).unwrap();
    ring.revoke(former).unwrap();
    sessions.load([cookie]).await.unwrap();

    let lines = LINES.lock().unwrap();
    let warned: Vec<_> = lines.iter().filter(|(level, ..)| *level == Level::Warn).collect();
    let [(_, target, line)] = warned[..] else { panic!("{lines:?}") };
    assert_eq!(target, "sealed_session");
    assert!(
        line.contains("a cookie was refused, revoked key") && line.contains("event=\"rejected\""),
        "{line}"
    );
    // As an operator greps for it, whoever writes the log.
    let told = format!(" session={log_id} ");
    assert!(lines.iter().any(|(.., line)| line.contains(&told)), "{told} in {lines:?}");
}
