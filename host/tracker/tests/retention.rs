//! Pruning on any tracker: old rows are deleted in transactions of a bounded time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use gristmill_model::{Clock, Expiring, JobId, Timestamp};
use gristmill_test_tracker::conformance::{NOW, block_on};
use gristmill_test_tracker::{Location, Model};
use gristmill_tracker::records::{EventsFilter, NewEvent};
use gristmill_tracker::{HOST_EVENTS_KEPT, Pruning, PruningPosition, count_expired, host_retention, prune};

/// Whatever is timed with it takes so many microseconds.
struct Slow {
    micros: i64,
    asked: AtomicI64,
}

impl Clock for Slow {
    fn now(&self) -> Timestamp {
        Timestamp(self.asked.fetch_add(1, Ordering::Relaxed) * self.micros)
    }
}

#[test]
fn a_tracker_that_deletes_slowly_is_never_held_for_long() {
    for (micros, transactions) in [(1, 3), (50_000, 6), (500_000, 412)] {
        let (place, clock) = (Model::default(), Slow { micros, asked: AtomicI64::new(0) });
        block_on(async {
            let tracker = place.open();
            let record = async |kind: &str, job| {
                let event = NewEvent { kind: kind.to_owned(), job, data: String::new(), now: NOW };
                tracker.record_event(event).await.expect("an event");
            };
            for _ in 0..520 {
                record("host.odd", None).await;
            }
            record("job.odd", Some(JobId(1))).await;
            record("host.last", None).await;
            let (retention, now) = (host_retention(), NOW + HOST_EVENTS_KEPT + Duration::from_secs(1));
            let pruning = Pruning { job: None, name: "", retention: &retention, now, rows_max: u64::MAX };
            let counted = count_expired(tracker.as_ref(), pruning).await.expect("a count");
            let pruned = prune(tracker.as_ref(), &clock, pruning, &mut PruningPosition::default()).await;
            let pruned = pruned.expect("a pruning");
            assert_eq!((&pruned.deleted, pruned.deleted[&Expiring::Events]), (&counted, 520));
            assert_eq!(clock.asked.load(Ordering::Relaxed), 2 * transactions, "{micros} µs each");
            let filter = EventsFilter { job: None, kind: None, limit: 9 };
            let left = tracker.events(filter).await.expect("events");
            assert_eq!(left.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>(), ["host.last", "job.odd"]);
        });
    }
}
