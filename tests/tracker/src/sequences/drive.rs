//! Applies operations to one tracker.
//!
//! Owns the hosts, jobs, leases and operations that a sequence names by number. Trackers may give out different ids, so
//! answers contain none. Never compares answers: see `sequences`.

use std::collections::{BTreeMap, HashMap};

use gristmill_model::{
    DeadReason, Digest, Disposition, Expiring, Fence, HostId, ItemId, JobId, Merge, MergePolicy, MergeRule, Need,
    OnUpdate, OperationId, Outcome, Rediscovery, RetryPolicy, StageId, Timestamp, VersionId,
};

use super::Fresh;
use super::check::Seen;
use super::operations::{End, Op};
use crate::Location;
use crate::conformance::moving::copy;
use crate::conformance::{NOW, item, stage};
use gristmill_tracker::records::{
    Cancel, Claim, ClaimRequest, Completion, DeadFilter, Expired, HostInfo, JobRegistration, Lease, Merged, NewEvent,
    NewItem, OperationRow, Output, Prune, Reap, Redrive, RegisteredJob, Release, Round, RoundDone, Settlement, Source,
    StageRegistration, Upsert,
};
use gristmill_tracker::{Error, Tracker};

/// One tracker, with what a sequence remembers about it.
pub(super) struct Side<'a> {
    fresh: Fresh<'a>,
    location: Box<dyn Location>,
    /// None while it is being opened again.
    tracker: Option<Box<dyn Tracker>>,
    pub(super) now: Timestamp,
    pub(super) hosts: Vec<HostId>,
    pub(super) jobs: [Option<RegisteredJob>; 2],
    /// The version of each stage that was ever registered, the latest.
    versions: HashMap<StageId, VersionId>,
    /// Every lease that was ever claimed.
    leases: Vec<Lease>,
    pub(super) operations: Vec<OperationId>,
    /// The states of the stages after the last operation.
    pub(super) seen: Seen,
    /// The highest fence so far.
    last_fence: Fence,
}

/// The DAGs, as (name, needs, whether it cannot do without their outputs).
fn shape(number: usize) -> Vec<StageRegistration> {
    let stages: &[(&str, &[(usize, bool)])] = match number {
        0 => &[("fetch", &[]), ("extract", &[(0, false)]), ("index", &[(1, false)])],
        1 => {
            &[("fetch", &[]), ("price", &[(0, false)]), ("score", &[(0, false)]), ("report", &[(1, false), (2, false)])]
        }
        2 => &[("fetch", &[]), ("extract", &[(0, true)]), ("index", &[(1, true)]), ("note", &[(1, false)])],
        // The diamond with an edge that needs an output, exchanged roots, one stage less, and a new one.
        3 => &[("fetch", &[]), ("price", &[]), ("report", &[(0, true), (1, false)]), ("note", &[(2, false)])],
        4 => &[("extract", &[]), ("fetch", &[(0, false)])],
        5 => &[("fetch", &[]), ("extract", &[(0, true)]), ("login", &[]), ("index", &[(1, false), (2, true)])],
        _ => &[("index", &[])],
    };
    let need = |(stage, output): &(usize, bool)| Need { stage: *stage, output: *output };
    stages.iter().map(|(name, needs)| stage(name, needs.iter().map(need).collect())).collect()
}

fn data(number: u8) -> &'static str {
    match number {
        0 => r#"{"n":1}"#,
        1 => r#"{"l":["b"],"n":2}"#,
        2 => r#"{"l":["a","b"],"n":1,"s":"x"}"#,
        3 => r#"{"n":null,"s":"y"}"#,
        4 => "7",
        5 => r#"{ "n": 1 }"#,
        _ => r#"{"l":"c","n":-3.5}"#,
    }
}

fn merge(number: u8) -> Merge {
    let fields = |rules: [(&str, MergeRule); 3]| {
        let fields: BTreeMap<String, MergeRule> = rules.map(|(name, rule)| (name.to_owned(), rule)).into();
        Merge::Fields(MergePolicy { fields })
    };
    match number {
        0 => Merge::Replace,
        1 => fields([("n", MergeRule::Sum), ("l", MergeRule::Union), ("s", MergeRule::First)]),
        2 => fields([("n", MergeRule::Max), ("l", MergeRule::AppendUnique), ("s", MergeRule::Coalesce)]),
        3 => fields([("n", MergeRule::Min), ("l", MergeRule::Last), ("s", MergeRule::Union)]),
        _ => Merge::Handler,
    }
}

