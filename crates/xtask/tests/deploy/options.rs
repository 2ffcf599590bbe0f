//! Whatever configures the gateway names only options that it has, and makes sense to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use parlance_xtask::cargo::root;
use serde_json::Value;

use crate::tools::{Helm, file, sets, skipped, target};

/// Options and variables of the reference.
struct Known {
    options: BTreeSet<String>,
    variables: BTreeSet<String>,
}

impl Known {
    fn read() -> Self {
        let page = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
        let (flags, tables) = page.split_once("## Top of the file").unwrap();
        let quoted =
            |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let options = tables
            .lines()
            .filter(|line| line.starts_with("| `"))
            .filter_map(|line| quoted(line).into_iter().next());
        let mut variables: BTreeSet<String> = [flags, tables]
            .into_iter()
            .flat_map(quoted)
            .filter(|word| word.starts_with("PARLANCE_"))
            .collect();
        variables.insert("PARLANCE_CONFIG".to_owned());
        let known = Self { options: options.collect(), variables };
        assert!(known.options.len() > 80 && known.variables.len() > 60, "the reference is not read");
        known
    }

    /// What of a configuration is no option.
    fn strange(&self, under: &str, table: &toml::Table) -> Vec<String> {
        let mut strange = Vec::new();
        for (key, value) in table {
            let path = if under.is_empty() { key.clone() } else { format!("{under}.{key}") };
            match value {
                toml::Value::Table(inside) => strange.extend(self.strange(&path, inside)),
                toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
                    let tables = list.iter().filter_map(toml::Value::as_table);
                    strange.extend(tables.flat_map(|inside| self.strange(&path, inside)));
                }
                _ if self.options.contains(&path) => {}
                _ => strange.push(path),
            }
        }
        strange
    }
}

