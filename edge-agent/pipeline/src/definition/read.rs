//! Pipelines from the text of a configuration or a profile.

use tideline_protocol::value::ValueKind;
use toml::de::{DeTable, DeValue};

use super::rules::{self, Condition, Direction, Rule, Season, Severity, Writing};
use super::table::{Reader, Table};
use super::{
    Aggregate, Branch, Case, Computed, Deadband, Definition, Derive, Filter, Kind, Lines, Otherwise, Output,
    Range, RateLimit, Scale, StageDefinition, Unit, Window, WriteTo,
};
use crate::problem::Problems;

/// All kinds of stages.
const KINDS: [&str; 14] = [
    "range",
    "deadband",
    "scale",
    "unit",
    "expression",
    "filter",
    "branch",
    "window",
    "derive",
    "rule",
    "rate_limit",
    "write",
    "output",
    "discard",
];

const VALUE_KINDS: [(&str, ValueKind); 4] = [
    ("float", ValueKind::Float),
    ("int", ValueKind::Int),
    ("bool", ValueKind::Bool),
    ("text", ValueKind::Text),
];

/// Reads the `[[pipeline]]` tables of a TOML text and leaves all else in it alone; `file` names it in problems.
///
/// # Errors
/// All that is not of the form of a definition, each with its line. Whether definitions make sense is asked by
/// [`Pipelines::compile`](crate::Pipelines::compile).
pub fn read(file: &str, text: &str) -> Result<Vec<Definition>, Problems> {
    let problems = Problems { file: file.to_owned(), ..Problems::default() };
    let mut reader = Reader { text, problems };
    let mut definitions = Vec::new();
    match DeTable::parse(text) {
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            reader.problem(at, "file", error.message());
        }
        Ok(table) => match table.get_ref().get("pipeline").map(|value| (value.span().start, value.get_ref()))
        {
            None => {}
            Some((_, DeValue::Array(items))) => {
                for (number, item) in items.iter().enumerate() {
                    definitions.extend(pipeline(&mut reader, number, item.span().start, item.get_ref()));
                }
            }
            Some((at, _)) => reader.problem(at, "pipeline", "must be sections [[pipeline]]"),
        },
    }
    reader.problems.or(Some(definitions))
}

fn pipeline(reader: &mut Reader<'_>, number: usize, at: usize, value: &DeValue<'_>) -> Option<Definition> {
    let name = value.get("name").and_then(|name| name.get_ref().as_str()).map(str::to_owned);
    let place = format!("pipeline {}", name.unwrap_or_else(|| format!("{}", number + 1)));
    let Some(table) = value.as_table() else {
        reader.problem(at, &place, "must be a section [[pipeline]]");
        return None;
    };
    let mut lines = Lines::default();
    let mut keys = Table::new(reader, place.clone(), at, table);
    let name = keys.text("name");
    let name = keys.needed("name", name).unwrap_or_default();
    let from = keys.texts("from");
    let from = keys.needed("from", from).unwrap_or_default();
    let keep = keys.truth("keep").unwrap_or_default();
    let watch = keys.truth("watch").unwrap_or_default();
    let ahead_max_ms = keys.count("ahead_max_ms").unwrap_or_else(super::ahead_max_ms);
    let events = keys.text("events");
    let items = match keys.value("stage").map(|value| (value.span().start, value.get_ref())) {
        None => None,
        Some((_, DeValue::Array(items))) => Some(items),
        Some((at, _)) => {
            keys.problem(at, "stage", "must be sections [[pipeline.stage]]");
            None
        }
    };
    keys.finish(None, &mut lines);
    let mut stages = Vec::new();
    for (index, item) in items.into_iter().flatten().enumerate() {
        let stage = stage(reader, &place, index, item.span().start, item.get_ref(), &mut lines);
        // One that cannot be read keeps its number, which lines are known by.
        stages.push(stage.unwrap_or_else(|| StageDefinition {
            name: String::new(),
            after: Vec::new(),
            kind: Kind::Discard {},
        }));
    }
    Some(Definition { name, from, keep, watch, ahead_max_ms, events, stages, lines })
}

fn stage(
    reader: &mut Reader<'_>,
    pipeline: &str,
    index: usize,
    at: usize,
    value: &DeValue<'_>,
    lines: &mut Lines,
) -> Option<StageDefinition> {
    let name = value.get("name").and_then(|name| name.get_ref().as_str());
    let place = format!("{pipeline}, stage {}", name.map_or_else(|| (index + 1).to_string(), str::to_owned));
    let Some(table) = value.as_table() else {
        reader.problem(at, &place, "must be a section [[pipeline.stage]]");
        return None;
    };
    let mut keys = Table::new(reader, place, at, table);
    let name = keys.text("name");
    let name = keys.needed("name", name).unwrap_or_default();
    let after = keys.texts("after").unwrap_or_default();
    let kinds = KINDS.map(|kind| (kind, kind));
    let given = keys.choice("kind", &kinds);
    let Some(given) = keys.needed("kind", given) else {
        // Of what kind its keys are nobody knows.
        return None;
    };
    let kind = kind(&mut keys, given);
    keys.finish(Some(index), lines);
    Some(StageDefinition { name, after, kind: kind? })
}

