//! Flash messages: shown once, to whom they were written for, and at no cost to the session.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, SET_COOKIE};
use sealed_session::{
    CrossSite, Event, Flash, FlashLevel, MAX_NAME_VALUE_BYTES, SameSite, Secure, Session, TransientError,
};

use crate::framework::ask_with;
use crate::spy::{Fate, guarded};
use crate::support::{Answer, Bed, Failure, MS, Reply, Request, Sent, Wrapped, key, now};

const LIFETIME: Duration = Duration::from_secs(300);

/// A browser that keeps the session's cookie and that of the messages.
#[derive(Clone, Default)]
struct Browser {
    session: Option<String>,
    flash: Option<String>,
}

impl Browser {
    fn keep(&mut self, reply: &Reply) {
        for line in reply.all(SET_COOKIE) {
            let pair = line.split(';').next().unwrap().to_owned();
            let kept = (!line.contains("; Max-Age=0;")).then_some(pair);
            match line.split_once('=').unwrap().0 {
                "s" => self.session = kept,
                "s-flash" => self.flash = kept,
                other => panic!("whose is {other}?"),
            }
        }
    }

    async fn ask<F>(&self, bed: &Bed, method: &str, headers: &[(&str, &str)], handler: F) -> Reply
    where
        F: AsyncFn(Request) -> Result<Answer, Failure> + 'static,
    {
        let mut sent = Sent { method, headers: vec![("host", b"example.com")] };
        sent.headers.extend(self.session.iter().chain(&self.flash).map(|pair| ("cookie", pair.as_bytes())));
        sent.headers.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        ask_with(Wrapped::Once(&bed.sessions), &sent, handler).await
    }

    async fn visit(&mut self, bed: &Bed, work: fn(&Session, &Flash)) -> Reply {
        let reply = self.peek(bed, work).await;
        self.keep(&reply);
        reply
    }

    async fn peek(&self, bed: &Bed, work: fn(&Session, &Flash)) -> Reply {
        let handler = async move |request: Request| {
            let (session, flash) = (request.session().await?, request.extract::<Flash>().await?);
            work(&session, &flash);
            Ok(Answer::ok())
        };
        let reply = self.ask(bed, "GET", &[], handler).await;
        assert_eq!(reply.status, StatusCode::OK);
        reply
    }

    /// What a page shows that takes the messages.
    async fn shown(&mut self, bed: &Bed) -> Vec<String> {
        let shown = Rc::new(RefCell::new(Vec::new()));
        let out = Rc::clone(&shown);
        let handler = async move |request: Request| {
            let messages = request.extract::<Flash>().await?.take();
            out.borrow_mut().extend(messages.iter().map(|message| format!("{}: {message}", message.level)));
            Ok(Answer::ok())
        };
        let reply = self.ask(bed, "GET", &[], handler).await;
        self.keep(&reply);
        shown.take()
    }
}

fn login(session: &Session, flash: &Flash) {
    session.authenticate("ada").unwrap();
    flash.success("Welcome, Ada.").unwrap();
}

#[actix_web::test]
async fn a_message_is_shown_once_on_the_next_page_that_asks() {
    let bed = Bed::new();
    let mut browser = Browser::default();
    let reply = browser.visit(&bed, |_, flash| flash.info("Thanks.").unwrap()).await;
    let [line] = reply.all(SET_COOKIE)[..] else { panic!("one cookie: {reply:?}") };
    assert!(line.starts_with("s-flash=") && !line.contains("Thanks"), "{line}");
    for attribute in ["; Max-Age=300", "; HttpOnly", "; Secure", "; SameSite=Lax", "; Path=/"] {
        assert!(line.contains(attribute), "{line}");
    }
    assert_eq!(reply.all(CACHE_CONTROL), ["no-store"]);
    // A page that does not ask leaves them.
    assert!(browser.visit(&bed, |_, _| {}).await.all(SET_COOKIE).is_empty());
    assert_eq!(browser.shown(&bed).await, ["info: Thanks."]);
    assert_eq!(browser.flash, None);
    assert_eq!(browser.shown(&bed).await, [""; 0]);
}

