//! Exact decimals in fixed point.
//!
//! A [`Decimal`] counts units of 10⁻¹⁸ in 128 bits: up to 20 digits before the point and 18 after it. That is the
//! range of `DECIMAL(38, 18)`, which Parquet, `DuckDB` and pandas read as they are. Every value has one
//! representation, so equal numbers are equal bytes. Nothing here rounds, except [`Decimal::parse_rounded`],
//! [`DecimalSum::mean`] and what is in `arithmetic`, which say so.

mod arithmetic;

pub use arithmetic::Rounding;

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::ops::Neg;
use std::str::FromStr;

const SCALE: u32 = 18;
const ONE: i128 = 1_000_000_000_000_000_000;
/// 10³⁸: the first count of units that no longer fits 38 digits.
const LIMIT: u128 = 100_000_000_000_000_000_000_000_000_000_000_000_000;

/// Units that the last of so many digits after the point counts.
#[expect(clippy::indexing_slicing, reason = "runs in the compiler")]
const UNITS_BY_DIGITS: [u64; 19] = {
    let mut units = [1_u64; 19];
    let mut digits = 18;
    while digits > 0 {
        digits -= 1;
        units[digits] = units[digits + 1] * 10;
    }
    units
};

/// A number as it was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decimal(i128);

/// Why a text is no [`Decimal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("is not a decimal number")]
    Syntax,
    /// More digits than can be kept, on either side of the point.
    #[error("has more than 20 digits before or 18 after the decimal point")]
    Digits,
}

impl Decimal {
    pub const ZERO: Self = Self(0);
    pub const ONE: Self = Self(ONE);
    /// Digits before the point.
    pub const INTEGER_DIGITS: u32 = 20;
    /// Digits after the point.
    pub const FRACTION_DIGITS: u32 = SCALE;
    pub const MAX: Self = Self(LIMIT.cast_signed() - 1);
    pub const MIN: Self = Self(-(LIMIT.cast_signed() - 1));

    /// From a count of units of 10⁻¹⁸; `None` beyond 38 digits.
    pub const fn from_units(units: i128) -> Option<Self> {
        if units.unsigned_abs() < LIMIT {
            Some(Self(units))
        } else {
            None
        }
    }

    /// Count of units of 10⁻¹⁸.
    pub const fn units(self) -> i128 {
        self.0
    }

    /// Parses the text of a JSON number (RFC 8259, section 6), exponent included; also without a digit before or
    /// after the point is an error, as in JSON.
    ///
    /// Trailing zeros and exponents do not count as digits: `1e3`, `1000` and `1000.000` are equal.
    pub fn parse(text: &[u8]) -> Result<Self, DecimalError> {
        match Self::parse_short(text) {
            Some(decimal) => Ok(decimal),
            None => Self::parse_any(text),
        }
    }

    /// As [`Self::parse`], but digits past the 18th after the point are rounded, half to even: for clients whose numbers
    /// are binary and show such digits unasked.
    pub fn parse_rounded(text: &[u8]) -> Result<Self, DecimalError> {
        match Self::parse(text) {
            Err(DecimalError::Digits) => Self::parse_long(text),
            done => done,
        }
    }

    fn parse_long(text: &[u8]) -> Result<Self, DecimalError> {
        let (negative, number) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let mut halves = number.splitn(2, |byte| matches!(byte, b'e' | b'E'));
        let mut parts = halves.next().unwrap_or_default().splitn(2, |b| *b == b'.');
        let integer = parts.next().unwrap_or_default();
        let fraction = parts.next();
        let is_number = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let leading_zero = integer.len() > 1 && integer.starts_with(b"0");
        if !is_number(integer) || leading_zero || !fraction.is_none_or(is_number) {
            return Err(DecimalError::Syntax);
        }
        let exponent = halves.next().map_or(Ok(0), exponent_of)?;
        let length = |digits: &[u8]| i64::try_from(digits.len()).unwrap_or(i64::MAX);
        let fraction = fraction.unwrap_or_default();
        // How many digits count units or more; negative if the number begins behind the last unit.
        let kept = length(integer) + exponent + i64::from(SCALE);
        let mut units = 0_u128;
        let (mut next, mut more) = (b'0', false);
        let digits = integer.iter().chain(fraction).copied();
        for (place, digit) in (0_i64..).zip(digits.chain(std::iter::repeat(b'0'))) {
            let is_past_digits = place >= length(integer) + length(fraction);
            match place.cmp(&kept) {
                _ if is_past_digits && (units == 0 || place >= kept) => break,
                // Past the largest number of all the next test refuses it too.
                Ordering::Less => {
                    units = units
                        .saturating_mul(10)
                        .saturating_add(u128::from(digit - b'0'));
                }
                Ordering::Equal => next = digit,
                Ordering::Greater => more |= digit != b'0',
            }
            if units >= LIMIT {
                return Err(DecimalError::Digits);
            }
        }
        let up = next > b'5' || (next == b'5' && (more || units % 2 == 1));
        let units = (units + u128::from(up)).cast_signed();
        Self::from_units(if negative { -units } else { units }).ok_or(DecimalError::Digits)
    }

