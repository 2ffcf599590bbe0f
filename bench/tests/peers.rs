//! The Socket.IO server that comparisons run against: that the load generator and it understand each other.
//!
//! Without its packages (`cargo xtask test` installs them) the test says that it is skipped.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const SECRET: &str = "parlance-comparison-secret-of-no-other-use";

/// The server; it ends with the test.
struct Peer {
    child: Child,
    port: u16,
}

impl Peer {
    fn start(folder: &Path) -> Self {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut node = Command::new("node");
        node.arg(folder.join("server.js")).env("PORT", port.to_string()).env("JWT_SECRET", SECRET);
        let mut child = node.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready");
        Self { child, port }
    }

    fn load(&self, secret: &str, transport: &str) -> (Option<i32>, Value) {
        let outcome =
            std::env::temp_dir().join(format!("parlance-bench-{}-{transport}.json", std::process::id()));
        let status = Command::new(env!("CARGO_BIN_EXE_parlance-bench"))
            .args(["fanout", "--kind", "socketio", "--nodes", &format!("ws://127.0.0.1:{}", self.port)])
            .args(["--secret", secret, "--transport", transport, "--members", "5", "--rate", "50"])
            .args([
                "--warmup",
                "0.2",
                "--seconds",
                "1",
                "--quiet",
                "--watch",
                &format!("node={}", self.child.id()),
            ])
            .arg("--json")
            .arg(&outcome)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        let found = std::fs::read_to_string(&outcome).map(|text| serde_json::from_str(&text).unwrap());
        drop(std::fs::remove_file(&outcome));
        (status.code(), found.unwrap_or_default())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_socket_io_server_hears_the_load_and_tells_everybody() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/node");
    if !folder.join("node_modules/socket.io").exists() {
        println!("parlance-tests: skipped: the Socket.IO server's packages are not installed");
        return;
    }
    let peer = Peer::start(&folder);
    for transport in ["websocket", "polling"] {
        let (code, found) = peer.load(SECRET, transport);
        let checks = &found["checks"];
        assert_eq!(code, Some(0), "{transport}: {checks}");
        let sent = checks["sent"].as_u64().unwrap();
        // Five members and the sender itself.
        assert!(
            sent >= 50 && checks["delivered"] == sent * 6 && checks["acked"] == sent,
            "{transport}: {checks}"
        );
        assert!(found["figures"]["cpu_us_per_delivery"]["value"].as_f64().unwrap() > 0.0);
    }
    let (code, _) = peer.load("another-secret-that-it-does-not-know", "websocket");
    assert_eq!(code, Some(2), "the server took a token that it cannot verify");
}
