//! Whether sessions are bound to devices, and how.

use std::time::Duration;

use super::SessionsBuilder;
use crate::core::cookie::Secure;
use crate::core::device::{Binder, DeviceBinding, MAX_PROOF_LIFETIME};
use crate::core::error::ConfigError;

/// Ten minutes: browsers fetch a proof some minutes before the last one ends, and sign a few times in as many minutes at most.
const PROOF_LIFETIME: Duration = Duration::from_secs(10 * 60);
const MIN_PROOF_LIFETIME: Duration = Duration::from_secs(1);
/// What the default path has between the cookie's and its name.
const SEGMENT: &str = "device-binding/";

/// What was said of it.
#[derive(Default)]
pub(super) struct DeviceConfig {
    mode: Option<DeviceBinding>,
    path: Option<String>,
    proof_lifetime: Option<Duration>,
}

#[cfg(feature = "device-binding")]
impl SessionsBuilder {
    /// Binds sessions to the device of their browser (Device Bound Session Credentials); by default none are.
    ///
    /// The answer to [`authenticate`](crate::Session::authenticate) offers it, the browser makes a key pair that stays on the device,
    /// and from then on the session's cookie is good for nothing without a proof of that key, which the browser renews by itself
    /// every few minutes. See the guide `device_binding` for which browsers do so, and for what it does not help against.
    ///
    /// It is for the middleware of actix-web and the layer of tower, which answer [a path](Self::device_binding_path) by themselves;
    /// [`Sessions::commit`](crate::Sessions::commit) offers nothing. It needs [`Secure::Always`] and no [`domain`](Self::domain),
    /// since browsers prove a device to the origin alone that has asked for it.
    ///
    /// Switched off again, bound sessions go on as if they were not.
    ///
    /// ```
    /// use sealed_session::{DeviceBinding, Key, KeyRing, Sessions};
    ///
    /// let sessions = Sessions::builder(KeyRing::new(Key::generate()))
    ///     .device_binding(DeviceBinding::WhereOffered)
    ///     .build()?;
    /// # Ok::<(), sealed_session::ConfigError>(())
    /// ```
    pub fn device_binding(mut self, binding: DeviceBinding) -> Self {
        self.device.mode = Some(binding);
        self
    }

    /// The path that browsers register devices and fetch proofs at; the default is `device-binding/` and the cookie's name under
    /// the cookie's `Path`, such as `/device-binding/__Host-Http-session`. It must lie under that `Path`. The middleware answers
    /// each `POST` to it, whatever route the application has there, and has to see the path as the browser asks for it.
    pub fn device_binding_path(mut self, path: impl Into<String>) -> Self {
        self.device.path = Some(path.into());
        self
    }

    /// For how long a proof is good, which is how long a thief has the session with copied cookies; the default is 10 minutes,
    /// from 1 s to 24 hours. Browsers keep it for a minute less, or for half of it if that is longer.
    ///
    /// A proof lives as long as was said when it was given out, also after a change, and on servers with another lifetime.
    ///
    /// Chromium signs at most some six times in nine minutes for a site, so less than five minutes leaves its users without
    /// proofs at times.
    pub fn proof_lifetime(mut self, lifetime: Duration) -> Self {
        self.device.proof_lifetime = Some(lifetime);
        self
    }
}

impl SessionsBuilder {
    /// What binds sessions to devices, if anything does.
    pub(super) fn binder(&self) -> Result<Option<Binder>, ConfigError> {
        let DeviceConfig { mode, path, proof_lifetime } = &self.device;
        let Some(mode) = *mode else {
            let setting = match (path, proof_lifetime) {
                (Some(_), _) => "device_binding_path",
                (_, Some(_)) => "proof_lifetime",
                _ => return Ok(None),
            };
            return Err(ConfigError::NeedsDeviceBinding { setting });
        };
        let cookie = &self.cookie;
        if cookie.secure != Secure::Always {
            let (attribute, secure) = ("device_binding", cookie.secure.as_str());
            return Err(ConfigError::NeedsSecure { attribute, secure });
        }
        if let Some(domain) = &cookie.domain {
            let reason =
                "with device_binding there can be none, because browsers prove a device to one origin alone";
            return Err(ConfigError::Attribute { attribute: "domain", value: domain.clone(), reason });
        }
        if cookie.partitioned {
            let reason = "with device_binding it cannot be, because browsers bind no partitioned cookies";
            return Err(ConfigError::Attribute { attribute: "partitioned", value: "true".into(), reason });
        }
        let under =
            if cookie.path.ends_with('/') { cookie.path.clone() } else { format!("{}/", cookie.path) };
        let path = path.clone().unwrap_or_else(|| format!("{under}{SEGMENT}{}", cookie.name));
        let refused = |reason| Err(ConfigError::DevicePath { value: path.clone(), reason });
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+=:@,|^`".contains(&byte);
        if !path.starts_with(&under) {
            return refused("it must lie under the cookie's `Path`, or the cookie would not come along");
        }
        if !path.bytes().all(plain) {
            return refused("a path may have letters, digits, `/` and -._~!$&'()*+=:@ in it, and no query");
        }
        let (setting, value) = ("proof_lifetime", proof_lifetime.unwrap_or(PROOF_LIFETIME));
        let (min, max) = (MIN_PROOF_LIFETIME, MAX_PROOF_LIFETIME);
        if !(min..=max).contains(&value) {
            return Err(ConfigError::OutOfRange { setting, value, min, max });
        }
        Ok(Some(Binder::new(self.engine, &self.keys, cookie, (mode, path, value), self.sink.clone())))
    }
}
