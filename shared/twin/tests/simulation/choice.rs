//! What is edited next.

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value as Json, json};
use tideline_twin::{Action, Section, Twin};

use crate::model::{Kind, letters, visible};

pub type Choice = (Section, String, Action, Kind);

/// What is the first of a change may say of a leaf what it is as a whole: what follows knows nothing of what comes before it.
pub fn choose(
    random: &mut StdRng,
    (twin, is_agent): (&Twin, bool),
    is_first: bool,
    place: usize,
    token: i64,
) -> Choice {
    let section =
        [Section::Desired, Section::Tags, if is_agent { Section::Reported } else { Section::Notes }]
            [random.random_range(0..3)];
    match random.random_range(0..10) {
        0..6 => {
            let key = format!("k{place}/v");
            let seen = visible(twin, section, &key);
            let value = if random.random_bool(0.2) { json!([token, "x"]) } else { json!(token) };
            (section, key, Action::Put(value.clone()), Kind::Put(value, seen))
        }
        6 => {
            let key = format!("k{place}/v");
            let seen = visible(twin, section, &key);
            (section, key, Action::Delete, Kind::Delete(seen))
        }
        7 if is_first && token % 3 == 0 => {
            // What is written of a counter is what its author adds to what is there.
            let key = format!("n{place}");
            let seen = visible(twin, Section::Tags, &key);
            let seen = seen.first().and_then(|value| value["$counter"].as_i64()).unwrap_or(0);
            (Section::Tags, key, Action::Count(seen + token), Kind::Add(token))
        }
        7 => (Section::Tags, format!("n{place}"), Action::Add(token), Kind::Add(token)),
        8 if is_first && token % 3 == 0 => {
            let mut all = elements(twin);
            let gone: Vec<_> = all.drain(..all.len().min(usize::try_from(token % 4 / 2).unwrap())).collect();
            all.push(json!(token));
            (Section::Tags, "set".to_owned(), Action::Set(all), Kind::Whole(json!(token), gone))
        }
        8 => {
            let element = json!(token);
            (Section::Tags, "set".to_owned(), Action::Insert(element.clone()), Kind::Insert(element))
        }
        _ => {
            let all = elements(twin);
            let element = all.get(random.random_range(0..=all.len())).cloned().unwrap_or(Json::from(0));
            (Section::Tags, "set".to_owned(), Action::Remove(element.clone()), Kind::Remove(element))
        }
    }
}

/// What the set has.
fn elements(twin: &Twin) -> Vec<Json> {
    let there = visible(twin, Section::Tags, "set");
    there.first().and_then(|value| value["$set"].as_array()).cloned().unwrap_or_default()
}

/// The text that all write: one letter more, which is written once only, and perhaps one less.
pub fn choose_text(random: &mut StdRng, twin: &Twin, token: i64) -> Choice {
    let values = visible(twin, Section::Notes, "text");
    let seen: Vec<char> = values.iter().flat_map(letters).collect();
    let mut text: Vec<char> = values.first().map(letters).unwrap_or_default();
    if !text.is_empty() && random.random_bool(0.3) {
        text.remove(random.random_range(0..text.len()));
    }
    let written = char::from_u32(0x4E00 + u32::try_from(token).unwrap()).unwrap();
    text.insert(random.random_range(0..=text.len()), written);
    let gone = seen.iter().copied().filter(|letter| !text.contains(letter)).collect();
    let kind = Kind::Text { written, gone, seen, resolves: values.len() > 1 };
    (Section::Notes, "text".to_owned(), Action::Text(text.into_iter().collect()), kind)
}
