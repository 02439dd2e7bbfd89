use super::*;

const A: i64 = 300_000;
const D: i64 = 86_400_000;

fn terms(duration: i64, active: i64, absolute: Option<i64>, idle: Option<i64>) -> Terms {
    Terms {
        duration: Millis(duration),
        active: Millis(active),
        absolute: absolute.map_or(Absolute::Never, |span| Absolute::For(Millis(span))),
        idle: idle.map(Millis),
        max_duration: Millis::span(MAX_AGE),
    }
}

fn born(at: i64, terms: &Terms) -> Times {
    birth(terms, Millis(at))
}

fn judged(times: &Times, terms: &Terms, now: i64) -> Verdict {
    judge(times, terms, Millis(now))
}

#[test]
fn each_limit_ends_the_session_at_its_very_millisecond() {
    for (terms, end, at) in [
        (terms(1_000, 0, None, None), End::Duration, 1_000),
        (terms(5_000, 0, Some(2_000), None), End::Absolute, 2_000),
        (terms(5_000, 0, None, Some(3_000)), End::Idle, 3_000),
        (terms(5_000, 0, Some(2_000), Some(1_000)), End::Idle, 1_000),
        (terms(5_000, 0, Some(1_000), Some(2_000)), End::Absolute, 1_000),
        (terms(5_000, 0, Some(4_000), Some(1_000)), End::Idle, 1_000),
        (terms(1_000, 0, Some(2_000), Some(3_000)), End::Duration, 1_000),
        // Of several that come together the first of the list is told.
        (terms(1_000, 0, Some(1_000), Some(1_000)), End::Duration, 1_000),
        (terms(1_000, 0, None, Some(1_000)), End::Duration, 1_000),
        (terms(2_000, 0, Some(1_000), Some(1_000)), End::Absolute, 1_000),
    ] {
        let times = born(1_000_000, &terms);
        assert!(!matches!(judged(&times, &terms, 1_000_000 + at - 1), Verdict::Over { .. }));
        for late in [0, 1, 1_000_000] {
            let over = Verdict::Over { end, at: Millis(1_000_000 + at) };
            assert_eq!(judged(&times, &terms, 1_000_000 + at + late), over);
        }
    }
}

#[test]
fn a_use_extends_once_less_than_the_active_span_remains_and_by_exactly_that() {
    let terms = terms(D, A, None, None);
    let times = born(0, &terms);
    assert_eq!(judged(&times, &terms, D - A), Verdict::Live);
    assert_eq!(judged(&times, &terms, D - A + 1), Verdict::Due(Due::Extend));
    let extended = extend(&times, &terms, Millis(D - A + 1));
    assert_eq!(first_end(&extended, &terms, Millis(D - A + 1)).0, Millis(D + A));
    assert_eq!(judged(&extended, &terms, D - A + 1), Verdict::Live);
    assert_eq!(extended.created_at, times.created_at);
}

#[test]
fn an_extension_is_cut_where_it_would_pass_now_plus_the_duration_or_twice_active() {
    // (d, a, now, end): with a > d / 2 the clamp is 2a, and each extension may be whole.
    for (d, a, now, end) in [
        (1_000, 1_000, 1, 2_000),
        (1_000, 1_000, 999, 2_000),
        (1_000, 600, 500, 1_600),
        (1_000, 400, 601, 1_400),
    ] {
        let terms = terms(d, a, None, None);
        let times = born(0, &terms);
        assert_eq!(judged(&times, &terms, now), Verdict::Due(Due::Extend));
        let extended = extend(&times, &terms, Millis(now));
        assert_eq!(first_end(&extended, &terms, Millis(now)), (Millis(end), End::Duration));
    }
    // The clock went back by a second between the sealing and the use.
    let terms = terms(1_000, 1_000, None, None);
    let extended = extend(&Times { anchor: Millis(500), ..born(0, &terms) }, &terms, Millis(-900));
    assert_eq!(extended.anchor, Millis(-900 + 2_000 - 1_000));
}

