//! What is killed where: drawn by lot from a seed, so that it can be done again.

use std::fmt;

use crate::killer::Kill;

/// Kinds of system calls that change something, as the killer names them.
pub const KINDS: [&str; 8] = ["open", "rename", "link", "symlink", "unlink", "mkdir", "sync", "exec"];

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
    /// Whether the site was updated before: its virtualenv is a link to an environment already.
    pub linked: bool,
    /// Whether the update is rehearsed.
    pub rehearsed: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { number, kill, forward, again, cold, power, linked, rehearsed } = self;
        let way = if *forward { "forward" } else { "back" };
        let power = if *power { ", the machine goes down" } else { "" };
        let linked = if *linked { ", updated before" } else { "" };
        let rehearsed = if *rehearsed { ", rehearsed" } else { "" };
        let cold = if *cold { ", nothing is built yet" } else { "" };
        write!(f, "case {number}: killed {kill}{power}{cold}{linked}{rehearsed}, recovered {way}")?;
        again.iter().try_for_each(|again| write!(f, ", the recovery killed {again}"))
    }
}

/// How many calls of each kind an update makes, how many lines its journal has, and how long it takes.
#[derive(Clone, Debug)]
pub struct Extent {
    pub calls: Vec<(&'static str, u64)>,
    pub entries: u64,
    pub milliseconds: u64,
}

/// All kills at the journal's entries, and so many others.
///
/// `cold` is what an update comes to that builds the environment, `warm` one that finds it.
pub fn draw(seed: u64, cold: &Extent, warm: &Extent, others: usize) -> Vec<Case> {
    let mut lot = Lot(seed);
    let at_entries = (1..=warm.entries).flat_map(|number| {
        [Kill { kind: "write", after: false, number }, Kill { kind: "wsync", after: true, number }]
    });
    let mut kills: Vec<(Kill, bool)> = at_entries.map(|kill| (kill, false)).collect();
    for index in 0..others {
        let is_cold = lot.one_in(6);
        let extent = if is_cold { cold } else { warm };
        // One in five at any time, the others at a call of each kind in turn.
        let (kind, most) = if index % 5 == 4 {
            ("time", extent.milliseconds)
        } else {
            extent.calls[(index - index / 5) % extent.calls.len()]
        };
        kills.push((Kill { kind, after: lot.one_in(2), number: 1 + lot.below(most) }, is_cold));
    }
    let mut case = |(number, (kill, cold)): (usize, (Kill, bool))| Case {
        number,
        // Those at the journal's entries come after the rehearsal, which takes its time.
        rehearsed: !["write", "wsync"].contains(&kill.kind) && lot.one_in(6),
        kill,
        cold,
        forward: lot.one_in(2),
        again: lot.one_in(2).then(|| again(&mut lot, warm)),
        power: lot.one_in(8),
        linked: lot.one_in(2),
    };
    let mut cases: Vec<Case> = kills.into_iter().enumerate().map(&mut case).collect();
    // Not all kills of one kind on one site.
    for index in (1..cases.len()).rev() {
        cases.swap(index, usize::try_from(lot.below(index as u64 + 1)).unwrap_or(0));
    }
    cases
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
