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
pub(crate) fn connector(config: &Config, file: Option<&Path>) -> Result<MakeRustlsConnect, PostgresError> {
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
    use super::super::tests::options;
    use super::super::{Database, PostgresError};
    use super::*;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::path::PathBuf;

    fn data(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/http/tests/data").join(name)
    }

    /// A server that takes TLS, lets everybody in and says yes to every statement; for one connection.
    fn serve(mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = [0; 8];
        stream.read_exact(&mut request)?;
        assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "a request for TLS comes before anything else");
        stream.write_all(b"S")?;
        let chain = CertificateDer::pem_file_iter(data("cert.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(data("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let mut tls = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
        let mut length = [0; 4];
        tls.read_exact(&mut length)?;
        tls.read_exact(&mut vec![0; u32::from_be_bytes(length) as usize - 4])?;
        tls.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")?;
        loop {
            let mut head = [0; 5];
            tls.read_exact(&mut head)?;
            tls.read_exact(&mut vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4])?;
            tls.write_all(b"C\0\0\0\x0bSELECT\0Z\0\0\0\x05I")?;
        }
    }

    async fn connect(tls_ca: Option<PathBuf>) -> Result<(), PostgresError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://u:secret@localhost:{}/d?sslmode=require", listener.local_addr().unwrap().port());
        let server = std::thread::spawn(move || listener.accept().map(|(stream, _)| drop(serve(stream))));
        let mut options = options(&url);
        options.tls_ca = tls_ca;
        options.connect_timeout = std::time::Duration::from_secs(20);
        let outcome = match Database::new(&options).unwrap().connection().await {
            Ok(mut connection) => connection.run("SELECT 1").await.map(drop),
            Err(error) => Err(error),
        };
        // The connection is closed by a task of this runtime, which must not be blocked meanwhile.
        tokio::task::spawn_blocking(|| server.join()).await.unwrap().unwrap().unwrap();
        outcome
    }

    #[tokio::test]
    async fn a_certificate_is_trusted_where_the_file_says_so_and_nowhere_else() {
        connect(Some(data("cert.pem"))).await.unwrap();
        let error = connect(None).await.unwrap_err();
        assert!(error.code() == "unavailable" && error.to_string().contains("certificate"), "{error}");
    }

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