#[test]
fn active_counts_no_more_than_the_duration_that_holds() {
    let configured = terms(D, A, None, None);
    let own = Times { duration: Millis(1_000), own: true, ..born(0, &configured) };
    assert_eq!(judged(&own, &configured, 0), Verdict::Live);
    assert_eq!(judged(&own, &configured, 1), Verdict::Due(Due::Extend));
    assert_eq!(extend(&own, &configured, Millis(1)).anchor, Millis(1_000));
    let sealed = Times { duration: Millis(1_000), ..born(0, &configured) };
    assert_eq!(extend(&sealed, &configured, Millis(1)).anchor, Millis(1_000));
}

#[test]
fn what_is_due_for_both_reasons_is_extended() {
    let terms = terms(10_000, 5_000, None, Some(9_000));
    let times = born(0, &terms);
    assert_eq!(judged(&times, &terms, 900), Verdict::Live);
    assert_eq!(judged(&times, &terms, 5_000), Verdict::Due(Due::Refresh));
    assert_eq!(judged(&times, &terms, 5_001), Verdict::Due(Due::Extend));
}

#[test]
fn neither_extension_nor_touch_nor_sealing_postpones_the_absolute_end() {
    let terms = terms(1_000, 1_000, Some(1_500), None);
    let times = born(0, &terms);
    for moved in [extend(&times, &terms, Millis(900)), touch(&times, Millis(900))] {
        let moved = reseal(&moved, &terms, Millis(900));
        assert_eq!(judged(&moved, &terms, 1_499), Verdict::Due(Due::Extend));
        let over = Verdict::Over { end: End::Absolute, at: Millis(1_500) };
        assert_eq!(judged(&moved, &terms, 1_500), over);
    }
    assert_eq!(first_end(&born(900, &terms), &terms, Millis(900)).0, Millis(1_900), "a new birth does");
}

#[test]
fn sealed_moments_at_the_rim_of_what_a_record_holds_are_judged_without_overflow() {
    let rim = [0, 1, (1 << 48) - 1];
    let all =
        Lifetime::new(MAX_SPAN).active(MAX_SPAN).absolute(MAX_SPAN).idle(MAX_SPAN).terms(MAX_SPAN).unwrap();
    for (created_at, anchor) in rim.into_iter().flat_map(|c| rim.map(|a| (Millis(c), Millis(a)))) {
        for (sealed_at, duration) in rim.into_iter().flat_map(|s| rim.map(|d| (Millis(s), Millis(d)))) {
            for (own, now) in [false, true].into_iter().flat_map(|own| rim.map(|now| (own, Millis(now)))) {
                let times =
                    Times { created_at, anchor, sealed_at, duration, own, horizon: duration, given: 1 };
                let (end, _) = first_end(&extend(&touch(&times, now), &all, now), &all, now);
                assert!((0..=34_560_000).contains(&max_age(end, now)));
                _ = judge(&times, &all, now);
            }
        }
    }
}

#[test]
fn what_a_cookie_was_given_grows_with_the_span_by_an_eighth_of_it_at_least() {
    let of = |millis: i64| {
        let terms = Lifetime::new(MAX_SPAN).without_absolute().terms(MAX_SPAN).unwrap();
        let times = Times { own: true, duration: Millis(millis), ..born(0, &terms) };
        given(&times, &Terms { active: Millis::ZERO, ..terms })
    };
    let mut spans = vec![0, 999, 1_000, 1_999, 2_000, 3_000, 4_000];
    spans.extend((3..=26).flat_map(|exponent| (8..16).map(move |eighths| (eighths << exponent) / 8 * 1_000)));
    let given: Vec<u8> = spans.iter().map(|span| of(*span)).collect();
    assert_eq!(given[..7], [1, 1, 2, 2, 10, 14, 18]);
    assert!(
        given[7..].windows(2).all(|pair| pair[0] < pair[1] || pair[0] == pair[1] && pair[0] == 0),
        "{given:?}"
    );
    assert_eq!(of(86_400_000), 132, "a day");
    for (given, span) in given.into_iter().zip(spans) {
        let told = told(&Times { given, ..born(0, &Lifetime::default().terms(MAX_SPAN).unwrap()) }).unwrap();
        let eighth = (span / 8).max(1_000);
        assert!(told.0 <= span && told.0 >= span - eighth, "{told:?} of {span}");
    }
    assert_eq!(told(&born(0, &Lifetime::default().terms(MAX_SPAN).unwrap())), None);
    assert!(of(MAX_SPAN.as_millis() as i64) < u8::MAX);
}

