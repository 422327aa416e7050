//! What is done with the buckets of groups after the store has given them: no I/O, and no series.

use std::collections::BTreeMap;

use tideline_store::{Aggregate, Figures, GroupColumn, Quantile, Width};

use crate::api::problem::ApiError;
use crate::api::select::Names;
use crate::api::shapes::{
    Function, GroupBy, GroupColumns, Having, NameOf, NamedGroup, Prefix, Told, not_finite_by_name,
};
use crate::when;

/// Most groups that a request may list.
const GROUPS_MAX: usize = 10_000;
/// Most patterns of them all: each is compared with every name.
const PATTERNS_MAX: usize = 1_000;

/// A group with its buckets.
pub struct Cells {
    pub name: String,
    pub members: usize,
    pub buckets: Vec<Bucket>,
}

/// What is known of a bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    pub start_ns: i64,
    pub part: Aggregate,
    pub figures: Figured,
}

/// Its figures; empty where they were not asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figured {
    twa: Option<f64>,
    near: bool,
    quantiles: Vec<Option<f64>>,
    error: f64,
}

impl Bucket {
    /// Those of a group as the store tells them.
    pub fn all(column: &GroupColumn) -> Vec<Self> {
        let figures = |at: usize| {
            let Some(column) = &column.figures else { return Figured::default() };
            Figured {
                twa: column.time_weighted.get(at).copied().flatten(),
                near: column.near.get(at) == Some(&true),
                quantiles: column.quantiles.iter().map(|values| values.get(at).copied().flatten()).collect(),
                error: column.errors.get(at).copied().unwrap_or_default(),
            }
        };
        let buckets = column.buckets.iter().enumerate();
        buckets
            .map(|(at, (start_ns, part))| Self { start_ns: *start_ns, part: *part, figures: figures(at) })
            .collect()
    }
}

/// What is told of a bucket.
#[derive(Debug, Clone, PartialEq)]
pub enum Of {
    Function(Function),
    /// The one of this place among those asked for, and its name.
    Quantile(usize, String),
}

impl Of {
    /// Asks for what it takes.
    pub fn new(told: &Told, figures: &mut Figures) -> Self {
        let name = match told {
            Told::Function(function) => {
                figures.time_weighted |= *function == Function::Twa;
                return Self::Function(*function);
            }
            Told::Quantile(name) => name.clone(),
        };
        // It was parsed when it came.
        let quantile = Quantile::parse(&name).unwrap_or_default();
        let at = figures.quantiles.iter().position(|have| *have == quantile);
        let at = at.unwrap_or_else(|| {
            figures.quantiles.push(quantile);
            figures.quantiles.len() - 1
        });
        Self::Quantile(at, name)
    }

    /// Its value; none where it is not known.
    fn value(&self, bucket: &Bucket) -> Option<f64> {
        match self {
            Self::Function(Function::Twa) => bucket.figures.twa,
            Self::Function(function) => Some(value(*function, &bucket.part)),
            Self::Quantile(at, _) => bucket.figures.quantiles.get(*at).copied().flatten(),
        }
    }
}

/// Which buckets are left.
#[derive(Debug, Clone)]
pub struct Filter {
    of: Of,
    below: Option<f64>,
    above: Option<f64>,
}

impl Filter {
    /// Asks for what it takes.
    pub fn of(having: &Having, figures: &mut Figures) -> Self {
        Self { of: Of::new(&having.function, figures), below: having.below, above: having.above }
    }

    /// What is not known is neither.
    fn holds(&self, bucket: &Bucket) -> bool {
        let Some(value) = self.of.value(bucket) else { return false };
        self.below.is_none_or(|below| value < below) && self.above.is_none_or(|above| value > above)
    }
}

/// What is done next.
pub enum Step {
    /// Leaves the buckets for which it holds.
    Filter(Option<Filter>),
    /// Takes buckets together, each as one value at its start; what is told of these may be quantiles.
    Again { of: Of, grouping: Grouping, width: Option<Width>, quantiles: Vec<Quantile> },
    /// The columns of the answer.
    Tell(Vec<Of>),
}

/// How names become groups.
pub enum Grouping {
    All,
    Device,
    Point,
    Each,
    Prefix { of: NameOf, separator: String, parts: usize },
    Listed(Vec<(String, Names)>),
}

/// Where a name belongs: groups that were listed keep their order, others are by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Listed(usize),
    Named(String),
}

