//! A login at another site: OpenID Connect with the authorization code flow, PKCE, `state` and `nonce`, against a small
//! provider that the example starts besides.
//!
//! `cargo run --example oidc`, then open <http://localhost:8080/>. `PORT` and `PROVIDER_PORT` set the ports, 0 takes a free
//! one. The provider is at <http://127.0.0.1:8081/>, which for a browser is another site than `localhost`, as a real one is.
//!
//! | file | what it is |
//! |---|---|
//! | this | the application: sessions, and the cookie that waits for the browser to come back |
//! | `oidc/client.rs` | OpenID Connect: where the browser is sent, and what is checked when it is back |
//! | `oidc/provider.rs` | the other site |
//! | `oidc/pages.rs` | HTML |
//!
//! # The two ways back
//!
//! 1. By `GET`, which is the common one. Browsers send `SameSite=Lax` cookies there, the session's among them.
//! 2. By `POST` (`response_mode=form_post`), as Apple's sign-in does it: the provider's page sends a form. Two things have
//!    to be allowed for that. Browsers send a cookie with a `POST` from another site only if it is `SameSite=None`: so is
//!    the one that waits, and **not the session's**. And the guard against other sites lets nobody begin a session from
//!    one: so `trusted_origin` names the provider. (`TRUST_PROVIDER=false` shows the 403 without it.) What the visitor had
//!    before, here the count of visits, is not there on this way, and begins anew.

#[path = "oidc/client.rs"]
mod client;
#[path = "oidc/pages.rs"]
mod pages;
#[path = "oidc/provider.rs"]
mod provider;

use std::error::Error;
use std::net::TcpListener;

use actix_web::http::header::{CACHE_CONTROL, COOKIE, HeaderValue, LOCATION, SET_COOKIE};
use actix_web::web::{self, Data, Form, Query};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use futures_util::future::try_join;
use sealed_session::{
    KeyRing, SameSite, Session, SessionKey, SessionMiddleware, Sessions, Transient, local_path,
};
use serde::Deserialize;

use client::{Answer, Client, Mode, Pending};

/// It goes into a cookie, of which there may be four at once, beside that of the session; nginx takes 8 KB of them.
const MAX_NEXT: usize = 500;
const VISITS: SessionKey<i64> = SessionKey::new("visits");

/// What a login needs on its way there and back.
struct Login {
    client: Client,
    /// The cookies that wait, of each way back.
    by_get: Transient<Pending>,
    by_post: Transient<Pending>,
}

impl Login {
    fn new(client: Client, sessions: &Sessions) -> Result<Self, Box<dyn Error>> {
        let by_get = sessions.transient("oidc").build()?;
        // With `Lax` the browser would not bring it along with the form of the provider's page.
        let by_post = sessions.transient("oidc-post").same_site(SameSite::None).build()?;
        Ok(Self { client, by_get, by_post })
    }

    fn waiting(&self, mode: Mode) -> &Transient<Pending> {
        match mode {
            Mode::Query => &self.by_get,
            Mode::FormPost => &self.by_post,
        }
    }
}

#[derive(Deserialize)]
struct Begin {
    #[serde(default)]
    next: String,
    #[serde(default)]
    mode: Mode,
}

/// The browser leaves for the provider. No session is asked for: the visitor may have none.
async fn begin(
    request: HttpRequest,
    login: Data<Login>,
    asked: Query<Begin>,
) -> actix_web::Result<HttpResponse> {
    // It comes from a link, of which anybody may be the author: it leads to a page of ours, or to the first one.
    let next = local_path(&asked.next).filter(|next| next.len() <= MAX_NEXT).unwrap_or("/");
    let (state, pending, url) = login.client.begin(asked.mode, next);
    let mut response = see_other(&url);
    for line in login.waiting(asked.mode).put_for(&state, cookies(&request), &pending)? {
        add_cookie(&mut response, line);
    }
    Ok(response)
}

async fn back_by_get(
    request: HttpRequest,
    session: Session,
    login: Data<Login>,
    answer: Query<Answer>,
) -> HttpResponse {
    back(Mode::Query, &request, &session, &login, &answer).await
}

