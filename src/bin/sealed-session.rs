//! `sealed-session`: keys, cookies and stored sessions from the command line, for the person on call.

#[path = "sealed-session/cookies.rs"]
mod cookies;
#[path = "sealed-session/keys.rs"]
mod keys;
#[path = "sealed-session/output.rs"]
mod output;
#[path = "sealed-session/rows.rs"]
mod rows;
#[path = "sealed-session/settings.rs"]
mod settings;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use self::output::{Failure, Output};

/// Keys, cookies and stored sessions of sealed-session.
///
/// Keys come from a file or an environment variable, cookies and sessions from standard input, so that no secret
/// stands in the process list.
///
/// Exit codes: 0 done, or the cookie would be accepted. 1 the cookie would be rejected. 2 a mistake in what was given.
/// 3 a file or a store failed.
#[derive(Debug, Parser)]
#[command(name = "sealed-session", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    /// Answers with one JSON document.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a key, for `SESSION_KEYS` or a secret manager.
    ///
    /// Example: export SESSION_KEYS=$(sealed-session keygen)
    Keygen,
    /// Looks at a key file, or changes it; running servers follow.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Tells what a cookie says of itself: times, key, size, placement, the names of its entries.
    ///
    /// The cookie comes on standard input: its value, `name=value`, or a whole `Cookie` or `Set-Cookie` header.
    ///
    /// Example: pbpaste | sealed-session inspect --file session.keys
    Inspect(cookies::Inspect),
    /// Says in one sentence whether a cookie would be accepted, and why not.
    ///
    /// Example: sealed-session why --file session.keys --store redis://127.0.0.1/ < cookie.txt
    Why(cookies::Why),
    /// Tells how large a session would be, and how far that is from the limits.
    ///
    /// The session comes on standard input, as a JSON object of its entries.
    ///
    /// Example: echo '{"cart": [1, 2, 3]}' | sealed-session size --subject ada
    Size(cookies::Size),
    /// Lists the sessions of a subject, the one that was used last first.
    ///
    /// A line for each: its handle for `revoke`, its login, the hour in UTC in which it was last seen, its label.
    ///
    /// Example: sealed-session list --subject ada --file session.keys --store redis://127.0.0.1/
    List(rows::List),
    /// Ends a session, or all of a subject, for every server that uses the store.
    ///
    /// Example: sealed-session revoke --subject ada --file session.keys --store redis://127.0.0.1/
    Revoke(rows::Revoke),
    /// Drops rows that have expired from a store that does not do so by itself.
    Sweep(rows::Sweep),
    /// Counts the rows of a store that have not expired.
    Count(rows::Count),
    /// Prints a script that completes commands in a shell.
    ///
    /// Example: sealed-session completions bash > ~/.local/share/bash-completion/completions/sealed-session
    Completions {
        /// The shell.
        shell: Shell,
    },
}

fn run(command: Command) -> Result<Output, Failure> {
    match command {
        Command::Keygen => Ok(keys::generate()),
        Command::Keys(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Why(command) => command.run(),
        Command::Size(command) => command.run(),
        Command::List(command) => command.run(),
        Command::Revoke(command) => command.run(),
        Command::Sweep(command) => command.run(),
        Command::Count(command) => command.run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sealed-session", &mut script);
            Ok(Output::raw(String::from_utf8_lossy(&script).into_owned()))
        }
    }
}

fn main() -> ExitCode {
    let Cli { json, command } = Cli::parse();
    match run(command) {
        Ok(output) => output.print(json),
        Err(failure) => failure.print(json),
    }
}
