//! Files and folders that operating systems, storage devices and programs keep among people's photos: bins, thumbnails,
//! snapshots. They are no data, wherever they lie.

use std::ffi::OsStr;

/// Such names, in lower case; they are no data in any case.
const NAMES: [&str; 41] = [
    // Windows
    "$recycle.bin",
    "recycler",
    "system volume information",
    "thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    // macOS
    "__macosx",
    ".ds_store",
    ".trash",
    ".trashes",
    ".spotlight-v100",
    ".fseventsd",
    ".documentrevisions-v100",
    ".temporaryitems",
    ".appledouble",
    ".appledb",
    ".appledesktop",
    ".localized",
    "network trash folder",
    "temporary items",
    "icon\r",
    // Linux and Android
    "lost+found",
    "lost.dir",
    ".directory",
    ".thumbnails",
    // Storage devices: Synology, QNAP, NetApp, Western Digital and others
    "@eadir",
    "#recycle",
    "#snapshot",
    "@tmp",
    "@recycle",
    "@recently-snapshot",
    "@__thumb",
    ".@__thumb",
    ".recycle",
    ".recycle.bin",
    ".snapshot",
    "~snapshot",
    ".wdmc",
    // Python
    ".ipynb_checkpoints",
    "__pycache__",
];

/// Whether a file or a folder of that name is the system's and no data.
pub(crate) fn is_system_name(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    if NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return true;
    }
    let starts = |with: &str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    // Linux has a bin for each user (.Trash-1000), and chkdsk a folder for each run (found.000).
    starts(".trash-") || starts("found.") && name.len() == 9 && name[6..].bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_systems_own_are_known_in_any_case() {
        for name in [
            "@eaDir",
            "$RECYCLE.BIN",
            "$Recycle.Bin",
            "#recycle",
            "__MACOSX",
            "System Volume Information",
            "lost+found",
            ".Trash-1000",
            ".Trashes",
            ".Spotlight-V100",
            ".ipynb_checkpoints",
            "@Recycle",
            "#snapshot",
            ".@__thumb",
            "Thumbs.db",
            "desktop.ini",
            "FOUND.000",
            "found.012",
            ".DS_Store",
            "LOST.DIR",
            "__pycache__",
        ] {
            assert!(is_system_name(OsStr::new(name)), "{name}");
        }
        for name in [
            "cats",
            "recycled",
            "found",
            "found.0001",
            "found.abc",
            "found.00é",
            "trash",
            "thumbs",
            "@home",
            "é",
        ] {
            assert!(!is_system_name(OsStr::new(name)), "{name}");
        }
    }
}
