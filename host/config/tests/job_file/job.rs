//! What a job file means: defaults, paths, needs, parameters, and that no key with an effect is ignored.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{fixtures, parse_at_home, parse_bare, parse_with};
use gristmill_config::{Draft, FILE_BYTES_MAX, Overrides};
use gristmill_model::{
    Backoff, Expiring, FileGrant, Jitter, Job, JobTuning, Limits, Merge, MergePolicy, MergeRule, Need, OnUpdate,
    Rediscovery, Retention, RetryPolicy, StageTuning,
};
use serde_json::{Value as Json, json};

fn valid(name: &str) -> String {
    let fixtures = fixtures("valid");
    fixtures.into_iter().find(|(path, _)| path.ends_with(format!("{name}.yaml"))).unwrap().1
}

#[test]
fn every_key_is_resolved() {
    let job = parse_at_home(&valid("everything")).unwrap();
    assert_eq!(job.spec.params["tries"], "7");
    assert_eq!(job.spec.params["model"], "\"small\"");
    let discover = job.spec.discover.unwrap();
    assert_eq!(discover.handler, Path::new("/jobs/found.wasm"));
    assert!(discover.grants.clock && discover.grants.random);
    assert_eq!(job.tuning.discover.every, Some(Duration::from_mins(15)));
    assert_eq!(job.tuning.discover.page, 50);
    assert_eq!(job.tuning.discover.retry.max_attempts, 7);

    let extract = &job.spec.stages[1];
    assert_eq!(extract.needs, []);
    let grant = |guest: &str, host: &str| FileGrant { guest: guest.to_owned(), host: PathBuf::from(host) };
    assert_eq!(extract.grants.files, [grant("/prompts", "/jobs/prompts"), grant("/models", "/home/ann/models")]);
    assert_eq!(extract.inputs, [Path::new("/jobs/prompts/extract.txt")]);
    assert_eq!(extract.version.as_deref(), Some("2"));
    assert_eq!(job.spec.stages[2].handler, Path::new("/jobs/found.wasm"));
    assert_eq!(job.spec.stages[2].needs, [Need { stage: 0, output: false }, Need { stage: 1, output: true }]);

    let limits = Limits { timeout: Duration::from_secs(90), memory_bytes_max: 1 << 30, output_bytes_max: 500_000 };
    let backoff =
        Backoff { base: Duration::from_millis(250), factor: 3.0, max: Duration::from_hours(1), jitter: Jitter::None };
    let retry = RetryPolicy {
        max_attempts: 6,
        max_lost: 1,
        max_deferrals: 8,
        max_deferral_age: Duration::from_hours(12),
        backoff,
    };
    assert_eq!(job.tuning.stages[1], StageTuning { limits, retry });
    assert_eq!(job.display.as_deref(), Some(r#"{"columns":["title"]}"#));
}

#[test]
fn what_is_found_again_is_merged_as_the_file_says() {
    let job = parse_at_home(&valid("everything")).unwrap();
    let rules = [("title", MergeRule::First), ("topics", MergeRule::Union), ("score", MergeRule::Max)];
    let fields = rules.into_iter().map(|(name, rule)| (name.to_owned(), rule)).collect();
    let merge = Merge::Fields(MergePolicy { fields });
    let rediscovery = Rediscovery { merge, sightings_max: 3, on_update: OnUpdate::Reprocess };
    assert_eq!(job.tuning.discover.rediscovery, rediscovery);
    let job = parse_at_home(&valid("again")).unwrap();
    let rediscovery = Rediscovery { merge: Merge::Handler, sightings_max: 0, on_update: OnUpdate::Stale };
    assert_eq!(job.tuning.discover.rediscovery, rediscovery);
}

#[test]
fn every_rule_of_merging_can_be_asked_for() {
    for rule in MergeRule::ALL {
        let discover = json!({ "handler": "a.wasm", "merge": { "x": rule.name() } });
        let job = json!({ "version": 1, "job": "a", "discover": discover, "stages": ["s"] });
        let Merge::Fields(policy) = parse_bare(&job.to_string()).unwrap().tuning.discover.rediscovery.merge else {
            panic!("{rule:?}");
        };
        assert_eq!(policy.fields["x"], rule);
    }
}

#[test]
fn data_is_kept_as_long_as_the_file_says() {
    let days = |days: u64| Duration::from_hours(24 * days);
    let Retention { keep, archive } = parse_at_home(&valid("everything")).unwrap().tuning.retention;
    let times = [30, 60, 90, 365, 7].map(days);
    assert_eq!(keep, Expiring::ALL.into_iter().zip(times).collect());
    assert_eq!(archive.as_deref(), Some(Path::new("/jobs/old")));
    let Retention { keep, archive } = parse_at_home(&valid("again")).unwrap().tuning.retention;
    assert_eq!(keep, [(Expiring::Items, days(30))].into());
    assert_eq!(archive.as_deref(), Some(Path::new("/home/ann/old")));
}

#[test]
fn a_stage_runs_when_the_file_says_so() {
    let job = parse_at_home(&valid("everything")).unwrap();
    assert!(job.spec.stages[0].when.is_always());
    let when = &job.spec.stages[1].when;
    assert_eq!(when.refuses(r#"{ "kind": "pdf", "meta": { "lang": "fr" } }"#), None);
    assert_eq!(when.refuses(r#"{ "kind": "html" }"#).unwrap(), r#"`/kind` is "html", not "pdf""#);
    // References become what they read as: text, a number.
    let job = parse_at_home(&valid("again")).unwrap();
    let values: Vec<Vec<String>> = job.spec.stages[1].when.conditions.iter().map(|one| one.values.clone()).collect();
    assert_eq!(values, [vec!["\"pdf\""], vec!["2024", "1999", "null"], vec!["true"], vec!["null"]]);
}

#[test]
fn what_is_left_out_is_the_models_default() {
    let job = parse_bare(&valid("minimal")).unwrap();
    let tuning = JobTuning {
        discover: gristmill_model::DiscoverTuning::default(),
        stages: vec![StageTuning::default()],
        retention: Retention::default(),
    };
    assert_eq!(job.tuning, tuning);
    assert_eq!(job.spec.discover, None);
}

#[test]
fn a_stage_needs_the_one_before_unless_it_says_otherwise() {
    let job = parse_bare(&valid("chain")).unwrap();
    let needs: Vec<Vec<usize>> =
        job.spec.stages.iter().map(|stage| stage.needs.iter().map(|need| need.stage).collect()).collect();
    assert_eq!(needs, [vec![], vec![0], vec![1]]);
    assert_eq!(parse_at_home(&valid("diamond")).unwrap().spec.cycle(), None);
}

#[test]
fn verbatim_keys_keep_their_dollars() {
    let job = parse_at_home(&valid("diamond")).unwrap();
    assert!(job.display.unwrap().contains("${left} as it is"));
    let job = parse_bare(&valid("references")).unwrap();
    assert_eq!(job.spec.params["literal"], "\"${param:model}\"");
    assert_eq!(job.spec.name, "references-small");
    assert_eq!(job.tuning.discover.page, 20);
    assert_eq!(job.tuning.stages[1].limits.timeout, Duration::from_secs(10));
    assert_eq!(job.tuning.stages[1].limits.memory_bytes_max, 32 << 20);
}

#[test]
fn overrides_replace_declared_parameters() {
    let text = "version: 1\njob: a\nparams: { dir: '${env:UNSET}', n: 1 }\n\
                stages: [{ name: s, handler: '${param:dir}.wasm' }]";
    let job = parse_with(text, &[("dir", "x"), ("n", "[2]")], &|_| None).unwrap();
    assert_eq!(job.spec.stages[0].handler, Path::new("/jobs/x.wasm"));
    assert_eq!(job.spec.params["dir"], "\"x\"");
    assert_eq!(job.spec.params["n"], "[2]");
    assert_eq!(job.yaml, text);
    // The last one wins, and a text is not read for references.
    let job = parse_with(text, &[("dir", "y"), ("dir", "${env:X}")], &|_| None).unwrap();
    assert_eq!(job.spec.params["dir"], "\"${env:X}\"");

    let report = parse_with(text, &[("dir", "x"), ("nn", "2")], &|_| None).unwrap_err();
    assert_eq!(
        report.to_string(),
        "job.yaml: this job declares no parameter `nn`\n   hint: did you mean `n`? declared: dir, n"
    );
}

/// Takes every key out of a job, one at a time: what remains is refused, or it is another job.
#[test]
fn no_key_is_ignored() {
    fn keys(value: &Json, path: &str, found: &mut Vec<String>) {
        let children: Vec<(String, &Json)> = match value {
            Json::Object(map) => map.iter().map(|(name, value)| (name.replace('/', "~1"), value)).collect(),
            Json::Array(list) => list.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
            _ => return,
        };
        for (name, value) in children {
            let path = format!("{path}/{name}");
            keys(value, &path, found);
            found.push(path);
        }
    }
    let remove = |root: &mut Json, path: &str| {
        let (parent, name) = path.rsplit_once('/').unwrap();
        match root.pointer_mut(parent).unwrap() {
            Json::Object(map) => drop(map.remove(&name.replace("~1", "/")).unwrap()),
            Json::Array(list) => drop(list.remove(name.parse().unwrap())),
            _ => unreachable!("only these have children"),
        }
    };
    let root: Json = serde_yaml::from_str(&valid("everything")).unwrap();
    let resolved = |root: &Json| parse_at_home(&root.to_string()).map(|job| Job { yaml: String::new(), ..job });
    let whole = resolved(&root).unwrap();
    let mut paths = Vec::new();
    keys(&root, "", &mut paths);
    assert!(paths.len() > 60, "{paths:?}");
    for path in paths {
        let mut less = root.clone();
        remove(&mut less, &path);
        assert_ne!(resolved(&less).ok().as_ref(), Some(&whole), "{path} has no effect");
    }
}

#[test]
fn what_cannot_be_read_is_one_problem() {
    let env = |_: &str| None;
    let overrides = Overrides { params: Vec::new(), env: &env };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let report = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        Draft::read(&path, &overrides).unwrap_err().problems[0].message.clone()
    };
    let large = vec![b'#'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
    assert_eq!(report("large.yaml", &large), "the job file is larger than a job file may be (1048576 bytes)");
    assert_eq!(report("binary.yaml", b"job: \xff"), "the byte 0xFF is not UTF-8 text");
    assert_eq!(
        Draft::read(&folder.join("none.yaml"), &overrides).unwrap_err().problems[0].message,
        "there is no such file"
    );
    assert!(
        Draft::read(folder, &overrides).unwrap_err().problems[0].message.starts_with("the job file cannot be read: ")
    );
}

#[test]
fn a_job_is_read_from_its_file_and_paths_count_from_there() {
    let env = |_: &str| None;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("minimal.yaml");
    std::fs::write(&path, valid("minimal")).unwrap();
    let job = Draft::read(&path, &Overrides { params: Vec::new(), env: &env }).unwrap().finish().unwrap();
    assert_eq!(job.spec.stages[0].handler, path.with_file_name("only.wasm"));
}
