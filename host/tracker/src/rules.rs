//! What every act makes of an item: the tracker's rules, each in one place.
//!
//! Owns everything that is computed between reading and writing, as pure functions from facts to a `Change`. A backend
//! reads the facts, calls the rule of the act, and writes the change; where a rule needs a fact only now and then,
//! another function says so first. Never reads or writes a row, and never asks the time.
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

pub(crate) mod cancel;
pub(crate) mod change;
pub(crate) mod discover;
pub(crate) mod events;
pub(crate) mod item;
pub(crate) mod lose;
pub(crate) mod operation;
pub(crate) mod prune;
pub(crate) mod rebuild;
pub(crate) mod reconcile;
pub(crate) mod redrive;
pub(crate) mod register;
pub(crate) mod settle;
pub(crate) mod tally;

pub(crate) use self::change::{Change, Rows};
pub(crate) use self::item::{Item, Taken, claim_key};
pub(crate) use self::tally::Tally;

#[cfg(test)]
mod tests;
