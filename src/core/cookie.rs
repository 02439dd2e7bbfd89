//! The cookie around the sealed value: finding it among the request's headers, checking its attributes, writing it.

mod scan;

use cookie::Cookie;

pub(crate) use self::scan::{scan, scan_both, scan_suffixed, unquoted};
use crate::core::browser::{MAX_ATTRIBUTE_BYTES, MAX_NAME_VALUE_BYTES};
use crate::core::envelope;
use crate::core::error::ConfigError;

const MAX_AGE: &str = "; Max-Age=";
/// Room for `; Max-Age=34560000`: browsers keep no cookie for longer than 400 days.
const MAX_AGE_ROOM: usize = MAX_AGE.len() + "34560000".len();
/// A name longer than this leaves no room that is worth having.
const MAX_NAME_BYTES: usize = 256;

/// The `SameSite` attribute: on which cross-site requests browsers send the cookie (draft RFC 6265bis, section 5.6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SameSite {
    /// On none.
    Strict,
    /// On top-level navigations with a safe method only. The default.
    #[default]
    Lax,
    /// On all. Needs `Secure`.
    None,
}

/// Whether the cookie carries `Secure`, without which it would also travel over plain HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Secure {
    /// On every response. The default. Browsers accept such cookies from `http://localhost` too.
    #[default]
    Always,
    /// Never: for plain HTTP only, and not allowed with the name prefixes that promise otherwise.
    Never,
    /// Where the request came over HTTPS, as the framework tells.
    ///
    /// # Security
    /// Behind a proxy that is what its forwarding headers claim, so let it set or strip them.
    Auto,
}

impl Secure {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Secure::Always",
            Self::Never => "Secure::Never",
            Self::Auto => "Secure::Auto",
        }
    }
}

/// Name and attributes of the cookie, as configured.
#[derive(Debug, Clone)]
pub(crate) struct CookieConfig {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) domain: Option<String>,
    pub(crate) secure: Secure,
    pub(crate) http_only: bool,
    pub(crate) same_site: SameSite,
    pub(crate) partitioned: bool,
    pub(crate) persistent: bool,
    /// Path and domain that it had in earlier releases.
    pub(crate) formerly: Vec<(String, Option<String>)>,
}

impl Default for CookieConfig {
    fn default() -> Self {
        Self {
            name: "__Host-Http-session".into(),
            path: "/".into(),
            domain: None,
            secure: Secure::Always,
            http_only: true,
            same_site: SameSite::Lax,
            partitioned: false,
            persistent: true,
            formerly: Vec::new(),
        }
    }
}

impl CookieConfig {
    /// Refuses what browsers would refuse, and what could break out of the header.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        self.validate_name()?;
        validate_place(["path", "domain"], &self.path, self.domain.as_deref())?;
        let now = place(&self.path, self.domain.as_deref());
        for (path, domain) in &self.formerly {
            validate_place(["the path of formerly", "the domain of formerly"], path, domain.as_deref())?;
            let refused = |reason| {
                let value = format!("path {path}, domain {}", domain.as_deref().unwrap_or("none"));
                Err(ConfigError::Attribute { attribute: "formerly", value, reason })
            };
            if place(path, domain.as_deref()) == now {
                return refused("that is the cookie itself, which each response would remove");
            }
            if has_prefix(&self.name, "__Host-") {
                return refused(
                    "a name with the prefix `__Host-` never had another path than `/`, or a domain",
                );
            }
        }
        let needs_secure =
            [(self.same_site == SameSite::None, "SameSite=None"), (self.partitioned, "Partitioned")];
        for (set, attribute) in needs_secure {
            if set && self.secure != Secure::Always {
                return Err(ConfigError::NeedsSecure { attribute, secure: self.secure.as_str() });
            }
        }
        Ok(())
    }

    fn validate_name(&self) -> Result<(), ConfigError> {
        let name = |reason| Err(ConfigError::Name { name: self.name.clone(), reason });
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if self.name.is_empty() {
            return name("it is empty");
        }
        if !self.name.bytes().all(token) {
            return name("only letters, digits and !#$%&'*+-.^_`|~ may stand in it");
        }
        if self.name.len() > MAX_NAME_BYTES {
            return name("it has more than 256 bytes");
        }
        let secure = (self.secure == Secure::Always, "secure(Secure::Always) is set");
        let http_only = (self.http_only, "http_only(true) is set");
        let host = (self.domain.is_none(), "no domain is set");
        let root = (self.path == "/", "the path is `/`");
        // The longer prefixes first: each name has one.
        let prefixes: [(&'static str, &[(bool, &'static str)]); 4] = [
            ("__Host-Http-", &[secure, http_only, host, root]),
            ("__Host-", &[secure, host, root]),
            ("__Http-", &[secure, http_only]),
            ("__Secure-", &[secure]),
        ];
        let Some((prefix, rules)) = prefixes.into_iter().find(|(prefix, _)| has_prefix(&self.name, prefix))
        else {
            return Ok(());
        };
        match rules.iter().find(|(kept, _)| !kept) {
            Some(&(_, needs)) => Err(ConfigError::Prefix { name: self.name.clone(), prefix, needs }),
            None => Ok(()),
        }
    }
}

fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Where a browser keeps a cookie, beside its name: its path, and its domain or that it is the host's alone.
fn place<'p>(path: &'p str, domain: Option<&str>) -> (&'p str, Option<String>) {
    (path, domain.map(|domain| domain.trim_start_matches('.').to_ascii_lowercase()))
}

/// Refuses a path and a domain that browsers would not take, or that break out of the header.
fn validate_place(
    [path_name, domain_name]: [&'static str; 2],
    path: &str,
    domain: Option<&str>,
) -> Result<(), ConfigError> {
    let attribute = |attribute, value: &str, reason| {
        Err(ConfigError::Attribute { attribute, value: value.to_owned(), reason })
    };
    for (name, value) in [(path_name, Some(path)), (domain_name, domain)] {
        let Some(value) = value else { continue };
        if value.len() > MAX_ATTRIBUTE_BYTES {
            return attribute(name, value, "browsers ignore attributes of more than 1,024 bytes");
        }
        if value.bytes().any(|b| !(b' '..=b'~').contains(&b) || b == b';') || value.trim() != value {
            return attribute(
                name,
                value,
                "it may have neither `;` nor control or non-ASCII characters, nor spaces around it",
            );
        }
    }
    if !path.starts_with('/') {
        return attribute(path_name, path, "it must start with `/`");
    }
    if let Some(domain) = domain {
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if !domain.strip_prefix('.').unwrap_or(domain).split('.').all(label) {
            return attribute(domain_name, domain, "it must be a host name such as `example.com`");
        }
    }
    Ok(())
}

/// The `Set-Cookie` values of one response.
#[derive(Default)]
pub(crate) struct SetCookies {
    /// The session's own.
    pub(crate) own: Option<SetCookie>,
    /// Removals of what earlier releases set.
    pub(crate) former: Vec<SetCookie>,
    /// The session was over by then, so what the request did to it is lost. Flash messages ask for it.
    #[cfg_attr(not(any(feature = "actix", feature = "tower")), allow(dead_code))]
    pub(crate) lost: bool,
    /// What the browser is told about the device that the session is bound to.
    pub(crate) device: Option<Box<DeviceLines>>,
}

/// What goes out beside the session's cookie where sessions are bound to devices; frameworks alone send more than cookies.
#[derive(Default)]
#[cfg_attr(not(any(feature = "actix", feature = "tower")), allow(dead_code))]
pub(crate) struct DeviceLines {
    /// The proof's removal.
    pub(crate) proof: Option<SetCookie>,
    /// The value of `Secure-Session-Registration`.
    pub(crate) registration: Option<Vec<u8>>,
    /// The value of `Secure-Session-Challenge`.
    pub(crate) challenge: Option<Vec<u8>>,
}

impl SetCookies {
    pub(crate) fn lost() -> Self {
        Self { lost: true, ..Self::default() }
    }

    pub(crate) fn into_texts(self) -> Vec<String> {
        self.into_lines(None).map(SetCookie::into_text).collect()
    }

    /// In the order in which they are sent, with that of flash messages. What was formerly set goes first, because its removal
    /// may hit the new one too (RFC 6265, section 5.3, does not tell a host's own cookie from its domain's). Other removals
    /// go last, because curl 7 forgets them when another line follows.
    pub(crate) fn into_lines(self, flash: Option<SetCookie>) -> impl Iterator<Item = SetCookie> {
        let Self { mut own, former, device, .. } = self;
        let removal = own.take_if(|own| own.removes);
        let proof = device.and_then(|device| device.proof);
        former.into_iter().chain(own).chain(flash).chain(removal).chain(proof)
    }
}

/// The value of a `Set-Cookie` header. It is ASCII; as text it would be looked through once more than headers do anyway.
pub(crate) struct SetCookie {
    line: Vec<u8>,
    /// Whether it makes the browser forget the cookie.
    removes: bool,
}

impl SetCookie {
    pub(crate) fn removes(&self) -> bool {
        self.removes
    }

    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.line
    }

    pub(crate) fn into_text(self) -> String {
        String::from_utf8(self.line).expect("name, base64url and attributes are ASCII")
    }
}

/// Writes `Set-Cookie` values: the attributes are rendered once.
#[derive(Debug)]
pub(crate) struct CookieWriter {
    name: String,
    secure: Secure,
    persistent: bool,
    partitioned: bool,
    attributes: String,
    attributes_with_secure: String,
    /// What removes the cookies of earlier releases, without `Secure` and with it.
    formerly: Vec<[String; 2]>,
}

