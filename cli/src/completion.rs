//! `completion SHELL` of both programs: what a shell needs to complete what is typed.

use std::io;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::output::OutputError;

/// For which shell.
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell that shall complete
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    /// Prints the script of a program.
    pub(crate) fn print<P: CommandFactory>(&self) -> Result<(), OutputError> {
        let mut command = P::command();
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        io::Write::write_all(&mut io::stdout().lock(), &script).map_err(OutputError::Write)
    }
}
