//! The scripts that run in guests. Every inserted name is a DNS label, a digest or a validated path.

pub(super) mod trees;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pspd_model::spec::{Digest, Name, RELEASE_DISK};

use super::find_disk::FIND_DISK;
use super::release::{Content, Release, ReleaseFile};
use super::{encode, unit};
use crate::disk::release::Extent;
use crate::identity::Certificate;

/// Returns the path of a release's file in the guest, as a shell's word.
fn target(release: &Release, file: &ReleaseFile) -> String {
    let path = path(file);
    if file.path.is_absolute() {
        return path;
    }
    let home = unit::home(&release.service);
    format!("{home}/releases/{}/{path}", release.digest)
}

/// Returns a file's own path as a shell's word.
fn path(file: &ReleaseFile) -> String {
    encode::word(&file.path.to_string_lossy()).into_owned()
}

/// A file in the list of a complete release.
fn listed(file: &ReleaseFile) -> String {
    format!("{} {:o} {}", file.digest, file.mode, file.path.display())
}

/// Where a file is written before it gets its name. No file of a topology has an `@` in its name.
fn unfinished(target: &str) -> String {
    format!("{target}@new")
}

/// Removes releases that are neither in use nor wanted, and what interrupted transfers left.
///
/// Prints `lacks PROGRAM` for each program that the service needs and the guest does not have, `zstd` if the guest has
/// it, `release-disk DEVICE` if it has that disk, and [`FREE`]. Also prints the current release, `complete` if `release` is complete,
/// `certified` if its certificate is installed, what [`trees::inspect`] prints, and a line `have PATH` for each file that the
/// current release has with the same digest and mode.
pub(super) fn inspect(release: &Release) -> String {
    let home = unit::home(&release.service);
    let mut script = String::new();
    for program in &release.needs {
        let program = encode::word(program);
        script.push_str(&format!(
            "command -v {program} >/dev/null || printf 'lacks %s\\n' {program}\n"
        ));
    }
    for file in release.files.iter().filter(|file| file.path.is_absolute()) {
        script.push_str(&format!("rm -f {}\n", unfinished(&target(release, file))));
    }
    script.push_str(&format!("{FIND_DISK}find_disk {RELEASE_DISK}\n"));
    script += &format!(
        "[ -z \"$device\" ] || echo \"release-disk $device\"\n\
         command -v zstd >/dev/null && echo zstd\n\
         cd {home} 2>/dev/null || {{ cd /opt; {FREE}; exit 0; }}\n\
         used=\" $(readlink current) $(readlink previous) \"\n\
         [ ! -e releases/{0}/.complete ] || used=\"$used releases/{0} \"\n\
         for release in releases/*; do case \"$used\" in *\" $release \"*) ;; *) rm -rf \"$release\" ;; esac; done\n\
         {3}{FREE}\n\
         [ \"$(readlink {1})\" = {2} ] && echo certified\n\
         {4}\
         echo current $(basename \"$(readlink current)\")\n\
         [ -e releases/{0}/.complete ] && echo complete\n\
         [ -e current/.complete ] || exit 0\n",
        release.digest,
        unit::IDENTITY,
        certificate_folder(release),
        trees::prune(&release.trees),
        trees::REPORT,
    );
    for file in &release.files {
        let wanted = listed(file);
        // What prepared the current release may have changed the user's files in it.
        let unchanged = match file.is_of_user(&release.service) {
            true => format!("[ ! -e current/{} ] && ", unit::SETUP),
            false => String::new(),
        };
        script.push_str(&format!(
            "{unchanged}grep -qxF {} current/.complete && echo have {}\n",
            encode::word(&wanted),
            path(file)
        ));
    }
    script.push_str("exit 0\n");
    script
}

/// Prints `free BLOCKS SIZE` of the file system of the releases, without the blocks that are reserved for root.
const FREE: &str = "stat -f -c 'free %a %S' . ";

/// How a file's content arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Encoding {
    Zstd,
    Plain,
}

/// Receives a file on stdin, checks its digest, and installs it. Whatever fails, no part of it stays.
pub(super) fn receive(release: &Release, file: &ReleaseFile, encoding: Encoding) -> String {
    let target = target(release, file);
    let folder = parent(&target);
    let new = unfinished(&target);
    let decode = match encoding {
        Encoding::Zstd => "zstd -dcq",
        Encoding::Plain => "cat",
    };
    format!(
        "set -e; umask 022; mkdir -p {folder}; umask 077; new={new}; trap 'rm -f \"$new\"' EXIT; {decode} >\"$new\"; \
         printf '%s  %s\\n' {} \"$new\" | sha256sum -c --status || \
             {{ echo 'the digest differs after the transfer' >&2; exit 1; }}; \
         chmod {:o} \"$new\"; mv \"$new\" {target}",
        file.digest, file.mode
    )
}

