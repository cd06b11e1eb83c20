//! The password of a database whose URL has none.
//!
//! Owns where to look for it, in libpq's order: `PGPASSWORD`, then the file `PGPASSFILE` or `~/.pgpass`. Never prints a
//! password, and never parses a passfile: the tracker does.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gristmill_tracker_postgres::with_password;

/// The largest passfile that is read.
const PASSFILE_BYTES_MAX: u64 = 1 << 20;

/// The URL with its password, if there is one anywhere.
pub(crate) fn complete(url: &str) -> String {
    static PASSFILE: OnceLock<String> = OnceLock::new();
    let given = std::env::var("PGPASSWORD").ok();
    with_password(url, given.as_deref(), PASSFILE.get_or_init(passfile))
}

fn passfile() -> String {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let Some(path) = variable("PGPASSFILE").or_else(|| Some(variable("HOME")?.join(".pgpass"))) else {
        return String::new();
    };
    match read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            tracing::warn!("the passfile {} is not used: {error}", path.display());
            String::new()
        }
    }
}

/// Refuses a file that others may read, as libpq does.
fn read(path: &Path) -> io::Result<String> {
    let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let file = gristmill_files::open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        return Err(refused("other users may read it; `chmod 600` closes it"));
    }
    let bytes = gristmill_files::read_all(file, PASSFILE_BYTES_MAX)?.ok_or_else(|| refused("it is too large"))?;
    String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_passfile_that_others_may_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("chmod 600"));
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path).unwrap(), "*:*:*:*:secret\n");
        assert!(read(Path::new("/dev/zero")).is_err());
    }
}
