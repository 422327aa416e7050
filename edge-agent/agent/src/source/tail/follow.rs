//! Which file is read, how far, and when it has become another one.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::source::rows::lines::{Lines, Place};
use crate::source::rows::{Gathered, RowReader};

/// Bytes at the beginning of a file by which it is known again.
const MARK_BYTES_MAX: usize = 64;
/// Most lines that are read at once.
const LINES_MAX: u32 = 2_000;

/// A file that is known again under any name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    // How it begins, as far as it was read.
    mark: Vec<u8>,
}

impl Identity {
    fn is_at(&self, metadata: &Metadata) -> bool {
        (self.device, self.inode) == (metadata.dev(), metadata.ino())
    }
}

/// A place in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Position {
    place: Place,
    identity: Identity,
}

impl Position {
    fn to_bytes(&self) -> Vec<u8> {
        let Identity { device, inode, mark } = &self.identity;
        [&self.place.to_bytes()[..], &device.to_le_bytes(), &inode.to_le_bytes(), mark].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (place, rest) = bytes.split_first_chunk::<16>()?;
        let (device, rest) = rest.split_first_chunk::<8>()?;
        let (inode, mark) = rest.split_first_chunk::<8>()?;
        let (device, inode) = (u64::from_le_bytes(*device), u64::from_le_bytes(*inode));
        let identity = Identity { device, inode, mark: mark.get(..MARK_BYTES_MAX).unwrap_or(mark).to_vec() };
        Some(Self { place: Place::from_bytes(place)?, identity })
    }
}

/// How far a look has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Turned {
    /// There is more.
    Further,
    /// There is no more, or no file.
    AtEnd,
    /// Another file is there now, and something of the last one could not be read.
    Lost(String),
}

/// Follows a file through its rotations.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    position: Option<Position>,
    open: Option<Lines>,
    // Whether the file of the position is read to its end, or gone.
    is_finished: bool,
    from_end: bool,
}

impl Follower {
    /// Goes on at a position that [`Self::position`] gave.
    pub fn new(path: PathBuf, position: Option<&[u8]>, from_end: bool) -> Self {
        let position = position.and_then(Position::from_bytes);
        // What was met before is never left out.
        let from_end = from_end && position.is_none();
        Self { path, position, open: None, is_finished: false, from_end }
    }

    /// Where it is.
    pub fn position(&self) -> Option<Vec<u8>> {
        self.position.as_ref().map(Position::to_bytes)
    }

    /// Reads some lines.
    pub fn read(&mut self, reader: &mut RowReader, now_ns: i64, into: &mut Gathered) -> io::Result<Turned> {
        if self.open.is_none()
            && let turned @ (Turned::AtEnd | Turned::Lost(_)) = self.open(reader)?
        {
            return Ok(turned);
        }
        let replaced = self.is_replaced()?;
        let Some(lines) = &mut self.open else { return Ok(Turned::AtEnd) };
        for _ in 0..LINES_MAX {
            if into.is_full() {
                break;
            }
            // The last line of a file that nobody writes any more is whole without an end.
            let line = if replaced { lines.next_line()? } else { lines.next_whole()? };
            let Some(line) = line else {
                self.mark()?;
                if replaced {
                    // Its position stays until there is one in the next file: what was read is handed on with it.
                    (self.open, self.is_finished) = (None, true);
                    return Ok(Turned::Further);
                }
                return Ok(Turned::AtEnd);
            };
            if reader.needs_header() {
                head(reader, line, lines.place())?;
            } else {
                let (path, number) = (&self.path, lines.place().line);
                reader.read(&line, now_ns, || format!("{}:{number}", path.display()), into);
            }
        }
        self.mark().map(|()| Turned::Further)
    }

    /// Remembers how far it has come, and how the file begins as far as that.
    fn mark(&mut self) -> io::Result<()> {
        let (Some(lines), Some(position)) = (&mut self.open, &mut self.position) else { return Ok(()) };
        position.place = lines.place();
        let known = position.identity.mark.len();
        let wanted = usize::try_from(position.place.offset).unwrap_or(usize::MAX).min(MARK_BYTES_MAX);
        if wanted > known {
            position.identity.mark = lines.first_bytes(wanted)?;
        }
        Ok(())
    }

