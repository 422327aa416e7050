//! The worker by itself: what it does when the spool fails it, and what it does at once.

use std::sync::{Arc, Mutex};

use tideline_protocol::block;
use tideline_protocol::model::{Class, DeviceId, PointId, RowCounts};
use tideline_protocol::value::{Boxes, NULL, Quality, Value, ValueKind};
use tideline_spool::testing::CrashBackend;

use super::*;

fn worker(mut open: impl FnMut(Occasion) -> Result<Spool, SpoolError> + Send + 'static) -> Worker {
    let spool = open(Occasion::Plain).unwrap();
    let (publish, _) = watch::channel(state_of(&spool));
    let (occasion, board) = (Occasion::Plain, Board::default());
    let (open, doubts) = (Box::new(open), Doubts::default());
    Worker { spool: Some(spool), occasion, open, board, publish, doubts }
}

fn on(disk: &CrashBackend, quota_bytes: u64) -> Worker {
    let disk = disk.clone();
    worker(move |_| Spool::open(disk.clone(), SpoolConfig { quota_bytes, ..SpoolConfig::default() }, [1; 16]))
}

fn def(point: &str) -> SeriesDef {
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse(point).unwrap());
    SeriesDef::new(device, point, String::new())
}

/// Values that nothing packs.
fn noise(rows: u32) -> Vec<Sample> {
    let value = |row: u32| f64::from(row.wrapping_mul(2_654_435_761)).sin();
    (0..rows).map(|row| Sample { time_ns: i64::from(row), value: value(row) }).collect()
}

type Told = oneshot::Receiver<Result<Appended, SpoolError>>;

fn append(rows: u32, position: u8) -> (Append, Told) {
    let positions = vec![("a".to_owned(), vec![position])];
    let portion = Portion { rows: vec![(def("flow"), noise(rows))], positions, ..Portion::default() };
    let (answer, told) = oneshot::channel();
    (
        Append {
            stream: DEFAULT_STREAM.into(),
            portions: vec![Arc::new(portion)],
            rows_max: RUN_ROWS_MAX,
            answer,
        },
        told,
    )
}

/// Lets the worker find all of them waiting.
fn run(worker: Worker, requests: impl IntoIterator<Item = Request>) {
    let (queue, inbox) = mpsc::channel(QUEUE_MAX);
    requests.into_iter().for_each(|request| queue.try_send(request).unwrap_or_else(|_| panic!("full")));
    drop(queue);
    worker.run(inbox);
}

#[test]
fn what_contradicts_itself_is_repaired_and_a_panic_is_no_end() {
    let occasions = Arc::new(Mutex::new(Vec::new()));
    let (disk, seen) = (CrashBackend::new(), Arc::clone(&occasions));
    let open = move |occasion| {
        seen.lock().unwrap().push(occasion);
        Spool::open(disk.crash(), SpoolConfig::default(), [1; 16])
    };
    let mut worker = worker(open);
    let mut ask = |work: fn(&mut Spool) -> Result<u8, SpoolError>| {
        let (answer, mut wait) = oneshot::channel();
        worker.answer(answer, work);
        wait.try_recv().unwrap()
    };
    assert!(matches!(ask(|_| Err(SpoolError::Corrupt("a page".into()))), Err(SpoolError::Corrupt(_))));
    assert_eq!(ask(|_| Ok(1)).unwrap(), 1);
    assert!(matches!(ask(|_| panic!("as redb does on some damaged pages")), Err(SpoolError::Corrupt(_))));
    assert_eq!(ask(|_| Ok(2)).unwrap(), 2);
    assert!(ask(|_| Err(SpoolError::Storage("the disk".into()))).is_err());
    assert_eq!(ask(|_| Ok(3)).unwrap(), 3);
    assert!(ask(|_| Err(SpoolError::Unsynced("the disk".into()))).is_err());
    assert_eq!(ask(|_| Ok(4)).unwrap(), 4);
    let expected =
        [Occasion::Plain, Occasion::Damaged, Occasion::Damaged, Occasion::Plain, Occasion::Unsynced];
    assert_eq!(*occasions.lock().unwrap(), expected);
}

