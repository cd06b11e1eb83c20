//! Each rule by itself, on one DAG: fetch → extract → index, where the index cannot do without the extract's output.

use std::collections::HashMap;
use std::time::Duration;

use gristmill_model::{
    Counters, Dag, DeadReason, Digest, Disposition, Fence, ItemId, ItemStatus, JobId, Masks, Merge, Need, OperationId,
    Outcome, RetryPolicy, StageBit, StageId, StageKey, State, Timestamp, VersionId,
};

use gristmill_test_tracker::conformance::{NOW, registration, stage};
use gristmill_tracker::Error;
use gristmill_tracker::records::{
    Completion, DeadFilter, Lost, Merged, NewItem, OperationState, Output, Reap, Redrive,
};
use gristmill_tracker::rules::change::Census;
use gristmill_tracker::rules::settle::{self, Next, Settled, Standing};
use gristmill_tracker::rules::{
    Change, Item, Rows, Taken, Tally, cancel, claim_key, discover, lose, operation, prune, reconcile, redrive,
};
use gristmill_tracker::rules::{item, register};

const FETCH: StageBit = StageBit(0);
const EXTRACT: StageBit = StageBit(1);
const INDEX: StageBit = StageBit(2);
const JOB: JobId = JobId(7);

fn dag() -> Dag {
    let mut dag = Dag::default();
    dag.add(FETCH, 0, 0);
    dag.add(EXTRACT, FETCH.mask(), 0);
    dag.add(INDEX, EXTRACT.mask(), EXTRACT.mask());
    dag
}

fn item(masks: Masks) -> Item {
    Item { id: ItemId(3), job: JOB, masks, priority: 2, cancelled: false }
}

fn cancelled(masks: Masks) -> Item {
    Item { cancelled: true, ..item(masks) }
}

/// Stages in masks: done, skipped, dead, live, stale.
fn masks([done, skipped, dead, live, stale]: [u64; 5]) -> Masks {
    Masks { done, skipped, dead, live, stale }
}

fn ready(ready: u64) -> Rows {
    Rows { ready, ..Rows::default() }
}

fn completion(bit: StageBit, outcome: Outcome, disposition: Disposition) -> Completion {
    let text = "{}".to_owned();
    let output = (disposition == Disposition::Done).then(|| Output { hash: Digest::of(text.as_bytes()), text });
    Completion {
        key: StageKey::new(ItemId(3), bit),
        version: VersionId(5),
        outcome,
        disposition,
        output,
        input_hash: Digest([0; 32]),
        error: None,
        log: None,
        ready_at: NOW,
        started_at: NOW,
        ended_at: NOW,
        memory_bytes_max: 0,
        charges: Vec::new(),
    }
}

fn taken(bit: StageBit) -> Taken {
    Taken {
        superseded: false,
        key: StageKey::new(ItemId(3), bit),
        fence: Fence(1),
        stage: StageId::new(JOB, bit),
        due_at: 10,
        first_due_at: 5,
        counters: Counters { attempts: 1, lost: 1, deferrals: 1 },
        last_attempt: Some(9),
        operation: None,
    }
}

fn settled(item: Item, bit: StageBit, disposition: Disposition, standing: Option<Standing>) -> Settled {
    let outcome = match disposition {
        Disposition::Done => Outcome::Done,
        Disposition::Skipped => Outcome::Skipped,
        _ => Outcome::Retry,
    };
    settle::settle(&dag(), item, &taken(bit), &completion(bit, outcome, disposition), standing, Rows::default(), NOW)
}

/// The counters that a change moves, as (stage or status, change).
fn counted(change: &Change, is_counted: bool) -> Vec<(String, i64)> {
    let mut tally = Tally::default();
    change.count(&dag(), is_counted, &mut tally);
    let state = |code| State::from_code(code).map_or("none", State::name);
    let stages = tally.stages.iter().map(|((id, code), n)| (format!("{} {}", StageId(*id).bit().0, state(*code)), *n));
    let status = |code| ItemStatus::from_code(code).map_or("none", ItemStatus::name).to_owned();
    let items = tally.items.iter().map(|((_, code), n)| (status(*code), *n));
    let mut changes: Vec<_> = stages.chain(items).filter(|(_, n)| *n != 0).collect();
    changes.sort();
    changes
}