    /// Whether the name stands for another file than the one that is open, or for less of it.
    fn is_replaced(&mut self) -> io::Result<bool> {
        let (Some(lines), Some(position)) = (&mut self.open, &mut self.position) else { return Ok(false) };
        // As long as nothing has the name, whoever moved the file aside may still write to it.
        let Some(there) = metadata(&self.path)? else { return Ok(false) };
        if !position.identity.is_at(&there) {
            return Ok(true);
        }
        let is_shorter = there.len() < position.place.offset;
        let mark = &position.identity.mark;
        if is_shorter || lines.first_bytes(mark.len())? != *mark {
            // Truncated: what stood behind the position is gone, and it begins anew.
            (self.open, self.is_finished) = (None, true);
        }
        Ok(false)
    }

    /// Opens the file of the position wherever it is now, or else the one that has the name.
    fn open(&mut self, reader: &mut RowReader) -> io::Result<Turned> {
        let mut is_lost = false;
        if let Some(position) = self.position.clone().filter(|_| !self.is_finished) {
            if let Some(path) = self.find(&position)? {
                return self.open_at(&path, position, reader);
            }
            is_lost = true;
        }
        self.is_finished = true;
        let there = metadata(&self.path)?;
        let now = if there.is_some() { "another file is there now" } else { "no file is there now" };
        let lost = is_lost.then(|| format!("{}: {now}, and the last one is gone", self.path.display()));
        let Some(there) = there else { return Ok(lost.map_or(Turned::AtEnd, Turned::Lost)) };
        let identity = Identity { device: there.dev(), inode: there.ino(), mark: Vec::new() };
        let fresh = Position { place: Place::default(), identity };
        let path = self.path.clone();
        let opened = self.open_at(&path, fresh, reader)?;
        if std::mem::take(&mut self.from_end)
            && let Some(lines) = &mut self.open
        {
            read_header(lines, reader, u64::MAX)?;
            lines.skip_to_end()?;
            self.mark()?;
        }
        Ok(lost.map_or(opened, Turned::Lost))
    }

    fn open_at(&mut self, path: &Path, position: Position, reader: &mut RowReader) -> io::Result<Turned> {
        let mut lines = Lines::open(path)?;
        reader.head("");
        read_header(&mut lines, reader, position.place.offset)?;
        lines.skip_to(position.place)?;
        (self.open, self.position, self.is_finished) = (Some(lines), Some(position), false);
        Ok(Turned::Further)
    }

    /// Where the file of a position is now.
    fn find(&self, position: &Position) -> io::Result<Option<PathBuf>> {
        let is_it = |path: &Path| -> io::Result<bool> {
            let Some(there) = metadata(path)? else { return Ok(false) };
            if !position.identity.is_at(&there) || there.len() < position.place.offset {
                return Ok(false);
            }
            let mut begins = Vec::new();
            File::open(path)?.take(position.identity.mark.len() as u64).read_to_end(&mut begins)?;
            Ok(begins == position.identity.mark)
        };
        if is_it(&self.path)? {
            return Ok(Some(self.path.clone()));
        }
        let Some(name) = self.path.file_name() else { return Ok(None) };
        let name = name.to_string_lossy();
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let Ok(entries) = std::fs::read_dir(folder.unwrap_or(Path::new("."))) else { return Ok(None) };
        for entry in entries.filter_map(Result::ok) {
            // Another one that cannot be read is none of ours.
            if entry.file_name().to_string_lossy().starts_with(&*name)
                && is_it(&entry.path()).unwrap_or(false)
            {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }
}

/// Reads the header of a CSV, where it begins before this byte.
fn read_header(lines: &mut Lines, reader: &mut RowReader, before: u64) -> io::Result<()> {
    while reader.needs_header() && lines.place().offset < before {
        let Some(line) = lines.next_whole()? else { return Ok(()) };
        head(reader, line, lines.place())?;
    }
    Ok(())
}

/// Takes a line as header. Where it cannot be read, no line after it is one: nobody knows what its lines are of.
fn head(reader: &mut RowReader, line: Result<String, String>, place: Place) -> io::Result<()> {
    let line = line.map_err(|what| {
        let number = place.line;
        let text = format!("line {number}: header: {what}; allowed are names of columns, parted by commas");
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    reader.head(&line);
    Ok(())
}

/// What stands under a name, if anything does.
fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
