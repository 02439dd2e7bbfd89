use url::Url;

use super::*;

/// The page of the login, which a `next` is resolved against.
const HERE: &str = "https://app.example/login";

/// Ways to leave the origin, or to come near to it.
#[rustfmt::skip]
const LEAVING: [&str; 148] = [
    // Nothing, and no path.
    "", " ", "evil", "evil.example", "evil.example/", "www.evil.example", "?", "#", "?next=/", "#/a", "*",
    ".", "..", "./", "../", "./evil", "../evil", "..//evil.example", ".//evil.example", "%2f", "%2fevil",
    "%2f%2fevil.example", "a/b", "@evil.example", ":443", ":/evil",
    // Another scheme, or none of a kind.
    "https://evil.example", "HTTPS://evil.example", "http://evil.example", "https://app.example/",
    "https://app.example@evil.example/", "https://app.example:pass@evil.example/",
    "https://app.example.evil.example/", "https://evil.example/app.example", "https:evil.example",
    "https:/evil.example", "https:///evil.example", "http:evil.example", "http:/evil.example",
    "http:///evil.example", r"https:\\evil.example", r"https:\/evil.example", r"https:/\evil.example",
    "ftp://evil.example", "ws://evil.example", "file:///etc/passwd", "blob:https://evil.example/1",
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "javascript://app.example/%0aalert(1)",
    "java\tscript:alert(1)", "java\nscript:alert(1)", " javascript:alert(1)", "\u{1}javascript:alert(1)",
    "data:text/html,<script>", "data:text/html;base64,PHNjcmlwdD4=", "vbscript:msgbox(1)",
    "mailto:eve@evil.example", "tel:+1", "about:blank", "view-source:https://evil.example",
    "intent://evil.example", "://evil.example",
    // A host without a scheme.
    "//evil.example", "//evil.example/", "//EVIL.example", "///evil.example", "////evil.example",
    "/////evil.example", "//evil.example:443/", "//eve@evil.example", "//app.example@evil.example",
    "//app.example:pass@evil.example/", "//app.example.evil.example", "//[::1]/", "//127.0.0.1/",
    "//2130706433/", "//evil.example?/a", "//evil.example#/a", "//evil%2eexample", "//", "///", "//?",
    "//#",
    // Backslashes are slashes.
    r"/\evil.example", r"\/evil.example", r"\\evil.example", r"\evil", r"/\/evil.example",
    r"/\\evil.example", r"\/\/evil.example", r"/\\/evil.example", r"//\evil.example", r"/a\..\b", r"/a?b=\",
    r"/a#\", r"\",
    // What browsers drop, and what ends a header.
    "/\t/evil.example", "/\n/evil.example", "/\r/evil.example", "/\r\n/evil.example", "\t//evil.example",
    "\n//evil.example", " //evil.example", "  /\t/evil.example", "\u{b}//evil.example",
    "\u{c}//evil.example", "\u{0}//evil.example", "/\t\\evil.example", "/\u{0}/evil.example",
    "/a\r\nSet-Cookie: s=1", "/a b", "/a ", " /a", "/a\t", "/a?b=\n", "/a\u{7f}",
    // Dots: what is left of these may begin with two slashes.
    "/.//evil.example", "/..//evil.example", "/a/..//evil.example", "/a/../../b", "/./evil.example", "/a/.",
    "/a/..", "/%2e//evil.example", "/%2E%2e//evil.example", "/.%2e//evil.example", "/a/%2e%2E/b", "/.;/a",
    "/..;/a", "/..;a=b/c", "/;/evil.example", "/..%3b/a", "/%3b/evil.example",
    // Encoded: for who decodes once, or twice.
    "/%2fevil.example", "/%2Fevil.example", "/%5cevil.example", "/%5Cevil.example", "/%09/evil.example",
    "/%0d%0aSet-Cookie:s=1", "/%00/evil.example", "/a%7f", "/%252fevil.example", "/%255cevil.example",
    "/%c0%afevil.example", "/%ff", "/a%", "/a%2",
];

/// More of them: with characters that look like others, and a few that are hard to spell in a table.
fn more_leaving() -> Vec<String> {
    let mut more = Vec::new();
    for c in
        ['／', '＼', '⁄', '∕', '⧸', '。', '．', '\u{a0}', '\u{85}', '\u{2028}', '\u{200b}', '\u{feff}', 'é']
    {
        more.push(format!("/{c}evil.example"));
        more.push(format!("{c}/evil.example"));
        more.push(format!("/{c}/evil.example"));
    }
    for byte in 0..=0x1f_u8 {
        more.push(format!("/%{byte:02x}/evil.example"));
        more.push(format!("/{}/evil.example", char::from(byte)));
    }
    more.extend(["/%gg", "/%2g", "/%%2f", "/%+1", "/a//b", "/a//", "/a/b//c/d?e"].map(str::to_owned));
    more.extend(["/%c2%85", "/%e0%80%af", "/%ed%a0%80", "/a%25", "/%2e", "/%2e%2e/"].map(str::to_owned));
    more.push(format!("/{}", "a".repeat(MAX_LOCAL_PATH_BYTES)));
    more
}

