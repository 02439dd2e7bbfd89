//! The methods of `Session` and `Sessions`.

use std::collections::BTreeMap;

use sealed_session::{
    CommitContext, InsertError, IssueError, Origin, Placement, Rejection, Secure, Session, SessionKey,
    Sessions,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{Bed, Jar, MINUTE, key};

const VISITS: SessionKey<u32> = SessionKey::new("visits");

#[test]
fn sessions_cross_threads_and_so_do_their_futures() {
    fn send<T: Send>(_: T) {}
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Session>();
    shared::<Sessions>();
    let bed = Bed::new();
    let session = crate::support::now(bed.sessions.load(["a=1"])).unwrap();
    send(bed.sessions.load(["a=1"]));
    send(bed.sessions.load(vec![b"a=1".to_vec()]));
    send(bed.sessions.commit(&session, CommitContext::default()));
    send(bed.sessions.issue(|_| ()));
    send(session.save());
    send(session.reload());
}

#[tokio::test]
async fn cookie_bytes_is_the_name_and_value_that_will_be_issued() {
    let sessions = Bed::new().sessions;
    for len in [0, 1, 31, 32, 33, 300, 2_000] {
        let session = sessions.load::<&str>([]).await.unwrap();
        session.insert("text", "x".repeat(len)).unwrap();
        let told = session.cookie_bytes();
        let line = sessions.commit(&session, CommitContext::default()).await.unwrap().pop().unwrap();
        let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
        assert_eq!(told, name.len() + value.len());
    }
}

#[test]
fn integrations_learn_what_they_have_to_do() {
    let (without, with) = (Bed::new().sessions, crate::spy::stored(|builder| builder).0.sessions);
    assert!(!without.counts_response_head() && with.counts_response_head());
    assert!(without.store().is_none() && with.store().is_some());
    assert!(without.cache_headers() && without.secure() == Secure::Always);
    let other = Bed::with(|builder| builder.cache_headers(false).secure(Secure::Never)).sessions;
    assert!(!other.cache_headers() && other.secure() == Secure::Never);
}

#[actix_web::test]
async fn keys_infer_their_type_from_constants_strings_and_turbofish() {
    let bed = Bed::new();
    bed.visit(&mut Jar::default(), |session| {
        let name = String::from("list");
        session.insert(VISITS, 3).unwrap();
        let by_reference: SessionKey<'_, u32> = (&VISITS).into();
        session.insert(by_reference, 4).unwrap();
        session.insert(&name, [1, 2].iter().map(|n| n * 2).collect::<Vec<u8>>()).unwrap();
        session.insert("text", "borrowed").unwrap();
        assert_eq!(session.get(VISITS).unwrap(), Some(4));
        assert_eq!(session.get::<Vec<u8>>(&name).unwrap(), Some(vec![2, 4]));
        assert_eq!(session.get::<String>("text").unwrap().as_deref(), Some("borrowed"));
        assert_eq!(session.update(VISITS, |n| n.unwrap_or(0) + 1).unwrap(), 5);
        assert_eq!(session.increment(VISITS, -2).unwrap(), 3);
        assert_eq!(session.keys(), ["list", "text", "visits"]);
        assert!(session.contains_key(VISITS) && !session.contains_key("missing"));
        assert_eq!(session.take::<String>("text").unwrap().as_deref(), Some("borrowed"));
        assert_eq!(session.take::<String>("text").unwrap(), None);
        session.retain(|key| key.starts_with('v'));
        assert_eq!((session.len(), session.is_empty()), (1, false));
        assert!(session.remove(VISITS) && !session.remove("visits"));
        assert!(session.is_empty());
    })
    .await;
}

#[derive(Serialize, Deserialize, Debug)]
struct User {
    name: String,
}

#[actix_web::test]
async fn a_value_of_another_type_is_an_error_that_names_key_and_type_and_the_value_stays() {
    let bed = Bed::new();
    bed.visit(&mut Jar::default(), |session| {
        session.insert("user", "ada").unwrap();
        let error = session.get::<User>("user").unwrap_err();
        assert_eq!((error.key(), error.expected()), ("user", std::any::type_name::<User>()));
        assert!(error.to_string().contains("\"user\"") && error.to_string().contains("User"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
        assert!(matches!(
            session.update("user", |user: Option<User>| user.unwrap()),
            Err(InsertError::Value(_))
        ));
        assert!(matches!(session.take::<User>("user"), Err(InsertError::Value(_))));
        let error = session.increment("user", 1).unwrap_err();
        assert!(matches!(error, InsertError::NotCountable { .. }) && error.to_string().contains("\"user\""));
        assert_eq!(session.get::<String>("user").unwrap().as_deref(), Some("ada"));
    })
    .await;
}

#[actix_web::test]
async fn a_value_that_cannot_be_serialized_is_refused_and_the_old_one_stays() {
    struct Broken;
    impl Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("broken on purpose"))
        }
    }
    let bed = Bed::new();
    bed.visit(&mut Jar::default(), |session| {
        session.insert("x", 1).unwrap();
        let error = session.insert("x", Broken).unwrap_err();
        assert!(matches!(&error, InsertError::Encode { key, .. } if key == "x"), "{error}");
        assert_eq!(session.get::<u8>("x").unwrap(), Some(1));
    })
    .await;
}

