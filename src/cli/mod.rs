//! The command line: what can be asked of the binary, and what its flags mean.
//!
//! A flag wins over its environment variable, which wins over the file.

use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// Say what hedging saved, or would have, and what it cost; draw waits with and without it
    #[command(after_help = REPORT_EXAMPLES)]
    Report(Report),
    /// Run the sidecar
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
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

const SERVE_EXAMPLES: &str = "\
Without a file, every provider whose key is in the environment becomes routable as `prefix/model`:
OPENAI_API_KEY makes `openai/*`, ANTHROPIC_API_KEY makes `anthropic/*`, and so on.

SIGTERM stops accepting and lets requests finish; a second signal ends at once.

Examples:
  pillion serve -c config.yaml
  pillion serve -c /etc/pillion/config.yaml --admin 0.0.0.0:24081 --state-dir /var/lib/pillion";

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
