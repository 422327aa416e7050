//! Lines that come on standard input, until its end. What was read and is not durable yet is lost with a kill: it
//! cannot be read again, and whoever writes it is not told.

use std::io::{BufRead as _, Read as _};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, mpsc};

use super::rows::lines::LINE_BYTES_MAX;
use super::rows::{Gathered, RowReader};
use super::{Context, Readings, Source, SourceError};
use crate::config::{Rows, Timestamps};

/// Lines that wait to become readings; then whoever writes them waits.
const LINES_MAX: usize = 256;

/// A line, or what is wrong with it.
type Line = Result<String, String>;

/// Reads standard input.
#[derive(Debug, Clone)]
pub struct StdinSource {
    /// What its lines are.
    pub rows: Rows,
}

/// There is one standard input, and it goes on where a source before this one has left it.
struct Input {
    lines: mpsc::Receiver<Line>,
    header: Option<String>,
    number: u64,
}

impl Source for StdinSource {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        static INPUT: OnceLock<Arc<Mutex<Input>>> = OnceLock::new();
        let input = INPUT.get_or_init(|| {
            let (send, lines) = mpsc::channel(LINES_MAX);
            // A thread of its own: a read of standard input cannot be given up, and nobody may wait for it.
            let started = std::thread::Builder::new().name("lines".to_owned()).spawn(move || read(&send));
            if let Err(error) = started {
                tracing::error!(%error, "standard input is not read");
            }
            Arc::new(Mutex::new(Input { lines, header: None, number: 0 }))
        });
        let mut reader = RowReader::of(context, self.rows.clone()).await?;
        let mut input = context.wait(input.lock()).await?;
        if let Some(header) = &input.header {
            reader.head(header);
        }
        while let Some(first) = context.wait(input.lines.recv()).await? {
            let is_stamped = self.rows.timestamps == Timestamps::Now;
            let mut gathered =
                Gathered::into(if is_stamped { context.readings() } else { Readings::of_own_times() });
            let mut next = Some(first);
            while let Some(line) = next.take() {
                input.number += 1;
                match &line {
                    Ok(header) if reader.needs_header() => {
                        reader.head(header);
                        input.header = Some(header.clone());
                    }
                    line => {
                        let (now_ns, number) = (context.clock().wall_ns(), input.number);
                        reader.read(line, now_ns, || format!("stdin:{number}"), &mut gathered);
                    }
                }
                if !gathered.is_full() {
                    next = input.lines.try_recv().ok();
                }
            }
            context.emit(reader.finish(gathered)).await?;
        }
        // The end is only shown when all is durable.
        context.emit_durable(context.readings()).await
    }
}

/// Reads lines until nobody wants them or there are no more.
fn read(send: &mpsc::Sender<Line>) {
    let mut input = std::io::stdin().lock();
    let mut is_cut = false;
    loop {
        let mut bytes = Vec::new();
        let count = (&mut input).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes);
        if !matches!(count, Ok(1..)) {
            return;
        }
        let has_end = bytes.last() == Some(&b'\n');
        let is_rest = std::mem::replace(&mut is_cut, bytes.len() as u64 > LINE_BYTES_MAX && !has_end);
        let line = match String::from_utf8(bytes) {
            // What follows the limit is no line of its own.
            _ if is_rest => continue,
            _ if is_cut => Err(format!("it has more than {LINE_BYTES_MAX} bytes")),
            Ok(line) => Ok(line.trim().to_owned()),
            Err(_) => Err("it is no UTF-8".to_owned()),
        };
        if send.blocking_send(line).is_err() {
            return;
        }
    }
}
