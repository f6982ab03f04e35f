//! What criterion measured, as ratios to the reference workload of the same run, against the ratios that were recorded: so a
//! slower machine, or a busy one, is not taken for slower code.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The name of the reference in each group.
const REFERENCE: &str = "reference";
/// So much dearer than recorded is worth a look: twice what runs differ by on a quiet machine.
const WORTH_A_LOOK: f64 = 1.2;

/// Nanoseconds by bench: `auth/receipt`.
type Medians = BTreeMap<String, f64>;

/// Compares, or records.
pub(crate) fn run(criterion: &Path, baseline: &Path, record: bool) -> Result<()> {
    let ratios = ratios(&medians(criterion)?)?;
    if record {
        let rounded: BTreeMap<_, _> =
            ratios.iter().map(|(name, (_, ratio))| (name, (ratio * 1e4).round() / 1e4)).collect();
        fs::write(baseline, serde_json::to_string_pretty(&rounded)? + "\n")?;
    }
    let recorded: BTreeMap<String, f64> = match fs::read_to_string(baseline) {
        Ok(text) => serde_json::from_str(&text).with_context(|| baseline.display().to_string())?,
        Err(_) => BTreeMap::new(),
    };
    println!("{:<44} {:>14} {:>12} {:>10} {:>8}", "bench", "median ns", "× reference", "recorded", "change");
    for (name, (nanoseconds, ratio)) in &ratios {
        let (known, change) = match recorded.get(name) {
            Some(known) => (format!("{known:.4}"), format!("{:+.0} %", (ratio / known - 1.0) * 100.0)),
            None => ("new".to_owned(), String::new()),
        };
        let look = recorded.get(name).is_some_and(|known| ratio / known > WORTH_A_LOOK);
        let look = if look { "  dearer than recorded" } else { "" };
        println!("{name:<44} {nanoseconds:>14.0} {ratio:>12.4} {known:>10} {change:>8}{look}");
    }
    Ok(())
}

/// Every bench of every group that has one; those of the last run.
fn medians(criterion: &Path) -> Result<Medians> {
    let folders = |path: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(path).with_context(|| format!("{} (run cargo bench)", path.display()))?;
        Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
    };
    let mut medians = Medians::new();
    for group in folders(criterion)? {
        for bench in folders(&group)? {
            let Ok(text) = fs::read_to_string(bench.join("new/estimates.json")) else { continue };
            let estimates: Value = serde_json::from_str(&text)?;
            let median = estimates.pointer("/median/point_estimate").and_then(Value::as_f64);
            let name = [&group, &bench].map(|path| path.file_name().unwrap_or_default().to_string_lossy());
            medians.insert(name.join("/"), median.context("no median")?);
        }
    }
    Ok(medians)
}

/// Nanoseconds, and how many references that is.
fn ratios(medians: &Medians) -> Result<BTreeMap<String, (f64, f64)>> {
    let mut ratios = BTreeMap::new();
    for (name, nanoseconds) in medians {
        let Some((group, bench)) = name.split_once('/') else { continue };
        let reference = medians.get(&format!("{group}/{REFERENCE}"));
        if let Some(reference) = reference.filter(|_| bench != REFERENCE) {
            ratios.insert(name.clone(), (*nanoseconds, nanoseconds / reference));
        }
    }
    ensure!(!ratios.is_empty(), "no benches with a reference");
    Ok(ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_twice_as_slow_has_the_same_ratios() {
        let run = |factor: f64| {
            let medians = [("auth/reference", 40.0), ("auth/receipt", 100.0), ("other/thing", 7.0)];
            ratios(&medians.map(|(name, ns)| (name.to_owned(), ns * factor)).into()).unwrap()
        };
        assert_eq!(run(1.0)["auth/receipt"].1, 2.5);
        assert_eq!(run(2.0)["auth/receipt"].1, 2.5);
        assert_eq!(run(1.0).len(), 1, "a group without a reference says nothing");
    }

    #[test]
    fn without_a_run_it_says_what_to_do() {
        let error = run(Path::new("/nowhere"), Path::new("/nowhere.json"), false).unwrap_err();
        assert!(format!("{error:#}").contains("run cargo bench"));
    }
}
