//! TCP over a bad line: bytes come late, in order, or not at all.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Quality, Shared, TCP_RESEND, Way};

/// What is taken at once: a packet's worth, so that losses hit as they would.
const PIECE_BYTES: usize = 1400;
/// A line that loses all would hold a piece back for ever.
const LOSS_MAX: f64 = 0.9;
/// Pieces on their way before the sender is held up, as by a full window.
const WINDOW: usize = 1024;

/// Accepts connections and takes each to `hub`.
pub(super) async fn forward(listener: TcpListener, hub: SocketAddr, shared: Shared) {
    let mut connections = JoinSet::new();
    let mut number = 0_u64;
    while let Ok((client, _)) = listener.accept().await {
        number += 1;
        let shared = Shared { seed: shared.seed ^ number.rotate_left(17), ..shared.clone() };
        connections.spawn(connection(client, hub, shared));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(client: TcpStream, hub: SocketAddr, shared: Shared) {
    let mut breaks = shared.breaks.clone();
    let Ok(upstream) = TcpStream::connect(hub).await else { return };
    let (Ok(()), Ok(())) = (client.set_nodelay(true), upstream.set_nodelay(true)) else { return };
    let (from_client, to_client) = client.into_split();
    let (from_hub, to_hub) = upstream.into_split();
    tokio::select! {
        () = pipe(from_client, to_hub, Way::ToHub, shared.clone()) => {}
        () = pipe(from_hub, to_client, Way::ToAgent, shared) => {}
        _ = breaks.changed() => {}
    }
}

async fn pipe(from: OwnedReadHalf, to: OwnedWriteHalf, way: Way, shared: Shared) {
    let (due, queue) = mpsc::channel(WINDOW);
    // What was read before the end still goes out.
    tokio::join!(read(from, due, way, &shared), write(to, queue, way, shared.quality.clone()));
}

async fn read(mut from: OwnedReadHalf, due: mpsc::Sender<(Instant, Vec<u8>)>, way: Way, shared: &Shared) {
    let mut random = StdRng::seed_from_u64(shared.seed ^ u64::from(way == Way::ToHub));
    let (mut piece, mut last) = (vec![0_u8; PIECE_BYTES], Instant::now());
    while let Ok(len @ 1..) = from.read(&mut piece).await {
        let quality = *shared.quality.borrow();
        shared.counters.taken.fetch_add(1, Ordering::Relaxed);
        let mut at = Instant::now() + quality.delay + random.random_range(Duration::ZERO..=quality.jitter);
        // Each copy of a packet may be lost in its turn.
        while random.random_bool(quality.loss.min(LOSS_MAX)) {
            shared.counters.lost.fetch_add(1, Ordering::Relaxed);
            at += TCP_RESEND;
        }
        last = last.max(at);
        let bytes = piece.get(..len).unwrap_or_default().to_vec();
        if due.send((last, bytes)).await.is_err() {
            return;
        }
    }
}

async fn write(
    mut to: OwnedWriteHalf,
    mut queue: mpsc::Receiver<(Instant, Vec<u8>)>,
    way: Way,
    mut quality: watch::Receiver<Quality>,
) {
    while let Some((at, bytes)) = queue.recv().await {
        let _due = tokio::time::timeout_at(at, std::future::pending::<()>()).await;
        while !quality.borrow_and_update().passes(way) {
            if quality.changed().await.is_err() {
                return;
            }
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _closed = to.shutdown().await;
}
