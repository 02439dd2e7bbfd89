//! What is counted and measured, held against the pages for operators: the table of names, the dashboard and the alerts. Traffic
//! of every kind makes each of them rise, or it would not be a table of what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use actix_web::http::StatusCode;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use sealed_session::{
    CommitContext, DeviceBinding, FailurePolicy, Key, KeyRing, KeySource, Lifetime, ManualClock, Overflow,
    Revocation, Session, SessionsBuilder, Source,
};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::device_binding::{Browser, Device};
use crate::framework;
use crate::spy::{Fate, guarded, other_node, status, stored};
use crate::stored::spilled;
use crate::support::{Answer, Bed, DAY, Jar, MINUTE, Sent, Wrapped, key, now, start};
use crate::telling::refused;

const PAGE: &str = include_str!("../../docs/metrics.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const DASHBOARD: &str = include_str!("../../docs/operations/dashboard.json");
const ALERTS: &str = include_str!("../../docs/operations/alerts.yml");
const ALERT_TESTS: &str = include_str!("../alerts.yml");

/// A name's type, unit and meaning, and its labels.
type Told = (String, String, String, BTreeSet<String>);
/// A label's values.
type Values = BTreeMap<String, BTreeSet<String>>;

/// What the traffic has made of the metrics.
struct Measured {
    names: BTreeMap<String, Told>,
    values: Values,
    events: BTreeSet<(String, String)>,
    /// How often, or how many values, by the name and the values of its labels.
    counts: BTreeMap<String, u64>,
}

/// What is measured of this.
async fn measured(traffic: impl Future<Output = ()>) -> Measured {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let guard = metrics::set_default_local_recorder(&recorder);
    traffic.await;
    drop(guard);
    let (mut names, mut values) = (BTreeMap::new(), Values::new());
    let (mut events, mut counts) = (BTreeSet::new(), BTreeMap::new());
    for (key, unit, what, value) in snapshots.snapshot().into_vec() {
        let (kind, count) = match value {
            DebugValue::Counter(count) => ("counter", count),
            DebugValue::Histogram(seen) => ("histogram", seen.len() as u64),
            DebugValue::Gauge(_) => ("gauge", 1),
        };
        let name = key.key().name().to_owned();
        let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
        let of = labels.iter().map(|(_, value)| *value).collect::<Vec<_>>().join(" ");
        counts.insert(format!("{name} {of}").trim_end().to_owned(), count);
        // What is zero is there for the exporters alone.
        if count == 0 {
            continue;
        }
        let unit = unit.map_or("no unit", |unit| unit.as_str()).to_owned();
        let what = what.map_or_else(|| "no word of what it is".to_owned(), |what| what.to_string());
        let told =
            (kind.to_owned(), unit, what, labels.iter().map(|(label, _)| (*label).to_owned()).collect());
        assert_eq!(*names.entry(name.clone()).or_insert(told.clone()), told, "one name, one set of labels");
        match labels[..] {
            [("event", event), ("reason", reason)] => {
                events.insert((event.to_owned(), reason.to_owned()));
            }
            _ => {
                for (label, value) in labels {
                    values.entry(label.to_owned()).or_default().insert(value.to_owned());
                }
            }
        }
    }
    Measured { names, values, events, counts }
}

impl Measured {
    fn count(&self, what: &str) -> u64 {
        self.counts.get(&format!("sealed_session_{what}")).copied().unwrap_or(0)
    }
}

/// The cells of the table that begins with this line.
fn table<'a>(page: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let rest = page.split_once(head).unwrap_or_else(|| panic!("no table {head}")).1;
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What stands in backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn names_of_page() -> BTreeMap<String, Told> {
    let rows = table(PAGE, "| name | type | unit | labels | what |");
    let told =
        |row: &[&str]| (row[1].into(), row[2].into(), row[4].into(), quoted(row[3]).into_iter().collect());
    rows.iter().map(|row| (quoted(row[0]).remove(0), told(row))).collect()
}

/// Of the labels whose values are finite.
fn values_of_page() -> Values {
    let rows = table(PAGE, "| label | values | |");
    let of = |row: &Vec<&str>| (quoted(row[0]), quoted(row[1]).into_iter().collect());
    let single = |(label, values): (Vec<String>, _)| match &label[..] {
        [label] if label != "key" => Some((label.clone(), values)),
        _ => None,
    };
    rows.iter().map(of).filter_map(single).collect()
}

fn events_of_page() -> BTreeSet<(String, String)> {
    let rows = table(OPERATIONS, "| event, reason | what it means | what to do |");
    let event = |words: Vec<String>| (words[0].clone(), words.get(1).cloned().unwrap_or_default());
    rows.iter().map(|row| event(quoted(row[0]))).collect()
}

fn text(n: usize) -> String {
    "x".repeat(n)
}

/// A session from its first cookie through the store to its end, over a rotation.
async fn a_life() {
    let (bed, _) = guarded(|builder| builder.lifetime(Lifetime::new(DAY).active(MINUTE)));
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| session.insert("n", 1).unwrap()).await;
    bed.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    bed.clock.advance(DAY - MINUTE / 2);
    bed.visit(&mut jar, |_| ()).await;
    bed.sessions.keys().rotate(key(2)).unwrap();
    bed.visit(&mut jar, |_| ()).await;
    bed.visit(&mut jar, |session| session.insert("large", text(5_000)).unwrap()).await;
    bed.visit(&mut jar, |session| assert!(session.remove("large"))).await;
    for _ in 0..2 {
        bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    }
    bed.visit(&mut jar, |_| ()).await;
    bed.visit(&mut jar, Session::destroy).await;
    let mut jar = bed.logged_in().await;
    bed.visit(&mut jar, Session::clear).await;
    // A stored session that only goes on, and is ended from outside.
    let mut jar = spilled(&bed).await;
    bed.clock.advance(DAY - MINUTE / 2);
    bed.visit(&mut jar, |_| ()).await;
    bed.sessions.revoke(bed.see(&jar, Session::id).await).await.unwrap();
    bed.sessions.revoke_subject("ada").await.unwrap();
}

