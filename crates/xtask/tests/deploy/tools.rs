//! The programs of these tests, and YAML.
//!
//! Owns: where they are; what is said when one is not there. Must not know: what is tested.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use parlance_xtask::cargo::root;
use serde_json::Value;

/// Starts the line on standard output that tells `cargo xtask test` of a skipped test.
const SKIPPED: &str = "parlance-tests: skipped:";

/// Says that the calling test is skipped. Not by a macro: the test harness would keep it to itself.
pub fn skipped(what: &str) {
    std::io::stdout().write_all(format!("\n{SKIPPED} {what}\n").as_bytes()).unwrap();
}

fn runs(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success())
}

/// A program, unless it is not installed: then that is said.
pub fn program(name: &str, version: &str) -> Option<Command> {
    let found = runs(name, version);
    if !found {
        skipped(&format!("{name} is not installed"));
    }
    found.then(|| Command::new(name))
}

/// An interpreter that `cargo xtask test` has set up, whose path is in the variable; set but empty, there is none.
fn interpreter(variable: &str, folder: &str) -> Option<PathBuf> {
    let installed = target().join("tools").join(folder).join("bin/python");
    let path = std::env::var_os(variable).map_or(installed, PathBuf::from);
    path.exists().then_some(path)
}

/// The target folder: this program lies in `<target>/debug/deps`.
pub fn target() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// The validator of Kubernetes objects.
pub fn validator() -> Option<Command> {
    let found = interpreter("PARLANCE_TEST_KUBERNETES", "kubernetes");
    if found.is_none() {
        skipped("kubernetes-validate is not installed");
    }
    found.map(|python| Command::new(python.with_file_name("kubernetes-validate")))
}

/// The scanner of manifests.
pub fn scanner() -> Option<Command> {
    let found = interpreter("PARLANCE_TEST_CHECKOV", "checkov");
    if found.is_none() {
        skipped("checkov is not installed");
    }
    // Its program is a script, which need not be executable by itself.
    found.map(|python| {
        let mut command = Command::new(&python);
        command.arg(python.with_file_name("checkov"));
        command
    })
}

/// Helm: the program, or its library.
pub struct Helm(Vec<OsString>);

impl Helm {
    /// `None`, and the calling test is skipped, where there is neither.
    pub fn find() -> Option<Self> {
        if runs("helm", "version") {
            return Some(Self(vec!["helm".into()]));
        }
        let Some(python) = interpreter("PARLANCE_TEST_HELM", "helm") else {
            skipped("there is no helm, nor its library for Python");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/helm.py");
        Some(Self(vec![python.into(), "-B".into(), script.into()]))
    }

    fn run(&self, arguments: &[&str], values: &Value) -> Output {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), values.to_string()).unwrap();
        let mut words = self.0.iter();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(arguments).arg("--values").arg(file.path()).current_dir(root());
        command.output().unwrap()
    }

    /// What `helm template` says, as text, or why it refuses.
    pub fn text(&self, values: &Value) -> Result<String, String> {
        // Many tests look at the same objects.
        static RENDERED: Mutex<BTreeMap<String, Result<String, String>>> = Mutex::new(BTreeMap::new());
        let key = values.to_string();
        if let Some(known) = RENDERED.lock().unwrap().get(&key) {
            return known.clone();
        }
        let fresh = self.template("helm/parlance", values);
        RENDERED.lock().unwrap().insert(key, fresh.clone());
        fresh
    }

    /// The same of a chart that lies elsewhere.
    pub fn template(&self, chart: &str, values: &Value) -> Result<String, String> {
        let mut words = vec!["template", "parlance", chart, "--namespace", "chat"];
        if self.0.len() == 1 {
            // A helm that was built by `go install` takes itself for one of years ago.
            words.extend(["--kube-version", "v1.34.0"]);
        }
        let output = self.run(&words, values);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// The objects.
    pub fn render(&self, values: &Value) -> Objects {
        Objects(documents(&self.text(values).unwrap_or_else(|error| panic!("{values}: {error}"))))
    }

    /// The complaints of `helm lint --strict`; `None` when there are none.
    pub fn complaints(&self, values: &Value) -> Option<String> {
        let output = self.run(&["lint", "helm/parlance", "--strict"], values);
        let said = [output.stdout, output.stderr].concat();
        (!output.status.success()).then(|| String::from_utf8(said).unwrap())
    }
}

/// Every document of a text of YAML that has anything in it.
pub fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    all.into_iter().filter(|one| !one.is_null()).collect()
}

/// The one document of a file, its path from the root of the project.
pub fn file(path: &str) -> Value {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    documents(&text).pop().unwrap_or_else(|| serde_json::json!({}))
}

/// The sets of values in `ci/`, by name.
pub fn sets() -> Vec<(String, Value)> {
    let folder = root().join("helm/parlance/ci");
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    let set = |name: String| {
        (name.trim_end_matches("-values.yaml").to_owned(), file(&format!("helm/parlance/ci/{name}")))
    };
    names.into_iter().map(set).collect()
}

/// One of them.
pub fn set(name: &str) -> Value {
    sets().into_iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no set {name}")).1
}

/// What was rendered.
pub struct Objects(pub Vec<Value>);

impl Objects {
    /// The object of this kind and name, if it is there.
    pub fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.0.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    /// The object of this kind and name.
    pub fn get(&self, kind: &str, name: &str) -> &Value {
        self.find(kind, name).unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// All of this kind.
    pub fn of(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The specification of the gateway's pods.
    pub fn pod(&self) -> &Value {
        &self.of("Deployment")[0]["spec"]["template"]["spec"]
    }

    /// The gateway's container.
    pub fn gateway(&self) -> &Value {
        &self.pod()["containers"][0]
    }

    /// The value or source of a variable of the gateway.
    pub fn variable(&self, name: &str) -> Option<&Value> {
        let all = self.gateway()["env"].as_array().unwrap();
        let found = all.iter().find(|variable| variable["name"] == name)?;
        Some(if found["value"].is_null() { &found["valueFrom"] } else { &found["value"] })
    }

    /// The gateway's configuration.
    pub fn toml(&self) -> &str {
        let maps = self.of("ConfigMap");
        maps.iter().find_map(|map| map["data"]["parlance.toml"].as_str()).unwrap()
    }
}
