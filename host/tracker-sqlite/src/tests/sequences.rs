//! Random operations, on SQLite and on the model.

use gristmill_test_tracker::{Location, conformance::NOW, sequences::compare_with_model};
use gristmill_tracker::Tracker;

use crate::{SqliteOptions, SqliteTracker, Synchronous};

/// SQLite, in memory where there is a file system for that: it is not power cuts that are tested here.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let shm = std::path::Path::new("/dev/shm");
        let folder = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        Self(folder.expect("a folder"))
    }
}

impl Location for Folder {
    fn open(&self) -> Box<dyn Tracker> {
        let options = SqliteOptions { synchronous: Synchronous::Normal, ..SqliteOptions::default() };
        Box::new(SqliteTracker::open(self.0.path(), options, NOW).expect("a tracker"))
    }
}

#[test]
fn sqlite_does_what_the_model_does() {
    compare_with_model("sqlite", &|| Box::new(Folder::new()));
}
