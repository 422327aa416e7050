//! As much of MQTT 3.1.1 as a publisher and a counting subscriber need, over a blocking socket.

use std::io::{BufReader, BufWriter, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
/// Messages on the way without their ack.
const WINDOW: u64 = 1_000;
/// How long a broker may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(60);

fn length(out: &mut Vec<u8>, mut len: usize) {
    loop {
        let [low, ..] = (len & 0x7f).to_le_bytes();
        len >>= 7;
        if len == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![head];
    length(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

fn read(from: &mut impl std::io::Read) -> anyhow::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    let [head] = byte;
    let mut len = 0_usize;
    for shift in (0..28).step_by(7) {
        from.read_exact(&mut byte)?;
        let [more] = byte;
        len |= usize::from(more & 0x7f) << shift;
        if more & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    Ok((head, body))
}

/// Connects with a session that outlives the connection.
fn connect(broker: SocketAddr, id: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(broker)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    body.extend_from_slice(&[4, 0, 0, 0]);
    text(&mut body, id);
    stream.write_all(&packet(0x10, &body))?;
    let (head, answer) = read(&mut stream)?;
    ensure!(head == CONNACK && answer.get(1) == Some(&0), "the broker refuses: {answer:?}");
    Ok(stream)
}

/// Publishes with QoS 1, with up to [`WINDOW`] messages on the way.
pub struct Publisher {
    out: BufWriter<TcpStream>,
    sent: u64,
    acked: Arc<AtomicU64>,
    // The connection has ended: nothing more will be acked.
    ended: Arc<AtomicBool>,
}

impl Publisher {
    pub fn connect(broker: SocketAddr, id: &str) -> anyhow::Result<Self> {
        let stream = connect(broker, id)?;
        let acked = Arc::new(AtomicU64::new(0));
        let (mut input, count) = (BufReader::new(stream.try_clone()?), Arc::clone(&acked));
        let ended = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ended);
        std::thread::spawn(move || {
            while let Ok((head, _)) = read(&mut input) {
                if head & 0xf0 == PUBACK {
                    count.fetch_add(1, Ordering::AcqRel);
                }
            }
            over.store(true, Ordering::Release);
        });
        Ok(Self { out: BufWriter::with_capacity(1 << 16, stream), sent: 0, acked, ended })
    }

    pub fn acked(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.acked)
    }

    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> anyhow::Result<()> {
        let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
        text(&mut body, topic);
        let id = u16::try_from(self.sent % 65_535)? + 1;
        body.extend_from_slice(&id.to_be_bytes());
        body.extend_from_slice(payload);
        self.out.write_all(&packet(PUBLISH | 2, &body))?;
        self.sent += 1;
        if self.sent - self.acked.load(Ordering::Acquire) >= WINDOW {
            self.wait(WINDOW / 2)?;
        }
        Ok(())
    }

    /// Waits until no more than `open` messages lack their ack.
    pub fn wait(&mut self, open: u64) -> anyhow::Result<()> {
        self.out.flush()?;
        let mut idle = 0;
        let mut last = 0;
        while self.sent - self.acked.load(Ordering::Acquire) > open {
            let now = self.acked.load(Ordering::Acquire);
            idle = if now == last { idle + 1 } else { 0 };
            last = now;
            ensure!(!self.ended.load(Ordering::Acquire), "the broker is gone");
            ensure!(idle < 300_000, "the broker acks no more");
            pause(Duration::from_micros(100));
        }
        Ok(())
    }
}

/// The pause of a thread that has nothing else to do.
pub fn pause(time: Duration) {
    std::thread::park_timeout(time);
}

/// Takes every message of a broker.
pub struct Subscriber {
    came: mpsc::Receiver<Vec<u8>>,
}

impl Subscriber {
    /// Follows `topics`; with the same `id` the broker gives what came in between.
    pub fn connect(broker: SocketAddr, id: &str, topics: &str) -> anyhow::Result<Self> {
        let mut stream = connect(broker, id)?;
        let mut body = vec![0, 1];
        text(&mut body, topics);
        body.push(1);
        stream.write_all(&packet(0x82, &body))?;
        let (out, came) = mpsc::channel();
        // Ends with the connection, or when nobody takes the messages.
        std::thread::spawn(move || take(stream, &out));
        Ok(Self { came })
    }

    /// The payload of the next message; `None` when there was none for `longest`.
    pub fn next(&self, longest: Duration) -> Option<Vec<u8>> {
        self.came.recv_timeout(longest).ok()
    }
}

fn take(mut stream: TcpStream, out: &mpsc::Sender<Vec<u8>>) -> anyhow::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    loop {
        let (head, body) = read(&mut input)?;
        if head & 0xf0 != PUBLISH {
            continue;
        }
        let (len, rest) = body.split_first_chunk::<2>().context("a message without a topic")?;
        let rest = rest.get(usize::from(u16::from_be_bytes(*len))..).context("a topic is cut short")?;
        if head & 6 == 0 {
            out.send(rest.to_vec())?;
            continue;
        }
        let (id, payload) = rest.split_first_chunk::<2>().context("a message without an id")?;
        out.send(payload.to_vec())?;
        stream.write_all(&packet(PUBACK, id))?;
    }
}
