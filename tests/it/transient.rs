//! Values that the browser brings back once: what the person in two tabs, the provider's form and a thief would see.

use std::collections::BTreeMap;
use std::time::Duration;

use sealed_session::{
    ConfigError, KeyRing, Rejection, SameSite, Secure, Sessions, Transient, TransientBuilder, TransientError,
};
use serde::{Deserialize, Serialize};

use crate::support::{Bed, MS, key, start};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    nonce: String,
    verifier: String,
}

const NAME: &str = "__Host-Http-oidc";
const MINUTES: Duration = Duration::from_secs(600);

fn pending(n: usize) -> Pending {
    Pending { nonce: format!("nonce {n}"), verifier: "v".repeat(43) }
}

fn kind(
    bed: &Bed,
    configure: impl FnOnce(TransientBuilder<Pending>) -> TransientBuilder<Pending>,
) -> Transient<Pending> {
    configure(bed.sessions.transient("oidc")).build().unwrap()
}

/// A browser's cookies by their names.
#[derive(Debug, Clone, Default)]
struct Jar(BTreeMap<String, String>);

impl Jar {
    fn keep(&mut self, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("; Max-Age=0;") {
                self.0.remove(name);
            } else {
                self.0.insert(name.into(), value.into());
            }
        }
    }

    fn header(&self) -> [String; 1] {
        [self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")]
    }
}

#[test]
fn a_value_comes_back_once_and_nobody_can_read_it_on_the_way() {
    let bed = Bed::new();
    let (kind, mut jar) = (kind(&bed, |kind| kind), Jar::default());
    let line = kind.put(&pending(1)).unwrap();
    for attribute in ["; HttpOnly", "; Secure", "; Path=/", "; SameSite=Lax", "; Max-Age=600"] {
        assert!(line.contains(attribute), "{line}");
    }
    assert!(line.starts_with(&format!("{NAME}=")) && !line.contains("Domain") && !line.contains("nonce"));
    jar.keep([line]);
    let taken = kind.take(jar.header()).unwrap();
    assert_eq!(taken.value, pending(1));
    let kept = jar.clone();
    jar.keep([taken.removal]);
    assert_eq!((jar.0.len(), kind.take(jar.header())), (0, None));
    // Not by who kept it: that is said in the documentation, and so it is.
    assert_eq!(kind.take(kept.header()).unwrap().value, pending(1));
}

#[test]
fn two_tabs_have_a_value_each_and_do_not_get_the_others() {
    let bed = Bed::new();
    let (kind, mut jar) = (kind(&bed, |kind| kind), Jar::default());
    jar.keep(kind.put_for("one", jar.header(), &pending(1)).unwrap());
    jar.keep(kind.put_for("two", jar.header(), &pending(2)).unwrap());
    assert_eq!(jar.0.keys().collect::<Vec<_>>(), [&format!("{NAME}.one"), &format!("{NAME}.two")]);
    let taken = kind.take_for("two", jar.header()).unwrap();
    assert_eq!(taken.value, pending(2));
    jar.keep([taken.removal]);
    assert_eq!(kind.take_for("two", jar.header()), None);
    assert_eq!(kind.take(jar.header()), None, "that of no suffix is another one");
    assert_eq!(kind.take_for("one", jar.header()).unwrap().value, pending(1));
    // A browser whose jar was tampered with: the value under another tab's name.
    let moved = format!("{NAME}.two={}; {NAME}={0}", jar.0[&format!("{NAME}.one")]);
    assert_eq!((kind.take_for("two", [&moved]), kind.take([&moved])), (None, None));
    // Which hides none.
    jar.keep(kind.put_for("two", jar.header(), &pending(3)).unwrap());
    let both = format!("{moved}; {NAME}.two={}", jar.0[&format!("{NAME}.two")]);
    assert_eq!(kind.take_for("two", [&both]).unwrap().value, pending(3));
    // And that of no suffix is none of the empty one, which may come in a URL.
    jar.keep([kind.put(&pending(4)).unwrap()]);
    assert_eq!((kind.take(jar.header()).unwrap().value, kind.take_for("", jar.header())), (pending(4), None));
}