/// Reads files from the release disk, checks their digests, installs them, and runs the script `then`. Prints
/// `refused REASON` instead, and succeeds, where a file cannot be read from the disk or is another one.
///
/// The guest's page cache may have what the disk had before, so `dd` reads without it, in whole blocks.
pub(super) fn read_disk(release: &Release, files: &[(&ReleaseFile, Extent)], then: &str) -> String {
    let mut script = format!("{FIND_DISK}find_disk {RELEASE_DISK}\n")
        + r#"refuse() { rm -f "$new"; echo "refused $*"; exit 0; }
take() { # OFFSET LENGTH LENGTH_IN_BLOCKS DIGEST MODE TARGET
    new=$6@new
    umask 022; mkdir -p "${6%/*}"; umask 077
    problem=$(dd if="$device" of="$new" bs=1M iflag=direct,skip_bytes,count_bytes skip=$1 count=$3 2>&1) || refuse "$problem"
    truncate -s $2 "$new" && printf '%s  %s
' $4 "$new" | sha256sum -c --status || refuse 'a digest differs after reading'
    chmod $5 "$new" && mv "$new" "$6" || refuse "failed to name $6"
}
"#;
    for (file, extent) in files {
        script.push_str(&format!(
            "take {} {} {} {} {:o} {}
",
            extent.offset,
            extent.length,
            extent.whole_blocks(),
            file.digest,
            file.mode,
            target(release, file)
        ));
    }
    script + then
}

/// Removes the release before the current one, which the next one replaces anyway; prints [`FREE`].
pub(super) fn make_room(release: &Release) -> String {
    let home = unit::home(&release.service);
    format!(
        "cd {home} 2>/dev/null || exit 0\n\
         before=$(readlink previous)\n\
         if [ \"$before\" != \"$(readlink current)\" ]; then rm -rf \"$before\"; fi\n\
         rm -f previous\n\
         {}\
         {FREE}\n",
        trees::prune(&release.trees)
    )
}

/// Removes a release that is not complete.
pub(super) fn discard(release: &Release) -> String {
    let folder = format!(
        "{}/releases/{}",
        unit::home(&release.service),
        release.digest
    );
    format!("[ -e {folder}/.complete ] || rm -rf {folder}")
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(folder, _)| folder)
}

/// Fills the release: links unchanged files of the current release, makes directories of their packs, writes the generated
/// files, and creates the service's user.
pub(super) fn fill(
    release: &Release,
    have: &[&ReleaseFile],
    packs: &[(Digest, Option<Digest>)],
) -> String {
    let service = &release.service;
    let (home, user) = (unit::home(service), unit::user(service));
    let folder = format!("{home}/releases/{}", release.digest);
    let unit = unit::file_name(service);
    let mut script = format!(
        r#"set -e
reject() {{ echo "the guest already has a $1. Rename the domain" >&2; exit 1; }}
own=/etc/systemd/system/{unit}
if [ -e /usr/lib/systemd/system/{unit} ] || {{ [ -e $own ] && [ ! -L $own ]; }}; then reject 'unit `{unit}`'; fi
entry=$(getent passwd {user}) || :
case "$entry" in
    '') printf 'u {user} - "{service}, deployed by pspd"\n' | systemd-sysusers - >/dev/null ;;
    *':{service}, deployed by pspd:'*) ;;
    *) reject 'user `{user}`' ;;
esac
umask 022
mkdir -p {folder}
"#
    );
    for file in have {
        if !file.path.is_absolute() {
            let (path, target) = (file.path.display(), target(release, file));
            let parent = parent(&target);
            script.push_str(&format!(
                "mkdir -p {parent}\nln -f {home}/current/{path} {target}\n"
            ));
        }
    }
    script.push_str(&trees::make(service, packs));
    script.push_str(&trees::place(release));
    script.push_str("umask 077\n");
    // The service can use a file even if its mode gives nothing to others; its sandbox cannot write here.
    for file in release.files.iter().filter(|file| file.is_of_user(service)) {
        let target = target(release, file);
        script.push_str(&format!("chown {user}: {target}\n"));
    }
    for file in &release.files {
        if let Content::Text(text) = &file.content {
            let target = target(release, file);
            let new = unfinished(&target);
            let encoded = BASE64.encode(text);
            script.push_str(&format!(
                "base64 -d >{new} <<'END'\n{encoded}\nEND\nchmod {:o} {new}\nmv {new} {target}\n",
                file.mode
            ));
        }
    }
    script
}

