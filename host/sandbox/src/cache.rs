//! Compiled code, kept between runs.
//!
//! Owns a folder that only this user may touch, with a file a component, engine version and engine settings. Never
//! trusts a file: what does not match its digest is compiled again, and replaced.

use std::fs::{self, DirBuilder, Permissions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gristmill_model::Digest;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::precompiled::{self, Vouched};

const OWNER_ONLY: u32 = 0o700;

/// How many components' code is kept. The oldest goes first.
const FILES_MAX: usize = 256;

/// A file is this digest of its name and code, and the code.
const DIGEST_BYTES: usize = 32;

pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens the folder, making it if need be.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(OWNER_ONLY).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let metadata = fs::metadata(folder)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another user"));
        }
        if metadata.mode() & 0o777 != OWNER_ONLY {
            fs::set_permissions(folder, Permissions::from_mode(OWNER_ONLY))?;
        }
        // Whether it can be written to is better known now than after a compilation.
        tempfile::NamedTempFile::new_in(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The compiled form of a component, if it is there and whole.
    pub(crate) fn load(&self, engine: &Engine, raw_hash: Digest) -> Option<Component> {
        let key = key(engine, raw_hash);
        let file = fs::read(self.file(key)).ok()?;
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
            // Written aside and renamed, so that no reader sees half of it.
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&guard(key, code).0)?;
            file.write_all(code)?;
            file.persist(self.file(key))?;
            self.drop_oldest()
        };
        if let Err(error) = stored() {
            tracing::warn!(%error, "cannot keep compiled code: it will be compiled again at the next start");
        }
    }

    /// Makes room where there are more files than are kept.
    fn drop_oldest(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Another host may have removed it meanwhile.
            if let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) {
                files.push((written, entry.path()));
            }
        }
        let excess = files.len().saturating_sub(FILES_MAX);
        files.sort_unstable();
        for (_, file) in files.into_iter().take(excess) {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&self, key: Digest) -> PathBuf {
        self.folder.join(format!("{key}.cwasm"))
    }
}

/// What the code depends on: the component, and the engine's version and settings.
fn key(engine: &Engine, raw_hash: Digest) -> Digest {
    let mut settings = Fields(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut settings);
    Digest::of_fields("gristmill compiled 1", [&raw_hash.0[..], settings.0.finalize().as_bytes()])
}

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
