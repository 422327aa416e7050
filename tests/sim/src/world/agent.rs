//! The agent of a simulated world: a real spool on a simulated disk, and a real session.

use std::collections::BTreeSet;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tideline_protocol::model::{AgentId, Epoch, PointId, Sample, Seq, SeriesDef, SeriesNo};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::{AgentAction, AgentSession, BackfillBudget};
use tideline_protocol::value::Boxes;
use tideline_protocol::wire::{Hello, Message, RunEnvelope, Settlement, VERSION};
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Files, Spool, SpoolConfig, SpoolError, StreamConfig, encode_boxed, sound};

use super::clocks::{BootId, Clocks};
use super::made::{Made, Offer, read_thinned};
use super::readings::{Readings, measured};
use super::streams;
use crate::outcome::Canary;

/// What the agent measures.
const POINTS: [&str; 4] = ["p0", "p1", "p2", "p3"];
/// The name under which the source keeps its position: the last value that it handed over.
const CURSOR: &str = "source";

pub struct Agent {
    id: AgentId,
    disk: CrashBackend,
    pub quota: u64,
    pub backfill: BackfillBudget,
    /// What its readings are, and how they are kept.
    pub streams: Vec<StreamConfig>,
    /// Small, so that it fills up.
    pub journal_bytes: u64,
    canary: Canary,
    entropy: [u8; 16],
    spool: Option<Spool>,
    pub session: Option<AgentSession>,
    pub made: Made,
    offer: Option<Offer>,
    // The starts of the machine in which it has durably learned the time, or in which it may have.
    learned: BTreeSet<(Epoch, BootId)>,
    half_learned: BTreeSet<(Epoch, BootId)>,
    // Those that the session knows of.
    urgent_appends: u64,
    // Whether anything was sent in this session.
    sending: bool,
    // What it was last told of its clock in this session.
    told_ns: Option<i64>,
    /// The epoch that the spool opened with last.
    pub epoch: Option<Epoch>,
    /// Values that went with damaged records that nothing came after.
    pub cut: RangeSet,
    /// Whether bits of its disk have flipped.
    pub damaged: bool,
    /// Whether the disk holds no spool that can be read.
    pub corrupt: bool,
}

/// A disk as it was once.
pub struct Image {
    disk: CrashBackend,
    pub made: Made,
}

/// Up to where the agent says that it knows what became of its seqs.
fn known(canary: Canary, spool: &Spool) -> Seq {
    if canary == Canary::KnownTooEarly { spool.head() } else { spool.known() }
}

impl Agent {
    pub fn new(id: AgentId, entropy: [u8; 16], quota: u64, canary: Canary) -> Self {
        Self {
            id,
            disk: CrashBackend::new(),
            quota,
            backfill: BackfillBudget::default(),
            streams: Vec::new(),
            journal_bytes: 16 * 1024,
            canary,
            entropy,
            spool: None,
            session: None,
            made: Made::default(),
            offer: None,
            learned: BTreeSet::new(),
            half_learned: BTreeSet::new(),
            urgent_appends: 0,
            sending: false,
            told_ns: None,
            epoch: None,
            cut: RangeSet::new(),
            damaged: false,
            corrupt: false,
        }
    }

    /// A device that was given a copy of this one's disk.
    pub fn copy(&self) -> Self {
        let mut copy = Self::new(self.id.clone(), self.entropy, self.quota, self.canary);
        (copy.backfill, copy.journal_bytes) = (self.backfill, self.journal_bytes);
        copy.streams.clone_from(&self.streams);
        copy.put_back(&self.image());
        copy
    }

    pub fn image(&self) -> Image {
        Image { disk: self.disk.image(), made: self.made.clone() }
    }

    /// Puts an image in the place of the disk.
    pub fn put_back(&mut self, image: &Image) {
        self.close();
        self.offer = None;
        self.disk = image.disk.image();
        self.made = image.made.clone();
    }

    /// Puts an empty disk in the place of the disk, and gives what the old one was given and its spool.
    pub fn wipe(&mut self) -> (Made, Option<Spool>) {
        self.session = None;
        self.offer = None;
        (self.damaged, self.corrupt) = (false, false);
        self.disk = CrashBackend::new();
        (std::mem::take(&mut self.made), self.spool.take())
    }

    fn close(&mut self) {
        self.session = None;
        let spool = self.spool.take();
        // Closing writes, and so it may meet the damage again.
        let _ = sound(|| {
            drop(spool);
            Ok::<_, SpoolError>(())
        });
    }

    /// Whether the spool is to be closed for it: the disk failed, or its bits have flipped.
    fn stops_for(&mut self, error: &SpoolError) -> bool {
        // A file that is not yet one has nothing in it to be lost.
        let may_be = self.damaged || self.made.seqs.is_empty();
        self.corrupt |= may_be && matches!(error, SpoolError::Corrupt(_));
        let stops = self.corrupt || error.is_of_storage();
        if stops {
            self.close();
        }
        stops
    }