/// Prepares a filled release as the service's user, within `limit`: prints what its commands print, then `exit STATUS`. 124 and
/// 137 say that the time was over.
pub(super) fn prepare(release: &Release, limit: Duration) -> String {
    let (home, user) = (unit::home(&release.service), unit::user(&release.service));
    format!(
        "cd {home}/releases/{} || exit 1\n\
         set -a\n. ./{}\n[ ! -e {2} ] || . ./{2}\nHOME=/tmp\nset +a\n\
         timeout -k 5 {3} setpriv --reuid={user} --regid={user} --clear-groups --no-new-privs --inh-caps=-all \
         --bounding-set=-all ./{4} </dev/null 2>&1\n\
         echo \"exit $?\"\n",
        release.digest,
        unit::ENVIRONMENT,
        unit::SECRETS,
        limit.as_secs(),
        unit::SETUP,
    )
}

/// Marks a filled and prepared release as complete.
pub(super) fn complete(release: &Release) -> String {
    let folder = format!(
        "{}/releases/{}",
        unit::home(&release.service),
        release.digest
    );
    let files = release.files.iter().map(listed);
    let lines = files.chain(release.trees.iter().map(trees::listed));
    let list: String = lines.map(|line| format!("{line}\n")).collect();
    format!(
        "umask 077\ncat >{folder}/.complete.new <<'END'\n{list}END\n\
         sync -f {folder}\nmv {folder}/.complete.new {folder}/.complete\n"
    )
}

fn certificate_folder(release: &Release) -> String {
    format!("identities/{}", release.certificate.digest())
}

