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
        (b"s;=1", &[]),
        (b"s==1", &[b"=1"]),
        (b"s=1; s; S=2; s=3", &[b"1", b"3"]),
        (b"a=1,s=2", &[]),
        (b"\"s\"=1; $s=1; \xc2\xa0s=1; s\0=1", &[]),
    ] {
        assert_eq!(found(header, "s"), values, "{}", header.escape_ascii());
    }
    // The one pair of quotes that a client may put around a value is none of it; all else is left as it is.
    for (header, values) in [
        (&b"s=\"1\""[..], &[&b"1"[..]][..]),
        (b"a=\"2\"; s = \"1\" ; b=\"3\"", &[b"1"]),
        (b"s=\"1\"; s=1", &[b"1", b"1"]),
        (b"s=\"a=b\"", &[b"a=b"]),
        (b"s=\" 1\t\"", &[b" 1\t"]),
        (b"s=\"\"", &[b""]),
        (b"s=\"", &[b"\""]),
        (b"s=\"1", &[b"\"1"]),
        (b"s=1\"", &[b"1\""]),
        (b"s=1\"1", &[b"1\"1"]),
        (b"s=\"\"1\"\"", &[b"\"1\""]),
        (b"s=\"1\"1\"", &[b"1\"1"]),
        (b"s=\"\"\"", &[b"\""]),
        (b"s=\\\"1\\\"", &[b"\\\"1\\\""]),
        (b"s='1'", &[b"'1'"]),
        (b"s=%221%22", &[b"%221%22"]),
    ] {
        assert_eq!(found(header, "s"), values, "{}", header.escape_ascii());
    }
    let near =
        b"xsession=1; session2=2; Session=3; sessio=4; session; session=5; session_=6; __Host-session=7";
    assert_eq!(found(near, "session"), [b"5"]);
    assert_eq!(found(near, "__Host-session"), [b"7"]);
    assert_eq!(found(near, "__Host-Http-session"), [b""; 0]);
}

#[test]
fn a_header_is_split_as_a_plain_reading_of_it_says() {
    // All headers of up to seven bytes out of these.
    let alphabet = b"s=; x\"\xff";
    for length in 0..=7_u32 {
        for number in 0..7_usize.pow(length) {
            let digits = (0..length).map(|n| number / 7_usize.pow(n) % 7);
            let header: Vec<u8> = digits.map(|digit| alphabet[digit]).collect();
            let plain: Vec<&[u8]> = header
                .split(|&b| b == b';')
                .filter_map(|pair| {
                    let equals = pair.iter().position(|&b| b == b'=')?;
                    let value = pair[equals + 1..].trim_ascii();
                    let is_quoted = value.len() > 1 && value[0] == b'"' && value[value.len() - 1] == b'"';
                    let value = if is_quoted { &value[1..value.len() - 1] } else { value };
                    (pair[..equals].trim_ascii() == b"s").then_some(value)
                })
                .collect();
            assert_eq!(found(&header, "s"), plain, "{}", header.escape_ascii());
        }
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
                if !binding.contains(&what) {
                    assert_eq!(outcome, Ok(()), "{name} {what}");
                    continue;
                }
                let Err(ConfigError::Prefix { name: refused, prefix: binds, needs }) = outcome else {
                    panic!("{name} {what}: {outcome:?}");
                };
                assert_eq!(refused, name);
                assert!(prefix.eq_ignore_ascii_case(binds), "{name}: {binds}");
                let word = match what {
                    "script" => "http_only(true)",
                    "domain" => "no domain",
                    "path" => "the path is `/`",
                    _ => "Secure::Always",
                };
                assert!(needs.contains(word), "{name} {what}: {needs}");
            }
        }
    }
    for name in ["__Host", "__host_s", "Host-s", "_Host-s", "x__Host-s", "__Secures", "__Http"] {
        assert_eq!(script(never(domain(path(named(name))))).validate(), Ok(()), "{name} has no prefix");
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
            let outcome = CookieConfig { secure, ..cross_site.clone() }.validate();
            let Err(ConfigError::NeedsSecure { attribute, secure: found }) = outcome else {
                panic!("{outcome:?}");
            };
            assert_eq!(attribute == "Partitioned", cross_site.partitioned);
            assert_eq!(found, format!("Secure::{secure:?}"));
        }
    }
}

