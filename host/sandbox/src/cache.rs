//! Compiled code, kept between runs.
//!
//! Owns a folder that only this user may access, with one file for each component, engine version and engine settings.
//! The host runs these files as machine code. So the cache never accepts what somebody else could have put there: files
//! of a folder that was open to others, a link, a file of another user or with a second name. It opens the folder once,
//! so a path that later leads elsewhere changes nothing.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use gristmill_model::Digest;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::fs::{fchmod, fstat, mkdirat, openat, renameat, statat, unlinkat};
use rustix::process::geteuid;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compile::CODE_BYTES_MAX;
use crate::precompiled::{self, Vouched};

/// How many components' code is kept. The oldest is deleted first.
const FILES_MAX: usize = 256;

/// A file starts with a digest of this length, over its name and code; the code follows.
const DIGEST_BYTES: usize = 32;

/// The end of the names of files that are being written.
const UNFINISHED: &str = ".new";

pub(crate) struct Cache {
    folder: OwnedFd,
}

impl Cache {
    /// Opens the folder, and creates it if needed. A folder that others could write to is emptied, and closed to them.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match mkdirat(CWD, path, Mode::RWXU) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let cache = Self { folder: openat(CWD, path, flags, Mode::empty())? };
        let stat = fstat(&cache.folder)?;
        if stat.st_uid != geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another user"));
        }
        if Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO) {
            // Closed first, so that files put there until now are deleted too.
            fchmod(&cache.folder, Mode::RWXU)?;
            for (name, _) in cache.files()? {
                cache.remove(&name)?;
            }
        }
        // It is better to know now than after a compilation whether the folder can be written.
        let probe = format!("probe{UNFINISHED}");
        cache.write(&probe, &[])?;
        cache.remove(&probe)?;
        Ok(cache)
    }

    /// The compiled form of a component, if it is there and undamaged.
    pub(crate) fn load(&self, engine: &Engine, raw_hash: Digest) -> Option<Component> {
        let key = key(engine, raw_hash);
        let file = match self.read(&name(key)) {
            Ok(file) => file?,
            Err(error) => {
                tracing::warn!(component = %raw_hash.short(), %error, "compiled code in the cache cannot be used");
                return None;
            }
        };
        let (digest, code) = file.split_at_checked(DIGEST_BYTES)?;
        if guard(key, code).0 != digest {
            tracing::warn!(component = %raw_hash.short(), "compiled code in the cache is damaged: compiling again");
            return None;
        }
        precompiled::load(engine, &Vouched::new(code)).ok()
    }

    /// Keeps the compiled form of a component.
    pub(crate) fn store(&self, engine: &Engine, raw_hash: Digest, code: &[u8]) {
        let key = key(engine, raw_hash);
        let stored = || -> io::Result<()> {
            // Written under another name and renamed, so that no reader sees half of it.
            let unfinished = format!("{key}.{}{UNFINISHED}", std::process::id());
            self.write(&unfinished, &[&guard(key, code).0, code])?;
            renameat(&self.folder, &unfinished, &self.folder, name(key))?;
            self.drop_oldest()
        };
        if let Err(error) = stored() {
            tracing::warn!(%error, "cannot keep compiled code: it will be compiled again at the next start");
        }
    }

    /// A file that only this user can have written; none if there is no such file.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        is_ours(&fstat(&file)?)?;
        let mut content = Vec::new();
        file.take(CODE_BYTES_MAX + DIGEST_BYTES as u64).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Creates a new file.
    fn write(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR).or_else(|error| {
            // Left behind by a process that was killed.
            self.remove(name).map_err(|_| error)?;
            openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let mut file = File::from(made);
        parts.iter().try_for_each(|part| file.write_all(part))
    }

    fn remove(&self, name: &str) -> rustix::io::Result<()> {
        match unlinkat(&self.folder, name, AtFlags::empty()) {
            // Another host may have removed it meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// All files, and when each was written: in seconds and nanoseconds.
    fn files(&self) -> io::Result<Vec<(String, (i64, u64))>> {
        let mut files = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            // A file that another host has removed meanwhile is skipped.
            if let Ok(stat) = statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                files.push((name, (stat.st_mtime, stat.st_mtime_nsec)));
            }
        }
        Ok(files)
    }

    /// Deletes the oldest files if there are more than are kept.
    fn drop_oldest(&self) -> io::Result<()> {
        let mut files = self.files()?;
        files.sort_unstable_by_key(|(_, written)| *written);
        let excess = files.len().saturating_sub(FILES_MAX);
        Ok(files.iter().take(excess).try_for_each(|(name, _)| self.remove(name))?)
    }
}

