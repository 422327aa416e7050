//! A flow by itself: what comes out where, what stays over changes, and what a kill costs.

mod clocks;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use tideline_protocol::model::Sample;
use tideline_protocol::wire::DeviceCard;

use super::*;
use crate::cards::Cards;
use crate::config;

const S: i64 = 1_000_000_000;
const NOW: i64 = 1_700_000_000 * S;

/// A clock that is moved and set by hand.
#[derive(Debug, Default)]
struct Hand(AtomicI64, AtomicI64);

impl Clock for Hand {
    fn wall_ns(&self) -> i64 {
        NOW + self.0.load(Ordering::Relaxed) + self.1.load(Ordering::Relaxed)
    }

    fn mono_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed).unsigned_abs()
    }
}

struct Bench {
    plan: watch::Sender<Arc<Plan>>,
    cards: Cards,
    clock: Arc<Hand>,
    board: Board,
}

fn plan(text: &str) -> Arc<Plan> {
    Arc::new(config::parse("a.toml", text, &[]).unwrap().pipelines)
}

impl Bench {
    fn new(text: &str) -> Self {
        let plan = watch::Sender::new(plan(text));
        Self { plan, cards: Cards::default(), clock: Arc::default(), board: Board::default() }
    }

    /// What is durable goes on.
    fn again(&self, durable: &BTreeMap<String, Vec<u8>>) -> Flow {
        let parts: Vec<Vec<u8>> =
            part_names("pipelines").filter_map(|name| durable.get(&name).cloned()).collect();
        let mut flow = self.made();
        flow.begin(durable.get("pipelines").map(Vec::as_slice), &parts);
        flow
    }

    fn flow(&self, state: Option<&[u8]>) -> Flow {
        let mut flow = self.made();
        flow.begin(state, &[]);
        flow
    }

    fn made(&self) -> Flow {
        Flow::new(Parts {
            key: "pipelines".into(),
            home: "default".into(),
            streams: ["default".into(), "fast".into(), "other".into()].into(),
            clock: self.clock.clone(),
            boot: [7; 16],
            plan: self.plan.subscribe(),
            cards: self.cards.seen(),
            traced: watch::channel(None).1,
            board: self.board.clone(),
        })
    }

    fn at(&self, s: i64) {
        self.clock.0.store(s * S, Ordering::Relaxed);
    }
}

fn chunk(device: &str, rows: &[(i64, f64)]) -> Chunk {
    let def = SeriesDef::new(device.parse().unwrap(), "flow".parse().unwrap(), "l/s".into());
    let samples = rows.iter().map(|(at, value)| Sample { time_ns: NOW + at * S, value: *value }).collect();
    Chunk { source: "s".into(), rows: vec![(def, samples)], ..Chunk::default() }
}

/// What goes on, as text: stream, series, time and value of each reading.
fn shown(portions: &[Portion]) -> Vec<String> {
    let mut all = Vec::new();
    for portion in portions {
        let stream = portion.stream.as_deref().unwrap_or_default();
        for (def, samples) in &portion.rows {
            all.extend(samples.iter().map(|sample| {
                let (value, _) = portion.boxes.value(sample.value, def.kind());
                let at = (sample.time_ns - NOW) / S;
                format!("{stream} {}/{} {at} {value}", def.device, def.point)
            }));
        }
    }
    all
}

const WINDOW: &str = "[[pipeline]]\nname = \"w\"\nfrom = \"*/flow\"\n[[pipeline.stage]]\nname = \"tens\"\nkind = \"window\"\nlength_ms = 10_000\nwait_ms = 0\naggregates = [\"count\", \"sum\"]\n";
const RULE: &str = "[[pipeline]]\nname = \"p\"\nfrom = \"*/flow\"\nevents = \"fast\"\n[[pipeline.stage]]\nname = \"high\"\nkind = \"rule\"\ncondition = \"above\"\nlimit = 5\nmessage = \"too much\"\nwrite = { point = \"open\", fired = true }\n[[stream]]\nname = \"fast\"\n";

#[test]
fn without_pipelines_readings_pass_as_they_are() {
    let mut flow = Bench::new("").flow(None);
    let position = ("a".to_owned(), vec![1]);
    let portions = flow.run(Chunk { position: Some(position.clone()), ..chunk("a", &[(0, 1.0)]) });
    assert_eq!(shown(&portions), ["default a/flow 0 1"]);
    assert_eq!(portions[0].positions, [position]);
    assert_eq!((flow.tick().len(), flow.state()), (0, Vec::new()));
}

