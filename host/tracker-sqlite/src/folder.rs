//! Checks a data folder before anything in it is opened.
//!
//! Owns which entries are allowed, and their kinds, owners and modes. A folder may come with a checkout or a backup, so
//! no link in it is followed: it could make gristmill write, empty or delete a file somewhere else. Never opens the
//! database: closing a second handle of it would drop the locks of the first.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::process::geteuid;

use super::blobs::{COMPONENTS, FOLDER as BLOBS, failed};
use super::open::{FILE, LOCK, with_suffix};
use gristmill_tracker::Error;

/// Only for its owner, since items, outputs and logs may contain anything.
const FOLDER_MODE: u32 = 0o700;
pub(super) const FILE_MODE: u32 = 0o600;
/// The name of a database until it is complete.
pub(super) const UNFINISHED: &str = "tracker.db.unfinished";
/// The ending of SQLite's journal beside a database.
const JOURNAL: &str = "-journal";
const BESIDE: [&str; 3] = ["-wal", "-shm", JOURNAL];
/// The last bytes of a journal that names a super-journal, a file that SQLite deletes after it has rolled back.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Refuses a folder with entries that gristmill does not make, whoever owns them. Changes nothing.
pub(super) fn expect_plain(data: &Path) -> Result<(), Error> {
    entries(data, |path, metadata| {
        let is_folder = path.ends_with(BLOBS) || path.ends_with(COMPONENTS);
        match gristmill_files::fault(metadata) {
            Some(_) if is_folder && metadata.is_dir() => {}
            None if !is_folder => {}
            Some(what) => return Err(Error::unsafe_file(path, what)),
            None => return Err(Error::unsafe_file(path, "is no folder")),
        }
        if path.as_os_str().as_encoded_bytes().ends_with(JOURNAL.as_bytes()) {
            expect_alone(path)?;
        }
        Ok(())
    })
}

/// Also refuses a data folder of another user, since a file's owner can change it at any time.
pub(super) fn expect_own(data: &Path) -> Result<(), Error> {
    match fs::metadata(data) {
        Ok(folder) => expect_owner(data, &folder)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed("cannot look at", data, source)),
    }
    entries(data, expect_owner)?;
    expect_plain(data)
}

/// Creates a data folder if it does not exist, and closes it and its entries to other users.
pub(super) fn make(data: &Path) -> Result<(), Error> {
    let cannot = |source| failed("cannot make", data, source);
    if !data.exists() {
        fs::create_dir_all(data.parent().unwrap_or(data)).map_err(cannot)?;
        make_inner(data).map_err(cannot)?;
    }
    if data.exists() && !data.is_dir() {
        return Err(cannot(ErrorKind::NotADirectory.into()));
    }
    expect_own(data)?;
    close(data)
}

/// Creates an empty file that only its owner may read, for SQLite to fill. SQLite gives the files beside a database the
/// same mode. An existing file is not changed.
pub(super) fn make_database(path: &Path) -> Result<(), Error> {
    match create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed("cannot make", path, error)),
        _ => Ok(()),
    }
}

/// Creates a new file that only its owner may read, whatever the umask.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

/// Creates a folder in a data folder, or uses the existing one, if it is a folder.
pub(super) fn make_inner(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => expect_folder(folder),
        made => made.and_then(|()| fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))),
    }
}

/// Refuses a path that is a link, or anything else but a folder.
pub(super) fn expect_folder(folder: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(folder)?.file_type();
    if kind.is_dir() {
        return Ok(());
    }
    let message = format!("{} {}", folder.display(), gristmill_files::what(kind));
    Err(io::Error::new(ErrorKind::InvalidInput, message))
}

/// Calls `each` for every entry of ours that exists, without following links.
fn entries(data: &Path, mut each: impl FnMut(&Path, &Metadata) -> Result<(), Error>) -> Result<(), Error> {
    let databases = [FILE, UNFINISHED].map(|name| data.join(name));
    let beside = databases.iter().flat_map(|path| BESIDE.map(|suffix| with_suffix(path, suffix)));
    let others = [LOCK, BLOBS, COMPONENTS].map(|name| data.join(name));
    for path in databases.iter().cloned().chain(beside).chain(others) {
        match fs::symlink_metadata(&path) {
            Ok(metadata) => each(&path, &metadata)?,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(source) => return Err(failed("cannot look at", &path, source)),
        }
    }
    Ok(())
}

/// Refuses an entry of another user. Root is allowed: it may do anything anyway, and mounts folders for others.
fn expect_owner(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    if [geteuid().as_raw(), 0].contains(&metadata.uid()) {
        return Ok(());
    }
    Err(Error::unsafe_file(path, "belongs to another user"))
}

/// Refuses a journal that names another file for SQLite to delete. Ours never do, since only transactions over several
/// databases need that.
fn expect_alone(journal: &Path) -> Result<(), Error> {
    let names_another = || -> io::Result<bool> {
        let mut file = gristmill_files::open_unlinked(OpenOptions::new().read(true), journal)?;
        let mut end = [0; JOURNAL_MAGIC.len()];
        let length = file.metadata()?.len();
        if length <= end.len() as u64 {
            return Ok(false);
        }
        file.seek(SeekFrom::End(-(end.len() as i64)))?;
        file.read_exact(&mut end)?;
        Ok(end == JOURNAL_MAGIC)
    };
    match names_another() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::unsafe_file(journal, "is a journal that would have another file deleted")),
        Err(source) => Err(failed("cannot read", journal, source)),
    }
}

/// Removes other users' rights. A folder that also has other entries, such as somebody's home, keeps its own mode.
fn close(data: &Path) -> Result<(), Error> {
    let mut closed = false;
    let mut close = |path: &Path, mode: u32, metadata: &Metadata| {
        if metadata.mode() & 0o7777 & !mode == 0 {
            return Ok(());
        }
        closed = true;
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|source| failed("cannot close", path, source))
    };
    entries(data, |path, metadata| close(path, if metadata.is_dir() { FOLDER_MODE } else { FILE_MODE }, metadata))?;
    let folder = fs::metadata(data).map_err(|source| failed("cannot look at", data, source))?;
    if folder.mode() & 0o077 != 0 && holds_others(data)? {
        tracing::warn!("{} holds other files too, and stays open to other users", data.display());
    } else {
        close(data, FOLDER_MODE, &folder)?;
    }
    if closed {
        tracing::warn!("{} was open to other users, and is closed to them now", data.display());
    }
    Ok(())
}

fn holds_others(data: &Path) -> Result<bool, Error> {
    let is_ours = |name: &str| [LOCK, BLOBS, COMPONENTS].contains(&name) || name.starts_with(FILE);
    let cannot = |source| failed("cannot list", data, source);
    for entry in fs::read_dir(data).map_err(cannot)? {
        if !entry.map_err(cannot)?.file_name().to_str().is_some_and(is_ours) {
            return Ok(true);
        }
    }
    Ok(false)
}
