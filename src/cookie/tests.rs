use super::*;

fn found<'h>(header: &'h [u8], name: &str) -> Vec<&'h [u8]> {
    scan(header, name).collect()
}

#[test]
fn every_cookie_of_exactly_the_name_is_found_wherever_it_stands() {
    for (header, values) in [
        (&b"s=1"[..], &[&b"1"[..]][..]),
        (b"s=1; a=2", &[b"1"]),
        (b"a=2; s=1", &[b"1"]),
        (b"a=2; s=1; b=3", &[b"1"]),
        (b"s=1; s=2;s=3", &[b"1", b"2", b"3"]),
        (b"a=2;s=1", &[b"1"]),
        (b" \t s = 1 \t; a=2", &[b"1"]),
        (b"s=", &[b""]),
        (b"s=a=b", &[b"a=b"]),
        (b"s=\"1\"", &[b"\"1\""]),
        (b";;; ;=;=x; s=1;", &[b"1"]),
        (b"a=\xff\xfe; s=1", &[b"1"]),
        (b"\xff; s=1; \xf0\x28", &[b"1"]),
        (b"s=\xff", &[b"\xff"]),
        (b"a=\"x; s=1\"", &[b"1\""]),
        (b"", &[]),
        (b"s", &[]),
        (b"; ;", &[]),
        (b"S=1", &[]),
        (b"xs=1; s2=1; s-=1; s.s=1", &[]),
        (b"a=s=1", &[]),
        (b"s s=1", &[]),
    ] {
        assert_eq!(found(header, "s"), values, "{}", header.escape_ascii());
    }
}

fn config() -> CookieConfig {
    CookieConfig { name: "s".into(), ..CookieConfig::default() }
}

#[test]
fn a_prefix_in_whatever_case_holds_the_name_to_what_it_promises() {
    let named = |name: &str| CookieConfig { name: name.into(), ..config() };
    type Break = fn(CookieConfig) -> CookieConfig;
    let never: Break = |c| CookieConfig { secure: Secure::Never, ..c };
    let auto: Break = |c| CookieConfig { secure: Secure::Auto, ..c };
    let script: Break = |c| CookieConfig { http_only: false, ..c };
    let domain: Break = |c| CookieConfig { domain: Some("example.com".into()), ..c };
    let path: Break = |c| CookieConfig { path: "/app".into(), ..c };
    let all = [("never", never), ("auto", auto), ("script", script), ("domain", domain), ("path", path)];
    for (prefix, binding) in [
        ("__Host-Http-", &["never", "auto", "script", "domain", "path"][..]),
        ("__Host-", &["never", "auto", "domain", "path"]),
        ("__Http-", &["never", "auto", "script"]),
        ("__Secure-", &["never", "auto"]),
        ("_", &[]),
    ] {
        for prefix in [prefix.to_owned(), prefix.to_ascii_lowercase(), prefix.to_ascii_uppercase()] {
            let name = format!("{prefix}s");
            assert_eq!(named(&name).validate(), Ok(()), "{name}");
            for (what, broken) in all {
                let outcome = broken(named(&name)).validate();
                let refused = matches!(outcome, Err(ConfigError::Prefix { .. }));
                assert_eq!(refused, binding.contains(&what), "{name} {what}: {outcome:?}");
            }
        }
    }
}

#[test]
fn attributes_that_browsers_refuse_without_secure_need_it() {
    for secure in [Secure::Never, Secure::Auto] {
        for cross_site in [
            CookieConfig { same_site: SameSite::None, ..config() },
            CookieConfig { partitioned: true, ..config() },
        ] {
            assert_eq!(cross_site.validate(), Ok(()));
            let outcome = CookieConfig { secure, ..cross_site }.validate();
            assert!(matches!(outcome, Err(ConfigError::NeedsSecure { .. })), "{outcome:?}");
        }
    }
}

#[test]
fn names_paths_and_domains_that_could_break_the_header_or_be_ignored_are_refused() {
    for name in ["", "a b", "a=b", "a;b", "a,b", "a\"b", "a\r\nb", "é", "a\0", &"n".repeat(257)] {
        let outcome = CookieConfig { name: name.into(), ..config() }.validate();
        assert!(matches!(outcome, Err(ConfigError::Name { .. })), "{name:?}: {outcome:?}");
    }
    for path in ["", "app", "/a;b", "/a\r\nb", "/é", "/a ", &format!("/{}", "p".repeat(1_024))] {
        let outcome = CookieConfig { path: path.into(), ..config() }.validate();
        assert!(
            matches!(outcome, Err(ConfigError::Attribute { attribute: "path", .. })),
            "{path:?}: {outcome:?}"
        );
    }
    for domain in ["", ".", "a..b", "a b", "a;b", "https://a", "a/", "é.example", "a:80", &"d".repeat(1_025)]
    {
        let outcome = CookieConfig { domain: Some(domain.into()), ..config() }.validate();
        let refused = matches!(outcome, Err(ConfigError::Attribute { attribute: "domain", .. }));
        assert!(refused, "{domain:?}: {outcome:?}");
    }
    for domain in ["example.com", ".example.com", "localhost", "a-b.example_c.com"] {
        assert_eq!(CookieConfig { domain: Some(domain.into()), ..config() }.validate(), Ok(()));
    }
}

fn set(config: &CookieConfig, secure: bool, max_age: Option<i64>) -> String {
    CookieWriter::new(config).set(secure, max_age, 2, |out| out.push(b'v'))
}

#[test]
fn the_written_lines_carry_the_configured_attributes_and_removal_carries_the_same() {
    let bare = CookieConfig { http_only: false, secure: Secure::Never, ..config() };
    let full = CookieConfig {
        domain: Some("example.com".into()),
        path: "/app".into(),
        same_site: SameSite::None,
        partitioned: true,
        ..config()
    };
    for (config, attributes) in [
        (config(), "; HttpOnly; SameSite=Lax; Secure; Path=/"),
        (bare, "; SameSite=Lax; Path=/"),
        (
            CookieConfig { same_site: SameSite::Strict, ..config() },
            "; HttpOnly; SameSite=Strict; Secure; Path=/",
        ),
        (full, "; HttpOnly; SameSite=None; Partitioned; Secure; Path=/app; Domain=example.com"),
    ] {
        assert_eq!(set(&config, false, None), format!("s=v{attributes}"));
        assert_eq!(set(&config, false, Some(60)), format!("s=v{attributes}; Max-Age=60"));
        let gone = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        assert_eq!(CookieWriter::new(&config).remove(false), format!("s={attributes}{gone}"));
    }
}

#[test]
fn secure_is_written_always_never_or_as_the_request_came() {
    for (secure, over_http, over_https) in
        [(Secure::Always, true, true), (Secure::Never, false, false), (Secure::Auto, false, true)]
    {
        let config = CookieConfig { secure, ..config() };
        assert_eq!(set(&config, false, None).contains("; Secure"), over_http, "{secure:?}");
        assert_eq!(set(&config, true, None).contains("; Secure"), over_https, "{secure:?}");
    }
}
