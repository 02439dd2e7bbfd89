//! Flash messages: what one response wants the next page to say, once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::core::cookie::SetCookie;
use crate::core::error::TransientError;
use crate::core::record::SubjectTag;
use crate::core::session::Session;
use crate::core::short_cookie::{Look, TooLarge};
use crate::core::state::Origin;
#[cfg(any(feature = "actix", feature = "axum"))]
use crate::core::state::Stage;
use crate::core::value;
use crate::sessions::Sessions;

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

/// Whose messages they are, as a hash of the subject, so that a long one takes no more room; `None`: nobody had logged
/// in.
type Whose = Option<u128>;

fn whose(session: &Session) -> Whose {
    let subject = session.subject()?;
    Some(u128::from_be_bytes(SubjectTag::of(&subject).0))
}

fn may_see(written_for: Whose, whose: Whose) -> bool {
    written_for.is_none() || written_for == whose
}

/// What the cookie holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Content {
    subject: Whose,
    messages: Vec<FlashMessage>,
}

/// The extractor of a request's flash messages: what an earlier response left for the next page, and what this one leaves.
///
/// They travel in a cookie of their own, sealed, named like the session's with `-flash` behind it, so a message never
/// re-issues the session. They last for five minutes. What was [taken](Self::take) is removed from the browser; what was
/// not stays for the page after that.
///
/// The extractor asks for the [`Session`], to know whose messages they are: that is a use of it, which prolongs one that is
/// due, costs one in the store its round trip, and adds `Vary: Cookie`. It is the session without a scope; for one of a
/// scope call [`Sessions::flash`] and [`commit`](Self::commit).
///
/// A message is shown only to the user for whom it was written: one for a subject is dropped by the first request of another
/// subject, or of nobody, that asks for messages. One written while nobody was logged in is shown to whoever logs in next. So authenticate first, and
/// say goodbye after `destroy`. A response whose session could not be saved, or was ended by another request meanwhile,
/// leaves none.
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
/// Clones share the same messages. Two pages loaded at once may both show a message, and of two requests at once that leave
/// or take messages the later answer wins: what the other one left may be lost.
#[derive(Clone)]
pub struct Flash {
    inner: Arc<FlashState>,
}

struct FlashState {
    sessions: Sessions,
    session: Session,
    messages: Mutex<Messages>,
}

#[derive(Default)]
struct Messages {
    /// The content of the request's cookie, if valid.
    came: Option<Content>,
    /// Whether one of ours came, valid or not.
    is_there: bool,
    taken: bool,
    /// Each with whom it was written for.
    pushed: Vec<(Whose, FlashMessage)>,
    /// The response has left.
    sent: bool,
}

impl Sessions {
    /// The flash messages of a request with these `Cookie` headers and this session. The middleware and the layer do this
    /// for the extractor [`Flash`]; if you commit sessions by hand, send what [`Flash::commit`] returns.
    #[must_use]
    pub fn flash<H: AsRef<[u8]>>(
        &self,
        session: &Session,
        cookie_headers: impl IntoIterator<Item = H>,
    ) -> Flash {
        let mut messages = Messages::default();
        // Another site's page neither reads nor removes any.
        if session.origin() != Origin::CrossSite {
            let look = self.core.flash.look("", cookie_headers, self.now());
            messages.is_there = !matches!(look, Look::Nothing);
            messages.came = match look {
                Look::Good(bytes) => value::decode(&bytes).ok(),
                Look::Nothing | Look::Dead => None,
            };
        }
        let inner =
            FlashState { sessions: self.clone(), session: session.clone(), messages: Mutex::new(messages) };
        Flash { inner: Arc::new(inner) }
    }
}

impl Flash {
    /// Ends the messages' part in a request whose response has left by now.
    #[cfg(any(feature = "actix", feature = "axum"))]
    pub(crate) fn closed_if_late(self) -> Self {
        let is_late =
            self.inner.session.with(|state| matches!(state.stage, Stage::Committed | Stage::Detached));
        self.with(|messages| messages.sent |= is_late);
        self
    }

