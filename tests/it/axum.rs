//! The behaviours that go through a framework, through axum: the same tests as in `main.rs`.

mod adversarial;
mod asking;
mod axum_alone;
mod commit;
mod cookies;
mod cross_site;
mod csrf;
#[cfg(feature = "device-binding")]
mod device_binding;
#[cfg(feature = "device-binding")]
#[path = "../device_key/mod.rs"]
mod device_key;
mod flash;
mod formerly;
mod found;
#[path = "on_axum.rs"]
mod framework;
mod guard;
mod headers;
mod hostile;
mod http2;
mod identity;
mod interface;
mod layers;
mod lazy;
mod lifetime;
mod logins;
mod meanwhile;
#[cfg(all(feature = "device-binding", feature = "metrics"))]
mod measured;
mod races;
mod rejections;
mod revocation;
mod roster;
mod scopes;
mod server;
mod size;
mod spy;
mod store_failures;
mod stored;
mod support;
mod telling;
