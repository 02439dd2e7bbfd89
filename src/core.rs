//! What a session is: how it is sealed, how long it lives, what a handler holds. Pure but for key files, the system's
//! clock and its randomness: no store, no framework.

pub(crate) mod browser;
pub(crate) mod candidates;
pub(crate) mod clock;
pub(crate) mod cookie;
pub(crate) mod cross_site;
pub(crate) mod csrf;
// Without the feature nothing makes a binder, and without a framework nothing answers browsers.
#[cfg_attr(
    not(all(feature = "device-binding", any(feature = "actix", feature = "tower"))),
    allow(dead_code, unreachable_pub)
)]
pub(crate) mod device;
pub(crate) mod entries;
pub(crate) mod envelope;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod key;
pub(crate) mod lifetime;
pub(crate) mod local_path;
pub(crate) mod measure;
pub(crate) mod random;
pub(crate) mod record;
pub(crate) mod row_name;
pub(crate) mod session;
pub(crate) mod short_cookie;
pub(crate) mod state;
pub(crate) mod value;
