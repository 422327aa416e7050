//! Requests and answers of Modbus, without what carries them (Modbus Application Protocol 1.1b3, chapter 6).

use super::registers::{Exception, Registers};
use crate::form::protocol::{BITS_MAX, Function, REGISTERS_MAX};

/// Longest request or answer in bytes.
pub const PDU_BYTES_MAX: usize = 253;
/// What stands for "on" in a request that writes one coil.
const ON: u16 = 0xFF00;

/// Answers a request.
#[must_use]
pub fn answer(registers: &mut Registers, request: &[u8]) -> Vec<u8> {
    let function = request.first().copied().unwrap_or(0);
    match carry_out(registers, function, request.get(1..).unwrap_or_default()) {
        Ok(mut answer) => {
            answer.insert(0, function);
            answer
        }
        Err(exception) => vec![function | 0x80, exception.code()],
    }
}

fn carry_out(registers: &mut Registers, function: u8, body: &[u8]) -> Result<Vec<u8>, Exception> {
    match (function, body) {
        (1..=4, [a, b, c, d]) => {
            let function = [Function::Coil, Function::Discrete, Function::Holding, Function::Input]
                .into_iter()
                .find(|known| known.code() == function)
                .ok_or(Exception::Function)?;
            read(registers, function, u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        (5, [a, b, c, d]) => {
            let value = u16::from_be_bytes([*c, *d]);
            if value != ON && value != 0 {
                return Err(Exception::Value);
            }
            registers.write(Function::Coil, u16::from_be_bytes([*a, *b]), &[u16::from(value == ON)])?;
            Ok(body.to_vec())
        }
        (6, [a, b, c, d]) => {
            registers.write(
                Function::Holding,
                u16::from_be_bytes([*a, *b]),
                &[u16::from_be_bytes([*c, *d])],
            )?;
            Ok(body.to_vec())
        }
        (15 | 16, [a, b, c, d, len, data @ ..]) => {
            let (start, count) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            let words = if function == 15 { bits(count, data) } else { words(count, data) };
            let words = words.filter(|_| usize::from(*len) == data.len()).ok_or(Exception::Value)?;
            let function = if function == 15 { Function::Coil } else { Function::Holding };
            registers.write(function, start, &words)?;
            Ok(vec![*a, *b, *c, *d])
        }
        (1..=6 | 15 | 16, _) => Err(Exception::Value),
        _ => Err(Exception::Function),
    }
}

fn read(registers: &Registers, function: Function, start: u16, count: u16) -> Result<Vec<u8>, Exception> {
    let max = if function.is_bits() { BITS_MAX } else { REGISTERS_MAX };
    if !(1..=max).contains(&count) {
        return Err(Exception::Value);
    }
    let words = registers.read(function, start, count)?;
    let data: Vec<u8> = if function.is_bits() {
        let byte = |bits: &[u16]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit != 0));
        words.chunks(8).map(byte).collect()
    } else {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    };
    let mut answer = vec![u8::try_from(data.len()).map_err(|_| Exception::Value)?];
    answer.extend(data);
    Ok(answer)
}

fn bits(count: u16, data: &[u8]) -> Option<Vec<u16>> {
    let count = usize::from(count);
    let bits = data.iter().flat_map(|byte| (0..8).map(move |bit| u16::from(byte >> bit & 1)));
    (count > 0 && data.len() == count.div_ceil(8)).then(|| bits.take(count).collect())
}

fn words(count: u16, data: &[u8]) -> Option<Vec<u16>> {
    let word = |pair: &[u8]| match pair {
        [high, low] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    };
    if count == 0 || data.len() != usize::from(count) * 2 { None } else { data.chunks(2).map(word).collect() }
}
