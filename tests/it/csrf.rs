//! Tokens for forms: good for the session that asked for them, and for nobody else's.

use std::cell::RefCell;
use std::rc::Rc;

use actix_web::http::StatusCode;
use actix_web::http::header::SET_COOKIE;
use sealed_session::{CommitContext, CrossSite, CsrfError, InsertError, Rejection, Session};

use crate::support::{Answer, Bed, DAY, Jar, MINUTE, Reply, key, now};

/// A session's token, from a page that shows a form.
async fn form(bed: &Bed, jar: &mut Jar) -> String {
    let token = Rc::new(RefCell::new(String::new()));
    let out = Rc::clone(&token);
    bed.visit(jar, move |session| *out.borrow_mut() = session.csrf_token().unwrap()).await;
    token.take()
}

async fn verified(bed: &Bed, jar: &Jar, token: &str) -> Result<(), CsrfError> {
    let token = token.to_owned();
    bed.see(jar, move |session| session.verify_csrf(&token)).await
}

/// A browser whose session holds more than a cookie may where there is a store that takes it.
async fn logged_in(bed: &Bed) -> Jar {
    let mut jar = Jar::default();
    bed.visit(&mut jar, |session| session.insert("much", "x".repeat(200)).unwrap()).await;
    jar
}

/// Where sessions live: in their cookies, and in a store.
fn beds() -> [Bed; 3] {
    [Bed::new(), Bed::stored(|builder| builder), Bed::stored(|builder| builder.spill_above(220))]
}

/// The form of a login is shown to who has no session yet.
#[actix_web::test]
async fn a_visitor_without_a_session_gets_one_with_the_token_and_keeps_it() {
    for bed in beds() {
        let mut jar = Jar::default();
        let token = form(&bed, &mut jar).await;
        assert!(jar.0.is_some(), "the token's session was issued");
        assert_eq!(verified(&bed, &jar, &token).await, Ok(()));
        // What other pages do until the form is sent neither removes nor re-issues it.
        for read in [|_: &Session| {}, |session: &Session| assert!(session.is_empty())] {
            assert!(bed.visit(&mut jar, read).await.set_cookie().is_none());
        }
        bed.visit(&mut jar, |session| session.insert("n", 1).unwrap()).await;
        assert_eq!(verified(&bed, &jar, &token).await, Ok(()));
        // It is prolonged like any.
        bed.clock.advance(DAY - 3 * MINUTE);
        assert!(bed.visit(&mut jar, |_| {}).await.set_cookie().is_some());
        bed.clock.advance(4 * MINUTE);
        assert_eq!(verified(&bed, &jar, &token).await, Ok(()));
    }
}

#[actix_web::test]
async fn an_empty_session_that_was_kept_for_its_token_is_prolonged_too() {
    for bed in beds() {
        let mut jar = Jar::default();
        let token = form(&bed, &mut jar).await;
        bed.clock.advance(DAY - 3 * MINUTE);
        let reply = bed.visit(&mut jar, |_| {}).await;
        assert!(reply.set_cookie().is_some() && !reply.removes(), "{reply:?}");
        bed.clock.advance(4 * MINUTE);
        assert_eq!(verified(&bed, &jar, &token).await, Ok(()));
    }
}

#[actix_web::test]
async fn a_token_costs_a_session_that_is_there_no_cookie() {
    let bed = Bed::new();
    let jar = logged_in(&bed).await;
    assert!(bed.peek(&jar, |session| drop(session.csrf_token().unwrap())).await.set_cookie().is_none());
}

#[actix_web::test]
async fn what_changes_the_id_ends_its_tokens() {
    for change in [
        (|session: &Session| session.authenticate("ada").unwrap()) as fn(&Session),
        |session| session.set_subject("ada").unwrap(),
        Session::renew,
    ] {
        for bed in beds() {
            let mut jar = logged_in(&bed).await;
            let token = form(&bed, &mut jar).await;
            bed.visit(&mut jar, change).await;
            assert_eq!(verified(&bed, &jar, &token).await, Err(CsrfError::OtherSession));
            // One that is made after the change is of the new id, one from before it in the same request is not.
            let asked = move |session: &Session| {
                let before = session.csrf_token().unwrap();
                session.renew();
                assert_eq!(session.verify_csrf(&before), Err(CsrfError::IdChanged));
                session.verify_csrf(&session.csrf_token().unwrap())
            };
            assert_eq!(bed.see(&jar, asked).await, Ok(()));
        }
    }
}

