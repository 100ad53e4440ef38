//! Options from a TOML file: they become the defaults of the command line, so flags and environment override them.
//!
//! ```toml
//! log = "info"
//! [train.sparse-lr]
//! data = ["day1.libsvm.zst", "day2.libsvm.zst"]
//! l1 = 4
//! servers = 2
//! ```

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Command;
use toml::{Table, Value};

use crate::failure::Failure;

/// `command` with the defaults of the file named by `--config` or `KEYRANGE_CONFIG`, if one is.
pub fn apply(command: Command, arguments: &[OsString]) -> anyhow::Result<Command> {
    let Some(path) = path(arguments) else { return Ok(command) };
    let wrong = |text: String| Failure::input(format!("{}: {text}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(format!("cannot read: {error}")))?;
    let table: Table = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    with_defaults(command, &table, "").map_err(wrong)
}

fn path(arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments.iter().skip(1).take_while(|argument| *argument != "--");
    while let Some(argument) = rest.next() {
        if argument == "--config" {
            return rest.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|argument| argument.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    std::env::var_os("KEYRANGE_CONFIG").map(PathBuf::from)
}

/// Puts the values of `table` into `command`: tables are subcommands, everything else an option.
fn with_defaults(mut command: Command, table: &Table, place: &str) -> Result<Command, String> {
    for (key, value) in table {
        if let Value::Table(inner) = value {
            let inside = format!("{place}{key}.");
            if command.find_subcommand(key).is_none() {
                let known: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
                return Err(format!("no subcommand [{place}{key}]; expected one of {}", known.join(", ")));
            }
            let mut failed = None;
            command = command.mut_subcommand(key, |sub| {
                with_defaults(sub.clone(), inner, &inside).unwrap_or_else(|text| {
                    failed = Some(text);
                    sub
                })
            });
            if let Some(text) = failed {
                return Err(text);
            }
        } else {
            let known = command.get_arguments().find(|arg| arg.get_long() == Some(key) && key != "config");
            let Some(id) = known.map(|arg| arg.get_id().clone()) else {
                return Err(format!("no option {place}{key}; keys are named like the long options"));
            };
            let values = texts(value).ok_or_else(|| {
                format!("{place}{key}: expected text, a number, true, false or a list of these, got {value}")
            })?;
            command = command.mut_arg(id, |arg| arg.required(false).default_values(values));
        }
    }
    Ok(command)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    Some(match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => vec![value.to_string()],
        Value::Array(items) => items.iter().map(texts).collect::<Option<Vec<_>>>()?.concat(),
        Value::Datetime(_) | Value::Table(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn command() -> Command {
        let option = |name: &'static str| Arg::new(name).long(name).num_args(1..);
        Command::new("p")
            .subcommand(Command::new("train").arg(option("l1").required(true)).arg(option("data")))
    }

    fn read(text: &str) -> Result<Command, String> {
        with_defaults(command(), &toml::from_str(text).unwrap(), "")
    }

    #[test]
    fn the_file_gives_defaults_and_flags_override_them() {
        let command = read("[train]\nl1 = 2.5\ndata = ['a', 'b']").unwrap();
        let matches = command.try_get_matches_from(["p", "train", "--data", "c"]).unwrap();
        let train = matches.subcommand_matches("train").unwrap();
        assert_eq!(train.get_one::<String>("l1").unwrap(), "2.5");
        assert_eq!(train.get_many::<String>("data").unwrap().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn unknown_names_are_refused_by_name() {
        assert!(read("[train]\nl3 = 1").unwrap_err().contains("train.l3"));
        assert!(read("[trail]\nl1 = 1").unwrap_err().contains("[trail]"));
        assert!(read("[train]\nl1 = 1979-05-27").unwrap_err().contains("train.l1"));
    }
}
