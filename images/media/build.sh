#!/bin/bash
# Builds the media for firmware tests: each contains only GRUB, which prints the medium that it started from.
#
#   build.sh OUT    writes disk.img, cd.iso, tftp/bios and tftp/uefi to the folder OUT
#
# Each works with BIOS and UEFI, and prints `started from MEDIUM` to the first serial port.
set -euo pipefail

out=$(mkdir -p "$1" && cd "$1" && pwd)
# The file system tools install into sbin, which may be missing in an ordinary user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL=C

work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

die() { echo "build.sh: $*" >&2; exit 1; }

require() {
    local missing=()
    for tool in grub-mkimage mkfs.vfat mmd mcopy sfdisk xorriso; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} = 0 ] || die "missing: ${missing[*]} (packages: grub-common mtools dosfstools fdisk xorriso)"
    [ -d /usr/lib/grub/i386-pc ] || die "missing: /usr/lib/grub/i386-pc (package: grub-pc-bin)"
    [ -d /usr/lib/grub/x86_64-efi ] || die "missing: /usr/lib/grub/x86_64-efi (package: grub-efi-amd64-bin)"
}

# `grub FORMAT MEDIUM FILE MODULE...`
grub() {
    cat >"$work/early.cfg" <<CFG
serial --unit=0 --speed=115200
terminal_output serial
echo "started from $2"
CFG
    grub-mkimage --format "$1" --output "$3" --prefix / --config "$work/early.cfg" serial terminal echo "${@:4}"
}

# `esp FILE MEDIUM`: a file system in which UEFI finds its boot loader.
esp() {
    truncate -s 1M "$1"
    mkfs.vfat "$1" >/dev/null
    grub x86_64-efi "$2" "$work/boot.efi"
    mmd -i "$1" ::/EFI ::/EFI/BOOT
    mcopy -i "$1" "$work/boot.efi" ::/EFI/BOOT/BOOTX64.EFI
}

# Boot code, then GRUB's core, then an EFI system partition.
disk() {
    esp "$work/esp.img" disk
    grub i386-pc disk "$work/core.img" biosdisk
    truncate -s 4M "$out/disk.img"
    sfdisk --quiet "$out/disk.img" <<<$'label: dos\nstart=1MiB, size=1MiB, type=ef, bootable'
    dd if=/usr/lib/grub/i386-pc/boot.img of="$out/disk.img" bs=1 count=440 conv=notrunc status=none
    dd if="$work/core.img" of="$out/disk.img" bs=512 seek=1 conv=notrunc status=none
    dd if="$work/esp.img" of="$out/disk.img" bs=1M seek=1 conv=notrunc status=none
}

cd_rom() {
    mkdir "$work/cd"
    esp "$work/cd/efi.img" cd-rom
    grub i386-pc-eltorito cd-rom "$work/cd/bios.img" biosdisk
    xorriso -as mkisofs -quiet -o "$out/cd.iso" \
        -b bios.img -no-emul-boot -boot-load-size 4 -boot-info-table --grub2-boot-info \
        -eltorito-alt-boot -e efi.img -no-emul-boot "$work/cd"
}

network() {
    mkdir "$out/tftp"
    grub i386-pc-pxe network "$out/tftp/bios" pxe
    grub x86_64-efi network "$out/tftp/uefi"
}

require
disk
cd_rom
network