fn told(changes: &[(&str, i64)]) -> Vec<(String, i64)> {
    changes.iter().map(|(what, n)| ((*what).to_owned(), *n)).collect()
}

#[test]
fn a_settled_stage_releases_its_dependents() {
    let settled = settled(item(masks([0, 0, 0, 1, 0])), FETCH, Disposition::Done, None);
    assert_eq!(settled.next, Next::Outcome { state: State::Done, reason: None });
    assert_eq!(settled.change.after.masks, masks([1, 0, 0, 2, 0]));
    assert_eq!((settled.change.entered, settled.counters.attempts), (ready(2), 2));
    assert_eq!((settled.version_gone, settled.version_new), (None, Some(5)));
    assert_eq!(counted(&settled.change, true), told(&[("0 done", 1), ("0 leased", -1), ("1 ready", 1)]));
    let row = settled.change.ready(NOW).next().expect("a row");
    assert_eq!((row.stage, row.chained), (StageId::new(JOB, EXTRACT), false));
    assert_eq!(row.claim_key, NOW.0 - 2 * 60_000_000, "less a minute a step of priority");
}

#[test]
fn a_skipped_stage_takes_along_what_cannot_do_without_it() {
    let before = item(masks([1, 0, 0, 2, 0]));
    let settled = settled(before, EXTRACT, Disposition::Skipped, None);
    assert_eq!((settled.change.skipped, settled.change.replaced), (INDEX.mask(), 0));
    assert_eq!(settled.change.after.masks, masks([1, 6, 0, 0, 0]));
    let counts = [("1 leased", -1), ("1 skipped", 1), ("2 skipped", 1), ("active", -1), ("done", 1)];
    assert_eq!(counted(&settled.change, true), told(&counts));
    assert_eq!(counted(&settled.change, false), told(&counts[..3]), "its job does not count it yet");
}

#[test]
fn another_output_makes_stale_and_the_same_one_does_not() {
    let redone = item(masks([7, 0, 0, 1, 1]));
    let standing = |text: &str| Some(Standing { version: Some(4), output_hash: Some(Digest::of(text.as_bytes())) });
    let same = settled(redone, FETCH, Disposition::Done, standing("{}"));
    assert_eq!(same.change.after.masks, masks([7, 0, 0, 0, 0]));
    assert_eq!((same.version_gone, same.version_new), (Some(4), Some(5)));
    let another = settled(redone, FETCH, Disposition::Done, standing("1"));
    assert_eq!(another.change.after.masks, masks([7, 0, 0, 2, 2]));
    assert!(another.change.ready(NOW).all(|row| row.chained), "it goes on with its history");
    let skipped = settled(redone, FETCH, Disposition::Skipped, standing("{}"));
    assert_eq!(skipped.change.after.masks, masks([6, 1, 0, 2, 2]), "no output is another one than one");
}

#[test]
fn an_older_result_that_can_not_be_redone_gives_way() {
    // The extract is redone and skipped: the index, done and stale by it, is skipped along.
    let redone = item(masks([7, 0, 0, 2, 2]));
    let standing = Some(Standing { version: Some(4), output_hash: None });
    let settled = settled(redone, EXTRACT, Disposition::Skipped, standing);
    assert_eq!((settled.change.skipped, settled.change.replaced), (4, 4));
    assert_eq!(settled.change.after.masks, masks([1, 6, 0, 0, 0]));
}

