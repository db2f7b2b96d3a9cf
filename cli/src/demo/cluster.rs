//! One coordinator and two workers as processes of their own, on loopback.
//!
//! Each child holds the read side of a pipe as its stdin and ends when that closes. So the
//! children go away with this process however it ends: with [`Cluster::stop`], an error, a panic
//! or `kill -9`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::TryStreamExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::lake::{CATALOG, Lake, NAMESPACE};
use crate::client::{Client, Remote};
use crate::config::quoted;
use crate::failure::say;

const WORKERS: usize = 2;

/// How long the coordinator may take to listen, and the workers to register.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a child may take to end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Lines of a log that are shown when its process failed.
const LOG_LINES_SHOWN: usize = 20;

/// The coordinator's default address.
const USUAL_ADDRESS: &str = "127.0.0.1:32010";

/// A port that the system chooses.
const ANY_ADDRESS: &str = "127.0.0.1:0";

/// The line a coordinator prints once it listens.
const LISTENING: &str = "listening on ";

/// A running cluster.
pub struct Cluster {
    // Fields drop in order: workers leave while their coordinator is still there.
    workers: Vec<Process>,
    coordinator: Process,
    uri: String,
    client: Client,
    config: PathBuf,
}

impl Cluster {
    /// Starts the processes and waits until the workers are registered.
    ///
    /// # Errors
    /// When one of them ends, or is not ready within a minute.
    pub async fn start(lake: &Lake) -> anyhow::Result<Self> {
        let config = write_config(lake)?;
        let logs = lake.dir().join("logs");
        std::fs::create_dir_all(&logs)?;
        let mut coordinator = Process::spawn(
            "coordinator",
            &["coordinator".as_ref(), "--config".as_ref(), config.as_ref()],
            coordinator_address(),
            &logs,
        )?;
        let uri = coordinator.listening().await?;
        let mut workers = Vec::new();
        for number in 1..=WORKERS {
            let arguments = ["worker", "--coordinator", &uri, "--config"].map(Path::new);
            let arguments = [&arguments[..], &[config.as_path()]].concat();
            workers.push(Process::spawn(
                &format!("worker-{number}"),
                &arguments,
                ANY_ADDRESS,
                &logs,
            )?);
        }
        let client = Client::Remote(Remote::connect(&uri).await?);
        let mut cluster = Self {
            workers,
            coordinator,
            uri,
            client,
            config,
        };
        tokio::time::timeout(START_TIMEOUT, cluster.registered())
            .await
            .map_err(|_| {
                let logs: String = cluster.workers.iter().map(Process::log_tail).collect();
                anyhow!(
                    "the workers did not register within {} s{logs}",
                    START_TIMEOUT.as_secs()
                )
            })??;
        say(&format!(
            "coordinator on {} with {WORKERS} workers",
            cluster.uri
        ));
        Ok(cluster)
    }

