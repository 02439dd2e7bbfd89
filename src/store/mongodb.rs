//! Rows in MongoDB.

mod failure;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use mongodb::error::Error;
use mongodb::options::{
    ClientOptions, CollectionOptions, ConnectionString, IndexOptions, ReadConcern, ReadPreference,
    SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, IndexModel, Namespace};
use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

use self::failure::{code, failure};
use crate::core::clock::{Clock, Millis, SystemClock};
use crate::core::error::StoreError;
use crate::store::reach::{STORE_TIMEOUT, SharedConnect, background};
use crate::store::{Expected, NewRow, Revision, Row, RowKey, Store, Written};

/// Server codes: a unique index already has the key; an index exists with other options.
const DUPLICATE_KEY: i32 = 11_000;
const OTHER_INDEX: [i32; 2] = [85, 86];
/// How long the driver looks for a server by default.
const SELECTION: Duration = Duration::from_secs(30);
/// What a server may take for its first answer, once it is found.
const FIRST_ANSWER: Duration = Duration::from_millis(250);
/// How long the first operation waits for the index. On a large collection it takes minutes.
const INDEX_AT_ONCE: Duration = Duration::from_secs(1);
/// How long the index may take before its creation is requested again, and the pause after a failure.
const INDEX_PATIENCE: Duration = Duration::from_secs(600);
const INDEX_PAUSE: Duration = Duration::from_secs(60);

/// Keeps rows in a collection of MongoDB 4.4 or later: `{ _id, d: data, r: revision, e: expiry }`, all of them bytes
/// except the expiry.
///
/// One round trip for a read, one for a write: compare-and-set is an update whose filter names the revision. A TTL index
/// deletes expired rows; until it does, each query treats them as absent. [`connect_lazy`](Self::connect_lazy) starts
/// even while the server is down.
///
/// [`from_collection`](Self::from_collection) takes a collection of the application's own client. This makes version 3 of
/// the crate `mongodb` part of this crate's public interface: moving to the next one is a breaking release.
///
/// # In production
/// - **Durability.** Reads and writes go to the primary with `majority`, so that a failover brings no ended session back.
///   For that to survive the loss of a member, a replica set needs at least three. A primary that is cut off from the
///   others answers reads with what was true before, until it steps down: some 10 s by default. To a node that still
///   reaches it, sessions that were ended meanwhile look alive for as long.
/// - **Permissions.** `readWrite` on the database, which includes `createIndex`. Without it the log says each minute that
///   the TTL index was not made; make it yourself, `db.sessions.createIndex({ e: 1 }, { expireAfterSeconds: 0 })`, and
///   set [`create_index(false)`](MongoStoreOptions::create_index).
/// - **What the tests show.** They run against a server that speaks the wire protocol, not against `mongod`: they do not
///   show elections, sharding, journalling and the minute that its TTL monitor takes.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sealed_session::store::MongoStore;
///
/// let store = MongoStore::connect("mongodb://127.0.0.1/app").await?;
/// # Ok(())
/// # }
/// ```
pub struct MongoStore {
    place: Arc<Place>,
    attempts: SharedConnect<Error>,
    clock: Box<dyn Clock>,
}

/// Where the rows are, and how to reach them.
struct Place {
    origin: Origin,
    create_index: bool,
    /// Set without having asked the server.
    rows: OnceLock<Collection<Document>>,
    /// Set once nothing remains to be done before the first operation.
    ready: OnceLock<()>,
}

enum Origin {
    Address {
        address: Box<ConnectionString>,
        timeout: Duration,
        database: Option<String>,
        collection: String,
    },
    Client {
        client: Client,
        namespace: Namespace,
    },
}

/// How a [`MongoStore`] connects, and where its rows are.
#[must_use]
pub struct MongoStoreOptions {
    database: Option<String>,
    collection: String,
    timeout: Duration,
    create_index: bool,
    clock: Box<dyn Clock>,
}