#[test]
fn a_spool_is_unsynced_until_it_could_be_opened_as_such() {
    let occasions = Arc::new(Mutex::new(Vec::new()));
    let (disk, seen) = (CrashBackend::new(), Arc::clone(&occasions));
    let open = move |occasion| {
        seen.lock().unwrap().push(occasion);
        // The third time the disk fails another sync, and once more it does not answer at all.
        match seen.lock().unwrap().len() {
            2 => Err(SpoolError::Unsynced("the disk".into())),
            3 => Err(SpoolError::Storage("the disk".into())),
            _ => Spool::open(disk.crash(), SpoolConfig::default(), [1; 16]),
        }
    };
    let mut worker = worker(open);
    for answers in [Some(SpoolError::Storage("the disk".into())), None, None, None] {
        let (answer, _wait) = oneshot::channel();
        worker.answer(answer, |_| answers.map_or(Ok(()), Err));
    }
    let expected = [Occasion::Plain, Occasion::Plain, Occasion::Unsynced, Occasion::Unsynced];
    assert_eq!(*occasions.lock().unwrap(), expected);
    assert!(worker.spool.is_some() && worker.occasion == Occasion::Plain);
}

#[test]
fn appends_that_wait_together_are_one_write_and_each_is_told() {
    let disk = CrashBackend::new();
    let worker = on(&disk, 1 << 28);
    let board = worker.board.clone();
    let ((first, told_1), (second, told_2), (third, told_3)) = (append(5, 1), append(6, 2), append(7, 3));
    // New series are for the tables; only then the journal is used.
    let (known, told_0) = append(1, 0);
    let (answer, asked) = oneshot::channel();
    let cursor = Request::Cursor("a".into(), answer);
    let (answer, settled) = oneshot::channel();
    let between = Request::Settle(Settlement::default(), answer);
    let requests = [known].map(Request::Append).into_iter().chain([between]);
    let requests = requests.chain([first, second].map(Request::Append)).chain([cursor]);
    run(worker, requests.chain([Request::Append(third)]));
    for (mut told, head) in [(told_0, 1), (told_1, 3), (told_2, 3), (told_3, 4)] {
        assert_eq!(told.try_recv().unwrap().unwrap(), Appended { head: Seq::new(head), ..appended() });
    }
    let ((), cursor) = (settled.blocking_recv().unwrap().unwrap(), asked.blocking_recv().unwrap().unwrap());
    assert_eq!(cursor, Some(vec![2]), "what came between appends is answered in its turn");
    assert_eq!(board.read().account.produced, 19);
    assert_eq!(disk.journal().find(b"TLJR").len(), 2, "one record for two appends, one for the third");
}

fn appended() -> Appended {
    Appended { head: Seq::new(0), rejected: std::collections::HashSet::new() }
}

#[test]
fn one_that_cannot_be_stored_does_not_take_the_others_with_it() {
    let disk = CrashBackend::new();
    let worker = on(&disk, 20_000);
    let board = worker.board.clone();
    let ((small, mut told), (big, mut refused), (last, mut told_last)) =
        (append(10, 1), append(10_000, 2), append(20, 3));
    run(worker, [small, big, last].map(Request::Append));
    assert_eq!(told.try_recv().unwrap().unwrap().head, Seq::new(1));
    let refused = refused.try_recv().unwrap();
    assert!(matches!(refused, Err(SpoolError::OverQuota { quota_bytes: 20_000, .. })), "{refused:?}");
    assert_eq!(told_last.try_recv().unwrap().unwrap().head, Seq::new(2));
    assert_eq!(board.read().account.produced, 30);
}

#[test]
fn when_the_storage_fails_all_that_were_to_be_written_together_are_told() {
    let disk = CrashBackend::new();
    let worker = on(&disk, 1 << 28);
    disk.fail_writes();
    let (appends, told): (Vec<_>, Vec<_>) = (1..=3).map(|n| append(5, n)).unzip();
    run(worker, appends.into_iter().map(Request::Append));
    for mut told in told {
        let told = told.try_recv().unwrap();
        assert!(
            matches!(&told, Err(SpoolError::Storage(reason)) if reason.contains("fails writes")),
            "{told:?}"
        );
    }
    let spool = Spool::open(disk.crash(), SpoolConfig::default(), [1; 16]).unwrap();
    assert_eq!((spool.account().produced, spool.cursor("a").unwrap()), (0, None));
}

