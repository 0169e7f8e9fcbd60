//! Makes a guest's disks small and its files settled, before they are copied.

use super::{Guest, unit};
use crate::spec::Name;

/// What a guest makes anew by itself: caches, and logs of what is over.
const CLEAN: &str = "\
journalctl --quiet --rotate --vacuum-size=1 2>/dev/null || :
find /var/cache /var/tmp /tmp -xdev -mindepth 1 -type f -delete 2>/dev/null || :
find /var/log -xdev -type f ! -path '/var/log/journal/*' -delete 2>/dev/null || :
";

/// Free space goes back to the host. A file system without trimming is left as it is.
const TRIM: &str = "fstrim --all --quiet-unsupported || :\n";

/// A service whose unit can be reloaded brings what it holds to its files; then all that was written is on the disks.
fn settle(domain: &Name) -> String {
    let unit = unit::file_name(domain);
    format!(
        "told=0\n\
         if [ \"$(systemctl show --property=CanReload --value {unit})\" = yes ] && systemctl is-active --quiet {unit}; then\n\
         \x20   systemctl reload {unit} || told=$?\n\
         fi\n\
         sync\n\
         [ $told = 0 ] || {{ journalctl --no-pager -q -o cat -u {unit} -n 3 >&2; exit $told; }}\n"
    )
}

impl Guest {
    /// Trims every file system, has the domain's service checkpoint, and syncs; with `clean`, caches and old logs go
    /// first.
    pub fn tidy(&self, domain: &Name, clean: bool) -> anyhow::Result<()> {
        let clean = if clean { CLEAN } else { "" };
        let script = format!("{clean}{TRIM}{}", settle(domain));
        self.session
            .script("settle what is on the disks", &script)
            .map(drop)
    }
}
