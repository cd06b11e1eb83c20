//! README.md shows what is true: its jobs pass `check`, its commands print what it says.
//!
//! Owns which blocks are tested: those fenced as `yaml` with a `job:`, and in those fenced as `console`, each `$
//! gristmill …` with the lines below it. Times and rates may differ; every count, every word, and with the compiler that
//! README.md names every hash has to be right.

use std::fs;
use std::path::Path;

use regex::Regex;

use crate::support::{GRISTMILL, components, gristmill, program, repository, start};

/// The contents of the blocks fenced in that language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let (mut blocks, mut open) = (Vec::new(), None);
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(name)) => open = Some((name.to_owned(), String::new())),
            (Some((_, block)), None) => *block = format!("{block}{line}\n"),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block of README.md has no end");
    blocks.into_iter().filter(|(name, _)| name == language).map(|(_, block)| block).collect()
}

fn readme() -> String {
    fs::read_to_string(repository().join("README.md")).unwrap()
}

#[test]
fn its_jobs_are_right() {
    components();
    let repository = repository();
    let jobs: Vec<String> = blocks(&readme(), "yaml").into_iter().filter(|block| block.contains("job:")).collect();
    assert!(!jobs.is_empty(), "README.md shows no job");
    let handler = Regex::new(r"handler: ([\w/.-]+)").unwrap();
    for job in jobs {
        let folder = tempfile::tempdir().unwrap();
        for (_, [path]) in handler.captures_iter(&job).map(|found| found.extract()) {
            let to = folder.path().join(path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(repository.join("handlers").join(path), to).unwrap();
        }
        fs::write(folder.path().join("job.yaml"), &job).unwrap();
        let mut command = program(GRISTMILL, folder.path());
        let crates = repository.join("tests/fixtures/crates");
        let ran = start(command.args(["check", "job.yaml"]).env("GRISTMILL_CRATES", crates)).finish().expect(0);
        assert!(ran.out.starts_with("job.yaml: ok ("), "{}", ran.out);
        same_as_the_file(&repository, &job);
    }
}

/// The file that the commands run is the job that is shown, but for comments.
fn same_as_the_file(repository: &Path, job: &str) {
    let name = Regex::new(r"(?m)^job: ([\w-]+)$").unwrap();
    let (_, [name]) = name.captures(job).unwrap().extract();
    let Ok(file) = fs::read_to_string(repository.join(format!("handlers/{name}.yaml"))) else { return };
    let code = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.is_empty());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(code(job), code(&file), "README.md and handlers/{name}.yaml differ");
}

#[test]
fn its_commands_print_what_it_says() {
    components();
    let repository = repository();
    let data = tempfile::tempdir().unwrap();
    let keeps_hashes = is_that_compiler();
    let mut tried = 0;
    for block in blocks(&readme(), "console") {
        for step in format!("\n{block}").split("\n$ ").skip(1) {
            let (command, shown) = step.split_once('\n').unwrap_or((step, ""));
            let Some(args) = command.strip_prefix("gristmill ") else { continue };
            let mut shell = program("sh", &repository);
            let script = format!("'{GRISTMILL}' {args}");
            let ran = start(shell.args(["-c", &script]).env("GRISTMILL_DATA", data.path())).finish();
            // How far a run is, on the standard error, comes and goes.
            let printed = if ran.out.is_empty() { &ran.err } else { &ran.out };
            let normal = |text| normal(text, keeps_hashes);
            assert_eq!(normal(printed), normal(shown), "$ {command}\nprinted\n{printed}");
            tried += 1;
        }
    }
    assert!(tried > 0, "README.md shows no command with its output");
    gristmill(&repository, &["status", "--data", &data.path().display().to_string()]).expect(0);
}

/// The compiler whose hashes README.md shows.
const COMPILER: &str = "rustc 1.95.0 (59807616e 2026-04-14)";

/// Whether the handlers are built with it.
fn is_that_compiler() -> bool {
    let ran = start(program("rustc", &repository()).arg("-V")).finish().expect(0);
    ran.out.trim() == COMPILER
}

/// The text without what differs from run to run and from machine to machine.
fn normal(text: &str, keeps_hashes: bool) -> String {
    let rules = [
        (r"\d[\d ]*(\.\d+)?/s\b", "RATE"),
        (r"\b\d+(\.\d+)? (µs|ms|s|min|h|d)\b( \d\d (s|min|h)\b)?", "TIME"),
        (r"\b\d{4}-\d\d-\d\dT[\d:.]+Z", "WHEN"),
        (r"\b[0-9a-f]{12}([0-9a-f]{52})?\b", "HASH"),
        (r" +", " "),
    ];
    let rules = rules.iter().filter(|(_, name)| !keeps_hashes || *name != "HASH");
    let normal = rules.fold(text.trim().to_owned(), |text, (pattern, name)| {
        Regex::new(pattern).unwrap().replace_all(&text, *name).into_owned()
    });
    normal.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn counts_and_words_are_compared_and_times_are_not() {
    let line = "done in 6 ms: 3 items done (467/s), 1 stage execution (1 933/s)  972ba37db67a";
    let normal = |text: &str| normal(text, false);
    assert_eq!(normal(line), normal(&line.replace("6 ms", "1.2 s").replace("1 933", "9.5")));
    assert_eq!(normal(line), "done in TIME: 3 items done (RATE), 1 stage execution (RATE) HASH");
    assert_ne!(normal(line), normal(&line.replace("3 items", "4 items")));
}
