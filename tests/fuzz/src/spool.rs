//! Damage of any kind to the files of a real spool: it always opens or is put aside, no seq is given
//! out twice without showing, what is gone is counted, and what is left is what was appended.
//!
//! Most inputs run in memory, with a journal of a few pages: files cost a dozen times as much. What only
//! files have, looking at them, repairing and putting aside, every eighth kind of input has.

use std::path::Path;
use std::sync::OnceLock;

use tempfile::TempDir;
use tideline_protocol::block;
use tideline_protocol::lives::{self, Life};
use tideline_protocol::model::{AgentId, Epoch, PointId, Sample, Seq, SeriesDef};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::value::{Boxes, Quality, Value, ValueKind};
use tideline_protocol::wire::Settlement;
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Files, Spool, SpoolConfig, SpoolError, encode_boxed, journal_path, sound};

use crate::input::Input;

const BATCHES: u64 = 24;
const ROWS: u32 = 20;
/// Most changes to the files of one input.
const CHANGES_MAX: usize = 6;
/// Where a repair is asked for, as a person or the agent would.
const REPAIRS_MAX: usize = 3;

/// Bytes of a journal in memory.
const JOURNAL_BYTES: u64 = 16 * 1024;
/// One in so many first bytes stands for files.
const FILES_ONE_IN: usize = 8;

/// A spool's two files at one moment, and what was in them.
struct Image {
    tables: Vec<u8>,
    journal: Vec<u8>,
    epoch: Epoch,
    lives: Vec<Life>,
    head: u64,
}

/// A folder in memory where there is one: every input writes two files.
pub fn scratch() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}

pub fn seeds() -> Vec<Vec<u8>> {
    // Which image, then changes: see `change`. The file's head, pages, the journal's first records.
    let images = [0_u8, 1, 2, 3, 4, 5];
    let mut all: Vec<Vec<u8>> = images.iter().map(|image| vec![*image]).collect();
    for image in images {
        for (file, at) in [(0, 0_u32), (0, 4096), (0, 9000), (0, 40_000), (1, 0), (1, 64), (1, 400)] {
            let [a0, a1, a2, _] = at.to_le_bytes();
            all.extend((0..8).map(|kind| vec![image, file | kind << 1, a0, a1, a2, 0x11, 3]));
        }
    }
    all
}

/// The first byte is the image and whether it is in files, then come changes.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let which = usize::from(input.byte());
    let [in_files, in_memory] = images();
    let images = if which / in_files.len() % FILES_ONE_IN == 0 { in_files } else { in_memory };
    let image = &images[which % images.len()];
    let mut files = [image.tables.clone(), image.journal.clone()];
    let mut gone = [false; 2];
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        change(&mut files, &mut gone, images, &mut input);
    }
    for (file, gone) in files.iter_mut().zip(gone) {
        if gone {
            file.clear();
        }
    }
    if std::ptr::eq(images, in_memory) {
        return check_in_memory(files, image);
    }
    let folder = scratch().expect("a folder");
    let path = folder.path().join("spool.redb");
    for ((bytes, path), gone) in files.iter().zip([path.clone(), journal_path(&path)]).zip(gone) {
        if !gone {
            std::fs::write(path, bytes).expect("a file");
        }
    }
    check(&path, image);
}

fn open_in_memory(disk: &CrashBackend, life: u8) -> Result<Spool, SpoolError> {
    let files = Files::from(disk.clone()).with_journal_bytes(JOURNAL_BYTES);
    Spool::open(files, SpoolConfig::default(), [life; 16])
}

/// What is corrupt there would be put aside, or repaired: both need files.
fn check_in_memory(files: [Vec<u8>; 2], image: &Image) {
    let disk = CrashBackend::holding(files);
    match sound(|| open_in_memory(&disk, 0x40)) {
        Ok(mut spool) => {
            match sound(|| work(&mut spool, image)) {
                // What was written is there after a kill.
                Ok(()) => {
                    let (head, account) = (spool.head(), spool.account());
                    let after = disk.kill();
                    match sound(|| open_in_memory(&after, 0x41)) {
                        Ok(again) => {
                            assert_eq!((again.head(), again.account()), (head, account), "after a kill");
                        }
                        // Now redb goes through all pages, and meets damage that nobody had read.
                        Err(SpoolError::Corrupt(_)) => {}
                        Err(error) => panic!("it does not open after a kill: {error}"),
                    }
                }
                Err(SpoolError::Corrupt(_) | SpoolError::Storage(_) | SpoolError::Block(_)) => {}
                Err(error) => panic!("it does not work: {error}"),
            }
            balanced(&spool);
            let _damaged = sound(|| {
                drop(spool);
                Ok::<_, SpoolError>(())
            });
        }
        Err(SpoolError::Corrupt(_) | SpoolError::Format { .. }) => {}
        Err(error) => panic!("it does not open: {error}"),
    }
}

