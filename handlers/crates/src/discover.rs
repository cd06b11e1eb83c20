//! Finds crates: one item for each version, in pages.
//! Owns the cursor: the folder of the last crate that a page handled, in sorted order.
//! Never stops at a folder that it cannot read: it says so in the log and goes on.

use std::fs;
use std::io;
use std::path::Path;

use gristmill_guest::{DiscoverRequest, Failure, NewItem, OrFail, Page, log};

use crate::Crate;
use crate::digest::digest;
use crate::manifest::name_and_version;

/// The next page of the crates below `root`. A crate that is there twice comes twice, under the same key.
pub(crate) fn page(root: &Path, request: &DiscoverRequest) -> Result<Page, Failure> {
    let all = candidates(root).or_permanent(root.display())?;
    let start = match &request.cursor {
        Some(cursor) => all.partition_point(|folder| folder <= cursor),
        None => 0,
    };
    let end = all.len().min(start.saturating_add(request.limit as usize));
    let mut items = Vec::with_capacity(end - start);
    for folder in &all[start..end] {
        match examine(root, folder) {
            Ok(Some(item)) => items.push(NewItem::new(format!("{}@{}", item.name, item.version), &item)?),
            Ok(None) => {}
            Err(error) => log::warn(format_args!("skipped {folder}: {error}")),
        }
    }
    Ok(match all[start..end].last() {
        Some(last) if end < all.len() => Page::before(last, items),
        _ => Page::last(items),
    })
}

/// The folders that may be crates, sorted: those in `root` with a manifest, and those one level below the others.
fn candidates(root: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for name in folders(root)? {
        if root.join(&name).join("Cargo.toml").exists() {
            found.push(name);
        } else {
            match folders(&root.join(&name)) {
                Ok(below) => found.extend(below.into_iter().map(|folder| format!("{name}/{folder}"))),
                Err(error) => log::warn(format_args!("skipped {name}: {error}")),
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The names of the folders in a folder. A name that is not UTF-8 cannot be part of a key, and is left out.
fn folders(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

/// The crate in a folder; none if it has no manifest.
fn examine(root: &Path, path: &str) -> io::Result<Option<Crate>> {
    let folder = root.join(path);
    let manifest = match fs::read(folder.join("Cargo.toml")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        manifest => manifest?,
    };
    let folder_name = path.rsplit('/').next().unwrap_or(path);
    let Some((name, version)) = name_and_version(&manifest).or_else(|| split(folder_name)) else {
        return Err(io::Error::other("neither Cargo.toml nor the folder says name and version"));
    };
    let digest = digest(&folder, &manifest)?.to_hex().to_string();
    Ok(Some(Crate { name, version, path: path.to_owned(), digest }))
}

/// `serde-1.0.2` is `serde` and `1.0.2`; the version begins after the first hyphen that a digit and a dot follow.
fn split(folder: &str) -> Option<(String, String)> {
    folder.match_indices('-').find_map(|(at, _)| {
        let (name, version) = (&folder[..at], &folder[at + 1..]);
        let (major, _) = version.split_once('.')?;
        let digits = !major.is_empty() && major.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| (name.to_owned(), version.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(crates: &[(&str, &str)]) -> io::Result<tempfile::TempDir> {
        let root = tempfile::tempdir()?;
        for (folder, manifest) in crates {
            fs::create_dir_all(root.path().join(folder))?;
            fs::write(root.path().join(folder).join("Cargo.toml"), manifest)?;
        }
        Ok(root)
    }

    fn keys(page: &Page) -> Vec<&str> {
        page.items.iter().map(|item| item.key.as_str()).collect()
    }

    const A: &str = "[package]\nname = 'a'\nversion = '1.0.0'";
    const B: &str = "[package]\nname = 'b'\nversion = '2.0.0'";

    #[test]
    fn crates_are_found_at_both_depths() -> Result<(), Failure> {
        let root = registry(&[("index/b-2.0.0", B), ("a-1.0.0", A)])?;
        fs::create_dir(root.path().join("index/empty"))?;
        let page = page(root.path(), &DiscoverRequest::first(10))?;
        assert_eq!((keys(&page), &page.next), (vec!["a@1.0.0", "b@2.0.0"], &None));
        Ok(())
    }

    #[test]
    fn a_cursor_goes_on_after_the_last_folder() -> Result<(), Failure> {
        let root = registry(&[("i/a-1.0.0", A), ("i/b-2.0.0", B), ("j/a-1.0.0", A)])?;
        let mut request = DiscoverRequest::first(1);
        let mut seen = Vec::new();
        loop {
            let page = page(root.path(), &request)?;
            seen.extend(keys(&page).into_iter().map(str::to_owned));
            match page.next {
                Some(next) => request.cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, ["a@1.0.0", "b@2.0.0", "a@1.0.0"]);
        Ok(())
    }

    #[test]
    fn data_names_the_folder_relative_to_the_grant() -> Result<(), Failure> {
        let root = registry(&[("i/a-1.0.0", A)])?;
        let item = examine(root.path(), "i/a-1.0.0")?.expect("a crate");
        assert_eq!((item.name.as_str(), item.version.as_str(), item.path.as_str()), ("a", "1.0.0", "i/a-1.0.0"));
        assert_eq!(item.digest.len(), 64);
        Ok(())
    }

    #[test]
    fn a_manifest_without_a_name_falls_back_to_the_folder() -> Result<(), Failure> {
        let root = registry(&[("i/odd-crate-0.1.0-rc.1", "not toml [")])?;
        assert_eq!(keys(&page(root.path(), &DiscoverRequest::first(10))?), ["odd-crate@0.1.0-rc.1"]);
        Ok(())
    }

    #[test]
    fn folders_are_split_at_the_version() {
        let pair = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(split("serde-1.0.2"), pair("serde", "1.0.2"));
        assert_eq!(split("a-2-b-1.0.0-alpha.1+x"), pair("a-2-b", "1.0.0-alpha.1+x"));
        assert_eq!(split("serde"), None);
    }
}
