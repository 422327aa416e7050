//! Every state of a command × a kill of the agent, of the hub, of both, and replies that are lost for good: what was begun is never
//! begun again, and both ends say the same of it at the end. What runs is a program that adds its name to a file.
//!
//! One agent and one hub live through all of it. Before each harm there is a command in each of the states, so that a row of the
//! table is one kill.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tideline_e2e::line::{Cut, Line, Quality};
use tideline_e2e::{Agent, Hub, http, process, until};

const LONG: Duration = Duration::from_secs(120);
const DEVICE: &str = "press-2";
/// Runs until it is let go, and does it once.
const HOLD: &str = "hold";
const ONCE: &str = "once";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Agent,
    Hub,
    Both,
    /// The session ends at both ends while what was said last is on its way.
    Replies,
}

/// What a program does before it ends.
#[derive(Debug)]
struct Given {
    name: String,
    id: String,
}

struct Bench {
    hub: Hub,
    agent: Agent,
    line: Line,
    folder: PathBuf,
    /// The names of all that were given.
    given: BTreeSet<String>,
}

impl Bench {
    async fn start() -> Result<Self> {
        let hub = Hub::start().await?;
        let line = Line::start(hub.quic(), Quality::GOOD, 1).await?;
        let folder = hub.folder().to_owned();
        let (log, at) = (folder.join("done"), folder.display());
        let program = |name: &str, more: &str| {
            format!(
                "[[program]]\nname = \"{name}\"\npath = \"/bin/sh\"\n\
                 args = [\"-c\", '''echo \"$1\" >> {log:?}{more}''', \"{name}\"]\nallow = [\"*\"]\nmemory_mb = 512\n"
            )
        };
        let config = format!(
            "[http]\nlisten = \"\"\n[uplink]\nhub = \"{}\"\nmqtt = \"off\"\n[commands]\nrunning_max = 3\n\
             [[source]]\nkind = \"host\"\n{}{}",
            line.address(),
            program(HOLD, &format!("; while [ ! -e {at}/go-$1 ]; do sleep 0.1; done")),
            program(ONCE, ""),
        );
        let agent = Agent::start(&hub, DEVICE, &config).await?;
        Ok(Self { hub, agent, line, folder, given: BTreeSet::new() })
    }

    async fn give(&mut self, program: &str, name: String, priority: u8) -> Result<Given> {
        let input = json!({"program": program, "args": [name]});
        let body = json!({"kind": "run", "input": input, "priority": priority}).to_string();
        let path = format!("/api/v1/devices/{DEVICE}/commands");
        let body = ("application/json", body);
        let answer = http::post(self.hub.http(), &path, Some(self.hub.token()), body).await?;
        ensure!(answer.status == 201, "{}", answer.body);
        let said: Value = serde_json::from_str(&answer.body)?;
        let id = said.get("id").and_then(Value::as_str).context("an id")?.to_owned();
        self.given.insert(name.clone());
        Ok(Given { name, id })
    }

    async fn at_hub(&self, given: &Given) -> Result<Value> {
        Ok(serde_json::from_str(&self.hub.get(&format!("/api/v1/commands/{}", given.id)).await?)?)
    }

    async fn hub_says(&self, given: &Given, state: &str) -> Result<Value> {
        until(&format!("{} {state} at the hub", given.name), LONG, || async {
            let found = self.at_hub(given).await?;
            Ok((found.get("state") == Some(&json!(state))).then_some(found))
        })
        .await
    }

    /// What the agent says of itself; nothing while it starts.
    async fn of_agent(&self, args: &[&str]) -> Result<Option<Value>> {
        let data = self.folder.join(DEVICE).join("data").display().to_string();
        let said = process::run("edge-agent", &[args, &["--json", "--data", &data]].concat()).await?;
        said.good().ok().map(|said| Ok(serde_json::from_str(&said)?)).transpose()
    }

    /// Waits until the agent says this of all of these.
    async fn agent_says(&self, wanted: &[(&Given, &str)]) -> Result<()> {
        until(&format!("{wanted:?} at the agent"), LONG, || async {
            let Some(found) = self.of_agent(&["command", "list"]).await? else { return Ok(None) };
            let all = found.as_array().context("a list")?.iter();
            let states: BTreeMap<_, _> =
                all.filter_map(|one| Some((one.get("id")?.as_str()?, one.get("state")?.as_str()?))).collect();
            let so = |(given, state): &(&Given, &str)| states.get(given.id.as_str()) == Some(state);
            Ok(wanted.iter().all(so).then_some(()))
        })
        .await
    }

    /// How often it was done, by the marks that it leaves.
    fn done(&self, given: &Given) -> usize {
        let log = std::fs::read_to_string(self.folder.join("done")).unwrap_or_default();
        log.lines().filter(|line| *line == given.name).count()
    }

    /// All that was ever given was done once, also what ended long before the last kill.
    fn each_was_done_once(&self) -> Result<()> {
        let log = std::fs::read_to_string(self.folder.join("done"))?;
        let mut left = self.given.clone();
        for name in log.lines() {
            ensure!(left.remove(name), "{name} was done again, or was never given");
        }
        ensure!(left.is_empty(), "{left:?} were never done");
        Ok(())
    }