fn kind(keys: &mut Table<'_, '_, '_>, kind: &str) -> Option<Kind> {
    Some(match kind {
        "range" => Kind::Range(range(keys)),
        "deadband" => Kind::Deadband(Deadband {
            absolute: keys.number("absolute"),
            percent: keys.number("percent"),
            silence_max_ms: keys.count("silence_max_ms").unwrap_or_default(),
        }),
        "scale" => {
            let factor = keys.number("factor");
            let (offset, unit) = (keys.number("offset").unwrap_or_default(), keys.text("unit"));
            Kind::Scale(Scale { factor: keys.needed("factor", factor)?, offset, unit })
        }
        "unit" => {
            let (from, to) = (keys.text("from"), keys.text("to"));
            Kind::Unit(Unit { from, to: keys.needed("to", to)? })
        }
        "expression" => Kind::Expression(computed(keys)?),
        "filter" => Kind::Filter(Filter { when: needed_text(keys, "when")? }),
        "branch" => Kind::Branch(branch(keys)?),
        "window" => Kind::Window(window(keys)?),
        "derive" => Kind::Derive(derive(keys)?),
        "rule" => Kind::Rule(rule(keys)?),
        "rate_limit" => {
            let (readings, per_ms) = (keys.count("readings"), keys.count("per_ms"));
            let (readings, per_ms) = (keys.needed("readings", readings), keys.needed("per_ms", per_ms));
            Kind::RateLimit(RateLimit { readings: readings?, per_ms: per_ms? })
        }
        "write" => {
            let (device, point) = (keys.text("device"), needed_text(keys, "point"));
            Kind::Write(WriteTo { device: device.unwrap_or_else(super::device_template), point: point? })
        }
        "output" => Kind::Output(Output {
            device: keys.text("device").unwrap_or_else(super::device_template),
            point: keys.text("point").unwrap_or_else(super::point_template),
            stream: keys.text("stream"),
        }),
        _ => Kind::Discard {},
    })
}

fn needed_text(keys: &mut Table<'_, '_, '_>, key: &'static str) -> Option<String> {
    let text = keys.text(key);
    keys.needed(key, text)
}

fn needed_number(keys: &mut Table<'_, '_, '_>, key: &'static str) -> Option<f64> {
    let number = keys.number(key);
    keys.needed(key, number)
}

fn range(keys: &mut Table<'_, '_, '_>) -> Range {
    let allowed = [("bad", Otherwise::Bad), ("drop", Otherwise::Drop), ("clamp", Otherwise::Clamp)];
    Range {
        min: keys.number("min"),
        max: keys.number("max"),
        otherwise: keys.choice("otherwise", &allowed).unwrap_or_default(),
    }
}

fn computed(keys: &mut Table<'_, '_, '_>) -> Option<Computed> {
    let value = needed_text(keys, "value");
    let (unit, kind) = (keys.text("unit"), keys.choice("type", &VALUE_KINDS));
    Some(Computed { value: value?, unit, kind: kind.unwrap_or_default() })
}

fn branch(keys: &mut Table<'_, '_, '_>) -> Option<Branch> {
    let value = keys.value("case");
    let value = keys.needed("case", value)?;
    let text = |item: &DeValue<'_>, key: &str| {
        item.get(key).and_then(|value| value.get_ref().as_str()).map(str::to_owned)
    };
    let case = |item: &DeValue<'_>| {
        let only = item.as_table().is_some_and(|table| table.len() == 2);
        Some(Case { port: text(item, "port").filter(|_| only)?, when: text(item, "when")? })
    };
    let cases = value
        .get_ref()
        .as_array()
        .and_then(|items| items.iter().map(|item| case(item.get_ref())).collect::<Option<Vec<_>>>());
    if cases.is_none() {
        let must = "must be a list such as [{ port = \"hot\", when = \"value > 80\" }]";
        keys.problem(value.span().start, "case", must);
    }
    Some(Branch { cases: cases? })
}

fn window(keys: &mut Table<'_, '_, '_>) -> Option<Window> {
    let length_ms = keys.count("length_ms");
    let length_ms = keys.needed("length_ms", length_ms);
    let hop_ms = keys.count("hop_ms");
    let given = keys.texts("aggregates");
    let given = keys.needed("aggregates", given);
    let at = keys.place_of("aggregates");
    let mut aggregates = Vec::new();
    for text in given.iter().flatten() {
        match Aggregate::ALL.into_iter().find(|aggregate| aggregate.as_str() == text) {
            Some(aggregate) => aggregates.push(aggregate),
            None => {
                let names = Aggregate::ALL.map(Aggregate::as_str);
                let near = crate::problem::hint(text, names);
                let what = format!("holds {text:?}; allowed are {}{near}", names.join(", "));
                keys.problem(at, "aggregates", &what);
            }
        }
    }
    Some(Window {
        wait_ms: keys.count("wait_ms").unwrap_or_else(super::wait_ms),
        idle_ms: keys.count("idle_ms").unwrap_or_else(super::idle_ms),
        ahead_max_ms: keys.count("ahead_max_ms").unwrap_or_else(super::ahead_max_ms),
        point: keys.text("point").unwrap_or_else(super::window_point),
        length_ms: length_ms?,
        hop_ms,
        aggregates,
    })
}

