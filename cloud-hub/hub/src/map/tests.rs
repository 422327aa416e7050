//! Clusters against a map of squares, windows at their edges, and what is no window.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn pin(row: usize, lat: f64, lon: f64, standing: Standing) -> Pin {
    Pin { row, position: Position::new(lat, lon, None).unwrap(), standing }
}

fn all(_row: usize) -> bool {
    true
}

fn counts(clusters: &[Cluster]) -> Vec<usize> {
    let mut counts: Vec<usize> = clusters.iter().map(|cluster| cluster.count).collect();
    counts.sort_unstable();
    counts
}

#[test]
fn a_cluster_stands_as_its_worst_and_comes_apart_where_it_says() {
    let index = Index::of([
        pin(0, 48.137, 11.575, Standing::Online),
        pin(1, 48.137, 11.576, Standing::Suspect),
        pin(2, 48.2, 11.6, Standing::Online),
        pin(3, -33.9, 151.2, Standing::Offline),
    ]);
    let (zoom, found) = index.clusters(&Window::WORLD, 3, all);
    assert_eq!((zoom, counts(&found)), (3, vec![1, 3]));
    let munich = found.iter().find(|cluster| cluster.count == 3).unwrap();
    assert_eq!((munich.worst, munich.by_standing), (Standing::Suspect, [0, 2, 0, 1, 0, 0]));
    assert!((munich.lat - 48.158).abs() < 0.001 && (munich.lon - 11.5837).abs() < 0.001, "{munich:?}");
    assert_eq!((munich.around.west, munich.around.north), (11.575, 48.2));
    let apart = munich.apart.unwrap();
    assert_eq!(counts(&index.clusters(&munich.around, apart - 1, all).1), [3]);
    assert!(index.clusters(&munich.around, apart, all).1.len() > 1);
    let sydney = found.iter().find(|cluster| cluster.count == 1).unwrap();
    assert_eq!((sydney.lat, sydney.lon, sydney.apart, sydney.first), (-33.9, 151.2, None, 3));
}

#[test]
fn devices_of_one_place_never_come_apart() {
    let index = Index::of((0..40).map(|row| pin(row, 1.5, 2.5, Standing::Online)));
    let (zoom, found) = index.clusters(&Window::WORLD, u8::MAX, all);
    assert_eq!((zoom, counts(&found), found[0].apart), (ZOOM_MAX, vec![40], None));
}

#[test]
fn a_window_across_the_180th_meridian_has_both_of_its_sides() {
    let index = Index::of([
        pin(0, -17.7, 178.0, Standing::Online),
        pin(1, -14.3, -170.7, Standing::Online),
        pin(2, -17.7, 0.0, Standing::Online),
    ]);
    let fiji = Window::parse("170,-25,-165,-10").unwrap();
    let rows: Vec<usize> = index.clusters(&fiji, 5, all).1.iter().map(|cluster| cluster.first).collect();
    assert!(rows.len() == 2 && !rows.contains(&2), "{rows:?}");
    assert!(fiji.has(-17.0, 180.0));
    assert!(!fiji.has(-17.0, 0.0));
}

#[test]
fn what_holds_all_goes_around_the_world_the_shorter_way() {
    let bounds = |lons: &[f64]| {
        let pins = lons.iter().enumerate().map(|(row, lon)| pin(row, -17.0, *lon, Standing::Online));
        let (around, count) = Index::of(pins).bounds(all);
        around.map(|around| (around.west, around.east, count))
    };
    assert_eq!(bounds(&[178.0, -170.7, 179.5]), Some((178.0, -170.7, 3)));
    assert_eq!(bounds(&[-180.0, 180.0]), Some((180.0, -180.0, 2)));
    assert_eq!(bounds(&[11.0, 151.2]), Some((11.0, 151.2, 2)));
    assert_eq!(bounds(&[-120.0, 0.0, 120.0]), Some((-120.0, 120.0, 3)));
    assert_eq!(bounds(&[7.0]), Some((7.0, 7.0, 1)));
}

#[test]
fn only_what_is_wanted_is_gathered_and_the_poles_are_at_the_edge() {
    let index = Index::of([
        pin(0, 90.0, 0.0, Standing::Online),
        pin(1, -90.0, 180.0, Standing::Never),
        pin(2, 0.0, -180.0, Standing::Online),
    ]);
    assert_eq!(counts(&index.clusters(&Window::WORLD, 10, all).1), [1, 1, 1]);
    assert_eq!(index.clusters(&Window::WORLD, 10, |row| row == 1).1[0].worst, Standing::Never);
    assert_eq!(index.bounds(|row| row != 2).1, 2);
    assert_eq!(Index::default().bounds(all), (None, 0));
}

