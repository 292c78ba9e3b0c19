//! Manifests in and out.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn settings() -> Settings {
    Settings::default()
}

fn injected(text: &str) -> Edited {
    let settings = settings();
    change(text, Task::Inject { settings: &settings, server: Version::read("1.33") }).unwrap()
}

fn uninjected(text: &str) -> String {
    change(text, Task::Uninject).unwrap().text
}

/// Every line of the text is in the other one, in the same order.
#[track_caller]
fn is_kept(text: &str, within: &str) {
    let mut lines = within.lines();
    for line in text.lines() {
        assert!(lines.any(|other| other == line), "lost: {line}\n{within}");
    }
}

/// Nothing is lost, nothing is written anew, a second time changes nothing, and it is taken back
/// to the byte.
#[track_caller]
fn check(text: &str) -> String {
    let first = injected(text);
    assert!(!first.notes.iter().any(|it| it.is_error || it.what.contains("anew")), "{first:?}");
    assert_ne!(first.text, text);
    assert_eq!(injected(&first.text).text, first.text);
    assert_eq!(uninjected(&first.text), text);
    first.text
}

const DEPLOYMENT: &str = "\
# The chat service.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: chat   # its name
spec:
  selector: {matchLabels: {app: chat}}
  template:
    metadata:
      labels:
        app: chat
    spec:
      # Two of them.
      containers:
        # The first.
        - name: chat
          image: chat:3
          env:
            - name: LOG
              value: info # much

            # A script.
          command:
            - sh
            - -c
            - |
              echo one
              # no comment
        - image: worker:3
          name: worker
      # At the end.
      terminationGracePeriodSeconds: 10
# After all.
";

#[test]
fn a_deployment_keeps_its_comments_and_its_order() {
    let text = check(DEPLOYMENT);
    is_kept(DEPLOYMENT, &text);
    assert!(text.contains("      initContainers:\n        - name: pillion\n"), "{text}");
    assert!(text.contains("value: Deployment/chat"), "{text}");
    assert_eq!(text.matches("OPENAI_BASE_URL\n").count(), 2, "{text}");
}

#[test]
fn a_plain_container_comes_before_what_is_said_of_the_first_one() {
    let settings = settings();
    let task = Task::Inject { settings: &settings, server: Version::read("1.30") };
    let changed = change(DEPLOYMENT, task).unwrap().text;
    is_kept(DEPLOYMENT, &changed);
    let (ours, theirs) = (changed.find("- name: pillion").unwrap(), changed.find("# The first."));
    assert!(ours < theirs.unwrap(), "{changed}");
    assert_eq!(uninjected(&changed), DEPLOYMENT);
}

#[test]
fn every_kind_of_workload_has_its_place() {
    let pod = "spec:\n  containers:\n  - name: a\n    image: a:1\n";
    let below = |count: usize, text: &str| -> String {
        let indent = " ".repeat(count);
        format!("{indent}{text}")
            .replace('\n', &format!("\n{indent}"))
            .trim_end_matches(' ')
            .to_owned()
    };
    check(&format!("kind: Pod\nmetadata:\n  name: a\n{pod}"));
    for kind in
        ["DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"]
    {
        let text =
            format!("kind: {kind}\nmetadata: {{name: a}}\nspec:\n  template:\n{}", below(4, pod));
        assert!(check(&text).contains(&format!("{kind}/a")));
    }
    let job = below(8, pod);
    check(&format!(
        "kind: CronJob\nmetadata: {{name: a}}\nspec:\n  jobTemplate:\n    spec:\n      template:\n{job}"
    ));
    let item = below(2, &format!("kind: Pod\nmetadata:\n  name: a\n{pod}"));
    let list = format!("kind: List\nitems:\n-{}-{}", &item[1..], &item[1..]);
    assert_eq!(check(&list).matches("name: pillion\n").count(), 2);
}

#[test]
fn documents_without_a_pod_pass_byte_for_byte() {
    let others = "%YAML 1.2\n---\n# nothing\n---\nkind:   ConfigMap\ndata: {a:   'b',}\n...\n---\r\nkind: Service\r\n";
    let unchanged = injected(others);
    assert_eq!((unchanged.text.as_str(), unchanged.notes.len()), (others, 0));
    let both = format!("{others}---\n{DEPLOYMENT}---\nkind: Secret\ndata: {{}}\n");
    let changed = check(&both);
    assert!(changed.starts_with(others) && changed.ends_with("---\nkind: Secret\ndata: {}\n"));
}

