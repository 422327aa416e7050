//! The same work by mosquitto: a broker at the edge with a bridge to a broker in the cloud.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tideline_e2e::mosquitto::program;
use tideline_protocol::time::{Clock as _, SystemClock};

use super::mqtt::{Publisher, Subscriber, pause};
use super::{OUTAGE, Score, Sizes};
use crate::workload::{Batch, walk};

/// Of both brokers; of the bridge on top the lines in [`BRIDGE`].
const COMMON: &str = "allow_anonymous true\npersistence true\nautosave_interval 1\nmax_queued_messages 0\n";
const BRIDGE: &str = "topic # out 1\ncleansession false\nrestart_timeout 1\n";
/// Readings in one message.
const BATCH: usize = 100;
const SERIES: u32 = 1_000;
const QUIET: Duration = Duration::from_secs(60);

pub fn settings() -> String {
    format!("{} | bridge: {}; QoS 1, plain TCP", COMMON.trim(), BRIDGE.trim()).replace('\n', "; ")
}

/// A broker; killed when dropped.
struct Broker {
    folder: TempDir,
    port: u16,
    child: Child,
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Broker {
    fn start(bridge_to: Option<SocketAddr>) -> anyhow::Result<Self> {
        let (folder, port) = (tempfile::tempdir_in(".")?, free_port()?);
        let path = std::fs::canonicalize(folder.path())?;
        let mut text =
            format!("listener {port} 127.0.0.1\n{COMMON}persistence_location {}/\n", path.display());
        // Started by root, it would give up rights to its own folder.
        text.push_str("user root\n");
        if let Some(to) = bridge_to {
            text.push_str(&format!("connection cloud\naddress {to}\n{BRIDGE}"));
        }
        std::fs::write(path.join("mosquitto.conf"), text)?;
        let child = launch(&path.join("mosquitto.conf"))?;
        let broker = Self { folder, port, child };
        broker.ready()?;
        Ok(broker)
    }

    fn ready(&self) -> anyhow::Result<()> {
        for _ in 0..1_000 {
            if TcpStream::connect(at(self.port)).is_ok() {
                return Ok(());
            }
            pause(Duration::from_millis(10));
        }
        anyhow::bail!("mosquitto does not listen")
    }

    fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = launch(&std::fs::canonicalize(self.folder.path())?.join("mosquitto.conf"))?;
        self.ready()
    }

    /// Bytes that the process had written to the disk.
    fn written(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:"));
        Ok(line.context("no write_bytes in /proc")?.trim().parse()?)
    }
}

fn launch(config: &std::path::Path) -> anyhow::Result<Child> {
    let mut mosquitto = Command::new(program("mosquitto")?);
    mosquitto.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    mosquitto.spawn().context("mosquitto cannot be started")
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A TCP relay that counts, and that breaks off and refuses all connections while it is closed.
struct Valve {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
}

impl Valve {
    fn start(to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, open) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let bytes = Arc::new(AtomicU64::new(0));
        let (gate, count) = (Arc::clone(&open), Arc::clone(&bytes));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if gate.load(Ordering::Acquire)
                    && let Ok(far) = TcpStream::connect(to)
                {
                    let _broken = join(near, far, &gate, &count);
                }
            }
        });
        Ok(Self { address, open, bytes })
    }

    fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    fn bytes(&self) -> f64 {
        self.bytes.load(Ordering::Acquire) as f64
    }
}

fn join(
    near: TcpStream,
    far: TcpStream,
    gate: &Arc<AtomicBool>,
    count: &Arc<AtomicU64>,
) -> std::io::Result<()> {
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        from.set_read_timeout(Some(Duration::from_millis(20)))?;
        to.set_nodelay(true)?;
        let (gate, count) = (Arc::clone(gate), Arc::clone(count));
        std::thread::spawn(move || copy(from, to, &gate, &count));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, gate: &AtomicBool, count: &AtomicU64) {
    use std::io::Read as _;
    let mut buffer = vec![0; 1 << 16];
    while gate.load(Ordering::Acquire) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                count.fetch_add(len as u64, Ordering::AcqRel);
                let Some(bytes) = buffer.get(..len) else { break };
                if to.write_all(bytes).is_err() {
                    break;
                }
            }
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _closed = from.shutdown(std::net::Shutdown::Both);
    let _closed = to.shutdown(std::net::Shutdown::Both);
}

