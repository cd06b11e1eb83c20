//! The values that views are made of.
//!
//! Owns how a time, a table of numbers, and JSON text are written. Never knows a record.

use std::collections::BTreeMap;
use std::fmt;

use gristmill_model::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A time: RFC 3339, UTC, with six decimals, so that texts sort like times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.0.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        // A time beyond the year 9999 is an overflowed sum, and means for ever.
        let time = jiff::Timestamp::from_microsecond(self.0.0).unwrap_or(end);
        write!(f, "{time:.6}")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Numbers by name, as an object: every name of the model, in its order, even if its number is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(pub Vec<(&'static str, u64)>);

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// Amounts by meter, as an object, sorted by name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sums<'a>(pub BTreeMap<&'a str, f64>);

impl<'a> From<&'a [(String, f64)]> for Sums<'a> {
    fn from(charges: &'a [(String, f64)]) -> Self {
        let mut sums = BTreeMap::new();
        for (meter, amount) in charges {
            *sums.entry(meter.as_str()).or_default() += amount;
        }
        Self(sums)
    }
}

/// JSON text, written as its value. Text that turns out not to be JSON is written as a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonText<'a>(pub &'a str);

impl Serialize for JsonText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_str::<&RawValue>(self.0) {
            Ok(value) => value.serialize(serializer),
            Err(_) => self.0.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_whatever_the_number() {
        let text = |micros| Time(Timestamp(micros)).to_string();
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(1_700_000_000_000_001), "2023-11-14T22:13:20.000001Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999Z");
        assert!(text(i64::MAX).starts_with("9999-12-30T"), "{}", text(i64::MAX));
        assert!(text(i64::MIN).starts_with("-009999-01-02T"), "{}", text(i64::MIN));
    }

    #[test]
    fn json_stands_as_it_was_given() {
        let json = |text| serde_json::to_string(&JsonText(text)).expect("JSON");
        let exact = r#"{"b":1.0,"a":123456789012345678901234567890,"a":"é\u00e9"}"#;
        assert_eq!(json(exact), exact);
        assert_eq!(json("torn {"), r#""torn {""#);
    }

    #[test]
    fn a_meter_that_is_charged_twice_is_one_sum() {
        let charges = [("usd".to_owned(), 1.5), ("calls".to_owned(), 1.0), ("usd".to_owned(), 2.0)];
        let json = serde_json::to_string(&Sums::from(&charges[..])).expect("JSON");
        assert_eq!(json, r#"{"calls":1.0,"usd":3.5}"#);
    }
}
