//! Ctrl-C while somebody is asked: the question is over, in words, and the command ends as any that failed.
//!
//! The signal's own way (dying of it) is gone for good once a process has asked to be told of it; so whoever waits for a
//! person waits through here, every time.

/// Somebody pressed Ctrl-C instead of answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// Waits for an answer, or for Ctrl-C.
///
/// # Errors
/// [`Cancelled`]
///
/// # Cancel safety
/// As `answer` itself; nothing else is held.
pub async fn unless_cancelled<T>(answer: impl Future<Output = T>) -> Result<T, Cancelled> {
    tokio::select! {
        biased;
        // Where nobody can be told of the signal, it still ends the process.
        Ok(()) = tokio::signal::ctrl_c() => Err(Cancelled),
        answer = answer => Ok(answer),
    }
}
