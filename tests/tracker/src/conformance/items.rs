//! Tests of items that are found again.

use std::collections::BTreeMap;

use gristmill_model::{
    Digest, Disposition, Expiring, Merge, MergePolicy, MergeRule, OnUpdate, Outcome, Rediscovery, State,
};

use super::{Bench, NOW, Open, item};
use gristmill_tracker::Error;
use gristmill_tracker::records::{EventsFilter, Merged, NewItem, Restart, Source, Upsert, Upserted};
use gristmill_tracker::tables::{Cell, TABLES};

pub(super) const UNCHANGED: Upserted = Upserted { new: 0, changed: 0, unchanged: 1 };
pub(super) const CHANGED: Upserted = Upserted { new: 0, changed: 1, unchanged: 0 };

pub(super) fn reprocess() -> Rediscovery {
    Rediscovery { on_update: OnUpdate::Reprocess, ..Rediscovery::default() }
}

fn by_fields(rule: MergeRule) -> Rediscovery {
    let fields = BTreeMap::from([("n".to_owned(), rule)]);
    Rediscovery { merge: Merge::Fields(MergePolicy { fields }), ..Rediscovery::default() }
}

fn by_handler() -> Rediscovery {
    Rediscovery { merge: Merge::Handler, ..Rediscovery::default() }
}

impl Bench {
    pub(super) async fn see(&self, data: &str, rediscovery: &Rediscovery) -> Upserted {
        self.see_all(vec![item("a", data, 0)], rediscovery).await.expect("an upsert")
    }

    pub(super) async fn see_all(&self, items: Vec<NewItem>, rediscovery: &Rediscovery) -> Result<Upserted, Error> {
        let batch = Upsert { rediscovery: rediscovery.clone(), ..self.page(items, None) };
        self.tracker.upsert(batch).await
    }
}

fn merged(data: &str, merged: &str, replaces: &str) -> NewItem {
    let replaces = Digest::of(replaces.as_bytes());
    NewItem { merged: Some(Merged { data: merged.to_owned(), replaces }), ..item("a", data, 0) }
}

pub async fn what_is_found_again_takes_the_place_of_what_was_known(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.see("1", &Rediscovery::default()).await;
    bench.now.0 += 5;
    assert_eq!(bench.see("2", &Rediscovery::default()).await, CHANGED);
    let known = bench.item("a").await;
    assert_eq!((known.data.as_str(), known.row.discovered_at, known.row.changed_at), ("2", NOW, bench.now));
    bench.now.0 += 5;
    assert_eq!(bench.see("2", &Rediscovery::default()).await, UNCHANGED);
    let known = bench.item("a").await;
    assert_eq!((known.row.changed_at.0, known.sightings[0].at.0), (bench.now.0 - 5, bench.now.0 - 5), "no write");
    bench.recount().await;
}