#[test]
fn what_is_too_much_for_one_batch_is_several_in_time_order() {
    let disk = CrashBackend::new();
    let mut worker = on(&disk, 1 << 28);
    let sample = |time_ns, value| Sample { time_ns, value };
    let flow = vec![sample(5, 1.0), sample(1, 2.0), sample(5, 3.0), sample(9, 4.0)];
    let level = vec![sample(2, 5.0), sample(5, 6.0), sample(8, 7.0)];
    // A series comes again with a later chunk.
    let rows = vec![(def("flow"), flow), (def("level"), level), (def("flow"), vec![sample(3, 8.0)])];
    let (answer, mut told) = oneshot::channel();
    let portions = vec![Arc::new(Portion { rows, ..Portion::default() })];
    worker.append(vec![Append { stream: DEFAULT_STREAM.into(), portions, rows_max: 3, answer }]);
    assert_eq!(told.try_recv().unwrap().unwrap().head, Seq::new(3));
    let spool = worker.spool.as_mut().unwrap();
    let batch = |seq: u64| {
        let seq = Seq::new(seq);
        let run = spool.load_run(seq, seq, 1 << 20, 100).unwrap().unwrap();
        let columns = block::decode(&run.block, &run.rows, seq).unwrap().columns;
        columns.into_iter().map(|column| (column.series, column.times, column.values)).collect::<Vec<_>>()
    };
    let batches: Vec<_> = [1, 2, 3].map(batch).into_iter().collect();
    assert_eq!(batches[0], [(0, vec![1, 3], vec![2.0, 8.0]), (1, vec![2], vec![5.0])]);
    assert_eq!(batches[1], [(0, vec![5, 5], vec![1.0, 3.0]), (1, vec![5], vec![6.0])]);
    assert_eq!(batches[2], [(0, vec![9], vec![4.0]), (1, vec![8], vec![7.0])]);
}

#[test]
fn an_append_goes_to_several_streams_as_one() {
    let disk = CrashBackend::new();
    let mut worker = worker(move |_| {
        let mut spool = Spool::open(disk.clone(), SpoolConfig::default(), [1; 16])?;
        let fast = StreamConfig { name: "fast".into(), class: Class::Alarm, ..StreamConfig::default() };
        spool.stream(&fast).map(|_| spool)
    });
    let portion = |stream: Option<&str>, rows| {
        let positions = vec![("a".to_owned(), vec![u8::try_from(rows).unwrap()])];
        let rows = vec![(def("flow"), noise(rows))];
        Arc::new(Portion { rows, positions, stream: stream.map(Into::into), ..Portion::default() })
    };
    let (answer, mut told) = oneshot::channel();
    let portions = vec![portion(None, 3), portion(Some("fast"), 2), portion(Some(DEFAULT_STREAM), 1)];
    let (stream, rows_max) = (DEFAULT_STREAM.into(), 1_000);
    worker.append(vec![Append { stream, portions, rows_max, answer }]);
    assert_eq!(told.try_recv().unwrap().unwrap().head, Seq::new(2), "one batch for each stream");
    let spool = worker.spool.as_mut().unwrap();
    let rows = |seq| spool.load_run(Seq::new(seq), Seq::new(seq), 1 << 20, 100).unwrap().unwrap().rows;
    let mut both = [1, 2].map(rows).map(|rows| rows.total());
    both.sort_unstable();
    assert_eq!(both, [2, 4]);
    assert_eq!(worker.spool.as_ref().unwrap().urgent().alarm.len(), 1);
    assert_eq!(worker.spool.as_ref().unwrap().cursor("a").unwrap(), Some(vec![1]));
}

