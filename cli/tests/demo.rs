//! The demo from the outside: a lake made by statements, a cluster of processes, all queries; and
//! neither a process nor a generated file stays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use parquet::file::reader::{FileReader, SerializedFileReader};

/// The tables and their rows at scale 0.001.
const TABLES: [(&str, i64); 8] = [
    ("region", 5),
    ("nation", 25),
    ("supplier", 10),
    ("customer", 150),
    ("part", 200),
    ("partsupp", 800),
    ("orders", 1_500),
    ("lineitem", 6_005),
];

fn demo(dir: &Path, scale: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inshore"));
    command
        .args(["demo", "--scale", scale, "--dir"])
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

/// The Parquet files below a folder.
fn data_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(data_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "parquet") {
            files.push(path);
        }
    }
    files
}

fn rows_of(file: &Path) -> i64 {
    let reader = SerializedFileReader::new(File::open(file).unwrap()).unwrap();
    reader.metadata().file_metadata().num_rows()
}

/// What the demo printed of its statements.
fn check_statements(text: &str) {
    assert!(
        text.contains("CREATE SCHEMA IF NOT EXISTS tpch\n"),
        "{text}"
    );
    for (table, rows) in TABLES {
        let create = format!("CREATE TABLE tpch.{table} (");
        let line = text.lines().find(|line| line.contains(&create)).unwrap();
        assert!(line.contains(" NOT NULL, … "), "{line}");
        let insert = format!("INSERT INTO tpch.{table} SELECT * FROM '…/generate/{table}/");
        let line = text.lines().find(|line| line.contains(&insert)).unwrap();
        let figures: Vec<&str> = line.split_whitespace().take(3).collect();
        assert_eq!(figures[1], "s", "{line}");
        assert_eq!(figures[2].replace(',', ""), rows.to_string(), "{line}");
    }
    assert!(
        text.contains(" PARTITIONED BY (month(l_shipdate))\n"),
        "{text}"
    );
    assert!(
        text.contains("      8,695         total: 8 tables, "),
        "{text}"
    );
}

/// What there is of the lake, by the files alone and by asking.
fn check_lake(dir: &Path) {
    for (table, rows) in TABLES {
        let files = data_files(&dir.join("warehouse/tpch").join(table));
        let found: i64 = files.iter().map(|file| rows_of(file)).sum();
        assert_eq!(found, rows, "{table}");
    }
    let sql = "SELECT count(*) AS months, sum(record_count) AS rows, max(file_count) AS files \
               FROM \"lineitem$partitions\"";
    let output = Command::new(env!("CARGO_BIN_EXE_inshore"))
        .args(["sql", "--format", "csv", "-c", sql, "--config"])
        .arg(dir.join("cluster.toml"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Of the 84 months those that have rows.
    assert_eq!(text, "months,rows,files\n83,6005,1\n");
    assert!(!dir.join("generate").exists());
    assert!(!dir.join("inshore-demo.unfinished").exists());
}

#[test]
fn an_interrupt_leaves_no_generated_file() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let child = demo(&dir, "10", &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !dir.join("generate/lineitem/01.parquet").exists() {
        assert!(Instant::now() < deadline, "nothing is generated");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.ends_with("error: interrupted\n"), "{errors}");
    assert!(!dir.join("generate").exists());
    assert!(dir.join("inshore-demo.unfinished").exists());
}

#[test]
fn all_queries_run_and_the_cluster_dies_with_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let output = demo(&dir, "0.001", &[]).output().unwrap();
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
    check_statements(&text);
    check_lake(&dir);

    let mut child = demo(&dir, "0.001", &["--keep"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pids = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        assert!(!line.contains("INSERT"), "the lake is made again: {line}");
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