    async fn began(&self, given: &Given) -> Result<()> {
        until(&format!("{} begins", given.name), LONG, || async { Ok((self.done(given) > 0).then_some(())) })
            .await
    }

    fn let_go(&self, given: &Given) -> Result<()> {
        Ok(std::fs::write(self.folder.join(format!("go-{}", given.name)), "")?)
    }

    fn cut(&self, cut: Cut) {
        self.line.set(Quality { cut, ..Quality::GOOD });
    }

    /// Waits until the agent has given the session up: what it said in it and was not heard is lost then.
    async fn session_is_over(&self) -> Result<()> {
        let ended = || anyhow::Ok(self.agent.log()?.matches("the session has ended").count());
        let before = ended()?;
        let now = || async { Ok((ended()? > before).then_some(())) };
        until("the end of the session", LONG, now).await
    }

    async fn harm(&mut self, harm: Harm) -> Result<()> {
        match harm {
            Harm::Agent => self.agent.kill_and_restart().await,
            Harm::Hub => self.hub.kill_and_restart().await,
            Harm::Both => {
                self.hub.kill().await?;
                self.agent.kill_and_restart().await?;
                self.hub.start_again().await
            }
            Harm::Replies => self.session_is_over().await,
        }
    }

    /// One row of the table.
    async fn row(&mut self, harm: Harm) -> Result<()> {
        let name = |state: &str| format!("{harm:?}-{state}");
        let told = self.give(HOLD, name("told-not-acked"), 9).await?;
        let ended = self.give(HOLD, name("ended-not-told"), 9).await?;
        let running = self.give(HOLD, name("running"), 9).await?;
        for given in [&told, &ended, &running] {
            self.began(given).await?;
            self.hub_says(given, "running").await?;
        }
        // These take the places of the two that end, so that the last one waits.
        let next = [self.give(HOLD, name("next-1"), 5).await?, self.give(HOLD, name("next-2"), 5).await?];
        let delivered = self.give(ONCE, name("delivered"), 0).await?;
        for given in next.iter().chain([&delivered]) {
            self.hub_says(given, "delivered").await?;
        }
        self.cut(Cut::ToAgent);
        self.let_go(&told)?;
        self.hub_says(&told, "succeeded").await?;
        self.cut(Cut::Both);
        self.let_go(&ended)?;
        let [first, second] = &next;
        let there = [
            (&told, "succeeded"),
            (&ended, "succeeded"),
            (&running, "running"),
            (first, "running"),
            (second, "running"),
            (&delivered, "delivered"),
        ];
        self.agent_says(&there).await?;
        self.began(first).await?;
        self.began(second).await?;
        let queued = self.give(ONCE, name("queued"), 0).await?;
        ensure!(self.at_hub(&ended).await?.get("state") == Some(&json!("running")));
        ensure!(self.at_hub(&queued).await?.get("state") == Some(&json!("queued")));
        ensure!(self.done(&delivered) == 0 && self.done(&queued) == 0);
        self.harm(harm).await?;
        // While nobody is there to take it.
        let unsent = self.give(ONCE, name("unsent"), 0).await?;
        self.cut(Cut::None);
        let is_begun_anew = matches!(harm, Harm::Agent | Harm::Both);
        let end = if is_begun_anew { "failed" } else { "succeeded" };
        if is_begun_anew {
            self.agent_says(&[(&running, end), (first, end), (second, end)]).await?;
        }
        for given in [&running, first, second] {
            self.let_go(given)?;
        }
        let ends = [
            (&told, "succeeded"),
            (&ended, "succeeded"),
            (&running, end),
            (first, end),
            (second, end),
            (&delivered, "succeeded"),
            (&queued, "succeeded"),
            (&unsent, "succeeded"),
        ];
        for (given, state) in ends {
            let found = self.hub_says(given, state).await?;
            let code = found.pointer("/error/code").and_then(Value::as_str);
            ensure!(code == (state == "failed").then_some("interrupted"), "{found}");
        }
        self.agent_says(&ends).await?;
        self.each_was_done_once()
    }

    /// What has ended is left alone by one more start of both.
    async fn start_once_more(&mut self) -> Result<()> {
        self.harm(Harm::Both).await?;
        // An agent begins what it finds in its journal before it takes anything new.
        let last = self.give(ONCE, "after-all".to_owned(), 0).await?;
        self.hub_says(&last, "succeeded").await?;
        self.each_was_done_once()
    }
}

#[tokio::test]
async fn in_every_state_kills_and_lost_replies_leave_a_command_done_once_and_the_same_at_both_ends()
-> Result<()> {
    let mut bench = Bench::start().await?;
    for harm in [Harm::Agent, Harm::Hub, Harm::Both, Harm::Replies] {
        bench.row(harm).await.with_context(|| format!("{harm:?}"))?;
    }
    bench.start_once_more().await.context("after all of them")
}
