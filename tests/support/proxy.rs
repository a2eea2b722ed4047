//! A proxy in front of a service, for what networks and crashes do to a connection.
//!
//! Whatever passes is cut into *pieces*, as they come from the network: each piece of what a client says and of what the service answers is
//! counted. A test can stop the process under test between any two pieces of one exchange, which is every point at which a crash can
//! meet it as seen by the service; refuse connections; or let them hang.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const PASS: u8 = 0;
const REFUSE: u8 = 1;
const STALL: u8 = 2;

type AtPiece = Box<dyn FnOnce() + Send>;

struct Shared {
    to: String,
    mode: AtomicU8,
    stopped: AtomicBool,
    pieces: AtomicU64,
    /// Called before the piece of this number passes.
    at: Mutex<Option<(u64, AtPiece)>>,
    open: Mutex<Vec<TcpStream>>,
}

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// In front of `to`, `host:port`.
    pub fn new(to: impl Into<String>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            to: to.into(),
            mode: AtomicU8::new(PASS),
            stopped: AtomicBool::new(false),
            pieces: AtomicU64::new(0),
            at: Mutex::new(None),
            open: Mutex::new(Vec::new()),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::Acquire) {
                    return;
                }
                accepting.clone().serve(client);
            }
        });
        Proxy { address, shared }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes what is open and every new connection at once.
    pub fn refuse(&self) {
        self.shared.mode.store(REFUSE, Ordering::Release);
        self.shared.close();
    }

    /// Nothing passes, nothing is closed.
    pub fn stall(&self) {
        self.shared.mode.store(STALL, Ordering::Release);
    }

    /// Lets everything pass again; connections that hang are closed.
    pub fn pass(&self) {
        if self.shared.mode.swap(PASS, Ordering::AcqRel) == STALL {
            self.shared.close();
        }
    }

    /// Pieces that have passed.
    pub fn pieces(&self) -> u64 {
        self.shared.pieces.load(Ordering::Acquire)
    }

    /// Calls `act` before the `after`th piece from now passes; that piece and later ones of its connection are lost.
    pub fn cut_after(&self, after: u64, act: impl FnOnce() + Send + 'static) {
        *self.shared.at.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.pieces() + after, Box::new(act)));
    }

    /// Whether the cut that was ordered has happened.
    pub fn has_cut(&self) -> bool {
        self.shared.at.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.mode.store(REFUSE, Ordering::Release);
        self.shared.close();
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
    }
}

impl Shared {
    fn close(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn serve(self: Arc<Self>, client: TcpStream) {
        if self.mode.load(Ordering::Acquire) == REFUSE {
            return;
        }
        let Ok(service) = TcpStream::connect(&self.to) else { return };
        for stream in [&client, &service] {
            let _ = stream.set_nodelay(true);
            self.open.lock().unwrap_or_else(PoisonError::into_inner).extend(stream.try_clone().ok());
        }
        let (Ok(client_in), Ok(service_in)) = (client.try_clone(), service.try_clone()) else { return };
        let back = self.clone();
        std::thread::spawn(move || self.copy(client_in, service));
        std::thread::spawn(move || back.copy(service_in, client));
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read) = from.read(&mut buffer) {
            if read == 0 || !self.passes() || to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Whether a piece passes.
    fn passes(&self) -> bool {
        while self.mode.load(Ordering::Acquire) == STALL {
            pause();
        }
        if self.mode.load(Ordering::Acquire) == REFUSE {
            return false;
        }
        let number = self.pieces.fetch_add(1, Ordering::AcqRel) + 1;
        let act = {
            let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
            at.take_if(|(at, _)| number >= *at)
        };
        match act {
            Some((_, act)) => {
                act();
                false
            }
            None => true,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a connection that hangs has nothing to wait for")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
