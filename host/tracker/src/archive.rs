//! The archive files of deleted rows.
//!
//! Owns one file of compressed JSON Lines. A file with its final name is complete and on the disk. A line is a row, as
//! `records/expired.rs` describes it. Never deletes anything.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use gristmill_model::{Expiring, Timestamp};
use tempfile::NamedTempFile;

use crate::Error;
use crate::records::ExpiredRow;

/// The level that zstd recommends by default.
const LEVEL: i32 = 3;
/// The prefix of a file's name while it is being written.
const UNFINISHED: &str = ".unfinished-";
/// The most files for one job, kind and second.
const SAME_NAME_MAX: u32 = 10_000;

/// A file that is being written.
pub(crate) struct Archive {
    folder: PathBuf,
    encoder: zstd::Encoder<'static, NamedTempFile>,
}

impl Archive {
    /// Adds rows, one on each line, to the file, or to a new one in this folder.
    pub(crate) fn append(archive: Option<Self>, folder: &Path, rows: &[ExpiredRow]) -> Result<Self, Error> {
        let mut archive = match archive {
            Some(archive) => archive,
            None => Self::begin(folder).map_err(|source| failed(folder, source))?,
        };
        let mut write = || rows.iter().try_for_each(|row| write_line(&mut archive.encoder, row));
        write().map_err(|source| failed(folder, source))?;
        Ok(archive)
    }

    fn begin(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
        Ok(Self { folder: folder.to_owned(), encoder: zstd::Encoder::new(file, LEVEL)? })
    }

    /// Completes the file, and gives it its name: `job-attempts-20260131T235959Z.jsonl.zst`.
    pub(crate) fn finish(self, job: &str, what: Expiring, now: Timestamp) -> Result<PathBuf, Error> {
        let folder = self.folder.clone();
        self.try_finish(&format!("{job}-{}-{}", what.name(), utc(now))).map_err(|source| failed(&folder, source))
    }

    fn try_finish(self, stem: &str) -> io::Result<PathBuf> {
        let mut file = self.encoder.finish()?;
        file.as_file().sync_all()?;
        for number in 1..=SAME_NAME_MAX {
            let number = if number == 1 { String::new() } else { format!("-{number}") };
            let path = self.folder.join(format!("{stem}{number}.jsonl.zst"));
            match file.persist_noclobber(&path) {
                Ok(_) => {
                    File::open(&self.folder)?.sync_all()?;
                    return Ok(path);
                }
                Err(taken) if taken.error.kind() == ErrorKind::AlreadyExists => file = taken.file,
                Err(other) => return Err(other.error),
            }
        }
        Err(io::Error::from(ErrorKind::AlreadyExists))
    }
}

/// Writes a row as a JSON object, and ends the line.
fn write_line(mut to: impl Write, row: &ExpiredRow) -> io::Result<()> {
    match row {
        ExpiredRow::Attempt(row) => serde_json::to_writer(&mut to, row),
        ExpiredRow::Charge(row) => serde_json::to_writer(&mut to, row),
        ExpiredRow::Event(row) => serde_json::to_writer(&mut to, row),
        ExpiredRow::Item(row) => serde_json::to_writer(&mut to, row),
        ExpiredRow::Result(row) => serde_json::to_writer(&mut to, row),
    }?;
    to.write_all(b"\n")
}

fn failed(folder: &Path, source: io::Error) -> Error {
    if source.kind() == ErrorKind::StorageFull {
        return Error::DiskFull;
    }
    Error::File { what: "cannot write an archive in", path: folder.to_owned(), source }
}

/// `20260131T235959Z`.
fn utc(time: Timestamp) -> String {
    let instant = jiff::Timestamp::from_microsecond(time.0).unwrap_or_default();
    instant.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::records::ExpiredCharge;

    const NOW: Timestamp = Timestamp(1_700_000_000_123_456);

    fn charge(id: i64) -> ExpiredRow {
        let (stage_id, key) = (Some(64), Some(64));
        let meter = "m".to_owned();
        ExpiredRow::Charge(ExpiredCharge { id, attempt_id: 3, stage_id, key, ended_at: None, meter, amount: 0.1 })
    }

    fn lines(path: &Path) -> Vec<String> {
        let text = String::from_utf8(zstd::decode_all(File::open(path).unwrap()).unwrap()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_file_is_there_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        let rows = [charge(1), charge(2)];
        let archive = Archive::append(None, &inner, &rows).unwrap();
        let archive = Archive::append(Some(archive), &inner, &rows[1..]).unwrap();
        assert!(
            fs::read_dir(&inner)
                .unwrap()
                .all(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with(UNFINISHED) })
        );
        let path = archive.finish("audit", Expiring::Attempts, NOW).unwrap();
        assert_eq!(path, inner.join("audit-attempts-20231114T221320Z.jsonl.zst"));
        let line = |id: i64| {
            format!(r#"{{"id":{id},"attempt_id":3,"stage_id":64,"key":64,"ended_at":null,"meter":"m","amount":0.1}}"#)
        };
        assert_eq!(lines(&path), [line(1), line(2), line(2)]);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600, "for its owner alone");
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn no_file_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let write = |id: i64| {
            let archive = Archive::append(None, folder.path(), &[charge(id)]).unwrap();
            archive.finish("audit", Expiring::Items, NOW).unwrap()
        };
        let (first, second) = (write(1), write(2));
        assert!(second.ends_with("audit-items-20231114T221320Z-2.jsonl.zst"), "{}", second.display());
        assert!(lines(&first)[0].starts_with(r#"{"id":1,"#) && lines(&second)[0].starts_with(r#"{"id":2,"#));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Archive::append(None, &file.path().join("a"), &[]), Err(Error::File { .. })));
    }
}