#[test]
fn rules_become_readings_on_their_stream_and_writes() {
    let bench = Bench::new(RULE);
    let mut flow = bench.flow(None);
    let portions = flow.run(chunk("a", &[(0, 1.0), (1, 6.0), (2, 4.0)]));
    assert_eq!(
        shown(&portions),
        [
            "default a/flow 0 1",
            "default a/flow 1 6",
            "default a/flow 2 4",
            "fast a/p/high/flow 1 true",
            "fast a/p/high/flow 2 false"
        ]
    );
    assert_eq!(portions[1].rows[0].0.name(), "too much");
    let actions = flow.actions();
    let [action] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((action.device.as_str(), action.point.as_str()), ("a", "open"));
    assert!(flow.actions().is_empty());
    flow.failed(action, "no such device");
    let status = bench.board.read();
    let stage = &status.pipelines[0].stages[0];
    assert_eq!((stage.taken, stage.given, stage.events, stage.actions, stage.dead_letters), (3, 3, 2, 1, 1));
    assert_eq!(status.dead_letters[0].reason, "no such device");
    let metrics = status.metrics();
    assert!(
        metrics.contains("tideline_agent_stage_dead_letters_total{pipeline=\"p\",stage=\"high\"} 1\n"),
        "{metrics}"
    );
}

#[test]
fn what_follows_from_time_goes_where_the_readings_of_the_device_went() {
    let bench = Bench::new(&format!("{WINDOW}idle_ms = 5_000\n"));
    let mut flow = bench.flow(None);
    let own = Some(Ahead { offset_ns: NOW, believed: true, earlier: None });
    let to = |stream: &str, chunk: Chunk| Chunk { stream: Some(stream.into()), ..chunk };
    flow.run(to("other", Chunk { clock: own, ..chunk("a", &[(0, 1.0)]) }));
    flow.run(to("fast", chunk("b", &[(0, 2.0)])));
    assert_eq!(flow.tick().len(), 0);
    bench.at(20);
    let portions = flow.tick();
    assert_eq!(
        shown(&portions),
        ["other a/flow/count 0 1", "other a/flow/sum 0 1", "fast b/flow/count 0 1", "fast b/flow/sum 0 2"]
    );
    let is_stamped: Vec<bool> = portions.iter().map(|portion| portion.clock.is_some()).collect();
    assert_eq!(is_stamped, [true, false], "a clock is corrected where it gave the times");
}

#[test]
fn what_a_clock_gave_before_it_was_set_stays_of_that_clock() {
    let bench = Bench::new(WINDOW);
    let mut flow = bench.flow(None);
    let read = |flow: &mut Flow, at: i64| {
        bench.at(at);
        let clock = Some(Ahead::of(bench.clock.as_ref()));
        let wall = (bench.clock.wall_ns() - NOW) / S;
        flow.run(Chunk { clock, ..chunk("a", &[(wall, 1.0)]) })
    };
    bench.clock.1.store(3_600 * S, Ordering::Relaxed);
    let before = Some(Ahead::of(bench.clock.as_ref()));
    (1..4).for_each(|at| drop(read(&mut flow, at)));
    bench.clock.1.store(0, Ordering::Relaxed);
    let portions = read(&mut flow, 4);
    assert_eq!(shown(&portions), ["default a/flow/count 3600 3", "default a/flow/sum 3600 3"]);
    let of_results = portions.iter().find(|portion| !portion.rows.is_empty());
    assert_eq!(of_results.map(|portion| portion.clock), Some(before));
    let stage = bench.board.read().pipelines;
    assert!(stage.is_empty() || stage[0].stages[0].dead_letters == 0);
    (5..10).for_each(|at| assert_eq!(shown(&read(&mut flow, at)).len(), 0));
    assert_eq!(shown(&read(&mut flow, 10)), ["default a/flow/count 0 6", "default a/flow/sum 0 6"]);
}

#[test]
fn what_is_open_when_the_machine_is_started_again_is_of_the_start_that_its_readings_were_of() {
    let bench = Bench::new(WINDOW);
    let mut flow = bench.flow(None);
    let clock = Some(Ahead { believed: false, ..Ahead::of(bench.clock.as_ref()) });
    flow.run(Chunk { clock, ..chunk("a", &[(0, 1.0)]) });
    let state = flow.state().remove(0).1;
    let mut again = bench.flow(Some(&state));
    again.parts.boot = [8; 16];
    let now = Some(Ahead::of(bench.clock.as_ref()));
    let portions = again.run(Chunk { clock: now, ..chunk("a", &[(1, 1.0)]) });
    assert_eq!(shown(&portions), ["default a/flow/count 0 1", "default a/flow/sum 0 1"]);
    let of_results = portions.iter().find(|portion| !portion.rows.is_empty()).unwrap();
    assert_eq!(of_results.clock.unwrap().earlier, Some([7; 16]));
}

