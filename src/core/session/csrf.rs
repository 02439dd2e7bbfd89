//! Tokens for forms: what remains to be done where the cross-site guard cannot judge.

use super::Session;
use crate::core::error::{CsrfError, InsertError};

impl Session {
    /// A token to put into a form, or into a header that scripts send: [`verify_csrf`](Self::verify_csrf) knows it for this
    /// session's. It has 48 characters of base64url, is another one at each call, and nothing of it is stored.
    ///
    /// It is good as long as the session has its id: after [`authenticate`](Self::authenticate), a
    /// [`set_subject`](Self::set_subject) that changes the subject, [`renew`](Self::renew) and [`destroy`](Self::destroy)
    /// it is dead, also the one that was asked for earlier in the same request. (Without a store a copy of the cookie outlives
    /// `destroy`, and so does its token.)
    ///
    /// A visitor who sends no cookie gets a session, an empty one if need be, so that the form of a login can have a token; it
    /// goes on until it ends, is emptied or cleared. Where the cookie was refused and stays in the browser, because a newer one
    /// may have replaced it there, none is issued for the token's sake: it is good with that cookie, until a session is begun.
    /// So ask for the token after what the request writes.
    ///
    /// With [`SameSite::Strict`](crate::SameSite::Strict) do not ask for one on pages that other sites link to: such a link
    /// brings no cookie, and the answer would put a new session in the place of the visitor's.
    ///
    /// # Errors
    /// [`InsertError::Destroyed`], [`InsertError::CrossSite`]; [`InsertError::Committed`] if the response has left without
    /// a cookie of this session.
    ///
    /// # Security
    /// The [cross-site guard](crate::CrossSite) does without: a token is for what it cannot judge, browsers that send
    /// neither `Sec-Fetch-Site` nor `Origin`, and for reviews that ask for one (OWASP ASVS 5, 3.5.1). The token is an HMAC
    /// of the cookie's name and the session's id (OWASP CSRF Prevention Cheat Sheet, "Signed Double-Submit Cookie"), under
    /// a key of its own, masked anew at each call against BREACH. Do not put it into a URL: those are logged and sent on.
    ///
    /// ```
    /// use sealed_session::{InsertError, Session};
    ///
    /// fn login_form(session: &Session) -> Result<String, InsertError> {
    ///     let token = session.csrf_token()?;
    ///     Ok(format!(r#"<form method="post"><input type="hidden" name="csrf" value="{token}">.."#))
    /// }
    /// ```
    pub fn csrf_token(&self) -> Result<String, InsertError> {
        let of = self.with(|state| state.bind())?;
        Ok(self.inner.backend.csrf_token(&of))
    }

    /// Whether the token is one that [`csrf_token`](Self::csrf_token) made for this session. Ask before the handler
    /// changes the session's id, by a login for example. A key that has been retired since does not matter. The comparison
    /// takes the same time wherever the two differ.
    ///
    /// # Errors
    /// [`CsrfError`], which is answered with 403.
    pub fn verify_csrf(&self, token: &str) -> Result<(), CsrfError> {
        let (of, otherwise) = self.with(|state| (state.bindings(), state.why_no_token()));
        self.inner.backend.verify_csrf(&of, token).map_err(|error| match error {
            CsrfError::OtherSession => otherwise,
            error => error,
        })
    }
}
