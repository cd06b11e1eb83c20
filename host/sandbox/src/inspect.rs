//! What can be known of a component without running it.
//!
//! Owns the names of our interfaces, the imports that this host offers, and the grant for each import. Never compiles
//! anything.

use std::collections::BTreeSet;
use std::path::Path;

use gristmill_model::Digest;
use serde::{Serialize, Serializer};
use wasmparser::{
    BinaryReaderError, ComponentExternalKind, KnownCustom, Parser, Payload, ProducersSectionReader, Validator,
    WasmFeatures,
};

use crate::{Error, bytes};

/// What a component is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Its identity: the hash without custom sections.
    #[serde(rename = "component", serialize_with = "text")]
    pub hash: Digest,
    /// The hash of the file as it is.
    #[serde(serialize_with = "text")]
    pub raw_hash: Digest,
    /// The file's size.
    pub size_bytes: u64,
    /// What it can do for gristmill.
    pub offers: Offers,
    /// The stages it offers, as `describe` lists them; none until it is loaded.
    pub stages: Option<Vec<StageInfo>>,
    /// Everything it exports.
    pub exports: Vec<String>,
    /// Everything it imports.
    pub imports: Vec<String>,
    /// The grants that its imports could use.
    pub grants: Vec<GrantUse>,
    /// The languages and tools that left their names in it: `language Rust`, `processed-by rustc 1.95.0`.
    pub producers: Vec<String>,
}

/// Which of our interfaces a component exports, by the name under which it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Offers {
    /// It runs stages.
    pub stages: Option<String>,
    /// It finds items.
    pub discovery: Option<String>,
    /// It merges items.
    pub merging: Option<String>,
}

/// A stage that a component offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageInfo {
    /// The name that job files use.
    pub name: String,
    /// One line for people.
    pub description: String,
}

/// An import that does something only with a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrantUse {
    /// The import.
    pub import: String,
    /// The line for the job file; none if nothing can grant it.
    pub yaml: Option<&'static str>,
    /// What the import does without the grant.
    pub without: &'static str,
    /// Whether a person should know that it is not granted. Compilers import the others even if a handler does not use
    /// them.
    pub notable: bool,
}

impl Inspection {
    /// The first import that this host does not offer.
    pub(crate) fn unknown_import(&self) -> Option<&String> {
        self.imports.iter().find(|import| !is_offered(import))
    }
}

const OURS: &str = "gristmill:handler/";
const VERSION: &str = "@0.1.";

/// Whether this host offers an import: any 0.1 of our interfaces, any 0.2 of WASI.
fn is_offered(import: &str) -> bool {
    const WASI: [&str; 7] = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];
    let Some((interface, version)) = import.split_once('@') else { return false };
    match interface.split_once('/') {
        Some(("gristmill:handler", name)) => {
            ["host", "secrets", "types"].contains(&name) && version.starts_with("0.1.")
        }
        Some((package, _)) => {
            package.strip_prefix("wasi:").is_some_and(|name| WASI.contains(&name)) && version.starts_with("0.2.")
        }
        None => false,
    }
}

/// The line of a job file that grants requests to an origin.
pub(crate) fn http_grant(origin: &str) -> String {
    format!("grants: {{ http: [\"{origin}\"] }}")
}

/// For each beginning of an import's name: the grant, what the import does without it, and whether that is notable.
const GRANTED: [(&str, Option<&str>, &str, bool); 8] = [
    ("gristmill:handler/secrets@", Some("grants: { secrets: [NAME] }"), "has no secret", true),
    ("wasi:http/outgoing-handler@", Some("grants: { http: [\"https://host\"] }"), "refuses every request", true),
    ("wasi:filesystem/preopens@", Some("grants: { files: { /name: folder } }"), "sees no folder", false),
    ("wasi:clocks/wall-clock@", Some("grants: { clock: true }"), "stands still at the item's discovery", false),
    ("wasi:clocks/monotonic-clock@", Some("grants: { clock: true }"), "is virtual: a sleep takes no time", false),
    ("wasi:random/", Some("grants: { random: true }"), "is the same for the same inputs", false),
    ("wasi:sockets/tcp-create-socket@", None, "is refused", false),
    ("wasi:sockets/udp-create-socket@", None, "is refused", false),
];

