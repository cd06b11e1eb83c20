//! The way that discovery takes from cursor to cursor.
//!
//! Owns the proof that it goes round in a circle, in a few bytes however long the way is: R. P. Brent, "An improved
//! Monte Carlo factorization algorithm" (1980), remembers one cursor, and doubles the time after which it remembers a
//! newer one. A circle is found after at most three times its length and the way to it. Never asks for a page.

use gristmill_model::Digest;

/// The cursors of one pass.
#[derive(Default)]
pub(crate) struct Trail {
    remembered: Option<Digest>,
    /// How many cursors came since.
    since: u64,
    /// After how many another one is remembered.
    patience: u64,
}

impl Trail {
    /// What is wrong with the cursor of a next page, if a pass that followed it would never end.
    pub(crate) fn fault(&self, next: &str) -> Option<&'static str> {
        if next.is_empty() {
            return Some(
                "the next page's cursor is an empty text; after the last page there is none, not an empty one",
            );
        }
        (self.remembered == Some(Digest::of(next.as_bytes())))
            .then_some("the next page was visited before in this pass: discovery would never end")
    }

    /// Takes in that a page is recorded, and which one is next; none: the pass is over.
    pub(crate) fn step(&mut self, next: Option<&str>) {
        let Some(next) = next else { return *self = Self::default() };
        self.since += 1;
        if self.since >= self.patience {
            self.remembered = Some(Digest::of(next.as_bytes()));
            self.patience = 2 * self.patience.max(1);
            self.since = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// After how many pages the circle is found, in a way that begins with so many and then goes round so many.
    fn pages_until_found(before: u64, circle: u64) -> u64 {
        let cursor = |page: u64| if page < before { page } else { before + (page - before) % circle };
        let mut trail = Trail::default();
        for page in 1.. {
            let next = cursor(page).to_string();
            if trail.fault(&next).is_some() {
                return page;
            }
            trail.step(Some(&next));
        }
        unreachable!("a circle is found")
    }

    #[test]
    fn a_page_that_points_at_itself_and_a_circle_are_found() {
        assert_eq!(pages_until_found(1, 1), 2);
        assert_eq!(pages_until_found(1, 2), 3);
    }

    #[test]
    fn a_straight_way_is_none_and_a_new_pass_may_take_the_same() {
        let mut trail = Trail::default();
        for _ in 0..2 {
            for page in 0..1000 {
                assert_eq!(trail.fault(&page.to_string()), None);
                trail.step(Some(&page.to_string()));
            }
            trail.step(None);
        }
        assert!(trail.fault("").is_some_and(|message| message.contains("an empty text")));
    }

    proptest! {
        #[test]
        fn every_circle_is_found_in_time(before in 1u64..200, circle in 1u64..200) {
            prop_assert!(pages_until_found(before, circle) <= 3 * (before + circle) + 1);
        }
    }
}