impl Grouping {
    /// Of series.
    ///
    /// # Errors
    /// It makes no sense, or is too large.
    pub fn of(by: GroupBy) -> Result<Self, ApiError> {
        match by {
            GroupBy::Prefix(Prefix { of: None, .. }) => Err(ApiError::bad(
                "bad-group-by",
                "group_by.prefix.of is missing; allowed are device, point and series",
            )),
            GroupBy::Prefix(Prefix { of: Some(of), separator, parts }) => Self::prefix(of, separator, parts),
            by => Self::either(by),
        }
    }

    /// Of groups.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn again(by: GroupBy) -> Result<Self, ApiError> {
        match by {
            GroupBy::Device | GroupBy::Point | GroupBy::Prefix(Prefix { of: Some(_), .. }) => {
                Err(ApiError::bad(
                    "bad-group-by",
                    "then.group_by groups what group_by made; allowed are all, series, prefix without of, and groups",
                ))
            }
            GroupBy::Prefix(Prefix { of: None, separator, parts }) => {
                Self::prefix(NameOf::Series, separator, parts)
            }
            by => Self::either(by),
        }
    }

    fn prefix(of: NameOf, separator: String, parts: usize) -> Result<Self, ApiError> {
        if separator.is_empty() || parts == 0 {
            return Err(ApiError::bad(
                "bad-group-by",
                "a prefix has a separator of one character or more, and one part or more",
            ));
        }
        Ok(Self::Prefix { of, separator, parts })
    }

    fn either(by: GroupBy) -> Result<Self, ApiError> {
        Ok(match by {
            GroupBy::Device => Self::Device,
            GroupBy::Point => Self::Point,
            GroupBy::Series => Self::Each,
            GroupBy::Groups(groups) => Self::listed(groups)?,
            GroupBy::All | GroupBy::Prefix(_) => Self::All,
        })
    }

    fn listed(groups: Vec<NamedGroup>) -> Result<Self, ApiError> {
        let patterns =
            groups.iter().flat_map(|group| &group.members).filter(|name| name.contains('*')).count();
        if groups.len() > GROUPS_MAX || patterns > PATTERNS_MAX {
            let allowed = format!(
                "{} groups with {patterns} patterns; allowed are {GROUPS_MAX} and {PATTERNS_MAX}",
                groups.len()
            );
            return Err(ApiError::bad("bad-group-by", allowed));
        }
        let listed = groups.into_iter().map(|group| Ok((group.name, Names::of("members", group.members)?)));
        Ok(Self::Listed(listed.collect::<Result<_, ApiError>>()?))
    }

    /// Where something belongs; nowhere when no group that was listed has it.
    #[must_use]
    pub fn place(&self, device: &str, point: &str, id: &str) -> Option<Place> {
        let named = |name: &str| Some(Place::Named(name.to_owned()));
        match self {
            Self::All => named("all"),
            Self::Device => named(device),
            Self::Point => named(point),
            Self::Each => named(id),
            Self::Prefix { of, separator, parts } => {
                let name = match of {
                    NameOf::Device => device,
                    NameOf::Point => point,
                    NameOf::Series => id,
                };
                let end =
                    name.match_indices(separator.as_str()).nth(parts - 1).map_or(name.len(), |(at, _)| at);
                named(name.get(..end).unwrap_or(name))
            }
            Self::Listed(groups) => {
                let has = |names: &Names| names.has(id) || names.names(device);
                groups.iter().position(|(_, names)| has(names)).map(Place::Listed)
            }
        }
    }

    /// The groups of what has its place: those that were listed all, others where there is something in them.
    pub fn collect<T>(&self, placed: impl Iterator<Item = (Place, T)>) -> (Vec<String>, Vec<Vec<T>>) {
        let mut groups: BTreeMap<Place, Vec<T>> = BTreeMap::new();
        if let Self::Listed(listed) = self {
            groups.extend((0..listed.len()).map(|at| (Place::Listed(at), Vec::new())));
        }
        placed.for_each(|(place, item)| groups.entry(place).or_default().push(item));
        let name = |place: Place| match (place, self) {
            (Place::Named(name), _) => name,
            (Place::Listed(at), Self::Listed(listed)) => {
                listed.get(at).map(|(name, _)| name.clone()).unwrap_or_default()
            }
            (Place::Listed(_), _) => String::new(),
        };
        groups.into_iter().map(|(place, items)| (name(place), items)).unzip()
    }
}

/// What a function says of readings.
fn value(function: Function, part: &Aggregate) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no bucket holds 2^53 readings")]
    let count = part.count as f64;
    match function {
        Function::Count => count,
        Function::Min => part.min,
        Function::Max => part.max,
        Function::Sum => part.sum,
        Function::Mean => part.sum / count,
        Function::First => part.first,
        Function::Last => part.last,
        // That is none of them.
        Function::Twa => f64::NAN,
    }
}

