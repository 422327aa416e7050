//! The connection of a bus: one request at a time, each with its time-out.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use tideline_profiles::form::protocol::{Function, Parity, Serial};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_modbus::client::{Client as _, Context as Client};
use tokio_modbus::slave::{Slave, SlaveContext as _};
use tokio_modbus::{Error, ExceptionCode, Request as Asked, Response};
use tokio_serial::{DataBits, SerialPortBuilderExt as _, StopBits};

use crate::config::ModbusLine;
use crate::resilience::Retry;

/// Longest wait for a connection: a device on a slow line takes a second, and the bus has no other to ask meanwhile.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The rests of a bus that cannot be reached.
const UNREACHABLE: Retry = Retry { base_ms: 1_000, factor: 2, max_ms: 30_000 };
/// Bytes that came unasked and are thrown away before a request, at most: whoever sends more without end is
/// not waited for.
const STALE_READS_MAX: usize = 64;

/// What a unit is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'c> {
    /// To say what stands there.
    Read {
        /// What is read.
        function: Function,
        /// The first register or bit.
        start: u16,
        /// How many.
        count: u16,
    },
    /// To take one coil, 0 or 1.
    Coil(u16, u16),
    /// To take one register.
    Register(u16, u16),
    /// To take coils, as 0 and 1.
    Coils(u16, &'c [u16]),
    /// To take registers.
    Registers(u16, &'c [u16]),
    /// To take those bits of a register that are set in the mask.
    Bits {
        /// Which register.
        at: u16,
        /// Which bits.
        mask: u16,
        /// What they become.
        word: u16,
    },
}

impl Call<'_> {
    /// Its code in requests.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Read { function, .. } => function.code(),
            Self::Coil(..) => 5,
            Self::Register(..) => 6,
            Self::Coils(..) => 15,
            Self::Registers(..) => 16,
            Self::Bits { .. } => 22,
        }
    }

    const fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. })
    }

    fn request(&self) -> Asked<'static> {
        match *self {
            Self::Read { function: Function::Coil, start, count } => Asked::ReadCoils(start, count),
            Self::Read { function: Function::Discrete, start, count } => {
                Asked::ReadDiscreteInputs(start, count)
            }
            Self::Read { function: Function::Input, start, count } => Asked::ReadInputRegisters(start, count),
            Self::Read { function: Function::Holding, start, count } => {
                Asked::ReadHoldingRegisters(start, count)
            }
            Self::Coil(at, bit) => Asked::WriteSingleCoil(at, bit != 0),
            Self::Register(at, word) => Asked::WriteSingleRegister(at, word),
            Self::Coils(start, bits) => {
                Asked::WriteMultipleCoils(start, Cow::Owned(bits.iter().map(|bit| *bit != 0).collect()))
            }
            Self::Registers(start, words) => Asked::WriteMultipleRegisters(start, Cow::Owned(words.to_vec())),
            Self::Bits { at, mask, word } => Asked::MaskWriteRegister(at, !mask, word & mask),
        }
    }
}

