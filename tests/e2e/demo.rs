//! The demo's job on made-up crates: what it finds, what it says, and what it does not do again.
//!
//! Owns a small folder of crates, one for each thing that the audit looks at. Never needs the network or a registry.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::job::{stage, text};
use crate::support::{Ran, components, gristmill, repository};

/// Folder, manifest beyond name and version, and the line that the audit has to end with.
const CRATES: [(&str, &str, &str); 7] = [
    ("plain-1.0.0", "license = 'MIT'", "ok: the policy allows MIT, no unsafe in 3 lines"),
    (
        "either-0.2.0",
        "license = 'GPL-3.0-only OR MIT'",
        "ok: the policy allows GPL-3.0-only OR MIT, no unsafe in 3 lines",
    ),
    ("slash-0.9.0", "license = 'MIT/Apache-2.0'", "ok: the policy allows MIT/Apache-2.0, no unsafe in 3 lines"),
    ("both-0.1.0", "license = 'MIT AND GPL-3.0-only'", "deny: licence GPL-3.0-only is not allowed by the policy"),
    ("weak-3.0.0", "license = 'MPL-2.0'", "review: the policy wants licence MPL-2.0 reviewed"),
    ("silent-0.1.0-rc.1", "", "review: no licence is declared"),
    ("risky-4.0.0", "license = 'MIT'", "review: a build script and 404 lines of unsafe in 407"),
];

struct Audit {
    folder: TempDir,
}

impl Audit {
    fn new() -> Self {
        components();
        let audit = Self { folder: tempfile::tempdir().unwrap() };
        for (folder, manifest, _) in CRATES {
            let (name, version) = folder.split_once('-').unwrap();
            let manifest = format!("[package]\nname = '{name}'\nversion = '{version}'\n{manifest}\n");
            audit.write(&format!("{folder}/Cargo.toml"), &manifest);
            audit.write(&format!("{folder}/src/lib.rs"), "// A comment.\npub fn one() -> u32 {\n    1\n}\n");
        }
        let calls = "    touch();\n".repeat(402);
        audit.write("risky-4.0.0/src/raw.rs", &format!("unsafe {{\n{calls}}}\n"));
        audit.write("risky-4.0.0/build.rs", "");
        audit.write("no-crate-1.0.0/README.md", "Nothing to see here.\n");
        audit
    }

    fn crates(&self) -> PathBuf {
        self.folder.path().join("crates")
    }