fn derive(keys: &mut Table<'_, '_, '_>) -> Option<Derive> {
    let inputs = keys.named_texts("inputs");
    let inputs = keys.needed("inputs", inputs);
    let per_device = keys.truth("per_device").unwrap_or_default();
    let value = needed_text(keys, "value");
    let (device, point) = (keys.text("device"), needed_text(keys, "point"));
    let (unit, kind) = (keys.text("unit"), keys.choice("type", &VALUE_KINDS));
    let age_max_ms = keys.count("age_max_ms").unwrap_or_default();
    Some(Derive {
        inputs: inputs?,
        per_device,
        value: value?,
        device,
        point: point?,
        unit: unit.unwrap_or_default(),
        kind: kind.unwrap_or_default(),
        age_max_ms,
    })
}

fn rule(keys: &mut Table<'_, '_, '_>) -> Option<Rule> {
    let condition = condition(keys);
    let severities = [Severity::Info, Severity::Warning, Severity::Critical];
    let severity = keys.choice("severity", &severities.map(|severity| (severity.as_str(), severity)));
    let (for_ms, clear_for_ms) = (keys.count("for_ms"), keys.count("clear_for_ms"));
    let message = keys.text("message").unwrap_or_default();
    let write = writing(keys);
    let of = keys.texts("of").unwrap_or_default();
    Some(Rule {
        condition: condition?,
        of,
        for_ms: for_ms.unwrap_or_default(),
        clear_for_ms: clear_for_ms.unwrap_or_default(),
        severity: severity.unwrap_or_default(),
        message,
        write,
    })
}

fn condition(keys: &mut Table<'_, '_, '_>) -> Option<Condition> {
    let names =
        ["above", "below", "equals", "expression", "rate", "absence", "z_score"].map(|name| (name, name));
    let given = keys.choice("condition", &names);
    Some(match keys.needed("condition", given)? {
        "expression" => {
            let (when, clear_when) = (needed_text(keys, "when"), keys.text("clear_when"));
            Condition::Expression { when: when?, clear_when }
        }
        "absence" => Condition::Absence {},
        "equals" => {
            let value = keys.scalar("value");
            Condition::Equals { value: keys.needed("value", value)? }
        }
        name => {
            let (limit, clear) = (needed_number(keys, "limit"), keys.number("clear"));
            match name {
                "above" => Condition::Above { limit: limit?, clear },
                "below" => Condition::Below { limit: limit?, clear },
                "rate" => {
                    let ways =
                        [("either", Direction::Either), ("rise", Direction::Rise), ("fall", Direction::Fall)];
                    let direction = keys.choice("direction", &ways).unwrap_or_default();
                    Condition::Rate { limit: limit?, clear, direction }
                }
                _ => {
                    let seasons = [("none", Season::None), ("hour_of_day", Season::HourOfDay)];
                    let readings = keys.count("readings").unwrap_or_else(rules::readings);
                    let warm_up = keys.count("warm_up").unwrap_or_else(rules::warm_up);
                    let deviation_min = keys.number("deviation_min").unwrap_or_default();
                    let season = keys.choice("season", &seasons).unwrap_or_default();
                    let utc_offset_min = keys.whole("utc_offset_min").unwrap_or_default();
                    Condition::ZScore {
                        limit: limit?,
                        clear,
                        readings,
                        warm_up,
                        deviation_min,
                        season,
                        utc_offset_min,
                    }
                }
            }
        }
    })
}

fn writing(keys: &mut Table<'_, '_, '_>) -> Option<Writing> {
    let value = keys.value("write")?;
    let at = value.span().start;
    let Some(table) = value.get_ref().as_table() else {
        keys.problem(at, "write", "must be a table of device, point, fired and cleared");
        return None;
    };
    let place = format!("{}, write", keys.place);
    let mut inner = Table::new(keys.reader, place, at, table);
    let (device, point) = (inner.text("device"), needed_text(&mut inner, "point"));
    let fired = inner.scalar("fired");
    let fired = inner.needed("fired", fired);
    let cleared = inner.scalar("cleared");
    // Its lines are those of the stage's key.
    inner.finish(None, &mut Lines::default());
    Some(Writing {
        device: device.unwrap_or_else(super::device_template),
        point: point?,
        fired: fired?,
        cleared,
    })
}
