//! [`Project`]: the folder that is taught, in the program's ordinary layout: `data/CLASS/PHOTO`, `features/`, `models/`. What the
//! server itself keeps lies in `.cnncodes-serve/`: the trash, and what the last training found.
//!
//! The folder is the state. Nothing of it is held in memory, so the command line may work on it at the same time. A photo counts
//! as added when its bytes and its name are on the disk. Photos are removed by a rename into the trash, so that a removal can be
//! undone, and a kill at any moment loses none.

mod names;
mod trash;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use self::names::{check_class_name, photo_path, safe_photo_name};
pub(super) use self::trash::TrashEntry;
use crate::dataset::{Dataset, DatasetError, is_system_name};
use crate::files::{sync_folder, temporary_beside};

/// The server's own folder.
const STATE: &str = ".cnncodes-serve";

/// A project folder.
#[derive(Debug)]
pub(super) struct Project {
    root: PathBuf,
    /// Held while the folder is changed.
    changing: Mutex<()>,
}

/// A photo of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Photo {
    /// Its path below `data/`, with `/`.
    pub id: String,
    /// Its class; none if it lies in `data/` itself.
    pub class: Option<String>,
    /// The last part of its path.
    pub name: String,
    /// Size of its file.
    pub bytes: u64,
}

/// A class with the number of its photos.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ClassSize {
    pub name: String,
    pub photos: usize,
}

/// What lies in `data/`.
#[derive(Debug)]
pub(super) struct Listing {
    /// By name. Folders without a photo are classes as well.
    pub classes: Vec<ClassSize>,
    /// By their ids.
    pub photos: Vec<Photo>,
    /// Photos without a class.
    pub unlabelled: usize,
    /// Another text whenever a photo, a class or a file's time has changed.
    pub revision: String,
}

/// What became of a photo that was to be added.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It is on the disk.
    Stored(Photo),
    /// A photo with the same bytes is there already: this one.
    Duplicate(String),
}

/// A photo that was moved.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Moved {
    pub from: String,
    pub to: String,
}

