//! Units, which are codes of UCUM (the Unified Code for Units of Measure, case sensitive): which are known, and how values go
//! from one to another.
//!
//! Read are products and quotients of the units below with metric prefixes and exponents, such as `kW.h`, `m3/h` or
//! `L/min`; annotations in braces count for nothing, so that `{rpm}` is 1 and `/min{rot}` is `/min`. Temperatures with a zero
//! of their own (`Cel`, `[degF]`) stand alone. `var`, of reactive power, is no code of UCUM, and is written all the same.
//! Factors are exact by the definitions of the SI and of the international yard, pound, inch and gallon (US), but for those
//! that are measured or conventional: `[Btu]` (IT), `[HP]` (mechanical), `cal` (thermochemical).

/// Exponents of metre, second, gram, kelvin, ampere, candela, radian and byte.
type Dimension = [i8; 8];

const NONE: Dimension = [0; 8];
/// Longest code that is read, in bytes; a series' unit has 32.
const CODE_BYTES_MAX: usize = 64;
/// Most factors of a code.
const PARTS_MAX: usize = 8;

/// A unit: a value in it is `factor · value + offset` in the base units.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Unit {
    dimension: Dimension,
    factor: f64,
    offset: f64,
}

/// A linear function from one unit to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    /// What a value is multiplied with.
    pub factor: f64,
    /// What is added then.
    pub offset: f64,
}

impl Conversion {
    /// From one unit to another.
    ///
    /// # Errors
    /// A code is unknown, or they measure different things.
    pub fn between(from: &str, to: &str) -> Result<Self, String> {
        let (a, b) = (parse(from)?, parse(to)?);
        if a.dimension != b.dimension {
            return Err(format!("{from:?} and {to:?} measure different things"));
        }
        // Where one zero is taken from the other, rounding would show.
        Ok(match (from, to) {
            _ if from == to => Self { factor: 1.0, offset: 0.0 },
            ("Cel", "[degF]") => Self { factor: 1.8, offset: 32.0 },
            ("[degF]", "Cel") => Self { factor: 5.0 / 9.0, offset: -160.0 / 9.0 },
            _ => Self { factor: a.factor / b.factor, offset: (a.offset - b.offset) / b.factor },
        })
    }

    /// The value in the other unit.
    #[must_use]
    pub fn apply(self, value: f64) -> f64 {
        value.mul_add(self.factor, self.offset)
    }
}

/// Whether a code is known, of a unit that values can be converted to.
///
/// # Errors
/// Says that it is not.
pub fn check(code: &str) -> Result<(), String> {
    parse(code).map(drop)
}

/// Whether a code is known, also of what nothing can be converted to: levels, as `dB` and `dB{mW}`, and arbitrary units.
///
/// # Errors
/// Says that it is not, and what may be meant.
pub fn known(code: &str) -> Result<(), String> {
    match parse(code) {
        Err(_) if is_arbitrary(code) => Ok(()),
        Err(unknown) => Err(match meant(code) {
            Some(meant) => format!("{unknown}; did you mean {meant}?"),
            None => unknown,
        }),
        Ok(_) => Ok(()),
    }
}

/// Levels, whose values are logarithms, and units that are fixed by a procedure.
const ARBITRARY: [&str; 11] =
    ["B", "Np", "B[SPL]", "B[V]", "B[mV]", "B[uV]", "B[W]", "B[kW]", "[iU]", "[IU]", "[arb'U]"];

fn is_arbitrary(code: &str) -> bool {
    let bare = match code.split_once('{') {
        Some((before, note)) if note.ends_with('}') && note.is_ascii() => before,
        Some(_) => return false,
        None => code,
    };
    let prefixed = |(prefix, _): &(&str, f64)| {
        bare.strip_prefix(prefix).is_some_and(|name| ARBITRARY.contains(&name) && name != "[arb'U]")
    };
    ARBITRARY.contains(&bare) || PREFIXES.iter().any(prefixed)
}

