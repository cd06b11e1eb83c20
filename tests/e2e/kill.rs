//! `kill -9`, again and again, while a job runs: no result is lost, none doubled, every attempt is accounted for.
//!
//! Owns the random moments. Never kills at a chosen one: what is weak there is found by chance, and again by its seed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use gristmill_test_postgres::Server;
use rustix::process::Signal;

use crate::job::{Job, chain, compare_with_trace};
use crate::support::{Running, components, long};

const STAGES: u64 = 3;
/// So many kills have to hit the middle of work (there were new results since the one before, and not yet all), and so
/// many items give them time to.
const SHORT: Plan = Plan { kills: 20, items: 16_000 };
const LONG: Plan = Plan { kills: 100, items: 60_000 };
/// The same for three hosts on one Postgres.
const SHARED_SHORT: Plan = Plan { kills: 6, items: 16_000 };
const SHARED_LONG: Plan = Plan { kills: 50, items: 60_000 };
/// Up to where the first moment is chosen; from there on it follows what the kills find.
const FIRST_SPAN: Duration = Duration::from_millis(150);
const TRACE: &str = "trace.jsonl";

struct Plan {
    kills: u32,
    items: u64,
}

#[test]
fn no_kill_loses_or_doubles_a_result() {
    let plan = if long() { LONG } else { SHORT };
    let job = Job::new(&chain(&components().noop, plan.items));
    let start = || job.start(&["--trace-file", TRACE]);
    kill_in_work(&job, &plan, vec![start()], start);
    let account = job.run(&["--trace-file", TRACE]).expect(0).json();
    assert_eq!(account["jobs"][0]["items"]["done"], plan.items, "{account}");
    audit(&job, &plan);
    let again = job.run(&[]).expect(0).json();
    assert_eq!((&again["executions"], &again["lost"]), (&0.into(), &0.into()), "{again}");
}

#[test]
fn no_kill_of_three_hosts_on_one_database_loses_or_doubles_a_result() {
    let plan = if long() { SHARED_LONG } else { SHARED_SHORT };
    let database = Server::shared().database();
    let job = Job::on(database.url(), &chain(&components().noop, plan.items));
    let start = || job.start(&["--trace-file", TRACE, "--takeover-after", "1s", "--workers", "1"]);
    let left = kill_in_work(&job, &plan, (0..3).map(|_| start()).collect(), start);
    for host in left {
        host.finish().expect(0);
    }
    assert_eq!(job.status()["items"]["done"], plan.items);
    audit(&job, &plan);
}

/// Kills hosts at random moments, and starts another one in place of each. Returns those that are left.
fn kill_in_work(job: &Job, plan: &Plan, mut hosts: Vec<Running>, start: impl Fn() -> Running) -> Vec<Running> {
    let mut random = Random::new();
    let (mut span, mut done, mut in_work, mut kills) = (FIRST_SPAN, 0, 0, 0);
    while in_work < plan.kills && kills < plan.kills * 5 {
        let mut host = hosts.swap_remove((random.fraction() * hosts.len() as f64) as usize);
        let killed = !host.ends_within(span.mul_f64(random.fraction()));
        host.signal(Signal::KILL);
        let ran = host.finish();
        assert!(killed, "it ended by itself, after {in_work} kills in its work and {kills} in all: {ran:?}");
        assert_eq!(ran.code, None, "{ran:?}");
        kills += 1;
        let gained = job.done() - done;
        done += gained;
        in_work += u32::from(gained > 0);
        // Sooner after a fair share of the work, so that it lasts for all of them; else later, and fast until work begins.
        span = span.mul_f64(match gained {
            0 if in_work == 0 => 1.3,
            few if few < plan.items * STAGES / (2 * u64::from(plan.kills)) => 1.1,
            _ => 0.6,
        });
        if in_work < plan.kills || hosts.len() > 1 {
            hosts.push(start());
        }
    }
    println!("{in_work} of {kills} kills hit the middle of work, the last at {done} results");
    assert_eq!(in_work, plan.kills, "of {kills} kills, too few hit the middle of work");
    hosts
}

/// Attempts are results and charged losses; counters equal a recount; the trace file knows of no other attempt.
fn audit(job: &Job, plan: &Plan) {
    let outcomes = job.audit();
    assert_eq!(outcomes.get("done"), Some(&(plan.items * STAGES)), "{outcomes:?}");
    assert!(outcomes.get("lost").is_some_and(|lost| *lost > 0), "no kill hit a lease: {outcomes:?}");
    assert_eq!(outcomes.len(), 2, "there is an attempt that is neither a result nor a loss: {outcomes:?}");
    compare_with_trace(job, TRACE);
    job.gristmill(&["doctor"]).expect(0);
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
