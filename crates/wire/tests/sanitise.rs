//! Stripping markup: what goes, what stays, and that nothing can be put together from the remains.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fixtures;

use std::borrow::Cow;

use parlance_model::{Answer, Command, Event, RawJson};
use parlance_wire::{
    Dialect, Framing, Peer, Settings, Style,
    sanitise::{self, strip},
};
use proptest::prelude::*;

/// Whether a browser would find markup: HTML's tag open state, spelled out once more.
fn has_markup(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let mut next = rest.chars();
        match (next.next(), next.next()) {
            (Some(c), _) if c.is_ascii_alphabetic() || c == '!' || c == '?' => return true,
            (Some('/'), Some(_)) => return true,
            _ => {}
        }
    }
    false
}

#[test]
fn text_stays_byte_for_byte() {
    for text in [
        "",
        "hello",
        "a < b && c > d",
        "&lt;b&gt;bold&lt;/b&gt; &amp; &#60;i&#62; &copy &unknown;",
        "1<2, 3>2, <3, i<>j, x <= y, <- left, <_<, << 5 <<",
        "한국어 < 日本語 > 👩‍👩‍👧 \u{202e}rtl\u{feff}",
        "CR\r\nLF\n\ttab\u{0}nul < \u{0}",
        "ends with <",
        "ends with </",
        "\u{fdd0}\u{ffff}",
        "＜script＞alert(1)＜/script＞",
        "function(){return \"'`\\\\\"}",
    ] {
        assert!(matches!(strip(text), Cow::Borrowed(same) if same == text), "{text:?}: {:?}", strip(text));
    }
}

#[test]
fn markup_goes() {
    for (text, left) in [
        ("<b>bold</b> move", "bold move"),
        ("a<br>b<br/>c<BR CLASS='x' >d", "abcd"),
        ("<a href=\"javascript:alert(1)\">here</a>", "here"),
        ("<img src=x onerror=alert(1)>", ""),
        ("<a title=\"a > b\">x</a>", "x"),
        ("<a title='a > b' b=c>d>x", "d>x"),
        ("<a title=\"<b>\" x>y", "y"),
        ("a<!-- c > <b> -->b", "ab"),
        ("a<!-->b", "ab"),
        ("a<!--->b", "ab"),
        ("a<!-- x --!>b", "ab"),
        ("a<!x>b<?php echo 1 ?>c</ d>e", "abce"),
        ("<!DOCTYPE html SYSTEM \"a>b", "b"),
        ("<!doctype html>x", "x"),
        ("a</>b", "ab"),
        ("</></></>", ""),
        ("a<script>alert('<b>')</script>b", "ab"),
        ("a<SCRIPT type=x>1</ScRiPt >b", "ab"),
        ("a<script>1</scriptx>2</script/>b", "ab"),
        ("a<script><!--<script>1</script>2--></script>b", "ab"),
        ("a<script/>gone</script>b", "ab"),
        ("a<style>p{}</style>b", "ab"),
        ("a<style><!-- </style>b", "ab"),
        ("<svg><style><img src=x onerror=1></style></svg>x", "x"),
        ("<svg/onload=alert(1)>x", "x"),
        ("<svg><script>1</script>2</svg>", "2"),
        ("<math><mi//xlink:href=\"data:x,<script>1</script>\">x", "x"),
        ("a<![CDATA[b]]>c", "ac"),
        ("<svg><![CDATA[<img src=x>]]>", "]]>"),
        ("<textarea><b>x</textarea>", "x"),
        ("<title><img src=x onerror=1></title>x", "x"),
        ("<textarea><!-- </textarea><img src=x onerror=1> -->x", "x"),
        ("<iframe><script>1</script></iframe>x", "x"),
        ("<noscript><p title=\"</noscript><img src=x onerror=1>\">x", "x"),
        ("<xmp><b>x</xmp>y", "xy"),
        ("<plaintext><b>x</plaintext>y", "xy"),
        ("<x\u{0}y>a</x\u{0}y>", "a"),
        ("<a\r\nhref=x\r\n>\r\nb\r\n<i>c\r\n</i>", "\r\nb\r\nc\r\n"),
        ("안<b>녕</b>하세요 👋<i>🏽</i>", "안녕하세요 👋🏽"),
        ("<b>&lt;b&gt; & &amp;</b>", "&lt;b&gt; & &amp;"),
        ("1 < 2 <b>and</b> 3 > 2", "1 < 2 and 3 > 2"),
        ("<custom-element a=b>x</custom-element>", "x"),
        ("</p>stray</div>", "stray"),
    ] {
        assert_eq!(strip(text), left, "{text:?}");
    }
}

