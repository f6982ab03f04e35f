//! What goes on failing is said once, and again once in a while: a night's outage is a page of log and not a book.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// For so long the same is no news.
const QUIET: Duration = Duration::from_secs(60);

/// One thing that may fail again and again.
#[derive(Debug, Default)]
pub struct Repeated(Option<(String, Instant)>);

impl Repeated {
    /// True where it failed otherwise than the last time that this was true, or that was a minute ago.
    pub fn is_news(&mut self, failure: &dyn Display) -> bool {
        self.is_news_at(failure, Instant::now())
    }

    fn is_news_at(&mut self, failure: &dyn Display, now: Instant) -> bool {
        let failure = failure.to_string();
        let known = self.0.as_ref();
        let known = known.is_some_and(|(said, at)| *said == failure && now.duration_since(*at) < QUIET);
        if !known {
            self.0 = Some((failure, now));
        }
        !known
    }

    /// It works again: the next failure is news, whatever it is.
    pub fn is_over(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_news_once_a_minute_and_another_at_once() {
        let (mut failure, start) = (Repeated::default(), Instant::now());
        let mut is_news =
            |what: &str, seconds| failure.is_news_at(&what, start + Duration::from_secs(seconds));
        assert!(is_news("no descriptors", 0));
        assert!(!is_news("no descriptors", 1) && !is_news("no descriptors", 59));
        assert!(is_news("no descriptors", 60) && !is_news("no descriptors", 119));
        assert!(is_news("no memory", 119) && !is_news("no memory", 120));
        failure.is_over();
        assert!(failure.is_news_at(&"no memory", start + Duration::from_secs(121)));
    }
}
