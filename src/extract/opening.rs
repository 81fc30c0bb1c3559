//! Opening the network of an extraction, in the sessions that its plan asks for.

use std::num::NonZero;

use super::Recipe;
use crate::messages::with_causes;
use crate::network::{Backbone, BackboneError, Device, ExecutionPlan, Graph, SessionSettings};

impl Recipe<'_> {
    /// Opens `graph`, the recipe's network, as `plan` says on `device`. The threads that decode images share its cores.
    ///
    /// # Errors
    /// The runtime cannot load the network.
    pub fn open(
        &self,
        graph: &Graph,
        plan: &ExecutionPlan,
        device: Device,
    ) -> Result<Backbone, BackboneError> {
        let session = SessionSettings {
            device,
            threads: Some(plan.threads),
            sessions: NonZero::new(plan.sessions),
            shared_cores: true,
            ..self.session.clone()
        };
        Backbone::open_pooled(graph, self.layers, self.poolings, self.preprocess.size(), &session)
    }
}

/// Why [`Device::Auto`] did not take the CUDA provider that is there.
pub fn fallback_note(backbone: &Backbone) -> Option<String> {
    backbone.why_not_cuda().map(|error| format!("running on the CPU: {}", with_causes(error)))
}
