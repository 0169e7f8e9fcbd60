//! The commands of the tutorial, in its order.

use std::fs;

use anyhow::{Context as _, ensure};
use pspd_tests::deployment::Deployment;
use pspd_tests::root;
use pspd_tests::scenario::{Scenario, minutes};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario::new(
    "the tutorial's commands",
    minutes(30),
    tutorial,
)];

/// The port on which the tutorial publishes its service.
const PORT: &str = "8099";
/// What its visitors see: the rewound ones are counted again.
const VISITS: [&str; 8] = [
    "visit 1",
    "visit 2",
    "you are visitor 3",
    "you are visitor 4",
    "you are visitor 5",
    "you are visitor 6",
    "you are visitor 4",
    "you are visitor 5",
];

fn tutorial() -> anyhow::Result<()> {
    let blocks = blocks("docs/tutorial.md")?;
    ensure!(
        blocks == self::blocks("docs/tutorial.pt-BR.md")?,
        "the commands of the two languages differ"
    );
    let deployment = Deployment::tutorial()?;
    let script = blocks.concat().replace(PORT, &deployment.port.to_string());
    let printed = deployment.script(&script)?.expect(0)?.stdout;
    let visits: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("visit ") || line.starts_with("you are visitor "))
        .collect();
    ensure!(visits == VISITS, "{printed}");
    ensure!(
        printed.contains("counting visits on port 8080"),
        "{printed}"
    );
    ensure!(!deployment.home().exists(), "{printed}");
    Ok(())
}

/// The shell commands of a page, a text for each block.
fn blocks(page: &str) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(root().join(page))?;
    let blocks = text.split("```sh\n").skip(1);
    let blocks = blocks.map(|rest| {
        let end = rest
            .find("```")
            .with_context(|| format!("{page}: a block does not end"));
        Ok(rest[..end?].to_owned())
    });
    let blocks: Vec<String> = blocks.collect::<anyhow::Result<_>>()?;
    ensure!(!blocks.is_empty(), "{page} has no commands");
    Ok(blocks)
}
