//! Registers of devices of Modbus and SunSpec, as any device may answer with them, and requests as any master may send
//! them to a simulated one: what becomes a value is one that the profile allows, and a search for models ends.

use std::cell::RefCell;

use tideline_profiles::modbus::{Decoded, Plan};
use tideline_profiles::simulate::registers::Registers;
use tideline_profiles::simulate::{Device, pdu};
use tideline_profiles::sunspec::{self, Common, Discovery, Step};
use tideline_profiles::{Profile, Protocol, shipped};
use tideline_protocol::value::Value;

const ANSWERS: u8 = 0;
const MODELS: u8 = 1;
const REQUESTS: u8 = 2;
/// More steps than a device with as many models as any has takes.
const STEPS_MAX: usize = 100;
/// Profiles with all encodings, orders, masks and scales.
const FAMILIES: [&str; 4] =
    ["eastron-sdm630", "modbus-template", "sunspec-inverter", "sunspec-inverter-float"];

thread_local! {
    // Made once: they are read from text.
    static PROFILES: RefCell<Vec<Profile>> = const { RefCell::new(Vec::new()) };
}

fn profile(at: u8) -> Profile {
    PROFILES.with_borrow_mut(|known| {
        if known.is_empty() {
            let read = |name: &&str| shipped::named(name).expect("it ships").profile().expect("it is right");
            known.extend(FAMILIES.iter().map(read));
        }
        known[usize::from(at) % known.len()].clone()
    })
}

pub fn seeds() -> Vec<Vec<u8>> {
    let meter: Vec<u8> = 230.1_f32.to_be_bytes().repeat(40);
    // The mark, the common model, model 103 with -1 as all scales, and the end.
    let mut inverter = vec![0x5375, 0x6E53, 1, 66];
    inverter.extend([0x4142; 66]);
    inverter.extend([103, 50]);
    inverter.extend([0xFFFF; 50]);
    inverter.extend([0xFFFF, 0]);
    let inverter: Vec<u8> = inverter.into_iter().flat_map(u16::to_be_bytes).collect();
    let requests: [&[u8]; 6] = [
        &[3, 0, 2, 0, 4],
        &[4, 0, 0, 0, 10],
        &[6, 0, 2, 0, 7],
        &[16, 0, 2, 0, 2, 4, 0x41, 0xF0, 0, 0],
        &[5, 0, 0, 0xFF, 0],
        &[22, 0, 0, 0, 0, 0, 0],
    ];
    let requests = (0..2).flat_map(|at| requests.map(|request| [&[REQUESTS, at], request].concat()));
    let answers =
        [(ANSWERS, 0, &meter), (ANSWERS, 1, &meter), (MODELS, 2, &inverter), (MODELS, 3, &inverter)];
    answers
        .iter()
        .map(|(kind, at, words)| [&[*kind, *at], words.as_slice()].concat())
        .chain(requests)
        .collect()
}

pub fn run(data: &[u8]) {
    let [kind, at, rest @ ..] = data else { return };
    let words: Vec<u16> = rest.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    match *kind {
        ANSWERS => {
            let profile = profile(*at % 2);
            let plan = Plan::of(&profile).expect("it is of Modbus");
            judge(&plan, |_, count| words.get(..usize::from(count)).map(<[u16]>::to_vec));
            // One of any length.
            judge(&plan, |_, _| Some(words.clone()));
        }
        MODELS => models(&profile(*at % 2 + 2), &words),
        _ => {
            let device = Device::new(&profile(*at), u64::from(*at));
            let mut registers = Registers::new(device).expect("it has registers");
            let answer = pdu::answer(&mut registers, rest);
            assert!((2..=pdu::PDU_BYTES_MAX).contains(&answer.len()), "{answer:?}");
            registers.step();
        }
    }
}

/// Registers from 40000 on; none has been implemented after them.
fn models(profile: &Profile, words: &[u16]) {
    let Protocol::SunSpec(table) = profile.protocol() else { unreachable!("it is of SunSpec") };
    let read = |start: u16, count: u16| {
        let at = usize::from(start.checked_sub(40_000)?);
        words.get(at..at + usize::from(count)).map(<[u16]>::to_vec)
    };
    let mut discovery = Discovery::new(table);
    for _ in 0..STEPS_MAX {
        match discovery.poll() {
            Step::Read { start, count } => discovery.handle(read(start, count).as_deref()),
            Step::Failed(_) => return,
            Step::Done(models) => {
                if let Some((start, count)) = Common::place(&models) {
                    let _said = read(start, count).map(|words| Common::of(&words));
                }
                let Ok(found) = sunspec::plan(profile, &models) else { return };
                return judge(&found.plan, read);
            }
        }
    }
    unreachable!("the search does not end");
}

/// Each value is one of its point.
fn judge(plan: &Plan, read: impl Fn(u16, u16) -> Option<Vec<u16>>) {
    for request in plan.groups.iter().flat_map(|group| &group.requests) {
        let Some(words) = read(request.start, request.count) else { continue };
        for Decoded { point, outcome } in plan.decode(request, &words) {
            if let Ok((value, _)) = outcome {
                assert!(value != Value::Null, "{point} is null and good");
                let judged = plan.profile().check(point.as_str(), value.clone());
                assert_eq!(judged.as_ref(), Ok(&value), "{point}");
            }
        }
    }
}
