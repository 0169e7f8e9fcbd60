//! The status as text: a table of domains, followed by what needs more words.

use pspd_model::spec::Name;

use crate::observe::status::{FaultStatus, HostStatus, NetworkState, ReportedStatus, Status};
use crate::report;

/// The columns of the text form.
const HEAD: [&str; 10] = [
    "domain",
    "host",
    "state",
    "address",
    "firmware",
    "reported",
    "memory",
    "vcpus",
    "service",
    "published",
];

/// The column that only several hosts have.
const HOST: usize = 1;

pub(super) fn render(status: &Status, width: Option<usize>) -> String {
    let mut rows = Vec::new();
    let mut details = String::new();
    for host in &status.hosts {
        details.push_str(&of_host(host));
    }
    if status.hosts.is_empty()
        && status.network.state == NetworkState::Active
        && !status.network.dns
    {
        details.push_str("network: its DNS server does not answer. Run `pspd up` to restart it\n");
    }
    for fault in &status.faults {
        details.push_str(&of_fault(fault));
    }
    for domain in &status.domains {
        let service = domain.service.as_ref().map_or("-".to_owned(), |service| {
            format!("{} on {}", service.health, service.port)
        });
        let published: Vec<String> = domain.published.iter().map(ToString::to_string).collect();
        rows.push(vec![
            domain.name.to_string(),
            domain.host.as_ref().map_or("-".into(), Name::to_string),
            domain.state.to_string(),
            domain.address.to_string(),
            domain.firmware.to_string(),
            domain
                .reported
                .as_ref()
                .map_or("-".into(), ReportedStatus::shown),
            domain
                .memory
                .map_or("-".into(), |memory| memory.to_string()),
            domain.vcpus.map_or("-".into(), |vcpus| vcpus.to_string()),
            service,
            if published.is_empty() {
                "-".into()
            } else {
                published.join(", ")
            },
        ]);
        for url in &domain.urls {
            details.push_str(&format!("{}: reached at {url}\n", domain.name));
        }
        if let Some(detail) = &domain.detail {
            details.push_str(&format!("{}: {detail}\n", domain.name));
        }
        for wait in &domain.at_next_start {
            details.push_str(&format!("{}: it gets {wait}\n", domain.name));
        }
        if let Some(detail) = domain
            .service
            .as_ref()
            .and_then(|service| service.detail.as_ref())
        {
            details.push_str(&format!("{}: {detail}\n", domain.name));
        }
        // A domain that is down publishes nothing, and its row says so.
        if domain.state.is_running() {
            for host in &domain.unpublished {
                details.push_str(&format!("{}: {host} is not published\n", domain.name));
            }
        }
        if let Some(reported) = domain.reported.as_ref().filter(|it| !it.as_asked) {
            details.push_str(&format!(
                "{}: it should run on {} but reports {}; recreate it with `pspd down && pspd up`\n",
                domain.name,
                domain.firmware,
                reported.shown()
            ));
        }
    }
    let mut head = HEAD.to_vec();
    if status.hosts.is_empty() {
        head.remove(HOST);
        for row in &mut rows {
            row.remove(HOST);
        }
    }
    format!(
        "{} on {}: {}\n{}{details}",
        status.deployment,
        status.connection,
        verdict(status),
        report::columns(&head, &rows, width)
    )
}

fn of_host(host: &HostStatus) -> String {
    let HostStatus {
        name,
        unreached,
        linked,
        detail,
        network,
    } = host;
    if let Some(why) = unreached {
        return format!("host {name}: {why}\n");
    }
    let mut text = String::new();
    if network.is_some_and(|network| network.state == NetworkState::Active && !network.dns) {
        text.push_str(&format!(
            "host {name}: its DNS server does not answer. Run `pspd up` to restart it\n"
        ));
    }
    if !linked {
        let why = detail
            .as_ref()
            .map_or(String::new(), |why| format!(": {why}"));
        text.push_str(&format!(
            "host {name}: its lab is not connected to the others{why}\n"
        ));
    }
    text
}

fn of_fault(fault: &FaultStatus) -> String {
    let end = match fault.left {
        None => String::new(),
        Some(0) => "; expired. Run `pspd heal` to end it".to_owned(),
        Some(left) => format!("; it ends in {}", shown(left)),
    };
    let age = shown(fault.age);
    let FaultStatus { id, fault, .. } = fault;
    format!("fault {id}: {fault}, active for {age}{end}\n")
}

fn shown(seconds: u64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

fn verdict(status: &Status) -> &'static str {
    if status.healthy {
        "healthy"
    } else if status.domains.iter().all(|domain| domain.state.is_absent()) {
        "down"
    } else {
        "not healthy"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::State;
    use crate::observe::status::several::tests::of_two;
    use crate::observe::status::tests::status;

    #[test]
    fn the_text_form_is_a_table_followed_by_details() {
        insta::assert_snapshot!(render(&status(), None), @"
        demo on lab: not healthy
         domain  state    address     firmware  reported       memory   vcpus  service               published
         store   running  10.77.0.10  seabios   coreboot 4.15  512 MiB  1      unreachable on 50051  127.0.0.1:8080
        network: its DNS server does not answer. Run `pspd up` to restart it
        fault link-1: link store --down, active for 90 s; it ends in 8 min
        store: reached at https://app.example.org:8080
        store: it gets its 2 vCPUs at its next start: it runs with 1
        store: connection refused
        store: 127.0.0.1:8081 is not published
        store: it should run on seabios but reports coreboot 4.15; recreate it with `pspd down && pspd up`
        ");
    }

    #[test]
    fn several_hosts_have_a_column_and_what_is_wrong_with_each() {
        let text = render(&of_two(), None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "demo on alpha, beta: not healthy");
        assert!(lines[1].starts_with(" domain  host   state"), "{text}");
        assert!(lines[3].starts_with(" web     beta   unknown"), "{text}");
        for line in [
            "host alpha: its DNS server does not answer. Run `pspd up` to restart it",
            "host alpha: its lab is not connected to the others: the connection broke",
            "host beta: failed to reach host `beta`",
        ] {
            assert!(lines.contains(&line), "{text}");
        }
    }

    #[test]
    fn a_deployment_without_domains_is_down() {
        let mut status = status();
        status.domains[0].state = State::of(None);
        assert_eq!(verdict(&status), "down");
    }
}