/// Seals a session under these limits, and judges it under those.
fn judged_after(before: Lifetime, after: Lifetime, seconds: i64) -> Verdict {
    let [before, after] = [before, after].map(|lifetime| lifetime.terms(MAX_SPAN).unwrap());
    let times = sealed(&reseal(&born(0, &before), &before, Millis(0)), &before);
    judged(&times, &after, seconds * 1_000)
}

/// Its browser has `Max-Age`, and its store the row's end, by the former limits.
#[test]
fn a_session_of_before_the_limits_were_raised_is_issued_again() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let day = || Lifetime::new(DAY).active(minutes(5));
    let refresh = Verdict::Due(Due::Refresh);
    let idle = |span| day().idle(minutes(span));
    assert_eq!(judged_after(idle(30), day(), 1), refresh, "the limit is gone");
    assert_eq!(judged_after(idle(30), idle(480), 1), refresh, "it is longer");
    assert_eq!(judged_after(idle(480), idle(30), 1), Verdict::Live, "it is shorter");
    assert_eq!(judged_after(idle(30), idle(30), 1), Verdict::Live);
    assert_eq!(judged_after(idle(30), idle(30), 181), refresh, "a tenth of it is over");
    let absolute = |span| day().absolute(minutes(span));
    assert_eq!(judged_after(absolute(60), day(), 1), refresh);
    assert_eq!(judged_after(absolute(60), absolute(120), 1), refresh);
    assert_eq!(judged_after(absolute(120), absolute(60), 1), Verdict::Live);
    assert_eq!(judged_after(day(), day(), 1), Verdict::Live);
    // A raised duration comes with the next issue, and says so in the guide.
    assert_eq!(judged_after(day(), Lifetime::new(2 * DAY), 1), Verdict::Live);
    // Of other makers' cookies it is not known.
    let terms = day().terms(MAX_SPAN).unwrap();
    let unknown = Times { given: 0, ..sealed(&born(0, &idle(30).terms(MAX_SPAN).unwrap()), &terms) };
    assert_eq!(judged(&unknown, &terms, 1_000), Verdict::Live);
}

#[test]
fn a_fixed_session_is_never_due() {
    let terms = Lifetime::new(Duration::from_secs(10)).fixed().terms(DAY).unwrap();
    assert_eq!(judged(&born(0, &terms), &terms, 9_999), Verdict::Live);
}

#[test]
fn an_anchor_that_a_wrong_clock_moved_ends_no_later_than_the_clamp() {
    for (d, a) in [(1_000, 1_000), (1_000, 400), (D, A)] {
        let terms = terms(d, a, None, None);
        let times = Times { anchor: Millis(50 * D), ..born(0, &terms) };
        let (end, _) = first_end(&times, &terms, Millis(0));
        assert_eq!(end, Millis(d.max(2 * a)));
        let extended = extend(&times, &terms, Millis(0));
        assert_eq!(extended.anchor, Millis(d.max(2 * a) - d));
    }
}

#[test]
fn lowering_the_configuration_shortens_at_once_and_raising_it_acts_when_sealed_again() {
    let long = terms(10_000, 0, None, None);
    let short = terms(4_000, 0, None, None);
    let times = born(0, &long);
    assert!(matches!(judged(&times, &short, 4_000), Verdict::Over { .. }));
    assert_eq!(judged(&times, &short, 3_999), Verdict::Live);

    let times = born(0, &short);
    assert!(matches!(judged(&times, &long, 4_000), Verdict::Over { .. }), "nothing is revived");
    let resealed = reseal(&times, &long, Millis(3_999));
    assert_eq!(judged(&resealed, &long, 9_999), Verdict::Live);
}

#[test]
fn an_own_duration_ignores_the_configured_one_but_not_the_maximum() {
    let mut terms = terms(1_000, 0, None, None);
    let times = Times { duration: Millis(9_000), own: true, ..born(0, &terms) };
    assert_eq!(judged(&times, &terms, 8_999), Verdict::Live);
    assert_eq!(reseal(&times, &terms, Millis(5)).duration, Millis(9_000));
    terms.max_duration = Millis(5_000);
    assert_eq!(judged(&times, &terms, 4_999), Verdict::Live);
    assert!(matches!(judged(&times, &terms, 5_000), Verdict::Over { .. }));
    terms.max_duration = Millis(9_000);
    terms.duration = Millis(20_000);
    assert!(matches!(judged(&times, &terms, 9_000), Verdict::Over { .. }), "nor does it grow");
}

