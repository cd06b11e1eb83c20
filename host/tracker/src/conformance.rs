//! What every backend must do.
//!
//! Owns one suite, written against the trait alone: `conformance!` runs it on a backend. After each test the counters
//! are compared with a recount. Never looks into a database.

pub(crate) mod attempts;
pub(crate) mod edits;
pub(crate) mod queue;

use std::time::Duration;

use gristmill_model::{
    Digest, Disposition, Fence, HostId, ItemId, ItemStatus, Masks, Need, Outcome, Rediscovery, StageBit, StageId,
    State, Timestamp, VersionId,
};

use crate::Tracker;
use crate::records::{
    Claim, ClaimRequest, Completion, HostInfo, ItemDetail, ItemsFilter, JobRegistration, Lease, NewItem, Output,
    RegisteredJob, Round, RoundDone, Settlement, Source, StageRegistration, Upsert, Upserted,
};

/// Runs the whole suite on a backend: `$backend::Place::new()` is an empty tracker, and its `open()` can be called again
/// to open the same one.
macro_rules! conformance {
    ($backend:ident) => {
        crate::conformance::suite!($backend:
            queue {
                a_discovered_item_is_ready_once,
                changed_data_is_given_to_the_next_attempt,
                nothing_is_claimed_twice,
                a_claim_that_gets_less_than_it_wants_says_so,
                higher_priority_goes_first_until_the_other_is_old,
                items_and_their_cursor_come_together,
                a_bad_operation_fails_alone,
                lists_are_filtered_and_bounded,
            }
            attempts {
                a_diamond_runs_each_stage_once,
                both_sides_of_a_fan_in_in_one_round_release_it_once,
                a_completion_under_another_fence_is_late,
                waiting_work_comes_back_when_it_is_due,
                a_dead_stage_blocks_its_descendants_only,
                a_skipped_stage_takes_along_who_needs_its_output,
                released_work_is_not_charged,
                work_of_a_vanished_host_is_charged_and_comes_back,
                a_live_host_keeps_its_work_until_its_deadline,
                a_fence_never_comes_back,
                charges_add_up,
            }
            edits {
                a_new_stage_is_released_for_items_that_were_done,
                a_retired_stage_gives_up_its_queue_and_keeps_its_results,
                another_version_leaves_results_and_counts_them,
                a_stage_keeps_its_bit_whatever_its_place,
                the_lost_work_of_a_job_that_nobody_runs_now_waits_for_its_host,
            }
        );
    };
}
pub(crate) use conformance;

macro_rules! suite {
    ($backend:ident: $($module:ident { $($test:ident),+ $(,)? })+) => {
        $($(
            #[test]
            fn $test() {
                let place = $backend::Place::new();
                crate::conformance::block_on(crate::conformance::$module::$test(&|| place.open()));
            }
        )+)+
    };
}
pub(crate) use suite;

pub(crate) type Open<'a> = &'a dyn Fn() -> Box<dyn Tracker>;

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

pub(crate) const NOW: Timestamp = Timestamp(1_000_000_000);

/// A tracker with one host and one job, whose stages are given as (name, needs).
pub(crate) struct Bench {
    pub(crate) tracker: Box<dyn Tracker>,
    pub(crate) host: HostId,
    pub(crate) job: RegisteredJob,
    pub(crate) now: Timestamp,
}

impl Bench {
    pub(crate) async fn new(open: Open<'_>, stages: &[(&str, &[usize])]) -> Self {
        let stages = stages
            .iter()
            .map(|(name, needs)| stage(name, needs.iter().map(|stage| Need { stage: *stage, output: false }).collect()))
            .collect();
        Self::with(open(), stages).await
    }

    pub(crate) async fn with(tracker: Box<dyn Tracker>, stages: Vec<StageRegistration>) -> Self {
        let info = HostInfo { name: "test".to_owned(), pid: 1, app_version: "0".to_owned(), now: NOW };
        let host = tracker.register_host(info).await.expect("a host");
        let job = tracker.register_job(registration(stages)).await.expect("a job");
        Self { tracker, host, job, now: NOW }
    }

    pub(crate) fn stage(&self, place: usize) -> StageId {
        self.job.stages[place].id
    }

    pub(crate) async fn discover(&self, items: &[(&str, &str)]) -> Upserted {
        let items = items.iter().map(|(key, data)| item(key, data, 0)).collect();
        self.upsert(items, None).await
    }

    pub(crate) async fn upsert(&self, items: Vec<NewItem>, cursor: Option<&str>) -> Upserted {
        let batch = self.page(items, cursor);
        self.tracker.upsert(batch).await.expect("an upsert")
    }

    pub(crate) fn page(&self, items: Vec<NewItem>, next: Option<&str>) -> Upsert {
        let source = Source::Page { cursor: None, next: next.map(str::to_owned) };
        Upsert { job: self.job.id, items, source, rediscovery: Rediscovery::default(), now: self.now }
    }

    pub(crate) async fn round(&self, settlements: Vec<Settlement>, claims: Vec<ClaimRequest>) -> RoundDone {
        let round = Round { host: self.host, now: self.now, settlements, claims };
        self.tracker.round(round).await.expect("a round")
    }

