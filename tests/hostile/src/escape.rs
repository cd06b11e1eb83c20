//! Tries to read what was not granted: parents, absolute paths, and whatever links in the granted folder point to.
//! Returns what could be read: nothing, in a good sandbox.

use std::fs;
use std::path::PathBuf;

use gristmill_guest::{Failure, Work};

/// Where the test grants a folder, with links in it that point outside.
pub(crate) const GRANTED: &str = "/files";

/// A file and a folder that every Unix has.
const TARGETS: [&str; 2] = ["etc/passwd", "etc"];

pub(crate) fn run(_: &Work) -> Result<Vec<String>, Failure> {
    let readable = |path: &PathBuf| fs::read(path).is_ok() || fs::read_dir(path).is_ok();
    Ok(attempts().into_iter().filter(readable).map(|path| path.display().to_string()).collect())
}

fn attempts() -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/"), PathBuf::from(".."), PathBuf::from(GRANTED).join("..")];
    for target in TARGETS {
        paths.push(PathBuf::from("/").join(target));
        for depth in 1..=8 {
            let parents = "../".repeat(depth);
            paths.push(PathBuf::from(format!("{parents}{target}")));
            paths.push(PathBuf::from(format!("{GRANTED}/{parents}{target}")));
            paths.push(PathBuf::from(format!("{GRANTED}/./inner/../{parents}{target}")));
        }
    }
    paths.extend(links());
    paths
}

/// Every link in the granted folder, and the targets behind each.
fn links() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(GRANTED) else { return Vec::new() };
    let is_link = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_symlink());
    entries
        .flatten()
        .filter(is_link)
        .flat_map(|link| {
            let behind = TARGETS.map(|target| link.path().join(target));
            [vec![link.path()], behind.to_vec()].concat()
        })
        .collect()
}
