//! The demo from the outside: a lake, a cluster of processes, all queries; and no process stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn demo(dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inshore"));
    command
        .args(["demo", "--scale", "0.001", "--dir"])
        .arg(dir)
        .args(more)
        .stdin(Stdio::null());
    command
}

/// Whether a process runs; a dead one that nobody has waited for does not.
fn runs(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = state
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

#[test]
fn all_queries_run_and_the_cluster_dies_with_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let output = demo(&dir, &[]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}\n{errors}");
    for number in 1..=22 {
        let name = format!("Q{number} ");
        let line = text.lines().find(|line| line.starts_with(&name));
        let line = line.unwrap_or_else(|| panic!("no line of {name}in\n{text}"));
        assert!(line.contains(" s "), "{line}");
    }
    assert!(text.contains("EXPLAIN ANALYZE of Q3"), "{text}");

    let mut child = demo(&dir, &["--keep"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pids = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, rest)) = line.split_once(" pid ") {
            pids.push(rest.split_whitespace().next().unwrap().to_owned());
        }
        if pids.len() == 3 {
            break;
        }
    }
    assert_eq!(pids.len(), 3);
    if cfg!(target_os = "linux") {
        assert!(pids.iter().all(|pid| runs(pid)));
        // As kill -9 does: nothing of the demo's own runs any more.
        child.kill().unwrap();
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while pids.iter().any(|pid| runs(pid)) {
            assert!(Instant::now() < deadline, "children outlive the demo");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}
