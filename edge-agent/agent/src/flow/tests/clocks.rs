//! A flow while clocks are set and machines are started again.

use tideline_protocol::block;
use tideline_protocol::ranges::RangeSet;

use super::*;
use crate::spooler::{Loaded, SpoolHandle};

/// A machine whose clock is set, and that is started again without the time.
#[derive(Debug, Default)]
struct Machine(std::sync::Mutex<Hands>);

#[derive(Debug, Clone, Copy, Default)]
struct Hands {
    boot: u8,
    mono_s: i64,
    passed_s: i64,
    wrong_s: i64,
    lost: bool,
}

impl Clock for Machine {
    fn wall_ns(&self) -> i64 {
        let hands = *self.0.lock().unwrap();
        NOW + (hands.passed_s + hands.wrong_s) * S
    }

    fn mono_ns(&self) -> u64 {
        (self.0.lock().unwrap().mono_s * S).unsigned_abs()
    }

    fn is_believed(&self) -> bool {
        !self.0.lock().unwrap().lost
    }
}

impl Machine {
    fn pass(&self, seconds: i64) {
        let mut hands = self.0.lock().unwrap();
        hands.mono_s += seconds;
        hands.passed_s += seconds;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Readings that the agent stamps, while its clock is set back and forth, the machine is started again with and without
    /// the time, the agent is killed, and told of other pipelines.
    #[test]
    fn whatever_clocks_do_each_reading_is_in_one_window(
        steps in proptest::collection::vec((0..14_u8, 0..5_i64), 1..120),
    ) {
        let text = format!("{}idle_ms = 30_000\n", WINDOW.replace("wait_ms = 0", "wait_ms = 5_000"));
        let bench = Bench::new(&text);
        let machine = Arc::new(Machine::default());
        let start = |durable: &BTreeMap<String, Vec<u8>>| {
            let mut flow = bench.made();
            flow.parts.clock = machine.clone();
            flow.parts.boot = [machine.0.lock().unwrap().boot; 16];
            let parts: Vec<_> = part_names("pipelines").filter_map(|name| durable.get(&name).cloned()).collect();
            flow.begin(durable.get("pipelines").map(Vec::as_slice), &parts);
            flow
        };
        let count = |portions: &[Portion]| -> f64 {
            let rows = portions.iter().flat_map(|portion| &portion.rows);
            let counts = rows.filter(|(def, _)| def.point.as_str() == "flow/count");
            counts.flat_map(|(_, samples)| samples).map(|sample| sample.value).sum()
        };
        let (mut durable, mut saved) = (BTreeMap::new(), (0.0, 0.0));
        let (mut flow, mut given, mut found) = (start(&durable), 0.0, 0.0);
        for (step, by) in steps {
            machine.pass(by);
            match step {
                0 => machine.0.lock().unwrap().wrong_s += [-100_000, -60, -7, 9, 7_200][usize::try_from(by).unwrap()],
                1 => (machine.0.lock().unwrap().wrong_s, machine.0.lock().unwrap().lost) = (0, false),
                2 => found += count(&flow.tick()),
                3 => {
                    save(&mut flow, &mut durable);
                    saved = (given, found);
                }
                // It is killed; or the machine is, and knows the time or does not.
                4..=6 => {
                    if step > 4 {
                        let mut hands = machine.0.lock().unwrap();
                        (hands.boot, hands.mono_s, hands.lost) = (hands.boot + 1, 3, step == 5);
                        hands.wrong_s = if step == 5 { -50_000_000 - hands.passed_s } else { hands.wrong_s };
                    }
                    flow = start(&durable);
                    (given, found) = saved;
                }
                7 => {
                    let more = WINDOW.replace("\"w\"", "\"more\"").replace("*/flow", "no/such");
                    bench.plan.send_replace(plan(&format!("{text}{more}")));
                }
                8 => drop(bench.plan.send_replace(plan(&text))),
                _ => {
                    let at = (machine.wall_ns() - NOW) / S;
                    let clock = Some(Ahead::of(machine.as_ref()));
                    found += count(&flow.run(Chunk { clock, ..chunk("a", &[(at, 1.0)]) }));
                    given += 1.0;
                }
            }
        }
        // Silence closes what is open.
        found += count(&flow.tick());
        machine.pass(100);
        found += count(&flow.tick());
        prop_assert_eq!(found, given);
        let status = flow.pipelines.status().next().unwrap().1;
        prop_assert_eq!((status.counts.dead_letters, status.open_windows), (0, 0));
    }
}

/// The spool of a start of the machine.
fn spool(folder: &std::path::Path, boot: u8) -> SpoolHandle {
    let path = folder.join("spool.redb");
    let open = move |_| {
        let (mut spool, _) = tideline_spool::Spool::open_file(&path, tideline_spool::SpoolConfig::default())?;
        spool.begin_boot([boot; 16])?;
        Ok(spool)
    };
    SpoolHandle::start_with(open, Board::default()).unwrap().0
}

/// Appends what came of a chunk with the state after it.
async fn append(spool: &SpoolHandle, flow: &mut Flow, mut portions: Vec<Portion>) {
    let positions = flow.state();
    portions.push(Portion { positions, ..Portion::default() });
    spool.append_portions(portions.into_iter().map(Arc::new).collect(), 1_000).await.unwrap();
    flow.saved();
}

#[tokio::test]
async fn a_correction_fits_results_as_it_does_readings_also_of_an_earlier_start() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(&WINDOW.replace("from", "keep = true\nfrom"));
    let machine =
        Arc::new(Machine(std::sync::Mutex::new(Hands { boot: 7, wrong_s: 3_600, ..Hands::default() })));
    let start = |state: Option<&[u8]>| {
        let mut flow = bench.made();
        flow.parts.clock = machine.clone();
        flow.parts.boot = [machine.0.lock().unwrap().boot; 16];
        flow.begin(state, &[]);
        flow
    };
    let read = |flow: &mut Flow| {
        machine.pass(1);
        let (at, clock) = ((machine.wall_ns() - NOW) / S, Some(Ahead::of(machine.as_ref())));
        flow.run(Chunk { clock, ..chunk("a", &[(at, 1.0)]) })
    };
    // An hour ahead, of which a hub tells.
    let (first, mut flow) = (spool(folder.path(), 7), start(None));
    let portions = (0..3).flat_map(|_| read(&mut flow)).collect();
    append(&first, &mut flow, portions).await;
    first.learn_time(machine.mono_ns(), NOW).await.unwrap();
    first.close().await;
    // Started again, it is right.
    (machine.0.lock().unwrap().boot, machine.0.lock().unwrap().wrong_s) = (8, 0);
    let second = spool(folder.path(), 8);
    let mut flow = start(second.cursor("pipelines").await.unwrap().as_deref());
    let portions = read(&mut flow);
    append(&second, &mut flow, portions).await;
    let head = second.state().borrow().head.get();
    let Loaded::Run(run) = second.load(RangeSet::of(1, head), 1 << 20).await.unwrap() else { panic!() };
    let mut decoded = block::decode(&run.block, &run.rows, run.first).unwrap();
    for restamp in &run.restamps {
        decoded.restamp(run.first, &restamp.seqs, restamp.shift_ns.unwrap());
    }
    let defs = second.series(0, 9).await.unwrap();
    let mut found = BTreeMap::new();
    for column in decoded.columns {
        let seconds: Vec<i64> = column.times.iter().map(|time_ns| (time_ns - NOW) / S).collect();
        found.insert(defs[usize::try_from(column.series).unwrap()].point.to_string(), seconds);
    }
    let wanted = [("flow", vec![1, 2, 3, 4]), ("flow/count", vec![0]), ("flow/sum", vec![0])];
    assert_eq!(found, wanted.map(|(point, times)| (point.to_owned(), times)).into());
}
