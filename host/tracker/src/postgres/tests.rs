//! The Postgres backend: the conformance suite, and what only Postgres has.

use gristmill_test_postgres::{Database, Server};

use super::{PostgresOptions, PostgresTracker, Time};
use crate::Tracker;
use crate::conformance::{NOW, conformance};

mod postgres {
    use super::{Database, NOW, PostgresOptions, PostgresTracker, Server, Time, Tracker};

    pub(super) struct Place(Database<'static>);

    impl Place {
        pub(super) fn new() -> Self {
            Self(Server::shared().database())
        }

        pub(super) fn open(&self) -> Box<dyn Tracker> {
            let options = PostgresOptions { time: Time::Caller, ..PostgresOptions::default() };
            Box::new(PostgresTracker::connect(&self.0.url(), options, NOW).expect("a tracker"))
        }
    }
}

conformance!(postgres:
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