    /// What nearly all numbers are: short and without exponent, so that 64 bits hold their digits. `None` says nothing
    /// about a text.
    fn parse_short(text: &[u8]) -> Option<Self> {
        const BYTES_MAX: usize = 19;
        let (negative, number) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        if number.len() > BYTES_MAX {
            return None;
        }
        let mut digits = 0_u64;
        let mut point = None;
        for (place, byte) in number.iter().enumerate() {
            match byte {
                b'0'..=b'9' => digits = digits * 10 + u64::from(byte - b'0'),
                b'.' if point.is_none() => point = Some(place),
                _ => return None,
            }
        }
        let (integer_digits, fraction_digits) = match point {
            None => (number.len(), 0),
            Some(place) => (place, number.len() - place - 1),
        };
        let leading_zero = integer_digits > 1 && number.first() == Some(&b'0');
        if integer_digits == 0 || leading_zero || number.last() == Some(&b'.') {
            return None;
        }
        let unit = UNITS_BY_DIGITS.get(fraction_digits)?;
        let units = i128::from(digits) * i128::from(*unit);
        Some(Self(if negative { -units } else { units }))
    }

    fn parse_any(text: &[u8]) -> Result<Self, DecimalError> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let mut digits = Digits::default();
        let mut bytes = rest.iter().copied().peekable();

        let mut integer_digits = 0_u32;
        let leading_zero = bytes.peek() == Some(&b'0');
        while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
            integer_digits = integer_digits.saturating_add(1);
            digits.push(digit)?;
        }
        if integer_digits == 0 || (leading_zero && integer_digits > 1) {
            return Err(DecimalError::Syntax);
        }
        if bytes.next_if_eq(&b'.').is_some() {
            let mut any = false;
            while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
                any = true;
                digits.push(digit)?;
                digits.exponent -= 1;
            }
            if !any {
                return Err(DecimalError::Syntax);
            }
        }
        if bytes.next_if(|b| matches!(b, b'e' | b'E')).is_some() {
            let down = bytes.next_if_eq(&b'-').is_some();
            if !down {
                let _ = bytes.next_if_eq(&b'+');
            }
            let mut exponent = None;
            while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
                // Far beyond the range already; only the syntax still matters.
                let so_far = i64::min(exponent.unwrap_or(0), 1_000_000);
                exponent = Some(so_far * 10 + i64::from(digit - b'0'));
            }
            let exponent = exponent.ok_or(DecimalError::Syntax)?;
            digits.exponent += if down { -exponent } else { exponent };
        }
        if bytes.next().is_some() {
            return Err(DecimalError::Syntax);
        }
        let units = digits.units()?;
        Ok(Self(if negative { -units } else { units }))
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::from_units)
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(Self::from_units)
    }

    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

/// What follows the `e` of a number.
fn exponent_of(text: &[u8]) -> Result<i64, DecimalError> {
    let (down, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(DecimalError::Syntax);
    }
    let exponent = digits.iter().fold(0_i64, |so_far, digit| {
        // Far beyond the range already.
        so_far.min(1_000_000) * 10 + i64::from(digit - b'0')
    });
    Ok(if down { -exponent } else { exponent })
}

/// Significant digits read so far: `mantissa × 10^exponent`, trailing zeros held back so that they cost no range.
#[derive(Default)]
struct Digits {
    mantissa: u128,
    held_zeros: u32,
    exponent: i64,
}

