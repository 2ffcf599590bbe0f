//! What is under way on one connection: what is to be sent, and who waits for which answer.
//!
//! Owns: the order, and when something goes out. Must not know: how a connection is made.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use parking_lot::Mutex;
use parlance_backplane::stats::Server;
use redis_protocol::error::RedisProtocolError;
use redis_protocol::resp3::decode::complete::decode_bytes_mut;
use redis_protocol::resp3::types::BytesFrame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::{LinkFault, Reply};
use crate::durable::answer;
use crate::topology::Stream;

/// A server that has not answered its oldest command for so long, nor said anything else, is gone.
const SILENCE: Duration = Duration::from_secs(3);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Read at once.
const CHUNK: usize = 4096;
/// So many batches are under way at once: what comes then goes out when one of them is answered,
const BATCHES: usize = 2;
/// or after so long, where the way to Redis is far: nobody waits there for the answers of others.
const HOLD: Duration = Duration::from_millis(1);

type Answered = Result<Reply, LinkFault>;

/// A command, as its caller has it.
#[derive(Default)]
pub struct Question<'a> {
    /// Its name.
    pub name: &'a str,
    /// The function that is called with keys and arguments.
    pub function: Option<&'a str>,
    /// They.
    pub keys: &'a [String],
    /// What follows the name of any other command.
    pub words: &'a [&'a [u8]],
    /// Arguments of the function.
    pub args: &'a [&'a [u8]],
}

struct Waiting {
    since: Instant,
    /// Nobody waits for what only prepares the next command.
    answer: Option<oneshot::Sender<Answered>>,
}

#[derive(Default)]
struct State {
    open: bool,
    out: BytesMut,
    /// Commands in `out`.
    unsent: usize,
    /// When the first of them goes out, whatever is under way.
    latest: Option<Instant>,
    waiting: VecDeque<Waiting>,
    /// Commands of each batch that were sent and not answered.
    batches: VecDeque<usize>,
}

/// What is to be done about what was not sent yet.
enum Turn {
    Send(BytesMut),
    Hold(Instant),
    Nothing,
}

/// The desk of one connection after the other.
#[derive(Default)]
pub struct Desk {
    stats: Arc<Server>,
    state: Mutex<State>,
    wake: Notify,
    is_open: AtomicBool,
}

impl Desk {
    /// That of a server of which so much is counted.
    pub fn of(stats: Arc<Server>) -> Self {
        Self { stats, ..Self::default() }
    }

    /// There is a connection.
    pub fn open(&self) {
        self.state.lock().open = true;
        self.is_open.store(true, Ordering::Release);
    }

    /// Whether there is one.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// It broke: whoever waits is told so.
    pub fn shut(&self) {
        self.is_open.store(false, Ordering::Release);
        let left = std::mem::take(&mut *self.state.lock());
        drop(left);
    }

    /// Puts a command where it will be sent from; `None`: there is no connection.
    pub fn put(&self, question: &Question<'_>, asking: bool) -> Option<oneshot::Receiver<Answered>> {
        let (answer, answered) = oneshot::channel();
        let since = Instant::now();
        let mut state = self.state.lock();
        if !state.open {
            return None;
        }
        if asking {
            // It is of use to the very next command of the connection only.
            spell(&mut state.out, &Question { name: "ASKING", ..Question::default() });
            state.waiting.push_back(Waiting { since, answer: None });
            state.unsent += 1;
        }
        spell(&mut state.out, question);
        state.waiting.push_back(Waiting { since, answer: Some(answer) });
        state.unsent += 1;
        // The first that is held begins the wait.
        let first = state.latest.is_none();
        state.latest.get_or_insert(since + HOLD);
        let goes = first || state.batches.len() < BATCHES;
        drop(state);
        if goes {
            self.wake.notify_one();
        }
        Some(answered)
    }

    /// Sends and reads until the connection breaks, and says why it did.
    pub async fn serve(&self, stream: Stream, buffer: BytesMut) -> io::Error {
        let (reading, writing) = tokio::io::split(stream);
        let ended = tokio::select! {
            ended = self.write(writing) => ended,
            ended = self.read(reading, buffer) => ended,
        };
        ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    async fn write(&self, mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            match self.turn() {
                Turn::Send(batch) => {
                    stream.write_all(&batch).await?;
                    stream.flush().await?;
                }
                Turn::Hold(until) => {
                    // Earlier, when an answer comes; either way the next turn tells.
                    let _ = tokio::time::timeout_at(until, self.wake.notified()).await;
                }
                Turn::Nothing => self.wake.notified().await,
            }
        }
    }

    fn turn(&self) -> Turn {
        let mut state = self.state.lock();
        let Some(latest) = state.latest else { return Turn::Nothing };
        if state.batches.len() >= BATCHES && Instant::now() < latest {
            return Turn::Hold(latest);
        }
        state.latest = None;
        let commands = std::mem::take(&mut state.unsent);
        state.batches.push_back(commands);
        Turn::Send(std::mem::take(&mut state.out))
    }

    async fn read(&self, mut stream: impl AsyncRead + Unpin, mut buffer: BytesMut) -> io::Result<()> {
        let mut answers = Vec::new();
        loop {
            while !buffer.is_empty() {
                let broken = |error: RedisProtocolError| io::Error::other(error.to_string());
                let Some((frame, ..)) = decode_bytes_mut(&mut buffer).map_err(broken)? else { break };
                if !matches!(frame, BytesFrame::Push { .. }) {
                    answers.push(answer(frame));
                }
            }
            self.answered(answers.drain(..))?;
            buffer.reserve(CHUNK);
            match tokio::time::timeout(LOOK, stream.read_buf(&mut buffer)).await {
                Ok(read) => {
                    if read? == 0 {
                        return Ok(());
                    }
                }
                Err(_) if self.is_silent() => return Err(io::ErrorKind::TimedOut.into()),
                Err(_) => {}
            }
        }
    }