#[test]
fn a_stage_that_dies_keeps_its_output_and_changes_nothing_else() {
    let redone = item(masks([7, 0, 0, 1, 1]));
    let standing = Some(Standing { version: Some(4), output_hash: None });
    let death = Disposition::Dead(DeadReason::Guard);
    assert!(!settle::asks(&redone, &taken(FETCH), &completion(FETCH, Outcome::Memory, death)));
    let died = settled(redone, FETCH, death, standing);
    assert_eq!(died.next, Next::Outcome { state: State::Dead, reason: Some(DeadReason::Guard) });
    assert_eq!(died.change.after.masks, masks([6, 0, 1, 0, 0]));
    assert_eq!((died.version_gone, died.version_new), (None, None));
}

#[test]
fn what_waits_goes_back_unless_its_item_is_cancelled() {
    let live = masks([0, 0, 0, 1, 0]);
    let wait = Disposition::Wait(Duration::from_secs(1));
    let due_at = NOW.0 + 1_000_000;
    let waits = settled(item(live), FETCH, wait, None);
    assert_eq!(waits.next, Next::Wait { due_at, claim_key: claim_key(due_at, 2) });
    assert_eq!(waits.change.after, item(live));
    assert_eq!(counted(&waits.change, true), told(&[("0 leased", -1), ("0 waiting", 1)]));
    let left = settled(cancelled(live), FETCH, wait, None);
    assert_eq!((left.next, left.change.after.masks.live), (Next::Nothing, 0));
    assert_eq!(counted(&left.change, true), told(&[("0 leased", -1)]));
}

#[test]
fn what_an_older_outcome_released_leaves_the_queue_with_it() {
    let redone = item(masks([1, 0, 0, 1 | 2, 1]));
    let (dag, guard) = (dag(), Disposition::Dead(DeadReason::Guard));
    let leaves = |item: &Item, bit, disposition| {
        settle::leaves(&dag, item, &taken(bit), &completion(bit, Outcome::Permanent, disposition))
    };
    assert_eq!(leaves(&redone, FETCH, guard), 2);
    assert_eq!(leaves(&redone, FETCH, Disposition::Skipped), 0, "it can do without the output");
    assert_eq!(leaves(&item(masks([3, 0, 0, 6, 2])), EXTRACT, Disposition::Skipped), 4);
    assert_eq!(leaves(&item(masks([0, 0, 0, 1, 0])), FETCH, guard), 0, "nothing was released");
    let died = completion(FETCH, Outcome::Permanent, guard);
    let settled = settle::settle(&dag, redone, &taken(FETCH), &died, None, ready(2), NOW);
    assert_eq!(settled.change.after.masks, masks([0, 0, 1, 0, 0]));
    // What was leased then, and would wait now, has no fetch.
    let wait = Disposition::Wait(Duration::ZERO);
    assert_eq!(self::settled(item(masks([0, 0, 1, 2, 0])), EXTRACT, wait, None).next, Next::Nothing);
}

#[test]
fn what_was_given_something_else_meanwhile_runs_once_more() {
    let superseded = |item, bit, disposition, standing| {
        let taken = Taken { superseded: true, ..taken(bit) };
        settle::settle(
            &dag(),
            item,
            &taken,
            &completion(bit, Outcome::Done, disposition),
            standing,
            Rows::default(),
            NOW,
        )
    };
    let leased = item(masks([0, 0, 0, 1, 0]));
    let done = superseded(leased, FETCH, Disposition::Done, None).change;
    assert_eq!((done.after.masks, done.entered), (masks([1, 0, 0, 1, 1]), ready(1)), "and nothing is released by it");
    assert!(done.ready(NOW).all(|row| row.chained), "it goes on with its history");
    let died = superseded(leased, FETCH, Disposition::Dead(DeadReason::Guard), None);
    assert_eq!((died.change.after.masks, died.change.entered), (masks([0, 0, 0, 1, 0]), ready(1)));
    assert_eq!(
        (died.next, died.change.renewed),
        (Next::Outcome { state: State::Dead, reason: Some(DeadReason::Guard) }, 1)
    );
    let older = Some(Standing { version: Some(4), output_hash: None });
    let redone = superseded(item(masks([1, 0, 0, 1, 1])), FETCH, Disposition::Dead(DeadReason::Guard), older);
    assert_eq!(redone.change.after.masks, masks([1, 0, 0, 1, 1]), "the older result stands, and is stale");
    assert_eq!(superseded(cancelled(leased.masks), FETCH, Disposition::Done, None).change.entered, Rows::default());
    // The extract is leased while the fetch is settled with another output.
    let both = item(masks([1, 0, 0, 1 | 2, 1]));
    let another = settled(both, FETCH, Disposition::Done, older);
    assert_eq!(another.change.superseded, EXTRACT.mask());
}

