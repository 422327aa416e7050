//! Each format as others read it.

use super::*;

fn frame() -> DataFrame {
    let times = Column::new("time".into(), [0_i64, -1, 1_763_719_200_000_000_001]);
    let times = times.cast(&DataType::Datetime(TimeUnit::Nanoseconds, None)).unwrap();
    DataFrame::new(
        3,
        vec![
            times,
            Column::new("a \"b\", c".into(), [Some("x"), None, Some("line\r\nand, \"quotes\"")]),
            Column::new("value".into(), [0.1, f64::NAN, f64::NEG_INFINITY]),
            Column::new("count".into(), [1_i64, i64::MAX, -(1 << 53)]),
        ],
    )
    .unwrap()
}

fn written(format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    write(frame(), format, &mut out).unwrap();
    out
}

#[test]
fn json_has_types_and_says_what_it_has_no_numbers_for() {
    let text = String::from_utf8(written(Format::Json)).unwrap();
    assert!(text.contains("1763719200000.000001"), "{text}");
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    let want = serde_json::json!([
        [0, "x", 0.1, 1],
        [-0.000_001, null, "NaN", "9223372036854775807"],
        [read["rows"][2][0], "line\r\nand, \"quotes\"", "-Infinity", -9_007_199_254_740_992_i64],
    ]);
    assert_eq!(read["rows"], want);
    let types: Vec<&str> =
        read["columns"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["timestamp", "string", "double", "integer"]);
}

#[test]
fn csv_is_that_of_the_rfc() {
    let text = String::from_utf8(written(Format::Csv)).unwrap();
    assert!(
        text.starts_with("time,\"a \"\"b\"\", c\",value,count\r\n1970-01-01T00:00:00Z,x,0.1,1\r\n"),
        "{text}"
    );
    assert!(text.contains("1969-12-31T23:59:59.999999999Z,,NaN,9223372036854775807\r\n"), "{text}");
    let rows: Vec<csv::StringRecord> =
        csv::Reader::from_reader(text.as_bytes()).records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(&rows[2][1], "line\r\nand, \"quotes\"");
}

#[test]
fn arrow_and_parquet_read_back_with_times_in_utc() {
    let utc = DataType::Datetime(TimeUnit::Nanoseconds, Some(TimeZone::UTC));
    let arrow = IpcStreamReader::new(std::io::Cursor::new(written(Format::Arrow))).finish().unwrap();
    let parquet = ParquetReader::new(std::io::Cursor::new(written(Format::Parquet))).finish().unwrap();
    for read in [arrow, parquet] {
        assert_eq!(read.column("time").unwrap().dtype(), &utc);
        assert!(read.column("count").unwrap().equals(frame().column("count").unwrap()));
        assert!(read.column("a \"b\", c").unwrap().equals_missing(frame().column("a \"b\", c").unwrap()));
        let values = read.column("value").unwrap().f64().unwrap();
        assert!(values.get(1).unwrap().is_nan() && values.get(0) == Some(0.1));
    }
}