impl MongoStoreOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            database: None,
            collection: "sessions".into(),
            timeout: STORE_TIMEOUT,
            create_index: true,
            clock: Box::new(SystemClock),
        }
    }

    /// The name of the database; the default is the one that the address names, or else `sealed_session`.
    pub fn database(mut self, database: impl Into<String>) -> Self {
        self.database = Some(database.into());
        self
    }

    /// The name of the collection; the default is `sessions`.
    pub fn collection(mut self, collection: impl Into<String>) -> Self {
        self.collection = collection.into();
        self
    }

    /// How long to wait for a connection and for a primary; the default is 1.5 s. The builder's `store_timeout` still
    /// applies, but cannot tell the cause, so this should be shorter.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether to make the TTL index if it is missing; the default is true. `connect` makes it at once, the others before
    /// their first operation. If that takes longer than a second, it goes on in the background, and if it fails it is
    /// retried there each minute: until there is an index, expired rows take room, but are not seen.
    pub fn create_index(mut self, create: bool) -> Self {
        self.create_index = create;
        self
    }

    /// Where the time comes from; the default is [`SystemClock`]. The TTL index uses the server's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Connects to the server or replica set of this address.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] for an unusable address, and if the server refuses the user; [`StoreError::Unavailable`] if none
    /// answers there.
    pub async fn connect(self, url: &str) -> Result<MongoStore, StoreError> {
        let store = self.connect_lazy(url)?;
        store.rows().await?;
        Ok(store)
    }

    /// A server or replica set that need not be up yet: the first request that asks the store connects, and as long as no
    /// server answers, requests that need it fail and share one attempt at a time.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] for an unusable address. What the records of a `mongodb+srv://` address contain is not
    /// known before the first request.
    pub fn connect_lazy(self, url: &str) -> Result<MongoStore, StoreError> {
        // The driver's message may contain the password, if that is not encoded.
        let address = ConnectionString::parse(url).map_err(|_| StoreError::Misconfigured(UNUSABLE.into()))?;
        let origin = Origin::Address {
            address: Box::new(address),
            timeout: self.timeout,
            database: self.database,
            collection: self.collection,
        };
        Ok(MongoStore::at(origin, self.create_index, self.clock))
    }

    /// Uses a collection of the application's own client, whatever the type of its documents. The store uses its own read
    /// and write concerns (`majority`, at the primary), whatever the collection's. How long to wait is the client's
    /// setting (`serverSelectionTimeoutMS`, 30 s by default), or the builder's `store_timeout`;
    /// [`timeout`](Self::timeout), [`database`](Self::database) and [`collection`](Self::collection) are ignored.
    pub fn with_collection<T: Send + Sync>(self, collection: &Collection<T>) -> MongoStore {
        let origin =
            Origin::Client { client: collection.client().clone(), namespace: collection.namespace() };
        MongoStore::at(origin, self.create_index, self.clock)
    }
}

const UNUSABLE: &str = "an address is mongodb://[user:password@]host[:port][,..][/database][?options], with user and password percent-encoded; \
     or mongodb+srv://, with one host and no port";

impl Origin {
    /// How long the server's first answer may take. If the driver gives up earlier, it says more.
    fn patience(&self) -> Duration {
        FIRST_ANSWER
            + match self {
                Self::Address { timeout, .. } => *timeout,
                Self::Client { .. } => SELECTION,
            }
    }

    async fn rows(&self) -> Result<Collection<Document>, Error> {
        let majority = CollectionOptions::builder()
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .read_concern(ReadConcern::majority())
            .write_concern(WriteConcern::majority())
            .build();
        let (client, database, collection) = match self {
            Self::Client { client, namespace } => (client.clone(), &*namespace.db, &*namespace.coll),
            Self::Address { address, timeout, database, collection } => {
                let mut options = ClientOptions::parse((**address).clone()).await?;
                options.app_name.get_or_insert_with(|| "sealed-session".into());
                options.connect_timeout = Some(*timeout);
                options.server_selection_timeout = Some(*timeout);
                let named = database.as_ref().or(address.default_database.as_ref());
                let named = named.map_or("sealed_session", |name| name);
                (Client::with_options(options)?, named, &**collection)
            }
        };
        Ok(client.database(database).collection_with_options(collection, majority))
    }

