//! OpenID Connect, the application's half: where the browser is sent, and what is checked when it is back.
//!
//! By OpenID Connect Core 1.0, section 3.1; PKCE by RFC 7636.

use std::error::Error;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::Rng as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How the provider sends the browser back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    #[default]
    Query,
    FormPost,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::FormPost => "form_post",
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Query => "/callback",
            Self::FormPost => "/callback/post",
        }
    }
}

/// What has to be remembered until the browser is back. It is in a cookie, which nobody can read or alter.
#[derive(Serialize, Deserialize)]
pub(crate) struct Pending {
    /// Comes back inside the ID token, so that it is the one of this login and no other.
    nonce: String,
    /// Goes to the provider with the code, so that a stolen code is good for nobody else.
    verifier: String,
    /// Where the visitor was going. Checked.
    pub(crate) next: String,
}

/// What the browser brings back.
#[derive(Deserialize)]
pub(crate) struct Answer {
    #[serde(default)]
    pub(crate) state: String,
    code: Option<String>,
    error: Option<String>,
}

/// The application, as the provider knows it.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) id: String,
    /// Known to the provider and the application alone. With HS256 it signs the ID tokens as well, for which it has to be
    /// of 256 bits; many providers sign by RS256 instead, and publish their public keys.
    pub(crate) secret: String,
    /// The provider's name, and the beginning of its URLs.
    pub(crate) issuer: String,
    origin: String,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// What the provider says of the user.
#[derive(Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) sub: String,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    pub(crate) nonce: String,
}

impl Client {
    pub(crate) fn new(id: &str, secret: String, issuer: String, origin: String) -> Self {
        Self { id: id.to_owned(), secret, issuer, origin }
    }

    pub(crate) fn redirect_uri(&self, mode: Mode) -> String {
        format!("{}{}", self.origin, mode.path())
    }

    /// A login that begins: its `state`, what to remember under it, and where to send the browser.
    pub(crate) fn begin(&self, mode: Mode, next: &str) -> (String, Pending, String) {
        let (state, nonce, verifier) = (random(), random(), random());
        let query = query(&[
            ("response_type", "code"),
            ("response_mode", mode.name()),
            ("scope", "openid"),
            ("client_id", &self.id),
            ("redirect_uri", &self.redirect_uri(mode)),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge(&verifier)),
            ("code_challenge_method", "S256"),
        ]);
        let url = format!("{}/authorize?{query}", self.issuer);
        (state, Pending { nonce, verifier, next: next.to_owned() }, url)
    }

    /// Exchanges the code for an ID token: whose login it is.
    pub(crate) async fn finish(
        &self,
        mode: Mode,
        answer: &Answer,
        pending: &Pending,
    ) -> Result<String, Box<dyn Error>> {
        let Some(code) = &answer.code else {
            let error = answer.error.as_deref().unwrap_or("no code");
            return Err(format!("the provider says: {error}").into());
        };
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &self.id),
            ("client_secret", &self.secret),
            ("redirect_uri", &self.redirect_uri(mode)),
            ("code", code),
            ("code_verifier", &pending.verifier),
        ];
        // Over loopback; anywhere else this is HTTPS, or the secret and the token are anybody's.
        let mut response = awc::Client::new().post(format!("{}/token", self.issuer)).send_form(&form).await?;
        if !response.status().is_success() {
            return Err("the provider does not accept the code".into());
        }
        let Tokens { id_token } = response.json().await?;
        self.subject(&id_token, &pending.nonce)
    }

    /// Whom the ID token is about, if it is of this provider, for this application, for this login, and not too old.
    fn subject(&self, id_token: &str, nonce: &str) -> Result<String, Box<dyn Error>> {
        let (signed, signature) = id_token.rsplit_once('.').ok_or("the ID token is none")?;
        let (header, payload) = signed.split_once('.').ok_or("the ID token is none")?;
        // Which algorithm is agreed on; the token does not get to choose.
        let Header { alg } = decode(header)?;
        if alg != "HS256" {
            return Err(format!("the ID token is signed by {alg}").into());
        }
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature)?;
        let right = self.mac(signed).verify_slice(&signature);
        right.map_err(|_| "the ID token's signature is wrong")?;

        let claims: Claims = decode(payload)?;
        if claims.iss != self.issuer {
            return Err("the ID token is of another provider".into());
        }
        if claims.aud != self.id {
            return Err("the ID token is for another application".into());
        }
        if claims.nonce != nonce {
            return Err("the ID token is of another login".into());
        }
        if claims.exp <= now() {
            return Err("the ID token has expired".into());
        }
        Ok(claims.sub)
    }

    /// Of a JWS by HS256 (RFC 7515, RFC 7518 section 3.2).
    pub(crate) fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mac = Hmac::new_from_slice(self.secret.as_bytes()).expect("a key of any length");
        mac.chain_update(signed)
    }
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, Box<dyn Error>> {
    Ok(serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part)?)?)
}

/// 256 bits that nobody can guess, as 43 characters of base64url.
pub(crate) fn random() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// What is told of the verifier beforehand: PKCE by S256.
pub(crate) fn challenge(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    serde_urlencoded::to_string(pairs).expect("pairs of texts")
}

/// Seconds, as tokens count time.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_token_is_for_one_application_and_one_login_of_one_provider_and_one_time() {
        let client = Client::new("demo", random(), "http://127.0.0.1:1".into(), "http://localhost:2".into());
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let token = |alg: &str, signer: &Client, change: &dyn Fn(&mut Claims)| {
            let (iss, aud, nonce) = (client.issuer.clone(), "demo".into(), "n".into());
            let mut claims = Claims { iss, aud, sub: "ada".into(), iat: now(), exp: now() + 60, nonce };
            change(&mut claims);
            let header = part(format!(r#"{{"alg":"{alg}"}}"#).as_bytes());
            let signed = format!("{header}.{}", part(&serde_json::to_vec(&claims).unwrap()));
            let mac = signer.mac(&signed).finalize().into_bytes();
            format!("{signed}.{}", part(&mac))
        };
        let good = token("HS256", &client, &|_| ());
        assert_eq!(client.subject(&good, "n").unwrap(), "ada");

        let other = Client { secret: random(), ..client.clone() };
        let (signed, _) = good.rsplit_once('.').unwrap();
        let bad = [
            ("none", token("none", &client, &|_| ())),
            ("signature", token("HS256", &other, &|_| ())),
            ("signature", format!("{signed}.")),
            ("provider", token("HS256", &client, &|claims| claims.iss += "/")),
            ("application", token("HS256", &client, &|claims| claims.aud += "2")),
            ("login", token("HS256", &client, &|claims| claims.nonce.clear())),
            ("expired", token("HS256", &client, &|claims| claims.exp = now())),
            ("is none", "token".into()),
        ];
        for (why, token) in bad {
            let refused = client.subject(&token, "n").expect_err(why).to_string();
            assert!(refused.contains(why), "{why}: {refused}");
        }
    }
}
