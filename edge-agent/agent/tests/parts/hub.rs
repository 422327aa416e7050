//! A hub's end of the protocol, with its books in memory, behind a real QUIC endpoint.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use edge_agent::identity::{Identity, IdentityFile};
use tideline_link::identity::{AgentKey, CertificateAuthority, KeyAndCert};
use tideline_link::quic::{ALPN, Link, ServerEndpoint};
use tideline_link::tls::server_config;
use tideline_protocol::block::{self, Decoded, DecodedColumn};
use tideline_protocol::digest::{SeriesKey, Summer, each_reading};
use tideline_protocol::durability::{Batch, DurableLog, Validated, commit};
use tideline_protocol::model::{AgentId, SeriesDef};
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::{AgentState, HubAction, HubSession};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::value::{Quality, Value};
use tideline_protocol::wire::{
    Agreement, Audit, DocumentId, Frame, Message, RefuseCode, Restamp, Run, Settlement, TwinSync,
};
use tideline_twin::{Actor, Link as TwinLink, Message as TwinMessage, Side, Twin};
use tokio::sync::watch;

use crate::LONG;

pub struct Hub {
    pub addr: String,
    pub identity: Identity,
    books: Arc<Mutex<AgentState>>,
    lives: Lives,
    restamps: Restamps,
    refusal: Refusal,
    digests: Digests,
    readings: Readings,
    twins: Twins,
    task: tokio::task::JoinHandle<()>,
}

/// The hub's replicas; a change wakes the sessions.
#[derive(Clone)]
struct Twins {
    all: Arc<Mutex<BTreeMap<DocumentId, Twin>>>,
    changes: watch::Sender<u64>,
}

impl Twins {
    /// What a session has to say, of all documents.
    fn say(&self, links: &mut BTreeMap<DocumentId, TwinLink>) -> Vec<TwinSync> {
        let mut said = Vec::new();
        for (document, twin) in self.all.lock().unwrap().iter() {
            let link = links.entry(document.clone()).or_insert_with(|| TwinLink::new("agent", twin));
            while let Some(message) = link.poll(twin) {
                said.push(TwinSync { document: document.clone(), message: message.to_bytes() });
            }
        }
        said
    }

    fn take(&self, sync: &TwinSync, links: &mut BTreeMap<DocumentId, TwinLink>) {
        let mut all = self.all.lock().unwrap();
        let twin = all.entry(sync.document.clone()).or_insert_with(new_twin);
        let link = links.entry(sync.document.clone()).or_insert_with(|| TwinLink::new("agent", twin));
        if let Some(record) = link.handle(twin, &TwinMessage::from_bytes(&sync.message).unwrap()).unwrap() {
            twin.handle_durable(record.ticket);
        }
        drop(all);
        self.changes.send_modify(|changes| *changes += 1);
    }
}

fn new_twin() -> Twin {
    Twin::new(Actor::new(Side::Hub, [1; 15])).unwrap()
}

/// With what the hub refuses dictionaries, if it does.
type Refusal = Arc<Mutex<Option<RefuseCode>>>;
/// The newest life of the spool that each session told of.
type Lives = Arc<Mutex<Vec<u64>>>;
/// A reading of a series, with its time.
pub type Reading = (SeriesDef, i64, Value, Quality);
/// What came, in the order of batches and series.
type Readings = Arc<Mutex<Vec<Reading>>>;
/// The corrections of what was stored.
type Restamps = Arc<Mutex<Vec<Restamp>>>;

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct MemoryLog;

impl DurableLog for MemoryLog {
    type Error = Infallible;

