#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const FILE: &str = r#"
default_schema = "tpch"

[coordinator]
listen = "127.0.0.1:4000"

[catalogs.zoo]
type = "sql"
uri = "postgresql://me:hunter2@host/db"
warehouse = "s3://bucket/wh"

[catalogs.ape]
type = "rest"
uri = "https://catalog"
token = "t0ken"
properties = { "header.X-Tenant" = "acme" }

[lakes.main]
root = "s3://bucket"
properties = { aws_secret_access_key = "s3cret", aws_allow_http = true }
"#;

fn merged(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Layers {
    let mut layers = Layers::defaults();
    layers.add_file("inshore.toml", file);
    let variables = variables
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    environment::add(&mut layers, variables);
    for (key, text) in flags {
        let path = key.split('.').map(str::to_owned).collect();
        layers.set_text(path, text, Source::Flag("--flag"));
    }
    validate(&mut layers);
    layers
}

#[test]
fn each_layer_covers_the_one_below() {
    let none = Config::from_layers(&merged("", &[], &[])).unwrap();
    assert_eq!(none.coordinator.listen.to_string(), "127.0.0.1:32010");
    let file = Config::from_layers(&merged(FILE, &[], &[])).unwrap();
    assert_eq!(file.coordinator.listen.to_string(), "127.0.0.1:4000");
    let variable = [("INSHORE_COORDINATOR_LISTEN", "127.0.0.1:5000")];
    let environment = Config::from_layers(&merged(FILE, &variable, &[])).unwrap();
    assert_eq!(environment.coordinator.listen.to_string(), "127.0.0.1:5000");
    let flag = [("coordinator.listen", "127.0.0.1:6000")];
    let flagged = Config::from_layers(&merged(FILE, &variable, &flag)).unwrap();
    assert_eq!(flagged.coordinator.listen.to_string(), "127.0.0.1:6000");
}

#[test]
fn the_first_catalog_is_the_default_unless_named() {
    let config = Config::from_layers(&merged(FILE, &[], &[])).unwrap();
    assert_eq!(config.catalogs.keys().collect::<Vec<_>>(), ["zoo", "ape"]);
    let named = format!("default_catalog = \"ape\"\n{FILE}");
    let config = Config::from_layers(&merged(&named, &[], &[])).unwrap();
    assert_eq!(config.catalogs.keys().collect::<Vec<_>>(), ["ape", "zoo"]);
    let catalog = &config.catalogs["ape"];
    assert_eq!(catalog.token.as_ref().unwrap().reveal(), "t0ken");
    assert_eq!(catalog.properties["header.X-Tenant"].reveal(), "acme");
    assert_eq!(
        config.lakes["main"].properties["aws_allow_http"].reveal(),
        "true"
    );
}

#[test]
fn variables_reach_named_sections() {
    let variables = [
        ("INSHORE_CATALOGS__ZOO__URI", "sqlite:///a.db"),
        ("INSHORE_CATALOGS__NEW__TYPE", "memory"),
        ("INSHORE_ENGINE__BATCH_SIZE", "4096"),
        ("INSHORE_LOG", "debug"),
        ("INSHORE_COORDINATOR_PORT", "tcp://10.0.0.1:32010"),
        ("INSHORE_COORDINATOR_SERVICE_HOST", "10.0.0.1"),
    ];
    let config = Config::from_layers(&merged(FILE, &variables, &[])).unwrap();
    assert_eq!(
        config.catalogs["zoo"].uri.as_ref().unwrap().reveal(),
        "sqlite:///a.db"
    );
    assert_eq!(config.catalogs["new"].kind, CatalogKind::Memory);
    assert_eq!(config.engine.batch_size, 4096);
}

#[test]
fn unknown_keys_name_the_nearest() {
    let layers = merged("[coordinator]\nlsten = \"127.0.0.1:1\"\n", &[], &[]);
    assert_eq!(
        layers.problems(),
        ["unknown key `coordinator.lsten` in inshore.toml line 2; did you mean `listen`?"]
    );
    let layers = merged("", &[("INSHORE_COORDINATOR_LISTN", "x")], &[]);
    assert_eq!(
        layers.problems(),
        ["unknown environment variable `INSHORE_COORDINATOR_LISTN`; \
          did you mean `INSHORE_COORDINATOR_LISTEN`?"]
    );
}

#[test]
fn lakes_may_be_moved() {
    let inline = r#"
[lakes.x]
root = "file:///data/"
map = { "hdfs://old/wh/" = "file:///data/" }
base = "file:///data/rel/"
"#;
    let config = Config::from_layers(&merged(inline, &[], &[])).unwrap();
    let lake = &config.lakes["x"];
    assert_eq!(lake.map["hdfs://old/wh/"], "file:///data/");
    assert_eq!(lake.base.as_deref(), Some("file:///data/rel/"));
    let section = r#"
[lakes.x]
root = "file:///data/"
[lakes.x.map]
"data/persistent" = "file:///data/p"
"#;
    let layers = merged(section, &[], &[]);
    let config = Config::from_layers(&layers).unwrap();
    assert_eq!(config.lakes["x"].map["data/persistent"], "file:///data/p");
    assert_eq!(config.lakes["x"].base, None);
    let text = effective(&layers);
    assert!(
        text.contains("lakes.x.map.\"data/persistent\" = \"file:///data/p\""),
        "{text}"
    );

    let file = "[lakes.x]\nroot = \"file:///d\"\nbse = \"file:///d\"\nmaps = 1\nmap = {a = 1}\n";
    let all = merged(file, &[], &[]).problems().join("\n");
    for part in [
        "unknown key `lakes.x.bse` in inshore.toml line 3; did you mean `base`?",
        "unknown key `lakes.x.maps` in inshore.toml line 4; did you mean `map`?",
        "`lakes.x.map.a` (inshore.toml line 5): a text in quotes is needed, not a integer",
    ] {
        assert!(all.contains(part), "{part}\nnot in\n{all}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let file = "default_catalog = \"no\"\n[coordinator]\nlisten = 5\nworker_wait_seconds = -1\n\
                [worker]\nlisten = \"0.0.0.0:1\"\n[catalogs.a]\ntype = \"sql\"\nurl = \"x\"\n\
                [catalogs.b]\n[lakes.l]\nroot = \"data\"\n";
    let layers = merged(file, &[], &[]);
    let all = layers.problems().join("\n");
    for part in [
        "`coordinator.listen` (inshore.toml line 3): a text in quotes is needed, not a integer",
        "`coordinator.worker_wait_seconds` (inshore.toml line 4)",
        "`worker.listen` (inshore.toml line 6): `0.0.0.0:1` is reachable from other machines",
        "unknown key `catalogs.a.url` in inshore.toml line 9; did you mean `uri`?",
        "`catalogs.a.uri` is missing",
        "`catalogs.b.type` is missing",
        "`lakes.l.root` is not a URL",
        "`default_catalog` names `no`",
    ] {
        assert!(all.contains(part), "{part}\nnot in\n{all}");
    }
}

#[test]
fn a_syntax_error_does_not_quote_the_line() {
    let layers = merged("[catalogs.a]\ntoken = \"hunter2\nuri = \"x\"\n", &[], &[]);
    let all = layers.problems().join("\n");
    assert!(all.contains("inshore.toml line 2"), "{all}");
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn the_effective_configuration_hides_secrets() {
    let text = effective(&merged(FILE, &[("INSHORE_WORKER_SITE", "dc1")], &[]));
    for secret in ["hunter2", "t0ken", "s3cret", "acme"] {
        assert!(!text.contains(secret), "{text}");
    }
    let line = |start: &str| {
        text.lines()
            .find(|line| line.starts_with(start))
            .unwrap()
            .to_owned()
    };
    assert!(line("coordinator.listen").ends_with("# inshore.toml line 5"));
    assert!(line("worker.listen").ends_with("# default"));
    assert!(line("worker.site").ends_with("# environment INSHORE_WORKER_SITE"));
    assert!(line("catalogs.zoo.uri").contains("postgresql://me:redacted@host/db"));
}
