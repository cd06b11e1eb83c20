//! The bytes of components are kept.

use gristmill_model::{Digest, Disposition, Expiring, Outcome, Timestamp};

use super::{Bench, Open, registration, stage};
use crate::{Location, Model};
use gristmill_tracker::records::{Prune, StageRegistration, Swept};
use gristmill_tracker::{ComponentBytes, Error, Tracker};

/// A stage whose component has these bytes, and a canonical hash of that name: it differs from that of the bytes, as it
/// does where there are custom sections.
pub fn stage_of(name: &str, version: &str, canonical: &str, bytes: &[u8]) -> StageRegistration {
    StageRegistration {
        version: Digest::of(version.as_bytes()),
        component: Digest::of(canonical.as_bytes()),
        component_raw: Digest::of(bytes),
        component_size: bytes.len() as u64,
        component_bytes: Some(ComponentBytes(bytes.into())),
        ..stage(name, Vec::new())
    }
}

/// More than two parts of it, and not the same in each.
fn large() -> Vec<u8> {
    (0..2_500_000u32).map(|number| (number / 1000) as u8).collect()
}

async fn bytes(bench: &Bench, canonical: &str) -> Option<Vec<u8>> {
    bench.tracker.component(Digest::of(canonical.as_bytes())).await.expect("a read")
}

pub async fn a_components_bytes_are_kept_and_verified(open: Open<'_>) {
    let large = large();
    let shared = vec![stage_of("fetch", "1", "large", &large), stage_of("extract", "2", "large", &large)];
    let bench = Bench::with(open(), shared).await;
    assert!(bytes(&bench, "large").await.as_ref() == Some(&large), "as they were registered");
    assert_eq!(bytes(&bench, "unknown").await, None);

    // Other bytes of the same canonical hash are as good: what is kept stays.
    let again = registration(vec![stage_of("fetch", "1", "large", b"with other custom sections")]);
    bench.tracker.register_job(again).await.expect("a job");
    assert!(bytes(&bench, "large").await.as_ref() == Some(&large));

    // A registration without bytes keeps none, and the next one with them does.
    let bare = StageRegistration { component_bytes: None, ..stage_of("fetch", "3", "later", b"later, at first") };
    bench.tracker.register_job(registration(vec![bare])).await.expect("a job");
    assert_eq!(bytes(&bench, "later").await, None);
    bench.tracker.register_job(registration(vec![stage_of("fetch", "3", "later", b"later")])).await.expect("a job");
    assert_eq!(bytes(&bench, "later").await.as_deref(), Some(&b"later"[..]), "whatever bytes were named before");

    // What is not what its hash says is refused, and so is the whole registration.
    let wrong = StageRegistration { component_raw: Digest::of(b"x"), ..stage_of("fetch", "4", "wrong", b"wrong") };
    let refused = bench.tracker.register_job(registration(vec![wrong])).await;
    assert!(matches!(refused, Err(Error::Component(hash)) if hash == Digest::of(b"wrong")), "{refused:?}");
    assert_eq!(bytes(&bench, "wrong").await, None);
    let wrong = StageRegistration { component_raw: Digest::of(b"x"), ..stage_of("fetch", "1", "large", b"wrong") };
    let refused = bench.tracker.register_job(registration(vec![wrong])).await;
    assert!(matches!(refused, Err(Error::Component(_))), "also where others are kept: {refused:?}");
    bench.recount().await;
}

/// Edits the job, as a host does that starts with another file.
async fn edit(bench: &mut Bench, stages: Vec<StageRegistration>) {
    bench.job = bench.tracker.register_job(registration(stages)).await.expect("a job");
    let mut position = bench.job.reconcile;
    while let Some(after) = position {
        position = bench.tracker.reconcile(bench.job.id, after, 9, bench.now).await.expect("a page");
    }
}

