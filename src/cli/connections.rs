//! `desireline connections rotate-key`: a new key for the passwords of database connections.

use super::failure::{Exit, Failure};
use super::log::folder_exists;
use super::stack::Stack;
use super::{ConfigArgs, block_on, logging, out};
use crate::concepts::ConceptError;
use crate::config::values::Level;
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub struct ConnectionsArgs {
    #[command(subcommand)]
    command: ConnectionsCommand,
}

#[derive(Subcommand, Debug)]
enum ConnectionsCommand {
    /// Encrypt all passwords of database connections by a new key; the server must be stopped
    #[command(after_help = "\
Examples:
  desireline connections rotate-key --config /etc/desireline.toml
  ENCRYPTION_KEY=\"$(openssl rand -hex 32),$OLD_KEY\" desireline connections rotate-key --config /etc/desireline.toml

With a key file, a new key is made and the older ones are taken out of the file once nothing needs them. With keys of
ENCRYPTION_KEY or concepts.encryption_key, the first one is the new key; the others can be left out afterwards. Broken off
at any point, it can be begun again. Prints the fingerprint of the key in force.")]
    RotateKey {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub fn run(args: &ConnectionsArgs) -> Result<(), Failure> {
    let ConnectionsCommand::RotateKey { config } = &args.command;
    folder_exists(config)?;
    let mut config = config.load()?;
    config.logging.level = config.logging.level.min(Level::Warn);
    logging::start(&config.logging);
    block_on(async {
        let stack = Stack::start(&config).await?;
        let rotated = rotate(&stack).await;
        stack.stop().await;
        rotated
    })
}

async fn rotate(stack: &Stack) -> Result<(), Failure> {
    stack.service.wait_ready().await?;
    // The runs of the log are left to the server.
    stack.concepts.begin(|kind| stack.service.documents(kind));
    let rotated = stack.concepts.rotate_key().await?;
    out(&format!("{}\n", rotated.fingerprint));
    eprintln!("{} passwords have been encrypted by the new key; the server uses it from its next start on.", rotated.passwords);
    Ok(())
}

impl From<ConceptError> for Failure {
    fn from(error: ConceptError) -> Self {
        match error {
            ConceptError::Service(error) => error.into(),
            error => Self::new(Exit::Failed, error.to_string()).hint("see `desireline connections rotate-key --help`"),
        }
    }
}
