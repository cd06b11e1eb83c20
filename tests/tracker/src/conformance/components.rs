//! The bytes of components are kept.

use gristmill_model::Digest;

use super::{Bench, Open, registration, stage};
use gristmill_tracker::records::{JobRegistration, StageRegistration};
use gristmill_tracker::{ComponentBytes, Error};

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

fn job(stages: Vec<StageRegistration>) -> JobRegistration {
    registration(stages)
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
    let again = job(vec![stage_of("fetch", "1", "large", b"with other custom sections")]);
    bench.tracker.register_job(again).await.expect("a job");
    assert!(bytes(&bench, "large").await.as_ref() == Some(&large));

    // A registration without bytes keeps none, and the next one with them does.
    let bare = StageRegistration { component_bytes: None, ..stage_of("fetch", "3", "later", b"later, at first") };
    bench.tracker.register_job(job(vec![bare])).await.expect("a job");
    assert_eq!(bytes(&bench, "later").await, None);
    bench.tracker.register_job(job(vec![stage_of("fetch", "3", "later", b"later")])).await.expect("a job");
    assert_eq!(bytes(&bench, "later").await.as_deref(), Some(&b"later"[..]), "whatever bytes were named before");

    // What is not what its hash says is refused, and so is the whole registration.
    let wrong = StageRegistration { component_raw: Digest::of(b"x"), ..stage_of("fetch", "4", "wrong", b"wrong") };
    let refused = bench.tracker.register_job(job(vec![wrong])).await;
    assert!(matches!(refused, Err(Error::Component(hash)) if hash == Digest::of(b"wrong")), "{refused:?}");
    assert_eq!(bytes(&bench, "wrong").await, None);
    bench.recount().await;
}
