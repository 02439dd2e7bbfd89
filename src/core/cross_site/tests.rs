use super::*;

/// A request's head, spelled out.
#[derive(Default, Clone)]
struct Asked<'a> {
    method: &'a str,
    authority: Option<&'a str>,
    headers: Vec<(Field, &'a str)>,
}

impl Head for Asked<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn authority(&self) -> Option<&str> {
        self.authority
    }

    fn values(&self, field: Field) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().filter(move |(name, _)| *name == field).map(|(_, value)| value.as_bytes())
    }
}

fn config(policy: CrossSite) -> GuardConfig {
    GuardConfig {
        policy: Some(policy),
        trusted: vec!["https://appleid.apple.com".into(), "https://app.example.com:8443".into()],
        forwarded_host: false,
    }
}

/// A cookie that is not for all sites, and always `Secure`.
fn cookie() -> CookieConfig {
    CookieConfig::default()
}

fn guard(policy: CrossSite) -> Guard {
    config(policy).build(&cookie()).unwrap()
}

/// A `POST` to example.com with these headers.
fn post<'a>(headers: &[(Field, &'a str)]) -> Asked<'a> {
    let headers = [&[(Field::Host, "example.com")], headers].concat();
    Asked { method: "POST", authority: None, headers }
}

impl Guard {
    fn is_foreign(&self, head: &impl Head) -> bool {
        self.foreign(head).is_some()
    }
}

/// What an `Origin` is to `https://example.com`, in words.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Whose {
    Missing,
    Own,
    Trusted,
    Foreign,
}

const ORIGINS: [(&[&str], Whose); 22] = [
    (&[], Whose::Missing),
    (&["https://example.com"], Whose::Own),
    (&["https://EXAMPLE.com"], Whose::Own),
    (&["https://example.com:443"], Whose::Own),
    (&["https://appleid.apple.com"], Whose::Trusted),
    (&["https://app.example.com:8443"], Whose::Trusted),
    (&["https://app.example.com"], Whose::Foreign),
    (&["null"], Whose::Foreign),
    (&[""], Whose::Foreign),
    (&["example.com"], Whose::Foreign),
    (&["https://"], Whose::Foreign),
    (&["https://example.com/"], Whose::Foreign),
    (&["https://example.com:8080"], Whose::Foreign),
    (&["https://example.com:80"], Whose::Foreign),
    (&["http://example.com"], Whose::Foreign),
    (&["http://example.com:443"], Whose::Foreign),
    (&["https://www.example.com"], Whose::Foreign),
    (&["https://example.com.evil.net"], Whose::Foreign),
    (&["https://evil.net"], Whose::Foreign),
    (&["https://ada@example.com"], Whose::Foreign),
    (&["https://example.com", "https://example.com"], Whose::Foreign),
    (&["https://appleid.apple.com", "https://evil.net"], Whose::Foreign),
];

const SITES: [&[&str]; 9] = [
    &[],
    &["same-origin"],
    &["none"],
    &["same-site"],
    &["cross-site"],
    &["Same-Origin"],
    &["something-new"],
    &[""],
    &["same-origin", "same-origin"],
];

const POLICIES: [CrossSite; 4] =
    [CrossSite::Refuse, CrossSite::AllowSameSite, CrossSite::Anonymous, CrossSite::Allow];

/// The authority of its URI, its headers, and whether forwarded hosts are to be believed.
type Address = (Option<&'static str>, Vec<(Field, &'static str)>, bool);

/// How a request says that it is addressed to example.com, and with it what it may say besides.
fn addresses() -> [Address; 8] {
    let (host, other) = ((Field::Host, "example.com"), (Field::Host, "backend:8080"));
    [
        (None, vec![host], false),
        (None, vec![(Field::Host, "EXAMPLE.COM:443")], false),
        (Some("example.com"), vec![], false),
        (Some("example.com:443"), vec![other], false),
        // Nobody said that these are to be believed.
        (None, vec![host, (Field::XForwardedHost, "evil.net"), (Field::Forwarded, "host=evil.net")], false),
        (None, vec![other, (Field::XForwardedHost, "example.com, proxy:80")], true),
        (None, vec![other, (Field::Forwarded, "for=10.0.0.1;Host=\"example.com:443\", host=evil.net")], true),
        (
            None,
            vec![other, (Field::Forwarded, "host=example.com"), (Field::XForwardedHost, "evil.net")],
            true,
        ),
    ]
}

