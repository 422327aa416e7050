//! A device's board, made of the part `board` of its profile; of its series where no profile is known.

use std::collections::BTreeMap;

use tideline_profiles::section::{self, PanelKind};
use tideline_profiles::shipped;
use tideline_protocol::value::ValueKind;
use tideline_store::SeriesInfo;

use super::check::{COLUMNS, PANELS_MAX, PATTERNS_MAX, TITLE_CHARS_MAX};
use super::form::{Board, Figure, Mark, Panel, Show, VERSION};

/// Panels beside each other.
const ACROSS: u32 = 2;
/// Rows of a panel of lines or states, and of one of figures.
const HIGH: u32 = 7;
const LOW: u32 = 3;
/// Lines of a panel that is made of series, as many as have colours of their own.
const LINES_MAX: usize = 8;

/// What the profile of this name says of boards; none where it is not one that ships.
#[must_use]
pub fn of_profile(name: &str) -> Option<section::Board> {
    shipped::named(name)?.profile().ok().map(|profile| profile.board().clone())
}

/// The board of a device with these series.
#[must_use]
pub fn board(device: &str, title: &str, profile: Option<&section::Board>, series: &[SeriesInfo]) -> Board {
    let of_profile = profile.map(|board| shown(device, board)).unwrap_or_default();
    let parts = if of_profile.is_empty() { by_unit(device, series) } else { of_profile };
    let title = if title.is_empty() { device } else { title };
    Board {
        version: VERSION,
        title: cut(title),
        about: String::new(),
        variables: Vec::new(),
        range: None,
        panels: placed(parts),
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TITLE_CHARS_MAX).collect()
}

fn shown(device: &str, board: &section::Board) -> Vec<(String, Show)> {
    let part = |panel: &section::Panel| {
        let series: Vec<String> =
            panel.points.iter().take(PATTERNS_MAX).map(|point| format!("{device}/{point}")).collect();
        let figure = Figure::Last;
        let show = match panel.kind {
            PanelKind::Chart => lines(series),
            PanelKind::States => Show::States { series },
            // The profile knows no ends of a pointer.
            PanelKind::Values | PanelKind::Gauge => {
                Show::Stat { series, figure, spark: true, bands: Vec::new() }
            }
            PanelKind::Table => {
                Show::Table { series, figures: vec![figure, Figure::Min, Figure::Mean, Figure::Max] }
            }
        };
        (panel.title.clone(), show)
    };
    board.panels.iter().map(part).collect()
}

fn lines(series: Vec<String>) -> Show {
    Show::Line { series, bands: Vec::new(), marks: vec![Mark::Restarts] }
}

/// Numbers of one unit and one kind of point together; states beneath them.
fn by_unit(device: &str, series: &[SeriesInfo]) -> Vec<(String, Show)> {
    let mut numbers: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let mut states = Vec::new();
    for info in series {
        let point = info.point.as_str();
        let id = format!("{device}/{point}");
        if matches!(info.kind, ValueKind::Bool | ValueKind::Text) {
            states.push(id);
        } else {
            let family = point.split_once('/').map_or(point, |(family, _)| family);
            numbers.entry((family, &info.unit)).or_default().push(id);
        }
    }
    let mut parts = Vec::new();
    for ((family, _), ids) in numbers {
        parts.extend(ids.chunks(LINES_MAX).map(|ids| (family.to_owned(), lines(ids.to_vec()))));
    }
    parts.extend(states.chunks(LINES_MAX).map(|ids| (String::new(), Show::States { series: ids.to_vec() })));
    parts
}

/// Two beside each other, in their order.
fn placed(parts: Vec<(String, Show)>) -> Vec<Panel> {
    let w = COLUMNS / ACROSS;
    let mut free = [0_u32; ACROSS as usize];
    let mut panels = Vec::new();
    for (n, (title, show)) in parts.into_iter().take(PANELS_MAX).enumerate() {
        let h = if matches!(show, Show::Stat { .. }) { LOW } else { HIGH };
        // The side that has room first.
        let mut side = 0_u32;
        let mut best = u32::MAX;
        for (at, y) in (0..).zip(free) {
            if y < best {
                (side, best) = (at, y);
            }
        }
        if let Some((_, y)) = (0..).zip(&mut free).find(|(at, _): &(u32, _)| *at == side) {
            panels.push(Panel { id: format!("p{n}"), title: cut(&title), x: side * w, y: *y, w, h, show });
            *y += h;
        }
    }
    panels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::check;

    #[test]
    fn each_profile_that_ships_makes_a_board_with_nothing_wrong() {
        for shipped in shipped::ALL {
            let profile = of_profile(shipped.name).unwrap();
            let made = board("device-1", "", Some(&profile), &[]);
            assert_eq!(check::problems(&made), Vec::<String>::new(), "{}", shipped.name);
            assert_eq!(made.panels.len(), profile.panels.len().min(PANELS_MAX), "{}", shipped.name);
            assert_eq!(made.title, "device-1");
        }
    }

    #[test]
    fn a_meter_shows_what_its_profile_says() {
        let made = board("m", "Meter", of_profile("eastron-sdm630").as_ref(), &[]);
        let first = &made.panels[0];
        assert_eq!((first.title.as_str(), first.show.series()), ("Power", &["m/power/*".to_owned()][..]));
        assert!(matches!(made.panels[1].show, Show::Stat { .. }));
        assert_eq!((made.panels[1].x, made.panels[1].y, made.panels[2].x, made.panels[2].y), (6, 0, 6, 3));
    }
}
