//! Positions in one snapshot. They mean nothing outside the snapshot that made them.

/// Position of a deployment in its snapshot's list of deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeploymentIx(pub u16);

impl DeploymentIx {
    /// The position as an index into slices that run parallel to the deployments.
    pub const fn at(self) -> usize {
        self.0 as usize
    }
}

/// Position of a model group in its snapshot's route table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupIx(pub u16);

impl GroupIx {
    /// The position as an index into the table's groups.
    pub const fn at(self) -> usize {
        self.0 as usize
    }
}
