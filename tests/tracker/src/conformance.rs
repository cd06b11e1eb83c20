//! The suite that every backend passes.
//!
//! Owns one suite, written only against the traits: `conformance!` runs it on a backend. After each test the counters
//! are compared with a recount. Never reads a database directly.

pub mod attempts;
pub mod cancel;
pub mod components;
pub mod dead;
pub mod edits;
pub mod examine;
pub mod items;
pub mod life;
pub mod moving;
pub mod older;
pub mod queue;
pub mod reprocess;

use gristmill_model::{
    Digest, Disposition, Fence, HostId, ItemId, ItemStatus, Masks, Need, Outcome, Rediscovery, StageBit, StageId,
    State, Timestamp, VersionId,
};

use gristmill_tracker::records::{
    Claim, ClaimRequest, Completion, HostInfo, ItemDetail, ItemsFilter, JobRegistration, Lease, NewItem, Output,
    RegisteredJob, Round, RoundDone, Settlement, Source, StageRegistration, Upsert, Upserted,
};
use gristmill_tracker::{ComponentBytes, Tracker};

/// Runs the whole suite on a backend: the expression is the [`Location`](crate::Location) of an empty tracker, a new one
/// each time.
#[macro_export]
macro_rules! conformance {
    ($location:expr) => {
        $crate::suite!($location =>
            queue {
                a_discovered_item_is_ready_once,
                changed_data_is_given_to_the_next_attempt,
                nothing_is_claimed_twice,
                a_claim_that_gets_less_than_it_wants_says_so,
                higher_priority_goes_first_until_the_other_is_old,
                items_and_their_cursor_come_together,
                a_bad_operation_fails_alone,
                lists_are_filtered_and_bounded,
                what_is_claimed_at_once_is_bounded_by_bytes,
                an_attempt_that_is_refused_is_reported_and_the_others_are_settled,
                a_list_by_status_and_prefix_is_that_of_all_items_filtered,
                a_list_of_attempts_or_events_is_that_of_all_filtered,
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
                a_live_host_keeps_its_work_however_long_it_takes,
                where_nobody_else_can_be_alive_no_clock_is_asked,
                a_fence_never_comes_back,
                charges_add_up,
                a_wait_that_no_policy_can_have_set_is_brought_forward,
            }
            items {
                what_is_found_again_takes_the_place_of_what_was_known,
                fields_are_merged_by_their_rules,
                data_that_changes_nothing_is_unchanged_and_yet_a_sighting,
                a_sighting_adds_to_a_sum_once,
                each_occurrence_of_a_key_in_a_page_is_a_sighting,
                sightings_say_who_saw_what_when_and_where,
                the_oldest_sightings_are_forgotten,
                a_long_cursor_is_stored_once_a_page,
                a_page_goes_with_the_last_sighting_that_names_it,
                a_component_merges_what_it_was_shown,
                a_merge_that_was_overtaken_refuses_the_whole_page,
                what_is_known_is_told_by_key,
                somebody_else_leaves_the_cursor_where_it_is,
                discovery_begins_again_at_its_first_page_if_a_person_says_so,
                another_priority_alone_is_a_change_and_moves_what_waits_in_line,
            }
            reprocess {
                new_data_leaves_results_alone_unless_told_otherwise,
                new_data_reprocesses_the_roots_and_what_changes_with_them,
                a_result_that_becomes_skipped_takes_along_who_needs_its_output,
                what_stays_skipped_does_not_become_stale,
                new_data_takes_up_dead_roots_and_runs_leased_ones_once_more,
                what_dies_of_data_that_is_no_longer_so_is_tried_again,
                what_is_given_back_or_postponed_takes_the_new_data_and_runs_once,
                another_output_reaches_what_is_running_on_the_older_one,
                a_redone_result_that_dies_is_dead_and_keeps_its_old_output,
                what_waited_for_a_result_that_dies_when_it_is_redone_does_not_run,
            }
            cancel {
                a_cancelled_item_is_left_alone,
                cancelling_twice_is_cancelling_once,
                what_is_running_is_let_finish_and_nothing_follows_from_it,
                no_work_of_a_cancelled_item_comes_back,
                an_item_that_was_cancelled_is_found_again_and_stays_cancelled,
                each_cancellation_is_an_event,
                nothing_is_cancelled_in_a_job_that_is_not_there,
                an_operator_cancels_without_having_registered_the_job,
            }
            dead {
                dead_stages_are_listed_and_filtered,
                a_redriven_stage_starts_anew_and_keeps_its_history,
                a_redrive_goes_in_steps_up_to_its_limit,
                what_dies_again_is_not_redriven_twice_by_one_operation,
                a_redrive_keeps_its_rate,
                an_operation_is_paused_resumed_and_ended_by_hand,
                an_operation_goes_on_after_its_host_ended,
                each_redriven_stage_is_an_event,
                cancelled_items_are_passed_over_by_a_redrive,
                an_older_result_is_there_again_while_it_is_redriven,
                a_redriven_stage_that_may_not_run_any_more_is_blocked,
                a_redriven_stage_that_can_never_run_is_skipped_along,
                operations_are_listed_the_newest_first,
                an_operation_that_is_not_there_is_said_to_be_so,
            }
            life {
                old_attempts_go_with_their_charges_and_sums_stay,
                the_number_of_an_attempt_does_not_come_back,
                old_charges_go_and_their_attempts_stay,
                old_events_go,
                what_a_clock_that_was_ahead_dated_keeps_nothing_behind_it,
                events_are_recorded_and_filtered,
                finished_items_go_with_all_but_their_attempts,
                attempts_of_a_deleted_item_are_listed_by_its_number,
                an_archived_attempt_has_its_charges,
                an_archived_item_has_its_results_and_sightings,
                the_number_of_an_item_does_not_come_back,
                what_changed_since_is_not_pruned,
                a_cancelled_item_that_is_still_running_does_not_expire,
                results_of_retired_stages_go,
                what_one_job_retires_or_forgets_says_nothing_of_another,
                a_host_that_was_given_up_is_told_so,
                the_age_of_work_begins_with_its_first_readiness,
                results_of_other_versions_are_found,
            }
            examine {
                a_whole_tracker_has_no_differences,
                a_rebuilt_queue_holds_what_may_run,
                work_that_waited_counts_and_waits_on_after_a_rebuilding,
                a_rebuilt_tracker_says_that_every_job_is_to_be_reconciled,
                old_leases_are_no_longer_valid_after_a_rebuilding,
            }
            components {
                a_components_bytes_are_kept_and_verified,
                bytes_that_nothing_needs_are_swept,
                a_copy_takes_components_along,
            }
            moving {
                a_tracker_moves_into_another_of_its_kind,
                a_tracker_is_filled_from_another,
                attempts_name_their_spec_and_their_operation,
                a_large_output_is_whole_wherever_it_is_read,
            }
            edits {
                a_new_stage_is_released_for_items_that_were_done,
                a_retired_stage_gives_up_its_queue_and_keeps_its_results,
                another_version_leaves_results_and_counts_them,
                going_back_to_an_earlier_spec_or_version_is_an_event,
                a_stage_keeps_its_bit_whatever_its_place,
                the_lost_work_of_a_job_that_nobody_runs_now_waits_for_its_host,
                lost_work_of_a_job_that_is_not_in_line_yet_is_counted_once,
                a_queued_stage_that_is_given_a_need_waits_for_it,
            }
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! suite {
    ($location:expr => $($module:ident { $($test:ident),+ $(,)? })+) => {
        $($(
            #[test]
            fn $test() {
                let location = $location;
                $crate::conformance::block_on($crate::conformance::$module::$test(&|| $crate::Location::open(&location)));
            }
        )+)+
    };
}

pub type Open<'a> = &'a dyn Fn() -> Box<dyn Tracker>;

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

pub const NOW: Timestamp = Timestamp(1_000_000_000);

/// A tracker with one host and one job, whose stages are given as (name, needs).
pub struct Bench {
    pub tracker: Box<dyn Tracker>,
    pub host: HostId,
    pub job: RegisteredJob,
    pub now: Timestamp,
}

impl Bench {
    pub async fn new(open: Open<'_>, stages: &[(&str, &[usize])]) -> Self {
        let stages = stages
            .iter()
            .map(|(name, needs)| stage(name, needs.iter().map(|stage| Need { stage: *stage, output: false }).collect()))
            .collect();
        Self::with(open(), stages).await
    }

    pub async fn with(tracker: Box<dyn Tracker>, stages: Vec<StageRegistration>) -> Self {
        let info = HostInfo { name: "test".to_owned(), pid: 1, app_version: "0".to_owned(), now: NOW };
        let host = tracker.register_host(info).await.expect("a host");
        let job = tracker.register_job(registration(stages)).await.expect("a job");
        Self { tracker, host, job, now: NOW }
    }

    pub fn stage(&self, place: usize) -> StageId {
        self.job.stages[place].id
    }

    pub async fn discover(&self, items: &[(&str, &str)]) -> Upserted {
        let items = items.iter().map(|(key, data)| item(key, data, 0)).collect();
        self.upsert(items, None).await
    }

    pub async fn upsert(&self, items: Vec<NewItem>, cursor: Option<&str>) -> Upserted {
        let batch = self.page(items, cursor);
        self.tracker.upsert(batch).await.expect("an upsert")
    }

    pub fn page(&self, items: Vec<NewItem>, next: Option<&str>) -> Upsert {
        let source = Source::Page { cursor: None, next: next.map(str::to_owned) };
        Upsert { job: self.job.id, items, source, rediscovery: Rediscovery::default(), now: self.now }
    }

    pub async fn round(&self, settlements: Vec<Settlement>, claims: Vec<ClaimRequest>) -> RoundDone {
        let round = Round { host: self.host, now: self.now, settlements, claims };
        self.tracker.round(round.into()).await.expect("a round")
    }

    pub async fn claim(&self, place: usize, limit: u32, chunk: u32) -> Vec<Lease> {
        self.round(Vec::new(), vec![ClaimRequest { stage: self.stage(place), limit, chunk, bytes: u64::MAX }])
            .await
            .leases
    }

    /// Claims one stage of one item.
    pub async fn claim_one(&self, place: usize) -> (Fence, Claim) {
        let mut leases = self.claim(place, 1, 1).await;
        assert_eq!(leases.len(), 1, "one stage is ready");
        let mut lease = leases.remove(0);
        (lease.fence, lease.claims.remove(0))
    }

    pub async fn settle(&self, fence: Fence, completions: Vec<Completion>) -> RoundDone {
        self.round(vec![Settlement { fence, completions }], Vec::new()).await
    }

    /// Claims one stage of one item and settles it.
    pub async fn pass(&self, place: usize, outcome: Outcome, disposition: Disposition) -> Claim {
        let (fence, claim) = self.claim_one(place).await;
        let done = self.settle(fence, vec![self.completion(&claim, outcome, disposition)]).await;
        assert_eq!((done.applied, done.late), (1, 0));
        claim
    }

    pub async fn done(&self, place: usize) -> Claim {
        self.pass(place, Outcome::Done, Disposition::Done).await
    }

    pub fn completion(&self, claim: &Claim, outcome: Outcome, disposition: Disposition) -> Completion {
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

    pub async fn item(&self, key: &str) -> ItemDetail {
        self.tracker.item(self.job.id, key).await.expect("a read").expect("the item")
    }

    pub async fn states(&self, key: &str) -> Vec<State> {
        self.item(key).await.stages.iter().map(|stage| stage.state).collect()
    }

    /// Compares every counter with a recount from the facts, and lets the tracker examine itself.
    pub async fn recount(&self) {
        let filter =
            ItemsFilter { job: self.job.id, status: None, prefix: String::new(), after: ItemId(0), limit: 10_000 };
        let items = self.tracker.items(filter).await.expect("a list");
        let stats = self.tracker.stats(self.job.id).await.expect("counters");
        for status in ItemStatus::ALL {
            let counted = items.iter().filter(|item| item.status == status).count() as u64;
            assert_eq!(stats.items[&status], counted, "items that are {}", status.name());
        }
        let examination = self.tracker.examine().await.expect("an examination");
        assert_eq!(examination.differences, []);
        let mut details = Vec::new();
        for item in &items {
            details.push(self.item(&item.key).await);
        }
        for (place, stage) in stats.stages.iter().enumerate() {
            for state in State::ALL {
                if matches!(state, State::Blocked | State::Cancelled) {
                    assert_eq!(stage.count(state), 0, "the absence of a row is not counted");
                    continue;
                }
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

pub fn item(key: &str, data: &str, priority: i32) -> NewItem {
    NewItem {
        key: key.to_owned(),
        data: data.to_owned(),
        data_hash: Digest::of(data.as_bytes()),
        priority,
        merged: None,
    }
}

pub fn stage(name: &str, needs: Vec<Need>) -> StageRegistration {
    let bytes = &b"component"[..];
    let component = Digest::of(bytes);
    StageRegistration {
        name: name.to_owned(),
        needs,
        version: Digest::of(name.as_bytes()),
        component,
        component_raw: component,
        component_size: bytes.len() as u64,
        component_bytes: Some(ComponentBytes(bytes.into())),
        source: "test.wasm".to_owned(),
        declared: None,
    }
}

pub fn registration(stages: Vec<StageRegistration>) -> JobRegistration {
    let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    let yaml = names.join("\n");
    JobRegistration { name: "job".to_owned(), spec_id: Digest::of(yaml.as_bytes()), yaml, stages, now: NOW }
}
