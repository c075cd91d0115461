//! Products, quotients, powers and roundings of decimals.
//!
//! Where an answer has more than 18 digits after the point, it is rounded once, half to even at the 18th. `None` is an
//! answer with more than 20 digits before the point, or no answer at all, as of a division by zero.

use super::{Decimal, LIMIT, ONE, SCALE, Wide};

/// Which way [`Decimal::round_at`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Towards −∞.
    Floor,
    /// Towards +∞.
    Ceiling,
    /// To the nearest, from the middle towards +∞: 2.5 becomes 3, −2.5 becomes −2.
    HalfUp,
}

impl Decimal {
    #[must_use]
    pub fn abs(self) -> Self {
        Self(self.0.abs())
    }

    /// The number, if it has no digits after the point.
    pub fn to_integer(self) -> Option<i128> {
        (self.0 % ONE == 0).then_some(self.0 / ONE)
    }

    pub fn checked_mul(self, other: Self) -> Option<Self> {
        let product = Wide::product(self.0.unsigned_abs(), other.0.unsigned_abs());
        let units = product.divide_half_even(ONE.unsigned_abs());
        Self::from_magnitude(units, self.is_negative() != other.is_negative())
    }

    pub fn checked_div(self, divisor: Self) -> Option<Self> {
        let units = match divisor.to_integer() {
            Some(0) => return None,
            // The usual case, and a much cheaper division.
            Some(integer) => {
                Wide::from(self.0.unsigned_abs()).divide_half_even(integer.unsigned_abs())
            }
            None => Wide::product(self.0.unsigned_abs(), ONE.unsigned_abs())
                .divide_half_even(divisor.0.unsigned_abs()),
        };
        Self::from_magnitude(units, self.is_negative() != divisor.is_negative())
    }

    /// What a division that is cut off at the point leaves. It has the sign of `self` and is exact.
    pub fn checked_rem(self, divisor: Self) -> Option<Self> {
        self.0.checked_rem(divisor.0).map(Self)
    }

    /// A whole power; 0⁰ is 1. A power with at most 38 significant digits is exact before it is rounded. Any other
    /// one may be off by |`exponent`| × 10⁻³⁷ of itself.
    pub fn checked_pow(self, exponent: i128) -> Option<Self> {
        let base = Scientific {
            mantissa: self.0.unsigned_abs(),
            exponent: -SCALE.cast_signed(),
        };
        let mut power = base.power(exponent.unsigned_abs());
        if exponent < 0 {
            power = power.reciprocal()?;
        }
        let negative = self.is_negative() && exponent % 2 != 0;
        Self::from_magnitude(power.units()?, negative)
    }

    /// The multiple of 10 to the power of −`scale` next to this number: a scale of 2 keeps two digits after the
    /// point, a scale of −2 rounds to hundreds.
    pub fn round_at(self, scale: i32, rounding: Rounding) -> Option<Self> {
        let Ok(digits_dropped) = u32::try_from(SCALE.cast_signed().saturating_sub(scale)) else {
            return Some(self);
        };
        let Some(step) = 10_i128.checked_pow(digits_dropped) else {
            // Every decimal is nearer to 0 than to such a step, which is no decimal itself.
            let to_zero = match rounding {
                Rounding::Floor => self >= Self::ZERO,
                Rounding::Ceiling => self <= Self::ZERO,
                Rounding::HalfUp => true,
            };
            return to_zero.then_some(Self::ZERO);
        };
        let remainder = self.0.rem_euclid(step);
        let up = match rounding {
            Rounding::Floor => false,
            Rounding::Ceiling => remainder > 0,
            Rounding::HalfUp => remainder >= step - remainder,
        };
        let steps = self.0.div_euclid(step) + i128::from(up);
        steps.checked_mul(step).and_then(Self::from_units)
    }

    fn from_magnitude(units: Wide, negative: bool) -> Option<Self> {
        let magnitude =
            (units.high == 0 && units.low < LIMIT).then_some(units.low.cast_signed())?;
        Some(Self(if negative { -magnitude } else { magnitude }))
    }
}

