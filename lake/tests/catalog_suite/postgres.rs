//! A catalog in a real Postgres server, started for the test where one is installed.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::changes::check_changes;
use crate::support::{append, catalog, count, create, open};
use inshore_lake::config::CatalogKind;
use inshore_lake::{Error, TableName};
use sqlx::{Connection, PgConnection};

const PASSWORD: &str = "p@ss/word";
const ENCODED: &str = "p%40ss%2Fword";

/// A server that ends with the test.
struct Postgres {
    server: Child,
    port: u16,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Where the server's programs are.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let complete = |folder: &PathBuf| {
        ["initdb", "postgres"]
            .iter()
            .all(|program| folder.join(program).exists())
    };
    folders.into_iter().find(complete)
}

/// The server refuses to run as root; this is whom to run it as then.
fn unprivileged() -> Option<(u32, u32)> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    if !root {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = ["postgres:", "nobody:"].iter().find_map(|user| {
        let line = users.lines().find(|line| line.starts_with(user))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    ids.or(Some((65534, 65534)))
}

fn command(programs: &Path, program: &str) -> Command {
    let mut command = Command::new(programs.join(program));
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

async fn start(dir: &Path) -> Option<Postgres> {
    let Some(programs) = programs() else {
        println!("skipped: no Postgres server (initdb, postgres) on this machine");
        return None;
    };
    let password = dir.join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    if let Some((user, group)) = unprivileged() {
        for path in [dir, &password] {
            std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
        }
    }
    let data = dir.join("data");
    let initialised = command(&programs, "initdb")
        .args([
            "--username=me",
            "--auth=scram-sha-256",
            "--no-sync",
            "--encoding=UTF8",
        ])
        .arg(format!("--pwfile={}", password.display()))
        .arg(&data)
        .status();
    if !initialised.is_ok_and(|status| status.success()) {
        println!(
            "skipped: initdb of {} does not work here",
            programs.display()
        );
        return None;
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let server = command(&programs, "postgres")
        .arg("-D")
        .arg(&data)
        .args(["-h", "127.0.0.1", "-F", "-p", &port.to_string()])
        .arg("-k")
        .arg(dir)
        .spawn()
        .unwrap();
    let server = Postgres { server, port };
    let deadline = Instant::now() + Duration::from_secs(30);
    let uri = format!("postgresql://me:{ENCODED}@127.0.0.1:{port}/postgres");
    while let Err(error) = PgConnection::connect(&uri).await {
        assert!(
            Instant::now() < deadline,
            "the server does not come up: {error}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Some(server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_catalog_works_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("server");
    std::fs::create_dir(&place).unwrap();
    // The server's user must be able to enter.
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open_to_all).unwrap();
    let Some(server) = start(&place).await else {
        return;
    };
    // As PyIceberg writes it.
    let uri = format!(
        "postgresql+psycopg2://me:{ENCODED}@127.0.0.1:{}/postgres",
        server.port
    );
    let warehouse = format!("file://{}/warehouse", dir.path().display());
    let config = catalog(CatalogKind::Sql, Some(&uri), Some(&warehouse));
    let catalogs = open(config.clone(), dir.path());
    assert!(catalogs.namespaces("lake").await.unwrap().is_empty());
    let writer = catalogs.writer("lake").await.unwrap();
    for namespace in ["a", "a.b", "ü %41"] {
        create(&writer, namespace, "t 1", &[]).await;
        append(&writer, namespace, "t 1", 9).await;
    }
    let other = open(config.clone(), dir.path());
    assert_eq!(
        other.namespaces("lake").await.unwrap(),
        ["a", "a.b", "ü %41"]
    );
    assert_eq!(other.all_tables("lake").await.unwrap()["a.b"], ["t 1"]);
    let name = TableName::new("lake", "ü %41", "t 1");
    let table = other.load(&name).await.unwrap().unwrap();
    assert_eq!(count(&table).await, 9);
    append(&writer, "ü %41", "t 1", 1).await;
    let table = other.load(&name).await.unwrap().unwrap();
    assert_eq!(count(&table).await, 10);
    check_changes(&other).await;

    let mut wrong = config;
    let uri = uri.replace(ENCODED, "wrongsecret");
    wrong.uri = Some(inshore_lake::config::Secret::new(uri));
    let error = open(wrong, dir.path())
        .namespaces("lake")
        .await
        .unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, Error::Config(_)), "{said}");
    assert!(said.contains("password authentication failed"), "{said}");
    assert!(!said.contains("wrongsecret"), "{said}");
}
