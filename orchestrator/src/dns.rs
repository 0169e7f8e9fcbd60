//! Asks the DNS server of a deployment's network, which is also its DHCP server.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use pspd_model::spec::Spec;

use crate::reach::Reach;

const PORT: u16 = 53;
/// The deadline for a connection, and for the answer. The server is on this host.
const ANSWER: Duration = Duration::from_secs(3);

/// Returns whether the server answers. Blocks for a few seconds at most.
pub(crate) fn answers(reach: &Reach, spec: &Spec) -> bool {
    ask(reach, spec).is_ok()
}

fn ask(reach: &Reach, spec: &Spec) -> io::Result<()> {
    let server = SocketAddr::from((spec.network.gateway, PORT));
    // Over TCP: nothing must be sent again, and a lab passes connections.
    let mut stream = reach.dial_blocking(server, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.write_all(&query(&spec.network.domain))?;
    stream.read_exact(&mut [0; 2])
}

/// A query for the address of a name (RFC 1035, section 4), with the length that TCP needs.
fn query(name: &str) -> Vec<u8> {
    const HEADER: [u16; 6] = [1, 0x0100, 1, 0, 0, 0];
    const A_IN: [u16; 2] = [1, 1];
    let mut message = HEADER.map(u16::to_be_bytes).concat();
    for label in name.split('.') {
        // A label of a validated name has 63 bytes at most.
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(A_IN.map(u16::to_be_bytes).concat());
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.append(&mut message);
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_the_form_of_rfc_1035() {
        let expected = b"\0\x18\0\x01\x01\0\0\x01\0\0\0\0\0\0\x02ab\x03cde\0\0\x01\0\x01";
        let mut query = query("ab.cde");
        query[1] = 0x18;
        assert_eq!(query, expected);
    }
}
