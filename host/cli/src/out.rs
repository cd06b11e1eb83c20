//! Everything that the binary prints.
//!
//! Owns both streams: data and tables go to the standard output, everything else to the standard error, above the
//! progress bar if there is one. Decides about colour. Never decides what to print.

use std::fmt::{self, Display};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::failure::Failure;

/// How often the bar is drawn per second, at most.
const BAR_HZ: u8 = 10;
/// The environment variable with the log filter.
const LOG_VARIABLE: &str = "GRISTMILL_LOG";

/// The two streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Out {
    /// Whether data is printed as JSON.
    pub(crate) json: bool,
    colour: bool,
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

/// How important a line is.
#[derive(Clone, Copy)]
enum Loudness {
    Error,
    Warning,
    Hint,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !is_dumb();
        Self { json, colour: wanted && io::stderr().is_terminal(), bar: Arc::default() }
    }

    /// Prints a text on the standard output, and ends its last line.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), Failure> {
        self.lines([text])
    }

    /// Prints texts, one on each line.
    pub(crate) fn lines(&self, texts: impl IntoIterator<Item = impl Display>) -> Result<(), Failure> {
        self.write(|to| texts.into_iter().try_for_each(|text| writeln!(to, "{text}")))
    }

    /// Prints records, one on each line: JSON Lines.
    pub(crate) fn records(&self, records: impl IntoIterator<Item = impl Serialize>) -> Result<(), Failure> {
        self.write(|to| {
            records.into_iter().try_for_each(|record| {
                serde_json::to_writer(&mut *to, &record)?;
                writeln!(to)
            })
        })
    }

    /// Prints one JSON value that a person may want to read.
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        self.write(|to| {
            serde_json::to_writer_pretty(&mut *to, document)?;
            writeln!(to)
        })
    }

    fn write(&self, print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        let print_all = || {
            let mut to = BufWriter::new(io::stdout().lock());
            print(&mut to)?;
            to.flush()
        };
        match self.bar().clone() {
            Some(bar) => bar.suspend(print_all),
            None => print_all(),
        }
        .map_err(|error| Failure::of_output(&error))
    }

    /// Prints a note on the standard error.
    pub(crate) fn note(&self, text: impl Display) {
        self.say(format!("{text}\n").as_bytes());
    }

    /// Prints a warning of something that does not stop the command.
    pub(crate) fn warning(&self, text: impl Display) {
        self.note(format_args!("{} {text}", self.label(Loudness::Warning)));
    }

    /// Prints why a command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        let Failure::Told { message, hint, .. } = failure else { return };
        self.note(format_args!("{} {message}", self.label(Loudness::Error)));
        if let Some(hint) = hint {
            self.hint(hint);
        }
    }

    /// Prints a hint.
    pub(crate) fn hint(&self, text: impl Display) {
        self.note(format_args!("{} {text}", self.label(Loudness::Hint)));
    }

    fn label(&self, loudness: Loudness) -> String {
        let (name, colour) = match loudness {
            Loudness::Error => ("error:", 31),
            Loudness::Warning => ("warning:", 33),
            Loudness::Hint => ("hint:", 36),
        };
        if self.colour { format!("\u{1b}[1;{colour}m{name}\u{1b}[0m") } else { name.to_owned() }
    }

    fn say(&self, text: &[u8]) {
        // If the standard error is gone, nobody can be told.
        let say = || io::stderr().lock().write_all(text).unwrap_or_default();
        match self.bar().clone() {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    fn bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the bar; none if there is no terminal.
    pub(crate) fn start_bar(&self, template: &str) -> Option<ProgressBar> {
        if !io::stderr().is_terminal() || is_dumb() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(BAR_HZ));
        // If the template cannot be parsed, the library's own is used.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        *self.bar() = Some(bar.clone());
        Some(bar)
    }

    /// Removes the bar from the terminal.
    pub(crate) fn end_bar(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }

    /// Sends the log to the standard error. `verbosity` is how often `-v` was given.
    pub(crate) fn start_log(&self, verbosity: u8) {
        let by_flag = match verbosity {
            0 => "warn",
            1 => "warn,gristmill=info,gristmill_scheduler=info,gristmill_sandbox=info,gristmill_tracker=info",
            _ => "info,gristmill=debug,gristmill_scheduler=debug,gristmill_sandbox=debug,gristmill_tracker=debug",
        };
        let by_environment = std::env::var(LOG_VARIABLE).ok().filter(|_| verbosity == 0);
        let filter = by_environment.as_ref().map_or_else(
            || EnvFilter::new(by_flag),
            |text| {
                EnvFilter::try_new(text).unwrap_or_else(|error| {
                    self.warning(format_args!("{LOG_VARIABLE} is ignored: {error}"));
                    EnvFilter::new(by_flag)
                })
            },
        );
        let out = self.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).event_format(Lines(self.clone()));
        // Installed once, at the start, so no other subscriber is installed yet.
        let _ = log.with_env_filter(filter).with_writer(move || AboveBar(out.clone())).try_init();
    }
}

/// Formats logged events like all other notes.
struct Lines(Out);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        match level {
            Level::ERROR => write!(to, "{} ", self.0.label(Loudness::Error))?,
            Level::WARN => write!(to, "{} ", self.0.label(Loudness::Warning))?,
            _ => write!(to, "{}: ", level.as_str().to_lowercase())?,
        }
        context.format_fields(to.by_ref(), event)?;
        writeln!(to)
    }
}

/// Writes to the standard error, above the bar.
struct AboveBar(Out);

impl Write for AboveBar {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.say(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the terminal cannot move its cursor.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}
