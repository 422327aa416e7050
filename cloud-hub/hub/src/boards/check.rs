//! What must hold of a board beyond its form: all that is wrong is told at once, each with its path and what is allowed.

use std::collections::BTreeSet;

use super::form::{Band, Board, Panel, Show, VERSION, Variable};
use super::pattern::{self, Pattern};
use crate::signs::is_hidden;

/// Columns of the grid.
pub const COLUMNS: u32 = 12;
/// Most rows of the grid: a board that is longer is several.
pub const ROWS_MAX: u32 = 1000;
/// Highest panel, in rows.
pub const HEIGHT_MAX: u32 = 24;
/// Most panels of a board: each is drawn and asked for.
pub const PANELS_MAX: usize = 60;
/// Most variables of a board.
pub const VARIABLES_MAX: usize = 8;
/// Most series as they are written, of one panel.
pub const PATTERNS_MAX: usize = 16;
/// Most bands of a panel.
pub const BANDS_MAX: usize = 8;
/// Longest title and label, in characters.
pub const TITLE_CHARS_MAX: usize = 120;
/// Longest words of a panel, and about a board, in characters.
pub const TEXT_CHARS_MAX: usize = 4000;
/// Longest name of a panel or a variable, in bytes.
const NAME_BYTES_MAX: usize = 32;

struct Problems(Vec<String>);

impl Problems {
    fn say(&mut self, path: &str, what: impl std::fmt::Display) {
        self.0.push(format!("{path}: {what}"));
    }

    fn title(&mut self, path: &str, text: &str) {
        let chars = text.chars().count();
        if chars > TITLE_CHARS_MAX || text.chars().any(is_hidden) {
            self.say(
                path,
                format_args!("allowed are {TITLE_CHARS_MAX} characters, none of them a control character"),
            );
        }
    }

    fn words(&mut self, path: &str, text: &str) {
        let chars = text.chars().count();
        if chars > TEXT_CHARS_MAX {
            self.say(path, format_args!("{chars} characters; allowed are {TEXT_CHARS_MAX}"));
        }
    }

    fn count(&mut self, path: &str, found: usize, most: usize) {
        if found > most {
            self.say(path, format_args!("{found} entries; allowed are {most}"));
        }
    }
}

/// All that is wrong with a board, one a line; empty when nothing is.
#[must_use]
pub fn problems(board: &Board) -> Vec<String> {
    let mut out = Problems(Vec::new());
    if board.version != VERSION {
        out.say("version", format_args!("{} is unknown; allowed is {VERSION}", board.version));
    }
    if board.title.trim().is_empty() {
        out.say("title", "it is empty");
    }
    out.title("title", &board.title);
    out.words("about", &board.about);
    if let Some(range) = board.range.as_deref().filter(|range| !is_range(range)) {
        out.say("range", format_args!("{range:?}; allowed are all, or a number with s, m, h, d or w, as 6h"));
    }
    variables(&board.variables, &mut out);
    out.count("panels", board.panels.len(), PANELS_MAX);
    let mut ids = BTreeSet::new();
    for (n, one) in board.panels.iter().enumerate().take(PANELS_MAX) {
        let path = format!("panels[{n}]");
        if !is_name(&one.id, '-') {
            out.say(
                &format!("{path}.id"),
                format_args!("{:?}; allowed are 1 to {NAME_BYTES_MAX} small letters, digits and -", one.id),
            );
        } else if !ids.insert(&one.id) {
            out.say(&format!("{path}.id"), format_args!("{:?} is another panel's already", one.id));
        }
        panel(&path, one, &board.variables, &mut out);
        for (other, before) in board.panels.iter().enumerate().take(n) {
            if overlap(one, before) {
                out.say(&path, format_args!("it lies over panels[{other}]"));
            }
        }
    }
    out.0
}

fn is_name(text: &str, also: char) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == also)
}

/// A range as the web app's addresses name it.
fn is_range(text: &str) -> bool {
    let Some((number, unit)) = text.char_indices().last().map(|(at, unit)| (text.get(..at), unit)) else {
        return false;
    };
    text == "all"
        || ("smhdw".contains(unit)
            && number.is_some_and(|n| {
                (1..=9).contains(&n.len())
                    && n.bytes().all(|b| b.is_ascii_digit())
                    && n.bytes().any(|b| b != b'0')
            }))
}

