//! Runs to figures: minimum, median and maximum of each stage, and ratios between cases of the same run.

use std::fmt;
use std::time::Duration;

use pspd_model::definition::Accelerator;
use serde::Serialize;

use super::settings::Settings;
use crate::boot::Times;
use crate::event::seconds;
use crate::firmware::Reported;
use crate::hint::told;
use crate::libvirt::Medium;

/// The host's system, its processors and the accelerator of guests, for people.
pub(super) fn host(accelerator: Option<Accelerator>) -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let accelerator = match accelerator {
        Some(Accelerator::Kvm) => ", KVM",
        Some(Accelerator::Tcg) => ", TCG",
        None => "",
    };
    format!(
        "{} {}, {processors} processors{accelerator}",
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Its system, processors and accelerator.
    pub host: String,
    pub cases: Vec<Case>,
    pub compatibility: Vec<Row>,
    pub settings: Vec<Settings>,
}

/// One firmware and boot path.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    pub name: String,
    /// Its lines of a topology.
    pub topology: String,
    pub runs: Vec<Run>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Seconds since power on, in the order of [`crate::boot::STAGES`]; `None` for a stage that left no trace.
    pub reached: [Option<f64>; 4],
    /// What the guest reported.
    pub firmware: Option<String>,
    pub error: Option<String>,
}

/// Of several runs, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub minimum: f64,
    pub median: f64,
    pub maximum: f64,
}

impl Run {
    pub fn booted(times: Times, reported: &Reported) -> Run {
        let to_seconds = |time: Option<Duration>| time.map(seconds);
        Run {
            reached: times.all().map(to_seconds),
            firmware: Some(reported.to_string()),
            error: None,
        }
    }

    pub fn failed(error: &anyhow::Error) -> Run {
        Run {
            reached: [None; 4],
            firmware: None,
            error: Some(told(error)),
        }
    }
}

impl Spread {
    /// `None` if there are no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Spread {
            minimum: *sorted.first()?,
            median: sorted[sorted.len() / 2],
            maximum: *sorted.last()?,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread {
            minimum,
            median,
            maximum,
        } = self;
        write!(f, "{minimum:.2} / {median:.2} / {maximum:.2}")
    }
}

impl Case {
    pub fn new(name: &str, topology: &str) -> Case {
        Case {
            name: name.to_owned(),
            topology: topology.to_owned(),
            runs: Vec::new(),
        }
    }

    /// When a stage was reached, by its index.
    pub fn reached(&self, stage: usize) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| run.reached[stage]))
    }

    /// Why runs failed.
    pub fn failures(&self) -> Vec<&str> {
        let errors = self.runs.iter().filter_map(|run| run.error.as_deref());
        errors.collect()
    }

    /// What the guest reported.
    pub fn firmware(&self) -> &str {
        let reported = self.runs.iter().find_map(|run| run.firmware.as_deref());
        reported.unwrap_or("-")
    }
}

impl Results {
    fn median(&self, case: &str, stage: usize) -> Option<f64> {
        let case = self.cases.iter().find(|one| one.name == case)?;
        Some(case.reached(stage)?.median)
    }

    /// Differences of medians within this run.
    pub fn comparisons(&self) -> String {
        let mut text = String::new();
        let mut compare = |what: &str, left: Option<f64>, right: Option<f64>| {
            if let (Some(left), Some(right)) = (left, right) {
                text.push_str(&format!(
                    "{what}: {left:.2} s and {right:.2} s, ratio {:.2}\n",
                    left / right
                ));
            }
        };
        let (firmware, kernel, ssh) = (0, 1, 3);
        compare(
            "hand-over, coreboot against SeaBIOS on q35",
            self.median("coreboot-disk", firmware),
            self.median("seabios-q35-disk", firmware),
        );
        let disks = [
            "seabios-disk",
            "seabios-q35-disk",
            "coreboot-disk",
            "uefi-disk",
        ];
        let quickest = disks
            .iter()
            .filter_map(|case| self.median(case, kernel))
            .reduce(f64::min);
        compare(
            "kernel's first line, coreboot with Linux in it against the quickest disk boot",
            self.median("coreboot-linux", kernel),
            quickest,
        );
        for firmware in ["seabios", "coreboot", "uefi"] {
            for (stage, index) in [("kernel's first line", kernel), ("SSH", ssh)] {
                compare(
                    &format!("{stage} under {firmware}, boot: kernel against boot: disk"),
                    self.median(&format!("{firmware}-kernel"), index),
                    self.median(&format!("{firmware}-disk"), index),
                );
            }
        }
        text
    }
}

/// What one firmware boots from.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub firmware: String,
    pub tries: Vec<Try>,
}

/// One start with one medium.
#[derive(Clone, Debug, Serialize)]
pub struct Try {
    pub medium: Medium,
    pub boots: bool,
    pub reached: Reached,
    /// From power on until that was seen.
    pub seconds: f64,
    /// The last line that the machine printed.
    pub last_words: String,
}

/// How far a start got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reached {
    /// The hypervisor does not start such a machine.
    Refused,
    /// Neither console has any output.
    Nothing,
    /// It runs, and made no decision in time.
    Firmware,
    /// It reports that it found nothing to boot from.
    NothingFound,
    /// The kernel in the ROM: the medium was not tried.
    Kernel,
    /// The one on the medium, which reported it.
    BootLoader,
}

impl Reached {
    pub fn word(self) -> &'static str {
        match self {
            Reached::Refused => "refused",
            Reached::Nothing => "silent",
            Reached::Firmware => "firmware",
            Reached::NothingFound => "found nothing",
            Reached::Kernel => "own kernel",
            Reached::BootLoader => "boot loader",
        }
    }
}

impl Try {
    /// `yes`, or `no` with how far it got.
    pub fn word(&self) -> String {
        if self.boots {
            format!("yes, {:.1} s", self.seconds)
        } else {
            format!("no: {}", self.reached.word())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_runs() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (spread.minimum, spread.median, spread.maximum),
            (1.0, 2.0, 3.0)
        );
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_failed_run_counts_and_has_no_times() {
        let mut case = Case::new("seabios-disk", "firmware: seabios");
        case.runs.push(Run::failed(&anyhow::anyhow!("no answer")));
        let times = Times {
            ssh: Some(Duration::from_secs(5)),
            ..Times::default()
        };
        case.runs.push(Run::booted(times, &Reported::default()));
        assert_eq!(case.reached(3).unwrap().median, 5.0);
        assert_eq!(case.reached(1), None);
        assert_eq!(case.failures(), ["no answer"]);
    }
}
