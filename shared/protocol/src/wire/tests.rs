//! Golden bytes, round trips and hostile bytes of the wire format.

use proptest::prelude::*;

use super::*;
use crate::keep::{KEEP_PATTERN_BYTES_MAX, Keep, KeepRule, Rollups};
use crate::lives::{Life, Moved};
use crate::model::{
    Account, AgentId, DeviceId, DropCause, Epoch, GroupId, PointId, RowCounts, Seq, SeriesDef, SiteId,
};
use crate::ranges::RangeSet;

fn hello() -> Hello {
    Hello {
        versions: vec![1],
        capabilities: vec!["x".into()],
        agent: AgentId::parse("pump-7").unwrap(),
        epoch: Epoch::from_bytes([7; 16]),
        boot: [9; 16],
        mono_ns: 12,
        wall_ns: -5,
        head: Seq::new(300),
        software: "edge-agent 0.1.0".into(),
        account: Account { produced: 10, stored: 4, pending: 3, dropped: 2, refused: 1 },
        lives: vec![Life { id: 1 << 40, first: Seq::new(1) }, Life { id: 5, first: Seq::new(300) }],
        moved: Some(Moved { epoch: Epoch::from_bytes([6; 16]), rows: 77 }),
    }
}

fn settlement() -> Settlement {
    let mut stored = RangeSet::of(1, 5);
    stored.insert(9, 300);
    Settlement { stored, refused: RangeSet::of(6, 6), dropped: RangeSet::of(7, 8) }
}

fn health() -> Health {
    let way = |carrier, carries| WayHealth {
        address: "hub.example:4433".into(),
        carrier,
        carries,
        breaker: if carries { Breaker::Closed } else { Breaker::HalfOpen },
        failures: 6,
        wait_ms: 730,
        rtt_us: carries.then_some(600_000),
        loss_ppm: 20_000,
    };
    let ways = vec![way(Carrier::Quic, false), way(Carrier::Mqtt, true)];
    Health { ways, switches: 3, spool_bytes: 1 << 20, spool_quota_bytes: 1 << 28 }
}

#[test]
fn health_is_bounded_in_number_and_length() {
    let with = |ways| decode_one(&encode(&Message::Health(Health { ways, ..health() }).into()));
    let way = health().ways.remove(0);
    assert!(with(vec![way.clone(); WAYS_MAX]).is_ok());
    let found = with(vec![way.clone(); WAYS_MAX + 1]);
    assert_eq!(found, Err(WireError::TooLong { what: "list of ways", found: 17, max: 16 }));
    let found = with(vec![WayHealth { address: "x".repeat(263), ..way }]);
    assert_eq!(found, Err(WireError::TooLong { what: "address", found: 263, max: 262 }));
}

fn card() -> DeviceCard {
    DeviceCard {
        profile: "eastron-sdm630".into(),
        vendor: "Eastron".into(),
        ..DeviceCard::new(DeviceId::parse("meter-1").unwrap())
    }
}

fn rules() -> Vec<KeepRule> {
    let hours = Keep { days: Some(30), rollups: Some(Rollups::HOUR.with(Rollups::DAY)) };
    vec![
        KeepRule { points: vec!["raw/*".into(), "state".into()], keep: hours },
        KeepRule { points: vec![], keep: Keep { days: None, rollups: Some(Rollups::NONE) } },
    ]
}

#[test]
fn cards_of_devices_are_bounded_in_number_and_length() {
    let with = |cards| decode_one(&encode(&Message::Devices(Devices { cards }).into()));
    assert!(with(vec![card(); CARDS_PER_MESSAGE_MAX]).is_ok());
    let found = with(vec![card(); CARDS_PER_MESSAGE_MAX + 1]);
    assert_eq!(found, Err(WireError::TooLong { what: "list of devices", found: 257, max: 256 }));
    let long = DeviceCard { via: "ü".repeat(65), ..card() };
    let found = with(vec![long.clone()]);
    assert_eq!(found, Err(WireError::TooLong { what: "text of a device", found: 130, max: 128 }));
    assert!(with(vec![long.cut()]).is_ok());
    let keeping = |days| DeviceCard {
        keeps: Some(vec![KeepRule {
            points: vec!["p".repeat(KEEP_PATTERN_BYTES_MAX - 2)],
            keep: Keep { days: Some(days), rollups: None },
        }]),
        via: "v".repeat(128),
        profile_digest: Some([7; 16]),
        ..card()
    };
    assert!(with(vec![keeping(9); CARDS_PER_MESSAGE_MAX]).is_ok(), "as many fit into a message");
    assert!(matches!(with(vec![keeping(0)]), Err(WireError::Malformed { kind: 14, .. })));
}

