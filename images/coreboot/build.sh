#!/bin/bash
# Builds coreboot's ROMs for QEMU's q35 board from the distribution's source archives, as root or as an ordinary user.
#
#   build.sh OUT        leaves seabios.rom, linux-base.rom, cbfstool and manifest.json in the folder OUT
#   build.sh --check    prints what this host lacks for that, and builds nothing
#
# seabios.rom is complete. linux-base.rom has no payload yet: a kernel, its initramfs and its command line are added to it
# with cbfstool, without compiling anything. Nothing in a ROM depends on when or where it was built.
# PSPD_DEBIAN_MIRROR overrides where the sources come from. `STAGE: ...` lines on standard output report the progress.
set -euo pipefail

recipe=$(cd "$(dirname "$0")" && pwd)
. "$recipe/recipe.conf"
export LC_ALL=C SOURCE_DATE_EPOCH=0
# What a caller's make hands down would change what is built.
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS LDFLAGS

helper=/usr/lib/apt/apt-helper

stage() { echo "STAGE: $*"; }
die() { echo "build.sh: $*" >&2; exit 1; }

require() {
    local missing=()
    for tool in apt-get gcc make iasl bison flex m4 python3 patch xz; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} = 0 ] || die "missing: ${missing[*]} (packages: apt build-essential acpica-tools bison flex m4 python3 patch xz-utils)"
    [ -x "$helper" ] || die "missing: $helper (package: apt)"
    [ -e "$(gcc -m32 -print-libgcc-file-name)" ] ||
        die "missing: gcc's library for 32 bits (package: lib32gcc-$(gcc -dumpversion)-dev)"
}

# The archives that this host's own apt uses: of Debian, of Ubuntu, or of what is derived from them.
archives() {
    if [ -n "${PSPD_DEBIAN_MIRROR:-}" ]; then
        echo "$PSPD_DEBIAN_MIRROR"
    else
        apt-get indextargets --no-release-info --format '$(CREATED_BY)|$(REPO_URI)' 2>/dev/null |
            sed -n 's/^Packages|//p' | sort -u
    fi
}

# Through apt, which knows the host's proxy. The upstream tarballs alone: Debian's own changes are to the packaging of
# coreboot's tools. Debian and Ubuntu keep the same ones, in `main` or in `universe`, and the digest says that it is the one.
fetch() {
    source_of coreboot "$coreboot_tarball" "$coreboot_sha256"
    source_of seabios "$seabios_tarball" "$seabios_sha256"
}

# `source_of NAME PATH-IN-POOL SHA256` unpacks a tarball into the folder NAME.
source_of() {
    local archive component tarball=$work/${2##*/} log=$work/download.log asked
    asked=$(archives)
    for archive in $asked; do
        for component in main universe; do
            if "$helper" -qq -o APT::Sandbox::User="$(id -un)" download-file \
                "${archive%/}/pool/$component/$2" "$tarball" "SHA256:$3" >>"$log" 2>&1; then
                mkdir "$work/$1"
                tar -xf "$tarball" -C "$work/$1" --strip-components=1
                rm "$tarball"
                return
            fi
        done
    done
    [ ! -e "$log" ] || cat "$log" >&2
    die "failed to fetch ${2##*/} from ${asked:-apt, which has no archive}: set PSPD_DEBIAN_MIRROR to an archive that has it"
}

payload() {
    local seabios=$work/seabios
    cp "$recipe/seabios.config" "$seabios/.config"
    # With a version of its own SeaBIOS leaves out date and host.
    # Distributions have no `python` any more.
    local options=(-C "$seabios" --no-print-directory -s EXTRAVERSION=-pspd PYTHON=python3)
    make "${options[@]}" olddefconfig
    make "${options[@]}" -j"$(nproc)"
}

# One coreboot without a payload: `coreboot SIZE-IN-KIB ROM`.
coreboot() {
    local tree=$work/coreboot
    local options=(-C "$tree" --no-print-directory -s BUILD_TIMELESS=1 "KERNELVERSION=$coreboot_version")
    { cat "$recipe/coreboot.config"; echo "CONFIG_BOARD_$board=y"; echo "CONFIG_COREBOOT_ROMSIZE_KB_$1=y"; } >"$tree/.config"
    make "${options[@]}" olddefconfig
    make "${options[@]}" -j"$(nproc)"
    cp "$tree/build/coreboot.rom" "$2"
}

prepare() {
    cp -r "$recipe/site-local" "$work/coreboot/"
    local patch
    for patch in "$recipe"/patches/*.patch; do
        patch --quiet -d "$work/coreboot" -p1 <"$patch"
    done
}

# What the ROMs were made from, as JSON: nothing of it has anything to escape.
manifest() {
    cat >"$out/manifest.json" <<JSON
{
  "board": "$board",
  "sources": [
    {"tarball": "${coreboot_tarball##*/}", "sha256": "$coreboot_sha256"},
    {"tarball": "${seabios_tarball##*/}", "sha256": "$seabios_sha256"}
  ],
  "tools": {
    "gcc": "$(gcc -dumpfullversion)",
    "binutils": "$(ld --version | sed -n '1s/.* //p')",
    "iasl": "$(iasl -v | sed -n 's/.*version \([0-9]*\).*/\1/p')"
  },
  "roms": {
    "seabios.rom": "$(sha256sum "$out/seabios.rom" | cut -d' ' -f1)",
    "linux-base.rom": "$(sha256sum "$out/linux-base.rom" | cut -d' ' -f1)"
  }
}
JSON
}

require
[ "$1" != --check ] || exit 0
out=$(mkdir -p "$1" && cd "$1" && pwd)
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

stage "fetching the sources"
fetch
stage "compiling SeaBIOS $seabios_version"
payload
prepare
stage "compiling coreboot $coreboot_version, 2 MiB"
coreboot 2048 "$out/seabios.rom"
cp "$work/coreboot/build/cbfstool" "$out/cbfstool"
"$out/cbfstool" "$out/seabios.rom" add-payload -f "$work/seabios/out/bios.bin.elf" -n fallback/payload -c lzma
stage "compiling coreboot $coreboot_version, 16 MiB"
coreboot 16384 "$out/linux-base.rom"
manifest