#[test]
fn a_cookie_is_refreshed_once_a_tenth_of_the_idle_limit_has_passed() {
    let terms = terms(D, 0, None, Some(10_000));
    let times = born(0, &terms);
    assert_eq!(judged(&times, &terms, 1_000), Verdict::Live);
    assert_eq!(judged(&times, &terms, 1_001), Verdict::Due(Due::Refresh));
    let refreshed = reseal(&times, &terms, Millis(1_001));
    assert_eq!(refreshed.anchor, times.anchor);
    assert_eq!(first_end(&refreshed, &terms, Millis(1_001)), (Millis(11_001), End::Idle));
}

#[test]
fn births_and_seals_are_tolerated_up_to_the_skew_and_refused_beyond() {
    let terms = terms(D, A, None, None);
    for (created_at, sealed_at, verdict) in [
        (SKEW.0, SKEW.0, Verdict::Live),
        (SKEW.0 + 1, SKEW.0, Verdict::Future),
        (0, SKEW.0 + 1, Verdict::Future),
    ] {
        let times = Times { created_at: Millis(created_at), sealed_at: Millis(sealed_at), ..born(0, &terms) };
        assert_eq!(judged(&times, &terms, 0), verdict);
    }
}

#[test]
fn touching_counts_the_duration_from_now_and_never_moves_the_anchor_back() {
    let terms = terms(D, A, None, None);
    let times = born(1_000, &terms);
    assert_eq!(touch(&times, Millis(5_000)).anchor, Millis(5_000));
    assert_eq!(touch(&times, Millis(500)).anchor, Millis(1_000));
}

