//! kill -9 of a coordinator and of a worker while a statement writes: its rows are all there or none,
//! the cluster goes on, and what was left behind is found.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const ROWS: u64 = 100_000;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = inshore(dir);
        command.args(arguments).arg("--exit-with-parent");
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A coordinator on an address that stays, and workers.
struct Cluster {
    folder: tempfile::TempDir,
    address: String,
    coordinator: Process,
    workers: Vec<Process>,
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Not one of the ports that systems give to outgoing connections.
        let first = 15_000 + u16::try_from(std::process::id() % 10_000).unwrap();
        let address = (first..32_000)
            .map(|port| format!("127.0.0.1:{port}"))
            .find(|address| TcpListener::bind(address).is_ok())
            .unwrap();
        let at = folder.path().display();
        let config = format!(
            "coordinator.listen = \"{address}\"\nworker.coordinator = \"grpc://{address}\"\n\
             engine.bytes_per_task = 1048576\nengine.target_partitions = 2\n\
             [catalogs.lake]\ntype = \"sql\"\nuri = \"sqlite://{at}/catalog.db\"\n\
             warehouse = \"file://{at}/warehouse\"\n[lakes.main]\nroot = \"file://{at}\"\n"
        );
        fs::write(folder.path().join("inshore.toml"), config).unwrap();
        let coordinator = Process::start(folder.path(), &["coordinator"]);
        let workers = (0..2).map(|_| Process::start(folder.path(), &["worker"]));
        let workers = workers.collect();
        let cluster = Self {
            folder,
            address,
            coordinator,
            workers,
        };
        cluster.wait_for_workers();
        cluster
    }

    fn statement(&self, sql: &str) -> Command {
        let mut command = inshore(self.folder.path());
        let uri = format!("grpc://{}", self.address);
        command.args(["sql", "--connect", &uri, "--format", "csv", "-c", sql]);
        command
    }

    fn run(&self, sql: &str) -> Output {
        self.statement(sql).output().unwrap()
    }

    /// The values of a result of one column.
    fn values(&self, sql: &str) -> Vec<String> {
        let output = self.run(sql);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{sql}: {stderr}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().skip(1).map(str::to_owned).collect()
    }

    fn number(&self, sql: &str) -> u64 {
        self.values(sql).first().unwrap().parse().unwrap()
    }

    /// Waits until a coordinator answers and both workers have found it, and no other is counted.
    fn wait_for_workers(&self) {
        let began = Instant::now();
        let sql = "SELECT count(*) FROM system.workers WHERE state = 'active'";
        loop {
            let output = self.run(sql);
            if output.status.success() && output.stdout.ends_with(b"\n2\n") {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{output:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn data_files(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join("warehouse/s/t/data");
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Sends a statement that adds rows, and returns it once it writes.
    fn writing(&self) -> Child {
        let before = self.data_files().len();
        let mut command = self.statement("INSERT INTO s.t SELECT * FROM s.source");
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let began = Instant::now();
        while self.data_files().len() == before {
            assert!(began.elapsed() < PATIENCE, "the statement writes nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.unwrap()
    }

    /// Waits for the end of a statement, and checks that its rows are all there or none; gives the
    /// number of rows there are.
    fn ended(&self, statement: Child, before: u64, killed: Instant) -> u64 {
        let output = statement.wait_with_output().unwrap();
        let took = killed.elapsed();
        assert!(
            took < Duration::from_secs(20),
            "the end came after {took:?}"
        );
        self.wait_for_workers();
        let now = self.number("SELECT count(*) FROM s.t");
        match output.status.success() {
            true => assert_eq!(now, before + ROWS),
            false => assert!([before, before + ROWS].contains(&now), "{now} of {before}"),
        }
        assert_eq!(now % ROWS, 0);
        now
    }
}

#[test]
fn a_statement_whose_writers_are_killed_adds_all_rows_or_none() {
    let mut cluster = Cluster::start();
    cluster.values("CREATE SCHEMA s");
    cluster.values(&format!(
        "CREATE TABLE s.source AS SELECT value AS id, value % 8 AS k, sha256(CAST(value AS varchar)) AS filler \
         FROM generate_series(1, {ROWS}) AS s(value)"
    ));
    cluster.values("CREATE TABLE s.t (id bigint, k bigint, filler varbinary) PARTITIONED BY (k)");

    let statement = cluster.writing();
    let killed = Instant::now();
    cluster.coordinator.kill();
    cluster.coordinator = Process::start(cluster.folder.path(), &["coordinator"]);
    let rows = cluster.ended(statement, 0, killed);

    let statement = cluster.writing();
    let killed = Instant::now();
    cluster.workers[0].kill();
    cluster.workers[0] = Process::start(cluster.folder.path(), &["worker"]);
    let rows = cluster.ended(statement, rows, killed);

    cluster.values("INSERT INTO s.t SELECT * FROM s.source");
    let times = "SELECT DISTINCT n FROM (SELECT count(*) AS n FROM s.t GROUP BY id)";
    assert_eq!(cluster.values(times), [(rows / ROWS + 1).to_string()]);
    cluster.values(
        "CALL system.remove_orphan_files('s.t', older_than => now(), allow_recent => true)",
    );
    let referenced = cluster.number("SELECT count(*) FROM s.\"t$data_files\"");
    let left = cluster.data_files();
    assert_eq!(u64::try_from(left.len()).unwrap(), referenced, "{left:?}");
    assert_eq!(cluster.number("SELECT count(*) FROM s.t"), rows + ROWS);
}
