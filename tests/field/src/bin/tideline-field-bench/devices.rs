//! Simulated devices of Modbus TCP in a process of their own, and the configuration that reads them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tideline_link::outln;
use tideline_profiles::Profile;
use tideline_profiles::simulate::registers::Registers;
use tideline_profiles::simulate::{Device, pdu};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::{REGISTERS, ROLE};

/// How often values move.
const STEP: Duration = Duration::from_secs(1);

/// A family with so many numbers of one register each.
pub fn profile() -> String {
    let mut text =
        "format = 1\nname = \"bench\"\n[modbus]\n[collection.default]\ninterval_ms = 1000\n[points]\n"
            .to_owned();
    for at in 0..REGISTERS {
        // Nothing goes wrong when text is written into a string.
        let _ = writeln!(
            text,
            "\"value/{at}\" = {{ unit = \"V\", min = 0, max = 6000, address = \"input:{at}\", encoding = \"u16\", scale = 0.1, simulate = {{ low = 200, high = 260 }} }}"
        );
    }
    text
}

/// Reads each device over a connection of its own.
pub fn config(folder: &Path, addresses: &[String]) -> Result<String> {
    let path = folder.join("bench.toml");
    std::fs::write(&path, profile())?;
    let mut text = String::new();
    for (at, address) in addresses.iter().enumerate() {
        write!(
            text,
            "[[source]]\nkind = \"modbus-tcp\"\nname = \"line-{at}\"\naddress = {address:?}\n\
             [[device]]\nid = \"device-{at}\"\nsource = \"line-{at}\"\nprofile = {path:?}\n"
        )?;
    }
    Ok(text)
}

/// The process that simulates devices.
pub struct Devices {
    pub addresses: Vec<String>,
    _child: Child,
}

impl Devices {
    /// So many, of which the last ones hang.
    pub async fn start(count: usize, hanging: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([ROLE, &count.to_string(), &hanging.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let line = lines.next_line().await?.context("the devices did not start")?;
        Ok(Self { addresses: line.split(' ').map(str::to_owned).collect(), _child: child })
    }
}

/// Simulates devices until the process is killed.
pub async fn serve(count: usize, hanging: usize) -> Result<()> {
    let profile = Profile::parse("bench.toml", &profile())?;
    let mut addresses = Vec::new();
    for at in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?.to_string());
        let seed = u64::try_from(at)?;
        let registers = Arc::new(Mutex::new(Registers::new(Device::new(&profile, seed))?));
        let answers = at + hanging < count;
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(STEP);
            loop {
                tokio::select! {
                    _ = ticks.tick() => registers.lock().unwrap_or_else(PoisonError::into_inner).step(),
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        tokio::spawn(speak(stream, Arc::clone(&registers), answers));
                    }
                }
            }
        });
    }
    outln!("{}", addresses.join(" "));
    std::future::pending().await
}

async fn speak(
    mut stream: TcpStream,
    registers: Arc<Mutex<Registers>>,
    answers: bool,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut header = [0; 7];
        stream.read_exact(&mut header).await?;
        let [t0, t1, _, _, l0, l1, unit] = header;
        let mut request = vec![0; usize::from(u16::from_be_bytes([l0, l1])).saturating_sub(1)];
        stream.read_exact(&mut request).await?;
        if !answers {
            continue;
        }
        let answer = pdu::answer(&mut registers.lock().unwrap_or_else(PoisonError::into_inner), &request);
        let [l0, l1] = u16::try_from(answer.len() + 1).map_err(std::io::Error::other)?.to_be_bytes();
        stream.write_all(&[&[t0, t1, 0, 0, l0, l1, unit], answer.as_slice()].concat()).await?;
    }
}