/// Messages of [`BATCH`] readings of a second of the walk; `{t}` stands for the time.
fn messages(batch: &Batch) -> Vec<String> {
    let one = |part: &[(u32, Vec<tideline_protocol::model::Sample>)]| {
        let values = part
            .iter()
            .flat_map(|(no, samples)| samples.iter().map(move |s| format!("\"p{no}\":{}", s.value)));
        format!("{{\"t\":{{t}},\"v\":{{{}}}}}", values.collect::<Vec<_>>().join(","))
    };
    batch.chunks(BATCH).map(one).collect()
}

fn now_ms() -> f64 {
    SystemClock::default().wall_ns() as f64 / 1e6
}

fn stamped(message: &str) -> Vec<u8> {
    message.replace("{t}", &format!("{:.0}", now_ms())).into_bytes()
}

fn time_of(payload: &[u8]) -> f64 {
    let value: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
    value.get("t").and_then(serde_json::Value::as_f64).unwrap_or(0.0)
}

/// Readings a second that a publisher gets acked, `batch` of them in a message.
fn accept(batch: usize, messages_in_all: usize) -> anyhow::Result<f64> {
    let broker = Broker::start(None)?;
    // Somebody must want the messages, or the broker keeps none.
    drop(Subscriber::connect(at(broker.port), "cloud", "#")?);
    let mut publisher = Publisher::connect(at(broker.port), "source")?;
    let texts: Vec<String> = walk(u32::try_from(batch)?, 100).iter().flat_map(messages).collect();
    let clock = SystemClock::default();
    let start = clock.mono_ns();
    for text in texts.iter().cycle().take(messages_in_all) {
        publisher.publish("walk", &stamped(text))?;
    }
    publisher.wait(0)?;
    Ok((messages_in_all * batch) as f64 / ((clock.mono_ns() - start) as f64 / 1e9))
}

/// Readings and JSON megabytes a second from the moment at which the link is up.
fn drain(seconds: usize) -> anyhow::Result<(f64, f64)> {
    let cloud = Broker::start(None)?;
    let valve = Valve::start(at(cloud.port))?;
    let edge = Broker::start(Some(valve.address))?;
    let subscriber = Subscriber::connect(at(cloud.port), "hub", "#")?;
    let mut publisher = Publisher::connect(at(edge.port), "source")?;
    let (mut sent, mut bytes) = (0_usize, 0_usize);
    for text in walk(SERIES, seconds).iter().flat_map(messages) {
        let payload = stamped(&text);
        bytes += payload.len();
        sent += 1;
        publisher.publish("walk", &payload)?;
    }
    publisher.wait(0)?;
    let clock = SystemClock::default();
    let start = clock.mono_ns();
    valve.set_open(true);
    let mut came = 0;
    while came < sent && subscriber.next(QUIET).is_some() {
        came += 1;
    }
    anyhow::ensure!(came == sent, "of {sent} messages {came} came over the bridge");
    let time_s = (clock.mono_ns() - start) as f64 / 1e9;
    Ok(((sent * BATCH) as f64 / time_s, bytes as f64 / time_s / 1e6))
}