/// A suffix comes back in a URL that anybody can write.
#[test]
fn what_is_no_suffix_brings_nothing_and_cannot_be_put() {
    let bed = Bed::new();
    let kind = kind(&bed, |kind| kind);
    let long = "x".repeat(65);
    for bad in ["", " ", "a b", "a;b", "a=b", "a.b", "ü", "a\r\nSet-Cookie: x=y", "%2e", &long] {
        let error = kind.put_for(bad, [""], &pending(1)).unwrap_err();
        assert!(matches!(&error, TransientError::Suffix { suffix } if suffix == bad), "{error}");
        assert_eq!(kind.take_for(bad, [format!("{NAME}.{bad}=AAAA")]), None);
    }
    for good in ["0", "AZaz09-_", &long[..64]] {
        let mut jar = Jar::default();
        jar.keep(kind.put_for(good, [""], &pending(1)).unwrap());
        assert!(kind.take_for(good, jar.header()).is_some(), "{good}");
    }
}

/// A page that sends the visitor to the login again and again.
#[test]
fn the_browser_keeps_the_newest_four_of_a_kind() {
    let bed = Bed::new();
    let (kind, mut jar) = (kind(&bed, |kind| kind), Jar::default());
    jar.0.insert("other".into(), "1".into());
    jar.0.insert(format!("{NAME}2.x"), "1".into());
    for n in 0..30 {
        jar.keep(kind.put_for(&format!("tab{n}"), jar.header(), &pending(n)).unwrap());
        bed.clock.advance(MS);
        let ours = jar.0.keys().filter(|name| name.starts_with(&format!("{NAME}."))).count();
        assert_eq!(ours, 4.min(n + 1));
    }
    for n in 26..30 {
        assert_eq!(kind.take_for(&format!("tab{n}"), jar.header()).unwrap().value, pending(n));
    }
    assert_eq!(jar.0.len(), 6, "what is not of the kind stays");
    // The same tab again takes no other's place.
    jar.keep(kind.put_for("tab26", jar.header(), &pending(1)).unwrap());
    assert_eq!(jar.0.len(), 6);
    // Nor is anything removed that did not open here: it may be another application's, or of a key that comes later.
    let elsewhere = Sessions::builder(KeyRing::new(key(9))).clock(bed.clock.clone()).build().unwrap();
    let elsewhere = elsewhere.transient::<Pending>("oidc").build().unwrap();
    jar.keep(elsewhere.put_for("elsewhere", [""], &pending(1)).unwrap());
    jar.0.insert(format!("{NAME}.sid"), "AAAA".into());
    jar.keep(kind.put_for("tab26", jar.header(), &pending(1)).unwrap());
    assert_eq!(jar.0.len(), 8);
    // Of many that were made here, by a hundred tabs at once, some go with each response.
    for n in 0..100 {
        jar.keep(kind.put_for(&format!("at-once{n}"), [""], &pending(n)).unwrap());
    }
    for n in 0..40 {
        let lines = kind.put_for("last", jar.header(), &pending(n)).unwrap();
        assert!(lines.len() <= 9 && (n > 0 || lines.len() == 9), "{lines:?}");
        jar.keep(lines);
    }
    assert_eq!(jar.0.len(), 8, "{jar:?}");
    // What is over goes too.
    bed.clock.advance(MINUTES);
    jar.keep(kind.put_for("new", jar.header(), &pending(1)).unwrap());
    assert_eq!(jar.0.len(), 5, "{jar:?}");
    // Names that would break out of the header are never repeated.
    let planted =
        [format!("{NAME}.a b=1; {NAME}.\u{e9}=1; {NAME}.=1; {NAME}.x").into_bytes(), b"\xff=\xff".to_vec()];
    assert_eq!(kind.put_for("last", planted, &pending(1)).unwrap().len(), 1);
}