#[test]
fn what_is_not_finished_goes_to_the_end() {
    for (text, left) in [
        ("x<img src=x onerror=", "x"),
        ("x<img src=x onerror=alert(1)", "x"),
        ("x<img src=\"y> z", "x"),
        ("x<b", "x"),
        ("x<b y='1'", "x"),
        ("x</b", "x"),
        ("x</b ", "x"),
        ("x<!-- y", "x"),
        ("x<!-- y --", "x"),
        ("x<!", "x"),
        ("x<?", "x"),
        ("x<!DOCTYPE", "x"),
        ("x<!doctype html PUBLIC \"a", "x"),
        ("x<script>alert(1)", "x"),
        ("x<script>alert(1)</script", "x"),
        ("x<script>alert(1)</scrip", "x"),
        ("x<script><!-- <script>", "x"),
        ("x<style>p{} &lt;", "x"),
        ("x<svg><script", "x"),
    ] {
        assert_eq!(strip(text), left, "{text:?}");
    }
}

#[test]
fn nothing_is_put_together_from_the_remains() {
    for (text, left) in [
        ("<<b>script>alert(1)<</b>/script>", ""),
        ("<scr<script></script>ipt>alert(1)</script>", "ipt>alert(1)"),
        ("<<!-- -->img src=x onerror=1>y", "y"),
        ("<</>b>x", "x"),
        ("<<<b>b>b>x", "x"),
        ("<<b>/b>x", "x"),
    ] {
        let stripped = strip(text);
        assert!(!has_markup(&stripped), "{text:?}: {stripped:?}");
        assert_eq!(stripped, left, "{text:?}");
    }
}

#[test]
fn nesting_ends() {
    for depth in [1, 7, 8, 9, 100, 20_000] {
        let text = format!("x{}{}y", "<".repeat(depth), "b>".repeat(depth));
        let stripped = strip(&text);
        assert!(!has_markup(&stripped), "{depth}: {stripped:?}");
        assert!(stripped.starts_with('x') && stripped.ends_with('y'));
    }
}