/// Inspects a component's file, and validates all of it.
///
/// # Errors
/// If the file cannot be read, or is no valid component.
pub fn inspect(path: &Path) -> Result<Inspection, Error> {
    inspect_bytes(&bytes::read(path)?, &path.display().to_string())
}

/// Inspects a component's bytes, and validates all of them. `component` is what errors call it.
///
/// # Errors
/// If the bytes are no valid component.
pub fn inspect_bytes(content: &[u8], component: &str) -> Result<Inspection, Error> {
    let inspection = read(content, component)?;
    match validate(content, ASYNCHRONOUS) {
        Ok(()) => Ok(inspection),
        Err(error) => Err(Error::Damaged { component: component.to_owned(), reason: bytes::reason(&error) }),
    }
}

/// The features of components that export or call asynchronous functions.
const ASYNCHRONOUS: WasmFeatures = WasmFeatures::CM_ASYNC.union(WasmFeatures::CM_ASYNC_STACKFUL);

/// Whether a component is valid only if functions may be asynchronous.
pub(crate) fn is_asynchronous(content: &[u8]) -> bool {
    validate(content, ASYNCHRONOUS).is_ok() && validate(content, WasmFeatures::empty()).is_err()
}

/// Validates a component that may use these asynchronous features.
fn validate(content: &[u8], asynchronous: WasmFeatures) -> Result<(), BinaryReaderError> {
    let features = WasmFeatures::default().difference(ASYNCHRONOUS).union(asynchronous);
    Validator::new_with_features(features).validate_all(content).map(drop)
}

/// Reads what `inspect` returns, and leaves validation to the compiler.
pub(crate) fn read(content: &[u8], component: &str) -> Result<Inspection, Error> {
    let hash = bytes::canonical_hash_of(content, component)?;
    let (mut exports, mut imports, mut producers) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(content) {
        let read = match payload {
            Ok(Payload::Version { .. }) => {
                depth += 1;
                Ok(())
            }
            Ok(Payload::End(_)) => {
                depth -= 1;
                Ok(())
            }
            Ok(Payload::ComponentImportSection(section)) if depth == 1 => section
                .into_iter()
                .try_for_each(|import| import.map(|import| imports.push(import.name.name.to_owned()))),
            Ok(Payload::ComponentExportSection(section)) if depth == 1 => section.into_iter().try_for_each(|export| {
                let export = export?;
                if matches!(export.kind, ComponentExternalKind::Instance | ComponentExternalKind::Func) {
                    exports.push(export.name.name.to_owned());
                }
                Ok(())
            }),
            Ok(Payload::CustomSection(section)) => {
                // A custom section may contain anything, so an unreadable one is no error.
                if let KnownCustom::Producers(section) = section.as_known() {
                    let _ = read_producers(section, &mut producers);
                }
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        read.map_err(|error| Error::Damaged { component: component.to_owned(), reason: bytes::reason(&error) })?;
    }
    Ok(Inspection {
        hash,
        raw_hash: Digest::of(content),
        size_bytes: content.len() as u64,
        offers: offers(&exports),
        stages: None,
        grants: grants(&imports),
        exports,
        imports,
        producers: producers.into_iter().collect(),
    })
}

fn read_producers(section: ProducersSectionReader<'_>, to: &mut BTreeSet<String>) -> wasmparser::Result<()> {
    for field in section {
        let field = field?;
        for value in field.values {
            let value = value?;
            to.insert(format!("{} {} {}", field.name, value.name, value.version).trim_end().to_owned());
        }
    }
    Ok(())
}

fn offers(exports: &[String]) -> Offers {
    // If there are several versions, the newest one that this host knows.
    let newest = |interface: &str| {
        let patch = |name: &&String| -> Option<u32> {
            name.strip_prefix(OURS)?.strip_prefix(interface)?.strip_prefix(VERSION)?.parse().ok()
        };
        exports.iter().filter(|name| patch(name).is_some()).max_by_key(patch).cloned()
    };
    Offers { stages: newest("stages"), discovery: newest("discovery"), merging: newest("merging") }
}

fn grants(imports: &[String]) -> Vec<GrantUse> {
    let of = |import: &String| {
        let (_, yaml, without, notable) = GRANTED.into_iter().find(|(prefix, ..)| import.starts_with(prefix))?;
        Some(GrantUse { import: import.clone(), yaml, without, notable })
    };
    imports.iter().filter_map(of).collect()
}

fn text<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(digest)
}