impl CookieWriter {
    pub(crate) fn new(config: &CookieConfig) -> Self {
        Self {
            name: config.name.clone(),
            secure: config.secure,
            persistent: config.persistent,
            partitioned: config.partitioned,
            attributes: attributes(config, false),
            attributes_with_secure: attributes(config, true),
            formerly: config.formerly.iter().map(|former| removals(config, former)).collect(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn secure(&self) -> Secure {
        self.secure
    }

    /// Whether browsers keep it in a jar per top-level site.
    pub(crate) fn partitioned(&self) -> bool {
        self.partitioned
    }

    /// Whether the configuration lets browsers keep the cookie when they are closed.
    pub(crate) fn persistent(&self) -> bool {
        self.persistent
    }

    /// The longest plaintext whose name + value have at most [`MAX_NAME_VALUE_BYTES`].
    pub(crate) fn max_plaintext_len(&self) -> usize {
        envelope::max_plaintext_len(MAX_NAME_VALUE_BYTES - self.name.len()).unwrap_or(0)
    }

    /// The most that [`set`](Self::set) makes of a name and value of this length.
    pub(crate) fn line_len(&self, secure: bool, name_value: usize) -> usize {
        name_value + 1 + self.attributes(secure).len() + MAX_AGE_ROOM
    }

    /// The whole `Set-Cookie` value. `seal` appends the cookie's value; name and value have `name_value` bytes.
    pub(crate) fn set(
        &self,
        secure: bool,
        max_age: Option<i64>,
        name_value: usize,
        seal: impl FnOnce(&mut Vec<u8>),
    ) -> SetCookie {
        self.set_as(&self.name, secure, max_age, name_value, seal)
    }

    /// The same under another name that is as good.
    pub(crate) fn set_as(
        &self,
        name: &str,
        secure: bool,
        max_age: Option<i64>,
        name_value: usize,
        seal: impl FnOnce(&mut Vec<u8>),
    ) -> SetCookie {
        let attributes = self.attributes(secure);
        // To the byte, so that the header takes the line as it is.
        let digits = |seconds: i64| 1 + seconds.checked_ilog10().unwrap_or(0) as usize;
        let max_age_len = max_age.map_or(0, |seconds| MAX_AGE.len() + digits(seconds));
        let mut out = Vec::with_capacity(name_value + 1 + attributes.len() + max_age_len);
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        seal(&mut out);
        out.extend_from_slice(attributes.as_bytes());
        if let Some(mut seconds) = max_age {
            out.extend_from_slice(MAX_AGE.as_bytes());
            let start = out.len();
            out.resize(start + digits(seconds), 0);
            for digit in out[start..].iter_mut().rev() {
                *digit = b'0' + (seconds % 10) as u8;
                seconds /= 10;
            }
        }
        SetCookie { line: out, removes: false }
    }

    /// The `Set-Cookie` value that makes the browser forget the cookie.
    pub(crate) fn remove(&self, secure: bool) -> SetCookie {
        self.remove_as(&self.name, secure)
    }

    /// The same for another name that is as good.
    pub(crate) fn remove_as(&self, name: &str, secure: bool) -> SetCookie {
        SetCookie { line: removal(name, self.attributes(secure)).into_bytes(), removes: true }
    }

    /// The `Set-Cookie` values that make the browser forget what earlier releases have set.
    pub(crate) fn remove_former(&self, secure: bool) -> Vec<SetCookie> {
        let line = |lines: &[String; 2]| SetCookie {
            line: lines[usize::from(self.is_secure(secure))].clone().into_bytes(),
            removes: true,
        };
        self.formerly.iter().map(line).collect()
    }

    /// The lengths of what [`remove_former`](Self::remove_former) yields.
    pub(crate) fn former_lens(&self, secure: bool) -> impl Iterator<Item = usize> {
        self.formerly.iter().map(move |lines| lines[usize::from(self.is_secure(secure))].len())
    }

    fn is_secure(&self, secure: bool) -> bool {
        match self.secure {
            Secure::Always => true,
            Secure::Never => false,
            Secure::Auto => secure,
        }
    }

    /// What stands behind the value, but for `Max-Age`: `; ` and the attributes.
    pub(crate) fn attributes(&self, secure: bool) -> &str {
        if self.is_secure(secure) { &self.attributes_with_secure } else { &self.attributes }
    }
}

fn removal(name: &str, attributes: &str) -> String {
    format!("{name}={attributes}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
}

/// What removes a cookie that an earlier release has set with this path and domain.
fn removals(config: &CookieConfig, (path, domain): &(String, Option<String>)) -> [String; 2] {
    let former = CookieConfig { path: path.clone(), domain: domain.clone(), ..config.clone() };
    [false, true].map(|secure| removal(&config.name, &attributes(&former, secure)))
}

fn attributes(config: &CookieConfig, secure: bool) -> String {
    let mut cookie = Cookie::build((config.name.as_str(), ""))
        .path(config.path.as_str())
        .http_only(config.http_only)
        .secure(secure)
        .same_site(match config.same_site {
            SameSite::Strict => cookie::SameSite::Strict,
            SameSite::Lax => cookie::SameSite::Lax,
            SameSite::None => cookie::SameSite::None,
        });
    // The crate writes `Secure` with `Partitioned`, so it is asked for where `Secure` stands anyway.
    if config.partitioned {
        cookie = cookie.partitioned(true);
    }
    if let Some(domain) = &config.domain {
        cookie = cookie.domain(domain.as_str());
    }
    let line = cookie.build().to_string();
    line[config.name.len() + 1..].to_owned()
}

#[cfg(test)]
#[path = "cookie/tests.rs"]
mod tests;
