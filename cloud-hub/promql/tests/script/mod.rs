//! Reads and runs a file of queries with their answers.

use std::iter::Peekable;

use tideline_promql::ast::Expr;
use tideline_promql::{
    Answer, Labels, Limits, MatchOp, Matcher, NS_PER_S, Of, Query, Range, Sample, Samples, Series, Source,
    SourceError, instant, parse, parse_selector, range,
};

/// What became of one `eval`.
pub enum Outcome {
    Holds,
    /// Why.
    PassedOver(&'static str),
    Wrong(String),
}

/// Series in memory.
#[derive(Default)]
pub struct Memory {
    series: Vec<(Labels, Vec<Sample>)>,
}

impl Source for Memory {
    type Id = usize;

    fn select(&self, matchers: &[Matcher]) -> Result<Vec<(usize, Labels)>, SourceError> {
        let all = self.series.iter().enumerate();
        let found = all.filter(|(_, (labels, _))| Matcher::all_fit(matchers, labels));
        Ok(found.map(|(at, (labels, _))| (at, labels.clone())).collect())
    }

    fn samples(
        &self,
        id: &usize,
        (after_ns, to_ns): (i64, i64),
        most: usize,
        of: Of,
    ) -> Result<Samples, SourceError> {
        let within = |s: &&Sample| s.time_ns > after_ns && s.time_ns <= to_ns;
        let said = |s: &Sample| if of == Of::Count { Sample { value: 1.0, ..*s } } else { *s };
        let all: Vec<Sample> = self.series[*id].1.iter().filter(within).take(most).map(said).collect();
        Ok(all.into())
    }
}

impl Memory {
    pub fn add(&mut self, labels: Labels, samples: Vec<Sample>) {
        match self.series.iter_mut().find(|(have, _)| *have == labels) {
            Some((_, have)) => {
                have.extend(samples);
                have.sort_by_key(|s| s.time_ns);
            }
            None => self.series.push((labels, samples)),
        }
    }
}

/// A duration, or seconds.
fn time(text: &str) -> i64 {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let seconds = text.parse::<f64>().ok().and_then(tideline_promql::duration::from_seconds);
    sign * seconds
        .or_else(|| tideline_promql::duration::parse(text))
        .unwrap_or_else(|| panic!("{text}: no time"))
}

/// `1 2 _ 3+1x4`; none where it holds what is no float.
fn points(text: &str) -> Option<Vec<Option<f64>>> {
    let number = |text: &str| match text.strip_prefix(['+', '-']) {
        Some(rest) => {
            tideline_promql::number::parse(rest).map(|n| if text.starts_with('-') { -n } else { n })
        }
        None => tideline_promql::number::parse(text),
    };
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        if let Some(times) = word.strip_prefix('_') {
            let times = times.strip_prefix('x').map_or(1, |n| n.parse().unwrap());
            out.extend(std::iter::repeat_n(None, times));
            continue;
        }
        // `0x59` is 60 zeros here, and no hexadecimal number.
        if let Some(value) = number(word).filter(|_| !word.contains('x')) {
            out.push(Some(value));
            continue;
        }
        let (series, times) = word.rsplit_once('x')?;
        let times: u32 = times.parse().ok()?;
        // The sign between a start and a step is the last that is no exponent's.
        let sign = series
            .char_indices()
            .skip(1)
            .filter(|(at, c)| matches!(c, '+' | '-') && !series[..*at].ends_with(['e', 'E']));
        let (first, step) = match sign.last() {
            Some((at, _)) => (number(&series[..at])?, number(&series[at..])?),
            None => (number(series)?, 0.0),
        };
        let mut value = first;
        for _ in 0..=times {
            out.push(Some(value));
            value += step;
        }
    }
    Some(out)
}

