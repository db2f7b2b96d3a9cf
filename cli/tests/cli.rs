//! The binary from the outside: real processes, their output and their exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const MEMORY: &str = "[catalogs.mem]\ntype = \"memory\"\nwarehouse = \"file:///tmp/none\"\n";

fn inshore(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inshore"));
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("INSHORE_") {
            command.env_remove(name);
        }
    }
    command
}

/// A folder with an `inshore.toml`.
fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("inshore.toml"), config).unwrap();
    folder
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    inshore(dir).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn one_statement_on_the_embedded_engine() {
    let folder = folder(MEMORY);
    let output = run(folder.path(), &["sql", "-c", "select 1 as one"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), " one\n-----\n   1\n");
    assert!(
        stderr(&output).starts_with("(1 row, "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn several_statements_and_stdin() {
    let folder = folder(MEMORY);
    let arguments = [
        "sql",
        "--format",
        "csv",
        "-c",
        "select 1 as a; select ';' as b",
        "-c",
        "select 3 as c",
    ];
    let output = run(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "a\n1\nb\n;\nc\n3\n");

    let mut child = inshore(folder.path())
        .args(["sql", "--format", "ndjson"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"select 1 as a;\nselect 2 as a")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "{\"a\":1}\n{\"a\":2}\n");
}

#[test]
fn a_wrong_statement_ends_the_run_and_shows_its_place() {
    let folder = folder(MEMORY);
    let file = folder.path().join("q.sql");
    std::fs::write(&file, "select 1;\n\nselect\n  1 +* 2;\nselect 3;").unwrap();
    let output = run(folder.path(), &["sql", "--format", "csv", "-f", "q.sql"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!stdout(&output).contains('3'), "{}", stdout(&output));
    let text = stderr(&output);
    assert!(text.contains("error: q.sql:4: "), "{text}");
    assert!(text.contains("4 |   1 +* 2\n  |      ^"), "{text}");
}

#[test]
fn a_failed_run_leaves_no_output_file() {
    let folder = folder(MEMORY);
    let arguments = [
        "sql",
        "--format",
        "csv",
        "--output",
        "out.csv",
        "-c",
        "select 1; select nope",
    ];
    assert_eq!(run(folder.path(), &arguments).status.code(), Some(1));
    assert!(!folder.path().join("out.csv").exists());
    let arguments = [
        "sql",
        "--format",
        "csv",
        "--output",
        "out.csv",
        "-c",
        "select 1 as a",
    ];
    let output = run(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        std::fs::read_to_string(folder.path().join("out.csv")).unwrap(),
        "a\n1\n"
    );
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["inshore.toml", "out.csv"]);
}

#[test]
fn bad_arguments_and_configurations_exit_with_2() {
    let unknown = folder("[coordinator]\nlsten = \"127.0.0.1:1\"\n[worker]\nsit = \"x\"\n");
    let output = run(unknown.path(), &["config", "check"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.contains(
            "unknown key `coordinator.lsten` in inshore.toml line 2; did you mean `listen`?"
        ),
        "{text}"
    );
    assert!(text.contains("did you mean `site`?"), "{text}");
    for arguments in [
        &["sql", "-c", "select 1"][..],
        &["coordinator"],
        &["worker"],
        &["sql", "--format", "xml"],
        &["sql", "--connect", "http://x", "-c", "select 1"],
        &["sql", "-f", "missing.sql"],
        &["demo", "--scale", "0"],
        &["coordinator", "--config", "missing.toml"],
    ] {
        let output = run(unknown.path(), arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
    let astray = folder("[lakes.x]\nroot = \"file:///d\"\nmap = { \"old/\" = \"file:///e\" }\n");
    let output = run(astray.path(), &["config", "check"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.contains("lakes.x.map.\"old/\"") && text.contains("file:///d"),
        "{text}"
    );
    let empty = tempfile::tempdir().unwrap();
    let output = run(empty.path(), &["sql", "-c", "select 1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("--lake DIR"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn nothing_but_loopback_is_bound() {
    let folder = folder(MEMORY);
    let output = run(folder.path(), &["coordinator", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.contains("`coordinator.listen` (flag --listen)"),
        "{text}"
    );
    assert!(text.contains("without TLS"), "{text}");
}

#[test]
fn the_effective_configuration_is_printed() {
    let folder = folder(MEMORY);
    let output = inshore(folder.path())
        .args(["config", "check"])
        .env("INSHORE_WORKER_SITE", "dc1")
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("# environment INSHORE_WORKER_SITE"), "{text}");
    assert!(text.contains("catalogs.mem.type = \"memory\""), "{text}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let folder = folder(MEMORY);
    let mut child = inshore(folder.path())
        .args([
            "sql",
            "--format",
            "csv",
            "-c",
            "select unnest(range(0, 3000000))",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn an_interrupt_cancels_the_statement() {
    let folder = folder(MEMORY);
    // More pairs than can be looked at, by an operator that gives its thread back rarely.
    let sql = "select count(*) from (select unnest(range(0, 200000)) v) a, \
               (select unnest(range(0, 200000)) w) b where a.v % 7 > b.w % 5";
    let mut child = inshore(folder.path())
        .args(["--log", "inshore=debug", "sql", "-c", sql])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines
        .find(|line| {
            line.as_ref()
                .is_ok_and(|line| line.contains("the statement runs"))
        })
        .unwrap()
        .unwrap();
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(lines.next().unwrap().unwrap(), "cancelled");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn nobody_answering_is_an_error() {
    let folder = folder(MEMORY);
    let output = run(
        folder.path(),
        &["sql", "--connect", "grpc://127.0.0.1:1", "-c", "select 1"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("cannot connect to grpc://127.0.0.1:1"),
        "{}",
        stderr(&output)
    );
}

/// A coordinator process that ends with the test.
struct Server {
    child: std::process::Child,
    uri: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let mut child = inshore(dir)
            .args([
                "coordinator",
                "--listen",
                "127.0.0.1:0",
                "--exit-with-parent",
            ])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut uri = None;
        for line in lines {
            if let Some(found) = line.unwrap().strip_prefix("listening on ") {
                uri = Some(found.to_owned());
                break;
            }
        }
        Self {
            child,
            uri: uri.expect("the coordinator says where it listens"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_coordinator_answers_and_ends_with_its_parent() {
    let folder = folder(&format!(
        "{MEMORY}[coordinator]\nworker_wait_seconds = 0.2\n"
    ));
    let mut server = Server::start(folder.path());
    let output = run(
        folder.path(),
        &[
            "sql",
            "--connect",
            &server.uri,
            "--format",
            "csv",
            "-c",
            "select count(*) as workers from system.workers",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "workers\n0\n");
    drop(server.child.stdin.take());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_users_own_files_are_tables() {
    let folder = folder(
        "[catalogs.mem]\ntype = \"memory\"\nwarehouse = \"file:///tmp/none\"\n\
         [lakes.other]\nroot = \"file:///tmp/none\"\n",
    );
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/x.csv"), "a,b\n1,x\n2,y\n").unwrap();
    let sql = [
        "copy (select a + 1 as a from 'data/x.csv') to 'data/y.parquet'",
        "select sum(a) as total from './data/*.parquet'",
        "select b from \"data/x.csv\" where a = 2",
    ]
    .join("; ");
    let arguments = [
        "sql",
        "--config",
        "inshore.toml",
        "--format",
        "csv",
        "-c",
        &sql,
    ];
    let output = run(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "count\n2\ntotal\n5\nb\ny\n");
    let inner = folder.path().join("data");
    let sql = "select count(*) as n from '../data/x.csv'";
    let config = folder.path().join("inshore.toml");
    let arguments = [
        "sql",
        "--config",
        config.to_str().unwrap(),
        "--format",
        "csv",
        "-c",
        sql,
    ];
    let output = run(&inner, &arguments);
    assert_eq!(stdout(&output), "n\n2\n", "{}", stderr(&output));
}
