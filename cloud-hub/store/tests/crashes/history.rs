//! A store on a disk of the test, what was done with it, and what it has promised since.

mod names;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tideline_protocol::model::{RowCounts, Seq};
use tideline_protocol::time::{Clock as _, ManualClock};
use tideline_store::buckets::{DAY_NS, MINUTE_NS};
use tideline_store::{FileSystem as _, Store, StoreConfig, StoreError, verify_on};

use crate::actions::Action;
use crate::batches::{EPOCH, agent, batch, gap, run, wait};
use crate::changes::Node;
use crate::disk::Disk;
use crate::reference::{Item, Row, Ways, What, check, check_cold, retention, rules};

const DIR: &str = "/data/store";
/// So often a step is tried on a disk that fails.
const ATTEMPTS: usize = 100;
/// When a history begins: 2026-03-02.
pub const T0: i64 = 20_514 * DAY_NS;

/// What had been promised when so much of the disk had changed.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    changes: usize,
    /// So many items were acknowledged.
    acked: usize,
    /// So many items were on their way to the store, or there.
    begun: usize,
    /// The dictionaries were acknowledged.
    defined: bool,
    /// Whether a series was another; none while that was being changed.
    aside: Option<bool>,
    /// Retention had begun.
    retained: bool,
    /// Readings that are given up go to the cold tier.
    freezes: bool,
    ways: Ways,
    now_ns: i64,
}

pub struct World {
    pub disk: Disk,
    /// What was on the disk at the beginning.
    pub before: Vec<Node>,
    pub marks: Vec<Mark>,
    pub items: Vec<Item>,
    clock: Arc<ManualClock>,
    store: Option<Store>,
    mark: Mark,
    held: Vec<Item>,
    next: [u64; 2],
    aside: bool,
    backups: usize,
    rng: StdRng,
}

impl World {
    /// A new store.
    pub fn new(seed: u64) -> Self {
        Self::keeping(seed, false)
    }

    /// A new store, with a cold tier where it `freezes`.
    pub fn keeping(seed: u64, freezes: bool) -> Self {
        let disk = Disk::new();
        disk.create_dir_all(Path::new("/data")).unwrap();
        let disk = Disk::holding(disk.nodes());
        let (defined, retained) = (false, false);
        let (changes, acked, begun, aside, now_ns) = (0, 0, 0, Some(false), T0);
        let ways = Ways::of(seed);
        let mark = Mark { changes, acked, begun, defined, aside, retained, freezes, ways, now_ns };
        Self::on(disk, vec![], mark, seed)
    }

    fn on(disk: Disk, items: Vec<Item>, mark: Mark, seed: u64) -> Self {
        let (before, clock) = (disk.nodes(), Arc::new(ManualClock::at(mark.now_ns)));
        let next = [0, 1].map(|no| {
            items.iter().filter(|item| item.agent == no).map(|item| item.seq).max().map_or(1, |last| last + 1)
        });
        let (mark, rng) = (Mark { changes: 0, ..mark }, StdRng::seed_from_u64(seed));
        let (marks, held) = (vec![mark], Vec::new());
        Self {
            disk,
            before,
            marks,
            items,
            clock,
            store: None,
            mark,
            held,
            next,
            aside: false,
            backups: 0,
            rng,
        }
    }

    /// The store as it is found on a disk that was cut off at a mark. All that was acknowledged is there, once.
    pub fn after(disk: Disk, items: &[Item], mark: Mark, seed: u64) -> Self {
        let mut world = Self::on(disk, items[..mark.begun].to_vec(), mark, seed);
        world.open().unwrap();
        world.recognize();
        world
    }

    /// What is promised now.
    pub fn promise(&self) -> Mark {
        self.mark
    }

    /// What was promised when so much of the disk had changed.
    pub fn promised(&self, changes: usize) -> Mark {
        let newer = self.marks.partition_point(|mark| mark.changes <= changes);
        self.marks[newer - 1]
    }

