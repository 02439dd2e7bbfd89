//! TLS to each server: whose certificate is accepted, whose is not, and what is sent where there is none.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use sealed_session::store::{
    Expected, NewRow, ROW_KEY_LEN, RedisStoreOptions, Revision, RowKey, SqlStoreOptions, Store, StoreError,
    Written, open, open_lazy,
};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::engines::server;
use crate::redis::{Server, free_port};

fn path(name: &str) -> PathBuf {
    PathBuf::from(server("TEST_TLS")).join(name)
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

fn in_full(error: &dyn Error) -> String {
    let source = error.source().map(|source| format!(": {}", in_full(source)));
    format!("{error}{}", source.unwrap_or_default())
}

/// Writes a row of each size that a store may treat in its own way, and reads it.
async fn works(store: &dyn Store) {
    for len in [100, 5_000] {
        let mut key = [0; ROW_KEY_LEN];
        key[..16].copy_from_slice(Revision::random().as_bytes());
        let (key, data) = (RowKey::from_bytes(key), vec![7; len]);
        let expires_at = OffsetDateTime::now_utc() + Duration::HOUR;
        let row = NewRow { data: &data, revision: Revision::random(), expires_at };
        assert_eq!(store.write(&key, row, Expected::Absent).await.unwrap(), Written::Done);
        assert_eq!(store.load(&key).await.unwrap().unwrap().data, data);
        assert!(store.delete(&key).await.unwrap());
    }
}

/// The store at this address does not open, neither at once nor later, and says why.
async fn is_refused(address: &str, why: &str) {
    let now = in_full(&open(address).await.unwrap_err());
    assert!(now.contains(why), "{why:?} in {now:?}");
    let later = match open_lazy(address).await {
        Ok(store) => in_full(&store.count().await.unwrap_err()),
        Err(error) => in_full(&error),
    };
    assert!(later.contains(why), "{why:?} in {later:?}");
}

/// Redis with TLS at a port of its own, beside one without for the test itself.
async fn redis_with(more: &[&str]) -> (Server, u16) {
    let tls = free_port();
    let [certificate, key, ca] =
        ["server.pem", "server.key", "ca.pem"].map(|name| path(name).display().to_string());
    let at = tls.to_string();
    let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    (Server::start(&[&["--tls-port", &at], &files[..], more].concat()).await, tls)
}

const ASKS_NOBODY: [&str; 2] = ["--tls-auth-clients", "no"];

#[tokio::test]
async fn redis_is_trusted_if_the_authority_that_is_named_has_signed_for_that_host() {
    let (server, port) = redis_with(&ASKS_NOBODY).await;
    let at = |host: &str| format!("rediss://{host}:{port}/");
    let (ca, other) = (path("ca.pem"), path("other.pem"));
    let by = |ca: &PathBuf| format!("{}?ssl_ca_certs={}", at("127.0.0.1"), ca.display());

    works(&*open(&by(&ca)).await.unwrap()).await;
    works(&*open(&by(&ca).replace("rediss:", "valkeys:")).await.unwrap()).await;
    works(&*open_lazy(&format!("{}&protocol=resp3", by(&ca))).await.unwrap()).await;
    works(
        &RedisStoreOptions::new().root_certificates(pem("ca.pem")).connect(&at("127.0.0.1")).await.unwrap(),
    )
    .await;
    // The address goes before the options.
    works(&RedisStoreOptions::new().root_certificates(pem("other.pem")).connect(&by(&ca)).await.unwrap())
        .await;

    is_refused(&at("127.0.0.1"), "UnknownIssuer").await;
    is_refused(&by(&other), "invalid peer certificate").await;
    is_refused(&by(&ca).replace("127.0.0.1", "localhost"), "not valid for name").await;
    // What would check nothing is not there to be had.
    is_refused(&format!("{}#insecure", at("127.0.0.1")), "insecure").await;
    // Without TLS there is nobody at that port.
    assert!(open(&at("127.0.0.1").replace("rediss:", "redis:")).await.is_err());
    works(&*open(&server.url()).await.unwrap()).await;
}

#[tokio::test]
async fn redis_is_shown_the_certificate_that_it_asks_for() {
    let (_server, port) = redis_with(&[]).await;
    let address = format!("rediss://127.0.0.1:{port}/");
    let options = || RedisStoreOptions::new().root_certificates(pem("ca.pem"));
    assert!(options().connect(&address).await.is_err(), "it asks for one");
    let shown = options().client_certificate(pem("client.pem"), pem("client.key"));
    works(&shown.connect(&address).await.unwrap()).await;
    let (ca, chain, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let whole = format!(
        "{address}?ssl_ca_certs={}&ssl_certfile={}&ssl_keyfile={}",
        ca.display(),
        chain.display(),
        key.display()
    );
    works(&*open(&whole).await.unwrap()).await;

    let without = |name: &str| {
        let (base, query) = whole.split_once('?').unwrap();
        let kept: Vec<_> = query.split('&').filter(|pair| !pair.starts_with(name)).collect();
        format!("{base}?{}", kept.join("&"))
    };
    is_refused(&without("ssl_keyfile"), "`ssl_certfile` in the address needs `ssl_keyfile` beside it").await;
    is_refused(&without("ssl_certfile"), "`ssl_keyfile` in the address needs `ssl_certfile` beside it").await;
    let missing = "the file that `ssl_ca_certs` in the address names, /nowhere/ca.pem: No such file";
    is_refused(&format!("{address}?ssl_ca_certs=/nowhere/ca.pem"), missing).await;
    let no_pem = format!("{address}?ssl_ca_certs={}", path("ca.key").display());
    is_refused(&no_pem, "the root certificates are no certificates in PEM").await;
    let plain = whole.replace("rediss:", "redis:");
    is_refused(&plain, "redis:// is not encrypted, so certificates are of no use there").await;
    let StoreError::Misconfigured(_) = options().connect_lazy("redis://127.0.0.1/").unwrap_err() else {
        panic!("it would send rows in the clear to whom it does not know")
    };
    let debug = format!("{:?}", options().client_certificate("s3cret", "s3cret"));
    assert!(!debug.contains("s3cret") && !debug.contains("115, 51"), "{debug}");
}

#[tokio::test]
async fn a_cluster_is_spoken_to_with_tls_and_with_its_password_by_every_node() {
    let bus = free_port().to_string();
    let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--tls-cluster", "yes"];
    let (server, port) = redis_with(&[&ASKS_NOBODY[..], &cluster].concat()).await;
    server.form_cluster().await;
    server.ask(&["CONFIG", "SET", "requirepass", "p@ss,word"]).await.unwrap();
    let ca = path("ca.pem");
    // The second is not there; one of them is enough.
    let nodes = format!(":p%40ss%2Cword@127.0.0.1:{port},127.0.0.1:1");
    let address = format!("rediss-cluster://{nodes}?ssl_ca_certs={}", ca.display());
    works(&*open(&address).await.unwrap()).await;
    works(&*open_lazy(&address.replace("rediss-", "valkeys-")).await.unwrap()).await;

    is_refused(&format!("rediss-cluster://{nodes}"), "UnknownIssuer").await;
    is_refused(&address.replace("rediss-cluster", "redis-cluster"), "redis:// is not encrypted").await;
    let unknown = address.replace("p%40ss", "another");
    let told = in_full(&open(&unknown).await.unwrap_err());
    assert!(
        told.contains("invalid username-password pair") || told.contains("AuthenticationFailed"),
        "{told}"
    );
    assert!(!told.contains("another"), "{told}");
}

/// `postgres://..` without what it says of TLS.
fn base(variable: &str) -> String {
    server(variable).split('?').next().unwrap().to_owned()
}

/// What docs/operations.md says of both: checked with an authority, and not at all without a word of it.
async fn sql(variable: &str, [mode, ca, full, authority]: [&str; 4]) {
    let store = async |parameters: &str| {
        let table = format!(
            "tls{}",
            &Revision::random().as_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>()[..16]
        );
        let options = SqlStoreOptions::new().table(table).create_table(true);
        options.connect(&format!("{}{parameters}", base(variable))).await
    };
    let (trusted, other) = (path("ca.pem"), path("other.pem"));
    let (trusted, other) = (trusted.display(), other.display());
    works(&store(&format!("?{mode}={full}&{ca}={trusted}")).await.unwrap()).await;
    for (parameters, host) in [
        (format!("?{mode}={full}&{ca}={other}"), "127.0.0.1"),
        (format!("?{mode}={full}"), "127.0.0.1"),
        (format!("?{mode}={full}&{ca}={trusted}"), "localhost"),
    ] {
        let address = format!("{}{parameters}", base(variable).replace("127.0.0.1", host));
        let refused = SqlStoreOptions::new().create_table(true).connect(&address).await.unwrap_err();
        assert!(
            in_full(&refused).contains("invalid peer certificate"),
            "{parameters}: {}",
            in_full(&refused)
        );
    }
    let at_localhost = base(variable).replace("127.0.0.1", "localhost");
    let address = format!("{at_localhost}?{mode}={authority}&{ca}={trusted}");
    works(&SqlStoreOptions::new().table("tls_authority").create_table(true).connect(&address).await.unwrap())
        .await;
    // Without a word of it anybody's certificate will do, as the page warns.
    works(&store("").await.unwrap()).await;
}

#[tokio::test]
async fn postgres_is_trusted_as_the_page_says() {
    sql("TEST_POSTGRES", ["sslmode", "sslrootcert", "verify-full", "verify-ca"]).await;
}

#[tokio::test]
async fn mariadb_is_trusted_as_the_page_says() {
    sql("TEST_MYSQL", ["ssl-mode", "ssl-ca", "VERIFY_IDENTITY", "VERIFY_CA"]).await;
}

/// A server that has no TLS: what it is sent after it has said so; nothing if the client goes.
async fn after_no_tls(parameters: &str) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = format!("postgres://ada@127.0.0.1:{port}/app{parameters}");
    let client = tokio::spawn(async move { SqlStoreOptions::new().connect(&address).await.map(drop) });
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut request = [0; 8];
    connection.read_exact(&mut request).await.unwrap();
    assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "it asks for TLS");
    connection.write_all(b"N").await.unwrap();
    let mut sent = vec![0; 1_000];
    let len = connection.read(&mut sent).await.unwrap();
    sent.truncate(len);
    drop((connection, listener));
    assert!(client.await.unwrap().is_err());
    sent
}

