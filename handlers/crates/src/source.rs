//! Counts the code of a crate.
//! Owns which files count: every `.rs` below the folder, tests and examples included, since they are what was published.
//! Never fails on a single file: bytes that are not UTF-8 are read as if they were.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gristmill_guest::{Failure, OrFail};
use serde::Serialize;

use crate::lexing;

/// The output of `source`.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Source {
    files: u64,
    bytes: u64,
    /// Of code: see `lexing`.
    lines: u64,
    unsafe_lines: u64,
    /// The file with the most bytes; none if there is no Rust.
    largest: Option<File>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct File {
    path: String,
    bytes: u64,
}

pub(crate) fn count(folder: &Path) -> Result<Source, Failure> {
    let mut source = Source::default();
    for path in files(folder).or_permanent("the crate's folder")? {
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let bytes = fs::read(folder.join(&path)).or_permanent(path.display())?;
        let lines = lexing::count(&String::from_utf8_lossy(&bytes));
        let size = bytes.len() as u64;
        source.files += 1;
        source.bytes += size;
        source.lines += lines.code;
        source.unsafe_lines += lines.unsafe_code;
        if source.largest.as_ref().is_none_or(|largest| size > largest.bytes) {
            source.largest = Some(File { path: path.to_string_lossy().into_owned(), bytes: size });
        }
    }
    Ok(source)
}

/// Every file below a folder, relative to it and sorted. Symbolic links are neither followed nor listed.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let path = below.join(entry.file_name());
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rust_file_counts_and_no_other() -> Result<(), Failure> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("src"))?;
        fs::write(folder.path().join("src/lib.rs"), "unsafe fn a() {}\n\nfn b() {}\n")?;
        fs::write(folder.path().join("build.rs"), b"// \xff\nfn main() {}")?;
        fs::write(folder.path().join("README.md"), "unsafe { }")?;
        let expected = Source {
            files: 2,
            bytes: 45,
            lines: 3,
            unsafe_lines: 1,
            largest: Some(File { path: "src/lib.rs".to_owned(), bytes: 28 }),
        };
        assert_eq!(count(folder.path())?, expected);
        Ok(())
    }

    #[test]
    fn a_crate_without_rust_has_no_largest_file() -> Result<(), Failure> {
        let folder = tempfile::tempdir()?;
        assert_eq!(count(folder.path())?, Source::default());
        Ok(())
    }

    #[test]
    fn a_folder_that_is_gone_is_permanent() {
        let failure = count(Path::new("/no/such/folder")).expect_err("gone");
        assert!(failure.message().starts_with("the crate's folder: "), "{failure}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_its_own_folder_ends() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("a.rs"), "")?;
        std::os::unix::fs::symlink(".", folder.path().join("again"))?;
        assert_eq!(files(folder.path())?, [Path::new("a.rs")]);
        Ok(())
    }
}
