//! Resources: the YAML kinds that administrators write, strictly parsed.
