//! Runs operations, and tries until their result is known.
//!
//! Owns the pool, the retries, and the answer to one hard question: was a transaction committed if the connection broke
//! during the commit? Never decides what an operation writes.
//!
//! Each writing transaction writes its number into `commits`, in the row of the server process that runs it. When the
//! connection breaks, another connection ends that process, waits until it is gone, and reads the row. If the number is
//! there, everything was committed, and the answer computed before is valid: an applied completion is not reported as
//! late, and a claim is not lost. If the number is not there, nothing was committed, and the operation starts again.
//! Rejected: `pg_xact_status`, since a transaction's number may be used again after a crash; and giving back leases
//! that nobody received, which would need two more statements, and would still report applied completions as late.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use gristmill_model::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::claim::Marks;
use super::connect::Address;
use super::fail::Fail;
use super::shapes::Shapes;
use super::tx::Tx;
use super::wake::Wake;
use super::{Access, PostgresOptions, Time};
use gristmill_tracker::Error;

/// How many connections the pool has at most. The listener has one more.
const POOL_MAX: usize = 8;
/// The pauses between tries: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long an operation on whole tables may take.
const LONG_MAX: Duration = Duration::from_secs(4 * 3600);
/// After how long without an answer a warning says what the tracker waits for, and how much later again.
const SILENCE_TOLD: Duration = Duration::from_secs(2);
const SILENCE_TOLD_AGAIN: Duration = Duration::from_secs(30);
/// How long to wait for the end of a lost server process, each time.
const END_MILLIS: i64 = 5000;

/// The state of one tracker, used only by its thread.
pub(super) struct Core {
    pub(super) address: Address,
    pub(super) time: Time,
    pub(super) access: Access,
    pub(super) shapes: Shapes,
    pub(super) marks: Marks,
    pub(super) wake: Wake,
    /// The slot of the counters in which this process counts, so that hosts do not wait for one row.
    pub(super) slot: Cell<i64>,
    /// How far the database's clock is ahead of this machine's, in microseconds.
    pub(super) skew: Cell<i64>,
    pool: Pool,
    patience: Duration,
    answer_within: Duration,
    /// When a silence was last reported.
    told: Cell<Option<Instant>>,
    /// The number of the last transaction, to recognise its commit.
    number: Cell<i64>,
    closing: watch::Receiver<()>,
}

/// How long a transaction may take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// A bounded number of rows.
    Short,
    /// Whole tables.
    Long,
}

/// A connection of the pool. It goes back only if nothing is running on it.
pub(super) struct Lent {
    object: Option<Object>,
    clean: Cell<bool>,
}

impl Lent {
    pub(super) fn client(&self) -> &Object {
        self.object.as_ref().unwrap_or_else(|| unreachable!("it is there until it is dropped"))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(object) = self.object.take().filter(|_| !self.clean.get()) {
            drop(Object::take(object));
        }
    }
}

/// What is known about a try after its future is dropped.
struct Trace<T> {
    /// The server process.
    session: Cell<Option<Session>>,
    /// The answer, if the transaction is committed.
    answer: RefCell<Option<T>>,
}

/// A server process, by a name that is never used again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) pid: i32,
    pub(super) started: i64,
    /// The number of the transaction that it runs for us.
    pub(super) number: i64,
}

impl Core {
    pub(super) async fn connect(
        address: Address,
        options: PostgresOptions,
        wake: Wake,
        closing: watch::Receiver<()>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let pool = Pool::builder(address.manager()).max_size(POOL_MAX).build();
        let pool = pool.map_err(|error| Error::Sql(error.to_string()))?;
        let core = Self {
            address,
            time: options.time,
            access: options.access,
            shapes: Shapes::default(),
            marks: Marks::default(),
            wake,
            slot: Cell::new(i64::from(std::process::id() % super::SLOTS)),
            skew: Cell::new(0),
            pool,
            patience: options.patience,
            answer_within: options.answer_within,
            told: Cell::new(None),
            number: Cell::new(0),
            closing,
        };
        // Not tried again: a person who starts a host wants to know now.
        let first = async {
            let (client, connection) = core.address.open().await?;
            let driven = tokio::spawn(connection);
            let migrated = super::migrate::migrate(&client, options.access, &core.address.place, now).await;
            drop(client);
            let _ = driven.await;
            migrated
        };
        match core.within(options.answer_within, Length::Short, first).await {
            Some(Ok(())) => Ok(core),
            Some(Err(fail)) => Err(core.give_up(fail)),
            None => Err(core.give_up(silent())),
        }
    }

