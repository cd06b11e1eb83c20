//! The data folder: large outputs, backups, commands beside a host, places that cannot be written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gristmill_model::{DeadReason, Digest, Disposition, ItemId, Outcome, State, Timestamp};
use rusqlite::Connection;

use super::super::blobs::INLINE_BYTES_MAX;
use super::super::open::open_immutable;
use super::{Folder, open};
use gristmill_test_tracker::Location;
use gristmill_test_tracker::conformance::{Bench, NOW, block_on};
use gristmill_tracker::records::{Cancel, Claim, EventsFilter, NewEvent, Output, Round, Settlement};
use gristmill_tracker::{Error, Operating, Upkeep};

use crate::{SqliteOptions, SqliteReader, SqliteTracker, backup, restore};

fn large(filling: &str) -> Output {
    let text = format!("\"{}\"", filling.repeat(INLINE_BYTES_MAX));
    Output { hash: Digest::of(text.as_bytes()), text }
}

/// A tracker whose one item has a large output, and a second stage that is ready.
async fn with_large_output(place: &Folder) -> Bench {
    let bench = Bench::new(&|| place.open(), &[("fetch", &[]), ("extract", &[0])]).await;
    bench.discover(&[("a", "1")]).await;
    let (fence, claim) = bench.claim_one(0).await;
    let mut completion = bench.completion(&claim, Outcome::Done, Disposition::Done);
    completion.output = Some(large("x"));
    bench.settle(fence, vec![completion]).await;
    bench
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files.extend(self::files(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

fn blobs(place: &Folder) -> Vec<PathBuf> {
    files(&place.path().join("blobs"))
}

#[test]
fn a_large_output_is_a_file_and_is_verified_when_it_is_read() {
    let place = Folder::new();
    block_on(async {
        let bench = with_large_output(&place).await;
        let [file] = &blobs(&place)[..] else { panic!("one file") };
        assert!(file.ends_with(large("x").hash.to_string()));
        assert_eq!(bench.item("a").await.stages[0].output, Some(large("x").text));
        let results = bench.tracker.results(bench.stage(0), ItemId(0), 9).await.expect("results");
        assert_eq!(results[0].output, large("x").text);
        std::fs::write(file, "\"y\"").expect("a change");
        let results = bench.tracker.results(bench.stage(0), ItemId(0), 9).await;
        assert!(matches!(results, Err(Error::Blob(hash)) if hash == large("x").hash));
        let examination = bench.tracker.examine().await.expect("an examination");
        assert_eq!((examination.blobs, examination.differences.len()), (1, 1));
        std::fs::write(file, large("x").text).expect("a change");
        assert_eq!(bench.claim_one(1).await.1.upstream[0].output, large("x"));
        bench.recount().await;
    });
}

#[test]
fn a_sweep_removes_old_blobs_that_no_result_names() {
    let place = Folder::new();
    block_on(async {
        drop(with_large_output(&place).await);
        let tracker = open(&place).expect("a tracker");
        let kept = blobs(&place);
        let folder = place.path().join("blobs/aa");
        std::fs::create_dir_all(&folder).expect("a folder");
        for name in [format!("aa{}", "0".repeat(62)), "unfinished.tmp".to_owned(), "notes.txt".to_owned()] {
            std::fs::write(folder.join(name), "12345").expect("a file");
        }
        let swept = tracker.sweep(0, 100, NOW).await.expect("a sweep");
        assert_eq!((swept.removed, swept.next), (0, None), "a young one may be on its way");
        let swept = tracker.sweep(0, 1, Timestamp(i64::MAX)).await.expect("a sweep");
        assert!(swept.next.is_some(), "it is bounded: {swept:?}");
        let swept = tracker.sweep(0, 100, Timestamp(i64::MAX)).await.expect("a sweep");
        assert!(swept.removed <= 2 && swept.next.is_none(), "{swept:?}");
        let mut left = kept;
        left.push(folder.join("notes.txt"));
        left.sort();
        assert_eq!(blobs(&place), left, "what is named, and what is not ours");
    });
}

#[test]
fn a_backup_beside_a_running_host_is_whole_and_is_restored() {
    let (place, copies, elsewhere) = (Folder::new(), Folder::new(), Folder::new());
    let target = copies.path().join("copy");
    block_on(async {
        let bench = with_large_output(&place).await;
        backup(place.path(), &target).expect("a backup");
        assert!(matches!(backup(place.path(), &target), Err(Error::NotEmpty(_))));
        bench.done(1).await;
    });
    restore(&target, elsewhere.path()).expect("a restored tracker");
    assert!(matches!(restore(&target, elsewhere.path()), Err(Error::NotEmpty(_))));
    block_on(async {
        let bench = Bench::new(&|| elsewhere.open(), &[("fetch", &[]), ("extract", &[0])]).await;
        assert_eq!(bench.states("a").await, [State::Done, State::Ready], "as it was at that moment");
        assert_eq!(bench.item("a").await.stages[0].output, Some(large("x").text));
        bench.done(1).await;
        bench.recount().await;
    });
}

#[test]
fn a_backup_that_lacks_a_blob_is_neither_made_nor_restored() {
    let (place, copies, elsewhere) = (Folder::new(), Folder::new(), Folder::new());
    block_on(async { drop(with_large_output(&place).await) });
    let target = copies.path().join("copy");
    backup(place.path(), &target).expect("a backup");
    for file in files(&target.join("blobs")).iter().chain(&blobs(&place)) {
        std::fs::remove_file(file).expect("a removal");
    }
    assert!(matches!(restore(&target, elsewhere.path()), Err(Error::Blob(_))));
    let target = copies.path().join("another");
    assert!(matches!(backup(place.path(), &target), Err(Error::Blob(_))));
    assert!(matches!(SqliteReader::open(&target), Err(Error::Missing(_))), "half a copy is not taken for a whole one");
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let (place, copies, elsewhere) = (Folder::new(), Folder::new(), Folder::new());
    block_on(async { drop(with_large_output(&place).await) });
    let target = copies.path().join("copy");
    backup(place.path(), &target).expect("a backup");
    let file = target.join("tracker.db");
    let mut bytes = std::fs::read(&file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[4096 * 3..middle].fill(0xa5);
    std::fs::write(&file, bytes).expect("a change");
    assert!(restore(&target, elsewhere.path()).is_err());
    assert_eq!(std::fs::read_dir(elsewhere.path()).expect("a folder").count(), 0, "nothing was made");
}

#[test]
fn a_command_writes_beside_a_host_which_notices() {
    let place = Folder::new();
    block_on(async {
        let host = Bench::new(&|| place.open(), &[("fetch", &[])]).await;
        host.discover(&[("a", "1"), ("b", "1")]).await;
        let command = SqliteTracker::open_beside(place.path(), SqliteOptions::default(), NOW).expect("a tracker");
        let cancel = Cancel {
            job: host.job.id,
            keys: vec!["a".to_owned()],
            undo: false,
            actor: "tester".to_owned(),
            why: "a test".to_owned(),
            now: NOW,
        };
        assert_eq!(command.cancel(cancel).await.expect("a cancellation").changed, 1, "it never registered the job");
        host.tracker.changed_elsewhere().await.expect("a change");
        let own = NewEvent { kind: "a.test".to_owned(), job: None, data: "{}".to_owned(), now: NOW };
        host.tracker.record_event(own).await.expect("an event");
        let nothing = tokio::time::timeout(Duration::from_millis(1200), host.tracker.changed_elsewhere()).await;
        assert!(nothing.is_err(), "what the host wrote itself is no news");
        assert_eq!(host.claim(0, 9, 9).await[0].claims[0].item_key, "b");
        assert!(matches!(command.rebuild(NOW).await, Err(Error::InUse(_))), "a host is at work");
        assert_eq!(host.tracker.examine().await.expect("an examination").differences, []);
    });
}

#[test]
fn an_idle_look_writes_nothing() {
    let place = Folder::new();
    block_on(async {
        let bench = Bench::new(&|| place.open(), &[("fetch", &[])]).await;
        let log = || std::fs::metadata(place.path().join("tracker.db-wal")).expect("the log").len();
        let before = log();
        for _ in 0..3 {
            assert!(bench.claim(0, 9, 9).await.is_empty());
            assert_eq!(bench.tracker.promote(NOW, 9).await.expect("a promotion"), 0);
        }
        assert_eq!(log(), before);
    });
}

#[test]
fn a_failing_round_among_others_fails_alone() {
    let place = Folder::new();
    block_on(async {
        let bench = Bench::new(&|| place.open(), &[("fetch", &[])]).await;
        bench.discover(&[("a", "1"), ("b", "1")]).await;
        let mut rounds = Vec::new();
        for _ in 0..2 {
            let (fence, claim) = bench.claim_one(0).await;
            let mut completion = bench.completion(&claim, Outcome::Done, Disposition::Done);
            completion.output = Some(large(&claim.item_key));
            let settlements = vec![Settlement { fence, completions: vec![completion] }];
            rounds.push(Round { host: bench.host, now: NOW, settlements, claims: Vec::new() });
        }
        // The blob of the second cannot be written: a file is where its folder should be.
        let hash = large("b").hash.to_string();
        std::fs::create_dir_all(place.path().join("blobs")).expect("a folder");
        std::fs::write(place.path().join("blobs").join(&hash[..2]), "").expect("a file");
        let [first, second] = [rounds.remove(0), rounds.remove(0)];
        let idle = Round { host: bench.host, now: NOW, settlements: Vec::new(), claims: Vec::new() };
        let (first, failed, third) = tokio::join!(
            bench.tracker.round(first.into()),
            bench.tracker.round(second.clone().into()),
            bench.tracker.round(idle.into())
        );
        assert_eq!(first.expect("good").applied, 1);
        assert!(matches!(failed, Err(Error::File { .. })));
        third.expect("good");
        assert_eq!((bench.states("a").await, bench.states("b").await), (vec![State::Done], vec![State::Leased]));
        std::fs::remove_file(place.path().join("blobs").join(&hash[..2])).expect("a removal");
        assert_eq!(bench.tracker.round(second.into()).await.expect("good").applied, 1, "it is settled when it can be");
        bench.recount().await;
    });
}

#[test]
fn a_file_that_nobody_can_write_is_read_as_it_is() {
    let place = Folder::new();
    block_on(async { drop(with_large_output(&place).await) });
    let odd = place.path().join("a 100% odd?name#");
    std::fs::create_dir_all(&odd).expect("a folder");
    let copy = odd.join("tracker.db");
    std::fs::copy(place.path().join("tracker.db"), &copy).expect("a copy");
    let connection = open_immutable(&copy).expect("a connection");
    let jobs: i64 = connection.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0)).expect("a read");
    assert_eq!(jobs, 1);
    assert_eq!(std::fs::read_dir(&odd).expect("a folder").count(), 1, "it makes no files");
}

#[test]
fn what_cannot_be_made_is_named() {
    let place = Folder::new();
    std::fs::write(place.path().join("file"), "").expect("a file");
    let error = SqliteTracker::open(&place.path().join("file/data"), SqliteOptions::default(), NOW).err();
    let text = error.expect("an error").to_string();
    assert!(text.starts_with("cannot make ") && text.contains("file/data: "), "{text}");
}

#[test]
fn a_link_among_blobs_is_not_followed() {
    let place = Folder::new();
    let outside = tempfile::tempdir().expect("a folder");
    let old = outside.path().join("0.tmp");
    block_on(async {
        let bench = with_large_output(&place).await;
        let blob = blobs(&place).remove(0);
        let folder = blob.parent().expect("a folder").to_owned();
        assert_eq!(modes(&[&place.path().join("blobs"), &folder, &blob]), [0o700, 0o700, 0o600]);
        let moved = outside.path().join("blob");
        std::fs::rename(&blob, &moved).expect("a move");
        std::os::unix::fs::symlink(&moved, &blob).expect("a link");
        assert!(matches!(bench.tracker.item(bench.job.id, "a").await, Err(Error::Blob(_))), "a link to the very blob");
        std::fs::remove_dir_all(&folder).expect("a change");
        std::fs::write(&old, "precious").expect("a file");
        std::os::unix::fs::symlink(outside.path(), &folder).expect("a link");
    });
    let tracker = open(&place).expect("a tracker");
    let far = Timestamp(i64::MAX);
    assert!(block_on(tracker.sweep(0, 1000, far)).is_err(), "a folder that is a link is not swept");
    assert!(old.exists());
}

fn modes(paths: &[&Path]) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    paths.iter().map(|path| path.metadata().expect("a file").mode() & 0o777).collect()
}

#[test]
fn one_damaged_output_is_the_death_of_one_stage_and_its_neighbours_go_on() {
    let place = Folder::new();
    block_on(async {
        let bench = Bench::new(&|| place.open(), &[("fetch", &[]), ("extract", &[0])]).await;
        bench.discover(&[("gone", "1"), ("row", "1"), ("whole", "1")]).await;
        for filling in ["x", "y", "z"] {
            let (fence, claim) = bench.claim_one(0).await;
            let mut completion = bench.completion(&claim, Outcome::Done, Disposition::Done);
            completion.output = Some(large(filling));
            bench.settle(fence, vec![completion]).await;
        }
        let gone = blobs(&place).into_iter().find(|file| file.ends_with(large("x").hash.to_string()));
        std::fs::remove_file(gone.expect("the first one's file")).expect("a removal");
        let database = Connection::open(place.path().join("tracker.db")).expect("a database");
        database.execute("UPDATE item_data SET data_hash = x'00' WHERE key = 'row'", []).expect("a change");
        drop(database);
        let leases = bench.claim(1, 9, 9).await;
        let claims: Vec<&Claim> = leases.iter().flat_map(|lease| &lease.claims).collect();
        let damage: Vec<Option<&str>> = claims.iter().map(|claim| claim.damage.as_deref()).collect();
        let missing = format!("the blob {} is missing or damaged", large("x").hash);
        assert_eq!((damage[0], damage[2]), (Some(missing.as_str()), None));
        assert!(damage[1].is_some_and(|damage| damage.starts_with("a row of the tracker is damaged: ")), "{damage:?}");
        assert_eq!(claims.iter().map(|claim| claim.item_key.as_str()).collect::<Vec<_>>(), ["gone", "row", "whole"]);
        let dead = Disposition::Dead(DeadReason::Damaged);
        let completions = claims.iter().map(|claim| match claim.damage {
            Some(_) => bench.completion(claim, Outcome::Permanent, dead),
            None => bench.completion(claim, Outcome::Done, Disposition::Done),
        });
        bench.settle(leases[0].fence, completions.collect()).await;
        let filter = EventsFilter { job: None, kind: Some("stage.damaged".to_owned()), limit: 9 };
        let events = bench.tracker.events(filter).await.expect("events");
        assert_eq!(events.iter().map(|event| event.item).collect::<Vec<_>>(), [Some(ItemId(2)), Some(ItemId(1))]);
        assert_eq!(bench.states("whole").await, [State::Done, State::Done]);
    });
}
