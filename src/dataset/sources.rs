//! What may be named as images: which kind it is, and the set that it becomes.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::classes::{ClassLabel, ClassNames};
use super::labels::notes_of_labels;
use super::passed_over::PassedOver;
use super::prefix::{Below, is_prefix, matching};
use super::unsupported::unsupported;
use super::{ArrayAxes, ArrayLabels, ImageArray};
use super::{
    Dataset, DatasetError, InputProblem, RemoteError, SampleList, has_image_extension, look_at, shards,
    slashed, written_url,
};
use crate::remote::{RemoteUrl, Scheme, is_url};

/// What stands for standard input.
pub const STDIN: &str = "-";

/// What goes with some kinds of images.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// A list on standard input ends each path with a NUL, not a line's end.
    pub null: bool,
    /// Text file with the names of classes that the data have as numbers, one a line.
    pub classes: Option<PathBuf>,
    /// Dataset with the labels of an HDF5 array, or `FILE.h5:/DATASET` for one in another file.
    pub labels: Option<String>,
    /// Column with the paths of a CSV manifest.
    pub path_column: Option<String>,
    /// Column with the labels of a CSV manifest, or field with the label in the `.json` of tar shards.
    pub label_column: Option<String>,
    /// Nobody wants labels: those of folders are forgotten, a CSV manifest may have columns none of which is of labels, and tar
    /// shards are not asked for any.
    pub no_labels: bool,
    /// The order of an HDF5 array's dimensions, where its file does not say.
    pub axes: Option<ArrayAxes>,
}

