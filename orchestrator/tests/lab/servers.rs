//! Servers inside and outside a lab, and their clients.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use pspd_lab::Lab;

/// A server in the lab, stopped on drop.
pub(crate) struct Inside(Child);

pub(crate) fn echo_inside(lab: &Lab, address: SocketAddr) -> Inside {
    let script = format!(
        "import socketserver\n\
         class Echo(socketserver.BaseRequestHandler):\n\
         \x20 def handle(self):\n\
         \x20   while data := self.request.recv(65536): self.request.sendall(data)\n\
         server = socketserver.ThreadingTCPServer(('{}', {}), Echo)\n\
         print('listening', flush=True)\n\
         server.serve_forever()\n",
        address.ip(),
        address.port()
    );
    listening_inside(lab, &script)
}

/// Runs a program that prints `listening` once it does.
pub(crate) fn listening_inside(lab: &Lab, script: &str) -> Inside {
    let mut child = lab
        .enter(["python3", "-c", script])
        .unwrap()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 10];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut said)
        .unwrap();
    assert_eq!(&said, b"listening\n");
    Inside(child)
}

impl Drop for Inside {
    fn drop(&mut self) {
        // The child of nsenter is in the lab and ends with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on the host that answers with its name and what it received.
pub(crate) struct Answering(pub SocketAddr);

impl Answering {
    pub(crate) fn new(name: &'static str) -> Answering {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut asked = String::new();
                stream.read_to_string(&mut asked).unwrap();
                write!(stream, "{name}: {asked}").unwrap();
            }
        });
        Answering(address)
    }
}

pub(crate) fn exchange(host: SocketAddr, question: &[u8]) -> String {
    exchange_on(&mut TcpStream::connect(host).unwrap(), question)
}

pub(crate) fn exchange_on(stream: &mut TcpStream, question: &[u8]) -> String {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(question).unwrap();
    // The relay may have closed already if nothing listens behind it.
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
