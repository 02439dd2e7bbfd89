//! Flash messages: what one response wants the next page to say, once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::cookie::SetCookie;
use crate::error::TransientError;
use crate::session::Session;
use crate::sessions::Sessions;
use crate::short_cookie::TooLarge;
use crate::state::Origin;
use crate::value;

/// How a [`FlashMessage`] is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FlashLevel {
    /// Something that the user did has worked.
    Success,
    /// Something to know.
    Info,
    /// Something to look out for.
    Warning,
    /// Something that the user did has not worked.
    Error,
}

impl FlashLevel {
    /// `success`, `info`, `warning` or `error`: for the class of an element.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for FlashLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message. `Display` is its text.
///
/// # Security
/// The text is what the application put in: escape it when it goes into HTML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlashMessage {
    /// How it is meant.
    pub level: FlashLevel,
    /// What it says.
    pub text: String,
}

impl fmt::Display for FlashMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the cookie holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Content {
    /// Whose messages they are; none: nobody had logged in.
    subject: Option<String>,
    messages: Vec<FlashMessage>,
}

/// The extractor of a request's flash messages: what an earlier response left for the next page, and what this one leaves.
///
/// They travel in a cookie of their own, sealed, named like the session's with `-flash` behind it. So a message never
/// issues the session again, and costs neither the store nor who sends none. They last for five minutes. What was
/// [taken](Self::take) is removed from the browser; what was not stays for the page after that.
///
/// A message is shown to the user for whom it was written, and to nobody else: what was said to one subject is dropped where
/// another one, or nobody, takes it. What was said to nobody is shown to who logs in next. So authenticate first, and
/// say goodbye after `destroy`.
///
/// ```
/// use sealed_session::{Flash, Session, TransientError};
///
/// async fn save(session: Session, flash: Flash) -> Result<&'static str, TransientError> {
///     // ..
///     flash.success("Saved.")?;
///     Ok("and then a redirect to the page")
/// }
///
/// async fn page(flash: Flash) -> String {
///     flash.take().iter().map(|message| format!("[{}] {message}", message.level)).collect()
/// }
/// ```
///
/// Clones are the same messages. Two pages that are loaded at once may both show one.
#[derive(Clone)]
pub struct Flash {
    inner: Arc<Inner>,
}

struct Inner {
    sessions: Sessions,
    session: Session,
    messages: Mutex<Messages>,
}

#[derive(Default)]
struct Messages {
    /// What the cookie holds that came, if it could be read.
    came: Option<Content>,
    /// Whether one came, good or bad.
    is_there: bool,
    taken: bool,
    /// Each with whom it was written for.
    pushed: Vec<(Option<String>, FlashMessage)>,
    /// The response has left.
    sent: bool,
}

impl Sessions {
    /// The flash messages of a request with these `Cookie` headers, whose session this is. The middleware and the layer do
    /// it for the extractor [`Flash`]; who commits sessions by hand sends what [`Flash::commit`] returns.
    #[must_use]
    pub fn flash<H: AsRef<[u8]>>(
        &self,
        session: &Session,
        cookie_headers: impl IntoIterator<Item = H>,
    ) -> Flash {
        let mut messages = Messages::default();
        // Another site's page neither reads nor removes any.
        if session.origin() != Origin::CrossSite {
            let (is_there, bytes) = self.core.flash.look("", cookie_headers, self.now());
            messages.is_there = is_there;
            messages.came = bytes.and_then(|bytes| value::decode(&bytes).ok());
        }
        let inner =
            Inner { sessions: self.clone(), session: session.clone(), messages: Mutex::new(messages) };
        Flash { inner: Arc::new(inner) }
    }
}

