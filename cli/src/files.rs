//! Files that only their owner may read, written whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use nix::errno::Errno;

/// Largest file that is read back: keys, certificates and profiles are far smaller.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Longest file name made from an outside name; the rest of the usual limit of 255 is for suffixes.
const MAX_FILE_NAME_BYTES: usize = 180;

/// The sticky bit: a directory that everybody writes to, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// Makes a directory and its parents with mode 0700; one that exists is narrowed to 0700.
///
/// # Errors
/// What the operating system says, or `PermissionDenied` for a directory that is meant to be shared: narrowing it would
/// lock everybody else out.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & STICKY != 0 {
        let shared = format!("{} is shared with other users", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, shared));
    }
    if mode & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Replaces `path` by `contents`, mode 0600. Readers see the old file or the new one, never a part; after a crash too.
/// The directory must exist.
///
/// # Errors
/// What the operating system says; the temporary file is removed.
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    let written = write_new(&temporary, contents).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let mut nonce = [0; 8];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| io::Error::other("no randomness"))?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?);
    name.push(format!(".{}.tmp", hex::encode(nonce)));
    Ok(path.with_file_name(name))
}

/// Reads a whole file of at most 1 MiB; `None` where there is none.
///
/// # Errors
/// What the operating system says, or `InvalidData` for a larger file.
pub fn read_optional(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut contents = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is larger than 1 MiB"));
    }
    Ok(Some(contents))
}

/// [`read_optional`] for text.
///
/// # Errors
/// As [`read_optional`], and `InvalidData` where the file is not UTF-8.
pub fn read_optional_text(path: &Path) -> io::Result<Option<String>> {
    let Some(contents) = read_optional(path)? else { return Ok(None) };
    let text = String::from_utf8(contents).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Some(text))
}

/// Waits until nobody else holds the lock, then holds it until the result is dropped: for whoever changes several files that
/// belong together, or one that it read before. The directory must exist.
///
/// Where the file system knows no locks there is none.
///
/// # Errors
/// What the operating system says about the file.
pub fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    held(file, File::lock)
}

/// Waits until nobody changes what the lock is about; `None` where nobody ever did.
///
/// # Errors
/// As [`lock`].
pub fn lock_to_read(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => held(opened?, File::lock_shared).map(Some),
    }
}

/// As file systems on a network say it, too.
fn knows_no_locks(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(Errno::ENOLCK as i32)
}

fn held(file: File, lock: impl Fn(&File) -> io::Result<()>) -> io::Result<File> {
    loop {
        match lock(&file) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if !knows_no_locks(&error) => return Err(error),
            _ => return Ok(file),
        }
    }
}

/// Removes a file; true where there was one.
///
/// # Errors
/// What the operating system says.
pub fn remove_if_present(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// A file name for a name from outside: letters, digits and `_@+=.-` stay, every other byte becomes `%XX`, and so does
/// a leading dot. No result holds `/`, is hidden, or is `.` or `..`; different names give different results. Colons go
/// too: libpq takes what stands before a colon in `sslkey` for the name of a crypto engine.
#[must_use]
pub fn file_name(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"_@+=.-".contains(&byte);
        if plain && !(at == 0 && byte == b'.') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    if encoded.is_empty() {
        return "%".to_owned();
    }
    if encoded.len() > MAX_FILE_NAME_BYTES {
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        return format!("%{}", hex::encode(digest));
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn directories_are_0700_and_files_0600() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("keys").join("proxy");
        create_private_directory(&directory).unwrap();
        let file = directory.join("alice");
        write_private(&file, b"secret").unwrap();
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&home.path().join("keys")), 0o700);
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn a_wide_open_directory_is_narrowed() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("open");
        DirBuilder::new().mode(0o755).create(&directory).unwrap();
        create_private_directory(&directory).unwrap();
        assert_eq!(mode(&directory), 0o700);
    }

    #[test]
    fn a_directory_shared_by_everybody_is_refused_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("shared");
        DirBuilder::new().create(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o1777)).unwrap();
        let refused = create_private_directory(&directory).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(mode(&directory), 0o777);
    }

    #[test]
    fn a_replaced_file_is_narrowed_and_no_temporary_stays() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("profile");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        write_private(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(mode(&file), 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_no_temporary() {
        let home = tempfile::tempdir().unwrap();
        let occupied = home.path().join("occupied");
        fs::create_dir(&occupied).unwrap();
        fs::write(occupied.join("inside"), "kept").unwrap();
        assert!(write_private(&occupied, b"new").is_err());
        assert_eq!(fs::read(occupied.join("inside")).unwrap(), b"kept");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_symbolic_link_is_replaced_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let victim = home.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        write_private(&link, b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    }

    #[test]
    fn outside_names_cannot_leave_their_directory() {
        assert_eq!(file_name("../../etc/passwd"), "%2E.%2F..%2Fetc%2Fpasswd");
        assert_eq!(file_name(".."), "%2E.");
        assert_eq!(file_name("."), "%2E");
        assert_eq!(file_name("/"), "%2F");
        assert_eq!(file_name("a\0b"), "a%00b");
        assert_eq!(file_name(""), "%");
    }

    #[test]
    fn ordinary_names_stay_readable_and_differing_names_differ() {
        assert_eq!(file_name("alice@example.com"), "alice@example.com");
        assert_eq!(file_name("a:b"), "a%3Ab");
        assert_ne!(file_name("a/b"), file_name("a%2Fb"));
        let long = "x".repeat(255);
        assert!(file_name(&long).len() < 100);
        assert_ne!(file_name(&long), file_name(&"x".repeat(254)));
    }

    #[test]
    fn an_oversized_file_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("large");
        fs::write(&file, vec![b'x'; (MAX_FILE_BYTES + 1) as usize]).unwrap();
        assert_eq!(read_optional(&file).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
