//! The page about runs, in a browser: it shows their numbers, needs nothing from anywhere, and fits a small screen.
//!
//! Without a browser (`cargo xtask test` installs one) the tests say that they are skipped.

use std::fs;
use std::io::{Read as _, Write as _, stdout};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use serde_json::{Value, json};

const BROWSERS: [&str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).flat_map(|folder| BROWSERS.map(|name| folder.join(name)));
    let browser = found.into_iter().find(|file| file.is_file());
    if browser.is_none() {
        // Past the test harness, which keeps what a passing test prints to itself.
        let mut out = stdout().lock();
        writeln!(out, "parlance-tests: skipped: there is no Chromium").unwrap();
    }
    browser
}

/// What a browser made of a page.
struct Seen {
    /// The text that is visible.
    text: String,
    /// How wide its content is.
    width: u64,
    /// What it asked the network for, beside itself.
    requests: Vec<String>,
    /// What it said on the console.
    console: String,
}

/// Shows a page in a frame of some width, with a page around it that looks into it: the page itself runs no script.
fn look(browser: &Path, page: &str, width: u32) -> Seen {
    let frame = format!(
        "<!doctype html><link rel=icon href='data:,'><pre></pre><iframe src='/page' style='width:{width}px;height:900px;border:0'></iframe>\
         <script>onload = () => {{ const page = document.querySelector('iframe').contentDocument; document.querySelector('pre').textContent = \
         JSON.stringify({{ text: page.body.innerText, width: page.documentElement.scrollWidth }}) + 'END'; }}</script>"
    );
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (page, heard) = (page.to_owned(), asked.clone());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (page, frame, heard) = (page.clone(), frame.clone(), heard.clone());
            thread::spawn(move || answer(stream.unwrap(), &page, &frame, &heard));
        }
    });
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--dump-dom",
        ])
        .args(["--enable-logging=stderr", "--timeout=60000"])
        // Whatever a page asks for, wherever that is, it asks this test.
        .arg(format!("--host-resolver-rules=MAP * {address}"))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{address}/"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let seen = dom.split_once("<pre>").and_then(|(_, rest)| rest.split_once("END</pre>"));
    let (seen, _) = seen.unwrap_or_else(|| panic!("the browser showed nothing: {log}\n{dom}"));
    let seen = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", " ").replace("&amp;", "&");
    let seen: Value = serde_json::from_str(&seen).unwrap();
    let requests = asked.lock().unwrap().iter().filter(|line| !is_own(line)).cloned().collect();
    let console = log.lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>().join("\n");
    let text = seen["text"].as_str().unwrap().replace(['\u{202f}', '\u{a0}'], " ");
    Seen { text, width: seen["width"].as_u64().unwrap(), requests, console }
}

/// The frame and the page.
fn is_own(line: &str) -> bool {
    line.starts_with("GET / HTTP") || line.starts_with("GET /page HTTP")
}

fn answer(mut stream: TcpStream, page: &str, frame: &str, heard: &Mutex<Vec<String>>) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
        request.push(byte[0]);
    }
    // Browsers open connections ahead and ask nothing on them.
    if request.is_empty() {
        return;
    }
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    let body = if line.starts_with("GET /page ") { page } else { frame };
    heard.lock().unwrap().push(line);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n";
    // A browser that does not want it any more is none of the test's business.
    drop(write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()));
}

