//! Reads `Cargo.toml`.
//! Owns what the audit wants to know of it.
//! Never resolves what a workspace would: what is inherited is unknown, as in no published crate.

use std::fs;
use std::path::Path;

use gristmill_guest::{Failure, OrFail};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The output of `manifest`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Manifest {
    /// As declared, most often an SPDX expression.
    licence: Option<String>,
    licence_file: Option<String>,
    edition: String,
    rust_version: Option<String>,
    dependencies: Dependencies,
    build_script: bool,
    proc_macro: bool,
    /// The native library that the crate links.
    links: Option<String>,
}

/// How many of each kind, those of single targets included.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Dependencies {
    normal: usize,
    build: usize,
    dev: usize,
}

pub(crate) fn read(folder: &Path) -> Result<Manifest, Failure> {
    let text = fs::read_to_string(folder.join("Cargo.toml")).or_permanent("Cargo.toml")?;
    parse(&text, folder.join("build.rs").exists())
}

fn parse(text: &str, has_build_rs: bool) -> Result<Manifest, Failure> {
    let manifest: Table = text.parse::<Table>().or_permanent("Cargo.toml")?;
    let none = Table::new();
    let package = table(&manifest, &["package", "project"]).unwrap_or(&none);
    let text = |key: &str| package.get(key).and_then(Value::as_str).map(str::to_owned);
    let library = table(&manifest, &["lib"]).unwrap_or(&none);
    Ok(Manifest {
        licence: text("license"),
        licence_file: text("license-file"),
        edition: text("edition").unwrap_or_else(|| "2015".to_owned()),
        rust_version: text("rust-version"),
        dependencies: count_dependencies(&manifest),
        build_script: match package.get("build") {
            Some(Value::Boolean(build)) => *build,
            Some(_) => true,
            None => has_build_rs,
        },
        proc_macro: ["proc-macro", "proc_macro"].iter().any(|key| library.get(*key) == Some(&Value::Boolean(true))),
        links: text("links"),
    })
}

/// The first table of those names. Old manifests spell some with an underscore.
fn table<'a>(parent: &'a Table, names: &[&str]) -> Option<&'a Table> {
    names.iter().find_map(|name| parent.get(*name)?.as_table())
}

fn count_dependencies(manifest: &Table) -> Dependencies {
    let targets = table(manifest, &["target"]).into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let mut count = Dependencies::default();
    for section in std::iter::once(manifest).chain(targets) {
        let size = |names: &[&str]| table(section, names).map_or(0, Table::len);
        count.normal += size(&["dependencies"]);
        count.build += size(&["build-dependencies", "build_dependencies"]);
        count.dev += size(&["dev-dependencies", "dev_dependencies"]);
    }
    count
}

/// What discovery wants of a manifest; none if it says less. Everything else is skipped unparsed.
pub(crate) fn name_and_version(manifest: &[u8]) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Manifest {
        package: Package,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let manifest: Manifest = toml::from_slice(manifest).ok()?;
    Some((manifest.package.name, manifest.package.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_manifest_is_read() -> Result<(), Failure> {
        let manifest = parse(
            r#"
            [package]
            name = "a"
            version = "1.0.0"
            edition = "2021"
            rust-version = "1.70"
            license = "MIT OR Apache-2.0"
            links = "z"
            build = false
            [lib]
            proc-macro = true
            [dependencies]
            b = "1"
            c = { version = "1", optional = true }
            [build-dependencies]
            cc = "1"
            [target.'cfg(unix)'.dependencies]
            libc = "0.2"
            [dev_dependencies]
            d = "1"
            "#,
            true,
        )?;
        let expected = Manifest {
            licence: Some("MIT OR Apache-2.0".to_owned()),
            licence_file: None,
            edition: "2021".to_owned(),
            rust_version: Some("1.70".to_owned()),
            dependencies: Dependencies { normal: 3, build: 1, dev: 1 },
            build_script: false,
            proc_macro: true,
            links: Some("z".to_owned()),
        };
        assert_eq!(manifest, expected);
        Ok(())
    }

    #[test]
    fn what_is_not_said_has_cargos_defaults() -> Result<(), Failure> {
        let manifest = parse("[package]\nname = 'a'\nlicense-file = 'COPYING'", true)?;
        assert_eq!((manifest.edition.as_str(), manifest.build_script, manifest.proc_macro), ("2015", true, false));
        assert_eq!(manifest.licence_file.as_deref(), Some("COPYING"));
        assert!(parse("[package]\nbuild = 'other.rs'", false)?.build_script);
        Ok(())
    }

    #[test]
    fn inherited_values_are_unknown_and_no_error() -> Result<(), Failure> {
        let manifest = parse("[package]\nlicense = { workspace = true }\nedition.workspace = true", false)?;
        assert_eq!((manifest.licence, manifest.edition.as_str()), (None, "2015"));
        Ok(())
    }

    #[test]
    fn broken_toml_is_permanent() {
        assert!(parse("[package", false).expect_err("broken").message().starts_with("Cargo.toml: "));
    }

    #[test]
    fn name_and_version_need_a_package() {
        let pair = Some(("a".to_owned(), "1.0.0".to_owned()));
        assert_eq!(name_and_version(b"[package]\nname = 'a'\nversion = '1.0.0'\n[lib]\nbench = false"), pair);
        assert_eq!(name_and_version(b"[workspace]"), None);
        assert_eq!(name_and_version(b"\xff"), None);
    }
}