/// What is often written in place of a code.
const MEANT: [(&str, &str); 33] = [
    ("degc", "Cel"),
    ("°c", "Cel"),
    ("celsius", "Cel"),
    ("degf", "[degF]"),
    ("°f", "[degF]"),
    ("fahrenheit", "[degF]"),
    ("kelvin", "K"),
    ("°", "deg"),
    ("degree", "deg"),
    ("degrees", "deg"),
    ("wh", "W.h"),
    ("kwh", "kW.h"),
    ("mwh", "MW.h"),
    ("va", "V.A"),
    ("kva", "kV.A"),
    ("vah", "V.A.h"),
    ("kvah", "kV.A.h"),
    ("varh", "var.h"),
    ("kvarh", "kvar.h"),
    ("ah", "A.h"),
    ("rpm", "/min"),
    ("ppm", "[ppm]"),
    ("ppb", "[ppb]"),
    ("psi", "[psi]"),
    ("ph", "[pH]"),
    ("lux", "lx"),
    ("sec", "s"),
    ("seconds", "s"),
    ("hours", "h"),
    ("knots", "[kn_i]"),
    ("mph", "[mi_i]/h"),
    ("bytes", "By"),
    ("dbm", "dB{mW}"),
];

/// The code that may be meant.
fn meant(code: &str) -> Option<String> {
    let known = |found: &String| parse(found).is_ok() || is_arbitrary(found);
    let small = code.to_lowercase();
    if let Some((_, found)) = MEANT.iter().find(|(written, _)| *written == small) {
        return Some((*found).to_owned());
    }
    let signs = [
        ("²", "2"),
        ("³", "3"),
        ("µ", "u"),
        ("μ", "u"),
        ("·", "."),
        ("*", "."),
        ("Ω", "Ohm"),
        ("ohm", "Ohm"),
        ("°C", "Cel"),
        (" ", ""),
    ];
    let plain = signs.iter().fold(code.to_owned(), |text, (sign, plain)| text.replace(sign, plain));
    let bracketed = format!("[{code}]");
    // What counts has no unit, and says in braces what it counts.
    let counted = format!("{{{code}}}");
    let is_word = code.chars().all(|c| c.is_ascii_alphabetic()) && code.len() > 2;
    [plain, bracketed].into_iter().find(known).or_else(|| is_word.then_some(counted))
}

/// Metric prefixes.
const PREFIXES: [(&str, f64); 16] = [
    ("da", 1e1),
    ("Y", 1e24),
    ("Z", 1e21),
    ("E", 1e18),
    ("P", 1e15),
    ("T", 1e12),
    ("G", 1e9),
    ("M", 1e6),
    ("k", 1e3),
    ("h", 1e2),
    ("d", 1e-1),
    ("c", 1e-2),
    ("m", 1e-3),
    ("u", 1e-6),
    ("n", 1e-9),
    ("p", 1e-12),
];
/// Of bytes and bits also those of IEC 80000-13.
const BINARY: [(&str, f64); 4] =
    [("Ki", 1024.0), ("Mi", 1_048_576.0), ("Gi", 1_073_741_824.0), ("Ti", 1_099_511_627_776.0)];

