//! Datagrams over a bad line: each has its own fate.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{LATE, Quality, Shared, Way};

/// Most client addresses; an agent takes a new port with every connection attempt.
const CLIENTS_MAX: usize = 1024;
const PACKET_BYTES_MAX: usize = 65_536;
/// Most packets on their way; what comes beyond is lost, as in a router's queue.
const QUEUE_MAX: usize = 16_384;
/// How long nothing may be due.
const IDLE: Duration = Duration::from_secs(3600);

/// A packet with where it goes; through its client's own socket on the way to the hub.
struct Packet {
    bytes: Vec<u8>,
    through: Arc<UdpSocket>,
    to: SocketAddr,
}

/// One direction of the line: decides about each packet, and sends it when it is due.
struct Pipe {
    way: Way,
    shared: Shared,
    random: StdRng,
    due: mpsc::Sender<(Instant, Packet)>,
}

impl Pipe {
    fn new(way: Way, shared: &Shared, tasks: &mut JoinSet<()>) -> Self {
        let (due, queue) = mpsc::channel(QUEUE_MAX);
        tasks.spawn(send_when_due(queue));
        let random = StdRng::seed_from_u64(shared.seed ^ u64::from(way == Way::ToHub));
        Self { way, shared: shared.clone(), random, due }
    }

    fn take(&mut self, bytes: &[u8], through: &Arc<UdpSocket>, to: SocketAddr) {
        let quality: Quality = *self.shared.quality.borrow();
        let counters = &self.shared.counters;
        counters.taken.fetch_add(1, Ordering::Relaxed);
        if !quality.passes(self.way) || self.random.random_bool(quality.loss) {
            counters.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let copies = 1 + u64::from(self.random.random_bool(quality.doubled));
        counters.doubled.fetch_add(copies - 1, Ordering::Relaxed);
        for _ in 0..copies {
            let late = if self.random.random_bool(quality.late) { LATE } else { Duration::ZERO };
            let at = Instant::now()
                + quality.delay
                + self.random.random_range(Duration::ZERO..=quality.jitter)
                + late;
            let packet = Packet { bytes: bytes.to_vec(), through: Arc::clone(through), to };
            if self.due.try_send((at, packet)).is_err() {
                counters.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn send_when_due(mut queue: mpsc::Receiver<(Instant, Packet)>) {
    let mut waiting: BTreeMap<(Instant, u64), Packet> = BTreeMap::new();
    let mut number = 0;
    loop {
        let next = waiting.first_key_value().map_or_else(|| Instant::now() + IDLE, |((at, _), _)| *at);
        match tokio::time::timeout_at(next, queue.recv()).await {
            Ok(Some((at, packet))) => {
                number += 1;
                waiting.insert((at, number), packet);
            }
            Ok(None) => return,
            Err(_) => {
                if let Some((_, packet)) = waiting.pop_first() {
                    // UDP may lose it.
                    let _lost = packet.through.send_to(&packet.bytes, packet.to).await;
                }
            }
        }
    }
}

/// Relays between the agents that come to `front` and the hub.
pub(super) async fn forward(front: UdpSocket, hub: SocketAddr, shared: Shared) {
    let front = Arc::new(front);
    let mut tasks = JoinSet::new();
    let mut to_hub = Pipe::new(Way::ToHub, &shared, &mut tasks);
    let to_agent = Arc::new(tokio::sync::Mutex::new(Pipe::new(Way::ToAgent, &shared, &mut tasks)));
    let mut addresses = shared.addresses.clone();
    let mut upstreams: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut pumps = JoinSet::new();
    let mut packet = vec![0_u8; PACKET_BYTES_MAX];
    loop {
        let received = tokio::select! {
            received = front.recv_from(&mut packet) => received,
            changed = addresses.changed() => {
                if changed.is_err() {
                    return;
                }
                // The old sockets close with their pumps.
                upstreams.clear();
                pumps.abort_all();
                continue;
            }
        };
        // An error here is an ICMP answer to an earlier packet, not the socket's end.
        let Ok((len, client)) = received else { continue };
        if !upstreams.contains_key(&client) {
            if upstreams.len() >= CLIENTS_MAX {
                upstreams.clear();
                pumps.abort_all();
            }
            let any =
                if hub.ip().is_loopback() { loopback(*addresses.borrow()) } else { Ipv4Addr::UNSPECIFIED };
            let Ok(socket) = UdpSocket::bind((any, 0)).await else { continue };
            let socket = Arc::new(socket);
            pumps.spawn(back(Arc::clone(&socket), Arc::clone(&front), client, Arc::clone(&to_agent)));
            upstreams.insert(client, socket);
        }
        if let (Some(upstream), Some(bytes)) = (upstreams.get(&client), packet.get(..len)) {
            to_hub.take(bytes, upstream, hub);
        }
    }
}

/// The address that the line has after so many rebindings.
fn loopback(generation: u64) -> Ipv4Addr {
    let last = u8::try_from(generation % 250).unwrap_or_default();
    Ipv4Addr::new(127, 0, 0, 1 + last)
}

async fn back(
    upstream: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    client: SocketAddr,
    pipe: Arc<tokio::sync::Mutex<Pipe>>,
) {
    let mut packet = vec![0_u8; PACKET_BYTES_MAX];
    loop {
        let Ok((len, _)) = upstream.recv_from(&mut packet).await else { continue };
        if let Some(bytes) = packet.get(..len) {
            pipe.lock().await.take(bytes, &front, client);
        }
    }
}