fn variables(all: &[Variable], out: &mut Problems) {
    out.count("variables", all.len(), VARIABLES_MAX);
    let mut names = BTreeSet::new();
    for (n, variable) in all.iter().enumerate().take(VARIABLES_MAX) {
        let path = format!("variables[{n}]");
        if !is_name(&variable.name, '_') {
            out.say(
                &format!("{path}.name"),
                format_args!(
                    "{:?}; allowed are 1 to {NAME_BYTES_MAX} small letters, digits and _",
                    variable.name
                ),
            );
        } else if !names.insert(&variable.name) {
            out.say(
                &format!("{path}.name"),
                format_args!("{:?} is another variable's already", variable.name),
            );
        }
        out.title(&format!("{path}.label"), &variable.label);
        out.title(&format!("{path}.default"), &variable.default);
    }
}

fn panel(path: &str, panel: &Panel, variables: &[Variable], out: &mut Problems) {
    out.title(&format!("{path}.title"), &panel.title);
    if panel.w == 0 || panel.x.saturating_add(panel.w) > COLUMNS {
        let told = format!("x {} and w {}; allowed are columns 0 to {}", panel.x, panel.w, COLUMNS - 1);
        out.say(path, told);
    }
    if !(1..=HEIGHT_MAX).contains(&panel.h) || panel.y.saturating_add(panel.h) > ROWS_MAX {
        let told = format!(
            "y {} and h {}; allowed are heights of 1 to {HEIGHT_MAX} within {ROWS_MAX} rows",
            panel.y, panel.h
        );
        out.say(path, told);
    }
    let path = format!("{path}.show");
    match &panel.show {
        Show::Gauge { min, max, .. } if min >= max => {
            out.say(&path, format_args!("min {min} is not below max {max}"));
        }
        Show::Table { figures, .. } if figures.is_empty() => {
            out.say(&format!("{path}.figures"), "it is empty; one at least is needed");
        }
        Show::Table { figures, .. } => out.count(&format!("{path}.figures"), figures.len(), PATTERNS_MAX),
        Show::Map { devices, .. } if devices.is_empty() => {
            out.say(&format!("{path}.devices"), "it is empty; one at least is needed, and * is any");
        }
        Show::Text { text } => return out.words(&format!("{path}.text"), text),
        _ => {}
    }
    if let Some(Err(reason)) = panel.show.plan().map(|plan| pattern::site(plan, variables)) {
        out.say(&format!("{path}.plan"), reason);
    }
    let devices = panel.show.devices();
    out.count(&format!("{path}.devices"), devices.len(), PATTERNS_MAX);
    for (n, written) in devices.iter().enumerate().take(PATTERNS_MAX) {
        if let Err(reason) = Pattern::devices(written, variables) {
            out.say(&format!("{path}.devices[{n}]"), reason);
        }
    }
    let series = panel.show.series();
    out.count(&format!("{path}.series"), series.len(), PATTERNS_MAX);
    for (n, written) in series.iter().enumerate().take(PATTERNS_MAX) {
        if let Err(reason) = Pattern::parse(written, variables) {
            out.say(&format!("{path}.series[{n}]"), reason);
        }
    }
    bands(&path, panel.show.bands(), out);
}

fn bands(path: &str, all: &[Band], out: &mut Problems) {
    out.count(&format!("{path}.bands"), all.len(), BANDS_MAX);
    for (n, band) in all.iter().enumerate().take(BANDS_MAX) {
        let path = format!("{path}.bands[{n}]");
        match (band.from, band.to) {
            (None, None) => out.say(&path, "it has neither from nor to; one at least is needed"),
            (Some(from), Some(to)) if from >= to => {
                out.say(&path, format_args!("from {from} is not below to {to}"));
            }
            _ => {}
        }
    }
}