impl Flash {
    fn with<R>(&self, f: impl FnOnce(&mut Messages) -> R) -> R {
        f(&mut self.inner.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves a message for the next page, behind those that nobody has taken yet.
    ///
    /// # Errors
    /// [`TransientError::TooLarge`] if all messages together would come to more than 1,024 bytes of name + value, some
    /// 600 characters; [`TransientError::CrossSite`] if another site's page made the request;
    /// [`TransientError::Committed`] if the response has left. The messages stay as they were.
    pub fn push(&self, level: FlashLevel, text: impl Into<String>) -> Result<(), TransientError> {
        let message = FlashMessage { level, text: text.into() };
        let subject = self.inner.session.subject();
        if self.inner.session.origin() == Origin::CrossSite {
            return Err(TransientError::CrossSite);
        }
        let cookie = &self.inner.sessions.core.flash;
        self.with(|messages| {
            if messages.sent {
                return Err(TransientError::Committed);
            }
            messages.pushed.push((subject.clone(), message));
            let bytes = messages.content(subject.as_deref()).encoded();
            cookie.check("", bytes.len()).map(drop).map_err(|TooLarge(size)| {
                messages.pushed.pop();
                TransientError::TooLarge { size, limit: cookie.max_bytes() }
            })
        })
    }

    /// [`push`](Self::push) with [`FlashLevel::Success`].
    ///
    /// # Errors
    /// Like `push`.
    pub fn success(&self, text: impl Into<String>) -> Result<(), TransientError> {
        self.push(FlashLevel::Success, text)
    }

    /// [`push`](Self::push) with [`FlashLevel::Info`].
    ///
    /// # Errors
    /// Like `push`.
    pub fn info(&self, text: impl Into<String>) -> Result<(), TransientError> {
        self.push(FlashLevel::Info, text)
    }

    /// [`push`](Self::push) with [`FlashLevel::Warning`].
    ///
    /// # Errors
    /// Like `push`.
    pub fn warning(&self, text: impl Into<String>) -> Result<(), TransientError> {
        self.push(FlashLevel::Warning, text)
    }

    /// [`push`](Self::push) with [`FlashLevel::Error`].
    ///
    /// # Errors
    /// Like `push`.
    pub fn error(&self, text: impl Into<String>) -> Result<(), TransientError> {
        self.push(FlashLevel::Error, text)
    }

    /// The messages to show now, the oldest first: those that came, and those that this request has left before. With the
    /// response they are removed from the browser.
    #[must_use]
    pub fn take(&self) -> Vec<FlashMessage> {
        let subject = self.inner.session.subject();
        self.with(|messages| {
            let shown = messages.content(subject.as_deref()).messages;
            messages.taken = true;
            messages.pushed.clear();
            shown
        })
    }

    /// For integrations: ends the messages' part in the request. Returns the value of the `Set-Cookie` header to send, if
    /// any. Call it once the session is committed, whose failure is no news for the next page. `secure` is whether the
    /// request came over HTTPS, which only [`Secure::Auto`](crate::Secure::Auto) looks at.
    #[must_use]
    pub fn commit(&self, secure: bool) -> Option<String> {
        self.conclude(secure).map(SetCookie::into_text)
    }

    pub(crate) fn conclude(&self, secure: bool) -> Option<SetCookie> {
        let (subject, cookie) = (self.inner.session.subject(), &self.inner.sessions.core.flash);
        let now = self.inner.sessions.now();
        self.with(|messages| {
            if std::mem::replace(&mut messages.sent, true) || !messages.differs(subject.as_deref()) {
                return None;
            }
            let content = messages.content(subject.as_deref());
            let set = || cookie.set("", &content.encoded(), secure, now).ok();
            let line = if content.messages.is_empty() { None } else { set() };
            line.or_else(|| messages.is_there.then(|| cookie.remove("", secure)))
        })
    }

    /// The most that it adds to the response's head.
    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn head_bytes(&self, secure: bool) -> usize {
        const REMOVAL: usize = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT".len();

        let (subject, cookie) = (self.inner.session.subject(), &self.inner.sessions.core.flash);
        self.with(|messages| {
            if !messages.differs(subject.as_deref()) {
                return 0;
            }
            let value = messages.content(subject.as_deref()).encoded().len();
            "set-cookie: \r\n".len() + cookie.line_len(secure, "", value).max(REMOVAL)
        })
    }
}

impl Messages {
    /// What this subject may see: those that came and were not taken, then those that were pushed.
    fn content(&self, subject: Option<&str>) -> Content {
        let may_see = |whose: Option<&str>| whose.is_none() || whose == subject;
        let came = self.came.iter().filter(|came| !self.taken && may_see(came.subject.as_deref()));
        let came = came.flat_map(|came| came.messages.iter().cloned());
        let pushed = self.pushed.iter().filter(|(whose, _)| may_see(whose.as_deref()));
        let messages = came.chain(pushed.map(|(_, message)| message.clone())).collect();
        Content { subject: subject.map(str::to_owned), messages }
    }

    /// Whether the browser's cookie has to become another one, or go.
    fn differs(&self, subject: Option<&str>) -> bool {
        let whose = self.came.as_ref().map(|came| came.subject.as_deref());
        // It cannot be read, or is not for whom it would be shown to.
        let is_dead = self.is_there && whose.is_none_or(|whose| whose.is_some() && whose != subject);
        is_dead || (self.taken && self.is_there) || !self.pushed.is_empty()
    }
}

impl Content {
    fn encoded(&self) -> Vec<u8> {
        value::encode(self).expect("writing text into a Vec does not fail")
    }
}

impl fmt::Debug for Flash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.with(|messages| messages.pushed.len());
        f.debug_struct("Flash").field("pushed", &waiting).finish_non_exhaustive()
    }
}
