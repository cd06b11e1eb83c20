//! Rules: a job is registered.
//!
//! Owns the bit of each stage, which no edit of the job's file changes, and whether an edit makes it necessary to
//! reconcile items. Never touches an item.

use std::collections::HashMap;
use std::hash::BuildHasher;

use gristmill_model::{Dag, STAGES_MAX, StageBit};

use crate::Error;
use crate::records::{JobRegistration, StageRegistration};

/// The bits of a job's stages. A stage keeps its bit even if it was out of the file for a while; a new one gets the
/// lowest bit that no stage of the job ever had. `known` has the bits of all stages that the job ever had, by name.
///
/// # Errors
/// `TooManyStages` if no bit is left.
pub fn assign_bits(
    known: &HashMap<String, StageBit, impl BuildHasher>,
    job: &JobRegistration,
) -> Result<Vec<StageBit>, Error> {
    let taken = known.values().fold(0, |mask, bit| mask | bit.mask());
    let mut free = (0..STAGES_MAX as u8).map(StageBit).filter(|bit| taken & bit.mask() == 0);
    let bit_of = |stage: &StageRegistration| known.get(&stage.name).copied().or_else(|| free.next());
    job.stages.iter().map(bit_of).collect::<Option<_>>().ok_or_else(|| Error::TooManyStages(job.name.clone()))
}

/// A stage as its file declares it, by bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its bit in all masks.
    pub bit: StageBit,
    /// The stages it needs.
    pub needs: u64,
    /// Those of them whose output it cannot do without.
    pub outputs: u64,
}

/// The stages of a job by their bits, in the order of the file, and the DAG that they make. Every other stage that the
/// job ever had is retired.
pub fn declare(job: &JobRegistration, bits: &[StageBit]) -> (Vec<Declared>, Dag) {
    let mut dag = Dag::default();
    let declare = |(stage, bit): (&StageRegistration, &StageBit)| {
        let mask = |output_only: bool| {
            let needs = stage.needs.iter().filter(|need| need.output || !output_only);
            needs.fold(0, |mask, need| mask | bits[need.stage].mask())
        };
        let declared = Declared { bit: *bit, needs: mask(false), outputs: mask(true) };
        dag.add(declared.bit, declared.needs, declared.outputs);
        declared
    };
    (job.stages.iter().zip(bits).map(declare).collect(), dag)
}

/// What a registration does to the DAG of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing.
    None,
    /// It is the job's first one.
    First,
    /// It changes: every item must be reconciled, from the first one on, and counted again.
    Another,
}

/// Compares the known DAG with the declared one.
pub fn edit(known: &Dag, declared: &Dag) -> Edit {
    if known == declared {
        Edit::None
    } else if known.all() == 0 {
        Edit::First
    } else {
        Edit::Another
    }
}
