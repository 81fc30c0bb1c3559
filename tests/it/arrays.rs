//! Arrays of images in HDF5 files of other programs: the order of their dimensions, and their labels, as h5py shows them.

use std::path::{Path, PathBuf};

use cnncodes::dataset::{Dataset, SampleContent, SourceOptions};
use predicates::str::contains;

use crate::common::{add_demo_network, cnncodes, python};

/// Makes `a.h5` with two pictures of 4 x 6 pixels and their like; the value of each byte tells where it belongs.
const ARRAYS: &str = r#"
import h5py, numpy
pixels = numpy.arange(2 * 4 * 6 * 3, dtype="uint8").reshape(2, 4, 6, 3)
matlab = lambda dataset: dataset.attrs.update({"MATLAB_class": numpy.bytes_(b"uint8")})
with h5py.File("a.h5", "w") as file:
    file["nhwc"] = pixels
    for name, order in {"nchw": (0, 3, 1, 2), "nwhc": (0, 2, 1, 3), "hwcn": (1, 2, 3, 0), "cwhn": (3, 2, 1, 0)}.items():
        file[name] = numpy.ascontiguousarray(pixels.transpose(order))
    file["grey"] = pixels[..., 0]
    file["one"] = pixels[0]
    file["one_planar"] = pixels[0].transpose(2, 0, 1)
    file.create_dataset("lzf", data=pixels, compression="lzf", chunks=(1, 3, 4, 2), shuffle=True)
    # What MATLAB has as height x width x 3 x images, height x width x 3, images x height x width x 3, height x width x images.
    matlab(file.create_dataset("m_hwcn", data=pixels.transpose(0, 3, 2, 1)))
    matlab(file.create_dataset("m_one", data=pixels[0].transpose(2, 1, 0)))
    matlab(file.create_dataset("m_nhwc", data=pixels.transpose(3, 2, 1, 0)))
    matlab(file.create_dataset("m_grey", data=pixels[..., 0].transpose(0, 2, 1)))
    file["cube"] = numpy.zeros((3, 3, 3, 3), "uint8")
    file["narrow"] = numpy.zeros((5, 3, 4, 3), "uint8")
    file["table"] = numpy.zeros((5, 784), "uint8")
with h5py.File("block.h5", "w", userblock_size=512) as file:
    file["x"] = pixels.transpose(0, 3, 2, 1)
with open("block.h5", "r+b") as file:
    file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))
open("old.mat", "wb").write(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(256))
"#;

fn open(folder: &Path, input: &str, labels: Option<&str>, axes: Option<&str>) -> Result<Dataset, String> {
    let options = SourceOptions {
        labels: labels.map(str::to_owned),
        axes: axes.map(|axes| axes.parse().unwrap()),
        ..SourceOptions::default()
    };
    Dataset::open(&[folder.join(input)], &options).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    })
}

/// All pixels of all images, one after the other, and the height and width of the first.
fn pixels(set: &Dataset) -> (Vec<u8>, (u32, u32)) {
    let images = set.samples.iter().map(|sample| match sample.read().unwrap() {
        SampleContent::Pixels { image, .. } => image,
        SampleContent::Encoded(_) => panic!("an image file"),
    });
    let images: Vec<_> = images.collect();
    let size = (images[0].height(), images[0].width());
    (images.into_iter().flat_map(|image| image.into_owned().into_raw()).collect(), size)
}

