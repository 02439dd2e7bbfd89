//! What requests may do, from where, and on what: the words that programs are made of.

use sealed_session::Overflow;

pub(crate) const NAMES: [char; 3] = ['A', 'B', 'C'];
/// So many requests at most.
pub(crate) const MOST: usize = NAMES.len();

/// Declares a fieldless enum whose values have the names by which a program is replayed.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $value:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $name { $($(#[$of])* $value),+ }

        impl $name {
            pub(crate) const ALL: &[Self] = &[$(Self::$value),+];

            pub(crate) fn word(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }

            fn parse(word: &str) -> Self {
                let value = Self::ALL.iter().find(|value| value.word() == word);
                *value.unwrap_or_else(|| panic!("{word:?} is none of {:?}", Self::ALL))
            }
        }
    };
}

words! {
    /// What one request does.
    Op {
        Read = "read", Set = "set", Other = "other", Increment = "increment", Grow = "grow", Shrink = "shrink",
        Remove = "remove", Renew = "renew", LoginSame = "login-ada", LoginOther = "login-bob",
        Impersonate = "impersonate-bob", Destroy = "destroy", Revoke = "revoke", RevokeSubject = "revoke-ada",
        /// ada changes her password: all her sessions are over but this one, which gets another id.
        EverywhereElse = "everywhere-else",
        Touch = "touch", Save = "save", Clear = "clear",
        /// Gives the session half of its duration.
        Shorten = "shorten",
        /// Writes, and is no sign of a user.
        SetQuietly = "set-quietly",
        /// Shows a form with a token, which is of the session's id.
        Token = "token",
        // What lists of sessions are about.
        /// ada logs in with a browser that has no cookie.
        LoginThere = "login-ada-there",
        /// The same, with more than fits a cookie.
        LoginLargeThere = "login-ada-large-there",
        /// Logs out with the browser of her second session.
        DestroyThere = "destroy-there",
        /// Looks at ada's list.
        List = "list",
        /// Ends the first session in the list that is not the request's own.
        EndOther = "end-other",
        Label = "label",
        // Of somebody who has copied the cookie of a session that is bound to a device, and no proof.
        StolenRead = "stolen-read",
        StolenSet = "stolen-set",
        StolenGrow = "stolen-grow",
        StolenTouch = "stolen-touch",
        StolenRenew = "stolen-renew",
        StolenDestroy = "stolen-destroy",
        /// ada, whose browser has not proved itself in time.
        StolenLoginSame = "stolen-login-ada",
        StolenLoginOther = "stolen-login-bob",
    }
}

words! {
    /// What the browser has when it sends all of them.
    Start {
        None = "none", Cookie = "cookie", Stored = "stored", CookieOfAda = "cookie-of-ada",
        StoredOfAda = "stored-of-ada", RetiredCookie = "retired-cookie", RetiredStored = "retired-stored",
        DueCookie = "due-cookie", DueStored = "due-stored", EmptyStored = "empty-stored",
        EmptyOfAda = "empty-of-ada", CookieOfBob = "cookie-of-bob",
        /// A cookie from before the session moved into the store.
        Before = "before-the-move",
        /// A cookie that was issued since, by a node that had not heard of it.
        Branched = "branched",
    }
}

words! {
    Revoking { Default = "default", Every = "every", Off = "off" }
}

words! {
    /// What is special about the nodes.
    Special {
        /// They have not seen the session before.
        Cold = "cold",
        /// They have, and so know it to be fine.
        Warm = "warm",
        Rolling = "rolling",
        Idle = "idle",
        /// A store that does not answer is 503.
        Closed = "closed",
        /// The clock of the second node, and that of the store, are a minute ahead of the first.
        Apart = "apart",
        /// The second node is behind in a rotation: what is the primary key of the first is pending there.
        Behind = "behind",
        /// They keep lists of sessions. Another browser has a second session of ada's, which began later.
        Listed = "listed",
        /// A login ends the oldest session; there is one at most.
        OneOldest = "one-ends-oldest",
        /// A login is refused where there is one.
        OneRefused = "one-refuses",
        /// There are two at most, and two there are.
        TwoOldest = "two-ends-oldest",
        /// The browser has registered a device, and its next request binds the session to that.
        Registered = "registered",
        /// The session is bound to the browser's device.
        Bound = "bound",
    }
}

words! {
    /// What happens once, between any two steps.
    Happening {
        Rotate = "rotate",
        /// The key that had sealed the session is revoked.
        RevokeKey = "revoke-key",
        /// The session's cookie is over.
        End = "end",
        /// Its row is over as well.
        Gone = "gone",
        Forward = "forward",
        Back = "back",
    }
}

