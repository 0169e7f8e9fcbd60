#!/bin/bash
# Builds coreboot's ROMs for QEMU's q35 board from the distribution's source packages, as root or as an ordinary user.
#
#   build.sh OUT    leaves seabios.rom, linux-base.rom, cbfstool and manifest.json in the folder OUT
#
# seabios.rom is whole. linux-base.rom has no payload yet: a kernel, its initramfs and its command line are added to it
# with cbfstool, without compiling anything. Nothing in a ROM depends on when or where it was built.
# PSPD_DEBIAN_MIRROR overrides where source packages come from. `STAGE: ...` lines on standard output say where it is.
set -euo pipefail

recipe=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
. "$recipe/recipe.conf"
export LC_ALL=C SOURCE_DATE_EPOCH=0
# What a caller's make hands down would change what is built.
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS LDFLAGS

work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

stage() { echo "STAGE: $*"; }
die() { echo "build.sh: $*" >&2; exit 1; }

require() {
    local missing=()
    for tool in apt-get gcc make iasl bison flex m4 python3 patch xz; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} = 0 ] || die "missing: ${missing[*]} (packages: apt build-essential acpica-tools bison flex m4 python3 patch xz-utils)"
    echo 'long long quotient(long long a, long long b) { return a / b; } int main(void) { return 0; }' |
        gcc -m32 -nostdlib -static -Wl,-e,main -xc - -o "$work/probe" -lgcc 2>/dev/null ||
        die "missing: gcc's library for 32 bits (package: lib32gcc-$(gcc -dumpversion)-dev)"
}

# The mirror that this host's own apt uses, where it uses Debian's main archive.
mirror() {
    if [ -n "${PSPD_DEBIAN_MIRROR:-}" ]; then
        echo "$PSPD_DEBIAN_MIRROR"
    else
        apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(CREATED_BY)|$(REPO_URI)' 2>/dev/null |
            sed -n 's/^Debian|Debian|Packages|//p' | head -n 1
    fi
}

# Through apt, which checks signatures, with lists and settings of its own: the host's stay as they are.
fetch() {
    local uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg suite
    [ -e "$keyring" ] || die "missing: $keyring (package: debian-archive-keyring)"
    uri=$(mirror)
    [ -n "$uri" ] || die "this host's apt names no mirror of Debian: set PSPD_DEBIAN_MIRROR to one"
    mkdir -p "$work"/apt/{lists,cache/archives}/partial
    for suite in "$coreboot_suite" "$seabios_suite"; do
        echo "deb-src [signed-by=$keyring] $uri $suite main"
    done >"$work/apt/sources.list"
    cat >"$work/apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$work/apt/lists";
Dir::Cache "$work/apt/cache";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
CONF
    export APT_CONFIG=$work/apt/apt.conf
    apt-get -qq update
    # The upstream tarball alone: Debian's own changes are to the packaging of coreboot's tools.
    (cd "$work" && apt-get -qq source --download-only --only-source --tar-only \
        "coreboot=$coreboot_package" "seabios=$seabios_package")
    unset APT_CONFIG
    unpack coreboot "$coreboot_sha256"
    unpack seabios "$seabios_sha256"
}

unpack() {
    local tarball
    tarball=$(echo "$work/$1"_*.orig.tar.*)
    echo "$2  $tarball" | sha256sum --check --quiet || die "the source of $1 is not the one that recipe.conf names"
    mkdir "$work/$1"
    tar -xf "$tarball" -C "$work/$1" --strip-components=1
    rm "$tarball"
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
    {"package": "coreboot", "version": "$coreboot_package", "sha256": "$coreboot_sha256"},
    {"package": "seabios", "version": "$seabios_package", "sha256": "$seabios_sha256"}
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
