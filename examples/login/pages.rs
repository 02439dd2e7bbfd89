//! The pages of the example: HTML, whatever framework sends it.

use std::str::FromStr;

use sealed_session::{InsertError, Origin, Rejection, Session, SessionKey};
use time::macros::format_description;

/// The only user. A real application looks up a hash of the password instead, made with Argon2.
const DEMO_NAME: &str = "ada";
const DEMO_PASSWORD: &str = "difference engine";

/// Shown once, on the next page.
const FLASH: SessionKey<String> = SessionKey::new("flash");
const VISITS: SessionKey<i64> = SessionKey::new("visits");

/// The page of the user, or the form.
pub(crate) fn index(session: &Session) -> Result<String, InsertError> {
    let flash = session.take(FLASH)?;
    let Some(user) = session.subject() else { return Ok(login_page(session, flash)) };

    let visits = session.increment(VISITS, 1)?;
    let format = format_description!("[year]-[month]-[day], [hour]:[minute]:[second] UTC");
    let end = session.expires_at().format(format).expect("a moment has all these parts");
    let body = format!(
        "<h1>Hello, {user}</h1>
         <dl><dt>Visits</dt><dd id=visits>{visits}</dd><dt>Session ends</dt><dd id=end>{end}</dd></dl>
         <p class=hint>Reload to be counted again. A visit close to the end puts it off.</p>
         <form method=post action=/logout><button>Log out</button></form>",
        user = escape(&user),
    );
    Ok(page("Hello", flash.as_deref(), &body))
}

fn login_page(session: &Session, flash: Option<String>) -> String {
    let expired = matches!(session.origin(), Origin::Rejected(Rejection::Expired(_)));
    let notice =
        flash.or_else(|| expired.then(|| "Your session has expired, please log in again.".to_owned()));
    let body = format!(
        "<h1>Log in</h1>
         <form method=post action=/login>
         <label>Name <input name=name autocomplete=username required autofocus></label>
         <label>Password <input name=password type=password autocomplete=current-password required></label>
         <button>Log in</button></form>
         <p class=hint>The only user is <code>{DEMO_NAME}</code> with the password <code>{DEMO_PASSWORD}</code>.</p>"
    );
    page("Log in", notice.as_deref(), &body)
}

/// Logs the user in, or says that this is none.
pub(crate) fn log_in(session: &Session, name: String, password: &str) -> Result<(), InsertError> {
    if name == DEMO_NAME && password == DEMO_PASSWORD {
        // Gives the session a new id too, so that nobody can have planted it before.
        session.authenticate(name)?;
        session.insert(FLASH, "You are logged in.".to_owned())
    } else {
        // Cut short: it goes into the cookie, which has little room.
        let name: String = name.chars().take(40).collect();
        session.insert(FLASH, format!("Wrong name or password for “{name}”."))
    }
}

fn page(title: &str, notice: Option<&str>, body: &str) -> String {
    let notice =
        notice.map(|text| format!("<p id=notice role=status>{}</p>", escape(text))).unwrap_or_default();
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><main>{notice}{body}</main></html>"
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

const STYLE: &str = "
    :root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; accent-color: teal }
    body { margin: 0; min-height: 100vh; display: grid; place-items: center }
    main { width: min(24rem, 80vw); padding: 2rem; border: 1px solid #8884; border-radius: 1rem }
    h1 { margin: 0 0 1rem; font-size: 1.5rem }
    form, label { display: grid; gap: .25rem } form { gap: 1rem }
    input, button { font: inherit; padding: .5rem .75rem; border: 1px solid #8888; border-radius: .5rem }
    button { background: teal; color: white; border-color: teal; cursor: pointer }
    dl { display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem } dd { margin: 0; text-align: right }
    .hint { margin: 1rem 0 0; font-size: .875rem; opacity: .7 } .hint + form { margin-top: 1rem }
    #notice { margin: 0 0 1.5rem; padding: .5rem .75rem; border-radius: .5rem; background: #0882 }
";

/// A number from the environment.
pub(crate) fn number<T: FromStr>(variable: &str, default: T) -> Result<T, String> {
    let Some(value) = std::env::var_os(variable) else { return Ok(default) };
    let number = value.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("{variable} is {value:?}, but it must be a number"))
}