#[test]
fn too_many_bytes_for_one_batch_are_several() {
    let disk = CrashBackend::new();
    let mut worker = on(&disk, 1 << 28);
    let (all, mut told) = append(600_000, 1);
    worker.append(vec![all]);
    assert_eq!(told.try_recv().unwrap().unwrap().head, Seq::new(2));
    let spool = worker.spool.as_mut().unwrap();
    assert_eq!(spool.account().produced, 600_000);
    let run = spool.load_run(Seq::new(2), Seq::new(2), 1, 1).unwrap().unwrap();
    assert_eq!(run.rows, RowCounts::one(300_000));
}

/// All readings of the spool: series, time, value, quality.
fn held(spool: &mut Spool, kind: ValueKind) -> Vec<(u32, i64, Value, Quality)> {
    let head = spool.head();
    let run = spool.load_run(Seq::FIRST, head, 1 << 20, 100).unwrap().unwrap();
    let decoded = block::decode(&run.block, &run.rows, run.first).unwrap();
    let rows = decoded.columns.iter().flat_map(|column| {
        let rows = column.times.iter().zip(&column.values);
        rows.map(|(time_ns, word)| {
            let (value, quality) = decoded.boxes.value(*word, kind);
            (column.series, *time_ns, value, quality)
        })
    });
    rows.collect()
}

#[test]
fn portions_with_tables_of_their_own_share_batches_and_keep_their_values() {
    for rows_max in [RUN_ROWS_MAX, 2] {
        let disk = CrashBackend::new();
        let mut worker = on(&disk, 1 << 28);
        let portion = |start: i64, texts: &[&str]| {
            let mut boxes = Boxes::new();
            let texts = texts.iter().map(|text| boxes.word(Value::Text((*text).into()), Quality::Uncertain));
            let samples = texts.zip(start..).map(|(value, time_ns)| Sample { time_ns, value }).collect();
            Arc::new(Portion { rows: vec![(def("state"), samples)], boxes, ..Portion::default() })
        };
        // One without a table, whose NaN looks like a word of the others' tables.
        let mut foreign = Boxes::new();
        let value = foreign.word(Value::Text("foreign".into()), Quality::Good);
        let samples = vec![Sample { time_ns: 9, value }, Sample { time_ns: 10, value: NULL }];
        let plain = Arc::new(Portion { rows: vec![(def("state"), samples)], ..Portion::default() });
        let portions = vec![portion(1, &["on", "off", "on"]), portion(4, &["off", "idle"]), plain];
        let (answer, mut told) = oneshot::channel();
        worker.append(vec![Append { stream: DEFAULT_STREAM.into(), portions, rows_max, answer }]);
        let head = told.try_recv().unwrap().unwrap().head;
        assert_eq!(head, Seq::new(if rows_max == 2 { 4 } else { 1 }));
        let text = |time_ns, text: &str| (0, time_ns, Value::Text(text.into()), Quality::Uncertain);
        let null = |time_ns| (0, time_ns, Value::Null, Quality::Good);
        let wanted = [
            text(1, "on"),
            text(2, "off"),
            text(3, "on"),
            text(4, "off"),
            text(5, "idle"),
            null(9),
            null(10),
        ];
        assert_eq!(held(worker.spool.as_mut().unwrap(), ValueKind::Text), wanted);
    }
}

#[test]
fn texts_of_too_many_bytes_for_one_batch_are_several() {
    let disk = CrashBackend::new();
    let mut worker = on(&disk, 1 << 28);
    let mut boxes = Boxes::new();
    let texts = (0..1_200).map(|n| boxes.word(Value::Text(format!("{n:04000}").into()), Quality::Good));
    let samples = texts.zip(0..).map(|(value, time_ns)| Sample { time_ns, value }).collect();
    let portion = Portion { rows: vec![(def("state"), samples)], boxes, ..Portion::default() };
    let (answer, mut told) = oneshot::channel();
    let portions = vec![Arc::new(portion)];
    worker.append(vec![Append { stream: DEFAULT_STREAM.into(), portions, rows_max: RUN_ROWS_MAX, answer }]);
    assert_eq!(told.try_recv().unwrap().unwrap().head, Seq::new(2));
    assert_eq!(worker.spool.as_mut().unwrap().account().produced, 1_200);
}
