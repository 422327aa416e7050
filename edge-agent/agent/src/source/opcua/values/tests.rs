//! Each type of the specification, and anything else.

use opcua_types::{
    Array, ByteString, Guid, LocalizedText, NodeId, QualifiedName, VariantScalarTypeId, XmlElement,
};
use proptest::prelude::*;

use super::*;

fn text(text: &str) -> Result<Value, String> {
    Ok(Value::Text(text.into()))
}

#[test]
fn values_of_all_types_are_read_as_they_are() {
    let at = DateTime::from(i64::try_from((EPOCH_S + 1_769_860_800) * TICKS_PER_S).unwrap() + 5_000_000);
    for (variant, wanted) in [
        (Variant::Empty, Ok(Value::Null)),
        (Variant::Boolean(true), Ok(Value::Bool(true))),
        (Variant::SByte(-128), Ok(Value::Int(-128))),
        (Variant::Byte(255), Ok(Value::Int(255))),
        (Variant::Int16(-32_768), Ok(Value::Int(-32_768))),
        (Variant::UInt16(65_535), Ok(Value::Int(65_535))),
        (Variant::Int32(i32::MIN), Ok(Value::Int(i32::MIN.into()))),
        (Variant::UInt32(u32::MAX), Ok(Value::Int(u32::MAX.into()))),
        (Variant::Int64(i64::MIN), Ok(Value::Int(i64::MIN))),
        (Variant::UInt64(1 << 62), Ok(Value::Int(1 << 62))),
        (Variant::Float(0.1), Ok(Value::Float(0.1))),
        (Variant::Double(1e300), Ok(Value::Float(1e300))),
        (Variant::from("on"), text("on")),
        (Variant::String(UAString::null()), Ok(Value::Null)),
        (Variant::from(LocalizedText::new("de", "an")), text("an")),
        (Variant::from(QualifiedName::new(2, "Flow")), text("2:Flow")),
        (Variant::from(at), text("2026-01-31T12:00:00.5Z")),
        (Variant::from(DateTime::null()), Ok(Value::Null)),
        (Variant::from(NodeId::new(2, "Flow")), text("ns=2;s=Flow")),
        (Variant::from(Guid::null()), text("00000000-0000-0000-0000-000000000000")),
        (Variant::StatusCode(StatusCode::BadTimeout), text("BadTimeout")),
        (Variant::XmlElement(XmlElement::from("<a/>")), text("<a/>")),
    ] {
        assert_eq!(value(&variant), wanted, "{variant:?}");
    }
}

#[test]
fn what_makes_no_reading_is_refused_with_the_reason() {
    let array = Array::new(VariantScalarTypeId::Int32, vec![Variant::Int32(1); 3]).unwrap();
    for (variant, part) in [
        (Variant::UInt64(u64::MAX), "18446744073709551615 is more than 9223372036854775807"),
        (Variant::from(array), "it is an array of 3; allowed are numbers"),
        (Variant::from(ByteString::from(vec![1])), "it is bytes; allowed are"),
        (Variant::from("x".repeat(4097)), "it is a text of 4097 bytes; allowed are 4096"),
        (Variant::from(DateTime::endtimes()), "it is a time that is not from 1677-09-21 to 2262-04-11"),
        (Variant::Variant(Box::new(Variant::Int32(1))), "it is a value with a status of its own"),
    ] {
        let error = value(&variant).unwrap_err();
        assert!(error.starts_with(part), "{error}: {part}");
    }
}

#[test]
fn quality_is_the_severity_and_what_has_no_severity_is_bad() {
    for (bits, wanted) in [
        (0, Quality::Good),
        (0x0000_0480, Quality::Good),
        (0x4090_0000, Quality::Uncertain),
        (0x8004_0000, Quality::Bad),
        (0xC000_0000, Quality::Bad),
    ] {
        assert_eq!(quality(StatusCode::from(bits)), wanted, "{bits:x}");
    }
    assert!(follows_a_gap(StatusCode::from(0x480)));
    assert!(!follows_a_gap(StatusCode::from(0x400)) && !follows_a_gap(StatusCode::from(0x80)));
}

#[test]
fn the_source_says_when_and_the_server_where_it_does_not() {
    let at = |ns: i64| {
        DateTime::from(i64::try_from(i128::from(ns) / NS_PER_TICK + EPOCH_S * TICKS_PER_S).unwrap())
    };
    let told = DataValue {
        source_timestamp: Some(at(1_000)),
        source_picoseconds: Some(4_200),
        server_timestamp: Some(at(5_000)),
        ..DataValue::default()
    };
    assert_eq!(time_ns(&told), Some(1_042));
    let null = DataValue { source_timestamp: Some(DateTime::null()), ..told.clone() };
    assert_eq!(time_ns(&null), Some(5_000));
    let far = DataValue { source_timestamp: Some(DateTime::endtimes()), ..told };
    assert_eq!(time_ns(&far), Some(5_000));
    assert_eq!(time_ns(&DataValue::default()), None);
}