/// The kinds of images that can be named.
enum SampleSource<'a> {
    Stdin,
    Shards(Vec<PathBuf>),
    Array(PathBuf, Option<&'a str>),
    Folder(&'a Path),
    /// What lies below an address, as in a folder.
    Prefix(&'a str),
    Manifest(&'a Path),
}

impl SampleSource<'_> {
    fn of(inputs: &[PathBuf]) -> Result<SampleSource<'_>, DatasetError> {
        if let [only] = inputs {
            if only == Path::new(STDIN) {
                return Ok(SampleSource::Stdin);
            }
            if let Some((file, dataset)) = array_parts(only) {
                if let Some(url) = written_url(only) {
                    let why =
                        "arrays in HDF5 files are read from a disk; download the file and name the copy";
                    return Err(RemoteError::Address { url: url.to_owned(), why: why.to_owned() }.into());
                }
                return Ok(SampleSource::Array(file, dataset));
            }
        }
        let shards = expand(inputs)?;
        if shards.iter().all(|path| shards::is_shard(path) && !path.is_dir()) {
            return Ok(SampleSource::Shards(shards));
        }
        let [only] = inputs else {
            let other = shards.into_iter().find(|path| !shards::is_shard(path)).unwrap_or_default();
            refuse_unsupported(&other)?;
            return Err(DatasetError::Several { other });
        };
        if let Some(url) = written_url(only) {
            return Ok(if is_prefix(url)? {
                SampleSource::Prefix(url)
            } else {
                SampleSource::Manifest(only)
            });
        }
        if !look_at(only)?.is_dir() {
            if has_image_extension(only) {
                return Err(DatasetError::NotADirectory { path: only.clone() });
            }
            refuse_unsupported(only)?;
            return Ok(SampleSource::Manifest(only));
        }
        Ok(SampleSource::Folder(only))
    }
}

impl Dataset {
    /// The images that `inputs` name: a folder, a CSV manifest, "-" for a list on standard input, an HDF5 array as
    /// `FILE.h5:/DATASET`, or one or more tar shards, which may have the patterns `*`, `?`, `[…]` and `{a..b}`. In place of
    /// a folder, a manifest or a shard there may be an address such as `s3://BUCKET/PREFIX/`.
    ///
    /// # Errors
    /// As those of the kind; and when an option does not go with the kind.
    pub fn open(inputs: &[PathBuf], options: &SourceOptions) -> Result<Self, DatasetError> {
        let source = SampleSource::of(inputs)?;
        let refuse = |given: bool, option, kind| match given {
            true => Err(DatasetError::OptionOfOtherKind { option, kind }),
            false => Ok(()),
        };
        refuse(
            options.null && !matches!(source, SampleSource::Stdin),
            "--null",
            "a list on standard input (-)",
        )?;
        let is_array = matches!(source, SampleSource::Array(..));
        refuse(options.labels.is_some() && !is_array, "--labels", "an HDF5 array (FILE.h5:/DATASET)")?;
        let is_list = matches!(source, SampleSource::Manifest(_) | SampleSource::Stdin);
        refuse(options.path_column.is_some() && !is_list, "--path-column", "a CSV file")?;
        refuse(options.label_column.is_some() && is_array, "--label-column", "a CSV file or tar shards")?;
        refuse(options.axes.is_some() && !is_array, "--axes", "an HDF5 array (FILE.h5:/DATASET)")?;
        let mut set = match source {
            SampleSource::Shards(shards) => Self::from_shards(&shards, options),
            SampleSource::Array(file, dataset) => Self::from_array(&file, dataset, options),
            SampleSource::Folder(folder) => match Self::from_folder(folder) {
                Err(DatasetError::Empty { path, problems, passed_over }) => {
                    let shards = shards_in(folder);
                    if shards.is_empty() {
                        files_in(folder).iter().try_for_each(|file| refuse_unsupported(file))?;
                        return Err(DatasetError::Empty { path, problems, passed_over });
                    }
                    Self::from_shards(&shards, options)
                }
                set => {
                    refuse(options.classes.is_some(), "--classes", "tar shards and HDF5 arrays")?;
                    refuse(options.label_column.is_some(), "--label-column", "a CSV file or tar shards")?;
                    set
                }
            },
            SampleSource::Prefix(url) => {
                let set = match Self::from_prefix(url)? {
                    Below::Images(set) => {
                        refuse(options.classes.is_some(), "--classes", "tar shards and HDF5 arrays")?;
                        refuse(options.label_column.is_some(), "--label-column", "a CSV file or tar shards")?;
                        *set
                    }
                    Below::Shards(shards) => Self::from_shards(&shards, options)?,
                };
                Ok(set)
            }
            SampleSource::Stdin | SampleSource::Manifest(_) if options.classes.is_some() => {
                return Err(DatasetError::OptionOfOtherKind {
                    option: "--classes",
                    kind: "tar shards and HDF5 arrays",
                });
            }
            SampleSource::Stdin => Self::from_list(&read_stdin()?, options),
            SampleSource::Manifest(csv) => Self::from_manifest(csv, options),
        }?;
        if options.no_labels {
            set.class_names.clear();
            set.samples.forget_labels();
        }
        if is_array {
            // With the order of its dimensions, where that is not the usual one.
            return Ok(set);
        }
        let source = inputs.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        Ok(Self { source, ..set })
    }

    /// The rows of an array of images in an HDF5 file (see [`ImageArray::open`]), named `DATASET/00042`, labelled by
    /// the dataset `options.labels` where one is named, with the class names of `options.classes`.
    ///
    /// # Errors
    /// The file, the array, its labels or the list of classes cannot be used.
    pub fn from_array(
        file: &Path,
        dataset: Option<&str>,
        options: &SourceOptions,
    ) -> Result<Self, DatasetError> {
        look_at(file)?;
        let array = Arc::new(ImageArray::open(file, dataset, options.axes.as_ref())?);
        let labels: Vec<Result<Option<ClassLabel>, String>> = match &options.labels {
            None => Vec::new(),
            Some(labels) => match labels_of(&array, labels)? {
                ArrayLabels::Numbers(numbers) => {
                    numbers.into_iter().map(|number| Ok(number.and_then(ClassLabel::of_number))).collect()
                }
                ArrayLabels::Names(names) => names.iter().map(|name| ClassLabel::parse(name)).collect(),
            },
        };
        let mut classes = match &options.classes {
            Some(classes) => ClassNames::read(classes)?,
            None => ClassNames::default(),
        };
        let mut samples = SampleList::below(Path::new("."));
        let mut problems = Vec::new();
        let mut numbers = Vec::with_capacity(labels.len());
        for (row, label) in labels.into_iter().enumerate() {
            let number = label
                .map_err(|why| {
                    format!("its class in {}: {why}", options.labels.as_deref().unwrap_or_default())
                })
                .and_then(|label| label.map(|label| classes.number(label)).transpose());
            numbers.push(
                number.map_err(|reason| problems.push(InputProblem { name: row_name(&array, row), reason })),
            );
        }
        samples.push_rows(
            &array,
            |row| row_name(&array, row),
            |row| match numbers.get(row) {
                Some(Ok(number)) => *number,
                _ => None,
            },
        );
        let mut outcomes = numbers.iter();
        samples.retain_from(0, |_, _| !matches!(outcomes.next(), Some(Err(()))));
        if samples.is_empty() {
            let passed_over = PassedOver::default();
            return Err(DatasetError::Empty { path: file.to_owned(), problems, passed_over });
        }
        let named = dataset.map_or_else(String::new, |dataset| format!(":{dataset}"));
        let read_as = array.unusual_axes().map_or_else(String::new, |axes| format!(" (axes {axes})"));
        let source = format!("{}{named}{read_as}", file.display());
        Ok(Self::with_classes(samples, classes, problems, source))
    }

    /// The set, its labels numbered as its classes are ordered.
    pub(super) fn with_classes(
        mut samples: SampleList,
        classes: ClassNames,
        problems: Vec<InputProblem>,
        source: String,
    ) -> Self {
        let (class_names, place) = classes.finish();
        samples.renumber_labels(|label| place.get(label).copied());
        let notes = match class_names.is_empty() {
            true => Vec::new(),
            false => notes_of_labels(&samples, &class_names),
        };
        Self { samples, class_names, problems, source, notes, passed_over: PassedOver::default() }
    }
}

/// Adds the images of a shard or an array that was named among others, without labels; `false` where `path` is neither.
pub(super) fn add_container(
    samples: &mut SampleList,
    problems: &mut Vec<InputProblem>,
    passed_over: &mut PassedOver,
    path: &Path,
    axes: Option<&ArrayAxes>,
) -> Result<bool, DatasetError> {
    if shards::is_shard(path) && path.is_file() {
        let name = slashed(&path.with_extension("")).unwrap_or_default();
        shards::add(samples, problems, passed_over, path, &name)?;
        return Ok(true);
    }
    match array_parts(path) {
        Some((file, dataset)) => {
            let array = Arc::new(ImageArray::open(&file, dataset, axes)?);
            let file = slashed(&file).unwrap_or_default();
            samples.push_rows(&array, |row| format!("{file}:{}", row_name(&array, row)), |_| None);
            Ok(true)
        }
        None => Ok(false),
    }
}

/// An error where the file is of a kind that is not taken.
fn refuse_unsupported(path: &Path) -> Result<(), DatasetError> {
    match unsupported(path) {
        Some(kind) => Err(DatasetError::Unsupported { path: path.to_owned(), what: kind.to_string() }),
        None => Ok(()),
    }
}

/// All of standard input.
pub(super) fn read_stdin() -> Result<Vec<u8>, DatasetError> {
    let mut bytes = Vec::new();
    match std::io::stdin().lock().read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(source) => Err(DatasetError::Unreadable { path: PathBuf::from(STDIN), source }),
    }
}

