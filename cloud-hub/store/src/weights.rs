//! What a series costs in memory, structure by structure: a hub with a million of them is to stay within 512 MB. Each test
//! counts what its process allocates, and so needs one of its own, as nextest gives it.

use peak_alloc::PeakAlloc;
use tideline_protocol::model::{AgentId, Epoch, Seq};
use tideline_protocol::value::{Boxes, ValueKind};

use crate::hot::{Arrival, Hot, SeriesStats};
use crate::log::Dictionary;
use crate::names::{Age, Names};
use crate::segment::{Blocks, Directory};
use crate::series::SeriesText;
use crate::stats::Stats;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const SERIES: u32 = 100_000;

/// Bytes for each series of what is made, and what was taken for each while it was made.
fn weigh<T>(what: &str, make: impl FnOnce() -> T) -> (T, usize, usize) {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let made = make();
    let of = |bytes: usize| bytes.saturating_sub(before) / SERIES as usize;
    let (kept, most) = (of(ALLOCATED.current_usage()), of(ALLOCATED.peak_usage()));
    eprintln!("{what}: {kept} B for each series, at most {most} B");
    (made, kept, most)
}

/// Other tests in the same process would be weighed too.
fn at_most(kept: usize, most: usize) {
    assert!(kept <= most || std::env::var_os("NEXTEST").is_none(), "{kept} B; allowed are {most} B");
}

fn text<'a>((device, point): &'a (String, String)) -> SeriesText<'a> {
    SeriesText { device, point, unit: "Cel", kind: ValueKind::Float, name: "" }
}

/// Of devices with a thousand series each.
fn all(point: impl Fn(u32) -> String) -> Vec<(String, String)> {
    (0..SERIES).map(|no| (format!("gateway-{}", no / 1000), point(no))).collect()
}

fn names(all: &[(String, String)]) -> Names {
    let mut names = Names::default();
    for one in all {
        names.name(&text(one), Age::Newest).unwrap();
    }
    names
}

#[test]
fn names_of_series_take_a_few_numbers_each() {
    let alike = all(|no| format!("room/temperature-{}", no % 1000));
    let (_names, kept, most) = weigh("names, of points that are called alike", || names(&alike));
    at_most(kept, 32);
    at_most(most, 60);
    let apart = all(|no| format!("room/temperature-{no}"));
    let (_names, kept, _) = weigh("names, of points that are not", || names(&apart));
    at_most(kept, 160);
}

#[test]
fn dictionaries_of_agents_take_little_more_than_their_texts() {
    let all = all(|no| format!("p{no}"));
    let (dictionary, kept, _) = weigh("dictionary of an epoch", || {
        let mut dictionary = Dictionary::default();
        all.iter().for_each(|one| dictionary.push(&text(one)));
        dictionary
    });
    at_most(kept, 48);
    let (_copy, kept, _) = weigh("a copy of it for a checkpoint", || dictionary.clone());
    at_most(kept, 0);
}

#[test]
fn what_is_known_of_series_takes_forty_bytes_each() {
    let (_stats, kept, _) = weigh("statistics", || {
        let mut stats = Stats::default();
        (0..SERIES).for_each(|id| stats.put(id, &SeriesStats { count: 1, ..SeriesStats::default() }));
        stats
    });
    at_most(kept, 53);
}

#[test]
fn hot_columns_of_a_reading_each_take_what_they_weigh() {
    let (hot, kept, _) = weigh("hot columns with one reading each", || {
        let mut hot = Hot::default();
        let origin = hot.origin(&AgentId::parse("a").unwrap(), Epoch::from_bytes([1; 16]));
        let arrival = Arrival { times: &[1], values: &[1.0], boxes: &Boxes::new(), rows_per_seq: &[1] };
        for id in 0..SERIES {
            hot.push(id, origin, Seq::new(1), None, arrival);
        }
        hot
    });
    at_most(kept, 224);
    // Lists grow by doubling, and what was asked for is less than what there is of it.
    let weighed = hot.weight() * 24 / SERIES as usize;
    at_most(kept, weighed);
    at_most(weighed, 2 * kept);
}

#[test]
fn directories_of_files_take_columns_of_numbers() {
    let (_directory, kept, _) = weigh("directory with one block each", || {
        let (mut directory, mut blocks) = (Directory::default(), Blocks::default());
        for id in 0..SERIES {
            blocks.push(&[1, 2, 3], 1, (1, 1));
            directory.push(id, (1, 1, 1, 1.0), [id + 1, 0, 0, 0, 0]);
        }
        directory.append(blocks);
        directory
    });
    at_most(kept, 100);
}
