//! `tsh env`: a shell that goes on with the current proxy and cluster, whichever is the current one later.

use serde::Serialize;

use super::{arguments::Env, context::Context};
use crate::{
    output::{self, Format},
    profile::Profile,
};

/// The variables, by name.
#[derive(Serialize)]
struct Variables {
    #[serde(rename = "TSH_CLUSTER")]
    cluster: String,
    #[serde(rename = "TSH_PROXY")]
    proxy: String,
}

pub(super) fn run(context: &Context, arguments: &Env) -> anyhow::Result<()> {
    if arguments.unset {
        return Ok(output::print_text("unset TSH_PROXY\nunset TSH_CLUSTER")?);
    }
    let Profile { proxy, cluster, .. } = Profile::load(&context.home, &context.selection)?;
    let variables = Variables { cluster: cluster.to_string(), proxy: proxy.to_string() };
    match arguments.listing.format {
        Format::Text => output::print_text(&exports(&variables)?)?,
        format => output::print(format, &variables, String::new)?,
    }
    Ok(())
}

fn exports(Variables { cluster, proxy }: &Variables) -> anyhow::Result<String> {
    let (proxy, cluster) = (shlex::try_quote(proxy)?, shlex::try_quote(cluster)?);
    Ok(format!("export TSH_PROXY={proxy}\nexport TSH_CLUSTER={cluster}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_each_as_one_word() {
        let variables = Variables { cluster: "main".to_owned(), proxy: "[::1]:3080".to_owned() };
        let words = shlex::split(&exports(&variables).unwrap()).unwrap();
        assert_eq!(words, ["export", "TSH_PROXY=[::1]:3080", "export", "TSH_CLUSTER=main"]);
    }
}
