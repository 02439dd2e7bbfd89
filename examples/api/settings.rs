//! What the environment says: the sessions, the port, and whether TLS is spoken there.

use std::env::{self, VarError};
use std::sync::Arc;
use std::time::Duration;

use sealed_session::store::{self, Store};
use sealed_session::{
    CrossSite, FailurePolicy, Key, KeyRing, Lifetime, Overflow, Revocation, SameSite, Secure, Sessions,
    SessionsBuilder,
};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The port to listen on; 0 takes a free one.
pub(crate) fn port() -> Result<u16, String> {
    Ok(setting("PORT", "from 0 to 65535", |value| value.parse().ok())?.unwrap_or(8080))
}

/// What the log has at least.
pub(crate) fn log() -> Result<tracing::Level, String> {
    let level = setting("LOG", "error, warn, info, debug or trace", |value| value.parse().ok())?;
    Ok(level.unwrap_or(tracing::Level::WARN))
}

/// The certificate and its key, if the server is to speak HTTPS.
pub(crate) fn tls() -> Result<Option<ServerConfig>, String> {
    let (certificate, key) = match (var("TLS_CERT")?, var("TLS_KEY")?) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(path), None) => {
            return Err(format!("TLS_CERT is {path:?}, but TLS_KEY is not set: set both, or neither"));
        }
        (None, Some(path)) => {
            return Err(format!("TLS_KEY is {path:?}, but TLS_CERT is not set: set both, or neither"));
        }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&certificate).and_then(Iterator::collect);
    let chain =
        chain.and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) });
    let chain = chain.map_err(|error| format!("TLS_CERT is {certificate:?}: {error}"))?;
    let private = PrivateKeyDer::from_pem_file(&key);
    let private = private.map_err(|error| format!("TLS_KEY is {key:?}: {error}"))?;
    // Named, because rustls finds its provider by itself only as long as no crate enables a second one.
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, private))
        .map(Some)
        .map_err(|error| format!("TLS_CERT is {certificate:?} and TLS_KEY {key:?}: {error}"))
}

/// Whether the sessions outlive this process.
pub(crate) fn has_keys() -> bool {
    ["SESSION_KEYS", "SESSION_KEY_FILE"].iter().any(|name| env::var_os(name).is_some())
}

/// A variable's value, or none if it is not set.
fn var(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(value)) => Err(format!("{name} is {value:?}, but it must be Unicode")),
    }
}

/// A variable's meaning. `right` says what it may be.
fn setting<T>(name: &str, right: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, String> {
    let Some(value) = var(name)? else { return Ok(None) };
    read(&value).map(Some).ok_or_else(|| format!("{name} is {value:?}, but it must be {right}"))
}

fn one_of<T: Copy>(name: &str, right: &str, choices: &[(&str, T)]) -> Result<Option<T>, String> {
    let choose = |value: &str| choices.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
    setting(name, right, choose)
}

fn switch(name: &str) -> Result<Option<bool>, String> {
    one_of(name, "true or false", &[("true", true), ("false", false), ("1", true), ("0", false)])
}

fn millis(name: &str) -> Result<Option<Duration>, String> {
    setting(name, "a whole number of milliseconds", |value| value.parse().ok().map(Duration::from_millis))
}

fn keys() -> Result<KeyRing, String> {
    match (var("SESSION_KEYS")?, var("SESSION_KEY_FILE")?) {
        (Some(_), Some(file)) => {
            Err(format!("SESSION_KEYS is set, and so is SESSION_KEY_FILE, to {file:?}: unset one"))
        }
        (Some(list), None) => {
            KeyRing::parse(&list).map_err(|error| format!("SESSION_KEYS: {}", in_full(&error)))
        }
        (None, Some(file)) => {
            KeyRing::open_or_create(&file).map_err(|error| format!("SESSION_KEY_FILE: {}", in_full(&error)))
        }
        (None, None) => Ok(KeyRing::new(Key::generate())),
    }
}

/// An error with its causes, in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| {
        let cause = cause.to_string();
        // Some errors tell their cause themselves.
        if line.contains(&cause) { line } else { format!("{line}: {cause}") }
    })
}

