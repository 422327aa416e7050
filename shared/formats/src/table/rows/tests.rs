//! Rows of CSV as readings, mapped and not, good and bad.

use super::super::{ColumnKind, CsvRecords, FileColumn, Mapping, PointMap, Record, TimeMap, ValueMap};
use super::*;

fn text_columns(names: &[&str]) -> Vec<FileColumn> {
    names.iter().map(|name| FileColumn { name: (*name).to_owned(), kind: ColumnKind::Text }).collect()
}

/// What a text of CSV becomes: the rows, and their readings.
fn read(mapping: &Mapping, device: Option<&str>, text: &str) -> (Rows, Vec<RowReading>) {
    let device = device.map(|id| DeviceId::parse(id).unwrap());
    let mut records = CsvRecords::new(text.as_bytes(), mapping.delimiter().unwrap());
    let header = match records.next_record().unwrap().unwrap() {
        Record::Fields(_, cells) => {
            cells.into_iter().map(|cell| cell::name(cell).unwrap().unwrap().to_owned()).collect::<Vec<_>>()
        }
        Record::Refused(_, reason) => panic!("{reason}"),
    };
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut rows = Rows::new(mapping.plan(&text_columns(&names), device.as_ref()).unwrap());
    let (mut all, mut out) = (Vec::new(), Vec::new());
    while let Some(record) = records.next_record().unwrap() {
        match record {
            Record::Fields(line, cells) => {
                rows.take(line, &cells, &mut out).unwrap();
                all.extend(out.iter().cloned());
            }
            Record::Refused(line, reason) => rows.refuse(line, reason),
        }
    }
    (rows, all)
}

fn series(rows: &Rows) -> Vec<String> {
    rows.series().iter().map(|def| format!("{}/{} {}", def.device, def.point, def.unit)).collect()
}

