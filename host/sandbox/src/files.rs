//! Granted folders as a guest sees them: read-only, only regular files and folders, a few open at a time.
//!
//! Owns the handles of the folders. They are opened once, when the job is loaded, so that the folder that was checked
//! is the one that is used. Replaces the functions of WASI's file system that could block (on a pipe), run for long (in
//! a huge folder), or use memory that the guest's limit does not count. Never follows a path out of a folder.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::sync::{Arc, Weak};

use gristmill_model::{FileGrant, Grants};
use rustix::fs::{AtFlags, fstat, openat, openat2, statat};
use rustix::fs::{CWD, Dir as Entries, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::{Descriptor, Dir, FsPerms, OpenMode};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, DirectoryEntry, ErrorCode, OpenFlags, PathFlags,
};

use crate::Error;
use crate::state::State;

/// The interfaces, with the version that wasmtime-wasi uses.
const TYPES: &str = "wasi:filesystem/types@0.2.12";
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";

/// How many files and folders an attempt may hold open, if the machine's limits allow so many.
pub(crate) const OPEN_MAX: usize = 64;

/// How many listings of folders an attempt may have open: each holds a few KiB that its limit does not count.
const LISTINGS_MAX: usize = 16;

/// What a stage may touch, with the folders open.
#[derive(Debug, Default)]
pub struct Granted {
    pub(crate) grants: Grants,
    folders: Vec<Folder>,
}

#[derive(Debug)]
struct Folder {
    guest: String,
    handle: File,
}

impl Granted {
    /// Opens the granted folders. `component` is their user's name in the error.
    pub(crate) fn open(grants: &Grants, component: &str) -> std::result::Result<Self, Error> {
        let open = |grant: &FileGrant| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let handle = openat(CWD, &grant.host, flags, Mode::empty()).map_err(|source| Error::Folder {
                component: component.to_owned(),
                host: grant.host.display().to_string(),
                guest: grant.guest.clone(),
                source: source.into(),
            })?;
            Ok(Folder { guest: grant.guest.clone(), handle: handle.into() })
        };
        let folders = grants.files.iter().map(open).collect::<std::result::Result<_, Error>>()?;
        Ok(Self { grants: grants.clone(), folders })
    }
}

/// What an attempt holds open.
pub(crate) struct OpenFiles {
    /// Weak, so that closed files do not count; they are removed when another file is opened.
    files: Vec<Weak<File>>,
    listings: usize,
    files_max: usize,
}

impl OpenFiles {
    pub(crate) fn new(files_max: usize) -> Self {
        Self { files: Vec::new(), listings: 0, files_max }
    }

    /// Whether there is room for another file.
    fn has_room(&mut self) -> bool {
        self.files.retain(|file| file.strong_count() > 0);
        self.files.len() < self.files_max
    }

    fn hold(&mut self, descriptor: &Descriptor) {
        self.files.push(Arc::downgrade(match descriptor {
            Descriptor::File(file) => &file.file,
            Descriptor::Dir(folder) => &folder.dir,
        }));
    }
}

/// A listing of a folder, read entry by entry.
pub(crate) struct Listing(Entries);

type Answer<T> = std::result::Result<T, ErrorCode>;
type OpenParams = (Resource<Descriptor>, PathFlags, String, OpenFlags, DescriptorFlags);

/// Links the functions that replace WASI's own. WASI must be linked before.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    linker.instance(PREOPENS)?.func_wrap("get-directories", |mut store: StoreContextMut<'_, State>, (): ()| {
        store.data_mut().granted_folders().map(|folders| (folders,))
    })?;
    let mut types = linker.instance(TYPES)?;
    types.func_wrap("[method]descriptor.open-at", |mut store: StoreContextMut<'_, State>, params: OpenParams| {
        Ok((store.data_mut().open_at(params)?,))
    })?;
    types.resource("directory-entry-stream", ResourceType::host::<Listing>(), |mut store, rep| {
        let state: &mut State = store.data_mut();
        state.table.delete(Resource::<Listing>::new_own(rep))?;
        state.open.listings -= 1;
        Ok(())
    })?;
    types.func_wrap(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, State>, (folder,): (Resource<Descriptor>,)| {
            Ok((store.data_mut().read_directory(&folder)?,))
        },
    )?;
    types.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: StoreContextMut<'_, State>, (listing,): (Resource<Listing>,)| {
            Ok((store.data_mut().table.get_mut(&listing)?.next(),))
        },
    )
}

