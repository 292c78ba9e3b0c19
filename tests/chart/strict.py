"""Strict schemas of Kubernetes: a field that nobody knows is an error."""

import kubernetes_validate

# Kinds of operators, whose schemas are not among those of Kubernetes.
FOREIGN = {"cert-manager.io/v1", "cilium.io/v2", "kustomize.config.k8s.io/v1beta1", "monitoring.coreos.com/v1"}


def check(document, version):
    """Errs with what is wrong; a kind of an operator's passes, and is told by `is_foreign`."""
    if is_foreign(document):
        return
    major, minor, *_ = version.split(".")
    kubernetes_validate.validate(document, f"{major}.{minor}", strict=True)


def is_foreign(document):
    return document["apiVersion"] in FOREIGN
