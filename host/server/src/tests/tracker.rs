//! A tracker with a little of everything in it.
//!
//! Owns a job of two stages and three items: one done, one that waits, one dead. Written through the trait alone.

use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{DeadReason, Digest, Disposition, HostId, Need, Outcome, Rediscovery, Timestamp};
use gristmill_test_tracker::{Location, Model};
use gristmill_tracker::{
    Claim, ClaimRequest, Completion, HostInfo, JobRegistration, NewItem, Output, RegisteredJob, Round, Settlement,
    Source, StageRegistration, Tracker, Upsert,
};

/// 2023-11-14T22:13:20Z.
pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
/// A key that needs escaping everywhere.
pub(super) const KEY: &str = "a/1 \"ä\"&b=c";
/// A meter that needs escaping in a label.
pub(super) const METER: &str = "us\"d\\\n";
/// An output whose digits a number would lose.
pub(super) const OUTPUT: &str = r#"{"n":123456789012345678901.50}"#;

pub(super) struct Filled {
    pub(super) tracker: Arc<dyn Tracker>,
}

impl Filled {
    pub(super) async fn new() -> Self {
        Self::with_output(OUTPUT).await
    }

    pub(super) async fn with_output(output: &str) -> Self {
        let filled = Self { tracker: Model::default().open().into() };
        let host = HostInfo { name: "test".to_owned(), pid: 1, app_version: "0".to_owned(), now: NOW };
        let host = filled.tracker.register_host(host).await.expect("a host");
        let job = filled.register("filings", "1").await;
        let items = [KEY, "b", "c"].map(new_item).into();
        let source = Source::Page { cursor: None, next: None };
        let page = Upsert { job: job.id, items, source, rediscovery: Rediscovery::default(), now: NOW };
        filled.tracker.upsert(page).await.expect("a page");
        filled.run_fetch(host, &job, output).await;
        filled
    }

    /// Registers a job of the stages `fetch` and `extract`, whose code has that version.
    pub(super) async fn register(&self, name: &str, version: &str) -> RegisteredJob {
        let stages = vec![
            stage("fetch", Vec::new(), version),
            stage("extract", vec![Need { stage: 0, output: false }], version),
        ];
        let yaml = format!("{name} {version}");
        let spec_id = Digest::of(yaml.as_bytes());
        let job = JobRegistration { name: name.to_owned(), spec_id, yaml, stages, now: NOW };
        self.tracker.register_job(job).await.expect("a job")
    }

    async fn run_fetch(&self, host: HostId, job: &RegisteredJob, output: &str) {
        let want = ClaimRequest { stage: job.stages[0].id, limit: 3, chunk: 3, bytes: u64::MAX };
        let round = |settlements, claims| Round { host, now: NOW, settlements, claims };
        let lease = self.tracker.round(round(Vec::new(), vec![want]).into()).await.expect("a round").leases.remove(0);
        let completions = lease.claims.iter().map(|claim| completion(job, claim, output)).collect();
        let settled = vec![Settlement { fence: lease.fence, completions }];
        assert_eq!(self.tracker.round(round(settled, Vec::new()).into()).await.expect("a round").applied, 3);
    }
}

fn new_item(key: &str) -> NewItem {
    let data = r#"{"title":"T"}"#;
    NewItem {
        key: key.to_owned(),
        data: data.to_owned(),
        data_hash: Digest::of(data.as_bytes()),
        priority: 7,
        merged: None,
    }
}

fn stage(name: &str, needs: Vec<Need>, version: &str) -> StageRegistration {
    let component = Digest::of(version.as_bytes());
    StageRegistration {
        name: name.to_owned(),
        needs,
        version: Digest::of(format!("{name} {version}").as_bytes()),
        component,
        component_raw: component,
        component_size: 1,
        component_bytes: None,
        source: "test.wasm".to_owned(),
        declared: None,
    }
}

fn completion(job: &RegisteredJob, claim: &Claim, output: &str) -> Completion {
    let (outcome, disposition) = match claim.item_key.as_str() {
        "b" => (Outcome::Retry, Disposition::Wait(Duration::from_secs(2))),
        "c" => (Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)),
        _ => (Outcome::Done, Disposition::Done),
    };
    let done = outcome == Outcome::Done;
    Completion {
        key: claim.key,
        version: job.stages[0].version,
        outcome,
        disposition,
        output: done.then(|| Output { text: output.to_owned(), hash: Digest::of(output.as_bytes()) }),
        input_hash: claim.data_hash,
        error: (!done).then(|| "no such page".to_owned()),
        log: Some("a line\n".to_owned()),
        ready_at: claim.ready_at,
        started_at: NOW,
        ended_at: NOW + Duration::from_millis(250),
        memory_bytes_max: 65536,
        charges: if done { vec![(METER.to_owned(), 1.5)] } else { Vec::new() },
    }
}
