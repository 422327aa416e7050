//! Lines that come on standard input, until its end. What was read and is not durable yet is lost with a kill: it
//! cannot be read again, and whoever writes it is not told.

use std::io::{BufRead, Read as _};
use std::sync::{Arc, Condvar, Mutex as Lock, OnceLock, PoisonError};

use tokio::sync::{Mutex, mpsc};

use super::rows::lines::LINE_BYTES_MAX;
use super::rows::{Gathered, RowReader};
use super::{Context, Readings, Source, SourceError};
use crate::config::{Rows, Timestamps};

/// Lines that wait to become readings; then whoever writes them waits.
const LINES_MAX: usize = 256;
/// Bytes of lines beyond which no other waits: each may be long, and the agent has little memory.
const WAITING_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A line, or what is wrong with it.
type Line = Result<String, String>;

/// The bytes of lines that wait.
#[derive(Debug, Default)]
struct Room {
    held: Lock<usize>,
    freed: Condvar,
}

impl Room {
    /// Waits until there is room for these; a single line has room always.
    fn take(&self, bytes: usize) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |held: &mut usize| *held > 0 && *held + bytes > WAITING_BYTES_MAX;
        *self.freed.wait_while(held, is_full).unwrap_or_else(PoisonError::into_inner) += bytes;
    }

    fn free(&self, bytes: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = held.saturating_sub(bytes);
        self.freed.notify_one();
    }
}

fn bytes_of(line: &Line) -> usize {
    let (Ok(text) | Err(text)) = line;
    text.len()
}

/// Reads standard input.
#[derive(Debug, Clone)]
pub struct StdinSource {
    /// What its lines are.
    pub rows: Rows,
}

/// There is one standard input, and it goes on where a source before this one has left it.
struct Input {
    lines: mpsc::Receiver<Line>,
    room: Arc<Room>,
    // Taken out of these and not handed on: a source that is told to stop leaves them to the next one.
    taken: Vec<Line>,
    header: Option<String>,
    // How many came before those.
    number: u64,
}

impl Input {
    fn of(lines: mpsc::Receiver<Line>, room: Arc<Room>) -> Self {
        Self { lines, room, taken: Vec::new(), header: None, number: 0 }
    }

    /// The line at this place of those that are taken, or one more where it waits already.
    fn line(&mut self, at: usize) -> Option<&Line> {
        if at == self.taken.len() {
            self.taken.push(self.lines.try_recv().ok()?);
        }
        self.taken.get(at)
    }

    /// The first lines have been dealt with.
    fn forget(&mut self, count: usize) {
        let bytes = self.taken.drain(..count.min(self.taken.len())).map(|line| bytes_of(&line)).sum();
        self.room.free(bytes);
        self.number += count as u64;
    }
}

impl Source for StdinSource {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        static INPUT: OnceLock<Arc<Mutex<Input>>> = OnceLock::new();
        let input = INPUT.get_or_init(|| {
            let ((send, lines), room) = (mpsc::channel(LINES_MAX), Arc::new(Room::default()));
            let of_lines = Arc::clone(&room);
            // A thread of its own: a read of standard input cannot be given up, and nobody may wait for it.
            let started = std::thread::Builder::new().name("lines".to_owned()).spawn(move || {
                read(std::io::stdin().lock(), &send, &of_lines);
            });
            if let Err(error) = started {
                tracing::error!(%error, "standard input is not read");
            }
            Arc::new(Mutex::new(Input::of(lines, room)))
        });
        let mut input = context.wait(input.lock()).await?;
        self.follow(&mut input, context).await
    }
}

impl StdinSource {
    /// Hands lines on until their end.
    async fn follow(&self, input: &mut Input, context: &Context) -> Result<(), SourceError> {
        let mut reader = RowReader::of(context, self.rows.clone()).await?;
        if let Some(header) = &input.header {
            reader.head(header);
        }
        loop {
            if input.taken.is_empty() {
                let Some(line) = context.wait(input.lines.recv()).await? else { break };
                input.taken.push(line);
            }
            if reader.needs_header() {
                match input.taken.first() {
                    Some(Ok(header)) => {
                        reader.head(header);
                        input.header = Some(header.clone());
                    }
                    // What comes after it is no header: it stays, for nobody knows what its lines are of.
                    Some(Err(what)) => {
                        let place = input.number + 1;
                        return Err(SourceError::failed(format!(
                            "stdin:{place}: header: {what}; allowed are names of columns, parted by commas"
                        )));
                    }
                    None => {}
                }
                input.forget(1);
                continue;
            }
            let is_stamped = self.rows.timestamps == Timestamps::Now;
            let mut gathered =
                Gathered::into(if is_stamped { context.readings() } else { Readings::of_own_times() });
            let (mut count, first) = (0, input.number + 1);
            while !gathered.is_full() {
                let Some(line) = input.line(count) else { break };
                let (now_ns, number) = (context.clock().wall_ns(), first + count as u64);
                reader.read(line, now_ns, || format!("stdin:{number}"), &mut gathered);
                count += 1;
            }
            context.emit(reader.finish(gathered)).await?;
            input.forget(count);
        }
        // The end is only shown when all is durable.
        context.emit_durable(context.readings()).await
    }
}