#[test]
fn a_change_keeps_what_did_not_change_and_no_counter_goes_back() {
    let bench = Bench::new(WINDOW);
    let mut flow = bench.flow(None);
    flow.run(chunk("a", &[(0, 1.0), (1, 2.0)]));
    flow.saved();
    let more = format!(
        "{WINDOW}[[pipeline.stage]]\nname = \"o\"\nkind = \"output\"\npoint = \"tens/{{point}}\"\n{RULE}"
    );
    bench.plan.send_replace(plan(&more));
    let portions = flow.run(chunk("a", &[(10, 0.0)]));
    assert_eq!(
        shown(&portions),
        ["default a/tens/flow/count 0 2", "default a/tens/flow/sum 0 3", "default a/flow 10 0"]
    );
    flow.saved();
    let taken = |name: &str| -> Vec<u64> {
        let status = bench.board.read();
        let of = status.pipelines.iter().filter(|pipeline| pipeline.name == name);
        of.flat_map(|pipeline| pipeline.stages.iter().map(|stage| stage.taken)).collect()
    };
    assert_eq!((taken("w"), taken("p")), (vec![3, 2], vec![1]));
    bench.plan.send_replace(plan(RULE));
    assert_eq!(shown(&flow.run(chunk("a", &[(20, 1.0)]))), ["default a/flow 20 1"]);
    flow.saved();
    assert_eq!((taken("w"), taken("p")), (vec![], vec![2]));
}

#[test]
fn pipelines_of_a_profile_take_readings_of_its_devices_alone_also_of_those_that_appear() {
    let bench = Bench::new("");
    let mut planned = (*plan(WINDOW)).clone();
    let devices = ["a".parse().unwrap()].into();
    planned
        .kin
        .insert("w".into(), config::pipelines::Kin { profile: "pump".into(), devices, is_alarms: false });
    bench.plan.send_replace(Arc::new(planned));
    let mut flow = bench.flow(None);
    let mut passes = |device: &str| !shown(&flow.run(chunk(device, &[(0, 1.0)]))).is_empty();
    assert_eq!((passes("a"), passes("b")), (false, true));
    let card = DeviceCard { profile: "pump".into(), ..DeviceCard::new("b".parse().unwrap()) };
    assert!(bench.cards.tell(card));
    assert_eq!((passes("a"), passes("b"), passes("c")), (false, false, true));
}

const PUMP: &str = "name = \"pump\"\n[coap]\n[points]\n\
    flow = { unit = \"l/s\", min = 0, max = 90, address = \"flow\" }\n\
    state = { type = \"text\", address = \"state\" }\n\
    [alarms.much]\npoint = \"flow\"\nabove = 80\nbelow = 2\nhysteresis = 5\nfor_s = 3\n\
    [alarms.fault]\npoint = \"state\"\nequals = \"fault\"\nseverity = \"critical\"\ntitle = \"The pump is broken\"\n\
    [alarms.silent]\npoint = \"flow\"\nno_data_s = 30\n";