#[test]
fn nothing_follows_from_a_settled_stage_of_a_cancelled_item() {
    let settled = settled(cancelled(masks([0, 0, 0, 1, 0])), FETCH, Disposition::Done, None);
    assert_eq!((settled.change.entered, settled.change.after.masks), (Rows::default(), masks([1, 0, 0, 0, 0])));
}

#[test]
fn a_lost_attempt_is_charged_by_the_policy_of_who_runs_the_stage() {
    let reap =
        |policies| Reap { host: gristmill_model::HostId(1), now: NOW, heartbeat_before: NOW, leases_max: 1, policies };
    let policy = RetryPolicy { max_lost: 2, ..RetryPolicy::default() };
    let mut lost = Lost::default();
    let charged = lose::lose(&taken(FETCH), &reap(HashMap::new()), NOW);
    lost.count(&charged);
    assert!(matches!(charged.disposition, Disposition::Wait(_)), "another host decides");
    let died = lose::lose(&taken(FETCH), &reap([(StageId::new(JOB, FETCH), policy)].into()), NOW);
    lost.count(&died);
    assert_eq!(died.disposition, Disposition::Dead(DeadReason::Poison));
    assert_eq!(lost, Lost { leases: 0, attempts: 2, dead: 1 });
}

#[test]
fn cancelling_and_restoring_are_each_others_inverse() {
    let before = item(masks([1, 0, 0, 2, 0]));
    let change = cancel::cancel(before, ready(2));
    assert_eq!(change.after, cancelled(masks([1, 0, 0, 0, 0])));
    assert_eq!(counted(&change, true), told(&[("1 ready", -1), ("active", -1), ("cancelled", 1)]));
    let back = cancel::restore(&dag(), change.after);
    assert_eq!((back.after, back.entered), (before, ready(2)));
    // A stage that was skipped meanwhile has left one behind that can never run.
    let barred = cancel::restore(&dag(), cancelled(masks([5, 2, 0, 0, 4])));
    assert_eq!((barred.skipped, barred.replaced, barred.after.masks), (4, 4, masks([1, 6, 0, 0, 0])));
    assert_eq!(cancel::give_up(&dag(), before, EXTRACT), None, "it is ready again");
    let given_up = cancel::give_up(&dag(), cancelled(before.masks), EXTRACT).expect("it leaves the queue");
    assert_eq!(given_up.after.masks.live, 0);
    let lacking = cancel::give_up(&dag(), item(masks([0, 0, 1, 2, 0])), EXTRACT).expect("it has no fetch");
    assert_eq!(lacking.after.masks, masks([0, 0, 1, 0, 0]));
}

#[test]
fn a_redriven_stage_is_what_it_was_before_it_ran() {
    let dead = masks([1, 0, 2, 0, 0]);
    assert_eq!(redrive::redrive(&dag(), cancelled(dead), EXTRACT, false), None);
    let change = redrive::redrive(&dag(), item(dead), EXTRACT, false).expect("a change");
    assert_eq!((change.after.masks, change.entered), (masks([1, 0, 0, 2, 0]), ready(2)));
    assert!(change.ready(NOW).all(|row| row.chained), "its history is not forgotten");
    let with_output = redrive::redrive(&dag(), item(dead), EXTRACT, true).expect("a change");
    assert_eq!(with_output.after.masks, masks([3, 0, 0, 2, 2]));
    let blocked = redrive::redrive(&dag(), item(masks([0, 0, 2, 1, 0])), EXTRACT, false).expect("a change");
    assert_eq!((blocked.after.masks, blocked.entered), (masks([0, 0, 0, 1, 0]), Rows::default()));
    let barred = redrive::redrive(&dag(), item(masks([1, 2, 4, 0, 0])), INDEX, false).expect("a change");
    assert_eq!((barred.skipped, barred.after.masks), (4, masks([1, 6, 0, 0, 0])));
}

