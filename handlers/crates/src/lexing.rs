//! Counts lines of Rust.
//! Owns what a line of code and a line of unsafe is.
//! Never lexes itself: the compiler's own lexer tells strings, comments, characters and lifetimes apart.

use ra_ap_rustc_lexer::{FrontmatterAllowed, TokenKind, strip_shebang, tokenize};

/// Lines of code, and how many of these are unsafe.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Lines with a token on them that is neither a comment nor white space. A string over three lines is three.
    pub(crate) code: u64,
    /// Lines of code from a keyword `unsafe` to the end of what it opens: the closing brace of a block, function,
    /// implementation or trait; the semicolon of a function without a body. Where it opens nothing (the type
    /// `unsafe fn()`, the attribute `#[unsafe(no_mangle)]`), its own line.
    pub(crate) unsafe_code: u64,
}

pub(crate) fn count(text: &str) -> Lines {
    let mut rest = &text[strip_shebang(text).unwrap_or(0)..];
    let (mut code, mut unsafe_code) = (Counter::default(), Counter::default());
    let mut reach = Reach::None;
    let mut line = 1;
    for token in tokenize(rest, FrontmatterAllowed::No) {
        let (text, after) = rest.split_at(token.len as usize);
        rest = after;
        let first = line;
        line += line_breaks(token.kind, text);
        if is_code(token.kind) {
            code.add(first, line);
            let before = reach;
            reach = before.after(token.kind, text);
            if before != Reach::None || reach != Reach::None {
                unsafe_code.add(first, line);
            }
        }
    }
    Lines { code: code.lines, unsafe_code: unsafe_code.lines }
}

/// Counts each line once.
#[derive(Default)]
struct Counter {
    lines: u64,
    last: u64,
}

impl Counter {
    fn add(&mut self, first: u64, last: u64) {
        self.lines += last - self.last.max(first - 1);
        self.last = last;
    }
}

fn is_code(kind: TokenKind) -> bool {
    !matches!(kind, TokenKind::Whitespace | TokenKind::LineComment { .. } | TokenKind::BlockComment { .. })
}

/// Only these tokens can hold one.
fn line_breaks(kind: TokenKind, text: &str) -> u64 {
    match kind {
        TokenKind::Whitespace | TokenKind::BlockComment { .. } | TokenKind::Literal { .. } => {
            memchr::memchr_iter(b'\n', text.as_bytes()).count() as u64
        }
        _ => 0,
    }
}

/// How far an `unsafe` that was read still reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    None,
    /// To what comes next, directly after `unsafe` or `fn`: a parenthesis there opens nothing unsafe.
    Next,
    /// To the brace or semicolon outside all parentheses, of which so many are open.
    Signature(u32),
    /// To the last of so many closing braces.
    Braces(u32),
}

impl Reach {
    fn after(self, kind: TokenKind, text: &str) -> Self {
        use TokenKind::{CloseBrace, CloseBracket, CloseParen, Ident, OpenBrace, OpenBracket, OpenParen, Semi};
        match (self, kind) {
            (Self::None, Ident) if text == "unsafe" => Self::Next,
            (Self::Next | Self::Signature(0), Ident) if text == "fn" => Self::Next,
            (Self::Next | Self::Signature(0), OpenBrace) => Self::Braces(1),
            (Self::None, _)
            | (Self::Next, OpenParen)
            | (Self::Next | Self::Signature(0), Semi | CloseBrace | CloseBracket | CloseParen)
            | (Self::Braces(1), CloseBrace) => Self::None,
            (Self::Next, _) => Self::Signature(0),
            (Self::Signature(open), OpenParen | OpenBracket | OpenBrace) => Self::Signature(open + 1),
            (Self::Signature(open), CloseParen | CloseBracket | CloseBrace) => Self::Signature(open - 1),
            (Self::Braces(open), OpenBrace) => Self::Braces(open + 1),
            (Self::Braces(open), CloseBrace) => Self::Braces(open - 1),
            (reach, _) => reach,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of code and lines of unsafe.
    fn lines(text: &str) -> (u64, u64) {
        let Lines { code, unsafe_code } = count(text);
        (code, unsafe_code)
    }

    #[test]
    fn comments_and_blank_lines_are_no_code() {
        assert_eq!(lines("// a\n\n/* b\n c */\n//! d\n"), (0, 0));
        assert_eq!(lines("fn a() {} // b\n/* c */ fn d() {}\n"), (2, 0));
        assert_eq!(lines(""), (0, 0));
    }

    #[test]
    fn comments_nest() {
        assert_eq!(lines("/* /* unsafe {} */ unsafe { } */ fn a() {}"), (1, 0));
    }

    #[test]
    fn a_string_counts_on_each_of_its_lines() {
        assert_eq!(lines("let a = \"x\n// y\nz\";"), (3, 0));
    }

    #[test]
    fn strings_hide_what_is_in_them() {
        assert_eq!(lines(r##"let a = r#"unsafe { " // "#; let b = "unsafe {\" /*"; f();"##), (1, 0));
        assert_eq!(lines("let a = b\"unsafe {\"; let c = c\"unsafe {\";\nf();"), (2, 0));
    }

    #[test]
    fn a_quote_is_a_character_or_a_lifetime() {
        assert_eq!(lines("let q = '\"'; unsafe { a() }\nlet r = '\\'';\nf();"), (3, 1));
        assert_eq!(lines("fn a<'a>(b: &'a str) {}\nunsafe fn c() {}\nfn d() { '{'; }"), (3, 1));
    }

    #[test]
    fn a_block_reaches_to_its_brace() {
        assert_eq!(lines("fn a() {\n  unsafe {\n    // why\n    if b { c() }\n  }\n  d()\n}"), (6, 3));
    }

    #[test]
    fn a_function_reaches_from_its_signature_to_its_brace() {
        assert_eq!(lines("unsafe fn a<T>(\n  b: [u8; 4],\n) -> T\nwhere\n  T: Copy,\n{\n  c()\n}\nfn d() {}"), (9, 8));
    }

    #[test]
    fn implementations_traits_and_foreign_blocks_are_unsafe() {
        assert_eq!(lines("unsafe impl Send for A {}\nfn b() {}"), (2, 1));
        assert_eq!(lines("unsafe extern \"C\" {\n  fn a();\n}\nfn b() {}"), (4, 3));
    }

    #[test]
    fn what_has_no_body_ends_at_its_semicolon() {
        assert_eq!(lines("trait A {\n  unsafe fn b(\n    c: [u8; 2],\n  );\n  fn d();\n}"), (6, 3));
    }

    #[test]
    fn types_and_attributes_open_nothing() {
        assert_eq!(lines("struct A {\n  b: unsafe fn(u8),\n  c: unsafe extern \"C\" fn(),\n  d: u8,\n}"), (5, 2));
        assert_eq!(lines("#[unsafe(no_mangle)]\nfn a() {\n}"), (3, 1));
    }

    #[test]
    fn a_name_is_not_the_keyword() {
        assert_eq!(lines("fn unsafe_code() {}\nlet r#unsafe = 1;\n#![forbid(unsafe_code)]"), (3, 0));
    }

    #[test]
    fn two_on_a_line_count_once() {
        assert_eq!(lines("unsafe { a() } unsafe { b() }"), (1, 1));
    }

    #[test]
    fn what_is_not_rust_ends_too() {
        assert_eq!(lines("unsafe"), (1, 1));
        assert_eq!(lines("m!(unsafe) }}} unsafe { \" "), (1, 1));
    }
}