fn bytes(name: &str) -> Result<Option<usize>, String> {
    setting(name, "a whole number of bytes", |value| value.parse().ok())
}

/// Opens the store that `STORE` names.
async fn store() -> Result<Option<Arc<dyn Store>>, String> {
    let Some(address) = var("STORE")?.filter(|address| address != "none") else { return Ok(None) };
    store::open_lazy(&address).await.map(Some).map_err(|error| format!("STORE: {}", in_full(&error)))
}

fn revocation() -> Result<Option<Revocation>, String> {
    setting("REVOCATION", "off, every-request or a whole number of milliseconds", |value| match value {
        "off" => Some(Revocation::Off),
        "every-request" => Some(Revocation::EveryRequest),
        _ => value.parse().ok().map(Duration::from_millis).map(Revocation::Every),
    })
}

/// How many sessions a subject may have, and what becomes of one more.
fn most() -> Result<Option<(usize, Overflow)>, String> {
    let most = setting("MAX_SESSIONS", "a whole number", |value| value.parse().ok())?;
    let ways = [("end-oldest", Overflow::EndOldest), ("refuse", Overflow::Refuse)];
    match (most, one_of("OVERFLOW", "end-oldest or refuse", &ways)?) {
        (None, Some(_)) => {
            let overflow = var("OVERFLOW")?.unwrap_or_default();
            Err(format!(
                "OVERFLOW is {overflow:?}, but MAX_SESSIONS is not set: set it too, or unset OVERFLOW"
            ))
        }
        (most, overflow) => Ok(most.map(|most| (most, overflow.unwrap_or(Overflow::EndOldest)))),
    }
}

/// Binds sessions to devices, as `DEVICE_BINDING` and `PROOF_MS` say.
#[cfg(feature = "device-binding")]
fn bound(mut builder: SessionsBuilder) -> Result<SessionsBuilder, String> {
    use sealed_session::DeviceBinding;

    let bindings = [
        ("off", None),
        ("offered", Some(DeviceBinding::WhereOffered)),
        ("required", Some(DeviceBinding::Required)),
    ];
    let lifetime = millis("PROOF_MS")?;
    if let Some(Some(binding)) = one_of("DEVICE_BINDING", "off, offered or required", &bindings)? {
        builder = builder.device_binding(binding);
        if let Some(lifetime) = lifetime {
            builder = builder.proof_lifetime(lifetime);
        }
    }
    Ok(builder)
}

#[cfg(not(feature = "device-binding"))]
fn bound(builder: SessionsBuilder) -> Result<SessionsBuilder, String> {
    one_of("DEVICE_BINDING", "off, or built with the feature device-binding", &[("off", ())])?;
    millis("PROOF_MS")?;
    Ok(builder)
}

/// Domain and path of cookies that earlier releases set.
fn formerly() -> Result<Vec<(Option<String>, String)>, String> {
    let place = |text: &str| {
        let (domain, path) = text.trim().split_once('/')?;
        Some(((!domain.is_empty()).then(|| domain.to_owned()), format!("/{path}")))
    };
    let read = |value: &str| value.split(',').map(place).collect();
    Ok(setting("FORMERLY", "paths such as /app, or example.com/app, comma-separated", read)?
        .unwrap_or_default())
}

