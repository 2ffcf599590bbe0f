//! The terminal: raw mode, the alternate screen, and always back again.
//!
//! Owns: steering the terminal and the loop around it. Must not know: what is on the screen (that is `app`).

use std::io::{Stdout, Write as _, stdout};
use std::time::Duration;

use anyhow::{Context as _, bail};
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste, Event, EventStream};
use crossterm::style::{Attribute, Color, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
    EnterAlternateScreen, LeaveAlternateScreen,
};
use crossterm::{cursor, execute, queue, terminal};
use futures_util::StreamExt as _;
use jiff::tz::TimeZone;
use parlance_client::{Client, Message, Update};
use parlance_gateway::clock::Clock;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::Args;
use super::app::{Action, App};
use super::styled::{Hue, Line};
use super::view::Place;

/// How long leaving waits for acknowledgements.
const PATIENCE: Duration = Duration::from_secs(3);
/// News taken in between two drawings: a flood is not drawn line by line.
const AT_ONCE: usize = 256;
/// Told apart from each other on dark and on light.
const USERS: [Color; 6] =
    [Color::Cyan, Color::Green, Color::Magenta, Color::Yellow, Color::Blue, Color::DarkCyan];

/// Runs the full screen until the user leaves.
///
/// # Errors
/// When the gateway refuses the user, the terminal is gone, or messages were not acknowledged.
pub async fn run(args: &Args, client: &Client, mut updates: mpsc::Receiver<Update>) -> anyhow::Result<()> {
    let place = Place {
        user: args.user.clone(),
        conversation: args.conversation.clone(),
        dialect: args.dialect.as_str(),
        zone: TimeZone::system(),
    };
    let mut shell = Shell { args, client, clock: Clock::system(), app: App::new(place, args.dialect) };
    let signals = [SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(terminate), Ok(hangup)] = signals else { bail!("cannot listen for signals") };
    restore_on_panic();
    let result = {
        let mut screen = Screen::enter().context("cannot use the terminal")?;
        shell.live(&mut screen, &mut updates, (terminate, hangup)).await
    };
    result?;
    shell.settle(&mut updates).await
}

struct Shell<'a> {
    args: &'a Args,
    client: &'a Client,
    clock: Clock,
    app: App,
}

impl Shell<'_> {
    async fn live(
        &mut self,
        screen: &mut Screen,
        updates: &mut mpsc::Receiver<Update>,
        (mut terminate, mut hangup): (Signal, Signal),
    ) -> anyhow::Result<()> {
        let mut events = EventStream::new();
        loop {
            self.draw(screen)?;
            tokio::select! {
                event = events.next() => {
                    let event = event.context("the terminal is gone")?.context("cannot read the terminal")?;
                    if matches!(event, Event::Resize(..)) {
                        screen.forget();
                    }
                    if self.event(&event) {
                        return Ok(());
                    }
                }
                update = updates.recv() => {
                    self.update(update)?;
                    for _ in 0..AT_ONCE {
                        match updates.try_recv() {
                            Ok(update) => self.update(Some(update))?,
                            Err(_) => break,
                        }
                    }
                }
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
            }
        }
    }

    fn draw(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        let frame = self.app.render(usize::from(columns), usize::from(rows));
        screen.show(frame.lines, frame.cursor_column).context("cannot write to the terminal")?;
        let seen = self.app.view.take_seen();
        if !self.args.no_receipts {
            self.mark_read(&seen);
        }
        Ok(())
    }

    fn update(&mut self, update: Option<Update>) -> anyhow::Result<()> {
        match update {
            None => bail!("the client has stopped"),
            Some(Update::Refused { status, reason }) => {
                bail!("refused by the gateway ({status}): {reason}")
            }
            Some(update) => self.app.update(update, self.clock.now()),
        }
        Ok(())
    }

    /// `true`: the user leaves.
    fn event(&mut self, event: &Event) -> bool {
        let now = self.clock.now();
        let to: Vec<&str> = self.args.to.iter().map(String::as_str).collect();
        let conversation = &self.args.conversation;
        // Typing and status that find no room are not missed: the next key or change says them again.
        match self.app.event(event, now) {
            None => {}
            Some(Action::Quit) => return true,
            Some(Action::Send(body)) => match self.client.send(conversation, &body, &to) {
                Ok(id) => self.app.view.sent(id, &body, now),
                Err(error) => self.app.not_sent(body, &error.to_string(), now),
            },
            Some(Action::Typing) => drop(self.client.typing(conversation, &to)),
            Some(Action::TypingStopped) => drop(self.client.typing_stopped(conversation)),
            Some(Action::Status(status)) => drop(self.client.set_presence(status)),
            Some(Action::React { message, kind, on }) => drop(self.client.react(&message, &kind, on)),
            Some(Action::Read(messages)) => self.mark_read(&messages),
        }
        false
    }

    fn mark_read(&self, messages: &[Message]) {
        for message in messages {
            // One that finds no room is made up for by the next: reading is a cursor.
            let _ = self.client.mark_read(message);
        }
    }

    /// What was sent just before leaving gets a moment to be acknowledged.
    async fn settle(&mut self, updates: &mut mpsc::Receiver<Update>) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.app.view.unsettled() > 0 {
            match timeout_at(until, updates.recv()).await {
                Ok(update) => self.update(update)?,
                Err(_) => bail!("{} messages were not acknowledged", self.app.view.unsettled()),
            }
        }
        Ok(())
    }
}

