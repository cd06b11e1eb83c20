//! `kill -9`, again and again, while a job runs: no result is lost, none doubled, every attempt is accounted for.
//!
//! Owns the random moments. Never kills at a chosen one: what is weak there is found by chance, and again by its seed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use rustix::process::Signal;

use crate::job::{Job, chain};
use crate::support::components;

const ITEMS: u64 = 16_000;
const STAGES: u64 = 3;
/// So many kills have to hit the middle of work: there were new results since the one before, and not yet all.
const KILLS_IN_WORK: u32 = 20;
const KILLS_MAX: u32 = 100;
/// Up to where the first moment is chosen; from there on it follows what the kills find.
const FIRST_SPAN: Duration = Duration::from_millis(150);

#[test]
fn no_kill_loses_or_doubles_a_result() {
    let mut random = Random::new();
    let job = Job::new(&chain(&components().noop, ITEMS));
    let (mut span, mut done, mut in_work, mut kills) = (FIRST_SPAN, 0, 0, 0);
    while in_work < KILLS_IN_WORK && kills < KILLS_MAX {
        let mut host = job.start(&[]);
        let killed = !host.ends_within(span.mul_f64(random.fraction()));
        host.signal(Signal::KILL);
        let ran = host.finish();
        assert!(killed, "it ended by itself, after {in_work} kills in its work and {kills} in all: {ran:?}");
        assert_eq!(ran.code, None, "{ran:?}");
        kills += 1;
        let gained = job.done() - done;
        done += gained;
        in_work += u32::from(gained > 0);
        // Sooner after a fortieth of the work, so that it lasts for all of them; else later, and fast until work begins.
        span = span.mul_f64(match gained {
            0 if in_work == 0 => 1.3,
            few if few < ITEMS * STAGES / 40 => 1.1,
            _ => 0.6,
        });
    }
    println!("{in_work} of {kills} kills hit the middle of work, the last at {done} results");
    assert_eq!(in_work, KILLS_IN_WORK, "of {kills} kills, too few hit the middle of work");

    let account = job.run(&[]).expect(0).json();
    assert_eq!(account["jobs"][0]["items"]["done"], ITEMS, "{account}");
    let outcomes = job.audit();
    assert_eq!(outcomes.get("done"), Some(&(ITEMS * STAGES)), "{outcomes:?}");
    assert!(outcomes.get("lost").is_some_and(|lost| *lost > 0), "no kill hit a lease: {outcomes:?}");
    assert_eq!(outcomes.len(), 2, "there is an attempt that is neither a result nor a loss: {outcomes:?}");

    let again = job.run(&[]).expect(0).json();
    assert_eq!((&again["executions"], &again["lost"]), (&0.into(), &0.into()), "{again}");
}

/// A sequence that its seed determines: `SplitMix64` (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    /// A new sequence each time, or the one that failed, by `GRISTMILL_SEED`.
    fn new() -> Self {
        let given = std::env::var("GRISTMILL_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
        println!("GRISTMILL_SEED={seed}");
        Self(seed)
    }

    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
