//! Going through a tar file: which members are images, which are labels and what they say, and what is wrong with it.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{self, Read, Seek};
use std::path::Path;

use serde_json::Value;

use super::super::classes::ClassLabel;
use super::super::labels::parse_label;
use super::super::passed_over::PassedOverReason;
use super::super::system_files::is_system_name;
use super::super::{has_image_extension, slashed, text_of as decoded};
use super::pairing::{has_extension, is_cls};

/// Longest class name or number in a `.cls`.
const MAX_CLS: u64 = 4 << 10;
/// Longest `.json`.
const MAX_JSON: u64 = 16 << 20;
/// The fields of a `.json` that may name the class, or have its number.
pub(super) const JSON_FIELDS: [&str; 3] = ["label", "cls", "class"];
/// Longest name of a member: more than any file system has.
const MAX_NAME: usize = 64 << 10;
/// Bytes of a header, and what members are padded to.
const BLOCK: u64 = 512;

/// What is of interest in a tar file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ShardMember {
    /// An image of `size` bytes that begin at `offset`.
    Image { offset: u64, size: u32 },
    /// What a `.cls` or `.json` says of the class, or what is wrong with it.
    Label(Result<Option<ClassLabel>, String>),
    /// A `.json` that has no field for a class, but these.
    Fields(Vec<String>),
    /// An image or a label that cannot be taken, and why.
    Bad(String),
    /// Neither an image nor a label, or not one that counts.
    PassedOver(PassedOverReason),
}

/// What a tar file is gone through for.
#[derive(Debug, Clone, Copy)]
pub(super) enum WantedMembers<'a> {
    Images,
    /// Images, and labels in `.cls` and in the usual fields of `.json`.
    Labels,
    /// Images, and labels in this field of `.json`.
    Field(&'a str),
}

impl<'a> WantedMembers<'a> {
    /// What is wanted where labels are not, or are in `field` if that is named.
    pub(super) fn of(no_labels: bool, field: Option<&'a str>) -> Self {
        match field {
            _ if no_labels => Self::Images,
            None => Self::Labels,
            Some(field) => Self::Field(field),
        }
    }
}

/// Goes through a tar file of `len` bytes and gives its members of interest, in order.
///
/// # Errors
/// Why it could not be gone through to its end, and what became of the rest.
pub(super) fn index(
    reader: impl Read + Seek,
    len: u64,
    wanted: WantedMembers<'_>,
    mut found: impl FnMut(&str, ShardMember),
) -> Result<(), String> {
    let mut archive = tar::Archive::new(reader);
    let mut end = 0;
    let mut members = 0_usize;
    let damaged = |error: io::Error, members: usize, end: u64| {
        if members == 0 {
            format!("not a tar file, or damaged at its beginning ({error})")
        } else {
            format!("damaged after {members} members, at byte {end} ({error}); the rest is lost")
        }
    };
    let entries = archive.entries_with_seek().map_err(|error| damaged(error, 0, 0))?;
    for entry in entries {
        let not_an_image = ShardMember::PassedOver(PassedOverReason::NotAnImage);
        let mut entry = entry.map_err(|error| damaged(error, members, end))?;
        let kind = entry.header().entry_type();
        // The size of a sparse file counts its holes, which take no space here.
        let stored = if kind.is_gnu_sparse() { entry.header().entry_size().ok() } else { Some(entry.size()) };
        let (offset, size) = (entry.raw_file_position(), entry.size());
        let member_end = stored.and_then(|stored| offset.checked_add(stored)).filter(|&end| end <= len);
        let Some(member_end) = member_end else {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(format!("cut short: it ends within {name}; the rest is lost"));
        };
        end = member_end.next_multiple_of(BLOCK);
        members += 1;
        let name_len = entry.path_bytes().len();
        if name_len > MAX_NAME {
            return Err(format!(
                "damaged after {members} members: a name of {name_len} bytes; the rest is lost"
            ));
        }
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let Ok(name) = str::from_utf8(&entry.path_bytes()).map(str::to_owned) else {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let reason = "the name is not valid UTF-8, so it cannot be recorded".to_owned();
            let member = if is_of_interest(&name) { ShardMember::Bad(reason) } else { not_an_image };
            found(&name, member);
            continue;
        };
        // As tar itself does, and so that no name begins with a '/'.
        let name = slashed(Path::new(name.trim_start_matches('/'))).unwrap_or(name);
        let is_image = has_image_extension(Path::new(&name));
        let sparse = kind.is_gnu_sparse() || is_pax_sparse(&mut entry);
        let member = if name.split('/').any(|part| part == "..") {
            match is_of_interest(&name) {
                true => {
                    ShardMember::Bad("its name leads out of the tar file (..), so it was not used".to_owned())
                }
                false => not_an_image,
            }
        } else if name.split('/').any(|part| is_system_name(OsStr::new(part))) {
            ShardMember::PassedOver(PassedOverReason::System)
        } else if name.split('/').any(|part| part.starts_with('.')) {
            ShardMember::PassedOver(PassedOverReason::Hidden)
        } else if !is_of_interest(&name) {
            not_an_image
        } else if sparse || !kind.is_file() && !kind.is_contiguous() {
            let what = if sparse { "a sparse file" } else { "a link or another special member" };
            let reason = format!("{what} of the tar file, which is not read; pack the file itself");
            if is_image { ShardMember::Bad(reason) } else { ShardMember::Label(Err(reason)) }
        } else if is_image {
            match u32::try_from(size) {
                Ok(size) => ShardMember::Image { offset, size },
                Err(_) => ShardMember::Bad(format!("{size} bytes are too many for an image")),
            }
        } else if let WantedMembers::Images = wanted {
            continue;
        } else if is_cls(&name) {
            let WantedMembers::Labels = wanted else { continue };
            ShardMember::Label(text_of(&mut entry, size, MAX_CLS).and_then(|text| parse_label(&text)))
        } else {
            text_of(&mut entry, size, MAX_JSON)
                .and_then(|text| label_in_json(&text, wanted))
                .unwrap_or_else(|why| ShardMember::Label(Err(why)))
        };
        found(
            &name,
            match member {
                ShardMember::Label(Err(why)) => {
                    ShardMember::Label(Err(format!("its class in {name}: {why}")))
                }
                member => member,
            },
        );
    }
    // Two blocks of zeros end a tar file; without them, nobody can tell whether more was to come.
    if members > 0 && end >= len {
        return Err(format!(
            "its end is missing: cut short after {members} members, or never closed by its writer; the \
             members that are there were used"
        ));
    }
    match after_end(&mut archive.into_inner()) {
        Ok(None) => Ok(()),
        Ok(Some(at)) => Err(format!(
            "there is data after its end mark, at byte {at} of {len}, as in tar files that were joined by \
             `cat`; it was not read; unpack the file with `tar --ignore-zeros -xf` and pack it again, or \
             join with `tar --concatenate`"
        )),
        Err(error) => Err(format!("it cannot be read to its end ({error})")),
    }
}