#[test]
fn max_age_is_rounded_up_is_never_negative_and_at_most_400_days() {
    for (end, seconds) in [(0, 0), (-1, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (i64::MAX, 34_560_000)]
    {
        assert_eq!(max_age(Millis(end), Millis(0)), seconds);
    }
}

#[test]
fn the_default_active_span_is_five_minutes_or_the_duration_where_that_is_shorter() {
    for (duration, active) in [(DAY, A), (Duration::from_secs(10), 10_000), (Duration::from_secs(300), A)] {
        assert_eq!(Lifetime::new(duration).terms(DAY).unwrap().active, Millis(active));
    }
}

#[test]
fn the_absolute_limit_is_thirty_days_by_default_or_the_duration_where_that_is_longer() {
    let day = Duration::from_secs(86_400);
    let of = |lifetime: Lifetime| lifetime.terms(MAX_AGE).unwrap();
    let absolute_end = |terms: &Terms, times: &Times| absolute_end(times, terms).map(|at| at.0 / D);
    for (lifetime, end) in [
        (Lifetime::default(), Some(30)),
        (Lifetime::new(day), Some(30)),
        (Lifetime::new(day).fixed(), Some(30)),
        (Lifetime::new(day).active(day).idle(day), Some(30)),
        (Lifetime::new(30 * day), Some(30)),
        (Lifetime::new(31 * day), Some(31)),
        (Lifetime::new(400 * day).active(day), Some(400)),
        (Lifetime::new(400 * day).absolute(day), Some(1)),
        (Lifetime::new(day).absolute(90 * day), Some(90)),
        (Lifetime::new(day).without_absolute(), None),
        (Lifetime::new(400 * day).without_absolute(), None),
        // Of two that contradict one another the later counts.
        (Lifetime::new(day).absolute(day).without_absolute(), None),
        (Lifetime::new(day).without_absolute().absolute(day), Some(1)),
    ] {
        let terms = of(lifetime);
        assert_eq!(absolute_end(&terms, &born(0, &terms)), end, "{lifetime:?}");
        assert_eq!(absolute_end(&terms, &born(7 * D, &terms)), end.map(|end| end + 7), "{lifetime:?}");
    }

    let own = |days: i64, terms: &Terms| {
        let times = Times { anchor: Millis(5 * D), duration: Millis(days * D), own: true, ..born(0, terms) };
        absolute_end(terms, &times)
    };
    let terms = of(Lifetime::new(day));
    assert_eq!([29, 30, 31, 90].map(|days| own(days, &terms)), [30, 30, 31, 90].map(Some));
    assert_eq!(own(90, &of(Lifetime::new(60 * day))), Some(90), "the session's own alone counts");
    assert_eq!(own(40, &of(Lifetime::new(60 * day))), Some(40), "also where it is the shorter one");
    assert_eq!(own(90, &of(Lifetime::new(day).absolute(45 * day))), Some(45), "what is said holds");
    assert_eq!(own(90, &of(Lifetime::new(day).without_absolute())), None);
    let capped = Lifetime::new(day).terms(60 * day).unwrap();
    assert_eq!(own(90, &capped), Some(60), "but for no more than the most that it may be");
}

#[test]
fn who_is_always_there_logs_in_after_thirty_days_unless_it_is_said_otherwise() {
    let day = Duration::from_secs(86_400);
    for (lifetime, days) in [
        (Lifetime::default(), 30),
        (Lifetime::new(day).active(day), 30),
        (Lifetime::new(30 * day).active(7 * day), 30),
        (Lifetime::new(90 * day).active(7 * day), 90),
        (Lifetime::new(day).absolute(7 * day), 7),
        (Lifetime::new(day).absolute(60 * day), 60),
    ] {
        for touches in [false, true] {
            let terms = lifetime.terms(MAX_AGE).unwrap();
            let mut times = born(0, &terms);
            let step = A / 2;
            for now in (step..days * D).step_by(step as usize) {
                let used = match judged(&times, &terms, now) {
                    Verdict::Live | Verdict::Due(_) if touches => touch(&times, Millis(now)),
                    Verdict::Live => continue,
                    Verdict::Due(_) => extend(&times, &terms, Millis(now)),
                    verdict => panic!("{verdict:?} after {now} ms of {lifetime:?}"),
                };
                times = reseal(&used, &terms, Millis(now));
            }
            let over = Verdict::Over { end: End::Absolute, at: Millis(days * D) };
            assert_eq!(judged(&times, &terms, days * D), over, "{lifetime:?}");
        }
    }
    // Who is not held by it lives on.
    let terms = Lifetime::new(day).active(day).without_absolute().terms(MAX_AGE).unwrap();
    let mut times = born(0, &terms);
    for now in (1..400 * D).step_by(D as usize / 2) {
        if judged(&times, &terms, now) == Verdict::Due(Due::Extend) {
            times = reseal(&extend(&times, &terms, Millis(now)), &terms, Millis(now));
        }
        assert!(!matches!(judged(&times, &terms, now), Verdict::Over { .. }), "after {now} ms");
    }
}

#[test]
fn what_lasts_for_its_duration_ends_by_that_and_not_by_the_default() {
    for days in [1, 30, 31, 400] {
        let terms = Lifetime::new(Duration::from_secs(days * 86_400)).terms(MAX_AGE).unwrap();
        let at = days as i64 * D;
        let over = Verdict::Over { end: End::Duration, at: Millis(at) };
        assert_eq!(judged(&born(0, &terms), &terms, at), over);
    }
}

#[test]
fn spans_beyond_reason_and_contradictions_are_configuration_errors() {
    let day = || Lifetime::new(DAY);
    let refused = |lifetime: Lifetime, setting: &str| {
        let error = lifetime.terms(DAY).unwrap_err();
        assert!(
            matches!(error, ConfigError::OutOfRange { setting: found, .. } if found == setting),
            "{error}"
        );
    };
    for span in
        [Duration::ZERO, Duration::from_micros(999), Duration::MAX, MAX_SPAN + Duration::from_millis(1)]
    {
        refused(Lifetime::new(span), "duration");
        refused(day().active(span), "active");
        refused(day().absolute(span), "absolute");
        refused(day().idle(span), "idle");
        let error = day().terms(span).unwrap_err();
        assert!(matches!(error, ConfigError::OutOfRange { setting: "max_duration", .. }), "{error}");
    }
    let longer = |lifetime: Lifetime, max| match lifetime.terms(max).unwrap_err() {
        ConfigError::Longer { shorter, longer, .. } => (shorter, longer),
        other => panic!("{other}"),
    };
    let second = Duration::from_secs(1);
    assert_eq!(longer(day().active(DAY + second), DAY), ("active", "duration"));
    assert_eq!(longer(day().active(DAY + Duration::from_nanos(1)), DAY), ("active", "duration"));
    assert_eq!(longer(day(), DAY - second), ("duration", "max_duration"));
    assert!(day().active(DAY).absolute(MAX_SPAN).idle(Duration::from_millis(1)).terms(DAY).is_ok());
}

#[test]
fn the_presets_are_the_figures_of_nist_sp_800_63b_4() {
    for (lifetime, end, idle) in [
        (Lifetime::aal1(), 30 * 86_400, None),
        (Lifetime::aal2(), 86_400, Some(3_600)),
        (Lifetime::aal3(), 12 * 3_600, Some(15 * 60)),
    ] {
        let terms = lifetime.terms(MAX_AGE).unwrap();
        assert_eq!(terms.absolute, Absolute::For(Millis(end * 1_000)));
        assert_eq!(terms.idle, idle.map(|seconds: i64| Millis(seconds * 1_000)));
        assert_eq!(terms.active, Millis::ZERO);
    }
}

/// The rules once more, written from their words over plain numbers, without a look at the code under test.
#[derive(Clone, Debug)]
struct Model {
    duration: i64,
    active: i64,
    absolute: i64,
    /// Whether the absolute limit gives way to a longer duration.
    yields: bool,
    idle: i64,
    max_duration: i64,
    created: i64,
    anchor: i64,
    sealed: i64,
    sealed_duration: i64,
    own: bool,
}

const NEVER: i64 = i64::MAX / 4;

impl Model {
    fn new(random: &mut Random, now: i64) -> Self {
        let mut model = Self {
            duration: 0,
            active: 0,
            absolute: 0,
            yields: false,
            idle: 0,
            max_duration: 0,
            created: now,
            anchor: now,
            sealed: now,
            sealed_duration: 0,
            own: false,
        };
        model.configure(random);
        model.sealed_duration = model.duration;
        model
    }

    fn configure(&mut self, random: &mut Random) {
        let optional = |random: &mut Random| [NEVER, 1 + random.below(600_000)][random.below(2) as usize];
        self.duration = 1 + random.below(400_000);
        self.active = random.below(self.duration + 1);
        self.absolute = optional(random);
        self.yields = random.below(2) == 0;
        self.idle = optional(random);
        self.max_duration = self.duration + random.below(300_000);
    }

    fn terms(&self) -> Terms {
        let finite = |span| (span != NEVER).then_some(span);
        let mut terms = terms(self.duration, self.active, finite(self.absolute), finite(self.idle));
        if let Absolute::For(span) = terms.absolute
            && self.yields
        {
            terms.absolute = Absolute::AtLeast(span);
        }
        Terms { max_duration: Millis(self.max_duration), ..terms }
    }

    fn times(&self) -> Times {
        Times {
            created_at: Millis(self.created),
            anchor: Millis(self.anchor),
            sealed_at: Millis(self.sealed),
            duration: Millis(self.sealed_duration),
            own: self.own,
            horizon: Millis::ZERO,
            given: 0,
        }
    }

    fn d(&self) -> i64 {
        self.sealed_duration.min(if self.own { self.max_duration } else { self.duration })
    }

    fn a(&self) -> i64 {
        if self.is_remainder() { 0 } else { self.active.min(self.d()) }
    }

    /// What a shorter duration left of a longer one.
    fn is_remainder(&self) -> bool {
        self.own && self.anchor == self.created - 1
    }

    fn absolute_end(&self, d: i64) -> i64 {
        self.created + if self.yields { self.absolute.max(d) } else { self.absolute }
    }

    fn set_duration(&mut self, own: i64, now: i64) {
        let most = (now + own).min(self.absolute_end(self.d()));
        (self.anchor, self.sealed_duration) = if self.absolute_end(own) < most {
            (self.created - 1, most - self.created + 1)
        } else {
            (now, own)
        };
        self.own = true;
        self.seal(now);
        // The millisecond that marks a remainder counts where it had the longest duration that there is.
        assert!(self.end(now).0 > now || most == now + 1, "it kills no session");
        assert!(self.end(now).0 <= now + own);
    }

    fn duration_end(&self, now: i64) -> i64 {
        (self.anchor + self.d()).min(now + self.d().max(2 * self.a()))
    }

    fn end(&self, now: i64) -> (i64, End) {
        let ends = [
            (self.duration_end(now), End::Duration),
            (self.absolute_end(self.d()), End::Absolute),
            (self.sealed + self.idle, End::Idle),
        ];
        let first = ends[0].0.min(ends[1].0).min(ends[2].0);
        ends[ends.iter().position(|(at, _)| *at == first).unwrap()]
    }

    fn verdict(&self, now: i64) -> Verdict {
        let (at, end) = self.end(now);
        if self.created > now + 60_000 || self.sealed > now + 60_000 {
            Verdict::Future
        } else if at <= now {
            Verdict::Over { end, at: Millis(at) }
        } else if self.duration_end(now) - now < self.a() {
            Verdict::Due(Due::Extend)
        } else if self.idle != NEVER && (now - self.sealed) * 10 > self.idle {
            Verdict::Due(Due::Refresh)
        } else {
            Verdict::Live
        }
    }

    fn seal(&mut self, now: i64) {
        self.sealed = now;
        if !self.own {
            self.sealed_duration = self.duration;
        }
    }
}

struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: i64) -> i64 {
        (self.next() % bound as u64) as i64
    }
}