    /// The collection's name for people.
    fn name(&self) -> String {
        match self {
            Self::Client { namespace, .. } => namespace.to_string(),
            Self::Address { database: Some(database), collection, .. } => format!("{database}.{collection}"),
            Self::Address { collection, .. } => collection.clone(),
        }
    }
}

impl Place {
    /// All that has to be done before the first operation.
    async fn prepare(self: Arc<Self>) -> Result<(), Error> {
        let rows = timeout(self.origin.patience(), self.reach()).await;
        let rows = rows.unwrap_or_else(|late| Err(io::Error::from(late).into()))?;
        if self.create_index && !timeout(INDEX_AT_ONCE, make_index(rows)).await.unwrap_or(false) {
            background::spawn(make_index_later(rows.clone(), Arc::downgrade(&self)));
        }
        self.ready.get_or_init(|| ());
        Ok(())
    }

    /// The client is made once, and reconnects by itself.
    async fn reach(&self) -> Result<&Collection<Document>, Error> {
        let rows = match self.rows.get() {
            Some(rows) => rows,
            None => {
                let made = self.origin.rows().await?;
                self.rows.get_or_init(|| made)
            }
        };
        rows.client().database(&rows.namespace().db).run_command(doc! { "ping": 1 }).await?;
        Ok(rows)
    }
}

/// Whether nothing more has to be done for the index.
async fn make_index(rows: &Collection<Document>) -> bool {
    let options = IndexOptions::builder().expire_after(Duration::ZERO).build();
    let index = IndexModel::builder().keys(doc! { "e": 1 }).options(options).build();
    let Err(error) = rows.create_index(index).await else { return true };
    let is_there = code(&error).is_some_and(|code| OTHER_INDEX.contains(&code));
    if is_there {
        tracing::warn!(
            target: "sealed_session",
            %error,
            "there is another index on `e`, so expired rows may stay; drop it, and restart or create it with \
             `expireAfterSeconds: 0`"
        );
    } else {
        tracing::warn!(target: "sealed_session", %error, "the index was not made by which expired rows go; they take room until it is");
    }
    is_there
}

/// Retries until the index is made, or the store is dropped.
async fn make_index_later(rows: Collection<Document>, place: Weak<Place>) {
    while place.strong_count() > 0 && !timeout(INDEX_PATIENCE, make_index(&rows)).await.unwrap_or(false) {
        sleep(INDEX_PAUSE).await;
    }
}

impl Default for MongoStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MongoStoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStoreOptions").field("collection", &self.collection).finish_non_exhaustive()
    }
}

impl MongoStore {
    /// Connects with the default options.
    ///
    /// # Errors
    /// Those of [`MongoStoreOptions::connect`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        MongoStoreOptions::new().connect(url).await
    }

    /// A server or replica set with the default options, which need not be up yet.
    ///
    /// # Errors
    /// Those of [`MongoStoreOptions::connect_lazy`].
    pub fn connect_lazy(url: &str) -> Result<Self, StoreError> {
        MongoStoreOptions::new().connect_lazy(url)
    }

    /// Uses a collection of the application's own client, with the default options; see
    /// [`MongoStoreOptions::with_collection`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use mongodb::Client;
    /// use mongodb::bson::Document;
    /// use sealed_session::store::{MongoStore, MongoStoreOptions};
    ///
    /// let client = Client::with_uri_str("mongodb://127.0.0.1/").await?;
    /// let store = MongoStore::from_collection(&client.database("app").collection::<Document>("sessions"));
    /// let other = MongoStoreOptions::new()
    ///     .create_index(false)
    ///     .with_collection(&client.database("app").collection::<Document>("others"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_collection<T: Send + Sync>(collection: &Collection<T>) -> Self {
        MongoStoreOptions::new().with_collection(collection)
    }

    fn at(origin: Origin, create_index: bool, clock: Box<dyn Clock>) -> Self {
        let place = Place { origin, create_index, rows: OnceLock::new(), ready: OnceLock::new() };
        Self { place: Arc::new(place), attempts: SharedConnect::new(), clock }
    }

    /// The collection, once the server has been reached for the first time.
    async fn rows(&self) -> Result<&Collection<Document>, StoreError> {
        loop {
            if let (Some(rows), Some(())) = (self.place.rows.get(), self.place.ready.get()) {
                return Ok(rows);
            }
            let place = Arc::clone(&self.place);
            self.attempts.join(|| place.prepare()).await.map_err(failure)?;
        }
    }

    fn now(&self) -> DateTime {
        moment(self.clock.now())
    }
}

