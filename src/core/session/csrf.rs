//! Tokens for forms, for requests that the cross-site guard cannot judge.

use super::Session;
use crate::core::error::{CsrfError, InsertError};

impl Session {
    /// A token to put into a form, or into a header that scripts send; [`verify_csrf`](Self::verify_csrf) checks that it
    /// is this session's. It has 48 characters of base64url, differs at each call, and is not stored.
    ///
    /// It is valid as long as the session keeps its id: [`authenticate`](Self::authenticate), a
    /// [`set_subject`](Self::set_subject) that changes the subject, [`renew`](Self::renew) and [`destroy`](Self::destroy)
    /// invalidate it, even if it was made earlier in the same request. (Without a store a copy of the cookie outlives
    /// `destroy`, and so does its token.)
    ///
    /// A visitor who sends no cookie gets a session, an empty one if need be, so that a login form can have a token; the
    /// session lasts until it ends, is emptied or cleared. If the cookie was refused but stays in the browser, where a
    /// newer one may have replaced it, no session is issued for the token's sake: the token is valid with that cookie
    /// until a session begins. So ask for the token after all writes of the request.
    ///
    /// With [`SameSite::Strict`](crate::SameSite::Strict) do not ask for one on pages that other sites link to: such a
    /// link brings no cookie, and the response would replace the visitor's session with a new one.
    ///
    /// # Errors
    /// [`InsertError::Destroyed`], [`InsertError::CrossSite`]; [`InsertError::Committed`] if the response has left without
    /// a cookie of this session.
    ///
    /// # Security
    /// The [cross-site guard](crate::CrossSite) needs no token: tokens are for what it cannot judge, browsers that send
    /// neither `Sec-Fetch-Site` nor `Origin`, and for reviews that demand one (OWASP ASVS 5, 3.5.1). The token is an HMAC
    /// of the cookie's name and the session's id (OWASP CSRF Prevention Cheat Sheet, "Signed Double-Submit Cookie"),
    /// under a key of its own, masked anew at each call against BREACH. Do not put it into a URL: URLs are logged and
    /// passed on.
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
        let of = self.with(|state| state.token_binding())?;
        Ok(self.shared.backend.csrf_token(&of))
    }

    /// Whether the token is one that [`csrf_token`](Self::csrf_token) made for this session. Ask before the handler
    /// changes the session's id, by a login for example. A token of a key that has since been retired is still valid. The
    /// comparison takes constant time.
    ///
    /// # Errors
    /// [`CsrfError`], which is answered with 403.
    pub fn verify_csrf(&self, token: &str) -> Result<(), CsrfError> {
        let (of, otherwise) = self.with(|state| (state.bindings(), state.why_no_token()));
        self.shared.backend.verify_csrf(&of, token).map_err(|error| match error {
            CsrfError::OtherSession => otherwise,
            error => error,
        })
    }
}