/// Why there is no answer to a request.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Nobody on the bus can be asked.
    #[error("{line} cannot be reached: {error}")]
    Unreachable {
        /// Which.
        line: String,
        /// Why.
        error: String,
    },
    /// It came not in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// The device, or a gateway before it, says no.
    #[error("it answers with exception {0}: {text}", text = in_words(*.0))]
    Exception(u8),
    /// It is none.
    #[error("its answer is not to what was asked: {0}")]
    Garbled(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Trouble {
    /// Whether others may be asked for all the same.
    pub const fn is_of_one_request(&self) -> bool {
        // A gateway that has no path, or got no answer, has waited itself.
        matches!(self, Self::Exception(code) if !matches!(code, 10 | 11))
    }

    /// Whether it is sure that a write was not carried out.
    pub const fn is_no(&self) -> bool {
        // With 4 it may have done a part of it, with 5 it goes on with it, and behind a gateway it may have got it.
        match self {
            Self::Exception(code) => !matches!(code, 4 | 5 | 11),
            Self::Unreachable { .. } => true,
            Self::Silent(_) | Self::Garbled(_) | Self::Broken(_) => false,
        }
    }

    /// Whether no unit can be asked.
    pub const fn is_of_the_bus(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// What an exception means, by the specification ("MODBUS Application Protocol Specification V1.1b3", 7).
const fn in_words(code: u8) -> &'static str {
    match code {
        1 => "it does not know this function",
        2 => "it has no such registers",
        3 => "it does not allow this value, or number of registers",
        4 => "it failed while it did so",
        5 => "it needs longer, and wants to be asked later",
        6 => "it is busy, and wants to be asked later",
        7 => "it cannot do this",
        8 => "its memory has a wrong parity",
        10 => "the gateway has no path to it",
        11 => "the gateway got no answer from it",
        _ => "the specification does not say what that means",
    }
}

/// A bus.
pub struct Bus {
    line: ModbusLine,
    serial: Serial,
    client: Option<Client>,
    // How many connections there were.
    connections: u64,
    // Before this moment the line must stay quiet.
    quiet_until: Instant,
    failures: u32,
    rests_until: Option<Instant>,
}

impl Bus {
    /// One that is not connected yet. Its serial line is as `usual` where the configuration does not say.
    pub fn new(line: ModbusLine, usual: Option<Serial>) -> Self {
        let serial = line.serial(usual.unwrap_or_default());
        let quiet_until = Instant::now();
        Self { line, serial, client: None, connections: 0, quiet_until, failures: 0, rests_until: None }
    }

    /// Until when it is left alone, as it could not be reached; none when it is not.
    pub fn rests(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| now < *until)
    }

    /// The number of the connection that is open now. Behind another one there may be other devices.
    pub fn connection(&self) -> Option<u64> {
        self.client.is_some().then_some(self.connections)
    }

    /// It could not be reached.
    pub fn rest(&mut self, now: Instant, entropy: u64) {
        let drawn = Duration::from_millis(UNREACHABLE.wait_ms(self.failures, entropy));
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Some(now + drawn);
    }

    /// Asks a unit. What is read comes as exactly as many words as were asked for, bits as 0 and 1; what is written is
    /// confirmed.
    pub async fn call(
        &mut self,
        unit: u8,
        call: Call<'_>,
        limit: Duration,
        pause: Duration,
    ) -> Result<Vec<u16>, Trouble> {
        if self.client.is_none() {
            let connected = timeout(CONNECT_MAX, connect(&self.line, &self.serial)).await;
            let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let unreachable = |error: io::Error| Trouble::Unreachable {
                line: self.line.to_string(),
                error: error.to_string(),
            };
            self.client = Some(connected.map_err(unreachable)?);
            (self.failures, self.rests_until) = (0, None);
            self.connections += 1;
        }
        sleep_until(self.quiet_until).await;
        let due = Instant::now() + limit;
        let mut answer = self.ask(unit, call, due, limit).await;
        if self.line.is_serial() && call.is_read() && matches!(answer, Err(Trouble::Garbled(_))) {
            // On a serial line that was a late answer of another, or noise: what was asked is asked once more. What
            // was to be written may have been.
            answer = self.ask(unit, call, due, limit).await;
        }
        let is_open = match &answer {
            Ok(_) | Err(Trouble::Exception(_)) => true,
            // A late answer would be taken for that to the next request: on TCP there is a clean end to that.
            Err(Trouble::Silent(_) | Trouble::Garbled(_)) => self.line.is_serial(),
            Err(Trouble::Broken(_) | Trouble::Unreachable { .. }) => false,
        };
        if !is_open {
            self.client = None;
        }
        self.quiet_until = Instant::now() + pause.max(self.silence());
        answer
    }

    async fn ask(
        &mut self,
        unit: u8,
        call: Call<'_>,
        due: Instant,
        limit: Duration,
    ) -> Result<Vec<u16>, Trouble> {
        let Some(client) = &mut self.client else { return Err(Trouble::Broken("it is closed".to_owned())) };
        client.set_slave(Slave(unit));
        match timeout_at(due, client.call(call.request())).await {
            Err(_) => Err(Trouble::Silent(limit)),
            Ok(Err(error)) => Err(trouble(error)),
            Ok(Ok(Err(exception))) => Err(Trouble::Exception(code(exception))),
            Ok(Ok(Ok(response))) => answered(call, response),
        }
    }

    /// The silence that ends a frame: three and a half characters, and 1.75 ms from 19,200 baud on ("MODBUS over
    /// Serial Line V1.02", 2.5.1.1).
    fn silence(&self) -> Duration {
        match self.serial.baud {
            _ if !self.line.is_serial() => Duration::ZERO,
            baud @ 1..=19_200 => Duration::from_micros(38_500_000 / u64::from(baud)),
            _ => Duration::from_micros(1_750),
        }
    }
}

async fn connect(line: &ModbusLine, serial: &Serial) -> io::Result<Client> {
    match line {
        ModbusLine::Tcp { address } => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(tokio_modbus::client::tcp::attach(Fresh(stream)))
        }
        ModbusLine::Rtu { path, .. } => {
            let Serial { baud, data_bits, parity, stop_bits } = serial.clone();
            let parity = match parity {
                Parity::None => tokio_serial::Parity::None,
                Parity::Even => tokio_serial::Parity::Even,
                Parity::Odd => tokio_serial::Parity::Odd,
            };
            let port = tokio_serial::new(path.to_string_lossy(), baud)
                .data_bits(if data_bits == 7 { DataBits::Seven } else { DataBits::Eight })
                .stop_bits(if stop_bits == 2 { StopBits::Two } else { StopBits::One })
                .parity(parity)
                .open_native_async()?;
            Ok(tokio_modbus::client::rtu::attach(Fresh(port)))
        }
    }
}

