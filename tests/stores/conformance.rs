//! The public suite, on every engine.

use sealed_session::store::conformance;

use crate::engines::Engine;

async fn check(engine: Engine) {
    let places = std::sync::Mutex::new(Vec::new());
    conformance::run(async || {
        let place = engine.place();
        let store = place.open().await;
        places.lock().unwrap().push(place);
        store
    })
    .await;
    if engine.is_embedded() {
        return; // One handle is all there is.
    }
    let place = engine.place();
    conformance::shared(&place.open().await, &place.open().await).await;
}

on_each_engine!(check);
