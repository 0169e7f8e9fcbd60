//! Faults that a guest inflicts on itself: a panic, and the end of its service.

use pspd_model::plan::ServiceOrder;
use pspd_model::spec::Name;

use super::{Guest, unit};

impl Guest {
    /// Makes the kernel panic, a moment after this returned: the session ends well before.
    pub fn panic(&self) -> anyhow::Result<()> {
        let script = "\
[ -w /proc/sysrq-trigger ] || { echo 'the kernel of the guest needs CONFIG_MAGIC_SYSRQ' >&2; exit 1; }
# Reports it to the hypervisor. A guest that has just booted may not have loaded it yet.
modprobe --all --quiet pvpanic_mmio pvpanic_pci 2>/dev/null
(sleep 1; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 </dev/null &";
        self.session.script("crash the guest", script).map(drop)
    }

    /// Ends the domain's service, or starts it.
    pub fn order(&self, service: &Name, order: ServiceOrder) -> anyhow::Result<()> {
        let unit = unit::file_name(service);
        let (what, script) = match order {
            ServiceOrder::Kill => ("kill", format!("systemctl kill --signal=KILL {unit}")),
            ServiceOrder::Stop => ("stop", format!("systemctl stop {unit}")),
            ServiceOrder::Start => ("start", format!("systemctl start {unit}")),
        };
        let what = format!("{what} the service");
        self.session.script(&what, &script).map(drop)
    }
}