/// Whoever can plant a cookie has had one from here, whose value is good.
#[test]
fn a_planted_name_is_not_repeated_and_costs_no_more_than_sixteen_openings() {
    let bed = Bed::new();
    let (kind, mut jar) = (kind(&bed, |kind| kind), Jar::default());
    jar.keep([kind.put(&pending(1)).unwrap()]);
    let value = &jar.0[NAME];
    let removed = |header: String| kind.put_for("tab", [header], &pending(2)).unwrap().len() - 1;
    for bad in ["", "a b", "a.b", "a,b", "\u{e9}", "a\tb", &"x".repeat(65)] {
        assert_eq!(removed(format!("{NAME}.{bad}={value}")), 0, "{bad:?}");
    }
    for other in [format!("{NAME}.x={value}"), format!("{NAME}.x=\"{value}\"")] {
        assert_eq!(removed(other), 1, "under a name that could be ours it goes");
    }
    let tampered = value.replacen(&value[60..64], "AAAA", 1);
    for (planted, gone) in [(15, 1), (16, 0)] {
        let planted: String = (0..planted).map(|n| format!("{NAME}.planted{n}={tampered}; ")).collect();
        assert_eq!(removed(format!("{planted}{NAME}.x={value}")), gone);
    }
}

#[test]
fn a_value_ends_by_the_servers_clock_and_a_shorter_lifetime_counts_at_once() {
    for (later, comes) in [(MINUTES - MS, true), (MINUTES, false)] {
        let bed = Bed::new();
        let (kind, mut jar) = (kind(&bed, |kind| kind), Jar::default());
        jar.keep([kind.put(&pending(1)).unwrap()]);
        bed.clock.advance(later);
        assert_eq!(kind.take(jar.header()).is_some(), comes, "{later:?}");
    }
    let bed = Bed::new();
    let (long, mut jar) = (kind(&bed, |kind| kind.lifetime(Duration::from_secs(3_600))), Jar::default());
    jar.keep([long.put(&pending(1)).unwrap()]);
    let short = kind(&bed, |kind| kind.lifetime(Duration::from_secs(60)));
    assert!(long.take(jar.header()).is_some() && short.take(jar.header()).is_none());
    // A clock that was set back by as much as nodes may differ, and by more.
    for (seconds, comes) in [(60, true), (61, false)] {
        bed.clock.set(start() - Duration::from_secs(seconds));
        assert_eq!(long.take(jar.header()).is_some(), comes);
    }
}

#[test]
fn nothing_but_its_own_kind_name_and_ring_opens_it() {
    let bed = Bed::new();
    let (oidc, mut jar) = (kind(&bed, |kind| kind), Jar::default());
    jar.keep([oidc.put(&pending(1)).unwrap()]);
    let value = &jar.0[NAME];
    let other = bed.sessions.transient::<Pending>("wizard").build().unwrap();
    assert_eq!(other.take([format!("__Host-Http-wizard={value}")]), None);
    let elsewhere = Sessions::builder(KeyRing::new(key(2))).build().unwrap();
    assert_eq!(elsewhere.transient::<Pending>("oidc").build().unwrap().take(jar.header()), None);
    // Neither is it a session, nor a session it, nor a flash message, nor that it.
    let plain = Sessions::builder(KeyRing::new(key(1))).cookie_name("s").secure(Secure::Never);
    let plain = plain.clock(bed.clock.clone()).build().unwrap();
    let nobody = crate::support::now(plain.load([""])).unwrap();
    let flash = plain.flash(&nobody, [""]);
    flash.info("hello").unwrap();
    let message = flash.commit(false).unwrap().split(';').next().unwrap().replacen("s-flash=", "flash=", 1);
    let named_alike = plain.transient::<serde_json::Value>("flash").build().unwrap();
    assert_eq!(named_alike.take([message]), None);
    let value_alone = named_alike.put(&serde_json::json!({ "subject": null, "messages": [] })).unwrap();
    let planted = value_alone.split(';').next().unwrap().replacen("flash=", "s-flash=", 1);
    assert!(plain.flash(&nobody, [planted]).take().is_empty());
    let session =
        Sessions::builder(KeyRing::new(key(1))).cookie_name(NAME).clock(bed.clock.clone()).build().unwrap();
    assert_eq!(session.inspect(value), Err(Rejection::Tampered), "another key, whatever would be in it");
    let sealed = crate::support::now(session.issue(|session| session.insert("n", 1))).unwrap();
    assert_eq!(oidc.take([sealed]), None);
    // A key that was rotated since does not matter.
    bed.sessions.keys().rotate(key(3)).unwrap();
    assert!(oidc.take(jar.header()).is_some());
    bed.sessions.keys().revoke(key(1).id()).unwrap();
    assert_eq!(oidc.take(jar.header()), None);
}

