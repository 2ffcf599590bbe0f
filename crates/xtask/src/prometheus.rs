//! Prometheus and promtool of Debian's package, for the tests of alerts and dashboards.
//!
//! Owns: how they are had without installing anything: the package is downloaded and unpacked among the tools, so that no service of it
//! is ever started. Must not know: what is tested with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::cargo::{quiet, say};

/// The variable in which the tests look for the folder of the two programs; empty, those tests are skipped.
pub const FOLDER: &str = "PARLANCE_TEST_PROMETHEUS";
const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// The folder with both programs; `None`, and that is said, when they cannot be had.
///
/// # Errors
/// When the folder of the tools cannot be written.
pub fn ensure(tools: &Path) -> Result<Option<PathBuf>> {
    let unpacked = tools.join("prometheus");
    let programs = unpacked.join("usr/bin");
    if are_in(&programs) {
        return Ok(Some(programs));
    }
    say("prometheus is missing: apt-get download prometheus, unpacked with dpkg-deb and not installed");
    let download = tools.join("prometheus.download");
    if download.exists() {
        fs::remove_dir_all(&download).with_context(|| format!("cannot remove {}", download.display()))?;
    }
    fs::create_dir_all(&download).with_context(|| format!("cannot create {}", download.display()))?;
    let fetch =
        || runs(Command::new("apt-get").args(["download", "-qq", "prometheus"]).current_dir(&download));
    // Lists that are too old name a package that is no longer there; only root may renew them.
    let had = fetch() || (runs(Command::new("apt-get").args(["update", "-qq"])) && fetch());
    if had && unpack(&download, &unpacked)? && are_in(&programs) {
        return Ok(Some(programs));
    }
    let installed = on_the_path();
    if installed.is_none() {
        say(
            "skipped: there is no prometheus; the tests of alerts and dashboards that run it will be skipped",
        );
    }
    Ok(installed)
}

fn unpack(download: &Path, to: &Path) -> Result<bool> {
    let entries = fs::read_dir(download).with_context(|| format!("cannot read {}", download.display()))?;
    let mut packages = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let Some(package) = packages.find(|path| path.extension().is_some_and(|end| end == "deb")) else {
        return Ok(false);
    };
    let unpacked = runs(Command::new("dpkg-deb").arg("--extract").arg(package).arg(to));
    fs::remove_dir_all(download).with_context(|| format!("cannot remove {}", download.display()))?;
    Ok(unpacked)
}

fn on_the_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|folder| are_in(folder))
}

fn are_in(folder: &Path) -> bool {
    PROGRAMS.iter().all(|name| {
        let mut command = Command::new(folder.join(name));
        command.arg("--version");
        quiet(command)
    })
}

fn runs(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{PROGRAMS, are_in};

    #[test]
    fn a_folder_has_both_programs_and_they_run() {
        let folder = tempfile::tempdir().unwrap();
        for name in PROGRAMS {
            assert!(!are_in(folder.path()), "without {name}");
            let path = folder.path().join(name);
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert!(are_in(folder.path()));
    }
}
