//! x
#[cfg(feature = "actix")]
mod actix;
mod builder;
mod clock;
mod cookie;
mod entries;
mod envelope;
mod error;
mod event;
mod key;
mod lifetime;
mod record;
mod session;
mod sessions;
mod state;
mod value;
#[cfg(feature = "actix")]
pub use actix::{Scoped, SessionExt, SessionFuture, SessionMiddleware, SessionService, Site};
pub use builder::SessionsBuilder;
pub use clock::{Clock, ManualClock, SystemClock};
pub use cookie::{MAX_NAME_VALUE_BYTES, SameSite, Secure};
pub use error::{
    CommitError, ConfigError, End, InsertError, IssueError, KeyError, Rejection, Source, StoreError,
    ValueError,
};
pub use event::Event;
pub use key::{KEY_LEN, Key, KeyId, KeyRing};
pub use lifetime::Lifetime;
pub use record::{ParseSessionIdError, SessionId};
pub use session::{Placement, Session, SessionKey};
pub use sessions::{CommitContext, Inspection, Outcome, Sessions};
pub use state::Origin;
