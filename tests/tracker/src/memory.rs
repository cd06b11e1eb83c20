//! The tracker as a plain model, to compare the backends with.
//!
//! Owns everything in maps, behind one mutex. A write works on a copy, which replaces the maps if it succeeded: it is
//! applied completely or not at all. The model uses the same rules, and stores nothing twice: it counts rows where the
//! backends have counters, and computes masks from rows where they store them. Never fast, and never used outside
//! tests.

mod facts;
mod life;
mod moving;
mod operations;
mod read;
mod registry;
mod work;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gristmill_model::{Digest, HostId, ItemId, JobId, OperationId, StageId, StageKey, Timestamp};

use tokio::sync::{Semaphore, SemaphorePermit};

use self::facts::World;
use crate::Location;
use gristmill_tracker::records::{
    AttemptRow, AttemptsFilter, Cancel, Cancelled, DeadFilter, DeadRow, EventRow, EventsFilter, Examination, Expired,
    ExpiredPage, HostInfo, ItemDetail, ItemRow, ItemsFilter, JobRegistration, JobRow, JobStats, KnownItem, Lost,
    NewEvent, OperationRow, OperationState, Outlook, Outputs, Prune, Reap, Redrive, RegisteredJob, Release, Restart,
    ResultRow, Round, RoundDone, Swept, Upsert, Upserted,
};
use gristmill_tracker::rules::events::Event;
use gristmill_tracker::tables::{Row, Sequences, Table};
use gristmill_tracker::{BoxFuture, ComponentBytes, Error, Operating, Reader, Rounds, Tracker, Upkeep};

/// A place for a model, so that a test can open it again.
#[derive(Clone, Default)]
pub struct Model {
    world: Arc<Mutex<World>>,
    gate: Option<Arc<Gate>>,
}

impl Model {
    /// An empty model whose reads go through a gate.
    pub fn behind(gate: &Arc<Gate>) -> Self {
        Self { gate: Some(Arc::clone(gate)), ..Self::default() }
    }
}

impl Location for Model {
    fn open(&self) -> Box<dyn Tracker> {
        let Self { world, gate } = self.clone();
        Box::new(Memory { world, gate, specs: Mutex::default() })
    }
}

/// A gate that reads wait for. If it is closed, they fail.
pub struct Gate {
    /// Each read takes one permit and does not return it.
    pub passes: Semaphore,
    /// One permit for each read that arrived.
    pub came: Semaphore,
}

impl Gate {
    /// A gate that no read may pass yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { passes: Semaphore::new(0), came: Semaphore::new(0) })
    }

    async fn pass(&self) -> Result<(), Error> {
        self.came.add_permits(1);
        let pass = self.passes.acquire().await;
        pass.map(SemaphorePermit::forget).map_err(|_| Error::Missing("/secret/folder".into()))
    }
}

struct Memory {
    world: Arc<Mutex<World>>,
    gate: Option<Arc<Gate>>,
    /// The specs that were registered here, which attempts refer to.
    specs: Mutex<HashMap<i64, i64>>,
}

impl Memory {
    fn read<T: Send + 'static>(&self, read: impl FnOnce(&World) -> T) -> BoxFuture<'_, T> {
        let answer = read(&self.world.lock().expect("a model"));
        Box::pin(async {
            if let Some(gate) = &self.gate {
                gate.pass().await?;
            }
            Ok(answer)
        })
    }

    fn write<T: Send + 'static>(&self, write: impl FnOnce(&mut World) -> Result<T, Error>) -> BoxFuture<'_, T> {
        let mut world = self.world.lock().expect("a model");
        let mut copy = world.clone();
        let answer = write(&mut copy);
        if answer.is_ok() {
            *world = copy;
        }
        Box::pin(async { answer })
    }
}

impl Reader for Memory {
    fn jobs(&self) -> BoxFuture<'_, Vec<JobRow>> {
        self.read(World::job_rows)
    }

    fn stats(&self, job: JobId) -> BoxFuture<'_, JobStats> {
        self.read(|world| world.stats(job.0))
    }

    fn items(&self, filter: ItemsFilter) -> BoxFuture<'_, Vec<ItemRow>> {
        self.read(|world| world.item_rows(&filter))
    }

    fn item_with<'a>(&'a self, job: JobId, key: &'a str, outputs: Outputs) -> BoxFuture<'a, Option<ItemDetail>> {
        self.read(|world| world.item_detail(job.0, key, &outputs))
    }

    fn results(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ResultRow>> {
        self.read(|world| world.result_rows(stage, after.0, limit))
    }

    fn attempts(&self, filter: AttemptsFilter) -> BoxFuture<'_, Vec<AttemptRow>> {
        self.read(|world| world.attempt_rows(&filter))
    }

    fn outlook(&self) -> BoxFuture<'_, Outlook> {
        self.read(World::outlook)
    }

    fn known(&self, job: JobId, keys: Vec<String>) -> BoxFuture<'_, Vec<KnownItem>> {
        self.read(|world| world.known(job.0, &keys))
    }

    fn dead(&self, filter: DeadFilter, after: StageKey, limit: u32) -> BoxFuture<'_, Vec<DeadRow>> {
        self.read(|world| world.dead(&filter).into_iter().filter(|row| row.key > after).take(limit as usize).collect())
    }

    fn count_dead(&self, filter: DeadFilter) -> BoxFuture<'_, u64> {
        self.read(|world| world.dead(&filter).len() as u64)
    }

    fn outdated(&self, stage: StageId, after: ItemId, limit: u32) -> BoxFuture<'_, Vec<ItemId>> {
        self.read(|world| world.outdated(stage, after.0, limit))
    }

    fn operations(&self, job: Option<JobId>, limit: u32) -> BoxFuture<'_, Vec<OperationRow>> {
        self.read(|world| world.operation_rows(job, limit))
    }

    fn operation(&self, id: OperationId) -> BoxFuture<'_, Option<OperationRow>> {
        self.read(|world| world.operations.get(&id.0).map(|operation| operation.row.clone()))
    }

    fn component(&self, hash: Digest) -> BoxFuture<'_, Option<Vec<u8>>> {
        self.read(|world| world.component_bytes.get(&hash).map(|bytes| bytes.to_vec()))
    }

    fn events(&self, filter: EventsFilter) -> BoxFuture<'_, Vec<EventRow>> {
        self.read(|world| world.event_rows(&filter))
    }

    fn expired(&self, expired: Expired) -> BoxFuture<'_, ExpiredPage> {
        self.read(|world| world.expired(&expired))
    }

    fn examine(&self) -> BoxFuture<'_, Examination> {
        self.read(World::examine)
    }

    fn export(&self, table: &'static Table, after: Option<Row>, limit: u32) -> BoxFuture<'_, Vec<Row>> {
        self.read(|world| world.export(table, after.as_ref(), limit))
    }

    fn sequences(&self) -> BoxFuture<'_, Sequences> {
        self.read(|world| Sequences { fence: world.last_fence, host: world.last_host })
    }
}

