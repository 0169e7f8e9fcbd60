//! The arguments of `pspd fault disk`, `clock` and `cpu`.

use anyhow::{Context as _, bail, ensure};
use pspd_model::fault::Effect;
use pspd_model::harm::{DiskHarm, Offset, Throttle, WHOLE};
use pspd_model::similar::meant;
use pspd_model::spec::{Name, Size, Spec};

use super::super::completions;
use super::{FaultOptions, domain};

#[derive(Clone, clap::Args)]
#[group(id = "harm", required = true, multiple = true, args = ["slow", "iops", "full", "fail"])]
pub(super) struct DiskArgs {
    /// The domain
    #[arg(add = completions::domains())]
    name: String,
    /// `system`, or the name of a data volume
    volume: String,
    /// Read and write no more than this in a second, such as `500KiB/s`
    #[arg(long, value_name = "RATE", value_parser = rate)]
    slow: Option<Size>,
    /// Do no more than this many reads and writes in a second
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    iops: Option<u64>,
    /// Fill its file system completely, even for root
    #[arg(long, conflicts_with_all = ["slow", "iops"])]
    full: bool,
    /// Make all reads and writes of its file system fail (not for `system`)
    #[arg(long, conflicts_with_all = ["slow", "iops", "full"])]
    fail: bool,
    #[command(flatten)]
    options: FaultOptions,
}

impl DiskArgs {
    pub(super) fn effect(self, spec: &Spec) -> anyhow::Result<(Effect, FaultOptions)> {
        let domain = domain(spec, &self.name)?;
        let disk = disk(spec, &domain, &self.volume)?;
        let harm = if self.full {
            DiskHarm::Full
        } else if self.fail {
            DiskHarm::Fail
        } else {
            DiskHarm::Slow(Throttle {
                bytes: self.slow,
                iops: self.iops,
            })
        };
        Ok((Effect::Disk { domain, disk, harm }, self.options))
    }
}

/// A disk of the domain by name.
fn disk(spec: &Spec, domain: &Name, name: &str) -> anyhow::Result<Name> {
    let known: Vec<&str> = spec.domains[domain].disks().collect();
    ensure!(
        known.contains(&name),
        "domain `{domain}` has no disk `{name}`: {}",
        meant(name, &known)
    );
    Ok(Name::new(name)?)
}

#[derive(Clone, clap::Args)]
pub(super) struct ClockArgs {
    /// The domain
    #[arg(add = completions::domains())]
    name: String,
    /// How far: ahead, such as `+10m`, or behind, such as `-2h`
    #[arg(long, value_name = "OFFSET", value_parser = offset, allow_hyphen_values = true)]
    skew: Offset,
    #[command(flatten)]
    options: FaultOptions,
}

impl ClockArgs {
    pub(super) fn effect(self, spec: &Spec) -> anyhow::Result<(Effect, FaultOptions)> {
        let (domain, skew) = (domain(spec, &self.name)?, self.skew);
        Ok((Effect::Clock { domain, skew }, self.options))
    }
}

#[derive(Clone, clap::Args)]
pub(super) struct CpuArgs {
    /// The domain
    #[arg(add = completions::domains())]
    name: String,
    /// How much of each virtual CPU, such as `90%`
    #[arg(long, value_name = "SHARE", value_parser = percent)]
    burn: u32,
    #[command(flatten)]
    options: FaultOptions,
}

impl CpuArgs {
    pub(super) fn effect(self, spec: &Spec) -> anyhow::Result<(Effect, FaultOptions)> {
        let (domain, burn) = (domain(spec, &self.name)?, self.burn);
        Ok((Effect::Cpu { domain, burn }, self.options))
    }
}

fn rate(text: &str) -> anyhow::Result<Size> {
    let size = text.trim().strip_suffix("/s").map(str::parse::<Size>);
    match size {
        Some(Ok(size)) => Ok(size),
        _ => bail!("`{text}` is not a valid rate; write it like `500KiB/s` or `2 MiB/s`"),
    }
}

/// In seconds: clocks of guests that are off by more may not be set.
const FARTHEST: i64 = 10 * 365 * 24 * 60 * 60;

fn offset(text: &str) -> anyhow::Result<Offset> {
    let hint = || format!("`{text}` is not a valid offset; write it like `+10m`, `-90s` or `+2h`");
    ensure!(text.starts_with(['+', '-']), "{}", hint());
    let time: jiff::SignedDuration = text.parse().with_context(hint)?;
    ensure!(
        time.as_secs() != 0 && time.subsec_nanos() == 0,
        "`{text}` is not a number of whole seconds other than 0"
    );
    ensure!(
        time.as_secs().abs() <= FARTHEST,
        "`{text}` is more than 10 years"
    );
    Ok(Offset(time.as_secs()))
}

fn percent(text: &str) -> anyhow::Result<u32> {
    let number = text.strip_suffix('%').map(|text| text.trim().parse());
    match number {
        Some(Ok(percent @ 1..=WHOLE)) => Ok(percent),
        _ => bail!("`{text}` is not a whole number of percent from 1% to {WHOLE}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_offsets_and_shares_need_a_unit_and_are_not_zero() {
        assert_eq!(rate("500KiB/s").unwrap(), Size(500 << 10));
        assert_eq!(rate("2 MiB/s").unwrap(), Size::mib(2));
        for text in [
            "500", "500/s", "500KiB", "0KiB/s", "-1KiB/s", "1kbit/s", "/s", "",
        ] {
            assert!(rate(text).is_err(), "{text}");
        }
        for (text, seconds) in [
            ("+10m", 600),
            ("-90s", -90),
            ("+1h30m", 5400),
            ("-2h", -7200),
        ] {
            assert_eq!(offset(text).unwrap(), Offset(seconds), "{text}");
        }
        for text in [
            "10m",
            "+0s",
            "-0m",
            "+10",
            "+500ms",
            "+",
            "-",
            "",
            "soon",
            "+99999999h",
        ] {
            assert!(offset(text).is_err(), "{text}");
        }
        assert_eq!(percent("90%").unwrap(), 90);
        assert_eq!(percent("100 %").unwrap(), 100);
        for text in ["90", "0%", "101%", "-1%", "1.5%", "%", ""] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
