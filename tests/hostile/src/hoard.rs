//! Opens the files and lists the folders that it was granted until it is refused, and keeps all of them.

use std::fs::{self, File, ReadDir};

use gristmill_guest::{Failure, Work};

use crate::escape::GRANTED;

pub(crate) fn run(_: &Work) -> Result<[usize; 2], Failure> {
    let files: Vec<File> = (0..MANY).map_while(|_| File::open(GRANTED).ok()).collect();
    let listings: Vec<ReadDir> = (0..MANY).map_while(|_| fs::read_dir(GRANTED).ok()).collect();
    Ok([files.len(), listings.len()])
}

/// More than any attempt may hold.
const MANY: usize = 10_000;