impl Digits {
    fn push(&mut self, digit: u8) -> Result<(), DecimalError> {
        if digit == b'0' {
            if self.mantissa != 0 {
                self.held_zeros = self.held_zeros.checked_add(1).ok_or(DecimalError::Digits)?;
            }
            return Ok(());
        }
        let shift = 10_u128
            .checked_pow(self.held_zeros + 1)
            .ok_or(DecimalError::Digits)?;
        self.mantissa = self
            .mantissa
            .checked_mul(shift)
            .and_then(|m| m.checked_add(u128::from(digit - b'0')))
            .filter(|m| *m < LIMIT)
            .ok_or(DecimalError::Digits)?;
        self.held_zeros = 0;
        Ok(())
    }

    fn units(&self) -> Result<i128, DecimalError> {
        if self.mantissa == 0 {
            return Ok(0);
        }
        let shift = self.exponent + i64::from(self.held_zeros) + i64::from(SCALE);
        let shift = u32::try_from(shift).map_err(|_| DecimalError::Digits)?;
        10_u128
            .checked_pow(shift)
            .and_then(|factor| self.mantissa.checked_mul(factor))
            .filter(|units| *units < LIMIT)
            .map(u128::cast_signed)
            .ok_or(DecimalError::Digits)
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        Self::parse(text.as_bytes())
    }
}

impl From<i64> for Decimal {
    fn from(integer: i64) -> Self {
        Self(i128::from(integer) * ONE)
    }
}

impl Neg for Decimal {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl fmt::Display for Decimal {
    /// Shortest exact form: no exponent, no trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_fixed(f, self.0 < 0, self.0.unsigned_abs().into())
    }
}

/// A sum of any number of decimals, and what is derived from it. 256 bits wide, so it cannot overflow before 2⁹⁶ values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecimalSum {
    high: i128,
    low: u128,
}

impl DecimalSum {
    pub const ZERO: Self = Self { high: 0, low: 0 };

    pub fn add(&mut self, value: Decimal) {
        self.add_wide(Self {
            high: if value.0 < 0 { -1 } else { 0 },
            low: value.0.cast_unsigned(),
        });
    }

    pub fn subtract(&mut self, value: Decimal) {
        self.add(-value);
    }

    pub fn merge(&mut self, other: Self) {
        self.add_wide(other);
    }

    fn add_wide(&mut self, other: Self) {
        let (low, carry) = self.low.overflowing_add(other.low);
        self.low = low;
        self.high = self
            .high
            .wrapping_add(other.high)
            .wrapping_add(i128::from(carry));
    }

    pub fn is_negative(self) -> bool {
        self.high < 0
    }

    /// The sum as one decimal, if it fits 38 digits.
    pub fn to_decimal(self) -> Option<Decimal> {
        let fits = self.high == (self.low.cast_signed() >> 127);
        fits.then(|| self.low.cast_signed())
            .and_then(Decimal::from_units)
    }

    /// The sum divided by `count`, rounded half to even at the 18th digit after the point; `None` for a count of 0.
    pub fn mean(self, count: u64) -> Option<Self> {
        if count == 0 {
            return None;
        }
        let mean = self.magnitude().divide_half_even(count.into());
        let rounded = Self {
            high: mean.high.cast_signed(),
            low: mean.low,
        };
        Some(if self.is_negative() {
            rounded.negated()
        } else {
            rounded
        })
    }

    fn negated(self) -> Self {
        let (low, carry) = (!self.low).overflowing_add(1);
        Self {
            high: (!self.high).wrapping_add(i128::from(carry)),
            low,
        }
    }

    fn magnitude(self) -> Wide {
        let positive = if self.is_negative() {
            self.negated()
        } else {
            self
        };
        Wide {
            high: positive.high.cast_unsigned(),
            low: positive.low,
        }
    }
}

impl From<Decimal> for DecimalSum {
    fn from(value: Decimal) -> Self {
        let mut sum = Self::ZERO;
        sum.add(value);
        sum
    }
}

impl PartialOrd for DecimalSum {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DecimalSum {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.high, self.low).cmp(&(other.high, other.low))
    }
}

impl fmt::Display for DecimalSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_fixed(f, self.is_negative(), self.magnitude())
    }
}

