//! Prepares a guest's disks for an export: trims free space and writes the service's data to its files.

use pspd_model::spec::Name;

use super::{Guest, unit};

/// Deletes files that the guest can recreate, and old logs.
const CLEAN: &str = "\
journalctl --quiet --rotate --vacuum-size=1 2>/dev/null || :
find /var/cache /var/tmp /tmp -xdev -mindepth 1 -type f -delete 2>/dev/null || :
find /var/log -xdev -type f ! -path '/var/log/journal/*' -delete 2>/dev/null || :
";

/// Returns free space to the host. File systems without trimming are skipped.
const TRIM: &str = "fstrim --all --quiet-unsupported || :\n";

/// Reloads the service's unit if it can be reloaded, so that the service writes its data to its files, then syncs the
/// disks.
fn checkpoint(domain: &Name) -> String {
    let unit = unit::file_name(domain);
    format!(
        "status=0\n\
         if [ \"$(systemctl show --property=CanReload --value {unit})\" = yes ] && systemctl is-active --quiet {unit}; then\n\
         \x20   systemctl reload {unit} || status=$?\n\
         fi\n\
         sync\n\
         [ $status = 0 ] || {{ journalctl --no-pager -q -o cat -u {unit} -n 3 >&2; exit $status; }}\n"
    )
}

impl Guest {
    /// Trims all file systems, checkpoints the domain's service, and syncs. With `clean`, deletes caches and old logs
    /// first.
    pub fn tidy(&self, domain: &Name, clean: bool) -> anyhow::Result<()> {
        let clean = if clean { CLEAN } else { "" };
        let script = format!("{clean}{TRIM}{}", checkpoint(domain));
        self.session
            .script("prepare the disks for the export", &script)
            .map(drop)
    }
}
