//! Runs a service's program a second time, beside the service.

use pspd_model::spec::Name;

use super::unit::{self, CA, CERTIFICATE, IDENTITY, KEY};
use super::{Guest, encode};

impl Guest {
    /// Runs the current release's program with these arguments and the service's certificate in its environment, and passes
    /// its stdout to `line`, line by line. It fails where the program does. Blocks without a deadline of its own.
    pub fn run_program(
        &self,
        service: &Name,
        arguments: &[String],
        mut line: impl FnMut(&str),
    ) -> anyhow::Result<()> {
        let home = unit::home(service);
        let identity = format!("{home}/{IDENTITY}");
        let mut command = format!(
            "PSPD_TLS_CA={identity}/{CA} PSPD_TLS_CERT={identity}/{CERTIFICATE} PSPD_TLS_KEY={identity}/{KEY} \
             {home}/current/{service}"
        );
        for argument in arguments {
            command.push(' ');
            command.push_str(&encode::word(argument));
        }
        self.session.lines(&command, None, |text| {
            line(text);
            true
        })
    }
}