/// The terminal, taken; given back when dropped.
struct Screen {
    out: Stdout,
    shown: Vec<Line>,
}

impl Screen {
    fn enter() -> std::io::Result<Self> {
        terminal::enable_raw_mode()?;
        // From here on dropping it restores the terminal, whatever fails.
        let mut screen = Self { out: stdout(), shown: Vec::new() };
        execute!(screen.out, EnterAlternateScreen, EnableBracketedPaste, DisableLineWrap)?;
        Ok(screen)
    }

    /// Everything is drawn anew the next time.
    fn forget(&mut self) {
        self.shown.clear();
    }

    /// Draws what has changed.
    fn show(&mut self, lines: Vec<Line>, cursor_column: usize) -> std::io::Result<()> {
        let column = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        queue!(self.out, BeginSynchronizedUpdate, cursor::Hide)?;
        if self.shown.len() != lines.len() {
            queue!(self.out, Clear(ClearType::All))?;
            self.shown.clear();
        }
        for (row, line) in lines.iter().enumerate() {
            if self.shown.get(row) == Some(line) {
                continue;
            }
            // Cleared first: behind a full line the cursor would still stand on its last character.
            queue!(self.out, cursor::MoveTo(0, column(row)), Clear(ClearType::UntilNewLine))?;
            for span in line {
                paint(&mut self.out, span.hue)?;
                queue!(self.out, Print(&span.text), SetAttribute(Attribute::Reset))?;
            }
        }
        let last = column(lines.len().saturating_sub(1));
        queue!(self.out, cursor::MoveTo(column(cursor_column), last), cursor::Show, EndSynchronizedUpdate)?;
        self.shown = lines;
        self.out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn paint(out: &mut Stdout, hue: Hue) -> std::io::Result<()> {
    match hue {
        Hue::Plain => Ok(()),
        Hue::User(index) => {
            queue!(out, SetForegroundColor(USERS[index % USERS.len()]), SetAttribute(Attribute::Bold))
        }
        Hue::Good => queue!(out, SetForegroundColor(Color::Cyan)),
        Hue::Bad => queue!(out, SetForegroundColor(Color::Red)),
        Hue::Faint => queue!(out, SetAttribute(Attribute::Dim)),
        Hue::Bar => queue!(out, SetAttribute(Attribute::Reverse)),
    }
}

/// Gives the terminal back. Harmless when it already has been.
fn restore() {
    let _ = execute!(stdout(), EnableLineWrap, DisableBracketedPaste, cursor::Show, LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}

/// A panic is to be read on the user's own screen, not on one that vanishes.
fn restore_on_panic() {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        earlier(panic);
    }));
}
