//! Sessions sealed inside the cookie, with lifetimes that the server enforces.
//!
//! The session's data is serialized, encrypted with XAES-256-GCM and kept in the browser's cookie, so a deployment
//! needs no session database. When the session ends is sealed with it and judged by the server: `duration` and
//! `activeDuration` of Mozilla's `client-sessions`, an absolute and an idle limit. A session that outgrows its cookie
//! moves into a [`store`] by itself, if there is one.
//!
//! ```no_run
//! use actix_web::{App, HttpServer, web::get};
//! use sealed_session::{KeyRing, Session, SessionKey, SessionMiddleware, Sessions};
//!
//! const VISITS: SessionKey<u32> = SessionKey::new("visits");
//!
//! async fn index(session: Session) -> actix_web::Result<String> {
//!     let visits = session.get(VISITS)?.unwrap_or(0) + 1;
//!     session.insert(VISITS, visits)?;
//!     Ok(format!("visit {visits}"))
//! }
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let keys = KeyRing::open_or_create("session.keys")?;
//!     let sessions = Sessions::builder(keys).build()?;
//!     HttpServer::new(move || {
//!         App::new().wrap(SessionMiddleware::new(sessions.clone())).route("/", get().to(index))
//!     })
//!     .bind(("127.0.0.1", 8080))?
//!     .run()
//!     .await?;
//!     Ok(())
//! }
//! ```
//!
//! On axum it is `SessionLayer` instead, with the same extractors: see the module `tower`.
//!
//! # The life of a request
//!
#![doc = include_str!("../docs/life-of-a-request.svg")]
//!
//! Nothing of this happens before a handler asks for the [`Session`]: a request that does not costs nothing and gets
//! no header. A session that was only read issues no cookie, unless its lifetime or its key makes it due. The store is
//! asked for sessions that live in it, and of others once a minute whether they have been revoked.
//!
//! # What the cookie protects, and what it does not
//!
//! Nobody without a key of the ring can read, alter or forge a session, move it to another cookie name, or prolong
//! it. But a cookie is a copy that its holder keeps:
//!
//! - **Replay.** An older cookie of a session stays valid until it ends: data in it can be put back by sending it again.
//!   Keep nothing in a session that must not be rolled back, such as a balance or a count of failed logins.
//! - **Logout.** [`Session::destroy`] removes the browser's cookie. Without a store, a copy made before stays valid until
//!   it ends; with one, see [`Revocation`].
//! - **Races.** Of two overlapping requests that both change the session, the response that arrives later wins.
//!
//! A session that has moved into a store has its data there: `destroy` and `renew` end it for good, and the changes of
//! parallel requests are merged. Cookies from before the move are what remains: see [`guide::limits`]. In either place:
//!
//! - **Theft.** Whoever steals the cookie has the session. The defaults (`HttpOnly`, `Secure`, `SameSite=Lax`, the
//!   prefix `__Host-Http-`) make that hard in browsers.
//! - **Length.** The size of the cookie, or of the row, tells the size of its content to the next 32 bytes.
//!
//! # Features
//!
//! | feature | default | unlocks |
//! |---|---|---|
//! | `actix` | yes | for actix-web 4: `SessionMiddleware`, the extractors `Session`, `Scoped` and `Subject`, `LoginGuard`, the module `actix` |
//! | `axum` | no | for axum 0.8: `SessionLayer`, the same extractors, `LoginGuard`, the module `tower` |
//! | `tower` | no | `SessionLayer` and `LoginGuard` without the extractors, around tonic's and other services of tower |
//! | `memory`, `redb`, `redis`, `mongodb`, `postgres`, `mysql`, `sqlite` | no | the [`store`] of that name |
//! | `conformance` | no | `store::conformance`, the tests that every store has to pass |
//! | `metrics` | no | counters and histograms of what happens, see [`Event`] and `docs/metrics.md` |
//! | `device-binding` | no | sessions that are bound to the device of their browser, see [stolen cookies](guide::device_binding) |
//! | `cli` | no | the command line tool `sealed-session` |
//! | `aws-lc-rs` | no | AES-256-GCM by AWS-LC: the same cookies; with AVX-512 288 bytes are sealed in two thirds of the time, 3,000 in half; needs a C compiler |
//!
//! Without any of the first three [`Sessions::load`] and [`Sessions::commit`] serve any framework.
//!
//! # Guides
//!
//! [Lifetimes](guide::lifetimes), [stores](guide::stores), [keys](guide::keys), [logins](guide::logins),
//! [ending sessions](guide::ending), [my devices](guide::devices), [stolen cookies](guide::device_binding), [other sites](guide::cross_site), [forms](guide::forms),
//! [testing](guide::testing), [proxies](guide::proxies), and [what is not protected](guide::limits).

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "__fuzzing")]
#[doc(hidden)]
#[path = "fuzzing.rs"]
pub mod __fuzz;
mod core;
mod frameworks;
#[cfg(any(doc, doctest))]
pub mod guide;
mod sessions;
pub mod store;

