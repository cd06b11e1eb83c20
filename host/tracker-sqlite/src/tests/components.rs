//! The files of components.

use std::path::PathBuf;

use gristmill_model::Digest;

use super::Folder;
use crate::{backup, restore};
use gristmill_test_tracker::Location;
use gristmill_test_tracker::conformance::components::stage_of;
use gristmill_test_tracker::conformance::{Bench, block_on, registration};
use gristmill_tracker::Error;

const BYTES: &[u8] = b"a component's bytes";

fn canonical() -> Digest {
    Digest::of(b"canonical")
}

async fn with_component(place: &Folder) -> Bench {
    Bench::with(place.open(), vec![stage_of("fetch", "1", "canonical", BYTES)]).await
}

fn file(place: &std::path::Path) -> PathBuf {
    place.join("components").join(Digest::of(BYTES).to_string())
}

#[test]
fn a_damaged_component_is_refused_and_mended_by_the_next_registration() {
    use std::os::unix::fs::MetadataExt;
    let place = Folder::new();
    block_on(async {
        let bench = with_component(&place).await;
        let file = file(place.path());
        assert_eq!(std::fs::read(&file).expect("a file"), BYTES);
        let mode = |path: &std::path::Path| path.metadata().expect("it").mode() & 0o777;
        assert_eq!((mode(&place.path().join("components")), mode(&file)), (0o700, 0o600));
        let mend = async || {
            let again = registration(vec![stage_of("fetch", "1", "canonical", BYTES)]);
            bench.tracker.register_job(again).await.expect("a job");
            assert_eq!(bench.tracker.component(canonical()).await.expect("a read").as_deref(), Some(BYTES));
        };
        let elsewhere = place.path().join("elsewhere");
        std::fs::write(&elsewhere, BYTES).expect("a file");
        let damages: [&dyn Fn(); 3] = [
            &|| std::fs::write(&file, "other bytes").expect("a change"),
            &|| std::fs::remove_file(&file).expect("a removal"),
            &|| {
                std::fs::remove_file(&file).expect("a removal");
                std::os::unix::fs::symlink(&elsewhere, &file).expect("a link");
            },
        ];
        for damage in damages {
            damage();
            let read = bench.tracker.component(canonical()).await;
            assert!(matches!(read, Err(Error::Component(hash)) if hash == canonical()), "{read:?}");
            let found = bench.tracker.examine().await.expect("an examination").differences;
            assert!(matches!(&found[..], [one] if one.kind == "component"), "{found:?}");
            mend().await;
        }
        assert_eq!(std::fs::read(&elsewhere).expect("a file"), BYTES, "what a link led to is left alone");
    });
}

#[test]
fn a_registration_writes_no_bytes_that_are_there() {
    let place = Folder::new();
    block_on(async {
        let bench = with_component(&place).await;
        let written = || file(place.path()).metadata().and_then(|file| file.modified()).expect("a time");
        let before = written();
        let again = registration(vec![stage_of("fetch", "2", "canonical", BYTES)]);
        bench.tracker.register_job(again).await.expect("a job");
        assert_eq!(written(), before);
    });
}

#[test]
fn a_backup_takes_components_along_and_is_not_made_without_one() {
    let (place, copies, elsewhere) = (Folder::new(), Folder::new(), Folder::new());
    let target = copies.path().join("copy");
    block_on(async { drop(with_component(&place).await) });
    backup(place.path(), &target).expect("a backup");
    restore(&target, elsewhere.path()).expect("a restored tracker");
    let read = block_on(async { elsewhere.open().component(canonical()).await });
    assert_eq!(read.expect("a read").as_deref(), Some(BYTES));
    std::fs::write(file(&target), "other bytes").expect("a change");
    assert!(matches!(restore(&target, Folder::new().path()), Err(Error::Component(_))));
    std::fs::remove_file(file(place.path())).expect("a removal");
    assert!(matches!(backup(place.path(), &copies.path().join("another")), Err(Error::Component(_))));
}

#[test]
fn files_that_no_component_has_are_left_to_the_sweep() {
    let place = Folder::new();
    block_on(async {
        let bench = with_component(&place).await;
        let folder = place.path().join("components");
        let (lost, notes) = (folder.join(Digest::of(b"lost").to_string()), folder.join("notes.txt"));
        let unfinished = folder.join(format!("{}.7.tmp", Digest::of(b"lost")));
        for path in [&lost, &notes, &unfinished] {
            std::fs::write(path, "12345").expect("a file");
        }
        assert_eq!(bench.tracker.examine().await.expect("an examination").differences, []);
        let swept = bench.tracker.sweep_components().await.expect("a sweep");
        assert_eq!((swept.removed, swept.bytes), (2, 10));
        assert!(file(place.path()).exists() && notes.exists(), "what is kept, and what is not ours");
        assert!(!lost.exists() && !unfinished.exists());
        std::fs::remove_dir_all(&folder).expect("a removal");
        assert_eq!(bench.tracker.sweep_components().await.expect("a sweep").looked, 0, "there may be no folder");
        let outside = tempfile::tempdir().expect("a folder");
        std::fs::write(outside.path().join("precious.tmp"), "12345").expect("a file");
        std::os::unix::fs::symlink(outside.path(), &folder).expect("a link");
        assert!(bench.tracker.sweep_components().await.is_err(), "a folder that is a link is not swept");
        assert!(outside.path().join("precious.tmp").exists());
    });
}
