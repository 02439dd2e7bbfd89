//! The other site: a provider of OpenID Connect with two users, who need no password, and one client.
//!
//! It is here so that the example needs nothing else. A real one asks who is there, and keeps other sites' pages from
//! answering for them.

use std::collections::HashMap;
use std::sync::Mutex;

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use actix_web::web::{self, Data, Form, Query, ServiceConfig};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::Mac as _;
use serde::Deserialize;
use serde_json::json;
use subtle::ConstantTimeEq as _;

use crate::client::{Claims, Client, Mode, challenge, now, query, random};
use crate::pages;

const CODE_SECONDS: u64 = 60;
const ID_TOKEN_SECONDS: u64 = 300;

pub(crate) struct Provider {
    /// The only application that is registered.
    client: Client,
    /// By their codes, until these are used.
    grants: Mutex<HashMap<String, Grant>>,
}

struct Grant {
    user: String,
    nonce: String,
    redirect_uri: String,
    challenge: String,
    until: u64,
}

impl Provider {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, grants: Mutex::default() }
    }

    fn sign(&self, claims: &Claims) -> String {
        let header = BASE64_URL_SAFE_NO_PAD.encode(json!({ "alg": "HS256", "typ": "JWT" }).to_string());
        let payload = serde_json::to_vec(claims).expect("texts and numbers");
        let signed = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(payload));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.client.mac(&signed).finalize().into_bytes());
        format!("{signed}.{signature}")
    }
}

pub(crate) fn routes(config: &mut ServiceConfig) {
    config.service(web::resource("/authorize").get(ask).post(answer)).route("/token", web::post().to(token));
}

#[derive(Deserialize)]
struct Asked {
    response_type: String,
    #[serde(default)]
    response_mode: Mode,
    scope: String,
    client_id: String,
    redirect_uri: String,
    state: String,
    nonce: String,
    code_challenge: String,
    code_challenge_method: String,
}

impl Asked {
    fn is_fine(&self, client: &Client) -> bool {
        self.response_type == "code"
            && self.scope.split(' ').any(|one| one == "openid")
            && self.client_id == client.id
            // Character by character, or codes end up with somebody else.
            && self.redirect_uri == client.redirect_uri(self.response_mode)
            && self.code_challenge_method == "S256"
    }
}

/// Who is there?
async fn ask(provider: Data<Provider>, asked: Query<Asked>) -> HttpResponse {
    if asked.is_fine(&provider.client) { pages::choose_user() } else { bad("invalid_request") }
}

#[derive(Deserialize)]
struct Choice {
    user: String,
}

/// Back to the application, with a code or an error.
async fn answer(provider: Data<Provider>, asked: Query<Asked>, choice: Form<Choice>) -> HttpResponse {
    if !asked.is_fine(&provider.client) {
        return bad("invalid_request");
    }
    let Asked { redirect_uri, state, nonce, code_challenge, response_mode, .. } = asked.into_inner();
    let code = random();
    let answer = match choice.into_inner().user {
        user if ["ada", "bob"].contains(&&*user) => {
            let mut grants = provider.grants.lock().expect("nobody panics with it");
            grants.retain(|_, grant| now() < grant.until);
            let until = now() + CODE_SECONDS;
            let challenge = code_challenge;
            let redirect_uri = redirect_uri.clone();
            grants.insert(code.clone(), Grant { user, nonce, redirect_uri, challenge, until });
            ("code", &*code)
        }
        _ => ("error", "access_denied"),
    };
    let answer = [("state", &*state), answer];
    match response_mode {
        Mode::Query => {
            let location = format!("{redirect_uri}?{}", query(&answer));
            HttpResponse::SeeOther().insert_header((LOCATION, location)).finish()
        }
        Mode::FormPost => pages::send_form(&redirect_uri, &answer),
    }
}

#[derive(Deserialize)]
struct Exchange {
    grant_type: String,
    client_id: String,
    client_secret: String,
    redirect_uri: String,
    code: String,
    code_verifier: String,
}

/// The application itself asks here, not the browser.
async fn token(provider: Data<Provider>, asked: Form<Exchange>) -> HttpResponse {
    let client = &provider.client;
    let is_secret: bool = asked.client_secret.as_bytes().ct_eq(client.secret.as_bytes()).into();
    if asked.grant_type != "authorization_code" || asked.client_id != client.id || !is_secret {
        return bad("invalid_client");
    }
    // A code is good for once, for whoever comes first, and here right or wrong.
    let grant = provider.grants.lock().expect("nobody panics with it").remove(&asked.code);
    let grant = grant.filter(|grant| {
        now() < grant.until
            && grant.redirect_uri == asked.redirect_uri
            && grant.challenge == challenge(&asked.code_verifier)
    });
    let Some(Grant { user, nonce, .. }) = grant else { return bad("invalid_grant") };
    let (iss, aud) = (client.issuer.clone(), client.id.clone());
    let claims = Claims { iss, aud, sub: user, iat: now(), exp: now() + ID_TOKEN_SECONDS, nonce };
    let id_token = provider.sign(&claims);
    // The access token is for what else the provider has, which is nothing.
    HttpResponse::Ok()
        .insert_header(("cache-control", "no-store"))
        .json(json!({ "access_token": random(), "token_type": "Bearer", "id_token": id_token }))
}

fn bad(error: &str) -> HttpResponse {
    HttpResponse::BadRequest().json(json!({ "error": error }))
}