pub async fn bytes_that_nothing_needs_are_swept(open: Open<'_>) {
    let mut bench =
        Bench::with(open(), vec![stage_of("fetch", "1", "one", b"first"), stage("other", Vec::new())]).await;
    let sweep = async |bench: &Bench| bench.tracker.sweep_components().await.expect("a sweep");
    assert_eq!(sweep(&bench).await, Swept { looked: 2, ..Swept::default() }, "both are current");

    // Something is leased: whoever holds it may run the version before.
    bench.discover(&[("a", "1")]).await;
    let (fence, claim) = bench.claim_one(0).await;
    let first = bench.completion(&claim, Outcome::Done, Disposition::Done);
    edit(&mut bench, vec![stage_of("fetch", "2", "two", b"second")]).await;
    let swept = sweep(&bench).await;
    assert_eq!((swept.removed, swept.bytes), (1, 9), "that of the retired stage, without results");
    assert_eq!(bytes(&bench, "component").await, None);
    assert_eq!(bytes(&bench, "one").await.as_deref(), Some(&b"first"[..]));

    // It has a result now.
    assert_eq!(bench.settle(fence, vec![first]).await.applied, 1);
    assert_eq!(sweep(&bench).await.removed, 0);
    edit(&mut bench, vec![stage_of("last", "3", "three", b"third")]).await;
    assert_eq!(sweep(&bench).await.removed, 1, "the second version never had one, and its stage is retired");
    assert_eq!(bytes(&bench, "two").await, None);
    assert!(bytes(&bench, "one").await.is_some() && bytes(&bench, "three").await.is_some());

    // And its result goes, as those of retired stages may.
    let prune = Prune {
        job: Some(bench.job.id),
        what: Expiring::Results,
        before: Timestamp(bench.now.0 + 1),
        numbers: vec![claim.key.0],
    };
    assert_eq!(bench.tracker.prune(prune).await.expect("a deletion"), 1);
    let swept = sweep(&bench).await;
    assert_eq!((swept.removed, swept.bytes), (1, 5));
    assert_eq!(sweep(&bench).await.removed, 0, "what is gone is gone");
    assert_eq!(bytes(&bench, "one").await, None);

    // What was swept is kept again when it is registered again.
    edit(&mut bench, vec![stage_of("fetch", "1", "one", b"first")]).await;
    assert_eq!(bytes(&bench, "one").await.as_deref(), Some(&b"first"[..]));
    bench.recount().await;
}

async fn copy(from: &dyn Tracker, to: &dyn Tracker) {
    let copied = gristmill_tracker::copy(from, to, "there", &mut |_| {}).await.expect("a copy");
    assert!(copied.tables.contains(&("components", 2)));
}

pub async fn a_copy_takes_components_along(open: Open<'_>) {
    let large = large();
    let [before, after] = [Model::default(), Model::default()].map(|place| place.open());
    // One that is not kept is none that is missing.
    let bare = StageRegistration { component_bytes: None, ..stage_of("extract", "2", "bare", b"bare") };
    let bench = Bench::with(before, vec![stage_of("fetch", "1", "large", &large), bare]).await;
    let tracker = open();
    copy(bench.tracker.as_ref(), tracker.as_ref()).await;
    copy(tracker.as_ref(), after.as_ref()).await;
    for copy in [&tracker, &after] {
        let read = async |canonical: &[u8]| copy.component(Digest::of(canonical)).await.expect("a read");
        assert!(read(b"large").await.as_ref() == Some(&large));
        assert_eq!(read(b"bare").await, None);
        assert_eq!(copy.examine().await.expect("an examination").differences, []);
    }

    // Only the bytes that a row names are taken.
    for (canonical, bytes) in [(&b"large"[..], &b"other"[..]), (b"unknown", b"unknown")] {
        let hash = Digest::of(canonical);
        let refused = tracker.import_component(hash, ComponentBytes(bytes.into())).await;
        assert!(matches!(refused, Err(Error::Component(other)) if other == hash), "{refused:?}");
    }
}
