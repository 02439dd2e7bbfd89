//! The pages of the example: HTML, whatever framework sends it.

use std::str::FromStr;

use sealed_session::{Flash, InsertError, Origin, Rejection, Session, SessionKey};
use time::macros::format_description;

use crate::accounts::{Accounts, DEMO_NAME, DEMO_PASSWORD};

const VISITS: SessionKey<i64> = SessionKey::new("visits");

/// The page of the user, or the form.
pub(crate) fn index(session: &Session, flash: &Flash, accounts: &Accounts) -> Result<String, InsertError> {
    let Some(user) = session.subject() else { return Ok(login_form(session, flash, "/login")) };

    let visits = session.increment(VISITS, 1)?;
    let format = format_description!("[year]-[month]-[day], [hour]:[minute]:[second] UTC");
    let end = session.expires_at().format(format).expect("a moment has all these parts");
    let body = format!(
        "<h1>Hello, {user}</h1>
         <dl><dt>Visits</dt><dd id=visits>{visits}</dd><dt>Session ends</dt><dd id=end>{end}</dd>
         <dt>E-mail</dt><dd id=email>{email}</dd></dl>
         <p class=hint>Reload to be counted again. A visit close to the end puts it off. <a href=/email>Change the e-mail
         address</a></p>
         <form method=post action=/logout><button>Log out</button></form>",
        user = escape(accounts.name(&user)),
        email = escape(&accounts.email()),
    );
    Ok(page("Hello", flash, None, &body))
}

/// `action` is where the form goes; empty: to the address of its page, so that the `next` in there stays with it.
pub(crate) fn login_form(session: &Session, flash: &Flash, action: &str) -> String {
    let expired = matches!(session.origin(), Origin::Rejected(Rejection::Expired(_)));
    let notice = expired.then_some("Your session has expired, please log in again.");
    let action = if action.is_empty() { String::new() } else { format!(" action={action}") };
    // Somebody who is logged in comes here when that was too long ago for what they are about to do.
    let (title, why) = match session.subject() {
        None => ("Log in", ""),
        Some(_) => ("Log in again", "<p>This needs your password once more.</p>"),
    };
    let body = format!(
        "<h1>{title}</h1>{why}
         <form method=post{action}>
         <label>Name <input name=name autocomplete=username required autofocus></label>
         <label>Password <input name=password type=password autocomplete=current-password required></label>
         <button>Log in</button></form>
         <p class=hint>The only user is <code>{DEMO_NAME}</code> with the password <code>{DEMO_PASSWORD}</code>.</p>"
    );
    page(title, flash, notice, &body)
}

/// What the guard lets nobody see who has not given the password a moment ago.
pub(crate) fn email_form(flash: &Flash, accounts: &Accounts) -> String {
    let body = format!(
        "<h1>E-mail address</h1>
         <form method=post>
         <label>Address <input name=email type=email value=\"{}\" required></label>
         <button>Change</button></form>",
        escape(&accounts.email()),
    );
    page("E-mail address", flash, None, &body)
}

/// Cut short: messages travel in a cookie, which has little room.
pub(crate) fn wrong(name: &str) -> String {
    format!("Wrong name or password for “{}”.", name.chars().take(40).collect::<String>())
}

fn page(title: &str, flash: &Flash, notice: Option<&str>, body: &str) -> String {
    let flash = flash.take();
    let texts = flash.iter().map(|message| message.text.as_str()).chain(notice);
    let notice: String = texts.map(|text| format!("<p id=notice role=status>{}</p>", escape(text))).collect();
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