/// Installs the certificate of a release with one rename. Services read it for every new connection.
pub(super) fn certify(release: &Release) -> String {
    let (home, user) = (unit::home(&release.service), unit::user(&release.service));
    let (link, folder) = (unit::IDENTITY, certificate_folder(release));
    let Certificate {
        ca,
        certificate,
        key,
    } = &release.certificate;
    // The private key is never readable by others, not even while it is written. PEM contains no quotes.
    let mut script = format!("set -e\ncd {home}\numask 027\nmkdir -p {folder}.new\n");
    for (name, pem) in [
        (unit::CA, ca),
        (unit::CERTIFICATE, certificate),
        (unit::KEY, key),
    ] {
        script.push_str(&format!("printf %s '{pem}' >{folder}.new/{name}\n"));
    }
    script.push_str(&format!(
        r#"chown -R root:{user} identities
[ -d {folder} ] || mv {folder}.new {folder}
sync -f {folder}
ln -sfn {folder} {link}.new
mv -T {link}.new {link}
for old in identities/*; do [ $old = {folder} ] || rm -rf $old; done
"#
    ));
    script
}

/// Restarts a service whose release is right: one that hangs, or reads its certificate only at the start.
pub(super) fn restart(service: &Name) -> String {
    let unit = unit::file_name(service);
    format!("systemctl reset-failed {unit} 2>/dev/null || :\nsystemctl restart {unit}")
}

/// Prints the state of a service's unit and the guest's sockets for [`super::Guest::look`].
pub(super) fn unit_state(service: &Name) -> String {
    format!(
        "systemctl show -p ActiveState,ExecMainCode,ExecMainStatus,NRestarts,Result {}; cat /proc/net/tcp*",
        unit::file_name(service)
    )
}

/// Stops and disables a service, and removes its units, its releases and the files that they put elsewhere.
pub(super) fn withdraw(service: &Name) -> String {
    let (home, unit) = (unit::home(service), unit::file_name(service));
    format!(
        r#"set -e
systemctl stop {unit} 2>/dev/null || :
rm -f /etc/systemd/system/multi-user.target.wants/{unit}
for link in /etc/systemd/system/*.service; do
    case "$(readlink "$link")" in {home}/*) ;; *) continue ;; esac
    # systemd forgets a unit without a file only when it is not active.
    systemctl stop "${{link##*/}}" 2>/dev/null || :
    rm -f "$link"
done
systemctl daemon-reload
systemctl reset-failed {unit} 2>/dev/null || :
if systemctl is-active --quiet {unit}; then echo '{unit} does not stop' >&2; exit 1; fi
for list in {home}/releases/*/.complete; do
    [ ! -e "$list" ] || sed -n 's|^[0-9a-f]* *[0-7]* \(/.*\)|\1|p' "$list" | while read -r path; do rm -f "$path"; done
done
rm -rf {home}
"#
    )
}

/// A shell function for scripts that need systemd.
pub(super) const MANAGER: &str = r#"# sshd may start before systemd's manager answers; wait for it.
manager() {
    tries=0
    until systemctl show --property=Version >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || { echo 'systemd does not answer' >&2; exit 1; }
        sleep 0.2
    done
}
"#;

/// Returns shell functions for the scripts below. They start few processes, which are slow in an emulated guest.
fn head(service: &Name) -> String {
    let home = unit::home(service);
    let unit = unit::file_name(service);
    let runtime = unit::runtime_directory(service);
    format!(
        r#"set -e
cd {home}
# Prints the digest of the release that a link points to, or nothing.
release() {{ link=$(readlink $1) && echo "${{link##*/}}" || :; }}
{MANAGER}# Makes a release the current one. Sets `reload` if a unit changed that systemd may have read.
switch_to() {{
    reload=no
    for unit in releases/$1/*.service; do
        name=${{unit##*/}}
        if [ ! -L /etc/systemd/system/$name ]; then
            ln -sfn {home}/current/$name /etc/systemd/system/$name
        elif ! cmp -s current/$name $unit; then
            reload=yes
        fi
    done
    ln -sfn releases/$1 current.new
    mv -T current.new current
    wanted=/etc/systemd/system/multi-user.target.wants/{unit}
    [ -L $wanted ] || {{ mkdir -p ${{wanted%/*}}; ln -sfn ../{unit} $wanted; }}
}}
# Starts the current release, and marks it as started for later runs.
restart() {{
    [ $reload = no ] || systemctl daemon-reload
    # systemd would keep it, also where the new unit has none.
    rm -rf {runtime}
    systemctl restart {unit} 2>/dev/null || return 1
    : >current/.started
}}
"#
    )
}

/// Switches to a complete release and restarts the service, unless the release is already active and `restart` is false.
/// `healthy` is the release that was healthy last. The last line of its output is `unchanged`, `restarted` or `failed`.
pub(super) fn activate(release: &Release, healthy: Option<&Digest>, restart: bool) -> String {
    let digest = &release.digest;
    let healthy = healthy.map_or("none", Digest::as_str);
    let unit = unit::file_name(&release.service);
    let mut script = head(&release.service);
    script.push_str(&format!(
        r#"now=$(release current)
manager
active=no
if [ "$now" ]; then
    if systemctl is-active --quiet {unit}; then active=yes; fi
    # Failures of the previous release must not count for this one.
    systemctl reset-failed {unit} 2>/dev/null || :
fi
if [ "$now" = {digest} ]; then
    if [ {restart} = false ] && [ $active = yes ] && [ -e current/.started ]; then echo unchanged; exit 0; fi
    reload=yes
else
    # Only a release that runs and was healthy is worth rolling back to.
    if [ $active = yes ] && [ "$now" = {healthy} ]; then ln -sfn "releases/$now" previous.new; mv -T previous.new previous; fi
    switch_to {digest}
fi
restart || {{ echo failed; exit 0; }}
before=$(release previous)
for old in releases/*; do
    case "${{old##*/}}" in {digest} | "$before") continue ;; esac
    # What it put elsewhere goes with it, unless a release that stays has it as well.
    sed -n 's|^[0-9a-f]* *[0-7]* \(/.*\)|\1|p' "$old/.complete" 2>/dev/null | while read -r path; do
        cat releases/{digest}/.complete "releases/$before/.complete" 2>/dev/null |
            grep -q "^[0-9a-f]* *[0-7]* $path\$" || rm -f "$path"
    done
    rm -rf "$old"
done
{}echo restarted
"#,
        trees::prune(&release.trees)
    ));
    script
}

/// Switches back to the previous release. The last line of its output is `none` if there is none and the service was
/// stopped, `back DIGEST`, or `failed DIGEST` if the previous release failed to start, too.
pub(super) fn roll_back(service: &Name) -> String {
    let unit = unit::file_name(service);
    let mut script = head(service);
    script.push_str(&format!(
        r#"before=$(release previous)
now=$(release current)
manager
if [ -z "$before" ] || [ "$before" = "$now" ]; then
    systemctl stop {unit} || true
    rm -f current/.started
    echo none
    exit 0
fi
switch_to "$before"
rm -f previous
rm -rf "releases/$now"
systemctl reset-failed {unit} 2>/dev/null || :
restart || {{ echo "failed $before"; exit 0; }}
echo "back $before"
"#
    ));
    script
}

#[cfg(test)]
mod tests;
