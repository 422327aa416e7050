//! The fleet on a map: devices by where they are, gathered into clusters for a zoom.
//!
//! ```text
//! longitude, latitude ──Web Mercator──▶ x, y of 32 bits ──bits in turn──▶ one number of 64 bits
//! ```
//! Places sorted by that number are sorted by every grid of squares whose sides are powers of two: a square is a run of
//! them, so that one walk gives the clusters of any zoom, and the first and last of a cluster tell at which zoom it comes
//! apart. Nothing here reads a clock or a disk.

use crate::position::Position;

/// Highest zoom: a pixel of it is 0.6 m at the equator.
pub const ZOOM_MAX: u8 = 18;
/// Most clusters of an answer: a larger part of the world than a screen shows is gathered more.
pub const CLUSTERS_MAX: usize = 500;
/// The squares of a zoom are this many levels finer than its tiles of 256 pixels: 64 pixels.
const FINER: u32 = 2;
/// Levels of squares: each bit of a place is one.
const LEVELS: u32 = 32;
/// The latitude at which the square of Web Mercator ends.
const LAT_MAX: f64 = 85.051_128_779_806_59;
/// The width of the world in places.
const WORLD: f64 = 4_294_967_296.0;

/// How a device stands, the better before the worse: a cluster stands as its worst does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Shut out for good: nothing is expected of it.
    Revoked,
    /// Heard from in time.
    Online,
    /// It never had a session.
    Never,
    /// Late.
    Suspect,
    /// It comes and goes.
    Flapping,
    /// Gone.
    Offline,
}

impl Standing {
    /// All, the best first.
    pub const ALL: [Self; 6] =
        [Self::Revoked, Self::Online, Self::Never, Self::Suspect, Self::Flapping, Self::Offline];
}

/// A device with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// Which one, as the caller counts them.
    pub row: usize,
    /// Where.
    pub position: Position,
    /// How it stands.
    pub standing: Standing,
}

/// A part of the world in degrees; where west is greater than east it lies across the 180th meridian.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Its western end.
    pub west: f64,
    /// Its southern end.
    pub south: f64,
    /// Its eastern end.
    pub east: f64,
    /// Its northern end.
    pub north: f64,
}

impl Window {
    /// All of it.
    pub const WORLD: Self = Self { west: -180.0, south: -90.0, east: 180.0, north: 90.0 };

    /// Parses `west,south,east,north`.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let allowed = || {
            format!(
                "{:?}; allowed are west,south,east,north in degrees, as 5.9,45.8,10.5,47.8; south is not above north, and where west is greater than east it lies across the 180th meridian",
                text.chars().take(80).collect::<String>()
            )
        };
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse::<f64>()).collect();
        let Ok([west, south, east, north]) = <[f64; 4]>::try_from(numbers.map_err(|_| allowed())?) else {
            return Err(allowed());
        };
        let within = |number: f64, most: f64| (-most..=most).contains(&number);
        let sound = within(west, 180.0) && within(east, 180.0) && within(south, 90.0) && within(north, 90.0);
        if !sound || south > north {
            return Err(allowed());
        }
        Ok(Self { west, south, east, north })
    }

    /// Whether a place is in it.
    #[must_use]
    pub fn has(&self, lat: f64, lon: f64) -> bool {
        let across = self.west > self.east;
        let beside = if across {
            lon >= self.west || lon <= self.east
        } else {
            (self.west..=self.east).contains(&lon)
        };
        beside && (self.south..=self.north).contains(&lat)
    }

    /// The narrowest of these longitudes: where most of the world lies between two of them, it goes around the other way.
    fn narrowed(self, mut lons: Vec<f64>) -> Self {
        lons.sort_unstable_by(f64::total_cmp);
        let gaps =
            lons.iter().zip(lons.iter().skip(1)).map(|(before, after)| (after - before, *before, *after));
        let Some((gap, before, after)) = gaps.max_by(|a, b| a.0.total_cmp(&b.0)) else { return self };
        let is_narrower = gap > 360.0 - (self.east - self.west);
        if is_narrower { Self { west: after, east: before, ..self } } else { self }
    }

    /// Grown so that it holds a place; of the first place, that place.
    fn hold(around: Option<Self>, position: &Position) -> Self {
        let (lat, lon) = (position.lat(), position.lon());
        let Self { west, south, east, north } =
            around.unwrap_or(Self { west: lon, south: lat, east: lon, north: lat });
        Self { west: west.min(lon), south: south.min(lat), east: east.max(lon), north: north.max(lat) }
    }
}

