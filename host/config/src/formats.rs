//! The forms of text in a job file.
//!
//! Owns what a name, a path or an origin may look like: a pattern for editors, and a sentence for people. Never
//! accesses the path or the origin itself.

use crate::shape::Format;
use crate::units::{self, RATE_PATTERN};

pub(crate) static NAME: Format = Format {
    what: "a name",
    pattern: "[a-z0-9][a-z0-9_-]{0,63}",
    example: "nightly-audit",
    fault: |text| {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        let fits = text.len() <= 64 && text.chars().all(good) && text.starts_with(|c| good(c) && c != '-' && c != '_');
        (!fits).then(|| {
            "must be lower-case letters, digits, `-` and `_`, at most 64, and begin with a letter or a digit".to_owned()
        })
    },
};

pub(crate) static PARAM: Format = Format {
    what: "a name",
    pattern: "[A-Za-z_][A-Za-z0-9_.-]{0,63}",
    example: "model",
    fault: |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let fits = text.len() <= 64 && text.chars().all(good) && text.starts_with(first);
        (!fits)
            .then(|| "must be letters, digits, `_`, `-` and `.`, at most 64, and begin with a letter or `_`".to_owned())
    },
};

pub(crate) static SECRET: Format = Format {
    what: "a secret's name",
    pattern: "[A-Z_][A-Z0-9_]{0,63}",
    example: "API_TOKEN",
    fault: |text| {
        let good = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let fits = text.len() <= 64 && text.chars().all(good) && text.starts_with(|c: char| !c.is_ascii_digit());
        (!fits).then(|| "must be upper-case letters, digits and `_`, at most 64".to_owned())
    },
};

pub(crate) static TEXT: Format =
    Format { what: "text", pattern: "[\\s\\S]+", example: "…", fault: |text| text.is_empty().then(empty) };

pub(crate) static PATH: Format =
    Format { what: "a path", pattern: "[^\\u0000]+", example: "prompts/score.txt", fault: path_fault };

pub(crate) static HANDLER: Format = Format {
    what: "a component's path",
    pattern: "[^\\u0000]+",
    example: "handlers/extract.wasm",
    fault: |text| match text {
        _ if text.starts_with("oci://") => Some("names a registry (`oci://`), which is not supported yet".to_owned()),
        _ if text.starts_with("blake3:") => {
            Some("is pinned by hash (`blake3:`), which is not supported yet".to_owned())
        }
        _ => path_fault(text),
    },
};

pub(crate) static GUEST_PATH: Format = Format {
    what: "an absolute path",
    pattern: "/|(/[^/\\u0000]+)+",
    example: "/crates",
    fault: |text| match text.strip_prefix('/') {
        None => Some("must be an absolute path, as the handler sees it".to_owned()),
        Some("") => None,
        Some(rest) if rest.split('/').any(|part| matches!(part, "" | "." | "..")) => {
            Some("must have no `..`, no `.` and no empty part".to_owned())
        }
        Some(_) => path_fault(text),
    },
};

pub(crate) static POINTER: Format = Format {
    what: "a JSON pointer",
    pattern: "(/([^/~]|~[01])*)*",
    example: "/meta/kind",
    fault: |text| {
        let starts = text.is_empty() || text.starts_with('/');
        let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        (!starts || !escapes).then(|| {
            "must be a JSON pointer such as `/meta/kind`: each name after a `/`, with `~1` for a `/` in it, `~0` for \
             a `~`"
                .to_owned()
        })
    },
};

pub(crate) static ORIGIN: Format = Format {
    what: "an origin",
    pattern: "https?://[A-Za-z0-9._-]+(:[0-9]{1,5})?",
    example: "https://example.org",
    fault: |text| {
        let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let fits = authority.is_some_and(|authority| {
            let (host, port) = authority.split_once(':').unwrap_or((authority, "0"));
            is_host(host) && !port.is_empty() && port.len() <= 5 && port.chars().all(|c| c.is_ascii_digit())
        });
        (!fits).then(|| "must be an origin such as `https://example.org`: scheme, host, perhaps a port".to_owned())
    },
};

pub(crate) static HOST: Format = Format {
    what: "a host",
    pattern: "[A-Za-z0-9._-]+",
    example: "example.org",
    fault: |text| (!is_host(text)).then(|| "must be a host such as `example.org`".to_owned()),
};

pub(crate) static RATE: Format = Format {
    what: "a rate",
    pattern: RATE_PATTERN,
    example: "10/s",
    fault: |text| units::rate(text).is_none().then(|| "must be a rate such as `10/s`, `600/m` or `1/h`".to_owned()),
};

pub(crate) static CRON: Format = Format {
    what: "a cron line",
    pattern: "[^ ]+( [^ ]+){4}",
    example: "0 6 * * *",
    fault: |text| {
        let fits = text.split(' ').count() == 5 && text.split(' ').all(|field| !field.is_empty());
        (!fits).then(|| "must have five fields: minute, hour, day, month, weekday".to_owned())
    },
};

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn path_fault(text: &str) -> Option<String> {
    match text {
        "" => Some(empty()),
        _ if text.contains('\0') => Some("must not contain a NUL character".to_owned()),
        _ => None,
    }
}

fn empty() -> String {
    "must not be empty".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::string::string_regex;

    const ALL: [&Format; 12] =
        [&NAME, &PARAM, &SECRET, &TEXT, &PATH, &HANDLER, &GUEST_PATH, &POINTER, &ORIGIN, &HOST, &RATE, &CRON];

    #[test]
    fn examples_fit() {
        for format in ALL {
            assert_eq!((format.fault)(format.example), None, "{}", format.what);
        }
    }

    proptest! {
        #[test]
        fn what_a_pattern_allows_is_accepted(
            (index, text) in (0..ALL.len()).prop_flat_map(|index| {
                let pattern = ALL[index].pattern.replace("\\u0000", "\\x00");
                (Just(index), string_regex(&pattern).unwrap())
            })
        ) {
            // A pattern cannot exclude everything: a part that is `..`, a rate of 0, a handler by hash.
            let beyond = text.split('/').any(|part| part == "." || part == "..") || text.starts_with('0');
            prop_assert!(beyond || (ALL[index].fault)(&text).is_none(), "{:?} as {}", text, ALL[index].what);
        }
    }
}
