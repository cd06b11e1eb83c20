//! Folders that no handler may be granted.
//!
//! Owns the reasons: the job must not give away what a guest could read there. Never checks whether a folder exists:
//! the sandbox does.

use std::path::Path;

use gristmill_config::{Draft, Report};

use crate::context::Context;
use crate::data::real;
use crate::jobs::Source;
use crate::location::Location;

/// The system's information about itself and every process, and its devices.
const SYSTEM: [&str; 3] = ["/proc", "/sys", "/dev"];
/// A folder in memory, which may be granted like any other.
const SHARED_MEMORY: &str = "/dev/shm";

const NARROW: &str = "grant the folder alone that the handler reads";

/// Reads a job file, and checks the folders that it grants.
pub(crate) fn read(source: &Source, file: &Path, context: &Context) -> Result<Draft, Report> {
    let mut draft = source.read(file)?;
    let location = Location::of(context, Some(file)).ok();
    let data = location.as_ref().and_then(Location::folder);
    draft.check_folders(|folder| fault(folder, data));
    Ok(draft)
}

/// Why a folder must not be granted, and what to do.
fn fault(folder: &Path, data: Option<&Path>) -> Option<(String, String)> {
    let (granted, data) = (real(folder), data.map(real));
    let because =
        |reason: String, hint: &str| Some((format!("the grant of {} {reason}", folder.display()), hint.to_owned()));
    if granted == Path::new("/") {
        return because("gives the handler all of this machine's files".to_owned(), NARROW);
    }
    if !granted.starts_with(SHARED_MEMORY)
        && let Some(system) = SYSTEM.into_iter().find(|system| granted.starts_with(system))
    {
        return because(format!("gives the handler what {system} tells of this machine and its processes"), NARROW);
    }
    let data = data?;
    if data.starts_with(&granted) || granted.starts_with(&data) {
        let reason =
            format!("gives the handler the data folder, {}, with every job's items and outputs", data.display());
        return because(reason, "grant a folder beside it, or keep the data elsewhere with --data");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_gives_away_the_house_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("input/deep")).unwrap();
        std::os::unix::fs::symlink("/proc", path("link")).unwrap();
        let data = path(".gristmill");
        let refused = |granted: &Path| fault(granted, Some(&data)).map(|(message, _)| message);
        for (granted, says) in [
            (Path::new("/"), "all of this machine's files"),
            (Path::new("/proc/self"), "/proc"),
            (Path::new("/dev"), "/dev"),
            (&path("link"), "/proc"),
            (&path("input/../../../../../../../sys"), "/sys"),
            (folder.path(), "the data folder"),
            (&data, "the data folder"),
            (&path(".gristmill/blobs"), "the data folder"),
            (&path("input/.."), "the data folder"),
        ] {
            let message = refused(granted);
            assert!(message.as_ref().is_some_and(|message| message.contains(says)), "{granted:?}: {message:?}");
        }
        for granted in [&path("input"), &path("not-here"), Path::new("/dev/shm"), Path::new("/process")] {
            assert_eq!(refused(granted), None);
        }
        assert_eq!(fault(folder.path(), None), None, "there is no data folder with Postgres");
    }
}
