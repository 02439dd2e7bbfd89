//! The struct of `benches/request`: an account with six cart lines.

use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub struct Account {
    pub id: u64,
    pub email: String,
    pub roles: Vec<String>,
    pub cart: Vec<Line>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Line {
    pub sku: String,
    pub quantity: u32,
    pub price: u64,
}

pub fn account() -> Account {
    let line = |n| Line { sku: format!("SKU-{n:05}"), quantity: n, price: 1_999 + u64::from(n) };
    Account {
        id: 4_711,
        email: "ada@example.com".into(),
        roles: vec!["customer".into(), "editor".into()],
        cart: (1..=6).map(line).collect(),
    }
}