/// An atom: its code, whether it takes metric prefixes, its dimension and its factor to the base units.
type Atom = (&'static str, bool, Dimension, f64);

const LENGTH: Dimension = [1, 0, 0, 0, 0, 0, 0, 0];
const TIME: Dimension = [0, 1, 0, 0, 0, 0, 0, 0];
const MASS: Dimension = [0, 0, 1, 0, 0, 0, 0, 0];
const HEAT: Dimension = [0, 0, 0, 1, 0, 0, 0, 0];
const CURRENT: Dimension = [0, 0, 0, 0, 1, 0, 0, 0];
const LIGHT: Dimension = [0, 0, 0, 0, 0, 1, 0, 0];
const ANGLE: Dimension = [0, 0, 0, 0, 0, 0, 1, 0];
const DATA: Dimension = [0, 0, 0, 0, 0, 0, 0, 1];
const VOLUME: Dimension = [3, 0, 0, 0, 0, 0, 0, 0];
const SPEED: Dimension = [1, -1, 0, 0, 0, 0, 0, 0];
const FREQUENCY: Dimension = [0, -1, 0, 0, 0, 0, 0, 0];
const FORCE: Dimension = [1, -2, 1, 0, 0, 0, 0, 0];
const PRESSURE: Dimension = [-1, -2, 1, 0, 0, 0, 0, 0];
const ENERGY: Dimension = [2, -2, 1, 0, 0, 0, 0, 0];
const POWER: Dimension = [2, -3, 1, 0, 0, 0, 0, 0];
const CHARGE: Dimension = [0, 1, 0, 0, 1, 0, 0, 0];
const VOLTAGE: Dimension = [2, -3, 1, 0, -1, 0, 0, 0];
const RESISTANCE: Dimension = [2, -3, 1, 0, -2, 0, 0, 0];
const CONDUCTANCE: Dimension = [-2, 3, -1, 0, 2, 0, 0, 0];
const CAPACITY: Dimension = [-2, 4, -1, 0, 2, 0, 0, 0];
const INDUCTANCE: Dimension = [2, -2, 1, 0, -2, 0, 0, 0];
const FLUX: Dimension = [2, -2, 1, 0, -1, 0, 0, 0];
const INDUCTION: Dimension = [0, -2, 1, 0, -1, 0, 0, 0];
const ILLUMINANCE: Dimension = [-2, 0, 0, 0, 0, 1, 2, 0];
const LUMINOUS: Dimension = [0, 0, 0, 0, 0, 1, 2, 0];
const DOSE: Dimension = [2, -2, 0, 0, 0, 0, 0, 0];

// Masses are in grams, so a joule is 1000 g·m²/s².
const ATOMS: [Atom; 96] = [
    ("1", false, NONE, 1.0),
    ("%", false, NONE, 0.01),
    ("[ppth]", false, NONE, 1e-3),
    ("[ppm]", false, NONE, 1e-6),
    ("[ppb]", false, NONE, 1e-9),
    ("[pH]", false, NONE, 1.0),
    ("m", true, LENGTH, 1.0),
    ("[in_i]", false, LENGTH, 0.0254),
    ("[ft_i]", false, LENGTH, 0.3048),
    ("[yd_i]", false, LENGTH, 0.9144),
    ("[mi_i]", false, LENGTH, 1609.344),
    ("[nmi_i]", false, LENGTH, 1852.0),
    ("ar", true, [2, 0, 0, 0, 0, 0, 0, 0], 100.0),
    ("L", true, VOLUME, 1e-3),
    ("l", true, VOLUME, 1e-3),
    ("[gal_us]", false, VOLUME, 3.785_411_784e-3),
    ("[gal_br]", false, VOLUME, 4.546_09e-3),
    ("[cft_i]", false, VOLUME, 0.028_316_846_592),
    ("[bbl_us]", false, VOLUME, 0.158_987_294_928),
    ("s", true, TIME, 1.0),
    ("min", false, TIME, 60.0),
    ("h", false, TIME, 3600.0),
    ("d", false, TIME, 86_400.0),
    ("wk", false, TIME, 604_800.0),
    ("a", false, TIME, 31_557_600.0),
    ("Hz", true, FREQUENCY, 1.0),
    ("Bq", true, FREQUENCY, 1.0),
    ("[kn_i]", false, SPEED, 1852.0 / 3600.0),
    ("g", true, MASS, 1.0),
    ("t", true, MASS, 1e6),
    ("[lb_av]", false, MASS, 453.592_37),
    ("[oz_av]", false, MASS, 28.349_523_125),
    ("N", true, FORCE, 1e3),
    ("gf", true, FORCE, 9.806_65),
    ("[lbf_av]", false, FORCE, 4_448.221_615_260_5),
    ("Pa", true, PRESSURE, 1e3),
    ("bar", true, PRESSURE, 1e8),
    ("atm", false, PRESSURE, 101_325e3),
    ("att", false, PRESSURE, 98_066.5e3),
    ("[psi]", false, PRESSURE, 6_894_757.293_168_361),
    ("m[Hg]", true, PRESSURE, 133_322_387.415),
    ("m[H2O]", true, PRESSURE, 9_806_650.0),
    ("[in_i'Hg]", false, PRESSURE, 3_386_388.640_341),
    ("[in_i'H2O]", false, PRESSURE, 249_088.91),
    ("J", true, ENERGY, 1e3),
    ("eV", true, ENERGY, 1.602_176_634e-16),
    ("cal", true, ENERGY, 4184.0),
    ("[Btu]", false, ENERGY, 1_055_055.852_62),
    ("W", true, POWER, 1e3),
    ("var", true, POWER, 1e3),
    ("[HP]", false, POWER, 745_699.871_582_270_2),
    ("A", true, CURRENT, 1.0),
    ("C", true, CHARGE, 1.0),
    ("V", true, VOLTAGE, 1e3),
    ("Ohm", true, RESISTANCE, 1e3),
    ("S", true, CONDUCTANCE, 1e-3),
    ("mho", true, CONDUCTANCE, 1e-3),
    ("F", true, CAPACITY, 1e-3),
    ("H", true, INDUCTANCE, 1e3),
    ("Wb", true, FLUX, 1e3),
    ("T", true, INDUCTION, 1e3),
    ("G", true, INDUCTION, 0.1),
    ("K", true, HEAT, 1.0),
    ("[degR]", false, HEAT, 5.0 / 9.0),
    ("cd", true, LIGHT, 1.0),
    ("lm", true, LUMINOUS, 1.0),
    ("lx", true, ILLUMINANCE, 1.0),
    ("rad", true, ANGLE, 1.0),
    ("sr", true, [0, 0, 0, 0, 0, 0, 2, 0], 1.0),
    ("deg", false, ANGLE, std::f64::consts::PI / 180.0),
    ("gon", false, ANGLE, std::f64::consts::PI / 200.0),
    ("'", false, ANGLE, std::f64::consts::PI / 10_800.0),
    ("''", false, ANGLE, std::f64::consts::PI / 648_000.0),
    ("circ", false, ANGLE, 2.0 * std::f64::consts::PI),
    ("By", true, DATA, 1.0),
    ("bit", true, DATA, 0.125),
    ("Bd", true, [0, -1, 0, 0, 0, 0, 0, 1], 0.125),
    ("mol", true, NONE, 6.022_140_76e23),
    ("Gy", true, DOSE, 1.0),
    ("Sv", true, DOSE, 1.0),
    ("dyn", true, FORCE, 1e-2),
    ("erg", true, ENERGY, 1e-4),
    ("P", true, [-1, -1, 1, 0, 0, 0, 0, 0], 100.0),
    ("St", true, [2, -1, 0, 0, 0, 0, 0, 0], 1e-4),
    ("mo", false, TIME, 2_629_800.0),
    ("kat", true, FREQUENCY, 6.022_140_76e23),
    ("Ci", true, FREQUENCY, 3.7e10),
    ("u", true, MASS, 1.660_539_066_6e-24),
    ("[gr]", false, MASS, 0.064_798_91),
    ("[ston_av]", false, MASS, 907_184.74),
    ("[lton_av]", false, MASS, 1_016_046.908_8),
    ("[acr_us]", false, [2, 0, 0, 0, 0, 0, 0, 0], 4_046.872_609_874_252),
    ("[qt_us]", false, VOLUME, 9.463_529_46e-4),
    ("[pt_us]", false, VOLUME, 4.731_764_73e-4),
    ("[foz_us]", false, VOLUME, 2.957_352_956_25e-5),
    ("[fth_i]", false, LENGTH, 1.8288),
];

/// Temperatures with a zero of their own.
const SCALES: [(&str, f64, f64); 2] = [("Cel", 1.0, 273.15), ("[degF]", 5.0 / 9.0, 459.67 * 5.0 / 9.0)];

fn parse(code: &str) -> Result<Unit, String> {
    if let Some((_, factor, offset)) = SCALES.iter().find(|(name, _, _)| *name == code) {
        return Ok(Unit { dimension: HEAT, factor: *factor, offset: *offset });
    }
    let unknown =
        || format!("{code:?} is no known unit; allowed are codes of UCUM such as Cel, kW.h, m3/h or bar");
    if code.is_empty() || code.len() > CODE_BYTES_MAX {
        return Err(unknown());
    }
    let mut unit = Unit { dimension: NONE, factor: 1.0, offset: 0.0 };
    let (mut rest, mut sign) = (code, 1);
    if let Some(below) = code.strip_prefix('/') {
        (rest, sign) = (below, -1);
    }
    for _ in 0..PARTS_MAX {
        let end = part_end(rest);
        let (part, tail) = rest.split_at_checked(end).ok_or_else(unknown)?;
        let (atom, exponent) = component(part).ok_or_else(unknown)?;
        let exponent = exponent * sign;
        unit.factor *= atom.1.powi(exponent);
        for (sum, own) in unit.dimension.iter_mut().zip(atom.0) {
            let more = i8::try_from(exponent).ok().and_then(|exponent| own.checked_mul(exponent));
            *sum = more.and_then(|more| sum.checked_add(more)).ok_or_else(unknown)?;
        }
        let mut after = tail.chars();
        match after.next() {
            None if unit.factor.is_normal() => return Ok(unit),
            Some('.') => sign = 1,
            // By UCUM only the next unit is below the line.
            Some('/') => sign = -1,
            _ => return Err(unknown()),
        }
        rest = after.as_str();
    }
    Err(unknown())
}

/// Where a unit ends: before the next operator that is not in brackets or braces.
fn part_end(text: &str) -> usize {
    let mut depth = 0_usize;
    let end = text.char_indices().find(|(_, c)| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            '.' | '/' => return depth == 0,
            _ => {}
        }
        false
    });
    end.map_or(text.len(), |(at, _)| at)
}

