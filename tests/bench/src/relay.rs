//! A UDP relay that counts what it carries, and that can be closed like a valve.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const PACKET_BYTES_MAX: usize = 65_536;

#[derive(Default)]
struct Counted {
    open: AtomicBool,
    to_hub: AtomicU64,
    to_agent: AtomicU64,
}

/// A relay between one agent and a hub. Its threads end with the process.
pub struct Relay {
    /// Where the agent connects.
    pub address: SocketAddr,
    counted: Arc<Counted>,
}

impl Relay {
    /// Starts a closed relay to the hub at `hub`.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start(hub: SocketAddr) -> anyhow::Result<Self> {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        back.connect(hub)?;
        let address = front.local_addr()?;
        let counted = Arc::new(Counted::default());
        let client = Arc::new(Mutex::new(None));
        let ends = (front.try_clone()?, back.try_clone()?);
        let (count, known) = (Arc::clone(&counted), Arc::clone(&client));
        std::thread::spawn(move || forward(&ends.0, &ends.1, &count, &known));
        let count = Arc::clone(&counted);
        std::thread::spawn(move || backward(&front, &back, &count, &client));
        Ok(Self { address, counted })
    }

    /// Lets packets pass, or drops them.
    pub fn set_open(&self, open: bool) {
        self.counted.open.store(open, Ordering::Release);
    }

    /// UDP payload bytes carried so far, both directions.
    pub fn bytes(&self) -> u64 {
        self.counted.to_hub.load(Ordering::Acquire) + self.counted.to_agent.load(Ordering::Acquire)
    }
}

fn forward(front: &UdpSocket, back: &UdpSocket, counted: &Counted, client: &Mutex<Option<SocketAddr>>) {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    loop {
        // An error here is an ICMP answer to an earlier packet, not the socket's end.
        let Ok((len, from)) = front.recv_from(&mut packet) else { continue };
        *client.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
        if let Some(bytes) = packet.get(..len).filter(|_| counted.open.load(Ordering::Acquire)) {
            counted.to_hub.fetch_add(len as u64, Ordering::AcqRel);
            let _lost = back.send(bytes);
        }
    }
}

fn backward(front: &UdpSocket, back: &UdpSocket, counted: &Counted, client: &Mutex<Option<SocketAddr>>) {
    let mut packet = vec![0; PACKET_BYTES_MAX];
    loop {
        let Ok(len) = back.recv(&mut packet) else { continue };
        let to = *client.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(to), Some(bytes)) =
            (to, packet.get(..len).filter(|_| counted.open.load(Ordering::Acquire)))
        {
            counted.to_agent.fetch_add(len as u64, Ordering::AcqRel);
            let _lost = front.send_to(bytes, to);
        }
    }
}
