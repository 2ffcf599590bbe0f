//! What the tests of the binary share: processes on pipes, a gateway, a line that can be cut.
#![allow(dead_code, reason = "each test uses a part")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parlance_gateway::auth::sign_dev_token;
use parlance_gateway::clock::Clock;
use parlance_model::UserId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub const SECRET: &str = "a-test-secret-of-more-than-32-bytes!";
/// Longer than anything here takes; a test that waits this long has failed.
pub const LONG: Duration = Duration::from_secs(20);

/// A process and the lines it prints; killed when a test ends early.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    printed: Receiver<String>,
    pub all: Vec<String>,
    pub complained: Option<JoinHandle<String>>,
}

impl Process {
    pub fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_parlance"))
            .args(args)
            .env_clear()
            .env("PARLANCE_JWT_SECRET", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, printed) = sync_channel(1024);
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let mut err = child.stderr.take().unwrap();
        let complained = std::thread::spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).unwrap();
            text
        });
        let input = child.stdin.take();
        Self { child, input, printed, all: Vec::new(), complained: Some(complained) }
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits until a line was printed that is good.
    pub fn wait(&mut self, what: &str, good: impl Fn(&str) -> bool) -> String {
        while !self.all.iter().any(|line| good(line)) {
            match self.printed.recv_timeout(LONG) {
                Ok(line) => self.all.push(line),
                Err(_) => panic!("no {what} in {:#?}", self.all),
            }
        }
        self.all.iter().find(|line| good(line)).unwrap().clone()
    }

    pub fn prints(&mut self, line: &str) {
        self.wait(line, |printed| printed == line);
    }

    pub fn count(&self, line: &str) -> usize {
        self.all.iter().filter(|printed| *printed == line).count()
    }

    /// Ends its input and waits for its end: exit code and what it wrote to stderr.
    pub fn end(&mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        let code = self.exit();
        self.all.extend(self.printed.iter());
        (code, self.complained.take().unwrap().join().unwrap())
    }

    /// Waits for the end of its output, and then for its own.
    pub fn exit(&mut self) -> Option<i32> {
        loop {
            match self.printed.recv_timeout(LONG) {
                Ok(line) => self.all.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(_) => panic!("it does not end: {:#?}", self.all),
            }
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway and its address.
pub fn gateway(data: &Path) -> (Process, String) {
    let (gateway, url, _) = gateway_with_api(data);
    (gateway, url)
}

/// The same, and the address of its server API.
pub fn gateway_with_api(data: &Path) -> (Process, String, String) {
    let data = data.to_str().unwrap();
    let mut gateway = Process::start(&[
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--internal-listen",
        "127.0.0.1:0",
        "--data-dir",
        data,
    ]);
    let ready = gateway.wait("ready line", |line| line.starts_with("ready "));
    let (public, internal) = ready.strip_prefix("ready public=").unwrap().split_once(' ').unwrap();
    let internal = internal.strip_prefix("internal=").unwrap().split(' ').next().unwrap();
    (gateway, format!("ws://{public}"), internal.to_owned())
}

/// Makes users members of the demo conversation.
pub fn add_members(api: &str, users: &[&str]) {
    let names: Vec<String> = users.iter().map(|user| format!("\"{user}\"")).collect();
    let body = format!("{{\"addMembers\":[{}]}}", names.join(","));
    let mut tcp = std::net::TcpStream::connect(api).unwrap();
    write!(
        tcp,
        "PATCH /api/v1/conversations/demo HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\
         authorization: Bearer parlance-development-api-key\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

pub fn chat(url: &str, dialect: &str, user: &str, more: &[&str]) -> Process {
    let mut args = vec!["chat", "--url", url, "--dialect", dialect, "--user", user];
    args.extend(more);
    Process::start(&args)
}

/// A token of the gateway's.
pub fn token(user: &str) -> String {
    let id = UserId::parse(user).unwrap();
    sign_dev_token(SECRET, &id, None, Duration::from_secs(600), Clock::system().now()).unwrap()
}

/// A line to a gateway that can be cut, and laid again to another.
pub struct Line {
    pub url: String,
    target: watch::Sender<Option<String>>,
}

impl Line {
    /// A line to `url`.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (target, targets) = watch::channel(Some(address(url)));
        let url = format!("ws://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "it lives as long as the test")]
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let targets = targets.clone();
                tokio::spawn(carry(from, targets));
            }
        });
        Self { url, target }
    }

    /// Ends what goes over it, and answers nobody.
    pub fn cut(&self) {
        self.target.send_replace(None);
    }

    /// Goes on, to this gateway.
    pub fn lay(&self, url: &str) {
        self.target.send_replace(Some(address(url)));
    }
}

fn address(url: &str) -> String {
    url.strip_prefix("ws://").unwrap().to_owned()
}

async fn carry(mut from: TcpStream, mut targets: watch::Receiver<Option<String>>) {
    let Some(target) = targets.borrow_and_update().clone() else { return };
    let Ok(mut to) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
        _ = targets.changed() => {}
    }
}
