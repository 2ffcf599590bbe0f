//! The socialhub codec where a vector cannot say it: tails, aliases, made-up ids, hostile frames.

use std::sync::Arc;

use parlance_model::{
    Accepted, Answer, AppEvent, Author, Channel, Command, ConversationId, Event, Message, MessageEvent,
    MessageId, RawJson, ReceiptTarget, Reject, RejectCode, Request, Time, UserId,
};
use parlance_wire::{Accent, Class, Dialect, Encoded, Framing, Peer, Settings, Style, Tag, socialhub};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: Time = Time(1_709_294_400_000);

fn peer() -> Peer {
    let (dialect, framing, style) = (Dialect::Socialhub, Framing::Raw, Style::default());
    Peer::new(Settings { dialect, framing, style, max_depth: 32, salt: 7 })
}

fn encode(accent: Accent, event: &Event) -> Option<Encoded> {
    parlance_wire::encode(accent, &Style::default(), event)
}

fn frames(peer: &mut Peer) -> Vec<Value> {
    std::iter::from_fn(|| peer.poll_frame())
        .flat_map(|f| f.texts().into_iter().map(|t| serde_json::from_str(t).unwrap()).collect::<Vec<_>>())
        .collect()
}

fn request(frame: &Value) -> (Tag, Request) {
    let mut peer = peer();
    peer.receive(&frame.to_string(), NOW);
    match peer.poll_request() {
        Some((tag, Ok(request))) => (tag, request),
        other => panic!("no request from {frame}: {other:?}"),
    }
}

