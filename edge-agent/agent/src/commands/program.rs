//! Running a program that the configuration names: never through a shell, in a process group of its own, which is killed whole when
//! the program ends, is cancelled or takes too long.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User};
use serde::Deserialize;
use serde_json::json;
use tideline_protocol::commands::{Ended, errors};
use tideline_protocol::wire::{CommandError, CommandId};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::News;
use super::kinds::{Hands, Run};
use crate::config::Program;
use crate::run::own_program;

/// Where a program finds others. It has nothing else in its environment but what its output is to be written in.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of output that are taken at a time.
const PIECE_BYTES: usize = 8 * 1024;
/// How long output is waited for when the program has ended: something that left its group may hold it open.
const DRAIN: Duration = Duration::from_secs(1);
/// Longest list of further arguments.
const ARGS_MAX: usize = 64;
/// Longest of them, in bytes.
const ARG_BYTES_MAX: usize = 4 * 1024;
/// Longest line that is looked at for how far a program is, in bytes.
const PERCENT_BYTES_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunInput {
    program: String,
    #[serde(default)]
    args: Vec<String>,
    timeout_ms: Option<u64>,
}

/// A child that is killed with its group when nobody waits for it any more.
struct Group {
    child: Child,
    // Its group has its number, as long as anything of it lives.
    id: Option<Pid>,
}

impl Group {
    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Self { child, id }
    }

    /// Once: later the number may be that of another group.
    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // It may have ended just now.
            let _gone = killpg(id, Signal::SIGKILL);
        }
    }

    /// Waits for its end, which is also that of all that it has started.
    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let ended = self.child.wait().await;
        // Right behind it, nothing else has been given the number.
        self.kill();
        ended
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Program {
    /// Whether a command may give it this argument.
    fn allows(&self, arg: &str) -> bool {
        self.allow.iter().any(|allowed| allowed == arg || (allowed == "*" && !arg.starts_with('-')))
    }
}

impl Run {
    pub(super) async fn run(&self, hands: &Hands) -> Result<Ended, CommandError> {
        let RunInput { program: name, args, timeout_ms } = self.input()?;
        let jobs = hands.jobs.borrow().clone();
        let not_allowed = |text: String| CommandError::new(errors::NOT_ALLOWED, text);
        let program = jobs.programs.iter().find(|program| program.name == name).ok_or_else(|| {
            let names: Vec<&str> = jobs.programs.iter().map(|program| program.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            not_allowed(format!("program: {name:?} is not in the agent's configuration; allowed are {names}"))
        })?;
        if args.len() > ARGS_MAX || args.iter().any(|arg| arg.len() > ARG_BYTES_MAX || arg.contains('\0')) {
            let text =
                format!("args: allowed are {ARGS_MAX} of {ARG_BYTES_MAX} bytes, without the character 0");
            return Err(CommandError::new(errors::BAD_INPUT, text));
        }
        // Errors are read by many, and an argument may be a secret.
        if let Some(at) = args.iter().position(|arg| !program.allows(arg)) {
            let number = at.saturating_add(1);
            return Err(not_allowed(format!(
                "args: number {number} may not be given to {name}; allowed is what the allow list of the program holds"
            )));
        }
        let wanted = Self::timeout(timeout_ms, program.timeout).min(program.timeout);
        let mut command = command(program, hands)?;
        let spawned = command.args(&program.args).args(&args).spawn();
        let unavailable = |error: io::Error| {
            CommandError::new(errors::UNAVAILABLE, format!("{}: {error}", program.path.display()))
        };
        let group = Group::new(spawned.map_err(unavailable)?);
        self.follow(group, wanted, program.output_max).await
    }

    async fn follow(&self, mut group: Group, longest: Duration, most: usize) -> Result<Ended, CommandError> {
        let end = tokio::time::Instant::now() + longest;
        let (out, err) = (group.child.stdout.take(), group.child.stderr.take());
        let mut kept = Kept {
            id: self.command.id,
            news: self.news.clone(),
            room: most,
            left_out: 0,
            line: Vec::new(),
            percent: None,
        };
        let (pieces, mut heard) = mpsc::channel(4);
        let readers = [pass_on(out, pieces.clone()), pass_on(err, pieces)];
        let done = async {
            let mut status = None;
            loop {
                tokio::select! {
                    ended = group.wait(), if status.is_none() => {
                        status = Some(ended);
                        let rest = async {
                            while let Some(piece) = heard.recv().await {
                                kept.take(&piece).await;
                            }
                        };
                        let _held_open = timeout(DRAIN, rest).await;
                        break;
                    }
                    Some(piece) = heard.recv() => kept.take(&piece).await,
                }
            }
            status
        };
        let status = tokio::select! {
            status = done => status,
            () = sleep_until(end) => None,
        };
        readers.iter().for_each(tokio::task::JoinHandle::abort);
        let failed = |text: String| CommandError::new(errors::FAILED, text);
        match status {
            None => {
                group.kill();
                let ms = longest.as_millis();
                Err(CommandError::new(errors::TIMEOUT, format!("it ran for {ms} ms and was killed")))
            }
            Some(Err(error)) => Err(failed(error.to_string())),
            Some(Ok(status)) if status.success() => {
                let result = json!({"exit": 0, "output_left_out": kept.left_out});
                Ok(Ended::Succeeded(serde_json::to_vec(&result).ok()))
            }
            Some(Ok(status)) => Err(failed(shown(status))),
        }
    }
}

fn shown(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with {code}"),
        (None, Some(signal)) => format!("signal {signal} has ended it"),
        (None, None) => status.to_string(),
    }
}

