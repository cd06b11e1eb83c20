//! Every key of the job file.
//!
//! Owns their names, documentation, shapes and ranges, and which are not supported yet. Never has a default: those come
//! from the model. A new key is added here and read in `resolve`, nowhere else.

use std::time::Duration;

use gristmill_model::{Backoff, DiscoverTuning, Expiring, Limits, MergeRule, OnUpdate, Rediscovery, RetryPolicy};
use serde_json::{Value as Json, json};

use crate::formats::{CRON, GUEST_PATH, HANDLER, HOST, NAME, ORIGIN, PARAM, PATH, POINTER, RATE, SECRET, TEXT};
use crate::shape::{Key, Shape, key};
use crate::units::{show_duration, show_size};

const MIB: u64 = 1 << 20;
const LONGEST: Duration = Duration::from_hours(3650 * 24);
const SHORTEST: Duration = Duration::from_millis(1);
const TIME: Shape = Shape::Duration { min: SHORTEST, max: LONGEST };
const COUNT: Shape = Shape::Whole { min: 1, max: 1_000_000 };
const OBJECT: Shape = Shape::Names { key: &TEXT, value: &Shape::Any, one: false };

/// The prefix of top-level keys for the author's own use, such as a place for anchors.
pub(crate) const EXTENSION: &str = "x-";

/// A job file.
pub(crate) static JOB: Shape = Shape::Table(&[
    key("version", Shape::Whole { min: 1, max: 1 }, "The version of this format: 1.").required(),
    key("job", Shape::Text(&NAME), "The job's name, unique in a tracker.").required(),
    key(
        "params",
        Shape::Names { key: &PARAM, value: &Shape::Any, one: false },
        "What handlers may ask for, by name: any JSON. `--param name=value` replaces one of them.",
    )
    // The parameters are expanded separately, before everything else.
    .verbatim()
    .default(|| json!({})),
    key("discover", Shape::Table(&DISCOVER), "How items are found. Without it they are only added by hand."),
    key(
        "resources",
        Shape::Names { key: &NAME, value: &Shape::Table(&RESOURCE), one: false },
        "What stages share: a service that allows so many requests a second, so many at once.",
    )
    .later(),
    key("stages", Shape::List(&STAGE), "What every item goes through: at least one stage, at most 63.").required(),
    key(
        "budget",
        Shape::Names { key: &NAME, value: &Shape::Table(&BUDGET), one: false },
        "How much may be spent, by meter.",
    )
    .later(),
    key("retention", Shape::Table(&RETENTION), "How long data is kept. Without a time it is kept for ever."),
    key("alerts", Shape::List(&Shape::Table(&ALERT)), "Whom to tell about what.").later(),
    key("display", Shape::Any, "Hints for those who show the job. The host hands them on and never reads them.")
        .verbatim(),
]);

static DISCOVER: [Key; 12] = [
    key("handler", Shape::Text(&HANDLER), "The component that finds items: a path beside this file.").required(),
    key("grants", Shape::Table(&GRANTS), "What the handler may touch. Nothing, unless it says so here."),
    key(
        "every",
        Shape::Duration { min: Duration::from_secs(1), max: LONGEST },
        "How long after its end discovery starts again, while the host stays. Without it: once a run.",
    ),
    key("cron", Shape::Text(&CRON), "When discovery starts: minute, hour, day of month, month, day of week.").later(),
    key("timezone", Shape::Text(&TEXT), "The time zone of `cron`, such as `Europe/Brussels`.").later(),
    key(
        "merge",
        Shape::Either(&[
            Shape::Choice(&["handler"]),
            Shape::Names { key: &TEXT, value: &Shape::Choice(&MERGE_RULES), one: false },
        ]),
        "How the data of an item that is found again joins what is known: a rule for each field (`last` for one that \
         is not named), or `handler` to ask the component. Without it: new data takes the place of the old.",
    ),
    key(
        "sightings",
        Shape::Whole { min: 0, max: 1000 },
        "With how many different data an item may be remembered to have been seen: where, when and on which page.",
    )
    .default(|| json!(Rediscovery::default().sightings_max)),
    key(
        "on_update",
        Shape::Choice(&ON_UPDATE),
        "What new data of an item means for its results: they are stale and stay, or its stages run again.",
    )
    .default(|| json!(ON_UPDATE[OnUpdate::default() as usize])),
    key("page", Shape::Whole { min: 1, max: 100_000 }, "How many items a page may hold.")
        .default(|| json!(DiscoverTuning::default().page)),
    key(
        "backlog",
        Shape::Whole { min: 1, max: 1_000_000_000 },
        "No page is asked for while more work than this is ready.",
    )
    .default(|| json!(DiscoverTuning::default().backlog)),
    key("limits", Shape::Table(&DISCOVER_LIMITS), "What one page may use."),
    key("retry", Shape::Table(&RETRY), "When a page is tried again."),
];