#[derive(Serialize)]
struct CartV1 {
    items: Vec<String>,
}

#[derive(Deserialize)]
struct CartV2 {
    items: Vec<String>,
    #[serde(default)]
    coupon: Option<String>,
}

#[actix_web::test]
async fn a_deploy_that_adds_a_field_logs_nobody_out() {
    let bed = Bed::new();
    let mut jar = Jar::default();
    bed.visit(&mut jar, |s| s.insert("cart", CartV1 { items: vec!["book".into()] }).unwrap()).await;
    let cart = bed.see(&jar, |session| session.get::<CartV2>("cart").unwrap().unwrap()).await;
    assert_eq!((cart.items, cart.coupon), (vec!["book".to_owned()], None));
}

#[actix_web::test]
async fn entries_are_shown_as_json() {
    let bed = Bed::new();
    bed.visit(&mut Jar::default(), |session| {
        session.insert("list", vec![Some(1), None]).unwrap();
        session.insert("map", BTreeMap::from([(1, "one")])).unwrap();
        session.increment("count", 2).unwrap();
        let expected = json!({ "count": 2, "list": [1, null], "map": { "1": "one" } });
        assert_eq!(json!(session.entries()), expected);
    })
    .await;
}

#[actix_web::test]
async fn issue_makes_a_ready_cookie_outside_of_a_request() {
    let bed = Bed::new();
    let cookie = bed.sessions.issue(|session| session.insert("n", 1)).await.unwrap();
    assert!(cookie.starts_with("s=") && !cookie.contains(';'));
    let jar = Jar(Some(cookie));
    assert_eq!(bed.see(&jar, |s| (s.origin(), s.get::<u8>("n").unwrap())).await, (Origin::Resumed, Some(1)));

    bed.sessions.issue(|session| session.set_subject("ada").unwrap()).await.unwrap();
    let outcome = bed.sessions.issue(|session| {
        session.insert("n", 1)?;
        session.insert("m", "x".repeat(5_000))
    });
    assert!(matches!(outcome.await, Err(IssueError::Insert(InsertError::TooLarge { .. }))));
    assert!(matches!(bed.sessions.issue(Session::destroy).await, Err(IssueError::Destroyed)));
}

#[actix_web::test]
async fn inspect_tells_everything_about_a_cookie_but_its_values() {
    let bed = Bed::new();
    let fill = |session: &Session| {
        session.insert("secret", "hunter2")?;
        session.insert("a", 1)?;
        session.set_duration(MINUTE)?;
        session.set_persistent(false)?;
        session.set_subject("ada")
    };
    let cookie = bed.sessions.issue(fill).await.unwrap();
    let value = cookie.strip_prefix("s=").unwrap();
    let inspection = bed.sessions.inspect(value).unwrap();
    assert_eq!(inspection.keys, ["a", "secret"]);
    assert_eq!(inspection.subject.as_deref(), Some("ada"));
    assert_eq!(inspection.placement, Placement::Cookie { bytes: 1 + value.len() });
    assert_eq!((inspection.key_id, inspection.counter), (key(1).id(), 1));
    assert_eq!((inspection.own_duration, inspection.own_persistence), (Some(MINUTE), Some(false)));
    assert_eq!(inspection.expires_at - inspection.sealed_at, MINUTE);
    assert!(!format!("{inspection:?}").contains("hunter2"));
    bed.clock.advance(MINUTE);
    assert!(matches!(bed.sessions.inspect(value), Err(Rejection::Expired(_))));
    assert_eq!(bed.sessions.inspect("x"), Err(Rejection::Malformed));
}

#[actix_web::test]
async fn no_debug_output_contains_values_keys_or_whole_ids() {
    let bed = Bed::new();
    let session = bed.sessions.load(["a=1"]).await.unwrap();
    session.insert("password", "hunter2").unwrap();
    let printed = format!("{session:?} {:?} {:?}", bed.sessions, bed.sessions.keys());
    assert!(!printed.contains("hunter2") && !printed.contains(&session.id().to_string()), "{printed}");
    assert!(!printed.contains(key(1).export().as_str()));
    for shown in ["Session {", "Sessions {", "KeyRing(", &format!("{:?}", key(1).id())] {
        assert!(printed.contains(shown), "{shown}: {printed}");
    }
}
