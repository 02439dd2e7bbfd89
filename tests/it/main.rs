//! The behaviours of the library, seen from outside: a file per family, a sentence per test. What goes through a framework
//! goes through actix-web here, and through axum in `axum.rs`.

mod actix_alone;
mod adversarial;
mod asking;
mod commit;
mod cookies;
mod cross_site;
#[cfg(feature = "memory")]
mod csrf;
#[cfg(feature = "device-binding")]
mod device_binding;
#[cfg(feature = "device-binding")]
#[path = "../device_key/mod.rs"]
mod device_key;
#[cfg(all(feature = "device-binding", feature = "memory"))]
mod device_rows;
mod errors;
#[cfg(feature = "memory")]
mod flash;
#[cfg(feature = "memory")]
mod formerly;
#[cfg(feature = "memory")]
mod found;
#[path = "on_actix.rs"]
mod framework;
#[cfg(feature = "memory")]
mod guard;
mod headers;
mod hostile;
mod identity;
mod interface;
mod key_life;
mod keys;
mod lazy;
mod lifetime;
#[cfg(feature = "memory")]
mod logins;
#[cfg(feature = "memory")]
mod meanwhile;
#[cfg(all(feature = "device-binding", feature = "memory", feature = "metrics"))]
mod measured;
mod races;
mod readme;
mod rejections;
#[cfg(feature = "memory")]
mod revocation;
#[cfg(feature = "memory")]
mod roster;
mod scopes;
mod server;
mod size;
#[cfg(feature = "memory")]
mod spy;
#[cfg(feature = "memory")]
mod store_failures;
#[cfg(feature = "memory")]
mod store_races;
#[cfg(feature = "memory")]
mod stored;
mod support;
#[cfg(feature = "memory")]
mod telling;
mod transient;
#[cfg(all(feature = "memory", feature = "device-binding"))]
mod twice;
