//! Files that were damaged, cut or left behind by a kill: a look changes nothing, a repair keeps
//! what can be kept.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_sign_loss, reason = "a test")]

use std::path::{Path, PathBuf};

use tideline_protocol::model::{DeviceId, PointId, Sample, Seq, SeriesDef};
use tideline_spool::{LookReport, OpenReport, Spool, SpoolConfig, SpoolError, VerifyReport, journal_path};

const BATCHES: i64 = 40;
const ROWS: i64 = 50;

fn append(spool: &mut Spool, batch: i64) {
    let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("flow").unwrap());
    let series = spool.series_no(&SeriesDef::new(device, point, "l/s".into())).unwrap();
    let samples = (0..ROWS).map(|row| Sample { time_ns: batch * 1_000 + row, value: (batch * row) as f64 });
    spool.append(&[(series, &samples.collect::<Vec<_>>())], &[("a", &batch.to_le_bytes())]).unwrap();
}

struct Folder {
    dir: tempfile::TempDir,
    clean: Vec<u8>,
    killed: Vec<u8>,
    clean_journal: Vec<u8>,
    killed_journal: Vec<u8>,
}

impl Folder {
    /// The bytes of a spool that was closed in order, and of the same one killed before.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool.redb");
        let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
        (0..BATCHES).for_each(|batch| append(&mut spool, batch));
        let journal = journal_path(&path);
        let (killed, killed_journal) = (std::fs::read(&path).unwrap(), std::fs::read(&journal).unwrap());
        spool.flush().unwrap();
        drop(spool);
        let (clean, clean_journal) = (std::fs::read(&path).unwrap(), std::fs::read(&journal).unwrap());
        Self { dir, clean, killed, clean_journal, killed_journal }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("spool.redb")
    }

    /// Writes the tables, with the journal of the spool that was closed in order.
    fn write(&self, bytes: &[u8]) -> PathBuf {
        self.write_both(bytes, &self.clean_journal)
    }

    fn write_both(&self, tables: &[u8], journal: &[u8]) -> PathBuf {
        std::fs::write(self.path(), tables).unwrap();
        std::fs::write(journal_path(&self.path()), journal).unwrap();
        self.path()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn bytes(&self) -> [Option<Vec<u8>>; 2] {
        [self.path(), journal_path(&self.path())].map(|path| std::fs::read(path).ok())
    }

    /// Looks, and makes sure that the folder is as it was.
    fn look(&self) -> Result<(VerifyReport, LookReport, bool), SpoolError> {
        let (before, names) = (self.bytes(), self.names());
        let found = Spool::look(&self.path(), |spool, report| {
            let verified = spool.verify()?;
            Ok((verified, report, spool.pages_are_sound()?))
        });
        assert_eq!(self.names(), names, "a look makes and renames nothing");
        assert!(self.bytes() == before, "a look writes nothing");
        found
    }
}

fn repair(path: &Path) -> (Spool, tideline_spool::RepairReport) {
    Spool::repair(path, SpoolConfig::default()).unwrap()
}

#[test]
fn a_file_that_was_closed_in_order_is_seen_whole() {
    let folder = Folder::new();
    let (verified, report, sound) = folder.look().unwrap();
    assert_eq!((verified.batches, verified.rows), (BATCHES as u64, (BATCHES * ROWS) as u64));
    assert!(verified.problems.is_empty() && report.closed_cleanly && sound);
}

#[test]
fn a_look_works_on_its_own_copy_of_what_it_changes() {
    let folder = Folder::new();
    let before = std::fs::read(folder.path()).unwrap();
    Spool::look(&folder.path(), |spool, _| {
        (0..3 * BATCHES).for_each(|batch| append(spool, batch));
        assert_eq!(spool.head(), Seq::new(4 * BATCHES as u64));
        assert!(spool.verify()?.problems.is_empty());
        Ok::<_, SpoolError>(())
    })
    .unwrap();
    assert!(std::fs::read(folder.path()).unwrap() == before);
}

#[test]
fn a_killed_spool_is_seen_as_the_next_start_would_see_it() {
    let folder = Folder::new();
    let path = folder.write_both(&folder.killed, &folder.killed_journal);
    let (verified, report, sound) = folder.look().unwrap();
    assert_eq!(verified.batches, BATCHES as u64);
    assert!(verified.problems.is_empty() && !report.closed_cleanly && sound);
    let (mut spool, report) = repair(&path);
    assert_eq!((report.closed_cleanly, report.created), (Some(false), false));
    assert!(report.given_up.is_empty() && report.quarantined.is_none());
    assert_eq!(spool.head(), Seq::new(BATCHES as u64));
    append(&mut spool, BATCHES);
}