/// `name{a="b"}` and the points after it.
fn described(line: &str) -> Option<(Labels, Vec<Option<f64>>)> {
    let mut quoted = None;
    let mut depth = 0;
    let mut end = line.len();
    for (at, c) in line.char_indices() {
        match (quoted, c) {
            (None, '"' | '\'' | '`') => quoted = Some(c),
            (Some(quote), c) if c == quote && !line[..at].ends_with('\\') => quoted = None,
            (None, '{') => depth += 1,
            (None, '}') => depth -= 1,
            (None, c) if c.is_whitespace() && depth == 0 => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let (name, values) = line.split_at(end);
    let labels = if name == "{}" {
        Labels::default()
    } else {
        let selector = parse_selector(name).ok()?;
        let equal = selector.matchers.iter().filter(|m| matches!(m.op, MatchOp::Equal));
        Labels::new(equal.map(|m| (m.name.as_str(), m.value.as_str())))
    };
    Some((labels, points(values)?))
}

#[derive(Default)]
struct Expected {
    fails: bool,
    message: Option<String>,
    ordered: bool,
    text: Option<String>,
    /// Start and step of a range vector.
    span: Option<(i64, i64)>,
    series: Vec<(Labels, Vec<Option<f64>>)>,
    scalar: Option<f64>,
}

enum When {
    At(i64),
    Range(Range),
}

/// Runs a script; the line and outcome of each `eval`.
pub fn run(script: &str) -> Vec<(usize, Outcome)> {
    let mut memory = Memory::default();
    // Metrics that hold what is no float here: histograms, staleness markers.
    let mut others: Vec<String> = Vec::new();
    let mut out = Vec::new();
    let mut lines = script.lines().map(str::trim).enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            _ if line.is_empty() || line.starts_with('#') => {}
            "clear" => (memory, others) = (Memory::default(), Vec::new()),
            w if w.starts_with("load") => {
                others.extend(load(&mut memory, rest, &mut lines));
                if w != "load" {
                    others.push(String::new());
                }
            }
            w if w.starts_with("eval") => {
                let block: Vec<&str> = block(&mut lines).collect();
                let asks = |name: &String| rest.contains(name.as_str()) || rest.contains("__name__");
                let outcome = if others.iter().any(asks) {
                    Outcome::PassedOver("asks for what is no float")
                } else {
                    eval(&memory, w, rest, &block)
                };
                out.push((at + 1, outcome));
            }
            _ => panic!("line {}: {line}", at + 1),
        }
    }
    out
}

/// The lines up to the next empty one.
fn block<'a, 'b>(
    lines: &'b mut Peekable<impl Iterator<Item = (usize, &'a str)>>,
) -> impl Iterator<Item = &'a str> + 'b {
    std::iter::from_fn(move || {
        let ends = |line: &str| {
            line.is_empty() || line == "clear" || line.starts_with("eval") || line.starts_with("load ")
        };
        lines.next_if(|(_, line)| !ends(line)).map(|(_, line)| line)
    })
    .filter(|line| !line.starts_with('#'))
}

/// Loads what is floats; the metrics that are not.
fn load<'a>(
    memory: &mut Memory,
    step: &str,
    lines: &mut Peekable<impl Iterator<Item = (usize, &'a str)>>,
) -> Vec<String> {
    let step_ns = time(step.trim());
    let mut others = Vec::new();
    for line in block(lines) {
        let Some((labels, points)) = described(line) else {
            others.push(line.split(['{', ' ', '\t']).next().unwrap_or_default().to_owned());
            continue;
        };
        let points = points.into_iter().enumerate();
        let samples = points
            .filter_map(|(at, v)| Some(Sample { time_ns: step_ns * i64::try_from(at).ok()?, value: v? }));
        memory.add(labels, samples.collect());
    }
    others
}

fn expected(word: &str, block: &[&str]) -> Result<Expected, Outcome> {
    let mut out =
        Expected { fails: word == "eval_fail", ordered: word == "eval_ordered", ..Expected::default() };
    for line in block {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["expect", "fail", rest @ ..] => {
                out.fails = true;
                if let ["msg:", ..] = rest {
                    let said = line.split_once("msg:").map_or("", |(_, m)| m).trim();
                    out.message = Some(said.trim_matches('"').to_owned());
                }
            }
            ["expected_fail_message" | "expected_fail_regexp", ..] => {}
            ["expect", "ordered"] => out.ordered = true,
            ["expect", "warn" | "info" | "no_warn" | "no_info", ..] => {}
            ["expect", "range", "vector", "from", from, "to", _, "step", step] => {
                out.span = Some((time(from), time(step)));
            }
            ["expect", "string", ..] => {
                let quoted = line.split_once("string").map_or("", |(_, rest)| rest).trim();
                out.text = match parse(quoted) {
                    Ok(Expr::Text(text)) => Some(text),
                    _ => return Err(Outcome::PassedOver("a string of another form")),
                };
            }
            [number] if points(number).is_some_and(|p| p.len() == 1) => {
                out.scalar = points(number).and_then(|p| p[0]);
            }
            _ => match described(line) {
                Some(series) => out.series.push(series),
                None => return Err(Outcome::PassedOver("an answer that is no float")),
            },
        }
    }
    Ok(out)
}

