//! Each rule by example, and what holds for all of them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn policy(rule: MergeRule) -> MergePolicy {
    MergePolicy { fields: BTreeMap::from([("f".to_owned(), rule)]) }
}

/// What the field `f` becomes.
fn field(rule: MergeRule, existing: &Value, incoming: &Value) -> Value {
    let (existing, incoming) = (json!({ "f": existing }).to_string(), json!({ "f": incoming }).to_string());
    let merged = policy(rule).merge(&existing, &incoming, false).unwrap_or(existing);
    serde_json::from_str::<Value>(&merged).expect("JSON")["f"].take()
}

#[test]
fn names_are_reversible() {
    for rule in MergeRule::ALL {
        assert_eq!(MergeRule::from_name(rule.name()), Some(rule));
    }
    assert_eq!(MergeRule::from_name("longest"), None);
}

#[test]
fn each_rule_does_what_it_says() {
    for (rule, existing, incoming, merged) in [
        (MergeRule::First, json!(1), json!(2), json!(1)),
        (MergeRule::First, json!(null), json!(2), json!(null)),
        (MergeRule::Last, json!(1), json!(2), json!(2)),
        (MergeRule::Last, json!(1), json!(null), json!(1)),
        (MergeRule::Coalesce, json!(null), json!(2), json!(2)),
        (MergeRule::Coalesce, json!(1), json!(2), json!(1)),
        (MergeRule::Max, json!(9), json!(10), json!(10)),
        (MergeRule::Max, json!("9"), json!("10"), json!("9")),
        (MergeRule::Max, json!(10), json!("9"), json!("9")),
        (MergeRule::Max, json!(false), json!(null), json!(false)),
        (MergeRule::Max, json!(2.5), json!(2), json!(2.5)),
        (MergeRule::Max, json!(i64::MAX), json!(i64::MAX - 1), json!(i64::MAX)),
        (MergeRule::Max, json!(i64::MAX), json!(i64::MAX as u64 + 1), json!(i64::MAX as u64 + 1)),
        (MergeRule::Max, json!(-1e300), json!(i64::MIN), json!(i64::MIN)),
        (MergeRule::Max, json!([2]), json!([1, 1]), json!([2])),
        (MergeRule::Max, json!([2]), json!({}), json!({})),
        (MergeRule::Min, json!(9), json!(10), json!(9)),
        (MergeRule::Min, json!(-0.5), json!(0), json!(-0.5)),
        (MergeRule::Min, json!(null), json!(10), json!(10)),
        (MergeRule::Sum, json!(1), json!(2), json!(3)),
        (MergeRule::Sum, json!(1), json!(0.5), json!(1.5)),
        (MergeRule::Sum, json!(i64::MAX), json!(1), json!(9_223_372_036_854_775_808_u64)),
        (MergeRule::Sum, json!(1e308), json!(1e308), json!(1e308)),
        (MergeRule::Sum, json!("a"), json!(2), json!(2)),
        (MergeRule::Sum, json!(1), json!("b"), json!(1)),
        (MergeRule::Sum, json!("a"), json!("b"), json!("a")),
        (MergeRule::Union, json!(["b", "a"]), json!(["c", "a"]), json!(["a", "b", "c"])),
        (MergeRule::Union, json!("b"), json!("a"), json!(["a", "b"])),
        (MergeRule::Union, json!([10, "x", false]), json!([9, null]), json!([null, false, 9, 10, "x"])),
        (MergeRule::AppendUnique, json!(["b", "a"]), json!(["c", "a", "c"]), json!(["b", "a", "c"])),
        (MergeRule::AppendUnique, json!("b"), json!("a"), json!(["b", "a"])),
        (MergeRule::AppendUnique, json!(null), json!(["a"]), json!(["a"])),
    ] {
        assert_eq!(field(rule, &existing, &incoming), merged, "{}: {existing} and {incoming}", rule.name());
    }
}