/// An outcome as a run writes it.
fn outcome(label: &str, cost: f64, lost: u64) -> Value {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3).unwrap();
    for value in 1..=20_000_u64 {
        histogram.record(value * 5).unwrap();
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut bytes).unwrap();
    let times = json!({
        "unit": "us", "count": 20_000, "min": 5, "max": 100_031, "mean": 50_002.5, "p50": 50_015, "p90": 90_047,
        "p99": 99_007, "p999": 99_967, "encoded": base64::engine::general_purpose::STANDARD.encode(bytes),
    });
    let figure = |value: f64, unit: &str, better: &str, join: &str| json!({ "value": value, "unit": unit, "better": better, "join": join });
    let points: Vec<(u32, u32)> = (0..30).map(|at| (at, 90_000 + at)).collect();
    json!({
        "version": 1, "scenario": "fanout", "label": label, "started": "2026-01-02T03:04:05Z", "seconds": 30.0, "parts": 2,
        "target": { "kind": "parlance", "dialect": "sechat", "transport": "websocket", "nodes": ["ws://127.0.0.1:8081", "ws://127.0.0.1:8082"] },
        "settings": { "members": 1234, "a setting with a name that needs some room": "and-a-value-without-any-place-to-break-it-at-all-in-it" },
        "machine": { "cpus": 2, "memory_mib": 4096, "kernel": "6.1.0" },
        "figures": { "cpu_us_per_delivery": figure(cost, "µs", "lower", "mean"), "deliveries": figure(7_654_321.0, "", "none", "sum") },
        "times": { "delivery": times.clone(), "ack": times },
        "series": [{ "name": "deliveries", "unit": "1/s", "join": "sum", "points": points }],
        "checks": { "sent": 77, "acked": 76, "delivered": 7_654_321, "expected": 7_654_321 + lost, "lost": lost, "doubled": 0, "disordered": 0,
            "errors": { "connect: connection reset by peer": lost } },
        "servers": [{ "name": "gateway", "pid": 4711, "cpu_us": 12_340_000, "rss_kib_before": 20_480, "rss_kib_peak": 40_960, "rss_kib_after": 30_720 }],
        "warnings": ["The disk was slow."],
    })
}

/// The page about these outcomes.
fn page(outcomes: &[Value]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlance-bench"));
    command.arg("report").arg("-o").arg(folder.path().join("page.html"));
    for (number, outcome) in outcomes.iter().enumerate() {
        let file = folder.path().join(format!("{number}.json"));
        fs::write(&file, outcome.to_string()).unwrap();
        command.arg(file);
    }
    assert!(command.status().unwrap().success());
    fs::read_to_string(folder.path().join("page.html")).unwrap()
}

fn assert_alone_and_quiet(seen: &Seen) {
    assert_eq!(seen.requests, Vec::<String>::new(), "the page asked the network");
    assert_eq!(seen.console, "", "the page said something on the console");
}

#[test]
fn one_run_shows_its_numbers_and_needs_nothing() {
    let Some(browser) = browser() else { return };
    let seen = look(&browser, &page(&[outcome("first", 3.25, 0)]), 1200);
    assert_alone_and_quiet(&seen);
    for text in [
        "Fanout",
        "first",
        "✓ Clean",
        "All 7 654 321 deliveries arrived",
        "2 load processes",
        "CPU per delivery",
        "3.25",
        "lower is better",
        "50.02 ms",
        "99.01 ms",
        "99.97 ms",
        "Over time",
        "gateway",
        "12.34 s",
        "41.1 %",
        "40 MiB",
        "1234",
        "The disk was slow.",
        "✓ none",
    ] {
        assert!(seen.text.contains(text), "{text} is not seen in\n{}", seen.text);
    }
}

#[test]
fn several_runs_stand_side_by_side() {
    let Some(browser) = browser() else { return };
    let seen = look(&browser, &page(&[outcome("before", 3.25, 0), outcome("after", 6.5, 42)]), 1200);
    assert_alone_and_quiet(&seen);
    for text in [
        "Fanout: 2 runs",
        "before",
        "after",
        "3.25",
        "6.5",
        "2.00 ×",
        "✓ Clean",
        "✗ Broken",
        "42 lost",
        "✗ 42",
        "reset by peer",
    ] {
        assert!(seen.text.contains(text), "{text} is not seen in\n{}", seen.text);
    }
}

#[test]
fn a_small_screen_needs_no_scrolling_sideways() {
    let Some(browser) = browser() else { return };
    for outcomes in
        [vec![outcome("first", 3.25, 7)], vec![outcome("before", 3.25, 0), outcome("after", 6.5, 42)]]
    {
        let seen = look(&browser, &page(&outcomes), 380);
        assert!(seen.width <= 380, "{} pixels wide", seen.width);
        assert!(seen.text.contains("3.25"));
    }
}

#[test]
fn what_a_page_may_not_do_would_be_noticed() {
    let Some(browser) = browser() else { return };
    let bad = "<!doctype html><body><img src='http://elsewhere.example/picture.png'><script>console.error('trouble')</script>\
               <div style='width:700px'>wide</div>";
    let seen = look(&browser, bad, 380);
    assert!(seen.requests.iter().any(|line| line.contains("picture.png")), "{:?}", seen.requests);
    assert!(seen.console.contains("trouble"), "{}", seen.console);
    assert!(seen.width >= 700, "{}", seen.width);
}
