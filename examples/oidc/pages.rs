//! The pages of both sites.

use std::fmt::Display;

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, HttpResponseBuilder};

/// The application's own: who is there, or the two ways to log in.
pub(crate) fn index(user: Option<&str>, visits: i64, id: impl Display) -> HttpResponse {
    let title =
        user.map_or_else(|| "Nobody is logged in".to_owned(), |user| format!("Hello, {}", escape(user)));
    let what_next = match user {
        Some(_) => "<form method=post action=/logout><button>Log out</button></form>",
        None => {
            "<p><a class=button id=by-get href='/login?next=/account'>Log in</a></p>
             <p><a class=button id=by-post href='/login?next=/account&amp;mode=form_post'>Log in, back by a form</a></p>"
        }
    };
    let body = format!(
        "<dl><dt>Visits</dt><dd id=visits>{visits}</dd><dt>Session</dt><dd id=session>{id}</dd></dl>{what_next}"
    );
    page(StatusCode::OK, &title, &body)
}

/// There is no cookie for this `state`.
pub(crate) fn expired() -> HttpResponse {
    let why = "This login has expired, is over already, or was begun in another browser.";
    page(StatusCode::BAD_REQUEST, "Not logged in", &format!("<p id=reason>{why}</p>{AGAIN}"))
}

/// The login ended otherwise than by a user who is known. A real application tells the reason to its log.
pub(crate) fn refused(reason: impl Display) -> HttpResponse {
    let reason = escape(&reason.to_string());
    page(StatusCode::BAD_REQUEST, "Not logged in", &format!("<p id=reason>{reason}</p>{AGAIN}"))
}

const AGAIN: &str = "<p><a class=button href='/login?next=/'>Begin again</a></p>";

/// The provider's: who wants to log in?
pub(crate) fn choose_user() -> HttpResponse {
    let body = "<form method=post>
        <button name=user value=ada>Continue as Ada</button>
        <button name=user value=bob>Continue as Bob</button>
        <button name=user value=''>Cancel</button></form>";
    page(StatusCode::OK, "The provider", body)
}

/// The provider's: a form that the browser sends by itself.
pub(crate) fn send_form(action: &str, fields: &[(&str, &str)]) -> HttpResponse {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("<input type=hidden name={name} value=\"{}\">", escape(value)))
        .collect();
    let body = format!(
        "<form method=post action=\"{}\">{fields}<button>Continue</button></form>
         <script>document.forms[0].submit()</script>",
        escape(action)
    );
    page(StatusCode::OK, "The provider", &body)
}

fn page(status: StatusCode, title: &str, body: &str) -> HttpResponse {
    let html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1>{body}</main></html>"
    );
    HttpResponseBuilder::new(status).content_type(ContentType::html()).body(html)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "
    :root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
    body { margin: 0; min-height: 100vh; display: grid; place-items: center }
    main { width: min(24rem, 80vw); padding: 2rem; border: 1px solid #8884; border-radius: 1rem }
    h1 { margin: 0 0 1rem; font-size: 1.5rem } form { display: grid; gap: .5rem }
    button, .button { font: inherit; padding: .5rem .75rem; border: 0; border-radius: .5rem; background: teal; color: white;
        cursor: pointer; text-decoration: none }
    dl { display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem } dd { margin: 0; overflow-wrap: anywhere }
";