#[actix_web::test]
async fn after_a_logout_there_is_neither_a_token_nor_one_that_is_good() {
    for bed in beds() {
        let mut jar = logged_in(&bed).await;
        let token = form(&bed, &mut jar).await;
        let (former, of) = (jar.clone(), token.clone());
        bed.visit(&mut jar, move |session| {
            session.destroy();
            assert!(matches!(session.csrf_token(), Err(InsertError::Destroyed)));
            assert_eq!(session.verify_csrf(&of), Err(CsrfError::IdChanged));
        })
        .await;
        assert_eq!(verified(&bed, &jar, &token).await, Err(CsrfError::NoSession));
        // With a store the copy that a thief kept of the cookie is dead too, and with it its token.
        if bed.sessions.store().is_some() {
            let revoked = CsrfError::Rejected(Rejection::Revoked);
            assert_eq!(verified(&bed, &former, &token).await, Err(revoked));
        }
    }
}

#[actix_web::test]
async fn nobody_elses_token_is_good_and_neither_is_that_of_another_scope() {
    let (bed, other) = (Bed::new(), Bed::with(|builder| builder.cookie_name("t")));
    let (mut ada, mut bob) = (logged_in(&bed).await, logged_in(&bed).await);
    let (hers, his) = (form(&bed, &mut ada).await, form(&bed, &mut bob).await);
    assert_eq!(verified(&bed, &ada, &hers).await, Ok(()));
    assert_eq!(verified(&bed, &bob, &hers).await, Err(CsrfError::OtherSession));
    assert_eq!(verified(&bed, &ada, &his).await, Err(CsrfError::OtherSession));
    assert_eq!(verified(&bed, &Jar::default(), &hers).await, Err(CsrfError::NoSession));
    assert_eq!(verified(&bed, &ada, "").await, Err(CsrfError::Malformed));
    // The same ring, under another name.
    let session = now(other.sessions.load([""])).unwrap();
    let elsewhere = session.csrf_token().unwrap();
    assert_eq!(session.verify_csrf(&elsewhere), Ok(()));
    assert_eq!(verified(&bed, &ada, &elsewhere).await, Err(CsrfError::OtherSession));
}

#[actix_web::test]
async fn a_token_survives_the_rotation_of_the_key_and_not_its_revocation() {
    let bed = Bed::new();
    let mut jar = logged_in(&bed).await;
    let token = form(&bed, &mut jar).await;
    let old = bed.sessions.keys().primary();
    bed.sessions.keys().rotate(key(2)).unwrap();
    assert_eq!(verified(&bed, &jar, &token).await, Ok(()));
    bed.visit(&mut jar, |_| {}).await;
    assert_eq!(
        verified(&bed, &jar, &token).await,
        Ok(()),
        "re-sealed under the new key, it is the same session"
    );
    bed.sessions.keys().revoke(old).unwrap();
    assert_eq!(verified(&bed, &jar, &token).await, Err(CsrfError::UnknownKey(old)));
}

/// A page of before a login that is answered after it. What it shows is old; the login must stay.
#[actix_web::test]
async fn a_late_page_with_a_token_does_not_log_out_who_has_logged_in_meanwhile() {
    let bed = Bed::stored(|builder| builder);
    let mut jar = Jar::default();
    let token = form(&bed, &mut jar).await;
    let before = jar.clone();
    bed.visit(&mut jar, |session| session.authenticate("ada").unwrap()).await;
    let reply = bed.peek(&before, |session| drop(session.csrf_token().unwrap()));
    assert_eq!(reply.await.set_cookie(), None);
    assert_eq!(bed.see(&jar, Session::subject).await.as_deref(), Some("ada"));
    // Its session is over, and so is the token that it had.
    assert_eq!(verified(&bed, &before, &token).await, Err(CsrfError::Rejected(Rejection::Revoked)));
}

