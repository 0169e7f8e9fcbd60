#!/bin/bash
# Builds the Debian guest image from distribution packages, as root or as an ordinary user with subordinate ids.
#
#   build.sh OUT [PACKAGE...]    leaves disk.qcow2, vmlinux, vmlinuz, initrd, cmdline.txt and manifest.json in the folder
#                                OUT; packages are installed beside the recipe's own, and their services do not start
#   build.sh --check             prints what this host lacks for that, and builds nothing
#
# No loop device and nothing mounted on the host: file systems are filled by mke2fs and mtools.
# PSPD_DEBIAN_MIRROR overrides the package mirror; PSPD_GUEST_INIT names the guest's init where it is compiled already.
# `STAGE: ...` lines on standard output say where it is.
set -euo pipefail

recipe=$(cd "$(dirname "$0")" && pwd)
. "$recipe/recipe.conf"
export SOURCE_DATE_EPOCH=$epoch LC_ALL=C E2FSPROGS_FAKE_TIME=$epoch

# grub-pc-bin and the file system tools install into sbin, which an ordinary user's PATH may not have.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

stage() { echo "STAGE: $*"; }
die() { echo "build.sh: $*" >&2; exit 1; }

# What follows the download needs files of many owners: root's own, or a user namespace's.
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else unshare --map-root-user --map-auto -- "$@"; fi; }

require() {
    local missing=()
    for tool in mmdebstrap mke2fs debugfs sfdisk grub-mkimage mcopy mkfs.vfat cpio qemu-img zstd xz ${PSPD_GUEST_INIT:-cargo}; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} = 0 ] || die "missing: ${missing[*]} (packages: mmdebstrap e2fsprogs fdisk grub-common grub-pc-bin grub-efi-amd64-bin mtools dosfstools cpio qemu-utils zstd xz-utils)"
    [ -d /usr/lib/grub/i386-pc ] || die "missing: /usr/lib/grub/i386-pc (package: grub-pc-bin)"
    [ -d /usr/lib/grub/x86_64-efi ] || die "missing: /usr/lib/grub/x86_64-efi (package: grub-efi-amd64-bin)"
    [ "$(id -u)" = 0 ] || command -v newuidmap >/dev/null || die "missing: newuidmap (package: uidmap), or run as root"
    [ -e "$keyring" ] || die "missing: $keyring (package: debian-archive-keyring)"
}

# The mirror that this host's own apt uses, where it uses Debian's main archive; else mmdebstrap's default.
mirror() {
    if [ -n "${PSPD_DEBIAN_MIRROR:-}" ]; then
        echo "$PSPD_DEBIAN_MIRROR"
    elif command -v apt-get >/dev/null; then
        apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(CREATED_BY)|$(REPO_URI)' 2>/dev/null |
            sed -n 's/^Debian|Debian|Packages|//p' | head -n 1
    fi
}

# Passes on what mmdebstrap prints, and reports its stages.
stages() {
    local line downloads=no
    while IFS= read -r line; do
        echo "$line"
        case $line in
            'I: running apt-get update'*) stage "reading the lists of packages" ;;
            'Need to get '*)
                line=${line#Need to get }
                downloads=yes
                stage "downloading ${line% of archives.} of packages"
                ;;
            'Fetched '*) [ $downloads = no ] || stage "installing packages" ;;
            'I: creating tarball'*) stage "packing the root file system" ;;
        esac
    done
}