#[test]
fn each_changed_byte_and_every_planted_cookie_brings_nothing_and_hides_nothing() {
    let bed = Bed::new();
    let (kind, mut jar) = (kind(&bed, |kind| kind), Jar::default());
    jar.keep([kind.put(&pending(1)).unwrap()]);
    let value = jar.0[NAME].clone();
    for at in 0..value.len() {
        let mut bad = value.clone().into_bytes();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        let bad = String::from_utf8(bad).unwrap();
        assert_eq!(kind.take([format!("{NAME}={bad}")]), None, "{at}");
        assert!(kind.take([format!("{NAME}={bad}; {NAME}={value}")]).is_some());
    }
    let foreign = [b"x=\xff\xfe; ".as_slice(), format!("{NAME}=\"{value}\"").as_bytes()].concat();
    assert!(kind.take([foreign]).is_some(), "in quotes, beside what is no text");
    // Four are opened: among so many that only somebody who plants them sends them, it may be lost.
    let tampered = format!("{NAME}={}; ", value.replacen(&value[60..64], "AAAA", 1));
    for (before, comes) in [(3, true), (4, false), (50, false)] {
        let cookies = format!("{}{NAME}={value}", tampered.repeat(before));
        assert_eq!(kind.take([cookies]).is_some(), comes, "{before}");
    }
}