#[test]
fn every_way_to_write_a_pod_is_understood() {
    // Lists level with their key.
    let text = check(
        "kind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: a\n  volumes:\n  - name: b\n",
    );
    assert!(text.contains("\n  initContainers:\n  - name: pillion\n"), "{text}");
    // JSON, on one line.
    let json =
        r#"{"kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"a","env":[]}]}}"#;
    let text = injected(json).text;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["spec"]["initContainers"][0]["name"], "pillion");
    assert_eq!(text.lines().count(), 1);
    // Carriage returns.
    let text =
        check("kind: Pod\r\nmetadata:\r\n  name: a\r\nspec:\r\n  containers:\r\n    - name: a\r\n");
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    // Comments behind quotes, dashes on lines of their own, an anchor that nobody shares.
    check(
        "kind: Pod\nmetadata: &m\n  name: 'it''s' # a\nspec:\n  containers:\n  -\n    name: \"a\\\"\" # b\n    env:\n    - {name: A, value: \"b\"} # c\n",
    );
    // Letters that are more than a byte.
    check(
        "kind: Pod\nmetadata:\n  name: a # é…\nspec:\n  containers:\n    - name: a\n      args: [ü, \"→\"]\n",
    );
    // No metadata, and no newline at the end.
    let text = injected("kind: Pod\nspec:\n  containers:\n    - name: a");
    assert!(means(&text.text, &node::read(&text.text).unwrap().unwrap().value()));
    assert!(text.text.contains("- name: a\n"), "{}", text.text);
    // Fields that are there and empty.
    let text = "kind: Pod\nmetadata:\n  labels:\n  annotations: ~\nspec:\n  volumes: # none\n  containers: [{name: a}]\n";
    let changed = injected(text);
    assert!(
        changed.text.contains("# none") && !changed.notes[0].what.contains("anew"),
        "{changed:?}"
    );
}

#[test]
fn what_is_shared_by_anchors_is_written_anew_and_told() {
    let text = "kind: List\nitems:\n  - &a\n    kind: Pod\n    metadata: {name: a}\n    spec:\n      containers:\n        - name: a\n  - *a\n";
    let changed = injected(text);
    assert!(changed.notes.iter().any(|it| it.what.contains("written anew")), "{changed:?}");
    let value = node::read(&changed.text).unwrap().unwrap().value();
    assert_eq!(value["items"][0], value["items"][1]);
    assert_eq!(value["items"][1]["spec"]["initContainers"][0]["name"], "pillion");
}

#[test]
fn a_pod_that_is_refused_is_an_error_with_its_name() {
    let text =
        "kind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: yes, containers: [{name: a}]}\n";
    let edited = injected(text);
    let [note] = edited.notes.as_slice() else { panic!("{edited:?}") };
    assert!(note.is_error && note.to_string().starts_with("Pod/a: "), "{note}");
    assert_eq!(edited.text, text);
}

#[test]
fn a_fault_is_told_at_its_line_in_the_whole_text() {
    let settings = settings();
    let task = Task::Inject { settings: &settings, server: None };
    let error = change("kind: Service\n---\nkind: Pod\nspec: [a\nb: c\n", task).unwrap_err();
    assert!((4..=6).contains(&error.line), "{error}");
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (of, name) in ('a'..='i').zip('b'..='j') {
        let aliases = vec![format!("*{of}"); 10].join(", ");
        bomb.extend([name.to_string(), format!(": &{name} [{aliases}]\n")]);
    }
    assert!(change(&bomb, task).unwrap_err().what.contains("too large"));
}

proptest! {
    // Each case reads its text some twenty times.
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    // Whatever a file holds, the pods in it mean what the plan says or the file is refused.
    #[test]
    fn bytes_by_chance_never_panic(text in "[ a-c:{}\\[\\],\\-#|>&*'\"\n]{0,200}") {
        let settings = settings();
        let task = Task::Inject { settings: &settings, server: None };
        let _ = change(&text, task);
        let _ = change(&format!("kind: Pod\nspec:\n  containers:\n{text}"), task);
    }

    #[test]
    fn a_pod_in_any_style_means_what_the_plan_says(
        env in prop::collection::vec("[A-Z]{3}", 0..3),
        is_flow in prop::collection::vec(any::<bool>(), 6),
    ) {
        let env: Vec<_> = env.iter().map(|name| json!({"name": name, "value": "yes"})).collect();
        let parts = [
            ("kind", json!("Pod")),
            ("metadata", json!({"name": "a", "labels": {"a": "b"}})),
        ];
        let mut text = String::new();
        for ((name, value), is_flow) in parts.iter().zip(&is_flow) {
            text.push_str(&member(name, value, 0, *is_flow));
        }
        let mut container = member("name", &json!("a"), 6, false);
        // An empty list would not come back.
        if !env.is_empty() {
            container.push_str(&member("env", &json!(env), 6, is_flow[2]));
        }
        text.push_str("spec:\n");
        text.push_str(&member("volumes", &json!([{"name": "v"}]), 2, is_flow[3]));
        text.push_str("  containers:\n    -");
        text.push_str(&container[5..]);
        text.push_str(&member("initContainers", &json!([{"name": "i"}]), 2, is_flow[4]));
        let before = node::read(&text).unwrap().unwrap().value();
        let changed = injected(&text);
        prop_assert!(!changed.notes.iter().any(|it| it.is_error || it.what.contains("anew")), "{}\n{:?}", text, changed);
        let back = uninjected(&changed.text);
        prop_assert_eq!(node::read(&back).unwrap().unwrap().value(), before, "{}", back);
    }
}

fn member(name: &str, value: &Value, column: usize, is_flow: bool) -> String {
    if is_flow {
        format!("{}{name}: {}\n", " ".repeat(column), emit::inline(value))
    } else {
        emit::member(name, value, column, emit::Lists::Indented)
    }
}