#[test]
fn pictures_stand_upright_whatever_the_order_of_their_dimensions() {
    let folder = tempfile::tempdir().unwrap();
    if !python("pictures_stand_upright", folder.path(), ARRAYS) {
        return;
    }
    let both: Vec<u8> = (0..2 * 4 * 6 * 3).collect();
    let first = both[..4 * 6 * 3].to_vec();
    let grey: Vec<u8> = both.iter().step_by(3).flat_map(|&value| [value; 3]).collect();
    for (input, axes, expected, source) in [
        ("a.h5:/nhwc", None, &both, ""),
        ("a.h5:/nhwc", Some("NHWC"), &both, ""),
        ("a.h5:/nchw", None, &both, ""),
        ("a.h5:/nwhc", Some("NWHC"), &both, " (axes NWHC)"),
        ("a.h5:/hwcn", Some("HWCN"), &both, " (axes HWCN)"),
        ("a.h5:/cwhn", Some("cwhn"), &both, " (axes CWHN)"),
        ("a.h5:/grey", None, &grey, ""),
        ("a.h5:/one", None, &first, " (axes HWC)"),
        ("a.h5:/one_planar", Some("CHW"), &first, " (axes CHW)"),
        ("a.h5:/lzf", None, &both, ""),
        ("a.h5:/m_hwcn", None, &both, " (axes NCWH)"),
        ("a.h5:/m_one", None, &first, " (axes CWH)"),
        ("a.h5:/m_nhwc", None, &both, " (axes CWHN)"),
        ("a.h5:/m_grey", None, &grey, " (axes NWH)"),
        ("block.h5:/x", None, &both, " (axes NCWH)"),
        ("block.h5", None, &both, " (axes NCWH)"),
    ] {
        let set = open(folder.path(), input, None, axes).unwrap();
        let (found, size) = pixels(&set);
        assert_eq!((&found, size), (expected, (4, 6)), "{input} {axes:?}");
        assert_eq!(set.source, format!("{}{source}", folder.path().join(input).display()));
    }
    // The same bytes in another order are another image.
    let bytes = |axes| {
        let set = open(folder.path(), "a.h5:/nhwc", None, axes).unwrap();
        let content = set.samples.get(0).read().unwrap();
        content.bytes().to_vec()
    };
    assert_eq!(bytes(None), bytes(Some("NHWC")));
    assert_ne!(bytes(None), bytes(Some("NWHC")));
}

#[test]
fn a_shape_that_may_be_several_things_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    if !python("a_shape_that_may_be_several_things", folder.path(), ARRAYS) {
        return;
    }
    for (input, axes, message) in [
        ("a.h5:/cube", None, "uint8 of the shape 3 x 3 x 3 x 3, whose dimensions can be read as NHWC or"),
        (
            "a.h5:/narrow",
            None,
            "can be read as NHWC or NCHW; name their order with --axes, for example \
                                --axes NHWC",
        ),
        ("a.h5:/one_planar", None, "can be read as CHW or NHW"),
        ("a.h5:/hwcn", None, "can be read as HWCN or NHCW"),
        ("a.h5:/table", None, "uint8 of the shape 5 x 784, not an array of images"),
        ("a.h5:/nchw", Some("NHWC"), "does not fit --axes NHWC: NHWC makes it 6 colours, expected 3 or 1"),
        ("a.h5:/grey", Some("NHWC"), "it has 3 dimensions, and NHWC names 4"),
        (
            "old.mat:/x",
            None,
            "old.mat is a MATLAB file that is not HDF5; save it in MATLAB with the option '-v7.3'",
        ),
    ] {
        let error = open(folder.path(), input, None, axes).unwrap_err();
        assert!(error.contains(message), "{input}: {error}");
    }
    for (axes, size) in [("NHWC", (3, 4)), ("NCHW", (4, 3)), ("NWHC", (4, 3))] {
        let set = open(folder.path(), "a.h5:/narrow", None, Some(axes)).unwrap();
        assert_eq!((set.samples.len(), pixels(&set).1), (5, size), "{axes}");
    }
    add_demo_network(folder.path());
    cnncodes(folder.path())
        .args(["extract", "a.h5:/nhwc", "--axes", "NHXC"])
        .assert()
        .code(2)
        .stderr(contains("expected H and W"));
    cnncodes(folder.path())
        .args(["extract", "a.h5:/nwhc", "--axes", "NWHC", "-o", "x.h5"])
        .assert()
        .success();
    cnncodes(folder.path()).args(["classify", "a.h5:/nwhc", "--axes", "HWC"]).assert().code(2);
    let features = cnncodes::features::FeatureFile::open(&folder.path().join("x.h5")).unwrap();
    assert_eq!(features.header().source, "a.h5:/nwhc (axes NWHC)");
}

