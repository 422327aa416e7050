//! Decimal numbers as integers: most sensors give a fixed number of decimal places, and integers pack to a
//! fraction of what doubles do.

/// Most decimal places that are tried.
pub const DECIMALS_MAX: u8 = 9;
/// Doubles hold integers up to here exactly.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Added and taken away again, it leaves no room for a fraction. `f64::round` is a call of a library where
/// the processor's own instruction is not taken for granted.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
const ROUNDED_BY_ADDING_MAX: f64 = 1_125_899_906_842_624.0;
const POWERS: [f64; DECIMALS_MAX as usize + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// 10 to the `places`, up to [`DECIMALS_MAX`].
#[must_use]
pub fn power_of_ten(places: u8) -> Option<f64> {
    POWERS.get(usize::from(places)).copied()
}

/// The integer that divided by `power` gives the very same bits.
#[must_use]
pub fn exact_integer(value: f64, power: f64) -> Option<i64> {
    let scaled = round(value * power);
    if !(-EXACT_MAX..=EXACT_MAX).contains(&scaled) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is a whole number within the exact range")]
    let integer = scaled as i64;
    (decimal(integer, power).to_bits() == value.to_bits()).then_some(integer)
}

/// The nearest integer. Where a value is one divided by a power of ten, its product with that power is never
/// halfway between two.
fn round(value: f64) -> f64 {
    if value.abs() < ROUNDED_BY_ADDING_MAX { (value + ROUNDER) - ROUNDER } else { value.round() }
}

/// The value of an integer; of one that [`exact_integer`] gave the very same bits.
#[expect(
    clippy::cast_precision_loss,
    reason = "a well-formed block holds integers within the exact range only"
)]
#[must_use]
pub fn decimal(integer: i64, power: f64) -> f64 {
    integer as f64 / power
}
