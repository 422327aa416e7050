//! `export`: readings as a file, part by part, so that one that was cut off goes on.
//!
//! ```text
//! FILE.part        the parts that are whole, one behind the other
//! FILE.part.json   what they are of, how long each is, and where the next one begins
//! FILE             all of it: it has its name only when it is whole
//! ```
//! A part is synced before the state that names it. Parts of CSV and Arrow are the file as they are; each part of Parquet
//! is a file, and they are written as one at the end, since a Parquet file says at its end what it is.

mod state;

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use hyper::Method;
use tideline_link::{errln, outln};
use tideline_protocol::time::{Clock as _, SystemClock};
use tideline_store::join_exports;

use super::progress::{Progress, megabytes, rate};
use super::socket::{Answer, HubSocket, Refusal, escape};
use cloud_hub::api::export::COLD_TO;
use cloud_hub::api::sql::THINNED_TO;
use cloud_hub::when::{parse_time, show_ms, show_ns};
use state::{Asked, State};

/// Rows of a part.
const ROWS: u64 = 262_144;
/// How often a hub that is busy is asked again, and how long after.
const TRIES_MAX: u32 = 60;
const TRY_AFTER: Duration = Duration::from_secs(2);

/// What others read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    Parquet,
    /// The stream of Arrow IPC.
    Arrow,
    Csv,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file to write; one that is there is replaced when the new one is whole. An export that was cut off goes on
    /// when it is asked for again.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// How it is written; as the file's ending says when left out: .csv, .arrow or .arrows, and Parquet otherwise.
    #[arg(long, value_enum)]
    pub format: Option<FileFormat>,
    /// These series only, as device/point; several with commas.
    #[arg(long, conflicts_with = "device")]
    pub series: Option<String>,
    /// All series of this device; without both, all of the fleet.
    #[arg(long)]
    pub device: Option<String>,
    /// From when: RFC 3339, Unix ms, or relative as -6h; from the beginning when left out.
    #[arg(long, allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Until when.
    #[arg(long, default_value = "now", allow_hyphen_values = true)]
    pub to: String,
    /// Begin anew, also where an export to this file was cut off.
    #[arg(long)]
    pub fresh: bool,
}

/// Where an export writes.
struct Paths {
    out: PathBuf,
    part: PathBuf,
    state: PathBuf,
}

impl Paths {
    fn of(out: &Path) -> Self {
        let beside = |ending: &str| {
            let mut path = out.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        Self { out: out.to_owned(), part: beside(".part"), state: beside(".part.json") }
    }
}

/// Goes on with what was cut off, if it is of the same arguments.
pub async fn export(hub: &HubSocket, args: &ExportArgs) -> Result<()> {
    let format = args.format.unwrap_or_else(|| of_ending(&args.out));
    let paths = Paths::of(&args.out);
    let shown = args.out.display();
    let mut file = alone(&paths.part).with_context(|| format!("nothing was written to {shown}"))?;
    let asked = Asked {
        format: name(format).to_owned(),
        series: args.series.clone(),
        device: args.device.clone(),
        from: args.from.clone(),
        to: args.to.clone(),
    };
    let mut state = match begun(&paths, &asked, args.fresh)? {
        Some(state) => state,
        None => begin(&paths, asked)?,
    };
    file.set_len(state.bytes()).and_then(|()| file.seek(SeekFrom::End(0))).context("the disk")?;
    let (thinned_to, cold_to) = match read(hub, &mut file, &mut state, &paths).await {
        Ok(missing) => missing,
        Err(error) if state.parts.is_empty() => {
            remove(&paths);
            return Err(error.context(format!("nothing was written to {shown}")));
        }
        Err(error) => {
            let rows = state.rows;
            return Err(error
                .context(format!("{rows} rows are written beside {shown}; the same command goes on there")));
        }
    };
    finish(format, &mut file, &state, &paths).with_context(|| format!("{shown} cannot be written"))?;
    let bytes = std::fs::metadata(&paths.out).map_or(0, |metadata| metadata.len());
    let thinned = thinned_to.map_or_else(String::new, |ms| {
        let kept = cold_to.map_or_else(
            || "not in it".to_owned(),
            |ms| format!("in it where they are in the cold tier, which has some up to {}", show_ms(ms)),
        );
        format!("; readings up to {} are past their retention and {kept}", show_ms(ms))
    });
    outln!("{shown}: {} rows, {}{thinned}", state.rows, megabytes(bytes));
    Ok(())
}

const fn name(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Parquet => "parquet",
        FileFormat::Arrow => "arrow",
        FileFormat::Csv => "csv",
    }
}

