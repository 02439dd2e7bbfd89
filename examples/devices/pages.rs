//! The pages of the example: HTML, whatever framework sends it.

use sealed_session::{Session, SessionSummary};
use time::macros::format_description;

pub(crate) fn login_form() -> String {
    page(
        "Log in",
        "<form method=post action=/login><label>Name <input name=name value=ada required></label>
         <button>Log in</button></form><p>Do so in two browsers, or in a private window.</p>",
    )
}

/// What the user's sessions are, with a button beside each but this one.
pub(crate) fn devices(user: &str, session: &Session, listed: &[SessionSummary]) -> String {
    let here = session.handle();
    let login = format_description!("[year]-[month]-[day], [hour]:[minute]");
    // Of the last use no more is known than the hour.
    let hour = format_description!("[year]-[month]-[day], [hour] h");
    let shown = |at: time::OffsetDateTime, format| at.format(&format).expect("a moment has all these parts");
    let row = |device: &SessionSummary| {
        let name = match device.label.as_deref() {
            Some(label) => escape(label),
            None => "some browser".to_owned(),
        };
        let button = if here.as_ref() == Some(&device.handle) {
            "this device".to_owned()
        } else {
            format!(
                "<form method=post action=/end><input type=hidden name=handle value=\"{}\">\
                 <button>Log out</button></form>",
                escape(&device.handle)
            )
        };
        format!(
            "<tr><td>{name}<td>{}<td>{}<td>{button}",
            device.authenticated_at.map_or_else(|| "never".to_owned(), |at| shown(at, login)),
            shown(device.seen_at, hour),
        )
    };
    let rows: String = listed.iter().map(row).collect();
    let body = format!(
        "<p>You are <b id=user>{user}</b>.
         <table><thead><tr><th>Device<th>Signed in (UTC)<th>Last seen<th><tbody>{rows}</table>
         <form method=post action=/elsewhere><button>Log out everywhere else</button></form>
         <form method=post action=/logout><button>Log out here</button></form>",
        user = escape(user),
    );
    page("My devices", &body)
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1>{body}</main></html>"
    )
}

/// Labels come from browsers, and names from forms: without this they would be markup.
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
    main { max-width: 48rem; margin: 2rem auto; padding: 0 1rem }
    table { border-collapse: collapse; width: 100%; margin-bottom: 1rem }
    th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid #8884; overflow-wrap: anywhere }
    form { margin: 0 0 .5rem } td form { margin: 0 }
    input, button { font: inherit; padding: .25rem .75rem }
";
