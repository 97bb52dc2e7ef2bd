//! The sign of one side of a change, with the arithmetic that running sums need.

use std::{
    fmt,
    ops::{AddAssign, Mul, MulAssign, Neg, SubAssign},
};

use rulemill_wire::Decimal;

/// +1 or -1. Numbers can be multiplied by it, and it can be added to counts.
///
/// ```
/// use rulemill_sdk::prelude::*;
///
/// let (mut orders, amount) = (3, Decimal::from(12));
/// orders += Sign::MINUS;
/// assert_eq!(orders, 2);
/// assert_eq!(amount * Sign::MINUS, Decimal::from(-12));
/// assert!(Sign::PLUS == 1 && Sign::MINUS.is_minus());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sign {
    side: Side,
}

/// Ordered so that -1 comes before +1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Side {
    Minus,
    Plus,
}

impl Sign {
    /// +1: the row as it is.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// assert_eq!(Sign::PLUS.get(), 1);
    /// ```
    pub const PLUS: Self = Self { side: Side::Plus };

    /// -1: the row as it was.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// assert_eq!(Sign::MINUS.get(), -1);
    /// ```
    pub const MINUS: Self = Self { side: Side::Minus };

    /// The number: 1 or -1.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// assert_eq!(5 * Sign::MINUS.get(), -5);
    /// ```
    #[inline]
    pub const fn get(self) -> i64 {
        match self.side {
            Side::Minus => -1,
            Side::Plus => 1,
        }
    }

    /// Whether it is -1.
    ///
    /// ```
    /// # use rulemill_sdk::prelude::*;
    /// assert!(!Sign::PLUS.is_minus());
    /// ```
    #[inline]
    pub const fn is_minus(self) -> bool {
        matches!(self.side, Side::Minus)
    }
}

impl fmt::Debug for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+}", self.get())
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+}", self.get())
    }
}

impl From<Sign> for i64 {
    fn from(sign: Sign) -> i64 {
        sign.get()
    }
}

impl From<Sign> for Decimal {
    fn from(sign: Sign) -> Decimal {
        Decimal::from(sign.get())
    }
}

impl PartialEq<i64> for Sign {
    fn eq(&self, other: &i64) -> bool {
        self.get() == *other
    }
}

impl PartialOrd<i64> for Sign {
    fn partial_cmp(&self, other: &i64) -> Option<std::cmp::Ordering> {
        Some(self.get().cmp(other))
    }
}

impl Neg for Sign {
    type Output = Sign;

    fn neg(self) -> Sign {
        if self.is_minus() {
            Self::PLUS
        } else {
            Self::MINUS
        }
    }
}

macro_rules! arithmetic {
    ($($ty:ty, |$sign:ident| $one:expr);*) => {$(
        impl Mul<Sign> for $ty {
            type Output = $ty;

            #[inline]
            fn mul(self, sign: Sign) -> $ty {
                if sign.is_minus() { -self } else { self }
            }
        }

        impl Mul<Sign> for &$ty {
            type Output = $ty;

            #[inline]
            fn mul(self, sign: Sign) -> $ty {
                *self * sign
            }
        }

        impl Mul<$ty> for Sign {
            type Output = $ty;

            #[inline]
            fn mul(self, number: $ty) -> $ty {
                number * self
            }
        }

        impl MulAssign<Sign> for $ty {
            #[inline]
            fn mul_assign(&mut self, sign: Sign) {
                *self = *self * sign;
            }
        }

        impl AddAssign<Sign> for $ty {
            #[inline]
            fn add_assign(&mut self, $sign: Sign) {
                *self += $one;
            }
        }

        impl SubAssign<Sign> for $ty {
            #[inline]
            fn sub_assign(&mut self, $sign: Sign) {
                *self -= $one;
            }
        }
    )*};
}

arithmetic!(
    i64, |sign| sign.get();
    f64, |sign| sign.get() as f64;
    Decimal, |sign| Decimal::from(sign)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_counts_and_multiplies() {
        let (mut count, mut sum, mut float) = (10i64, Decimal::from(10), 10.0);
        count += Sign::PLUS;
        count -= Sign::MINUS;
        sum += Decimal::from(3) * Sign::MINUS;
        sum += Sign::PLUS;
        float += 2.5 * Sign::MINUS;
        assert_eq!((count, sum, float), (12, Decimal::from(8), 7.5));
        assert_eq!(-Sign::PLUS, Sign::MINUS);
        assert!(Sign::MINUS < Sign::PLUS && Sign::MINUS < 0);
        assert_eq!(format!("{} {:?}", Sign::PLUS, Sign::MINUS), "+1 -1");
    }
}