#[async_trait]
impl Store for MongoStore {
    async fn load(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        // By its key alone, which the server has a plan of its own for; whether it has expired is known here.
        let filter = doc! { "_id": binary(key.as_bytes()) };
        let found = self.rows().await?.find_one(filter).await.map_err(failure)?;
        let Some(mut found) = found else { return Ok(None) };
        let corrupt = || StoreError::Corrupt(format!("the fields of {key:?} are not those of a row").into());
        let expires_at = *found.get_datetime("e").map_err(|_| corrupt())?;
        if expires_at <= self.now() {
            return Ok(None);
        }
        let mut bytes = |field| match found.remove(field) {
            Some(mongodb::bson::Bson::Binary(binary)) => Ok(binary.bytes),
            _ => Err(corrupt()),
        };
        let (data, revision) = (bytes("d")?, bytes("r")?);
        let revision = Revision::from_bytes(revision.try_into().map_err(|_| corrupt())?);
        let expires_at = Millis(expires_at.timestamp_millis()).to_datetime();
        Ok(Some(Row { data, revision, expires_at }))
    }

    async fn write(&self, key: &RowKey, row: NewRow<'_>, expected: Expected) -> Result<Written, StoreError> {
        let (id, data) = (binary(key.as_bytes()), binary(row.data));
        let (revision, expires_at) = (binary(row.revision.as_bytes()), moment(row.expires_at));
        let rows = self.rows().await?;
        let written = match expected {
            // Replaces an expired row or none; if there is a living one, the resulting insert finds its key taken.
            Expected::Absent => {
                let filter = doc! { "_id": &id, "e": { "$lte": self.now() } };
                let row = doc! { "_id": id, "d": data, "r": revision, "e": expires_at };
                rows.replace_one(filter, row).upsert(true).await.map(|_| 1)
            }
            Expected::At(expected) => {
                let expected = binary(expected.as_bytes());
                let filter = doc! { "_id": id, "r": expected, "e": { "$gt": self.now() } };
                let update = doc! { "$set": { "d": data, "r": revision }, "$max": { "e": expires_at } };
                rows.update_one(filter, update).await.map(|done| done.matched_count)
            }
        };
        match written {
            Ok(1..) => Ok(Written::Done),
            Ok(0) => Ok(Written::Conflict),
            Err(error) if code(&error) == Some(DUPLICATE_KEY) => Ok(Written::Conflict),
            Err(error) => Err(failure(error)),
        }
    }

    async fn extend(
        &self,
        key: &RowKey,
        at: Revision,
        expires_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let at = binary(at.as_bytes());
        let filter = doc! { "_id": binary(key.as_bytes()), "r": at, "e": { "$gt": self.now() } };
        let update = doc! { "$max": { "e": moment(expires_at) } };
        let done = self.rows().await?.update_one(filter, update).await.map_err(failure)?;
        Ok(done.matched_count > 0)
    }

    async fn delete(&self, key: &RowKey) -> Result<bool, StoreError> {
        let filter = doc! { "_id": binary(key.as_bytes()), "e": { "$gt": self.now() } };
        Ok(self.rows().await?.delete_one(filter).await.map_err(failure)?.deleted_count > 0)
    }

    /// The TTL index drops expired rows.
    async fn sweep(&self, _: usize) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.rows().await?.count_documents(doc! { "e": { "$gt": self.now() } }).await.map_err(failure)
    }

    async fn clear(&self) -> Result<(), StoreError> {
        self.rows().await?.delete_many(doc! {}).await.map(drop).map_err(failure)
    }
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStore").field("collection", &self.place.origin.name()).finish_non_exhaustive()
    }
}

fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

fn moment(at: OffsetDateTime) -> DateTime {
    DateTime::from_millis(Millis::of(at).0)
}