#[rustfmt::skip]
const STAYING: [&str; 44] = [
    "/", "/a", "/a/", "/a/b", "/a/b/", "/orders/17", "/orders?page=2", "/?", "/?a", "/#", "/#top", "/a#b?c",
    "/a?b#c", "/a?next=//evil.example", "/a?next=https://evil.example/", "/a?b=/../", "/a?b=%2f%5c%0a%00",
    "/a?b=100%", "/a?b=%", "/a#//evil.example", "/#/route", "/#!/route", "/a?b=c&d=e+f", "/a?b[]=1",
    "/a?\"<>`{|}^", "/a?b=javascript:alert(1)", "/.well-known/change-password", "/...", "/..a", "/a..",
    "/.a", "/a.b/c.d", "/@ada", "/a:b", "/javascript:alert(1)", "/https:evil.example", "/a;b=c", "/a%20b",
    "/%e2%82%ac", "/%C3%A9t%C3%A9", "/a%3fb", "/a%23b", "/~ada/!$&'()*+,=", "/%ef%bc%8fevil.example",
];

fn resolve(next: &str) -> Result<Url, url::ParseError> {
    Url::parse(HERE).unwrap().join(next)
}

fn leaves(next: &str) -> bool {
    resolve(next).is_ok_and(|url| url.origin() != Url::parse(HERE).unwrap().origin())
}

fn percent_decoded(text: &str) -> String {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        match pair {
            Some(pair) if byte == b'%' => {
                decoded.push(u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap());
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[track_caller]
fn assert_stays(next: &str) {
    let once = percent_decoded(next);
    for form in [next, &once, &percent_decoded(&once)] {
        let url = resolve(form).unwrap_or_else(|error| panic!("{next:?} as {form:?}: {error}"));
        assert_eq!(url.origin(), Url::parse(HERE).unwrap().origin(), "{next:?} as {form:?}");
        assert!(!url.path().starts_with("//"), "{next:?} as {form:?} is {url}");
    }
}

#[test]
fn whatever_leaves_the_origin_is_refused() {
    for next in LEAVING {
        assert_eq!(local_path(next), None, "{next:?}");
    }
    for next in more_leaving() {
        assert_eq!(local_path(&next), None, "{next:?}");
    }
}

/// Otherwise the table would show nothing.
#[test]
fn a_browser_would_leave_by_many_of_these() {
    let leaving = LEAVING.iter().filter(|next| leaves(next)).count();
    assert!(leaving >= 60, "{leaving} of {}", LEAVING.len());
}

#[test]
fn a_path_of_this_origin_is_taken_as_it_is() {
    for next in STAYING {
        assert_eq!(local_path(next), Some(next));
        assert_stays(next);
    }
    let longest = format!("/{}", "a".repeat(MAX_LOCAL_PATH_BYTES - 1));
    assert_eq!(local_path(&longest), Some(&*longest));
}

#[test]
fn what_is_taken_stays_on_the_origin_also_decoded_once_or_twice() {
    const PARTS: [&str; 40] = [
        "/",
        "/",
        "/",
        "/",
        "a",
        "b",
        "\\",
        ".",
        "..",
        "%2e",
        "%2E",
        "%2f",
        "%5C",
        "%25",
        "%",
        "2f",
        "5c",
        ":",
        "@",
        "?",
        "#",
        ";",
        "%3b",
        "%3f",
        "%23",
        "\t",
        "\n",
        " ",
        "%09",
        "%0a",
        "%00",
        "%20",
        "%c0%af",
        "%ef%bc%8f",
        "／",
        "evil.example",
        "https:",
        "javascript:",
        "&",
        "~",
    ];
    let mut state = 1_u64;
    // SplitMix64.
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap()
    };
    let (mut taken, mut left) = (0, 0);
    for _ in 0..200_000 {
        let parts = 1 + random() % 7;
        // Mostly with a slash first, because everything else is refused at once.
        let mut next = if random() % 8 == 0 { String::new() } else { "/".to_owned() };
        (0..parts).for_each(|_| next.push_str(PARTS[random() % PARTS.len()]));
        match local_path(&next) {
            Some(_) => {
                taken += 1;
                assert_stays(&next);
            }
            None => left += usize::from(leaves(&next)),
        }
    }
    assert!(taken > 30_000 && left > 4_000, "{taken} were taken, {left} would have left");
}
