//! Guides: what to choose, and what it means. Each is read in five minutes, and its code runs with the tests.
//!
//! | question | guide |
//! |---|---|
//! | How long should sessions live? | [`lifetimes`] |
//! | Do I need a store, and which? | [`stores`] |
//! | How do I change the key? What if it leaks? | [`keys`] |
//! | How do I log somebody in, ask again before what matters, and keep pages for users alone? | [`logins`] |
//! | How do I log somebody out? | [`ending`] |
//! | How do I show "my devices", and allow at most so many? | [`devices`] |
//! | How do I put a token into a form, and "Saved." onto the next page? | [`forms`] |
//! | What can be done against stolen cookies? | [`device_binding`] |
//! | What can pages of other sites do? Why is there a 403? | [`cross_site`] |
//! | How do I test handlers that use the session? | [`testing`] |
//! | What does nginx, a CDN or a load balancer in front change? | [`proxies`] |
//! | What is not protected, and why? | [`limits`] |
//!
//! The modules are empty; there is only text in them.

#[doc = include_str!("guide/lifetimes.md")]
pub mod lifetimes {}

#[doc = include_str!("guide/stores.md")]
pub mod stores {}

#[doc = include_str!("guide/keys.md")]
pub mod keys {}

#[doc = include_str!("guide/logins.md")]
pub mod logins {}

#[doc = include_str!("guide/ending.md")]
pub mod ending {}

#[doc = include_str!("guide/devices.md")]
pub mod devices {}

#[doc = include_str!("guide/device_binding.md")]
pub mod device_binding {}

#[doc = include_str!("guide/cross_site.md")]
pub mod cross_site {}

#[doc = include_str!("guide/forms.md")]
pub mod forms {}

#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/proxies.md")]
pub mod proxies {}

#[doc = include_str!("guide/limits.md")]
pub mod limits {}
