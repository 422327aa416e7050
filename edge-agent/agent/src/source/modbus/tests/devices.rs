//! Devices that do as a test wants, byte by byte, with nothing of the library that is used for asking.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_serial::{SerialPort as _, SerialStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub number: usize,
    pub transaction: u16,
    pub unit: u8,
    pub function: u8,
    pub start: u16,
    /// In a request that writes one, what it is to be.
    pub count: u16,
    /// All after the function.
    pub data: Vec<u8>,
}

impl Seen {
    /// A unit's register says where it is; its first one a hundred times the unit. Bits are all set.
    pub fn registers(&self) -> Vec<u16> {
        let register = |at: u16| if at == 0 { u16::from(self.unit) * 100 } else { at };
        (self.start..self.start + self.count).map(register).collect()
    }
}

/// What a device does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    Words(Vec<u16>),
    /// After the next request has come, and before its answer.
    LateWords(Vec<u16>),
    OfUnit(u8, Vec<u16>),
    OfTransaction(u16, Vec<u16>),
    Exception(u8),
    /// The first four bytes of the request's data, as writes are confirmed.
    Confirmed,
    Bytes(Vec<u8>),
    Nothing,
    HangUp,
}

type Script = Box<dyn Fn(&Seen) -> Answer + Send>;

/// The devices behind an address.
pub struct Devices {
    pub address: String,
    state: Arc<State>,
    // A pseudo-terminal ends with its last user.
    _line: Option<SerialStream>,
}

struct State {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<usize>,
}

impl Devices {
    pub async fn start(script: impl Fn(&Seen) -> Answer + Send + 'static) -> Self {
        Self::at("127.0.0.1:0", script).await
    }

    pub async fn at(address: &str, script: impl Fn(&Seen) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State::new(script);
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *serving.connections.lock().unwrap() += 1;
                tokio::spawn(serve_tcp(stream, Arc::clone(&serving)));
            }
        });
        Self { address, state, _line: None }
    }

    /// Behind one end of a pseudo-terminal; the address is the other.
    pub fn serial(script: impl Fn(&Seen) -> Answer + Send + 'static) -> Self {
        let (master, line) = SerialStream::pair().unwrap();
        let (address, state) = (line.name().unwrap(), State::new(script));
        tokio::spawn(serve_serial(master, Arc::clone(&state)));
        Self { address, state, _line: Some(line) }
    }

    pub fn change(&self, script: impl Fn(&Seen) -> Answer + Send + 'static) {
        *self.state.script.lock().unwrap() = Box::new(script);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.state.connections.lock().unwrap()
    }
}

impl State {
    fn new(script: impl Fn(&Seen) -> Answer + Send + 'static) -> Arc<Self> {
        let script: Script = Box::new(script);
        Arc::new(Self { script: Mutex::new(script), seen: Mutex::default(), connections: Mutex::default() })
    }

    fn answer(&self, transaction: u16, frame: &[u8]) -> (Seen, Answer) {
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let mut all = self.seen.lock().unwrap();
        let number = all.len();
        let seen = Seen {
            number,
            transaction,
            unit: frame[0],
            function: frame[1],
            start: word(2),
            count: word(4),
            data: frame[2..].to_vec(),
        };
        all.push(seen.clone());
        let answer = (self.script.lock().unwrap())(&seen);
        (seen, answer)
    }
}

/// Unit, function and data of an answer.
fn body(seen: &Seen, unit: u8, words: &[u16]) -> Vec<u8> {
    let data: Vec<u8> = if seen.function <= 2 {
        words.chunks(8).map(|_| 0xFF).collect()
    } else {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    };
    [vec![unit, seen.function, u8::try_from(data.len()).unwrap()], data].concat()
}

fn tcp_frame(transaction: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    [&transaction.to_be_bytes()[..], &[0, 0], &length.to_be_bytes(), body].concat()
}

async fn serve_tcp(mut stream: TcpStream, state: Arc<State>) {
    let mut head = [0; 6];
    while stream.read_exact(&mut head).await.is_ok() {
        let mut frame = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]]))];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let transaction = u16::from_be_bytes([head[0], head[1]]);
        let (seen, answer) = state.answer(transaction, &frame);
        let bytes = match answer {
            Answer::Words(words) => tcp_frame(transaction, &body(&seen, seen.unit, &words)),
            Answer::OfUnit(unit, words) => tcp_frame(transaction, &body(&seen, unit, &words)),
            Answer::OfTransaction(other, words) => tcp_frame(other, &body(&seen, seen.unit, &words)),
            Answer::Exception(code) => tcp_frame(transaction, &[seen.unit, seen.function | 0x80, code]),
            Answer::Confirmed => {
                tcp_frame(transaction, &[&[seen.unit, seen.function], &seen.data[..4]].concat())
            }
            Answer::Bytes(bytes) => bytes,
            Answer::Nothing | Answer::LateWords(_) => continue,
            Answer::HangUp => return,
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn with_crc(body: &[u8]) -> Vec<u8> {
    let crc = body.iter().fold(0xFFFF_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    });
    [body, &crc.to_le_bytes()].concat()
}

async fn serve_serial(mut line: SerialStream, state: Arc<State>) {
    let (mut frame, mut late) = ([0; 8], Vec::new());
    while line.read_exact(&mut frame).await.is_ok() {
        assert_eq!(with_crc(&frame[..6]), frame, "a request has a right checksum");
        let (seen, answer) = state.answer(0, &frame);
        let mut bytes = std::mem::take(&mut late);
        match answer {
            Answer::Words(words) => bytes.extend(with_crc(&body(&seen, seen.unit, &words))),
            Answer::LateWords(words) => late = with_crc(&body(&seen, seen.unit, &words)),
            Answer::Bytes(noise) => bytes.extend(noise),
            _ => {}
        }
        line.write_all(&bytes).await.unwrap();
    }
}
