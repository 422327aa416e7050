//! Random pipelines and random histories.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tideline_pipeline::Definition;
use tideline_pipeline::definition::{
    Aggregate, Branch, Case, Computed, Condition, Deadband, Derive, Direction, Filter, Kind, Otherwise,
    Output, Range, RateLimit, Rule, Scalar, Scale, Season, Severity, StageDefinition, Unit, Window, WriteTo,
    Writing,
};
use tideline_protocol::model::SeriesDef;
use tideline_protocol::value::{Quality, Value, ValueKind};

/// When histories begin, by the clock: 2023.
pub const BEGIN_NS: i64 = 1_700_000_000_000_000_000;
pub const YEAR_NS: i64 = 365 * 24 * 3_600 * 1_000 * MS;
const MS: i64 = 1_000_000;

/// A reading that is given.
#[derive(Debug, Clone)]
pub struct Given {
    pub series: SeriesDef,
    pub time_ns: i64,
    pub value: Value,
    pub quality: Quality,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// Readings, so long after what was before, with times by the machine's clock or by their own.
    Readings(i64, Vec<Given>, bool),
    /// Time passes.
    Tick(i64),
    /// The state is saved, and a new pipeline takes it.
    Restart,
    /// The machine's clock is set by so much, or to what is right.
    Set(Option<i64>),
    /// The machine is started again, and knows the time or does not.
    Boot(bool),
}

