//! A store by its address, for configurations and for the command line.

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::{Store, StoreError};

/// Why [`open`] or [`open_lazy`] has no store to give.
#[derive(Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address begins with none of the schemes, or has no path where there must be one.
    #[error(
        "a store's address begins with memory, redb:PATH, redis://, rediss://, redis-cluster://HOST:PORT,.., rediss-cluster://HOST:PORT,.. (or valkey for redis), mongodb://, mongodb+srv://, postgres://, mysql://, mariadb:// or sqlite:PATH, and not with {scheme:?}"
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
    /// This store has no name to find rows by: a file holds nothing else.
    #[error(
        "the store of {scheme:?} keeps nothing but rows of sessions, so they have no prefix, table or collection"
    )]
    Unnamed {
        /// What stands before the first colon.
        scheme: String,
    },
    /// The store did not open.
    #[error(transparent)]
    Store(#[from] StoreError),
}

crate::core::error::debug_in_full!(OpenError);

/// Opens the store at an address, with the options that it has by default. The table of an SQL store is created if it
/// is not there, for which alone its user needs the permission. A server has to be there; [`open_lazy`] does without.
///
/// | address | store |
/// |---|---|
/// | `memory` | `MemoryStore` |
/// | `redb:PATH` | `RedbStore` |
/// | `redis://..`, `rediss://..`, `valkey://..`, `valkeys://..` | `RedisStore` |
/// | `redis-cluster://HOST:PORT,HOST:PORT`, `rediss-cluster://..`, `valkey-cluster://..`, `valkeys-cluster://..` | `RedisStore` |
/// | `mongodb://..`, `mongodb+srv://..` | `MongoStore` |
/// | `postgres://..`, `mysql://..`, `mariadb://..`, `sqlite:PATH` | `SqlStore` |
///
/// A cluster's user and password stand before its first node, as in `rediss-cluster://user:password@HOST:PORT,HOST:PORT`.
///
/// # Errors
/// [`OpenError`]; no message contains the address, which may have a password in it.
pub async fn open(address: &str) -> Result<Arc<dyn Store>, OpenError> {
    opened(address, None, true).await
}

/// Opens what an application has made at an address, as programs beside it do: no file, table or index is made, so that a slip
/// is an error and not an empty store. (In Redis and MongoDB another prefix or collection is empty, and no error.) `name` is the prefix (Redis), the table (SQL) or the collection (MongoDB), where it is
/// not the default.
///
/// # Errors
/// [`OpenError`], [`Unnamed`](OpenError::Unnamed) for a `name` in a store that has none. Whether a table is there the first
/// operation tells.
pub async fn open_existing(address: &str, name: Option<&str>) -> Result<Arc<dyn Store>, OpenError> {
    let (scheme, rest) = split(address);
    let has_name = !matches!(scheme, "memory" | "redb");
    if name.is_some() && !has_name {
        return Err(OpenError::Unnamed { scheme: scheme.into() });
    }
    if let Some(path) = file(scheme, rest, address).filter(|path| !path.exists()) {
        return Err(
            StoreError::Misconfigured(format!("{}: there is no such file", path.display()).into()).into()
        );
    }
    opened(address, name, false).await
}

/// The file that an address names, if it is one's.
#[allow(unused_variables, reason = "without the feature of SQLite")]
fn file(scheme: &str, rest: &str, address: &str) -> Option<PathBuf> {
    match scheme {
        "redb" if !rest.is_empty() => Some(rest.into()),
        #[cfg(feature = "sqlite")]
        "sqlite" if !matches!(rest, ":memory:" | "//:memory:") && !rest.contains("mode=memory") => {
            let options: sqlx::sqlite::SqliteConnectOptions = address.parse().ok()?;
            Some(options.get_filename().to_owned())
        }
        _ => None,
    }
}

#[allow(unused_variables, clippy::unused_async, reason = "without the feature of any store")]
async fn opened(address: &str, name: Option<&str>, makes: bool) -> Result<Arc<dyn Store>, OpenError> {
    let (scheme, rest) = split(address);
    match scheme {
        "redb" | "sqlite" if rest.is_empty() => Err(OpenError::Scheme { scheme: scheme.into() }),
        #[cfg(feature = "redis")]
        scheme if is_redis(scheme) || is_cluster(scheme) => {
            let options = super::RedisStoreOptions::new();
            let options = match name {
                Some(name) => options.prefix(name),
                None => options,
            };
            let store = match is_cluster(scheme) {
                true => options.connect_cluster(nodes(scheme, rest)).await?,
                false => options.connect(address).await?,
            };
            Ok(Arc::new(store))
        }
        #[cfg(feature = "mongodb")]
        "mongodb" | "mongodb+srv" => {
            let options = super::MongoStoreOptions::new().create_index(makes);
            let options = match name {
                Some(name) => options.collection(name),
                None => options,
            };
            Ok(Arc::new(options.connect(address).await?))
        }
        #[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
        "postgres" | "postgresql" | "mysql" | "mariadb" | "sqlite" if has_sql(scheme) => {
            let options = super::SqlStoreOptions::new().create_table(makes);
            let options = match name {
                Some(name) => options.table(name),
                None => options,
            };
            Ok(Arc::new(options.connect(address).await?))
        }
        _ => embedded(scheme, rest),
    }
}

