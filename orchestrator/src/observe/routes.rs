//! Networks that this host has a way to, from the kernel's table: a new network must meet none of them.
//!
//! The table's format: the kernel's Documentation/networking, `/proc/net/route`; addresses are in the host's byte order.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use ipnet::Ipv4Net;

const TABLE: &str = "/proc/net/route";

/// All of them, but for the default route, which meets everything.
pub fn routed_networks() -> anyhow::Result<Vec<Ipv4Net>> {
    let text =
        std::fs::read_to_string(TABLE).with_context(|| format!("failed to read `{TABLE}`"))?;
    Ok(parse(&text))
}

fn parse(table: &str) -> Vec<Ipv4Net> {
    let lines = table.lines().skip(1);
    lines
        .filter_map(network)
        .filter(|net| net.prefix_len() > 0)
        .collect()
}

fn network(line: &str) -> Option<Ipv4Net> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |text: &str| {
        let number = u32::from_str_radix(text, 16).ok()?;
        Some(Ipv4Addr::from(number.to_ne_bytes()))
    };
    Ipv4Net::with_netmask(address(fields.get(1)?)?, address(fields.get(7)?)?).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_table_of_the_kernel() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            virbr0\t007AA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(super::parse(table), ["192.168.122.0/24".parse().unwrap()]);
    }
}
