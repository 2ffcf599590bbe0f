//! One run: how large, what goes wrong when.

use serde::{Deserialize, Serialize};

use super::check::Invariant;
use super::faults::{Allowance, Fault};
use super::store::Topology;

/// A fault at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Milliseconds after everybody is connected.
    pub at_ms: u64,
    /// What.
    pub fault: Fault,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// Draws clients, conversations, victims and what is said when.
    pub seed: u64,
    /// Nodes.
    pub nodes: usize,
    /// Users.
    pub users: usize,
    /// What the nodes share.
    pub topology: Topology,
    /// What goes wrong.
    pub steps: Vec<Step>,
    /// How long everybody talks, at least.
    pub load_ms: u64,
    /// How long after the last fault everybody talks, at least.
    pub after_ms: u64,
    /// Somebody leaves without a word; the run is long enough for everybody to notice.
    pub leaver: bool,
    /// The nodes keep an archive and tell a backend.
    #[serde(default)]
    pub outside: bool,
    /// Faults take as long as in production.
    pub long: bool,
    /// How quickly most messages must be acknowledged when all is well again.
    pub ack_p99_ms: u64,
}

impl Scenario {
    /// One fault.
    pub fn of(fault: Fault, seed: u64) -> Self {
        Self {
            name: fault.name().to_owned(),
            seed,
            nodes: 3,
            users: 10,
            topology: fault.topology(),
            steps: vec![Step { at_ms: 4000, fault }],
            load_ms: 20_000,
            after_ms: 14_000,
            leaver: false,
            outside: fault.is_outside(),
            long: false,
            ack_p99_ms: 500,
        }
    }

    /// The faults.
    pub fn faults(&self) -> impl Iterator<Item = Fault> + '_ {
        self.steps.iter().map(|step| step.fault)
    }

    /// Whether one of the faults is this one.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults().any(|other| other == fault)
    }

    /// What all faults together allow.
    pub fn allows(&self) -> Allowance {
        self.faults().map(Fault::allows).fold(Allowance::default(), Allowance::or)
    }

    /// Why an invariant says nothing here, if it does not.
    pub fn excludes(&self, invariant: Invariant) -> Option<&'static str> {
        let mut all = self.faults().flat_map(|fault| fault.excludes().iter());
        all.find(|(excluded, _)| *excluded == invariant).map(|(_, why)| *why)
    }
}
