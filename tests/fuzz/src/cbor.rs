//! CBOR of CoAP: any bytes are JSON that can be written and read again, or are refused.

use edge_agent::source::coap::cbor;
use serde_json::Value;

/// Longest text of JSON that a byte of CBOR makes: a number of 8 bytes has up to 20 digits, a byte of a text 6 characters.
const TEXT_PER_BYTE: usize = 32;

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        // {"v": 23.5, "n": [1, -2, null, true], 3: "a"}
        vec![
            0xa3, 0x61, b'v', 0xfb, 0x40, 0x37, 0x80, 0, 0, 0, 0, 0, 0x61, b'n', 0x84, 1, 0x21, 0xf6, 0xf5,
            3, 0x61, b'a',
        ],
        // A half, a tag, bytes, and texts and lists without a length.
        vec![
            0x9f, 0xf9, 0x3c, 0x00, 0xc1, 0x1a, 0x65, 0, 0, 0, 0x42, 1, 2, 0x7f, 0x61, b'a', 0x61, b'b',
            0xff, 0xff,
        ],
        vec![0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x81; 140],
    ]
}

pub fn run(data: &[u8]) {
    let Ok(json) = cbor::json(data) else { return };
    let text = json.to_string();
    assert!(text.len() <= (data.len() + 1) * TEXT_PER_BYTE, "{} bytes of {}", text.len(), data.len());
    let again: Value = serde_json::from_str(&text).expect("what is made is JSON");
    assert_eq!(again, json, "what was read again, and what was written as {text}");
    assert_eq!(cbor::json(data), Ok(json), "the same bytes say the same");
}
