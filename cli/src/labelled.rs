//! Listings of databases and nodes that are narrowed down, in `tsh` and `tctl` alike.

use auth::proto::Target;
use clap::Args;

use crate::ssh::Labels;

/// What a listing is narrowed down to.
#[derive(Debug, Args)]
pub(crate) struct Labelled {
    /// Only those with these labels: key=value,...
    #[arg(value_name = "LABELS")]
    labels: Option<Labels>,
    /// Only those with all of these words in their name, description, address or labels: word,...
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    search: Vec<String>,
}

impl Labelled {
    /// True where nothing was asked for, too.
    pub(crate) fn has(&self, target: &Target) -> bool {
        self.labels.as_ref().is_none_or(|labels| labels.select(&target.labels))
            && self.search.iter().all(|word| says(target, &word.to_lowercase()))
    }
}

/// True where what is shown of a target has the word in it, in any case.
fn says(target: &Target, word: &str) -> bool {
    let Target { name, description, public_addr, hostname, labels, .. } = target;
    let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
    let texts = [name, description, public_addr, hostname].into_iter().cloned().chain(labels);
    texts.into_iter().any(|text| text.to_lowercase().contains(word))
}
