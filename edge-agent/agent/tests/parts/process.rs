//! `edge-agent run` as a process, with commands and signals beside it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use edge_agent::serve;
use edge_agent::status::Status;
use tokio::net::UnixDatagram;

use crate::LONG;
use crate::hub::Hub;

/// Ends with its test, whatever comes.
pub struct Agent(pub Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended by itself. The hub's end of the protocol, which runs in this process, goes on meanwhile: an
    /// agent that ends says goodbye to it.
    pub async fn ended(mut self) -> std::process::ExitStatus {
        let id = self.0.id().to_string();
        let mut waiting = tokio::task::spawn_blocking(move || self.0.wait().unwrap());
        if let Ok(status) = tokio::time::timeout(LONG, &mut waiting).await {
            return status.unwrap();
        }
        let _ = Command::new("kill").args(["-KILL", &id]).status();
        panic!("it does not end");
    }
}

pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-agent"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("TIDELINE_") {
            command.env_remove(variable);
        }
    }
    command.args(args).arg("--data").arg(folder).arg("--config").arg(folder.join("agent.toml"));
    command
}

pub fn output(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

/// Asks for the status until it is so.
pub async fn until(folder: &Path, what: impl Fn(&Status) -> bool) -> Status {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let seen = async {
        loop {
            looks.tick().await;
            if let Ok(status) = serve::ask_status(folder).await
                && what(&status)
            {
                return status;
            }
        }
    };
    tokio::time::timeout(LONG, seen).await.expect("it is never so")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_syncs_on_command_reloads_on_sighup_and_ends_in_order() {
    let hub = Hub::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    hub.enrol(path);
    std::fs::write(path.join("rows.csv"), "timestamp,flow\n1,1\n2,2\n3,3\n").unwrap();
    let source = format!("[[source]]\nkind = \"replay\"\npath = \"{}\"\n", path.join("rows.csv").display());
    let config = |hub: &str| format!("[http]\nlisten = \"\"\n[uplink]\nhub = \"{hub}\"\n{source}");
    std::fs::write(path.join("agent.toml"), config("an address without a port")).unwrap();
    let agent = Agent(command(path, &["run"]).spawn().unwrap());

    until(path, |status| status.account.pending == 3 && status.breaker.failures > 0).await;
    let said = output(path, &["sync", "--timeout", "0"]);
    assert_eq!(said.status.code(), Some(1));
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("0 rows sent, 3 pending; not connected to hub an address"), "{text}");

    std::fs::write(path.join("agent.toml"), config(&hub.addr) + "[spool]\nquota_mb = 3\n").unwrap();
    agent.signal("-HUP");
    until(path, |status| status.config.needs_restart == ["spool.quota_mb"]).await;
    let said = String::from_utf8(output(path, &["status"]).stdout).unwrap();
    let file = path.join("agent.toml").display().to_string();
    for part in
        ["source   replay-1 (ended): 3 accepted, 0 rejected", &format!("config   {file}"), "spool.quota_mb"]
    {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let said = output(path, &["sync", "--json"]);
    assert!(said.status.success());
    let report: edge_agent::sync::SyncReport = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((report.reached, report.pending), (true, 0));
    assert_eq!(hub.stored().len(), 1);

    // An export is the agent's to give while it runs, and says the same as the files do later.
    let export = |args: &[&str]| output(path, &[&["store", "export"], args].concat());
    let exported = export(&[]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    assert_eq!(exported.stdout.iter().filter(|byte| **byte == b'\n').count(), 4);
    let part = String::from_utf8(export(&["--json", "--from", "2", "--to", "3"]).stdout).unwrap();
    let reading: serde_json::Value = serde_json::from_str(&part).unwrap();
    assert_eq!((&reading["point"], &reading["value"]), (&"flow".into(), &2.0.into()), "{part}");
    let wrong = export(&["--series", "no/such"]);
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no series \"no/such\""));
    let said = output(path, &["store", "repair"]);
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("an agent runs on"));
    agent.signal("-TERM");
    assert!(agent.ended().await.success());
    assert!(!serve::socket_path(path).exists());
    assert_eq!(export(&[]).stdout, exported.stdout);
    let said = output(path, &["store", "inspect", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&found["closed_cleanly"], &found["account"]["stored"]), (&true.into(), &3.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_when_nobody_reads_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let hub = Hub::start();
    hub.enrol(path);
    // Each failure to connect is told.
    std::fs::write(path.join("agent.toml"), "[http]\nlisten = \"\"\n[uplink]\nhub = \"no port\"\n").unwrap();
    let mut run = command(path, &["run"]);
    run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut agent = Agent(run.spawn().unwrap());
    until(path, |status| status.breaker.failures > 0).await;
    drop((agent.0.stdin.take(), agent.0.stdout.take(), agent.0.stderr.take()));
    let before = until(path, |_| true).await.breaker.failures;
    agent.signal("-HUP");
    until(path, |status| status.breaker.failures > before + 2).await;
    agent.signal("-TERM");
    assert!(agent.ended().await.success());
}

/// A small file system; gone when dropped.
struct Small(std::path::PathBuf);

impl Small {
    /// `None` where the machine does not allow it.
    fn mount(at: &Path, options: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tideline"]).arg(at).stderr(Stdio::null());
        mount.status().ok().filter(std::process::ExitStatus::success).map(|_| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_its_streams_give_up_by_their_policies_and_it_recovers_with_room() {
    const ROWS: u64 = 6_000;
    const COLUMNS: u64 = 50;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let path = data.as_path();
    let Some(_small) = Small::mount(path, "size=6m,mode=0700") else { return };
    let hub = Hub::start();
    hub.enrol(path);
    let names = (0..COLUMNS).map(|column| format!(",p{column}")).collect::<String>();
    let (mut rows, mut digits) = (format!("timestamp{names}\n"), 1_u64);
    for time in 0..ROWS {
        rows.push_str(&time.to_string());
        for _ in 0..COLUMNS {
            digits = digits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            rows.push_str(&format!(",0.{}", digits >> 11));
        }
        rows.push('\n');
    }
    let file = folder.path().join("rows.csv");
    std::fs::write(&file, rows).unwrap();
    let source = format!("[[source]]\nkind = \"replay\"\npath = {file:?}\n");
    let config = format!("[http]\nlisten = \"\"\n[uplink]\nhub = \"no port\"\n{source}");
    std::fs::write(path.join("agent.toml"), config).unwrap();

    let mut agent = Agent(command(path, &["run"]).spawn().unwrap());
    let status = until(path, |status| status.sources.values().any(|source| source.done)).await;
    let given_up = status.drops.get("disk_full").copied().unwrap_or_default();
    assert!(status.spool.disk_full && given_up > 0, "{status:?}");
    assert_eq!((status.account.produced, status.account.dropped), (ROWS * COLUMNS, given_up));
    assert!(status.account.balances() && status.account.pending > 0, "{status:?}");
    let said = String::from_utf8(output(path, &["status"]).stdout).unwrap();
    assert!(said.contains(&format!("dropped  {given_up} rows: disk_full")), "{said}");

    agent.0.kill().unwrap();
    agent.0.wait().unwrap();
    let _more = Small::mount(path, "remount,size=64m,mode=0700").unwrap();
    agent = Agent(command(path, &["run"]).spawn().unwrap());
    let status = until(path, |status| !status.epoch.is_empty()).await;
    assert!(!status.spool.disk_full);
    assert_eq!((status.account.produced, status.account.dropped), (ROWS * COLUMNS, given_up));
    agent.signal("-TERM");
    agent.ended().await;
}

/// What the agent tells the service manager, one message after the other.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(folder: &Path) -> Self {
        let path = folder.join("notify");
        Self { socket: UnixDatagram::bind(&path).unwrap(), path }
    }

    /// Starts an agent that is to tell so often that it is alive.
    fn run(&self, folder: &Path, watchdog_usec: &str) -> Agent {
        std::fs::write(folder.join("agent.toml"), "[http]\nlisten = \"\"\n").unwrap();
        let mut command = command(folder, &["run"]);
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", watchdog_usec);
        Agent(command.spawn().unwrap())
    }

    /// Sends itself a message; whether it had room for that.
    fn fill(&self) -> bool {
        let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        sender.send_to(b"X=1", &self.path).is_ok()
    }

    /// Waits until it is told this.
    async fn told(&self, wanted: &str) -> String {
        let mut bytes = [0; 512];
        let heard = async {
            loop {
                let count = self.socket.recv(&mut bytes).await.unwrap();
                let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
                if text.lines().any(|line| line == wanted) {
                    return text;
                }
            }
        };
        tokio::time::timeout(LONG, heard).await.expect("it is never told")
    }
}

#[tokio::test]
async fn the_service_manager_is_told_of_start_life_reload_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let hub = Hub::start();
    hub.enrol(path);
    let manager = Manager::new(path);
    let agent = manager.run(path, "200000");
    manager.told("READY=1").await;
    manager.told("WATCHDOG=1").await;
    agent.signal("-HUP");
    let reloading = manager.told("RELOADING=1").await;
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    manager.told("READY=1").await;
    agent.signal("-TERM");
    manager.told("STOPPING=1").await;
    assert!(agent.ended().await.success());
}

#[tokio::test]
async fn a_service_manager_that_reads_nothing_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let hub = Hub::start();
    hub.enrol(path);
    let manager = Manager::new(path);
    // Its queue has no room for anything from the start on.
    while manager.fill() {}
    let agent = manager.run(path, "2000");
    until(path, |status| !status.epoch.is_empty()).await;
    agent.signal("-TERM");
    assert!(agent.ended().await.success());
}

#[tokio::test]
async fn lines_on_standard_input_become_readings_until_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let hub = Hub::start();
    hub.enrol(path);
    let source = "[[source]]\nkind = \"stdin\"\nname = \"lines\"\n";
    std::fs::write(path.join("agent.toml"), format!("[http]\nlisten = \"\"\n{source}")).unwrap();
    let mut agent = Agent(command(path, &["run"]).stdin(Stdio::piped()).spawn().unwrap());
    let mut input = agent.0.stdin.take().unwrap();
    input.write_all(b"timestamp,flow\n1,1.5\n2\n3,3.5\n").unwrap();
    until(path, |status| status.account.produced == 2).await;
    input.write_all(b"4,4.5").unwrap();
    drop(input);
    let status = until(path, |status| status.sources.get("lines").is_some_and(|lines| lines.done)).await;
    let lines = &status.sources["lines"];
    assert_eq!((status.account.produced, lines.rejected), (3, 1));
    assert!(lines.last_error.as_ref().unwrap().starts_with("stdin:3: "), "{:?}", lines.last_error);
    agent.signal("-TERM");
    assert!(agent.ended().await.success());
}
