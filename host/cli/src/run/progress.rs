//! Shows the progress of a run.
//!
//! Owns the bar on a terminal, and plain lines elsewhere. Reads counters a few times a second. Never makes the host
//! wait.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use gristmill_model::{Clock, State, Timestamp};
use gristmill_tracker::{JobStats, Tracker};
use indicatif::ProgressBar;

use crate::context::Context;
use crate::format::{count, duration, plural, rate};
use crate::out::Out;
use crate::run::account::{Part, counters};

/// How often the counters are read: for the bar, and for lines.
const BAR_PACE: Duration = Duration::from_millis(200);
const LINES_PACE: Duration = Duration::from_secs(1);
/// How often a line is printed, at most.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The rate is measured over this time.
const WINDOW: Duration = Duration::from_secs(10);
const SAMPLES_MAX: usize = 64;
/// Less than this is shown as "a moment".
const LEFT_MIN: Duration = Duration::from_secs(1);
const TEMPLATE: &str = "[{bar:28}] {wide_msg}";

/// The progress of a run.
pub(crate) struct Progress {
    out: Out,
    clock: Arc<dyn Clock>,
    form: Form,
    samples: VecDeque<(Timestamp, Counts)>,
    next_line: Timestamp,
    last_line: Option<Counts>,
}

enum Form {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

/// Counters of all jobs of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    items: u64,
    settled: u64,
    total: u64,
}

impl Counts {
    fn of(stats: &JobStats) -> Self {
        let settled = stats.in_states(&[State::Done, State::Skipped, State::Dead, State::Cancelled]);
        Self { items: stats.total(), settled, total: stats.total() * stats.stages.len() as u64 }
    }

    fn add(self, other: Self) -> Self {
        let (items, settled) = (self.items + other.items, self.settled + other.settled);
        Self { items, settled, total: self.total + other.total }
    }
}

impl Progress {
    /// Starts while components are loaded, when there are no counters yet.
    pub(crate) fn start(context: &Context, quiet: bool) -> Self {
        let bar = if quiet { None } else { context.out.start_bar(TEMPLATE) };
        let form = match (quiet, bar) {
            (true, _) => Form::Nothing,
            (false, Some(bar)) => {
                bar.set_message("loading components");
                bar.tick();
                Form::Bar(bar)
            }
            (false, None) => {
                context.out.note("loading components");
                Form::Lines
            }
        };
        let clock = Arc::clone(&context.clock);
        let next_line = clock.now();
        Self { out: context.out.clone(), clock, form, samples: VecDeque::new(), next_line, last_line: None }
    }

    /// How often to show the progress.
    pub(crate) fn pace(&self) -> Duration {
        if matches!(self.form, Form::Bar(_)) { BAR_PACE } else { LINES_PACE }
    }

    /// Shows the current progress. If the tracker cannot be read, the run itself will fail, so this ignores it.
    pub(crate) async fn show(&mut self, tracker: &dyn Tracker, parts: &[Part]) {
        if matches!(self.form, Form::Nothing) {
            return;
        }
        let Ok(known) = counters(tracker, parts).await else { return };
        let counts = known.iter().flatten().map(|(_, stats)| Counts::of(stats)).fold(Counts::default(), Counts::add);
        let now = self.clock.now();
        self.remember(now, counts);
        let text = sentence(counts, self.recent(now));
        match &self.form {
            Form::Bar(bar) => {
                bar.set_length(counts.total.max(1));
                bar.set_position(counts.settled);
                bar.set_message(text);
            }
            Form::Lines if self.next_line <= now && self.last_line != Some(counts) => {
                self.out.note(text);
                (self.next_line, self.last_line) = (now + LINE_EVERY, Some(counts));
            }
            Form::Lines | Form::Nothing => {}
        }
    }

    fn remember(&mut self, now: Timestamp, counts: Counts) {
        self.samples.push_back((now, counts));
        while self.samples.len() > SAMPLES_MAX || self.samples.front().is_some_and(|(at, _)| now.since(*at) > WINDOW) {
            self.samples.pop_front();
        }
    }

    /// How many stages were settled recently, and in how much time.
    fn recent(&self, now: Timestamp) -> (u64, Duration) {
        let Some((at, first)) = self.samples.front() else { return (0, Duration::ZERO) };
        let settled = self.samples.back().map_or(0, |(_, last)| last.settled.saturating_sub(first.settled));
        (settled, now.since(*at))
    }

    /// Removes it from the terminal.
    pub(crate) fn end(&self) {
        self.out.end_bar();
    }
}

/// `612 items, 1 204 of 2 448 stages done, 400/s, 3.1 s left`.
fn sentence(counts: Counts, (settled, elapsed): (u64, Duration)) -> String {
    let Counts { items, settled: position, total } = counts;
    if items == 0 {
        return "discovering".to_owned();
    }
    let mut text = format!("{}, {} of {} stages done", plural(items, "item"), count(position), count(total));
    if settled > 0 && !elapsed.is_zero() {
        let left = elapsed.mul_f64(total.saturating_sub(position) as f64 / settled as f64);
        // Milliseconds would not help anybody.
        let left = if left < LEFT_MIN { "a moment".to_owned() } else { duration(left) };
        let _ = write!(text, ", {}, {left} left", rate(settled, elapsed));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_sentence() {
        let counts = Counts { items: 612, settled: 1204, total: 2448 };
        assert_eq!(sentence(Counts::default(), (0, Duration::ZERO)), "discovering");
        assert_eq!(sentence(counts, (0, Duration::ZERO)), "612 items, 1 204 of 2 448 stages done");
        let recent = (800, Duration::from_secs(2));
        assert_eq!(sentence(counts, recent), "612 items, 1 204 of 2 448 stages done, 400/s, 3.1 s left");
    }
}
