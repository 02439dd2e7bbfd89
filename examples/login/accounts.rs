//! What a real application has in its database: who there is, hashes of passwords, and an e-mail address.

use std::sync::Mutex;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};

pub(crate) const DEMO_NAME: &str = "ada";
pub(crate) const DEMO_PASSWORD: &str = "difference engine";

/// One account, which is forgotten when the process ends.
pub(crate) struct Accounts {
    /// By Argon2id with the crate's defaults, which are what OWASP's cheat sheet asks for, in the format of PHC.
    password: String,
    email: Mutex<String>,
}

impl Accounts {
    pub(crate) fn new() -> Self {
        let hash = Argon2::default().hash_password(DEMO_PASSWORD.as_bytes()).expect("it can be hashed");
        Self { password: hash.to_string(), email: Mutex::new("ada@example.com".into()) }
    }

    /// Whether that is the user's password. It takes some 20 ms and 19 MiB, so call it where blocking is fine; and as long
    /// for a name that nobody has, or the time would tell which names there are.
    pub(crate) fn verify(&self, name: &str, password: &str) -> bool {
        let hash = PasswordHash::new(&self.password).expect("it was made by `new`");
        let is_right = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
        is_right && name == DEMO_NAME
    }

    pub(crate) fn email(&self) -> String {
        self.email.lock().expect("nobody panics with it").clone()
    }

    pub(crate) fn set_email(&self, email: &str) {
        *self.email.lock().expect("nobody panics with it") = email.to_owned();
    }
}
