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

/// What a deployment is, in eight bytes: the same in every sidecar that calls the same model at the
/// same provider with the same key, whatever the file calls it. See
/// [`provider`](crate::provider) for what goes into it; a key cannot be told from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 8]);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
