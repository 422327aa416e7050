//! Three editors of one twin, by API, by the hub's command line and on site, while hub and agent are killed and their line is cut:
//! no edit that was answered for is lost, none that was taken away comes back, and all replicas say the same at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Outcome, Scale, pass, seconds};
use crate::line::{Line, Quality};
use crate::{Agent, Hub, http, process, until};

const DEVICE: &str = "valve-0";
const SITE_EDITOR: &str = "site";
/// Longest pause before a harm.
const PAUSE_MAX: Duration = Duration::from_millis(2_500);
/// A document takes one change in 50 ms over the API.
const EDIT_EVERY: Duration = Duration::from_millis(120);
const SETTLE_MAX: Duration = Duration::from_secs(240);
/// Leaves that an editor writes again and again.
const LEAVES: i64 = 6;

/// By which way somebody edits.
#[derive(Debug, Clone)]
enum Way {
    Api { at: SocketAddr, token: String },
    Hub { data: String },
    Site { data: String },
}

impl Way {
    /// Makes a change; says whether it was answered for. One that was not may have been made, or not.
    async fn patch(&self, desired: &Value) -> bool {
        let text = desired.to_string();
        let done = match self {
            Self::Api { at, token } => {
                let body = json!({"desired": desired}).to_string();
                let path = format!("/api/v1/devices/{DEVICE}/twin");
                let body = ("application/merge-patch+json", body);
                return http::patch(*at, &path, Some(token), body)
                    .await
                    .is_ok_and(|answer| answer.status == 200);
            }
            Self::Hub { data } => {
                process::run("cloud-hub", &["twin", "set", DEVICE, "--patch", &text, "--data", data]).await
            }
            Self::Site { data } => {
                let args = ["twin", "set", "--patch", &text, "--author", SITE_EDITOR, "--data", data];
                process::run("edge-agent", &args).await
            }
        };
        done.is_ok_and(|said| said.code == Some(0))
    }
}

/// What an editor knows of its own edits.
#[derive(Debug, Default)]
struct Book {
    /// By leaf: the last value that was answered for, and the last that was tried.
    leaves: BTreeMap<String, (i64, i64)>,
    /// What was added to the counter of all: answered for, and tried.
    added: (i64, i64),
    /// Leaves that were taken away, and answered for.
    gone: BTreeSet<String>,
    tried: u64,
    answered: u64,
}

impl Book {
    fn note(&mut self, is_answered: bool) -> bool {
        self.tried += 1;
        self.answered += u64::from(is_answered);
        is_answered
    }
}

