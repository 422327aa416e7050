//! Takes links: handshakes, and a place for each session.
//!
//! Anybody may begin a handshake, so that handshakes have places of their own and never take those
//! of sessions. An agent has a session or two, and a newer one takes the place of an older.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tideline_link::link::{CLOSE_FULL, CLOSE_REPLACED, Link, LinkError, LinkHandle};
use tideline_link::quic::{IncomingLink, ServerEndpoint};
use tideline_protocol::model::AgentId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::serve;
use crate::bucket::{Allowance, Pace, party};
use crate::hub::App;
use crate::places::{Limits, Place, Places};
use crate::telemetry::Metric;

/// Longest handshake, first frame included.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Most handshakes at once; each takes some 50 KB. A site whose line comes back brings all its agents
/// from one address at once; who finds no place comes again with a back-off.
const HANDSHAKES: Limits = Limits { all: 1024, each: 256 };
/// Handshakes begun: so many at once, and 400 a second. One takes a millisecond or two of a core, and
/// whoever comes beyond them is turned away for the price of a packet.
const HANDSHAKE_PACE: Allowance = Allowance { burst: 512, refill_ns: 2_500_000 };
/// From so many on an address must be proved first, or made-up ones would take all places.
const PROVE_ABOVE: usize = HANDSHAKES.all / 4;
/// Most sessions at once; each may hold the credit's bytes of runs.
const SESSIONS_MAX: usize = 4096;
/// Most sessions of one agent: the one that works, and a dead one that has not been noticed yet.
const SESSIONS_PER_AGENT_MAX: usize = 2;

/// Most links of other transports that wait for their session.
pub const ARRIVED_MAX: usize = 256;

/// Takes links until the hub stops: of the QUIC endpoint, and those of other transports, which have
/// done their handshake already.
pub async fn accept(hub: App, endpoint: Arc<ServerEndpoint>, mut arrived: mpsc::Receiver<Link>) {
    let (mut handshakes, mut sessions) = (JoinSet::new(), JoinSet::new());
    let (places, seats) = (Places::new(HANDSHAKES), Seats::default());
    let pace = Pace::new(HANDSHAKE_PACE);
    loop {
        tokio::select! {
            () = hub.stopped() => break,
            Some(_) = sessions.join_next() => {}
            Some(done) = handshakes.join_next() => {
                if let Ok(Some(link)) = done {
                    admit(&hub, link, &seats, &mut sessions);
                }
            }
            Some(link) = arrived.recv() => admit(&hub, link, &seats, &mut sessions),
            incoming = endpoint.accept() => match incoming {
                // One that is dropped is refused, without a handshake; its agent backs off.
                Some(_) if pace.take(hub.clock.mono_ns(), 0).is_err() => {
                    hub.counters.add(Metric::HandshakesPutOff, 1);
                }
                Some(incoming) => knock(&hub, incoming, &places, &mut handshakes),
                None => break,
            },
        }
    }
    drop(handshakes);
    while sessions.join_next().await.is_some() {}
}

fn knock(hub: &App, incoming: IncomingLink, places: &Places<IpAddr>, handshakes: &mut JoinSet<Option<Link>>) {
    let incoming = if places.taken() < PROVE_ABOVE { Some(incoming) } else { incoming.prove_address() };
    let Some(incoming) = incoming else { return };
    let remote = incoming.remote_addr();
    match places.take(Some(party(remote.ip()))) {
        Ok(place) => {
            handshakes.spawn(handshake(Arc::clone(hub), incoming, place));
        }
        Err(full) => {
            hub.counters.add(Metric::HandshakesPutOff, 1);
            tracing::debug!(%remote, ?full, "handshake refused: too many at once");
        }
    }
}

async fn handshake(hub: App, incoming: IncomingLink, _place: Place<IpAddr>) -> Option<Link> {
    let remote = incoming.remote_addr();
    match incoming.finish(HANDSHAKE_MAX).await {
        Ok(link) => Some(link.into()),
        Err(error) => {
            hub.counters.add(Metric::HandshakesFailed, 1);
            let certificate = matches!(error, LinkError::PeerCertificate { .. });
            if certificate && hub.complaints.take(remote.ip(), hub.clock.mono_ns()).is_ok() {
                tracing::warn!(%remote, %error, "an agent was not let in: is it enrolled with another hub?");
            } else {
                tracing::debug!(%remote, %error, "handshake failed");
            }
            None
        }
    }
}

fn admit(hub: &App, link: Link, seats: &Seats, sessions: &mut JoinSet<()>) {
    let Some(seat) = Seat::of(&link, seats) else {
        link.close(CLOSE_FULL, "the link names no agent");
        return;
    };
    if sessions.len() >= SESSIONS_MAX {
        hub.counters.add(Metric::SessionsRefused, 1);
        tracing::warn!(agent = %seat.party.0, "session refused: {SESSIONS_MAX} live already");
        link.close(CLOSE_FULL, "the hub has as many sessions as it can");
        return;
    }
    let hub = Arc::clone(hub);
    sessions.spawn(async move {
        serve(hub, link).await;
        drop(seat);
    });
}

// The key belongs to it: who has an older key of an agent cannot push out the session of the newer.
type Party = (AgentId, Option<[u8; 32]>);
#[derive(Default)]
struct Open {
    by_party: HashMap<Party, VecDeque<(u64, LinkHandle)>>,
    // Never given out twice: a seat that is slow to go must not take a newer one's entry with it.
    next: u64,
}

/// The open sessions by agent.
#[derive(Default)]
struct Seats {
    open: Arc<Mutex<Open>>,
}

/// One session's seat, free again when dropped.
struct Seat {
    open: Arc<Mutex<Open>>,
    party: Party,
    number: u64,
}

fn locked(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// Takes a seat; the agent's oldest session goes when it has one too many.
    fn of(link: &Link, seats: &Seats) -> Option<Self> {
        let party = (link.peer_agent()?.clone(), link.peer_certificate().map(|shown| shown.key_sha256));
        let mut open = locked(&seats.open);
        let number = open.next;
        open.next = number.saturating_add(1);
        let own = open.by_party.entry(party.clone()).or_default();
        own.push_back((number, link.handle()));
        if own.len() > SESSIONS_PER_AGENT_MAX
            && let Some((_, oldest)) = own.pop_front()
        {
            oldest.close(CLOSE_REPLACED, "newer sessions of this agent took over");
        }
        Some(Self { open: Arc::clone(&seats.open), party, number })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = locked(&self.open);
        if let Some(own) = open.by_party.get_mut(&self.party) {
            own.retain(|(number, _)| *number != self.number);
            if own.is_empty() {
                open.by_party.remove(&self.party);
            }
        }
    }
}