/// The variables of a container or a service.
fn variables(env: &Value) -> Vec<String> {
    match env {
        Value::Array(list) => list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect(),
        Value::Object(map) => map.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_chart_names_only_options_that_there_are() {
    let Some(helm) = Helm::find() else { return };
    let known = Known::read();
    for (name, values) in sets() {
        let objects = helm.render(&values);
        let table: toml::Table = objects.toml().parse().unwrap();
        assert_eq!(known.strange("", &table), Vec::<String>::new(), "{name}");
        for variable in variables(&objects.gateway()["env"]) {
            let fits = !variable.starts_with("PARLANCE_") || known.variables.contains(&variable);
            assert!(fits, "{name}: {variable}");
        }
    }
}

#[test]
fn compose_names_only_options_that_there_are() {
    let known = Known::read();
    let text = fs::read_to_string(root().join("deploy/compose/parlance.toml")).unwrap();
    assert_eq!(known.strange("", &text.parse().unwrap()), Vec::<String>::new());
    let services = file("deploy/compose/compose.yaml")["services"].clone();
    for variable in
        services.as_object().unwrap().values().flat_map(|service| variables(&service["environment"]))
    {
        let fits = !variable.starts_with("PARLANCE_") || known.variables.contains(&variable);
        assert!(fits, "{variable}");
    }
}

#[test]
fn an_option_that_is_none_is_noticed() {
    let known = Known::read();
    let table = "degraded = \"stay\"\n[limits]\nbody = 1\n[[mounts]]\npaht = \"/x\"\n".parse().unwrap();
    assert_eq!(known.strange("", &table), ["limits.body", "mounts.paht"]);
}

/// What `parlance check-config` says to a configuration: its warnings, or why it refuses.
fn checked(text: &str, env: &[(&str, &str)]) -> Option<Result<String, String>> {
    let program = ["debug", "release"].map(|profile| target().join(profile).join("parlance"));
    let Some(program) = program.iter().find(|path| path.exists()) else {
        skipped("the gateway is not built: cargo build");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parlance.toml");
    // The key files are in Secrets: any public keys will do here.
    let pem = |name: &str| root().join("crates/xtask/tests/deploy").join(name).display().to_string();
    let text = text
        .replace("/etc/parlance/keys/es256.pem", &pem("es256.pem"))
        .replace("/etc/parlance/keys/old.pem", &pem("rs256.pem"));
    fs::write(&path, text).unwrap();
    let mut command = Command::new(program);
    command.arg("check-config").arg("--config").arg(&path).env_clear().envs(env.iter().copied());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    Some(if output.status.success() { Ok(said) } else { Err(said) })
}

/// Stands for what Secrets hold.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Makes the files in a folder of the test's own that Secrets would be mounted as, and has the configuration name them.
fn with_files(text: &str, folder: &Path) -> String {
    let certificate = rcgen::generate_simple_self_signed(["redis.example.com".to_owned()]).unwrap();
    let (papers, key) = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
    let mut text = text.to_owned();
    for (path, holds) in [
        ("redis/ca.crt", papers.as_str()),
        ("redis/tls.crt", &papers),
        ("redis/tls.key", &key),
        ("redis-auth/url", "redis-cluster://:p@redis"),
        ("redis-auth/redis-password", SECRET),
        ("redis-auth/sentinel-password", SECRET),
        ("auth/jwt-secrets", SECRET),
        ("auth/api-keys", SECRET),
        ("auth/session-secret", SECRET),
        ("auth/JWT", SECRET),
        ("auth/API", SECRET),
        ("auth/SESSION", SECRET),
        ("auth/authoriser-secret", SECRET),
        ("auth/AUTHORISER", SECRET),
        ("auth/webhooks-secret", SECRET),
        ("auth/WEBHOOKS", SECRET),
        ("auth/archive-url", "postgresql://parlance:p@db/chat"),
        ("auth/ARCHIVE", "postgresql://parlance:p@db/chat"),
        ("auth/outbox-url", "postgresql://parlance:p@db/app"),
        ("auth/OUTBOX", "postgresql://parlance:p@db/app"),
        ("auth/outbox-redis-url", "redis://:p@redis"),
        ("auth/OUTBOX_REDIS", "redis://:p@redis"),
    ] {
        let file = folder.join(path.replace('/', "-"));
        fs::write(&file, holds).unwrap();
        let named = format!("\"/etc/parlance/{path}\"");
        text = text.replace(&named, &format!("\"{}\"", file.display()));
    }
    text
}

#[test]
fn the_gateway_takes_what_the_chart_writes() {
    let Some(helm) = Helm::find() else { return };
    for (name, values) in sets() {
        let objects = helm.render(&values);
        let variable = |name: &str| objects.variable(name).and_then(Value::as_str).map(str::to_owned);
        let advertise = variable("PARLANCE_ADVERTISE").unwrap();
        let ip = if advertise.starts_with('[') { "fd00::1" } else { "10.0.0.1" };
        let advertise = advertise.replace("$(POD_IP)", ip);
        let url = variable("PARLANCE_REDIS_URL").unwrap_or_default();
        let env = [("PARLANCE_REDIS_URL", url.as_str()), ("PARLANCE_ADVERTISE", advertise.as_str())];
        let folder = tempfile::tempdir().unwrap();
        let text = with_files(objects.toml(), folder.path());
        let Some(said) = checked(&text, &env) else { return };
        let said = said.unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        let odd: Vec<&str> = said.lines().filter(|line| !line.contains("RATE LIMITS ARE OFF")).collect();
        assert!(odd.is_empty(), "{name}: {odd:?}");
    }
}

#[test]
fn the_gateway_takes_what_compose_gives_it() {
    let text = fs::read_to_string(root().join("deploy/compose/parlance.toml")).unwrap();
    let env = [
        ("PARLANCE_REDIS_URL", "redis://redis:6379"),
        ("PARLANCE_AUTH_SECRETS", SECRET),
        ("PARLANCE_ADVERTISE", "node-1:8083"),
    ];
    let Some(said) = checked(&text, &env) else { return };
    assert_eq!(said, Ok(String::new()));
    let refused = checked(&format!("{text}\n[limts]\n"), &env).unwrap();
    assert!(refused.is_err_and(|said| said.contains("limts")), "anything passes");
}