#[test]
fn the_alarms_of_a_profile_are_points_of_its_devices_and_its_readings_go_on() {
    let device = "[[source]]\nkind = \"coap\"\nname = \"s\"\n[[device]]\nid = \"a\"\nsource = \"s\"\nprofile = \"pump\"\naddress = \"10.0.0.1\"\n";
    let families =
        |_: &str| tideline_profiles::Profile::parse("pump.toml", PUMP).map_err(|error| error.to_string());
    let plan = |text: &str| {
        let text = format!("{text}{device}[[stream]]\nname = \"fast\"\nclass = \"alarm\"\n");
        Arc::new(config::parse_with("a.toml", &text, &[], &families).unwrap().pipelines)
    };
    assert_eq!(*plan("[agent]\nprofile_alarms = \"off\"\n"), Plan::default());
    let bench = Bench::new("");
    bench.plan.send_replace(plan(""));
    let mut flow = bench.flow(None);
    let mut given = |device: &str, rows: &[(i64, f64)]| shown(&flow.run(chunk(device, rows)));
    assert_eq!(given("b", &[(0, 99.0)]), ["default b/flow 0 99"], "it is no pump");
    assert_eq!(given("a", &[(0, 81.0), (2, 82.0)]), ["default a/flow 0 81", "default a/flow 2 82"]);
    let begins = given("a", &[(3, 83.0), (4, 76.0)]);
    assert_eq!(begins, ["default a/flow 3 83", "default a/flow 4 76", "fast a/alarm/much-above 3 true"]);
    // It ends below the limit by its hysteresis.
    assert_eq!(given("a", &[(5, 75.0)]), ["default a/flow 5 75", "fast a/alarm/much-above 5 false"]);
    let mut state = chunk("a", &[(6, 0.0)]);
    let word = state.boxes.word(Value::Text("fault".into()), Quality::Good);
    let def = SeriesDef::new("a".parse().unwrap(), "state".parse().unwrap(), String::new());
    state.rows = vec![(def.of_kind(ValueKind::Text), vec![Sample { time_ns: NOW + 6 * S, value: word }])];
    let portions = flow.run(state);
    assert_eq!(shown(&portions), ["default a/state 6 fault", "fast a/alarm/fault 6 true"]);
    assert_eq!(portions[1].rows[0].0.name(), "The pump is broken");
    bench.at(29);
    assert!(shown(&flow.tick()).is_empty());
    bench.at(30);
    assert_eq!(shown(&flow.tick()), ["fast a/alarm/silent 30 true"]);
    assert_eq!(shown(&flow.run(chunk("a", &[(31, 9.0)])))[1..], ["fast a/alarm/silent 31 false"]);
}

#[test]
fn a_state_that_cannot_be_read_is_told_and_costs_no_more_than_itself() {
    let bench = Bench::new(WINDOW);
    let mut flow = bench.flow(Some(b"TLPK\x09\x00"));
    assert!(bench.board.read().last_error.unwrap().contains("version 9"));
    flow.run(chunk("a", &[(0, 1.0)]));
    assert!(!flow.state().is_empty());
}

fn save(flow: &mut Flow, durable: &mut BTreeMap<String, Vec<u8>>) {
    durable.extend(flow.state());
    flow.saved();
}

