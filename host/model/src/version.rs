//! What identifies a result.
//!
//! Owns three formulas: the version of a stage, the hash of an attempt's inputs, and the idempotency key. None of them
//! includes a limit, a rate, a name shown to people, or the host's own version, so that a change of those makes no
//! result stale. Never reads a file: callers pass digests.

use crate::Digest;

/// What identifies a stage's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComponentIdentity<'a> {
    /// The canonical hash of its component.
    Hash(Digest),
    /// A version that its author declared, and that replaces the hash.
    Declared(&'a str),
}

/// The version of a stage: blake3 of what identifies its code, its name, and the digests of its `inputs` files in the
/// order of the job file.
pub fn stage_version(code: &ComponentIdentity<'_>, stage: &str, inputs: &[Digest]) -> Digest {
    let (kind, identity): (&[u8], &[u8]) = match code {
        ComponentIdentity::Hash(digest) => (b"hash", &digest.0),
        ComponentIdentity::Declared(version) => (b"declared", version.as_bytes()),
    };
    let head = [kind, identity, stage.as_bytes()];
    Digest::of_fields("gristmill stage 1", head.into_iter().chain(inputs.iter().map(|digest| &digest.0[..])))
}

/// The hash of everything that an attempt used: the item's data, the name and output of each stage that it needs
/// (skipped ones are absent), and each parameter that it *read*, by name; none stands for a parameter that does not
/// exist. `params` is sorted by name without duplicates.
pub fn input_hash<'a>(
    data: &'a Digest,
    upstream: impl IntoIterator<Item = (&'a str, &'a Digest)>,
    params: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Digest {
    let upstream = upstream.into_iter().flat_map(|(stage, output)| [stage.as_bytes(), &output.0]);
    // A parameter is three fields, the first of them empty. So it cannot be taken for an upstream pair.
    let param =
        |(name, value): (&'a str, Option<&'a str>)| [&b""[..], name.as_bytes(), value.map_or(&b"-"[..], str::as_bytes)];
    let params = params.into_iter().flat_map(param);
    Digest::of_fields("gristmill input 1", std::iter::once(&data.0[..]).chain(upstream).chain(params))
}

/// The key that a handler passes to services, so that they count an attempt that ran twice only once. `inputs` is the
/// input hash before any parameter was read: the attempt has not begun.
pub fn idempotency_key(job: &str, item_key: &str, stage: &str, inputs: &Digest, version: &Digest) -> Digest {
    let fields = [job.as_bytes(), item_key.as_bytes(), stage.as_bytes(), &inputs.0, &version.0];
    Digest::of_fields("gristmill idempotency 1", fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_depends_on_code_name_and_inputs_alone() {
        let hash = |text: &str| ComponentIdentity::Hash(Digest::of(text.as_bytes()));
        let file = Digest::of(b"prompt");
        let version = stage_version(&hash("code"), "score", &[file]);
        assert_eq!(version, stage_version(&hash("code"), "score", &[file]));
        assert_ne!(version, stage_version(&hash("other"), "score", &[file]));
        assert_ne!(version, stage_version(&hash("code"), "fetch", &[file]));
        assert_ne!(version, stage_version(&hash("code"), "score", &[]));
        assert_ne!(version, stage_version(&ComponentIdentity::Declared("1.2"), "score", &[file]));
    }

    #[test]
    fn an_input_hash_tells_absent_from_empty_and_params_from_outputs() {
        let data = Digest::of(b"{}");
        let plain = input_hash(&data, [], []);
        assert_ne!(plain, input_hash(&data, [], [("model", None)]));
        assert_ne!(input_hash(&data, [], [("model", None)]), input_hash(&data, [], [("model", Some("\"\""))]));
        assert_ne!(plain, input_hash(&data, [("fetch", &Digest::of(b"1"))], []));
    }

    #[test]
    fn formulas_are_frozen() {
        // A change of these values makes every stored result stale. Such a change must never happen by accident.
        let version = stage_version(&ComponentIdentity::Hash(Digest([7; 32])), "fetch", &[]);
        let inputs = input_hash(&Digest([1; 32]), [("fetch", &Digest([2; 32]))], [("model", Some("\"small\""))]);
        let key = idempotency_key("filings", "a/1", "extract", &inputs, &version);
        assert_eq!(
            [version.short(), inputs.short(), key.short()],
            ["c6df517af1a9", "adf133ee2e04", "e0d66078de28"].map(str::to_owned)
        );
    }
}
