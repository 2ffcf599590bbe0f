//! Client events of both editions to requests.
//!
//! Owns: which arguments a command takes, and when a connection's edition settles: with the first command
//! that can be read. Both editions are understood at any time; answers are in the settled one.

use parlance_model::{
    Command, History, RawJson, Receipt, ReceiptKind, ReceiptTarget, Reject, RejectCode, Request, Role, Send,
    TypingChange,
};

use super::{
    Extra, arg,
    args::{self, Args, Place},
};
use crate::{
    Accent, Tag,
    codec::{Call, Context, Decoded},
    json,
};

/// Longest event name a tag repeats.
const EVENT_CHARS: usize = 64;
/// Longest text of a message.
const TEXT_CHARS: usize = 1000;
/// Longest translation: some languages take more room than others.
const TRANSLATED_CHARS: usize = 2000;

pub(super) fn decode(call: &Call<'_>, cx: &mut Context) -> Decoded {
    let event = call.name.chars().take(EVENT_CHARS).collect();
    let mut tag = Tag { event, packet: call.packet, ..Tag::default() };
    match read(call, &mut tag, cx) {
        Ok(request) => Decoded::Request(tag, request),
        Err(reject) => Decoded::Refused(tag, reject),
    }
}

fn read(call: &Call<'_>, tag: &mut Tag, cx: &mut Context) -> Result<Request, Reject> {
    let args = Args::of(call, cx.max_depth)?;
    let request = match call.name {
        "conversation:join" => about(&args, tag, |conversation| join(conversation, Role::Joined)),
        "room:join" => about(&args, tag, |conversation| join(conversation, Role::Group)),
        "conversation:leave" | "room:leave" => {
            about(&args, tag, |place| Ok(Command::Leave { conversation: place.id }))
        }
        "message:send" | "room:message" => send(&args, tag, cx),
        "typing:start" => about(&args, tag, |place| Ok(typing(place, true))),
        "typing:stop" => about(&args, tag, |place| Ok(typing(place, false))),
        "message:delivered" => receipt(&args, ReceiptKind::Delivered),
        "message:read" => receipt(&args, ReceiptKind::Read),
        "messages:sync" => {
            let since = args.since()?;
            about(&args, tag, |place| Ok(Command::History(History { conversation: place.id, since })))
        }
        _ => Err(Reject::new(RejectCode::UnknownEvent, "Unknown event")),
    }?;
    settle(cx, &args);
    Ok(request)
}

fn settle(cx: &mut Context, args: &Args<'_>) {
    if !cx.settled {
        cx.accent = if args.object { Accent::LingochatObject } else { Accent::LingochatPositional };
        cx.settled = true;
    }
}

/// A command about a conversation, which the answer names as the client did.
fn about(
    args: &Args<'_>,
    tag: &mut Tag,
    command: impl FnOnce(Place) -> Result<Command, Reject>,
) -> Result<Request, Reject> {
    let place = args.place()?.ok_or_else(|| json::missing("conversationId"))?;
    tag.subject = Some(place.said.clone());
    let number = place.number;
    Ok(Request { number, ..Request::new(command(place)?, None) })
}

fn join(place: Place, role: Role) -> Result<Command, Reject> {
    Ok(Command::Join { conversation: place.id, role })
}

fn typing(place: Place, on: bool) -> Command {
    Command::Typing(TypingChange { conversation: place.id, on, to: vec![] })
}

fn send(args: &Args<'_>, tag: &mut Tag, cx: &Context) -> Result<Request, Reject> {
    let client_id = args.client_id()?;
    tag.reference = client_id.as_deref().map(str::to_owned);
    about(args, tag, |place| {
        Ok(Command::Send(Send {
            conversation: place.id,
            client_id,
            body: args.body(TEXT_CHARS)?,
            to: vec![],
            metadata: args.metadata(cx.max_depth)?,
            extra: extra(args)?,
        }))
    })
}

fn extra(args: &Args<'_>) -> Result<Option<RawJson>, Reject> {
    let extra = Extra {
        sender_language: args.language(args::SENDER_LANGUAGE)?.map(Into::into),
        recipient_language: args.language(args::RECIPIENT_LANGUAGE)?.map(Into::into),
        translated_text: args.aside(args::TRANSLATED_TEXT, TRANSLATED_CHARS)?.map(Into::into),
        language: args.language(args::LANGUAGE)?.map(Into::into),
    };
    let text = arg(&extra);
    Ok((text != "{}").then(|| RawJson::trusted(text)))
}

fn receipt(args: &Args<'_>, kind: ReceiptKind) -> Result<Request, Reject> {
    let ids = vec![args.message()?];
    let place = args.place_of_message()?;
    let number = place.as_ref().and_then(|p| p.number);
    let target = ReceiptTarget::Ids { conversation: place.map(|p| p.id), ids };
    Ok(Request { number, ..Request::new(Command::Receipt(Receipt { kind, target }), None) })
}