fn change(files: &mut [Vec<u8>; 2], gone: &mut [bool; 2], images: &[Image], input: &mut Input<'_>) {
    let kind = input.byte();
    let which = usize::from(kind & 1);
    let file = &mut files[which];
    let [a0, a1, a2] = input.array();
    let at = usize::try_from(u32::from_le_bytes([a0, a1, a2, 0])).unwrap_or(0) % file.len().max(1);
    let (value, len) = (input.byte(), usize::from(input.byte()));
    let end = (at + len * 16 + 1).min(file.len());
    match kind >> 1 & 7 {
        0 => file.get_mut(at).into_iter().for_each(|byte| *byte ^= value | 1),
        1 => file.get_mut(at..end).unwrap_or_default().fill(value),
        2 => file.truncate(at),
        3 => file.resize(file.len() + len * 64, value),
        4 => gone[which] = true,
        // A page that landed at another one's place.
        5 if !file.is_empty() => {
            let page = |offset: usize| offset / 4096 * 4096;
            let (from, to) = (page(at), page(usize::from(value) * 4096 % file.len()));
            let bytes = file[from..(from + 4096).min(file.len())].to_vec();
            file.iter_mut().skip(to).zip(bytes).for_each(|(to, from)| *to = from);
        }
        // A file of another time, or of another spool.
        6 => {
            let other = &images[usize::from(value) % images.len()];
            *file = if which == 0 { other.tables.clone() } else { other.journal.clone() };
        }
        _ => file.clear(),
    }
}

fn check(path: &Path, image: &Image) {
    // A look first: it writes nothing, whatever it finds.
    let _seen = sound(|| Spool::look(path, |spool, _| spool.verify().map(drop)));
    let (mut spool, report) = match sound(|| Spool::open_file(path, SpoolConfig::default())) {
        Ok(opened) => opened,
        // Another version's, for all that anybody can tell: the agent leaves it as it is.
        Err(SpoolError::Format { .. }) => return,
        Err(error) => panic!("it does not open: {error}"),
    };
    assert!(report.quarantined.is_none_or(|aside| aside.exists()), "what was put aside is not there");
    for repairs in 0.. {
        match sound(|| work(&mut spool, image)) {
            Ok(()) => break,
            Err(error) => {
                assert!(repairs < REPAIRS_MAX, "no repair helps: {error}");
                drop(spool);
                let repaired = sound(|| Spool::repair(path, SpoolConfig::default()));
                spool = repaired.unwrap_or_else(|error| panic!("it cannot be repaired: {error}")).0;
                let found =
                    sound(|| spool.verify()).unwrap_or_else(|error| panic!("after a repair: {error}"));
                assert!(found.problems.is_empty(), "after a repair: {:?}", found.problems);
            }
        }
    }
    balanced(&spool);
}

fn balanced(spool: &Spool) {
    let account = spool.account();
    assert!(account.balances(), "INV-4: {account:?}");
}

/// What an agent does with a spool: read what is pending, append, settle, close.
fn work(spool: &mut Spool, image: &Image) -> Result<(), SpoolError> {
    balanced(spool);
    let ours = spool.epoch() == image.epoch;
    let (before, first) = (spool.account(), spool.head().get() + 1);
    if ours {
        told_apart(spool, image);
    }
    read_back(spool, ours.then_some(image))?;
    for number in 0..3 {
        append(spool, 1_000 + number)?;
    }
    assert_eq!(spool.head().get(), first + 2, "a seq was left out");
    let produced = spool.account().produced;
    assert_eq!(produced, before.produced + 3 * u64::from(ROWS), "appended rows are not counted");
    spool.flush()?;
    let gaps = spool.gaps_unconfirmed()?;
    let dropped: u64 = gaps.iter().map(|gap| gap.rows.total()).sum();
    assert!(dropped <= spool.account().dropped, "gaps of {dropped} rows, {:?}", spool.account());
    let head = spool.head();
    let stored = RangeSet::of(first, head.get());
    spool.settle(&Settlement { stored, ..Settlement::default() })?;
    spool.flush()?;
    balanced(spool);
    Ok(())
}

/// A seq that was given out before for other readings is in another life, so that the hub sees it.
fn told_apart(spool: &Spool, image: &Image) {
    let next = spool.head().get() + 1;
    if next > image.head {
        return;
    }
    let held = RangeSet::of(1, image.head);
    let at = lives::parted(&image.lives, spool.lives(), &held).map(Seq::get);
    assert!(
        at.is_some_and(|at| at <= next),
        "seq {next} is given out again, up to {} there were some, and nobody sees it: {at:?}, {:?} and {:?}",
        image.head,
        image.lives,
        spool.lives()
    );
}

