//! Lists of images in CSV files.

use super::*;

#[test]
fn usual_names_of_columns_are_known_and_others_can_be_named() {
    let folder = folder(&["a.jpg", "b.jpg"]);
    for text in [
        "path,class\na.jpg,x\nb.jpg,y\n",
        "path,target\na.jpg,x\nb.jpg,y\n",
        "filename;category\na.jpg;x\nb.jpg;y\n",
        "image\tlabel\na.jpg\tx\nb.jpg\ty\n",
        "File Name,Class Name,note\na.jpg,x,1\nb.jpg,y,\"two\nlines\"\n",
        ",image_path,label\n0,a.jpg,x\n1,b.jpg,y\n",
        "image,path,label\n1,a.jpg,x\n2,b.jpg,y\n",
        "path,class,label\na.jpg,1,x\nb.jpg,2,y\n",
        "label,path\rx,a.jpg\ry,b.jpg\r",
    ] {
        let set = manifest(folder.path(), text).unwrap();
        assert_eq!(names(&set), ["a.jpg", "b.jpg"], "{text:?}");
        assert_eq!(labels(&set), [Some("x"), Some("y")], "{text:?}");
        let lines = "1 of 2 rows have a field of several lines, the first: note on line 3; a stray quote \
                     there hides images";
        let expected = if text.contains("two") { vec![lines] } else { Vec::new() };
        assert_eq!(set.notes, expected, "{text:?}");
    }
    let csv = folder.path().join("list.csv");
    let open = |text: &str, options: SourceOptions| {
        fs::write(&csv, text).unwrap();
        Dataset::open(std::slice::from_ref(&csv), &options)
    };
    let named = SourceOptions {
        path_column: Some("Photo".into()),
        label_column: Some("kind".into()),
        ..SourceOptions::default()
    };
    let text = "photo,kind,label\na.jpg,x,1\nb.jpg,y,2\n";
    assert_eq!(labels(&open(text, named.clone()).unwrap()), [Some("x"), Some("y")]);
    let wrong = SourceOptions { label_column: Some("sort".into()), ..SourceOptions::default() };
    let error = text_of(&open("path,kind\na.jpg,x\n", wrong).unwrap_err());
    assert!(
        error.contains("no column \"sort\", which --label-column names (columns seen: path, kind)"),
        "{error}"
    );
    let unlabelled = SourceOptions { no_labels: true, ..SourceOptions::default() };
    assert_eq!(labels(&open("path,kind\na.jpg,x\n", unlabelled).unwrap()), [None]);
    let folder = Dataset::open(&[folder.path().to_owned()], &named).unwrap_err();
    assert!(folder.to_string().starts_with("--path-column works with a CSV file only"), "{folder}");
}

#[test]
fn a_list_is_a_manifest_where_its_first_line_is_a_header() {
    let list =
        |text: &str| text_of(&Dataset::from_list(text.as_bytes(), &SourceOptions::default()).unwrap_err());
    for text in ["path\ngone.jpg\n", "PATH;label\rgone.jpg;x\r", "image,class\ngone.jpg,x\n"] {
        assert!(list(text).contains("none of its 1 images can be found"), "{text:?}");
    }
    for text in ["image\ngone.jpg\n", "image,x\ngone.jpg\n"] {
        assert!(list(text).contains("none of its 2 images can be found"), "{text:?}");
    }
    assert!(list("path,kind\ngone.jpg,x\n").contains("no column of labels"));
}

#[test]
fn an_image_is_no_manifest() {
    let folder = folder(&["x.jpg"]);
    let error = open(&folder.path().join("x.jpg")).unwrap_err();
    assert!(matches!(error, DatasetError::NotADirectory { .. }));
}

#[test]
fn a_manifest_gives_paths_and_labels() {
    let folder = folder(&["p/a.jpg", "p/b, c.jpg", "q.dat"]);
    // Byte order mark, CRLF, quotes, blanks, a column of no concern, an empty label.
    let text = "\u{feff}Path,label,note\r\n\"p/b, c.jpg\",dog,x\r\n./p/a.jpg , cat,y\r\nq.dat,,z\r\n";
    fs::write(folder.path().join("list.csv"), text).unwrap();
    let set = open(&folder.path().join("list.csv")).unwrap();
    assert_eq!(names(&set), ["p/a.jpg", "p/b, c.jpg", "q.dat"]);
    assert_eq!(set.class_names, ["cat", "dog"]);
    assert_eq!(labels(&set), [Some("cat"), Some("dog"), None]);
    assert!(set.samples.iter().all(|sample| sample.file().is_file()));
    assert_eq!(set.samples.root(), folder.path());
}