/// Devices that are drawn as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The middle of its devices, in degrees north.
    pub lat: f64,
    /// In degrees east.
    pub lon: f64,
    /// How many devices.
    pub count: usize,
    /// How many stand how, as [`Standing::ALL`] has them.
    pub by_standing: [usize; Standing::ALL.len()],
    /// As the worst of them.
    pub worst: Standing,
    /// What holds them all.
    pub around: Window,
    /// The zoom at which they are no longer one; none where they never are.
    pub apart: Option<u8>,
    /// The first of them, which is the only one where there is one.
    pub first: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    code: u64,
    x: u32,
    y: u32,
    pin: Pin,
}

/// Devices by their places.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Index {
    places: Vec<Place>,
}

/// A share of the world as a place.
fn place(share: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is held within what fits, and a cast of NaN is 0"
    )]
    let place = (share * WORLD).clamp(0.0, WORLD - 1.0) as u32;
    place
}

fn x_of(lon: f64) -> u32 {
    place((lon + 180.0) / 360.0)
}

fn y_of(lat: f64) -> u32 {
    let lat = lat.clamp(-LAT_MAX, LAT_MAX).to_radians();
    place((1.0 - lat.tan().asinh() / std::f64::consts::PI) / 2.0)
}

fn lon_of(x: f64) -> f64 {
    x / WORLD * 360.0 - 180.0
}

fn lat_of(y: f64) -> f64 {
    (std::f64::consts::PI * (1.0 - 2.0 * y / WORLD)).sinh().atan().to_degrees()
}

/// A bit between each two.
fn spread(word: u32) -> u64 {
    let mut out = u64::from(word);
    for (shift, mask) in [
        (16, 0x0000_FFFF_0000_FFFF),
        (8, 0x00FF_00FF_00FF_00FF),
        (4, 0x0F0F_0F0F_0F0F_0F0F),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        out = (out | (out << shift)) & mask;
    }
    out
}

/// The square of a level that a place is in, as a number.
fn square(code: u64, level: u32) -> u64 {
    code.checked_shr(2 * (LEVELS - level)).unwrap_or(0)
}

/// A part of the world in squares of a level: whole ones, so that a cluster is the same wherever the edge of a window is.
struct Squares {
    level: u32,
    x: (u32, u32),
    y: (u32, u32),
    is_across: bool,
}

impl Squares {
    fn of(window: &Window, level: u32) -> Self {
        let cut = |place: u32| place.checked_shr(LEVELS - level).unwrap_or(0);
        Self {
            level,
            x: (cut(x_of(window.west)), cut(x_of(window.east))),
            // North is above.
            y: (cut(y_of(window.north)), cut(y_of(window.south))),
            is_across: window.west > window.east,
        }
    }

    fn have(&self, place: &Place) -> bool {
        let cut = |place: u32| place.checked_shr(LEVELS - self.level).unwrap_or(0);
        let (x, y, (west, east)) = (cut(place.x), cut(place.y), self.x);
        let beside = if self.is_across { x >= west || x <= east } else { (west..=east).contains(&x) };
        beside && (self.y.0..=self.y.1).contains(&y)
    }
}

impl Index {
    /// Of devices with a place.
    #[must_use]
    pub fn of(pins: impl IntoIterator<Item = Pin>) -> Self {
        let one = |pin: Pin| {
            let (x, y) = (x_of(pin.position.lon()), y_of(pin.position.lat()));
            Place { code: spread(x) | (spread(y) << 1), x, y, pin }
        };
        let mut places: Vec<Place> = pins.into_iter().map(one).collect();
        places.sort_unstable_by_key(|place| (place.code, place.pin.row));
        Self { places }
    }

    /// The devices, in no order that means anything.
    pub fn pins(&self) -> impl Iterator<Item = &Pin> {
        self.places.iter().map(|place| &place.pin)
    }

