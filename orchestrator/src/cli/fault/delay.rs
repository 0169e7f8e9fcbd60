//! The arguments of `pspd fault delay`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_model::fault::{Direction, Effect};
use pspd_model::shape::{Shape, Share};
use pspd_model::spec::Spec;

use super::super::completions;
use super::{FaultOptions, domain_anywhere};

#[derive(Clone, clap::Args)]
#[group(id = "shape", required = true, multiple = true, args = ["latency", "loss", "reorder", "duplicate", "rate"])]
pub(super) struct Args {
    /// A domain
    #[arg(add = completions::domains())]
    a: String,
    /// Another domain
    #[arg(add = completions::domains())]
    b: String,
    /// Delay each packet by this time, such as `100ms`
    #[arg(long, value_name = "TIME", value_parser = microseconds)]
    latency: Option<u64>,
    /// Vary the latency by up to this time
    #[arg(long, value_name = "TIME", value_parser = microseconds, requires = "latency")]
    jitter: Option<u64>,
    /// Lose this share of packets, such as `2%`
    #[arg(long, value_name = "SHARE", value_parser = share)]
    loss: Option<Share>,
    /// Send this share of packets without the latency, so that they overtake others
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "latency")]
    reorder: Option<Share>,
    /// Send this share of packets twice
    #[arg(long, value_name = "SHARE", value_parser = share)]
    duplicate: Option<Share>,
    /// Send no more than this, such as `1mbit` or `500kbit` per second
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<u64>,
    /// Only what the first domain sends to the second
    #[arg(long)]
    one_way: bool,
    #[command(flatten)]
    options: FaultOptions,
}

impl Args {
    pub(super) fn effect(self, spec: &Spec) -> anyhow::Result<(Effect, FaultOptions)> {
        let shape = Shape {
            latency: self.latency.unwrap_or(0),
            jitter: self.jitter.unwrap_or(0),
            loss: self.loss.unwrap_or_default(),
            reorder: self.reorder.unwrap_or_default(),
            duplicate: self.duplicate.unwrap_or_default(),
            rate: self.rate,
        };
        let effect = Effect::Delay {
            from: domain_anywhere(spec, &self.a)?,
            to: domain_anywhere(spec, &self.b)?,
            direction: if self.one_way {
                Direction::OneWay
            } else {
                Direction::Both
            },
            shape,
        };
        Ok((effect, self.options))
    }
}

/// With more than a minute, nothing works over the network.
const LONGEST: Duration = Duration::from_secs(60);

fn microseconds(text: &str) -> anyhow::Result<u64> {
    let hint = || format!("`{text}` is not a valid time; write it like `100ms` or `1s`");
    let time: jiff::SignedDuration = text.parse().with_context(hint)?;
    let time = Duration::try_from(time).with_context(hint)?;
    ensure!(
        time >= Duration::from_micros(1) && time <= LONGEST,
        "`{text}` is not between 1 microsecond and {} s",
        LONGEST.as_secs()
    );
    Ok(u64::try_from(time.as_micros())?)
}

fn share(text: &str) -> anyhow::Result<Share> {
    let number = text.strip_suffix('%').map(str::trim).map(str::parse::<f64>);
    let share = match number {
        Some(Ok(percent)) if percent > 0.0 && percent <= 100.0 => (percent * 10_000.0).round(),
        _ => anyhow::bail!("`{text}` is not a valid share; write it like `2%` or `0.5%`"),
    };
    // At most a million.
    Ok(Share(share as u32))
}

fn rate(text: &str) -> anyhow::Result<u64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let scale = match unit.to_ascii_lowercase().as_str() {
        "bit" => Some(1.0),
        "kbit" => Some(1e3),
        "mbit" => Some(1e6),
        "gbit" => Some(1e9),
        _ => None,
    };
    let number = number.trim().parse::<f64>().ok();
    let rate = number.zip(scale).map(|(number, scale)| number * scale);
    match rate {
        Some(rate) if (1e3..=1e12).contains(&rate) => Ok(rate as u64),
        _ => anyhow::bail!(
            "`{text}` is not a valid rate of at least 1kbit; write it like `1mbit` or `500kbit`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_shares_and_rates_need_a_unit() {
        assert_eq!(microseconds("100ms").unwrap(), 100_000);
        assert_eq!(microseconds("1.5s").unwrap(), 1_500_000);
        assert_eq!(microseconds("250us").unwrap(), 250);
        for text in ["100", "0ms", "-1ms", "2m", "1ns", ""] {
            assert!(microseconds(text).is_err(), "{text}");
        }
        assert_eq!(share("2%").unwrap(), Share(20_000));
        assert_eq!(share("0.5 %").unwrap(), Share(5_000));
        assert_eq!(share("100%").unwrap(), Share(1_000_000));
        for text in ["2", "0%", "101%", "-1%", "NaN%", "%"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!(rate("1mbit").unwrap(), 1_000_000);
        assert_eq!(rate("1.5Mbit").unwrap(), 1_500_000);
        assert_eq!(rate("500 kbit").unwrap(), 500_000);
        for text in [
            "1", "mbit", "1 MiB", "0kbit", "-1mbit", "1e3mbit", "9999gbit",
        ] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
