//! Why a command ended without success, and the exit code that says so.

use std::io::Write;
use std::process::ExitCode;

/// The end of a command that did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// Bad arguments or configuration: exit code 2.
    Usage(anyhow::Error),
    /// Something went wrong while running: exit code 1.
    Run(anyhow::Error),
    /// A statement failed and its error has been shown already: exit code 1.
    Shown,
    /// Whoever read our output has gone (`| head`): nothing to say, exit code 0.
    OutputClosed,
}

impl Failure {
    /// Tells the user, on stderr, and gives the exit code.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Usage(error) => {
                say(&format!("error: {}", describe(&error)));
                ExitCode::from(2)
            }
            Self::Run(error) => {
                say(&format!("error: {}", describe(&error)));
                ExitCode::from(1)
            }
            Self::Shown => ExitCode::from(1),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

/// Writes a line to stderr; unlike `eprintln!` it does not panic when stderr is closed.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The error and its causes in one text, leaving out causes that the text before repeats.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !cause.is_empty() && !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_joined_once() {
        let error = anyhow::anyhow!("no route").context("cannot connect: no route");
        assert_eq!(describe(&error), "cannot connect: no route");
        let error = anyhow::anyhow!("no route").context("cannot connect");
        assert_eq!(describe(&error), "cannot connect: no route");
    }
}
