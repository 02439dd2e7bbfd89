//! The behaviours of the library, seen from outside: a file per family, a sentence per test.

mod commit;
mod cookies;
mod headers;
mod hostile;
mod identity;
mod interface;
mod keys;
mod lazy;
mod lifetime;
mod races;
mod readme;
mod rejections;
mod scopes;
mod server;
mod size;
mod support;
