//! TLS for connections to the database, by rustls with its aws-lc provider.

use super::PostgresError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Trusts the system's roots and those of the file. Reads nothing where TLS is off.
pub(super) fn connector(config: &Config, file: Option<&Path>) -> Result<MakeRustlsConnect, PostgresError> {
    let mut roots = RootCertStore::empty();
    if config.get_ssl_mode() != SslMode::Disable {
        for certificate in rustls_native_certs::load_native_certs().certs {
            // A root that rustls cannot use is one that it does not trust.
            drop(roots.add(certificate));
        }
        if let Some(file) = file {
            add_file(&mut roots, file)?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| PostgresError::Invalid(format!("TLS cannot be set up: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(tls))
}

fn add_file(roots: &mut RootCertStore, file: &Path) -> Result<(), PostgresError> {
    let invalid = |detail: String| PostgresError::Invalid(format!("{}: {detail}", file.display()));
    let mut found = 0;
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| invalid(e.to_string()))? {
        let certificate = certificate.map_err(|e| invalid(e.to_string()))?;
        roots.add(certificate).map_err(|e| invalid(e.to_string()))?;
        found += 1;
    }
    if found == 0 { Err(invalid("holds no certificate".to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "nothing").unwrap();
        let config: Config = "postgres://u@h/d?sslmode=require".parse().unwrap();
        let error = connector(&config, Some(&file)).err().expect("no certificate");
        assert!(error.to_string().contains("ca.pem"), "{error}");
        let off: Config = "postgres://u@h/d?sslmode=disable".parse().unwrap();
        assert!(connector(&off, Some(&file)).is_ok(), "nothing is read where TLS is off");
    }
}