#[tokio::test]
async fn what_asks_for_no_tls_goes_on_without_and_what_does_sends_nothing() {
    let sent = after_no_tls("").await;
    assert!(sent.windows(4).any(|text| text == b"ada\0"), "the page warns of that");
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_eq!(after_no_tls(&format!("?sslmode={mode}")).await, b"", "{mode}");
    }
}

/// TLS in front of a server that has none of its own.
async fn in_front_of(target: String) -> u16 {
    let chain = CertificateDer::pem_file_iter(path("server.pem")).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(path("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(target).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_is_trusted_as_the_page_says() {
    let address = server("TEST_MONGODB");
    let target = address.strip_prefix("mongodb://").unwrap().split('/').next().unwrap().to_owned();
    let port = in_front_of(target).await;
    let by = |host: &str, tls: &str| {
        format!("mongodb://{host}:{port}/test?directConnection=true&serverSelectionTimeoutMS=3000&{tls}")
    };
    let ca = |name: &str| format!("tls=true&tlsCAFile={}", path(name).display());
    works(&*open(&by("127.0.0.1", &ca("ca.pem"))).await.unwrap()).await;
    for (host, tls) in
        [("127.0.0.1", "tls=true".into()), ("127.0.0.1", ca("other.pem")), ("localhost", ca("ca.pem"))]
    {
        is_refused(&by(host, &tls), "invalid peer certificate").await;
    }
}