/// Another node has had the key rotated.
#[test]
fn an_unknown_key_is_looked_for() {
    let path = std::env::temp_dir()
        .join(format!("sealed-session-transient-{}.keys", sealed_session::Key::generate().id()));
    let _ = std::fs::remove_file(&path);
    let kind = || {
        let ring = KeyRing::open_or_create(&path).unwrap().reload_every(Duration::MAX);
        let sessions = Sessions::builder(ring).build().unwrap();
        (sessions.transient::<Pending>("oidc").build().unwrap(), sessions)
    };
    let ((one, sessions), (two, _)) = (kind(), kind());
    sessions.keys().rotate(key(8)).unwrap();
    let mut jar = Jar::default();
    jar.keep([one.put(&pending(1)).unwrap()]);
    assert_eq!(two.take(jar.header()).unwrap().value, pending(1));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn the_limit_is_met_to_the_byte_whatever_the_name() {
    fn longest(put: impl Fn(&String) -> Result<String, TransientError>) -> usize {
        let line = (1_200..1_600).rev().find_map(|len| put(&"x".repeat(len)).ok()).unwrap();
        line.split(';').next().unwrap().len() - 1
    }
    let bed = Bed::new();
    // A value grows by 43 bytes at once, so that one of so many names fills it up.
    let names = (1..=43).map(|len| {
        let kind = bed.sessions.transient::<String>(&"n".repeat(len)).build().unwrap();
        longest(|value| kind.put(value))
    });
    assert_eq!(names.max(), Some(2_048));
    let kind = bed.sessions.transient::<String>("note").build().unwrap();
    let suffixes =
        (1..=64).map(|len| longest(|value| Ok(kind.put_for(&"s".repeat(len), [""], value)?.remove(0))));
    assert_eq!(suffixes.max(), Some(2_048));
}

#[test]
fn a_value_that_is_too_large_or_none_is_an_error_when_it_is_put() {
    let bed = Bed::new();
    let kind = bed.sessions.transient::<String>("note").build().unwrap();
    let mut last = 0;
    for len in 1_000..2_048 {
        match kind.put(&"x".repeat(len)) {
            Ok(line) => {
                assert!(line.split(';').next().unwrap().len() - 1 <= 2_048);
                last = len;
            }
            Err(TransientError::TooLarge { size, limit: 2_048 }) => {
                assert!(size > 2_048);
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(last > 1_300, "{last}");
    assert!(kind.put(&"x".repeat(10_000)).is_err());
    let kind = bed.sessions.transient::<BTreeMap<Vec<u8>, Refuses>>("note").build().unwrap();
    let error = kind.put(&[(vec![], Refuses)].into()).unwrap_err();
    assert!(matches!(error, TransientError::Encode { .. }));
}

#[derive(Debug, PartialEq)]
struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it refuses"))
    }
}

impl<'de> Deserialize<'de> for Refuses {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

/// A deploy while somebody is at the provider.
#[test]
fn a_deploy_that_adds_a_field_reads_the_old_value_and_one_that_changes_the_type_has_none() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Grown {
        nonce: String,
        #[serde(default)]
        tenant: Option<String>,
    }
    let bed = Bed::new();
    let mut jar = Jar::default();
    jar.keep([kind(&bed, |kind| kind).put(&pending(1)).unwrap()]);
    let grown = bed.sessions.transient::<Grown>("oidc").build().unwrap().take(jar.header()).unwrap();
    assert_eq!(grown.value, Grown { nonce: "nonce 1".into(), tenant: None });
    assert_eq!(bed.sessions.transient::<u32>("oidc").build().unwrap().take(jar.header()), None);
}

#[test]
fn names_prefixes_and_attributes_fit_one_another_or_build_says_so() {
    let sessions = || Sessions::builder(KeyRing::new(key(1)));
    let plain = sessions().cookie_name("session").secure(Secure::Never).build().unwrap();
    let line = plain.transient::<u8>("oidc").build().unwrap().put(&1).unwrap();
    assert!(line.starts_with("oidc=") && !line.contains("Secure"), "{line}");
    let auto = sessions().cookie_name("session").secure(Secure::Auto).build().unwrap();
    assert!(matches!(
        auto.transient::<u8>("oidc").build(),
        Err(ConfigError::Attribute { attribute: "secure", .. })
    ));
    let line = auto.transient::<u8>("oidc").secure(Secure::Always).build().unwrap().put(&1).unwrap();
    assert!(line.starts_with("__Host-Http-oidc=") && line.contains("; Secure"), "{line}");

    let secure = sessions().build().unwrap();
    let line =
        secure.transient::<u8>("__Secure-oidc").same_site(SameSite::None).build().unwrap().put(&1).unwrap();
    assert!(line.starts_with("__Secure-oidc=") && line.contains("; SameSite=None"), "{line}");
    // In the jar that the session's cookie is in, also as it is removed.
    let framed = sessions().same_site(SameSite::None).partitioned(true).build().unwrap();
    let in_frame = framed.transient::<u8>("oidc").build().unwrap();
    let line = in_frame.put(&1).unwrap();
    assert!(line.contains("; Partitioned"), "{line}");
    let removal = in_frame.take([line.split(';').next().unwrap()]).unwrap().removal;
    assert!(removal.contains("; Partitioned"), "{removal}");
    let whole = framed.transient::<u8>("oidc").partitioned(false).build().unwrap();
    assert!(!whole.put(&1).unwrap().contains("Partitioned"));
    let insecure = framed.transient::<u8>("oidc").secure(Secure::Never);
    assert!(!insecure.build().unwrap().put(&1).unwrap().contains("Partitioned"));
    assert!(matches!(
        plain.transient::<u8>("oidc").partitioned(true).build(),
        Err(ConfigError::NeedsSecure { attribute: "Partitioned", .. })
    ));
    for (name, same_site) in [("__Host-oidc", SameSite::Lax), ("oidc", SameSite::None)] {
        let refused = plain.transient::<u8>(name).same_site(same_site).build();
        assert!(
            matches!(refused, Err(ConfigError::Prefix { .. } | ConfigError::NeedsSecure { .. })),
            "{name}"
        );
    }
    for name in ["", "a b", "a=b", "ü"] {
        assert!(matches!(plain.transient::<u8>(name).build(), Err(ConfigError::Name { .. })), "{name:?}");
    }
    for name in ["session", "session-flash", "a.b"] {
        assert!(matches!(secure.transient::<u8>(name).build(), Err(ConfigError::Name { .. })), "{name}");
    }
    for name in ["session", "session-flash"] {
        assert!(matches!(plain.transient::<u8>(name).build(), Err(ConfigError::Name { .. })), "{name}");
    }
    for lifetime in [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(3_601)] {
        let refused = secure.transient::<u8>("oidc").lifetime(lifetime).build();
        assert!(matches!(refused, Err(ConfigError::OutOfRange { setting: "lifetime", .. })), "{lifetime:?}");
    }
}
