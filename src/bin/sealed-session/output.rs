//! What the tool answers: lines for people, or one JSON document, and the exit code.

use std::error::Error;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use sealed_session::Inspection;
use serde_json::{Value, json};

/// What was found, or done.
pub(crate) struct Output {
    lines: Vec<String>,
    document: Value,
    rejected: bool,
    raw: Option<String>,
}

impl Output {
    /// One line for people, one document for programs.
    pub(crate) fn line(line: impl Into<String>, document: Value) -> Self {
        Self::lines(vec![line.into()], document)
    }

    /// Several lines for people.
    pub(crate) fn lines(lines: Vec<String>, document: Value) -> Self {
        Self { lines, document, rejected: false, raw: None }
    }

    /// Text that is the same for all.
    pub(crate) fn raw(text: String) -> Self {
        Self { lines: Vec::new(), document: Value::Null, rejected: false, raw: Some(text) }
    }

    /// The cookie would be rejected, which is exit code 1.
    pub(crate) fn rejected(self) -> Self {
        Self { rejected: true, ..self }
    }

    /// Says what the session is called in the log.
    pub(crate) fn with_log_id(mut self, told: &Inspection) -> Self {
        let log_id = told.id.log_id();
        self.lines.push(format!("In the log it is session={log_id}."));
        self.document["log_id"] = log_id.to_string().into();
        self
    }

    /// Prints it.
    pub(crate) fn print(self, json: bool) -> ExitCode {
        let text = match (self.raw, json) {
            (Some(text), _) => text,
            (None, true) => plain(&format!("{:#}\n", self.document)),
            (None, false) => self.lines.iter().map(|line| format!("{}\n", visible(line))).collect(),
        };
        // Whoever reads the first lines alone, as `head` does, has what they wanted.
        let mut out = std::io::stdout();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Failure { message: format!("the answer cannot be written: {error}"), code: 3 }.print(json)
            }
            _ => ExitCode::from(u8::from(self.rejected)),
        }
    }
}

/// The same line, with what is not printed in it escaped: subjects, values and cookies come from anybody, and a terminal obeys.
fn visible(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if c.is_ascii() && !c.is_control() { out.push(c) } else { out.extend(c.escape_debug()) }
    }
    out
}

/// The same JSON, with what is not printed in it as `\u....`: a terminal may show it, and labels come from browsers.
fn plain(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        // No such character stands outside of a string but the ends of lines; those within are escaped already.
        if c == '\n' || c.is_ascii() && !c.is_control() || c.escape_debug().len() == 1 {
            out.push(c);
        } else {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

/// What went wrong.
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// A mistake in what was given.
    pub(crate) fn mistake(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// A file or a store that failed. `Debug` of the library's errors is the message with its causes.
    pub(crate) fn outside(error: &dyn Error) -> Self {
        Self { message: format!("{error:?}"), code: 3 }
    }

    /// A mistake that the library found.
    pub(crate) fn given(error: &dyn Error) -> Self {
        Self { message: format!("{error:?}"), code: 2 }
    }

    /// Prints it to standard error, also as JSON.
    pub(crate) fn print(self, json: bool) -> ExitCode {
        match json {
            true => eprint!("{}", plain(&format!("{:#}\n", json!({ "error": self.message })))),
            false => eprintln!("sealed-session: {}", visible(&self.message)),
        }
        ExitCode::from(self.code)
    }
}