/// What the ending of a file's name says.
fn of_ending(path: &Path) -> FileFormat {
    match path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("csv") => FileFormat::Csv,
        Some("arrow" | "arrows") => FileFormat::Arrow,
        _ => FileFormat::Parquet,
    }
}

/// Opens the unfinished file for this process alone.
fn alone(path: &Path) -> Result<File> {
    let shown = path.display();
    let opened = File::options().create(true).truncate(false).read(true).write(true).open(path);
    let file = opened.with_context(|| format!("{shown} cannot be made"))?;
    file.try_lock().with_context(|| format!("another export is writing {shown}"))?;
    // One that has just ended may have given its file the name of the whole.
    ensure!(path.exists(), "another export is writing {shown}");
    Ok(file)
}

/// What was cut off here, of the same arguments.
fn begun(paths: &Paths, asked: &Asked, fresh: bool) -> Result<Option<State>> {
    let state = State::read(&paths.state)?;
    let long = std::fs::metadata(&paths.part).map_or(0, |metadata| metadata.len());
    match state {
        Some(state) if !fresh && state.asked != *asked => bail!(
            "{} is of an export with other arguments ({}), which was cut off; the same go on with it, and --fresh begins anew",
            paths.part.display(),
            state.asked
        ),
        // Without the parts it is of nothing.
        Some(state) if !fresh && state.bytes() <= long => {
            errln!("goes on after {} rows", state.rows);
            Ok(Some(state))
        }
        _ => Ok(None),
    }
}

/// Times are taken now: a part that is read later is of the same range.
fn begin(paths: &Paths, asked: Asked) -> Result<State> {
    let now_ns = SystemClock::default().wall_ns();
    let absolute = |text: &String| parse_time(text, now_ns).map(show_ns);
    let (from, to) = (asked.from.as_ref().map(absolute).transpose()?, absolute(&asked.to)?);
    let state = State { asked, from, to, parts: Vec::new(), rows: 0, next: None, whole: false };
    state.write(&paths.state)?;
    Ok(state)
}

fn remove(paths: &Paths) {
    // What stays is written over by the next one.
    let _gone = std::fs::remove_file(&paths.state).and_then(|()| std::fs::remove_file(&paths.part));
}

/// Reads what is missing; gives the last times of it (Unix ms) of which readings are past their retention, and of which some may
/// be in the cold tier.
async fn read(
    hub: &HubSocket,
    file: &mut File,
    state: &mut State,
    paths: &Paths,
) -> Result<(Option<i64>, Option<i64>)> {
    let (mut progress, mut rows) = (Progress::new(), 0);
    let (mut thinned_to, mut cold_to): (Option<i64>, Option<i64>) = (None, None);
    while !state.whole {
        let mut answer = ask(hub, &path(state)).await?;
        let number = |name: &str| answer.header(name).and_then(|text| text.parse::<f64>().ok());
        let (share, part_rows) = (number("tideline-share").unwrap_or(0.0), answer.header("tideline-rows"));
        let part_rows: u64 = part_rows
            .and_then(|text| text.parse().ok())
            .context("the hub's answer is not understood; is it another version?")?;
        let next = answer.header("tideline-next").map(str::to_owned);
        let told = |name: &str| answer.header(name).and_then(|text| text.parse().ok());
        thinned_to = thinned_to.max(told(THINNED_TO));
        cold_to = cold_to.max(told(COLD_TO));
        let mut bytes = 0_u64;
        while let Some(part) = answer.next().await? {
            file.write_all(&part).context("the disk")?;
            bytes += part.len() as u64;
        }
        file.sync_data().context("the disk")?;
        state.parts.push(bytes);
        state.rows += part_rows;
        (state.whole, state.next) = (next.is_none(), next);
        state.write(&paths.state)?;
        rows += part_rows;
        let (all, written) = (state.rows, state.bytes());
        progress.tell(|seconds| {
            let (percent, rate) = (share * 100.0, rate(rows, seconds));
            format!("exporting: {all} rows, {percent:.1} %, {}, {rate} rows/s", megabytes(written))
        });
    }
    Ok((thinned_to, cold_to))
}

