//! Standard input and output as they are: every byte at once, nothing kept back.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::fs::File;

/// Standard input.
///
/// # Errors
/// It is closed.
pub fn input() -> io::Result<File> {
    of(io::stdin())
}

/// Standard output.
///
/// # Errors
/// It is closed.
pub fn output() -> io::Result<File> {
    of(io::stdout())
}

/// Standard error.
///
/// # Errors
/// It is closed.
pub fn errors() -> io::Result<File> {
    of(io::stderr())
}

fn of(stream: impl AsFd) -> io::Result<File> {
    let descriptor: OwnedFd = stream.as_fd().try_clone_to_owned()?;
    Ok(File::from_std(fs::File::from(descriptor)))
}