    pub(crate) async fn claim(&self, place: usize, limit: u32, chunk: u32) -> Vec<Lease> {
        let lease = Duration::from_secs(60);
        self.round(Vec::new(), vec![ClaimRequest { stage: self.stage(place), limit, chunk, lease }]).await.leases
    }

    /// Claims one stage of one item.
    pub(crate) async fn claim_one(&self, place: usize) -> (Fence, Claim) {
        let mut leases = self.claim(place, 1, 1).await;
        assert_eq!(leases.len(), 1, "one stage is ready");
        let mut lease = leases.remove(0);
        (lease.fence, lease.claims.remove(0))
    }

    pub(crate) async fn settle(&self, fence: Fence, completions: Vec<Completion>) -> RoundDone {
        self.round(vec![Settlement { fence, completions }], Vec::new()).await
    }

    /// Claims one stage of one item and settles it.
    pub(crate) async fn pass(&self, place: usize, outcome: Outcome, disposition: Disposition) -> Claim {
        let (fence, claim) = self.claim_one(place).await;
        let done = self.settle(fence, vec![self.completion(&claim, outcome, disposition)]).await;
        assert_eq!((done.applied, done.late), (1, 0));
        claim
    }

    pub(crate) async fn done(&self, place: usize) -> Claim {
        self.pass(place, Outcome::Done, Disposition::Done).await
    }

    pub(crate) fn completion(&self, claim: &Claim, outcome: Outcome, disposition: Disposition) -> Completion {
        let text = format!("{{\"{}\":{}}}", claim.item_key, claim.key.bit().0);
        let version = self.job.stages.iter().find(|stage| stage.id.bit() == claim.key.bit());
        Completion {
            key: claim.key,
            version: version.map_or(VersionId(0), |stage| stage.version),
            outcome,
            disposition,
            output: (disposition == Disposition::Done).then(|| Output { hash: Digest::of(text.as_bytes()), text }),
            input_hash: Digest::of(claim.data.as_bytes()),
            error: (outcome != Outcome::Done).then(|| format!("it was {}", outcome.name())),
            log: None,
            ready_at: claim.ready_at,
            started_at: self.now,
            ended_at: self.now,
            memory_bytes_max: 65536,
            charges: Vec::new(),
        }
    }

    pub(crate) async fn item(&self, key: &str) -> ItemDetail {
        self.tracker.item(self.job.id, key).await.expect("a read").expect("the item")
    }

    pub(crate) async fn states(&self, key: &str) -> Vec<State> {
        self.item(key).await.stages.iter().map(|stage| stage.state).collect()
    }

    /// Compares every counter with a recount from the facts, and lets the tracker examine itself.
    pub(crate) async fn recount(&self) {
        let filter =
            ItemsFilter { job: self.job.id, status: None, prefix: String::new(), after: ItemId(0), limit: 10_000 };
        let items = self.tracker.items(filter).await.expect("a list");
        let stats = self.tracker.stats(self.job.id).await.expect("counters");
        for status in ItemStatus::ALL {
            let counted = items.iter().filter(|item| item.status == status).count() as u64;
            assert_eq!(stats.items[&status], counted, "items that are {}", status.name());
        }
        match self.tracker.examine().await {
            Ok(examination) => assert_eq!(examination.differences, []),
            // Until every backend has it.
            Err(crate::Error::Stopped) => {}
            Err(error) => panic!("an examination: {error}"),
        }
        let mut details = Vec::new();
        for item in &items {
            details.push(self.item(&item.key).await);
        }
        for (place, stage) in stats.stages.iter().enumerate() {
            for state in State::ALL.into_iter().filter(|state| *state != State::Blocked) {
                let counted = details.iter().filter(|item| is_in(item, place, stage.id.bit(), state)).count() as u64;
                assert_eq!(stage.count(state), counted, "stage {} in state {}", stage.name, state.name());
            }
        }
    }
}

/// Whether a stage of an item is in a state. One that is being redone is in the queue, and what it was.
fn is_in(item: &ItemDetail, place: usize, bit: StageBit, state: State) -> bool {
    let Masks { done, skipped, dead, .. } = item.row.masks;
    let settled = [(done, State::Done), (skipped, State::Skipped), (dead, State::Dead)];
    let was = settled.into_iter().any(|(mask, was)| was == state && mask & bit.mask() != 0);
    was || item.stages[place].state == state
}

pub(crate) fn item(key: &str, data: &str, priority: i32) -> NewItem {
    NewItem {
        key: key.to_owned(),
        data: data.to_owned(),
        data_hash: Digest::of(data.as_bytes()),
        priority,
        merged: None,
    }
}

pub(crate) fn stage(name: &str, needs: Vec<Need>) -> StageRegistration {
    let component = Digest::of(b"component");
    StageRegistration {
        name: name.to_owned(),
        needs,
        version: Digest::of(name.as_bytes()),
        component,
        component_raw: component,
        component_size: 1,
        source: "test.wasm".to_owned(),
        declared: None,
    }
}

pub(crate) fn registration(stages: Vec<StageRegistration>) -> JobRegistration {
    let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    let yaml = names.join("\n");
    JobRegistration { name: "job".to_owned(), spec_id: Digest::of(yaml.as_bytes()), yaml, stages, now: NOW }
}
