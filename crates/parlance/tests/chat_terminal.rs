//! `parlance chat` on a terminal: a pseudo-terminal here. Whatever ends it, the terminal is as it was.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const LONG: Duration = Duration::from_secs(20);
const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gateway(data: &Path) -> (Killed, String) {
    let child = Command::new(env!("CARGO_BIN_EXE_parlance"))
        .args(["dev", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut gateway = Killed(child);
    let out = BufReader::new(gateway.0.stdout.take().unwrap());
    let ready = out.lines().map(Result::unwrap).find(|line| line.starts_with("ready ")).unwrap();
    let public = ready.strip_prefix("ready public=").unwrap().split_once(' ').unwrap().0;
    let url = format!("ws://{public}");
    (gateway, url)
}

/// A chat and the other end of its terminal.
struct Terminal {
    chat: Killed,
    keys: File,
    slave: File,
    printed: Receiver<Vec<u8>>,
    all: String,
}

impl Terminal {
    fn start(url: &str, more: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = Path::new(OsStr::from_bytes(name.as_bytes()));
        let slave = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let size = Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).unwrap();
        let chat = Command::new(env!("CARGO_BIN_EXE_parlance"))
            .args(["chat", "--user", "alice", "--url", url])
            .args(more)
            .env_clear()
            .env("TERM", "xterm-256color")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        let keys = File::from(master);
        let mut screen = keys.try_clone().unwrap();
        let (bytes, printed) = sync_channel(1024);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                if bytes.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { chat: Killed(chat), keys, slave, printed, all: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn shows(&mut self, text: &str) {
        while !self.all.contains(text) {
            match self.printed.recv_timeout(LONG) {
                Ok(bytes) => self.all.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no {text:?} in {:?}", self.all),
            }
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits for its end and looks at the terminal it leaves.
    fn ends_with(mut self, code: i32) -> String {
        self.shows(LEFT);
        assert_eq!(self.chat.0.wait().unwrap().code(), Some(code), "{:?}", self.all);
        assert!(!self.is_raw(), "the terminal is still raw");
        self.all
    }
}

#[test]
fn what_is_typed_is_sent_and_ticked_and_leaving_restores_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    for leave in ["/quit\r", "\u{3}", "\u{4}"] {
        let mut terminal = Terminal::start(&url, &[]);
        terminal.shows(ENTERED);
        terminal.shows("connected");
        assert!(terminal.is_raw());
        terminal.press("hello\r");
        terminal.shows(": hello");
        terminal.shows("✓");
        terminal.press(leave);
        terminal.ends_with(0);
    }
}

#[test]
fn every_dialect_fills_a_screen() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    for spoken in [
        &["--dialect", "lingochat"][..],
        &["--dialect", "famly"],
        &["--dialect", "chatgenius"],
        &["--dialect", "socialhub"],
        &["--dialect", "sechat", "--framing", "socketio"],
    ] {
        let mut terminal = Terminal::start(&url, spoken);
        terminal.shows(&format!("{} · ", spoken[1]));
        terminal.shows("connected");
        terminal.press("hello\r");
        terminal.shows("✓");
        if spoken[1] == "chatgenius" {
            terminal.press("/react 👍\r");
            terminal.shows("no message yet to react to");
        }
        terminal.press("/quit\r");
        terminal.ends_with(0);
    }
}

#[test]
fn a_refusal_is_told_on_the_restored_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    let mut terminal = Terminal::start(&url, &["--jwt-secret", "another-secret-of-more-than-32-bytes"]);
    let complaint = "parlance: refused by the gateway (401)";
    terminal.shows(complaint);
    let all = terminal.ends_with(1);
    assert!(all.find(LEFT) < all.find(complaint), "{all:?}");
}

#[test]
fn a_signal_restores_the_terminal() {
    // Nobody listens there: it is trying to connect all the time.
    let mut terminal = Terminal::start("ws://127.0.0.1:1", &[]);
    terminal.shows("reconnecting");
    let id = terminal.chat.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    terminal.ends_with(0);
}

#[test]
fn plain_is_plain_on_a_terminal_too() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, url) = gateway(folder.path());
    let mut terminal = Terminal::start(&url, &["--plain"]);
    terminal.press("hello\n/quit\n");
    terminal.shows("✓ hello");
    assert_eq!(terminal.chat.0.wait().unwrap().code(), Some(0));
    assert!(!terminal.all.contains(ENTERED));
}
