//! Rates between two samples of what domains have used.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Instant;

use pspd_model::observed::Power;
use pspd_model::spec::{Name, Size};
use serde::{Deserialize, Serialize};

use crate::libvirt::Usage;

/// All domains at one moment; `None` for one that is not defined, and for one without a process.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) domains: BTreeMap<Name, (Option<Power>, Option<Usage>)>,
}

/// A domain over one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::cli) struct Row {
    pub(in crate::cli) name: Name,
    /// Where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) host: Option<Name>,
    state: Cow<'static, str>,
    /// Bytes that the guest has; `null` if the domain does not run.
    memory: Option<Size>,
    /// Bytes that the domain's process takes of the host.
    resident: Option<Size>,
    /// `null` if the domain did not run at both ends of the interval.
    #[serde(flatten)]
    rates: Rates,
}

/// Bytes per second, and percent of one processor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rates {
    cpu_percent: Option<f64>,
    read_per_second: Option<f64>,
    written_per_second: Option<f64>,
    received_per_second: Option<f64>,
    sent_per_second: Option<f64>,
}

/// A row for each domain of the later sample.
pub(super) fn rows(before: &Sample, now: &Sample) -> Vec<Row> {
    let seconds = (now.at - before.at).as_secs_f64();
    let row = |(name, (power, usage)): (&Name, &(Option<Power>, Option<Usage>))| {
        let earlier = before.domains.get(name).and_then(|(_, usage)| *usage);
        let rates = match (earlier, usage) {
            (Some(before), Some(now)) => Rates::between(&before, now, seconds),
            _ => Rates::default(),
        };
        Row {
            name: name.clone(),
            host: None,
            state: power.map_or("absent", Power::word).into(),
            memory: usage.map(|usage| usage.memory),
            resident: usage.map(|usage| usage.resident),
            rates,
        }
    };
    now.domains.iter().map(row).collect()
}

impl Rates {
    /// None of them where a counter went back: the domain was restarted.
    fn between(before: &Usage, now: &Usage, seconds: f64) -> Rates {
        let restarted = now.cpu < before.cpu;
        let rate = |counter: fn(&Usage) -> u64| {
            let grown = counter(now).checked_sub(counter(before));
            let grown = grown.filter(|_| !restarted)?;
            Some(grown as f64 / seconds)
        };
        Rates {
            cpu_percent: rate(|usage| usage.cpu).map(|per_second| per_second / 1e9 * 100.0),
            read_per_second: rate(|usage| usage.read),
            written_per_second: rate(|usage| usage.written),
            received_per_second: rate(|usage| usage.received),
            sent_per_second: rate(|usage| usage.sent),
        }
    }
}

impl Row {
    /// Of a domain whose host does not answer.
    pub(in crate::cli) fn unknown(name: Name, host: Name) -> Row {
        Row {
            name,
            host: Some(host),
            state: "unknown".into(),
            memory: None,
            resident: None,
            rates: Rates::default(),
        }
    }

    pub(super) fn cells(&self) -> Vec<String> {
        let size = |size: Option<Size>| size.map(|size| size.to_string());
        let rate = |rate: Option<f64>| rate.map(|rate| format!("{}/s", Size(rate as u64)));
        let Rates {
            cpu_percent,
            read_per_second,
            written_per_second,
            received_per_second,
            sent_per_second,
        } = self.rates;
        let cells = [
            Some(self.name.to_string()),
            Some(self.state.to_string()),
            cpu_percent.map(|percent| format!("{percent:.0}%")),
            size(self.memory),
            size(self.resident),
            rate(read_per_second),
            rate(written_per_second),
            rate(received_per_second),
            rate(sent_per_second),
        ];
        let cells = cells.into_iter();
        let cells = cells.map(|cell| cell.unwrap_or_else(|| "-".into()));
        cells.chain(self.host.iter().map(Name::to_string)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(at: Instant, usage: Option<Usage>) -> Sample {
        let name = Name::new("store").unwrap();
        let power = usage.map_or(Power::Off, |_| Power::Running);
        Sample {
            at,
            domains: [(name, (Some(power), usage))].into(),
        }
    }

    fn used(cpu: u64) -> Option<Usage> {
        Some(Usage {
            cpu,
            memory: Size::mib(512),
            resident: Size::mib(300),
            read: cpu / 1_000,
            written: 0,
            received: 0,
            sent: 0,
        })
    }

    fn cells(before: Option<Usage>, now: Option<Usage>) -> String {
        let at = Instant::now();
        let (before, now) = (sample(at, before), sample(at + Duration::from_secs(2), now));
        rows(&before, &now)[0].cells().join(" ")
    }

    #[test]
    fn rates_are_per_second() {
        let shown = cells(used(1_000_000_000), used(4_000_000_000));
        assert_eq!(
            shown,
            "store running 150% 512 MiB 300 MiB 1.4 MiB/s 0 B/s 0 B/s 0 B/s"
        );
    }

    #[test]
    fn a_domain_that_starts_stops_or_restarts_has_no_rates() {
        for before in [None, used(5)] {
            let shown = cells(before, used(4));
            assert_eq!(shown, "store running - 512 MiB 300 MiB - - - -");
        }
        assert_eq!(cells(used(4), None), "store shut off - - - - - - -");
    }

    #[test]
    fn all_fields_are_in_the_json() {
        let at = Instant::now();
        let (before, now) = (
            sample(at, used(0)),
            sample(at + Duration::from_secs(1), used(1_000_000)),
        );
        insta::assert_snapshot!(serde_json::to_string(&rows(&before, &now)).unwrap(), @r#"[{"name":"store","state":"running","memory":536870912,"resident":314572800,"cpu_percent":0.1,"read_per_second":1000.0,"written_per_second":0.0,"received_per_second":0.0,"sent_per_second":0.0}]"#);
    }
}
