//! The DAG over *all* small cases: every DAG of three stages, every combination of masks.

use super::*;

const STAGES: u8 = 3;

/// Every DAG over three stages in which a stage needs only earlier ones, with every choice of needed outputs.
fn small_dags() -> Vec<Dag> {
    let mut dags = Vec::new();
    for edges in 0..8u64 {
        for outputs in 0..8u64 {
            if outputs & !edges != 0 {
                continue;
            }
            let needs = |mask: u64| [0, mask & 1, mask >> 1 & 3];
            let mut dag = Dag::default();
            for bit in 0..STAGES {
                dag.add(StageBit(bit), needs(edges)[usize::from(bit)], needs(outputs)[usize::from(bit)]);
            }
            dags.push(dag);
        }
    }
    dags
}

/// Every combination of masks that the tracker can store for three stages.
fn small_masks() -> Vec<Masks> {
    let mut all = Vec::new();
    for packed in 0..1u64 << (5 * u64::from(STAGES)) {
        let field = |place: u32| packed >> (place * u32::from(STAGES)) & 7;
        let masks = Masks { done: field(0), skipped: field(1), dead: field(2), live: field(3), stale: field(4) };
        let possible = masks.done & masks.skipped == 0
            && masks.dead & masks.live == 0
            && masks.stale & !(masks.done | masks.skipped) == 0;
        if possible {
            all.push(masks);
        }
    }
    all
}

#[test]
fn a_stage_runs_only_when_its_needs_are_usable_and_it_is_open() {
    let masks = small_masks();
    let mut runnable_seen = 0u32;
    for dag in small_dags() {
        for &m in &masks {
            let runnable = dag.runnable(m);
            for bit in 0..STAGES {
                let one = 1u64 << bit;
                let open = m.fresh() & one == 0 && m.dead & one == 0 && m.live & one == 0;
                let usable = Bits(dag.needs[usize::from(bit)]).all(|need| {
                    let need_bit = need.mask();
                    let settled = (m.done | m.skipped) & need_bit != 0;
                    let quiet = (m.stale | m.live) & need_bit == 0;
                    let output = dag.needs_output[usize::from(bit)] & need_bit == 0 || m.skipped & need_bit == 0;
                    settled && quiet && output
                });
                assert_eq!(runnable & one != 0, open && usable, "{dag:?} {m:?} stage {bit}");
                runnable_seen += u32::from(runnable & one != 0);
            }
        }
    }
    assert!(runnable_seen > 1000, "the cases cover something: {runnable_seen}");
}

#[test]
fn an_item_can_always_go_on_until_it_is_done_or_failed() {
    // Run every small DAG to its end, in every order of outcomes (done, skipped, dead): no item gets stuck.
    for dag in small_dags() {
        let mut open = vec![Masks::default()];
        while let Some(mut masks) = open.pop() {
            masks.skipped |= dag.skipped_through(masks);
            let runnable = dag.runnable(masks);
            if runnable == 0 {
                let status = ItemStatus::of(masks, dag.all(), false);
                assert!(matches!(status, ItemStatus::Done | ItemStatus::Failed), "{dag:?} {masks:?} is {status:?}");
                continue;
            }
            for bit in Bits(runnable) {
                open.push(Masks { done: masks.done | bit.mask(), ..masks });
                open.push(Masks { skipped: masks.skipped | bit.mask(), ..masks });
                open.push(Masks { dead: masks.dead | bit.mask(), ..masks });
            }
        }
    }
}

#[test]
fn a_settled_stage_can_only_release_its_dependents() {
    for dag in small_dags() {
        for masks in small_masks() {
            for bit in Bits(dag.all() & !masks.fresh() & !masks.dead) {
                let before = Masks { live: masks.live | bit.mask(), ..masks };
                let mut after = before;
                after.live &= !bit.mask();
                after.stale &= !bit.mask();
                after.done |= bit.mask();
                after.skipped &= !bit.mask();
                let released = dag.runnable(after) & !dag.runnable(before);
                assert_eq!(released & !dag.dependents(bit), 0, "{dag:?} {before:?} {bit:?}");
            }
        }
    }
}

#[test]
fn a_dead_stage_blocks_its_descendants_only() {
    let mut dag = Dag::default();
    dag.add(StageBit(0), 0, 0);
    dag.add(StageBit(1), 1, 0);
    dag.add(StageBit(2), 1, 0);
    dag.add(StageBit(3), 0b010, 0);
    let masks = Masks { done: 0b0001, dead: 0b0010, ..Masks::default() };
    assert_eq!(dag.runnable(masks), 0b0100);
}

#[test]
fn a_skipped_stage_satisfies_dependents_unless_they_need_its_output() {
    let mut dag = Dag::default();
    dag.add(StageBit(0), 0, 0);
    dag.add(StageBit(1), 1, 0);
    dag.add(StageBit(2), 0, 1);
    dag.add(StageBit(3), 0, 0b100);
    let masks = Masks { skipped: 1, ..Masks::default() };
    assert_eq!(dag.runnable(masks), 0b0010);
    assert_eq!(dag.skipped_through(masks), 0b1100);
}

#[test]
fn cycles_are_found_and_named_in_order() {
    assert_eq!(find_cycle(&[vec![], vec![0], vec![0, 1]]), None);
    assert_eq!(find_cycle(&[vec![0]]), Some(vec![0, 0]));
    assert_eq!(find_cycle(&[vec![], vec![3], vec![1], vec![2]]), Some(vec![1, 3, 2, 1]));
}
