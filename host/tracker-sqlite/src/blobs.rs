//! Outputs that are too large for a row, and other files that are named by their hash.
//!
//! Owns `blobs/` in the data folder: a file each, named by its blake3 hash, complete before the row that names it is
//! committed, and verified each time it is read. Never decides which output is wanted: rows do. How such a file is
//! written and read goes for `components/` as well; `components.rs` says what is in there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use gristmill_model::{Digest, Timestamp};

use super::folder::{create, expect_folder, make_inner};
use super::session::Session;
use crate::fail::Fail;
use gristmill_tracker::Error;
use gristmill_tracker::records::{Output, Swept};

/// The largest output that is stored in its row. A larger one would slow down reads of the row's other columns.
pub(super) const INLINE_BYTES_MAX: usize = 64 << 10;
/// The folder's name in the data folder.
pub(super) const FOLDER: &str = "blobs";
/// That of the components.
pub(super) const COMPONENTS: &str = "components";
/// The largest file that is taken for a blob: as large as an output may be.
const BYTES_MAX: u64 = 256 << 20;
/// How a file that is being written is named.
pub(super) const UNFINISHED: &str = "tmp";

/// The folder of large outputs, or that of components.
#[derive(Clone, Debug)]
pub(super) struct Blobs {
    folder: PathBuf,
    /// Whether it has no 256 folders of its own: it will never hold many files.
    is_flat: bool,
}

impl Blobs {
    /// The folder in this data folder. The first blob creates it.
    pub(super) fn of(data: &Path) -> Self {
        Self { folder: data.join(FOLDER), is_flat: false }
    }

    /// The components of the same data folder. It is made with the first one.
    pub(super) fn components(&self) -> Self {
        Self { folder: self.data().join(COMPONENTS), is_flat: true }
    }

    fn data(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    pub(super) fn path(&self, hash: &Digest) -> PathBuf {
        let name = hash.to_string();
        if self.is_flat { self.folder.join(name) } else { self.folder.join(&name[..2]).join(name) }
    }

    /// The text that a row stores for an output: empty if the output is in a file.
    pub(super) fn stored<'o>(&self, output: &'o Output) -> Result<&'o str, Error> {
        if output.text.len() <= INLINE_BYTES_MAX {
            return Ok(&output.text);
        }
        self.write(&output.hash, output.text.as_bytes())?;
        Ok("")
    }

    /// The whole output of a row: its text, or its file's content.
    pub(super) fn full(&self, text: String, hash: Option<&Digest>) -> Result<String, Error> {
        match hash {
            Some(hash) if text.is_empty() => self.read(hash),
            _ => Ok(text),
        }
    }

    /// The length of a row's output.
    pub(super) fn length(&self, text: &str, hash: Option<&Digest>) -> Result<u64, Error> {
        match hash {
            Some(hash) if text.is_empty() => match fs::symlink_metadata(self.path(hash)) {
                Ok(file) => Ok(file.len()),
                Err(_) => Err(Error::Blob(*hash)),
            },
            _ => Ok(text.len() as u64),
        }
    }

    /// Writes a blob, which is on the disk when this returns. An undamaged one that exists is not changed.
    pub(super) fn write(&self, hash: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(hash);
        if self.bytes(hash).is_some() {
            return Ok(());
        }
        let failed = |source: io::Error| failed("cannot write", &path, source);
        let folder = path.parent().unwrap_or(&self.folder);
        if !folder.is_dir() {
            make_inner(&self.folder).and_then(|()| make_inner(folder)).map_err(failed)?;
            sync_folder(&self.folder).and_then(|()| sync_folder(self.data())).map_err(failed)?;
        }
        expect_folder(&self.folder).and_then(|()| expect_folder(folder)).map_err(failed)?;
        let unfinished = path.with_extension(format!("{}.{UNFINISHED}", std::process::id()));
        // An earlier process with this id may have left a file, or somebody may have put a link there.
        match fs::remove_file(&unfinished) {
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(failed(source)),
            _ => {}
        }
        let mut file = create(&unfinished).map_err(failed)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&unfinished, &path).and_then(|()| sync_folder(folder)).map_err(failed)
    }

    /// Reads a blob, and compares it with its hash.
    pub(super) fn read(&self, hash: &Digest) -> Result<String, Error> {
        let bytes = self.bytes(hash).ok_or(Error::Blob(*hash))?;
        String::from_utf8(bytes).map_err(|_| Error::Blob(*hash))
    }

    /// What a blob's file holds, if that is what its hash says.
    pub(super) fn bytes(&self, hash: &Digest) -> Option<Vec<u8>> {
        let path = self.path(hash);
        expect_folder(&self.folder).ok()?;
        expect_folder(path.parent()?).ok()?;
        let file = gristmill_files::open_unlinked(OpenOptions::new().read(true), &path).ok()?;
        let bytes = gristmill_files::read_all(file, BYTES_MAX).ok()??;
        (Digest::of(&bytes) == *hash).then_some(bytes)
    }

    /// The files of one of the 256 folders, in order.
    fn files(&self, prefix: u8) -> Result<Vec<PathBuf>, Error> {
        self.list(&self.folder.join(format!("{prefix:02x}")))
    }

    /// All files, where there are no such folders.
    pub(super) fn all(&self) -> Result<Vec<PathBuf>, Error> {
        self.list(&self.folder)
    }

    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>, Error> {
        let listed =
            expect_folder(&self.folder).and_then(|()| expect_folder(folder)).and_then(|()| fs::read_dir(folder));
        let entries = match listed {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| failed("cannot list", folder, source))?,
        };
        let mut files = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(|source| failed("cannot list", folder, source))?;
        files.sort_unstable();
        Ok(files)
    }
}

/// Whether a result names this blob.
pub(super) const IS_NAMED: &str = "SELECT 1 FROM item_stages WHERE output = '' AND output_hash = ?1";

/// Deletes blobs that no result names and that were written before `before`, in folder `from` and those after it. Stops
/// after the folder in which it has checked `limit` files. It runs in a write transaction, so that no process settles
/// anything meanwhile.
pub(super) fn sweep(session: &Session<'_>, from: u8, limit: u32, before: Timestamp) -> Result<Swept, Fail> {
    let mut swept = Swept::default();
    let mut named = session.connection.prepare_cached(IS_NAMED)?;
    for prefix in from..=u8::MAX {
        if swept.looked >= u64::from(limit) {
            swept.next = Some(prefix);
            break;
        }
        for path in session.blobs.files(prefix)? {
            swept.looked += 1;
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let hash = name.parse::<Digest>().ok();
            let is_unfinished = path.extension().is_some_and(|extension| extension == UNFINISHED);
            if (hash.is_none() && !is_unfinished)
                || hash.is_some_and(|hash| named.exists([&hash.0[..]]).unwrap_or(true))
            {
                continue;
            }
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if written_at(&metadata).is_none_or(|at| at >= before) {
                continue;
            }
            fs::remove_file(&path).map_err(|source| failed("cannot remove", &path, source))?;
            swept.removed += 1;
            swept.bytes += metadata.len();
        }
    }
    Ok(swept)
}

fn written_at(metadata: &fs::Metadata) -> Option<Timestamp> {
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok().map(Timestamp)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The error for a failure with a file. A full disk has its own error.
pub(super) fn failed(what: &'static str, path: &Path, source: io::Error) -> Error {
    match source.kind() {
        ErrorKind::StorageFull => Error::DiskFull,
        ErrorKind::FileTooLarge => Error::FileTooLarge,
        _ => Error::File { what, path: path.to_owned(), source },
    }
}