    fn append_durably(&mut self, _: &[Batch<Validated>]) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Hub {
    /// Leaves in the agent's folder what enrolling does.
    pub fn enrol(&self, folder: &Path) {
        self.identity.save(folder).unwrap();
        std::fs::write(folder.join("key.pem"), &self.identity.certificate.key_pem).unwrap();
    }

    /// Listens on a free port, and enrols one agent.
    pub fn start() -> Self {
        let now_s = SystemClock::default().wall_ns() / 1_000_000_000;
        let authority = CertificateAuthority::create("test", now_s).unwrap();
        let server = authority.issue_server(&["localhost".to_owned()], now_s).unwrap();
        let tls = server_config(&server, authority.cert_pem(), true, &[ALPN]).unwrap();
        let endpoint = ServerEndpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0)), tls).unwrap();
        let addr = endpoint.local_addr().unwrap().to_string();
        let (agent, key) = (AgentId::parse("pump-7").unwrap(), AgentKey::generate().unwrap());
        let leaf = authority.issue_agent(&key.csr_pem(&agent).unwrap(), &agent, now_s, 1).unwrap();
        let file = IdentityFile {
            agent,
            quic: addr.clone(),
            mqtt: None,
            server_name: "localhost".into(),
            floor_s: now_s,
        };
        let ca_pem = authority.cert_pem().to_owned();
        let certificate = KeyAndCert { key_pem: key.key_pem(), chain_pem: leaf, ca_pem };
        let books = Arc::new(Mutex::new(AgentState::default()));
        let (refusal, lives) = (Refusal::default(), Lives::default());
        let restamps = Restamps::default();
        let digests = Digests::default();
        let (books_too, digests_too) = (Arc::clone(&books), Arc::clone(&digests));
        let (told, readings) = ((Arc::clone(&lives), Arc::clone(&restamps)), Readings::default());
        let twins = Twins { all: Arc::default(), changes: watch::channel(0).0 };
        let known =
            (books_too, told, Arc::clone(&refusal), digests_too, (Arc::clone(&readings), twins.clone()));
        let task = tokio::spawn(accept(endpoint, known));
        Self {
            addr,
            identity: Identity { file, certificate },
            books,
            lives,
            restamps,
            refusal,
            digests,
            readings,
            twins,
            task,
        }
    }

    /// From now on it welcomes agents and then refuses their dictionaries, or no longer does.
    pub fn refuse_dictionaries(&self, code: Option<RefuseCode>) {
        *self.refusal.lock().unwrap() = code;
    }

    /// The newest life of the spool that each session told of.
    pub fn lives(&self) -> Vec<u64> {
        self.lives.lock().unwrap().clone()
    }

    pub fn restamps(&self) -> Vec<Restamp> {
        self.restamps.lock().unwrap().clone()
    }

    /// One more reading is in this batch than the agent sent.
    pub fn falsify(&self, seq: u64) {
        let mut digests = self.digests.lock().unwrap();
        digests.get_mut(&seq).unwrap().add(seq, SeriesKey::new("pump-7", "made-up"), 1, 1.0_f64.to_bits());
    }

    /// It no longer knows of this batch.
    pub fn forget(&self, seq: u64) {
        self.books.lock().unwrap().settled.stored.remove(seq, seq);
        self.digests.lock().unwrap().remove(&seq);
    }

    /// Looks at a device's twin or changes it.
    pub fn twin<T>(&self, device: &str, work: impl FnOnce(&mut Twin) -> T) -> T {
        let document = device.parse().unwrap();
        let worked = work(self.twins.all.lock().unwrap().entry(document).or_insert_with(new_twin));
        self.twins.changes.send_modify(|changes| *changes += 1);
        worked
    }

    /// Waits until a device's twin is so.
    pub async fn until_twin(&self, device: &str, mut is: impl FnMut(&Twin) -> bool) {
        let document = device.parse().unwrap();
        let mut changes = self.twins.changes.subscribe();
        let so = async {
            while !self.twins.all.lock().unwrap().get(&document).is_some_and(&mut is) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LONG, so).await.expect("the twin is never so at the hub");
    }

    pub fn readings(&self) -> Vec<Reading> {
        self.readings.lock().unwrap().clone()
    }

    pub fn stored(&self) -> RangeSet {
        self.books.lock().unwrap().settled.stored.clone()
    }
}

/// What it holds of each batch, by seq.
type Digests = Arc<Mutex<BTreeMap<u64, Summer>>>;
type Known = (Arc<Mutex<AgentState>>, (Lives, Restamps), Refusal, Digests, (Readings, Twins));

async fn accept(endpoint: ServerEndpoint, known: Known) {
    while let Some(incoming) = endpoint.accept().await {
        if let Ok(link) = incoming.finish(LONG).await {
            tokio::spawn(serve(link, known.clone()));
        }
    }
}

