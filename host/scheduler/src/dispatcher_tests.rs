//! The dispatcher, driven by hand: no thread, no database, no clock.

use gristmill_model::{Counters, Digest, Fence, ItemId, Outcome, StageBit, VersionId};
use gristmill_tracker::{Claim, Lease, Outlook, Upserted};

use super::*;
use crate::discover::PageFailure;
use crate::pace::ATTEMPTS_IN_FLIGHT_MAX;

const JOB: JobId = JobId(1);
const STAGE: StageId = StageId::new(JOB, StageBit(0));
const NOW: Timestamp = Timestamp(1_000_000);

fn dispatcher() -> Dispatcher {
    let mut dispatcher = Dispatcher::new(HostId(1), 2, false, u64::MAX);
    dispatcher.add_stage(STAGE, "fetch");
    dispatcher
}

fn lease(fence: i64, items: &[i64]) -> Lease {
    let claims = items.iter().map(|item| Claim {
        key: StageKey::new(ItemId(*item), StageBit(0)),
        counters: Counters::default(),
        ready_at: NOW,
        first_ready_at: NOW,
        item_key: item.to_string(),
        data: "1".to_owned(),
        data_hash: Digest([0; 32]),
        discovered_at: NOW,
        upstream: Vec::new(),
        damage: None,
    });
    Lease { fence: Fence(fence), stage: STAGE, claims: claims.collect() }
}

fn finished(lease: &Lease, disposition: Disposition, unrun: usize) -> Event {
    let (ran, given_back) = lease.claims.split_at(lease.claims.len() - unrun);
    let completions = ran.iter().map(|claim| Completion {
        key: claim.key,
        version: VersionId(1),
        outcome: Outcome::Retry,
        disposition,
        output: None,
        input_hash: Digest([0; 32]),
        error: None,
        log: None,
        ready_at: claim.ready_at,
        started_at: NOW,
        ended_at: NOW,
        memory_bytes_max: 0,
        charges: Vec::new(),
    });
    Event::Finished(Finished {
        fence: lease.fence,
        stage: STAGE,
        completions: completions.collect(),
        unrun: given_back.iter().map(|claim| claim.key).collect(),
        input_bytes: lease.claims.iter().map(Claim::bytes).sum(),
        refusal: None,
        elapsed: Duration::from_millis(1),
    })
}

fn is_claiming(commands: &[Command]) -> bool {
    commands.iter().any(|command| matches!(command, Command::Round(round) if !round.claims.is_empty()))
}

fn drained() -> RoundDone {
    RoundDone { drained: vec![STAGE], ..RoundDone::default() }
}

#[test]
fn a_run_is_over_when_nothing_is_ready_waiting_or_discovered() {
    let mut dispatcher = dispatcher();
    assert!(is_claiming(&dispatcher.handle(Event::Woken, NOW)));
    assert!(!dispatcher.is_over());
    let commands = dispatcher.handle(Event::Round(drained()), NOW);
    assert!(!is_claiming(&commands), "what is drained is not asked again");
    assert!(!dispatcher.is_over(), "something may wait");
    assert!(dispatcher.handle(Event::Outlook(Outlook::default()), NOW).is_empty());
    assert!(dispatcher.is_over());
}

#[test]
fn what_becomes_ready_while_a_short_claim_is_under_way_is_not_forgotten() {
    let mut dispatcher = dispatcher();
    dispatcher.add_source(JOB, "job", DiscoverTuning::default(), None, NOW);
    assert!(is_claiming(&dispatcher.handle(Event::Woken, NOW)));
    // The page was written behind the claim, and its answer comes first.
    let _ = dispatcher.handle(Event::Upserted(JOB, Upserted { new: 1, ..Upserted::default() }), NOW);
    assert!(is_claiming(&dispatcher.handle(Event::Round(drained()), NOW)));
}

#[test]
fn an_answer_about_waiting_work_that_was_overtaken_says_nothing() {
    let mut dispatcher = dispatcher();
    let _ = dispatcher.handle(Event::Woken, NOW);
    let one = lease(1, &[1]);
    let round = RoundDone { leases: vec![one.clone()], ..drained() };
    let _ = dispatcher.handle(Event::Round(round), NOW);
    // The question of the beginning is still open while a stage begins to wait.
    let _ = dispatcher.handle(finished(&one, Disposition::Wait(Duration::from_secs(9)), 0), NOW);
    let _ = dispatcher.handle(Event::Round(RoundDone::default()), NOW);
    let _ = dispatcher.handle(Event::Outlook(Outlook { next_due: Some(Timestamp(NOW.0 + 9_000_000)), leases: 0 }), NOW);
    assert!(!dispatcher.is_over());
    let commands = dispatcher.handle(Event::Woken, Timestamp(NOW.0 + 9_000_000));
    assert!(commands.iter().any(|command| matches!(command, Command::Promote(_))));
}

