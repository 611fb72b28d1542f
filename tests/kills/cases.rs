//! What is killed where: drawn by lot from a seed, so that it can be done again.

use std::fmt;

use crate::killer::Kill;

/// Kinds of system calls that change something, as the killer names them.
pub const KINDS: [&str; 8] = ["open", "rename", "link", "symlink", "unlink", "mkdir", "sync", "exec"];

/// What a site is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it was made by hand. Its web boots while the migrations run.
    ByHand,
    /// It was updated before: its virtualenv is a link to an environment already. Its files have odd names, its Git hooks fail,
    /// and no temporary directory can be used.
    Updated,
    /// Its socket is held, so the new version's web server is started beforehand.
    Held,
}

/// How many kills elsewhere than at the journal's entries, unless it is said.
const OTHERS: usize = 20;

/// Where an update is killed that boots the new version's web server beforehand, beside the entries of `Extent::bridge`.
const BRIDGE: [Kill; 5] = [
    Kill { kind: "mkdir=/bridge/view", after: true, number: 1 },
    Kill { kind: "rename=ready/", after: true, number: 1 },
    Kill { kind: "mkdir=/old-bridge/view", after: true, number: 1 },
    Kill { kind: "rename=/bridge/gate", after: false, number: 1 },
    Kill { kind: "rename=/bridge/gate", after: true, number: 1 },
];

/// One kill of an update, with the recovery that follows.
#[derive(Clone, Debug)]
pub struct Case {
    pub number: usize,
    pub kill: Kill,
    pub forward: bool,
    /// Where the first recovery is killed, too.
    pub again: Option<Kill>,
    /// Whether the environment has to be built, which an earlier update did otherwise.
    pub cold: bool,
    /// Whether the whole machine goes down: the servers die, too, what the journal had not synced is torn, and then the
    /// servers start.
    pub power: bool,
    pub site: Kind,
    /// Whether the update is rehearsed.
    pub rehearsed: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { number, kill, forward, again, cold, power, site, rehearsed } = self;
        let way = if *forward { "forward" } else { "back" };
        let power = if *power { ", the machine goes down" } else { "" };
        let site = match site {
            Kind::ByHand => "",
            Kind::Updated => ", updated before",
            Kind::Held => ", its socket is held",
        };
        let rehearsed = if *rehearsed { ", rehearsed" } else { "" };
        let cold = if *cold { ", nothing is built yet" } else { "" };
        write!(f, "case {number}: killed {kill}{power}{cold}{site}{rehearsed}, recovered {way}")?;
        again.iter().try_for_each(|again| write!(f, ", the recovery killed {again}"))
    }
}

/// How many calls of each kind an update makes, how many lines its journal has, and how long it takes.
#[derive(Clone, Debug)]
pub struct Extent {
    pub calls: Vec<(&'static str, u64)>,
    pub entries: u64,
    /// Which lines are about a web server that was started beforehand, and its successor.
    pub bridge: Vec<u64>,
    pub milliseconds: u64,
}

/// Kills at the journal's entries and around a web server that was started beforehand, and others elsewhere. `others` is how many of
/// those; all kills at the entries are made then, too. `None`: 20, and of the two kills at an entry one by lot.
///
/// `cold` is what an update comes to that builds the environment, `warm` one that finds it, `held` one of a site whose socket is
/// held.
pub fn draw(seed: u64, cold: &Extent, warm: &Extent, held: &Extent, others: Option<usize>) -> Vec<Case> {
    let mut lot = Lot(seed);
    let at_entries = |lot: &mut Lot, numbers: &[u64]| -> Vec<Kill> {
        let both = |number| {
            [Kill { kind: "write", after: false, number }, Kill { kind: "wsync", after: true, number }]
        };
        let all = numbers.iter().copied().flat_map(|number| {
            let is_first = lot.one_in(2);
            both(number).into_iter().filter(move |kill| others.is_some() || kill.after != is_first)
        });
        all.collect()
    };
    let mut cases = Vec::new();
    for kill in at_entries(&mut lot, &(1..=warm.entries).collect::<Vec<u64>>()) {
        let site = if lot.one_in(2) { Kind::Updated } else { Kind::ByHand };
        cases.push(case(&mut lot, warm, kill, site));
    }
    for kill in at_entries(&mut lot, &held.bridge).into_iter().chain(BRIDGE) {
        // Both ways, and the recovery is killed on one of them.
        let is_killed = lot.one_in(2);
        for forward in [false, true] {
            let again = (is_killed == forward).then(|| again(&mut lot, held));
            cases.push(Case { forward, again, ..case(&mut lot, held, kill.clone(), Kind::Held) });
        }
    }
    for index in 0..others.unwrap_or(OTHERS) {
        let site = [Kind::Held, Kind::ByHand, Kind::ByHand, Kind::Updated, Kind::Updated][index % 5];
        let is_cold = site != Kind::Held && lot.one_in(6);
        let extent = match site {
            Kind::Held => held,
            _ if is_cold => cold,
            _ => warm,
        };
        // One in five at any time, the others at a call of each kind in turn.
        let (kind, most) = if lot.one_in(5) {
            ("time", extent.milliseconds)
        } else {
            extent.calls[index % extent.calls.len()]
        };
        let kill = Kill { kind, after: lot.one_in(2), number: 1 + lot.below(most) };
        // Those at the journal's entries come after the rehearsal, which takes its time.
        let rehearsed = lot.one_in(6);
        cases.push(Case { cold: is_cold, rehearsed, ..case(&mut lot, extent, kill, site) });
    }
    for (number, case) in cases.iter_mut().enumerate() {
        case.number = number;
    }
    // Not all kills of one kind on one site.
    for index in (1..cases.len()).rev() {
        cases.swap(index, usize::try_from(lot.below(index as u64 + 1)).unwrap_or(0));
    }
    cases
}

fn case(lot: &mut Lot, extent: &Extent, kill: Kill, site: Kind) -> Case {
    Case {
        number: 0,
        kill,
        cold: false,
        forward: lot.one_in(2),
        again: lot.one_in(2).then(|| again(lot, extent)),
        power: lot.one_in(8),
        site,
        rehearsed: false,
    }
}

/// Draws where a recovery is killed, which makes far fewer calls than an update.
fn again(lot: &mut Lot, update: &Extent) -> Kill {
    let after = lot.one_in(2);
    match lot.below(3) {
        0 => Kill { kind: "time", after, number: lot.below(update.milliseconds / 2) },
        1 => Kill { kind: "wsync", after, number: 1 + lot.below(update.entries / 2) },
        _ => {
            let kind = usize::try_from(lot.below(KINDS.len() as u64)).unwrap_or(0);
            let (kind, most) = update.calls[kind];
            Kill { kind, after, number: 1 + lot.below(most.min(40)) }
        }
    }
}

/// Numbers by lot (SplitMix64).
#[derive(Debug)]
pub struct Lot(pub u64);

impl Lot {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}