/// The same, and a server need not be there: an application that starts while its store is down serves the sessions that
/// are in cookies, answers 503 where it needs the store, and has it as soon as it is there. Whether it is there nobody
/// knows before the first request that asks it; the event `StoreFailed` tells of each that fails. Files are opened at once.
///
/// ```
/// # #[cfg(feature = "redis")]
/// # async fn example() -> Result<(), sealed_session::store::OpenError> {
/// let store = sealed_session::store::open_lazy("redis://127.0.0.1:1/").await?;
/// # assert!(store.count().await.is_err(), "nobody is there");
/// # Ok(())
/// # }
/// # #[cfg(feature = "redis")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
/// ```
///
/// # Errors
/// [`OpenError`], for an address that is not usable, or a file.
#[allow(unused_variables, clippy::unused_async, reason = "without the feature of any store")]
pub async fn open_lazy(address: &str) -> Result<Arc<dyn Store>, OpenError> {
    let (scheme, rest) = split(address);
    match scheme {
        #[cfg(feature = "redis")]
        scheme if is_redis(scheme) => Ok(Arc::new(super::RedisStore::connect_lazy(address)?)),
        #[cfg(feature = "redis")]
        scheme if is_cluster(scheme) => {
            Ok(Arc::new(super::RedisStoreOptions::new().connect_cluster_lazy(nodes(scheme, rest))?))
        }
        #[cfg(feature = "mongodb")]
        "mongodb" | "mongodb+srv" => Ok(Arc::new(super::MongoStore::connect_lazy(address)?)),
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        "postgres" | "postgresql" | "mysql" | "mariadb" if has_sql(scheme) => {
            Ok(Arc::new(super::SqlStoreOptions::new().create_table(true).connect_lazy(address)?))
        }
        _ => open(address).await,
    }
}

fn split(address: &str) -> (&str, &str) {
    address.split_once(':').unwrap_or((address, ""))
}

fn is_redis(scheme: &str) -> bool {
    matches!(scheme, "redis" | "rediss" | "valkey" | "valkeys")
}

fn is_cluster(scheme: &str) -> bool {
    matches!(scheme, "redis-cluster" | "rediss-cluster" | "valkey-cluster" | "valkeys-cluster")
}

/// The addresses of a cluster's nodes: user and password are of all, and so is what stands behind a `?`.
#[cfg(feature = "redis")]
fn nodes(scheme: &str, rest: &str) -> Vec<String> {
    let scheme = scheme.trim_end_matches("-cluster");
    let (nodes, query) = rest.split_once('?').unwrap_or((rest, ""));
    let nodes = nodes.trim_matches('/');
    let user = nodes.split(',').next().and_then(|first| first.rsplit_once('@')).map_or("", |(user, _)| user);
    let address = |node: &str| {
        let (user, node) = node.rsplit_once('@').unwrap_or((user, node));
        let at = if user.is_empty() { "" } else { "@" };
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{scheme}://{user}{at}{node}/{mark}{query}")
    };
    nodes.split(',').map(address).collect()
}

/// Those without a server.
#[allow(unused_variables, reason = "without the feature of any store")]
fn embedded(scheme: &str, rest: &str) -> Result<Arc<dyn Store>, OpenError> {
    match scheme {
        #[cfg(feature = "memory")]
        "memory" => Ok(Arc::new(super::MemoryStore::new())),
        #[cfg(feature = "redb")]
        "redb" => Ok(Arc::new(super::RedbStore::open(rest)?)),
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
        scheme if is_redis(scheme) || is_cluster(scheme) => "redis",
        "mongodb" | "mongodb+srv" => "mongodb",
        "postgres" | "postgresql" => "postgres",
        "mysql" | "mariadb" => "mysql",
        "sqlite" => "sqlite",
        // What has no colon may be anything, a password as well.
        scheme => return OpenError::Scheme { scheme: scheme.chars().take(16).collect() },
    };
    OpenError::Feature { scheme: scheme.into(), feature }
}
