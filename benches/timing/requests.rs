//! One request after the other through an actix-web service: how long each takes, and how many round trips.

use std::time::Instant;

use actix_web::dev::{Service, ServiceResponse};
use actix_web::{Error, test};

use super::turns::Turns;

const WARM_UP: usize = 50;
const REQUESTS: usize = 500;

/// What one kind of request costs.
pub(crate) struct Row {
    pub(crate) micros: f64,
    pub(crate) slow: f64,
    pub(crate) turns: Option<f64>,
}

pub(crate) async fn measure<S, B>(app: &S, path: &str, cookie: &str, turns: Option<&Turns>) -> Row
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
{
    let request = async || {
        let request = test::TestRequest::get().uri(path).insert_header(("cookie", cookie)).to_request();
        let start = Instant::now();
        let response = app.call(request).await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        start.elapsed().as_nanos() as f64 / 1_000.0
    };
    for _ in 0..WARM_UP {
        request().await;
    }
    if let Some(turns) = turns {
        turns.take();
    }
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        times.push(request().await);
    }
    let turns = turns.map(|turns| turns.take() as f64 / REQUESTS as f64);
    times.sort_by(f64::total_cmp);
    Row { micros: times[REQUESTS / 2], slow: times[REQUESTS * 99 / 100], turns }
}

pub(crate) fn print(name: &str, counted: Option<[Row; 3]>, timed: [Row; 3]) {
    let trips = |at: usize| match &counted {
        Some(rows) => format!("{:.2}", rows[at].turns.unwrap_or(f64::NAN)),
        None => "-".into(),
    };
    let cell = |(at, row): (usize, &Row)| format!("{:>9}{:>6.0}{:>11.0}", trips(at), row.micros, row.slow);
    println!("{name:24}{}", timed.iter().enumerate().map(cell).collect::<String>());
}