/// The series of all histories; the last is taken by no pipeline.
pub fn series() -> Vec<SeriesDef> {
    let def = |device: &str, point: &str, unit: &str, kind| {
        SeriesDef::new(device.parse().unwrap(), point.parse().unwrap(), unit.to_owned()).of_kind(kind)
    };
    vec![
        def("a", "t", "Cel", ValueKind::Float),
        def("b", "t", "Cel", ValueKind::Float),
        def("b", "n", "bar", ValueKind::Int),
        def("a", "on", "", ValueKind::Bool),
        def("b", "s", "", ValueKind::Text),
        def("z", "t", "Cel", ValueKind::Float),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let numbers = vec![0.0, 0.5, 1.0, 5.0, 9.5, 10.0, 10.5, 20.0, 50.0, -3.0, 1e308, f64::NAN, f64::INFINITY];
    prop_oneof![
        12 => select(numbers).prop_map(Value::Float),
        4 => (-20.0_f64..60.0).prop_map(|number| Value::Float((number * 4.0).round() / 4.0)),
        1 => Just(Value::Null),
        1 => select(vec!["fault", "on"]).prop_map(|text| Value::Text(text.into())),
        1 => Just(Value::Int(i64::MAX)),
        1 => any::<bool>().prop_map(Value::Bool),
    ]
}

fn given() -> impl Strategy<Value = Given> {
    // Mostly near the clock; some late, repeated, far ahead, or at the ends of time.
    let time = prop_oneof![
        20 => (-40_i64..40).prop_map(|at| BEGIN_NS + at * 500 * MS),
        6 => (0_i64..400).prop_map(|at| BEGIN_NS + at * 1_000 * MS),
        1 => Just(BEGIN_NS + 7_200_000 * MS),
        1 => select(vec![i64::MIN, i64::MAX, 0]),
    ];
    let quality =
        prop_oneof![8 => Just(Quality::Good), 1 => Just(Quality::Uncertain), 1 => Just(Quality::Bad)];
    (select(series()), time, value(), quality).prop_map(|(series, time_ns, value, quality)| Given {
        series,
        time_ns,
        value,
        quality,
    })
}

pub fn history() -> impl Strategy<Value = Vec<Event>> {
    let wait = || (0_i64..30).prop_map(|seconds| seconds * 1_000 * MS);
    let event = prop_oneof![
        9 => (wait(), vec(given(), 0..14), any::<bool>())
            .prop_map(|(wait, given, is_stamped)| Event::Readings(wait, given, is_stamped)),
        3 => wait().prop_map(Event::Tick),
        1 => Just(Event::Restart),
        2 => select(vec![-9_000, -60, -7, -5, -3, 3, 5, 7, 60, 9_000])
            .prop_map(|seconds| Event::Set(Some(seconds * 1_000 * MS))),
        1 => Just(Event::Set(None)),
        1 => any::<bool>().prop_map(Event::Boot),
    ];
    vec(event, 0..14)
}

fn plain_stage() -> impl Strategy<Value = Kind> {
    let otherwise = select(vec![Otherwise::Bad, Otherwise::Drop, Otherwise::Clamp]);
    let bound = || select(vec![None, Some(0.0), Some(1.0)]);
    prop_oneof![
        (bound(), select(vec![Some(10.0), Some(30.0)]), otherwise)
            .prop_map(|(min, max, otherwise)| Kind::Range(Range { min, max, otherwise })),
        (
            select(vec![Some(0.0), Some(0.5), Some(5.0)]),
            select(vec![None, Some(10.0)]),
            select(vec![0, 2_000])
        )
            .prop_map(|(absolute, percent, silence_max_ms)| {
                Kind::Deadband(Deadband { absolute, percent, silence_max_ms })
            }),
        (select(vec![2.0, -0.5]), select(vec![0.0, 3.0]), select(vec![None, Some("K".to_owned())]))
            .prop_map(|(factor, offset, unit)| Kind::Scale(Scale { factor, offset, unit })),
        select(vec![(None, "K"), (Some("Cel"), "K"), (Some("bar"), "kPa")])
            .prop_map(|(from, to)| Kind::Unit(Unit { from: from.map(str::to_owned), to: to.to_owned() })),
        (
            select(super::model::VALUES.to_vec()),
            select(vec![ValueKind::Float, ValueKind::Bool, ValueKind::Text])
        )
            .prop_map(|(value, any)| {
                // One that can never be of its type is refused; `value` can be of any.
                let kind = match value {
                    "value * 2 + 1" => ValueKind::Float,
                    "value == 'fault'" => ValueKind::Bool,
                    "quality" => ValueKind::Text,
                    _ => any,
                };
                Kind::Expression(Computed { value: value.to_owned(), unit: None, kind })
            }),
        select(super::model::TRUTHS.to_vec()).prop_map(|when| Kind::Filter(Filter { when: when.to_owned() })),
        (1_u64..4, select(vec![1_000, 3_000]))
            .prop_map(|(readings, per_ms)| Kind::RateLimit(RateLimit { readings, per_ms })),
        Just(Kind::Write(WriteTo { device: "valve-{device}".into(), point: "{point}".into() })),
        select(vec![None, Some("slow".to_owned())]).prop_map(|stream| {
            Kind::Output(Output { device: "{device}".into(), point: "{point}/raw".into(), stream })
        }),
    ]
}

fn window() -> impl Strategy<Value = Kind> {
    let aggregates = vec(select(Aggregate::ALL[..8].to_vec()), 1..5).prop_map(|mut list| {
        list.sort_unstable();
        list.dedup();
        list
    });
    let shape = select(vec![(1_000, None), (4_000, Some(1_000)), (10_000, Some(5_000))]);
    (shape, aggregates, select(vec![0, 2_000]), select(vec![0, 20_000])).prop_map(
        |((length_ms, hop_ms), aggregates, wait_ms, idle_ms)| {
            let point = "{point}/{aggregate}".to_owned();
            Kind::Window(Window {
                length_ms,
                hop_ms,
                aggregates,
                wait_ms,
                idle_ms,
                ahead_max_ms: 3_600_000,
                point,
            })
        },
    )
}

fn derive() -> impl Strategy<Value = Kind> {
    let of = |inputs: &[(&str, &str)], per_device: bool, value: &str| Derive {
        inputs: inputs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        per_device,
        value: value.to_owned(),
        device: (!per_device).then(|| "sum".to_owned()),
        point: "d".to_owned(),
        unit: String::new(),
        kind: ValueKind::Float,
        age_max_ms: 0,
    };
    let choices = vec![
        of(&[("p", "a/t"), ("q", "b/t")], false, "p - q"),
        of(&[("p", "t"), ("q", "n")], true, "p + q * 2"),
        of(&[("p", "b/t")], false, "p"),
    ];
    (select(choices), select(vec![0, 5_000]))
        .prop_map(|(derive, age_max_ms)| Kind::Derive(Derive { age_max_ms, ..derive }))
}

fn rule() -> impl Strategy<Value = Kind> {
    let z_score = |season, utc_offset_min| Condition::ZScore {
        limit: 2.0,
        clear: Some(1.0),
        readings: 20,
        warm_up: 3,
        deviation_min: 0.1,
        season,
        utc_offset_min,
    };
    let conditions = vec![
        Condition::Above { limit: 10.0, clear: Some(5.0) },
        Condition::Above { limit: 10.0, clear: None },
        Condition::Below { limit: 1.0, clear: Some(9.5) },
        Condition::Equals { value: Scalar::Text("fault".into()) },
        Condition::Equals { value: Scalar::Bool(true) },
        Condition::Equals { value: Scalar::Float(0.0) },
        Condition::Expression { when: "value == 'fault'".into(), clear_when: None },
        Condition::Expression { when: "value > 10".into(), clear_when: Some("value == 0".into()) },
        Condition::Rate { limit: 5.0, clear: Some(1.0), direction: Direction::Either },
        Condition::Rate { limit: 5.0, clear: None, direction: Direction::Rise },
        Condition::Rate { limit: 5.0, clear: None, direction: Direction::Fall },
        Condition::Absence {},
        z_score(Season::None, 0),
        z_score(Season::HourOfDay, -330),
    ];
    let lengths = || select(vec![0_u64, 1_000, 20_000]);
    let of = select(vec![vec![], vec!["*/t".to_owned()], vec!["a/n".to_owned(), "b/*".to_owned()]]);
    (select(conditions), of, lengths(), lengths(), any::<bool>()).prop_map(
        |(condition, of, for_ms, clear_for_ms, writes)| {
            let for_ms = if condition == (Condition::Absence {}) { for_ms.max(1_000) } else { for_ms };
            let write = writes.then(|| Writing {
                device: "{device}".into(),
                point: "out".into(),
                fired: Scalar::Bool(true),
                cleared: (for_ms == 0).then_some(Scalar::Int(0)),
            });
            Kind::Rule(Rule {
                condition,
                of,
                for_ms,
                clear_for_ms,
                severity: Severity::Info,
                message: "m".into(),
                write,
            })
        },
    )
}

fn branch() -> impl Strategy<Value = Kind> {
    let case = |port: &str, when: &str| Case { port: port.to_owned(), when: when.to_owned() };
    (select(super::model::TRUTHS.to_vec()), select(super::model::TRUTHS.to_vec()))
        .prop_map(move |(one, two)| Kind::Branch(Branch { cases: vec![case("one", one), case("two", two)] }))
}

/// Whether a stage gives readings on as readings of the same series.
fn keeps_series(kind: &Kind) -> bool {
    !matches!(
        kind,
        Kind::Scale(_)
            | Kind::Unit(_)
            | Kind::Expression(_)
            | Kind::Window(_)
            | Kind::Derive(_)
            | Kind::Output(_)
    )
}

/// What a stage may be read by: a port of a branch, or its name.
fn outlet(stage: &StageDefinition, port: prop::sample::Index) -> String {
    match stage.kind {
        Kind::Branch(_) => format!("{}.{}", stage.name, ["one", "two", "else"][port.index(3)]),
        _ => stage.name.clone(),
    }
}

/// A random pipeline: each stage reads one or two of those before it. Two are read only where both give the series of the
/// source: else two series could become one further on, whose order is no promise.
pub fn pipeline() -> impl Strategy<Value = Definition> {
    let kind = prop_oneof![
        6 => plain_stage(),
        2 => window(),
        1 => derive(),
        3 => rule(),
        1 => branch(),
        1 => Just(Kind::Discard {}),
    ];
    let stage = (kind, vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..3));
    (vec(stage, 0..6), any::<bool>(), any::<bool>()).prop_map(|(made, keep, watch)| {
        let mut stages: Vec<StageDefinition> = Vec::new();
        let mut keeping: Vec<String> = Vec::new();
        for (at, (kind, picks)) in made.into_iter().enumerate() {
            let mut after: Vec<(String, bool)> = Vec::new();
            for (of, port) in picks {
                let (text, keeps) = match of.index(at + 1).checked_sub(1).map(|before| &stages[before]) {
                    None => ("from".to_owned(), true),
                    Some(stage) => (outlet(stage, port), keeping.contains(&stage.name)),
                };
                if after.iter().all(|(other, others_keep)| *other != text && keeps && *others_keep) {
                    after.push((text, keeps));
                }
            }
            // Without any it reads the stage before it, which a branch without a port cannot be.
            let before = stages.last();
            if after.is_empty() && matches!(before, Some(StageDefinition { kind: Kind::Branch(_), .. })) {
                after.extend(
                    before.map(|stage| (format!("{}.one", stage.name), keeping.contains(&stage.name))),
                );
            }
            let implied = before.is_none_or(|stage| keeping.contains(&stage.name));
            let inputs_keep = if after.is_empty() { implied } else { after.iter().all(|(_, keeps)| *keeps) };
            let name = format!("s{at}");
            if inputs_keep && keeps_series(&kind) {
                keeping.push(name.clone());
            }
            stages.push(StageDefinition {
                name,
                after: after.into_iter().map(|(text, _)| text).collect(),
                kind,
            });
        }
        let mut definition = Definition::new("p", &["a/*", "b/*"], stages);
        (definition.keep, definition.watch) = (keep, watch);
        definition
    })
}