static STAGE: Shape = Shape::Either(&[Shape::Text(&NAME), Shape::Table(&STAGE_KEYS)]);

static STAGE_KEYS: [Key; 12] = [
    key("name", Shape::Text(&NAME), "The stage's name, unique in its job.").required(),
    key(
        "handler",
        Shape::Text(&HANDLER),
        "The component that runs it: a path beside this file. Without it: discovery's.",
    ),
    key(
        "needs",
        Shape::List(&NEED),
        "The stages whose outputs it is given. Without it: the stage before. `{ name: output }`: it is skipped where \
         that one is skipped.",
    ),
    key(
        "when",
        Shape::Names { key: &POINTER, value: &SCALARS, one: false },
        "For which items it runs: places in an item's data (JSON pointers), each with what may stand there. It is \
         skipped for an item where one of them holds something else. `null` is also what is absent.",
    )
    .default(|| json!({})),
    key("grants", Shape::Table(&GRANTS), "What the handler may touch. Nothing, unless it says so here."),
    key(
        "uses",
        Shape::Names { key: &NAME, value: &COUNT, one: false },
        "Which resources it takes, and how much of each.",
    )
    .later(),
    key("limits", Shape::Table(&STAGE_LIMITS), "What one attempt may use."),
    key("retry", Shape::Table(&RETRY), "When it is tried again."),
    key("output", Shape::Either(&[Shape::Bool, OBJECT]), "A JSON Schema. A result that breaks it is a failure.")
        .verbatim()
        .later(),
    key("inputs", Shape::List(&Shape::Text(&PATH)), "Files whose contents are part of the stage's version.")
        .default(|| json!([])),
    key("version", Shape::Text(&TEXT), "A version that you declare, in place of the component's hash."),
    key("max_age", TIME, "How old a result may become before it is stale.").later(),
];

static SCALARS: Shape = Shape::Either(&[Shape::Scalar, Shape::List(&Shape::Scalar)]);

static NEED: Shape = Shape::Either(&[
    Shape::Text(&NAME),
    Shape::Names { key: &NAME, value: &Shape::Choice(&["done", "output"]), one: true },
]);

static GRANTS: [Key; 5] = [
    key("http", Shape::List(&Shape::Text(&ORIGIN)), "The origins that it may call.").later(),
    key("secrets", Shape::List(&Shape::Text(&SECRET)), "The secrets that it may reveal.").later(),
    key("clock", Shape::Bool, "The real time, in place of a clock that stands still.").default(|| json!(false)),
    key("random", Shape::Bool, "Real randomness, in place of a sequence that is the same each time.")
        .default(|| json!(false)),
    key(
        "files",
        Shape::Names { key: &GUEST_PATH, value: &Shape::Text(&PATH), one: false },
        "Folders that it may read: where the handler sees each, and where it is. `~/` is the home folder.",
    )
    .default(|| json!({})),
];

static DISCOVER_LIMITS: [Key; 3] = limits(
    || json!(show_duration(DiscoverTuning::default().limits.timeout)),
    || json!(show_size(DiscoverTuning::default().limits.memory_bytes_max)),
    || json!(show_size(DiscoverTuning::default().limits.output_bytes_max)),
);

static STAGE_LIMITS: [Key; 3] = limits(
    || json!(show_duration(Limits::default().timeout)),
    || json!(show_size(Limits::default().memory_bytes_max)),
    || json!(show_size(Limits::default().output_bytes_max)),
);

const fn limits(timeout: fn() -> Json, memory: fn() -> Json, output: fn() -> Json) -> [Key; 3] {
    let day = Duration::from_hours(24);
    [
        key("timeout", Shape::Duration { min: SHORTEST, max: day }, "Wall time.").default(timeout),
        key("memory", Shape::Size { min: MIB, max: 4096 * MIB }, "Linear memory.").default(memory),
        key("output", Shape::Size { min: 1, max: 256 * MIB }, "The output's JSON text.").default(output),
    ]
}