/// Bytes a reading on the wire and on the flash, live, at 1,000 readings a second.
fn live(seconds: usize) -> anyhow::Result<(f64, f64)> {
    let cloud = Broker::start(None)?;
    let valve = Valve::start(at(cloud.port))?;
    valve.set_open(true);
    let edge = Broker::start(Some(valve.address))?;
    let subscriber = Subscriber::connect(at(cloud.port), "hub", "#")?;
    let mut publisher = Publisher::connect(at(edge.port), "source")?;
    let mut readings = 0_usize;
    let (mut wire, mut flash) = (0.0, 0.0);
    for (second, batch) in walk(SERIES, seconds + 2).iter().enumerate() {
        if second == 2 {
            (wire, flash, readings) = (valve.bytes(), edge.written()?, 0);
        }
        for text in messages(batch) {
            publisher.publish("walk", &stamped(&text))?;
            readings += BATCH;
        }
        publisher.wait(0)?;
        let due = now_ms() + 1_000.0;
        while now_ms() < due {
            let left = Duration::from_secs_f64(((due - now_ms()) / 1e3).max(0.001));
            let _message = subscriber.next(left);
        }
    }
    Ok(((valve.bytes() - wire) / readings as f64, (edge.written()? - flash) / readings as f64))
}

/// Milliseconds from link-up to the first reading taken after it, 2,000 readings a second, 30 s cut.
fn first_fresh() -> anyhow::Result<f64> {
    let cloud = Broker::start(None)?;
    let valve = Valve::start(at(cloud.port))?;
    valve.set_open(true);
    let edge = Broker::start(Some(valve.address))?;
    let subscriber = Subscriber::connect(at(cloud.port), "hub", "#")?;
    let mut publisher = Publisher::connect(at(edge.port), "source")?;
    let texts: Vec<String> = walk(100, 100).iter().flat_map(messages).collect();
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let source = std::thread::spawn(move || {
        for text in texts.iter().cycle() {
            if stop.load(Ordering::Acquire) || publisher.publish("walk", &stamped(text)).is_err() {
                return;
            }
            let _slow = publisher.wait(0);
            pause(Duration::from_millis(50));
        }
    });
    subscriber.next(QUIET).context("nothing comes over the bridge")?;
    valve.set_open(false);
    let end_ms = now_ms() + OUTAGE.as_secs_f64() * 1e3;
    while now_ms() < end_ms {
        let _late = subscriber.next(Duration::from_millis(100));
    }
    let up_ms = now_ms();
    valve.set_open(true);
    let first = loop {
        let payload = subscriber.next(QUIET).context("nothing comes over the bridge")?;
        if time_of(&payload) >= up_ms {
            break now_ms() - up_ms;
        }
    };
    done.store(true, Ordering::Release);
    let _ended = source.join();
    Ok(first)
}

/// Acked readings that were lost by `kills` kills of the edge's broker, one reading a message.
fn kills(kills: u32, mut wait: impl FnMut() -> Duration) -> anyhow::Result<u64> {
    let mut broker = Broker::start(None)?;
    drop(Subscriber::connect(at(broker.port), "cloud", "#")?);
    // The subscription itself is on the disk only after the next autosave.
    pause(Duration::from_millis(2_500));
    let mut lost = 0_u64;
    for _ in 0..kills {
        let mut publisher = Publisher::connect(at(broker.port), "source")?;
        let acked = publisher.acked();
        let source =
            std::thread::spawn(move || while publisher.publish("walk", b"{\"p0\":12.34}").is_ok() {});
        pause(wait());
        broker.kill_and_restart()?;
        let _ended = source.join();
        let subscriber = Subscriber::connect(at(broker.port), "cloud", "#")?;
        let mut came = 0;
        while subscriber.next(Duration::from_millis(500)).is_some() {
            came += 1;
        }
        lost += acked.load(Ordering::Acquire).saturating_sub(came);
    }
    Ok(lost)
}

pub fn score(sizes: Sizes, wait: impl FnMut() -> Duration) -> anyhow::Result<Score> {
    let (drained_per_s, drained_mb_per_s) = drain(sizes.backlog_s)?;
    let (wire, flash) = live(sizes.live_s)?;
    Ok(Score {
        accept_single: accept(1, sizes.singles)?,
        accept_batch: accept(BATCH, sizes.batched / BATCH)?,
        drained_per_s,
        drained_mb_per_s,
        fresh_ms: first_fresh()?,
        wire,
        flash,
        lost_per_1000: kills(sizes.kills, wait)? as f64 * 1_000.0 / f64::from(sizes.kills),
    })
}