#[test]
fn what_was_taken_in_goes_to_the_pipelines_that_took_it_and_to_no_others() {
    let bench = Bench::new(WINDOW);
    let (mut flow, mut durable) = (bench.flow(None), BTreeMap::new());
    for at in 0..3 {
        flow.run(chunk("a", &[(at, 1.0)]));
        save(&mut flow, &mut durable);
    }
    assert_eq!(durable.keys().collect::<Vec<_>>(), ["pipelines", "pipelines#1", "pipelines#2"]);
    // It is killed, and finds another configuration: one more pipeline, and the first behind a filter.
    let more = WINDOW.replace("\"w\"", "\"more\"");
    let filtered = "[[pipeline.stage]]\nname = \"none\"\nkind = \"filter\"\nwhen = \"value > 1.0\"\n[[pipeline.stage]]\nname = \"tens\"";
    let text = format!("{}{more}", WINDOW.replace("[[pipeline.stage]]\nname = \"tens\"", filtered));
    bench.plan.send_replace(plan(&text));
    let mut again = bench.again(&durable);
    let mut portions = again.run(chunk("a", &[(5, 2.0), (10, 2.0)]));
    portions.sort_by_key(|portion| portion.rows.len());
    let mut found = shown(&portions);
    found.sort();
    // Four by the one that goes on, and one by the other.
    let wanted = [
        "default a/flow/count 0 1",
        "default a/flow/count 0 4",
        "default a/flow/sum 0 2",
        "default a/flow/sum 0 5",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn parts_of_an_earlier_state_count_for_nothing_and_a_damaged_one_costs_what_it_tells() {
    let bench = Bench::new(WINDOW);
    let (mut flow, mut durable) = (bench.flow(None), BTreeMap::new());
    for at in 0..4 {
        flow.run(chunk("a", &[(at, 1.0)]));
        save(&mut flow, &mut durable);
    }
    let count = |durable: &BTreeMap<String, Vec<u8>>| {
        shown(&bench.again(durable).run(chunk("a", &[(10, 0.0)])))[0].clone()
    };
    assert_eq!(count(&durable), "default a/flow/count 0 4");
    let mut damaged = durable.clone();
    damaged.insert("pipelines#2".into(), b"TLPL\x01\x00else".to_vec());
    assert_eq!(count(&damaged), "default a/flow/count 0 3");
    assert!(bench.board.read().last_error.unwrap().contains("1 of 3 parts are damaged"));
    damaged.remove("pipelines#2");
    assert_eq!(count(&damaged), "default a/flow/count 0 3");
    // It named the series.
    damaged.remove("pipelines#1");
    assert_eq!(count(&damaged), "default a/flow/count 0 1");
    assert!(bench.board.read().last_error.unwrap().contains("3 of 3 parts are damaged"));
    // A start writes it whole, and what came before is beside it still.
    flow.rest();
    save(&mut flow, &mut durable);
    assert_eq!((count(&durable), durable.len()), ("default a/flow/count 0 4".to_owned(), 4));
}

/// A state of version 2 of the pipelines of [`WINDOW`] with one reading, and a part of version 1 with the next.
const KEPT: [(&str, &str); 2] = [
    ("pipelines", include_str!("tests/kept/whole-2.hex")),
    ("pipelines#1", include_str!("tests/kept/part-1.hex")),
];

#[test]
fn what_an_earlier_version_wrote_is_read() {
    let bytes = |hex: &str| -> Vec<u8> {
        let hex: String = hex.split_whitespace().collect();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let durable = KEPT.map(|(name, hex)| (name.to_owned(), bytes(hex))).into();
    let found = shown(&Bench::new(WINDOW).again(&durable).run(chunk("a", &[(10, 0.0)])));
    assert_eq!(found, ["default a/flow/count 0 2", "default a/flow/sum 0 3"]);
}

#[test]
fn what_keeps_nothing_writes_nothing() {
    let bench = Bench::new(
        "[[pipeline]]\nname = \"p\"\nfrom = \"*/flow\"\n[[pipeline.stage]]\nname = \"c\"\nkind = \"range\"\nmax = 5\n",
    );
    let mut flow = bench.flow(None);
    flow.run(chunk("a", &[(0, 1.0)]));
    save(&mut flow, &mut BTreeMap::new());
    flow.run(chunk("a", &[(1, 1.0)]));
    flow.tick();
    assert!(flow.state().is_empty());
}

/// What a spool would hold.
#[derive(Debug, Default)]
struct Durable {
    rows: Vec<String>,
    /// Positions by name.
    state: BTreeMap<String, Vec<u8>>,
    position: usize,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A source that knows its position, killed anywhere, and a reload in between.
    #[test]
    fn whatever_is_killed_each_window_is_there_once(
        values in proptest::collection::vec((0..3_usize, 0..4_i64, 0..9_u8), 1..80),
        steps in proptest::collection::vec(0..6_u8, 0..60),
    ) {
        let mut at = 0;
        let chunks: Vec<_> = values.iter().map(|(device, step, value)| {
            at += step;
            (["a", "b", "c"][*device], at, f64::from(*value))
        }).collect();
        let text = format!("{WINDOW}{}", RULE.replace("above", "rate"));
        let bench = Bench::new(&text);
        let mut whole = bench.flow(None);
        let mut wanted: Vec<String> = Vec::new();
        for (device, at, value) in &chunks {
            wanted.extend(shown(&whole.run(chunk(device, &[(*at, *value)]))));
        }
        let mut durable = Durable::default();
        let (mut flow, mut position, mut pending) = (bench.flow(None), 0, Vec::new());
        for step in steps.iter().copied().chain(std::iter::repeat_n(0, chunks.len() + 1)) {
            match step {
                // Commits.
                1 => {
                    durable.rows.append(&mut pending);
                    durable.state.extend(flow.state());
                    flow.saved();
                    durable.position = position;
                }
                // Is killed.
                2 => {
                    flow = bench.again(&durable.state);
                    position = durable.position;
                    pending.clear();
                }
                // Is told of the same pipelines again, and of one more.
                3 => {
                    let more = WINDOW.replace("\"w\"", "\"more\"").replace("*/flow", "no/such");
                    bench.plan.send_replace(plan(&format!("{text}{more}")));
                }
                4 => drop(bench.plan.send_replace(plan(&text))),
                // Looks at the clock, which moves no window here.
                5 => pending.extend(shown(&flow.tick())),
                _ => {
                    let Some((device, at, value)) = chunks.get(position) else { continue };
                    pending.extend(shown(&flow.run(chunk(device, &[(*at, *value)]))));
                    position += 1;
                }
            }
        }
        durable.rows.append(&mut pending);
        prop_assert_eq!(durable.rows, wanted);
    }
}