fn eval(memory: &Memory, word: &str, rest: &str, block: &[&str]) -> Outcome {
    if matches!(word, "eval_warn" | "eval_info") && block.is_empty() {
        return Outcome::PassedOver("annotations only");
    }
    let expected = match expected(word, block) {
        Ok(expected) => expected,
        Err(outcome) => return outcome,
    };
    let (when, text) = if let Some(rest) = rest.strip_prefix("instant at ") {
        let (at, text) = rest.split_once(' ').unwrap();
        (When::At(time(at)), text)
    } else {
        let rest = rest.strip_prefix("range from ").unwrap();
        let (start, rest) = rest.split_once(" to ").unwrap();
        let (end, rest) = rest.split_once(" step ").unwrap();
        let (step, text) = rest.split_once(' ').unwrap();
        (When::Range(Range { start_ns: time(start), end_ns: time(end), step_ns: time(step) }), text)
    };
    let query = Query { source: memory, limits: Limits::default(), canceled: &|| false };
    let answer = parse(text.trim()).and_then(|expr| match when {
        When::At(at_ns) => instant(&query, &expr, at_ns),
        When::Range(range_of) => range(&query, &expr, range_of),
    });
    match answer {
        Err(error) if expected.fails => match &expected.message {
            Some(message) if *message != error.to_string() && !error.to_string().contains("parse error") => {
                Outcome::Wrong(format!("{text}: fails with {error:?}, not {message:?}"))
            }
            _ => Outcome::Holds,
        },
        Err(error)
            if [
                "not supported",
                "smoothed",
                "anchored",
                "\"fill",
                "expected a duration",
                "\"</\"",
                "\">/\"",
            ]
            .iter()
            .any(|what| error.to_string().contains(what)) =>
        {
            Outcome::PassedOver("not supported")
        }
        Err(error) => Outcome::Wrong(format!("{text}: {error}")),
        Ok(_) if expected.fails => Outcome::Wrong(format!("{text}: should have failed")),
        Ok(answer) => match difference(&expected, answer, &when) {
            None => Outcome::Holds,
            Some(what) => Outcome::Wrong(format!("{text}: {what}")),
        },
    }
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
}

fn difference(expected: &Expected, answer: Answer, when: &When) -> Option<String> {
    let (start_ns, step_ns) = match (expected.span, when) {
        (Some(span), _) => span,
        (None, When::At(at)) => (*at, NS_PER_S),
        (None, When::Range(range)) => (range.start_ns, range.step_ns),
    };
    let single = |value| vec![Sample { time_ns: start_ns, value }];
    let got: Vec<Series> = match answer {
        Answer::Text(text) => {
            return (expected.text.as_ref() != Some(&text)).then(|| format!("got {text:?}"));
        }
        Answer::Scalar(sample) => {
            let wanted = expected.scalar.unwrap_or(f64::NAN);
            return (!close(sample.value, wanted)).then(|| format!("got {}, not {wanted}", sample.value));
        }
        Answer::Vector(all) => {
            all.into_iter().map(|(labels, value)| Series { labels, samples: single(value) }).collect()
        }
        Answer::Matrix(all) => all,
    };
    let wanted: Vec<Series> = expected
        .series
        .iter()
        .map(|(labels, points)| {
            let points = points.iter().enumerate();
            let samples = points.filter_map(|(at, v)| {
                Some(Sample { time_ns: start_ns + step_ns * i64::try_from(at).ok()?, value: (*v)? })
            });
            Series { labels: labels.clone(), samples: samples.collect() }
        })
        .filter(|series| !series.samples.is_empty())
        .collect();
    let mut left = got.clone();
    for (at, wanted) in wanted.iter().enumerate() {
        let found = left.iter().position(|series| series.labels == wanted.labels);
        let same = found.map(|at| left.remove(at)).is_some_and(|have| {
            have.samples.len() == wanted.samples.len()
                && have
                    .samples
                    .iter()
                    .zip(&wanted.samples)
                    .all(|(a, b)| a.time_ns == b.time_ns && close(a.value, b.value))
        });
        let in_place = !expected.ordered || got.get(at).is_some_and(|series| series.labels == wanted.labels);
        if !same || !in_place {
            return Some(format!("wanted {} {:?}, got {}", wanted.labels, wanted.samples, shown(&got)));
        }
    }
    (!left.is_empty()).then(|| format!("got beyond what was wanted {}", shown(&left)))
}

fn shown(series: &[Series]) -> String {
    let one = |s: &Series| format!("{} {:?}", s.labels, s.samples);
    series.iter().map(one).collect::<Vec<_>>().join("; ")
}