async fn others_pages_and_others_cookies() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    for (cookie, expected) in [(jar.0.as_deref(), StatusCode::FORBIDDEN), (None, StatusCode::OK)] {
        let mut headers = vec![("sec-fetch-site", &b"cross-site"[..]), ("origin", b"https://elsewhere.test")];
        headers.extend(cookie.map(|cookie| ("cookie", cookie.as_bytes())));
        let sent = Sent { method: "POST", headers };
        let handler = async |request: crate::support::Request| request.session().await.map(|_| Answer::ok());
        let reply = framework::ask_with(Wrapped::Once(&bed.sessions), &sent, handler).await;
        assert_eq!(reply.status, expected);
    }
    let other = bed.logged_in().await;
    bed.raw(&[jar.0.unwrap().as_bytes(), other.0.unwrap().as_bytes()], |_| ()).await;
}

/// What a node does to a session while another one is about to write it.
async fn meanwhile() {
    for is_revoked in [true, false] {
        let (bed, spy) = guarded(|builder| builder);
        let node = other_node(&bed, &spy, |builder| builder);
        let mut jar = spilled(&bed).await;
        let (id, rows) = (bed.see(&jar, Session::id).await, Arc::clone(&spy));
        spy.before("write", move || match is_revoked {
            true => now(node.sessions.revoke(id)).unwrap(),
            false => now(sealed_session::store::Store::clear(&rows.rows)).unwrap(),
        });
        bed.visit(&mut jar, |session| session.insert("n", 2).unwrap()).await;
    }
    // What ends a session while it gets a new id leaves a row that is in nobody's way, and goes.
    let (bed, spy) = guarded(|builder| builder);
    let node = other_node(&bed, &spy, |builder| builder);
    let mut jar = spilled(&bed).await;
    let id = bed.see(&jar, Session::id).await;
    spy.before("write", move || now(node.sessions.revoke(id)).unwrap());
    assert_eq!(status(&bed, &mut jar, Session::renew).await, StatusCode::SERVICE_UNAVAILABLE);
    // Changes that exclude one another; and an extension that came too late.
    let (bed, spy) = stored(|builder| builder.lifetime(Lifetime::new(DAY).active(MINUTE)));
    let jar = spilled(&bed).await;
    let adds = bed.sessions.load([jar.0.as_deref().unwrap()]).await.unwrap();
    adds.increment("n", 1).unwrap();
    bed.peek(&jar, |session| session.insert("n", "a word").unwrap()).await;
    bed.sessions.commit(&adds, CommitContext::default()).await.unwrap_err();
    bed.clock.advance(DAY - MINUTE / 2);
    spy.extends_none();
    bed.peek(&jar, |_| ()).await;
}