/// Takes the buckets of groups together: the values of one bucket count in the order of time, and then of groups.
fn again(
    groups: Vec<Cells>,
    of: &Of,
    (grouping, width, quantiles): (&Grouping, Option<&Width>, &[Quantile]),
    from_ns: i64,
) -> Vec<Cells> {
    let placed = groups.into_iter().filter_map(|cells| Some((grouping.place("", "", &cells.name)?, cells)));
    let (names, groups) = grouping.collect(placed);
    let together = |(name, group): (String, Vec<Cells>)| {
        let mut buckets: BTreeMap<i64, (Aggregate, Vec<f64>)> = BTreeMap::new();
        let values = group.iter().flat_map(|cells| &cells.buckets);
        let values = values.filter_map(|bucket| Some((bucket.start_ns, of.value(bucket)?)));
        for (start, value) in values.filter(|(_, value)| !value.is_nan()) {
            let one = Aggregate::of(start, value);
            let start = width.map_or(from_ns, |width| width.start(start));
            let bucket = buckets.entry(start).and_modify(|(bucket, _)| bucket.merge(&one));
            let (_, values) = bucket.or_insert((one, Vec::new()));
            if !quantiles.is_empty() {
                values.push(value);
            }
        }
        let bucket = |(start_ns, (part, mut values)): (i64, (Aggregate, Vec<f64>))| {
            values.sort_unstable_by(f64::total_cmp);
            let quantiles = quantiles.iter().map(|quantile| quantile.of(&values)).collect();
            Bucket { start_ns, part, figures: Figured { quantiles, ..Figured::default() } }
        };
        Cells { name, members: group.len(), buckets: buckets.into_iter().map(bucket).collect() }
    };
    names.into_iter().zip(groups).map(together).collect()
}

fn tell(cells: Cells, told: &[Of]) -> GroupColumns {
    let asked = |function: Function| told.contains(&Of::Function(function));
    let of = |function: Function| {
        let values = || cells.buckets.iter().map(|bucket| value(function, &bucket.part)).collect();
        asked(function).then(values)
    };
    let count = || cells.buckets.iter().map(|bucket| bucket.part.count).collect();
    let each = |of: &Of| cells.buckets.iter().map(|bucket| of.value(bucket)).collect::<Vec<_>>();
    let quantiles = told.iter().filter_map(|of| match of {
        Of::Quantile(_, name) => Some((name.clone(), each(of))),
        Of::Function(_) => None,
    });
    let quantiles: BTreeMap<_, _> = quantiles.collect();
    let near: Vec<bool> = cells.buckets.iter().map(|bucket| bucket.figures.near).collect();
    let mut columns = GroupColumns {
        t: cells.buckets.iter().map(|bucket| when::ms(bucket.start_ns)).collect(),
        count: asked(Function::Count).then(count),
        min: of(Function::Min),
        max: of(Function::Max),
        sum: of(Function::Sum),
        mean: of(Function::Mean),
        first: of(Function::First),
        last: of(Function::Last),
        twa: asked(Function::Twa).then(|| each(&Of::Function(Function::Twa))),
        twa_near: Some(near).filter(|near| asked(Function::Twa) && near.contains(&true)),
        quantiles_error: (!quantiles.is_empty())
            .then(|| cells.buckets.iter().map(|bucket| bucket.figures.error).collect()),
        quantiles: Some(quantiles).filter(|quantiles| !quantiles.is_empty()),
        name: cells.name,
        members: cells.members,
        not_finite: None,
    };
    let GroupColumns { min, max, sum, mean, first, last, twa, quantiles, .. } = &columns;
    let named = [("min", min), ("max", max), ("sum", sum), ("mean", mean), ("first", first), ("last", last)];
    let twa = twa.iter().map(|twa| ("twa", twa));
    let quantiles = quantiles.iter().flatten().map(|(name, column)| (name.as_str(), column));
    columns.not_finite =
        not_finite_by_name(&named.map(|(name, column)| (name, column.as_ref())), twa.chain(quantiles));
    columns
}

