//! What a twin costs: `cargo run --release -p tideline-twin --example figures`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it prints, and stops where it cannot go on")]

use serde_json::json;
use tideline_protocol::time::{Clock as _, SystemClock};
use tideline_twin::{Action, Actor, Change, Edit, Key, Link, Record, Section, Side, Twin, Write};

const KEYS: i64 = 100;
const CHANGES: i64 = 100_000;
const REWRITES: usize = 100;
const MS: f64 = 1e6;

struct End {
    twin: Twin,
    link: Link,
    written: u64,
}

impl End {
    fn take(&mut self, record: Option<Record>) {
        if let Some(record) = record {
            let (Write::Append(bytes) | Write::Replace(bytes)) = &record.write;
            self.written += bytes.len() as u64;
            self.twin.handle_durable(record.ticket);
        }
    }
}

fn end(side: Side, entropy: u8, peer: &str) -> End {
    let twin = Twin::new(Actor::new(side, [entropy; 15])).unwrap();
    let link = Link::new(peer, &twin);
    End { twin, link, written: 0 }
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e3
}

fn change(n: i64, section: Section) -> Change {
    let key = Key::parse(&format!("group-{}/point-{}", n % KEYS / 10, n % 10)).unwrap();
    let edit = Edit { section, key, action: Action::Put(json!(n)) };
    Change { edits: vec![edit], author: "anna".to_owned(), time_ms: 1_790_000_000_000 + n * 1000 }
}

/// One round of messages; says how many bytes they have, and the nanoseconds that the slower step took.
fn exchange(clock: &SystemClock, from: &mut End, to: &mut End) -> (usize, u64) {
    let (mut bytes, mut slowest) = (0, 0);
    let mut quiet = false;
    while !quiet {
        quiet = true;
        for up in [true, false] {
            let (a, b) = if up { (&mut *from, &mut *to) } else { (&mut *to, &mut *from) };
            let start = clock.mono_ns();
            let polled = a.link.poll(&a.twin);
            slowest = slowest.max(clock.mono_ns() - start);
            let Some(message) = polled else { continue };
            quiet = false;
            bytes += message.to_bytes().len();
            let start = clock.mono_ns();
            let record = b.link.handle(&mut b.twin, &message).unwrap();
            slowest = slowest.max(clock.mono_ns() - start);
            b.take(record);
        }
    }
    (bytes, slowest)
}

fn quantile(values: &mut [u64], per_mille: usize) -> f64 {
    values.sort_unstable();
    let at = (values.len().saturating_sub(1)) * per_mille / 1000;
    values.get(at).copied().unwrap_or(0) as f64 / MS
}

