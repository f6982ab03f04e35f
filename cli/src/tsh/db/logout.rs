//! `tsh db logout`.

use anyhow::bail;

use super::saved::Saved;
use crate::{output::print_text, profile::Profile, tsh::context::Context};

pub(in crate::tsh) fn run(context: &Context, name: Option<&str>) -> anyhow::Result<()> {
    context.refuse_identity()?;
    let _leaving = context.home.lock()?;
    let profile = Profile::load(&context.home, &context.selection)?;
    let all = Saved::all(&context.home, &profile)?;
    if all.is_empty() {
        bail!("Not logged into any databases");
    }
    let leaving = match name {
        Some(_) => vec![Saved::chosen(&context.home, &profile, name)?],
        None => all,
    };
    for saved in &leaving {
        saved.remove(&context.home, &profile)?;
    }
    Ok(print_text(&text(&leaving))?)
}

fn text(left: &[Saved]) -> String {
    match left {
        [one] => format!("Logged out of database {}", one.name),
        _ => "Logged out of all databases".to_owned(),
    }
}