/// What becomes of output.
struct Kept {
    id: CommandId,
    news: mpsc::Sender<News>,
    room: usize,
    left_out: usize,
    // The beginning of the line that is not whole yet.
    line: Vec<u8>,
    percent: Option<u8>,
}

impl Kept {
    async fn take(&mut self, piece: &[u8]) {
        // It only goes up: a program that says one and another for ever must not fill the way to the hub.
        if let Some(percent) = self.most_percent(piece).filter(|percent| self.percent < Some(*percent)) {
            self.percent = Some(percent);
            let _ended = self.news.send(News::Percent(self.id, percent)).await;
        }
        let (taken, rest) = piece.split_at(self.room.min(piece.len()));
        self.room -= taken.len();
        self.left_out += rest.len();
        if !taken.is_empty() {
            // Nobody hears it when the agent ends.
            let _ended = self.news.send(News::Output(self.id, taken.to_vec())).await;
        }
    }

    /// How far the program says it is, by the lines that end in this piece.
    fn most_percent(&mut self, piece: &[u8]) -> Option<u8> {
        let mut most = None;
        for byte in piece {
            if matches!(byte, b'\n' | b'\r') {
                most = most.max(percent_of(&self.line));
                self.line.clear();
            } else if self.line.len() <= PERCENT_BYTES_MAX {
                self.line.push(*byte);
            }
        }
        most
    }
}

/// What a line says that is a whole number of at most 100 and `%`, and nothing else.
fn percent_of(line: &[u8]) -> Option<u8> {
    let line = str::from_utf8(line).ok().filter(|line| line.len() <= PERCENT_BYTES_MAX)?;
    let digits = line.trim().strip_suffix('%')?.trim_end();
    digits.parse().ok().filter(|percent| *percent <= 100 && !digits.starts_with('+'))
}

/// Reads all that comes, also what nobody keeps: the program must not wait.
fn pass_on(
    from: Option<impl AsyncRead + Unpin + Send + 'static>,
    to: mpsc::Sender<Vec<u8>>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let piece = buffer.get(..count).unwrap_or_default().to_vec();
            if to.send(piece).await.is_err() {
                return;
            }
        }
    })
}

/// The program without its arguments. One whose memory is limited is begun by this program, which limits itself first.
fn command(program: &Program, hands: &Hands) -> Result<Command, CommandError> {
    let mut command = match program.memory_max {
        None => Command::new(&program.path),
        Some(bytes) => {
            let none = "program.memory_mb: the agent is part of another program, which cannot begin one with a limit";
            let own = hands.restart.is_some().then(|| own_program().ok()).flatten();
            let own = own.ok_or_else(|| CommandError::new(errors::NOT_ALLOWED, none))?;
            let mut command = Command::new(own);
            command.arg("limited").arg("--memory").arg(bytes.to_string()).arg("--").arg(&program.path);
            command
        }
    };
    if let Some(name) = &program.user {
        let user = User::from_name(name).ok().flatten();
        let none =
            || CommandError::new(errors::NOT_ALLOWED, format!("program.user: there is no user {name:?}"));
        let user = user.ok_or_else(none)?;
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
        .env_clear()
        .envs([("PATH", PATH), ("LANG", "C.UTF-8")])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}
