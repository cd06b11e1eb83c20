//! The digest of a crate's folder.
//! Owns what counts as a change: the names in the folder itself, the bytes of `Cargo.toml`, and those of
//! `.cargo_vcs_info.json`, which names the commit.
//! Never looks below or into other files: a system call a file would make discovery ten times slower. Under cargo's
//! registry nothing is lost, since a published version never changes; in a folder that people edit, a change to a
//! source file alone goes unseen.

use std::fs;
use std::io;
use std::path::Path;

use blake3::{Hash, Hasher};

/// Bytes that count beside the manifest's: the commit that the crate was packed from, where cargo recorded it.
const COMMIT: &str = ".cargo_vcs_info.json";

/// The digest of a folder whose `Cargo.toml` is `manifest`.
pub(crate) fn digest(folder: &Path, manifest: &[u8]) -> io::Result<Hash> {
    let mut hasher = Hasher::new();
    let mut names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    for name in &names {
        add(&mut hasher, name.as_encoded_bytes());
    }
    add(&mut hasher, manifest);
    if names.iter().any(|name| name == COMMIT) {
        add(&mut hasher, &fs::read(folder.join(COMMIT))?);
    }
    Ok(hasher.finalize())
}

/// With its length before it, so that no two lists of texts are the same bytes.
fn add(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> io::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().ok_or(io::ErrorKind::NotFound)?)?;
            fs::write(path, text)?;
        }
        Ok(folder)
    }

    fn digest_of(files: &[(&str, &str)]) -> io::Result<Hash> {
        digest(folder(files)?.path(), b"[package]")
    }

    #[test]
    fn equal_folders_have_equal_digests() -> io::Result<()> {
        let files = [("src/lib.rs", "a"), ("b.rs", "b")];
        assert_eq!(digest_of(&files)?, digest_of(&[files[1], files[0]])?);
        Ok(())
    }

    #[test]
    fn a_file_that_comes_goes_or_moves_changes_it() -> io::Result<()> {
        let before = digest_of(&[("src/a.rs", "")])?;
        assert_ne!(before, digest_of(&[("src/a.rs", ""), ("build.rs", "")])?);
        assert_ne!(before, digest_of(&[])?);
        assert_ne!(before, digest_of(&[("a.rs", "")])?);
        Ok(())
    }

    #[test]
    fn the_manifest_and_the_commit_change_it() -> io::Result<()> {
        let one = folder(&[(COMMIT, "1")])?;
        assert_ne!(digest(one.path(), b"[package]")?, digest(one.path(), b"[package] ")?);
        assert_ne!(digest_of(&[(COMMIT, "1")])?, digest_of(&[(COMMIT, "2")])?);
        Ok(())
    }

    #[test]
    fn two_names_are_not_one() -> io::Result<()> {
        assert_ne!(digest_of(&[("ab", ""), ("c", "")])?, digest_of(&[("a", ""), ("bc", "")])?);
        Ok(())
    }
}
