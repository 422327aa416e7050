//! Sentences over a pseudo-terminal, which is all that a port is to a program.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tideline_field::Bench;
use tideline_protocol::value::{Quality, Value};
use tokio::io::AsyncWriteExt as _;
use tokio_serial::{SerialPort as _, SerialStream};

/// How long a sentence is waited for before it is said again.
const AGAIN: Duration = Duration::from_secs(1);
const FIX: &str = "$GPGGA,092750.000,5321.6802,N,00630.3372,W,1,8,1.03,61.7,M,55.2,M,,*76\r\n";

/// The device's end of a line whose other end is found at `path`.
fn plug(path: &Path) -> Result<(SerialStream, SerialStream)> {
    let (device, line) = SerialStream::pair()?;
    if path.is_symlink() {
        std::fs::remove_file(path)?;
    }
    symlink(line.name().context("no name")?, path)?;
    Ok((device, line))
}

async fn altitude(bench: &mut Bench) -> Result<(Value, Quality)> {
    let row = bench.next_of("van/altitude").await?;
    Ok((row.value, row.quality))
}

/// Says the sentence again and again until it is heard: who opens a port late misses what was said before.
async fn said(bench: &mut Bench, device: &mut SerialStream) -> Result<(Value, Quality)> {
    let (first, rest) = FIX.split_at(20);
    loop {
        device.write_all(first.as_bytes()).await?;
        device.write_all(rest.as_bytes()).await?;
        if let Ok(heard) = tokio::time::timeout(AGAIN, altitude(bench)).await {
            return heard;
        }
    }
}

#[tokio::test]
async fn sentences_are_read_and_a_port_that_comes_back_is_found() -> Result<()> {
    let mut bench = Bench::new()?;
    let path = bench.folder().join("gps");
    let (mut device, line) = plug(&path)?;
    let config = format!(
        "[[source]]\nkind = \"serial\"\nname = \"gps\"\npath = {path:?}\n\
         [[device]]\nid = \"van\"\nsource = \"gps\"\nprofile = \"nmea-gps\"\n"
    );
    bench.run(&config).await?;
    device.write_all(b",M,,*4F\r\n$GPGGA,garbled*00\r\n").await?;
    assert_eq!(said(&mut bench, &mut device).await?, (Value::Float(61.7), Quality::Good));

    drop((device, line));
    // It may have been said more than once.
    while altitude(&mut bench).await? != (Value::Null, Quality::Bad) {}
    let (mut device, _line) = plug(&path)?;
    assert_eq!(said(&mut bench, &mut device).await?, (Value::Float(61.7), Quality::Good));
    Ok(())
}