fn code(exception: ExceptionCode) -> u8 {
    exception.into()
}

fn trouble(error: Error) -> Trouble {
    match error {
        Error::Protocol(error) => Trouble::Garbled(short(&error.to_string())),
        Error::Transport(error) if error.kind() == io::ErrorKind::InvalidData => {
            Trouble::Garbled(short(&error.to_string()))
        }
        Error::Transport(error) => Trouble::Broken(error.to_string()),
    }
}

/// As much of it as a message has room for: the library shows all registers of a wrong answer.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    text.chars().take(CHARS_MAX).collect()
}

/// What an answer says; one to something else is none.
fn answered(call: Call<'_>, response: Response) -> Result<Vec<u16>, Trouble> {
    let len = |words: &[u16]| u16::try_from(words.len()).ok();
    let is_confirmed = match (call, response) {
        (Call::Read { count, .. }, response) => return words(response, count),
        (Call::Coil(at, bit), Response::WriteSingleCoil(told, on)) => (told, on) == (at, bit != 0),
        (Call::Register(at, word), Response::WriteSingleRegister(told, held)) => (told, held) == (at, word),
        (Call::Coils(at, bits), Response::WriteMultipleCoils(told, count))
        | (Call::Registers(at, bits), Response::WriteMultipleRegisters(told, count)) => {
            (told, Some(count)) == (at, len(bits))
        }
        (Call::Bits { at, mask, word }, Response::MaskWriteRegister(told, and, or)) => {
            (told, and, or) == (at, !mask, word & mask)
        }
        _ => false,
    };
    if is_confirmed {
        Ok(Vec::new())
    } else {
        Err(Trouble::Garbled("it does not confirm what was written".to_owned()))
    }
}

/// The words of an answer; one with fewer is none.
fn words(response: Response, count: u16) -> Result<Vec<u16>, Trouble> {
    let (mut words, is_bits) = match response {
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => {
            (bits.into_iter().map(u16::from).collect::<Vec<_>>(), true)
        }
        Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words) => (words, false),
        _ => return Err(Trouble::Garbled("it is to another function".to_owned())),
    };
    // Bits come in whole bytes.
    let wanted = if is_bits { usize::from(count).next_multiple_of(8) } else { usize::from(count) };
    if words.len() != wanted && !(is_bits && words.len() == usize::from(count)) {
        let what = if is_bits { "bits" } else { "registers" };
        return Err(Trouble::Garbled(format!("it has {} {what} in place of {wanted}", words.len())));
    }
    words.truncate(usize::from(count));
    Ok(words)
}

/// A line on which nothing that came before a request is taken for its answer, and whose end is an error.
#[derive(Debug)]
struct Fresh<T>(T);

impl<T: AsyncRead + Unpin> Fresh<T> {
    fn drop_stale(&mut self, cx: &mut TaskContext<'_>) {
        let mut room = [0; 256];
        for _ in 0..STALE_READS_MAX {
            let mut stale = ReadBuf::new(&mut room);
            let read = Pin::new(&mut self.0).poll_read(cx, &mut stale);
            if !matches!(read, Poll::Ready(Ok(()))) || stale.filled().is_empty() {
                return;
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Fresh<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        // Of an end the library makes whatever went wrong last in this thread.
        if buf.filled().len() == before && buf.remaining() > 0 {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the other side closed it",
            )));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Fresh<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // No answer can come before the request is written, so all that is there is of an earlier one.
        self.drop_stale(cx);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