#[test]
fn names_paths_and_domains_that_could_break_the_header_or_be_ignored_are_refused() {
    for name in ["", "a b", "a=b", "a;b", "a,b", "a\"b", "a\r\nb", "é", "a\0", &"n".repeat(257)] {
        let outcome = CookieConfig { name: name.into(), ..config() }.validate();
        assert!(matches!(outcome, Err(ConfigError::Name { .. })), "{name:?}: {outcome:?}");
    }
    for path in ["", "app", "app/", "a/b", "/a;b", "/a\r\nb", "/é", "/a ", &format!("/{}", "p".repeat(1_024))]
    {
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

#[test]
fn lengths_are_refused_one_byte_past_the_limit() {
    let path = |len: usize| CookieConfig { path: format!("/{}", "p".repeat(len - 1)), ..config() };
    let domain = |len: usize| CookieConfig { domain: Some("d".repeat(len)), ..config() };
    let name = |len: usize| CookieConfig { name: "n".repeat(len), ..config() };
    for (just_fits, too_long) in
        [(path(1_024), path(1_025)), (domain(1_024), domain(1_025)), (name(256), name(257))]
    {
        assert_eq!(just_fits.validate(), Ok(()));
        assert!(too_long.validate().is_err());
    }
    for path in ["/", "/a b", "/a,b=\"c\"", "//", "/~"] {
        assert_eq!(CookieConfig { path: path.into(), ..config() }.validate(), Ok(()), "{path}");
    }
    for name in ["s", "!#$%&'*+-.^_`|~09azAZ"] {
        assert_eq!(CookieConfig { name: name.into(), ..config() }.validate(), Ok(()), "{name}");
    }
}

#[test]
fn no_character_that_could_leave_its_place_is_allowed_anywhere() {
    for byte in 0..=127_u8 {
        let c = char::from(byte);
        let name = CookieConfig { name: format!("a{c}b"), ..config() }.validate();
        let token = byte.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(c);
        assert_eq!(name.is_ok(), token, "name {c:?}");
        let path = CookieConfig { path: format!("/a{c}b"), ..config() }.validate();
        assert_eq!(path.is_ok(), !c.is_control() && c != ';', "path {c:?}");
        let domain = CookieConfig { domain: Some(format!("a{c}b")), ..config() }.validate();
        assert_eq!(domain.is_ok(), c.is_ascii_alphanumeric() || "-_.".contains(c), "domain {c:?}");
    }
}

fn set(config: &CookieConfig, secure: bool, max_age: Option<i64>) -> String {
    CookieWriter::new(config).set(secure, max_age, 2, |out| out.push(b'v')).into_text()
}

#[test]
fn a_line_has_room_for_its_bytes_and_no_more() {
    let writer = CookieWriter::new(&config());
    for max_age in [None, Some(0), Some(9), Some(10), Some(34_560_000)] {
        let line = writer.set(true, max_age, 2, |out| out.push(b'v')).line;
        assert_eq!(line.capacity(), line.len(), "{max_age:?}");
        assert!(line.len() <= writer.line_len(true, 2), "{max_age:?}");
    }
    let longest = writer.set(true, Some(34_560_000), 2, |out| out.push(b'v')).line;
    assert_eq!(longest.len(), writer.line_len(true, 2));
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
        assert_eq!(CookieWriter::new(&config).remove(false).into_text(), format!("s={attributes}{gone}"));
    }
}

#[test]
fn secure_is_written_always_never_or_as_the_request_came() {
    let (with, without) = ("; HttpOnly; SameSite=Lax; Secure; Path=/", "; HttpOnly; SameSite=Lax; Path=/");
    for (secure, over_http, over_https) in
        [(Secure::Always, with, with), (Secure::Never, without, without), (Secure::Auto, without, with)]
    {
        let config = CookieConfig { secure, ..config() };
        for (https, attributes) in [(false, over_http), (true, over_https)] {
            assert_eq!(set(&config, https, None), format!("s=v{attributes}"), "{secure:?}");
            assert_eq!(
                CookieWriter::new(&config).remove(https).into_text(),
                format!("s={attributes}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
                "{secure:?}"
            );
        }
    }
}

#[test]
fn the_longest_plaintext_fills_name_and_value_to_the_limit_and_no_further() {
    for len in [1, 7, 19, 255, 256] {
        let writer = CookieWriter::new(&CookieConfig { name: "n".repeat(len), ..config() });
        let longest = writer.max_plaintext_len();
        assert!(len + envelope::sealed_len(longest) <= MAX_NAME_VALUE_BYTES);
        assert!(len + envelope::sealed_len(longest + 1) > MAX_NAME_VALUE_BYTES);
    }
}

#[test]
fn what_is_configured_is_told() {
    let writer = CookieWriter::new(&CookieConfig { persistent: false, secure: Secure::Auto, ..config() });
    assert_eq!((writer.name(), writer.secure(), writer.persistent()), ("s", Secure::Auto, false));
    assert!(CookieWriter::new(&config()).persistent());
    assert_eq!(CookieConfig::default().validate(), Ok(()));
    assert!(set(&CookieConfig::default(), false, None).starts_with("__Host-Http-session=v; HttpOnly;"));
}