#[test]
fn reconciling_drops_what_may_not_run_and_counts_anew() {
    // Of an item that has no fetch, the extract and a stage that is no longer declared are in the queue.
    let before = item(masks([0, 0, 0, 2 | 8, 0]));
    assert_eq!(reconcile::leaves(&dag(), &before), 2 | 8);
    let change = reconcile::reconcile(&dag(), before, Rows { waiting: 2, ..Rows::default() });
    assert_eq!((change.after.masks.live, change.census), (1 | 8, Census::Anew), "what was leased stays");
    assert_eq!(counted(&change, false), told(&[("0 ready", 1), ("1 waiting", -1), ("active", 1)]));
    let again = reconcile::reconcile(&dag(), change.after, Rows::default());
    assert_eq!(again.after, change.after, "twice is once");
}

#[test]
fn a_new_item_begins_with_its_roots_and_reprocesses_them_for_new_data() {
    let new = discover::discover(&dag(), JOB).numbered(ItemId(3), 2);
    assert_eq!((new.after, new.entered), (item(masks([0, 0, 0, 1, 0])), ready(1)));
    assert_eq!(counted(&new, true), told(&[("0 ready", 1), ("active", 1)]));
    assert!(!new.is_other(), "its row is inserted as it is");
    let done = masks([7, 0, 0, 0, 0]);
    let redone = discover::reprocess(&dag(), item(done), 0);
    assert_eq!((redone.after.masks, redone.entered), (masks([7, 0, 0, 1, 1]), ready(1)));
    assert_eq!(
        discover::reprocess(&dag(), cancelled(done), 0).after.masks,
        masks([7, 0, 0, 0, 1]),
        "once it is restored"
    );
    let live = item(masks([0, 0, 0, 1, 0]));
    let marked = discover::reprocess(&dag(), live, 0);
    assert_eq!((marked.after, marked.superseded), (live, 1), "what is leased runs once more");
    let dead = item(masks([2, 0, 1, 0, 0]));
    assert_eq!(discover::reprocess_asks(&dag(), &dead), 1);
    let renewed = discover::reprocess(&dag(), dead, 0);
    assert_eq!((renewed.after.masks, renewed.entered, renewed.renewed), (masks([2, 0, 0, 1, 0]), ready(1), 1));
    assert_eq!(discover::reprocess(&dag(), dead, 1).after.masks, masks([3, 0, 0, 1, 1]));
}

#[test]
fn merging_says_what_stands_and_refuses_what_was_overtaken() {
    let known_hash = Digest::of(b"1");
    let known = discover::Known { data_hash: known_hash, data: None };
    let mut found =
        NewItem { key: "a".to_owned(), data: "2".to_owned(), data_hash: Digest::of(b"2"), priority: 0, merged: None };
    let data = |merge: &Merge, found: &NewItem| {
        discover::merge(merge, found, known).map(|merged| merged.map(|(data, _)| data.into_owned()))
    };
    assert_eq!(data(&Merge::Replace, &found).expect("data"), Some("2".to_owned()));
    let overtaken = |result| matches!(result, Err(Error::Overtaken(key)) if key == "a");
    assert!(overtaken(data(&Merge::Handler, &found)));
    found.merged = Some(Merged { data: "3".to_owned(), replaces: Digest::of(b"0") });
    assert!(overtaken(data(&Merge::Handler, &found)));
    found.merged = Some(Merged { data: "3".to_owned(), replaces: known_hash });
    assert_eq!(data(&Merge::Handler, &found).expect("data"), Some("3".to_owned()));
    found.merged = Some(Merged { data: "1".to_owned(), replaces: known_hash });
    assert_eq!(data(&Merge::Handler, &found).expect("data"), None, "it is what it was");
}