async fn back_by_post(
    request: HttpRequest,
    session: Session,
    login: Data<Login>,
    answer: Form<Answer>,
) -> HttpResponse {
    back(Mode::FormPost, &request, &session, &login, &answer).await
}

/// The browser comes back.
async fn back(
    mode: Mode,
    request: &HttpRequest,
    session: &Session,
    login: &Login,
    answer: &Answer,
) -> HttpResponse {
    // A `state` counts in the browser that has the cookie of it, or an attacker's link would log its victim in to the
    // attacker's account.
    let Some(taken) = login.waiting(mode).take_for(&answer.state, cookies(request)) else {
        return pages::expired();
    };
    let pending = taken.value;
    let mut response = match login.client.finish(mode, answer, &pending).await {
        // A new id, and nothing of another user's. Only then is anything written into the session.
        Ok(subject) => match session.authenticate(subject) {
            Ok(()) => see_other(&pending.next),
            Err(refused) => HttpResponse::from_error(refused),
        },
        Err(reason) => pages::refused(&*reason),
    };
    // However it went, this login is over.
    add_cookie(&mut response, taken.removal);
    response
}

async fn index(session: Session) -> actix_web::Result<HttpResponse> {
    let visits = session.increment(VISITS, 1)?;
    Ok(pages::index(session.subject().as_deref(), visits, session.log_id()))
}

/// For users alone: a visitor is sent through the login, and back to here.
async fn account(request: HttpRequest, session: Session) -> actix_web::Result<HttpResponse> {
    if session.subject().is_some() {
        return index(session).await;
    }
    let next = request.uri().path_and_query().map_or("/", |here| here.as_str());
    Ok(see_other(&format!("/login?{}", client::query(&[("next", next)]))))
}

async fn logout(session: Session) -> HttpResponse {
    session.destroy();
    see_other("/")
}

fn see_other(location: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, location)).finish()
}

fn cookies(request: &HttpRequest) -> impl Iterator<Item = &[u8]> {
    request.headers().get_all(COOKIE).map(HeaderValue::as_bytes)
}

fn add_cookie(response: &mut HttpResponse, line: String) {
    let line = HeaderValue::try_from(line).expect("it is made of ASCII");
    response.headers_mut().append(SET_COOKIE, line);
    // The middleware says so for its own cookies alone.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn listen(variable: &str, default: u16) -> Result<TcpListener, Box<dyn Error>> {
    let port = std::env::var(variable).map_or(Ok(default), |port| port.parse())?;
    Ok(TcpListener::bind(("127.0.0.1", port))?)
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (here, there) = (listen("PORT", 8080)?, listen("PROVIDER_PORT", 8081)?);
    let origin = format!("http://localhost:{}", here.local_addr()?.port());
    let issuer = format!("http://127.0.0.1:{}", there.local_addr()?.port());
    // Where there is a real provider, these two come from its registration of the application.
    let client = Client::new("demo", client::random(), issuer, origin.clone());

    let mut builder = Sessions::builder(KeyRing::open_or_create("session.keys")?);
    if std::env::var("TRUST_PROVIDER").as_deref() != Ok("false") {
        // Without it that form would find its cookie, but could not begin a session.
        builder = builder.trusted_origin(&client.issuer);
    }
    let sessions = builder.build()?;
    let login = Data::new(Login::new(client.clone(), &sessions)?);
    let application = move || {
        App::new()
            .app_data(login.clone())
            .wrap(SessionMiddleware::new(sessions.clone()))
            .route("/", web::get().to(index))
            .route("/account", web::get().to(account))
            .route("/login", web::get().to(begin))
            .route(Mode::Query.path(), web::get().to(back_by_get))
            .route(Mode::FormPost.path(), web::post().to(back_by_post))
            .route("/logout", web::post().to(logout))
    };
    let provider = Data::new(provider::Provider::new(client));
    let provider = move || App::new().app_data(provider.clone()).configure(provider::routes);

    let application = HttpServer::new(application).listen(here)?;
    let provider = HttpServer::new(provider).workers(1).listen(there)?;
    println!("{origin}/");
    try_join(application.run(), provider.run()).await?;
    Ok(())
}