#[test]
fn a_manifest_without_labels_is_an_unlabelled_set() {
    let folder = folder(&["a.jpg"]);
    let set = manifest(folder.path(), "path\na.jpg\n").unwrap();
    assert_eq!(labels(&set), [None]);
    assert_eq!(set.class_names, Vec::<String>::new());
}

#[test]
fn a_manifest_names_images_relative_to_its_folder() {
    let folder = folder(&["lists/x/1.jpg", "2.jpg"]);
    let absolute = folder.path().join("lists/x/1.jpg").display().to_string();
    let lists = folder.path().join("lists");
    let set = manifest(&lists, &format!("path,label\n{absolute},a\nx/../../2.jpg,b\n")).unwrap();
    assert_eq!(names(&set), ["../2.jpg", "x/1.jpg"]);
    assert_eq!(labels(&set), [Some("b"), Some("a")]);
    let windows = manifest(&lists, "path\nx\\1.jpg\n").unwrap();
    assert_eq!(names(&windows), ["x/1.jpg"]);
}

#[test]
fn a_manifest_that_names_an_image_twice_is_refused_with_both_lines() {
    let folder = folder(&["a.jpg", "b.jpg"]);
    let error = manifest(folder.path(), "path,label\na.jpg,x\nb.jpg,x\n./a.jpg,y\n").unwrap_err();
    let DatasetError::Manifest { source: ManifestError::Duplicate { name, first, second }, .. } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!((name.as_str(), *first, *second), ("a.jpg", 2, 4));
    assert!(text_of(&error).contains("lines 2 and 4"), "{error}");
}

#[test]
fn a_file_that_a_manifest_misses_is_a_problem() {
    let folder = folder(&["a.jpg", "d/b.jpg"]);
    let set = manifest(folder.path(), "path,label\na.jpg,x\ngone.jpg,lost\nd,x\n").unwrap();
    assert_eq!(names(&set), ["a.jpg"]);
    assert_eq!(set.class_names, ["x"], "a class without images is no class");
    let expected =
        [("d", "not a regular file"), ("gone.jpg", "no such file or folder (line 3 of the manifest)")]
            .map(|(name, reason)| InputProblem { name: name.into(), reason: reason.into() });
    assert_eq!(set.problems, expected);
}

#[test]
fn manifests_that_are_none_are_refused_with_a_reason() {
    let folder = folder(&["a.jpg"]);
    let cases = [
        ("photo;class\na.jpg;x\n", "no column of paths (columns seen: photo, class); write path,label"),
        ("a.jpg,x\nb.jpg,y\n", "(columns seen: a.jpg, x), so it seems to be an image already"),
        ("", "no column of paths (columns seen: none)"),
        ("path,label\na.jpg\n", "line 2 has 1 fields, but the first line has 2"),
        ("path,label\na.jpg,\"x\nb.jpg,y\n", "the quote that begins on line 2 is never closed"),
        ("path,label\na.jpg,\"x\nb.jpg,\"\n", "the label on line 2 has several lines, up to line 3"),
        ("path,label\n\"a.jpg\n\nb.jpg\",x\n", "the path on line 2 has several lines, up to line 4"),
        (
            "path,label,note\na.jpg,x,\"n\nb.jpg,y,\"\n",
            "the note that begins on line 2 holds lines that look like images, such as \"b.jpg\"",
        ),
        (
            "path,kind\na.jpg,x\n",
            "no column of labels (columns seen: path, kind); name the column with --label-column",
        ),
        (
            "path,red,blue\na.jpg,1,0\nb.jpg,0,1\n",
            "(columns seen: path, red, blue); the others seem to be one column for each class",
        ),
        ("path,class,target\na.jpg,x,0\n", "its columns class, target might all hold the labels"),
        ("file,image,label\na.jpg,a.jpg,x\n", "its columns file, image might all hold the paths"),
        ("path,label,Label\na.jpg,x,y\n", "its columns label, Label might all hold the labels"),
        ("path,label\n,x\n", "line 2 has no path"),
        ("path,label\n", "none of its 0 images"),
        ("path,label\ngone.jpg,x\n", "none of its 1 images can be found (the first: gone.jpg: no such file"),
    ];
    for (text, expected) in cases {
        let reason = text_of(&manifest(folder.path(), text).unwrap_err());
        assert!(reason.contains(expected), "{text:?} gave {reason}");
    }
    let binary = folder.path().join("b.csv");
    fs::write(&binary, b"path\n\xff\xfe").unwrap();
    assert!(text_of(&manifest_at(&binary).unwrap_err()).contains("not UTF-8"));
}