#[test]
fn a_node_with_shorter_limits_takes_a_cookie_for_anothers_only_as_long_as_that_gave_it() {
    let (long, short) = (terms(80_000, 0, None, None), terms(80_000, 0, None, Some(10_000)));
    let times = sealed(&born(0, &long), &long);
    let at = |terms: &Terms, now| may_live_elsewhere(&times, terms, Millis(now));
    assert!(!at(&long, 0) && !at(&long, 90_000), "one with the same limits does not");
    // It was given 80 s, which are told as up to 88 exclusively.
    assert!(at(&short, 0) && at(&short, 87_999));
    assert!(!at(&short, 88_000) && !at(&short, 1_000_000));
}

#[test]
fn random_timelines_agree_with_the_reference_model() {
    let mut random = Random(2026);
    let (mut extended, mut over, mut future) = (0, 0, 0);
    for _ in 0..120_000 {
        let seed = random.0;
        let (e, o, f) = timeline_agrees(&mut random, seed);
        extended += e;
        over += o;
        future += f;
    }
    // The timelines reach what they are to test.
    assert!(extended > 50_000 && over > 50_000 && future > 1_000, "{extended} {over} {future}");
}

fn timeline_agrees(random: &mut Random, seed: u64) -> (u32, u32, u32) {
    let mut counts = (0, 0, 0);
    let mut now = 1_700_000_000_000;
    let mut model = Model::new(random, now);
    let mut times = born(now, &model.terms());
    for step in 0..16 {
        // Time passes, mostly forward, by spans of the size of the limits; clocks of other nodes are off.
        now += match random.below(10) {
            0 => -random.below(120_000),
            1 => random.below(1_000_000),
            2 => model.end(now).0 - now + random.below(3) - 1,
            3 => model.duration_end(now) - model.a() - now + random.below(3) - 1,
            _ => random.below(model.d() / 2 + 2),
        };
        if random.below(12) == 0 {
            model.configure(random);
        }
        let terms = model.terms();
        let what = || format!("step {step} of seed {seed} at {now}: {model:?}");
        let verdict = judged(&times, &terms, now);
        assert_eq!(verdict, model.verdict(now), "{}", what());
        let (end, limit) = model.end(now);
        assert_eq!(first_end(&times, &terms, Millis(now)), (Millis(end), limit), "{}", what());
        match verdict {
            Verdict::Future => {
                counts.2 += 1;
                return counts;
            }
            Verdict::Over { .. } => {
                for later in [now + 1, now + random.below(1_000_000), now + NEVER] {
                    assert_eq!(judged(&times, &terms, later), verdict, "over stays over: {}", what());
                }
                counts.1 += 1;
                return counts;
            }
            Verdict::Live | Verdict::Due(_) => {}
        }
        let end_by_duration = duration_end(&times, &terms, Millis(now));
        let written = reseal(&times, &terms, Millis(now));
        if times.own || terms.duration <= times.duration {
            let end = duration_end(&written, &terms, Millis(now));
            assert!(end <= end_by_duration, "writing never extends: {}", what());
        }
        match random.below(8) {
            // The request skips renewal, so it leaves the times alone, also if it writes.
            0 => {}
            1 => {
                times = reseal(&touch(&times, Millis(now)), &terms, Millis(now));
                model.anchor = if model.is_remainder() { model.anchor } else { model.anchor.max(now) };
                model.seal(now);
            }
            2 => {
                let own = 1 + random.below(model.max_duration);
                times = with_own_duration(&times, &terms, Millis(own), Millis(now));
                times = reseal(&times, &terms, Millis(now));
                model.set_duration(own, now);
            }
            3 => {
                times = birth(&terms, Millis(now));
                (model.created, model.anchor, model.own) = (now, now, false);
                model.seal(now);
            }
            // A plain use, or a write: it is sealed if it is due or by chance.
            _ if verdict == Verdict::Due(Due::Extend) => {
                counts.0 += 1;
                let extended = extend(&times, &terms, Millis(now));
                let end = duration_end(&extended, &terms, Millis(now)).0;
                assert!(end >= now + model.a(), "never cut off sooner than a: {}", what());
                assert!(end <= end_by_duration.0 + model.a(), "by no more than a: {}", what());
                times = reseal(&extended, &terms, Millis(now));
                let clamp = now + model.d().max(2 * model.a());
                model.anchor = (model.anchor + model.a()).min(clamp - model.d());
                model.seal(now);
            }
            _ if verdict == Verdict::Due(Due::Refresh) || random.below(3) == 0 => {
                times = written;
                model.seal(now);
            }
            _ => {}
        }
        assert_eq!(times, model.times(), "step {step} of seed {seed}");
    }
    counts
}

