//! Socket.IO events on their way out: from a dialect's words to framed bytes, with namespace and offset.

use crate::{
    Class, Encoded, Offset, Style,
    codec::{Emit, Say},
    engineio, socketio,
};

/// Several events as one piece; `None` for none.
pub(crate) fn together(emits: &[Emit], style: &Style) -> Option<Encoded> {
    if let [one] = emits {
        return Some(alone(one, style));
    }
    let passing = emits.iter().all(|e| e.class == Class::Passing);
    let texts: Vec<String> =
        emits.iter().map(|e| text(e, style, e.offset.filter(|_| style.offsets))).collect();
    let offset = emits.iter().rev().find_map(|e| e.offset);
    let class = if passing { Class::Passing } else { Class::Kept };
    (!texts.is_empty()).then(|| Encoded::framed(&texts, class).at(offset))
}

fn alone(emit: &Emit, style: &Style) -> Encoded {
    let offset = emit.offset.filter(|_| style.offsets);
    let text = text(emit, style, offset);
    if style.offsets && offset.is_none() && emit.args.last().is_some_and(|a| a.starts_with('"')) {
        return Encoded::open_offset(text, emit.class);
    }
    Encoded::framed(&[text], emit.class).at(emit.offset)
}

/// What answers one packet, piece by piece. `packet` is its ack id.
pub(crate) fn answers(says: &[Say], packet: Option<u64>, style: &Style) -> Vec<Encoded> {
    let framed = |say: &Say| match say {
        Say::Emit(emit) => Some(alone(emit, style)),
        Say::Ack(args) => Some(packet_of(&socketio::ack(namespace(style), packet?, args))),
    };
    says.iter().filter_map(framed).collect()
}

/// A Socket.IO packet that must arrive, framed.
pub(crate) fn packet_of(text: &str) -> Encoded {
    Encoded::framed(&[engineio::message(text)], Class::Kept)
}

/// The namespace packets are for.
pub(crate) fn namespace(style: &Style) -> &str {
    style.namespace.as_deref().unwrap_or(socketio::MAIN)
}

fn text(emit: &Emit, style: &Style, offset: Option<Offset>) -> String {
    let offset = offset.map(|offset| offset.to_string());
    let packet = socketio::event_text(namespace(style), None, &emit.name, &emit.args, offset.as_deref());
    engineio::message(&packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(namespace: Option<&str>, offsets: bool) -> Style {
        Style { namespace: namespace.map(Into::into), strip: false, offsets }
    }

    #[test]
    fn namespace_and_offset_frame_an_event() {
        let emit = Emit::kept("message:new", vec!["{}".to_owned()]).at(7, 3);
        let all = together(std::slice::from_ref(&emit), &style(Some("/api/socket.io"), true)).unwrap();
        assert_eq!(all.texts(), [r#"42/api/socket.io,["message:new",{},"7-3"]"#]);
        assert_eq!(all.offset(), Some(Offset { number: 7, seq: 3 }));
        let plain = together(&[emit], &style(None, false)).unwrap();
        assert_eq!(plain.texts(), [r#"42["message:new",{}]"#]);
    }

    #[test]
    fn only_the_last_of_several_ends_with_the_offset() {
        let emits = [
            Emit::kept("message:notification", vec!["{}".to_owned()]),
            Emit::kept("message:new", vec!["{}".to_owned()]).at(7, 3),
        ];
        let all = together(&emits, &style(None, true)).unwrap();
        assert_eq!(all.texts(), [r#"42["message:notification",{}]"#, r#"42["message:new",{},"7-3"]"#]);
        assert_eq!(together(&[], &style(None, true)), None);
    }

    #[test]
    fn an_ack_is_sent_only_when_asked_for() {
        let says = [Say::Ack(vec!["1".to_owned(), "2".to_owned()])];
        let style = style(None, true);
        assert_eq!(answers(&says, Some(0), &style)[0].texts(), ["430[1,2]"]);
        assert!(answers(&says, None, &style).is_empty());
    }
}