async fn a_store_that_fails() {
    for fate in [Fate::Fails, Fate::Refuses, Fate::TimesOut, Fate::Full, Fate::Corrupts, Fate::Hangs] {
        let (bed, spy) = stored(|builder| builder.store_timeout(Duration::from_millis(1)));
        let jar = spilled(&bed).await;
        spy.next([fate]);
        bed.sessions.load([jar.0.unwrap()]).await.unwrap_err();
    }
    // Nobody waits for the answer any more.
    let (bed, spy) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    spy.next([Fate::Hangs]);
    let load = bed.sessions.load([jar.0.unwrap()]);
    assert!(pin!(load).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    // Of the session and of its subject it does not say whether they are revoked.
    let (bed, spy) = guarded(|builder| builder.revocation(Revocation::EveryRequest));
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    spy.next([Fate::Passes, Fate::Fails]);
    bed.visit(&mut jar, |_| ()).await;
    spy.go_down(true);
    bed.visit(&mut jar, |_| ()).await;
}

async fn too_many_and_too_large() {
    for overflow in [Overflow::EndOldest, Overflow::Refuse] {
        let (bed, _) = guarded(|builder| builder.max_sessions(1, overflow));
        for _ in 0..2 {
            status(&bed, &mut Jar::default(), |session| session.authenticate("ada").unwrap()).await;
        }
    }
    let (bed, _) = stored(|builder| builder.response_head_budget(512));
    bed.visit(&mut Jar::default(), |session| {
        session.set_subject(text(500)).unwrap();
        session.insert("large", text(5_000)).unwrap();
    })
    .await;
}

/// Keys that change, and cannot be read.
#[derive(Debug, Clone)]
struct Elsewhere(Arc<Mutex<Option<Key>>>);

impl KeySource for Elsewhere {
    fn load(&self) -> Result<Zeroizing<String>, Source> {
        let key = self.0.lock().unwrap();
        Ok(key.as_ref().ok_or("gone")?.export())
    }
}

async fn keys_that_change() {
    let home = Elsewhere(Arc::new(Mutex::new(Some(key(1)))));
    let bed = Bed::on(KeyRing::from_source(home.clone()).unwrap(), ManualClock::at(start()), |b| b);
    bed.logged_in().await;
    for state in [Some(key(2)), None] {
        bed.clock.advance(2 * Duration::from_secs(1));
        *home.0.lock().unwrap() = state;
        bed.logged_in().await;
    }
}

/// An answer that is there when its session is over.
async fn too_late() {
    let bed = Bed::new();
    let jar = bed.logged_in().await;
    let slow = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    slow.insert("n", 2).unwrap();
    bed.clock.advance(DAY);
    assert!(bed.sessions.commit(&slow, CommitContext::default()).await.unwrap().is_empty());
}

/// Streams whose key is revoked, and whose session is bound to a device meanwhile.
async fn streams() {
    let (bed, _) = stored(|builder| builder);
    let jar = spilled(&bed).await;
    let stream = bed.sessions.load([jar.0.as_ref().unwrap()]).await.unwrap();
    bed.sessions.keys().rotate(key(2)).unwrap();
    bed.sessions.keys().revoke(key(1).id()).unwrap();
    stream.insert("n", 2).unwrap();
    stream.reload().await.unwrap_err();

    let offered = |builder: SessionsBuilder| builder.device_binding(DeviceBinding::WhereOffered);
    let (bed, spy) = guarded(offered);
    let node = other_node(&bed, &spy, offered);
    let mut browser = Browser::registered(&bed, "ada", &Device::new(1)).await;
    let mut unbound = Browser { session: browser.session.clone(), ..Browser::default() };
    unbound.visit(&bed, |session| session.insert("large", "x".repeat(5_000)).unwrap()).await;
    browser.session = unbound.session.clone();
    let stream = node.sessions.load(unbound.cookies()).await.unwrap();
    browser.visit(&bed, |_| ()).await;
    stream.insert("n", 2).unwrap();
    stream.reload().await.unwrap_err();
}

async fn every_kind_of_traffic() {
    for (bed, jar, _) in refused().await {
        bed.peek(&jar, |_| ()).await;
    }
    a_life().await;
    others_pages_and_others_cookies().await;
    meanwhile().await;
    a_store_that_fails().await;
    too_many_and_too_large().await;
    keys_that_change().await;
    too_late().await;
    streams().await;
    crate::device_binding::traffic().await;
}

#[actix_web::test]
async fn the_page_has_exactly_what_is_measured_with_every_label_and_value() {
    let measured = measured(every_kind_of_traffic()).await;
    assert_eq!(measured.names, names_of_page(), "names, types, units, meanings and labels");
    assert_eq!(measured.events, events_of_page(), "events and their reasons");
    let mut values = measured.values;
    let keys = values.remove("key").unwrap();
    assert_eq!(values, values_of_page(), "the values of labels");
    // Key ids of the rings that there were, and nothing else.
    let rings = [1, 2].map(|n| key(n).id().to_string());
    assert!(keys.iter().all(|key| rings.contains(key)) && keys.len() == 2, "{keys:?}");
}

#[actix_web::test]
async fn counters_are_there_before_anything_is_counted_so_that_an_alert_sees_the_first() {
    let fresh = measured(async { drop(Bed::new()) }).await;
    assert!(fresh.names.is_empty(), "{:?}", fresh.names);
    let mut expected: BTreeSet<String> = events_of_page()
        .iter()
        .map(|(event, reason)| format!("sealed_session_events_total {event} {reason}").trim_end().to_owned())
        .collect();
    let values = values_of_page();
    for about in &values["about"] {
        let of = |answered| format!("sealed_session_revocation_questions_total {about} {answered}");
        expected.extend(values["answered"].iter().map(of));
    }
    assert_eq!(fresh.counts.into_keys().collect::<BTreeSet<_>>(), expected);
}

#[actix_web::test]
async fn a_question_is_counted_once_by_where_its_answer_came_from() {
    let asked = async |requests: usize, subject: bool, wait: Duration| {
        let (bed, spy) = guarded(|builder| builder.roster(false));
        let jar = match subject {
            true => Jar(Some(bed.sessions.issue(|session| session.authenticate("ada")).await.unwrap())),
            false => bed.logged_in().await,
        };
        let measured = measured(async {
            for _ in 0..requests {
                bed.peek(&jar, |_| ()).await;
                bed.clock.advance(wait);
            }
        })
        .await;
        let of = |about, answered| measured.count(&format!("revocation_questions_total {about} {answered}"));
        let counts = ["session", "subject"].map(|about| ["store", "memory", "failed"].map(|a| of(about, a)));
        let loads = spy.calls().iter().filter(|call| **call == "load").count() as u64;
        (counts, loads)
    };
    let second = Duration::from_secs(1);
    // Since the login the process knows the subject's generation. It asks for the session with the first request.
    assert_eq!(asked(5, true, second).await.0, [[1, 4, 0], [0, 5, 0]]);
    assert_eq!(asked(5, false, second).await.0, [[1, 4, 0], [0, 0, 0]]);
    // One time later each is asked again, and both once.
    let (counts, loads) = asked(4, true, 2 * MINUTE).await;
    assert_eq!(counts, [[4, 0, 0], [3, 1, 0]]);
    assert_eq!(loads, 4 + 3 + 1, "and one at the login");
}

#[actix_web::test]
async fn what_a_store_does_not_say_is_a_failed_question_also_while_it_is_left_alone() {
    let (bed, spy) = guarded(|builder| builder.revocation_failure(FailurePolicy::Open));
    let jar = bed.logged_in().await;
    spy.go_down(true);
    let measured = measured(async {
        for _ in 0..3 {
            bed.peek(&jar, |_| ()).await;
        }
    })
    .await;
    assert_eq!(measured.count("revocation_questions_total session failed"), 3);
    assert_eq!(measured.count("store_seconds load unavailable"), 1, "of which one went to the store");
    assert_eq!(measured.count("events_total unconfirmed"), 3);
}

#[actix_web::test]
async fn a_retired_key_opens_a_cookie_once_and_a_row_until_it_is_written() {
    let (bed, _) = stored(|builder| builder);
    let (mut small, mut large) = (bed.logged_in().await, spilled(&bed).await);
    let [old, new] = [1, 2].map(|n| key(n).id());
    let opened = async |small: &mut Jar, large: &mut Jar| {
        let measured = measured(async {
            for _ in 0..3 {
                bed.visit(small, |_| ()).await;
            }
            bed.visit(large, |_| ()).await;
        })
        .await;
        let of = |id, kind| measured.count(&format!("opened_total {id} {kind}"));
        [of(old, "cookie"), of(old, "row"), of(new, "cookie"), of(new, "row")]
    };
    assert_eq!(opened(&mut small, &mut large).await, [4, 1, 0, 0]);
    bed.sessions.keys().rotate(key(2)).unwrap();
    assert_eq!(opened(&mut small, &mut large).await, [2, 1, 2, 0], "each is sealed anew when it comes back");
    assert_eq!(opened(&mut small, &mut large).await, [0, 0, 4, 1], "so the old one may go");
    // What is refused was not opened.
    bed.clock.advance(2 * DAY);
    assert_eq!(opened(&mut small, &mut large).await, [0, 0, 0, 0]);
}

#[actix_web::test]
async fn logins_are_told_from_proofs_and_failures_and_counted_with_and_without_a_store() {
    let (guarded, spy) = guarded(|builder| builder);
    for (bed, has_store) in [(Bed::new(), false), (guarded, true)] {
        let measured = measured(async {
            let mut jar = bed.logged_in().await;
            for user in ["ada", "ada", "eve", "ada"] {
                bed.visit(&mut jar, move |session| session.authenticate(user).unwrap()).await;
            }
            // No login: nobody has proved anything.
            bed.visit(&mut jar, |session| session.set_subject("bob").unwrap()).await;
            bed.visit(&mut jar, Session::renew).await;
            if has_store {
                spy.go_down(true);
                let login = |session: &Session| session.authenticate("ada").unwrap();
                assert_eq!(status(&bed, &mut jar, login).await, StatusCode::SERVICE_UNAVAILABLE);
                spy.go_down(false);
            }
            bed.visit(&mut jar, Session::destroy).await;
        })
        .await;
        let of = |what: &str| measured.count(&format!("events_total {what}"));
        assert_eq!((of("authenticated login"), of("authenticated again")), (3, 1), "{has_store}");
        assert_eq!((of("ended destroyed"), of("ended emptied")), (1, 0), "{has_store}");
    }
}

/// The names in a query, each with what stands in its braces.
fn used(query: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut all = Vec::new();
    for (at, _) in query.match_indices("sealed_session_") {
        let name: String =
            query[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let rest = &query[at + name.len()..];
        let braces = rest.strip_prefix('{').map_or("", |rest| rest.split_once('}').unwrap().0);
        let pairs = braces.split("\",").filter(|pair| !pair.trim().is_empty()).map(|pair| {
            let (label, value) = pair.split_once('=').unwrap();
            let value = value.trim_start_matches(['~', '=']).trim_matches('"');
            (label.trim().trim_end_matches('!').to_owned(), value.to_owned())
        });
        all.push((name, pairs.collect()));
    }
    all
}

/// Everything that a page's queries name is there.
fn check_queries(what: &str, queries: &[String]) {
    // What Prometheus adds itself, and what the dashboard's variables are.
    const OUTSIDE: [&str; 3] = ["le", "job", "instance"];
    let (names, values, events) = (names_of_page(), values_of_page(), events_of_page());
    let event_words: BTreeSet<_> = events.iter().map(|(event, _)| event).collect();
    let mut seen = 0;
    for query in queries {
        let mut labels: BTreeSet<&str> = OUTSIDE.into();
        for (name, pairs) in used(query) {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let bare = of_histogram.unwrap_or(&name);
            let Some((kind, .., of)) = names.get(bare) else { panic!("{what} names {name}, which is not") };
            assert_eq!(kind == "histogram", of_histogram.is_some(), "{what}: {name} is a {kind}");
            labels.extend(of.iter().map(String::as_str));
            let given =
                |label| pairs.iter().find(|(known, _)| known == label).map(|(_, value)| value.as_str());
            for (label, value) in &pairs {
                assert!(
                    of.contains(label) || OUTSIDE.contains(&&**label),
                    "{what}: {name} has no label {label}"
                );
                for value in value.split('|').filter(|value| !value.starts_with('$')) {
                    seen += 1;
                    let is_there = match label.as_str() {
                        "event" => event_words.contains(&value.to_owned()),
                        // One of the events that the query names has it.
                        "reason" => given("event").unwrap().split('|').any(|event| {
                            value.contains('+') || events.contains(&(event.to_owned(), value.to_owned()))
                        }),
                        label => values.get(label).is_some_and(|values| values.contains(value)),
                    };
                    assert!(is_there, "{what}: {label} is never {value} in {query}");
                }
            }
        }
        for list in query.split("by (").skip(1) {
            for label in list.split_once(')').unwrap().0.split(',') {
                assert!(labels.contains(label.trim()), "{what}: no label {label} in {query}");
            }
        }
    }
    assert!(seen >= 15, "{what}: only {seen} values were looked at");
}

#[test]
fn the_dashboard_shows_nothing_that_is_not_measured_and_all_that_is() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut queries = Vec::new();
    let mut places = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        for cell in 0..place[2] * place[3] {
            let cell = (place[0] + cell % place[2], place[1] + cell / place[2]);
            assert!(cell.0 < 24 && places.insert(cell), "{title} lies over another panel, or outside");
        }
        let Some(targets) = panel["targets"].as_array() else {
            assert_eq!(panel["type"], "row", "{title} shows nothing");
            continue;
        };
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let query = target["expr"].as_str().unwrap();
            // What a line is called after is what its query is grouped by.
            for label in target["legendFormat"].as_str().unwrap().split("{{").skip(1) {
                let label = label.split_once("}}").unwrap().0;
                let grouped = query.split("by (").skip(1).filter_map(|list| list.split_once(')'));
                let mut grouped = grouped.flat_map(|(list, _)| list.split(',')).map(str::trim);
                assert!(grouped.any(|by| by == label), "{title}: {label} is not in {query}");
            }
            queries.push(query.to_owned());
        }
    }
    check_queries("dashboard.json", &queries);
    let all = queries.join("\n");
    for name in names_of_page().keys() {
        assert!(all.contains(name.as_str()), "dashboard.json does not show {name}");
    }
    let variable =
        |name| dashboard["templating"]["list"].as_array().unwrap().iter().find(|v| v["name"] == name);
    assert_eq!(variable("datasource").unwrap()["query"], "prometheus");
}

