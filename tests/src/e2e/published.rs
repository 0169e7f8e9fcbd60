//! An HTTP server that is published through HAProxy: a part of the scenario `reference deployment`.

use std::net::TcpStream;
use std::process::Command;

use anyhow::ensure;
use pspd_tests::deployment::Deployment;
use pspd_tests::loopback::free_port;
use pspd_tests::process::output;

/// HAProxy answers with the deployment's certificate, for its own names alone, and waits for a server that restarts.
pub(crate) fn with_tls(deployment: &Deployment) -> anyhow::Result<()> {
    const NAME: &str = "web-server.pspd.internal";
    let listen = format!("127.0.0.1:{}", free_port()?);
    let port = format!("\"127.0.0.1:{}:8080\"", deployment.port);
    let front = format!("{{http: 8080, listen: \"{listen}\", hosts: [{NAME}], tls: self-signed}}");
    deployment.edit(&port, &format!("{port}, {front}"))?;
    let up = deployment.run(&["up"])?.expect(0)?;
    let url = format!("https://{}", listen.replace("127.0.0.1", NAME));
    ensure!(
        up.stderr.contains(&format!("published on {url}\n")),
        "`up` does not name {url}:\n{}",
        up.stderr
    );
    let folder = deployment.folder().join("front");
    let ca = folder.join("ca.pem").display().to_string();
    let to = folder.display().to_string();
    deployment.run(&["credentials", &to])?.expect(0)?;
    let curl = |name: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60"])
            .args(["--cacert", &ca, "--connect-to", &format!("::{listen}")])
            .args(["--header", &format!("Host: {name}")])
            .args(["--write-out", "%{http_version} %{http_code}"])
            .arg(format!("{url}/healthz"));
        output(&mut curl)
    };
    let answer = curl(NAME)?;
    ensure!(answer == "ok\n2 200", "{answer}");
    let other = curl("other.example")?;
    ensure!(other.ends_with("2 421"), "{other}");
    deployment.ssh("web-server", "systemctl restart --no-block web-server")?;
    let waited = curl(NAME)?;
    ensure!(waited == "ok\n2 200", "{waited}");
    deployment.edit(&format!("{port}, {front}"), &port)?;
    deployment.run(&["up"])?.expect(0)?;
    ensure!(
        TcpStream::connect(&listen).is_err(),
        "{listen} is still published"
    );
    Ok(())
}