/// 256 bits without sign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wide {
    high: u128,
    low: u128,
}

impl From<u128> for Wide {
    fn from(low: u128) -> Self {
        Self { high: 0, low }
    }
}

impl Wide {
    fn is_zero(self) -> bool {
        self.high == 0 && self.low == 0
    }

    fn product(a: u128, b: u128) -> Self {
        let (low, high) = a.carrying_mul(b, 0);
        Self { high, low }
    }

    /// The nearest whole quotient, from the middle the even one. The divisor is at most 10³⁸ and not 0.
    fn divide_half_even(self, divisor: u128) -> Self {
        let (quotient, remainder) = match u64::try_from(divisor) {
            Ok(divisor) => {
                let (quotient, remainder) = self.divide(divisor);
                (quotient, remainder.into())
            }
            Err(_) => self.divide_by_wide(divisor),
        };
        let up = match remainder.cmp(&(divisor - remainder)) {
            Ordering::Less => false,
            Ordering::Equal => quotient.low % 2 == 1,
            Ordering::Greater => true,
        };
        let (low, carry) = quotient.low.overflowing_add(up.into());
        Self {
            high: quotient.high + u128::from(carry),
            low,
        }
    }

    /// Long division by a divisor of more than 64 bits and at most 10³⁸: the two upper digits, to the base of 2⁶⁴, of
    /// a quotient fall out at once, each lower one is estimated from the upper half of the divisor and mended.
    /// (Knuth, The Art of Computer Programming, 4.3.1, algorithm D.)
    fn divide_by_wide(self, divisor: u128) -> (Self, u128) {
        const LOW_HALF: u128 = u64::MAX as u128;
        let shift = divisor.leading_zeros();
        let scaled = divisor << shift;
        let digit = |above: u128, next: u128| {
            let mut digit = above / (scaled >> 64);
            let mut rest = above % (scaled >> 64);
            while rest <= LOW_HALF
                && (digit > LOW_HALF || digit * (scaled & LOW_HALF) > ((rest << 64) | next))
            {
                digit -= 1;
                rest += scaled >> 64;
            }
            let rest = ((above << 64) | next).wrapping_sub(digit.wrapping_mul(scaled));
            (digit, rest)
        };
        let above = self.high % divisor;
        // The divisor is below 2¹²⁷, so the shift is at least 1.
        let (upper, rest) = digit(
            (above << shift) | (self.low >> (u128::BITS - shift)),
            ((self.low << shift) >> 64) & LOW_HALF,
        );
        let (lower, rest) = digit(rest, (self.low << shift) & LOW_HALF);
        let quotient = Self {
            high: self.high / divisor,
            low: (upper << 64) | lower,
        };
        (quotient, rest >> shift)
    }

    /// Long division, 64 bits at a time.
    fn divide(self, divisor: u64) -> (Self, u64) {
        const LOW_HALF: u128 = u64::MAX as u128;
        let divisor = u128::from(divisor);
        let mut remainder = 0_u128;
        let mut step = |half: u128| {
            let dividend = (remainder << 64) | half;
            remainder = dividend % divisor;
            dividend / divisor
        };
        let quotients = [
            step(self.high >> 64),
            step(self.high & LOW_HALF),
            step(self.low >> 64),
            step(self.low & LOW_HALF),
        ];
        let [a, b, c, d] = quotients;
        let quotient = Self {
            high: (a << 64) | b,
            low: (c << 64) | d,
        };
        // A remainder is smaller than its 64-bit divisor.
        (quotient, u64::try_from(remainder).unwrap_or(u64::MAX))
    }
}

fn write_fixed(f: &mut fmt::Formatter<'_>, negative: bool, magnitude: Wide) -> fmt::Result {
    // Two divisions by 10^9 part the fraction from the integer.
    const HALF_SCALE: u64 = 1_000_000_000;
    let (rest, low) = magnitude.divide(HALF_SCALE);
    let (integer, high) = rest.divide(HALF_SCALE);
    let fraction = high * HALF_SCALE + low;
    let integer = write_integer(integer);
    if fraction == 0 {
        return f.pad_integral(!negative, "", &integer);
    }
    let fraction = format!("{fraction:018}");
    f.pad_integral(
        !negative,
        "",
        &format!("{integer}.{}", fraction.trim_end_matches('0')),
    )
}

