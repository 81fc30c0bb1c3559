//! The trash: photos that were removed and can come back. An entry is a folder with a number; below it the photo lies as it lay
//! below `data/`, so the rename that removes a photo also records where it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::names::photo_path;
use super::{Project, ProjectError, failed, free_path};
use crate::files::sync_folder;

/// A photo in the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in super::super) struct TrashEntry {
    /// Number of the entry.
    pub entry: String,
    /// The id that the photo had, or has again.
    pub id: String,
}

impl Project {
    fn trash(&self) -> PathBuf {
        self.state().join("trash")
    }

    /// What is in the trash, in the order of its removal.
    pub fn trash_entries(&self) -> Result<Vec<TrashEntry>, ProjectError> {
        let mut entries = Vec::new();
        for entry in self.trash_numbers()? {
            let folder = self.trash().join(&entry);
            // A kill before the rename leaves a folder without a photo.
            if let Some(id) = only_file(&folder, &folder) {
                entries.push(TrashEntry { entry, id });
            }
        }
        Ok(entries)
    }

    fn trash_numbers(&self) -> Result<Vec<String>, ProjectError> {
        let trash = self.trash();
        let mut numbers = Vec::new();
        match fs::read_dir(&trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(numbers),
            Err(error) => return Err(failed(&trash)(error)),
            Ok(entries) => {
                numbers.extend(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()))
            }
        }
        numbers.retain(|name| is_number(name));
        numbers.sort();
        Ok(numbers)
    }

    /// Moves a photo to the trash.
    pub fn remove_photo(&self, id: &str) -> Result<TrashEntry, ProjectError> {
        let _changing = self.change();
        self.trash_photo(id)
    }

    fn trash_photo(&self, id: &str) -> Result<TrashEntry, ProjectError> {
        let from = self.photo(id)?;
        let last = self.trash_numbers()?.last().and_then(|name| name.parse::<u64>().ok()).unwrap_or(0);
        let entry = format!("{:06}", last + 1);
        let to = self.trash().join(&entry).join(photo_path(id).unwrap_or_default());
        let folder = to.parent().unwrap_or(&to);
        fs::create_dir_all(folder).map_err(failed(folder))?;
        fs::rename(&from, &to).map_err(failed(&to))?;
        let synced = sync_folder(folder).and_then(|()| sync_folder(from.parent().unwrap_or(&from)));
        synced.map_err(failed(&to))?;
        Ok(TrashEntry { entry, id: id.to_owned() })
    }

    /// Moves the photos of a class to the trash, and removes the class.
    pub fn remove_class(&self, name: &str) -> Result<Vec<TrashEntry>, ProjectError> {
        let _changing = self.change();
        let folder = self.class_folder(Some(name))?;
        let photos = self.list()?.photos;
        let of_class = photos.iter().filter(|photo| photo.class.as_deref() == Some(name));
        let removed = of_class.map(|photo| self.trash_photo(&photo.id)).collect::<Result<Vec<_>, _>>()?;
        if remove_empty(&folder).is_err() {
            let (name, folder) = (name.to_owned(), folder.display().to_string());
            return Err(ProjectError::OtherFiles { name, folder });
        }
        sync_folder(&self.data()).map_err(failed(&folder))?;
        Ok(removed)
    }

    /// Brings a photo back to where it was, under another name if a photo has its own now.
    pub fn restore(&self, entry: &str) -> Result<TrashEntry, ProjectError> {
        let _changing = self.change();
        let no_entry = || ProjectError::NoEntry { entry: entry.to_owned() };
        if !is_number(entry) {
            return Err(no_entry());
        }
        let folder = self.trash().join(entry);
        let was = only_file(&folder, &folder).ok_or_else(no_entry)?;
        let target = self.data().join(photo_path(&was).ok_or_else(no_entry)?);
        let parent = target.parent().unwrap_or(&target);
        fs::create_dir_all(parent).map_err(failed(parent))?;
        let to = free_path(parent, &target.file_name().unwrap_or_default().to_string_lossy());
        fs::rename(folder.join(&was), &to).map_err(failed(&to))?;
        sync_folder(parent).and_then(|()| sync_folder(&self.data())).map_err(failed(&to))?;
        // Folders without a photo are no entries.
        let _ = remove_empty(&folder);
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let id =
            was.rsplit_once('/').map_or_else(|| name.to_string(), |(class, _)| format!("{class}/{name}"));
        Ok(TrashEntry { entry: entry.to_owned(), id })
    }

    /// Deletes what is in the trash, for good; gives the number of photos.
    pub fn empty_trash(&self) -> Result<usize, ProjectError> {
        let _changing = self.change();
        let photos = self.trash_entries()?.len();
        for entry in self.trash_numbers()? {
            let folder = self.trash().join(entry);
            fs::remove_dir_all(&folder).map_err(failed(&folder))?;
        }
        Ok(photos)
    }
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.len() <= 18 && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The path below `root`, with `/`, of the first file in `folder`.
fn only_file(root: &Path, folder: &Path) -> Option<String> {
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return only_file(root, &path);
        }
        let below = path.strip_prefix(root).ok()?;
        let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
        Some(parts?.join("/"))
    })
}