fn refusal(text: &str) -> Value {
    let mut peer = peer();
    peer.receive(text, NOW);
    let (tag, refused) = peer.poll_request().expect("a refusal");
    assert!(refused.is_err(), "{text}: {refused:?}");
    peer.answer(&tag, &refused.map(|_| Answer::Done), NOW);
    let mut all = frames(&mut peer);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

fn answered(frame: &Value, result: &Result<Answer, Reject>) -> Vec<Value> {
    let mut peer = peer();
    peer.receive(&frame.to_string(), NOW);
    let (tag, _) = peer.poll_request().unwrap();
    peer.answer(&tag, result, NOW);
    frames(&mut peer)
}

fn id() -> MessageId {
    MessageId::new(1 << 30, 5).unwrap()
}

fn message(body: &str) -> Event {
    let author = Author {
        id: UserId::parse("789").unwrap(),
        name: Some("Jane Doe".into()),
        username: Some("jane".into()),
        picture: None,
    };
    Event::Message(MessageEvent {
        conversation: ConversationId::parse("conv_456").unwrap(),
        number: 1 << 30,
        id: id(),
        seq: 5,
        at: NOW,
        message: Message {
            author,
            client_id: Some("c1".into()),
            body: body.into(),
            metadata: Some(RawJson::trusted("{\"a\":[1,2]}")),
            extra: None,
            trace: None,
        },
        queued: false,
    })
}

fn channel_of(frame: &Value) -> Channel {
    match request(frame).1.command {
        Command::Subscribe(channel) => channel,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_event_takes_each_recipients_integer() {
    let shared = encode(Accent::Socialhub, &message("Hello!")).unwrap();
    assert!(shared.is_open() && shared.class() == Class::Kept);
    for seq in [1, 42, (1 << 53) - 1] {
        let sealed = shared.seal(seq);
        let frame: Value = serde_json::from_str(sealed.texts()[0]).unwrap();
        assert_eq!(frame["seq"], seq);
        assert_eq!(frame["id"], id().to_uuid(NOW.seconds32()));
        assert_eq!(frame["payload"]["id"], frame["id"]);
        assert_eq!(frame["payload"]["metadata"]["a"][1], 2);
        assert_eq!(frame["payload"]["sender"]["avatar_url"], Value::Null);
    }
}

#[test]
fn a_broken_stored_payload_does_not_break_the_envelope() {
    let event = Event::App(AppEvent {
        id: id(),
        channel: "feed:updates".into(),
        kind: "feed_update".into(),
        payload: RawJson::trusted("{not json"),
        at: NOW,
    });
    let sealed = encode(Accent::Socialhub, &event).unwrap().seal(1);
    let frame: Value = serde_json::from_str(sealed.texts()[0]).unwrap();
    assert_eq!((&frame["payload"], &frame["type"]), (&Value::Null, &json!("feed_update")));
}

#[test]
fn a_channel_is_read_from_three_places() {
    let expected = Channel::parse("conversation:c1").unwrap();
    let name = "conversation:c1";
    assert_eq!(channel_of(&json!({"type": "subscribe", "payload": {"channel": name}})), expected);
    assert_eq!(channel_of(&json!({"type": "subscribe", "payload": name})), expected);
    assert_eq!(channel_of(&json!({"type": "subscribe", "channel": name})), expected);
    assert_eq!(channel_of(&json!({"type": "subscribe", "payload": {}, "channel": name})), expected);
    for bad in ["", "nope", "conversation:a b", "presence:"] {
        let frame = refusal(&json!({"type": "unsubscribe", "payload": bad}).to_string());
        assert_eq!(frame["payload"]["code"], "CHANNEL_NOT_FOUND", "{bad}");
    }
}

#[test]
fn the_conversation_comes_from_the_channel_when_the_payload_lacks_it() {
    let frame = json!({"type": "message", "channel": "conversation:c1", "payload": {"content": "hi"}});
    let Command::Send(send) = request(&frame).1.command else { panic!() };
    assert_eq!((send.conversation.as_str(), &*send.body, send.client_id), ("c1", "hi", None));
    let frame = json!({"type": "typing_stop", "channel": "conversation:c1"});
    let Command::Typing(typing) = request(&frame).1.command else { panic!() };
    assert_eq!((typing.conversation.as_str(), typing.on), ("c1", false));
    let frame = json!({"type": "typing_start", "channel": "presence"});
    assert_eq!(refusal(&frame.to_string())["payload"]["code"], "CHANNEL_NOT_FOUND");
    let frame = json!({"type": "typing_start", "payload": {}});
    assert_eq!(refusal(&frame.to_string())["payload"]["details"]["field"], "conversation_id");
}

#[test]
fn the_client_id_is_the_most_explicit_one() {
    let sent = |envelope: Value, payload: Value| {
        let mut frame = json!({"type": "send_message", "payload": {"text": "x", "conversation_id": 7}});
        frame.as_object_mut().unwrap().extend(envelope.as_object().unwrap().clone());
        frame["payload"].as_object_mut().unwrap().extend(payload.as_object().unwrap().clone());
        let Command::Send(send) = request(&frame).1.command else { panic!() };
        assert_eq!(send.conversation.as_str(), "7");
        send.client_id.as_deref().map(str::to_owned)
    };
    let all = json!({"client_id": "a", "temp_id": "b", "id": "c"});
    assert_eq!(sent(json!({"id": "e"}), all).as_deref(), Some("a"));
    assert_eq!(sent(json!({"id": "e"}), json!({"temp_id": 12, "id": "c"})).as_deref(), Some("12"));
    assert_eq!(sent(json!({"id": "e"}), json!({"id": "c"})).as_deref(), Some("c"));
    assert_eq!(sent(json!({"id": "e"}), json!({})).as_deref(), Some("e"));
    // An envelope id is never validated, so one that cannot serve is passed over.
    assert_eq!(sent(json!({"id": {"x": 1}}), json!({})), None);
    assert_eq!(sent(json!({"id": "x".repeat(129), "timestamp": false}), json!({})), None);
    let long = json!({"type": "message", "payload":
        {"content": "x", "conversation_id": "c", "client_id": "x".repeat(129)}});
    assert_eq!(refusal(&long.to_string())["payload"]["details"]["field"], "client_id");
}

#[test]
fn unknown_fields_travel_as_extra_and_the_author_is_only_claimed() {
    let frame = json!({"type": "message", "payload": {"content": "x", "conversation_id": "c",
        "sender_id": 12, "reply_to": "m1", "n": [1], "metadata": {"k": 1}}});
    let (_, request) = request(&frame);
    assert_eq!(request.claimed.as_deref(), Some("12"));
    let Command::Send(send) = request.command else { panic!() };
    let extra: Value = serde_json::from_str(send.extra.unwrap().as_str()).unwrap();
    assert_eq!(extra, json!({"reply_to": "m1", "n": [1]}));
    assert_eq!(send.metadata.unwrap().as_str(), "{\"k\":1}");
}

#[test]
fn a_claim_that_cannot_be_an_id_is_still_a_claim() {
    let frame = json!({"type": "presence", "payload": {"status": "busy", "user_id": ["123"]}});
    assert_eq!(request(&frame).1.claimed.as_deref(), Some("[\"123\"]"));
}

#[test]
fn receipts_accept_every_rendering_of_an_id() {
    let renderings = [
        json!(id().to_integer()),
        json!(id().to_integer().to_string()),
        json!(id().to_hex24(9)),
        json!(id().to_uuid(9)),
        json!(id().to_opaque(9)),
    ];
    let expected = |frame: &Value, len: usize| {
        let Command::Receipt(receipt) = request(frame).1.command else { panic!() };
        assert_eq!(receipt.target, ReceiptTarget::Ids { conversation: None, ids: vec![id(); len] });
    };
    expected(&json!({"type": "read_receipt", "payload": {"message_ids": renderings}}), 5);
    expected(&json!({"type": "mark_read", "payload": {"message_id": renderings[3]}}), 1);
    for ids in [json!([]), json!(["msg_1"]), json!([id().to_integer(), null]), json!("x")] {
        let frame = json!({"type": "mark_read", "payload": {"conversation_id": "c", "message_ids": ids}});
        let error = refusal(&frame.to_string());
        assert_eq!(error["payload"]["code"], "INVALID_MESSAGE");
        assert_eq!(error["payload"]["details"]["field"], "message_ids");
    }
}

#[test]
fn a_numeric_ack_id_is_answered_as_its_text() {
    let frame = json!({"type": "subscribe", "payload": "presence", "ack_id": 0});
    let all = answered(&frame, &Ok(Answer::Channel("presence".into())));
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0]["ack_id"], &all[0]["payload"]["ack_id"]), (&json!("0"), &json!("0")));
    assert_eq!(all[0]["payload"]["data"]["channel"], "presence");
    for bad in [json!({}), json!(""), json!("x".repeat(129)), json!(true)] {
        let error = refusal(&json!({"type": "heartbeat", "ack_id": bad}).to_string());
        assert_eq!(
            (&error["type"], &error["payload"]["details"]["type"]),
            (&json!("error"), &json!("heartbeat"))
        );
        assert_eq!(error["payload"]["details"]["field"], "ack_id");
    }
}

