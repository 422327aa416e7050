//! A UDP relay between one agent and the hub, which can be cut like a cable.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Most client addresses; an agent takes a new port with every connection attempt.
const CLIENTS_MAX: usize = 1024;
const PACKET_BYTES_MAX: usize = 65_536;

/// A running relay; it ends when dropped.
pub struct Relay {
    /// Where the agent connects.
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay to the hub at `hub`.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(hub: SocketAddr) -> Result<Self> {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let address = front.local_addr()?;
        let cut = watch::Sender::new(false);
        let task = tokio::spawn(forward(front, hub, cut.subscribe()));
        Ok(Self { address, cut, task })
    }

    /// Drops every packet from now on, or lets them pass again.
    pub fn set_cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(front: Arc<UdpSocket>, hub: SocketAddr, cut: watch::Receiver<bool>) {
    let mut upstreams: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut pumps = JoinSet::new();
    let mut packet = vec![0_u8; PACKET_BYTES_MAX];
    loop {
        // An error here is an ICMP answer to an earlier packet, not the socket's end.
        let Ok((len, client)) = front.recv_from(&mut packet).await else { continue };
        if *cut.borrow() {
            continue;
        }
        if !upstreams.contains_key(&client) {
            if upstreams.len() >= CLIENTS_MAX {
                upstreams.clear();
                pumps.abort_all();
            }
            let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else { continue };
            let socket = Arc::new(socket);
            pumps.spawn(back(Arc::clone(&socket), Arc::clone(&front), client, cut.clone()));
            upstreams.insert(client, socket);
        }
        if let (Some(upstream), Some(bytes)) = (upstreams.get(&client), packet.get(..len)) {
            // UDP may lose it, and QUIC copes.
            let _lost = upstream.send_to(bytes, hub).await;
        }
    }
}

async fn back(
    upstream: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    client: SocketAddr,
    cut: watch::Receiver<bool>,
) {
    let mut packet = vec![0_u8; PACKET_BYTES_MAX];
    loop {
        let Ok((len, _)) = upstream.recv_from(&mut packet).await else { continue };
        if !*cut.borrow()
            && let Some(bytes) = packet.get(..len)
        {
            let _lost = front.send_to(bytes, client).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn packets_pass_until_it_is_cut() {
        let hub = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::start(hub.local_addr().unwrap()).await.unwrap();
        let agent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut bytes = [0; 16];
        agent.send_to(b"one", relay.address).await.unwrap();
        let (len, from) = hub.recv_from(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..len], b"one");
        hub.send_to(b"two", from).await.unwrap();
        assert_eq!(agent.recv_from(&mut bytes).await.unwrap(), (3, relay.address));
        relay.set_cut(true);
        agent.send_to(b"three", relay.address).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(100), hub.recv_from(&mut bytes)).await.is_err());
    }
}
