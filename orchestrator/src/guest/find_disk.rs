//! A shell function that finds a disk by its serial number: a guest may have no udev, and then has no links to its disks.

pub(super) const FIND_DISK: &str = r#"find_disk() { # SERIAL; sets `device` to the device of the disk, or to nothing
    device=
    for serial in /sys/block/*/serial; do
        found=
        # The kernel writes no end of line.
        { read -r found <"$serial"; } 2>/dev/null || :
        if [ "$found" = "$1" ]; then device=${serial%/serial}; device=/dev/${device##*/}; fi
    done
}
"#;
