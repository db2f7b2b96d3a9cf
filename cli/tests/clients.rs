//! Clients as they are, against processes of the real binary: `bench/check_clients.py` with few rows.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a script of `bench/`.
fn script(name: &str) -> Command {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench");
    let mut command = Command::new("python3");
    command.arg(bench.join(name)).stdin(Stdio::null());
    command
}

#[test]
fn clients_work_unmodified() {
    // Python, or the package index, may not be there.
    let prepared = script("environment.py").output();
    match prepared {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            eprintln!("skipped: the drivers could not be installed: {why}");
            return;
        }
        Err(error) => {
            eprintln!("skipped: python3 cannot be run: {error}");
            return;
        }
    }
    let output = script("check_clients.py")
        .args(["--quick", "--inshore", env!("CARGO_BIN_EXE_inshore")])
        .args(["--", "-q", "--timeout", "120"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