/// Why a project cannot be changed or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProjectError {
    #[error("{name:?} cannot be the name of a class: {why}; choose another name")]
    ClassName { name: String, why: String },
    #[error("there is no class {name:?}; make it first")]
    NoClass { name: String },
    #[error("the class {name:?} exists already; choose another name")]
    ClassExists { name: String },
    #[error(
        "the folder of the class {name:?} also holds files that are no photos; remove them from {folder}"
    )]
    OtherFiles { name: String, folder: String },
    #[error("there is no photo {id:?}; it was moved or removed meanwhile")]
    NoPhoto { id: String },
    #[error("there is no entry {entry:?} in the trash; it was restored or removed meanwhile")]
    NoEntry { entry: String },
    #[error("cannot list the photos of the project")]
    List(#[source] DatasetError),
    #[error("cannot write to {path}; check that the disk has room and that this user may write there")]
    Io { path: String, source: io::Error },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ProjectError {
    |source| ProjectError::Io { path: path.display().to_string(), source }
}

impl Project {
    /// The project in `root`, whose folders are made if they do not exist.
    pub fn open(root: &Path) -> Result<Self, ProjectError> {
        let project = Self { root: root.to_owned(), changing: Mutex::new(()) };
        for folder in [project.data(), project.features(), project.state()] {
            fs::create_dir_all(&folder).map_err(failed(&folder))?;
        }
        project.remove_leftovers();
        Ok(project)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The photos.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The features files.
    pub fn features(&self) -> PathBuf {
        self.root.join("features")
    }

    /// What the server keeps.
    pub fn state(&self) -> PathBuf {
        self.root.join(STATE)
    }

    /// What is called the project's name: that of its folder.
    pub fn name(&self) -> String {
        let absolute = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        absolute.file_name().map_or_else(|| "project".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what a kill left of photos that were not acknowledged.
    fn remove_leftovers(&self) {
        let folders = self.class_folders().unwrap_or_default();
        for folder in folders.iter().map(|name| self.data().join(name)).chain([self.data(), self.state()]) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with(".cnncodes-") && name.ends_with(".partial") {
                    // One that stays is hidden, and no photo.
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    /// The folders directly below `data/` that are classes.
    fn class_folders(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.data())? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !name.starts_with('.') && !is_system_name(name.as_ref()) && entry.path().is_dir() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The images below `data/`, as `extract` lists them; none if there are none.
    pub fn dataset(&self) -> Result<Option<Dataset>, ProjectError> {
        match Dataset::from_folder(&self.data()) {
            Ok(set) => Ok(Some(set)),
            Err(DatasetError::Empty { .. }) => Ok(None),
            Err(error) => Err(ProjectError::List(error)),
        }
    }

    /// What lies in `data/` now.
    pub fn list(&self) -> Result<Listing, ProjectError> {
        let data = self.data();
        let mut classes: BTreeMap<String, usize> =
            self.class_folders().map_err(failed(&data))?.into_iter().map(|name| (name, 0)).collect();
        let mut revision = Sha256::new();
        let (mut photos, mut unlabelled) = (Vec::new(), 0);
        if let Some(set) = self.dataset()? {
            photos.reserve(set.samples.len());
            for sample in set.samples.iter() {
                // One that vanished meanwhile is no photo any more.
                let Ok(metadata) = fs::metadata(sample.file()) else { continue };
                let photo = Photo::of(sample.name, metadata.len());
                match &photo.class {
                    Some(class) => *classes.entry(class.clone()).or_default() += 1,
                    None => unlabelled += 1,
                }
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let modified = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                revision.update(photo.id.as_bytes());
                revision.update([0]);
                revision.update(photo.bytes.to_le_bytes());
                revision.update(modified.as_nanos().to_le_bytes());
                photos.push(photo);
            }
        }
        for class in classes.keys() {
            revision.update([1]);
            revision.update(class.as_bytes());
        }
        let revision = revision.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let classes = classes.into_iter().map(|(name, photos)| ClassSize { name, photos }).collect();
        Ok(Listing { classes, photos, unlabelled, revision })
    }

    /// The file of the photo `id`, which exists.
    pub fn photo(&self, id: &str) -> Result<PathBuf, ProjectError> {
        let no_photo = || ProjectError::NoPhoto { id: id.to_owned() };
        let path = self.data().join(photo_path(id).ok_or_else(no_photo)?);
        if path.is_file() { Ok(path) } else { Err(no_photo()) }
    }

    /// The folder of a class, which exists; `data/` without a class.
    fn class_folder(&self, class: Option<&str>) -> Result<PathBuf, ProjectError> {
        let Some(name) = class else { return Ok(self.data()) };
        let known = self.class_folders().map_err(failed(&self.data()))?;
        if known.iter().any(|known| known == name) {
            return Ok(self.data().join(name));
        }
        Err(ProjectError::NoClass { name: name.to_owned() })
    }

    /// Makes a class without photos.
    pub fn add_class(&self, name: &str) -> Result<ClassSize, ProjectError> {
        let _changing = self.change();
        self.check_new_class(name, None)?;
        let folder = self.data().join(name);
        fs::create_dir(&folder).map_err(failed(&folder))?;
        sync_folder(&self.data()).map_err(failed(&folder))?;
        Ok(ClassSize { name: name.to_owned(), photos: 0 })
    }

    /// Makes sure that a class may get this name; `instead` is the name that it has until then.
    fn check_new_class(&self, name: &str, instead: Option<&str>) -> Result<(), ProjectError> {
        check_class_name(name).map_err(|why| ProjectError::ClassName { name: name.to_owned(), why })?;
        let known = self.class_folders().map_err(failed(&self.data()))?;
        // Some file systems take two names for one if they differ in upper and lower case only.
        let same = |known: &&String| known.to_lowercase() == name.to_lowercase();
        if let Some(known) = known.iter().filter(|known| Some(known.as_str()) != instead).find(same) {
            return Err(ProjectError::ClassExists { name: known.clone() });
        }
        // A photo without a class may have the name.
        let is_other = instead.is_none_or(|instead| instead.to_lowercase() != name.to_lowercase());
        if is_other && fs::symlink_metadata(self.data().join(name)).is_ok() {
            let why = "a file in data/ has this name".to_owned();
            return Err(ProjectError::ClassName { name: name.to_owned(), why });
        }
        Ok(())
    }

    /// Gives a class another name.
    pub fn rename_class(&self, from: &str, to: &str) -> Result<ClassSize, ProjectError> {
        let _changing = self.change();
        let folder = self.class_folder(Some(from))?;
        self.check_new_class(to, Some(from))?;
        let target = self.data().join(to);
        if from != to {
            fs::rename(&folder, &target).map_err(failed(&target))?;
            sync_folder(&self.data()).map_err(failed(&target))?;
        }
        let photos = self.list()?.photos.iter().filter(|photo| photo.class.as_deref() == Some(to)).count();
        Ok(ClassSize { name: to.to_owned(), photos })
    }

    /// Stores photos: each as its name and its bytes, of an image in the format of `extension`. The answer comes when all of them
    /// are on the disk.
    pub fn add_photos(
        &self,
        class: Option<&str>,
        photos: &[(&str, &'static str, &[u8])],
    ) -> Result<Vec<Added>, ProjectError> {
        let _changing = self.change();
        let folder = self.class_folder(class)?;
        let mut by_size: HashMap<u64, Vec<String>> = HashMap::new();
        for photo in self.list()?.photos {
            by_size.entry(photo.bytes).or_default().push(photo.id);
        }
        let mut added = Vec::with_capacity(photos.len());
        for &(name, extension, bytes) in photos {
            let alike = by_size.entry(bytes.len() as u64).or_default();
            let same = |id: &&String| fs::read(self.data().join(id)).is_ok_and(|there| there == bytes);
            if let Some(of) = alike.iter().find(same) {
                added.push(Added::Duplicate(of.clone()));
                continue;
            }
            let path = store(&folder, &safe_photo_name(name, extension), bytes).map_err(failed(&folder))?;
            let id = id_in(class, &path);
            alike.push(id.clone());
            added.push(Added::Stored(Photo::of(&id, bytes.len() as u64)));
        }
        sync_folder(&folder).map_err(failed(&folder))?;
        Ok(added)
    }

    /// Moves a photo to another class, or out of all of them.
    pub fn move_photo(&self, id: &str, class: Option<&str>) -> Result<Moved, ProjectError> {
        let _changing = self.change();
        let (from, folder) = (self.photo(id)?, self.class_folder(class)?);
        let was_in = from.parent().unwrap_or(&folder).to_owned();
        if was_in == folder {
            return Ok(Moved { from: id.to_owned(), to: id.to_owned() });
        }
        let to = free_path(&folder, &from.file_name().unwrap_or_default().to_string_lossy());
        fs::rename(&from, &to).map_err(failed(&to))?;
        sync_folder(&folder).and_then(|()| sync_folder(&was_in)).map_err(failed(&to))?;
        Ok(Moved { from: id.to_owned(), to: id_in(class, &to) })
    }
}

impl Photo {
    fn of(id: &str, bytes: u64) -> Self {
        let class = id.split_once('/').map(|(class, _)| class.to_owned());
        let name = id.rsplit('/').next().unwrap_or(id).to_owned();
        Self { id: id.to_owned(), class, name, bytes }
    }
}

/// The id of a photo that lies directly in the folder of its class.
fn id_in(class: Option<&str>, path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    class.map_or_else(|| name.to_string(), |class| format!("{class}/{name}"))
}

/// `NAME`, or `NAME-2` and so on, whichever no file in `folder` has.
fn free_path(folder: &Path, name: &str) -> PathBuf {
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    let numbered = |number: usize| match number {
        1 => folder.join(name),
        _ => folder.join(format!("{stem}-{number}{extension}")),
    };
    // A link that leads nowhere has the name as well.
    (1..).map(numbered).find(|path| fs::symlink_metadata(path).is_err()).unwrap_or_else(|| folder.join(name))
}

/// Writes a file that is not there yet, whole and on the disk; its folder is not synchronised.
fn store(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut file = temporary_beside(&folder.join(name))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    loop {
        let path = free_path(folder, name);
        match file.persist_noclobber(&path) {
            Ok(_) => return Ok(path),
            // Another program was faster with this name.
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => file = error.file,
            Err(error) => return Err(error.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        let project = Project::open(folder.path()).unwrap();
        (folder, project)
    }

    fn jpeg(number: u8) -> Vec<u8> {
        [&[0xff, 0xd8, 0xff, 0xe0][..], &[number; 40]].concat()
    }

    fn ids(project: &Project) -> Vec<String> {
        project.list().unwrap().photos.into_iter().map(|photo| photo.id).collect()
    }

    #[test]
    fn photos_are_stored_once_under_safe_names_in_their_class_folder() {
        let (_folder, project) = project();
        project.add_class("cats").unwrap();
        let (one, two) = (jpeg(1), jpeg(2));
        let photos = [
            ("../../etc/passwd", "jpg", &one[..]),
            ("C:\\a b.JPG", "jpg", &two[..]),
            ("again.jpg", "jpg", &one[..]),
        ];
        let added = project.add_photos(Some("cats"), &photos).unwrap();
        assert_eq!(added[2], Added::Duplicate("cats/passwd.jpg".to_owned()));
        assert_eq!(ids(&project), ["cats/a_b.JPG", "cats/passwd.jpg"]);
        let more =
            project.add_photos(None, &[("passwd.jpg", "jpg", &one), ("a_b.JPG", "jpg", &jpeg(3))]).unwrap();
        assert_eq!(more[0], Added::Duplicate("cats/passwd.jpg".to_owned()), "in another class as well");
        assert_eq!(ids(&project), ["a_b.JPG", "cats/a_b.JPG", "cats/passwd.jpg"]);
        let again = project.add_photos(Some("cats"), &[("a b.JPG", "jpg", &jpeg(4))]).unwrap();
        let Added::Stored(photo) = &again[0] else { panic!("{again:?}") };
        assert_eq!((photo.id.as_str(), photo.bytes), ("cats/a_b-2.JPG", 44));
        assert!(matches!(project.add_photos(Some("dogs"), &photos), Err(ProjectError::NoClass { .. })));
    }

    #[test]
    fn classes_are_made_renamed_and_listed_even_if_empty() {
        let (_folder, project) = project();
        project.add_class("cats").unwrap();
        project.add_photos(Some("cats"), &[("1.jpg", "jpg", &jpeg(1))]).unwrap();
        project.add_class("dogs").unwrap();
        assert!(matches!(project.add_class("Cats"), Err(ProjectError::ClassExists { .. })));
        assert!(matches!(project.rename_class("dogs", "cats"), Err(ProjectError::ClassExists { .. })));
        assert!(matches!(project.rename_class("cows", "x"), Err(ProjectError::NoClass { .. })));
        project.add_photos(None, &[("birds.jpg", "jpg", &jpeg(2))]).unwrap();
        assert!(matches!(project.add_class("birds.jpg"), Err(ProjectError::ClassName { .. })));
        assert!(matches!(project.rename_class("dogs", "birds.jpg"), Err(ProjectError::ClassName { .. })));
        let before = project.list().unwrap().revision;
        assert_eq!(project.list().unwrap().revision, before);
        let renamed = project.rename_class("cats", "Cats").unwrap();
        assert_eq!(renamed, ClassSize { name: "Cats".to_owned(), photos: 1 });
        let listing = project.list().unwrap();
        let classes: Vec<(&str, usize)> =
            listing.classes.iter().map(|class| (class.name.as_str(), class.photos)).collect();
        assert_eq!(classes, [("Cats", 1), ("dogs", 0)]);
        assert_ne!(listing.revision, before);
    }

    #[test]
    fn a_photo_moves_between_classes_and_never_onto_another() {
        let (_folder, project) = project();
        project.add_class("cats").unwrap();
        project.add_class("dogs").unwrap();
        project.add_photos(Some("cats"), &[("1.jpg", "jpg", &jpeg(1))]).unwrap();
        project.add_photos(Some("dogs"), &[("1.jpg", "jpg", &jpeg(2))]).unwrap();
        let moved = project.move_photo("cats/1.jpg", Some("dogs")).unwrap();
        assert_eq!(moved, Moved { from: "cats/1.jpg".to_owned(), to: "dogs/1-2.jpg".to_owned() });
        assert_eq!(fs::read(project.data().join("dogs/1-2.jpg")).unwrap(), jpeg(1));
        assert_eq!(project.move_photo("dogs/1.jpg", None).unwrap().to, "1.jpg");
        assert_eq!(project.move_photo("dogs/1-2.jpg", Some("dogs")).unwrap().to, "dogs/1-2.jpg");
        for id in ["cats/1.jpg", "../data/1.jpg", "dogs/../1.jpg", "/etc/passwd", "", ".hidden"] {
            assert!(matches!(project.move_photo(id, None), Err(ProjectError::NoPhoto { .. })), "{id}");
        }
    }

    #[test]
    fn what_a_kill_left_of_a_photo_is_removed() {
        let (folder, project) = project();
        project.add_class("cats").unwrap();
        let leftover = project.data().join("cats/.cnncodes-x1.partial");
        fs::write(&leftover, "half").unwrap();
        assert_eq!(ids(&project), Vec::<String>::new());
        drop(project);
        let project = Project::open(folder.path()).unwrap();
        assert!(!leftover.exists());
        assert_eq!(project.list().unwrap().classes.len(), 1);
    }
}