pub async fn fields_are_merged_by_their_rules(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.see(r#"{"n":3,"s":"x"}"#, &by_fields(MergeRule::Max)).await;
    assert_eq!(bench.see(r#"{"s":"y","n":1}"#, &by_fields(MergeRule::Max)).await, CHANGED);
    let text = r#"{"n":3,"s":"y"}"#;
    assert_eq!(bench.item("a").await.data, text);
    let known = bench.tracker.known(bench.job.id, vec!["a".to_owned()]).await.expect("a read").remove(0);
    assert_eq!(known.data_hash, Digest::of(text.as_bytes()), "of what it is now");
    assert_eq!(known.seen_hash, Digest::of(br#"{"s":"y","n":1}"#), "of what was seen last");
    let (_, claim) = bench.claim_one(0).await;
    assert_eq!((claim.data.as_str(), claim.data_hash), (text, known.data_hash));
    bench.recount().await;
}

pub async fn data_that_changes_nothing_is_unchanged_and_yet_a_sighting(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.see(r#"{"n":3}"#, &by_fields(MergeRule::Max)).await;
    bench.now.0 += 5;
    assert_eq!(bench.see(r#"{"n":2}"#, &by_fields(MergeRule::Max)).await, UNCHANGED);
    let known = bench.item("a").await;
    assert_eq!((known.data.as_str(), known.row.changed_at), (r#"{"n":3}"#, NOW));
    assert_eq!(known.sightings.len(), 2);
    let known = bench.tracker.known(bench.job.id, vec!["a".to_owned()]).await.expect("a read").remove(0);
    assert_eq!(known.seen_hash, Digest::of(br#"{"n":2}"#));
    bench.now.0 += 5;
    bench.see(r#"{"n":2}"#, &by_fields(MergeRule::Max)).await;
    assert_eq!(bench.item("a").await.sightings[0].at.0, NOW.0 + 5, "the same again costs no write");
}

pub async fn a_sighting_adds_to_a_sum_once(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    for (seen, sum) in [(1, 1), (2, 3), (1, 3), (2, 3), (4, 7), (1, 7)] {
        bench.see(&format!("{{\"n\":{seen}}}"), &by_fields(MergeRule::Sum)).await;
        assert_eq!(bench.item("a").await.data, format!("{{\"n\":{sum}}}"), "after {seen}");
    }
    // Nothing is remembered without sightings: the same again is added again.
    let forgetful = Rediscovery { sightings_max: 0, ..by_fields(MergeRule::Sum) };
    bench.see(r#"{"n":8}"#, &forgetful).await;
    bench.see(r#"{"n":16}"#, &forgetful).await;
    bench.see(r#"{"n":8}"#, &forgetful).await;
    let known = bench.item("a").await;
    assert_eq!((known.data.as_str(), known.sightings.len()), (r#"{"n":39}"#, 0));
}

pub async fn each_occurrence_of_a_key_in_a_page_is_a_sighting(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    let page = vec![item("a", r#"{"n":1}"#, 0), item("a", r#"{"n":2}"#, 3), item("a", r#"{"n":2}"#, 5)];
    let done = bench.see_all(page, &by_fields(MergeRule::Sum)).await.expect("an upsert");
    assert_eq!(done, Upserted { new: 1, changed: 2, unchanged: 0 });
    let known = bench.item("a").await;
    assert_eq!((known.data.as_str(), known.priority, known.sightings.len()), (r#"{"n":3}"#, 5, 2));
    assert_eq!(bench.states("a").await, [State::Ready], "and there is one item");
    bench.recount().await;
}

pub async fn sightings_say_who_saw_what_when_and_where(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    let source = Source::Page { cursor: Some("page 2".to_owned()), next: None };
    let page = Upsert { source, ..bench.page(vec![item("a", "1", 0)], None) };
    bench.tracker.upsert(page).await.expect("an upsert");
    bench.now.0 += 5;
    let named = Upsert { source: Source::Named("import".to_owned()), ..bench.page(vec![item("a", "2", 0)], None) };
    bench.tracker.upsert(named).await.expect("an upsert");
    let seen: Vec<_> = bench.item("a").await.sightings;
    let seen: Vec<_> = seen.iter().map(|row| (row.source.as_str(), row.cursor.as_deref(), row.at.0)).collect();
    assert_eq!(seen, [("import", None, NOW.0 + 5), ("discover", Some("page 2"), NOW.0)], "the newest first");
    assert_eq!(bench.item("a").await.sightings[0].data_hash, Digest::of(b"2"));
    // The same data from another place: the latest counts.
    bench.now.0 += 5;
    bench.discover(&[("a", "1")]).await;
    let seen = bench.item("a").await.sightings;
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].at, seen[0].cursor.as_deref(), seen[0].data_hash), (bench.now, None, Digest::of(b"1")));
}

pub async fn the_oldest_sightings_are_forgotten(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    let two = Rediscovery { sightings_max: 2, ..Rediscovery::default() };
    for data in ["1", "2", "3", "1"] {
        bench.now.0 += 5;
        bench.see(data, &two).await;
    }
    let seen: Vec<Digest> = bench.item("a").await.sightings.iter().map(|row| row.data_hash).collect();
    assert_eq!(seen, [Digest::of(b"1"), Digest::of(b"3")]);
    // At one time, the smaller hash goes first.
    let same_time: Vec<NewItem> = ["4", "5", "6"].map(|data| item("a", data, 0)).into();
    bench.now.0 += 5;
    bench.see_all(same_time, &two).await.expect("an upsert");
    let mut hashes = ["4", "5", "6"].map(|data| Digest::of(data.as_bytes()));
    hashes.sort();
    let mut seen: Vec<Digest> = bench.item("a").await.sightings.iter().map(|row| row.data_hash).collect();
    seen.sort();
    assert_eq!(seen, hashes[1..]);
    bench.see("7", &Rediscovery { sightings_max: 0, ..Rediscovery::default() }).await;
    assert_eq!(bench.item("a").await.sightings, []);
    bench.recount().await;
}

impl Bench {
    /// The pages that are stored: how many sightings name each, and how long its cursor is.
    async fn pages(&self) -> Vec<(i64, usize)> {
        let table = TABLES.iter().find(|table| table.name == "pages").expect("a table of pages");
        let rows = super::moving::rows(self.tracker.as_ref(), table).await;
        let page = |row: gristmill_tracker::tables::Row| match (&row[3], &row[5]) {
            (Cell::Int(named), Cell::Text(cursor)) => (*named, cursor.len()),
            (Cell::Int(named), Cell::Null) => (*named, 0),
            other => panic!("{other:?}"),
        };
        rows.into_iter().map(page).collect()
    }

    /// Finds items on a page of their own.
    async fn find(&self, found: &[(&str, &str)], cursor: &str, sightings_max: u32) {
        let items = found.iter().map(|(key, data)| item(key, data, 0)).collect();
        let source = Source::Page { cursor: Some(cursor.to_owned()), next: None };
        let rediscovery = Rediscovery { sightings_max, ..Rediscovery::default() };
        let batch = Upsert { source, rediscovery, ..self.page(items, None) };
        self.tracker.upsert(batch).await.expect("an upsert");
    }
}

pub async fn a_long_cursor_is_stored_once_a_page(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    let (long, longer) = ("c".repeat(200_000), "d".repeat(1 << 20));
    let keys: Vec<String> = (0..50).map(|number| format!("item-{number}")).collect();
    let page = |data: &'static str| keys.iter().map(|key| (key.as_str(), data)).collect::<Vec<_>>();
    bench.find(&page("1"), &long, 2).await;
    assert_eq!(bench.pages().await, [(50, 200_000)]);
    assert_eq!(bench.item("item-49").await.sightings[0].cursor.as_ref(), Some(&long));
    bench.find(&page("1"), &longer, 2).await;
    assert_eq!(bench.pages().await, [(50, 200_000)], "nothing new was seen on it");
    bench.find(&page("2")[..1], &longer, 2).await;
    assert_eq!(bench.pages().await, [(50, 200_000), (1, 1 << 20)]);
    let seen = bench.item("item-0").await.sightings;
    let cursors: Vec<_> = seen.iter().map(|seen| seen.cursor.as_deref().map(str::len)).collect();
    assert_eq!(cursors, [Some(1 << 20), Some(200_000)], "the newest first");
    bench.recount().await;
}

pub async fn a_page_goes_with_the_last_sighting_that_names_it(open: Open<'_>) {
    let mut bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.find(&[("a", "1"), ("b", "1"), ("c", "1")], "first", 2).await;
    bench.find(&[("a", "2"), ("b", "2")], "second", 2).await;
    assert_eq!(bench.pages().await, [(3, 5), (2, 6)]);
    // Seen so again: it was last seen there.
    bench.find(&[("a", "1"), ("b", "1")], "third", 2).await;
    assert_eq!(bench.pages().await, [(1, 5), (2, 6), (2, 5)]);
    // The oldest is forgotten, and its page with the second of its two.
    bench.find(&[("a", "3")], "4", 2).await;
    assert_eq!(bench.pages().await, [(1, 5), (1, 6), (2, 5), (1, 1)]);
    bench.find(&[("b", "3"), ("b", "4"), ("b", "5")], "5", 2).await;
    assert_eq!(bench.pages().await, [(1, 5), (1, 5), (1, 1), (2, 1)]);
    bench.recount().await;
    // Nothing is remembered any more.
    bench.find(&[("b", "6")], "6", 0).await;
    assert_eq!(bench.pages().await, [(1, 5), (1, 5), (1, 1)]);
    // Nor of an item that is gone.
    bench.cancel(&["a", "c"], false).await;
    bench.find(&[("last", "1")], "7", 2).await;
    bench.now.0 += 1000;
    assert_eq!(bench.prune_all(Expiring::Items, bench.now).await, 2);
    assert_eq!(bench.pages().await, [(1, 1)], "what is left names the last page alone");
    bench.recount().await;
    // What was counted wrongly, or is counted anew, is as it was.
    bench.tracker.retire_host(bench.host, bench.now).await.expect("an end");
    bench.now.0 += 3_600_000_000;
    bench.tracker.rebuild(bench.now).await.expect("a rebuilding");
    assert_eq!(bench.pages().await, [(1, 1)]);
}

pub async fn a_component_merges_what_it_was_shown(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    let new = NewItem { merged: None, ..item("a", "1", 0) };
    assert_eq!(bench.see_all(vec![new], &by_handler()).await.expect("an upsert").new, 1);
    assert_eq!(bench.see_all(vec![merged("2", "12", "1")], &by_handler()).await.expect("an upsert"), CHANGED);
    assert_eq!(bench.item("a").await.data, "12");
    assert_eq!(bench.see_all(vec![merged("3", "12", "12")], &by_handler()).await.expect("an upsert"), UNCHANGED);
    let known = bench.tracker.known(bench.job.id, vec!["a".to_owned()]).await.expect("a read").remove(0);
    assert_eq!((known.data_hash, known.seen_hash), (Digest::of(b"12"), Digest::of(b"3")));
    // What it was seen with last needs no merging, and nothing is compared.
    assert_eq!(bench.see("3", &by_handler()).await, UNCHANGED);
    bench.recount().await;
}

pub async fn a_merge_that_was_overtaken_refuses_the_whole_page(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.see("1", &by_handler()).await;
    for late in [merged("3", "13", "2"), item("a", "3", 0)] {
        let page = Upsert {
            rediscovery: by_handler(),
            ..bench.page(vec![item("new", "1", 0), late, item("newer", "1", 0)], Some("page 2"))
        };
        match bench.tracker.upsert(page).await {
            Err(Error::Overtaken(key)) => assert_eq!(key, "a"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.item("a").await.data, "1");
    assert_eq!(bench.item("a").await.sightings.len(), 1);
    assert!(bench.tracker.item(bench.job.id, "new").await.expect("a read").is_none(), "nothing of it was written");
    bench.recount().await;
    drop(bench);
    assert_eq!(Bench::new(open, &[("fetch", &[])]).await.job.cursor, None, "nor its cursor");
}

pub async fn what_is_known_is_told_by_key(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.discover(&[("a", "1"), ("b", "2")]).await;
    let keys = ["b", "c"].map(str::to_owned).to_vec();
    let known = bench.tracker.known(bench.job.id, keys.clone()).await.expect("a read");
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].key.as_str(), known[0].data.as_str()), ("b", "2"));
    assert_eq!((known[0].data_hash, known[0].seen_hash), (Digest::of(b"2"), Digest::of(b"2")));
    let other = gristmill_model::JobId(bench.job.id.0 + 1);
    assert_eq!(bench.tracker.known(other, keys).await.expect("a read"), []);
    assert_eq!(bench.tracker.known(bench.job.id, Vec::new()).await.expect("a read"), []);
}

pub async fn somebody_else_leaves_the_cursor_where_it_is(open: Open<'_>) {
    {
        let bench = Bench::new(open, &[("fetch", &[])]).await;
        bench.upsert(vec![item("a", "1", 0)], Some("page 2")).await;
        let named = Upsert { source: Source::Named("import".to_owned()), ..bench.page(vec![item("b", "1", 0)], None) };
        assert_eq!(bench.tracker.upsert(named).await.expect("an upsert").new, 1);
    }
    assert_eq!(Bench::new(open, &[("fetch", &[])]).await.job.cursor.as_deref(), Some("page 2"));
}

pub async fn another_priority_alone_is_a_change_and_moves_what_waits_in_line(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[]), ("extract", &[0])]).await;
    let found = |key, data, priority| bench.upsert(vec![item(key, data, priority)], None);
    bench.upsert(vec![item("a", "1", 0), item("b", "1", 0), item("c", "1", 0)], None).await;
    assert_eq!(found("b", "1", 9).await, CHANGED);
    assert_eq!(found("b", "1", 9).await, UNCHANGED);
    assert_eq!(bench.item("b").await.priority, 9);
    assert_eq!(bench.done(0).await.item_key, "b");
    let (fence, claim) = bench.claim_one(0).await;
    assert_eq!(claim.item_key, "a");
    // Of what is leased, too: it stands there when it is given back; and of what waits.
    assert_eq!(found("a", "1", -3).await, CHANGED);
    let release = gristmill_tracker::records::Release { fence, keys: vec![claim.key] };
    bench.tracker.release(vec![release]).await.expect("a release");
    let claim = bench.pass(0, Outcome::Retry, Disposition::Wait(std::time::Duration::ZERO)).await;
    assert_eq!(claim.item_key, "c");
    assert_eq!(found("c", "2", -6).await, CHANGED, "with other data as well");
    bench.tracker.promote(NOW, 9).await.expect("a promotion");
    assert_eq!(bench.done(0).await.item_key, "a");
    assert_eq!(bench.done(0).await.item_key, "c");
    assert_eq!(
        bench.claim(1, 3, 3).await[0].claims.iter().map(|claim| claim.item_key.as_str()).collect::<Vec<_>>(),
        ["b", "a", "c"]
    );
    bench.recount().await;
}

pub async fn discovery_begins_again_at_its_first_page_if_a_person_says_so(open: Open<'_>) {
    let bench = Bench::new(open, &[("fetch", &[])]).await;
    bench.upsert(vec![item("a", "1", 0)], Some("page-2")).await;
    let restart = Restart { job: bench.job.id, actor: "ann".to_owned(), why: "lost".to_owned(), now: NOW };
    let was = async || bench.tracker.restart_discovery(restart.clone()).await.expect("a restart");
    assert_eq!(was().await.as_deref(), Some("page-2"));
    assert_eq!(was().await, None, "it begins there already");
    let filter = EventsFilter { job: Some(bench.job.id), kind: Some("discovery.".to_owned()), limit: 9 };
    let events = bench.tracker.events(filter).await.expect("events");
    let told: Vec<&str> = events.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(told, [r#"{"actor":"ann","cursor":"page-2","why":"lost"}"#]);
    drop(bench);
    let again = Bench::new(open, &[("fetch", &[])]).await;
    assert_eq!(again.job.cursor, None);
}