/// Refuses a file that somebody else could have written.
fn is_ours(stat: &Stat) -> io::Result<()> {
    let refusal = if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        "it is not a regular file"
    } else if stat.st_uid != geteuid().as_raw() {
        "it belongs to another user"
    } else if stat.st_nlink != 1 {
        "it has a second name"
    } else if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        "others may write to it"
    } else {
        return Ok(());
    };
    Err(io::Error::other(refusal))
}

fn name(key: Digest) -> String {
    format!("{key}.cwasm")
}

/// What the code depends on: the component, and the engine's version and settings.
fn key(engine: &Engine, raw_hash: Digest) -> Digest {
    let mut settings = Fields(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut settings);
    Digest::of_fields("gristmill compiled 1", [&raw_hash.0[..], settings.0.finalize().as_bytes()])
}

/// A digest that detects a damaged file. It does not stop an attacker: the folder's mode does.
fn guard(key: Digest, code: &[u8]) -> Digest {
    Digest::of_fields("gristmill compiled code 1", [&key.0[..], code])
}

/// Hashes what implements `Hash` by blake3, since the standard hasher may change with the compiler.
struct Fields(blake3::Hasher);

impl Hasher for Fields {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        Digest(*self.0.finalize().as_bytes()).as_u64()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const EMPTY: &str = "(component)";

    /// A correct entry, as an attacker who knows this source could make it.
    fn entry(engine: &Engine, raw_hash: Digest) -> (String, Vec<u8>) {
        let code = engine.precompile_component(&wat::parse_str(EMPTY).unwrap()).unwrap();
        let key = key(engine, raw_hash);
        (name(key), [&guard(key, &code).0, &code[..]].concat())
    }

    #[test]
    fn machine_code_that_somebody_else_put_there_is_not_run() {
        let (engine, raw_hash) = (Engine::default(), Digest([7; 32]));
        let (file, content) = entry(&engine, raw_hash);
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("code"), &content).unwrap();
        let plant = |to: &Path| fs::write(to, &content).unwrap();
        // In a folder that only this user can write, the same entry is accepted.
        assert!(attacked(&file, plant).cache.load(&engine, raw_hash).is_some());
        let linked = attacked(&file, |to| symlink(outside.path().join("code"), to).unwrap());
        assert!(linked.cache.load(&engine, raw_hash).is_none(), "a link");
        let named_twice = attacked(&file, |to| fs::hard_link(outside.path().join("code"), to).unwrap());
        assert!(named_twice.cache.load(&engine, raw_hash).is_none(), "a second name");
        let writable = attacked(&file, |to| {
            plant(to);
            fs::set_permissions(to, Permissions::from_mode(0o666)).unwrap();
        });
        assert!(writable.cache.load(&engine, raw_hash).is_none(), "a file that others may write to");
        let pipe = attacked(&file, |to| rustix::fs::mkfifoat(CWD, to, Mode::RUSR).unwrap());
        assert!(pipe.cache.load(&engine, raw_hash).is_none(), "a pipe");
    }

    /// A cache in a folder of this user alone, where something was planted.
    struct Attacked {
        cache: Cache,
        _folder: tempfile::TempDir,
    }

    fn attacked(file: &str, plant: impl Fn(&Path)) -> Attacked {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        plant(&folder.path().join(file));
        Attacked { cache: Cache::open(folder.path()).unwrap(), _folder: folder }
    }

    #[test]
    fn a_folder_that_was_open_to_others_is_emptied_and_closed() {
        let (engine, raw_hash) = (Engine::default(), Digest([7; 32]));
        let (file, content) = entry(&engine, raw_hash);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(&file), content).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        assert!(cache.load(&engine, raw_hash).is_none());
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_a_link_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        assert!(Cache::open(&link).is_err());
    }

    #[test]
    fn the_oldest_code_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        for number in 0..FILES_MAX + 3 {
            cache.write(&format!("{number}"), &[b"x"]).unwrap();
            let written = rustix::fs::Timestamps {
                last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
                last_modification: rustix::fs::Timespec { tv_sec: number as i64, tv_nsec: 0 },
            };
            rustix::fs::utimensat(&cache.folder, format!("{number}"), &written, AtFlags::empty()).unwrap();
        }
        cache.drop_oldest().unwrap();
        assert_eq!(cache.files().unwrap().len(), FILES_MAX);
        assert!(!folder.path().join("2").exists() && folder.path().join("3").exists());
    }
}
