//! The bad line does what is told of it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tideline_e2e::line::{Cut, Line, Quality};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

const PACKETS: u32 = 2_000;
const LONGEST: Duration = Duration::from_secs(20);
/// After so long nothing more comes.
const QUIET: Duration = Duration::from_millis(300);

struct Ends {
    hub: UdpSocket,
    agent: UdpSocket,
    line: Line,
}

async fn ends(quality: Quality) -> Result<Ends> {
    let hub = UdpSocket::bind("127.0.0.1:0").await?;
    let line = Line::start(hub.local_addr()?, quality, 7).await?;
    Ok(Ends { hub, agent: UdpSocket::bind("127.0.0.1:0").await?, line })
}

impl Ends {
    /// What arrives at the hub of numbered packets, and from where.
    async fn send(&self) -> Result<(Vec<u32>, Vec<SocketAddr>)> {
        let send = async {
            for number in 0..PACKETS {
                self.agent.send_to(&number.to_be_bytes(), self.line.address()).await?;
                tokio::task::yield_now().await;
            }
            anyhow::Ok(())
        };
        let receive = async {
            let (mut numbers, mut from, mut bytes) = (Vec::new(), Vec::new(), [0; 4]);
            while let Ok(received) = tokio::time::timeout(QUIET, self.hub.recv_from(&mut bytes)).await {
                numbers.push(u32::from_be_bytes(bytes));
                from.push(received?.1);
            }
            from.dedup();
            anyhow::Ok((numbers, from))
        };
        let (sent, received) = tokio::join!(send, receive);
        sent?;
        received
    }
}

#[tokio::test]
async fn a_line_loses_doubles_and_reorders_as_much_as_it_was_told() -> Result<()> {
    let quality = Quality { loss: 0.3, doubled: 0.1, late: 0.1, ..Quality::GOOD };
    let ends = ends(quality).await?;
    let (numbers, _) = ends.send().await?;
    let traffic = ends.line.traffic();
    ensure!(numbers.windows(2).any(|pair| pair[0] > pair[1]), "nothing was reordered");
    let share = |part: u64| part as f64 / traffic.taken as f64;
    ensure!((0.25..0.35).contains(&share(traffic.lost)), "{traffic:?}");
    ensure!((0.05..0.09).contains(&share(traffic.doubled)), "{traffic:?}");
    Ok(())
}

#[tokio::test]
async fn a_rebound_line_comes_from_another_port_and_a_cut_one_not_at_all() -> Result<()> {
    let ends = ends(Quality::GOOD).await?;
    let (_, first) = ends.send().await?;
    ends.line.rebind();
    let (numbers, second) = ends.send().await?;
    ensure!(!numbers.is_empty() && first.len() == 1 && second.len() == 1 && first != second, "{second:?}");
    ends.line.set(Quality { cut: Cut::ToHub, ..Quality::GOOD });
    ensure!(ends.send().await?.0.is_empty(), "a cut line leads on");
    let answered = second.first().copied().unwrap_or(ends.line.address());
    ends.hub.send_to(b"back", answered).await?;
    let mut bytes = [0; 4];
    tokio::time::timeout(LONGEST, ends.agent.recv_from(&mut bytes)).await??;
    ensure!(bytes == *b"back");
    Ok(())
}

#[tokio::test]
async fn tcp_comes_whole_and_in_order_over_a_bad_line_until_it_is_reset() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let hub = listener.local_addr()?;
    let quality = Quality { loss: 0.02, jitter: Duration::from_millis(5), ..Quality::GOOD };
    let line = Line::start_tcp(hub, hub, quality, 7).await?;
    let mut agent = tokio::net::TcpStream::connect(line.address()).await?;
    let (mut accepted, _) = listener.accept().await?;
    let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut received = vec![0; sent.len()];
    let both = async { tokio::join!(agent.write_all(&sent), accepted.read_exact(&mut received)) };
    let (written, read) = tokio::time::timeout(LONGEST, both).await?;
    written?;
    read?;
    ensure!(sent == received, "other bytes than were sent");
    line.reset();
    let end = tokio::time::timeout(LONGEST, accepted.read(&mut [0])).await?;
    ensure!(end.is_err() || end.is_ok_and(|len| len == 0), "the connection is open");
    Ok(())
}