    async fn lend(&self) -> Result<Lent, Fail> {
        let object = self.pool.get().await.map_err(|error| self.address.name(error.into()))?;
        Ok(Lent { object: Some(object), clean: Cell::new(false) })
    }

    fn give_up(&self, fail: Fail) -> Error {
        fail.told(&self.address.place)
    }

    fn limit(&self, length: Length) -> Duration {
        if length == Length::Long { LONG_MAX } else { self.answer_within }
    }

    /// Waits for `work` up to `bound`; none if that was not enough. After some seconds a warning says what it waits
    /// for, unless the work is expected to take long.
    async fn within<T>(&self, bound: Duration, length: Length, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let silence = if length == Length::Long { bound } else { bound.min(SILENCE_TOLD) };
        if let Ok(done) = tokio::time::timeout(silence, &mut work).await {
            return Some(done);
        }
        let rest = bound.saturating_sub(silence);
        if !rest.is_zero() && self.told.get().is_none_or(|told| told.elapsed() >= SILENCE_TOLD_AGAIN) {
            self.told.set(Some(Instant::now()));
            let (place, rest) = (&self.address.place, rest.as_secs());
            tracing::warn!("{place} does not answer: waiting for it, {rest} s more at most");
        }
        tokio::time::timeout(rest, work).await.ok()
    }

