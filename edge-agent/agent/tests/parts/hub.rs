//! A hub's end of the protocol, with its books in memory, behind a real QUIC endpoint.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use edge_agent::identity::{Identity, IdentityFile};
use tideline_link::identity::{AgentKey, CertificateAuthority, KeyAndCert};
use tideline_link::quic::{ALPN, Link, ServerEndpoint};
use tideline_link::tls::server_config;
use tideline_protocol::durability::{Batch, DurableLog, Validated, commit};
use tideline_protocol::model::AgentId;
use tideline_protocol::ranges::RangeSet;
use tideline_protocol::session::{AgentState, HubAction, HubSession};
use tideline_protocol::time::{Clock, SystemClock};
use tideline_protocol::wire::{Frame, Message, RefuseCode, Restamp, Settlement};

use crate::LONG;

pub struct Hub {
    pub addr: String,
    pub identity: Identity,
    books: Arc<Mutex<AgentState>>,
    lives: Lives,
    restamps: Restamps,
    refusal: Refusal,
    task: tokio::task::JoinHandle<()>,
}

/// With what the hub refuses dictionaries, if it does.
type Refusal = Arc<Mutex<Option<RefuseCode>>>;
/// The newest life of the spool that each session told of.
type Lives = Arc<Mutex<Vec<u64>>>;
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
        let known = (Arc::clone(&books), Arc::clone(&lives), Arc::clone(&restamps), Arc::clone(&refusal));
        let task = tokio::spawn(accept(endpoint, known));
        Self { addr, identity: Identity { file, certificate }, books, lives, restamps, refusal, task }
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

    pub fn stored(&self) -> RangeSet {
        self.books.lock().unwrap().settled.stored.clone()
    }
}

type Known = (Arc<Mutex<AgentState>>, Lives, Restamps, Refusal);

async fn accept(endpoint: ServerEndpoint, known: Known) {
    while let Some(incoming) = endpoint.accept().await {
        if let Ok(link) = incoming.finish(LONG).await {
            tokio::spawn(serve(link, known.clone()));
        }
    }
}

async fn serve(link: Link, (books, lives, restamps, refusal): Known) {
    let mut session = HubSession::new(link.peer_agent().unwrap().clone());
    let (mut sender, mut receiver) = link.split();
    let clock = SystemClock::default();
    while let Ok(Some(frame)) = receiver.recv().await {
        if let Message::Hello(hello) = &frame.message {
            lives.lock().unwrap().extend(hello.lives.last().map(|life| life.id));
        }
        session.handle_message(clock.wall_ns(), frame.message).unwrap();
        while let Some(action) = session.poll() {
            if let HubAction::Send(message) = action {
                if sender.send(&Frame::from(message)).await.is_err() {
                    return;
                }
            } else if let (HubAction::DefineSeries(..), Some(code)) = (&action, *refusal.lock().unwrap()) {
                session.refuse(code, "as told".to_owned());
            } else {
                if let HubAction::Append(batch) = &action {
                    restamps.lock().unwrap().extend(batch.run().envelope.restamps.iter().cloned());
                }
                carry_out(&mut session, action, &mut books.lock().unwrap(), clock.wall_ns());
            }
        }
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
        HubAction::Report(..) | HubAction::Health(_) | HubAction::Close | HubAction::Send(_) => {}
    }
}