    fn note(&mut self) {
        self.mark.changes = self.disk.changed();
        self.mark.now_ns = self.clock.wall_ns();
        self.marks.push(self.mark);
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn config(&self) -> StoreConfig {
        let mut config = StoreConfig::new(DIR);
        config.flush_interval = Duration::from_secs(100 * 3600);
        config.log_retry_min = Duration::from_secs(100 * 3600);
        config.check_files_on_open = true;
        config.compact = false;
        config.retention = retention(self.mark.freezes, self.mark.ways.profiled);
        config.revised_by = self.mark.ways.revised_by();
        config.files = Arc::new(self.disk.clone());
        config
    }

    /// Opens the store and signs the agents on.
    pub fn open(&mut self) -> Result<(), StoreError> {
        let log = Path::new(DIR).join("log");
        let mut segments = self.disk.list(&log).unwrap_or_default();
        // One that could not be begun is empty.
        segments.retain(|path| self.disk.stat(path).is_ok_and(|stat| stat.len > 0));
        let newest = segments.into_iter().max();
        let (store, report) = Store::open(self.config(), Arc::clone(&self.clock) as _)?;
        for aside in &report.quarantined {
            // The end of what was being written.
            assert!(
                Some(&aside.path) == newest.as_ref(),
                "put aside: {} {}",
                aside.path.display(),
                aside.reason
            );
        }
        rules().iter().for_each(|(device, rules)| store.tell_keeps(device, rules));
        store.settle()?;
        for no in 0..2 {
            let state = store.agent_state(&agent(no), EPOCH);
            assert!(!self.mark.defined || state.series_known == 3, "the dictionary is gone");
        }
        self.aside = names::is_aside(&store);
        assert!(self.mark.aside.is_none_or(|aside| aside == self.aside), "a name is gone");
        self.store = Some(store);
        self.define()?;
        (self.mark.defined, self.mark.aside) = (true, Some(self.aside));
        self.note();
        Ok(())
    }

    /// Which items are there; of the others none was acknowledged, and they come again.
    pub fn recognize(&mut self) {
        let states = [0, 1].map(|no| self.store().agent_state(&agent(no), EPOCH).settled);
        let mut known = 0;
        for (at, item) in std::mem::take(&mut self.items).into_iter().enumerate() {
            let (settled, seq) = (&states[item.agent], item.seq);
            let there = [&settled.stored, &settled.refused, &settled.dropped].map(|set| set.contains(seq));
            let expected = match item.what {
                What::Rows(_) => [true, false, false],
                What::Letter(_) => [false, true, false],
                What::Gap(_) => [false, false, true],
            };
            if there == expected {
                self.items.push(item);
            } else {
                let who = format!("{} {seq} is {there:?}", agent(item.agent));
                assert!(at >= self.mark.acked, "{who}, and was acknowledged as {expected:?}");
                assert_eq!(there, [false; 3], "{who}");
                self.held.push(item);
            }
            known = at + 1;
        }
        assert!(known >= self.mark.acked);
        let settled: u64 = states.iter().map(|state| state.all().len()).sum();
        assert_eq!(settled, self.items.len() as u64, "nothing else is there");
        (self.mark.acked, self.mark.begun) = (self.items.len(), self.items.len());
        self.note();
    }

    fn seq(&mut self, agent: usize) -> u64 {
        let seq = self.next[agent];
        self.next[agent] += 1;
        seq
    }

    /// Few distinct times, so that they repeat, arrive late and out of order.
    fn rows(&mut self) -> Vec<Row> {
        let (now, rng) = (self.clock.wall_ns(), &mut self.rng);
        let rows = rng.random_range(1..12);
        let row = |_| {
            let late = [90, 90, 4_000, 40_000][rng.random_range(0..4)];
            let ago = rng.random_range(0..late) * MINUTE_NS + rng.random_range(0..3) * 20_000_000_000;
            (rng.random_range(0..3), now - ago, rng.random_range(-50..50))
        };
        (0..rows).map(row).collect()
    }

    fn dense(&mut self) -> Vec<Row> {
        let now = self.clock.wall_ns();
        let (no, step) = (self.rng.random_range(0..3), self.rng.random_range(3..9) * 1_000_000_000);
        (0..1_500).map(|n| (no, now - n * step, (n % 41) as i32)).collect()
    }

    fn fresh(&mut self, agent: usize) -> Item {
        Item { agent, seq: self.seq(agent), what: What::Rows(self.rows()), aside: false }
    }

    /// Sends items of one agent with consecutive seqs as a run, behind seqs that are known.
    fn send(&mut self, known: usize, new: Vec<Item>) -> Result<(), StoreError> {
        let (no, first) = (new[0].agent, new[0].seq);
        let mut all: Vec<Item> = Vec::new();
        for seq in first.saturating_sub(known as u64).max(1)..first {
            let found = self.items.iter().find(|item| (item.agent, item.seq) == (no, seq));
            let rows = found.filter(|item| matches!(item.what, What::Rows(_)));
            // A run is of consecutive seqs.
            all = rows.map_or_else(Vec::new, |item| [all, vec![item.clone()]].concat());
        }
        all.extend(new.iter().cloned());
        let rows: Vec<&[Row]> = all
            .iter()
            .map(|item| match &item.what {
                What::Rows(rows) => &rows[..],
                What::Letter(_) | What::Gap(_) => panic!("no rows"),
            })
            .collect();
        let batch = run(no, all[0].seq, &rows);
        let count = new.len() as u64;
        self.begin(new);
        assert_eq!(wait(self.store().append(batch))?.taken().len(), count, "each seq is taken once");
        self.acknowledged()
    }

    fn begin(&mut self, new: Vec<Item>) {
        let aside = self.aside;
        self.items.extend(new.into_iter().map(|item| Item { aside, ..item }));
        self.mark.begun = self.items.len();
        self.note();
    }

    fn acknowledged(&mut self) -> Result<(), StoreError> {
        self.mark.acked = self.items.len();
        self.note();
        self.store().settle()
    }

    /// While the writer is busy with one run, those of both agents come, and are written together.
    fn both(&mut self) -> Result<(), StoreError> {
        let items = [self.fresh(0), self.fresh(1), self.fresh(0)];
        let batches = items.each_ref().map(|item| match &item.what {
            What::Rows(rows) => run(item.agent, item.seq, &[rows]),
            What::Letter(_) | What::Gap(_) => panic!("no rows"),
        });
        self.begin(items.to_vec());
        let store = self.store();
        let hold = self.disk.hold();
        let mut appends = Vec::new();
        for batch in batches {
            let mut append = Box::pin(store.append(batch));
            let mut now = Context::from_waker(Waker::noop());
            if let Poll::Ready(answer) = append.as_mut().poll(&mut now) {
                answer?;
                continue;
            }
            hold.wait(|| store.is_poisoned());
            appends.push(append);
        }
        drop(hold);
        appends.into_iter().try_for_each(|append| wait(append).map(drop))?;
        self.acknowledged()
    }

    /// Sends an item of any kind alone.
    fn send_one(&mut self, item: Item) -> Result<(), StoreError> {
        match item.what {
            What::Rows(_) => self.send(0, vec![item]),
            What::Letter(rows) => {
                let batch = batch(item.agent, item.seq, RowCounts::one(rows), vec![1, 2, 3]);
                self.begin(vec![item]);
                wait(self.store().append(batch))?;
                self.acknowledged()
            }
            What::Gap(_) => {
                let (who, gap) = (agent(item.agent), gap(&item));
                self.begin(vec![item]);
                wait(self.store().record_gap(who, EPOCH, None, gap))?;
                self.acknowledged()
            }
        }
    }

    fn repeat(&mut self, no: usize) -> Result<(), StoreError> {
        let of = |item: &&Item| item.agent == no && matches!(item.what, What::Rows(_));
        let known: Vec<Item> = self.items.iter().filter(of).cloned().collect();
        if known.is_empty() {
            return Ok(());
        }
        let item = &known[self.rng.random_range(0..known.len())];
        let What::Rows(rows) = &item.what else { return Ok(()) };
        let taken = wait(self.store().append(run(no, item.seq, &[rows])))?.taken().len();
        assert_eq!(taken, 0, "seq {} of {} is taken again", item.seq, agent(no));
        self.store().settle()
    }

    /// # Errors
    /// As the store's; what was to be sent is on its way, or waits.
    pub fn perform(&mut self, action: Action) -> Result<(), StoreError> {
        match action {
            Action::Append(no) => {
                let seqs = self.rng.random_range(1..4);
                let items = (0..seqs).map(|_| self.fresh(no)).collect();
                let known = self.rng.random_range(0..3);
                self.send(known, items)
            }
            Action::Both => self.both(),
            Action::Dense(agent) => {
                let item = Item { agent, seq: self.seq(agent), what: What::Rows(self.dense()), aside: false };
                self.send(0, vec![item])
            }
            Action::Ahead(no) => {
                let item = self.fresh(no);
                self.held.push(item);
                let item = self.fresh(no);
                self.send(0, vec![item])
            }
            Action::Late => {
                while let Some(item) = self.held.pop() {
                    self.send_one(item)?;
                }
                Ok(())
            }
            Action::Repeat(no) => self.repeat(no),
            Action::Letter(agent) => {
                let item = Item { agent, seq: self.seq(agent), what: What::Letter(5), aside: false };
                self.send_one(item)
            }
            Action::GiveUp(agent) => {
                let item = Item { agent, seq: self.seq(agent), what: What::Gap(7), aside: false };
                self.send_one(item)
            }
            Action::Flush => self.store().flush().and_then(|()| self.define()),
            Action::Compact => self.store().compact(),
            Action::Retain => {
                self.mark.retained = true;
                self.note();
                self.store().retain()
            }
            Action::Age(hours) => {
                self.clock.advance(Duration::from_secs(hours * 3600));
                self.note();
                Ok(())
            }
            Action::Rename => self.rename(),
            Action::Backup => self.backup(),
            Action::Reopen => {
                self.close();
                self.open()
            }
        }
    }

    /// A backup holds what was acknowledged before, and can be opened.
    fn backup(&mut self) -> Result<(), StoreError> {
        self.backups += 1;
        let to = format!("/backup-{}", self.backups);
        self.store().snapshot(Path::new(&to))?;
        let copy = Disk::holding(self.disk.nodes());
        let verified = verify_on(Arc::new(copy), Path::new(&to)).unwrap();
        assert_eq!((verified.problems, verified.notes), (vec![], vec![]), "of the backup");
        Ok(())
    }

    /// Performs an action on a disk that may fail. What fails is tried again in the same process or, after a kill, in
    /// the next; what was on its way to the store always is in the next.
    pub fn endure(&mut self, action: Action) {
        for _ in 0..ATTEMPTS {
            let done = match self.store {
                Some(_) => self.perform(action),
                None => self.open().map(|()| self.recognize()),
            };
            match (done, action) {
                (Ok(()), _) => return assert_eq!(self.mark.acked, self.items.len(), "after {action:?}"),
                (Err(_), Action::Flush | Action::Compact | Action::Retain) if self.rng.random_bool(0.5) => {
                    return;
                }
                (Err(_), _) => self.kill(),
            }
        }
        panic!("{action:?} fails for ever");
    }

    /// Kills the process and starts it again.
    pub fn kill(&mut self) {
        self.disk = self.disk.kill();
        if let Some(store) = self.store.take() {
            store.close().unwrap();
        }
    }

    /// Closes the store.
    pub fn close(&mut self) {
        if let Some(store) = self.store.take() {
            store.close().unwrap();
        }
    }

    /// Every answer, every account.
    pub fn check(&self) {
        let store = self.store();
        check(store, &self.items, self.clock.wall_ns(), (self.mark.retained, self.mark.ways));
        if self.mark.freezes {
            check_cold(store, &self.items, self.clock.wall_ns(), self.mark.ways);
        }
        for no in 0..2 {
            let rows = |of: fn(&What) -> bool| -> u64 {
                let found = self.items.iter().filter(|item| item.agent == no && of(&item.what));
                found.map(Item::rows).sum()
            };
            let expected = (
                rows(|what| matches!(what, What::Rows(_))),
                rows(|what| matches!(what, What::Letter(_))),
                rows(|what| matches!(what, What::Gap(_))),
            );
            let ledger = store.ledger(&agent(no)).pop();
            let found =
                ledger.as_ref().map_or((0, 0, 0), |epoch| (epoch.stored, epoch.refused, epoch.dropped));
            assert_eq!(found, expected, "stored, refused, dropped of {}", agent(no));
            assert!(ledger.is_none_or(|epoch| epoch.balanced && epoch.lost == 0), "of {}", agent(no));
        }
        let (letters, bad) = store.dead_letters().unwrap();
        let kept: BTreeSet<_> =
            letters.iter().map(|letter| (&letter.head.id.agent, letter.head.id.first)).collect();
        assert_eq!(bad, Vec::<String>::new());
        for item in self.items.iter().filter(|item| matches!(item.what, What::Letter(_))) {
            assert!(kept.contains(&(&agent(item.agent), Seq::new(item.seq))), "letter {} is gone", item.seq);
        }
    }

    /// Goes on as if nothing had happened, and leaves nothing behind.
    pub fn finish(&mut self) {
        self.check();
        for action in [Action::Late, Action::Repeat(0), Action::Repeat(1), Action::Append(0), Action::Flush] {
            self.perform(action).unwrap();
        }
        self.check();
        for action in [Action::Compact, Action::Both, Action::Flush, Action::Retain] {
            self.perform(action).unwrap();
        }
        self.check();
        self.close();
        self.leaves_nothing();
    }

    fn leaves_nothing(&self) {
        let found = verify_on(Arc::new(self.disk.clone()), Path::new(DIR)).unwrap();
        assert_eq!((found.problems, found.notes), (vec![], vec![]));
        let names = |sub: &str| self.disk.names(&format!("{DIR}/{sub}"));
        let mut folders = names("");
        folders.retain(|name| !self.mark.freezes || name != "cold");
        assert_eq!(folders, ["dead", "log", "manifest.redb", "quarantine", "sealed"]);
        assert_eq!(names("log").len(), 1, "{:?}", names("log"));
        assert!(names("dead").iter().all(|name| name.ends_with(".run")), "{:?}", names("dead"));
        assert!(
            names("quarantine").iter().all(|name| name.contains(".log.from-")),
            "{:?}",
            names("quarantine")
        );
    }
}