#[actix_web::test]
async fn messages_add_up_until_they_are_taken_and_what_is_left_after_that_is_for_the_next_page() {
    let bed = Bed::new();
    let mut browser = Browser::default();
    browser.visit(&bed, |_, flash| flash.push(FlashLevel::Warning, "one").unwrap()).await;
    browser.visit(&bed, |_, flash| flash.error("two").unwrap()).await;
    browser
        .visit(&bed, |_, flash| {
            flash.info("three").unwrap();
            let texts: Vec<_> = flash.take().into_iter().map(|message| message.text).collect();
            assert_eq!(texts, ["one", "two", "three"]);
            assert!(flash.take().is_empty());
            flash.success("four").unwrap();
        })
        .await;
    assert_eq!(browser.shown(&bed).await, ["success: four"]);
    assert_eq!(browser.shown(&bed).await, [""; 0]);
}

#[actix_web::test]
async fn each_level_has_a_method_and_a_name() {
    let bed = Bed::new();
    let mut browser = Browser::default();
    browser
        .visit(&bed, |_, flash| {
            flash.success("a").unwrap();
            flash.info("b").unwrap();
            flash.warning("c").unwrap();
            flash.error("d").unwrap();
        })
        .await;
    assert_eq!(browser.shown(&bed).await, ["success: a", "info: b", "warning: c", "error: d"]);
}

#[actix_web::test]
async fn a_message_never_issues_the_session_nor_begins_one() {
    let (bed, spy) = guarded(|builder| builder);
    let mut browser = Browser::default();
    browser.visit(&bed, |_, flash| flash.info("hello").unwrap()).await;
    assert_eq!(browser.session, None);
    browser.visit(&bed, login).await;
    let session = browser.session.clone();
    spy.calls();
    bed.events();
    assert_eq!(browser.visit(&bed, |_, flash| flash.info("again").unwrap()).await.all(SET_COOKIE).len(), 1);
    assert_eq!(browser.shown(&bed).await, ["info: hello", "success: Welcome, Ada.", "info: again"]);
    assert_eq!(browser.session, session);
    assert!(spy.calls().iter().all(|call| *call == "load"), "whether it was revoked");
    assert!(bed.events().iter().all(|event| matches!(event, Event::Resumed { .. })));
}

#[actix_web::test]
async fn a_message_is_for_the_user_it_was_written_for() {
    let bed = Bed::new();
    // What is left when ada's session ends, and while bob's begins.
    let leave: [fn(&Session, &Flash); 3] = [
        |session, _| session.destroy(),
        |session, _| session.authenticate("bob").unwrap(),
        |session, _| session.set_subject("bob").unwrap(),
    ];
    for leave in leave {
        let mut browser = Browser::default();
        browser.visit(&bed, login).await;
        browser.visit(&bed, leave).await;
        assert_eq!(browser.flash, None, "it is gone, whether anybody takes messages or not");
        assert_eq!(browser.shown(&bed).await, [""; 0]);
        // In one request, before and after.
        let mut browser = Browser::default();
        browser.visit(&bed, login).await;
        let handler = async move |request: Request| {
            let (session, flash) = (request.session().await?, request.extract::<Flash>().await?);
            flash.info("of ada").unwrap();
            leave(&session, &flash);
            flash.info("after").unwrap();
            Ok(Answer::ok())
        };
        browser.keep(&browser.ask(&bed, "GET", &[], handler).await);
        assert_eq!(browser.shown(&bed).await, ["info: after"]);
    }
    // What is dropped leaves the cookie as it is, so that what is in it lives for no longer.
    let mut browser = Browser::default();
    browser.visit(&bed, |session, _| session.authenticate("ada").unwrap()).await;
    browser.flash = {
        let mut visitor = Browser::default();
        visitor.visit(&bed, |_, flash| flash.info("before").unwrap()).await;
        visitor.flash
    };
    let reply = browser
        .visit(&bed, |session, flash| {
            flash.info("of ada").unwrap();
            session.destroy();
        })
        .await;
    assert!(!reply.all(SET_COOKIE).iter().any(|line| line.starts_with("s-flash=")), "{reply:?}");
    assert_eq!(browser.shown(&bed).await, ["info: before"]);
    // Her cookie of messages beside his session.
    let (mut ada, mut bob) = (Browser::default(), Browser::default());
    ada.visit(&bed, login).await;
    bob.visit(&bed, |session, _| session.authenticate("bob").unwrap()).await;
    bob.flash = ada.flash.clone();
    assert_eq!(bob.shown(&bed).await, [""; 0]);
    let mut nobody = Browser { session: None, flash: ada.flash.clone() };
    assert_eq!(nobody.shown(&bed).await, [""; 0]);
    assert_eq!(ada.shown(&bed).await, ["success: Welcome, Ada."]);
}