impl Op {
    /// What is done where there are lists.
    const LISTED: &[Self] = &[
        Self::Set,
        Self::Renew,
        Self::LoginSame,
        Self::LoginOther,
        Self::Destroy,
        Self::RevokeSubject,
        Self::Touch,
        Self::LoginThere,
        Self::LoginLargeThere,
        Self::DestroyThere,
        Self::List,
        Self::EndOther,
        Self::Label,
    ];

    /// What is done where sessions are bound to devices.
    const BOUND: &[Self] = &[
        Self::Read,
        Self::Set,
        Self::Increment,
        Self::Grow,
        Self::Touch,
        Self::Renew,
        Self::LoginSame,
        Self::Destroy,
        Self::RevokeSubject,
        Self::StolenRead,
        Self::StolenSet,
        Self::StolenGrow,
        Self::StolenTouch,
        Self::StolenRenew,
        Self::StolenDestroy,
        Self::StolenLoginSame,
        Self::StolenLoginOther,
    ];

    /// Whether it comes with the session's cookie and without a proof of its device.
    pub(crate) fn is_stolen(self) -> bool {
        self >= Self::StolenRead
    }

    /// What its handler does.
    pub(crate) fn handled(self) -> Self {
        match self {
            Self::StolenRead => Self::Read,
            Self::StolenSet => Self::Set,
            Self::StolenGrow => Self::Grow,
            Self::StolenTouch => Self::Touch,
            Self::StolenRenew => Self::Renew,
            Self::StolenDestroy => Self::Destroy,
            Self::StolenLoginSame => Self::LoginSame,
            Self::StolenLoginOther => Self::LoginOther,
            own => own,
        }
    }

    /// Whether it may write that a session is over.
    pub(crate) fn ends(self) -> bool {
        matches!(
            self.handled(),
            Self::Renew
                | Self::EverywhereElse
                | Self::LoginSame
                | Self::LoginOther
                | Self::LoginThere
                | Self::LoginLargeThere
                | Self::Impersonate
                | Self::Destroy
                | Self::DestroyThere
                | Self::Revoke
                | Self::EndOther
        )
    }

    /// Whether it comes from another browser, or from none, and so without the first session's cookie.
    pub(crate) fn is_elsewhere(self) -> bool {
        matches!(
            self,
            Self::LoginThere | Self::LoginLargeThere | Self::DestroyThere | Self::List | Self::RevokeSubject
        )
    }
}

impl Special {
    /// Whether there are lists of sessions.
    pub(crate) fn is_listed(self) -> bool {
        (Self::Listed..=Self::TwoOldest).contains(&self)
    }

    /// Whether sessions are bound to devices.
    pub(crate) fn is_bound(self) -> bool {
        self >= Self::Registered
    }

    /// What there is without lists.
    pub(crate) fn unlisted() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|special| *special < Self::Listed)
    }

    pub(crate) fn listed() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|special| special.is_listed())
    }

    pub(crate) fn bound() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|special| special.is_bound())
    }

    /// How many sessions a user may have, and what becomes of a login beyond that.
    pub(crate) fn limit(self) -> Option<(usize, Overflow)> {
        match self {
            Self::OneOldest => Some((1, Overflow::EndOldest)),
            Self::OneRefused => Some((1, Overflow::Refuse)),
            Self::TwoOldest => Some((2, Overflow::EndOldest)),
            _ => None,
        }
    }

    fn ops(self) -> impl Iterator<Item = Op> + Clone {
        let all = match self {
            _ if self.is_listed() => Op::LISTED,
            _ if self.is_bound() => Op::BOUND,
            _ => Op::ALL,
        };
        all.iter().copied().filter(move |op| all.len() < Op::ALL.len() || *op < Op::LoginThere)
    }
}

impl Start {
    /// Whether a retired key had sealed it.
    pub(crate) fn is_retired(self) -> bool {
        matches!(self, Self::RetiredCookie | Self::RetiredStored)
    }

    /// Whether the session is ada's.
    pub(crate) fn is_adas(self) -> bool {
        !matches!(self, Self::None | Self::Cookie | Self::Stored | Self::EmptyStored | Self::CookieOfBob)
    }

    /// Whether its cookie holds what the session was when it was elsewhere.
    pub(crate) fn has_older_cookie(self) -> bool {
        matches!(self, Self::Before | Self::Branched)
    }
}

impl Happening {
    /// Whether no session ends by it.
    pub(crate) fn spares(self) -> bool {
        matches!(self, Self::Rotate | Self::Forward | Self::Back)
    }
}

/// Where the requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Setup {
    /// 1 or 2. Of two the second one gets the second request.
    pub(crate) nodes: usize,
    pub(crate) revoking: Revoking,
    pub(crate) special: Special,
}