/// The value of a line `key: value`.
fn fields<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let field = |line: &'a str| line.trim().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(": ");
    text.lines().filter_map(field).map(|value| value.trim().trim_matches('"')).collect()
}

#[test]
fn each_alert_is_of_what_is_measured_and_has_its_line_in_the_page_and_a_test() {
    let rules: Vec<&str> = ALERTS.split("- alert: ").skip(1).collect();
    let mut alerts = Vec::new();
    let mut queries = Vec::new();
    for rule in rules {
        let alert = rule.lines().next().unwrap();
        let query = rule.split_once("expr: |\n").unwrap().1;
        let query: Vec<&str> = query.lines().take_while(|line| line.starts_with("          ")).collect();
        queries.push(query.join("\n"));
        for key in ["severity", "summary", "description", "runbook"] {
            assert_eq!(fields(rule, key).len(), 1, "{alert} has no {key}");
        }
        // The section is there.
        let (page, section) = fields(rule, "runbook")[0].split_once('#').unwrap();
        assert_eq!(page, "docs/operations.md", "{alert}");
        let headings = OPERATIONS.lines().filter_map(|line| line.strip_prefix("## "));
        let slugs: Vec<_> = headings.map(|heading| heading.to_lowercase().replace(' ', "-")).collect();
        assert!(slugs.iter().any(|slug| slug == section), "{alert}: no section {section} among {slugs:?}");
        for label in rule.split("$labels.").skip(1) {
            let label: String =
                label.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let grouped = queries.last().unwrap();
            assert!(
                grouped.contains(&format!("{label})")) || grouped.contains(&format!("{label},")),
                "{alert}"
            );
        }
        alerts.push(alert.to_owned());
    }
    check_queries("alerts.yml", &queries);
    let rows = table(OPERATIONS, "| alert | what has happened | what to do |");
    let told: Vec<_> = rows.iter().map(|row| quoted(row[0]).remove(0)).collect();
    assert_eq!(alerts, told, "the alerts, and those of the page");
    // `tests/alerts` makes each of them fire, and nearly.
    let tested: Vec<_> =
        alerts.iter().flat_map(|alert| [alert.clone(), format!("{alert}, not yet")]).collect();
    let names = fields(ALERT_TESTS, "name");
    let others: Vec<_> =
        names.iter().filter(|name| !name.contains(", ") || name.ends_with(", not yet")).copied().collect();
    let once: Vec<_> = names.iter().filter(|name| name.ends_with(", once")).collect();
    assert_eq!(others, tested, "the alerts, and those that are tested");
    assert!(once.len() >= 4, "those that wake somebody, and a single event: {once:?}");
    for (name, _) in ALERT_TESTS.lines().filter(|line| line.contains("series:")).flat_map(used) {
        assert!(names_of_page().keys().any(|known| name.starts_with(known.as_str())), "{name}");
    }
}
