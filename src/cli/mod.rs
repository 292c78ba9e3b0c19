//! The command line: what can be asked of the binary, and what its flags mean.
//!
//! A flag wins over its environment variable, which wins over the file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The LLM gateway that rides in the pod: OpenAI API in front, every provider behind.
#[derive(Debug, Parser)]
#[command(name = "pillion", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pillion demo                      see it work: no key, no network, no file
  pillion check config.yaml         every problem of a LiteLLM configuration, with its line
  pillion explain -c config.yaml -m gpt-4o   who would be asked, and why
  pillion serve -c config.yaml      the sidecar
  pillion fleet                     who shares with a sidecar that runs, and what they agree on
  pillion report --svg waits.svg    what hedging was worth, of a sidecar that runs
  pillion inject -f deployment.yaml | kubectl apply -f -   a sidecar beside an application
  OPENAI_API_KEY=… pillion serve    the sidecar for the providers whose keys are set

Exit codes: 0 done, 1 the input is wrong, 2 the command line is wrong.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check configuration files: every problem with file, line, column and a hint
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Run the whole product with simulated providers inside: no key, no network, no file
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(Demo),
    /// Say who would be asked for a model, with which chance, and why the others would not
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Say which sidecars share what they see, and what they agree on
    #[command(after_help = FLEET_EXAMPLES)]
    Fleet(Fleet),
    /// Put the sidecar into the pods of manifests, or take it out again
    #[command(after_help = INJECT_EXAMPLES)]
    Inject(Inject),
    /// Say what hedging saved, or would have, and what it cost; draw waits with and without it
    #[command(after_help = REPORT_EXAMPLES)]
    Report(Report),
    /// Run the sidecar
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Wait some seconds: for lifecycle hooks, where an image has no shell
    #[command(after_help = SLEEP_EXAMPLES)]
    Sleep(Sleep),
    /// Wait until the sidecar of this pod is ready
    #[command(name = "wait-ready", after_help = WAIT_EXAMPLES)]
    WaitReady(WaitReady),
    /// Run the admission webhook, which puts the sidecar into the pods of a cluster
    #[command(after_help = WEBHOOK_EXAMPLES)]
    Webhook(Webhook),
}

const CHECK_EXAMPLES: &str = "\
Examples:
  pillion check config.yaml
  pillion check --format json *.yaml

Exits with 1 where a file has an error; warnings do not count.";

const DEMO_EXAMPLES: &str = "\
Three deployments answer: one steady, one with a heavy latency tail, one that fails now and then.
They are real HTTP servers on loopback, reached as any provider is.

Example:
  pillion demo
  curl -s http://127.0.0.1:24080/v1/chat/completions -H 'content-type: application/json' \\
    -d '{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'";

const EXPLAIN_EXAMPLES: &str = "\
It says what a sidecar would do that has just begun. What one does that runs, with all it has
learned, is said on its admin port: curl 'http://127.0.0.1:24081/explain?model=gpt-4o'

Examples:
  pillion explain -c config.yaml --model gpt-4o
  pillion explain -c config.yaml --model gpt-4o --format json";

const FLEET_EXAMPLES: &str = "\
One sidecar tells of all, as it sees them: who is there, in which zone, with which version and which
configuration, and what each believes: how many there are and how many deployments are in cooldown.
A configuration that differs from its own is marked with an asterisk.

Examples:
  pillion fleet
  pillion fleet --admin http://10.0.3.7:24081
  pillion fleet --format json";

const INJECT_EXAMPLES: &str = "\
Every pod of the manifests gets it: Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job and
CronJob, alone, in lists and in files of several documents. The rest of each file stays as it was,
comments and order too; what was done is told on standard error. A second time changes nothing.

Labels and annotations are those of the webhook: pillion.dev/inject: \"false\" as a label of a pod
keeps it out, annotations such as pillion.dev/cpu-request set what is put in.

Examples:
  pillion inject -f deployment.yaml --image registry.example.com/pillion:0.1.0 | kubectl apply -f -
  kustomize build . | pillion inject --kube-version 1.31 > with-sidecar.yaml
  pillion inject --uninject -f with-sidecar.yaml

Exits with 1 and prints no manifest where a pod cannot have a sidecar.";

const REPORT_EXAMPLES: &str = "\
A sidecar tells it on its admin port, since its start, for each model group, with streams and whole
answers apart. Where hedging is only observed it says what hedging would have done.

The picture shows which share of requests waits longer than a time, on logarithmic axes, with the
50th, 95th and 99th percentile and their intervals.