#[actix_web::test]
async fn what_was_said_to_nobody_is_shown_to_who_logs_in() {
    let bed = Bed::new();
    let mut browser = Browser::default();
    browser.visit(&bed, |_, flash| flash.info("Please log in.").unwrap()).await;
    browser.visit(&bed, login).await;
    assert_eq!(browser.shown(&bed).await, ["info: Please log in.", "success: Welcome, Ada."]);
    let reply = browser
        .visit(&bed, |session, flash| {
            session.destroy();
            flash.info("Goodbye.").unwrap();
        })
        .await;
    let names: Vec<_> =
        reply.all(SET_COOKIE).iter().map(|line| line.split('=').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["s-flash", "s"], "the removal goes last");
    assert_eq!(browser.session, None);
    assert_eq!(browser.shown(&bed).await, ["info: Goodbye."]);
}

#[actix_web::test]
async fn a_message_lives_for_five_minutes_by_the_servers_clock() {
    for (later, shown) in [(LIFETIME - MS, 1), (LIFETIME, 0)] {
        let bed = Bed::new();
        let mut browser = Browser::default();
        browser.visit(&bed, |_, flash| flash.info("hello").unwrap()).await;
        bed.clock.advance(later);
        browser.visit(&bed, |_, _| {}).await;
        assert_eq!(browser.flash.is_some(), shown == 1, "what is over goes, whether anybody takes it or not");
        assert_eq!(browser.shown(&bed).await.len(), shown);
        assert_eq!(browser.flash, None);
    }
}

#[actix_web::test]
async fn what_is_no_cookie_of_ours_shows_nothing_and_is_left_alone() {
    let bed = Bed::new();
    let mut browser = Browser::default();
    browser.visit(&bed, login).await;
    let value = browser.flash.clone().unwrap().strip_prefix("s-flash=").unwrap().to_owned();
    let session = browser.session.clone().unwrap();
    let of_session = session.strip_prefix("s=").unwrap();
    let mut flipped = value.clone().into_bytes();
    flipped[60] ^= 1;
    let flipped = String::from_utf8(flipped).unwrap();
    for bad in ["", "x", of_session, &value[1..], &format!("{value}A"), &flipped] {
        let mut other = Browser { session: Some(session.clone()), flash: Some(format!("s-flash={bad}")) };
        assert_eq!(other.shown(&bed).await, [""; 0]);
        assert_eq!(other.flash, Some(format!("s-flash={bad}")), "it may be another application's");
    }
    // And a message is no session.
    let planted = format!("s={value}");
    let reply = bed.raw(&[planted.as_bytes()], |session| assert!(session.subject().is_none())).await;
    assert!(reply.removes());
    // A rotated key does not matter, a revoked one does.
    let old = bed.sessions.keys().primary();
    bed.sessions.keys().rotate(key(2)).unwrap();
    assert_eq!(browser.clone().shown(&bed).await, ["success: Welcome, Ada."]);
    bed.sessions.keys().revoke(old).unwrap();
    assert_eq!(browser.shown(&bed).await, [""; 0]);
    // A node that does not have the key yet leaves the message to those that do.
    let elsewhere = Bed::on(sealed_session::KeyRing::new(key(9)), bed.clock.clone(), |builder| builder);
    let mut visitor = Browser::default();
    visitor.visit(&bed, |_, flash| flash.info("hello").unwrap()).await;
    assert_eq!(visitor.shown(&elsewhere).await, [""; 0]);
    assert_eq!(visitor.shown(&bed).await, ["info: hello"]);
}