impl Setup {
    pub(crate) const fn of(nodes: usize, revoking: Revoking, special: Special) -> Self {
        Self { nodes, revoking, special }
    }

    /// Whether it matters which node gets which request.
    fn is_lopsided(self) -> bool {
        matches!(self.special, Special::Apart | Special::Behind)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) setup: Setup,
    pub(crate) start: Start,
    pub(crate) ops: Vec<Op>,
    pub(crate) happening: Option<Happening>,
}

impl Program {
    /// Every one of two requests that makes sense. Requests are alike, so of two orders of naming them one is enough,
    /// unless the nodes differ.
    pub(crate) fn pairs(setup: Setup, start: Start, happening: Option<Happening>) -> Vec<Self> {
        let ops = setup.special.ops();
        let pairs = ops.clone().flat_map(|one| ops.clone().map(move |other| vec![one, other]));
        pairs
            .filter(|ops| ops[0] <= ops[1] || setup.is_lopsided())
            .map(|ops| Self { setup, start, ops, happening })
            .filter(Self::makes_sense)
            .collect()
    }

    /// Every one of three requests out of these.
    pub(crate) fn triples(setup: Setup, start: Start, of: &[Op]) -> Vec<Self> {
        let mut programs = Vec::new();
        for (first, one) in of.iter().enumerate() {
            for (second, other) in of.iter().enumerate().skip(first) {
                for third in &of[second..] {
                    // Of two nodes the first has two of the requests, so there are three ways to deal them.
                    let mut dealt = vec![[*one, *other, *third]];
                    if setup.nodes > 1 {
                        dealt.extend([[*other, *one, *third], [*one, *third, *other]]);
                        dealt.dedup();
                    }
                    programs.extend(dealt.into_iter().map(|ops| Self {
                        setup,
                        start,
                        ops: ops.to_vec(),
                        happening: None,
                    }));
                }
            }
        }
        programs.retain(Self::makes_sense);
        programs
    }

    fn makes_sense(&self) -> bool {
        let has = |op| self.ops.contains(&op);
        let Setup { revoking, special, nodes } = self.setup;
        let moved = matches!(self.start, Start::Before | Start::Branched);
        let none = self.start == Start::None
            && match special {
                Special::Cold => has(Op::Revoke),
                // Who has nothing has nothing to log out of.
                _ => {
                    !special.is_listed()
                        || has(Op::DestroyThere)
                        || !self.ops.iter().all(|op| op.is_elsewhere())
                }
            };
        let there = has(Op::DestroyThere) && !matches!(special, Special::Listed | Special::TwoOldest);
        // Where nobody asks, a cookie that holds a session is one.
        let revokes = [Op::Revoke, Op::RevokeSubject, Op::EverywhereElse].into_iter().any(has);
        let off = revoking == Revoking::Off && (revokes || moved);
        // Only ada does.
        let elsewhere = has(Op::EverywhereElse) && !self.start.is_adas();
        // It would be over by then.
        let due = matches!(self.start, Start::DueCookie | Start::DueStored)
            && matches!(self.happening, Some(Happening::Forward | Happening::Back));
        !(none || there || off || elsewhere || due || nodes == 1 && self.setup.is_lopsided())
    }

    /// Whether it is time to prolong the session, whatever a request does.
    pub(crate) fn is_due(&self) -> bool {
        matches!(self.start, Start::DueCookie | Start::DueStored)
            || matches!(self.setup.special, Special::Rolling | Special::Idle)
    }

    pub(crate) fn node(&self, who: usize) -> usize {
        who % self.setup.nodes
    }

    pub(crate) fn parse(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let [nodes, revoking, special, start, ops @ ..] = &words[..] else {
            panic!("{text:?} is no program such as \"1 default cold cookie set renew\"")
        };
        let (happening, ops): (Vec<&str>, Vec<&str>) = ops.iter().partition(|word| word.starts_with('+'));
        Self {
            setup: Setup {
                nodes: nodes.parse().unwrap(),
                revoking: Revoking::parse(revoking),
                special: Special::parse(special),
            },
            start: Start::parse(start),
            ops: ops.into_iter().map(Op::parse).collect(),
            happening: happening.first().map(|word| Happening::parse(&word[1..])),
        }
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { setup: Setup { nodes, revoking, special }, start, ops, happening } = self;
        write!(f, "{nodes} {} {} {}", revoking.word(), special.word(), start.word())?;
        ops.iter().try_for_each(|op| write!(f, " {}", op.word()))?;
        happening.iter().try_for_each(|what| write!(f, " +{}", what.word()))
    }
}