/// The sessions that are configured.
pub(crate) async fn sessions() -> Result<Sessions, String> {
    let mut lifetime = millis("DURATION_MS")?.map_or_else(Lifetime::default, Lifetime::new);
    if let Some(active) = millis("ACTIVE_MS")? {
        lifetime = if active.is_zero() { lifetime.fixed() } else { lifetime.active(active) };
    }
    if let Some(absolute) = millis("ABSOLUTE_MS")? {
        lifetime = lifetime.absolute(absolute);
    }
    if let Some(idle) = millis("IDLE_MS")? {
        lifetime = lifetime.idle(idle);
    }
    let secure = [("always", Secure::Always), ("never", Secure::Never), ("auto", Secure::Auto)];
    let same_site = [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
    let secure = one_of("SECURE", "always, never or auto", &secure)?;
    let same_site = one_of("SAME_SITE", "strict, lax or none", &same_site)?;
    let (persistent, rolling) = (switch("PERSISTENT")?, switch("ROLLING")?);
    let policies = [("open", FailurePolicy::Open), ("closed", FailurePolicy::Closed)];
    let on_failure = one_of("REVOCATION_FAILURE", "open or closed", &policies)?;

    let cross_site = [
        ("refuse", CrossSite::Refuse),
        ("allow-same-site", CrossSite::AllowSameSite),
        ("anonymous", CrossSite::Anonymous),
        ("allow", CrossSite::Allow),
    ];
    let cross_site = one_of("CROSS_SITE", "refuse, allow-same-site, anonymous or allow", &cross_site)?;

    let mut builder = Sessions::builder(keys()?).lifetime(lifetime);
    if let Some(policy) = cross_site {
        builder = builder.cross_site(policy);
    }
    for origin in var("TRUSTED_ORIGINS")?.iter().flat_map(|list| list.split(',')) {
        builder = builder.trusted_origin(origin.trim());
    }
    if let Some(store) = store().await? {
        builder = builder.store(store);
    }
    if let Some(revocation) = revocation()? {
        builder = builder.revocation(revocation);
    }
    if let Some(policy) = on_failure {
        builder = builder.revocation_failure(policy);
    }
    if let Some((most, overflow)) = most()? {
        builder = builder.max_sessions(most, overflow);
    }
    if let Some(timeout) = millis("STORE_TIMEOUT_MS")? {
        builder = builder.store_timeout(timeout);
    }
    if let Some(bytes) = bytes("SPILL_ABOVE")? {
        builder = builder.spill_above(bytes);
    }
    if let Some(bytes) = bytes("RESPONSE_HEAD_BUDGET")? {
        builder = builder.response_head_budget(bytes);
    }
    if let Some(bytes) = bytes("RESPONSE_HEAD_RESERVE")? {
        builder = builder.response_head_reserve(bytes);
    }
    if let Some(name) = var("COOKIE_NAME")? {
        builder = builder.cookie_name(name);
    }
    if let Some(path) = var("COOKIE_PATH")? {
        builder = builder.path(path);
    }
    if let Some(domain) = var("COOKIE_DOMAIN")? {
        builder = builder.domain(domain);
    }
    for (domain, path) in formerly()? {
        builder = builder.formerly(path, domain.as_deref());
    }
    if let Some(secure) = secure {
        builder = builder.secure(secure);
    }
    if let Some(same_site) = same_site {
        builder = builder.same_site(same_site);
    }
    if let Some(persistent) = persistent {
        builder = builder.persistent(persistent);
    }
    if let Some(rolling) = rolling {
        builder = builder.rolling(rolling);
    }
    bound(builder)?.build().map_err(|error| format!("{error} ({})", what_is_set()))
}

/// The settings that may contradict one another.
fn what_is_set() -> String {
    let names = [
        "COOKIE_NAME",
        "COOKIE_PATH",
        "COOKIE_DOMAIN",
        "FORMERLY",
        "SECURE",
        "SAME_SITE",
        "CROSS_SITE",
        "TRUSTED_ORIGINS",
        "DURATION_MS",
        "ACTIVE_MS",
        "ABSOLUTE_MS",
        "IDLE_MS",
        "STORE",
        "STORE_TIMEOUT_MS",
        "SPILL_ABOVE",
        "RESPONSE_HEAD_BUDGET",
        "RESPONSE_HEAD_RESERVE",
        "REVOCATION",
        "REVOCATION_FAILURE",
        "MAX_SESSIONS",
        "OVERFLOW",
        "DEVICE_BINDING",
        "PROOF_MS",
    ];
    let set = names.iter().filter_map(|name| env::var(name).ok().map(|value| format!("{name}={value:?}")));
    set.collect::<Vec<_>>().join(", ")
}
