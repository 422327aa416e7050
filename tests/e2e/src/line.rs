//! A bad line between agents and a hub, inside the test's process: for machines whose kernel cannot
//! impair a real one, and for faults that a kernel does not know.
//!
//! ```ignore
//! let line = Line::start(hub.quic(), Quality::GOOD, seed).await?;
//! // Agents connect there: `[uplink]` `hub = "…"`.
//! let config = format!("[uplink]\nhub = \"{}\"\n", line.address());
//! line.set(Quality { loss: 0.3, delay: Duration::from_millis(300), ..Quality::GOOD });
//! line.set(Quality { cut: Cut::ToHub, ..Quality::GOOD }); // only answers still pass
//! line.rebind(); // the hub sees every agent come from another address, as behind a NAT
//! line.reset(); // TCP only: open connections are broken off
//! ```
//! [`Line::start_tcp`] takes TCP on the same port number too, so that MQTT or HTTPS can go the same way
//! as QUIC. On TCP a lost packet shows as a delay and never as missing
//! bytes, and nothing is reordered or doubled; a cut line holds back what it is given. Dropping the
//! line ends it.

mod tcp;
mod udp;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Which way a cut line still leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It is whole.
    None,
    /// Nothing gets to the hub; its packets still reach the agents.
    ToHub,
    /// Nothing gets to the agents.
    ToAgent,
    /// Nothing passes.
    Both,
}

/// How well the line works, each way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// How many packets are lost, 0.0 to 1.0.
    pub loss: f64,
    /// How long a packet takes, at least.
    pub delay: Duration,
    /// How much longer it may take; more than the time between two packets reorders them.
    pub jitter: Duration,
    /// How many packets come twice, 0.0 to 1.0.
    pub doubled: f64,
    /// How many packets come later than those after them, by a further [`LATE`], 0.0 to 1.0.
    pub late: f64,
    /// Whether it is cut.
    pub cut: Cut,
}

/// How much later a packet comes that is overtaken.
pub const LATE: Duration = Duration::from_millis(30);
/// What a lost packet costs a TCP connection: the least time after which it is sent again.
const TCP_RESEND: Duration = Duration::from_millis(200);

impl Quality {
    /// A line that does nothing wrong.
    pub const GOOD: Self = Self {
        loss: 0.0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        doubled: 0.0,
        late: 0.0,
        cut: Cut::None,
    };

    /// One that nothing passes.
    pub const CUT: Self = Self { cut: Cut::Both, ..Self::GOOD };

    const fn passes(&self, way: Way) -> bool {
        match (self.cut, way) {
            (Cut::None, _) => true,
            (Cut::Both, _) => false,
            (Cut::ToHub, way) => matches!(way, Way::ToAgent),
            (Cut::ToAgent, way) => matches!(way, Way::ToHub),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToHub,
    ToAgent,
}

/// What happened on a line so far, in packets (TCP: pieces).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Came in.
    pub taken: u64,
    /// Was lost, by chance or by a cut.
    pub lost: u64,
    /// Went out twice.
    pub doubled: u64,
}

#[derive(Debug, Default)]
struct Counters {
    taken: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
}

/// What all tasks of a line share.
#[derive(Debug, Clone)]
struct Shared {
    quality: watch::Receiver<Quality>,
    // Raised by each rebinding, or break of TCP connections.
    addresses: watch::Receiver<u64>,
    breaks: watch::Receiver<u64>,
    counters: Arc<Counters>,
    seed: u64,
}

/// A running line.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    quality: watch::Sender<Quality>,
    addresses: watch::Sender<u64>,
    breaks: watch::Sender<u64>,
    counters: Arc<Counters>,
    tasks: Vec<JoinHandle<()>>,
}

impl Line {
    /// Starts a line for UDP to `hub`. Losses and delays are drawn from `seed`.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(hub: SocketAddr, quality: Quality, seed: u64) -> Result<Self> {
        let front = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        Self::run(front, None, hub, quality, seed)
    }

    /// As [`Self::start`], with TCP to `tcp` on the same port.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start_tcp(udp: SocketAddr, tcp: SocketAddr, quality: Quality, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let front = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, listener.local_addr()?.port())).await?;
        Self::run(front, Some((listener, tcp)), udp, quality, seed)
    }

    fn run(
        front: UdpSocket,
        listener: Option<(TcpListener, SocketAddr)>,
        hub: SocketAddr,
        quality: Quality,
        seed: u64,
    ) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, front.local_addr()?.port()));
        let (quality, addresses) = (watch::Sender::new(quality), watch::Sender::new(0));
        let (breaks, counters) = (watch::Sender::new(0), Arc::new(Counters::default()));
        let shared = Shared {
            quality: quality.subscribe(),
            addresses: addresses.subscribe(),
            breaks: breaks.subscribe(),
            counters: Arc::clone(&counters),
            seed,
        };
        let mut tasks = vec![tokio::spawn(udp::forward(front, hub, shared.clone()))];
        if let Some((listener, to)) = listener {
            tasks.push(tokio::spawn(tcp::forward(listener, to, shared)));
        }
        Ok(Self { address, quality, addresses, breaks, counters, tasks })
    }

    /// Where the agents connect, on loopback; it listens on all addresses of the machine.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the line works that well. What is on its way arrives as it would have.
    pub fn set(&self, quality: Quality) {
        self.quality.send_replace(quality);
    }

    /// The hub sees every agent come from a new address and port from now on (on loopback 127.0.0.2 and
    /// on), and nothing that it sends to the old ones arrives.
    pub fn rebind(&self) {
        self.addresses.send_modify(|generation| *generation += 1);
    }

    /// Breaks off all TCP connections.
    pub fn reset(&self) {
        self.breaks.send_modify(|generation| *generation += 1);
    }

    /// What happened so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Traffic { taken: read(&counters.taken), lost: read(&counters.lost), doubled: read(&counters.doubled) }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