bootstrap() {
    local uri
    uri=$(mirror)
    mkdir "$work/kernel"
    # shellcheck disable=SC2016 # mmdebstrap's shell expands these
    mmdebstrap --verbose --variant=apt --format=tar --keyring="$keyring" \
        --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/lib/x86_64-linux-gnu/gconv/*' \
        --include="$(cat "$recipe/packages") $*" \
        --customize-hook='export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"; mkdir "$1/kernel" && cd "$1/kernel" &&
            apt-get -qq -o APT::Sandbox::User=root download $(apt-cache depends '"$kernel"' | sed -n "s/.*Depends: \(linux-image-[0-9].*\)/\1/p")' \
        --customize-hook="sync-out /kernel $work/kernel" \
        --customize-hook='rm -r "$1/kernel"' \
        "$suite" "$work/root.tar" ${uri:+"$uri"} 2>&1 | stages
}

build_init() {
    stage "building guest-init"
    # Static and at a fixed address: no relocation, and no library in the initramfs.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=s RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' \
        cargo build --quiet --release --locked --target x86_64-unknown-linux-gnu \
        --manifest-path "$recipe/init/Cargo.toml" --target-dir "${CARGO_TARGET_DIR:-$work/target}"
    cp "${CARGO_TARGET_DIR:-$work/target}/x86_64-unknown-linux-gnu/release/guest-init" "$work/guest"
}

# From here on in `as_root`: `build.sh --assemble OUT WORK`.
assemble() {
    stage "unpacking"
    mkdir "$work/root"
    # The kernel makes the guest's devices; an ordinary user cannot.
    tar -xf "$work/root.tar" -C "$work/root" --exclude='./dev/*'
    rm "$work/root.tar"
    dpkg-deb -x "$work"/kernel/linux-image-*.deb "$work/kernel"
    modules=$(echo "$work"/kernel/usr/lib/modules/*)
    release=$(basename "$modules")

    stage "making the initramfs"
    initramfs
    "$recipe/extract-vmlinux" "$work/kernel/boot/vmlinuz-$release" >"$out/vmlinux"
    cp "$work/kernel/boot/vmlinuz-$release" "$out/vmlinuz"
    echo "$cmdline" >"$out/cmdline.txt"

    stage "configuring"
    configure
    manifest

    stage "writing the disk"
    disk
}

initramfs() {
    local tree=$work/initramfs number=10 name
    mkdir -p "$tree/drivers"
    cp "$work/guest" "$tree/init"
    for name in $drivers; do
        driver "$name" >"$tree/drivers/$((number++))-$name.ko"
    done
    (cd "$tree" && find . -mindepth 1 -exec touch -hd "@$epoch" {} + && find . -mindepth 1 | sort |
        cpio --quiet --create --format=newc --reproducible --owner=0:0) >"$out/initrd"
}

driver() {
    local file
    file=$(find "$modules" -name "$1.ko.xz")
    [ -n "$file" ] || die "kernel $release has no module $1"
    xz -dc "$file"
}

configure() {
    local root=$work/root unit folder
    mkdir -p "$root/usr/lib/modules" "$root/usr/lib/pspd" "$root/boot"
    cp -r "$modules" "$root/usr/lib/modules/"
    for folder in $unwanted_modules; do
        rm -rf "$root/usr/lib/modules/$release/kernel/${folder:?}"
    done
    chroot "$root" /usr/sbin/depmod "$release"
    cp "$out/vmlinuz" "$out/initrd" "$root/boot/"
    install -m 755 "$work/guest" "$root/usr/lib/pspd/guest"
    cp -r --preserve=mode "$recipe/overlay/." "$root/"
    rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/fstab" "$root/etc/hosts" "$root/etc/resolv.conf"
    ln -s /run/pspd/hosts "$root/etc/hosts"
    ln -s /run/pspd/resolv.conf "$root/etc/resolv.conf"
    sed -i 's/^hosts:.*/hosts: files dns/' "$root/etc/nsswitch.conf"
    # Empty: systemd creates one at the first boot and does not treat it as a new installation.
    : >"$root/etc/machine-id"
    rm -f "$root/var/lib/dbus/machine-id"
    while read -r unit; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done <"$recipe/masked"
    # Each generator costs a process at every boot, and has nothing to generate here.
    mkdir -p "$root/etc/systemd/system-generators"
    for unit in "$root"/usr/lib/systemd/system-generators/*; do
        ln -sf /dev/null "$root/etc/systemd/system-generators/${unit##*/}"
    done
    # Only the units named here and pspd's service run: no unit that a package enables.
    rm -rf "$root/etc/systemd/system/multi-user.target.wants"
    mkdir "$root/etc/systemd/system/multi-user.target.wants"
    for unit in ssh watch console grow; do
        ln -sf "/etc/systemd/system/$unit.service" "$root/etc/systemd/system/multi-user.target.wants/"
    done
    rm -rf "$root"/etc/systemd/system/{sshd.service,*.service.wants,ssh.socket.wants,getty.target.wants,sysinit.target.wants,timers.target.wants}
    ln -sf /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
    sed -e "s/@root_uuid@/$root_uuid/" -e "s|@cmdline@|$cmdline|" "$recipe/grub.cfg.in" >"$root/boot/grub.cfg"
}

