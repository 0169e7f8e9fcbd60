//! The state of several hosts, of which some may not answer.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Spread;
use crate::cli::context::{block_on, cancelled_by_signals};
use crate::cli::exit::Exit;
use crate::cli::status::{Args, INTERVAL, show, show_again};
use crate::hint::told;
use crate::observe::status::{HostStatus, Status};
use crate::remote::links;

/// For a host that answers later than others.
const PATIENCE: Duration = Duration::from_secs(2);

impl Spread<'_> {
    pub(super) fn status(&self, args: &Args) -> anyhow::Result<i32> {
        block_on(async {
            let cancel = cancelled_by_signals()?;
            loop {
                let status = self.read_status(&cancel).await?;
                if cancel.is_cancelled() {
                    return Ok(match args.watch {
                        true => Exit::Done,
                        false => Exit::Interrupted,
                    } as i32);
                }
                if !args.watch {
                    show(&status, args.json)?;
                    return Ok(match status.healthy {
                        true => Exit::Done,
                        false => Exit::Differs,
                    } as i32);
                }
                show_again(&status, args.json)?;
                tokio::select! {
                    () = cancel.cancelled() => return Ok(Exit::Done as i32),
                    () = tokio::time::sleep(INTERVAL) => {}
                }
            }
        })
    }

    /// The state of all hosts, of which some may not answer.
    async fn read_status(&self, cancel: &CancellationToken) -> anyhow::Result<Status> {
        let home = self.context.paths.deployment(&self.spec.name);
        let linked = links::state(&home, &self.spec.hosts)?.unwrap_or_default();
        let mut status = Status::of_several(&self.spec.name, self.names());
        for (ssh, printed) in self
            .hosts
            .iter()
            .zip(answered(self.asked(true, cancel)?).await)
        {
            let own = printed.and_then(|(text, printed)| {
                let own = serde_json::from_str::<Status>(&text);
                own.with_context(|| match printed.errors.trim() {
                    "" => format!("host `{}` printed `{text}`", ssh.name),
                    errors => errors.trim_start_matches("error: ").to_owned(),
                })
            });
            let (own, unreached) = match own {
                Ok(own) => (Some(own), None),
                Err(error) => (None, Some(told(&error))),
            };
            let link = linked.get(&ssh.name);
            let detail = match link {
                None => Some("run `pspd up` to connect them".to_owned()),
                Some(link) => link.fault.clone(),
            };
            let host = HostStatus {
                name: ssh.name.clone(),
                unreached,
                linked: link.is_some_and(|link| link.fault.is_none()),
                detail,
                network: None,
            };
            status.add(host, own, &self.spec.clone().on(&ssh.name));
        }
        status.faults.extend(self.cuts()?);
        Ok(status)
    }
}

/// Waits for answers, and gives those up that take much longer than the others.
async fn answered<T>(
    asked: Vec<impl Future<Output = anyhow::Result<T>>>,
) -> Vec<anyhow::Result<T>> {
    let mut results: Vec<Option<anyhow::Result<T>>> = asked.iter().map(|_| None).collect();
    let asked = asked.into_iter().enumerate();
    let mut open: FuturesUnordered<_> = asked
        .map(|(index, asked)| async move { (index, asked.await) })
        .collect();
    let began = Instant::now();
    let mut patience = None;
    loop {
        let late = async {
            match patience {
                Some(patience) => tokio::time::sleep_until(began + patience).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = open.next() => {
                let Some((index, answer)) = answer else {
                    break;
                };
                if answer.is_ok() {
                    patience = Some(PATIENCE.max(began.elapsed() * 3));
                }
                results[index] = Some(answer);
            }
            () = late => break,
        }
    }
    let late = || {
        anyhow!(
            "it did not answer within {:.1} s",
            began.elapsed().as_secs_f64()
        )
    };
    let results = results.into_iter();
    results
        .map(|result| result.unwrap_or_else(|| Err(late())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_that_does_not_answer_is_given_up() {
        let asked = [true, false, true].map(|answers| async move {
            match answers {
                true => Ok(()),
                false => std::future::pending().await,
            }
        });
        let results = answered(Vec::from(asked)).await;
        let answers: Vec<bool> = results.iter().map(Result::is_ok).collect();
        assert_eq!(answers, [true, false, true]);
        let error = results[1].as_ref().unwrap_err().to_string();
        assert!(error.starts_with("it did not answer within"), "{error}");
    }

    #[tokio::test]
    async fn without_any_answer_the_first_is_waited_for() {
        let asked = [1, 2].map(|host| async move {
            tokio::time::sleep(PATIENCE.mul_f64(1.2)).await;
            Ok(host)
        });
        let results = answered(Vec::from(asked)).await;
        assert!(results.iter().all(Result::is_ok));
    }
}