Examples:
  pillion report
  pillion report --from http://10.0.3.7:24081 --svg waits.svg
  pillion report --format json > monday.json
  pillion report --from monday.json
  kubectl exec my-pod -c app -- curl -s http://127.0.0.1:24081/report | pillion report --from -";

const SLEEP_EXAMPLES: &str = "\
Example, of a container:
  lifecycle: {preStop: {exec: {command: [/pillion, sleep, \"5\"]}}}";

const WAIT_EXAMPLES: &str = "\
Exits with 0 as soon as it is ready, and with 1 when the time is over.

Examples:
  pillion wait-ready --timeout 30
  pillion wait-ready --from http://127.0.0.1:30081";

const WEBHOOK_EXAMPLES: &str = "\
It answers at /mutate over TLS, and on its admin port at /livez, /readyz, /startupz and /metrics. It
makes and renews its certificate, keeps the caBundle of its MutatingWebhookConfiguration right, and
copies one ConfigMap into namespaces that are labelled pillion.dev/inject: enabled. The chart writes
its settings.

Example:
  pillion webhook --config /etc/pillion/injector/injector.yaml";

const SERVE_EXAMPLES: &str = "\
Without a file, every provider whose key is in the environment becomes routable as `prefix/model`:
OPENAI_API_KEY makes `openai/*`, ANTHROPIC_API_KEY makes `anthropic/*`, and so on.

SIGTERM stops accepting and lets requests finish; a second signal ends at once.

Examples:
  pillion serve -c config.yaml
  pillion serve -c /etc/pillion/config.yaml --admin '[::]:24081' --state-dir /var/lib/pillion
  pillion serve -c config.yaml --keys-dir /etc/pillion/keys --await-config";

/// `pillion serve`.
#[expect(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Debug, Clone, Default, Args)]
pub struct Serve {
    /// The LiteLLM configuration file; changes are taken up while it runs
    #[arg(short, long, value_name = "FILE", env = "PILLION_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where to serve the LLM API [default: port 24080 of 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDR", env = "PILLION_LISTEN", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,
    /// Where to serve health and metrics [default: port 24081 of 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDR", env = "PILLION_ADMIN", value_delimiter = ',')]
    pub admin: Vec<SocketAddr>,
    /// Where to keep the last good configuration, to start from when the file is broken
    #[arg(long, value_name = "DIR", env = "PILLION_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// A second configuration file, joined to the first where it is there
    #[arg(long, value_name = "FILE", env = "PILLION_OVERLAY")]
    pub overlay: Option<PathBuf>,
    /// A folder with one file per variable, as a Secret is mounted: os.environ/NAME is read from it
    /// first, and changes are taken up while it runs
    #[arg(long, value_name = "DIR", env = "PILLION_KEYS_DIR")]
    pub keys_dir: Option<PathBuf>,
    /// Start without a configuration that can be served, answer 503 and wait for one
    #[arg(long, env = "PILLION_AWAIT_CONFIG")]
    pub await_config: bool,
    /// How much is logged: error, warn, info, debug or trace [default: as the file says]
    #[arg(long, value_name = "LEVEL", env = "PILLION_LOG_LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub log_level: Option<String>,
    /// After SIGTERM go on, as long as somebody is connected and this time is not over: for an
    /// application that is told to end at the same moment, or later
    #[arg(long, value_name = "SECONDS", env = "PILLION_DRAIN", value_parser = seconds)]
    pub drain: Option<Duration>,
    /// How long nobody must have been connected for that to be over [default: 2]
    #[arg(long, value_name = "SECONDS", env = "PILLION_DRAIN_IDLE", value_parser = seconds)]
    pub drain_idle: Option<Duration>,
    /// End by POST /quitquitquit on the port of the LLM API: for Jobs that end by themselves
    #[arg(long, env = "PILLION_QUIT")]
    pub quit: bool,
}

/// `pillion demo`.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Where to serve the LLM API
    #[arg(long, value_name = "ADDR", env = "PILLION_LISTEN", default_value = "127.0.0.1:24080")]
    pub listen: SocketAddr,
    /// Where to serve health and metrics
    #[arg(long, value_name = "ADDR", env = "PILLION_ADMIN", default_value = "127.0.0.1:24081")]
    pub admin: SocketAddr,
}

/// `pillion check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// The configuration files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `pillion explain`.
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// The LiteLLM configuration file
    #[arg(short, long, value_name = "FILE", env = "PILLION_CONFIG")]
    pub config: PathBuf,
    /// The model, as a request would name it
    #[arg(short, long, value_name = "NAME")]
    pub model: String,
    /// The tags that a request would carry
    #[arg(short, long, value_name = "TAG", value_delimiter = ',')]
    pub tags: Vec<Box<str>>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `pillion fleet`.
#[derive(Debug, Clone, Args)]
pub struct Fleet {
    /// The admin address of a sidecar
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:24081")]
    pub admin: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `pillion inject`.
#[derive(Debug, Clone, Args)]
pub struct Inject {
    /// A file with manifests, or - for standard input, which is read where no file is named
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Take the sidecar out again
    #[arg(long)]
    pub uninject: bool,
    /// The settings of the injector, as the chart writes them
    #[arg(short, long, value_name = "FILE", env = "PILLION_INJECTOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// The sidecar's image, in place of that of the settings
    #[arg(long, value_name = "IMAGE", conflicts_with = "uninject")]
    pub image: Option<String>,
    /// The version of the cluster; before 1.33 the sidecar is a plain container [default: a current one]
    #[arg(long, value_name = "VERSION", conflicts_with = "uninject")]
    pub kube_version: Option<String>,
}

/// `pillion sleep`.
#[derive(Debug, Clone, Args)]
pub struct Sleep {
    /// How long
    #[arg(value_name = "SECONDS", value_parser = seconds)]
    pub time: Duration,
}

/// `pillion wait-ready`.
#[expect(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Debug, Clone, Args)]
pub struct WaitReady {
    /// The admin address of the sidecar [default: that of PILLION_ADMIN, on loopback]
    #[arg(long, value_name = "URL")]
    pub from: Option<http::Uri>,
    /// Where the sidecar serves health; its port is asked on loopback
    #[arg(long, value_name = "ADDR", env = "PILLION_ADMIN", value_delimiter = ',', hide = true)]
    pub admin: Vec<SocketAddr>,
    /// How long it may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub timeout: Duration,
}

/// `pillion webhook`.
#[expect(clippy::doc_markdown, reason = "clap prints these lines as they stand")]
#[derive(Debug, Clone, Args)]
pub struct Webhook {
    /// Its settings: what is put into pods, and the names of what it writes
    #[arg(short, long, value_name = "FILE", env = "PILLION_INJECTOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where to answer reviews, over TLS
    #[arg(
        long,
        value_name = "ADDR",
        env = "PILLION_WEBHOOK_LISTEN",
        value_delimiter = ',',
        default_value = "[::]:24443"
    )]
    pub listen: Vec<SocketAddr>,
    /// Where to serve health and metrics
    #[arg(
        long,
        value_name = "ADDR",
        env = "PILLION_ADMIN",
        value_delimiter = ',',
        default_value = "[::]:24081"
    )]
    pub admin: Vec<SocketAddr>,
    /// Its own namespace [default: that of its service account]
    #[arg(long, value_name = "NAME", env = "PILLION_POD_NAMESPACE")]
    pub namespace: Option<String>,
    /// Its own pod, to tell its writes from those of its replicas [default: its process id]
    #[arg(long, value_name = "NAME", env = "PILLION_POD_NAME")]
    pub pod: Option<String>,
    /// The API server [default: that of KUBERNETES_SERVICE_HOST]
    #[arg(long, value_name = "URL", env = "PILLION_API_SERVER")]
    pub api_server: Option<http::Uri>,
    /// The folder with its token and the API server's CA
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    pub service_account: PathBuf,
    /// The folder with tls.crt and tls.key, where its certificate is somebody else's
    #[arg(long, value_name = "DIR", default_value = "/etc/pillion/tls")]
    pub tls_dir: PathBuf,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let read = text.trim_end_matches('s').parse().ok();
    let read = read.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    read.ok_or_else(|| "it is no number of seconds".to_owned())
}

/// `pillion report`.
#[derive(Debug, Clone, Args)]
pub struct Report {
    /// Where it is read: the admin address of a sidecar, a file with its JSON, or - for a pipe
    #[arg(long, value_name = "URL|FILE", default_value = "http://127.0.0.1:24081")]
    pub from: String,
    /// Where to write the picture, as SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How `check`, `explain`, `fleet` and `report` print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON; of `check` one object per file
    Json,
    /// For people
    Text,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_read() {
        let cli = Cli::parse_from([
            "pillion",
            "serve",
            "-c",
            "x.yaml",
            "--listen",
            "127.0.0.1:1,[::1]:1",
        ]);
        let Command::Serve(serve) = cli.command else { panic!() };
        assert_eq!(serve.listen.len(), 2);
        assert_eq!(serve.config, Some("x.yaml".into()));
    }
}