/// The labels that `named` names: a dataset of the array's own file, or `FILE.h5:/DATASET`.
fn labels_of(array: &ImageArray, named: &str) -> Result<ArrayLabels, DatasetError> {
    Ok(match array_parts(Path::new(named)) {
        Some((file, Some(dataset))) => array.labels(Some(&file), dataset)?,
        Some((file, None)) if file.is_file() => return Err(DatasetError::NoLabels { path: file }),
        _ => array.labels(None, named)?,
    })
}

/// `x_train/00042`: with as many digits as the last row has, so that the order of names is that of rows.
fn row_name(array: &ImageArray, row: usize) -> String {
    let digits = array.rows().saturating_sub(1).to_string().len();
    format!("{}/{row:0digits$}", array.name().trim_start_matches('/'))
}

/// The file and the dataset of `FILE.h5:/DATASET`, or the file alone; `None` where the path is no such thing.
fn array_parts(path: &Path) -> Option<(PathBuf, Option<&str>)> {
    let is_hdf5 = |path: &Path| {
        path.extension().is_some_and(|extension| {
            ["h5", "hdf5", "mat"].iter().any(|known| extension.eq_ignore_ascii_case(known))
        })
    };
    if is_hdf5(path) {
        return Some((path.to_owned(), None));
    }
    let (file, dataset) = path.to_str()?.rsplit_once(':')?;
    (is_hdf5(Path::new(file)) && !path.exists()).then(|| (PathBuf::from(file), Some(dataset)))
}

/// The files directly in the folder, sorted.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// The tar files directly in the folder, sorted.
fn shards_in(folder: &Path) -> Vec<PathBuf> {
    files_in(folder).into_iter().filter(|path| shards::is_shard(path)).collect()
}

/// The deepest folder that holds all of the files.
pub(super) fn common_folder(files: &[PathBuf]) -> PathBuf {
    let mut folders = files.iter().map(|file| crate::files::folder_of(file));
    let mut common = folders.next().unwrap_or(Path::new(".")).to_owned();
    for folder in folders {
        while !folder.starts_with(&common) {
            if !common.pop() || common.as_os_str().is_empty() {
                return PathBuf::from(".");
            }
        }
    }
    common
}

