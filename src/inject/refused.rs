//! Why a pod gets no sidecar: because nobody wants one there, or because it could not work.
//!
//! A pod that is refused does not start; the sentence is what its owner reads, so it says what to
//! do.

use std::fmt;

/// Why a pod passes as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skipped {
    /// Its label or that of its namespace says so.
    Disabled,
    /// The node's own pod, which only mirrors a file there.
    Mirror,
    /// Neither it nor its namespace asks for a sidecar.
    NotAsked,
    /// It runs on Windows.
    Windows,
}

impl Skipped {
    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Mirror => "mirror",
            Self::NotAsked => "not_asked",
            Self::Windows => "windows",
        }
    }
}

/// Why a pod that asks for a sidecar cannot have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A value of an annotation that cannot be meant.
    BadAnnotation {
        /// The annotation, below the prefix.
        name: String,
        /// Its value.
        value: String,
        /// Whether it is the namespace's.
        of_namespace: bool,
        /// What is wrong.
        what: String,
    },
    /// A label of the pod that is neither true nor false.
    BadLabel {
        /// Its value.
        value: String,
    },
    /// The annotation names a container that is not there.
    NoSuchContainer {
        /// The name.
        name: String,
        /// The one that may have been meant.
        nearest: Option<String>,
    },
    /// The pod uses the node's network.
    HostNetwork,
    /// A label that stands among the annotations.
    IsALabel {
        /// Its name.
        name: String,
    },
    /// A plain container would keep a pod from ending that is meant to end.
    NeverEnds,
    /// The settings do not allow the annotation.
    NotAllowed {
        /// The annotation, below the prefix.
        annotation: &'static str,
    },
    /// It has no containers, or is no pod at all.
    NotAPod,
    /// The patch of the annotation does not fit the sidecar.
    PatchFails {
        /// What is wrong.
        what: String,
    },
    /// A container of the pod declares a port that the sidecar needs.
    PortTaken {
        /// The container.
        container: String,
        /// The port.
        port: u16,
        /// The annotation that chooses another one.
        annotation: &'static str,
    },
    /// An annotation that is a slip for a known one.
    Slip {
        /// Its name.
        name: String,
        /// The known one.
        nearest: String,
        /// Whether it is the namespace's.
        of_namespace: bool,
    },
    /// A volume of the pod's own has a name that the sidecar needs.
    VolumeTaken {
        /// The name.
        name: String,
    },
}

impl Refused {
    pub(super) fn bad(name: &str, value: &str, of_namespace: bool, what: String) -> Self {
        let (name, value) = (name.to_owned(), value.to_owned());
        Self::BadAnnotation { name, value, of_namespace, what }
    }

    /// The word in metrics and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::BadAnnotation { .. } => "bad_annotation",
            Self::BadLabel { .. } => "bad_label",
            Self::HostNetwork => "host_network",
            Self::IsALabel { .. } | Self::Slip { .. } => "unknown_annotation",
            Self::NeverEnds => "never_ends",
            Self::NoSuchContainer { .. } => "no_such_container",
            Self::NotAPod => "not_a_pod",
            Self::NotAllowed { .. } => "not_allowed",
            Self::PatchFails { .. } => "patch_fails",
            Self::PortTaken { .. } => "port_taken",
            Self::VolumeTaken { .. } => "volume_taken",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = |of_namespace: &bool| if *of_namespace { "the namespace's " } else { "" };
        match self {
            Self::BadAnnotation { name, value, of_namespace, what } => {
                let whose = whose(of_namespace);
                write!(f, "{whose}annotation pillion.dev/{name}: \"{value}\": {what}")
            }
            Self::BadLabel { value } => {
                write!(f, "label pillion.dev/inject: \"{value}\": it is neither \"true\" nor \"false\"")
            }
            Self::HostNetwork => f.write_str(
                "the pod uses the node's network (hostNetwork), where loopback and ports belong to \
                 all; label it pillion.dev/inject: \"false\", or run one Pillion of its own there",
            ),
            Self::IsALabel { name } => {
                write!(f, "{name} is a label and stands among the annotations; move it to metadata.labels")
            }
            Self::NeverEnds => f.write_str(
                "the pod is meant to end, and a sidecar that is a plain container would keep it from \
                 that: use native sidecars (Kubernetes 1.33, or pillion.dev/native: always from 1.29), \
                 or set pillion.dev/job-mode: quit and let the application end with a POST to \
                 /quitquitquit of the LLM API's port",
            ),
            Self::NoSuchContainer { name, nearest } => {
                write!(f, "annotation pillion.dev/containers: there is no container `{name}` that could get variables")?;
                nearest.as_ref().map_or(Ok(()), |nearest| write!(f, "; did you mean `{nearest}`?"))
            }
            Self::NotAPod => f.write_str("it has no containers"),
            Self::NotAllowed { annotation } => write!(
                f,
                "annotation pillion.dev/{annotation} is not allowed here; whoever runs the injector can \
                 name it in allowedAnnotations"
            ),
            Self::PatchFails { what } => {
                write!(f, "annotation pillion.dev/json-patch does not fit the sidecar: {what}")
            }
            Self::PortTaken { container, port, annotation } => write!(
                f,
                "container `{container}` uses port {port}, which the sidecar needs; choose another one \
                 with the annotation pillion.dev/{annotation}"
            ),
            Self::Slip { name, nearest, of_namespace } => {
                let whose = whose(of_namespace);
                write!(f, "{whose}annotation {name} is unknown; did you mean {nearest}?")
            }
            Self::VolumeTaken { name } => write!(
                f,
                "the pod has a volume `{name}` of its own, a name that the sidecar's volume needs; rename it"
            ),
        }
    }
}

impl std::error::Error for Refused {}
