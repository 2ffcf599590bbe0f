//! No token, secret or message body in the logs, at any level.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

const SECRET: &str = "a-secret-of-this-test-of-32-bytes-or-more";

/// Masks a client frame with a zero key: what it says stays readable here.
fn frame(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[0x81, 0x80 | 126, len[0], len[1], 0, 0, 0, 0], text.as_bytes()].concat()
}

#[test]
fn not_even_at_trace_does_a_log_show_a_token_a_secret_or_a_body() {
    let folder = tempfile::tempdir().unwrap();
    let token = Command::new(env!("CARGO_BIN_EXE_parlance"))
        .args(["token", "--user", "alice"])
        .env("PARLANCE_JWT_SECRET", SECRET)
        .output()
        .unwrap();
    let token = String::from_utf8(token.stdout).unwrap().trim().to_owned();
    let mut node = Command::new(env!("CARGO_BIN_EXE_parlance"))
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--internal-listen",
            "127.0.0.1:0",
            "--log-level",
            "trace",
        ])
        .args(["--log-format", "json", "--ack-level", "memory"])
        .current_dir(folder.path())
        .env("PARLANCE_JWT_SECRET", SECRET)
        .env("PARLANCE_API_KEY", "key-of-this-test")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let mut log = node.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut all = String::new();
        log.read_to_string(&mut all).map(|_| all)
    });
    let address = ready.split("public=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    write!(
        socket,
        "GET /sechat?token={token} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    .unwrap();
    let register = format!(r#"{{"type":"register_session","sessionId":"alice","token":"{token}"}}"#);
    socket.write_all(&frame(&register)).unwrap();
    let send = r#"{"type":"message:send","messageId":"m-1","conversationId":"c","toUserIds":["bob"],"body":"BODYMARK"}"#;
    socket.write_all(&frame(send)).unwrap();
    let mut heard = Vec::new();
    let mut chunk = [0; 4096];
    while !String::from_utf8_lossy(&heard).contains("message:acked") {
        let count = socket.read(&mut chunk).unwrap();
        assert!(count > 0, "closed before the acknowledgement");
        heard.extend_from_slice(&chunk[..count]);
    }
    node.kill().unwrap();
    node.wait().unwrap();
    let log = reading.join().unwrap().unwrap();
    assert!(log.contains("listening"), "no log at all: this shows nothing");
    for secret in [token.as_str(), SECRET, "key-of-this-test", "BODYMARK"] {
        assert!(!log.contains(secret), "the log shows {secret}");
    }
}