    fn write(&self, file: &str, content: &str) {
        let path = self.crates().join("index").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn gristmill(&self, args: &[&str]) -> Ran {
        let data = self.folder.path().join("data").display().to_string();
        gristmill(&repository(), &[args, &["--data", &data]].concat()).expect(0)
    }

    fn run(&self, args: &[&str]) -> Ran {
        let crates = format!("crates={}", self.crates().display());
        self.gristmill(&[&["run", "handlers/audit.yaml", "--param", &crates], args].concat())
    }

    fn verdict(&self, item: &str) -> Value {
        let page = self.gristmill(&["show", "audit", item, "--json"]).json();
        assert_eq!(page["status"], "done", "{page}");
        stage(&page, "verdict")["output"].clone()
    }
}

/// The item's key: the folder's name, with the version after an `@`.
fn key(folder: &str) -> String {
    folder.replacen('-', "@", 1)
}

/// Whether a row of a table holds these cells.
fn has_row(table: &str, cells: &[&str]) -> bool {
    table.lines().any(|line| line.split_whitespace().take(cells.len()).eq(cells.iter().copied()))
}

#[test]
fn every_crate_gets_its_verdict_and_nothing_is_done_twice() {
    let audit = Audit::new();
    let first = audit.run(&[]).out;
    assert!(first.starts_with("audit: 7 items, all done\n"), "{first}");
    for stage in ["manifest", "source", "licence", "verdict"] {
        assert!(has_row(&first, &[stage, "7", "0", "0", "0", "0"]), "{stage} in\n{first}");
    }
    for (verdict, items) in [("ok", "3"), ("review", "3"), ("deny", "1")] {
        assert!(has_row(&first, &[verdict, items]), "{verdict} in\n{first}");
    }
    assert!(first.contains("the 7 with the highest score:\n"), "{first}");
    assert!(has_row(&first, &["both@0.1.0", "deny", "100"]), "{first}");
    let last = first.lines().last().unwrap();
    assert!(last.starts_with("done in ") && last.contains("7 items done (") && last.contains("28 stage executions ("));

    for (folder, _, line) in CRATES {
        assert_eq!(audit.verdict(&key(folder))["line"], line);
        assert!(first.contains(line), "{line} is not in\n{first}");
    }

    let second = audit.run(&[]).out;
    assert!(second.starts_with("audit: nothing to do: 7 items, all done\n"), "{second}");
    assert!(!second.contains("manifest"), "{second}");
}

#[test]
fn what_is_recorded_can_be_asked_for() {
    let audit = Audit::new();
    audit.run(&["--quiet"]);
    let status = audit.gristmill(&["status", "audit", "--json"]).json();
    assert_eq!((&status["items_total"], &status["items"]["done"]), (&json!(7), &json!(7)), "{status}");
    let stages = status["stages"].as_array().unwrap();
    assert!(stages.iter().all(|stage| stage["done"] == 7 && stage["version"].as_str().is_some()), "{status}");

    let items = audit.gristmill(&["items", "audit", "--json"]).records();
    let mut keys: Vec<&str> = items.iter().map(|item| text(&item["item"])).collect();
    keys.sort_unstable();
    let mut wanted = CRATES.map(|(folder, ..)| key(folder));
    wanted.sort_unstable();
    assert_eq!(keys, wanted);
    assert_eq!(items[0]["done"], json!(["manifest", "source", "licence", "verdict"]));
    let named = audit.gristmill(&["items", "audit", "--json", "--prefix", "pl", "--status", "done"]).records();
    assert_eq!(named.len(), 1);
    assert!(audit.gristmill(&["items", "audit", "--json", "--status", "failed"]).records().is_empty());

    let page = audit.gristmill(&["show", "audit", "risky@4.0.0", "--json"]).json();
    assert_eq!(page["data"]["path"], "index/risky-4.0.0");
    assert_eq!(stage(&page, "manifest")["output"]["build_script"], true);
    assert_eq!(stage(&page, "source")["output"]["unsafe_lines"], 404);
    assert_eq!(stage(&page, "licence")["output"]["verdict"], "allow");
    assert_eq!(stage(&page, "verdict")["attempts"].as_array().map(Vec::len), Some(1));
    let for_people = audit.gristmill(&["show", "audit", "risky@4.0.0"]).out;
    assert!(for_people.starts_with("risky@4.0.0 of audit: done\n"), "{for_people}");

    let attempts = audit.gristmill(&["attempts", "audit", "--json", "--stage", "verdict"]).records();
    assert_eq!(attempts.len(), 7);
    assert!(attempts.iter().all(|attempt| attempt["outcome"] == "done" && attempt["stage"] == "verdict"));
    assert!(audit.gristmill(&["attempts", "audit", "--json", "--outcome", "trap"]).records().is_empty());
}

#[test]
fn nothing_is_done_again_behind_a_persons_back() {
    let audit = Audit::new();
    audit.run(&["--quiet"]);
    let run = |args: &[&str]| audit.run(&[&["--json"], args].concat()).json();

    // Whether a result is wanted anew, under another policy or for another manifest, is for a person to say.
    let policy = run(&["--param", r#"policy={"deny": ["MIT"]}"#]);
    assert_eq!((&policy["executions"], &policy["discovered"]["unchanged"]), (&json!(0), &json!(7)), "{policy}");
    assert_eq!(audit.verdict("plain@1.0.0")["verdict"], "ok");

    audit.write("weak-3.0.0/Cargo.toml", "[package]\nname = 'weak'\nversion = '3.0.0'\nlicense = 'MIT'\n");
    audit.write("late-1.0.0/Cargo.toml", "[package]\nname = 'late'\nversion = '1.0.0'\nlicense = 'MIT'\n");
    let changed = run(&[]);
    assert_eq!(changed["discovered"], json!({ "new": 1, "changed": 1, "unchanged": 6 }));
    assert_eq!(changed["executions"], 4, "{changed}");
    assert_eq!(audit.verdict("late@1.0.0")["verdict"], "ok");
    assert_eq!(audit.verdict("weak@3.0.0")["verdict"], "review");
}