    /// Runs a transaction until it is known to be committed or refused, or until patience ends.
    pub(super) async fn write<T>(
        &self,
        length: Length,
        run: impl AsyncFn(&Tx<'_>) -> Result<T, Fail>,
    ) -> Result<T, Error> {
        let limit = self.limit(length);
        let why = RefCell::new(silent());
        let work = async {
            let mut pauses = self.pauses();
            loop {
                let trace = Trace { session: Cell::new(None), answer: RefCell::new(None) };
                let attempt = tokio::time::timeout(limit, self.attempt(&trace, &run)).await;
                match attempt.unwrap_or_else(|_| Err(silent())) {
                    Ok(answer) => return Ok(answer),
                    Err(Fail::Refused(error)) => return Err(error),
                    Err(fail) => {
                        let broken = matches!(fail, Fail::Broken(_));
                        why.replace(fail);
                        if broken
                            && let Some(session) = trace.session.get()
                            && self.was_committed(session, &why, &mut pauses).await?
                            && let Some(answer) = trace.answer.take()
                        {
                            return Ok(answer);
                        }
                    }
                }
                self.pause(&mut pauses, &why).await?;
            }
        };
        let outcome = self.within(limit + self.patience, length, work).await;
        outcome.unwrap_or_else(|| Err(self.give_up(why.replace(silent()))))
    }

    async fn attempt<T>(&self, trace: &Trace<T>, run: &impl AsyncFn(&Tx<'_>) -> Result<T, Fail>) -> Result<T, Fail> {
        let lent = self.lend().await?;
        self.number.set(self.number.get() + 1);
        let tx = Tx::new(self, lent.client(), self.number.get(), &trace.session);
        let outcome = async {
            let answer = run(&tx).await?;
            trace.answer.replace(Some(answer));
            tx.commit().await
        };
        let outcome = outcome.await;
        match outcome {
            Ok(()) => {
                lent.clean.set(true);
                if tx.woke() {
                    self.wake.tell();
                }
                trace.answer.take().ok_or_else(|| Fail::Broken("internal error: an answer is gone".to_owned()))
            }
            Err(Fail::Broken(why)) => Err(Fail::Broken(why)),
            Err(fail) => {
                trace.session.set(None);
                lent.clean.set(lent.client().batch_execute("ROLLBACK").await.is_ok());
                Err(fail)
            }
        }
    }

    /// Reads, and tries again when the connection breaks.
    pub(super) async fn read<T>(
        &self,
        length: Length,
        run: impl AsyncFn(&Tx<'_>) -> Result<T, Fail>,
    ) -> Result<T, Error> {
        let limit = self.limit(length);
        let why = RefCell::new(silent());
        let work = async {
            let mut pauses = self.pauses();
            loop {
                let attempt = tokio::time::timeout(limit, self.attempt_read(&run)).await;
                match attempt.unwrap_or_else(|_| Err(silent())) {
                    Ok(answer) => return Ok(answer),
                    Err(Fail::Refused(error)) => return Err(error),
                    Err(fail) => drop(why.replace(fail)),
                }
                self.pause(&mut pauses, &why).await?;
            }
        };
        let outcome = self.within(limit + self.patience, length, work).await;
        outcome.unwrap_or_else(|| Err(self.give_up(why.replace(silent()))))
    }

    async fn attempt_read<T>(&self, run: &impl AsyncFn(&Tx<'_>) -> Result<T, Fail>) -> Result<T, Fail> {
        let lent = self.lend().await?;
        let session = Cell::new(None);
        let tx = Tx::new(self, lent.client(), 0, &session);
        let outcome = run(&tx).await;
        lent.clean.set(match &outcome {
            Ok(_) => !tx.is_open() || lent.client().batch_execute("COMMIT").await.is_ok(),
            Err(Fail::Broken(_)) => false,
            Err(_) => !tx.is_open() || lent.client().batch_execute("ROLLBACK").await.is_ok(),
        });
        outcome
    }

    /// Ends a server process that may still work for us, and returns whether its transaction was committed.
    async fn was_committed(&self, session: Session, why: &RefCell<Fail>, pauses: &mut Duration) -> Result<bool, Error> {
        loop {
            let asked = tokio::time::timeout(self.answer_within, self.ask(session)).await;
            match asked.unwrap_or_else(|_| Err(silent())) {
                Ok(committed) => return Ok(committed),
                Err(Fail::Refused(error)) => return Err(error),
                Err(fail) => drop(why.replace(fail)),
            }
            self.pause(pauses, why).await?;
        }
    }

    async fn ask(&self, Session { pid, started, number }: Session) -> Result<bool, Fail> {
        const END: &str = "SELECT pg_terminate_backend(pid, $3) FROM pg_stat_activity
            WHERE pid = $1 AND (extract(epoch FROM backend_start) * 1000000)::bigint = $2";
        const COMMITTED: &str = "SELECT EXISTS (SELECT FROM commits WHERE pid = $1 AND started = $2 AND number = $3)";
        let lent = self.lend().await?;
        let client = lent.client();
        let ended = client.query_opt(END, &[&pid, &started, &END_MILLIS]).await?;
        if ended.is_some_and(|row| row.get::<_, Option<bool>>(0) == Some(false)) {
            return Err(Fail::Broken("a server process that was lost does not end".to_owned()));
        }
        let committed = client.query_one(COMMITTED, &[&i64::from(pid), &started, &number]).await?.get(0);
        lent.clean.set(true);
        Ok(committed)
    }

    fn pauses(&self) -> Duration {
        PAUSE_MIN.min(self.patience)
    }

    /// Waits before another try, longer each time. A tracker that is being closed does not try again.
    async fn pause(&self, pause: &mut Duration, why: &RefCell<Fail>) -> Result<(), Error> {
        let mut closing = self.closing.clone();
        tokio::select! {
            () = tokio::time::sleep(*pause) => {}
            _ = closing.changed() => return Err(self.give_up(why.replace(silent()))),
        }
        *pause = (*pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

fn silent() -> Fail {
    Fail::Broken("it does not answer in time".to_owned())
}