#[test]
fn a_stage_keeps_its_bit_and_a_new_one_gets_one_that_none_ever_had() {
    let needs = vec![Need { stage: 1, output: true }];
    let job = registration(vec![stage("new", needs), stage("kept", Vec::new())]);
    let known = HashMap::from([("kept".to_owned(), StageBit(1)), ("retired".to_owned(), StageBit(0))]);
    let bits = register::assign_bits(&known, &job).expect("bits");
    assert_eq!(bits, [StageBit(2), StageBit(1)]);
    let (declared, dag) = register::declare(&job, &bits);
    assert_eq!((declared[0].needs, declared[0].outputs, dag.all()), (2, 2, 6));
    assert_eq!(register::edit(&Dag::default(), &dag), register::Edit::First);
    assert_eq!(register::edit(&dag, &dag), register::Edit::None);
    assert_eq!(register::edit(&self::dag(), &dag), register::Edit::Another);
    let all: HashMap<String, StageBit> = (0..63).map(|bit| (bit.to_string(), StageBit(bit))).collect();
    assert!(matches!(register::assign_bits(&all, &job), Err(Error::TooManyStages(_))));
}

#[test]
fn an_operation_keeps_its_limit_and_its_rate() {
    let filter = DeadFilter::all(JOB);
    let (actor, why) = (String::new(), String::new());
    let redrive = Redrive { filter, limit: u64::MAX, rate: Some(2.0), actor, why, now: NOW };
    let mut row = operation::begin(&redrive, 9, NOW);
    assert_eq!((row.id, row.planned, row.limit), (OperationId(0), 9, i64::MAX as u64));
    row.limit = 3;
    assert_eq!(operation::share(&row, 9, NOW), Some(2), "a second's worth at most");
    operation::took(&mut row, 2, false, NOW);
    assert_eq!((row.next_at.0, row.state), (NOW.0 + 1_000_000, OperationState::Running));
    assert_eq!(operation::share(&row, 9, NOW), None, "not before its time");
    let later = Timestamp(NOW.0 + 1_000_000);
    assert_eq!(operation::share(&row, 9, later), Some(1));
    operation::set(&mut row, OperationState::Paused, later).expect("a pause");
    assert_eq!(operation::share(&row, 9, later), None);
    assert!(operation::set(&mut row, OperationState::Done, later).is_err(), "nobody moves it there");
    operation::set(&mut row, OperationState::Running, later).expect("it goes on");
    operation::took(&mut row, 1, false, later);
    assert_eq!(row.state, OperationState::Done);
}

#[test]
fn what_is_deleted_is_counted_no_more() {
    let before = item(masks([7, 8, 0, 8, 0]));
    let forgotten = prune::forget(before, StageBit(3));
    assert_eq!(forgotten.after.masks, masks([7, 0, 0, 8, 0]), "its attempt is let finish");
    assert_eq!(counted(&forgotten, true), told(&[("3 skipped", -1)]));
    let gone = prune::delete(item(masks([1, 2, 4, 0, 0])));
    assert_eq!(counted(&gone, true), told(&[("0 done", -1), ("1 skipped", -1), ("2 dead", -1), ("failed", -1)]));
    assert_eq!(counted(&gone, false).len(), 3, "its job did not count it yet");
}

#[test]
fn a_charge_belongs_to_the_day_on_which_its_attempt_ended() {
    let day = 86_400_000_000;
    for (at, number) in [(0, 0), (day - 1, 0), (day, 1), (-1, -1)] {
        assert_eq!(item::day(Timestamp(at)), number);
    }
}
