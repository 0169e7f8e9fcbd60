//! Memory that is needed no longer is given back.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::server::{Server, place};

const LIMIT: Duration = Duration::from_secs(60);
/// A test may have 1,024 open files by default.
const CONNECTIONS: usize = 900;
/// HTTP/2's preface, and SETTINGS without any.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[test]
fn idle_connections_that_were_closed_leave_nothing_behind() {
    let (_folder, store) = place();
    let server = Server::start(&store, &[]);
    let idle = || {
        let mut connection = TcpStream::connect(&server.address).unwrap();
        connection.set_read_timeout(Some(LIMIT)).unwrap();
        connection.write_all(PREFACE).unwrap();
        connection.read_exact(&mut [0; 9]).unwrap();
        connection
    };
    // What the first connection needs stays.
    drop(idle());
    let (before, _) = server.memory();
    let connections: Vec<_> = (0..CONNECTIONS).map(|_| idle()).collect();
    let (open, _) = server.memory();
    assert!(open > before + 8 * 1024, "{before} KiB before, {open} open");
    drop(connections);
    let began = Instant::now();
    loop {
        let (closed, _) = server.memory();
        if closed < before + (open - before) / 5 {
            break;
        }
        let numbers = format!("{before} KiB before, {open} open, {closed} closed");
        assert!(began.elapsed() < LIMIT, "{numbers}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