/// All that is pending can be loaded or is a gap, and is what was appended.
fn read_back(spool: &mut Spool, image: Option<&Image>) -> Result<(), SpoolError> {
    let pending = spool.pending().clone();
    for (lo, hi) in pending.iter() {
        let mut next = lo;
        while next <= hi {
            match spool.load_run(Seq::new(next), Seq::new(hi), usize::MAX, u64::MAX)? {
                Some(run) => {
                    let decoded = block::decode(&run.block, &run.rows, Seq::new(next))?;
                    let end = next + run.rows.seqs();
                    assert!(end > next, "a run of nothing");
                    if image.is_some_and(|image| end - 1 <= image.head) {
                        let words = decoded.columns.iter().flat_map(|column| &column.values);
                        let values = words.map(|word| decoded.boxes.value(*word, ValueKind::Float));
                        let wanted = (next..end).flat_map(|seq| (0..ROWS).map(move |row| value(seq, row)));
                        assert!(values.eq(wanted), "seqs {next}..{end} are not what was appended");
                    }
                    next = end;
                }
                None => next = spool.gone_through(Seq::new(next), Seq::new(hi)).get() + 1,
            }
        }
    }
    Ok(())
}

/// A number, but for some that are texts, great integers or of doubtful quality.
fn value(seq: u64, row: u32) -> (Value, Quality) {
    let number = Value::Float(seq as f64 * 100.0 + f64::from(row) / 4.0);
    match (seq + u64::from(row)) % 12 {
        3 => (Value::Text(format!("state {}", seq % 3).into()), Quality::Good),
        5 => (Value::Int(i64::MAX - i64::from(row)), Quality::Uncertain),
        7 => (Value::Null, Quality::Good),
        9 => (number, Quality::Bad),
        _ => (number, Quality::Good),
    }
}

fn append(spool: &mut Spool, seq: u64) -> Result<(), SpoolError> {
    let device = AgentId::parse("pump-7").expect("a sound id").own_device();
    let point = PointId::parse("flow").expect("a sound id");
    let series = spool.series_no(&SeriesDef::new(device, point, "l/s".into()))?;
    let time = i64::try_from(seq).unwrap_or(0) * 1_000;
    let mut boxes = Boxes::new();
    let sample = |row| {
        let (value, quality) = value(seq, row);
        Sample { time_ns: time + i64::from(row), value: boxes.word(value, quality) }
    };
    let samples: Vec<Sample> = (0..ROWS).map(sample).collect();
    let batch = encode_boxed(&[(series, &samples)], &boxes)?;
    spool.append_encoded(&batch, &[("source", &seq.to_le_bytes())]).map(drop)
}

/// Three moments of one spool: killed with records in its journal, after another start and with gaps
/// and settlements, and closed in order.
fn images() -> [&'static [Image]; 2] {
    static IMAGES: OnceLock<[Vec<Image>; 2]> = OnceLock::new();
    let grown = || [grow_in_files().expect("a sound spool"), grow_in_memory().expect("a sound spool")];
    IMAGES.get_or_init(grown).each_ref().map(Vec::as_slice)
}

fn grow_in_files() -> Result<Vec<Image>, SpoolError> {
    let folder = scratch().map_err(|error| SpoolError::Storage(error.to_string()))?;
    let path = folder.path().join("spool.redb");
    let read = |path: &Path| std::fs::read(path).map_err(|error| SpoolError::Storage(error.to_string()));
    grow(
        || Spool::open_file(&path, SpoolConfig::default()).map(|(spool, _)| spool),
        || Ok([read(&path)?, read(&journal_path(&path))?]),
    )
}

fn grow_in_memory() -> Result<Vec<Image>, SpoolError> {
    let (disk, mut life) = (CrashBackend::new(), 0);
    let open = || {
        life += 1;
        open_in_memory(&disk, life)
    };
    grow(open, || Ok(disk.contents()))
}

/// The files while some batches are in the journal, with more in both, and after a clean stop.
fn grow(
    mut open: impl FnMut() -> Result<Spool, SpoolError>,
    read: impl Fn() -> Result<[Vec<u8>; 2], SpoolError>,
) -> Result<Vec<Image>, SpoolError> {
    let mut images = Vec::new();
    let mut spool = open()?;
    (1..=BATCHES / 2).try_for_each(|seq| append(&mut spool, seq))?;
    images.push(image(&spool, read()?));
    drop(spool);
    spool = open()?;
    let stored = RangeSet::of(1, BATCHES / 4);
    spool.settle(&Settlement { stored, ..Settlement::default() })?;
    spool.flush()?;
    (BATCHES / 2 + 1..=BATCHES).try_for_each(|seq| append(&mut spool, seq))?;
    images.push(image(&spool, read()?));
    spool.flush()?;
    drop(spool);
    spool = open()?;
    let mut closed = image(&spool, [Vec::new(), Vec::new()]);
    drop(spool);
    [closed.tables, closed.journal] = read()?;
    images.push(closed);
    Ok(images)
}

fn image(spool: &Spool, [tables, journal]: [Vec<u8>; 2]) -> Image {
    Image { tables, journal, epoch: spool.epoch(), lives: spool.lives().to_vec(), head: spool.head().get() }
}
