//! A store by its address, for configurations and for the command line.

use std::sync::Arc;

use thiserror::Error;

use super::{Store, StoreError};

/// Why [`open`] has no store to give.
#[derive(Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address begins with none of the schemes.
    #[error(
        "a store's address begins with memory, redb:PATH, redis://, rediss://, redis-cluster://HOST:PORT,.., mongodb://, mongodb+srv://, postgres://, mysql://, mariadb:// or sqlite:PATH, and not with {scheme:?}"
    )]
    Scheme {
        /// What stands before the first colon.
        scheme: String,
    },
    /// The store is not compiled in.
    #[error("this build lacks the store of {scheme:?}; build it with the feature `{feature}`")]
    Feature {
        /// What stands before the first colon.
        scheme: String,
        /// The feature that brings it.
        feature: &'static str,
    },
    /// The store did not open.
    #[error(transparent)]
    Store(#[from] StoreError),
}

crate::error::debug_in_full!(OpenError);

/// Opens the store at an address, with the options that it has by default. The table of an SQL store is created if it
/// is not there.
///
/// | address | store |
/// |---|---|
/// | `memory` | `MemoryStore` |
/// | `redb:PATH` | `RedbStore` |
/// | `redis://..`, `rediss://..` | `RedisStore` |
/// | `redis-cluster://HOST:PORT,HOST:PORT` | `RedisStore` |
/// | `mongodb://..`, `mongodb+srv://..` | `MongoStore` |
/// | `postgres://..`, `mysql://..`, `mariadb://..`, `sqlite:PATH` | `SqlStore` |
///
/// # Errors
/// [`OpenError`]; no message contains the address, which may have a password in it.
#[allow(unused_variables, clippy::unused_async, reason = "without the feature of any store")]
pub async fn open(address: &str) -> Result<Arc<dyn Store>, OpenError> {
    let (scheme, rest) = address.split_once(':').unwrap_or((address, ""));
    match scheme {
        #[cfg(feature = "memory")]
        "memory" => Ok(Arc::new(super::MemoryStore::new())),
        #[cfg(feature = "redb")]
        "redb" => Ok(Arc::new(super::RedbStore::open(rest)?)),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(Arc::new(super::RedisStore::connect(address).await?)),
        #[cfg(feature = "redis")]
        "redis-cluster" => {
            let nodes = rest.trim_start_matches('/').split(',').map(|node| format!("redis://{node}/"));
            Ok(Arc::new(super::RedisStoreOptions::new().connect_cluster(nodes).await?))
        }
        #[cfg(feature = "mongodb")]
        "mongodb" | "mongodb+srv" => Ok(Arc::new(super::MongoStore::connect(address).await?)),
        #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
        "postgres" | "postgresql" | "mysql" | "mariadb" | "sqlite" if has_sql(scheme) => {
            let store = super::SqlStore::connect(address).await?;
            store.create_table().await?;
            Ok(Arc::new(store))
        }
        _ => Err(lacking(scheme)),
    }
}

#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
fn has_sql(scheme: &str) -> bool {
    let built = [
        ("sqlite", cfg!(feature = "sqlite")),
        ("mysql", cfg!(feature = "mysql")),
        ("mariadb", cfg!(feature = "mysql")),
        ("postgres", cfg!(feature = "postgres")),
        ("postgresql", cfg!(feature = "postgres")),
    ];
    built.contains(&(scheme, true))
}

fn lacking(scheme: &str) -> OpenError {
    let feature = match scheme {
        "memory" => "memory",
        "redb" => "redb",
        "redis" | "rediss" | "redis-cluster" => "redis",
        "mongodb" | "mongodb+srv" => "mongodb",
        "postgres" | "postgresql" => "postgres",
        "mysql" | "mariadb" => "mysql",
        "sqlite" => "sqlite",
        // What has no colon may be anything, a password as well.
        scheme => return OpenError::Scheme { scheme: scheme.chars().take(16).collect() },
    };
    OpenError::Feature { scheme: scheme.into(), feature }
}
