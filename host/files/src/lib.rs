//! Opening files that somebody else may have put there.
//!
//! Owns the dangers of opening a path: a link that leads elsewhere, a pipe that nobody writes to, an endless device.
//! Never waits for the other end of a pipe, and never reads beyond a bound.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens without waiting for the other end of a pipe, and without making a terminal ours.
const PROMPT: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// Opens a regular file to read. Follows links: this is for paths that a person wrote.
///
/// # Errors
/// If it cannot be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), PROMPT, path)
}

/// Opens a regular file that has only this name, and is no link. This is for folders that may come from somebody else.
///
/// # Errors
/// If it cannot be opened, or is no such file.
pub fn open_unlinked(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = open_with(options, PROMPT | OFlags::NOFOLLOW, path)?;
    match fault(&file.metadata()?) {
        None => Ok(file),
        Some(fault) => Err(refused(fault)),
    }
}

/// Reads a regular file; none if it has more than `bytes_max` bytes.
///
/// # Errors
/// If it cannot be read, or is no regular file.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    read_all(open(path)?, bytes_max)
}

/// Reads an opened file to its end; none if that is more than `bytes_max` bytes, whatever size the file claims to have.
///
/// # Errors
/// If it cannot be read.
pub fn read_all(file: impl Read, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

/// Why a file is not a plain one with one name; none if it is. `metadata` must not have followed links. The text
/// follows the file's name in a sentence.
pub fn fault(metadata: &Metadata) -> Option<&'static str> {
    if !metadata.is_file() {
        return Some(what(metadata.file_type()));
    }
    (metadata.nlink() > 1).then_some("is a hard link: the file has another name elsewhere")
}

/// What a file is that is not regular. The text follows the file's name in a sentence.
pub fn what(file_type: FileType) -> &'static str {
    match file_type {
        kind if kind.is_symlink() => "is a symbolic link",
        kind if kind.is_dir() => "is a folder",
        kind if kind.is_fifo() => "is a pipe",
        kind if kind.is_socket() => "is a socket",
        kind if kind.is_file() => "is a regular file",
        _ => "is a device",
    }
}

fn open_with(options: &mut OpenOptions, flags: OFlags, path: &Path) -> io::Result<File> {
    let opened = options.custom_flags(flags.bits().cast_signed()).open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) if flags.contains(OFlags::NOFOLLOW) => refused("is a symbolic link"),
        _ => error,
    })?;
    let kind = file.metadata()?.file_type();
    match kind {
        kind if kind.is_file() => Ok(file),
        // The error that the system gives when a folder is read.
        kind if kind.is_dir() => Err(Errno::ISDIR.into()),
        kind => Err(refused(what(kind))),
    }
}

fn refused(fault: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it {fault}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType as Kind, Mode, mknodat};

    use super::*;

    fn refusal(result: io::Result<File>) -> String {
        result.expect_err("a refusal").to_string()
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, Kind::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        assert_eq!(refusal(open(&pipe)), "it is a pipe");
        assert_eq!(refusal(open_unlinked(OpenOptions::new().read(true).write(true), &pipe)), "it is a pipe");
        assert_eq!(refusal(open(Path::new("/dev/zero"))), "it is a device");
        assert_eq!(open(folder.path()).expect_err("a folder").kind(), io::ErrorKind::IsADirectory);
        assert_eq!(open(&folder.path().join("none")).expect_err("nothing").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn links_are_followed_only_where_a_person_wrote_the_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link, second) =
            (folder.path().join("file"), folder.path().join("link"), folder.path().join("second"));
        std::fs::write(&file, "text").expect("a file");
        symlink(&file, &link).expect("a link");
        assert_eq!(read(&link, 4).expect("a read"), Some(b"text".to_vec()));
        let unlinked = |path: &Path| open_unlinked(OpenOptions::new().read(true), path);
        assert!(unlinked(&file).is_ok());
        assert_eq!(refusal(unlinked(&link)), "it is a symbolic link");
        std::fs::hard_link(&file, &second).expect("a link");
        assert_eq!(refusal(unlinked(&file)), "it is a hard link: the file has another name elsewhere");
    }

    #[test]
    fn nothing_is_read_beyond_the_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "text").expect("a file");
        assert_eq!(read(&file, 3).expect("a read"), None);
        assert_eq!(read_all(io::repeat(0), 1000).expect("a read"), None);
    }
}