/// Who has a cookie that is refused, and stays in the browser, has to be able to log in.
#[actix_web::test]
async fn a_form_beside_a_refused_cookie_has_a_token_that_is_good_with_it() {
    let bed = Bed::stored(|builder| builder);
    let ended = logged_in(&bed).await;
    bed.visit(&mut ended.clone(), Session::destroy).await;
    let unknown = Jar(Some({
        let elsewhere = Bed::on(sealed_session::KeyRing::new(key(7)), bed.clock.clone(), |builder| builder);
        logged_in(&elsewhere).await.0.unwrap()
    }));
    for mut jar in [ended, unknown] {
        let cookie = jar.clone();
        let token = form(&bed, &mut jar).await;
        assert_eq!(jar.0, cookie.0, "none is issued for the token's sake");
        assert_eq!(verified(&bed, &jar, &token).await, Ok(()));
        assert_eq!(verified(&bed, &Jar::default(), &token).await, Err(CsrfError::NoSession));
        assert_eq!(verified(&bed, &logged_in(&bed).await, &token).await, Err(CsrfError::OtherSession));
        // Where the page begins a session, the token is of that.
        let (mut begun, later) = (jar.clone(), Rc::new(RefCell::new(String::new())));
        let out = Rc::clone(&later);
        bed.visit(&mut begun, move |session| {
            session.insert("n", 1).unwrap();
            out.replace(session.csrf_token().unwrap());
        })
        .await;
        assert_eq!(verified(&bed, &begun, &later.take()).await, Ok(()));
        // The login itself: verified, and then another id.
        let sent = token.clone();
        bed.visit(&mut jar, move |session| {
            session.verify_csrf(&sent).unwrap();
            session.authenticate("ada").unwrap();
            assert_eq!(session.verify_csrf(&session.csrf_token().unwrap()), Ok(()));
        })
        .await;
        assert_eq!(bed.see(&jar, Session::subject).await.as_deref(), Some("ada"));
        assert_eq!(verified(&bed, &jar, &token).await, Err(CsrfError::OtherSession));
    }
    // What is removed is replaced: a cookie that was cut off.
    let mut jar = Jar(Some("s=nonsense".into()));
    let token = form(&bed, &mut jar).await;
    assert_ne!(jar.0.as_deref(), Some("s=nonsense"));
    assert_eq!(verified(&bed, &jar, &token).await, Ok(()));
}

#[actix_web::test]
async fn a_session_that_was_kept_for_its_token_can_be_cleared() {
    for bed in beds() {
        let mut jar = Jar::default();
        form(&bed, &mut jar).await;
        assert!(bed.visit(&mut jar, Session::clear).await.removes());
    }
}

/// What another tab has emptied is over, also where each use issues the cookie.
#[actix_web::test]
async fn a_stored_session_that_was_emptied_is_not_brought_back_by_a_look_at_it() {
    let bed = Bed::stored(|builder| builder.spill_above(220).rolling(true));
    let jar = logged_in(&bed).await;
    assert!(bed.visit(&mut jar.clone(), Session::clear).await.removes());
    assert_eq!(bed.peek(&jar, |session| assert!(session.is_empty())).await.set_cookie(), None);
}

/// In a stream, after the response.
#[actix_web::test]
async fn a_session_that_is_over_has_no_tokens_after_the_response_either() {
    let over: [fn(&Session); 2] = [Session::destroy, Session::clear];
    for over in over {
        for bed in beds() {
            let jar = logged_in(&bed).await;
            let session = now(bed.sessions.load(jar.0.iter())).unwrap();
            let token = session.csrf_token().unwrap();
            over(&session);
            assert_eq!(now(bed.sessions.commit(&session, CommitContext::default())).unwrap().len(), 1);
            assert!(matches!(session.csrf_token(), Err(InsertError::Committed)));
            assert!(session.verify_csrf(&token).is_err());
        }
    }
}

