//! The rules of a tracker: what every act does to an item.
//!
//! Owns everything that is computed between reading and writing, as pure functions from facts to a `Change`. A backend
//! reads the facts, calls the rule of the act, and writes the change. If a rule needs a fact only in some cases,
//! another function says when. Never reads or writes a row, and never asks the time.
//!
//! | act | rule |
//! |---|---|
//! | an attempt is settled | `settle::settle`, after `settle::asks` and `settle::leaves` |
//! | an attempt is lost with its host | `lose::lose`, and then as any other |
//! | leased work is given back | `cancel::give_up` |
//! | an item is cancelled, restored | `cancel::cancel`, `cancel::restore` |
//! | a dead stage is redriven | `redrive::redrive` |
//! | an item is discovered, found again | `discover::discover`, `discover::merge`, `discover::reprocess` |
//! | a job is registered | `register::assign_bits`, `register::declare`, `register::edit` |
//! | an item is brought in line with its job | `reconcile::leaves`, `reconcile::reconcile` |
//! | an operation begins, steps, is moved | `operation::begin`, `share`, `took`, `set` |
//! | everything is computed anew | `rebuild::kept`, and then `reconcile` |
//! | old facts are deleted | `prune::forget`, `prune::delete` |
//! | what follows for the rest of the item | `change::Change::follow`, used by all of them |

pub mod cancel;
pub mod change;
pub mod discover;
pub mod events;
pub mod item;
pub mod lose;
pub mod operation;
pub mod prune;
pub mod rebuild;
pub mod reconcile;
pub mod redrive;
pub mod register;
pub mod settle;
pub mod tally;

pub use self::change::{Change, Rows};
pub use self::item::{Item, Taken, claim_key};
pub use self::tally::Tally;