#[test]
fn an_export_needs_no_mapping_and_other_columns_do_not_matter() {
    let text = "device,point,unit,time,value,text,int,quality\r\n\
        pump-7,temp,Cel,2025-11-21T12:00:00Z,20.5,,,good\r\n\
        pump-7,temp,Cel,2025-11-21T12:00:01Z,,on,,good\r\n\
        pump-8,temp,Cel,2025-11-21T12:00:00Z,NaN,,,bad\r\n\
        pump-7,rpm,,2025-11-21T12:00:00Z,-3,,,good\r\n";
    let (rows, found) = read(&Mapping::default(), None, text);
    assert_eq!(series(&rows), ["pump-7/temp Cel", "pump-8/temp Cel", "pump-7/rpm "]);
    let account = rows.account();
    assert_eq!((account.rows, account.readings, account.nulls, account.refused), (4, 3, 1, 0));
    assert_eq!(found.iter().map(|found| found.series).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(matches!(found[1].value, Value::Float(number) if number.is_nan()));
    assert_eq!(account.span_ns, Some((1_763_726_400_000_000_000, 1_763_726_400_000_000_000)));
}

#[test]
fn an_empty_text_is_one_where_the_file_itself_tells_nulls() {
    let names = ["device", "point", "time", "value", "type", "int", "text", "quality", "doubtful"];
    let columns = |kind: &ColumnKind| {
        let mut columns = text_columns(&names);
        columns[3].kind = kind.clone();
        columns
    };
    let taken = |columns: &[FileColumn], kind: &'static [u8], text: Cell<'static>| {
        let mut rows = Rows::new(Mapping::default().plan(columns, None).unwrap());
        let mut out = Vec::new();
        let [device, point, time] = [&b"a"[..], b"mode", b"2025-11-21T12:00:00Z"].map(Cell::Text);
        let cells =
            [device, point, time, Cell::Null, Cell::Text(kind), Cell::Null, text, Cell::Null, Cell::Null];
        rows.take(2, &cells, &mut out).unwrap();
        out.pop().map(|found| found.value)
    };
    let (typed, csv) = (columns(&ColumnKind::Number), columns(&ColumnKind::Text));
    assert_eq!(taken(&typed, b"text", Cell::Text(b"")), Some(Value::Text("".into())));
    assert_eq!(taken(&typed, b"text", Cell::Null), Some(Value::Null));
    assert_eq!(taken(&csv, b"text", Cell::Text(b"")), Some(Value::Null));
    assert_eq!(
        taken(&typed, b"float", Cell::Text(b"")),
        Some(Value::Null),
        "it is no text that was measured"
    );
}

#[test]
fn columns_of_points_are_mapped_scaled_and_taken_one_by_one() {
    let point = |column: &str, point: &str, unit: &str, scale: Option<f64>| PointMap {
        column: column.to_owned(),
        point: Some(point.to_owned()),
        unit: Some(unit.to_owned()),
        scale,
        offset: None,
    };
    let mapping = Mapping {
        delimiter: Some(";".to_owned()),
        decimal_comma: true,
        nulls: Some(vec![String::new(), "k.A.".to_owned()]),
        time: TimeMap {
            column: Some("Zeit".to_owned()),
            format: Some("%d.%m.%Y %H:%M".to_owned()),
            zone: Some("Europe/Berlin".to_owned()),
        },
        point: vec![point("Temp. (°C)", "temp", "Cel", None), point("Druck", "pressure", "Pa", Some(100.0))],
        ..Mapping::default()
    };
    let text = "Zeit;Temp. (°C);Druck\n21.11.2025 13:00;20,5;1013,25\n21.11.2025 13:01;k.A.;x\n31.02.2025 13:02;1;1\n";
    let (rows, found) = read(&mapping, Some("ofen-1"), text);
    assert_eq!(series(&rows), ["ofen-1/temp Cel", "ofen-1/pressure Pa"]);
    assert_eq!(
        found.iter().map(|found| found.value.clone()).collect::<Vec<_>>(),
        [20.5, 101_325.0].map(Value::Float)
    );
    assert_eq!(found[0].time_ns, 1_763_726_400_000_000_000);
    let account = rows.account();
    assert_eq!((account.rows, account.readings, account.nulls, account.refused), (3, 2, 1, 2));
    let told: Vec<_> = account.listed.iter().map(|w| (w.at, w.column.as_deref().unwrap())).collect();
    assert_eq!(told, [(3, "Druck"), (4, "Zeit")]);
    assert!(account.listed[0].reason.contains("1234,5"));
    // Without a mapping each other column is a point of its name.
    let (rows, _) = read(&Mapping::default(), Some("a"), "time,t1,t2\n2025-11-21T12:00:00Z,1,2\n");
    assert_eq!(series(&rows), ["a/t1 ", "a/t2 "]);
}

#[test]
fn bad_cells_are_named_with_line_and_column_and_the_rest_is_taken() {
    let text = "device,point,unit,time,value\n\
        a,t,Cel,2025-11-21T12:00:00Z,1\n\
        a b,t,Cel,2025-11-21T12:00:00Z,1\n\
        a,,Cel,2025-11-21T12:00:00Z,1\n\
        a,t,[degF],2025-11-21T12:00:00Z,1\n\
        a,t,Cel,then,1\n\
        a,t,Cel,2025-11-21T12:00:00Z,1;5\n\
        a,t,Cel,,1\n\
        short\n";
    let (rows, found) = read(&Mapping::default(), None, text);
    assert_eq!(found.len(), 1);
    let told: Vec<_> = rows.account().listed.iter().map(|w| (w.at, w.column.as_deref().unwrap())).collect();
    let want =
        [(3, "device"), (4, "point"), (5, "unit"), (6, "time"), (7, "value"), (8, "time"), (9, "time")];
    assert_eq!(told, want);
    assert!(rows.account().listed[2].reason.contains("\"Cel\""));
    // More than are listed are counted.
    let many = format!("device,point,time,value\n{}", "a,t,then,1\n".repeat(100));
    let (rows, _) = read(&Mapping::default(), None, &many);
    assert_eq!((rows.account().refused, rows.account().listed.len()), (100, LISTED_MAX));
}

#[test]
fn a_mapping_that_does_not_fit_says_what_there_is() {
    let columns = text_columns(&["when", "what", "how much"]);
    let refused = |mapping: Mapping, device: Option<&str>| {
        let device = device.map(|id| DeviceId::parse(id).unwrap());
        mapping.plan(&columns, device.as_ref()).unwrap_err().to_string()
    };
    assert!(refused(Mapping::default(), None).contains("when, what, how much"));
    let time = TimeMap { column: Some("when".to_owned()), ..TimeMap::default() };
    let timed = Mapping { time: time.clone(), ..Mapping::default() };
    assert!(refused(timed.clone(), None).contains("--device"));
    // Each other column would be a point, and this is no name of one.
    assert!(refused(timed.clone(), Some("a")).contains("how much"));
    let both = Mapping {
        value: Some(ValueMap::default()),
        point: vec![PointMap { column: "what".to_owned(), ..PointMap::default() }],
        ..timed.clone()
    };
    assert!(refused(both, Some("a")).contains("[[point]]"));
    let zone = TimeMap { zone: Some("Mars/Olympus".to_owned()), ..time.clone() };
    let mapping = |time| Mapping {
        time,
        point: vec![PointMap { column: "what".to_owned(), ..PointMap::default() }],
        ..Mapping::default()
    };
    assert!(refused(mapping(zone), Some("a")).contains("Europe/Berlin"));
    let format = TimeMap { format: Some("seconds".to_owned()), ..time };
    assert!(refused(mapping(format), Some("a")).contains("allowed are iso"));
    let twice = text_columns(&["time", "a", "a"]);
    assert!(Mapping::default().plan(&twice, None).unwrap_err().to_string().contains("two columns"));
    assert!(Mapping { delimiter: Some("ab".to_owned()), ..Mapping::default() }.delimiter().is_err());
}

#[test]
fn a_file_of_too_many_series_is_refused() {
    let columns = text_columns(&["device", "point", "time", "value"]);
    let mut rows = Rows::new(Mapping::default().plan(&columns, None).unwrap());
    let (mut out, mut refused) = (Vec::new(), None);
    for at in 0..=u64::from(SERIES_PER_EPOCH_MAX) {
        let point = format!("p{at}");
        let cells = [&b"a"[..], point.as_bytes(), b"2025-11-21T12:00:00Z", b"1"].map(Cell::Text);
        refused = rows.take(at, &cells, &mut out).err();
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused, Some(TooManySeries(u64::from(SERIES_PER_EPOCH_MAX))));
}