#[test]
fn only_true_marks_a_message_as_encrypted() {
    let encrypted = |text: &str| sanitise::is_encrypted(Some(&RawJson::trusted(text)));
    assert!(encrypted(r#"{"encrypted":true}"#) && encrypted(r#"{"a":[{}],"encrypted": true }"#));
    for text in
        ["{}", r#"{"encrypted":false}"#, r#"{"encrypted":"true"}"#, r#"{"encrypted":1}"#, "[]", "true", ""]
    {
        assert!(!encrypted(text), "{text}");
    }
    assert!(!encrypted(r#"{"encrypted":true,"encrypted":false}"#), "said twice is not said");
    assert!(!sanitise::is_encrypted(None));
}

#[test]
fn events_without_markup_are_borrowed() {
    for name in ["message", "message_bare", "lingochat_message", "typing_on", "receipt_read", "resync"] {
        assert!(matches!(sanitise::event(&fixtures::event(name)), Cow::Borrowed(_)), "{name}");
    }
    let encrypted = fixtures::event("lingochat_markup_encrypted");
    assert!(matches!(sanitise::event(&encrypted), Cow::Borrowed(_)));
}

#[test]
fn body_and_translation_are_stripped_and_nothing_else() {
    let markup = fixtures::event("lingochat_markup");
    let (Event::Message(before), Event::Message(after)) = (&markup, &*sanitise::event(&markup)) else {
        panic!()
    };
    assert_eq!(&*after.message.body, "a & b");
    let extra = after.message.extra.as_ref().unwrap().as_str();
    assert_eq!(extra, r#"{"senderLanguage":"en","translatedText":"c &lt; d"}"#);
    let mut restored = after.clone();
    (restored.message.body, restored.message.extra) =
        (before.message.body.clone(), before.message.extra.clone());
    assert_eq!(&restored, before);
}

#[test]
fn a_message_is_stripped_on_its_way_in() {
    let mut peer = peer(true);
    let read = |peer: &mut Peer, payload: &str| {
        let args = [
            serde_json::value::RawValue::from_string("42".to_owned()).unwrap(),
            serde_json::value::RawValue::from_string(payload.to_owned()).unwrap(),
        ];
        peer.receive_event("message:send", &[&*args[0], &*args[1]], None, fixtures::NOW);
        match peer.poll_request().unwrap().1.unwrap().command {
            Command::Send(send) => send,
            other => panic!("{other:?}"),
        }
    };
    let mut send = read(&mut peer, r#"{"text":"<b>a</b>","translatedText":"<i>b</i>"}"#);
    sanitise::send(&mut send);
    assert_eq!((&*send.body, send.extra.unwrap().as_str()), ("a", r#"{"translatedText":"b"}"#));
    let mut send = read(&mut peer, r#"{"text":"<b></b>"}"#);
    sanitise::send(&mut send);
    assert_eq!(&*send.body, "", "the gateway refuses it");
    let mut send = read(&mut peer, r#"{"text":"<b>","encrypted":true}"#);
    sanitise::send(&mut send);
    assert_eq!(&*send.body, "<b>");
}

fn peer(strip: bool) -> Peer {
    let style = Style { strip, ..Style::default() };
    let (dialect, framing) = (Dialect::Lingochat, Framing::Socketio);
    Peer::new(Settings { dialect, framing, style, max_depth: 32, salt: 1 })
}

/// What `messages:sync` is answered with when the missed message is `lingochat_markup`.
fn synced(strip: bool) -> serde_json::Value {
    let mut peer = peer(strip);
    let place = serde_json::value::RawValue::from_string("42".to_owned()).unwrap();
    peer.receive_event("messages:sync", &[&place], Some(0), fixtures::NOW);
    let (tag, _) = peer.poll_request().unwrap();
    let Event::Message(message) = fixtures::event("lingochat_markup") else { panic!() };
    let page = parlance_model::HistoryPage { messages: vec![message], more: false };
    peer.answer(&tag, &Ok(Answer::History(page)), fixtures::NOW);
    let frame = peer.poll_frame().unwrap();
    serde_json::from_str(frame.texts()[0].strip_prefix("430").unwrap()).unwrap()
}

#[test]
fn history_is_stripped_like_live_messages() {
    assert_eq!(synced(true)[0]["messages"][0]["text"], "a & b");
    assert_eq!(synced(true)[0]["messages"][0]["translatedText"], "c &lt; d");
    assert_eq!(synced(false)[0]["messages"][0]["text"], "<b>a</b> & <i>b");
}

#[test]
fn queued_events_are_stripped_likewise() {
    let queued =
        Answer::Queued(vec![fixtures::event("typing_on").into(), fixtures::event("lingochat_markup").into()]);
    let Answer::Queued(events) = &*sanitise::answer(&queued) else { panic!() };
    assert!(matches!(&*events[0], Event::Typing(_)));
    assert!(matches!(&*events[1], Event::Message(m) if &*m.message.body == "a & b"));
}

/// Pieces a text is made of so that markup is likely.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<".to_owned()),
        Just("</".to_owned()),
        Just(">".to_owned()),
        Just("/>".to_owned()),
        Just("<!--".to_owned()),
        Just("-->".to_owned()),
        Just("--!>".to_owned()),
        Just("<!DOCTYPE ".to_owned()),
        Just("<![CDATA[".to_owned()),
        Just("]]>".to_owned()),
        Just("<?".to_owned()),
        Just("<script".to_owned()),
        Just("</script".to_owned()),
        Just("<style>".to_owned()),
        Just("</style>".to_owned()),
        Just("<textarea>".to_owned()),
        Just("<plaintext>".to_owned()),
        Just("<svg>".to_owned()),
        Just("&lt;".to_owned()),
        Just("&#60;".to_owned()),
        Just("\r\n".to_owned()),
        Just("\u{0}".to_owned()),
        "[a-zA-Z ='\"/-]{1,4}",
        "\\PC{0,3}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|all| all.concat())
}

/// A text without `<`, and one element of markup that is finished.
fn text() -> impl Strategy<Value = String> {
    "[^<]{0,8}"
}

fn element() -> impl Strategy<Value = String> {
    prop_oneof![
        "<[a-z][a-z0-9]{0,5}x( [a-z]{1,4}=\"[^\"]{0,6}\"){0,2} ?/?>",
        "</[a-z][a-z0-9]{0,5}x>",
        "<!-- [ a-z<>]{0,6}y-->",
        "<(script|STYLE)>[^<]{0,6}</(script|STYLE)>"
            .prop_filter("one element", |t| { t.starts_with("<script") == t.ends_with("script>") }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_markup_is_left(text in pieces()) {
        let stripped = strip(&text);
        prop_assert!(!has_markup(&stripped), "{text:?}: {stripped:?}");
        prop_assert!(matches!(strip(&stripped), Cow::Borrowed(same) if same == stripped));
    }

    #[test]
    fn what_has_no_markup_is_not_touched(text in pieces()) {
        let nothing_to_do = !has_markup(&text);
        prop_assert_eq!(matches!(strip(&text), Cow::Borrowed(_)), nothing_to_do);
    }

    #[test]
    fn what_is_left_comes_from_the_text_in_order(text in pieces()) {
        let mut source = text.chars();
        for c in strip(&text).chars() {
            prop_assert!(source.any(|s| s == c), "{:?}: {:?}", text, strip(&text));
        }
    }

    #[test]
    fn text_between_elements_stays(parts in prop::collection::vec((text(), element()), 0..8), end in text()) {
        let whole: String = parts.iter().map(|(t, e)| format!("{t}{e}")).collect::<String>() + &end;
        let texts: String = parts.iter().map(|(t, _)| t.as_str()).collect::<String>() + &end;
        prop_assert_eq!(strip(&whole), texts);
    }

    #[test]
    fn text_without_an_angle_is_borrowed(text in "[^<]*") {
        prop_assert!(matches!(strip(&text), Cow::Borrowed(_)));
    }
}