    fn with<R>(&self, f: impl FnOnce(&mut Messages) -> R) -> R {
        f(&mut self.inner.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves a message for the next page, after those not taken yet. Of these the oldest make room: all messages together
    /// have at most 1,024 bytes of name + value, some 600 bytes of text.
    ///
    /// # Errors
    /// [`TransientError::TooLarge`] if those of this request would exceed that; [`TransientError::CrossSite`] if another site's page made the request; [`TransientError::Committed`] if the
    /// response has left. The messages stay as they were.
    pub fn push(&self, level: FlashLevel, text: impl Into<String>) -> Result<(), TransientError> {
        let message = FlashMessage { level, text: text.into() };
        let whose = whose(&self.inner.session);
        if self.inner.session.origin() == Origin::CrossSite {
            return Err(TransientError::CrossSite);
        }
        let cookie = &self.inner.sessions.core.flash;
        self.with(|messages| {
            if messages.sent {
                return Err(TransientError::Committed);
            }
            messages.pushed.push((whose, message));
            // With room for a subject: a login may follow before the response leaves.
            let check = |of: Vec<FlashMessage>| {
                let content = Content { subject: Some(u128::MAX), messages: of };
                cookie.check("", content.encoded().len()).map(drop)
            };
            let pushed = messages.pushed(whose).collect();
            check(pushed).map_err(|TooLarge(size)| {
                messages.pushed.pop();
                TransientError::TooLarge { size, limit: cookie.max_bytes() }
            })?;
            while check(messages.content(whose).messages).is_err() && messages.drop_oldest() {
                tracing::debug!(target: "sealed_session", "a flash message that nobody has taken makes room for a new one");
            }
            Ok(())
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

    /// The messages to show now, the oldest first: those that came, and those that this request has left before. The
    /// response removes them from the browser. Once it has left, this returns none: they would be shown again.
    #[must_use]
    pub fn take(&self) -> Vec<FlashMessage> {
        let whose = whose(&self.inner.session);
        self.with(|messages| {
            if messages.sent {
                tracing::warn!(target: "sealed_session", "flash messages are taken before the response is made");
                return Vec::new();
            }
            let shown = messages.content(whose).messages;
            messages.taken = true;
            messages.pushed.clear();
            shown
        })
    }

    /// For integrations: ends the messages' part in the request. Returns the value of the `Set-Cookie` header to send, if
    /// any. Call it once the session is committed, and not if that failed. `secure` is whether the
    /// request came over HTTPS, which only [`Secure::Auto`](crate::Secure::Auto) looks at.
    #[must_use]
    pub fn commit(&self, secure: bool) -> Option<String> {
        self.conclude(secure, false).map(SetCookie::into_text)
    }

    /// `lost`: what this request did to its session was lost, and so are its messages.
    pub(crate) fn conclude(&self, secure: bool, lost: bool) -> Option<SetCookie> {
        let (whose, cookie) = (whose(&self.inner.session), &self.inner.sessions.core.flash);
        let now = self.inner.sessions.now();
        self.with(|messages| {
            let pushed = messages.pushed.len();
            messages.pushed.retain(|(written_for, _)| !lost && may_see(*written_for, whose));
            if messages.pushed.len() < pushed {
                tracing::debug!(
                    target: "sealed_session",
                    "a flash message is dropped: it was left before another user's session began, or the session was lost"
                );
            }
            if std::mem::replace(&mut messages.sent, true) || !messages.differs(whose) {
                return None;
            }
            let line = loop {
                let content = messages.content(whose);
                match cookie.set("", &content.encoded(), secure, now) {
                    _ if content.messages.is_empty() => break None,
                    Ok(line) => break Some(line),
                    // A login after they were left may see more of those that came.
                    Err(TooLarge(_)) if messages.drop_oldest() => {}
                    Err(TooLarge(_)) => break None,
                }
            };
            line.or_else(|| messages.is_there.then(|| cookie.remove("", secure)))
        })
    }

    /// The most that it adds to the response's head.
    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) fn head_bytes(&self, secure: bool) -> usize {
        const REMOVAL: usize = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT".len();

        let (whose, cookie) = (whose(&self.inner.session), &self.inner.sessions.core.flash);
        self.with(|messages| {
            if !messages.differs(whose) {
                return 0;
            }
            let value = messages.content(whose).encoded().len();
            "set-cookie: \r\n".len() + cookie.line_len(secure, "", value).max(REMOVAL)
        })
    }
}

impl Messages {
    /// What they may see: those that came and were not taken, then those that were pushed.
    fn content(&self, whose: Whose) -> Content {
        let came = self.came.iter().filter(|came| !self.taken && may_see(came.subject, whose));
        let came = came.flat_map(|came| came.messages.iter().cloned());
        Content { subject: whose, messages: came.chain(self.pushed(whose)).collect() }
    }

    /// Those of them that were pushed.
    fn pushed(&self, whose: Whose) -> impl Iterator<Item = FlashMessage> {
        let pushed = self.pushed.iter().filter(move |(written_for, _)| may_see(*written_for, whose));
        pushed.map(|(_, message)| message.clone())
    }

    /// Forgets the oldest of those that came; false: there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(came) = self.came.as_mut().filter(|came| !came.messages.is_empty()) else { return false };
        came.messages.remove(0);
        true
    }

    /// Whether the browser's cookie has to be replaced or removed.
    fn differs(&self, whose: Whose) -> bool {
        // It is not valid, or not for the subject that would see it.
        let is_dead = |came: &Content| came.subject.is_some() && came.subject != whose;
        let is_dead = self.is_there && self.came.as_ref().is_none_or(is_dead);
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