impl State {
    /// The granted folders, under the names by which the guest knows them.
    fn granted_folders(&mut self) -> Result<Vec<(Resource<Descriptor>, String)>> {
        let granted = Arc::clone(&self.granted);
        let mut folders = Vec::with_capacity(granted.folders.len());
        for folder in &granted.folders {
            match folder.handle.try_clone() {
                Ok(handle) => {
                    let folder_of_guest = Descriptor::Dir(read_only(handle));
                    folders.push((self.table.push(folder_of_guest)?, folder.guest.clone()));
                }
                Err(error) => {
                    let what = format!("cannot open the granted folder {}: {error}", folder.guest);
                    self.log.lock().message("host", &what);
                }
            }
        }
        Ok(folders)
    }

    fn open_at(&mut self, (folder, how, path, open, flags): OpenParams) -> Result<Answer<Resource<Descriptor>>> {
        let Descriptor::Dir(folder) = self.table.get(&folder)? else { return Ok(Err(ErrorCode::NotDirectory)) };
        let folder = Arc::clone(&folder.dir);
        if !self.open.has_room() {
            return Ok(Err(ErrorCode::Quota));
        }
        match open_file(&folder, how, &path, open, flags) {
            Ok(descriptor) => {
                self.open.hold(&descriptor);
                Ok(Ok(self.table.push(descriptor)?))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    fn read_directory(&mut self, folder: &Resource<Descriptor>) -> Result<Answer<Resource<Listing>>> {
        let Descriptor::Dir(folder) = self.table.get(folder)? else { return Ok(Err(ErrorCode::NotDirectory)) };
        if self.open.listings == LISTINGS_MAX {
            return Ok(Err(ErrorCode::Quota));
        }
        match Entries::read_from(&*folder.dir) {
            Ok(entries) => {
                let listing = self.table.push(Listing(entries))?;
                self.open.listings += 1;
                Ok(Ok(listing))
            }
            Err(error) => Ok(Err(code(error))),
        }
    }
}

fn read_only(folder: File) -> Dir {
    Dir::new(folder, FsPerms::ReadOnly, OpenMode::READ, true)
}

/// Opens a file or a folder below a folder. Opening does not wait for the other end of a pipe. The kind of the file is
/// checked afterwards, when nobody can exchange it any more.
fn open_file(folder: &File, how: PathFlags, path: &str, open: OpenFlags, flags: DescriptorFlags) -> Answer<Descriptor> {
    let writes = DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY;
    if open.intersects(OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE) || flags.intersects(writes) {
        return Err(ErrorCode::NotPermitted);
    }
    let mut how_to = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    how_to.set(OFlags::NOFOLLOW, !how.contains(PathFlags::SYMLINK_FOLLOW));
    how_to.set(OFlags::DIRECTORY, open.contains(OpenFlags::DIRECTORY));
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(folder, path, how_to, Mode::empty(), beneath).map_err(code)?);
    match FileType::from_raw_mode(fstat(&file).map_err(code)?.st_mode) {
        FileType::RegularFile => {
            let file = wasmtime_wasi::filesystem::File::new(file, FsPerms::ReadOnly, OpenMode::READ, true);
            Ok(Descriptor::File(file))
        }
        FileType::Directory => Ok(Descriptor::Dir(read_only(file))),
        _ => Err(ErrorCode::Access),
    }
}

impl Listing {
    fn next(&mut self) -> Answer<Option<DirectoryEntry>> {
        loop {
            let entry = match self.0.next() {
                None => return Ok(None),
                Some(entry) => entry.map_err(code)?,
            };
            if entry.file_name() == c"." || entry.file_name() == c".." {
                continue;
            }
            let name = entry.file_name().to_str().map_err(|_| ErrorCode::IllegalByteSequence)?.to_owned();
            return Ok(Some(DirectoryEntry { type_: self.kind(entry.file_name(), entry.file_type()), name }));
        }
    }

    /// The kind of an entry. Some file systems do not include it in their listings.
    fn kind(&self, name: &CStr, listed: FileType) -> DescriptorType {
        let kind = match listed {
            FileType::Unknown => {
                let stat = self.0.fd().and_then(|folder| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW));
                stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
            }
            known => known,
        };
        match kind {
            FileType::RegularFile => DescriptorType::RegularFile,
            FileType::Directory => DescriptorType::Directory,
            FileType::Symlink => DescriptorType::SymbolicLink,
            FileType::Fifo => DescriptorType::Fifo,
            FileType::BlockDevice => DescriptorType::BlockDevice,
            FileType::CharacterDevice => DescriptorType::CharacterDevice,
            FileType::Socket => DescriptorType::Socket,
            FileType::Unknown => DescriptorType::Unknown,
        }
    }
}

/// The error code that a guest gets for an error of the system.
fn code(error: Errno) -> ErrorCode {
    match error {
        // The path leads out of the folder.
        Errno::XDEV => ErrorCode::NotPermitted,
        error => io::Error::from(error).into(),
    }
}
