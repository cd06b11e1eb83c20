//! What `--help` says, as `tests/fixtures/help/*.txt`. `UPDATE_EXPECT=1` writes them anew.
//!
//! Owns nothing else: which commands there are is read from the help itself.

use crate::support::{gristmill, repository};

/// Beyond a terminal, this is how wide a line may be.
const COLUMNS: usize = 100;

#[test]
fn every_help_is_as_it_was_and_shows_an_example() {
    let folder = repository().join("tests/fixtures/help");
    let help = |args: &[&str]| gristmill(&folder, &[args, &["--help"]].concat()).expect(0).out;
    let top = help(&[]);
    let (_, after) = top.split_once("\nCommands:\n").unwrap();
    let (commands, _) = after.split_once("\n\n").unwrap();
    let mut pages = vec![("gristmill".to_owned(), top.clone())];
    for name in
        commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()))
    {
        let page = help(&[name]);
        assert!(page.contains(&format!("\n  gristmill {name}")), "{name} shows no example:\n{page}");
        pages.push((name.to_owned(), page));
    }
    assert!(pages.len() > 9, "{} pages", pages.len());
    let mut wrong = Vec::new();
    for (name, page) in &pages {
        let expected = folder.join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&expected, page).unwrap();
        }
        let was = std::fs::read_to_string(&expected).unwrap_or_default();
        if was != *page {
            let (line, now) =
                page.lines().enumerate().find(|(at, now)| was.lines().nth(*at) != Some(now)).unwrap_or_default();
            wrong.push(format!("{}:{}: now {now:?}", expected.display(), line + 1));
        }
        let long = page.lines().find(|line| line.chars().count() > COLUMNS);
        assert_eq!(long, None, "{name} has a line that is too long");
    }
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, pages.len(), "a page that is no command's any more is in {}", folder.display());
    assert!(wrong.is_empty(), "UPDATE_EXPECT=1 accepts what is new:\n{}", wrong.join("\n"));
}