/// `mantissa × 10^exponent`. A power is multiplied up from these, since its factors need digits that a decimal would
/// round away, and a range that it does not have.
#[derive(Clone, Copy)]
struct Scientific {
    /// At most [`LIMIT`].
    mantissa: u128,
    exponent: i32,
}

impl Scientific {
    const ONE: Self = Self {
        mantissa: 1,
        exponent: 0,
    };

    /// Keeps the first 38 digits of a mantissa of up to 10⁷⁶.
    fn new(mantissa: Wide, exponent: i32) -> Self {
        // 2¹²⁸ has 39 digits, so this many are too many at least.
        let mut digits_dropped = mantissa.high.checked_ilog10().map_or(0, |log| log + 1);
        while Wide::product(LIMIT, 10_u128.pow(digits_dropped)) < mantissa {
            digits_dropped += 1;
        }
        Self {
            mantissa: mantissa.divide_half_even(10_u128.pow(digits_dropped)).low,
            exponent: exponent + digits_dropped.cast_signed(),
        }
    }

    fn times(self, other: Self) -> Self {
        let mantissa = Wide::product(self.mantissa, other.mantissa);
        Self::new(mantissa, self.exponent + other.exponent)
    }

    /// By squaring.
    fn power(self, exponent: u128) -> Self {
        /// Where a square is far from any decimal, and what it still has to be multiplied with leads farther away.
        const EXPONENT_MAX: u32 = 1000;
        let mut power = Self::ONE;
        let mut square = self;
        let mut left = exponent;
        while left > 0 {
            if square.exponent.unsigned_abs() > EXPONENT_MAX {
                return square;
            }
            if left % 2 == 1 {
                power = power.times(square);
            }
            left /= 2;
            square = square.times(square);
        }
        power
    }

    fn reciprocal(self) -> Option<Self> {
        if self.mantissa == 0 {
            return None;
        }
        // 10⁷⁶ as dividend gives at least 38 digits.
        let quotient = Wide::product(LIMIT, LIMIT).divide_half_even(self.mantissa);
        Some(Self::new(quotient, -76 - self.exponent))
    }