#[test]
fn a_window_that_is_none_is_told_what_is_allowed() {
    for text in ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "0,10,1,5", "-181,0,0,1", "0,0,1,91", "NaN,0,1,1"] {
        let told = Window::parse(text).unwrap_err();
        assert!(told.contains("allowed are west,south,east,north"), "{text}: {told}");
    }
    assert_eq!(Window::parse(" -180, -90,180,90 "), Ok(Window::WORLD));
}

#[test]
fn more_squares_than_an_answer_has_are_gathered_more() {
    let pins = (0..100_usize).flat_map(|y| (0..100_usize).map(move |x| (x, y)));
    let degrees = |n: usize| f64::from(u32::try_from(n).unwrap());
    let pins = pins
        .map(|(x, y)| pin(100 * y + x, degrees(y) * 1.6 - 80.0, degrees(x) * 3.5 - 175.0, Standing::Online));
    let index = Index::of(pins);
    let (zoom, found) = index.clusters(&Window::WORLD, 18, all);
    assert!(
        zoom < 18 && found.len() <= CLUSTERS_MAX && found.len() > CLUSTERS_MAX / 8,
        "{zoom} {}",
        found.len()
    );
    assert_eq!(counts(&found).iter().sum::<usize>(), 10_000);
}

/// Clusters by a map of squares, from x and y alone.
fn simple(pins: &[Pin], level: u32) -> Vec<usize> {
    let mut squares: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    for pin in pins {
        let cut = |place: u32| place >> (LEVELS - level);
        *squares.entry((cut(x_of(pin.position.lon())), cut(y_of(pin.position.lat())))).or_default() += 1;
    }
    let mut counts: Vec<usize> = squares.into_values().collect();
    counts.sort_unstable();
    counts
}

proptest! {
    #[test]
    fn clusters_are_the_devices_of_squares_each_once(
        places in prop::collection::vec((-90.0..=90.0_f64, -180.0..=180.0_f64, 0..6_usize), 0..300),
        zoom in 0..=ZOOM_MAX,
    ) {
        let pins: Vec<Pin> = places.iter().enumerate()
            .map(|(row, (lat, lon, standing))| pin(row, *lat, *lon, Standing::ALL[*standing])).collect();
        let index = Index::of(pins.iter().copied());
        let (told, found) = index.clusters(&Window::WORLD, zoom, all);
        prop_assert_eq!(told, zoom);
        prop_assert_eq!(counts(&found), simple(&pins, u32::from(zoom) + FINER));
        for cluster in &found {
            prop_assert_eq!(cluster.by_standing.iter().sum::<usize>(), cluster.count);
            prop_assert!((-180.0..=180.0).contains(&cluster.lon) && (-90.0..=90.0).contains(&cluster.lat));
            if let Some(apart) = cluster.apart {
                prop_assert!(apart > zoom);
            }
        }
    }

    #[test]
    fn a_window_has_whole_clusters_of_the_world_and_all_that_is_in_it(
        places in prop::collection::vec((-85.0..=85.0_f64, -180.0..=180.0_f64), 1..200),
        corners in (-180.0..=180.0_f64, -85.0..=85.0_f64, -180.0..=180.0_f64, -85.0..=85.0_f64),
        zoom in 0..=8_u8,
    ) {
        let pins = places.iter().enumerate().map(|(row, (lat, lon))| pin(row, *lat, *lon, Standing::Online));
        let index = Index::of(pins);
        let (west, a, east, b) = corners;
        let window = Window { west, south: a.min(b), east, north: a.max(b) };
        let whole = index.clusters(&Window::WORLD, zoom, all).1;
        let part = index.clusters(&window, zoom, all).1;
        for cluster in &part {
            prop_assert!(whole.contains(cluster));
        }
        let inside = index.pins().filter(|pin| window.has(pin.position.lat(), pin.position.lon())).count();
        prop_assert!(part.iter().map(|cluster| cluster.count).sum::<usize>() >= inside);
    }

    #[test]
    fn any_text_is_a_window_or_none(text in ".{0,60}", a: f64, b: f64, c: f64, d: f64) {
        let _window = Window::parse(&text);
        if let Ok(window) = Window::parse(&format!("{a},{b},{c},{d}")) {
            let _clusters = Index::of([pin(0, 1.0, 2.0, Standing::Online)]).clusters(&window, 255, all);
        }
    }
}