#[test]
fn a_stop_claims_nothing_more_and_gives_back_what_was_not_begun() {
    let mut dispatcher = dispatcher();
    let _ = dispatcher.handle(Event::Woken, NOW);
    let (running, late) = (lease(1, &[1, 2, 3]), lease(2, &[4]));
    let _ = dispatcher.handle(Event::Round(RoundDone { leases: vec![running.clone()], ..RoundDone::default() }), NOW);
    let commands = dispatcher.handle(Event::Stop, NOW);
    assert!(matches!(commands[..], [Command::StopWorkers]));
    // A claim that was under way comes back: given back at once.
    let commands = dispatcher.handle(Event::Round(RoundDone { leases: vec![late], ..RoundDone::default() }), NOW);
    assert!(matches!(&commands[..], [Command::Release(releases)] if releases[0].fence == Fence(2)));
    let _ = dispatcher.handle(Event::Released, NOW);
    let commands = dispatcher.handle(finished(&running, Disposition::Done, 2), NOW);
    let released: usize = commands
        .iter()
        .map(|command| if let Command::Release(releases) = command { releases[0].keys.len() } else { 0 })
        .sum();
    assert_eq!(released, 2);
    assert!(!is_claiming(&commands));
    assert!(!dispatcher.is_over(), "what was done is not recorded yet");
    let _ = dispatcher.handle(Event::Released, NOW);
    let _ = dispatcher.handle(Event::Round(RoundDone::default()), NOW);
    assert!(dispatcher.is_over());
    assert!(dispatcher.held().is_empty());
}

#[test]
fn what_is_claimed_never_exceeds_the_bound() {
    let mut dispatcher = dispatcher();
    let mut commands = dispatcher.handle(Event::Woken, NOW);
    let (mut fence, mut held) = (0, 0);
    for _ in 0..50 {
        let wanted: u32 = commands
            .iter()
            .map(|command| {
                if let Command::Round(round) = command { round.claims.iter().map(|claim| claim.limit).sum() } else { 0 }
            })
            .sum();
        held += wanted as usize;
        assert!(held <= ATTEMPTS_IN_FLIGHT_MAX, "{held}");
        let leases: Vec<Lease> = (0..wanted).map(|item| lease(fence + i64::from(item), &[i64::from(item)])).collect();
        fence += i64::from(wanted);
        commands = dispatcher.handle(Event::Round(RoundDone { leases: leases.clone(), ..RoundDone::default() }), NOW);
        // A fast handler: the window grows; half of what runs comes back.
        for lease in leases.iter().take(leases.len() / 2) {
            held -= 1;
            commands.extend(dispatcher.handle(finished(lease, Disposition::Done, 0), NOW));
        }
    }
    assert!(held > 100, "the window did grow: {held}");
}

#[test]
fn a_failed_page_is_asked_for_again_and_then_given_up() {
    let mut dispatcher = dispatcher();
    let retry = gristmill_model::RetryPolicy { max_attempts: 2, ..Default::default() };
    dispatcher.add_source(JOB, "job", DiscoverTuning { retry, ..Default::default() }, Some("7".to_owned()), NOW);
    let mut now = NOW;
    for _ in 0..2 {
        let commands = dispatcher.handle(Event::Woken, now);
        assert!(commands.iter().any(|command| matches!(command, Command::Ask(JOB, Some(cursor), _) if cursor == "7")));
        let failure = PageFailure { outcome: Outcome::Trap, after: None, message: "broken".to_owned() };
        let _ = dispatcher.handle(
            Event::Page(PageResult { job: JOB, cursor: Some("7".to_owned()), page: Err(failure), log: String::new() }),
            now,
        );
        now.0 += 600_000_000;
    }
    assert_eq!(dispatcher.summary.discovery_failures, [("job".to_owned(), "broken".to_owned())]);
    let commands = dispatcher.handle(Event::Woken, now);
    assert!(!commands.iter().any(|command| matches!(command, Command::Ask(..))));
}

