//! The stores, each against its real server: `tests/servers.py cargo test --all-features --test stores`.

#[macro_use]
mod engines;

mod conformance;
mod dump;
mod faulty;
mod model;
mod parallel;
mod redis;
mod revocation;
mod sweep;
mod trips;