fn main() {
    let clock = SystemClock::default();
    let before_mb = resident_mb();
    let (mut hub, mut agent) = (end(Side::Hub, 1, "agent"), end(Side::Agent, 2, "hub"));
    exchange(&clock, &mut hub, &mut agent);
    let (mut edits, mut steps, mut rebases, mut wire) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for n in 0..CHANGES {
        let is_hub = n % 2 == 0;
        let (section, from, to) = if is_hub {
            (Section::Desired, &mut hub, &mut agent)
        } else {
            (Section::Reported, &mut agent, &mut hub)
        };
        let start = clock.mono_ns();
        let record = from.twin.edit(&change(n, section)).unwrap();
        edits.push(clock.mono_ns() - start);
        from.take(record);
        let (bytes, slowest) = exchange(&clock, from, to);
        wire += bytes;
        steps.push(slowest);
        if hub.twin.is_rebase_due() {
            let mut tag = [0; 14];
            tag.iter_mut().zip(n.to_le_bytes()).for_each(|(to, from)| *to = from);
            let start = clock.mono_ns();
            let record = hub.twin.rebase(tag).unwrap();
            hub.take(Some(record));
            exchange(&clock, &mut hub, &mut agent);
            rebases.push(clock.mono_ns() - start);
        }
    }
    assert_eq!(hub.twin.heads(), agent.twin.heads());
    println!("{CHANGES} changes of one of {KEYS} leaves, from both ends in turn, {} rebases", rebases.len());
    println!("wire, a change and its confirmation  {:>8.0} B", wire as f64 / CHANGES as f64);
    println!(
        "edit, p50 / p99                      {:>8.3} / {:.3} ms",
        quantile(&mut edits, 500),
        quantile(&mut edits, 990)
    );
    println!(
        "slowest sync step, p50 / p99 / most  {:>8.3} / {:.3} / {:.3} ms",
        quantile(&mut steps, 500),
        quantile(&mut steps, 990),
        quantile(&mut steps, 1000)
    );
    println!(
        "rebase with both ends, p50 / most    {:>8.3} / {:.3} ms",
        quantile(&mut rebases, 500),
        quantile(&mut rebases, 1000)
    );
    println!("resident, both ends ({} changes)  {:>8.1} MB", agent.twin.changes(), resident_mb() - before_mb);
    load(&clock, "with what came since its last base", &mut agent.twin);
    let record = hub.twin.rebase([7; 14]).unwrap();
    hub.take(Some(record));
    load(&clock, "just rebased", &mut hub.twin);
    for characters in [1_000, 4_000, 8_000] {
        rewrite(&clock, characters);
    }
}

/// A text that is written anew over and over, by a hub that tells each time what was done.
fn rewrite(clock: &SystemClock, characters: usize) {
    let (mut hub, mut agent) = (end(Side::Hub, 3, "agent"), end(Side::Agent, 4, "hub"));
    exchange(clock, &mut hub, &mut agent);
    let (mut edits, mut told, mut steps, mut rebases) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for n in 0..REWRITES {
        // Nothing of what was there is in it.
        let letter = |at: usize| {
            char::from(
                if n % 2 == 0 { b'a' } else { b'n' } + u8::try_from((at * 7919 + n * 31) % 13).unwrap(),
            )
        };
        let letters: String = (0..characters).map(letter).collect();
        let key = Key::parse("log").unwrap();
        let edit = Edit { section: Section::Notes, key, action: Action::Text(letters) };
        let change = Change { edits: vec![edit], author: "anna".to_owned(), time_ms: n as i64 };
        let (before, start) = (hub.twin.heads(), clock.mono_ns());
        let record = hub.twin.edit(&change).unwrap();
        edits.push(clock.mono_ns() - start);
        let start = clock.mono_ns();
        assert_eq!(hub.twin.history(&before).unwrap().len(), 1);
        told.push(clock.mono_ns() - start);
        hub.take(record);
        steps.push(exchange(clock, &mut hub, &mut agent).1);
        if hub.twin.is_rebase_due() {
            let record = hub.twin.rebase([8; 14]).unwrap();
            hub.take(Some(record));
            steps.push(exchange(clock, &mut hub, &mut agent).1);
            rebases += 1;
        }
    }
    println!("a text of {characters} characters, {REWRITES} times written anew, {rebases} rebases");
    for (what, mut of) in [("edit", edits), ("history of the change", told), ("slowest sync step", steps)] {
        let first = of.iter().take(10).map(|ns| format!("{:.1}", *ns as f64 / MS)).collect::<Vec<_>>();
        println!(
            "  {what}: first {} ms; p50 / most {:.1} / {:.1} ms",
            first.join(" "),
            quantile(&mut of, 500),
            quantile(&mut of, 1000)
        );
    }
}

fn load(clock: &SystemClock, what: &str, twin: &mut Twin) {
    let Write::Replace(saved) = twin.save().write else { return };
    let start = clock.mono_ns();
    let again = Twin::load(twin.actor(), &saved, &[] as &[&[u8]]).unwrap();
    let took = (clock.mono_ns() - start) as f64 / MS;
    println!("saved, {what} ({} changes)  {} B, loaded in {took:.2} ms", again.changes(), saved.len());
}