/// Edits until it is told to stop.
async fn edit(name: &'static str, way: Way, seed: u64, stop: watch::Receiver<bool>) -> Book {
    let (mut random, mut book) = (StdRng::seed_from_u64(seed), Book::default());
    let mut turns = tokio::time::interval(EDIT_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for n in 1.. {
        turns.tick().await;
        if *stop.borrow() {
            break;
        }
        match random.random_range(0..10) {
            0..6 => {
                let leaf = format!("k{}", random.random_range(0..LEAVES));
                let is_answered = book.note(way.patch(&json!({name: {&leaf: n}})).await);
                let kept = book.leaves.entry(leaf).or_default();
                *kept = (if is_answered { n } else { kept.0 }, n);
            }
            // All write this one: conflicts come and go.
            6 => {
                book.note(way.patch(&json!({"all": {"mode": format!("{name}-{n}")}})).await);
            }
            7 | 8 => {
                let is_answered = book.note(way.patch(&json!({"all": {"count": {"$add": 1}}})).await);
                book.added.0 += i64::from(is_answered);
                book.added.1 += 1;
            }
            _ => {
                let leaf = format!("{name}-{n}");
                if book.note(way.patch(&json!({"passing": {&leaf: n}})).await)
                    && book.note(way.patch(&json!({"passing": {&leaf: null}})).await)
                {
                    book.gone.insert(leaf);
                }
            }
        }
    }
    book
}

fn number(value: Option<&Value>) -> i64 {
    value.and_then(Value::as_i64).unwrap_or(0)
}

/// Holds a twin against what its editors know.
fn check(desired: &Value, books: &[(&str, Book)]) -> Result<()> {
    for (name, book) in books {
        for (leaf, (answered, tried)) in &book.leaves {
            let found = number(desired.pointer(&format!("/{name}/{leaf}")));
            ensure!(
                (*answered..=*tried).contains(&found),
                "{name}/{leaf} is {found}; {answered} was answered for, {tried} was tried"
            );
        }
        let passing = desired.get("passing").and_then(Value::as_object);
        let back = book.gone.iter().find(|leaf| passing.is_some_and(|there| there.contains_key(*leaf)));
        ensure!(back.is_none(), "passing/{back:?} was taken away, and is there");
    }
    let sum = |of: fn(&Book) -> i64| books.iter().map(|(_, book)| of(book)).sum::<i64>();
    let (least, most) = (sum(|book| book.added.0), sum(|book| book.added.1));
    let count = number(desired.pointer("/all/count/$counter"));
    ensure!((least..=most).contains(&count), "all/count is {count}; {least} to {most} were added");
    Ok(())
}

/// Hub, agent and the line between them.
struct Pair {
    hub: Hub,
    agent: Agent,
    line: Line,
}

impl Pair {
    async fn start(seed: u64) -> Result<Self> {
        let hub = Hub::start().await?;
        let line = Line::start(hub.quic(), Quality::GOOD, seed).await?;
        let config = format!(
            "[http]\nlisten = \"\"\n[uplink]\nhub = \"{}\"\nmqtt = \"off\"\n[[source]]\nkind = \"host\"\n",
            line.address()
        );
        let agent = Agent::start(&hub, DEVICE, &config).await?;
        Ok(Self { hub, agent, line })
    }

    fn data(&self, of: &str) -> String {
        self.hub.folder().join(of).display().to_string()
    }

    fn ways(&self) -> [(&'static str, Way); 3] {
        let token = self.hub.token().to_owned();
        [
            ("api", Way::Api { at: self.hub.http(), token }),
            ("cli", Way::Hub { data: self.data("hub") }),
            (SITE_EDITOR, Way::Site { data: self.data(&format!("{DEVICE}/data")) }),
        ]
    }

    async fn at_hub(&self, what: &[&str]) -> Result<Value> {
        let said = self.hub.command(&[&["twin"], what, &[DEVICE, "--json"]].concat()).await?.good()?;
        Ok(serde_json::from_str(&said)?)
    }

    async fn on_site(&self, what: &[&str]) -> Result<Value> {
        let data = self.data(&format!("{DEVICE}/data"));
        let args = [&["twin"], what, &["--json", "--data", &data]].concat();
        Ok(serde_json::from_str(&process::run("edge-agent", &args).await?.good()?)?)
    }

    /// Waits until both ends say the same; that is what they say.
    async fn settled(&mut self) -> Result<Value> {
        self.line.set(Quality::GOOD);
        self.hub.ready().await?;
        let same = until("both ends to say the same", SETTLE_MAX, || async {
            let path = format!("/api/v1/devices/{DEVICE}/twin");
            let hub: Value = serde_json::from_str(&self.hub.get(&path).await?)?;
            // The agent may be starting.
            let Ok(site) = self.on_site(&["get"]).await else { return Ok(None) };
            let sections = ["desired", "tags", "notes"];
            let same = sections.iter().all(|section| hub.get(section) == site.get(section));
            Ok(same.then_some(hub))
        });
        let twin = match same.await {
            Ok(twin) => twin,
            Err(error) => {
                let (hub, site) = (self.at_hub(&["get"]).await, self.on_site(&["get"]).await);
                return Err(error.context(format!(
                    "hub: {hub:?}\non site: {site:?}\n{}\n{}",
                    self.hub.running.log_end(),
                    self.agent.running.log_end()
                )));
            }
        };
        let contested = |found: Value| -> BTreeSet<String> {
            let none = Vec::new();
            let all = found.get("conflicts").and_then(Value::as_array).unwrap_or(&none).iter();
            let values =
                all.flat_map(|one| one.get("values").and_then(Value::as_array).into_iter().flatten());
            values.map(|value| value.get("value").unwrap_or(&Value::Null).to_string()).collect()
        };
        let (there, here) = (self.at_hub(&["conflicts"]).await?, self.on_site(&["conflicts"]).await?);
        let (there, here) = (contested(there), contested(here));
        ensure!(there == here, "in conflict are {there:?} at the hub, and {here:?} on site");
        twin.get("desired").cloned().context("a twin")
    }
}

/// Harms for so many rounds, while all three edit.
///
/// # Errors
/// As [`super::run`].
pub async fn run(scale: Scale) -> Result<Outcome> {
    let (mut random, start) = (StdRng::seed_from_u64(scale.seed), Instant::now());
    let mut pair = Pair::start(scale.seed).await?;
    until("the agent's twin", SETTLE_MAX, || async { Ok(pair.on_site(&["get"]).await.ok()) }).await?;
    let (stop, stopped) = watch::channel(false);
    let mut editors = JoinSet::new();
    for (at, (name, way)) in pair.ways().into_iter().enumerate() {
        let (seed, stopped) = (scale.seed ^ (at as u64 + 1), stopped.clone());
        editors.spawn(async move { (name, edit(name, way, seed, stopped).await) });
    }
    let mut done: Map<String, Value> = Map::new();
    for _ in 0..scale.rounds {
        pass(random.random_range(Duration::ZERO..=PAUSE_MAX)).await;
        let harm = match random.random_range(0..5) {
            0 | 1 => {
                pair.hub.kill().await?;
                // Edits find no hub for a while, or one that has just begun to start.
                pass(random.random_range(Duration::ZERO..=PAUSE_MAX / 5)).await;
                pair.hub.start_again().await?;
                "hub killed"
            }
            2 => {
                pair.agent.kill_and_restart().await?;
                "agent killed"
            }
            3 => {
                pair.agent.kill_and_restart().await?;
                pair.hub.kill_and_restart().await?;
                "both killed"
            }
            _ => {
                pair.line.set(Quality::CUT);
                pass(scale.hold).await;
                pair.line.set(Quality::GOOD);
                "line cut"
            }
        };
        let times = number(done.get(harm)) + 1;
        done.insert(harm.to_owned(), json!(times));
    }
    stop.send_replace(true);
    let mut books = Vec::new();
    while let Some(book) = editors.join_next().await {
        books.push(book?);
    }
    let desired = pair.settled().await?;
    check(&desired, &books)?;
    let told: Vec<String> = books
        .iter()
        .map(|(name, book)| format!("{name} {} of {} edits answered for", book.answered, book.tried))
        .collect();
    let answered: u64 = books.iter().map(|(_, book)| book.answered).sum();
    ensure!(books.iter().all(|(_, book)| book.answered > 0), "an editor got nothing done: {told:?}");
    // From what is on the disks, too.
    pair.agent.kill_and_restart().await?;
    pair.hub.kill_and_restart().await?;
    check(&pair.settled().await?, &books)?;
    Ok(Outcome::Proved(format!(
        "{}; {}; {answered} edits, lost 0, none came back, both ends equal, in {}",
        Value::Object(done),
        told.join(", "),
        seconds(start)
    )))
}