#[test]
fn an_ack_is_sent_only_when_asked_for() {
    let accepted = Accepted { id: id(), seq: 5, at: NOW, client_id: Some(Arc::from("c1")), fresh: false };
    let mut frame = json!({"type": "message", "payload":
        {"content": "x", "conversation_id": "c", "client_id": "c1"}});
    assert!(answered(&frame, &Ok(Answer::Accepted(accepted.clone()))).is_empty());
    frame["ack_id"] = json!("a1");
    let ack = &answered(&frame, &Ok(Answer::Accepted(accepted)))[0];
    let uuid = id().to_uuid(NOW.seconds32());
    assert_eq!(
        ack["payload"]["data"],
        json!({"message_id": uuid, "id": uuid, "conversation_id": "c", "created_at": NOW.to_iso(),
            "client_id": "c1", "duplicate": true})
    );
    assert_ne!(ack["id"], json!(uuid));
}

#[test]
fn a_heartbeat_is_echoed_then_acknowledged() {
    let pong = Ok(Answer::Pong { at: NOW });
    let kinds = |frame: Value| -> Vec<String> {
        answered(&frame, &pong).iter().map(|f| f["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(json!({"type": "heartbeat"})), ["heartbeat"]);
    assert_eq!(kinds(json!({"type": "heartbeat", "payload": 5, "ack_id": "h"})), ["heartbeat", "ack"]);
}

#[test]
fn every_answer_has_an_id_of_its_own() {
    let mut peer = peer();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..10 {
        peer.receive("{\"type\":\"nonsense\"}", NOW);
        let (tag, refused) = peer.poll_request().unwrap();
        peer.answer(&tag, &refused.map(|_| Answer::Done), NOW);
    }
    for frame in frames(&mut peer) {
        let id = frame["id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 36);
        ids.insert(id);
    }
    assert_eq!(ids.len(), 10);
}

#[test]
fn strangers_learn_nothing_about_what_exists() {
    let frame = json!({"type": "subscribe", "payload": "conversation:secret"});
    let told = |reject: Reject| {
        let mut all = answered(&frame, &Err(reject));
        all.remove(0)["payload"].take()
    };
    let forbidden = told(Reject::new(RejectCode::Forbidden, "not a member"));
    let absent = told(Reject::new(RejectCode::NotFound, "no such conversation").field("channel"));
    assert_eq!(forbidden, absent);
    assert_eq!(forbidden["code"], "CHANNEL_NOT_FOUND");
}

#[test]
fn what_passes_by_itself_says_when() {
    let frame = json!({"type": "message", "ack_id": "a",
        "payload": {"content": "x", "conversation_id": "c", "client_id": "c9"}});
    for (code, word) in [
        (RejectCode::RateLimited, "RATE_LIMITED"),
        (RejectCode::Unavailable, "INTERNAL_ERROR"),
        (RejectCode::Maintenance, "INTERNAL_ERROR"),
    ] {
        let mut reject = Reject::new(code, "later").retry_after(250);
        reject.correlation_id = Some("k1".into());
        let error = answered(&frame, &Err(reject))[0]["payload"]["error"].take();
        assert_eq!(error["code"], word);
        assert_eq!(
            error["details"],
            json!({"type": "message", "client_id": "c9", "retry_after_ms": 250, "correlation_id": "k1"})
        );
        let error = answered(&frame, &Err(Reject::new(code, "later")))[0]["payload"]["error"].take();
        assert!(error["details"]["retry_after_ms"].as_u64().unwrap() > 0);
    }
    let internal =
        answered(&frame, &Err(Reject::new(RejectCode::Internal, "oops")))[0]["payload"]["error"].take();
    assert_eq!(internal["details"].get("retry_after_ms"), None);
}

#[test]
fn frames_that_are_none_are_refused_and_client_acks_ignored() {
    for text in ["", "1", "[]", "\"x\"", "{", "null"] {
        let error = refusal(text);
        assert_eq!((&error["type"], &error["payload"]["code"]), (&json!("error"), &json!("INVALID_MESSAGE")));
    }
    for text in ["{}", "{\"type\":null}", "{\"type\":\"\"}"] {
        assert_eq!(refusal(text)["payload"]["message"], "Message type is required");
    }
    let deep = format!("{{\"type\":\"message\",\"payload\":{}{}}}", "[".repeat(40), "]".repeat(40));
    assert_eq!(refusal(&deep)["payload"]["code"], "INVALID_MESSAGE");
    let long = refusal(&json!({"type": "é".repeat(500)}).to_string());
    assert_eq!(long["payload"]["details"]["type"], "é".repeat(64));
    let mut peer = peer();
    peer.receive("{\"type\":\"ack\",\"ack_id\":\"a\",\"payload\":{\"status\":\"success\"}}", NOW);
    assert_eq!((peer.poll_request(), peer.poll_frame()), (None, None));
}

#[test]
fn refusals_over_http_have_the_documented_texts() {
    let body = |code| serde_json::from_str::<Value>(&socialhub::refusal_body(code, "say \"why\"")).unwrap();
    for (code, error, word, status) in [
        (RejectCode::Unauthenticated, "missing token", "MISSING_TOKEN", 401),
        (RejectCode::InvalidToken, "invalid token", "INVALID_TOKEN", 401),
        (RejectCode::TokenExpired, "token expired", "TOKEN_EXPIRED", 401),
        (RejectCode::TooManyConnections, "say \"why\"", "MAX_CONNECTIONS", 429),
        (RejectCode::RateLimited, "say \"why\"", "RATE_LIMITED", 429),
        (RejectCode::MissingField, "say \"why\"", "INVALID_MESSAGE", 400),
        (RejectCode::UnknownChannel, "say \"why\"", "CHANNEL_NOT_FOUND", 404),
        (RejectCode::Unavailable, "say \"why\"", "INTERNAL_ERROR", 500),
    ] {
        assert_eq!(body(code), json!({"error": error, "code": word}));
        assert_eq!(socialhub::http_status(code), status);
    }
}

proptest! {
    /// Whatever comes in is a request, or refused with one answer, which is JSON.
    #[test]
    fn any_frame_is_survived(
        kind in prop::sample::select(vec!["message", "subscribe", "read_receipt", "presence", "connect", "x"]),
        payload in "[\\[\\]{}\":,a-z0-9 ]{0,40}|\\{\"(channel|content|message_ids|status)\":[\"\\[\\]a-z0-9,]{0,20}\\}",
        ack in prop::option::of("[\"a-z0-9]{0,6}"),
    ) {
        let ack = ack.map(|a| format!(",\"ack_id\":{a}")).unwrap_or_default();
        let mut peer = peer();
        peer.receive(&format!("{{\"type\":\"{kind}\",\"payload\":{payload}{ack}}}"), NOW);
        let (tag, read) = peer.poll_request().expect("a request or a refusal");
        if read.is_err() {
            peer.answer(&tag, &read.map(|_| Answer::Done), NOW);
            prop_assert_eq!(frames(&mut peer).len(), 1);
        }
        prop_assert_eq!((peer.poll_request(), peer.poll_frame()), (None, None));
    }

    /// Bodies come out of `message` as they went in.
    #[test]
    fn bodies_are_carried_unchanged(body in "\\PC{1,60}|[\\x00-\\x7f]{1,60}") {
        let frame = json!({"type": "message", "payload": {"content": body, "conversation_id": "c"}});
        let Command::Send(send) = request(&frame).1.command else { panic!() };
        prop_assert_eq!(&*send.body, body.as_str());
        let sealed = encode(Accent::Socialhub, &message(&body)).unwrap().seal(3);
        let out: Value = serde_json::from_str(sealed.texts()[0]).unwrap();
        prop_assert_eq!(out["payload"]["content"].as_str(), Some(body.as_str()));
    }
}
