//! The `keyrange` program: one file per subcommand in [`commands`], what they share in [`options`], a job's processes in
//! [`launch`].
//!
//! Exit codes: 0 done, 1 the job failed, 2 bad input (options, configuration, data), 3 and 4 what the doctor found, 130
//! and 143 after Ctrl-C and SIGTERM.

mod bench;
mod commands;
mod config_file;
mod doctor;
mod failure;
mod launch;
mod options;
mod plot;
mod verbs_options;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::failure::{Failure, exit_code};

/// A parameter server: many workers train one big sparse model that lives, cut into key ranges, on server threads.
///
/// Options also come from a TOML file (--config) and from the environment; a flag is stronger than the environment,
/// the environment stronger than the file.
#[derive(Parser)]
#[command(name = "keyrange", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// TOML file with options: a table per subcommand ([train.sparse-lr]), keys named like the long options
    #[arg(long, global = true, env = "KEYRANGE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// What to log on standard error: error, warn, info, debug, trace, or per module (keyrange=debug)
    #[arg(long, global = true, env = "KEYRANGE_LOG", default_value = "warn", value_name = "FILTER")]
    log: String,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model with servers and workers on this machine
    Train {
        #[command(subcommand)]
        application: commands::train::Train,
    },
    /// Check a recorded run: staleness bound, read-my-writes, monotonicity, exactly-once; exit code 1 at a violation
    CheckHistory(commands::check_history::CheckHistoryArgs),
    /// Evaluate a model on data
    Eval {
        #[command(subcommand)]
        application: commands::eval::Eval,
    },
    /// Make up data from a seed
    Gen {
        #[command(subcommand)]
        application: commands::generate::Generate,
    },
    /// Run a job's manager; servers and workers join it, from this and other machines
    Manager {
        #[command(subcommand)]
        application: commands::manager::Manager,
    },
    /// Run one server of a job: the manager must have been started
    Server(commands::server::ServerArgs),
    /// Run one worker of a job: the manager must have been started
    Worker(commands::worker::WorkerArgs),
    /// Measure rings, carriers, kernels, push and pull, beside the limits of the machine
    Bench(bench::BenchArgs),
    /// Draw reports of training: objective over time and bytes, traffic, bytes by filter, idle share by delay
    Plot(plot::PlotArgs),
    /// Say what this machine can do for a job, and what to type to mend it (exit code 3: warnings, 4: problems)
    Doctor(commands::doctor::DoctorArgs),
    /// Print a script that completes this program's options in a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(failure) => return report(&failure),
    };
    if let Err(failure) = start_logging(&cli.log).and_then(|()| check_isa()) {
        return report(&failure);
    }
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Flags, environment and configuration file together.
fn parse() -> anyhow::Result<Cli> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let command = config_file::apply(Cli::command(), &arguments)?;
    let matches = command.try_get_matches_from(arguments).unwrap_or_else(|error| error.exit());
    Cli::from_arg_matches(&matches).map_err(|error| Failure::input(error.to_string()))
}

fn start_logging(filter: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| {
        Failure::input(format!("--log: expected a level or module=level, got {filter:?}: {error}"))
    })?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}

/// `KEYRANGE_ISA` names an instruction set for the kernels; the kernels themselves ignore what they cannot use.
fn check_isa() -> anyhow::Result<()> {
    keyrange_kernels::isa::requested().map(drop).map_err(|error| Failure::input(error.to_string()))
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Train { application } => commands::train::run(application),
        Command::CheckHistory(args) => commands::check_history::run(&args),
        Command::Eval { application } => commands::eval::run(application),
        Command::Gen { application } => commands::generate::run(application),
        Command::Manager { application } => commands::manager::run(application),
        Command::Server(args) => commands::server::run(args),
        Command::Worker(args) => commands::worker::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Plot(args) => plot::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "keyrange", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn report(error: &anyhow::Error) -> ExitCode {
    let (code, quiet) = exit_code(error);
    if !quiet {
        eprintln!("error: {error}");
    }
    ExitCode::from(code)
}
