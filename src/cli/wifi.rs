//! `desireline wifi rotate-key`: a new key for the pseudonyms of WiFi devices.

use super::failure::{Exit, Failure};
use super::{ConfigArgs, out};
use crate::config::mapping;
use crate::config::values::PseudonymPolicy;
use crate::privacy::{KeyError, Keys};
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub struct WifiArgs {
    #[command(subcommand)]
    command: WifiCommand,
}

#[derive(Subcommand, Debug)]
enum WifiCommand {
    /// Put a new key in front of those of the key file: from the next start on, every device is a new one
    #[command(after_help = "\
Example:
  desireline wifi rotate-key --config /etc/desireline.toml

The server reads its keys when it starts. Older keys stay in the file: by them, DELETE /api/macs/{mac} finds what was
written before. Prints the fingerprint of the new key, as the log will have it.")]
    RotateKey {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub fn run(args: &WifiArgs) -> Result<(), Failure> {
    let WifiCommand::RotateKey { config } = &args.command;
    let config = config.load()?;
    if config.wifi.pseudonyms == PseudonymPolicy::Off {
        return Err(Failure::new(Exit::Failed, "this server keeps the ids of devices: there is no key").hint("see `wifi.pseudonyms`"));
    }
    let path = mapping::key_file(&config);
    let fingerprint = Keys::rotate(&path)?;
    out(&format!("{fingerprint}\n"));
    eprintln!("The new key stands first in {}; the server uses it from its next start on.", path.display());
    Ok(())
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(Exit::Failed, error.to_string()).hint("the first start of a server makes the file; see docs/wifi.md")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;
    use desireline_records::validate::Pseudonyms;
    use std::path::Path;

    fn rotate(folder: &Path) -> Result<(), Failure> {
        let folder = folder.display().to_string();
        match Cli::try_parse_from(["desireline", "wifi", "rotate-key", "--data", &folder]).expect("parses").command {
            Command::Wifi(args) => run(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_put_in_front() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("mac.keys");
        let failure = rotate(folder.path()).expect_err("no file yet");
        assert_eq!(failure.exit, Exit::Failed);
        let before = Keys::open_or_create(&path).expect("made");
        rotate(folder.path()).expect("rotated");
        let after = Keys::open(&path).expect("two keys");
        assert_eq!(after.fingerprints().count(), 2);
        assert_ne!(before.pseudonym("x"), after.pseudonym("x"));
        assert!(after.pseudonyms("x").any(|name| name == before.pseudonym("x")));
    }
}
