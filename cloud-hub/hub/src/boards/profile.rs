//! A device's board, made of the part `board` of its profile; of its series where no profile is known.

use std::collections::BTreeMap;

use tideline_profiles::section::{self, PanelKind, Severity};
use tideline_profiles::{Allowed, Profile};
use tideline_protocol::pattern::matches;
use tideline_protocol::value::ValueKind;
use tideline_store::SeriesInfo;

use super::check::{BANDS_MAX, COLUMNS, PANELS_MAX, PATTERNS_MAX, TITLE_CHARS_MAX};
use super::form::{Band, Board, Figure, Level, Mark, Panel, Show, VERSION};
use crate::signs::is_hidden;

/// Panels beside each other.
const ACROSS: u32 = 2;
/// Rows of a panel of lines or states, and of one of figures.
const HIGH: u32 = 7;
const LOW: u32 = 3;
/// Lines of a panel that is made of series, as many as have colours of their own.
const LINES_MAX: usize = 8;

/// The board of a device with these series.
#[must_use]
pub fn board(device: &str, title: &str, profile: Option<&Profile>, series: &[SeriesInfo]) -> Board {
    let of_profile = profile.map(|profile| shown(device, profile)).unwrap_or_default();
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
    text.chars().filter(|c| !is_hidden(*c)).take(TITLE_CHARS_MAX).collect()
}

fn shown(device: &str, profile: &Profile) -> Vec<(String, Show)> {
    let part = |panel: &section::Panel| {
        let series: Vec<String> =
            panel.points.iter().take(PATTERNS_MAX).map(|point| format!("{device}/{point}")).collect();
        let figure = Figure::Last;
        let bands = bands(profile, panel);
        let ends = (panel.kind == PanelKind::Gauge).then(|| ends(profile, panel)).flatten();
        let show = match panel.kind {
            PanelKind::Chart => Show::Line { series, bands, marks: vec![Mark::Restarts] },
            PanelKind::States => Show::States { series },
            // Without ends there is nothing to point between.
            PanelKind::Values | PanelKind::Gauge => match ends {
                Some((min, max)) => Show::Gauge { series, figure, min, max, bands },
                None => Show::Stat { series, figure, spark: true, bands },
            },
            PanelKind::Table => {
                Show::Table { series, figures: vec![figure, Figure::Min, Figure::Mean, Figure::Max] }
            }
        };
        (panel.title.clone(), show)
    };
    profile.board().panels.iter().map(part).collect()
}

/// The points of a panel, families as they are called.
fn points<'p>(
    profile: &'p Profile,
    panel: &'p section::Panel,
) -> impl Iterator<Item = (&'p str, &'p Allowed)> {
    let is_shown = |id: &str| panel.points.iter().any(|pattern| matches(pattern, id));
    profile.points().filter(move |(id, _)| is_shown(id)).map(|(id, point)| (id, &point.allowed))
}

/// The least and the greatest of what is allowed of the points of a panel.
#[expect(clippy::cast_precision_loss, reason = "where a pointer ends")]
fn ends(profile: &Profile, panel: &section::Panel) -> Option<(f64, f64)> {
    let ends = points(profile, panel).map(|(_, allowed)| match allowed {
        Allowed::Float { min, max } => Some((*min, *max)),
        Allowed::Int { min, max } => Some((*min as f64, *max as f64)),
        Allowed::Bool | Allowed::Text { .. } => None,
    });
    let both = ends.reduce(|a, b| Some((a?.0.min(b?.0), a?.1.max(b?.1))))??;
    (both.0 < both.1).then_some(both)
}

/// What values mean by the limits of the profile's alarms, where those are of all points of a panel.
fn bands(profile: &Profile, panel: &section::Panel) -> Vec<Band> {
    let mut all = Vec::new();
    for alarm in profile.alarms().values() {
        let mut shown = points(profile, panel).peekable();
        if shown.peek().is_none() || !shown.all(|(id, _)| matches(&alarm.point, id)) {
            continue;
        }
        let level = match alarm.severity {
            Severity::Info => continue,
            Severity::Warning => Level::Warn,
            Severity::Critical => Level::Bad,
        };
        all.extend(alarm.above.map(|from| Band { from: Some(from), to: None, level }));
        all.extend(alarm.below.map(|to| Band { from: None, to: Some(to), level }));
    }
    // The worse one is drawn over the other.
    all.sort_by_key(|band| band.level == Level::Bad);
    all.truncate(BANDS_MAX);
    all
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
    use tideline_profiles::shipped;

    use super::*;
    use crate::boards::check;

    fn of_profile(name: &str) -> Option<Profile> {
        shipped::named(name)?.profile().ok()
    }

    #[test]
    fn each_profile_that_ships_makes_a_board_with_nothing_wrong() {
        for shipped in shipped::ALL {
            let profile = of_profile(shipped.name).unwrap();
            let made = board("device-1", "", Some(&profile), &[]);
            assert_eq!(check::problems(&made), Vec::<String>::new(), "{}", shipped.name);
            assert_eq!(made.panels.len(), profile.board().panels.len().min(PANELS_MAX), "{}", shipped.name);
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

    #[test]
    fn a_gauge_points_between_what_is_allowed_and_limits_of_alarms_are_bands() {
        let text = "name = \"oven\"\n[points]\nheat = { unit = \"Cel\", min = -20, max = 300 }\n\
            level = { type = \"int\", unit = \"%\", min = 0, max = 100 }\nstate = { type = \"text\" }\n\
            [alarms.hot]\npoint = \"heat\"\nabove = 200\n[alarms.melts]\npoint = \"heat\"\nabove = 280\nseverity = \"critical\"\n\
            [alarms.cold]\npoint = \"heat\"\nbelow = 0\nseverity = \"info\"\n\
            [[board.panels]]\ntitle = \"Heat\"\nkind = \"gauge\"\npoints = [\"heat\"]\n\
            [[board.panels]]\ntitle = \"Both\"\nkind = \"gauge\"\npoints = [\"heat\", \"level\"]\n\
            [[board.panels]]\ntitle = \"State\"\nkind = \"gauge\"\npoints = [\"state\"]\n\
            [[board.panels]]\ntitle = \"Along time\"\npoints = [\"heat\"]\n";
        let oven = Profile::parse("oven.toml", text).unwrap();
        let made = board("oven-1", "", Some(&oven), &[]);
        assert_eq!(check::problems(&made), Vec::<String>::new());
        let band = |from, level| Band { from: Some(from), to: None, level };
        let limits = vec![band(200.0, Level::Warn), band(280.0, Level::Bad)];
        let gauge = |ids: &[&str], min, max, bands| Show::Gauge {
            series: ids.iter().map(|id| format!("oven-1/{id}")).collect(),
            figure: Figure::Last,
            min,
            max,
            bands,
        };
        assert_eq!(made.panels[0].show, gauge(&["heat"], -20.0, 300.0, limits.clone()));
        assert_eq!(made.panels[1].show, gauge(&["heat", "level"], -20.0, 300.0, Vec::new()), "not of both");
        assert!(matches!(made.panels[2].show, Show::Stat { .. }), "a text has no place on a scale");
        let Show::Line { bands, .. } = &made.panels[3].show else { panic!("{:?}", made.panels[3].show) };
        assert_eq!(*bands, limits);
    }
}