    /// What holds all devices that are wanted, and how many these are.
    #[must_use]
    pub fn bounds(&self, wanted: impl Fn(usize) -> bool) -> (Option<Window>, usize) {
        let pins = || self.pins().filter(|pin| wanted(pin.row));
        let (mut around, mut count) = (None, 0);
        for pin in pins() {
            (around, count) = (Some(Window::hold(around, &pin.position)), count + 1);
        }
        let narrowed = |around: Window| match around.east - around.west {
            // Less than half of the world is the narrowest already.
            wide if wide <= 180.0 => around,
            _ => around.narrowed(pins().map(|pin| pin.position.lon()).collect()),
        };
        (around.map(narrowed), count)
    }

    /// The clusters of a zoom in a window and the squares at its edge, at most [`CLUSTERS_MAX`]: where there would be more,
    /// those of a lower zoom, which is told.
    #[must_use]
    pub fn clusters(&self, window: &Window, zoom: u8, wanted: impl Fn(usize) -> bool) -> (u8, Vec<Cluster>) {
        let mut zoom = zoom.min(ZOOM_MAX);
        loop {
            match self.gathered(window, u32::from(zoom) + FINER, &wanted) {
                Some(found) => return (zoom, found),
                // At zoom 0 there are sixteen squares.
                None => zoom = zoom.saturating_sub(1),
            }
        }
    }

    fn gathered(&self, window: &Window, level: u32, wanted: &impl Fn(usize) -> bool) -> Option<Vec<Cluster>> {
        let squares = Squares::of(window, level);
        let mut out: Vec<Gathering> = Vec::new();
        for place in self.places.iter().filter(|place| squares.have(place) && wanted(place.pin.row)) {
            let is_full = out.len() == CLUSTERS_MAX;
            match out.last_mut().filter(|last| square(last.last, level) == square(place.code, level)) {
                Some(last) => last.add(place),
                None if is_full => return None,
                None => out.push(Gathering::of(place)),
            }
        }
        Some(out.into_iter().map(Gathering::done).collect())
    }
}

/// A cluster in the making.
struct Gathering {
    first: Pin,
    from: u64,
    last: u64,
    // Places are whole numbers of 32 bits: any number of devices fits.
    x: u64,
    y: u64,
    by_standing: [usize; Standing::ALL.len()],
    count: u32,
    worst: Standing,
    around: Window,
}

impl Gathering {
    fn of(place: &Place) -> Self {
        let mut new = Self {
            first: place.pin,
            from: place.code,
            last: place.code,
            x: 0,
            y: 0,
            by_standing: [0; Standing::ALL.len()],
            count: 0,
            worst: Standing::Revoked,
            around: Window::hold(None, &place.pin.position),
        };
        new.add(place);
        new
    }

    fn add(&mut self, place: &Place) {
        self.last = place.code;
        self.x += u64::from(place.x);
        self.y += u64::from(place.y);
        self.count += 1;
        let standing = place.pin.standing;
        for (count, known) in self.by_standing.iter_mut().zip(Standing::ALL) {
            *count += usize::from(known == standing);
        }
        self.worst = self.worst.max(standing);
        self.around = Window::hold(Some(self.around), &place.pin.position);
    }

    /// The zoom at which the first and the last are in squares of their own, and with them some of the others.
    fn apart(&self) -> Option<u8> {
        let same_bits = (self.from ^ self.last).leading_zeros();
        let level = same_bits / 2 + 1;
        let zoom = u8::try_from(level.saturating_sub(FINER)).ok()?;
        (self.from != self.last && zoom <= ZOOM_MAX).then_some(zoom)
    }

    #[expect(clippy::cast_precision_loss, reason = "the middle of a cluster needs no exactness")]
    fn done(self) -> Cluster {
        let count = f64::from(self.count);
        // One device is where it is, and not where its place's corner is.
        let (lat, lon) = if self.count == 1 {
            (self.first.position.lat(), self.first.position.lon())
        } else {
            (lat_of(self.y as f64 / count), lon_of(self.x as f64 / count))
        };
        Cluster {
            lat,
            lon,
            count: usize::try_from(self.count).unwrap_or(usize::MAX),
            by_standing: self.by_standing,
            worst: self.worst,
            around: self.around,
            apart: self.apart(),
            first: self.first.row,
        }
    }
}

#[cfg(test)]
mod tests;
