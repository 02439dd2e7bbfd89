//! Middleware, layers and extractors: what carries sessions in and out of the requests of each framework, and what
//! all of them share.

#[cfg(feature = "actix")]
pub mod actix;
#[cfg(any(feature = "actix", feature = "tower"))]
pub(crate) mod current;
#[cfg(any(feature = "actix", feature = "tower"))]
pub(crate) mod extract;
#[cfg(any(feature = "actix", feature = "tower"))]
pub(crate) mod login_guard;
#[cfg(any(feature = "actix", feature = "tower"))]
pub(crate) mod response;
#[cfg(feature = "tower")]
pub mod tower;
