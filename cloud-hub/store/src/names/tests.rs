//! Names beside a map that is simple enough to be right.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn told<'a>(device: &'a str, point: &'a str, unit: &'a str) -> SeriesText<'a> {
    SeriesText { device, point, unit, kind: ValueKind::Float, name: "" }
}

fn named(names: &mut Names, text: &SeriesText<'_>) -> Named {
    names.name(text, Age::Newest).unwrap()
}

#[test]
fn a_series_keeps_its_number_and_is_what_was_said_of_it_last() {
    let mut names = Names::default();
    assert_eq!(named(&mut names, &told("a", "x", "Cel")), Named::Changed(0));
    assert_eq!(named(&mut names, &told("b", "x", "Cel")), Named::Changed(1));
    assert_eq!(named(&mut names, &told("a", "x", "Cel")), Named::Known(0));
    assert_eq!(names.name(&told("a", "x", "K"), Age::Older), Ok(Named::Known(0)));
    assert_eq!(names.text(0), Some(told("a", "x", "Cel")));
    assert_eq!(named(&mut names, &told("a", "x", "K")), Named::Changed(0));
    assert_eq!(names.text(0), Some(told("a", "x", "K")));
    assert_eq!(names.text(1), Some(told("b", "x", "Cel")));
    assert_eq!(names.meta(1).unwrap().text(), told("b", "x", "Cel"));
    assert!(names.name(&told("no device", "x", ""), Age::Newest).is_err());
    assert_eq!((names.len(), names.text(2)), (2, None));
}

#[test]
fn a_device_has_its_series_and_no_others() {
    let mut names = Names::default();
    for (device, point) in [("a", "x"), ("b", "x"), ("a", "y"), ("c", "z"), ("a", "a")] {
        named(&mut names, &told(device, point, ""));
    }
    let of = |device: &str| names.of_device(&DeviceId::parse(device).unwrap()).collect::<Vec<_>>();
    assert_eq!([of("a"), of("b"), of("c"), of("d")], [vec![0, 2, 4], vec![1], vec![3], vec![]]);
    let all: Vec<_> = names.devices().map(|(id, series)| (id.as_str(), series.count())).collect();
    assert_eq!(all, [("a", 3), ("b", 1), ("c", 1)]);
}

proptest! {
    #[test]
    fn the_first_by_name_are_those_of_the_sorted_names(
        all in proptest::collection::vec(("[ab.-]{1,3}", "[ab./-]{1,3}"), 0..60),
        after in proptest::option::of("[ab./-]{0,5}"),
        most in 0_usize..9,
        only in proptest::option::of("[ab]"),
    ) {
        let (mut names, mut sorted) = (Names::default(), BTreeMap::new());
        for (device, point) in &all {
            if let Ok(Named::Changed(id)) = names.name(&told(device, point, ""), Age::Newest) {
                sorted.insert(format!("{device}/{point}"), id);
            }
        }
        let wanted = |name: &str| !name.ends_with('.');
        let device = only.as_deref().map(|only| DeviceId::parse(only).unwrap());
        let found = names.first(device.as_ref(), after.as_deref(), most, |text| wanted(text.point));
        let of = |name: &str| only.as_deref().is_none_or(|only| name.split_once('/').unwrap().0 == only);
        let behind = |name: &str| after.as_deref().is_none_or(|after| name > after);
        let expected: Vec<SeriesId> = sorted
            .iter()
            .filter(|(name, _)| wanted(name) && of(name) && behind(name))
            .map(|(_, id)| *id)
            .take(most)
            .collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn series_are_found_by_what_they_are_called(
        all in proptest::collection::vec(("[ab]{1,2}", "[ab]{1,2}", "[mK]?"), 0..60),
    ) {
        let (mut names, mut known) = (Names::default(), BTreeMap::new());
        for (device, point, unit) in &all {
            named(&mut names, &told(device, point, unit));
            let next = known.len();
            known.entry((device.clone(), point.clone())).or_insert((next, String::new())).1 = unit.clone();
        }
        prop_assert_eq!(names.len(), known.len());
        for ((device, point), (id, unit)) in &known {
            let (of, at) = (DeviceId::parse(device).unwrap(), PointId::parse(point).unwrap());
            let found = names.find(&of, &at).unwrap();
            prop_assert_eq!(found as usize, *id);
            prop_assert_eq!(names.text(found), Some(told(device, point, unit)));
        }
    }
}
