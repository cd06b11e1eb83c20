//! Detects a circle in the cursors of a discovery.
//!
//! Owns the proof of a circle, in a few bytes, however many cursors there are. The algorithm of R. P. Brent ("An
//! improved Monte Carlo factorization algorithm", 1980) remembers one cursor, and doubles the number of cursors after
//! which it remembers a newer one. It finds a circle after at most three times the length of the circle and the way to
//! it. Never asks for a page.

use gristmill_model::Digest;

/// The cursors of one pass.
#[derive(Default)]
pub(crate) struct Trail {
    /// The hash of the remembered cursor: if it comes again, there is a circle.
    remembered: Option<Digest>,
    /// How many cursors came since that one.
    since: u64,
    /// After how many cursors a newer one is remembered.
    patience: u64,
}

impl Trail {
    /// Why a next cursor must not be followed: the pass would never end. None if it may be.
    pub(crate) fn fault(&self, next: &str) -> Option<&'static str> {
        if next.is_empty() {
            return Some(
                "the next page's cursor is an empty text; after the last page there is none, not an empty one",
            );
        }
        (self.remembered == Some(Digest::of(next.as_bytes())))
            .then_some("the next page was visited before in this pass: discovery would never end")
    }

    /// Records that a page is committed, and the next cursor; none if the pass is over.
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

    /// After how many pages the circle is found, if `before` cursors lead to a circle of `circle` cursors.
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