    /// Flips a bit of the disk; it shows at the next start at the latest.
    pub fn flip(&mut self, rng: &mut StdRng) {
        let disk = if rng.random_bool(0.5) { self.disk.clone() } else { self.disk.journal() };
        if disk.file_bytes() > 0 {
            disk.flip(rng.random_range(0..disk.file_bytes()));
            self.damaged = true;
        }
    }

    /// The spool, which is closed while the disk fails.
    pub const fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref()
    }

    /// Whether its spool has learned the time in a start of the machine; `None` when its disk failed over it.
    pub fn learned_in(&self, epoch: Epoch, boot: BootId) -> Option<bool> {
        let learned = self.learned.contains(&(epoch, boot));
        if !learned && self.half_learned.contains(&(epoch, boot)) { None } else { Some(learned) }
    }

    /// Opens the spool, when that is needed and the disk lets it.
    pub fn open(&mut self, entropy: [u8; 16], boot: BootId) -> Result<(), String> {
        if self.spool.is_some() {
            return Ok(());
        }
        let reused = self.canary == Canary::EpochReused && self.made.seqs.is_empty();
        let entropy = if reused { self.entropy } else { entropy };
        let config = SpoolConfig { quota_bytes: self.quota, ..SpoolConfig::default() };
        let mut files = Files::from(self.disk.clone()).with_journal_bytes(self.journal_bytes);
        // As whoever saw the sync fail has noted beside them.
        files.unsynced = self.disk.has_lost();
        let opened = sound(|| {
            let mut spool = Spool::open(files, config, entropy)?;
            spool.begin_boot(boot)?;
            self.streams.iter().try_for_each(|stream| spool.stream(stream).map(drop))?;
            Ok(spool)
        });
        let mut spool = match opened {
            Ok(spool) => spool,
            Err(error) if self.stops_for(&error) => return Ok(()),
            Err(error) => return Err(format!("the spool does not open: {error}")),
        };
        // What was in doubt is settled by the position, which is durable with its batch.
        let position = match sound(|| spool.cursor(CURSOR)) {
            Ok(position) => position,
            Err(error) if self.stops_for(&error) => return Ok(()),
            Err(error) => return Err(format!("no position: {error}")),
        };
        let position = position.and_then(|bytes| bytes.first_chunk::<8>().copied());
        let position = position.map_or(0, u64::from_le_bytes);
        if let Some(offer) = self.offer.take_if(|offer| offer.last == position) {
            if !self.damaged {
                read_thinned(&mut spool, &mut self.made)?;
            }
            self.made.take(spool.head(), &offer);
        }
        // What was in memory is gone with the machine.
        self.offer.take_if(|offer| offer.boot != boot);
        if self.damaged {
            self.cut.insert_set(&self.made.end_at(spool.head(), position));
        }
        let made = &self.made;
        let head = made.head();
        // A lost journal leaves a gap that is longer than anything it can have held.
        let gap = self.damaged && spool.head().get() > head;
        if position != made.position || (spool.head().get() != head && !gap) {
            return Err(format!(
                "INV-3: the source was acknowledged up to {} in seq {head}, the spool opens with {position} in {}",
                made.position,
                spool.head()
            ));
        }
        self.epoch = Some(spool.epoch());
        self.spool = Some(spool);
        Ok(())
    }

    /// Ends the process, by a power cut that may tear what was being written, or by a kill that leaves
    /// the system's caches. Whether the machine went down with it.
    pub fn stop(&mut self, rng: &mut StdRng) -> bool {
        let kind = rng.random_range(0..3_u32);
        self.disk.set_room(None);
        // The disk is cut off first, so that closing the old spool cannot write any more.
        self.disk = match kind {
            0 => self.disk.crash(),
            1 => self.disk.crash_torn(rng.random()),
            _ => self.disk.kill(),
        };
        self.close();
        kind < 2
    }

    /// From now on the disk takes no writes, or loses what it is to sync next and does not show it.
    pub fn fail_disk(&self, rng: &mut StdRng) {
        if rng.random_bool(0.5) { self.disk.fail_writes() } else { self.disk.lose_next_sync() }
    }

    /// From now on no file can grow.
    pub fn fill_disk(&self) {
        self.disk.set_room(Some(self.disk.bytes()));
    }

    /// The disk takes writes again.
    pub fn mend_disk(&mut self) {
        self.disk.set_room(None);
        self.disk = self.disk.kill();
        self.close();
    }

    pub fn is_drained(&self) -> bool {
        self.session.as_ref().is_some_and(AgentSession::is_drained)
    }

    /// The source reads on, unless a batch waits still, and hands it over.
    pub fn produce(
        &mut self,
        rng: &mut StdRng,
        (clocks, now_ns): (&Clocks, u64),
        (readings, agent): (&mut Readings, usize),
        rows: u64,
    ) -> Result<(), String> {
        if self.offer.is_none() {
            let first = readings.next_value();
            let last = first + rows - 1;
            let mut boxes = Boxes::new();
            let sample = |value: u64| {
                let (measured, quality) = measured(value);
                // Times repeat and go back: they are no key.
                let reading = readings.take(agent, clocks, now_ns, rng.random_range(0..50));
                (
                    POINTS.get(rng.random_range(0..POINTS.len())).copied().unwrap_or("p"),
                    Sample { time_ns: reading.stamped_ns, value: boxes.word(measured, quality) },
                )
            };
            let samples: Vec<_> = (first..=last).map(sample).collect();
            let stream = streams::pick(&self.streams, rng);
            let ahead_ns = clocks.shown_ns().saturating_sub_unsigned(clocks.mono_ns);
            let (boot, believed) = (clocks.boot, clocks.is_believed());
            self.offer = Some(Offer { first, last, stream, samples, boxes, boot, ahead_ns, believed });
        }
        self.hand_over()
    }

    fn hand_over(&mut self) -> Result<(), String> {
        match sound(|| self.append()) {
            Ok(Some(seq)) => self.accepted(seq),
            Ok(None) => Ok(()),
            // The source is told; it goes on with what it reads next.
            Err(SpoolError::OverQuota { .. }) => {
                self.offer = None;
                Ok(())
            }
            // It waits until there is room again.
            Err(SpoolError::Full { .. }) => Ok(()),
            Err(error) if self.stops_for(&error) => Ok(()),
            Err(error) => Err(format!("the spool takes nothing: {error}")),
        }
    }

    /// The seq of the batch that waited, if there is one and the spool is open.
    fn append(&mut self) -> Result<Option<Seq>, SpoolError> {
        let (Some(spool), Some(offer)) = (&mut self.spool, &self.offer) else { return Ok(None) };
        let device = self.id.own_device();
        let mut items: Vec<(SeriesNo, &[Sample])> = Vec::new();
        for (point, sample) in &offer.samples {
            let point = PointId::parse(point).unwrap_or_else(|_| unreachable!("a valid id"));
            let def = SeriesDef::new(device.clone(), point, String::new());
            items.push((spool.series_no(&def)?, std::slice::from_ref(sample)));
        }
        let Some(stream) = self.streams.get(offer.stream) else { return Ok(None) };
        let stamp = spool.stamp(offer.ahead_ns, offer.believed);
        let none = Boxes::new();
        let boxes = if self.canary == Canary::BoxesLost { &none } else { &offer.boxes };
        let batch = encode_boxed(&items, boxes)?.on(spool.stream(stream)?).stamped(stamp);
        Ok(Some(spool.append_encoded(&batch, &[(CURSOR, &offer.last.to_le_bytes())])?))
    }

    /// The source is acknowledged.
    fn accepted(&mut self, seq: Seq) -> Result<(), String> {
        let Some(offer) = self.offer.take() else { return Ok(()) };
        if let (Some(spool), false) = (&mut self.spool, self.damaged) {
            read_thinned(spool, &mut self.made)?;
        }
        self.made.take(seq, &offer);
        self.tell()
    }

    /// What was given up and what there is now goes to the session.
    fn tell(&mut self) -> Result<(), String> {
        let (Some(session), Some(spool)) = (&mut self.session, &mut self.spool) else { return Ok(()) };
        match sound(|| spool.fresh_gaps()) {
            Ok(gaps) => gaps.into_iter().for_each(|gap| session.handle_gap(gap)),
            Err(error) if self.stops_for(&error) => return Ok(()),
            Err(error) => return Err(format!("no gaps: {error}")),
        }
        if self.urgent_appends != spool.urgent_appends() {
            self.urgent_appends = spool.urgent_appends();
            session.handle_urgent(spool.urgent());
        }
        session.handle_appended(spool.head(), spool.series_count());
        session.handle_account(spool.account(), known(self.canary, spool));
        Ok(())
    }

    /// A second of the spool's life passes: what has outlived its stream's limit goes.
    pub fn grow_older(&mut self) -> Result<(), String> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        match sound(|| spool.grow_older(1)) {
            Ok(()) => self.tell(),
            Err(error) if self.stops_for(&error) => Ok(()),
            Err(error) => Err(format!("the spool does not grow older: {error}")),
        }
    }

    /// Begins a session; `false` while the spool is closed.
    pub fn connect(&mut self, clocks: &Clocks) -> Result<bool, String> {
        let Some(spool) = &mut self.spool else { return Ok(false) };
        let hello = Hello {
            versions: vec![VERSION],
            capabilities: vec![],
            agent: self.id.clone(),
            epoch: spool.epoch(),
            boot: clocks.boot,
            mono_ns: clocks.mono_ns,
            wall_ns: clocks.shown_ns(),
            head: spool.head(),
            software: "sim".into(),
            account: spool.account(),
            lives: vec![],
            moved: None,
        };
        let view = match sound(|| spool.view()) {
            Ok(view) => view,
            Err(error) if self.stops_for(&error) => return Ok(false),
            Err(error) => return Err(format!("no view of the spool: {error}")),
        };
        (self.told_ns, self.urgent_appends, self.sending) = (None, spool.urgent_appends(), false);
        self.session = Some(AgentSession::new(clocks.mono_ns, hello, view, self.backfill));
        Ok(true)
    }

    /// False when the hub refused or broke the protocol.
    pub fn receive(&mut self, clocks: &Clocks, message: Message) -> bool {
        let (now_ns, wall_ns) = (clocks.mono_ns, clocks.shown_ns());
        let Some(session) = &mut self.session else { return false };
        if session.handle_message(now_ns, wall_ns, message).is_err() {
            return false;
        }
        let told_ns = session.clock_offset_ns();
        let (Some(error_ns), Some(spool)) = (told_ns, &mut self.spool) else { return true };
        // Only when it was measured: the clock may have been set since.
        if self.told_ns == told_ns {
            return true;
        }
        self.told_ns = told_ns;
        let offset_ns = wall_ns.saturating_add(error_ns).saturating_sub_unsigned(now_ns);
        let start = (spool.epoch(), clocks.boot);
        match sound(|| spool.learn_time(now_ns, offset_ns)) {
            Ok(()) => {
                session.handle_time();
                self.learned.insert(start);
                true
            }
            Err(error) => {
                self.half_learned.insert(start);
                !self.stops_for(&error)
            }
        }
    }

    /// Carries out what the session asks; false when it has ended.
    pub fn drive(
        &mut self,
        now_ns: u64,
        rng: &mut StdRng,
        mut send: impl FnMut(Message, &mut StdRng),
    ) -> Result<bool, String> {
        loop {
            let Some(session) = &mut self.session else { return Ok(false) };
            let done = match session.poll(now_ns) {
                Err(_) => return Ok(false),
                Ok(None) => return Ok(true),
                Ok(Some(AgentAction::Send(message))) => {
                    let early = self.free_early(&message);
                    send(message, rng);
                    early
                }
                Ok(Some(action)) => sound(|| self.act(now_ns, action)),
            };
            match done {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) if self.stops_for(&error) => return Ok(false),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// What the canary does: it takes for stored what it has only sent.
    fn free_early(&mut self, message: &Message) -> Result<bool, SpoolError> {
        if let (Canary::FreeBeforeAck, Message::Run(run), Some(spool)) =
            (self.canary, message, &mut self.spool)
        {
            let stored = run.envelope.seqs();
            spool.settle(&Settlement { stored, ..Settlement::default() })?;
        }
        Ok(true)
    }

    fn act(&mut self, now_ns: u64, action: AgentAction) -> Result<bool, SpoolError> {
        let (Some(session), Some(spool)) = (&mut self.session, &mut self.spool) else { return Ok(false) };
        match action {
            AgentAction::Send(_) => {}
            AgentAction::LoadSeries { from, max } => {
                session.handle_series(from, spool.series_defs(from, max));
            }
            AgentAction::LoadRun { lane, seqs, bytes_max } => {
                // The welcome is settled by now.
                if !std::mem::replace(&mut self.sending, true) {
                    spool.forget_sent();
                }
                // Little runs, so that many are on the way at once.
                match spool.load_to_send(&seqs, bytes_max.min(400), 1 << 20)? {
                    None => session.handle_gone(&spool.gone(&seqs)),
                    Some(run) => {
                        let (rows, series_end, restamps) = (run.rows, run.series_end, run.restamps);
                        let (epoch, first) = (spool.epoch(), run.first);
                        let envelope = RunEnvelope { epoch, lane, first, rows, series_end, restamps };
                        session.handle_run(now_ns, envelope, run.block);
                    }
                }
            }
            AgentAction::Settle(settlement) => {
                spool.settle(&settlement)?;
                session.handle_account(spool.account(), known(self.canary, spool));
            }
            AgentAction::Know => {
                spool.flush()?;
                session.handle_account(spool.account(), known(self.canary, spool));
            }
            AgentAction::Branch(at) => {
                spool.branch(at)?;
                return Ok(false);
            }
            // Nobody asks for anything else here.
            _ => {}
        }
        Ok(true)
    }
}
