//! The agent of a simulated world: a real spool on a simulated disk, and a real session.

use rand::RngExt as _;
use rand::rngs::StdRng;
use tideline_protocol::model::{AgentId, PointId, Sample, SeriesDef, SeriesNo};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::{AgentAction, AgentSession, BackfillBudget};
use tideline_protocol::wire::{Hello, Message, RunEnvelope, Settlement, VERSION};
use tideline_spool::testing::CrashBackend;
use tideline_spool::{Spool, SpoolConfig};

use crate::outcome::Canary;

/// Series that the agent measures.
const SERIES: u32 = 4;

pub struct Agent {
    id: AgentId,
    disk: CrashBackend,
    quota: u64,
    frees_early: bool,
    spool: Option<Spool>,
    pub session: Option<AgentSession>,
    /// The values that this device, or the disk that it was given, has produced.
    pub values: RangeSet,
}

/// A disk as it was once.
pub struct Image {
    disk: CrashBackend,
    pub values: RangeSet,
}

impl Agent {
    pub fn new(id: AgentId, entropy: [u8; 16], quota: u64, canary: Canary) -> Self {
        let frees_early = canary == Canary::FreeBeforeAck;
        let disk = CrashBackend::new();
        let mut agent =
            Self { id, disk, quota, frees_early, spool: None, session: None, values: RangeSet::new() };
        agent.open(entropy);
        agent
    }

    /// A device that was given a copy of this one's disk.
    pub fn copy(&self, entropy: [u8; 16]) -> Self {
        let mut copy = Self {
            id: self.id.clone(),
            disk: self.disk.clone(),
            spool: None,
            session: None,
            values: RangeSet::new(),
            ..*self
        };
        copy.put_back(&self.image(), entropy);
        copy
    }

    pub fn image(&self) -> Image {
        Image { disk: self.disk.image(), values: self.values.clone() }
    }

    /// Puts an image in the place of the disk.
    pub fn put_back(&mut self, image: &Image, entropy: [u8; 16]) {
        self.session = None;
        self.spool = None;
        self.disk = image.disk.image();
        self.values = image.values.clone();
        self.open(entropy);
    }

    fn open(&mut self, entropy: [u8; 16]) {
        let config = SpoolConfig { quota_bytes: self.quota };
        let spool = Spool::open(self.disk.clone(), config, entropy);
        self.spool = Some(spool.unwrap_or_else(|error| panic!("the spool does not open: {error}")));
    }