    /// Waits until the coordinator counts all workers as live.
    async fn registered(&mut self) -> anyhow::Result<()> {
        loop {
            let sql = "SELECT url FROM system.workers WHERE state = 'active'";
            let workers: Vec<_> = self.client.execute(sql).await?.stream.try_collect().await?;
            if workers.iter().map(|batch| batch.num_rows()).sum::<usize>() >= WORKERS {
                return Ok(());
            }
            for process in &mut self.workers {
                process.check()?;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// A client of the coordinator.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The coordinator's URI.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The configuration the processes were started with.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Name, process id and log of each process.
    pub fn processes(&self) -> impl Iterator<Item = (&str, Option<u32>, &Path)> {
        std::iter::once(&self.coordinator)
            .chain(&self.workers)
            .map(|process| {
                (
                    process.name.as_str(),
                    process.child.id(),
                    process.log.as_path(),
                )
            })
    }

    /// Waits until one of the processes ends, which none should.
    pub async fn failed(&mut self) -> anyhow::Error {
        loop {
            for process in self.workers.iter_mut().chain([&mut self.coordinator]) {
                if let Err(error) = process.check() {
                    return error;
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Ends all processes, the workers first. What does not end in time is killed.
    pub async fn stop(mut self) {
        let workers = self.workers.iter_mut().map(Process::stop);
        futures::future::join_all(workers).await;
        self.coordinator.stop().await;
    }
}

/// One child.
struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    listening: Option<oneshot::Receiver<String>>,
    pump: JoinHandle<()>,
}

/// Where clients look for a coordinator when nothing else is said; any free port if that one is
/// taken.
fn coordinator_address() -> &'static str {
    match std::net::TcpListener::bind(USUAL_ADDRESS) {
        Ok(_) => USUAL_ADDRESS,
        Err(_) => ANY_ADDRESS,
    }
}

impl Process {
    fn spawn(name: &str, arguments: &[&Path], listen: &str, logs: &Path) -> anyhow::Result<Self> {
        let binary = std::env::current_exe().context("cannot find the inshore binary")?;
        let mut command = Command::new(binary);
        command
            .args(arguments)
            .args(["--listen", listen, "--exit-with-parent"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for us; the children are told by their pipes.
            .process_group(0)
            .kill_on_drop(true);
        for (variable, _) in std::env::vars_os() {
            let ours = variable.to_string_lossy().starts_with("INSHORE_");
            if ours && variable != "INSHORE_LOG" {
                command.env_remove(variable);
            }
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start the {name}"))?;
        let stderr = child.stderr.take().context("the child has no stderr")?;
        let log = logs.join(format!("{name}.log"));
        let (sender, listening) = oneshot::channel();
        let pump = tokio::spawn(pump(stderr, log.clone(), sender));
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            listening: Some(listening),
            pump,
        })
    }

    /// The URI the process says it listens on.
    async fn listening(&mut self) -> anyhow::Result<String> {
        let line = self.listening.take().context("asked once")?;
        match tokio::time::timeout(START_TIMEOUT, line).await {
            Ok(Ok(uri)) => Ok(uri),
            Ok(Err(_)) => {
                // Its stderr has ended; so will it.
                let _ = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await;
                self.check()?;
                bail!(
                    "the {} does not say where it listens{}",
                    self.name,
                    self.log_tail()
                )
            }
            Err(_) => bail!("the {} did not start{}", self.name, self.log_tail()),
        }
    }

    /// An error when the process has ended.
    fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the {} ended: {status}{}", self.name, self.log_tail()),
        }
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
        let tail: String = lines
            .get(from..)
            .unwrap_or_default()
            .iter()
            .map(|line| format!("\n  {line}"))
            .collect();
        format!("\n{}:{tail}", self.log.display())
    }

    async fn stop(&mut self) {
        drop(self.child.stdin.take());
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait())
            .await
            .is_err()
        {
            say(&format!("the {} does not end; killing it", self.name));
            let _ = self.child.kill().await;
        }
        self.pump.abort();
    }
}

/// Writes a child's stderr into its log, and picks out the line that says where it listens.
async fn pump(stderr: ChildStderr, log: PathBuf, listening: oneshot::Sender<String>) {
    let mut listening = Some(listening);
    let mut file = tokio::fs::File::create(&log).await.ok();
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // Without a log the pipe must still be emptied, or the child would wait for us.
        if let Some(file) = &mut file {
            let _ = file.write_all(format!("{line}\n").as_bytes()).await;
            let _ = file.flush().await;
        }
        if let Some(uri) = line.strip_prefix(LISTENING)
            && let Some(listening) = listening.take()
        {
            let _ = listening.send(uri.trim().to_owned());
        }
    }
}

/// Writes the configuration of coordinator and workers; gives its path.
///
/// # Errors
/// When the lake's folder cannot be written.
pub fn write_config(lake: &Lake) -> anyhow::Result<PathBuf> {
    let text = format!(
        "# Written by `inshore demo`.\n\
         default_schema = {}\n\n\
         [catalogs.{CATALOG}]\n\
         type = \"sql\"\n\
         uri = {}\n\
         warehouse = {}\n\
         name = {}\n\n\
         [lakes.{CATALOG}]\n\
         root = {}\n",
        quoted(NAMESPACE),
        quoted(&lake.catalog_uri()),
        quoted(&lake.warehouse()?),
        quoted(CATALOG),
        quoted(&lake.root()?),
    );
    let path = lake.dir().join("cluster.toml");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