#[test]
fn a_message_about_a_twin_may_be_longer_than_others_and_is_bounded() {
    let document = DocumentId::Device(DeviceId::parse(&"d".repeat(64)).unwrap());
    let with = |bytes| {
        let sync = TwinSync { document: document.clone(), message: vec![7; bytes] };
        decode_one(&encode(&Message::Twin(sync).into()))
    };
    assert!(with(TWIN_BYTES_MAX).is_ok());
    let found = with(TWIN_BYTES_MAX + 1);
    let expected =
        WireError::TooLong { what: "message about a twin", found: TWIN_BYTES_MAX + 1, max: TWIN_BYTES_MAX };
    assert_eq!(found, Err(expected));
    assert!(matches!(with(TWIN_BYTES_MAX + 200), Err(WireError::TooLong { what: "message", .. })));
}

#[test]
fn audits_and_their_answers_are_bounded() {
    let ask = |seqs, per| decode_one(&encode(&Message::Audit(Audit { id: 1, seqs, per }).into()));
    let most = RangeSet::of(1, AUDIT_SEQS_MAX);
    assert!(ask(most.clone(), AUDIT_SEQS_MAX / DIGESTS_MAX as u64).is_ok());
    let found = ask(RangeSet::of(1, AUDIT_SEQS_MAX + 1), 1 << 20);
    assert_eq!(
        found,
        Err(WireError::TooLong { what: "list of seqs of an audit", found: 1_048_577, max: 1_048_576 })
    );
    for (seqs, per) in [(most, 1), (RangeSet::of(1, 5), 0)] {
        assert!(matches!(ask(seqs, per), Err(WireError::Malformed { kind: 12, .. })));
    }
    let answer = |digests| {
        let settled = Settlement::default();
        decode_one(&encode(&Message::Agreement(Agreement { id: 1, settled, digests }).into()))
    };
    assert!(answer(vec![Digest::default(); DIGESTS_MAX]).is_ok());
    let found = answer(vec![Digest::default(); DIGESTS_MAX + 1]);
    assert_eq!(found, Err(WireError::TooLong { what: "list of digests", found: 1025, max: 1024 }));
}

fn envelope(rows: RowCounts) -> RunEnvelope {
    RunEnvelope {
        epoch: Epoch::from_bytes([7; 16]),
        lane: Lane::Backfill,
        first: Seq::new(4),
        rows,
        series_end: 2,
        restamps: vec![Restamp {
            seqs: RangeSet::of(5, 6),
            boot: [9; 16],
            shift_ns: Some(1_700_000_000_000_000_000),
            from_ns: -1,
            to_ns: 8,
        }],
    }
}

fn one_of_each() -> Vec<Message> {
    let def =
        SeriesDef::new(DeviceId::parse("pump-7").unwrap(), PointId::parse("cpu/total").unwrap(), "%".into());
    let mut rows = RowCounts::one(3);
    rows.push(3);
    rows.push(1);
    vec![
        Message::Hello(hello()),
        Message::Welcome(Welcome {
            version: 1,
            capabilities: vec![],
            settled: settlement(),
            series_known: 2,
            credit: 1 << 24,
            wall_ns: 1_700_000_000_000_000_000,
            config_version: 0,
            parted: Some(Seq::new(300)),
        }),
        Message::Series(Series { first: 0, defs: vec![def] }),
        Message::Run(Run { envelope: envelope(rows.clone()), block: vec![1, 2, 3] }),
        Message::Ack(Ack { settled: settlement(), series_known: 2, credit: 99 }),
        Message::Gap(Gap { first: Seq::new(7), rows, from_ns: -1, to_ns: 8, cause: DropCause::Quota }),
        Message::Report(Report { account: hello().account, head: Seq::new(300), known: Seq::new(0) }),
        Message::Ping(Ping { mono_ns: 5, next_ms: 3_000 }),
        Message::Pong(Pong { mono_ns: 5, wall_ns: 6 }),
        Message::Refuse(Refuse {
            code: RefuseCode::Revoked,
            reason: "device was revoked".into(),
            retry_after_ms: 500,
        }),
        Message::Health(health()),
        Message::Audit(Audit { id: 9, seqs: settlement().all(), per: 4 }),
        Message::Agreement(Agreement {
            id: 9,
            settled: settlement(),
            digests: vec![Digest { rows: 70_000, sum: [3; 16] }, Digest::default()],
        }),
        Message::Devices(Devices { cards: vec![card()] }),
        Message::Twin(TwinSync {
            document: DocumentId::Device(DeviceId::parse("pump-7").unwrap()),
            message: vec![1, 2, 3],
        }),
        Message::Twin(TwinSync {
            document: DocumentId::Site(SiteId::parse("hall-2").unwrap()),
            message: vec![],
        }),
        Message::Command(command()),
        Message::Cancel(Cancel { id: command().id, attempt: 2 }),
        Message::Progress(progress()),
        Message::Progress(Progress {
            state: CommandState::Failed,
            percent: None,
            output: None,
            error: Some(CommandError::new("interrupted", "it may have run")),
            ..progress()
        }),
        Message::Noted(Noted { id: command().id, attempt: 1, number: 1 << 20 }),
        Message::Journal(Journal { journal: JournalId::from_bytes([8; 16]), forgotten_ms: i64::MIN }),
        Message::Config(ConfigInForce::of([5; 16], [option()])),
        Message::Config(ConfigInForce::of([5; 16], [option()]).named()),
        Message::ConfigAsked(ConfigAsked { digest: [5; 16] }),
        Message::Twin(TwinSync {
            document: DocumentId::Group(GroupId::parse("pumps").unwrap()),
            message: vec![1, 2],
        }),
        Message::Devices(Devices { cards: vec![DeviceCard { keeps: Some(rules()), ..card() }] }),
        Message::Devices(Devices { cards: vec![DeviceCard { profile_digest: Some([9; 16]), ..card() }] }),
    ]
}