    pub fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap_or_else(|| unreachable!("it is open between steps"))
    }

    fn spool_mut(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap_or_else(|| unreachable!("it is open between steps"))
    }

    /// Ends the process, by a power cut that may tear what was being written, or by a kill that leaves
    /// the system's caches, and starts it.
    pub fn restart(&mut self, rng: &mut StdRng) {
        // The disk is cut off first, so that closing the old spool cannot write any more.
        self.disk = match rng.random_range(0..3_u32) {
            0 => self.disk.crash(),
            1 => self.disk.crash_torn(rng.random()),
            _ => self.disk.kill(),
        };
        self.session = None;
        self.spool = None;
        self.open(rng.random());
    }

    pub fn is_drained(&self) -> bool {
        self.session.as_ref().is_some_and(AgentSession::is_drained)
    }

    /// Appends one batch; gives the number of readings that the spool accepted.
    pub fn produce(&mut self, rng: &mut StdRng, wall_ns: i64, next_value: &mut u64, rows: u32) -> u64 {
        let device = self.id.own_device();
        let Some(spool) = &mut self.spool else { return 0 };
        let mut items: Vec<(SeriesNo, Vec<Sample>)> = Vec::new();
        for _ in 0..rows {
            let point = PointId::parse(&format!("p{}", rng.random_range(0..SERIES)));
            let point = point.unwrap_or_else(|_| unreachable!("a valid id"));
            let def = SeriesDef { device: device.clone(), point, unit: String::new() };
            let no = spool.series_no(&def).unwrap_or_else(|error| panic!("no series number: {error}"));
            *next_value += 1;
            self.values.insert(*next_value, *next_value);
            // Times repeat and go back: they are no key.
            let time_ns = wall_ns.saturating_add(rng.random_range(0..50));
            let sample = Sample { time_ns, value: *next_value as f64 };
            items.push((no, vec![sample]));
        }
        let items: Vec<_> = items.iter().map(|(no, samples)| (*no, samples.as_slice())).collect();
        spool.append(&items, &[]).unwrap_or_else(|error| panic!("the spool takes nothing: {error}"));
        let gaps = spool.fresh_gaps().unwrap_or_else(|error| panic!("no gaps: {error}"));
        let (head, series, account) = (spool.head(), spool.series_count(), spool.account());
        if let Some(session) = &mut self.session {
            gaps.into_iter().for_each(|gap| session.handle_gap(gap));
            session.handle_appended(head, series, account);
        }
        u64::from(rows)
    }

    pub fn connect(&mut self, now_ns: u64, wall_ns: i64) {
        let agent = self.id.clone();
        let spool = self.spool_mut();
        let hello = Hello {
            versions: vec![VERSION],
            capabilities: vec![],
            agent,
            epoch: spool.epoch(),
            boot: [0; 16],
            mono_ns: now_ns,
            wall_ns,
            head: spool.head(),
            software: "sim".into(),
            account: spool.account(),
            lives: vec![],
            moved: None,
        };
        let view = spool.view().unwrap_or_else(|error| panic!("no view of the spool: {error}"));
        self.session = Some(AgentSession::new(now_ns, hello, view, BackfillBudget::default()));
    }

    /// False when the hub refused or broke the protocol.
    pub fn receive(&mut self, now_ns: u64, wall_ns: i64, message: Message) -> bool {
        self.session.as_mut().is_some_and(|session| session.handle_message(now_ns, wall_ns, message).is_ok())
    }

    /// Carries out what the session asks; false when it has ended.
    pub fn drive(
        &mut self,
        now_ns: u64,
        rng: &mut StdRng,
        mut send: impl FnMut(Message, &mut StdRng),
    ) -> Result<bool, String> {
        let (Some(session), Some(spool)) = (&mut self.session, &mut self.spool) else { return Ok(false) };
        loop {
            match session.poll(now_ns) {
                Err(_) => return Ok(false),
                Ok(None) => return Ok(true),
                Ok(Some(AgentAction::Send(message))) => {
                    if let (true, Message::Run(run)) = (self.frees_early, &message) {
                        let stored = run.envelope.seqs();
                        let settlement = Settlement { stored, ..Settlement::default() };
                        spool.settle(&settlement).map_err(|e| e.to_string())?;
                    }
                    send(message, rng);
                }
                Ok(Some(AgentAction::LoadSeries { from, max })) => {
                    session.handle_series(from, spool.series_defs(from, max))
                }
                Ok(Some(AgentAction::LoadRun { lane, seqs, bytes_max })) => {
                    // Little runs, so that many are on the way at once.
                    let run =
                        spool.load_seqs(&seqs, bytes_max.min(400), 1 << 20).map_err(|e| e.to_string())?;
                    match run {
                        None => session.handle_gone(&spool.gone(&seqs)),
                        Some(run) => {
                            let (rows, series_end) = (run.rows, run.series_end);
                            let envelope = RunEnvelope {
                                epoch: spool.epoch(),
                                lane,
                                first: run.first,
                                rows,
                                series_end,
                            };
                            session.handle_run(now_ns, envelope, run.block);
                        }
                    }
                }
                Ok(Some(AgentAction::Settle(settlement))) => {
                    spool.settle(&settlement).map_err(|e| e.to_string())?;
                    session.handle_account(spool.account());
                }
                Ok(Some(AgentAction::Branch(at))) => {
                    spool.branch(at).map_err(|e| e.to_string())?;
                    return Ok(false);
                }
            }
        }
    }
}