#[test]
fn every_combination_of_what_is_looked_at() {
    const METHODS: [(&str, Option<&str>, bool); 12] = [
        ("GET", None, false),
        ("HEAD", None, false),
        ("OPTIONS", None, false),
        ("TRACE", None, false),
        ("GET", Some("h2c"), false),
        ("GET", Some("websocket"), true),
        ("GET", Some("h2c, WebSocket"), true),
        ("POST", None, true),
        ("DELETE", None, true),
        ("CONNECT", None, true),
        ("get", None, true),
        ("QUERY", None, true),
    ];
    let mut judged = 0;
    for policy in POLICIES {
        for (same_site, sent_to_all) in [(SameSite::Lax, false), (SameSite::None, true)] {
            for (authority, address, forwarded_host) in addresses() {
                let config = GuardConfig { forwarded_host, ..config(policy) };
                let guard = config.build(&CookieConfig { same_site, ..cookie() }).unwrap();
                for (method, upgrade, may_change) in METHODS {
                    for sites in SITES {
                        for (origins, whose) in ORIGINS {
                            let mut headers = address.clone();
                            headers.extend(upgrade.map(|value| (Field::Upgrade, value)));
                            headers.extend(sites.iter().map(|value| (Field::SecFetchSite, *value)));
                            headers.extend(origins.iter().map(|value| (Field::Origin, *value)));
                            let asked = Asked { method, authority, headers };
                            let own = match (sites, whose) {
                                (_, Whose::Trusted) => true,
                                (["same-origin" | "none"], _) => true,
                                (["same-site"], _) => policy == CrossSite::AllowSameSite,
                                ([], Whose::Own) => true,
                                ([], Whose::Missing) => !sent_to_all,
                                _ => false,
                            };
                            let foreign = may_change && policy != CrossSite::Allow && !own;
                            assert_eq!(
                                guard.is_foreign(&asked),
                                foreign,
                                "{policy:?}, SameSite=None: {sent_to_all}, {method} {authority:?} {:?}",
                                asked.headers
                            );
                            judged += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(judged, 4 * 2 * 8 * 12 * 9 * 22);
}

#[test]
fn hosts_that_cannot_be_read_are_nobodys_origin() {
    let own = (Field::Origin, "https://example.com");
    for hosts in [
        &[] as &[&str],
        &["example.com", "example.com"],
        &[""],
        &["example.com:"],
        &["example.com:x"],
        &["example.com:99999"],
        &["example.com:443:443"],
        &["https://example.com"],
        &["evil.net,example.com"],
        &["[::1"],
    ] {
        let mut headers = vec![own];
        headers.extend(hosts.iter().map(|host| (Field::Host, *host)));
        let asked = Asked { method: "POST", authority: None, headers };
        assert!(guard(CrossSite::Refuse).is_foreign(&asked), "{hosts:?}");
    }
}

#[test]
fn plain_http_is_another_origin_but_on_this_machine() {
    let asked = |origin, host| Asked {
        method: "POST",
        authority: None,
        headers: vec![(Field::Origin, origin), (Field::Host, host)],
    };
    let auto = CookieConfig { secure: Secure::Auto, ..cookie() };
    let (always, not_always) = (guard(CrossSite::Refuse), config(CrossSite::Refuse).build(&auto).unwrap());
    for (origin, host) in [
        ("http://localhost:8080", "localhost:8080"),
        ("http://app.localhost", "app.localhost:80"),
        ("http://127.0.0.1:3000", "127.0.0.1:3000"),
        ("http://[::1]:3000", "[::1]:3000"),
    ] {
        assert!(!always.is_foreign(&asked(origin, host)), "{origin}");
        assert!(!not_always.is_foreign(&asked(origin, host)), "{origin}");
    }
    let (origin, host) = ("http://shop.lan", "shop.lan");
    assert!(always.is_foreign(&asked(origin, host)));
    assert!(!not_always.is_foreign(&asked(origin, host)));
    assert!(not_always.is_foreign(&asked("http://shop.lan:8080", "shop.lan")));
    assert!(not_always.is_foreign(&asked("http://localhost:3000", "localhost:8080")));
    for alike in ["http://localhost.evil.net", "http://evil-localhost", "http://127.0.0.1.evil.net"] {
        assert!(always.is_foreign(&asked(alike, alike.strip_prefix("http://").unwrap())), "{alike}");
    }
}

#[test]
fn the_default_asks_for_the_same_origin_unless_the_cookie_is_for_subdomains() {
    let sibling = post(&[(Field::SecFetchSite, "same-site"), (Field::Origin, "https://www.example.com")]);
    let default = |domain: Option<&str>| {
        let cookie = CookieConfig { domain: domain.map(str::to_owned), ..cookie() };
        GuardConfig::default().build(&cookie).unwrap()
    };
    assert_eq!(default(None).policy, CrossSite::Refuse);
    assert!(default(None).is_foreign(&sibling));
    for domain in ["example.com", ".Example.com"] {
        let guard = default(Some(domain));
        assert_eq!(guard.policy, CrossSite::AllowSameSite);
        assert!(!guard.is_foreign(&sibling));
        // Browsers that say nothing of the site, and websockets of those that do.
        for (origin, own) in [
            ("https://www.example.com", true),
            ("https://a.b.example.com:8443", true),
            ("https://example.com", true),
            ("http://www.example.com", false),
            ("https://badexample.com", false),
            ("https://example.com.evil.net", false),
            ("https://com", false),
            ("null", false),
        ] {
            assert_eq!(guard.is_foreign(&post(&[(Field::Origin, origin)])), !own, "{origin}");
            let named = [(Field::SecFetchSite, "cross-site"), (Field::Origin, origin)];
            assert!(guard.is_foreign(&post(&named)), "{origin}");
        }
        let refuses = GuardConfig { policy: Some(CrossSite::Refuse), ..GuardConfig::default() };
        let refuses = refuses.build(&CookieConfig { domain: Some(domain.into()), ..cookie() }).unwrap();
        assert!(refuses.is_foreign(&post(&[(Field::Origin, "https://www.example.com")])));
    }
}

#[test]
fn a_trusted_origin_is_one_that_browsers_send() {
    for wrong in [
        "",
        "null",
        "*",
        "example.com",
        "https://",
        "https:///",
        "https://*.example.com",
        "https://example.com//",
        "https://example.com/login",
        "https://ada@example.com",
        "https://example.com:port",
        "//example.com",
    ] {
        let config = GuardConfig { trusted: vec![wrong.into()], ..GuardConfig::default() };
        let error = config.build(&cookie()).unwrap_err().to_string();
        let start = format!("trusted_origin {wrong:?} is not usable");
        let right = if wrong.contains('*') { "CrossSite::AllowSameSite" } else { "https://app.example.com" };
        assert!(error.starts_with(&start) && error.contains(right), "{error}");
    }
    let config = GuardConfig {
        trusted: vec!["HTTPS://APP.Example.com:443/".into(), "http://localhost:5173".into()],
        ..GuardConfig::default()
    };
    let guard = config.build(&cookie()).unwrap();
    for origin in ["https://app.example.com", "http://localhost:5173"] {
        let asked = post(&[(Field::SecFetchSite, "cross-site"), (Field::Origin, origin)]);
        assert!(!guard.is_foreign(&asked), "{origin}");
    }
}

#[test]
fn the_log_is_told_what_was_compared_and_why_that_is_foreign() {
    use CrossSiteReason::{OtherSite, PlainHttp, Unnamed};

    let at = |host, headers: &[(Field, &'static str)]| {
        let headers = [&[(Field::Host, host)], headers].concat();
        Asked { method: "POST", authority: None, headers }
    };
    let lan = config(CrossSite::Refuse);
    let trusts_itself = GuardConfig { trusted: vec!["http://192.0.2.2:8080".into()], ..lan.clone() };
    let everywhere = CookieConfig { same_site: SameSite::None, ..cookie() };
    for guard in [lan.build(&cookie()).unwrap(), trusts_itself.build(&cookie()).unwrap()] {
        for (asked, reason, origin) in [
            (
                at("192.0.2.2:8080", &[(Field::Origin, "http://192.0.2.2:8080")]),
                PlainHttp,
                "http://192.0.2.2:8080",
            ),
            (
                at("192.0.2.2:8080", &[(Field::Origin, "http://192.0.2.3:8080")]),
                OtherSite,
                "http://192.0.2.3:8080",
            ),
            (at("192.0.2.2:8080", &[(Field::Origin, "null")]), OtherSite, "null"),
        ] {
            let host = Some("192.0.2.2:8080".to_owned());
            let told = Foreign { reason, origin: Some(origin.to_owned()), host };
            assert_eq!(guard.foreign(&asked), Some(told));
        }
    }
    let guard = lan.build(&everywhere).unwrap();
    let told = guard.foreign(&at("example.com", &[])).unwrap();
    assert_eq!((told.reason, told.origin), (Unnamed, None));
    let told = guard.foreign(&at("example.com", &[(Field::SecFetchSite, "cross-site")])).unwrap();
    assert_eq!(told.reason, OtherSite);
    let long = "https://é".repeat(1_000);
    let asked = Asked {
        method: "POST",
        authority: None,
        headers: vec![(Field::Host, "example.com"), (Field::Origin, &long)],
    };
    let told = guard.foreign(&asked).unwrap();
    assert_eq!(told.origin.unwrap().chars().count(), 100, "no more than the log has room for");
}