/// Where anything but zeros follows what was read.
fn after_end(reader: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let mut at = reader.stream_position()?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(None),
            read => {
                if let Some(first) = buffer[..read].iter().position(|&byte| byte != 0) {
                    return Ok(Some(at + first as u64));
                }
                at += read as u64;
            }
        }
    }
}

/// Whether the name is that of an image or of a label.
fn is_of_interest(name: &str) -> bool {
    has_image_extension(Path::new(name)) || is_cls(name) || has_extension(name, "json")
}

/// Whether an ordinary member holds the list of a sparse file's pieces before them, which the PAX headers alone tell.
fn is_pax_sparse(entry: &mut tar::Entry<'_, impl Read>) -> bool {
    let extensions = entry.pax_extensions().ok().flatten();
    extensions.is_some_and(|mut extensions| {
        extensions.any(|extension| extension.is_ok_and(|one| one.key_bytes().starts_with(b"GNU.sparse.")))
    })
}

fn text_of(entry: &mut impl Read, size: u64, limit: u64) -> Result<String, String> {
    if size > limit {
        return Err(format!("{size} bytes are too many"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|error| format!("it cannot be read ({error})"))?;
    let text = match bytes[..] {
        // PowerShell writes UTF-16 unless it is told not to.
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => decoded(&bytes).ok().map(Cow::into_owned),
        _ => String::from_utf8(bytes).ok(),
    };
    text.ok_or_else(|| "it is not UTF-8 text".to_owned())
}

/// The class in the first of the fields that is a text, else in the first that is a number, else a truth value; where no
/// field is named, a `.json` may also be nothing but a text or a number.
fn label_in_json(text: &str, wanted: WantedMembers<'_>) -> Result<ShardMember, String> {
    let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| format!("not well-formed JSON ({error})"))?;
    let fields: Vec<(&str, &Value)> = match &value {
        Value::Object(object) => {
            let names = match &wanted {
                WantedMembers::Field(field) => std::slice::from_ref(field),
                WantedMembers::Labels | WantedMembers::Images => &JSON_FIELDS[..],
            };
            let named = |name| object.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
            names.iter().copied().flat_map(named).map(|(key, value)| (key.as_str(), value)).collect()
        }
        Value::String(_) | Value::Number(_) if !matches!(wanted, WantedMembers::Field(_)) => {
            vec![("", &value)]
        }
        _ => Vec::new(),
    };
    let Some((key, first)) = fields.first() else {
        let keys = value.as_object().into_iter().flat_map(|object| object.keys().cloned());
        return Ok(ShardMember::Fields(keys.collect()));
    };
    let first_of =
        |is_kind: fn(&Value) -> bool| fields.iter().map(|(_, value)| *value).find(|value| is_kind(value));
    let stated = first_of(Value::is_string)
        .or_else(|| first_of(Value::is_number))
        .or_else(|| first_of(Value::is_boolean));
    match stated {
        Some(Value::String(text)) => parse_label(text),
        Some(value) => parse_label(&value.to_string()),
        None if fields.iter().all(|(_, value)| value.is_null()) => Ok(None),
        None => Err(format!(
            "`{key}` is {}, not a text or a number",
            if first.is_array() { "a list" } else { "an object" }
        )),
    }
    .map(|class| ShardMember::Label(Ok(class)))
}