/// Another tab has logged in, or out, meanwhile, and the change is lost. The answer is 200 all the same.
#[actix_web::test]
async fn a_change_that_is_lost_leaves_no_message() {
    for large in [false, true] {
        let bed = Bed::stored(|builder| builder.spill_above(300));
        let mut browser = Browser::default();
        browser.visit(&bed, |_, flash| flash.info("before").unwrap()).await;
        let fill: fn(&Session, &Flash) = if large {
            |session, _| session.insert("much", "x".repeat(300)).unwrap()
        } else {
            |session, _| session.insert("n", 1).unwrap()
        };
        browser.visit(&bed, fill).await;
        let sessions = bed.sessions.clone();
        let handler = async move |request: Request| {
            let session = request.session().await?;
            sessions.revoke(session.id()).await.unwrap();
            session.insert("cart", 1)?;
            request.extract::<Flash>().await?.success("Added.")?;
            Ok(Answer::ok())
        };
        let reply = browser.ask(&bed, "GET", &[], handler).await;
        assert_eq!((reply.status, reply.all(SET_COOKIE).len()), (StatusCode::OK, 0), "{large}");
        browser.keep(&reply);
        assert_eq!(browser.shown(&bed).await, ["info: before"]);
    }
}

/// Somebody takes back the key that had sealed the session while its request is under way, before the response or in the
/// midst of saving it.
#[actix_web::test]
async fn a_change_that_is_lost_with_its_key_leaves_no_message() {
    for (large, while_saving) in [(false, false), (true, false), (true, true)] {
        for stored in [false, true] {
            if large && !stored {
                continue;
            }
            let (spied, spy) = guarded(|builder| builder.spill_above(300));
            let bed = if stored { spied } else { Bed::new() };
            let mut browser = Browser::default();
            let fill: fn(&Session, &Flash) = if large {
                |session, _| session.insert("much", "x".repeat(300)).unwrap()
            } else {
                |session, _| session.insert("n", 1).unwrap()
            };
            browser.visit(&bed, fill).await;
            let sessions = bed.sessions.clone();
            let handler = async move |request: Request| {
                request.session().await?.insert("cart", 1)?;
                request.extract::<Flash>().await?.success("Added.")?;
                let keys = sessions.keys().clone();
                let revoke = move || {
                    let old = keys.primary();
                    keys.rotate(key(2)).unwrap();
                    keys.revoke(old).unwrap();
                };
                if while_saving {
                    spy.before("write", revoke)
                } else {
                    revoke()
                }
                Ok(Answer::ok())
            };
            let reply = browser.ask(&bed, "GET", &[], handler).await;
            let told = format!("large {large}, while saving {while_saving}, stored {stored}");
            assert_eq!((reply.status, reply.all(SET_COOKIE)), (StatusCode::OK, vec![]), "{told}");
        }
    }
}

/// Another node has ended the session, and this one hears of it from the store when it saves.
#[actix_web::test]
async fn a_change_that_another_node_made_void_leaves_no_message() {
    let (bed, spy) = guarded(|builder| builder);
    let elsewhere =
        Bed::on(bed.sessions.keys().clone(), bed.clock.clone(), |builder| builder.store(spy.clone()));
    let mut browser = Browser::default();
    browser.visit(&bed, |session, _| session.insert("n", 1).unwrap()).await;
    let handler = async move |request: Request| {
        let session = request.session().await?;
        elsewhere.sessions.revoke(session.id()).await.unwrap();
        session.touch();
        session.insert("cart", 1)?;
        request.extract::<Flash>().await?.success("Added.")?;
        Ok(Answer::ok())
    };
    let reply = browser.ask(&bed, "GET", &[], handler).await;
    assert_eq!((reply.status, reply.all(SET_COOKIE)), (StatusCode::OK, vec![]));
}

/// It could not be said any more that it does not fit.
#[actix_web::test]
async fn a_message_that_was_left_before_a_login_is_there_after_it_however_long() {
    let bed = Bed::new();
    for len in 400..700 {
        let mut browser = Browser::default();
        let fits = Rc::new(RefCell::new(false));
        let out = Rc::clone(&fits);
        let handler = async move |request: Request| {
            let (session, flash) = (request.session().await?, request.extract::<Flash>().await?);
            *out.borrow_mut() = flash.info("x".repeat(len)).is_ok();
            session.authenticate("ada")?;
            Ok(Answer::ok())
        };
        browser.keep(&browser.ask(&bed, "GET", &[], handler).await);
        assert_eq!(browser.shown(&bed).await.len(), usize::from(fits.take()), "{len}");
    }
}

/// A name that has no room for a message beside it would be a riddle.
#[actix_web::test]
async fn a_long_subject_leaves_as_much_room_for_messages() {
    let bed = Bed::new();
    let mut browser = Browser::default();
    browser
        .visit(&bed, |session, flash| {
            session.authenticate("a".repeat(700)).unwrap();
            flash.success("x".repeat(500)).unwrap();
        })
        .await;
    assert_eq!(browser.shown(&bed).await.len(), 1);
}

