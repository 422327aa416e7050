//! What an agent keeps in memory of its own twin after 100,000 changes, the hub's end being another process:
//! `cargo run --release -p tideline-twin --example memory`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it prints, and stops where it cannot go on")]

use std::io::{self, Read};
use std::process::{Command, Stdio};

use serde_json::json;
use tideline_twin::{Action, Actor, Change, Edit, Key, Link, Message, Record, Section, Side, Twin};

const KEYS: u64 = 100;
const CHANGES: u64 = 100_000;
/// What a frame between the two processes is: a message, a change to make, or the end of an answer.
const MESSAGE: u8 = 0;
const EDIT: u8 = 1;
const DONE: u8 = 2;

fn send(to: &mut impl io::Write, tag: u8, bytes: &[u8]) {
    to.write_all(&[tag]).unwrap();
    to.write_all(&u32::try_from(bytes.len()).unwrap().to_le_bytes()).unwrap();
    to.write_all(bytes).unwrap();
    to.flush().unwrap();
}

fn receive(from: &mut impl io::Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head).ok()?;
    let [tag, len @ ..] = head;
    let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(len)).unwrap()];
    from.read_exact(&mut bytes).unwrap();
    Some((tag, bytes))
}

struct End {
    twin: Twin,
    link: Link,
}

impl End {
    fn new(side: Side, peer: &str) -> Self {
        let twin = Twin::new(Actor::new(side, [9; 15])).unwrap();
        let link = Link::new(peer, &twin);
        Self { twin, link }
    }

    /// What is written to storage does not stay in memory.
    fn durable(&mut self, record: Option<Record>) {
        if let Some(record) = record {
            self.twin.handle_durable(record.ticket);
        }
    }

    fn edit(&mut self, n: u64, section: Section) {
        let key = Key::parse(&format!("group-{}/point-{}", n % KEYS / 10, n % 10)).unwrap();
        let edits = vec![Edit { section, key, action: Action::Put(json!(n)) }];
        let time_ms = 1_790_000_000_000 + i64::try_from(n).unwrap() * 1000;
        let record = self.twin.edit(&Change { edits, author: "anna".to_owned(), time_ms }).unwrap();
        self.durable(record);
    }

    fn handle(&mut self, bytes: &[u8]) {
        let message = Message::from_bytes(bytes).unwrap();
        let record = self.link.handle(&mut self.twin, &message).unwrap();
        self.durable(record);
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        Some(self.link.poll(&self.twin)?.to_bytes())
    }
}

/// The hub: answers each frame with all that it has to say.
fn hub() {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut end = End::new(Side::Hub, "agent");
    while let Some((tag, bytes)) = receive(&mut input) {
        if tag == EDIT {
            end.edit(u64::from_le_bytes(bytes.try_into().unwrap()), Section::Desired);
        } else {
            end.handle(&bytes);
        }
        if end.twin.is_rebase_due() {
            let mut tag = [0; 14];
            tag.iter_mut().zip(end.twin.generation().number.to_le_bytes()).for_each(|(to, from)| *to = from);
            let record = end.twin.rebase(tag).unwrap();
            end.durable(Some(record));
        }
        while let Some(message) = end.next() {
            send(&mut output, MESSAGE, &message);
        }
        send(&mut output, DONE, &[]);
    }
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e3
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("hub") {
        return hub();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let mut child = child.arg("hub").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), io::BufReader::new(child.stdout.take().unwrap()));
    let before_mb = resident_mb();
    let mut agent = End::new(Side::Agent, "hub");
    let mut most_mb = 0_f64;
    for n in 0..CHANGES {
        if n % 2 == 0 {
            send(&mut to, EDIT, &n.to_le_bytes());
            hear(&mut agent, &mut from);
        } else {
            agent.edit(n, Section::Reported);
        }
        while let Some(message) = agent.next() {
            send(&mut to, MESSAGE, &message);
            hear(&mut agent, &mut from);
        }
        if n % 100 == 0 {
            most_mb = most_mb.max(resident_mb());
        }
    }
    drop(to);
    child.wait().unwrap();
    println!("{CHANGES} changes of one of {KEYS} leaves, {} since the last base", agent.twin.changes());
    println!("agent's twin, anonymous memory at the end {:>6.1} MB", resident_mb() - before_mb);
    println!("agent's twin, anonymous memory at most    {:>6.1} MB", most_mb - before_mb);
}

fn hear(agent: &mut End, from: &mut impl Read) {
    while let Some((MESSAGE, bytes)) = receive(from) {
        agent.handle(&bytes);
    }
}
