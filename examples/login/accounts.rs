//! What a real application has in its database: who there is, hashes of passwords, and an e-mail address.

use std::sync::Mutex;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};

pub(crate) const DEMO_NAME: &str = "ada";
pub(crate) const DEMO_PASSWORD: &str = "difference engine";

/// By this the account goes for good, whatever its name becomes; so sessions have it, and not what was typed.
const DEMO_ID: &str = "1815";

/// One account, which is forgotten when the process ends.
pub(crate) struct Accounts {
    /// By Argon2id with the crate's defaults, which are what OWASP's cheat sheet asks for, in the format of PHC.
    password: String,
    email: Mutex<String>,
    hashing: Mutex<()>,
}

impl Accounts {
    pub(crate) fn new() -> Self {
        let hash = Argon2::default().hash_password(DEMO_PASSWORD.as_bytes()).expect("it can be hashed");
        Self {
            password: hash.to_string(),
            email: Mutex::new("ada@example.com".into()),
            hashing: Mutex::new(()),
        }
    }

    /// The id of the account, if that is its password. It takes some 20 ms and 19 MiB, so call it where blocking is fine; and
    /// as long for a name that nobody has, or the time would tell which names there are.
    ///
    /// What it lacks: a limit of attempts per account and address, which belongs into your database or the proxy.
    pub(crate) fn verify(&self, name: &str, password: &str) -> Option<&'static str> {
        // One after the other, because anybody can send five hundred at once. A server has a few places instead.
        let _turn = self.hashing.lock().expect("nobody panics with it");
        let hash = PasswordHash::new(&self.password).expect("it was made by `new`");
        let is_right = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
        (is_right && name == DEMO_NAME).then_some(DEMO_ID)
    }

    /// What the user of a session is called.
    pub(crate) fn name(&self, id: &str) -> &'static str {
        if id == DEMO_ID { DEMO_NAME } else { "somebody" }
    }

    pub(crate) fn email(&self) -> String {
        self.email.lock().expect("nobody panics with it").clone()
    }

    pub(crate) fn set_email(&self, email: &str) {
        *self.email.lock().expect("nobody panics with it") = email.to_owned();
    }
}