#[actix_web::test]
async fn all_messages_together_have_a_limit_that_is_told_when_one_is_left() {
    let bed = Bed::new();
    let mut browser = Browser::default();
    let reply = browser.visit(&bed, |_, flash| {
        flash.info("x".repeat(300)).unwrap();
        flash.info("y".repeat(100)).unwrap();
        let error = flash.info("z".repeat(300)).unwrap_err();
        assert!(matches!(error, TransientError::TooLarge { size, limit: 1_024 } if size > 1_024), "{error}");
        flash.info("short").unwrap();
    });
    let line = reply.await.all(SET_COOKIE)[0].to_owned();
    assert!(line.split(';').next().unwrap().len() - 1 <= 1_024 && 1_024 < MAX_NAME_VALUE_BYTES);
    let mut shown = browser.clone();
    let lengths =
        |texts: Vec<String>| -> Vec<usize> { texts.iter().map(|text| text.len() - "info: ".len()).collect() };
    assert_eq!(lengths(shown.shown(&bed).await), [300, 100, 5]);
    // What came, and nobody has taken, makes room.
    browser.visit(&bed, |_, flash| flash.info("z".repeat(300)).unwrap()).await;
    assert_eq!(lengths(browser.shown(&bed).await), [100, 5, 300]);
}

/// As where a front end posts by itself, and nobody ever looks at a page that takes them.
#[actix_web::test]
async fn a_message_never_fails_for_those_that_nobody_takes() {
    let bed = Bed::new();
    let mut browser = Browser::default();
    for _ in 0..50 {
        browser.visit(&bed, login).await;
        browser.visit(&bed, |_, flash| flash.info("z".repeat(500)).unwrap()).await;
    }
    assert_eq!(browser.shown(&bed).await.len(), 2, "so many fit");
}

/// What came for ada counts again once she has logged in.
#[actix_web::test]
async fn a_login_after_a_message_was_left_leaves_that_one_at_least() {
    let bed = Bed::new();
    let mut browser = Browser::default();
    browser
        .visit(&bed, |session, flash| {
            session.authenticate("ada").unwrap();
            flash.info("x".repeat(500)).unwrap();
        })
        .await;
    browser.session = None;
    browser
        .visit(&bed, |session, flash| {
            flash.success("y".repeat(300)).unwrap();
            session.authenticate("ada").unwrap();
        })
        .await;
    assert_eq!(browser.shown(&bed).await, [format!("success: {}", "y".repeat(300))]);
}

#[actix_web::test]
async fn whoever_asks_for_messages_when_the_response_has_left_takes_and_leaves_none() {
    let bed = Bed::new();
    let mut browser = Browser::default();
    browser.visit(&bed, |_, flash| flash.info("hello").unwrap()).await;
    let kept = Rc::new(RefCell::new(None));
    let out = Rc::clone(&kept);
    browser
        .ask(&bed, "GET", &[], async move |request: Request| {
            request.session().await?;
            *out.borrow_mut() = Some(request);
            Ok(Answer::ok())
        })
        .await;
    let late = kept.take().unwrap().extract::<Flash>().await.unwrap();
    assert!(late.take().is_empty());
    assert!(matches!(late.info("late"), Err(TransientError::Committed)));
    assert_eq!(browser.shown(&bed).await, ["info: hello"]);
}

#[actix_web::test]
async fn a_page_of_another_site_neither_leaves_nor_takes_messages() {
    const FOREIGN: [(&str, &str); 1] = [("sec-fetch-site", "cross-site")];
    let bed = Bed::with(|builder| builder.cross_site(CrossSite::Anonymous).same_site(SameSite::None));
    let mut browser = Browser::default();
    browser.visit(&bed, |_, flash| flash.info("hello").unwrap()).await;
    let handler = async |request: Request| {
        let flash = request.extract::<Flash>().await?;
        assert!(flash.take().is_empty());
        assert!(matches!(flash.info("evil"), Err(TransientError::CrossSite)));
        flash.info("evil")?;
        Ok(Answer::ok())
    };
    let reply = browser.ask(&bed, "POST", &FOREIGN, handler).await;
    assert_eq!((reply.status, reply.all(SET_COOKIE).len()), (StatusCode::FORBIDDEN, 0));
    assert_eq!(browser.shown(&bed).await, ["info: hello"]);
    // Where the session is refused, so are they.
    let bed = Bed::new();
    browser.visit(&bed, login).await;
    let handler = async |request: Request| request.extract::<Flash>().await.map(|_| Answer::ok());
    assert_eq!(browser.ask(&bed, "POST", &FOREIGN, handler).await.status, StatusCode::FORBIDDEN);
}