/// Patterns replaced by the files that match them; a path that exists stands for itself.
fn expand(inputs: &[PathBuf]) -> Result<Vec<PathBuf>, DatasetError> {
    let mut paths = Vec::new();
    for input in inputs {
        let web = written_url(input).and_then(RemoteUrl::parse).is_some_and(|url| url.scheme == Scheme::Web);
        let pattern = match input.to_str() {
            // The address of a web server may have a query.
            Some(text) if web && !text.contains(['{', '*']) => {
                paths.push(PathBuf::from(text));
                continue;
            }
            Some(text) if text.contains(['*', '?', '[', '{']) && !input.exists() => text,
            _ => {
                paths.push(input.clone());
                continue;
            }
        };
        for pattern in braces(pattern) {
            if !pattern.contains(['*', '?', '[']) || web && !pattern.contains('*') {
                paths.push(PathBuf::from(pattern));
                continue;
            }
            let before = paths.len();
            if is_url(&pattern) {
                paths.extend(matching(&pattern)?);
                if paths.len() == before {
                    return Err(DatasetError::NoMatch { pattern });
                }
                continue;
            }
            let matches = glob::glob(&pattern).map_err(|source| DatasetError::Pattern {
                pattern: pattern.clone(),
                source: source.into(),
            })?;
            paths.extend(matches.flatten());
            if paths.len() == before {
                return Err(DatasetError::NoMatch { pattern });
            }
        }
    }
    Ok(paths)
}

/// `a{00..02}b` and `a{x,y}b` as a shell would have them; braces that are neither stay as they are.
fn braces(pattern: &str) -> Vec<String> {
    /// More than this is a typing error.
    const MAX_NUMBERS: u64 = 1_000_000;
    let Some((before, inner, after)) = pattern.split_once('{').and_then(|(before, rest)| {
        let (inner, after) = rest.split_once('}')?;
        Some((before, inner, after))
    }) else {
        return vec![pattern.to_owned()];
    };
    let range = inner.split_once("..").and_then(|(first, last)| {
        let numbers: (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let (from, to) = (numbers.0.min(numbers.1), numbers.0.max(numbers.1));
        let digits =
            if first.starts_with('0') || last.starts_with('0') { first.len().max(last.len()) } else { 0 };
        (to - from < MAX_NUMBERS)
            .then(|| (from..=to).map(|number| format!("{number:0digits$}")).collect::<Vec<_>>())
    });
    let choices = match range {
        Some(numbers) => numbers,
        None if inner.contains(',') => inner.split(',').map(str::to_owned).collect(),
        None => {
            let literal = format!("{before}{{{inner}}}");
            return braces(after).into_iter().map(|after| literal.clone() + &after).collect();
        }
    };
    let tails = braces(after);
    let each = |choice: &String| -> Vec<String> {
        tails.iter().map(|tail| format!("{before}{choice}{tail}")).collect()
    };
    choices.iter().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{array_parts, braces, common_folder};

    #[test]
    fn braces_expand_as_in_a_shell() {
        assert_eq!(braces("a-{008..010}.tar"), ["a-008.tar", "a-009.tar", "a-010.tar"]);
        assert_eq!(braces("{9..11}"), ["9", "10", "11"]);
        assert_eq!(braces("{2..1}"), ["1", "2"]);
        assert_eq!(braces("{a,b}{0..1}"), ["a0", "a1", "b0", "b1"]);
        assert_eq!(braces("x{y}z{1,2}"), ["x{y}z1", "x{y}z2"]);
        assert_eq!(braces("{0..99999999999}.tar"), ["{0..99999999999}.tar"]);
        assert_eq!(braces("}{"), ["}{"]);
    }

    #[test]
    fn a_dataset_is_named_behind_the_last_colon() {
        let parts = |path: &'static str| array_parts(Path::new(path));
        assert_eq!(parts("a/x.h5:/x_train"), Some((PathBuf::from("a/x.h5"), Some("/x_train"))));
        assert_eq!(parts("x.HDF5"), Some((PathBuf::from("x.HDF5"), None)));
        assert_eq!(parts("x.jpg:/y"), None);
        assert_eq!(parts("x.csv"), None);
    }

    #[test]
    fn shards_have_the_deepest_common_folder() {
        let of = |files: &[&str]| common_folder(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(of(&["d/a.tar", "d/b.tar"]), Path::new("d"));
        assert_eq!(of(&["d/x/a.tar", "d/y/a.tar"]), Path::new("d"));
        assert_eq!(of(&["a.tar", "d/b.tar"]), Path::new("."));
        assert_eq!(of(&["c/a.tar", "d/b.tar"]), Path::new("."));
        assert_eq!(of(&["/c/a.tar", "/d/b.tar"]), Path::new("/"));
    }
}
