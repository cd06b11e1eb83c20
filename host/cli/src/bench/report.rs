//! Shows the figures.
//!
//! Owns the tables: the median of the runs, or of two kinds of runs, and the figures of each run. Never measures.

use crate::format::{bytes, count};
use crate::table::{Column, Table};

/// A figure's name, how to get it from a run, and how to show it.
pub(crate) type Line<T> = (&'static str, fn(&T) -> f64, fn(f64) -> String);

/// The median of all runs, and each run.
pub(crate) fn medians<T>(lines: &[Line<T>], runs: &[[T; 1]]) -> String {
    let names: Vec<String> = (1..=runs.len()).map(|run| format!("run {run}")).collect();
    let columns = names.iter().map(|name| (name.as_str(), Column::Number));
    let mut table = Table::new([("", Column::Word), ("median", Column::Number)].into_iter().chain(columns));
    for (name, value, show) in lines {
        let values: Vec<f64> = runs.iter().map(|[run]| value(run)).collect();
        let shown = values.iter().map(|value| show(*value));
        table.row([(*name).to_owned(), show(median(&values))].into_iter().chain(shown));
    }
    table.render()
}

/// The medians of the two figures of each pair, and their ratio in each run.
pub(crate) fn ratios<T>(names: [&str; 2], lines: &[Line<T>], pairs: &[[T; 2]]) -> String {
    let runs: Vec<String> = (1..=pairs.len()).map(|run| format!("ratio {run}")).collect();
    let columns = names.map(|name| (name, Column::Number));
    let runs = runs.iter().map(|name| (name.as_str(), Column::Number));
    let mut table = Table::new([("", Column::Word)].into_iter().chain(columns).chain(runs));
    for (name, value, show) in lines {
        let (one, other): (Vec<f64>, Vec<f64>) = pairs.iter().map(|[one, other]| (value(one), value(other))).unzip();
        let ratios = one.iter().zip(&other).map(|(one, other)| hundredths(other / one));
        let medians = [(*name).to_owned(), show(median(&one)), show(median(&other))];
        table.row(medians.into_iter().chain(ratios));
    }
    table.render()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn whole(value: f64) -> String {
    count(value as u64)
}

pub(crate) fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

pub(crate) fn hundredths(value: f64) -> String {
    format!("{value:.2}")
}

pub(crate) fn size(value: f64) -> String {
    bytes(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[7.0]) - 7.0).abs() < f64::EPSILON);
    }
}
