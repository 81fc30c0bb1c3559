//! Names that come from clients: of classes, of photos, and ids of photos. None of them leads out of the project's folder.

use std::path::{Component, Path, PathBuf};

use crate::dataset::{IMAGE_EXTENSIONS, class_name_of, is_system_name};
use crate::files::safe_name;

/// Characters of a class's name at most: with a photo's name it must fit into a path.
const LONGEST_CLASS: usize = 80;
/// Bytes of a photo's name at most, without its extension.
const LONGEST_STEM: usize = 120;
/// Characters that some file systems refuse.
const REFUSED: [char; 9] = ['/', '\\', ':', '*', '?', '"', '<', '>', '|'];
/// Names that Windows keeps for devices, whatever their extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// Whether `name` can be the name of a class, which is that of its folder.
///
/// # Errors
/// It cannot, and why.
pub(super) fn check_class_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it is empty".to_owned());
    }
    if name.chars().count() > LONGEST_CLASS {
        return Err(format!("it has more than {LONGEST_CLASS} characters"));
    }
    if let Some(refused) = name.chars().find(|&c| REFUSED.contains(&c) || c.is_control()) {
        return Err(format!("folders cannot have {refused:?} in their names"));
    }
    if name.starts_with(['.', ' ']) || name.ends_with(['.', ' ']) || name.trim() != name {
        return Err("it begins or ends with a dot or a space".to_owned());
    }
    if is_system_name(name.as_ref()) || is_device(name) {
        return Err("operating systems use folders of this name".to_owned());
    }
    match class_name_of(name)? {
        Some(class) if class == name => Ok(()),
        Some(class) => Err(format!("it means the class {class}")),
        None => Err("it stands for a missing value".to_owned()),
    }
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    DEVICES.contains(&stem.trim_end_matches(|c: char| c.is_ascii_digit()))
}

/// The last part of the name that a client gave its file, without what file systems dislike, and with the extension of an image:
/// its own, or else `extension`.
pub(super) fn safe_photo_name(given: &str, extension: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let safe = safe_name(last);
    let safe = safe.trim_start_matches('.');
    let (stem, own) = match safe.rsplit_once('.') {
        Some((stem, own)) if IMAGE_EXTENSIONS.contains(&own.to_ascii_lowercase().as_str()) => (stem, own),
        _ => (safe, extension),
    };
    let mut end = stem.len().min(LONGEST_STEM);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let stem = stem[..end].trim_end_matches('.');
    let prefix = if stem.is_empty() || is_device(stem) { "photo" } else { "" };
    format!("{prefix}{stem}.{own}")
}

/// The path below `data/` that a photo's id stands for; none if it could lead out of it, or to a hidden file.
pub(super) fn photo_path(id: &str) -> Option<PathBuf> {
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']);
    if !id.split('/').all(is_plain) {
        return None;
    }
    let path = Path::new(id);
    // A drive's letter is no name either.
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_names_a_file_and_no_folder() {
        for (given, expected) in [
            ("IMG_1.jpg", "IMG_1.jpg"),
            ("../../../etc/passwd", "passwd.png"),
            ("..\\..\\x.JPEG", "x.JPEG"),
            ("/absolute/y.webp", "y.webp"),
            ("Käuzchen im Baum.HEIC", "Käuzchen_im_Baum.HEIC"),
            ("", "photo.png"),
            ("..", "photo.png"),
            (".htaccess", "htaccess.png"),
            ("a\0b\n.jpg", "a_b_.jpg"),
            ("page.html", "page.html.png"),
            ("nul.jpg", "photonul.jpg"),
            ("x/", "photo.png"),
        ] {
            assert_eq!(safe_photo_name(given, "png"), expected, "{given:?}");
        }
        let long = safe_photo_name(&"ä".repeat(500), "jpg");
        assert_eq!(long, format!("{}.jpg", "ä".repeat(60)));
    }

    #[test]
    fn the_name_of_a_class_is_that_of_a_folder_on_every_system() {
        for name in ["cats", "Käuzchen 2", "3", "ice cream (red)", "日本"] {
            assert_eq!(check_class_name(name), Ok(()), "{name}");
        }
        for name in [
            "", " cats", "cats.", ".hidden", "..", "a/b", "a\\b", "a:b", "a\nb", "nan", "-1", "1.0",
            "@eaDir", "CON", "lpt1.txt",
        ] {
            assert!(check_class_name(name).is_err(), "{name:?}");
        }
        assert!(check_class_name(&"x".repeat(81)).is_err());
    }

    #[test]
    fn ids_stay_below_the_data_folder() {
        assert_eq!(photo_path("cats/sub/1.jpg"), Some(PathBuf::from("cats/sub/1.jpg")));
        for id in ["", "/etc/passwd", "../x", "cats/../../x", "cats//x", "cats/.x", "a\\..\\b", "a/\0"] {
            assert_eq!(photo_path(id), None, "{id:?}");
        }
    }
}
