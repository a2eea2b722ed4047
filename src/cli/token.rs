//! `desireline token new`: makes an access token.
//!
//! The secret has 256 bits from the operating system and is printed once; the configuration keeps its SHA-256. A hash without
//! salt is enough for a random secret of this length, which cannot be guessed from a dictionary.

use super::failure::{Exit, Failure};
use super::{hex, out};
use crate::http::config::AccessToken;
use clap::{Args, Subcommand, ValueEnum};
use rand::TryRngCore;
use rand::rngs::OsRng;

#[derive(Args, Debug)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Subcommand, Debug)]
enum TokenCommand {
    /// Make a token: prints its secret once, and the lines for the configuration
    #[command(after_help = "\
Example:
  desireline token new --name importer --scopes ingest,read

Clients send the secret as `Authorization: Bearer SECRET`.")]
    New {
        /// Who will use it; appears in the access log
        #[arg(long)]
        name: String,
        /// What it may do
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<ScopeArg>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum ScopeArg {
    /// Send events
    Ingest,
    /// Query
    Read,
    /// Everything
    Admin,
}

pub fn run(args: &TokenArgs) -> Result<(), Failure> {
    let TokenCommand::New { name, scopes } = &args.command;
    let mut bytes = [0u8; 32];
    let filled = OsRng.try_fill_bytes(&mut bytes);
    filled.map_err(|error| Failure::new(Exit::Failed, "the operating system gave no random bytes").detail(error))?;
    let secret = format!("dl_{}", hex(&bytes));
    eprintln!("The secret, shown this once:");
    out(&format!("{secret}\n"));
    eprintln!("\nAdd to the configuration:\n");
    out(&block(name, scopes, &secret));
    Ok(())
}

fn block(name: &str, scopes: &[ScopeArg], secret: &str) -> String {
    let mut scopes = scopes.to_vec();
    scopes.sort();
    scopes.dedup();
    let words: Vec<String> = scopes.iter().map(|scope| format!("\"{}\"", format!("{scope:?}").to_lowercase())).collect();
    let hash = hex(&AccessToken::hash_of(secret));
    format!("[[access.token]]\nname = {}\nhash = \"{hash}\"\nscopes = [{}]\n", toml::Value::from(name), words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, mapping};
    use crate::http::config::Scope;

    #[test]
    fn the_block_is_a_valid_configuration_that_knows_the_secret() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("c.toml");
        std::fs::write(&path, block("a \"quoted\" name", &[ScopeArg::Read, ScopeArg::Ingest, ScopeArg::Read], "dl_1")).expect("written");
        let config = config::load(&config::Inputs { file: Some(path), ..Default::default() }).expect("valid");
        let access = mapping::http(&config).access;
        let token = access.find("dl_1").expect("known");
        assert_eq!((token.name.as_str(), token.scopes.as_slice()), ("a \"quoted\" name", &[Scope::Ingest, Scope::Read][..]));
        assert!(access.find("dl_2").is_none());
    }
}
