//! New data makes results run again.

use gristmill_model::{DeadReason, Digest, Disposition, ItemStatus, Outcome, Rediscovery, State};

use super::items::{CHANGED, reprocess};
use super::{Bench, NOW, Open};

pub async fn new_data_leaves_results_alone_unless_told_otherwise(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    assert_eq!(bench.see("2", &Rediscovery::default()).await, CHANGED);
    assert_eq!(bench.states("a").await, [State::Done]);
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Done);
    bench.recount().await;
}

pub async fn new_data_reprocesses_the_roots_and_what_changes_with_them(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("note", &[]), ("extract", &[0]), ("index", &[2])]).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    bench.pass(1, Outcome::Skipped, Disposition::Skipped).await;
    bench.done(2).await;
    bench.done(3).await;
    assert_eq!(bench.see("2", &reprocess()).await, CHANGED);
    assert_eq!(bench.states("a").await, [State::Ready, State::Ready, State::Done, State::Done]);
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Active);
    assert!(bench.item("a").await.stages[0].output.is_some(), "the old result stays until there is a new one");
    bench.recount().await;
    // The same output as before: nothing after it runs again.
    let claim = bench.done(0).await;
    assert_eq!(claim.data, "2");
    assert_eq!(bench.states("a").await, [State::Done, State::Ready, State::Done, State::Done]);
    let attempts = bench.item("a").await.stages.remove(0).attempts;
    assert_eq!(attempts.len(), 2, "it goes on with its history");
    bench.pass(1, Outcome::Skipped, Disposition::Skipped).await;
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Done);
    bench.recount().await;
    // Another output: what was made from it is made again, and so on.
    assert_eq!(bench.see("3", &reprocess()).await, CHANGED);
    settle_otherwise(&bench, 0, "other").await;
    assert_eq!(bench.states("a").await, [State::Done, State::Ready, State::Ready, State::Done]);
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Active);
    bench.recount().await;
    let claim = settle_otherwise(&bench, 2, "another").await;
    assert_eq!(claim.upstream[0].output.text, "\"other\"");
    assert_eq!(bench.states("a").await, [State::Done, State::Ready, State::Done, State::Ready]);
    bench.recount().await;
}

async fn settle_otherwise(bench: &Bench, place: usize, output: &str) -> gristmill_tracker::records::Claim {
    let (fence, claim) = bench.claim_one(place).await;
    let text = format!("\"{output}\"");
    let hash = Digest::of(text.as_bytes());
    let mut completion = bench.completion(&claim, Outcome::Done, Disposition::Done);
    completion.output = Some(gristmill_tracker::records::Output { text, hash });
    assert_eq!(bench.settle(fence, vec![completion]).await.applied, 1);
    claim
}

pub async fn a_result_that_becomes_skipped_takes_along_who_needs_its_output(open: Open<'_>) {
    use gristmill_model::Need;
    let need = |stage, output| vec![Need { stage, output }];
    let stages = vec![
        super::stage("fetch", vec![]),
        super::stage("extract", need(0, true)),
        super::stage("index", need(1, true)),
        super::stage("note", need(1, false)),
    ];
    let bench = Bench::with(open(), stages).await;
    bench.discover(&[("a", "1")]).await;
    for place in 0..4 {
        bench.done(place).await;
    }
    bench.see("2", &reprocess()).await;
    let done = bench.pass(0, Outcome::Skipped, Disposition::Skipped).await;
    assert_eq!(done.counters, gristmill_model::Counters::default());
    // The extract cannot be redone, nor what needs it; the note can do without.
    assert_eq!(bench.states("a").await, [State::Skipped, State::Skipped, State::Skipped, State::Ready]);
    let extract = bench.item("a").await.stages.remove(1);
    assert_eq!((extract.output, extract.attempts.len()), (None, 1), "its history stays");
    bench.recount().await;
    bench.done(3).await;
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Done);
    // And back: with an output, all of them run again.
    bench.see("3", &reprocess()).await;
    for place in 0..4 {
        bench.done(place).await;
    }
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Done);
    bench.recount().await;
}

pub async fn what_stays_skipped_does_not_become_stale(open: Open<'_>) {
    use gristmill_model::Need;
    let stages = vec![
        super::stage("fetch", vec![]),
        super::stage("price", vec![]),
        super::stage("report", vec![Need { stage: 0, output: true }, Need { stage: 1, output: false }]),
    ];
    let bench = Bench::with(open(), stages).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(1).await;
    bench.pass(0, Outcome::Skipped, Disposition::Skipped).await;
    bench.see("2", &reprocess()).await;
    bench.pass(0, Outcome::Skipped, Disposition::Skipped).await;
    settle_otherwise(&bench, 1, "another price").await;
    assert_eq!(bench.states("a").await, [State::Skipped, State::Done, State::Skipped]);
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Done, "the report could not be redone");
    bench.recount().await;
}

pub async fn new_data_takes_up_dead_roots_and_runs_leased_ones_once_more(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("note", &[]), ("extract", &[1])]).await;
    bench.discover(&[("a", "1")]).await;
    bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    let (fence, claim) = bench.claim_one(1).await;
    assert_eq!(bench.see("2", &reprocess()).await, CHANGED);
    assert_eq!(bench.states("a").await, [State::Ready, State::Leased, State::Blocked]);
    bench.recount().await;
    bench.settle(fence, vec![bench.completion(&claim, Outcome::Done, Disposition::Done)]).await;
    assert_eq!(
        bench.states("a").await,
        [State::Ready, State::Ready, State::Blocked],
        "it ran on what was known before"
    );
    assert!(bench.item("a").await.stages[1].output.is_some(), "its result is kept until the next one");
    bench.recount().await;
    assert_eq!(bench.done(0).await.data, "2");
    let again = bench.done(1).await;
    assert_eq!((again.data.as_str(), again.counters.attempts), ("2", 0), "it starts anew");
    assert_eq!(bench.item("a").await.stages[1].attempts.len(), 2, "and goes on with its history");
    assert_eq!(bench.item("a").await.stages[0].attempts.len(), 2);
    bench.done(2).await;
    assert_eq!(bench.item("a").await.row.status, ItemStatus::Done);
    bench.recount().await;
}