fn overlap(one: &Panel, other: &Panel) -> bool {
    let meet =
        |a: u32, length: u32, b: u32, other: u32| a < b.saturating_add(other) && b < a.saturating_add(length);
    meet(one.x, one.w, other.x, other.w) && meet(one.y, one.h, other.y, other.h)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn board(value: serde_json::Value) -> Board {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_path() {
        let line = |id: &str, x: u32, series: &str| json!({"id": id, "x": x, "y": 0, "w": 6, "h": 4, "show": {"kind": "line", "series": [series], "bands": [{"level": "warn"}]}});
        let gauge = json!({"id": "g", "x": 0, "y": 4, "w": 13, "h": 0, "show": {"kind": "gauge", "series": ["a/b"], "min": 5, "max": 5}});
        let found = problems(&board(json!({
            "version": 2, "title": " ", "range": "6 hours",
            "variables": [{"name": "Site", "kind": "site"}],
            "panels": [line("a", 0, "pump"), line("a", 3, "a/b"), gauge],
        })));
        let told = found.join("\n");
        for line in [
            "version: 2 is unknown; allowed is 1",
            "title: it is empty",
            "range: \"6 hours\"; allowed are all",
            "variables[0].name: \"Site\"; allowed are 1 to 32 small letters",
            "panels[0].show.series[0]: \"pump\": a series is DEVICE/POINT",
            "panels[0].show.bands[0]: it has neither from nor to",
            "panels[1].id: \"a\" is another panel's already",
            "panels[1]: it lies over panels[0]",
            "panels[2]: x 0 and w 13; allowed are columns 0 to 11",
            "panels[2]: y 4 and h 0; allowed are heights of 1 to 24",
            "panels[2].show: min 5 is not below max 5",
        ] {
            assert!(told.contains(line), "{line}\n in\n{told}");
        }
    }

    #[test]
    fn the_devices_of_a_map_are_written_as_those_of_series() {
        let map = |devices: serde_json::Value| {
            json!({"version": 1, "title": "t", "variables": [{"name": "where", "kind": "site"}],
            "panels": [{"id": "m", "x": 0, "y": 0, "w": 6, "h": 6, "show": {"kind": "map", "devices": devices}}]})
        };
        assert_eq!(
            problems(&board(map(json!(["pump-*", "@site=$where", "@group=power"])))),
            Vec::<String>::new()
        );
        let none = problems(&board(map(json!([]))));
        assert_eq!(none, ["panels[0].show.devices: it is empty; one at least is needed, and * is any"]);
        let told = problems(&board(map(json!(["pump/flow", "$what", ""])))).join("\n");
        for line in [
            "devices[0]: \"pump/flow\": devices are an id",
            "devices[1]: $what is no variable",
            "devices[2]: it is empty",
        ] {
            assert!(told.contains(line), "{line}\n in\n{told}");
        }
    }

    #[test]
    fn panels_side_by_side_do_not_lie_over_each_other() {
        let text = |id: &str, x: u32, y: u32| json!({"id": id, "x": x, "y": y, "w": 6, "h": 2, "show": {"kind": "text", "text": "x"}});
        let fine = json!({"version": 1, "title": "t", "range": "6h", "panels": [text("a", 0, 0), text("b", 6, 0), text("c", 0, 2)]});
        assert_eq!(problems(&board(fine)), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let with = |show: serde_json::Value| {
            serde_json::from_value::<Board>(
                json!({"version": 1, "title": "t", "panels": [{"id": "a", "x": 0, "y": 0, "w": 1, "h": 1, "show": show}]}),
            )
        };
        assert!(with(json!({"kind": "text", "text": "x"})).is_ok());
        assert!(
            with(json!({"kind": "text", "text": "x", "html": true}))
                .unwrap_err()
                .to_string()
                .contains("unknown field `html`")
        );
        assert!(
            with(json!({"kind": "pie"}))
                .unwrap_err()
                .to_string()
                .contains("unknown variant `pie`, expected one of `line`")
        );
    }

    proptest! {
        #[test]
        fn no_place_makes_it_panic(x: u32, y: u32, w: u32, h: u32, range in ".{0,12}") {
            let panel = json!({"id": "a", "x": x, "y": y, "w": w, "h": h, "show": {"kind": "text", "text": ""}});
            let again = json!({"id": "b", "x": x, "y": y, "w": w, "h": h, "show": {"kind": "text", "text": ""}});
            let _told = problems(&board(json!({"version": 1, "title": "t", "range": range, "panels": [panel, again]})));
        }
    }
}