pub use self::core::browser::MAX_NAME_VALUE_BYTES;
pub use self::core::clock::{Clock, ManualClock, SystemClock};
pub use self::core::cookie::{SameSite, Secure};
pub use self::core::cross_site::{CrossSite, CrossSiteReason};
#[cfg(feature = "device-binding")]
pub use self::core::device::DeviceBinding;
#[doc(hidden)]
pub use self::core::envelope::bench as __bench;
pub use self::core::error::{
    CommitError, ConfigError, CsrfError, DeviceRefusal, End, InsertError, IssueError, KeyError, Rejection,
    RevokeError, Source, StoreError, TransientError, ValueError,
};
pub use self::core::event::Event;
pub use self::core::key::{KEY_LEN, Key, KeyFile, KeyId, KeyInfo, KeyRing, KeySource, KeyState};
pub use self::core::lifetime::Lifetime;
pub use self::core::local_path::local_path;
pub use self::core::random::reseed;
pub use self::core::record::{DeviceState, LogId, MAX_LABEL_BYTES, ParseSessionIdError, SessionId};
pub use self::core::session::{Placement, Session, SessionKey};
pub use self::core::state::Origin;
#[cfg(feature = "actix")]
pub use self::frameworks::actix;
/// For requests of actix-web; that for requests of tower and axum is `sealed_session::tower::SessionExt`.
///
#[cfg(feature = "actix")]
pub use self::frameworks::actix::SessionExt;
#[cfg(feature = "actix")]
pub use self::frameworks::actix::SessionMiddleware;
#[cfg(any(feature = "actix", feature = "tower"))]
pub use self::frameworks::extract::{Scoped, Site, Subject};
#[cfg(any(feature = "actix", feature = "tower"))]
pub use self::frameworks::login_guard::LoginGuard;
#[cfg(feature = "tower")]
pub use self::frameworks::tower;
#[cfg(feature = "tower")]
pub use self::frameworks::tower::SessionLayer;
pub use self::sessions::builder::SessionsBuilder;
pub use self::sessions::commit::Outcome;
pub use self::sessions::flash::{Flash, FlashLevel, FlashMessage};
pub use self::sessions::transient::{Taken, Transient, TransientBuilder};
pub use self::sessions::{CommitContext, Inspection, Sessions};
pub use self::store::revocation::{FailurePolicy, Revocation};
pub use self::store::roster::{Overflow, SessionSummary};
/// The types of moments, of the version that this crate has.
pub use time;
pub use zeroize::Zeroizing;

/// The README, whose code is compiled with the tests.
#[cfg(all(doctest, feature = "actix", feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The migration guide, likewise.
#[cfg(all(doctest, feature = "actix", feature = "axum"))]
#[doc = include_str!("../docs/migration.md")]
struct Migration;