impl Rounds for Memory {
    fn register_host(&self, host: HostInfo) -> BoxFuture<'_, HostId> {
        self.write(|world| Ok(world.register_host(host)))
    }

    fn heartbeat(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, bool> {
        self.write(|world| Ok(world.heartbeat(host.0, now)))
    }

    fn retire_host(&self, host: HostId, now: Timestamp) -> BoxFuture<'_, ()> {
        self.write(|world| {
            world.retire_host(host.0, now);
            Ok(())
        })
    }

    fn register_job(&self, job: JobRegistration) -> BoxFuture<'_, RegisteredJob> {
        self.write(|world| {
            let (registered, spec) = world.register_job(&job)?;
            self.specs.lock().expect("specs").insert(registered.id.0, spec);
            Ok(registered)
        })
    }

    fn reconcile(&self, job: JobId, after: ItemId, limit: u32, now: Timestamp) -> BoxFuture<'_, Option<ItemId>> {
        self.write(|world| world.reconcile(job.0, after.0, limit, now))
    }

    fn upsert(&self, batch: Upsert) -> BoxFuture<'_, Upserted> {
        self.write(|world| world.upsert(&batch))
    }

    fn round(&self, round: Arc<Round>) -> BoxFuture<'_, RoundDone> {
        self.write(|world| world.round(&round, &self.specs.lock().expect("specs")))
    }

    fn release(&self, releases: Vec<Release>) -> BoxFuture<'_, u64> {
        self.write(|world| Ok(world.release(&releases)))
    }

    fn reap(&self, reap: Reap) -> BoxFuture<'_, Lost> {
        self.write(|world| Ok(world.reap(&reap, &self.specs.lock().expect("specs"))))
    }

    fn promote(&self, now: Timestamp, limit: u32) -> BoxFuture<'_, u64> {
        self.write(|world| Ok(world.promote(now, limit)))
    }

    fn shorten_waits(&self, longest: HashMap<StageId, Duration>, now: Timestamp) -> BoxFuture<'_, u64> {
        self.write(|world| Ok(world.shorten_waits(&longest, now)))
    }

    fn changed_elsewhere(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

impl Operating for Memory {
    fn cancel(&self, cancel: Cancel) -> BoxFuture<'_, Cancelled> {
        self.write(|world| world.cancel(&cancel))
    }

    fn begin_redrive(&self, redrive: Redrive) -> BoxFuture<'_, OperationRow> {
        self.write(|world| world.begin_redrive(&redrive))
    }

    fn step_operation(&self, id: OperationId, limit: u32, now: Timestamp) -> BoxFuture<'_, OperationRow> {
        self.write(|world| world.step_operation(id.0, limit, now))
    }

    fn set_operation(
        &self,
        id: OperationId,
        to: OperationState,
        actor: String,
        now: Timestamp,
    ) -> BoxFuture<'_, OperationRow> {
        self.write(|world| world.set_operation(id.0, to, &actor, now))
    }

    fn restart_discovery(&self, restart: Restart) -> BoxFuture<'_, Option<String>> {
        self.write(|world| Ok(world.restart_discovery(&restart)))
    }

    fn record_event(&self, event: NewEvent) -> BoxFuture<'_, ()> {
        self.write(|world| {
            world.note(event.now, &Event::from(&event));
            Ok(())
        })
    }
}

impl Upkeep for Memory {
    fn sweep_components(&self) -> BoxFuture<'_, Swept> {
        self.write(|world| Ok(world.sweep_components()))
    }

    fn prune(&self, prune: Prune) -> BoxFuture<'_, u64> {
        self.write(|world| Ok(world.prune(&prune)))
    }

    fn rebuild(&self, now: Timestamp) -> BoxFuture<'_, ()> {
        self.write(|world| {
            world.rebuild(now);
            Ok(())
        })
    }

    fn import(&self, table: &'static Table, rows: Vec<Row>) -> BoxFuture<'_, ()> {
        self.write(|world| {
            world.import(table, rows);
            Ok(())
        })
    }

    fn import_component(&self, hash: Digest, bytes: ComponentBytes) -> BoxFuture<'_, ()> {
        self.write(|world| world.import_component(hash, bytes))
    }

    fn set_sequences(&self, sequences: Sequences) -> BoxFuture<'_, ()> {
        self.write(|world| {
            (world.last_fence, world.last_host) = (sequences.fence, sequences.host);
            Ok(())
        })
    }
}