# The image's origin as JSON: package names, versions and architectures need no escaping.
manifest() {
    local packages
    packages=$(dpkg-query --admindir "$work/root/var/lib/dpkg" --show \
        --showformat '    {"package": "${Package}", "version": "${Version}", "architecture": "${Architecture}"},\n' | sed '$ s/,$//')
    cat >"$out/manifest.json" <<EOF
{
  "suite": "$suite",
  "kernel": "$release",
  "kernel_package": "$(basename "$work"/kernel/linux-image-*.deb .deb)",
  "packages": [
$packages
  ]
}
EOF
    install -D -m 644 "$out/manifest.json" "$work/root/usr/share/pspd/manifest.json"
}

# MBR: boot code and GRUB's core, then an EFI system partition, then the root file system to the disk's end.
disk() {
    local raw=$work/disk.raw mib=$((1024 * 1024)) root_mib=$((disk_mib - 1 - esp_mib)) offset
    offset=$(((1 + esp_mib) * mib))
    truncate -s "${disk_mib}M" "$raw"
    sfdisk --quiet "$raw" <<EOF
label: dos
label-id: 0x$disk_signature
start=1MiB, size=${esp_mib}MiB, type=ef
start=$((1 + esp_mib))MiB, size=${root_mib}MiB, type=83, bootable
EOF
    # Younger files are what this build made.
    find "$work/root" -newermt "@$epoch" -exec touch -hd "@$epoch" {} +
    mke2fs -q -t ext4 -d "$work/root" -L root -U "$root_uuid" -m 1 -J size=16 \
        -E "hash_seed=$hash_seed,root_owner=0:0,offset=$offset,lazy_itable_init=1,nodiscard" \
        "$raw" "${root_mib}M"
    set_times "$raw?offset=$offset"
    bios_boot "$raw"
    efi_boot "$raw"
    qemu-img convert -f raw -O qcow2 "$raw" "$out/disk.qcow2"
}

# Sets the times of the last access and change, which mke2fs takes from the files: nothing else can set the latter.
set_times() {
    local used inode
    used=$(debugfs -R 'stats -h' "$1" 2>/dev/null | awk '/^Inode count:/ {all = $NF} /^Free inodes:/ {free = $NF} END {print all - free}')
    # 2 is the root folder; those up to 10 are reserved. mke2fs uses one inode after the other.
    for inode in 2 $(seq 11 "$used"); do
        printf 'set_inode_field <%d> %s @%d\n' "$inode" atime "$epoch" "$inode" ctime "$epoch"
    done >"$work/times"
    debugfs -w -f "$work/times" "$1" >"$work/times.log" 2>&1 || die "failed to set the times of files: $(tail -n 1 "$work/times.log")"
}

grub_early() {
    echo "search --no-floppy --fs-uuid --set=root $root_uuid"
    echo 'configfile ($root)/boot/grub.cfg'
}

bios_boot() {
    local core=$work/core.img
    grub_early >"$work/early.cfg"
    grub-mkimage --format i386-pc --output "$core" --prefix /boot --config "$work/early.cfg" \
        biosdisk part_msdos ext2 linux search search_fs_uuid configfile normal
    [ "$(stat -c %s "$core")" -le $((1024 * 1024 - 512)) ] || die "GRUB's core does not fit before the first partition"
    # Everything except the partition table and the disk signature in the first sector.
    dd if=/usr/lib/grub/i386-pc/boot.img of="$1" bs=1 count=440 conv=notrunc status=none
    dd if="$core" of="$1" bs=512 seek=1 conv=notrunc status=none
}

efi_boot() {
    local esp=$work/esp.img
    grub-mkimage --format x86_64-efi --output "$work/bootx64.efi" --prefix /boot --config "$work/early.cfg" \
        part_msdos ext2 linux search search_fs_uuid configfile normal
    truncate -s "${esp_mib}M" "$esp"
    mkfs.vfat -i "$esp_serial" "$esp" >/dev/null
    mmd -i "$esp" ::/EFI ::/EFI/BOOT
    mcopy -i "$esp" "$work/bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI
    dd if="$esp" of="$1" bs=1M seek=1 conv=notrunc status=none
}

require
[ "$1" != --check ] || exit 0
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
work=$(mktemp -d "$out/work.XXXXXX")
trap 'as_root rm -rf "$work"' EXIT

if [ -n "${PSPD_GUEST_INIT:-}" ]; then cp "$PSPD_GUEST_INIT" "$work/guest"; else build_init; fi
stage "installing Debian $suite"
bootstrap "$@"
export -f stage die assemble initramfs driver configure manifest disk set_times grub_early bios_boot efi_boot
export recipe out work suite kernel drivers unwanted_modules epoch disk_signature root_uuid hash_seed esp_serial disk_mib esp_mib cmdline
as_root bash -euo pipefail -c assemble
