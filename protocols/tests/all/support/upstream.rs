//! An upstream that does what the test says.

use protocols::{Credential, Endpoint, UpstreamAddress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::client::message;

/// Listens, and plays the script with the first connection.
pub(crate) async fn scripted<F, T>(
    script: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> (Endpoint, JoinHandle<T>)
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = plaintext(listener.local_addr().unwrap().port());
    let task = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        // A cancel finds nobody, rather than somebody who is silent.
        drop(listener);
        script(socket).await
    });
    (endpoint, task)
}

pub(crate) fn plaintext(port: u16) -> Endpoint {
    let address = UpstreamAddress::Tcp { host: "127.0.0.1".into(), port };
    Endpoint {
        address,
        tls: None,
        credential: Credential::None,
        settings: Vec::new(),
        replication_allowed: false,
        local_infile_allowed: false,
        ssh: None,
    }
}

/// The start-up packet, whole.
pub(crate) async fn read_startup(socket: &mut TcpStream) -> Vec<u8> {
    let length = socket.read_u32().await.unwrap();
    let mut rest = vec![0; length as usize - 4];
    socket.read_exact(&mut rest).await.unwrap();
    rest
}

/// What a PostgreSQL says that asks for nothing.
pub(crate) fn welcome() -> Vec<u8> {
    [
        message(b'R', &[0, 0, 0, 0]),
        message(b'S', b"server_version\x0015.0\0"),
        message(b'K', b"\0\0\0\x07\xaa\xbb\xcc\xdd"),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// Logs the client in, whoever it is.
pub(crate) async fn let_in(socket: &mut TcpStream) -> Vec<u8> {
    let startup = read_startup(socket).await;
    socket.write_all(&welcome()).await.unwrap();
    startup
}