#[test]
fn a_page_that_leads_back_keeps_its_items_and_ends_discovery() {
    for (cursors, says) in
        [(&["a", "a"][..], "visited before"), (&["a", "b", "a"], "visited before"), (&["a", ""], "an empty text")]
    {
        let mut dispatcher = dispatcher();
        dispatcher.add_source(JOB, "job", DiscoverTuning::default(), None, NOW);
        let mut cursor = None;
        let mut asked = dispatcher.handle(Event::Woken, NOW);
        for (index, next) in cursors.iter().enumerate() {
            assert!(asked.iter().any(|command| matches!(command, Command::Ask(_, at, _) if *at == cursor)));
            let page = Ok(Page { items: Vec::new(), next: Some((*next).to_owned()) });
            let page = Event::Page(PageResult { job: JOB, cursor: cursor.clone(), page, log: String::new() });
            let commands = dispatcher.handle(page, NOW);
            let upsert = commands.iter().find_map(|command| match command {
                Command::Upsert(upsert) => Some(upsert),
                _ => None,
            });
            let FoundBy::Page { next: recorded, .. } = &upsert.unwrap().source else { panic!("by hand") };
            cursor = Some((*next).to_owned()).filter(|_| index + 1 < cursors.len());
            assert_eq!(*recorded, cursor);
            asked = dispatcher.handle(Event::Upserted(JOB, Upserted::default()), NOW);
        }
        assert!(dispatcher.summary.discovery_failures[0].1.contains(says));
        asked.extend(dispatcher.handle(Event::Woken, NOW));
        assert!(!asked.iter().any(|command| matches!(command, Command::Ask(..))));
    }
}

#[test]
fn a_run_is_not_over_while_another_host_holds_work_that_may_release_more() {
    let mut dispatcher = dispatcher();
    let _ = dispatcher.handle(Event::Woken, NOW);
    let _ = dispatcher.handle(Event::Round(drained()), NOW);
    let held = Outlook { next_due: None, leases: 1 };
    let commands = dispatcher.handle(Event::Outlook(held), NOW);
    // The first look began while a round was under way here: the lease may have been this host's own.
    assert!(matches!(commands[..], [Command::Look]));
    assert!(dispatcher.handle(Event::Outlook(held), NOW).is_empty(), "it does not ask again and again");
    assert!(!dispatcher.is_over());
    let commands = dispatcher.handle(Event::Changed, NOW);
    assert!(is_claiming(&commands), "somebody settled something");
    let _ = dispatcher.handle(Event::Round(drained()), NOW);
    let _ = dispatcher.handle(Event::Outlook(Outlook::default()), NOW);
    assert!(dispatcher.is_over());
}

#[test]
fn a_disk_that_fills_stops_discovery_first_and_then_claims() {
    let mut dispatcher = dispatcher();
    dispatcher.add_source(JOB, "job", DiscoverTuning::default(), None, NOW);
    let asks = |commands: &[Command]| commands.iter().any(|command| matches!(command, Command::Ask(..)));
    let commands = dispatcher.handle(Event::Disk(Disk::Low), NOW);
    assert!(!asks(&commands) && is_claiming(&commands));
    let _ = dispatcher.handle(Event::Round(RoundDone::default()), NOW);
    let commands = dispatcher.handle(Event::Disk(Disk::Full), NOW);
    assert!(!asks(&commands) && !is_claiming(&commands));
    let _ = dispatcher.handle(Event::Round(RoundDone::default()), NOW);
    assert!(dispatcher.is_starved() && !dispatcher.is_over());
    let commands = dispatcher.handle(Event::Disk(Disk::Ample), NOW);
    assert!(asks(&commands) && is_claiming(&commands) && !dispatcher.is_starved());
}

#[test]
fn discovery_rests_while_there_is_enough_to_do_and_then_asks_for_the_same_page() {
    let mut dispatcher = dispatcher();
    dispatcher.add_source(JOB, "job", DiscoverTuning::default(), Some("7".to_owned()), NOW);
    let asks = |commands: &[Command]| {
        commands.iter().any(|command| matches!(command, Command::Ask(JOB, Some(cursor), 100_000) if cursor == "7"))
    };
    assert!(asks(&dispatcher.handle(Event::Woken, NOW)));
    assert!(!asks(&dispatcher.handle(Event::Backlogged(JOB), NOW)));
    let later = dispatcher.wake_at(NOW);
    assert!(later > NOW && asks(&dispatcher.handle(Event::Woken, later)));
}

#[test]
fn what_is_in_flight_is_bounded_by_bytes() {
    let mut dispatcher = Dispatcher::new(HostId(1), 2, false, 10);
    dispatcher.add_stage(STAGE, "fetch");
    let wish = |commands: &[Command]| {
        commands.iter().find_map(|command| match command {
            Command::Round(round) => round.claims.first().map(|claim| claim.bytes),
            _ => None,
        })
    };
    assert_eq!(wish(&dispatcher.handle(Event::Woken, NOW)), Some(5), "a stage has half of the room");
    let mut large = lease(1, &[1]);
    large.claims[0].data = "x".repeat(7);
    let done = RoundDone { leases: vec![large.clone()], ..RoundDone::default() };
    assert_eq!(
        wish(&dispatcher.handle(Event::Round(done), NOW)),
        None,
        "one came whatever its size, and no more are asked for"
    );
    let settles = dispatcher.handle(finished(&large, Disposition::Done, 0), NOW);
    assert_eq!(wish(&settles), Some(5), "its data is no longer held");
    assert_eq!(dispatcher.summary.in_flight_bytes_max, 7);
}