#[test]
fn a_write_cut_in_its_middle_costs_what_was_not_durable_only() {
    let folder = Folder::new();
    let path = folder.write_both(&folder.killed, &folder.killed_journal);
    let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    append(&mut spool, BATCHES);
    let after = std::fs::read(&path).unwrap();
    drop(spool);
    // All pages of the next commit, and nothing of its header.
    let mut half = folder.killed.clone();
    half.resize(after.len(), 0);
    half[4096..].copy_from_slice(&after[4096..]);
    folder.write_both(&half, &folder.killed_journal);
    let (verified, _, sound) = folder.look().unwrap();
    assert_eq!(verified.batches, BATCHES as u64);
    assert!(verified.problems.is_empty() && sound);
}

#[test]
fn files_that_are_no_spool_are_told_and_left_as_they_are() {
    let folder = Folder::new();
    let cut = &folder.clean[..folder.clean.len() / 2];
    let mut header = folder.clean.clone();
    header[3] ^= 1;
    for (bytes, said) in
        [(&[][..], "empty"), (b"this is no database", "corrupt"), (cut, "corrupt"), (&header, "corrupt")]
    {
        let path = folder.write(bytes);
        let error = folder.look().unwrap_err();
        assert!(matches!(error, SpoolError::Corrupt(_)), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        let (spool, report) = repair(&path);
        assert!(report.created && report.unreadable.is_some());
        assert_eq!(spool.head(), Seq::new(0));
        let aside = report.quarantined.unwrap();
        assert!(std::fs::read(&aside).unwrap() == bytes, "what was put aside is whole");
        std::fs::remove_file(aside).unwrap();
    }
}

#[test]
fn flipped_bytes_anywhere_are_told_and_repaired_without_going_back() {
    let folder = Folder::new();
    let epoch = Spool::look(&folder.path(), |spool, _| Ok::<_, SpoolError>(spool.epoch())).unwrap();
    let (mut noticed, mut kept) = (0, 0);
    for at in (0..folder.clean.len()).step_by(701).filter(|at| folder.clean[*at] != 0) {
        let mut bytes = folder.clean.clone();
        bytes[at] ^= 0x11;
        let path = folder.write(&bytes);
        let seen = folder.look();
        let (spool, report) = repair(&path);
        let found = spool.verify().unwrap();
        assert!(found.problems.is_empty(), "byte {at}: {:?}", found.problems);
        if spool.epoch() == epoch {
            assert_eq!(spool.head(), Seq::new(BATCHES as u64), "byte {at}: no seq is given out twice");
            assert_eq!(found.batches, BATCHES as u64 - report.given_up.len() as u64, "byte {at}");
            kept += 1;
        } else {
            assert!(report.created && report.quarantined.is_some(), "byte {at}");
        }
        if !report.given_up.is_empty() {
            let (verified, _, sound) = seen.unwrap();
            assert!(!verified.problems.is_empty() && !sound, "byte {at}");
            noticed += 1;
        }
        drop(spool);
        for name in folder.names().iter().filter(|name| name.contains("quarantined")) {
            std::fs::remove_file(folder.dir.path().join(name)).unwrap();
        }
    }
    assert!(noticed > 0 && kept > noticed, "{noticed} {kept}");
}

#[test]
fn a_spool_whose_opening_ended_the_process_is_looked_at_first_and_then_put_aside() {
    let folder = Folder::new();
    let (clean, mark) = (folder.clean.clone(), folder.path().with_extension("opening"));
    let epoch = Spool::look(&folder.path(), |spool, _| Ok::<_, SpoolError>(spool.epoch())).unwrap();
    let damaged = {
        let mut bytes = clean.clone();
        let at = (0..bytes.len()).rev().find(|at| bytes[*at] != 0).unwrap();
        bytes[at] ^= 0x11;
        bytes
    };
    for (ended, bytes, kept) in
        [(0, &clean, true), (1, &clean, true), (1, &damaged, false), (2, &clean, false)]
    {
        let path = folder.write(bytes);
        if ended > 0 {
            std::fs::write(&mark, vec![1; ended]).unwrap();
        }
        let (spool, report) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
        assert_eq!((spool.epoch() == epoch, report.quarantined.is_none()), (kept, kept), "{ended}");
        assert!(!mark.exists(), "the next start is as any other");
    }
    // Not where somebody has it open, or where there is none yet; and a repair looks at it first as well.
    let (spool, _) = Spool::open_file(&folder.path(), SpoolConfig::default()).unwrap();
    std::fs::write(&mark, [1, 1, 1]).unwrap();
    let refused = Spool::open_file(&folder.path(), SpoolConfig::default());
    assert!(matches!(refused, Err(SpoolError::InUse)), "{refused:?}");
    drop(spool);
    std::fs::write(&mark, [1, 1]).unwrap();
    let new = folder.dir.path().join("new.redb");
    std::fs::write(new.with_extension("opening"), [1, 1]).unwrap();
    assert!(Spool::open_file(&new, SpoolConfig::default()).unwrap().1.created);
    let (spool, report) = Spool::repair(&folder.path(), SpoolConfig::default()).unwrap();
    assert!(report.quarantined.is_some() && spool.epoch() != epoch, "{report:?}");
}

#[test]
fn a_missing_file_and_one_in_use_are_left_alone() {
    let folder = Folder::new();
    let (spool, _) = Spool::open_file(&folder.path(), SpoolConfig::default()).unwrap();
    let refused = Spool::look(&folder.path(), |_, _| Ok::<_, SpoolError>(()));
    assert!(matches!(refused, Err(SpoolError::InUse)), "{refused:?}");
    assert!(matches!(Spool::repair(&folder.path(), SpoolConfig::default()), Err(SpoolError::InUse)));
    drop(spool);
    std::fs::remove_file(folder.path()).unwrap();
    let missing = Spool::look(&folder.path(), |_, _| Ok::<_, SpoolError>(())).unwrap_err();
    assert!(missing.to_string().contains("spool.redb"), "{missing}");
    assert!(Spool::repair(&folder.path(), SpoolConfig::default()).is_err());
    assert_eq!(folder.names(), ["spool.journal"]);
}

#[test]
fn two_looks_at_once_do_not_hinder_each_other_but_an_agent() {
    let folder = Folder::new();
    Spool::look(&folder.path(), |_, _| {
        Spool::look(&folder.path(), |_, _| Ok::<_, SpoolError>(()))?;
        let agent = Spool::open_file(&folder.path(), SpoolConfig::default());
        assert!(matches!(agent, Err(SpoolError::InUse)));
        Ok::<_, SpoolError>(())
    })
    .unwrap();
    assert!(Spool::open_file(&folder.path(), SpoolConfig::default()).is_ok());
}

#[test]
fn a_lost_journal_is_told_and_kept_and_no_seq_is_given_out_twice() {
    let folder = Folder::new();
    for (journal, kept) in
        [(&[][..], false), (b"no journal", true), (&vec![0; folder.killed_journal.len()], false)]
    {
        let path = folder.write_both(&folder.killed, journal);
        let looked = folder.look().unwrap().0;
        let (mut spool, report) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
        assert!(spool.head() >= Seq::new(BATCHES as u64) && !report.created);
        assert_eq!(spool.verify().unwrap(), looked);
        assert!(looked.problems[0].contains("journal is lost"), "{:?}", looked.problems);
        let gaps = spool.gaps_unconfirmed().unwrap();
        assert_eq!((gaps.len(), gaps[0].last()), (1, spool.head()));
        assert_eq!(spool.uncounted(), gaps[0].rows.seqs());
        append(&mut spool, BATCHES);
        let uncounted = spool.uncounted();
        drop(spool);
        let (spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
        assert_eq!((spool.uncounted(), spool.verify().unwrap().problems), (uncounted, vec![]));
        let aside = folder.path().with_file_name("spool.redb.quarantined-1.journal");
        assert_eq!(std::fs::read(&aside).ok().as_deref(), kept.then_some(journal));
        let _ = std::fs::remove_file(aside);
    }
}

#[test]
fn a_journal_that_was_cut_behind_its_records_costs_nothing() {
    let folder = Folder::new();
    let used = folder.killed_journal.iter().rposition(|byte| *byte != 0).unwrap();
    for len in [used + 1_024, folder.killed_journal.len() - 1] {
        let path = folder.write_both(&folder.killed, &folder.killed_journal[..len]);
        let looked = folder.look().unwrap().0;
        let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
        assert_eq!((spool.head(), spool.uncounted()), (Seq::new(BATCHES as u64), 0), "{len} bytes");
        assert_eq!(spool.account().pending, (BATCHES * ROWS) as u64);
        assert_eq!((looked.problems, spool.gaps_unconfirmed().unwrap()), (vec![], vec![]));
        assert_eq!(std::fs::metadata(journal_path(&path)).unwrap().len(), folder.killed_journal.len() as u64);
    }
}

#[test]
fn a_journal_that_was_cut_in_its_records_keeps_those_before_and_tells_of_the_rest() {
    let folder = Folder::new();
    let records = memchr::memmem::find_iter(&folder.killed_journal, b"TLJR").collect::<Vec<_>>();
    let cut = records[records.len() / 2] + 150;
    let path = folder.write_both(&folder.killed, &folder.killed_journal[..cut]);
    let looked = folder.look().unwrap().0;
    assert!(looked.problems[0].contains("cut short"), "{:?}", looked.problems);
    let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    assert!(spool.account().pending >= ((records.len() / 2) as u64 - 1) * ROWS as u64);
    assert!(spool.head() > Seq::new(BATCHES as u64) && spool.uncounted() > BATCHES as u64);
    assert_eq!(spool.account().dropped % ROWS as u64, 0, "the batch in which it was cut is counted");
    append(&mut spool, BATCHES);
    assert_eq!(spool.account().produced % ROWS as u64, 0);
}

#[test]
fn an_intact_journal_without_its_tables_is_put_aside() {
    let folder = Folder::new();
    let path = folder.write_both(b"", &folder.killed_journal);
    let (spool, report) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    assert_eq!((report.created, spool.head()), (true, Seq::new(0)));
    let mut aside = report.quarantined.unwrap().into_os_string();
    aside.push(".journal");
    assert!(std::fs::read(aside).unwrap() == folder.killed_journal);
    drop(spool);
    let (_, report) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    assert_eq!(report, OpenReport::default(), "once");
}

#[test]
fn a_flipped_byte_in_the_journal_of_a_killed_spool_costs_one_batch_at_most_and_no_count() {
    let folder = Folder::new();
    let used = folder.killed_journal.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (0..=used).step_by(97).chain([used]) {
        let mut journal = folder.killed_journal.clone();
        journal[at] ^= 0x11;
        let path = folder.write_both(&folder.killed, &journal);
        let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
        assert_eq!(spool.verify().unwrap().problems, Vec::<String>::new(), "byte {at}");
        let gaps = spool.gaps_unconfirmed().unwrap();
        let lost: u64 = gaps.iter().map(|gap| gap.rows.total()).sum();
        assert_eq!(spool.head(), Seq::new(BATCHES as u64), "byte {at}");
        assert!(lost == 0 || lost == ROWS as u64, "byte {at}: {lost}");
        assert_eq!(spool.account().produced, (BATCHES * ROWS) as u64, "byte {at}");
        assert_eq!(spool.cursor("a").unwrap(), Some((BATCHES - 1).to_le_bytes().to_vec()), "byte {at}");
    }
}

#[test]
fn damage_to_several_batches_of_the_journal_in_a_row_costs_no_count_of_any_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.redb");
    let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    let series = {
        append(&mut spool, 0);
        let (device, point) = (DeviceId::parse("pump-7").unwrap(), PointId::parse("flow").unwrap());
        spool.series_no(&SeriesDef::new(device, point, "l/s".into())).unwrap()
    };
    let rows = |seq: i64| 10 * seq;
    let block = |seq: i64| {
        let samples = (0..rows(seq)).map(|row| Sample { time_ns: row, value: (row * seq % 7) as f64 });
        samples.collect::<Vec<_>>()
    };
    for seq in 2..=7 {
        spool.append(&[(series, &block(seq))], &[]).unwrap();
    }
    let (tables, journal) = (std::fs::read(&path).unwrap(), std::fs::read(journal_path(&path)).unwrap());
    drop(spool);
    // Where the records of seqs 3 to 5 are, and the last one's batch.
    let marks: Vec<usize> = memchr::memmem::find_iter(&journal, b"TLJR").collect();
    let last = marks[marks.len() - 1];
    let mut damaged = journal.clone();
    damaged[marks[marks.len() - 5]..marks[marks.len() - 2]].iter_mut().for_each(|byte| *byte ^= 0x5a);
    damaged[last + 150] ^= 0x5a;
    std::fs::write(&path, tables).unwrap();
    std::fs::write(journal_path(&path), damaged).unwrap();
    let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    let gaps = spool.gaps_unconfirmed().unwrap();
    let found: Vec<(u64, Vec<u32>)> =
        gaps.iter().map(|gap| (gap.first.get(), gap.rows.iter().collect())).collect();
    assert_eq!(found, [(3, vec![30, 40, 50]), (7, vec![70])]);
    assert_eq!(spool.verify().unwrap().problems, Vec::<String>::new());
}

#[test]
fn tables_that_went_back_in_time_are_put_aside_with_their_journal() {
    let folder = Folder::new();
    let path = folder.write_both(&folder.killed, &folder.clean_journal);
    let (spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    drop(spool);
    let old = folder.clean.clone();
    folder.write(&old);
    let (mut spool, _) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    let epoch = spool.epoch();
    (0..2).for_each(|batch| append(&mut spool, batch));
    spool.flush().unwrap();
    append(&mut spool, 2);
    drop(spool);
    std::fs::write(&path, &old).unwrap();
    let (spool, report) = Spool::open_file(&path, SpoolConfig::default()).unwrap();
    assert!(report.created && spool.epoch() != epoch);
    assert_eq!(folder.names().len(), 4);
}