#[test]
fn whoever_comes_back_within_active_is_cut_off_by_no_other_limit_than_absolute_and_idle() {
    let mut random = Random(2027);
    let mut ends = [0; 3];
    for _ in 0..20_000 {
        let seed = random.0;
        let mut now = 0;
        let mut model = Model::new(&mut random, now);
        model.active = model.active.max(2);
        model.duration = model.duration.max(model.active);
        let terms = model.terms();
        let mut times = born(now, &terms);
        let mut last = now;
        for _ in 0..40 {
            now += 1 + random.below(model.active - 1);
            match judged(&times, &terms, now) {
                Verdict::Live => {}
                Verdict::Due(Due::Extend) => {
                    times = reseal(&extend(&times, &terms, Millis(now)), &terms, Millis(now));
                }
                Verdict::Due(Due::Refresh) => times = reseal(&times, &terms, Millis(now)),
                Verdict::Over { end, at } => {
                    assert_ne!(end, End::Duration, "seed {seed} at {now}: {model:?}");
                    if end == End::Idle {
                        let unused = at.0 - last;
                        assert!(
                            unused <= model.idle && unused >= model.idle - model.idle / 10,
                            "seed {seed}"
                        );
                    }
                    ends[end as usize] += 1;
                    break;
                }
                Verdict::Future => panic!("seed {seed} at {now}: {model:?}"),
            }
            last = now;
        }
    }
    assert!(ends[End::Absolute as usize] > 1_000 && ends[End::Idle as usize] > 1_000, "{ends:?}");
}

#[test]
fn an_active_user_is_cut_off_by_the_absolute_limit_alone() {
    let terms = terms(D, A, Some(10 * D), None);
    let mut times = born(0, &terms);
    let mut now = 0;
    let mut issues = 0;
    // A request exactly every `active` would meet the end itself, which is exclusive.
    while now + A < 10 * D {
        now += A - 1;
        match judged(&times, &terms, now) {
            Verdict::Due(Due::Extend) => {
                times = reseal(&extend(&times, &terms, Millis(now)), &terms, Millis(now));
                issues += 1;
            }
            verdict => assert_eq!(verdict, Verdict::Live, "at {now}"),
        }
    }
    assert_eq!(judged(&times, &terms, 10 * D), Verdict::Over { end: End::Absolute, at: Millis(10 * D) });
    assert!(issues as i64 <= 10 * D / A, "at most about once per active span: {issues}");
}