    /// As a count of units of 10⁻¹⁸; `None` far beyond a decimal.
    fn units(self) -> Option<Wide> {
        let shift = self.exponent + SCALE.cast_signed();
        match 10_u128.checked_pow(shift.unsigned_abs()) {
            _ if self.mantissa == 0 => Some(Wide::from(0)),
            Some(factor) if shift >= 0 => Some(Wide::product(self.mantissa, factor)),
            Some(divisor) => Some(Wide::from(self.mantissa).divide_half_even(divisor)),
            None if shift >= 0 => None,
            None => Some(Wide::from(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::{BigInt, BigUint};
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    /// Half to even, on magnitudes as wide as they come.
    fn rounded(numerator: &BigInt, denominator: &BigInt) -> BigInt {
        let (above, below) = (numerator.magnitude(), denominator.magnitude());
        let (quotient, rest) = (above / below, above % below);
        let twice = rest * 2_u32;
        let odd = &quotient % 2_u32 == BigUint::from(1_u32);
        let up = twice > *below || (twice == *below && odd);
        let magnitude = BigInt::from(quotient + u32::from(up));
        if numerator.sign() == denominator.sign() {
            magnitude
        } else {
            -magnitude
        }
    }

    fn as_decimal(units: BigInt) -> Option<Decimal> {
        i128::try_from(units).ok().and_then(Decimal::from_units)
    }

    /// All magnitudes alike, whole numbers and short ones among them.
    fn decimals() -> impl Strategy<Value = Decimal> {
        let any_size = (any::<i128>(), 0_u32..127).prop_map(|(bits, shift)| bits >> shift);
        prop_oneof![
            any_size
                .clone()
                .prop_map(|units| units % LIMIT.cast_signed()),
            (any_size.clone(), 0_u32..19)
                .prop_map(|(digits, zeros)| digits % 10_i128.pow(20) * 10_i128.pow(zeros)),
            (-1000_i128..1000).prop_map(|integer| integer * ONE),
            prop::sample::select(vec![0, 1, -1, ONE, LIMIT.cast_signed() - 1]),
        ]
        .prop_filter_map("38 digits", Decimal::from_units)
    }

    /// To the base of 2⁶⁴.
    fn digits() -> impl Strategy<Value = u64> {
        let near = prop::sample::select(vec![
            0,
            1 << 32,
            1 << 62,
            1 << 63,
            0x4b3b_4ca8_5a86_c47a_u64,
        ]);
        prop_oneof![
            (near, -2_i64..3).prop_map(|(near, off)| near.wrapping_add_signed(off)),
            any::<u64>(),
        ]
    }

    #[test]
    fn products_and_quotients_round_half_to_even_at_the_last_digit() {
        let smallest = decimal("1e-18");
        let half = decimal("0.5");
        for (a, b, product) in [
            (smallest, half, "0"),
            (decimal("3e-18"), half, "2e-18"),
            (decimal("-3e-18"), half, "-2e-18"),
            (decimal("1.1"), decimal("1.1"), "1.21"),
            (
                Decimal::MAX,
                Decimal::ONE,
                "99999999999999999999.999999999999999999",
            ),
        ] {
            assert_eq!(a.checked_mul(b), Some(decimal(product)), "{a} * {b}");
        }
        for (a, b, quotient) in [
            ("1", "3", "0.333333333333333333"),
            ("-2", "3", "-0.666666666666666667"),
            ("3e-18", "2", "2e-18"),
            ("1e-18", "2", "0"),
            ("7.5", "2.5", "3"),
        ] {
            let found = decimal(a).checked_div(decimal(b));
            assert_eq!(found, Some(decimal(quotient)), "{a} / {b}");
        }
        assert_eq!(Decimal::ONE.checked_div(Decimal::ZERO), None);
        assert_eq!(Decimal::ONE.checked_rem(Decimal::ZERO), None);
        assert_eq!(Decimal::MAX.checked_mul(Decimal::MAX), None);
        assert_eq!(Decimal::MAX.checked_div(smallest), None);
        assert_eq!(
            decimal("-7.5").checked_rem(decimal("2")),
            Some(decimal("-1.5"))
        );
    }

    #[test]
    fn powers_keep_what_their_factors_would_round_away() {
        for (base, exponent, power) in [
            ("2", 10, "1024"),
            ("-2", 3, "-8"),
            ("2", -2, "0.25"),
            ("1.05", 10, "1.628894626777441406"),
            ("0.1", -19, "10000000000000000000"),
            ("0.3", -20, "28679719907.924413133222572312"),
            ("10", -30, "0"),
            ("0.1", i128::MAX, "0"),
            ("-1", i128::MIN, "1"),
            ("0", 0, "1"),
            ("0", 7, "0"),
            // (1 + 1/n)ⁿ at n = 10¹⁸, from 80 digits; one unit below e.
            (
                "1.000000000000000001",
                1_000_000_000_000_000_000,
                "2.718281828459045234",
            ),
        ] {
            let found = decimal(base).checked_pow(exponent);
            assert_eq!(found, Some(decimal(power)), "{base} ^ {exponent}");
        }
        for (base, exponent) in [("10", 20), ("0", -1), ("0.1", -20), ("2", i128::MAX)] {
            assert_eq!(
                decimal(base).checked_pow(exponent),
                None,
                "{base} ^ {exponent}"
            );
        }
    }

    #[test]
    fn rounding_at_a_scale() {
        use Rounding::{Ceiling, Floor, HalfUp};
        for (number, scale, rounding, answer) in [
            ("2.5", 0, HalfUp, Some("3")),
            ("-2.5", 0, HalfUp, Some("-2")),
            ("2.4", 0, HalfUp, Some("2")),
            ("-2.1", 0, Floor, Some("-3")),
            ("-2.1", 0, Ceiling, Some("-2")),
            ("2.1", 0, Ceiling, Some("3")),
            ("1.005", 2, HalfUp, Some("1.01")),
            ("1250", -2, HalfUp, Some("1300")),
            ("1249", -2, HalfUp, Some("1200")),
            ("1.5", 18, Floor, Some("1.5")),
            ("1.5", i32::MAX, Floor, Some("1.5")),
            ("1.5", -20, Ceiling, None),
            ("1.5", i32::MIN, HalfUp, Some("0")),
            ("1.5", i32::MIN, Floor, Some("0")),
            ("-1.5", i32::MIN, Floor, None),
            ("99999999999999999999.5", 0, HalfUp, None),
        ] {
            let found = decimal(number).round_at(scale, rounding);
            assert_eq!(
                found,
                answer.map(decimal),
                "{number} at {scale}, {rounding:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn products_agree_with_wide_integers(a in decimals(), b in decimals()) {
            let exact = BigInt::from(a.0) * b.0;
            prop_assert_eq!(a.checked_mul(b), as_decimal(rounded(&exact, &ONE.into())));
        }

        /// Digits next to their ends are where an estimated digit is too large.
        #[test]
        fn long_division_mends_its_digits(digits in prop::collection::vec(digits(), 6)) {
            let wide = |upper: u64, lower: u64| (u128::from(upper) << 64) | u128::from(lower);
            let dividend = Wide { high: wide(digits[0], digits[1]), low: wide(digits[2], digits[3]) };
            let divisor = wide(digits[4], digits[5]) % LIMIT;
            if divisor > u64::MAX.into() {
                let (quotient, remainder) = dividend.divide_by_wide(divisor);
                let exact = |wide: Wide| (BigUint::from(wide.high) << 128) + wide.low;
                prop_assert!(remainder < divisor);
                prop_assert_eq!(exact(quotient) * divisor + remainder, exact(dividend));
            }
        }

        #[test]
        fn quotients_and_remainders_agree_with_wide_integers(a in decimals(), b in decimals()) {
            if b == Decimal::ZERO {
                prop_assert_eq!((a.checked_div(b), a.checked_rem(b)), (None, None));
                return Ok(());
            }
            let dividend = BigInt::from(a.0) * ONE;
            prop_assert_eq!(a.checked_div(b), as_decimal(rounded(&dividend, &b.0.into())));
            let remainder = BigInt::from(a.0) % b.0;
            prop_assert_eq!(a.checked_rem(b), as_decimal(remainder));
        }

        #[test]
        fn powers_agree_with_wide_integers(base in decimals(), exponent in -40_i128..40) {
            if base == Decimal::ZERO && exponent < 0 {
                prop_assert_eq!(base.checked_pow(exponent), None);
                return Ok(());
            }
            let factors = u32::try_from(exponent.unsigned_abs()).unwrap();
            let (above, below) = (BigInt::from(base.0).pow(factors), BigInt::from(ONE).pow(factors));
            let (above, below) = if exponent < 0 { (below, above) } else { (above, below) };
            let exact = rounded(&(above * ONE), &below);
            match base.checked_pow(exponent) {
                // One for the last rounding, and 40 × 10⁻³⁷ of at most 10³⁸ units.
                Some(power) => {
                    let off = exact - power.0;
                    prop_assert!(*off.magnitude() <= BigUint::from(401_u32), "{off}");
                    if power.0.unsigned_abs() < 10_u128.pow(34) {
                        prop_assert!(*off.magnitude() <= BigUint::from(1_u32), "{off}");
                    }
                }
                None => prop_assert!(*exact.magnitude() >= BigUint::from(LIMIT - 401)),
            }
        }

        #[test]
        fn roundings_agree_with_wide_integers(number in decimals(), scale in -25_i32..25) {
            let step = BigInt::from(10).pow(u32::try_from((18 - scale).max(0)).unwrap());
            let cut = BigInt::from(number.0) / &step * &step;
            let below = if cut > BigInt::from(number.0) { cut - &step } else { cut };
            let rest = BigInt::from(number.0) - &below;
            let above = if rest == BigInt::ZERO { below.clone() } else { &below + &step };
            let nearest = if &rest * 2 >= step { above.clone() } else { below.clone() };
            prop_assert_eq!(number.round_at(scale, Rounding::Floor), as_decimal(below));
            prop_assert_eq!(number.round_at(scale, Rounding::Ceiling), as_decimal(above));
            prop_assert_eq!(number.round_at(scale, Rounding::HalfUp), as_decimal(nearest));
        }
    }
}
