//! Names where a problem of a layer is, by section, item and option: the text that it stands in is made of several, and its lines are
//! of nothing that anybody has seen.

use std::ops::Range;

use serde_json::{Map, Value as Json};

/// What stands before each problem of the hub's layer, and a colon.
pub const LAYER: &str = "the hub's layer";

/// The items of sections that may stand several times: where each is in the text, and what it is called.
#[derive(Debug, Default)]
pub struct Items(Vec<(Range<usize>, &'static str, String)>);

impl Items {
    /// There is one.
    pub fn note(&mut self, section: &'static str, name: &str, span: Range<usize>) {
        self.0.push((span, section, name.to_owned()));
    }

    /// A problem with the name of the item that it is in: `source.meter.path: …` in the place of `source.path: …`.
    pub fn named(&self, at: usize, what: &str) -> String {
        let item = self.0.iter().find(|(span, ..)| span.contains(&at));
        let named = item.and_then(|(_, section, name)| {
            let rest = what.strip_prefix(section)?.strip_prefix('.')?;
            Some(format!("{section}.{name}.{rest}"))
        });
        named.unwrap_or_else(|| what.to_owned())
    }
}

/// Whether a place that a problem names is this option, in it or above it. Both are names with dots.
fn is_at(place: &str, option: &str) -> bool {
    let place = place.split([',', '[', ' ']).next().unwrap_or_default();
    let below = |of: &str, other: &str| other.strip_prefix(of).is_some_and(|rest| rest.starts_with('.'));
    place == option || below(place, option) || below(option, place)
}

/// Says of each problem of the hub's layer whose word is at its place: `who` tells that of an option's name with dots.
#[must_use]
pub fn attributed<'o>(problems: &str, options: impl Iterator<Item = (&'o str, &'o str)> + Clone) -> String {
    let one = |line: &str| {
        let rest = line.strip_prefix(LAYER).and_then(|rest| rest.strip_prefix(": "));
        let Some((place, what)) = rest.and_then(|rest| rest.split_once(": ")) else { return line.to_owned() };
        let mut whose: Vec<&str> =
            options.clone().filter(|(option, _)| is_at(place, option)).map(|(_, who)| who).collect();
        whose.sort_unstable();
        whose.dedup();
        if whose.is_empty() {
            line.to_owned()
        } else {
            format!("{LAYER}: {place} ({}): {what}", whose.join(", "))
        }
    };
    problems.lines().map(one).collect::<Vec<_>>().join("\n")
}

/// A problem of the layer; where the layer itself says nothing of its place, with whose word it is: that of `file`, which alone was
/// right.
pub fn of_layer(problem: &str, layer: &Map<String, Json>, file: &str) -> String {
    let rest = problem.strip_prefix(LAYER).and_then(|rest| rest.strip_prefix(": "));
    let Some((place, what)) = rest.and_then(|rest| rest.split_once(": ")) else { return problem.to_owned() };
    // An option that the layer leaves out of an item of its own is its word too.
    let is_of_layer = layer.iter().any(|(section, options)| match options.as_object() {
        Some(options) => options.keys().any(|name| is_at(place, &format!("{section}.{name}"))),
        None => is_at(place, section),
    });
    // What names no option, as that there are too many of something, is of all together.
    if is_of_layer || !place.contains('.') {
        return problem.to_owned();
    }
    format!("{LAYER}: {place} (as {file} has it): {what}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_has_the_name_of_its_item() {
        let mut items = Items::default();
        items.note("source", "meter", 10..20);
        items.note("device", "m.1", 30..40);
        assert_eq!(items.named(12, "source.path: needed"), "source.meter.path: needed");
        assert_eq!(
            items.named(39, "device.source: there is no \"x\""),
            "device.m.1.source: there is no \"x\""
        );
        assert_eq!(items.named(12, "device: at most 3"), "device: at most 3");
        assert_eq!(items.named(25, "source.path: needed"), "source.path: needed");
    }

    #[test]
    fn each_problem_is_told_with_whose_word_it_is() {
        let options = [
            ("source.meter.path", "template group/pumps"),
            ("source.meter.kind", "set by anna"),
            ("source.meter.rate", "set by anna"),
            ("source.meters.kind", "set by ben"),
            ("batch", "set by ben"),
        ];
        let told = |problem: &str| attributed(problem, options.into_iter());
        for (problem, is) in [
            (
                "the hub's layer: source.meter.kind: no",
                "the hub's layer: source.meter.kind (set by anna): no",
            ),
            (
                "the hub's layer: source.meter: no",
                "the hub's layer: source.meter (set by anna, template group/pumps): no",
            ),
            ("the hub's layer: batch.rows_max: no", "the hub's layer: batch.rows_max (set by ben): no"),
            ("the hub's layer: uplink.hub: no", "the hub's layer: uplink.hub: no"),
            ("agent.toml:3: source.meter.kind: no", "agent.toml:3: source.meter.kind: no"),
        ] {
            assert_eq!(told(problem), is);
        }
        assert_eq!(told("the hub's layer: batch: a\nb"), "the hub's layer: batch (set by ben): a\nb");
    }

    #[test]
    fn what_the_layer_does_not_say_is_of_the_file() {
        let layer = json!({ "source": { "bus": false }, "batch": { "rows_max": 1 } });
        let told = |problem: &str| of_layer(problem, layer.as_object().unwrap(), "agent.toml");
        assert_eq!(
            told("the hub's layer: device.m1.source: there is no \"bus\""),
            "the hub's layer: device.m1.source (as agent.toml has it): there is no \"bus\""
        );
        let told_of_own = json!({ "source": { "log": { "kind": "tail" } } });
        let missing = "the hub's layer: source.log.path: needed for kind \"tail\"";
        assert_eq!(of_layer(missing, told_of_own.as_object().unwrap(), "agent.toml"), missing);
        for same in [
            "the hub's layer: batch.rows_max: no",
            "the hub's layer: source.bus: no",
            "the hub's layer: device: at most 3",
        ] {
            assert_eq!(told(same), same);
        }
    }
}
