//! How a guest shapes what it sends to others: by netem, in a queue for each shape, now and at each boot.
//!
//! Packets to all other addresses, pspd's own among them, keep a queue without a shape.
//! tc-netem(8), tc-prio(8), tc-u32(8).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use pspd_model::shape::{Route, Shape, Share};

use super::Guest;

/// What is applied, and the unit that applies it at each boot.
const SCRIPT: &str = "/etc/pspd-shaping";
const UNIT: &str = "/etc/systemd/system/pspd-shaping.service";
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/pspd-shaping.service";

impl Guest {
    /// Replaces how the guest, which has this address, shapes what it sends.
    pub fn shape(&self, address: Ipv4Addr, routes: &[Route]) -> anyhow::Result<()> {
        let script = if routes.is_empty() {
            remove(address)
        } else {
            install(address, routes)
        };
        self.session.script("delay what the guest sends", &script)?;
        Ok(())
    }
}

/// Finds the network card, and removes the queues of an earlier run. Without any, `tc` fails.
fn reset(address: Ipv4Addr) -> String {
    format!(
        "dev=$(ip -o -4 address show to {address}/32 | {{ read -r _ dev _; echo \"$dev\"; }})\n\
         tc qdisc del dev \"$dev\" root 2>/dev/null || :\n"
    )
}

fn remove(address: Ipv4Addr) -> String {
    format!(
        "set -e\nrm -f {WANTED} {UNIT} {SCRIPT}\ncommand -v tc >/dev/null || exit 0\n{}\
         case $(tc qdisc show dev \"$dev\") in *netem*) echo 'failed to remove the queues' >&2; exit 1 ;; esac\n",
        reset(address)
    )
}

fn install(address: Ipv4Addr, routes: &[Route]) -> String {
    format!(
        "set -e\n\
         command -v tc >/dev/null || {{ echo 'the guest has no `tc`; add `iproute2` to its image' >&2; exit 1; }}\n\
         umask 022\n\
         cat >{SCRIPT} <<'END'\n{}END\n\
         cat >{UNIT} <<'END'\n\
         [Unit]\n\
         Description=Network delays, injected by pspd\n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart=/bin/sh {SCRIPT}\n\
         [Install]\n\
         WantedBy=multi-user.target\n\
         END\n\
         mkdir -p \"$(dirname {WANTED})\"\n\
         ln -sf {UNIT} {WANTED}\n\
         sh {SCRIPT}\n",
        queues(address, routes)
    )
}

/// One band for what is not shaped, then one for each shape.
fn queues(address: Ipv4Addr, routes: &[Route]) -> String {
    let mut shapes: BTreeMap<Shape, Vec<Ipv4Addr>> = BTreeMap::new();
    for route in routes {
        shapes.entry(route.shape).or_default().push(route.to);
    }
    let mut text = format!(
        "set -e\n{}\
         for module in sch_prio sch_netem cls_u32; do modprobe -q $module || :; done\n\
         tc qdisc add dev \"$dev\" root handle 1: prio bands {} priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
        reset(address),
        1 + shapes.len()
    );
    for (band, (shape, to)) in (2..).zip(&shapes) {
        // Writing to a string cannot fail. Handles are hexadecimal.
        let _ = writeln!(
            text,
            "tc qdisc add dev \"$dev\" parent 1:{band:x} handle 1{band:x}: netem{} ||\n    \
             {{ echo 'the kernel of the guest needs the module `sch_netem`' >&2; exit 1; }}",
            netem(shape)
        );
        for to in to {
            let _ = writeln!(
                text,
                "tc filter add dev \"$dev\" parent 1: protocol ip prio 1 u32 match ip dst {to}/32 flowid 1:{band:x}"
            );
        }
    }
    text
}

fn netem(shape: &Shape) -> String {
    let mut text = String::new();
    if shape.latency != 0 {
        let _ = write!(text, " delay {}us", shape.latency);
        if shape.jitter != 0 {
            let _ = write!(text, " {}us", shape.jitter);
        }
    }
    let shares = [
        ("loss", shape.loss),
        ("reorder", shape.reorder),
        ("duplicate", shape.duplicate),
    ];
    for (name, share) in shares {
        if share != Share(0) {
            let _ = write!(text, " {name} {share}");
        }
    }
    if let Some(rate) = shape.rate {
        let _ = write!(text, " rate {rate}bit");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(last: u8, shape: Shape) -> Route {
        Route {
            to: [10, 77, 0, last].into(),
            shape,
        }
    }

    #[test]
    fn each_shape_has_a_queue_and_each_guest_a_filter() {
        let slow = Shape {
            latency: 100_000,
            jitter: 20_000,
            loss: Share(20_000),
            reorder: Share(50_000),
            duplicate: Share(5_000),
            rate: Some(1_000_000),
        };
        let lossy = Shape {
            loss: Share(1_000_000),
            ..Shape::default()
        };
        let routes = [route(11, slow), route(12, lossy), route(13, slow)];
        insta::assert_snapshot!(queues([10, 77, 0, 10].into(), &routes), @r#"
        set -e
        dev=$(ip -o -4 address show to 10.77.0.10/32 | { read -r _ dev _; echo "$dev"; })
        tc qdisc del dev "$dev" root 2>/dev/null || :
        for module in sch_prio sch_netem cls_u32; do modprobe -q $module || :; done
        tc qdisc add dev "$dev" root handle 1: prio bands 3 priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
        tc qdisc add dev "$dev" parent 1:2 handle 12: netem loss 100% ||
            { echo 'the kernel of the guest needs the module `sch_netem`' >&2; exit 1; }
        tc filter add dev "$dev" parent 1: protocol ip prio 1 u32 match ip dst 10.77.0.12/32 flowid 1:2
        tc qdisc add dev "$dev" parent 1:3 handle 13: netem delay 100000us 20000us loss 2% reorder 5% duplicate 0.5% rate 1000000bit ||
            { echo 'the kernel of the guest needs the module `sch_netem`' >&2; exit 1; }
        tc filter add dev "$dev" parent 1: protocol ip prio 1 u32 match ip dst 10.77.0.11/32 flowid 1:3
        tc filter add dev "$dev" parent 1: protocol ip prio 1 u32 match ip dst 10.77.0.13/32 flowid 1:3
        "#);
    }

    /// The scripts are for the guest's `sh`; here another shell reads them without running them.
    #[test]
    fn scripts_are_valid() {
        let shape = Shape {
            latency: 1,
            ..Shape::default()
        };
        let address = [10, 77, 0, 10].into();
        for script in [remove(address), install(address, &[route(11, shape)])] {
            let status = std::process::Command::new("sh")
                .args(["-n", "-c", &script])
                .status()
                .unwrap();
            assert!(status.success(), "{script}");
        }
    }
}
