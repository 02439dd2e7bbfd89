//! TLS to Redis: whose certificates are trusted, and which one the server is shown.

use std::path::{Path, PathBuf};

use redis::{ClientTlsConfig, TlsCertificates};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::core::error::StoreError;

/// What an address may say of it behind its `?`, by the names that clients in Python know, which are of files in PEM.
const ROOTS: &str = "ssl_ca_certs";
const CHAIN: &str = "ssl_certfile";
const KEY: &str = "ssl_keyfile";

/// What the options and the addresses say, in PEM.
#[derive(Clone, Default)]
pub(super) struct Tls {
    pub(super) roots: Option<Vec<u8>>,
    pub(super) client: Option<ClientTlsConfig>,
    /// The scheme of an address without TLS.
    in_the_clear: Option<String>,
}

impl Tls {
    /// The address without what it says of certificates, whose files are read.
    pub(super) fn take_from(&mut self, address: &str) -> Result<String, StoreError> {
        // What is no address at all is the driver's to explain.
        let Some(mut url) = redis::parse_redis_url(address) else { return Ok(address.to_owned()) };
        let is_encrypted = is_encrypted(url.scheme());
        if is_encrypted {
            install_crypto();
        }
        let (mut roots, mut chain, mut key, mut others) = (None, None, None, Vec::new());
        for (name, value) in url.query_pairs() {
            match &*name {
                ROOTS => roots = Some(PathBuf::from(&*value)),
                CHAIN => chain = Some(PathBuf::from(&*value)),
                KEY => key = Some(PathBuf::from(&*value)),
                other if other.starts_with("ssl") || other.starts_with("tls") => {
                    return Err(unusable(format!(
                        "`{other}` in the address means nothing to Redis, where rediss:// alone says TLS"
                    )));
                }
                _ => others.push((name.into_owned(), value.into_owned())),
            }
        }
        let says_nothing = roots.is_none() && chain.is_none() && key.is_none();
        if let Some(path) = roots {
            self.roots = Some(read(ROOTS, &path)?);
        }
        self.client = match (chain, key) {
            (Some(chain), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read(CHAIN, &chain)?, client_key: read(KEY, &key)? })
            }
            (None, None) => self.client.take(),
            (chain, _) => {
                let (said, missing) = if chain.is_some() { (CHAIN, KEY) } else { (KEY, CHAIN) };
                return Err(unusable(format!("`{said}` in the address needs `{missing}` beside it")));
            }
        };
        self.in_the_clear =
            self.in_the_clear.take().or_else(|| (!is_encrypted).then(|| url.scheme().to_owned()));
        if says_nothing {
            return Ok(address.to_owned());
        }
        if others.is_empty() {
            url.set_query(None);
        } else {
            url.query_pairs_mut().clear().extend_pairs(others);
        }
        Ok(url.into())
    }

    /// As the driver wants it; `None`: as it does by default.
    pub(super) fn certificates(self) -> Result<Option<TlsCertificates>, StoreError> {
        let Self { roots, client, in_the_clear } = self;
        let any = roots.is_some() || client.is_some();
        if let (true, Some(scheme)) = (any, in_the_clear) {
            return Err(unusable(format!(
                "{scheme}:// is not encrypted, so certificates are of no use there; with them it is rediss://"
            )));
        }
        // The driver would say so of each connection, and with a key that it cannot read show that.
        let are_certificates = |pem: &[u8]| {
            let found: Option<Vec<_>> = CertificateDer::pem_slice_iter(pem).map(Result::ok).collect();
            found.is_some_and(|found| !found.is_empty())
        };
        let whats_wrong = match (&roots, &client) {
            (Some(roots), _) if !are_certificates(roots) => {
                Some("the root certificates are no certificates in PEM")
            }
            (_, Some(client)) if !are_certificates(&client.client_cert) => {
                Some("the client's certificates are no certificates in PEM")
            }
            (_, Some(client)) if PrivateKeyDer::from_pem_slice(&client.client_key).is_err() => {
                Some("the client's key is no private key in PEM")
            }
            _ => None,
        };
        if let Some(what) = whats_wrong {
            return Err(unusable(what.into()));
        }
        Ok(any.then_some(TlsCertificates { client_tls: client, root_cert: roots }))
    }
}

fn is_encrypted(scheme: &str) -> bool {
    matches!(scheme, "rediss" | "valkeys")
}

fn read(name: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    // Whoever puts the key itself there must not find it in the log.
    let at = if name == KEY { String::new() } else { format!(", {}", path.display()) };
    let told = |error| unusable(format!("the file that `{name}` in the address names{at}: {error}"));
    std::fs::read(path).map_err(told)
}

fn unusable(why: String) -> StoreError {
    StoreError::Misconfigured(why.into())
}

/// rustls needs one crypto provider for the whole process, or an address with TLS panics.
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that another thread was faster, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
