//! The programs on the dialects' pages, pasted: each is run twice, by Alice and by Bob, against `parlance dev`, and must
//! print what its page says.
//!
//! A program is a `js` block whose first line says what to save it as and how to run it; the `text` block behind it is what
//! Alice's terminal shows. `…` is any text. From the first line that names Bob on, it is what comes when he does.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parlance_tests::gateway::built_binary;
use parlance_tests::script::{Script, packages};
use tokio::sync::watch;
use tokio::time::timeout;

/// Two programs and a node are started meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);
/// The address on the pages, which is the default one.
const SHOWN: &str = "127.0.0.1:8082";

/// A program of a page.
struct Snippet {
    file: String,
    /// What stands behind it when Alice runs it.
    args: Vec<String>,
    source: String,
    shows: Vec<String>,
}

/// A program that runs, and the lines it has printed.
struct Terminal {
    script: Script,
    lines: watch::Receiver<Vec<String>>,
}

impl Terminal {
    fn start(command: Command) -> Result<Self> {
        let (printed, lines) = watch::channel(Vec::new());
        let script = Script::start(command, move |line| {
            if let Some(line) = line {
                printed.send_modify(|lines: &mut Vec<String>| lines.push(tidy(line)));
            }
        })?;
        Ok(Self { script, lines })
    }

    /// The first line for which `pick` has something.
    async fn find<T>(&mut self, what: &str, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
        let found = timeout(PATIENCE, async {
            loop {
                if let Some(found) = self.lines.borrow_and_update().iter().find_map(|line| pick(line)) {
                    return Some(found);
                }
                self.lines.changed().await.ok()?;
            }
        });
        let found = found.await.ok().flatten();
        found.with_context(|| {
            format!("not printed: {what}\nprinted: {:#?}\nlog: {}", *self.lines.borrow(), self.script.log())
        })
    }

