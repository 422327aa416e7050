//! Sessions of two twins over a line that loses nothing.
#![allow(dead_code, reason = "each file of tests takes what it needs")]

use tideline_twin::{Link, Message, Twin};

/// A session of both until they have nothing more to say, and are equal. Returns the bytes of all messages.
pub fn talk(a: &mut Twin, b: &mut Twin) -> usize {
    talk_as(a, b, "b")
}

/// As [`talk`], with the second by a name of its own.
pub fn talk_as(a: &mut Twin, b: &mut Twin, name: &str) -> usize {
    let (mut at_a, mut at_b) = (Link::new(name, a), Link::new("a", b));
    let mut bytes = 0;
    loop {
        let mut said = false;
        while let Some(message) = at_a.poll(a) {
            bytes += deliver(&message, &mut at_b, b);
            said = true;
        }
        while let Some(message) = at_b.poll(b) {
            bytes += deliver(&message, &mut at_a, a);
            said = true;
        }
        if !said {
            assert_eq!(a.heads(), b.heads());
            return bytes;
        }
    }
}

/// One message, by its bytes, to a twin on whose disk all is at once. Returns how many bytes it has.
pub fn deliver(message: &Message, link: &mut Link, twin: &mut Twin) -> usize {
    let bytes = message.to_bytes();
    let read = Message::from_bytes(&bytes).unwrap();
    assert_eq!(read, *message);
    if let Some(record) = link.handle(twin, &read).unwrap() {
        twin.handle_durable(record.ticket);
    }
    bytes.len()
}
