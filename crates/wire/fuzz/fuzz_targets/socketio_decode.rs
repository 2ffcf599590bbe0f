//! Whatever a client sends, text and binary, as one polling payload: the decoder survives it, and a packet it
//! takes has a name and arguments to be read, and reads the same once written again.
//! Run with `cargo fuzz run socketio_decode` in `crates/wire`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parlance_wire::{
    engineio::{Packet, Part, split},
    socketio::{Decoder, arguments, event},
};

fuzz_target!(|text: &str| {
    let mut decoder = Decoder::new(10, 32);
    for part in split(text).flatten() {
        let result = match part {
            Part::Packet(Packet::Message(text)) => decoder.text(text),
            Part::Packet(_) => continue,
            Part::Binary(bytes) => decoder.binary(bytes.into()),
        };
        let packet = match result {
            Ok(Some(packet)) => packet,
            Ok(None) => continue,
            Err(_) => return,
        };
        if let Some(data) = &packet.data {
            assert!(!packet.kind.is_event() || event(data).is_ok());
            assert!(!packet.kind.is_ack() || arguments(data).is_ok());
        }
        let mut second = Decoder::new(10, 32);
        let mut again = second.text(&packet.to_text()).expect("it was a packet");
        for attachment in &packet.attachments {
            again = second.binary(attachment.clone()).expect("it was an attachment");
        }
        assert_eq!(format!("{:?}", again.expect("it was complete")), format!("{packet:?}"));
    }
});