pub async fn what_dies_of_data_that_is_no_longer_so_is_tried_again(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("extract", &[0])]).await;
    bench.discover(&[("a", "1")]).await;
    for data in ["2", "3"] {
        let (fence, claim) = bench.claim_one(0).await;
        assert_eq!(bench.see(data, &reprocess()).await, CHANGED);
        let died = Disposition::Dead(DeadReason::Permanent);
        bench.settle(fence, vec![bench.completion(&claim, Outcome::Permanent, died)]).await;
        assert_eq!(bench.states("a").await, [State::Ready, State::Blocked]);
        bench.recount().await;
    }
    assert_eq!(bench.done(0).await.data, "3");
    assert_eq!(bench.item("a").await.stages[0].attempts.len(), 3);
    // An older result stands again, and is redone.
    assert_eq!(bench.see("4", &reprocess()).await, CHANGED);
    let (fence, claim) = bench.claim_one(0).await;
    assert_eq!(bench.see("5", &reprocess()).await, CHANGED);
    let died = Disposition::Dead(DeadReason::Permanent);
    bench.settle(fence, vec![bench.completion(&claim, Outcome::Permanent, died)]).await;
    assert_eq!(bench.item("a").await.row.masks.dead, 0);
    assert!(bench.item("a").await.stages[0].output.is_some());
    bench.recount().await;
}

pub async fn what_is_given_back_or_postponed_takes_the_new_data_and_runs_once(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1")]).await;
    let (fence, claim) = bench.claim_one(0).await;
    assert_eq!(bench.see("2", &reprocess()).await, CHANGED);
    let release = gristmill_tracker::records::Release { fence, keys: vec![claim.key] };
    assert_eq!(bench.tracker.release(vec![release]).await.expect("a release"), 1);
    let (fence, claim) = bench.claim_one(0).await;
    assert_eq!(claim.data, "2");
    assert_eq!(bench.see("3", &reprocess()).await, CHANGED);
    let wait = Disposition::Wait(std::time::Duration::ZERO);
    bench.settle(fence, vec![bench.completion(&claim, Outcome::Retry, wait)]).await;
    bench.tracker.promote(NOW, 9).await.expect("a promotion");
    assert_eq!(bench.done(0).await.data, "3");
    assert_eq!(bench.states("a").await, [State::Done]);
    bench.recount().await;
}

pub async fn another_output_reaches_what_is_running_on_the_older_one(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("extract", &[0])]).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    let (fence, claim) = bench.claim_one(1).await;
    assert_eq!(bench.see("2", &reprocess()).await, CHANGED);
    settle_otherwise(&bench, 0, "other").await;
    assert_eq!(bench.states("a").await, [State::Done, State::Leased]);
    bench.settle(fence, vec![bench.completion(&claim, Outcome::Done, Disposition::Done)]).await;
    assert_eq!(bench.states("a").await, [State::Done, State::Ready], "it ran on the output before");
    let (fence, claim) = bench.claim_one(1).await;
    assert_eq!(claim.upstream[0].output.text, "\"other\"");
    // Both are settled in one round: the order counts.
    assert_eq!(bench.see("3", &reprocess()).await, CHANGED);
    let (other_fence, other) = bench.claim_one(0).await;
    let done = |claim| bench.completion(claim, Outcome::Done, Disposition::Done);
    let settlements = [(other_fence, &other), (fence, &claim)]
        .map(|(fence, claim)| gristmill_tracker::records::Settlement { fence, completions: vec![done(claim)] });
    assert_eq!(bench.round(settlements.into(), Vec::new()).await.applied, 2);
    assert_eq!(bench.states("a").await, [State::Done, State::Ready]);
    bench.recount().await;
}

pub async fn a_redone_result_that_dies_is_dead_and_keeps_its_old_output(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("extract", &[0])]).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    bench.done(1).await;
    bench.see("2", &reprocess()).await;
    bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    let known = bench.item("a").await;
    assert_eq!((known.row.status, known.stages[0].state), (ItemStatus::Failed, State::Dead));
    assert!(known.stages[0].output.is_some());
    assert_eq!(known.stages[1].state, State::Done, "what was made from it stays");
    bench.recount().await;
}

pub async fn what_waited_for_a_result_that_dies_when_it_is_redone_does_not_run(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("extract", &[0]), ("index", &[0])]).await;
    bench.discover(&[("a", "1")]).await;
    bench.done(0).await;
    let (fence, running) = bench.claim_one(1).await;
    bench.see("2", &reprocess()).await;
    bench.pass(0, Outcome::Permanent, Disposition::Dead(DeadReason::Permanent)).await;
    assert_eq!(bench.states("a").await, [State::Dead, State::Leased, State::Blocked], "what is running is let finish");
    assert!(bench.claim(2, 9, 9).await.is_empty(), "it would be given no output");
    bench.recount().await;
    let wait = Disposition::Wait(std::time::Duration::ZERO);
    bench.settle(fence, vec![bench.completion(&running, Outcome::Retry, wait)]).await;
    assert_eq!(bench.states("a").await, [State::Dead, State::Blocked, State::Blocked]);
    bench.recount().await;
}