    fn answered(&self, answers: impl ExactSizeIterator<Item = Answered>) -> io::Result<()> {
        if answers.len() == 0 {
            return Ok(());
        }
        // Once for all that came together.
        let now = Instant::now();
        let mut state = self.state.lock();
        for answer in answers {
            let unasked = || io::Error::new(io::ErrorKind::InvalidData, "an answer nobody asked for");
            let left = state.batches.front_mut().ok_or_else(unasked)?;
            *left -= 1;
            if *left == 0 {
                state.batches.pop_front();
            }
            let waiting = state.waiting.pop_front().ok_or_else(unasked)?;
            // Who gave up has been told that nobody answered.
            if let Some(asked) = waiting.answer {
                self.stats.commands.note(now.saturating_duration_since(waiting.since));
                drop(asked.send(answer));
            }
        }
        let goes = state.unsent > 0 && state.batches.len() < BATCHES;
        drop(state);
        if goes {
            self.wake.notify_one();
        }
        Ok(())
    }

    fn is_silent(&self) -> bool {
        self.state.lock().waiting.front().is_some_and(|waiting| waiting.since.elapsed() > SILENCE)
    }
}

fn length(out: &mut BytesMut, kind: u8, mut length: usize) {
    let mut digits = [0_u8; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        if let Some(digit) = digits.get_mut(from) {
            *digit = b'0' + u8::try_from(length % 10).unwrap_or_default();
        }
        length /= 10;
        if length == 0 {
            break;
        }
    }
    out.put_u8(kind);
    out.put_slice(digits.get(from..).unwrap_or_default());
    out.put_slice(b"\r\n");
}

fn word(out: &mut BytesMut, word: &[u8]) {
    length(out, b'$', word.len());
    out.put_slice(word);
    out.put_slice(b"\r\n");
}

/// As it is sent.
fn spell(out: &mut BytesMut, question: &Question<'_>) {
    let called = question.function.map_or(0, |_| 2 + question.keys.len() + question.args.len());
    length(out, b'*', 1 + called + question.words.len());
    word(out, question.name.as_bytes());
    if let Some(function) = question.function {
        word(out, function.as_bytes());
        word(out, question.keys.len().to_string().as_bytes());
        question.keys.iter().for_each(|key| word(out, key.as_bytes()));
        question.args.iter().for_each(|arg| word(out, arg));
    }
    question.words.iter().for_each(|one| word(out, one));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(desk: &Desk, name: &str) -> oneshot::Receiver<Answered> {
        desk.put(&Question { name, ..Question::default() }, false).unwrap()
    }

    fn batch(desk: &Desk) -> Option<BytesMut> {
        match desk.turn() {
            Turn::Send(batch) => Some(batch),
            Turn::Hold(_) | Turn::Nothing => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_goes_out_after_a_while_also_without_an_answer() {
        let desk = Desk::default();
        desk.open();
        let _under_way = ["A", "B"].map(|name| (ask(&desk, name), batch(&desk).unwrap()));
        let _third = ask(&desk, "C");
        let Turn::Hold(until) = desk.turn() else { panic!("sent at once") };
        let _fourth = ask(&desk, "D");
        tokio::time::sleep_until(until).await;
        assert_eq!(&batch(&desk).unwrap()[..], b"*1\r\n$1\r\nC\r\n*1\r\n$1\r\nD\r\n");
        assert!(matches!(desk.turn(), Turn::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_batches_are_under_way_goes_out_with_the_next_answer() {
        let desk = Desk::default();
        assert!(desk.put(&Question::default(), false).is_none(), "nobody is there");
        desk.open();
        let _first = ask(&desk, "A");
        assert_eq!(&batch(&desk).unwrap()[..], b"*1\r\n$1\r\nA\r\n");
        assert!(batch(&desk).is_none());
        let _second = ask(&desk, "B");
        assert!(batch(&desk).is_some());
        let (mut third, _fourth) = (ask(&desk, "C"), ask(&desk, "D"));
        assert!(batch(&desk).is_none());
        desk.answered(vec![Ok(Reply::Nil)].into_iter()).unwrap();
        assert_eq!(&batch(&desk).unwrap()[..], b"*1\r\n$1\r\nC\r\n*1\r\n$1\r\nD\r\n");
        desk.answered(vec![Ok(Reply::Nil), Ok(Reply::Int(3))].into_iter()).unwrap();
        assert_eq!(third.try_recv().unwrap(), Ok(Reply::Int(3)));
        desk.answered(vec![Ok(Reply::Nil)].into_iter()).unwrap();
        assert!(desk.answered(vec![Ok(Reply::Nil)].into_iter()).is_err(), "nobody asked");
    }

    #[test]
    fn who_waits_on_a_connection_that_breaks_is_told() {
        let desk = Desk::default();
        desk.open();
        let mut waiting = ask(&desk, "A");
        desk.shut();
        assert!(waiting.try_recv().is_err());
        assert!(desk.put(&Question::default(), false).is_none());
    }

    #[test]
    fn calls_are_spelled_with_keys_and_arguments() {
        let mut out = BytesMut::new();
        let (keys, args) = (["k".to_owned()], [&b"0123456789"[..]]);
        spell(
            &mut out,
            &Question { name: "FCALL", function: Some("f"), keys: &keys, words: &[], args: &args },
        );
        assert_eq!(&out[..], b"*5\r\n$5\r\nFCALL\r\n$1\r\nf\r\n$1\r\n1\r\n$1\r\nk\r\n$10\r\n0123456789\r\n");
    }
}