async fn serve(link: Link, (books, (lives, restamps), refusal, digests, (readings, twins)): Known) {
    let (mut keys, mut defs) = (Vec::new(), Vec::new());
    let (mut links, mut changes) = (BTreeMap::new(), twins.changes.subscribe());
    let mut session = HubSession::new(link.peer_agent().unwrap().clone());
    let (mut sender, mut receiver) = link.split();
    let clock = SystemClock::default();
    loop {
        let frame = tokio::select! {
            Ok(()) = changes.changed() => None,
            frame = receiver.recv() => match frame {
                Ok(Some(frame)) => Some(frame),
                _ => return,
            },
        };
        if let Some(frame) = frame {
            if let Message::Hello(hello) = &frame.message {
                lives.lock().unwrap().extend(hello.lives.last().map(|life| life.id));
            }
            session.handle_message(clock.wall_ns(), frame.message).unwrap();
        }
        if session.speaks_of_twins() {
            twins.say(&mut links).into_iter().for_each(|sync| session.handle_twin(sync));
        }
        while let Some(action) = session.poll() {
            if let HubAction::Send(message) = action {
                if sender.send(&Frame::from(message)).await.is_err() {
                    return;
                }
            } else if let (HubAction::DefineSeries(..), Some(code)) = (&action, *refusal.lock().unwrap()) {
                session.refuse(code, "as told".to_owned());
            } else {
                if let HubAction::DefineSeries(_, series) = &action {
                    keys.extend(series.defs.iter().map(SeriesKey::from));
                    defs.extend(series.defs.iter().cloned());
                }
                if let HubAction::Twin(sync) = &action {
                    twins.take(sync, &mut links);
                }
                if let HubAction::Audit(_, asked) = &action {
                    let found = agreement(asked, &books.lock().unwrap(), &digests.lock().unwrap());
                    session.handle_audited(found);
                }
                if let HubAction::Append(batch) = &action {
                    let Run { envelope, block } = batch.run();
                    let decoded = block::decode(block, &envelope.rows, envelope.first).unwrap();
                    let mut digests = digests.lock().unwrap();
                    let key = |no| keys.get(usize::try_from(no).unwrap()).copied();
                    each_reading(&decoded, envelope.first.get(), key, |seq, key, time_ns, value| {
                        digests.entry(seq).or_default().add(seq, key, time_ns, value);
                    });
                    drop(digests);
                    readings.lock().unwrap().extend(shown(&decoded, &defs));
                    restamps.lock().unwrap().extend(batch.run().envelope.restamps.iter().cloned());
                }
                carry_out(&mut session, action, &mut books.lock().unwrap(), clock.wall_ns());
            }
        }
    }
}

fn shown(decoded: &Decoded, defs: &[SeriesDef]) -> Vec<Reading> {
    let of_column = |column: &DecodedColumn| -> Vec<Reading> {
        // Those that an earlier session defined are not known here.
        let Some(def) = defs.get(usize::try_from(column.series).unwrap()) else { return Vec::new() };
        let rows = column.times.iter().zip(&column.values);
        let reading = |(time_ns, word): (&i64, &f64)| {
            let (value, quality) = decoded.boxes.value(*word, def.kind());
            (def.clone(), *time_ns, value, quality)
        };
        rows.map(reading).collect()
    };
    decoded.columns.iter().flat_map(of_column).collect()
}

fn agreement(asked: &Audit, books: &AgentState, digests: &BTreeMap<u64, Summer>) -> Agreement {
    let stored = books.settled.stored.intersect(&asked.seqs);
    let seqs: Vec<u64> = stored.iter().flat_map(|(lo, hi)| lo..=hi).collect();
    let sum = |seqs: &[u64]| {
        let mut all = Summer::default();
        seqs.iter().for_each(|seq| all.merge(&digests[seq]));
        all.digest()
    };
    let per = usize::try_from(asked.per).unwrap();
    Agreement {
        id: asked.id,
        settled: Settlement { stored, ..Settlement::default() },
        digests: seqs.chunks(per).map(sum).collect(),
    }
}

fn carry_out(session: &mut HubSession, action: HubAction, books: &mut AgentState, wall_ns: i64) {
    match action {
        HubAction::Open(_) => session.handle_opened(wall_ns, books.clone()),
        HubAction::DefineSeries(_, series) => {
            books.series_known = series.first + u32::try_from(series.defs.len()).unwrap();
            session.handle_series_durable(books.series_known);
        }
        HubAction::Append(batch) => {
            let batch = batch.without(&books.settled.all());
            for durable in commit(&mut MemoryLog, vec![batch]).unwrap() {
                books.settled.stored.insert_set(durable.taken());
                session.handle_durable(&durable);
            }
        }
        HubAction::Recall(_, first, last) => session.handle_settled(&books.settled.within(first, last)),
        HubAction::RecordGap(_, gap) => {
            let mut dropped = RangeSet::new();
            dropped.insert(gap.first.get(), gap.last().get());
            books.settled.dropped.insert_set(&dropped);
            session.handle_settled(&Settlement { dropped, ..Settlement::default() });
        }
        HubAction::Report(..)
        | HubAction::Health(_)
        | HubAction::Close
        | HubAction::Send(_)
        | HubAction::Devices(_)
        | HubAction::Config(_)
        | HubAction::Twin(_)
        | HubAction::Command(_)
        | HubAction::Audit(..) => {}
    }
}