/// A token that another node has made under a key that this one has not read yet.
#[cfg(unix)]
#[actix_web::test]
async fn an_unknown_key_is_looked_for() {
    let path = std::env::temp_dir()
        .join(format!("sealed-session-csrf-{}.keys", sealed_session::Key::generate().id()));
    let _ = std::fs::remove_file(&path);
    let ring =
        || sealed_session::KeyRing::open_or_create(&path).unwrap().reload_every(std::time::Duration::MAX);
    let build = |ring| sealed_session::Sessions::builder(ring).build().unwrap();
    let (one, two) = (build(ring()), build(ring()));
    let cookie = now(one.issue(|session| session.insert("n", 1))).unwrap();
    one.keys().rotate(key(8)).unwrap();
    let token = now(one.load([&cookie])).unwrap().csrf_token().unwrap();
    assert_eq!(now(two.load([&cookie])).unwrap().verify_csrf(&token), Ok(()));
    std::fs::remove_file(&path).unwrap();
}

/// What was emptied is over, unless a form goes out with the same answer.
#[actix_web::test]
async fn a_session_that_is_emptied_ends_as_ever() {
    for bed in beds() {
        let mut jar = logged_in(&bed).await;
        form(&bed, &mut jar).await;
        let mut other = jar.clone();
        let reply = bed.visit(&mut other, Session::clear).await;
        assert!(reply.removes());
        let kept = Rc::new(RefCell::new(String::new()));
        let out = Rc::clone(&kept);
        let mut jar = logged_in(&bed).await;
        let reply = bed.visit(&mut jar, move |session| {
            session.clear();
            *out.borrow_mut() = session.csrf_token().unwrap();
        });
        assert!(!reply.await.removes());
        let kept = kept.take();
        assert_eq!(verified(&bed, &jar, &kept).await, Ok(()));
        assert_eq!(bed.see(&jar, Session::len).await, 0);
    }
}

#[actix_web::test]
async fn once_the_response_has_left_there_are_tokens_of_sessions_that_the_browser_has() {
    for bed in beds() {
        let issued = now(bed.sessions.load([""])).unwrap();
        issued.insert("n", 1).unwrap();
        now(bed.sessions.commit(&issued, CommitContext::default())).unwrap();
        assert_eq!(issued.verify_csrf(&issued.csrf_token().unwrap()), Ok(()));
        let untouched = now(bed.sessions.load([""])).unwrap();
        now(bed.sessions.commit(&untouched, CommitContext::default())).unwrap();
        assert!(matches!(untouched.csrf_token(), Err(InsertError::Committed)));
    }
}

/// What the log says has to be what helps.
#[actix_web::test]
async fn each_reason_has_a_word_of_its_own() {
    let bed = Bed::with(|builder| builder.cross_site(CrossSite::Anonymous));
    let mut jar = logged_in(&bed).await;
    let token = form(&bed, &mut jar).await;
    bed.clock.advance(2 * DAY);
    let expired = verified(&bed, &jar, &token).await;
    assert!(matches!(expired, Err(CsrfError::Rejected(Rejection::Expired(_)))), "{expired:?}");
    let cookie = logged_in(&bed).await.0.unwrap();
    let foreign = crate::support::Sent {
        method: "POST",
        headers: vec![("cookie", cookie.as_bytes()), ("sec-fetch-site", b"cross-site")],
    };
    let wrapped = crate::support::Wrapped::Once(&bed.sessions);
    let reply = crate::framework::ask_with(wrapped, &foreign, async move |request| {
        assert_eq!(request.session().await?.verify_csrf(&token), Err(CsrfError::CrossSite));
        Ok(Answer::ok())
    });
    assert_eq!(reply.await.status, StatusCode::OK);
}

#[actix_web::test]
async fn a_token_that_is_none_is_answered_with_403_and_no_words() {
    let bed = Bed::new();
    let mut jar = logged_in(&bed).await;
    let token = form(&bed, &mut jar).await;
    let post = async |token: String| -> Reply {
        let cookie = jar.0.clone().unwrap();
        let handler = move |request: crate::support::Request| {
            now(request.session())?.verify_csrf(&token)?;
            Ok(Answer::ok())
        };
        bed.call(&[cookie.as_bytes()], handler).await
    };
    assert_eq!(post(token.clone()).await.status, StatusCode::OK);
    let other = if token.ends_with('A') { 'B' } else { 'A' };
    for bad in [String::new(), "AAAA".repeat(12), format!("{}{other}", &token[..47])] {
        let reply = post(bad).await;
        assert_eq!((reply.status, &*reply.body), (StatusCode::FORBIDDEN, b"" as &[u8]));
        assert!(reply.all(SET_COOKIE).is_empty());
    }
}