#[test]
fn labels_are_read_in_every_form_that_h5py_and_matlab_write() {
    let program = r#"
import h5py, numpy
names = ["cat", "dog", "cat", "owl"]
numbers = numpy.array([0, 10, 0, 2])
with h5py.File("a.h5", "w") as file, h5py.File("y.h5", "w") as other:
    file["x"] = numpy.zeros((4, 4, 6, 3), "uint8")
    other["deep/labels"] = names
    file["vlen"] = names
    file.create_dataset("ascii", data=[name.encode() for name in names], dtype=h5py.string_dtype("ascii"))
    file["fixed"] = numpy.array([name.encode() for name in names])
    file["padded"] = numpy.array([name.encode().ljust(8) for name in names], "S8")
    file["column_of_text"] = numpy.array([[name.encode()] for name in names])
    for kind in ["i1", "<i2", ">i4", "<i8", "u1", ">u2", "<u4", "<u8", "<f2", ">f4", "<f8"]:
        file["n_" + kind.strip("<>")] = numbers.astype(kind)
    file["pcam"] = numbers.astype("u1").reshape(4, 1, 1, 1)
    file["row"] = numbers.astype("f8").reshape(1, 4)
    file["bool"] = numpy.array([False, True, False, True])
    file.create_dataset("enum", data=[5, 1, 5, 2], dtype=h5py.enum_dtype({"cat": 5, "dog": 1, "owl": 2}))
    file["unknown"] = [0, -1, 0, -1]
    file["nan"] = [0, numpy.nan, 0, numpy.nan]
    file["blank"] = ["cat", "", " cat\n", "nan"]
    file["fraction"] = [0, 0.5, 1, 1]
    file["short"] = [0, 1]
    file["square"] = numpy.zeros((2, 2), "u1")
    file["pair"] = numpy.zeros(4, [("a", "i4"), ("b", "f4")])
    file.create_dataset("beyond", data=[5, 1, 7, 2], dtype=h5py.enum_dtype({"cat": 5, "dog": 1, "owl": 2}))
"#;
    let folder = tempfile::tempdir().unwrap();
    if !python("labels_are_read_in_every_form", folder.path(), program) {
        return;
    }
    let labels = |named: &str| {
        let set = open(folder.path(), "a.h5:/x", Some(named), None)?;
        let names = set.samples.iter().map(|sample| sample.label.map_or("", |label| &set.class_names[label]));
        Ok::<_, String>(names.map(str::to_owned).collect::<Vec<_>>())
    };
    let other = format!("{}:/deep/labels", folder.path().join("y.h5").display());
    for named in ["vlen", "/ascii", "fixed", "padded", "column_of_text", "enum", &other] {
        assert_eq!(labels(named).unwrap(), ["cat", "dog", "cat", "owl"], "{named}");
    }
    for kind in ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"] {
        assert_eq!(labels(&format!("n_{kind}")).unwrap(), ["0", "10", "0", "2"], "{kind}");
    }
    for named in ["pcam", "row"] {
        assert_eq!(labels(named).unwrap(), ["0", "10", "0", "2"], "{named}");
    }
    assert_eq!(labels("bool").unwrap(), ["0", "1", "0", "1"]);
    for named in ["unknown", "nan"] {
        assert_eq!(labels(named).unwrap(), ["0", "", "0", ""], "{named}");
    }
    assert_eq!(labels("blank").unwrap(), ["cat", "", "cat", ""]);
    let file: PathBuf = folder.path().join("y.h5");
    for (named, message) in [
        ("fraction", "the label of row 1 in /fraction is not a whole number"),
        ("beyond", "the label of row 2 in /beyond is not a whole number"),
        (
            "short",
            "/short are int64 of the shape 2, expected one whole number or text for each of the 4 images",
        ),
        ("square", "/square are uint8 of the shape 2 x 2"),
        ("pair", "/pair are a compound type of the shape 4"),
        ("none", "has no dataset /none; it holds /ascii"),
        (file.to_str().unwrap(), "name the dataset of that file as well"),
    ] {
        let error = labels(named).unwrap_err();
        assert!(error.contains(message), "{named}: {error}");
    }
}