fn option() -> ConfigOption {
    ConfigOption {
        section: "source/meter".into(),
        name: "interval_ms".into(),
        value: "500".into(),
        source: ConfigSource::Environment,
        from: "X".into(),
    }
}

fn command() -> Command {
    Command {
        id: CommandId::from_bytes([4; 16]),
        device: DeviceId::parse("pump-7").unwrap(),
        kind: "write".into(),
        input: br#"{"point":"speed","value":3}"#.to_vec(),
        priority: 5,
        deadline_ms: 1_700_000_000_000,
        author: "eve".into(),
        attempt: 1,
    }
}

fn progress() -> Progress {
    Progress {
        id: command().id,
        attempt: 1,
        number: 3,
        state: CommandState::Running,
        percent: Some(40),
        output: Some(OutputChunk { offset: 7, bytes: vec![b'a', 0xff] }),
        error: None,
        result: Some(b"{}".to_vec()),
    }
}

#[test]
fn commands_and_what_is_said_of_them_are_bounded() {
    let too_long = |message: Message| match decode_one(&encode(&message.into())) {
        Err(WireError::TooLong { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let most = Command {
        input: vec![b' '; COMMAND_INPUT_BYTES_MAX],
        kind: "k".repeat(COMMAND_KIND_BYTES_MAX),
        author: "a".repeat(TEXT_BYTES_MAX),
        ..command()
    };
    assert!(decode_one(&encode(&Message::Command(most.clone()).into())).is_ok());
    for (what, over) in [
        ("input of a command", Command { input: vec![b' '; COMMAND_INPUT_BYTES_MAX + 1], ..most.clone() }),
        ("kind of a command", Command { kind: "k".repeat(COMMAND_KIND_BYTES_MAX + 1), ..most.clone() }),
        ("author of a command", Command { author: "a".repeat(TEXT_BYTES_MAX + 1), ..most }),
    ] {
        assert_eq!(too_long(Message::Command(over)), what);
    }
    let chunk = |offset, len| Some(OutputChunk { offset, bytes: vec![1; len] });
    for (what, over) in [
        ("piece of output", Progress { output: chunk(0, OUTPUT_CHUNK_BYTES_MAX + 1), ..progress() }),
        (
            "result of a command",
            Progress { result: Some(vec![1; COMMAND_RESULT_BYTES_MAX + 1]), ..progress() },
        ),
    ] {
        assert_eq!(too_long(Message::Progress(over)), what);
    }
    for bad in [
        Progress { output: chunk(OUTPUT_BYTES_MAX, 1), ..progress() },
        Progress { output: chunk(u64::MAX, 1), ..progress() },
        Progress { percent: Some(101), ..progress() },
        Progress { state: CommandState::Queued, ..progress() },
    ] {
        let found = decode_one(&encode(&Message::Progress(bad).into()));
        assert!(matches!(found, Err(WireError::Malformed { kind: 18, .. })), "{found:?}");
    }
    let none = Message::Command(Command { attempt: 0, ..command() });
    assert!(matches!(decode_one(&encode(&none.into())), Err(WireError::Malformed { kind: 16, .. })));
}

#[test]
fn what_is_in_force_is_bounded_and_what_is_too_much_is_counted() {
    let with = |options: Vec<ConfigOption>| {
        let told = ConfigInForce { digest: [5; 16], left_out: 0, options: Some(options) };
        match decode_one(&encode(&Message::Config(told).into())) {
            Err(WireError::TooLong { what, .. }) => what,
            Ok(_) => "",
            other => panic!("{other:?}"),
        }
    };
    let value = |len: usize| ConfigOption { value: "1".repeat(len), ..option() };
    let named = |len: usize| ConfigOption { from: "X".repeat(len), ..option() };
    assert_eq!(with(vec![value(CONFIG_VALUE_BYTES_MAX), named(CONFIG_NAME_BYTES_MAX)]), "");
    assert_eq!(with(vec![value(CONFIG_VALUE_BYTES_MAX + 1)]), "value of an option");
    assert_eq!(with(vec![named(CONFIG_NAME_BYTES_MAX + 1)]), "name of an option");
    assert_eq!(with(vec![option(); CONFIG_OPTIONS_MAX + 1]), "list of options");
    assert_eq!(with(vec![value(CONFIG_VALUE_BYTES_MAX); 64]), "list of options");
    for (all, left_out) in [
        (vec![option(); CONFIG_OPTIONS_MAX + 3], 3),
        (vec![value(CONFIG_VALUE_BYTES_MAX); 64], 1),
        (vec![value(CONFIG_VALUE_BYTES_MAX + 1), option(), named(CONFIG_NAME_BYTES_MAX + 1)], 2),
    ] {
        let told = ConfigInForce::of([5; 16], all);
        assert_eq!(told.left_out, left_out);
        assert!(decode_one(&encode(&Message::Config(told).into())).is_ok());
    }
}

#[test]
fn ids_of_commands_read_back_from_their_texts() {
    let id = CommandId::from_bytes([0xab; 16]);
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in ["", "ab", "+babababababababababababababababa", &"g".repeat(32)] {
        assert!(text.parse::<CommandId>().is_err(), "{text}");
    }
}

fn decode_one(bytes: &[u8]) -> Result<Option<Frame>, WireError> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    decoder.next_frame()
}

/// Sets the checksum right again after a change, so that a test gets past it.
fn reseal(bytes: &mut [u8]) {
    bytes[CRC_OFFSET..CRC_OFFSET + 4].fill(0);
    let crc = crc32c::crc32c(bytes);
    bytes[CRC_OFFSET..CRC_OFFSET + 4].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn the_bytes_of_version_1_do_not_change() {
    let traced = Some(Trace { trace_id: [1; 16], parent_id: [2; 8], flags: 1 });
    let mut text = String::new();
    for (i, message) in one_of_each().into_iter().enumerate() {
        let frame = Frame { corr: i as u64, trace: if i % 2 == 0 { None } else { traced }, message };
        let bytes = encode(&frame);
        assert_eq!(decode_one(&bytes), Ok(Some(frame)));
        bytes.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
        text.push('\n');
    }
    assert_eq!(text, include_str!("golden_v1.hex"));
}

#[test]
fn frames_come_whole_from_single_bytes() {
    let mut decoder = Decoder::new();
    let mut seen = Vec::new();
    for message in one_of_each() {
        for byte in encode(&message.into()) {
            decoder.push(&[byte]);
            while let Some(frame) = decoder.next_frame().unwrap() {
                seen.push(frame.message);
            }
        }
    }
    assert_eq!(seen, one_of_each());
}

#[test]
fn each_fault_has_its_own_error() {
    let good = encode(&Message::Ping(Ping { mono_ns: 5, next_ms: 3_000 }).into());
    let with = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        decode_one(&bytes).unwrap_err()
    };
    assert_eq!(with(0, b'x'), WireError::Magic { found: *b"xL" });
    assert_eq!(with(2, 9), WireError::Version { found: 9 });
    assert_eq!(with(4, 4), WireError::Flags { found: 4 });
    assert!(matches!(with(5, 0xff), WireError::TooLong { what: "frame", max: FRAME_BYTES_MAX, .. }));
    assert!(matches!(with(good.len() - 1, 6), WireError::Checksum { .. }));
    let mut unknown = good.clone();
    unknown[3] = 77;
    reseal(&mut unknown);
    assert_eq!(decode_one(&unknown), Err(WireError::Kind { found: 77 }));
}

#[test]
fn a_second_encoding_of_the_same_message_is_refused() {
    // [5, 0] as an array with the first number in two bytes instead of one.
    let mut frame = encode(&Message::Ping(Ping { mono_ns: 5, next_ms: 3_000 }).into());
    frame.truncate(HEADER_LEN);
    frame.extend_from_slice(&[0x82, 0x18, 0x05, 0x00]);
    seal(&mut frame);
    assert_eq!(decode_one(&frame), Err(WireError::NotCanonical { kind: 8 }));
    // A correlation id that says that there is none.
    let mut frame = encode(&Frame { corr: 1, ..Message::Ping(Ping { mono_ns: 5, next_ms: 3_000 }).into() });
    frame[HEADER_LEN..HEADER_LEN + CORR_LEN].fill(0);
    seal(&mut frame);
    assert_eq!(decode_one(&frame), Err(WireError::NotCanonical { kind: 8 }));
}

#[test]
fn a_run_beyond_its_limits_is_refused_before_its_block_is_looked_at() {
    let envelope = RunEnvelope {
        epoch: Epoch::from_bytes([7; 16]),
        lane: Lane::Live,
        first: Seq::FIRST,
        rows: minicbor::decode(&minicbor::to_vec(vec![(3_u32, u32::MAX)]).unwrap()).unwrap(),
        series_end: 1,
        restamps: vec![],
    };
    let bytes = encode(&Message::Run(Run { envelope, block: vec![] }).into());
    assert!(matches!(decode_one(&bytes), Err(WireError::TooLong { what: "run of rows", .. })));
}

proptest! {
    #[test]
    fn damaged_frames_never_panic(which in 0_usize..25, at in any::<prop::sample::Index>(), to in any::<u8>(), seal in any::<bool>()) {
        let mut bytes = encode(&one_of_each()[which].clone().into());
        let at = at.index(bytes.len());
        bytes[at] = to;
        if seal {
            reseal(&mut bytes);
        }
        // INV-7: whatever is taken is what this end would have written.
        if let Ok(Some(frame)) = decode_one(&bytes) {
            prop_assert_eq!(encode(&frame), bytes);
        }
    }
}

#[test]
fn a_gap_beyond_its_limits_is_refused_before_anything_is_made_of_it() {
    let decoded = |bytes: &[u8]| {
        let mut decoder = Decoder::new();
        decoder.push(bytes);
        decoder.next_frame()
    };
    let gap = |rows: &[(u32, u32)]| {
        let mut counts = RowCounts::default();
        for (seqs, each) in rows {
            // As long as a hostile peer likes, in one pair.
            let one: RowCounts = minicbor::decode(&minicbor::to_vec([(*seqs, *each)]).unwrap()).unwrap();
            counts.append(&one);
        }
        let gap = Gap { first: Seq::new(1), rows: counts, from_ns: 0, to_ns: 0, cause: DropCause::Quota };
        decoded(&encode(&Message::Gap(gap).into()))
    };
    let most = u32::try_from(GAP_SEQS_MAX).unwrap();
    assert!(gap(&[(most, 7)]).is_ok());
    assert!(matches!(gap(&[(most, 7), (1, 8)]), Err(WireError::TooLong { what: "gap of seqs", .. })));
    assert!(matches!(gap(&[(1, u32::MAX)]), Err(WireError::TooLong { what: "batch of rows in a gap", .. })));
}

#[test]
fn a_run_that_corrects_a_seq_twice_or_one_that_it_lacks_is_refused() {
    let restamp = |lo, hi| Restamp {
        seqs: RangeSet::of(lo, hi),
        boot: [1; 16],
        shift_ns: Some(5),
        from_ns: 0,
        to_ns: 0,
    };
    let with = |restamps: Vec<Restamp>| {
        let mut rows = RowCounts::one(1);
        rows.push(0);
        rows.push(1);
        let envelope = RunEnvelope {
            epoch: Epoch::from_bytes([7; 16]),
            lane: Lane::Live,
            first: Seq::new(4),
            rows,
            series_end: 1,
            restamps,
        };
        decode_one(&encode(&Message::Run(Run { envelope, block: vec![1] }).into()))
    };
    assert!(with(vec![restamp(4, 4), restamp(6, 6)]).is_ok());
    for bad in
        [vec![restamp(4, 4), restamp(4, 4)], vec![restamp(5, 5)], vec![restamp(4, 6)], vec![restamp(7, 7)]]
    {
        assert!(matches!(with(bad), Err(WireError::Malformed { kind: KIND_RUN, .. })));
    }
    assert!(matches!(with(vec![restamp(4, 4); RESTAMPS_PER_RUN_MAX + 1]), Err(WireError::TooLong { .. })));
}
