//! Bodies that are pushed over HTTP: any are taken or refused with a reason, and nobody speaks for who has a token of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_agent::config::Token;
use edge_agent::source::Readings;
use edge_agent::source::http::rights::{Rights, Sender};
use edge_agent::source::http::sorter::Sorter;
use tideline_formats::line::Precision;
use tideline_protocol::model::DeviceId;

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 4096;

pub fn seeds() -> Vec<Vec<u8>> {
    let json = [
        "{\"device\":\"pump\",\"time\":1763719200000,\"values\":{\"flow\":1.5,\"on\":true,\"mode\":\"auto\",\"x\":null}}",
        "[{\"time\":\"2026-01-31T12:00:00Z\",\"quality\":\"bad\",\"values\":{\"a/b\":1}},{\"values\":{\"a/b\":\"1\"}}]",
        "{\"values\":{\"a\":1}}\n{\"device\":\"own\",\"values\":{\"a\":[1]}}\n{\"device\":\"-\",\"time\":1e300,\"values\":{}}",
    ];
    let lines = ["m,device=pump flow=1.5,n=3i,on=t,s=\"x\" 5\nm value=1 1\n", "m,device=own v=1\nm v=x\n"];
    let json = json.iter().flat_map(|text| [0, 1].map(|mode| [&[mode], text.as_bytes()].concat()));
    json.chain(lines.iter().flat_map(|text| [2, 3].map(|mode| [&[mode], text.as_bytes()].concat()))).collect()
}

/// The first byte says of what form the others are, and who sends them.
pub fn run(data: &[u8]) {
    let Some((mode, body)) = data.split_first() else { return };
    let (own, agent): (DeviceId, DeviceId) = ("own".parse().expect("an id"), "agent".parse().expect("an id"));
    let tokens = BTreeMap::from([(own.clone(), Token::new("secret".to_owned()).expect("a token"))]);
    let sorter = Sorter::new(&[], agent, &[], Arc::new(Rights { token: None, tokens }));
    let sender = if mode & 1 == 1 { Sender::Device(own.clone()) } else { Sender::Any };
    let taken = match mode & 2 {
        0 => sorter.json(body, &sender, Readings::of_own_times()),
        _ => sorter.lines(body, Precision::Nanos, &sender, Readings::of_own_times()),
    };
    match taken {
        Ok(readings) => {
            for device in readings.ours.devices().chain(readings.theirs.devices()) {
                assert_eq!(*device == own, sender != Sender::Any, "{device} is spoken for by {sender:?}");
            }
            assert!(
                readings
                    .ours
                    .reasons()
                    .iter()
                    .chain(readings.theirs.reasons())
                    .all(|reason| !reason.is_empty() && reason.len() < REASON_BYTES_MAX)
            );
        }
        Err(refusal) => assert!(refusal.status.is_client_error() && !refusal.text.is_empty()),
    }
}
