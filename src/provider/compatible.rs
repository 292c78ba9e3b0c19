//! Placeholder.
use super::{Deployment, Environment, Misfit, Spec};

/// Placeholder.
pub fn build(spec: Spec, _: Environment<'_>) -> Result<Deployment, Misfit> {
    Err(Misfit::NoProvider(spec.name))
}