#[test]
fn what_is_written_is_of_the_type_of_the_variable() {
    let write = |value: Value, data_type| written(&value, data_type);
    assert_eq!(write(Value::Int(1), 3), Ok(Variant::Byte(1)));
    assert_eq!(write(Value::Float(2.0), 6), Ok(Variant::Int32(2)));
    assert_eq!(write(Value::Int(7), 10), Ok(Variant::Float(7.0)));
    assert_eq!(write(Value::Bool(true), 1), Ok(Variant::Boolean(true)));
    assert_eq!(write(Value::Text("on".into()), 12), Ok(Variant::from("on")));
    let time = Value::Text("2026-01-31T12:00:00.5Z".into());
    assert_eq!(value(&write(time.clone(), 13).unwrap()), Ok(time));
    for (value, data_type, part) in [
        (Value::Int(256), 3, "256 cannot be written: the server's variable is an integer of fewer bits"),
        (Value::Float(0.5), 6, "0.5 cannot be written: the server's variable is a whole number"),
        (Value::Text("on".into()), 1, "on cannot be written: the server's variable is true or false"),
        (Value::Int(1), 12, "1 cannot be written: the server's variable is a text"),
        (Value::Text("soon".into()), 13, "soon cannot be written: the server's variable is a time"),
        (Value::Int(1), 15, "1 cannot be written: the server's variable is of a type that is not written"),
    ] {
        let error = written(&value, data_type).unwrap_err();
        assert!(error.starts_with(part), "{error}");
    }
}

fn any_variant() -> impl Strategy<Value = Variant> {
    let scalar = prop_oneof![
        Just(Variant::Empty),
        any::<bool>().prop_map(Variant::Boolean),
        any::<i8>().prop_map(Variant::SByte),
        any::<u8>().prop_map(Variant::Byte),
        any::<i16>().prop_map(Variant::Int16),
        any::<u16>().prop_map(Variant::UInt16),
        any::<i32>().prop_map(Variant::Int32),
        any::<u32>().prop_map(Variant::UInt32),
        any::<i64>().prop_map(Variant::Int64),
        any::<u64>().prop_map(Variant::UInt64),
        any::<u32>().prop_map(|bits| Variant::Float(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Variant::Double(f64::from_bits(bits))),
        any::<i64>().prop_map(|ticks| Variant::from(DateTime::from(ticks))),
        any::<u32>().prop_map(|bits| Variant::StatusCode(StatusCode::from(bits))),
        ".{0,20}".prop_map(Variant::from),
        proptest::collection::vec(any::<u8>(), 0..20)
            .prop_map(|bytes| Variant::from(ByteString::from(bytes))),
    ];
    prop_oneof![
        4 => scalar.clone(),
        1 => scalar.prop_map(|inner| Variant::Variant(Box::new(inner))),
    ]
}

proptest! {
    #[test]
    fn any_value_is_read_or_refused_and_a_whole_number_is_never_another(variant in any_variant()) {
        if let Ok(Value::Int(whole)) = value(&variant) {
            prop_assert_eq!(variant.to_string(), whole.to_string());
        }
        for kind in ValueKind::ALL {
            if let Ok(value) = value(&variant)
                && let Ok(value) = of_kind(value, kind)
            {
                prop_assert!(value.kind().is_none_or(|own| own == kind));
            }
        }
    }

    #[test]
    fn what_can_be_written_is_what_is_read_again(variant in any_variant(), data_type in 0_u32..31) {
        if let Ok(value) = value(&variant)
            && let Ok(written) = written(&value, data_type)
            && data_type != 10
        {
            let again = super::value(&written).unwrap();
            let is_same = match (&value, &again) {
                (Value::Float(one), Value::Float(other)) if one.is_nan() => other.is_nan(),
                (Value::Int(_), Value::Float(_)) | (Value::Float(_), Value::Int(_)) => true,
                _ => value == again,
            };
            prop_assert!(is_same, "{:?} as {:?}: {:?}", value, written, again);
        }
    }

    #[test]
    fn any_time_is_one_of_ours_or_none(source in any::<i64>(), server in any::<i64>(), fine in any::<u16>()) {
        let told = DataValue {
            source_timestamp: Some(DateTime::from(source)),
            source_picoseconds: Some(fine),
            server_timestamp: Some(DateTime::from(server)),
            ..DataValue::default()
        };
        let _ = time_ns(&told);
    }
}