/// "Saved." must not be read by who was told 503.
#[actix_web::test]
async fn a_commit_that_fails_leaves_no_message() {
    let (bed, spy) = guarded(|builder| builder.spill_above(250));
    let mut browser = Browser::default();
    browser.visit(&bed, |_, flash| flash.info("before").unwrap()).await;
    spy.next([Fate::Fails, Fate::Fails]);
    let handler = async |request: Request| {
        request.session().await?.insert("much", "x".repeat(300))?;
        request.extract::<Flash>().await?.success("Saved.")?;
        Ok(Answer::ok())
    };
    let reply = browser.ask(&bed, "GET", &[], handler).await;
    assert_eq!((reply.status, reply.all(SET_COOKIE).len()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    assert_eq!(browser.shown(&bed).await, ["info: before"]);
}

#[actix_web::test]
async fn the_messages_count_for_the_size_of_the_head() {
    let (bed, _spy) = guarded(|builder| builder.response_head_budget(1_100));
    let spilled = |bed: &Bed| bed.events().iter().any(|event| matches!(event, Event::Spilled { .. }));
    let fill: fn(&Session, &Flash) = |session, _| session.insert("n", "x".repeat(200)).unwrap();
    Browser::default().visit(&bed, fill).await;
    assert!(!spilled(&bed));
    let fill: fn(&Session, &Flash) = |session, flash| {
        session.insert("n", "x".repeat(200)).unwrap();
        flash.info("y".repeat(200)).unwrap();
    };
    let reply = Browser::default().visit(&bed, fill).await;
    assert!(spilled(&bed));
    let bytes: usize = reply.all(SET_COOKIE).iter().map(|line| line.len() + "set-cookie: \r\n".len()).sum();
    assert!(bytes < 1_100, "{bytes}");
}

#[actix_web::test]
async fn the_cookie_has_the_attributes_of_the_sessions() {
    let bed = Bed::with(|builder| {
        builder
            .domain("example.com")
            .path("/app")
            .same_site(SameSite::Strict)
            .secure(Secure::Auto)
            .formerly("/", None)
    });
    let mut browser = Browser::default();
    let reply = browser.visit(&bed, |_, flash| flash.info("hello").unwrap()).await;
    let [set] = reply.all(SET_COOKIE)[..] else { panic!("{reply:?}") };
    let handler = async |request: Request| {
        let _ = request.extract::<Flash>().await?.take();
        Ok(Answer::ok())
    };
    let reply = browser.ask(&bed, "GET", &[("x-forwarded-proto", "https")], handler).await;
    let [removal] = reply.all(SET_COOKIE)[..] else { panic!("{reply:?}") };
    for line in [set, removal] {
        for attribute in ["; Domain=example.com", "; Path=/app", "; SameSite=Strict", "; HttpOnly"] {
            assert!(line.contains(attribute), "{line}");
        }
        assert_eq!(line.contains("; Secure"), line == removal, "{line}");
    }
}

#[actix_web::test]
async fn without_a_framework_they_are_loaded_and_committed_by_hand() {
    let bed = Bed::new();
    let session = now(bed.sessions.load([""])).unwrap();
    let flash = bed.sessions.flash(&session, [""]);
    flash.info("hello").unwrap();
    let line = flash.commit(true).unwrap();
    assert!(flash.commit(true).is_none() && matches!(flash.info("late"), Err(TransientError::Committed)));
    assert!(flash.take().is_empty(), "it would be shown again on the next page");
    let pair = line.split(';').next().unwrap();
    let flash = bed.sessions.flash(&session, ["a=b", &format!("x=y; {pair}")]);
    assert_eq!(flash.take()[0].to_string(), "hello");
    assert!(flash.commit(true).unwrap().contains("Max-Age=0"));
    assert!(bed.sessions.flash(&session, [""]).commit(true).is_none());
}