pub(super) fn key(number: u8) -> String {
    format!("item-{number}")
}

/// The result or the error as text, without ids.
fn told<T>(result: Result<T, Error>, tell: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(answer) => tell(answer),
        Err(Error::Overtaken(key)) => format!("overtaken: {key}"),
        Err(Error::OperationState { from, to, .. }) => format!("{from:?} cannot become {to:?}"),
        Err(Error::UnknownJob(_)) => "unknown job".to_owned(),
        Err(Error::UnknownOperation(_)) => "unknown operation".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

pub(super) fn tell_operation(row: OperationRow) -> String {
    format!("{:?}", OperationRow { id: OperationId(0), job: JobId(0), ..row })
}

impl<'a> Side<'a> {
    pub(super) async fn new(fresh: Fresh<'a>) -> Self {
        let location = fresh();
        let tracker = Some(location.open());
        let (hosts, leases, operations) = (Vec::new(), Vec::new(), Vec::new());
        let (now, jobs, versions) = (NOW, [None, None], HashMap::new());
        let (seen, last_fence) = (Seen::new(), Fence(0));
        let mut side =
            Self { fresh, location, tracker, now, hosts, jobs, versions, leases, operations, seen, last_fence };
        side.add_host().await;
        side
    }

    pub(super) fn tracker(&self) -> &dyn Tracker {
        self.tracker.as_deref().expect("an open tracker")
    }

    async fn add_host(&mut self) {
        let info = HostInfo { name: "host".to_owned(), pid: 1, app_version: "0".to_owned(), now: self.now };
        let host = self.tracker().register_host(info).await.expect("a host");
        self.hosts.push(host);
    }

    fn host(&self, number: usize) -> HostId {
        self.hosts[number % self.hosts.len()]
    }

    fn job(&self, number: usize) -> JobId {
        self.jobs[number].as_ref().map_or(JobId(999), |job| job.id)
    }

    pub(super) async fn examine(&self) -> Result<(), String> {
        let found = self.tracker().examine().await.map_err(|error| error.to_string())?;
        if found.differences_total == 0 { Ok(()) } else { Err(format!("{:?}", found.differences)) }
    }

    /// Applies an operation, and returns its answer as text.
    pub(super) async fn apply(&mut self, op: &Op) -> String {
        match op.clone() {
            Op::Register { job, shape, version, page } => self.register(job, shape, version, page).await,
            Op::Upsert { job, items, merge, reprocess, sightings, page } => {
                self.upsert(job, &items, merge, reprocess, sightings, page).await
            }
            Op::Claim { job, stage, limit, chunk, host } => {
                let Some(claim) = self.claim_request(job, stage, limit, chunk) else { return String::new() };
                self.round(self.host(host), Vec::new(), vec![claim]).await
            }
            Op::Settle { lease, member, end, wrong_fence, claim } => {
                self.settle(lease, member, end, wrong_fence, claim).await
            }
            Op::Work { job, stage, limit, end } => self.work(job, stage, limit, end).await,
            Op::Release { lease, member } => {
                let Some(lease) = self.lease(lease) else { return String::new() };
                let keys = members(lease, member).into_iter().map(|claim| claim.key).collect();
                let release = Release { fence: lease.fence, keys };
                told(self.tracker().release(vec![release]).await, |released| released.to_string())
            }
            Op::Promote { limit } => told(self.tracker().promote(self.now, limit).await, |n| n.to_string()),
            Op::Reap { new, host, patience, leases_max, policies } => {
                self.reap(new, host, patience, leases_max, policies).await
            }
            Op::Heartbeat { host } => {
                told(self.tracker().heartbeat(self.host(host), self.now).await, |alive| alive.to_string())
            }
            Op::Retire { host } => {
                told(self.tracker().retire_host(self.host(host), self.now).await, |()| String::new())
            }
            Op::Tick { micros } => {
                self.now.0 += micros;
                String::new()
            }
            Op::Move => self.move_house().await,
            Op::Reopen => {
                self.tracker = None;
                self.tracker = Some(self.location.open());
                String::new()
            }
            Op::Rebuild { page } => self.rebuild(page).await,
            other => self.operate(other).await,
        }
    }

    async fn operate(&mut self, op: Op) -> String {
        match op {
            Op::Cancel { job, keys, undo } => {
                let cancel = Cancel {
                    job: self.job(job),
                    keys: keys.into_iter().map(key).collect(),
                    undo,
                    actor: "ann".to_owned(),
                    why: "chance".to_owned(),
                    now: self.now,
                };
                told(self.tracker().cancel(cancel).await, |done| format!("{done:?}"))
            }
            Op::Redrive { job, filter, limit, rate } => self.redrive(job, filter, limit, rate).await,
            Op::Step { operation, limit } => {
                let id = self.operation(operation);
                told(self.tracker().step_operation(id, limit, self.now).await, tell_operation)
            }
            Op::Set { operation, to } => {
                let (id, actor) = (self.operation(operation), "ann".to_owned());
                told(self.tracker().set_operation(id, to, actor, self.now).await, tell_operation)
            }
            Op::Prune { job, what, age, page } => self.prune(job, what, age, page).await,
            Op::Record { job } => {
                let job = job.and_then(|job| self.jobs[job].as_ref()).map(|job| job.id);
                let event = NewEvent { kind: "test.event".to_owned(), job, data: "{}".to_owned(), now: self.now };
                told(self.tracker().record_event(event).await, |()| String::new())
            }
            other => unreachable!("{other:?} is applied elsewhere"),
        }
    }

    async fn register(&mut self, job: usize, number: usize, version: u8, page: u32) -> String {
        let mut stages = shape(number);
        for stage in &mut stages {
            stage.version = Digest::of(format!("{} {version}", stage.name).as_bytes());
        }
        let yaml = format!("{number} {version}");
        let spec_id = Digest::of(yaml.as_bytes());
        let name = ["first", "second"][job].to_owned();
        let registration = JobRegistration { name, spec_id, yaml, stages, now: self.now };
        let registered = match self.tracker().register_job(registration).await {
            Ok(registered) => registered,
            Err(error) => return told(Err::<(), _>(error), |()| String::new()),
        };
        let bits: Vec<u8> = registered.stages.iter().map(|stage| stage.id.bit().0).collect();
        let due = registered.reconcile.is_some();
        let answer = format!("{bits:?} {:?} {due} {:?}", registered.dag, registered.cursor);
        if let Some(after) = registered.reconcile {
            self.reconcile(registered.id, after, page).await;
        }
        self.versions.extend(registered.stages.iter().map(|stage| (stage.id, stage.version)));
        self.jobs[job] = Some(registered);
        answer
    }

    async fn reconcile(&self, job: JobId, after: ItemId, page: u32) {
        let mut position = Some(after);
        while let Some(after) = position {
            position = self.tracker().reconcile(job, after, page, self.now).await.expect("a page");
        }
    }

    async fn upsert(
        &mut self,
        job: usize,
        items: &[(u8, u8, i32)],
        number: u8,
        reprocess: bool,
        sightings_max: u32,
        page: Option<u8>,
    ) -> String {
        let job = self.job(job);
        let merge = merge(number);
        let mut found = Vec::new();
        for (number, text, priority) in items {
            let merged = if merge == Merge::Handler { self.merged(job, *number, *text).await } else { None };
            found.push(NewItem { merged, ..item(&key(*number), data(*text), *priority) });
        }
        let on_update = if reprocess { OnUpdate::Reprocess } else { OnUpdate::Stale };
        let source = match page {
            // Sometimes the pass is over.
            Some(page) => Source::Page {
                cursor: Some(format!("page {page}")),
                next: (page > 0).then(|| format!("page {}", page + 1)),
            },
            None => Source::Named("import".to_owned()),
        };
        let rediscovery = Rediscovery { merge, sightings_max, on_update };
        let batch = Upsert { job, items: found, source, rediscovery, now: self.now };
        told(self.tracker().upsert(batch).await, |done| format!("{done:?}"))
    }

    /// A component's merge of an item with its known data.
    async fn merged(&self, job: JobId, number: u8, text: u8) -> Option<Merged> {
        let known = self.tracker().known(job, vec![key(number)]).await.expect("a read").pop()?;
        let data = format!("{{\"n\":{}}}", known.data.len() % 3 + usize::from(text) % 3);
        Some(Merged { data, replaces: known.data_hash })
    }

    fn claim_request(&self, job: usize, stage: usize, limit: u32, chunk: u32) -> Option<ClaimRequest> {
        let stages = &self.jobs[job].as_ref()?.stages;
        Some(ClaimRequest { stage: stages[stage % stages.len()].id, limit, chunk, bytes: u64::MAX })
    }

    fn lease(&self, number: usize) -> Option<&Lease> {
        // The latest ones are the most interesting.
        let recent = self.leases.len().min(4);
        (recent > 0).then(|| &self.leases[self.leases.len() - 1 - number % recent])
    }

    async fn round(&mut self, host: HostId, settlements: Vec<Settlement>, claims: Vec<ClaimRequest>) -> String {
        let round = Round { host, now: self.now, settlements, claims };
        match self.tracker().round(round.into()).await {
            Ok(done) => self.tell_round(done),
            Err(error) => told(Err::<(), _>(error), |()| String::new()),
        }
    }

    fn tell_round(&mut self, mut done: RoundDone) -> String {
        // Leases of one round may be numbered in any order.
        done.leases.sort_by_key(|lease| lease.claims.iter().map(|claim| claim.key).collect::<Vec<_>>());
        let is_new = |lease: &Lease| lease.fence > self.last_fence;
        assert!(done.leases.iter().all(is_new), "no fence comes back");
        self.last_fence = done.leases.iter().map(|lease| lease.fence).max().unwrap_or(self.last_fence);
        let drained: Vec<u8> = done.drained.iter().map(|stage| stage.bit().0).collect();
        let mut lines = vec![format!("{} {} {} {drained:?}", done.applied, done.late, done.released)];
        for lease in &done.leases {
            lines.push(format!("lease of {}", lease.stage.bit().0));
            for claim in &lease.claims {
                let Claim { key, counters, ready_at, first_ready_at, item_key, data, data_hash, .. } = claim;
                let place = (key.bit(), counters, ready_at, first_ready_at, claim.discovered_at);
                lines.push(format!("  {place:?} {item_key} {data} {data_hash} {:?}", claim.upstream));
            }
        }
        self.leases.extend(done.leases);
        lines.join("\n")
    }

    async fn settle(
        &mut self,
        number: usize,
        member: Option<usize>,
        end: End,
        wrong_fence: bool,
        claim: bool,
    ) -> String {
        let Some(lease) = self.lease(number) else { return String::new() };
        let (fence, stage) = (if wrong_fence { Fence(lease.fence.0 + 1_000_000) } else { lease.fence }, lease.stage);
        let completions = members(lease, member).into_iter().map(|claim| self.completion(lease, claim, end)).collect();
        let claims = if claim { vec![ClaimRequest { stage, limit: 2, chunk: 2, bytes: u64::MAX }] } else { Vec::new() };
        let host = self.host(number);
        self.round(host, vec![Settlement { fence, completions }], claims).await
    }

    async fn work(&mut self, job: usize, stage: usize, limit: u32, end: End) -> String {
        let Some(claim) = self.claim_request(job, stage, limit, 8) else { return String::new() };
        let before = self.leases.len();
        let host = self.host(0);
        let mut answer = self.round(host, Vec::new(), vec![claim]).await;
        let settlements: Vec<Settlement> = self.leases[before..]
            .iter()
            .map(|lease| Settlement {
                fence: lease.fence,
                completions: lease.claims.iter().map(|claim| self.completion(lease, claim, end)).collect(),
            })
            .collect();
        answer += &self.round(host, settlements, Vec::new()).await;
        answer
    }

    fn completion(&self, lease: &Lease, claim: &Claim, end: End) -> Completion {
        let text = format!("\"{} {}\"", claim.item_key, end.output);
        let output = Output { hash: Digest::of(text.as_bytes()), text };
        let charges = [("tokens".to_owned(), 0.5), ("requests".to_owned(), 1.0)];
        Completion {
            key: claim.key,
            version: self.versions[&lease.stage],
            outcome: end.outcome,
            disposition: end.disposition,
            output: (end.disposition == Disposition::Done).then_some(output),
            input_hash: claim.data_hash,
            error: (end.outcome != Outcome::Done).then(|| end.outcome.name().to_owned()),
            log: None,
            ready_at: claim.ready_at,
            started_at: self.now,
            ended_at: self.now,
            memory_bytes_max: 65536,
            charges: if end.charged { charges.into() } else { Vec::new() },
        }
    }

    async fn reap(&mut self, new: bool, host: usize, patience: u32, leases_max: u32, policies: bool) -> String {
        if new {
            self.add_host().await;
        }
        let host = if new { self.hosts[self.hosts.len() - 1] } else { self.host(host) };
        // Two losses are one too many.
        let policy = RetryPolicy { max_lost: 2, ..RetryPolicy::default() };
        let stages = self.jobs.iter().flatten().flat_map(|job| &job.stages).filter(|_| policies);
        let heartbeat_before =
            if patience == 0 { Timestamp(self.now.0 + 1) } else { Timestamp(self.now.0 - 30_000_000) };
        let policies = stages.map(|stage| (stage.id, policy)).collect();
        let reap = Reap { host, now: self.now, heartbeat_before, leases_max, policies };
        told(self.tracker().reap(reap).await, |lost| format!("{lost:?}"))
    }

    fn operation(&self, number: usize) -> OperationId {
        let last = self.operations.len();
        if last == 0 { OperationId(999) } else { self.operations[last - 1 - number % last] }
    }

    async fn redrive(&mut self, job: usize, number: u8, limit: u64, rate: Option<f64>) -> String {
        let all = DeadFilter::all(self.job(job));
        let stage = self.jobs[job].as_ref().map(|job| job.stages[0].id);
        let filter = match number {
            0 | 1 => all,
            2 => DeadFilter { stage, ..all },
            3 => DeadFilter { reason: Some(DeadReason::Permanent), before: Some(self.now), ..all },
            4 => DeadFilter { error: Some("m".to_owned()), ..all },
            _ => DeadFilter { keys: Some((0..3).map(key).collect()), ..all },
        };
        let redrive = Redrive { filter, limit, rate, actor: "ann".to_owned(), why: "chance".to_owned(), now: self.now };
        match self.tracker().begin_redrive(redrive).await {
            Ok(row) => {
                self.operations.push(row.id);
                tell_operation(row)
            }
            Err(error) => told(Err::<(), _>(error), |()| String::new()),
        }
    }

    async fn prune(&mut self, job: Option<usize>, what: Expiring, age: i64, limit: u32) -> String {
        let (job, before) = (job.map(|job| self.job(job)), Timestamp(self.now.0 + 1 - age * 1_000_000));
        let (mut gone, mut found, mut after) = (0, 0, Some(0));
        while let Some(behind) = after {
            let expired = Expired { job, what, before, now: self.now, after: behind, limit };
            let page = self.tracker().expired(expired).await.expect("a page");
            found += page.rows.len();
            let prune = Prune { job, what, before, numbers: page.numbers };
            gone += self.tracker().prune(prune).await.expect("a pruning");
            after = page.next;
        }
        format!("{found} {gone}")
    }

    async fn is_idle(&self) -> bool {
        self.tracker().outlook().await.expect("a read").leases == 0
    }

    async fn rebuild(&mut self, page: u32) -> String {
        if !self.is_idle().await {
            return "busy".to_owned();
        }
        for host in self.hosts.clone() {
            self.tracker().retire_host(host, self.now).await.expect("an end");
        }
        if let Err(error) = self.tracker().rebuild(self.now).await {
            return told(Err::<(), _>(error), |()| String::new());
        }
        for job in self.jobs.iter().flatten() {
            self.reconcile(job.id, ItemId(0), page).await;
        }
        String::new()
    }

    async fn move_house(&mut self) -> String {
        if !self.is_idle().await {
            return "busy".to_owned();
        }
        let location = (self.fresh)();
        let tracker = location.open();
        copy(self.tracker(), tracker.as_ref()).await;
        self.tracker = Some(tracker);
        self.location = location;
        String::new()
    }
}

/// All members of a lease, or one.
fn members(lease: &Lease, member: Option<usize>) -> Vec<&Claim> {
    match member {
        Some(number) => vec![&lease.claims[number % lease.claims.len()]],
        None => lease.claims.iter().collect(),
    }
}
