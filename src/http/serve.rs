//! Listening: plain or TLS, HTTP/1 and HTTP/2, until told to stop.
//!
//! Binding and serving are two steps, so that a port in use is reported before anything else starts and the address, also
//! one chosen by the system (port 0), can be printed. A shutdown ends the live streams, takes no new connection, and waits
//! for the requests under way as long as the setting `shutdown_grace` says.

use super::config::{HttpConfig, TlsFiles};
use super::{AppState, router};
use axum::Router;
use axum_server::accept::{Accept, DefaultAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Why the server cannot listen or stopped listening.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("cannot listen on {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("cannot read the TLS file {path}: {detail}")]
    TlsFile { path: PathBuf, detail: String },
    #[error("the TLS certificate and key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("serving failed: {0}")]
    Io(#[from] io::Error),
}

impl ServeError {
    /// Stable and machine readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
            Self::TlsFile { .. } | Self::Tls(_) => "tls",
            Self::Io(_) => "serve",
        }
    }
}

/// A bound address, ready to serve.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
}

impl Listener {
    /// The address, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:8000`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }
}

/// Binds the one or two addresses of the configuration, after its TLS files have proved usable.
pub fn bind(config: &HttpConfig) -> Result<Vec<Listener>, ServeError> {
    let tls = config.tls.as_ref().map(load_tls).transpose()?;
    let addresses = std::iter::once(config.listen).chain(config.second_listen);
    addresses.map(|address| bind_one(address, tls.clone())).collect()
}

fn bind_one(address: SocketAddr, tls: Option<RustlsConfig>) -> Result<Listener, ServeError> {
    let bound = || {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Listener { socket, address, tls })
    };
    bound().map_err(|source| ServeError::Bind { address, source })
}

fn load_tls(files: &TlsFiles) -> Result<RustlsConfig, ServeError> {
    let cannot = |path: &PathBuf| {
        let path = path.clone();
        move |error: rustls::pki_types::pem::Error| ServeError::TlsFile { path, detail: error.to_string() }
    };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&files.cert).map_err(cannot(&files.cert))?.collect::<Result<_, _>>().map_err(cannot(&files.cert))?;
    if chain.is_empty() {
        return Err(ServeError::TlsFile { path: files.cert.clone(), detail: "it holds no certificate".to_owned() });
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(cannot(&files.key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

/// Serves until `shutdown` completes and the requests under way are answered, or their grace is over.
pub async fn serve(listeners: Vec<Listener>, state: AppState, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
    let config = Arc::clone(&state.config);
    let hub = Arc::clone(&state.live);
    let app = router(state);
    let handle = Handle::new();
    let connections = Arc::new(Semaphore::new(config.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let servers = listeners.into_iter().map(|listener| serve_one(listener, &config, app.clone(), handle.clone(), connections.clone()));
    let serving = futures::future::try_join_all(servers);
    tokio::pin!(serving, shutdown);
    tokio::select! {
        ended = &mut serving => return ended.map(drop),
        () = &mut shutdown => {}
    }
    hub.close();
    handle.graceful_shutdown(Some(config.shutdown_grace));
    serving.await.map(drop)
}

async fn serve_one(
    listener: Listener,
    config: &HttpConfig,
    app: Router,
    handle: Handle<SocketAddr>,
    connections: Arc<Semaphore>,
) -> Result<(), ServeError> {
    let mut server: Server<SocketAddr> = axum_server::from_tcp(listener.socket)?.handle(handle);
    let builder = server.http_builder();
    builder.http1().timer(hyper_util::rt::TokioTimer::new()).header_read_timeout(config.header_timeout);
    builder.http2().timer(hyper_util::rt::TokioTimer::new()).max_header_list_size(64 << 10).max_concurrent_streams(256);
    let limited = LimitedAcceptor { inner: DefaultAcceptor::new(), connections };
    let service = app.into_make_service();
    match listener.tls {
        Some(tls) => {
            server.acceptor(RustlsAcceptor::new(tls).handshake_timeout(config.header_timeout).acceptor(limited)).serve(service).await?
        }
        None => server.acceptor(limited).serve(service).await?,
    }
    Ok(())
}

/// Closes a connection at once when there are too many.
#[derive(Clone)]
struct LimitedAcceptor<A> {
    inner: A,
    connections: Arc<Semaphore>,
}

impl<I, S, A> Accept<I, S> for LimitedAcceptor<A>
where
    A: Accept<I, S> + Send,
    A::Future: Send + 'static,
    I: Send + 'static,
    S: Send + 'static,
{
    type Stream = Counted<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            return Box::pin(async { Err(io::Error::other("too many connections")) });
        };
        let accepted = self.inner.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            Ok((Counted { stream, _permit: permit }, service))
        })
    }
}

/// A connection that counts as long as it is open.
struct Counted<T> {
    stream: T,
    _permit: OwnedSemaphorePermit,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
