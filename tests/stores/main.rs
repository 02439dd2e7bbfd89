//! The stores, each against its real server: `tests/servers.py cargo test --all-features --test stores`.

#[macro_use]
mod engines;

mod cluster;
mod conformance;
mod dump;
mod faulty;
mod gate;
mod model;
mod parallel;
mod redis;
mod revocation;
mod shared;
mod sql;
mod sweep;
mod tls;
mod trips;
mod unreachable;