static RETRY: [Key; 5] = [
    key("max_attempts", COUNT, "Failed attempts before the stage is dead.")
        .default(|| json!(RetryPolicy::default().max_attempts)),
    key("max_lost", COUNT, "Attempts that may vanish with their host before the stage is dead as poison.")
        .default(|| json!(RetryPolicy::default().max_lost)),
    key("max_deferrals", COUNT, "How often a handler may say `later` before the stage is dead.")
        .default(|| json!(RetryPolicy::default().max_deferrals)),
    key(
        "max_deferral_age",
        TIME,
        "How long after it first became ready a handler may go on saying `later` before the stage is dead.",
    )
    .default(|| json!(show_duration(RetryPolicy::default().max_deferral_age))),
    key("backoff", Shape::Table(&BACKOFF), "The delay between attempts: exponential, with a maximum and jitter."),
];

/// In the order of their variants.
pub(crate) const ON_UPDATE: [&str; 2] = ["stale", "reprocess"];

const MERGE_RULES: [&str; MergeRule::ALL.len()] = {
    let mut names = [""; MergeRule::ALL.len()];
    let mut place = 0;
    while place < names.len() {
        names[place] = MergeRule::ALL[place].name();
        place += 1;
    }
    names
};

/// In the order of their variants.
pub(crate) const JITTERS: [&str; 3] = ["full", "equal", "none"];

static BACKOFF: [Key; 4] = [
    key("base", TIME, "The delay after the first failure.").default(|| json!(show_duration(Backoff::default().base))),
    key("factor", Shape::Real { min: 1.0, max: 1000.0 }, "What each further failure multiplies it by.")
        .default(|| json!(Backoff::default().factor)),
    key("max", TIME, "No delay is longer.").default(|| json!(show_duration(Backoff::default().max))),
    key("jitter", Shape::Choice(&JITTERS), "How far a delay is spread: from zero, from its half, not at all.")
        .default(|| json!(JITTERS[Backoff::default().jitter as usize])),
];

static RESOURCE: [Key; 6] = [
    key("concurrency", COUNT, "How many attempts may use it at once."),
    key("rate", Shape::Text(&RATE), "How many attempts may begin in a time."),
    key("burst", COUNT, "How many of them may begin at once, after a pause."),
    key("hosts", Shape::List(&Shape::Text(&HOST)), "The hosts that it stands for: requests to them are counted."),
    key("breaker", Shape::Table(&BREAKER), "When to leave it alone for a while."),
    key("key", Shape::Text(&TEXT), "A field of the item: each of its values has a limit of its own."),
];

static BREAKER: [Key; 3] = [
    key("failures", COUNT, "So many failures open it.").required(),
    key("within", TIME, "Within this time.").required(),
    key("cool_down", TIME, "How long it stays open.").required(),
];

static BUDGET: [Key; 2] = [
    key("per_day", Shape::Real { min: 0.0, max: 1e12 }, "The most that may be charged in a day.").required(),
    key("on_exceed", Shape::Choice(&["pause"]), "What happens then."),
];

static RETENTION: [Key; 6] = [
    key(Expiring::Attempts.name(), TIME, "How long attempts are kept. What they were charged in all is kept longer."),
    key(Expiring::Costs.name(), TIME, "How long single charges are kept. What they add up to is kept longer."),
    key(Expiring::Events.name(), TIME, "How long events are kept."),
    key(
        Expiring::Items.name(),
        TIME,
        "How long items are kept that are done or cancelled, with their results. Found again later, they are new.",
    ),
    key(Expiring::Results.name(), TIME, "How long results of stages are kept that are no longer in this file."),
    key(
        "archive",
        Shape::Text(&PATH),
        "The folder where data goes before it is deleted: JSON Lines, compressed with zstd. Without it: nowhere.",
    ),
];

static ALERT: [Key; 2] = [
    key("webhook", Shape::Text(&TEXT), "Where to post it.").required(),
    key("on", Shape::List(&Shape::Choice(&["paused", "dead", "budget", "breaker"])), "What to tell.").required(),
];