fn path(state: &State) -> String {
    let asked = &state.asked;
    let mut path = format!("/api/v1/export?format={}&to={}&rows={ROWS}", asked.format, escape(&state.to));
    for (name, value) in
        [("series", &asked.series), ("device", &asked.device), ("from", &state.from), ("after", &state.next)]
    {
        if let Some(value) = value {
            path += &format!("&{name}={}", escape(value));
        }
    }
    path
}

/// Asks a hub again that has no place for one more export now.
async fn ask(hub: &HubSocket, path: &str) -> Result<Answer> {
    for tried in 0..TRIES_MAX {
        match hub.stream(Method::GET, path, None).await {
            Err(error) if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == 503) => {
                if tried == 0 {
                    errln!("{error:#}; waits for its turn");
                }
                tokio::time::sleep(TRY_AFTER).await;
            }
            answer => return answer,
        }
    }
    bail!("the hub had no place for an export")
}

/// Gives the whole its name.
fn finish(format: FileFormat, file: &mut File, state: &State, paths: &Paths) -> Result<()> {
    if format == FileFormat::Parquet && state.parts.len() > 1 {
        let mut joined = paths.part.as_os_str().to_owned();
        joined.push(".joined");
        let joined = PathBuf::from(joined);
        let mut out = BufWriter::new(File::create(&joined)?);
        join(file, state, &mut out)?;
        out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        std::fs::rename(&joined, &paths.out)?;
        remove(paths);
        return Ok(());
    }
    file.sync_all()?;
    std::fs::rename(&paths.part, &paths.out)?;
    // Without the parts it is of nothing; the next export does not mind it.
    let _gone = std::fs::remove_file(&paths.state);
    Ok(())
}

fn join(file: &mut File, state: &State, out: &mut BufWriter<File>) -> Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let parts = state.parts.iter().map(|bytes| {
        let mut part = Vec::new();
        (&mut *file).take(*bytes).read_to_end(&mut part)?;
        Ok(std::io::Cursor::new(part))
    });
    join_exports(parts, out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_the_format() {
        for (name, format) in [
            ("a.csv", FileFormat::Csv),
            ("a.ARROWS", FileFormat::Arrow),
            ("a.parquet", FileFormat::Parquet),
            ("csv", FileFormat::Parquet),
        ] {
            assert_eq!(of_ending(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn two_exports_do_not_write_to_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet.part");
        std::fs::write(&path, b"left by a kill").unwrap();
        let first = alone(&path).unwrap();
        assert!(alone(&path).unwrap_err().to_string().contains("another export"));
        drop(first);
        assert!(alone(&path).is_ok());
    }

    #[test]
    fn what_was_cut_off_goes_on_with_the_same_arguments_only() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::of(&dir.path().join("a.csv"));
        let asked = |device: &str| Asked {
            format: "csv".to_owned(),
            series: None,
            device: Some(device.to_owned()),
            from: Some("-6h".to_owned()),
            to: "now".to_owned(),
        };
        assert_eq!(begun(&paths, &asked("a"), false).unwrap(), None);
        let mut state = begin(&paths, asked("a")).unwrap();
        assert!(state.from.as_ref().unwrap().ends_with('Z') && state.to.ends_with('Z'), "{state:?}");
        (state.parts, state.rows, state.next) = (vec![3, 4], 2, Some("5:0@a/t".to_owned()));
        state.write(&paths.state).unwrap();
        // What the state names is there, and more of a part that was cut off.
        std::fs::write(&paths.part, b"1234567cut").unwrap();
        assert_eq!(begun(&paths, &asked("a"), false).unwrap(), Some(state));
        let other = begun(&paths, &asked("b"), false).unwrap_err().to_string();
        assert!(other.contains("device a") && other.contains("--fresh"), "{other}");
        assert_eq!(begun(&paths, &asked("b"), true).unwrap(), None);
        // Parts that are gone are read again.
        std::fs::write(&paths.part, b"1234").unwrap();
        assert_eq!(begun(&paths, &asked("a"), false).unwrap(), None);
        std::fs::write(&paths.state, b"{").unwrap();
        assert_eq!(begun(&paths, &asked("a"), false).unwrap(), None);
    }
}
