//! What a browser is called.

/// What a browser is called in the list: "Firefox on Linux". Of one that is not known, what it says of itself, which `set_label` cuts.
/// A guess for people and no more: everybody can send any `User-Agent`.
pub(crate) fn of_browser(user_agent: &[u8]) -> String {
    // Edge and Opera call themselves Chrome as well, and Chrome calls itself Safari.
    let browsers = [
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ];
    let systems = [
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let text = String::from_utf8_lossy(user_agent);
    let known =
        |names: &[(&str, &'static str)]| names.iter().find(|(mark, _)| text.contains(mark)).map(|it| it.1);
    if let (true, Some(browser), Some(system)) =
        (text.starts_with("Mozilla/5.0 ("), known(&browsers), known(&systems))
    {
        return format!("{browser} on {system}");
    }
    text.into_owned()
}