/// The dimension and factor of a unit with its prefix, and its exponent.
fn component(part: &str) -> Option<((Dimension, f64), i32)> {
    let bare = match part.split_once('{') {
        Some((before, note)) if note.ends_with('}') && note.is_ascii() => before,
        Some(_) => return None,
        None => part,
    };
    if bare.is_empty() {
        return (bare != part).then_some(((NONE, 1.0), 1));
    }
    if let Some(found) = prefixed(bare) {
        return Some((found, 1));
    }
    let name = bare.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = bare.strip_prefix(name)?;
    let (name, negative) = match name.strip_suffix(['-', '+']) {
        Some(cut) if !digits.is_empty() => (cut, name.ends_with('-')),
        _ => (name, false),
    };
    let exponent: i32 = digits.parse().ok().filter(|exponent| (1..=9).contains(exponent))?;
    Some((prefixed(name)?, if negative { -exponent } else { exponent }))
}

fn prefixed(name: &str) -> Option<(Dimension, f64)> {
    let atom = |name: &str| ATOMS.iter().find(|(code, ..)| *code == name);
    if let Some((_, _, dimension, factor)) = atom(name) {
        return Some((*dimension, *factor));
    }
    let metric = PREFIXES.iter().find_map(|(prefix, times)| {
        let (_, is_metric, dimension, factor) = atom(name.strip_prefix(prefix)?)?;
        is_metric.then_some((*dimension, factor * times))
    });
    metric.or_else(|| {
        BINARY.iter().find_map(|(prefix, times)| {
            let (_, _, dimension, factor) = atom(name.strip_prefix(prefix)?)?;
            (*dimension == DATA).then_some((*dimension, factor * times))
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn convert(value: f64, from: &str, to: &str) -> f64 {
        Conversion::between(from, to).unwrap().apply(value)
    }

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() <= 1e-12 * wanted.abs().max(1.0), "{found} in place of {wanted}");
    }

    #[test]
    fn units_of_the_field_are_converted() {
        near(convert(100.0, "Cel", "[degF]"), 212.0);
        near(convert(-40.0, "[degF]", "Cel"), -40.0);
        near(convert(0.0, "Cel", "K"), 273.15);
        near(convert(1.0, "bar", "kPa"), 100.0);
        near(convert(1.0, "kW.h", "MJ"), 3.6);
        near(convert(36.0, "km/h", "m/s"), 10.0);
        near(convert(6.0, "m3/h", "L/min"), 100.0);
        near(convert(1.0, "[gal_us]/min", "l/min"), 3.785_411_784);
        near(convert(1500.0, "/min", "Hz"), 25.0);
        near(convert(50.0, "%", "1"), 0.5);
        near(convert(1.0, "MiBy", "kBy"), 1048.576);
        near(convert(8.0, "Mbit/s", "MBy/s"), 1.0);
        near(convert(1.0, "kV.A", "W"), 1000.0);
        near(convert(760.0, "mm[Hg]", "atm"), 101_325.014_435_4 / 101_325.0);
        near(convert(1.0, "m/s2", "cm/s2"), 100.0);
        near(convert(1.0, "m.s-1", "km/h"), 3.6);
        near(convert(3.0, "{rpm}", "1"), 3.0);
        near(convert(1.0, "g/m3", "mg/L"), 1.0);
    }

    #[test]
    fn what_is_unknown_or_of_another_kind_is_told() {
        assert!(Conversion::between("bar", "Cel").unwrap_err().contains("measure different things"));
        for code in ["", "furlong", "kCel", "m..s", "m/", "Cel/s", "kmin", "m99", "a{", "/", "1/0", "k%"] {
            assert!(check(code).unwrap_err().contains("no known unit"), "{code}");
        }
    }

    #[test]
    fn levels_and_what_is_counted_are_known_and_what_is_not_is_told_with_what_may_be_meant() {
        for code in [
            "Cel",
            "dB",
            "dB{mW}",
            "dB[SPL]",
            "m[iU]",
            "V.A{reactive}",
            "{starts}",
            "kvar.h",
            "1/min",
            "[kn_i]",
            "%",
            "1",
            "mV",
        ] {
            assert_eq!(known(code), Ok(()), "{code}");
        }
        for (code, meant) in [
            ("°C", "Cel"),
            ("degC", "Cel"),
            ("kWh", "kW.h"),
            ("kVA", "kV.A"),
            ("m³/h", "m3/h"),
            ("µg/m³", "ug/m3"),
            ("kΩ", "kOhm"),
            ("RPM", "/min"),
            ("ppm", "[ppm]"),
            ("degF", "[degF]"),
            ("pulses", "{pulses}"),
        ] {
            let told = known(code).unwrap_err();
            assert!(told.ends_with(&format!("; did you mean {meant}?")), "{told}");
            assert_eq!(known(meant), Ok(()), "{meant}");
        }
        for code in ["", "dB/", "d{", "kB{é}", "?"] {
            assert!(known(code).is_err(), "{code}");
        }
        assert!(check("dB").is_err(), "nothing is converted to a level");
        assert!(
            MEANT.iter().all(|(written, code)| known(code).is_ok() && written.to_lowercase() == *written)
        );
    }

    #[test]
    fn no_unit_stands_twice_and_none_hides_a_prefix() {
        for (at, (code, ..)) in ATOMS.iter().enumerate() {
            assert!(ATOMS.iter().skip(at + 1).all(|(other, ..)| other != code), "{code}");
        }
        // Of a code that could be read in two ways the whole one counts.
        assert_eq!(parse("min").unwrap().dimension, TIME);
        assert_eq!(parse("Pa").unwrap().dimension, PRESSURE);
        assert_eq!(parse("cd").unwrap().dimension, LIGHT);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_value_comes_back_from_any_unit_of_its_kind(
            value in -1e6_f64..1e6, at in 0_usize..ATOMS.len(), other in 0_usize..ATOMS.len(),
        ) {
            let (from, to) = (ATOMS[at].0, ATOMS[other].0);
            if let Ok(there) = Conversion::between(from, to) {
                let back = Conversion::between(to, from).unwrap().apply(there.apply(value));
                prop_assert!((back - value).abs() <= 1e-9 * value.abs().max(1.0), "{from} {to} {back}");
            }
        }

        #[test]
        fn no_text_makes_the_reader_of_codes_panic(text in ".{0,80}", code in "[a-zA-Z0-9./{}%\\[\\]'+-]{0,20}") {
            let _ = (check(&text), known(&text));
            let _ = (check(&code), known(&code));
        }
    }
}