/// Removes a folder that holds nothing but folders of that kind.
fn remove_empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_empty(&path)?;
        }
    }
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(photos: &[&str]) -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        let project = Project::open(folder.path()).unwrap();
        for (number, id) in photos.iter().enumerate() {
            let path = project.data().join(id);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("photo {number}")).unwrap();
        }
        (folder, project)
    }

    fn ids(project: &Project) -> Vec<String> {
        project.list().unwrap().photos.into_iter().map(|photo| photo.id).collect()
    }

    #[test]
    fn a_removed_photo_comes_back_with_its_bytes_to_its_place() {
        let (_folder, project) = project(&["cats/sub/1.jpg", "2.jpg"]);
        let first = project.remove_photo("cats/sub/1.jpg").unwrap();
        let second = project.remove_photo("2.jpg").unwrap();
        assert_eq!((first.entry.as_str(), second.entry.as_str()), ("000001", "000002"));
        assert_eq!(ids(&project), Vec::<String>::new());
        assert_eq!(project.trash_entries().unwrap(), [first, second]);
        fs::write(project.data().join("2.jpg"), "another").unwrap();
        assert_eq!(project.restore("000002").unwrap().id, "2-2.jpg");
        assert_eq!(project.restore("000001").unwrap().id, "cats/sub/1.jpg");
        assert_eq!(fs::read(project.data().join("cats/sub/1.jpg")).unwrap(), b"photo 0");
        assert_eq!(ids(&project), ["2-2.jpg", "2.jpg", "cats/sub/1.jpg"]);
        assert_eq!(project.trash_entries().unwrap(), []);
        for entry in ["000001", "..", "x", ""] {
            assert!(matches!(project.restore(entry), Err(ProjectError::NoEntry { .. })), "{entry}");
        }
    }

    #[test]
    fn a_removed_class_comes_back_with_its_photos() {
        let (_folder, project) = project(&["cats/1.jpg", "cats/sub/2.jpg", "dogs/1.jpg"]);
        let removed = project.remove_class("cats").unwrap();
        assert_eq!(removed.len(), 2);
        assert!(!project.data().join("cats").exists());
        for entry in &removed {
            project.restore(&entry.entry).unwrap();
        }
        assert_eq!(ids(&project), ["cats/1.jpg", "cats/sub/2.jpg", "dogs/1.jpg"]);
        fs::write(project.data().join("dogs/notes.txt"), "x").unwrap();
        assert!(matches!(project.remove_class("dogs"), Err(ProjectError::OtherFiles { .. })));
        assert!(project.data().join("dogs/notes.txt").exists());
        assert_eq!(project.empty_trash().unwrap(), 1);
        assert_eq!(project.trash_entries().unwrap(), []);
    }
}
