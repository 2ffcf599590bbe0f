//! The image: what its file says, and that the folder it is made of runs the gateway.

use std::fs;
use std::process::Command;

use parlance_xtask::cargo::root;

use crate::tools::{skipped, target};

/// The instructions of the Dockerfile, each on one line.
fn instructions() -> Vec<String> {
    let text = fs::read_to_string(root().join("deploy/docker/Dockerfile")).unwrap();
    let text: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    text.replace("\\\n", " ")
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The stage that is built when none is asked for.
fn last_stage() -> Vec<String> {
    let all = instructions();
    let start = all.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    all[start..].to_vec()
}

#[test]
fn bases_have_a_version_and_no_registry() {
    let all = instructions();
    let default = |name: &str| {
        all.iter().find_map(|line| line.strip_prefix(&format!("ARG {name}="))).unwrap().to_owned()
    };
    let bases: Vec<String> = all
        .iter()
        .filter_map(|line| line.strip_prefix("FROM "))
        .map(|rest| rest.split(' ').next().unwrap().to_owned())
        .collect();
    assert!(bases.len() >= 3, "{bases:?}");
    for base in bases {
        let base = base
            .replace("${RUST_VERSION}", &default("RUST_VERSION"))
            .replace("${DEBIAN}", &default("DEBIAN"));
        assert!(base == "scratch" || base.starts_with("rust:1."), "{base}");
        assert!(!base.contains("latest") && !base.contains('$'), "{base}");
    }
}

#[test]
fn the_compiler_is_the_one_the_project_asks_for() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let wanted = manifest["workspace"]["package"]["rust-version"].as_str().unwrap().to_owned();
    assert!(instructions().contains(&format!("ARG RUST_VERSION={wanted}")), "rust-version is {wanted}");
}

#[test]
fn the_node_is_process_one_and_nobody() {
    let stage = last_stage();
    let user = stage.iter().find_map(|line| line.strip_prefix("USER ")).unwrap();
    let (uid, gid) = user.split_once(':').unwrap();
    assert!(uid.parse::<u32>().unwrap() > 10_000 && gid.parse::<u32>().unwrap() > 10_000, "{user}");
    for word in ["ENTRYPOINT ", "CMD "] {
        let form = stage.iter().find_map(|line| line.strip_prefix(word)).unwrap();
        let words: Vec<String> =
            serde_json::from_str(form).unwrap_or_else(|_| panic!("{word}is no list: {form}"));
        assert!(!words.iter().any(|one| one.contains("sh")), "{form}");
    }
    // There is nothing else in it that could ask.
    let health = stage.iter().find_map(|line| line.strip_prefix("HEALTHCHECK ")).unwrap();
    let (times, words) = health.split_once("CMD ").unwrap();
    assert_eq!(serde_json::from_str::<Vec<String>>(words).unwrap(), ["/usr/bin/parlance", "probe"]);
    assert!(times.contains("--timeout=") && times.contains("--start-period="), "{times}");
    assert!(stage.contains(&"STOPSIGNAL SIGTERM".to_owned()));
    // Variables win over the file, also over what the chart writes into it.
    assert!(!stage.iter().any(|line| line.contains("PARLANCE_")), "{stage:?}");
    assert!(!instructions().iter().any(|line| line.starts_with("ADD ")), "ADD fetches and unpacks");
}

#[test]
fn what_the_build_needs_is_sent_to_it() {
    let ignored = fs::read_to_string(root().join("deploy/docker/Dockerfile.dockerignore")).unwrap();
    let sent: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for path in &sent {
        assert!(root().join(path).exists(), "{path}");
    }
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let folder = member.as_str().unwrap().trim_end_matches("/*");
        assert!(sent.contains(&folder), "{folder} is a member and is not sent");
    }
    let scripts = instructions().into_iter().filter(|line| line.starts_with("RUN deploy/")).count();
    assert!(scripts == 1 && sent.contains(&"deploy/docker/rootfs.sh"));
}

#[test]
fn the_folder_of_the_image_has_all_that_the_gateway_loads() {
    let program = ["debug", "release"].map(|profile| target().join(profile).join("parlance"));
    let Some(program) = program.iter().find(|path| path.exists()) else {
        skipped("the gateway is not built: cargo build");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(root().join("deploy/docker/rootfs.sh"))
        .arg(program)
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for path in
        ["usr/bin/parlance", "etc/passwd", "etc/nsswitch.conf", "etc/ssl/certs/ca-certificates.crt", "data"]
    {
        assert!(folder.path().join(path).exists(), "{path}");
    }
    // As whoever runs the tests, who need not be root outside.
    let mut inside = Command::new("unshare");
    inside.args(["--map-root-user", "chroot"]).arg(folder.path()).args(["/usr/bin/parlance", "--version"]);
    let Ok(output) = inside.output() else {
        skipped("unshare is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr.clone()].concat()).into_owned();
    if String::from_utf8_lossy(&output.stderr).contains("unshare") {
        skipped(&format!("no user namespaces: {said}"));
        return;
    }
    assert!(output.status.success() && said.starts_with("parlance "), "{said}");
}