/// Does one step after the other; `from_ns` is where a bucket without a width begins.
#[must_use]
pub fn run(mut groups: Vec<Cells>, steps: Vec<Step>, from_ns: i64) -> Vec<GroupColumns> {
    for step in steps {
        match step {
            Step::Filter(None) => {}
            Step::Filter(Some(filter)) => {
                groups.iter_mut().for_each(|cells| cells.buckets.retain(|bucket| filter.holds(bucket)));
                groups.retain(|cells| !cells.buckets.is_empty());
            }
            Step::Again { of, grouping, width, quantiles } => {
                groups = again(groups, &of, (&grouping, width.as_ref(), &quantiles), from_ns);
            }
            Step::Tell(functions) => {
                return groups.into_iter().map(|cells| tell(cells, &functions)).collect();
            }
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    fn bucket(start_ns: i64, part: Aggregate) -> Bucket {
        Bucket { start_ns, part, figures: Figured::default() }
    }

    fn told(functions: &[Function]) -> Vec<Of> {
        functions.iter().map(|function| Of::Function(*function)).collect()
    }

    fn cells(name: &str, values: &[(i64, f64)]) -> Cells {
        let buckets =
            values.iter().map(|(minute, v)| bucket(minute * MINUTE, Aggregate::of(minute * MINUTE, *v)));
        Cells { name: name.to_owned(), members: 1, buckets: buckets.collect() }
    }

    #[test]
    fn names_are_placed_by_their_beginning_or_by_the_first_list_that_has_them() {
        let prefix = |of, parts| Grouping::prefix(of, ".".into(), parts).unwrap();
        let placed =
            |grouping: &Grouping| grouping.place("south.f150.truck-1", "load", "south.f150.truck-1/load");
        assert_eq!(placed(&prefix(NameOf::Device, 1)), Some(Place::Named("south".into())));
        assert_eq!(placed(&prefix(NameOf::Device, 2)), Some(Place::Named("south.f150".into())));
        assert_eq!(placed(&prefix(NameOf::Point, 2)), Some(Place::Named("load".into())));
        let group = |name: &str, members: &[&str]| NamedGroup {
            name: name.into(),
            members: members.iter().map(|member| (*member).to_owned()).collect(),
        };
        let listed = Grouping::of(GroupBy::Groups(vec![
            group("n", &["north.*"]),
            group("s", &["*"]),
            group("x", &["*"]),
        ]));
        assert_eq!(placed(&listed.unwrap()), Some(Place::Listed(1)));
        let none = Grouping::of(GroupBy::Groups(vec![group("n", &["north.*"])])).unwrap();
        assert_eq!(placed(&none), None);
        assert_eq!(none.collect::<()>(std::iter::empty()), (vec!["n".to_owned()], vec![vec![]]));
    }

    #[test]
    fn what_is_left_is_counted_by_day_and_group() {
        // Minutes in which trucks stood, by hour and fleet.
        let groups = vec![
            cells("a.1", &[(0, 0.5), (1, 3.0), (60, 0.1)]),
            cells("a.2", &[(2, 0.2)]),
            cells("b.1", &[(0, 9.0)]),
        ];
        let having = Filter { of: Of::Function(Function::Mean), below: Some(1.0), above: None };
        let by_fleet = Prefix { of: None, separator: ".".into(), parts: 1 };
        let mut values = Figures::default();
        let median = Of::new(&Told::Quantile("p50".into()), &mut values);
        let again = Step::Again {
            of: Of::Function(Function::Mean),
            grouping: Grouping::again(GroupBy::Prefix(by_fleet)).unwrap(),
            width: Some(Width::Fixed(60 * MINUTE)),
            quantiles: values.quantiles,
        };
        let mut asked = told(&[Function::Count, Function::Last]);
        asked.push(median);
        let told = run(groups, vec![Step::Filter(Some(having)), again, Step::Tell(asked)], 0);
        assert_eq!(told.len(), 1, "no truck of b stood");
        let fleet = &told[0];
        assert_eq!((fleet.name.as_str(), fleet.members), ("a", 2));
        assert_eq!((&fleet.t, &fleet.count), (&vec![0, 3_600_000], &Some(vec![2, 1])));
        assert_eq!((&fleet.last, &fleet.mean), (&Some(vec![0.2, 0.1]), &None));
        assert_eq!(fleet.quantiles.as_ref().unwrap()["p50"], [Some(0.35), Some(0.1)]);
    }

    #[test]
    fn a_mean_of_readings_is_no_mean_of_means() {
        let mut often = cells("often", &[(0, 1.0)]);
        let three = Aggregate { count: 3, sum: 3.0, ..Aggregate::of(0, 1.0) };
        often.buckets = vec![bucket(0, three)];
        let of_readings = {
            let mut part = three;
            part.merge(&Aggregate::of(1, 5.0));
            value(Function::Mean, &part)
        };
        let of = Of::Function(Function::Mean);
        let again = Step::Again { of, grouping: Grouping::All, width: None, quantiles: Vec::new() };
        let steps = vec![again, Step::Tell(told(&[Function::Mean]))];
        let told = run(vec![often, cells("once", &[(0, 5.0)])], steps, 0);
        assert_eq!((of_readings, &told[0].mean), (2.0, &Some(vec![3.0])));
    }
}
