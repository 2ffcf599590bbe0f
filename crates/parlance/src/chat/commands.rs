//! What a typed line means: something to say, or a command. Pure.

use parlance_client::Status;

/// Lines of `/history` without a number.
const HISTORY: usize = 20;

/// What `/help` shows.
pub const HELP: &str = "\
/who            who is here
/history [n]    the last n messages of this session
/away  /busy  /online    your status, as others see it
/react <emoji>  react to the last message (/unreact takes it back)
/read           tell that you have read everything
/quit           leave (also Ctrl-C, Ctrl-D)
PgUp PgDn Esc   scroll back, forward, to the newest
Up Down         lines typed before
Alt-Enter       a new line within a message
//text          a message that begins with /text";

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    Say(String),
    Who,
    History(usize),
    Status(Status),
    /// A reaction to the last message, or its end.
    React(String, bool),
    Read,
    Help,
    Quit,
    Unknown(String),
}

/// Reads a line.
pub fn parse(line: &str) -> Command {
    let Some(command) = line.strip_prefix('/') else { return Command::Say(line.to_owned()) };
    if command.starts_with('/') {
        return Command::Say(command.to_owned());
    }
    let mut words = command.split_whitespace();
    match (words.next().unwrap_or_default(), words.next(), words.next()) {
        ("who", None, None) => Command::Who,
        ("history", None, None) => Command::History(HISTORY),
        ("history", Some(count), None) => {
            count.parse().map_or_else(|_| Command::Unknown(line.to_owned()), Command::History)
        }
        ("away", None, None) => Command::Status(Status::Away),
        ("busy", None, None) => Command::Status(Status::Busy),
        ("online", None, None) => Command::Status(Status::Online),
        ("react", Some(kind), None) => Command::React(kind.to_owned(), true),
        ("unreact", Some(kind), None) => Command::React(kind.to_owned(), false),
        ("read", None, None) => Command::Read,
        ("help", None, None) => Command::Help,
        ("quit" | "exit", None, None) => Command::Quit,
        _ => Command::Unknown(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_unless_they_begin_with_a_slash() {
        assert_eq!(parse("hello /who"), Command::Say("hello /who".into()));
        assert_eq!(parse("//who"), Command::Say("/who".into()));
        assert_eq!(parse(" /who"), Command::Say(" /who".into()));
    }

    #[test]
    fn commands() {
        for (line, command) in [
            ("/who", Command::Who),
            ("/history", Command::History(HISTORY)),
            ("/history 3 ", Command::History(3)),
            ("/away", Command::Status(Status::Away)),
            ("/busy", Command::Status(Status::Busy)),
            ("/online", Command::Status(Status::Online)),
            ("/react 👍", Command::React("👍".into(), true)),
            ("/unreact 👍 ", Command::React("👍".into(), false)),
            ("/react", Command::Unknown("/react".into())),
            ("/read", Command::Read),
            ("/help", Command::Help),
            ("/quit", Command::Quit),
            ("/history many", Command::Unknown("/history many".into())),
            ("/quit now", Command::Unknown("/quit now".into())),
            ("/", Command::Unknown("/".into())),
        ] {
            assert_eq!(parse(line), command);
        }
    }
}
