//! Which RDMA device, port and address a process uses: options that every subcommand with links shares.

use clap::Args;
use keyrange_transport::verbs::Selection;
use serde::Serialize;

/// The choice among RDMA ports. Whatever is left open, the best that works is taken.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerbsArgs {
    /// RDMA device for links over verbs, as /sys/class/infiniband names it; by default the first with an active port
    #[arg(long, env = "KEYRANGE_VERBS_DEVICE", value_name = "NAME")]
    verbs_device: Option<String>,

    /// Port of the RDMA device; by default the first active one
    #[arg(long, env = "KEYRANGE_VERBS_PORT", value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    verbs_port: Option<u8>,

    /// Index of the port's address in its table of GIDs; by default RoCE v2 over IPv4 is preferred, on InfiniBand the LID
    #[arg(long, env = "KEYRANGE_VERBS_GID", value_name = "INDEX")]
    verbs_gid: Option<u8>,
}

impl VerbsArgs {
    /// For the carrier.
    pub fn selection(&self) -> Selection {
        Selection { device: self.verbs_device.clone(), port: self.verbs_port, gid_index: self.verbs_gid }
    }

    /// The same options for a process that this one starts.
    pub fn arguments(&self) -> Vec<String> {
        let options = [
            ("--verbs-device", self.verbs_device.clone()),
            ("--verbs-port", self.verbs_port.map(|port| port.to_string())),
            ("--verbs-gid", self.verbs_gid.map(|index| index.to_string())),
        ];
        options.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        verbs: VerbsArgs,
    }

    #[test]
    fn what_a_child_is_told_is_what_was_asked_for() {
        let all = Selection { device: Some("-mlx5 0".into()), port: Some(2), gid_index: Some(0) };
        let given = ["--verbs-device=-mlx5 0", "--verbs-port", "2", "--verbs-gid", "0"];
        for (given, expected) in [(&given[..], all), (&[], Selection::default())] {
            let parse = |options: Vec<String>| {
                Program::try_parse_from([String::new()].into_iter().chain(options)).unwrap().verbs
            };
            let parsed = parse(given.iter().map(ToString::to_string).collect());
            assert_eq!(parsed.selection(), expected);
            assert_eq!(parse(parsed.arguments()), parsed);
        }
        assert!(Program::try_parse_from(["", "--verbs-port", "0"]).is_err());
    }
}
