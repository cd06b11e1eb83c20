//! Numbers as JSON writes them, compared and added without losing a digit.
//!
//! Owns their exact order. Never compares numbers as floating point: 64 bits cannot tell a long identifier from the
//! next one.

use std::cmp::Ordering;

/// The value of a number: 0.DIGITS × 10^exponent, and its sign. Zero has no digits.
struct Decimal {
    is_negative: bool,
    exponent: i64,
    /// Without zeros at either end.
    digits: Vec<u8>,
}

impl Decimal {
    fn of(number: &str) -> Self {
        let (is_negative, magnitude) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
        let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..zeros);
        digits.truncate(digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1));
        // An exponent of more digits than these belongs to a number that is infinite, or zero.
        let exponent = exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
        let point = whole.len() as i64 - zeros as i64;
        let exponent = if digits.is_empty() { 0 } else { exponent.saturating_add(point) };
        Self { is_negative: is_negative && !digits.is_empty(), exponent, digits }
    }

    fn order_by_size(&self, other: &Self) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (false, false) => self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits)),
            (one, other) => other.cmp(&one),
        }
    }
}

/// Compares two numbers by value: 1, 1.0 and 10e-1 are equal.
pub(crate) fn order(one: &str, other: &str) -> Ordering {
    let (one, other) = (Decimal::of(one), Decimal::of(other));
    match (one.is_negative, other.is_negative) {
        (false, false) => one.order_by_size(&other),
        (true, true) => other.order_by_size(&one),
        (one, other) => other.cmp(&one),
    }
}

/// Adds two numbers: whole ones of up to 38 digits exactly, others as floating point. None if the sum is too large.
pub(crate) fn sum(one: &str, other: &str) -> Option<String> {
    let whole = |number: &str| number.parse::<i128>().ok();
    if let (Some(one), Some(other)) = (whole(one), whole(other)) {
        return one.checked_add(other).map(|sum| sum.to_string());
    }
    let sum = one.parse::<f64>().ok()? + other.parse::<f64>().ok()?;
    serde_json::Number::from_f64(sum).map(|sum| sum.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_stand_in_the_order_of_their_worth() {
        let ascending = [
            "-1e300",
            "-12345678901234567890124",
            "-12345678901234567890123",
            "-1",
            "-0.5",
            "-5e-324",
            "0",
            "1e-400",
            "0.1",
            "0.10000000000000000001",
            "1",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "12345678901234567890123",
            "12345678901234567890124",
            "1e300",
        ];
        for (index, one) in ascending.iter().enumerate() {
            for (other_index, other) in ascending.iter().enumerate() {
                assert_eq!(order(one, other), index.cmp(&other_index), "{one} {other}");
            }
        }
    }

    #[test]
    fn one_worth_has_many_texts() {
        for same in [&["1", "1.0", "10e-1", "0.1E+1", "1e0"][..], &["0", "-0", "0.0", "0e99999999999999999999"]] {
            for one in same {
                for other in same {
                    assert_eq!(order(one, other), Ordering::Equal, "{one} {other}");
                }
            }
        }
    }

    #[test]
    fn whole_numbers_are_added_exactly() {
        assert_eq!(sum("9223372036854775807", "1").as_deref(), Some("9223372036854775808"));
        assert_eq!(sum("12345678901234567890123", "-1").as_deref(), Some("12345678901234567890122"));
        assert_eq!(sum("1", "0.5").as_deref(), Some("1.5"));
        assert_eq!(sum("1e308", "1e308"), None);
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_floating_point_where_that_is_exact(one in -1_000_000i64..1_000_000, other in -1_000_000i64..1_000_000) {
            let (a, b) = (one as f64 / 1024.0, other as f64 / 1024.0);
            prop_assert_eq!(order(&format!("{a}"), &format!("{b:e}")), a.total_cmp(&b));
        }
    }
}
