//! The API server's question and our answer: `AdmissionReview`, version 1.
//!
//! Bytes in, bytes out. A pod that cannot have a sidecar is refused with the reason; a question
//! that is none is an error of the transport, for there is nobody to answer.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::field;
use super::{Ask, Decision, Mode, OptIn, Refused, Settings, Skipped, Version, Workload, plan};

/// What is known around a pod.
#[derive(Debug)]
pub struct Around<'a> {
    /// Who says that it gets a sidecar.
    pub opt_in: OptIn,
    /// The annotations of its namespace.
    pub defaults: Map<String, Value>,
    /// The cluster's version.
    pub server: Option<Version>,
    /// What there is to add.
    pub settings: &'a Settings,
}

/// An answer and what it says.
#[derive(Debug)]
pub struct Reviewed {
    /// The whole `AdmissionReview`.
    pub answer: Value,
    /// What became of the pod.
    pub outcome: Outcome,
    /// The pod, as namespace and name.
    pub pod: String,
    /// The reason of a refusal.
    pub reason: Option<String>,
    /// Whether the pod is only tried, and will not be there.
    pub is_dry_run: bool,
}

/// What became of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It gets a sidecar, or what was missing of it.
    Injected(Mode),
    /// It does not start.
    Refused(&'static str),
    /// It passes as it is, because it asks for nothing.
    Skipped(Skipped),
    /// It has all there is to have.
    Unchanged,
}

impl Outcome {
    /// The outcome and its reason, as metrics say them.
    pub const fn as_labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Injected(mode) => ("injected", mode.as_str()),
            Self::Refused(why) => ("refused", why),
            Self::Skipped(why) => ("skipped", why.as_str()),
            Self::Unchanged => ("unchanged", "complete"),
        }
    }
}

/// The bytes are no question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadReview {
    /// They are no JSON.
    NotJson(String),
    /// Another version, or another kind of object.
    NotOurs(String),
    /// What an answer needs is missing.
    Without(&'static str),
}

impl fmt::Display for BadReview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(what) => write!(f, "the body is no JSON: {what}"),
            Self::NotOurs(what) => {
                write!(f, "expected an AdmissionReview of admission.k8s.io/v1, found {what}")
            }
            Self::Without(what) => write!(f, "the AdmissionReview has no {what}"),
        }
    }
}

impl std::error::Error for BadReview {}

/// Answers one question. `around` is asked for what is known of a namespace.
pub fn review<'a>(
    body: &[u8],
    around: impl FnOnce(&str) -> Around<'a>,
) -> Result<Reviewed, BadReview> {
    let review: Value =
        serde_json::from_slice(body).map_err(|error| BadReview::NotJson(error.to_string()))?;
    let (version, kind) =
        (field(&review, "/apiVersion").as_str(), field(&review, "/kind").as_str());
    if (version, kind) != (Some("admission.k8s.io/v1"), Some("AdmissionReview")) {
        let said = |it: Option<&str>| it.unwrap_or("nothing").to_owned();
        return Err(BadReview::NotOurs(format!("{} {}", said(version), said(kind))));
    }
    let request = review.get("request").ok_or(BadReview::Without("request"))?;
    let id = field(request, "/uid").as_str().ok_or(BadReview::Without("request.uid"))?;
    let namespace = field(request, "/namespace").as_str().unwrap_or_default();
    let pod = field(request, "/object");
    let said = if is_ours(request) {
        if !pod.is_object() {
            return Err(BadReview::Without("request.object"));
        }
        decide(pod, &around(namespace))
    } else {
        Said::passed(Outcome::Skipped(Skipped::NotAsked))
    };
    let mut response = said.response;
    response.insert("uid".to_owned(), id.into());
    let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    let workload = Workload::of(pod);
    Ok(Reviewed {
        answer,
        outcome: said.outcome,
        pod: format!("{namespace}/{}", workload.name),
        reason: said.reason,
        is_dry_run: field(request, "/dryRun") == true,
    })
}

/// Whether it asks about a pod that is being made; anything else passes.
fn is_ours(request: &Value) -> bool {
    let of = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
    field(request, "/kind/kind") == "Pod"
        && of("operation") == "CREATE"
        && of("subResource").is_empty()
}

struct Said {
    response: Map<String, Value>,
    outcome: Outcome,
    reason: Option<String>,
}

impl Said {
    fn passed(outcome: Outcome) -> Self {
        let response = Map::from_iter([("allowed".to_owned(), true.into())]);
        Self { response, outcome, reason: None }
    }

    fn refused(why: &Refused) -> Self {
        let reason = format!("Pillion: {why}");
        let status = json!({"code": 403, "reason": "Forbidden", "message": reason});
        let response =
            Map::from_iter([("allowed".to_owned(), false.into()), ("status".to_owned(), status)]);
        Self { response, outcome: Outcome::Refused(why.as_str()), reason: Some(reason) }
    }
}