/// Reads lines until nobody wants them or there are no more.
fn read(mut input: impl BufRead, send: &mpsc::Sender<Line>, room: &Room) {
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
        room.take(bytes_of(&line));
        if send.blocking_send(line).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tideline_protocol::model::DeviceId;
    use tideline_spool::SpoolConfig;

    use super::*;
    use crate::config::Format;
    use crate::spooler::SpoolHandle;
    use crate::status::Board;

    #[tokio::test]
    async fn what_a_source_has_not_handed_on_when_it_is_stopped_is_left_to_the_next_one() {
        let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
        let path = folder.path().join("spool.redb");
        let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
        let own = DeviceId::parse("pump-7").unwrap();
        let ((send, lines), room) = (mpsc::channel(LINES_MAX), Arc::new(Room::default()));
        let mut input = Input::of(lines, Arc::clone(&room));
        let source = StdinSource { rows: Rows::plain(Format::Csv) };
        // It may block, and so it is never done by a task.
        let write = |text: &str| {
            std::thread::scope(|scope| drop(scope.spawn(|| read(text.as_bytes(), &send, &room))));
        };
        write("timestamp,flow\n1,1.5\n2,2.5\nodd\n");
        let (out, mut inbox) = mpsc::channel(1);
        let (context, stop) = Context::alone("a", own.clone(), &out, board.clone(), spool.clone());
        {
            // There is no room: it waits to hand them on.
            let place = out.reserve().await.unwrap();
            let follow = source.follow(&mut input, &context);
            tokio::pin!(follow);
            tokio::select! {
                ended = &mut follow => panic!("{ended:?}"),
                // It takes all lines that wait, and tries to hand them on, in one go.
                () = async {
                    while send.capacity() < LINES_MAX {
                        tokio::task::yield_now().await;
                    }
                } => {}
            }
            stop.send_replace(true);
            assert!(matches!(follow.await, Err(SourceError::Stopped)));
            drop(place);
        }
        assert_eq!(board.read().sources.get("a").map(|source| source.rejected), Some(0));
        let (context, _stop) = Context::alone("b", own, &out, board.clone(), spool);
        write("3,3.5\n");
        drop(send);
        let chunk = async {
            let chunk = inbox.recv().await.unwrap();
            inbox.recv().await.unwrap().durable.unwrap().send(()).unwrap();
            chunk
        };
        let (ended, chunk) = tokio::join!(source.follow(&mut input, &context), chunk);
        ended.unwrap();
        let times: Vec<i64> =
            chunk.rows.iter().flat_map(|(_, rows)| rows).map(|row| row.time_ns / 1_000_000).collect();
        assert_eq!((times, *room.held.lock().unwrap()), (vec![1, 2, 3], 0));
        assert_eq!(board.read().sources.get("b").map(|source| source.rejected), Some(1));
    }

    #[tokio::test]
    async fn a_header_that_cannot_be_read_is_told_and_no_line_of_data_takes_its_place() {
        let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
        let path = folder.path().join("spool.redb");
        let (spool, _) = SpoolHandle::start(path, SpoolConfig::default(), board.clone()).unwrap();
        let own = DeviceId::parse("pump-7").unwrap();
        let ((send, lines), room) = (mpsc::channel(LINES_MAX), Arc::new(Room::default()));
        let (out, _inbox) = mpsc::channel(1);
        let (context, _stop) = Context::alone("a", own, &out, board, spool);
        std::thread::scope(|scope| {
            drop(scope.spawn(|| read(&b"timestamp,fl\xfcss\n1,1.5\n"[..], &send, &room)));
        });
        drop(send);
        let mut input = Input::of(lines, room);
        for _attempt in 0..2 {
            let failed = StdinSource { rows: Rows::plain(Format::Csv) }.follow(&mut input, &context).await;
            let told = failed.unwrap_err().to_string();
            assert!(told.contains("stdin:1: header: it is no UTF-8; allowed are"), "{told}");
        }
        assert_eq!((input.header, input.number), (None, 0));
    }

    #[test]
    fn long_lines_wait_in_bounded_memory_and_all_of_them_come() {
        let long = usize::try_from(LINE_BYTES_MAX).unwrap() - 10;
        let text: String = (0..9).map(|_| format!("{}\n", "x".repeat(long))).collect::<String>() + "end";
        let ((send, mut lines), room) = (mpsc::channel(LINES_MAX), Arc::new(Room::default()));
        let of_lines = Arc::clone(&room);
        let thread = std::thread::spawn(move || read(text.as_bytes(), &send, &of_lines));
        for number in 0.. {
            let Some(line) = lines.blocking_recv() else { break };
            assert!(*room.held.lock().unwrap() <= WAITING_BYTES_MAX);
            assert_eq!(bytes_of(&line), if number < 9 { long } else { 3 });
            room.free(bytes_of(&line));
        }
        thread.join().unwrap();
        assert_eq!(*room.held.lock().unwrap(), 0);
    }

    #[test]
    fn what_is_too_long_is_one_bad_line() {
        let text = format!("{}\nb\n", "x".repeat(3 << 20));
        let ((send, mut lines), room) = (mpsc::channel(LINES_MAX), Room::default());
        read(text.as_bytes(), &send, &room);
        drop(send);
        assert!(lines.blocking_recv().unwrap().unwrap_err().contains("more than"));
        assert_eq!(lines.blocking_recv().unwrap().unwrap(), "b");
        assert_eq!(lines.blocking_recv(), None);
    }
}