    async fn shows(&mut self, wanted: &[String]) -> Result<()> {
        for wanted in wanted {
            self.find(wanted, |line| matches(wanted, line).then_some(())).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn famly() -> Result<()> {
    page(include_str!("../../../docs/dialects/famly.md"), 1).await
}

#[tokio::test]
async fn lingochat() -> Result<()> {
    page(include_str!("../../../docs/dialects/lingochat.md"), 1).await
}

#[tokio::test]
async fn chatgenius() -> Result<()> {
    page(include_str!("../../../docs/dialects/chatgenius.md"), 1).await
}

#[tokio::test]
async fn sechat() -> Result<()> {
    page(include_str!("../../../docs/dialects/sechat.md"), 2).await
}

#[tokio::test]
async fn socialhub() -> Result<()> {
    page(include_str!("../../../docs/dialects/socialhub.md"), 1).await
}

async fn page(text: &str, programs: usize) -> Result<()> {
    let snippets = snippets(text)?;
    ensure!(snippets.len() == programs, "{} programs are marked to be run", snippets.len());
    for snippet in snippets {
        play(&snippet).await.with_context(|| snippet.file.clone())?;
    }
    Ok(())
}

async fn play(snippet: &Snippet) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_node, address, tokens) = node(&folder.path().join("data")).await?;
    std::os::unix::fs::symlink(packages()?, folder.path().join("node_modules"))?;
    ensure!(snippet.source.contains(SHOWN), "it does not connect to {SHOWN}");
    std::fs::write(folder.path().join(&snippet.file), snippet.source.replace(SHOWN, &address))?;
    let run = |user: usize| {
        let args = snippet.args.iter().map(|arg| match (user, arg.as_str()) {
            (1, "alice") => "bob",
            (1, "bob") => "alice",
            (_, arg) => arg,
        });
        let mut command = Command::new("node");
        // The pages ask for Node 20; this makes 18 do.
        command.arg("--experimental-global-webcrypto");
        command.arg(&snippet.file).args(args).current_dir(folder.path()).env("TOKEN", &tokens[user]);
        Terminal::start(command)
    };
    let of_bob = snippet.shows.iter().position(|line| line.to_lowercase().contains("bob"));
    let (before, of_bob) = snippet.shows.split_at(of_bob.context("nothing is shown of Bob")?);
    ensure!(!before.is_empty(), "nothing is shown before Bob comes");
    let mut alice = run(0)?;
    alice.shows(before).await?;
    let _bob = run(1)?;
    alice.shows(of_bob).await
}

/// `parlance dev` on a free port: where it is, and the tokens it prints.
async fn node(data: &Path) -> Result<(Terminal, String, [String; 2])> {
    let mut command = Command::new(built_binary()?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PARLANCE_")) {
        command.env_remove(name);
    }
    command.args(["dev", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"]);
    command.env("PARLANCE_DATA_DIR", data);
    let mut node = Terminal::start(command)?;
    let ready = |line: &str| Some(line.strip_prefix("ready public=")?.split(' ').next()?.to_owned());
    let address = node.find("ready", ready).await?;
    let token = |user: &'static str| move |line: &str| Some(line.strip_prefix(user)?.trim().to_owned());
    let tokens = [node.find("a token", token("alice ")).await?, node.find("a token", token("bob ")).await?];
    Ok((node, address, tokens))
}

/// The programs of a page.
fn snippets(page: &str) -> Result<Vec<Snippet>> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some((source, behind)) = fenced(rest, "js") {
        rest = behind;
        let head = source.lines().next().unwrap_or_default();
        let Some(head) = head.strip_prefix("// Save as ") else { continue };
        let (file, run) = head.split_once(" and run: ").context("no way to run it")?;
        let (how, args) = run.split_once(&format!(" node {file}")).context("another file is run")?;
        ensure!(how == "TOKEN=<Alice's token>", "whose token: {how}");
        let args = args.split_whitespace().map(str::to_owned).collect();
        let Some((shows, _)) = fenced(rest, "text") else { bail!("{file}: what does it show?") };
        let shows = shows.lines().map(tidy).collect();
        found.push(Snippet { file: file.to_owned(), args, source: source.to_owned(), shows });
    }
    Ok(found)
}

/// The first block of a language, and the text behind it.
fn fenced<'a>(text: &'a str, language: &str) -> Option<(&'a str, &'a str)> {
    text.split_once(&format!("```{language}\n"))?.1.split_once("```\n")
}

/// Without the blanks that stand for an empty word.
fn tidy(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is as the page says; `…` is any text but none.
fn matches(wanted: &str, line: &str) -> bool {
    let mut parts = wanted.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let at = rest.char_indices().skip(1).map(|(at, _)| at).find(|at| rest[*at..].starts_with(part));
        let Some(at) = at else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() > last.len() && rest.ends_with(last)
}

#[test]
fn a_line_is_as_the_page_says_or_not() {
    assert!(matches("sent …", "sent 5"));
    assert!(matches("a … b … c", "a 1 b 2 c"));
    assert!(matches("joined", "joined"));
    for line in ["sent ", "sent", "resent 5", "joined twice"] {
        assert!(!matches("sent …", line) && !matches("joined", line), "{line}");
    }
}

#[test]
fn only_marked_programs_are_run_and_they_must_say_how_and_what_they_show() {
    let page = |head: &str, text: &str| format!("x\n```js\n{head}\ncode\n```\n{text}");
    let good = "// Save as a.mjs and run: TOKEN=<Alice's token> node a.mjs alice";
    let found = snippets(&page(good, "```text\none  two\n```\n")).unwrap();
    assert_eq!((found.len(), &*found[0].file), (1, "a.mjs"));
    assert_eq!(
        (&found[0].args[..], &found[0].shows[..]),
        (&["alice".to_owned()][..], &["one two".to_owned()][..])
    );
    assert!(snippets(&page("const a = 1;", "")).unwrap().is_empty());
    for head in [good, "// Save as a.mjs", "// Save as a.mjs and run: TOKEN=<Alice's token> node b.mjs"] {
        assert!(snippets(&page(head, "")).is_err(), "{head}");
    }
}