#[test]
fn a_number_that_was_added_is_not_added_again() {
    let policy = policy(MergeRule::Sum);
    assert_eq!(policy.merge(r#"{"f":3}"#, r#"{"f":2}"#, true), None);
    assert_eq!(policy.merge(r#"{"f":3}"#, r#"{"f":2}"#, false).as_deref(), Some(r#"{"f":5}"#));
}

#[test]
fn zero_false_and_the_empty_text_are_values() {
    for value in [json!(0), json!(false), json!(""), json!([]), json!({})] {
        for rule in MergeRule::ALL.into_iter().filter(|rule| *rule != MergeRule::First) {
            assert_eq!(field(rule, &json!(null), &value), value, "{}: {value} beats nothing", rule.name());
            assert_eq!(field(rule, &value, &json!(null)), value, "{}: nothing does not beat {value}", rule.name());
        }
        assert_eq!(field(MergeRule::Last, &json!(7), &value), value);
        assert_eq!(field(MergeRule::Coalesce, &value, &json!(7)), value);
        assert_eq!(field(MergeRule::First, &value, &json!(7)), value);
    }
    assert_eq!(field(MergeRule::Min, &json!(7), &json!(0)), json!(0));
    assert_eq!(field(MergeRule::Union, &json!("a"), &json!("")), json!(["", "a"]));
}

#[test]
fn a_field_that_is_not_named_is_last_and_an_absent_one_stays() {
    let policy = policy(MergeRule::Max);
    let merged = policy.merge(r#"{"z":1,"b":2}"#, r#"{"b":3,"a":4}"#, false);
    assert_eq!(merged.as_deref(), Some(r#"{"a":4,"b":3,"z":1}"#), "and the keys are sorted");
}

#[test]
fn what_is_no_object_is_replaced() {
    let policy = policy(MergeRule::First);
    assert_eq!(policy.merge("1", r#"{"f":1}"#, false).as_deref(), Some(r#"{"f":1}"#));
    assert_eq!(policy.merge(r#"{"f":1}"#, "[ 2 ]", false).as_deref(), Some("[ 2 ]"));
    assert_eq!(policy.merge("[2]", "[ 2 ]", false), None);
    assert_eq!(policy.merge("not JSON", "2", false).as_deref(), Some("2"));
}

#[test]
fn what_no_rule_changes_is_kept_to_the_byte() {
    let policy = policy(MergeRule::Max);
    let known = r#"{"id": 12345678901234567890123, "odd" : {"b":1.10, "a":"\u00e9"},"f":1}"#;
    let merged = policy.merge(known, r#"{"f": 2,"note":1E5}"#, false);
    let expected = r#"{"f":2,"id":12345678901234567890123,"note":1E5,"odd":{"b":1.10, "a":"\u00e9"}}"#;
    assert_eq!(merged.as_deref(), Some(expected));
    // What only looks different is no change.
    assert_eq!(policy.merge(known, r#"{"f":1,"odd":{"a":"é","b":1.10}}"#, false), None);
}

#[test]
fn long_numbers_are_compared_by_every_digit() {
    let merge = |rule, old, new| policy(rule).merge(old, new, false);
    let (lower, higher) = (r#"{"f":12345678901234567890123}"#, r#"{"f":12345678901234567890124}"#);
    assert_eq!(merge(MergeRule::Max, lower, higher).as_deref(), Some(higher));
    assert_eq!(merge(MergeRule::Max, higher, lower), None);
    let both = r#"{"f":[12345678901234567890123,12345678901234567890124]}"#;
    assert_eq!(merge(MergeRule::Union, higher, lower).as_deref(), Some(both));
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..4).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-4i32..5).prop_map(|n| Value::from(f64::from(n) / 2.0)),
        any::<f64>().prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[abf]", inner), 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Data of an item: `f` is named by the policy.
fn data(value: impl Strategy<Value = Value>) -> impl Strategy<Value = String> {
    prop::option::of(value).prop_map(|value| value.map_or_else(|| json!({}), |value| json!({ "f": value })).to_string())
}

fn rule() -> impl Strategy<Value = MergeRule> {
    prop::sample::select(&MergeRule::ALL[..])
}

/// What becomes of an item that is seen so, as a tracker tells sightings apart.
fn see(rule: MergeRule, sightings: &[String]) -> String {
    let mut seen: Vec<&String> = Vec::new();
    let mut known = sightings[0].clone();
    for sighting in sightings {
        if !seen.is_empty()
            && let Some(merged) = policy(rule).merge(&known, sighting, seen.contains(&sighting))
        {
            known = merged;
        }
        seen.push(sighting);
    }
    known
}

fn permutations(sightings: &[String]) -> Vec<Vec<String>> {
    let Some((first, rest)) = sightings.split_first() else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for shorter in permutations(rest) {
        for place in 0..=shorter.len() {
            let mut longer = shorter.clone();
            longer.insert(place, first.clone());
            all.push(longer);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_twice_is_merging_once(rule in rule(), existing in data(value()), incoming in data(value()), again: bool) {
        let once = policy(rule).merge(&existing, &incoming, again).unwrap_or(existing);
        prop_assert_eq!(policy(rule).merge(&once, &incoming, true), None, "{} {}", rule.name(), once);
    }

    #[test]
    fn the_order_of_sightings_does_not_matter_for_max_min_and_union(
        rule in prop::sample::select(&[MergeRule::Max, MergeRule::Min, MergeRule::Union][..]),
        sightings in prop::collection::vec(data(value()), 1..5),
    ) {
        let merged = see(rule, &sightings);
        for other in permutations(&sightings) {
            prop_assert_eq!(see(rule, &other), &merged[..], "{} {:?}", rule.name(), other);
        }
    }

    #[test]
    fn the_order_of_sightings_does_not_matter_for_sums_of_whole_numbers(
        sightings in prop::collection::vec(data(prop_oneof![(-5i64..5), (-1i64 << 60..1 << 60)].prop_map(Value::from)), 1..5),
    ) {
        let merged = see(MergeRule::Sum, &sightings);
        for other in permutations(&sightings) {
            prop_assert_eq!(see(MergeRule::Sum, &other), &merged[..], "{:?}", other);
        }
    }

    #[test]
    fn formatting_alone_changes_nothing(rule in rule(), value in value()) {
        let value = json!({ "f": value, "a": 1 });
        let pretty = serde_json::to_string_pretty(&value).expect("JSON");
        // A sum tells sightings apart by their text: whoever hashes it says that it is the same.
        let again = rule == MergeRule::Sum;
        prop_assert_eq!(policy(rule).merge(&value.to_string(), &pretty, again), None);
    }

    #[test]
    fn the_order_of_values_is_total(one in value(), two in value(), three in value()) {
        let [one, two, three] = [one, two, three].map(|value| value.to_string());
        prop_assert_eq!(order(&one, &two), order(&two, &one).reverse());
        prop_assert!(order(&one, &one).is_eq());
        if order(&one, &two).is_le() && order(&two, &three).is_le() {
            prop_assert!(order(&one, &three).is_le(), "{one} {two} {three}");
        }
    }
}
