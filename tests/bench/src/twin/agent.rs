//! What an agent keeps in memory of its own twin after many changes, and how long a step of its agreement takes. The hub's end is
//! another process, so that the memory is the agent's replica alone.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::{Value, json};
use tideline_protocol::time::{Clock as _, SystemClock};
use tideline_twin::{Action, Actor, Change, Edit, Key, Link, Message, Record, Section, Side, Twin};

use super::{child, number};
use crate::path::memory_mb;
use crate::{Figure, quantile};

/// The arguments with which this program is the agent, and its hub.
pub const ROLE: &str = "twin-agent";
pub const OTHER_END: &str = "twin-agents-hub";
const KEYS: usize = 100;
/// How often memory is looked at, in changes.
const LOOK_EVERY: usize = 100;
const WORKLOAD: &str = "changes of one of 100 leaves, by both in turn";
/// What a frame between the two processes is: a message, a change to make, or the end of an answer.
const MESSAGE: u8 = 0;
const EDIT: u8 = 1;
const DONE: u8 = 2;

fn send(to: &mut impl Write, tag: u8, bytes: &[u8]) -> anyhow::Result<()> {
    to.write_all(&[tag])?;
    to.write_all(&u32::try_from(bytes.len())?.to_le_bytes())?;
    to.write_all(bytes)?;
    Ok(to.flush()?)
}

/// The next frame; none at the end.
fn receive(from: &mut impl Read) -> anyhow::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 5];
    match from.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let [tag, len @ ..] = head;
    let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(len))?];
    from.read_exact(&mut bytes)?;
    Ok(Some((tag, bytes)))
}

struct End {
    twin: Twin,
    link: Link,
    clock: SystemClock,
    steps_ms: Vec<f64>,
    bytes: usize,
}

impl End {
    fn new(side: Side, peer: &str) -> anyhow::Result<Self> {
        let twin = Twin::new(Actor::new(side, [9; 15]))?;
        let link = Link::new(peer, &twin);
        Ok(Self { twin, link, clock: SystemClock::default(), steps_ms: Vec::new(), bytes: 0 })
    }

    /// What is written to storage does not stay in memory.
    fn durable(&mut self, record: Option<Record>) {
        if let Some(record) = record {
            self.twin.handle_durable(record.ticket);
        }
    }

    fn edit(&mut self, n: usize, section: Section) -> anyhow::Result<()> {
        let key = Key::parse(&format!("group-{}/point-{}", n % KEYS / 10, n % 10))?;
        let edits = vec![Edit { section, key, action: Action::Put(json!(n)) }];
        let time_ms = 1_790_000_000_000 + i64::try_from(n)? * 1000;
        let record = self.twin.edit(&Change { edits, author: "anna".to_owned(), time_ms })?;
        self.durable(record);
        Ok(())
    }

    fn handle(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let start = self.clock.mono_ns();
        let message = Message::from_bytes(bytes)?;
        let record = self.link.handle(&mut self.twin, &message)?;
        self.steps_ms.push((self.clock.mono_ns() - start) as f64 / 1e6);
        self.bytes += bytes.len();
        self.durable(record);
        Ok(())
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let start = self.clock.mono_ns();
        let bytes = self.link.poll(&self.twin)?.to_bytes();
        self.steps_ms.push((self.clock.mono_ns() - start) as f64 / 1e6);
        self.bytes += bytes.len();
        Some(bytes)
    }
}

/// The hub: answers each frame with all that it has to say.
pub fn other_end() -> anyhow::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut end = End::new(Side::Hub, "agent")?;
    while let Some((tag, bytes)) = receive(&mut input)? {
        if tag == EDIT {
            let n = u64::from_le_bytes(bytes.as_slice().try_into()?);
            end.edit(usize::try_from(n)?, Section::Desired)?;
        } else {
            end.handle(&bytes)?;
        }
        if end.twin.is_rebase_due() {
            let mut tag = [0; 14];
            tag.iter_mut().zip(end.twin.generation().number.to_le_bytes()).for_each(|(to, from)| *to = from);
            let record = end.twin.rebase(tag)?;
            end.durable(Some(record));
        }
        while let Some(message) = end.next() {
            send(&mut output, MESSAGE, &message)?;
        }
        send(&mut output, DONE, &[])?;
        // They are the agent's alone.
        end.steps_ms.clear();
    }
    Ok(())
}

fn hear(agent: &mut End, from: &mut impl Read) -> anyhow::Result<()> {
    while let Some((MESSAGE, bytes)) = receive(from)? {
        agent.handle(&bytes)?;
    }
    Ok(())
}

/// The agent; says what came of it as JSON.
pub fn play(count: usize) -> anyhow::Result<Value> {
    let mut hub = Command::new(std::env::current_exe()?);
    let mut hub = hub.arg(OTHER_END).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut to = hub.stdin.take().context("a pipe")?;
    let mut from = io::BufReader::new(hub.stdout.take().context("a pipe")?);
    let own = std::process::id();
    let mut agent = End::new(Side::Agent, "hub")?;
    // Written to once, so that growing it is none of the twin's memory.
    agent.steps_ms = vec![1.0; count * 8];
    agent.steps_ms.clear();
    let before_mb = memory_mb(own, "RssAnon")?;
    let mut most_mb = before_mb;
    for n in 0..count {
        if n % 2 == 0 {
            send(&mut to, EDIT, &(n as u64).to_le_bytes())?;
            hear(&mut agent, &mut from)?;
        } else {
            agent.edit(n, Section::Reported)?;
        }
        while let Some(message) = agent.next() {
            send(&mut to, MESSAGE, &message)?;
            hear(&mut agent, &mut from)?;
        }
        if n % LOOK_EVERY == 0 {
            most_mb = most_mb.max(memory_mb(own, "RssAnon")?);
        }
    }
    let last_mb = memory_mb(own, "RssAnon")?;
    drop(to);
    let ended = hub.wait()?;
    anyhow::ensure!(ended.success(), "the hub's end ended with {ended}");
    Ok(json!({
        "last_mb": last_mb - before_mb,
        "most_mb": most_mb - before_mb,
        "step_p50_ms": quantile(&mut agent.steps_ms, 0.5),
        "step_p99_ms": quantile(&mut agent.steps_ms, 0.99),
        "step_most_ms": quantile(&mut agent.steps_ms, 1.0),
        "bytes": agent.bytes as f64 / count as f64,
    }))
}

pub fn measure(count: usize, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let told = child(ROLE, count)?;
    for (name, key, unit) in [
        ("agent's own twin, memory after 100,000 changes (goal 5)", "last_mb", "MB"),
        ("  most meanwhile", "most_mb", "MB"),
        ("agent's sync step, median", "step_p50_ms", "ms"),
        ("  p99 (goal 2)", "step_p99_ms", "ms"),
        ("  most, history cut off among them", "step_most_ms", "ms"),
        ("messages of a change and its confirmation, before frames", "bytes", "B"),
    ] {
        figures.push(Figure { name, workload: WORKLOAD, value: number(&told, key)?, unit });
    }
    Ok(())
}