fn write_integer(mut value: Wide) -> String {
    const GROUP: u64 = 10_000_000_000_000_000_000;
    let mut groups = Vec::new();
    while !value.is_zero() {
        let (rest, group) = value.divide(GROUP);
        groups.push(group);
        value = rest;
    }
    let Some(first) = groups.pop() else {
        return "0".to_owned();
    };
    let mut text = first.to_string();
    for group in groups.iter().rev() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{group:019}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> String {
        Decimal::parse(text.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn parses_every_form_of_a_json_number() {
        for (text, shown) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0e5", "0"),
            ("345.25", "345.25"),
            ("1e3", "1000"),
            ("1E+3", "1000"),
            ("12.5e-1", "1.25"),
            ("1000.000", "1000"),
            ("0.000000000000000001", "0.000000000000000001"),
            ("1e-18", "0.000000000000000001"),
            (
                "99999999999999999999.999999999999999999",
                "99999999999999999999.999999999999999999",
            ),
            ("-99999999999999999999", "-99999999999999999999"),
            ("100000000000000000000e-1", "10000000000000000000"),
            ("0.1000000000000000000000000000000000000000000", "0.1"),
            ("0e999999999999", "0"),
            ("0.30000000000000004", "0.30000000000000004"),
        ] {
            assert_eq!(parsed(text), shown, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_json_number_or_has_too_many_digits() {
        for text in [
            "", "-", "+1", "01", ".5", "5.", "1e", "1e+", "1.e3", "0x1", "NaN", "Infinity", "1 ",
            " 1", "1,5", "--1",
        ] {
            assert_eq!(
                Decimal::parse(text.as_bytes()),
                Err(DecimalError::Syntax),
                "{text}"
            );
        }
        for text in [
            "1e20",
            "1e-19",
            "100000000000000000000",
            "0.1234567890123456789",
            "1e999999999999999999",
            "1e-99999999999999999999",
        ] {
            assert_eq!(
                Decimal::parse(text.as_bytes()),
                Err(DecimalError::Digits),
                "{text}"
            );
        }
    }

    #[test]
    fn digits_past_the_last_are_rounded_where_that_is_asked_for() {
        for (text, shown) in [
            ("1.5", "1.5"),
            ("0.0012345678901234567", "0.001234567890123457"),
            ("0.0000000000000000005", "0"),
            ("0.0000000000000000015", "0.000000000000000002"),
            ("0.00000000000000000050000001", "0.000000000000000001"),
            ("-0.0000000000000000006", "-0.000000000000000001"),
            ("6e-19", "0.000000000000000001"),
            ("6e-20", "0"),
            ("1e-99999999999999999999", "0"),
            (
                "12345678901234567890.12345678901234567890e-1",
                "1234567890123456789.012345678901234568",
            ),
            ("0.9999999999999999999", "1"),
            (
                "99999999999999999999.9999999999999999994",
                "99999999999999999999.999999999999999999",
            ),
        ] {
            let parsed = Decimal::parse_rounded(text.as_bytes()).unwrap();
            assert_eq!(parsed.to_string(), shown, "{text}");
        }
        for text in [
            "1e20",
            "100000000000000000000.0000000000000000001",
            "99999999999999999999.9999999999999999996",
            "1e999999999999999999",
            // Ten times its first 38 digits is past what 128 bits hold, and would be a small number in what is left of it.
            "350000000000000000000",
            "350000000000000000000.5",
            "-38000000000000000000012e-1",
        ] {
            assert_eq!(
                Decimal::parse_rounded(text.as_bytes()),
                Err(DecimalError::Digits),
                "{text}"
            );
        }
        for text in [
            "",
            "0.1234567890123456789x",
            "0.1234567890123456789e",
            "01.1234567890123456789",
            "1.1234567890123456789e+-1",
            ".1234567890123456789",
            "1.1234567890123456789.0",
            "0.1234567890123456789e1e1",
        ] {
            assert_eq!(
                Decimal::parse_rounded(text.as_bytes()),
                Err(DecimalError::Syntax),
                "{text}"
            );
        }
    }

    #[test]
    fn sums_past_128_bits_are_exact() {
        let mut sum = DecimalSum::ZERO;
        for _ in 0..1000 {
            sum.add(Decimal::MAX);
        }
        assert_eq!(sum.to_decimal(), None);
        assert_eq!(sum.to_string(), "99999999999999999999999.999999999999999");
        for _ in 0..1001 {
            sum.subtract(Decimal::MAX);
        }
        assert_eq!(sum.to_decimal(), Some(Decimal::MIN));
    }

    #[test]
    fn mean_rounds_half_to_even_at_the_last_digit() {
        let mean = |units: i128, count| {
            DecimalSum::from(Decimal::from_units(units).unwrap())
                .mean(count)
                .unwrap()
                .to_decimal()
                .unwrap()
                .units()
        };
        assert_eq!(mean(5, 2), 2);
        assert_eq!(mean(7, 2), 4);
        assert_eq!(mean(-5, 2), -2);
        assert_eq!(mean(-7, 2), -4);
        assert_eq!(mean(10, 3), 3);
        assert_eq!(mean(11, 3), 4);
        assert_eq!(DecimalSum::ZERO.mean(0), None);
    }

    #[test]
    fn the_shortcut_takes_what_is_short() {
        for text in [
            "0",
            "-17",
            "0.5",
            "100002.99",
            "9999999999999999999",
            "0.12345678901234567",
        ] {
            let short = Decimal::parse_short(text.as_bytes());
            assert_eq!(short, Decimal::parse_any(text.as_bytes()).ok(), "{text}");
            assert!(short.is_some(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(units in -(LIMIT.cast_signed() - 1)..LIMIT.cast_signed()) {
            let value = Decimal::from_units(units).unwrap();
            prop_assert_eq!(value.to_string().parse::<Decimal>(), Ok(value));
            prop_assert_eq!(DecimalSum::from(value).to_string(), value.to_string());
        }

        /// Against the digits themselves: a number is its digit string with a point put in.
        #[test]
        fn parse_agrees_with_integer_arithmetic(integer in 0_u64.., fraction in 0_u64..1_000_000_000_000_000_000) {
            let value = Decimal::parse(format!("{integer}.{fraction:018}").as_bytes()).unwrap();
            prop_assert_eq!(value.units(), i128::from(integer) * ONE + i128::from(fraction));
        }

        #[test]
        fn short_numbers_are_read_as_any(text in "-?[0-9]{0,20}(\\.[0-9]{0,20})?|[-+0-9.eE]{0,24}") {
            if let Some(value) = Decimal::parse_short(text.as_bytes()) {
                prop_assert_eq!(Decimal::parse_any(text.as_bytes()), Ok(value));
            }
        }

        /// Against the division that means are rounded by.
        #[test]
        fn rounding_agrees_with_division(units in any::<i64>(), exponent in 1_u32..12) {
            let divisor = 10_u64.pow(exponent);
            let text = format!("{units}e-{}", SCALE + exponent);
            let expected = DecimalSum::from(Decimal(i128::from(units))).mean(divisor).and_then(DecimalSum::to_decimal);
            prop_assert_eq!(Decimal::parse_rounded(text.as_bytes()).ok(), expected);
        }

        #[test]
        fn any_bytes_are_refused_or_round_trip(text in "[-+0-9.eE]{0,24}") {
            if let Ok(value) = Decimal::parse(text.as_bytes()) {
                prop_assert_eq!(value.to_string().parse::<Decimal>(), Ok(value));
                prop_assert!(text.parse::<f64>().is_ok());
            }
        }

        #[test]
        fn order_of_adding_does_not_matter(units in prop::collection::vec(any::<i64>(), 0..40)) {
            let values: Vec<_> = units.iter().map(|u| Decimal::from_units(i128::from(*u) * 7_919_000_000_007).unwrap()).collect();
            let mut forward = DecimalSum::ZERO;
            for value in &values {
                forward.add(*value);
            }
            let mut backward = DecimalSum::ZERO;
            for value in values.iter().rev() {
                backward.add(*value);
            }
            let exact: i128 = values.iter().map(|v| v.units()).sum();
            prop_assert_eq!(forward, backward);
            prop_assert_eq!(forward.to_decimal().unwrap().units(), exact);
        }
    }
}