fn decide(pod: &Value, around: &Around<'_>) -> Said {
    let ask = Ask {
        pod,
        workload: Workload::of(pod),
        defaults: &around.defaults,
        opt_in: around.opt_in,
        server: around.server,
        settings: around.settings,
    };
    let plan = match plan(&ask) {
        Ok(Decision::Inject(plan)) => plan,
        Ok(Decision::Skip(why)) => {
            let mut said = Said::passed(Outcome::Skipped(why));
            if why == Skipped::Windows {
                said.warn(vec![
                    "Pillion has no sidecar for Windows; the pod runs without it".into(),
                ]);
            }
            return said;
        }
        Err(why) => return Said::refused(&why),
    };
    if plan.operations.is_empty() {
        return Said::passed(Outcome::Unchanged);
    }
    let mut said = Said::passed(Outcome::Injected(plan.mode));
    let patch = serde_json::to_string(&plan.operations).unwrap_or_default();
    said.response.insert("patchType".to_owned(), "JSONPatch".into());
    said.response.insert("patch".to_owned(), STANDARD.encode(patch).into());
    said.warn(plan.warnings);
    said
}

impl Said {
    fn warn(&mut self, warnings: Vec<String>) {
        if !warnings.is_empty() {
            let warnings: Vec<_> =
                warnings.into_iter().map(|it| format!("Pillion: {it}")).collect();
            self.response.insert("warnings".to_owned(), warnings.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(change: impl FnOnce(&mut Value)) -> Result<Reviewed, BadReview> {
        let mut review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "42", "namespace": "team-a", "operation": "CREATE",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "object": {
                    "metadata": {"generateName": "chat-"},
                    "spec": {"containers": [{"name": "chat", "image": "chat:3"}]},
                },
            },
        });
        change(&mut review);
        let settings = Settings::default();
        let reviewed = review_of(&review, &settings);
        drop(review);
        reviewed
    }

    fn review_of(body: &Value, settings: &Settings) -> Result<Reviewed, BadReview> {
        review(body.to_string().as_bytes(), |namespace| {
            assert_eq!(namespace, "team-a");
            let (opt_in, defaults) = (OptIn::Enabled, Map::new());
            Around { opt_in, defaults, server: Version::read("1.33"), settings }
        })
    }

    #[test]
    fn a_pod_gets_a_patch_that_fits_it() {
        let reviewed = ask(|_| {}).unwrap();
        assert_eq!(reviewed.outcome, Outcome::Injected(Mode::Native));
        assert_eq!(reviewed.pod, "team-a/chat");
        let response = &reviewed.answer["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("42"), &json!(true)));
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "chat"}]}});
        json_patch::patch(&mut pod, &patch).unwrap();
        assert_eq!(pod["spec"]["initContainers"][0]["name"], "pillion");
        assert_eq!(pod["metadata"]["labels"]["pillion.dev/injected"], "true");
    }

    #[test]
    fn a_pod_that_is_only_tried_gets_the_same_answer_and_is_told_apart() {
        let real = ask(|_| {}).unwrap();
        let tried = ask(|it| it["request"]["dryRun"] = true.into()).unwrap();
        assert_eq!(tried.answer, real.answer);
        assert_eq!((real.is_dry_run, tried.is_dry_run), (false, true));
        assert!(!ask(|it| it["request"]["dryRun"] = false.into()).unwrap().is_dry_run);
    }

    #[test]
    fn a_refusal_says_why_and_has_no_patch() {
        let reviewed = ask(|it| it["request"]["object"]["spec"]["hostNetwork"] = true.into());
        let reviewed = reviewed.unwrap();
        assert_eq!(reviewed.outcome, Outcome::Refused("host_network"));
        let response = &reviewed.answer["response"];
        assert_eq!(response["allowed"], false);
        assert!(response["status"]["message"].as_str().unwrap().contains("hostNetwork"));
        assert!(response.get("patch").is_none() && response.get("patchType").is_none());
    }

    #[test]
    fn what_is_no_new_pod_passes_as_it_is() {
        let changes: [fn(&mut Value); 3] = [
            |it| it["request"]["operation"] = "UPDATE".into(),
            |it| it["request"]["kind"]["kind"] = "Service".into(),
            |it| it["request"]["subResource"] = "ephemeralcontainers".into(),
        ];
        for change in changes {
            let reviewed = ask(change).unwrap();
            assert_eq!(reviewed.answer["response"], json!({"allowed": true, "uid": "42"}));
        }
    }

    #[test]
    fn windows_is_skipped_with_a_warning() {
        let reviewed = ask(|it| it["request"]["object"]["spec"]["os"] = json!({"name": "windows"}));
        let response = &reviewed.unwrap().answer["response"];
        assert_eq!(response["allowed"], true);
        assert!(response["warnings"][0].as_str().unwrap().contains("Windows"));
    }

    #[test]
    fn bytes_that_are_no_question_are_told_so() {
        type Change = fn(&mut Value);
        let changes: [(Change, &str); 4] = [
            (|it| it["apiVersion"] = "admission.k8s.io/v1beta1".into(), "v1beta1"),
            (|it| *it = json!([1]), "found nothing nothing"),
            (|it| it["request"] = json!({}), "request.uid"),
            (|it| it["request"]["object"] = Value::Null, "request.object"),
        ];
        for (change, says) in changes {
            let said = ask(change).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
        let settings = Settings::default();
        let around = |_: &str| Around {
            opt_in: OptIn::Selected,
            defaults: Map::new(),
            server: None,
            settings: &settings,
        };
        assert!(matches!(review(b"{", around), Err(BadReview::NotJson(_))));
    }
}
