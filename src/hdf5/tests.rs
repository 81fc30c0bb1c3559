//! Files that libhdf5 and h5py write, read by this room.

use std::path::{Path, PathBuf};
use std::process::Command;

use hdf5_metno::File;
use ndarray17::Array2;
use tempfile::TempDir;

use super::*;

mod virtual_datasets;

const WIDTH: usize = 6;

/// Every range of rows, as read.
fn check(path: &Path, name: &str, values: &Array2<f32>) {
    let dataset = Hdf5::open(path).unwrap().dataset(name).unwrap();
    for start in 0..values.nrows() {
        for end in start..=values.nrows() {
            let mut out = vec![-1.0; (end - start) * WIDTH];
            dataset.read_rows_f32(start as u64..end as u64, &mut out).unwrap();
            assert_eq!(out, values.as_slice().unwrap()[start * WIDTH..end * WIDTH], "{name} {start}..{end}");
        }
    }
    assert_eq!(dataset.numbers::<f32>().unwrap(), values.as_slice().unwrap(), "{name}");
}

#[test]
fn rows_are_the_same_however_the_file_lays_them_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layouts.h5");
    let file = File::create(&path).unwrap();
    let values = Array2::from_shape_fn((11, WIDTH), |(row, column)| (row * 100 + column) as f32);
    let new = || file.new_dataset_builder().with_data(&values);
    new().chunk((4, WIDTH)).create("rows").unwrap();
    new().chunk((11, WIDTH)).create("one").unwrap();
    new().chunk((4, WIDTH)).shuffle().deflate(6).fletcher32().create("filtered").unwrap();
    new().chunk((4, 4)).create("parts").unwrap();
    new().no_chunk().create("contiguous").unwrap();
    file.new_dataset_builder().with_data(&values.mapv(f64::from)).create("float64").unwrap();
    file.close().unwrap();
    for (name, chunk) in
        [("rows", Some(4)), ("one", Some(11)), ("filtered", Some(4)), ("parts", None), ("contiguous", None)]
    {
        check(&path, name, &values);
        assert_eq!(Hdf5::open(&path).unwrap().dataset(name).unwrap().rows_of_chunk(), chunk, "{name}");
    }
    let wide = Hdf5::open(&path).unwrap().dataset("float64").unwrap();
    let error = wide.numbers::<f32>().unwrap_err().to_string();
    assert_eq!(error, "it is float64 of the shape 11 x 6, expected float32");
    let mut out = [0.0; WIDTH];
    for (range, size) in [(10..12, WIDTH), (0..2, WIDTH), (0..1, WIDTH - 1)] {
        let dataset = Hdf5::open(&path).unwrap().dataset("rows").unwrap();
        assert!(dataset.read_rows_f32(range, &mut out[..size]).is_err());
    }
}

#[test]
fn the_places_of_rows_are_where_their_bytes_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pieces.h5");
    let file = File::create(&path).unwrap();
    let values = Array2::from_shape_fn((11, WIDTH), |(row, column)| (row * 100 + column) as f32);
    let new = || file.new_dataset_builder().with_data(&values);
    new().no_chunk().create("contiguous").unwrap();
    new().chunk((4, WIDTH)).create("consecutive").unwrap();
    new().chunk((4, 4)).create("parts").unwrap();
    new().chunk((4, WIDTH)).deflate(6).create("filtered").unwrap();
    // The file is complete when all objects in it are closed.
    {
        let empty = || file.new_dataset_builder().chunk((4, WIDTH)).empty::<f32>().shape((11, WIDTH));
        let scattered = empty().create("scattered").unwrap();
        for rows in [8..11, 0..4, 4..8] {
            scattered.write_slice(&values.slice(ndarray17::s![rows.clone(), ..]), (rows, ..)).unwrap();
        }
        let holes = empty().create("holes").unwrap();
        holes.write_slice(&Array2::<f32>::ones((4, WIDTH)), (0..4, ..)).unwrap();
    }
    file.new_dataset_builder().with_data(&values.mapv(f64::from)).create("float64").unwrap();
    file.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let places = |name: &str| Hdf5::open(&path).unwrap().dataset(name).unwrap().places_of_f32_rows().unwrap();
    for (name, pieces) in [("contiguous", true), ("consecutive", true), ("scattered", false)] {
        let places = places(name).unwrap();
        assert_eq!(places.in_one_piece().is_some(), pieces, "{name}");
        for (row, expected) in (0..).zip(values.outer_iter()) {
            let (position, follow) = places.at(row).unwrap();
            assert!((1..=11 - row).contains(&follow), "{name}");
            let found: Vec<f32> = bytes[position as usize..][..WIDTH * 4]
                .as_chunks()
                .0
                .iter()
                .map(|&bytes| f32::from_ne_bytes(bytes))
                .collect();
            assert_eq!(found, expected.to_vec(), "{name}");
        }
    }
    for name in ["parts", "filtered", "holes", "float64"] {
        assert_eq!(places(name), None, "{name}");
    }
}

#[test]
fn chunks_that_were_never_written_hold_the_fill_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.h5");
    let file = File::create(&path).unwrap();
    for (name, fill) in [("zeros", 0.0), ("sevens", 7.0_f32)] {
        let new = file.new_dataset_builder().chunk((4, WIDTH)).fill_value(fill).empty::<f32>();
        let dataset = new.shape((8, WIDTH)).create(name).unwrap();
        dataset.write_slice(&Array2::<f32>::ones((4, WIDTH)), (4..8, ..)).unwrap();
    }
    file.close().unwrap();
    for (name, fill) in [("zeros", 0.0), ("sevens", 7.0)] {
        check(&path, name, &Array2::from_shape_fn((8, WIDTH), |(row, _)| if row < 4 { fill } else { 1.0 }));
    }
}

/// What a Python program makes in a folder; `None` without a Python with h5py.
fn written_by_h5py(test: &str, program: &str) -> Option<(TempDir, PathBuf)> {
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!("SKIPPED: {test}: CNNCODES_PYTHON names no Python with h5py");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let run = Command::new(python).current_dir(folder.path()).args(["-c", program]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let path = folder.path().join("a.h5");
    Some((folder, path))
}

#[test]
fn all_forms_that_h5py_writes_are_read_alike() {
    let program = r#"
import h5py, numpy
values = numpy.arange(11 * 6 * 5, dtype="int64").reshape(11, 6, 5) * 3 - 200
for name, options in {
    "a.h5": {}, "latest.h5": {"libver": "latest"}, "v108.h5": {"libver": ("v108", "v108")}, "v110.h5": {"libver": ("v110", "v110")},
    "block.h5": {"userblock_size": 1024},
}.items():
    with h5py.File(name, "w", **options) as file:
        add = lambda name, **options: file.create_dataset(name, data=values, **options)
        add("plain")
        add("single", chunks=(11, 6, 5))
        add("single_gzip", chunks=(11, 6, 5), compression="gzip")
        add("fixed", chunks=(2, 4, 3))
        add("fixed_gzip", chunks=(2, 4, 3), compression="gzip", shuffle=True, fletcher32=True)
        add("extensible", chunks=(2, 4, 3), maxshape=(None, 6, 5))
        add("extensible_lzf", chunks=(2, 4, 3), maxshape=(None, 6, 5), compression="lzf")
        add("tree", chunks=(2, 4, 3), maxshape=(None, None, 5))
        add("tree_gzip", chunks=(2, 4, 3), maxshape=(None, None, 5), compression="gzip")
        add("scaled", chunks=(2, 4, 3), scaleoffset=0)
        file["big"] = values.astype(">i8")
        shape = file.create_dataset("shrunk", data=numpy.concatenate([values, values]), chunks=(3, 2, 5), maxshape=(None, 6, 5))
        shape.resize((11, 6, 5))
        small = file.create_dataset("compact", shape=(4,), dtype="i8", dcpl=(lambda p: (p.set_layout(h5py.h5d.COMPACT), p)[1])(h5py.h5p.create(h5py.h5p.DATASET_CREATE)))
        small[:] = [1, -2, 3, -4]
        many = file.create_group("many")
        for index in range(40):
            many.create_group(f"group{index:02}")
            many.attrs[f"attribute{index:02}"] = index
            file.attrs[f"attribute{index:02}"] = f"value {index} ü"
        many["last"] = values[:1, 0, 0]
        file["soft"] = h5py.SoftLink("/many/last")
        file["circle"] = h5py.SoftLink("/circle")
        file["outside"] = h5py.ExternalLink("other.h5", "/x")
        file["many/up"] = file["many"]
"#;
    let Some((_folder, path)) = written_by_h5py("all_forms_that_h5py_writes_are_read_alike", program) else {
        return;
    };
    let values: Vec<i64> = (0..11 * 6 * 5).map(|n| n * 3 - 200).collect();
    for name in ["a.h5", "latest.h5", "v108.h5", "v110.h5", "block.h5"] {
        let file = Hdf5::open(&path.with_file_name(name)).unwrap();
        let listed = file.datasets().unwrap();
        for dataset in [
            "plain",
            "single",
            "single_gzip",
            "fixed",
            "fixed_gzip",
            "extensible",
            "extensible_lzf",
            "tree",
            "tree_gzip",
            "scaled",
            "big",
            "shrunk",
        ] {
            let found = file.dataset(dataset).unwrap();
            assert_eq!(found.shape(), [11, 6, 5], "{name}: {dataset}");
            assert_eq!(found.numbers::<i64>().unwrap(), values, "{name}: {dataset}");
            for range in [0..1, 3..8, 10..11] {
                let mut bytes = vec![0; 8 * 30 * (range.end - range.start)];
                found.read_rows(range.start as u64..range.end as u64, &mut bytes).unwrap();
                let found = found.kind().numbers::<i64>(&bytes).unwrap();
                assert_eq!(found, values[range.start * 30..range.end * 30], "{name}: {dataset} {range:?}");
            }
            assert!(listed.contains(&format!("/{dataset}")), "{name}: {listed:?}");
        }
        assert_eq!(file.dataset("compact").unwrap().numbers::<i64>().unwrap(), [1, -2, 3, -4]);
        assert_eq!(file.dataset("soft").unwrap().numbers::<i64>().unwrap(), [-200]);
        assert_eq!(file.members("many").unwrap().len(), 42, "{name}");
        for missing in ["circle", "outside", "many/none", "none/none", "many"] {
            assert!(matches!(file.dataset(missing), Err(Hdf5Error::Missing)), "{name}: {missing}");
        }
        assert!(
            file.contains("many").unwrap()
                && file.contains("soft").unwrap()
                && !file.contains("circle").unwrap()
        );
        let attributes = file.attributes().unwrap();
        let text = attributes.iter().find(|attribute| attribute.name() == "attribute39").unwrap().text();
        assert_eq!(text.unwrap(), "value 39 ü", "{name}");
    }
}

#[test]
fn texts_and_numbers_of_every_type_are_read() {
    let program = r#"
import h5py, numpy
texts = ["", "a", "größer", "a text of more bytes than the others"]
for name, options in {"a.h5": {}, "latest.h5": {"libver": "latest"}}.items():
    with h5py.File(name, "w", **options) as file:
        file["vlen"] = texts
        file.create_dataset("ascii", data=[text.encode() for text in texts], dtype=h5py.string_dtype("ascii"))
        file["fixed"] = numpy.array([text.encode() for text in texts])
        file.create_dataset("packed", data=texts, dtype=h5py.string_dtype("utf-8"), chunks=(3,), compression="gzip")
        file["scalar"] = "one"
        for kind in ["i1", "<i2", ">i4", "<i8", "u1", ">u2", "<u4", ">u8", "<f2", ">f4", "<f8"]:
            file["numbers_" + kind.strip("<>")] = numpy.array([[0, 1, 100]], kind)
        file["bool"] = numpy.array([True, False])
        file["enum"] = numpy.array([2, 0], "u1")
        file.create_dataset("pets", data=[5, -1], dtype=h5py.enum_dtype({"cat": 5, "dog": -1}, basetype=">i2"))
        file["fraction"] = [0.5, numpy.nan, numpy.inf, -3, 1e300]
        file["huge"] = numpy.array([2**64 - 1, 7], "u8")
        file["pair"] = numpy.zeros(2, [("a", "i4"), ("b", "f4")])
        file["null"] = h5py.Empty("f4")
"#;
    let Some((_folder, path)) = written_by_h5py("texts_and_numbers_of_every_type_are_read", program) else {
        return;
    };
    let texts = ["", "a", "größer", "a text of more bytes than the others"];
    for name in ["a.h5", "latest.h5"] {
        let file = Hdf5::open(&path.with_file_name(name)).unwrap();
        let open = |name: &str| file.dataset(name).unwrap();
        for (dataset, kind) in [
            ("vlen", "text of any length"),
            ("ascii", "text of any length"),
            ("packed", "text of any length"),
            ("fixed", "text of 36 bytes"),
        ] {
            assert_eq!(open(dataset).texts().unwrap(), texts, "{dataset}");
            assert_eq!(open(dataset).kind().to_string(), kind);
        }
        assert_eq!(open("scalar").texts().unwrap(), ["one"]);
        for kind in ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"] {
            let numbers = open(&format!("numbers_{kind}"));
            assert_eq!(numbers.whole_numbers().unwrap(), [Some(0), Some(1), Some(100)], "{kind}");
        }
        assert_eq!(open("bool").whole_numbers().unwrap(), [Some(1), Some(0)]);
        assert_eq!(open("pets").whole_numbers().unwrap(), [Some(5), Some(-1)]);
        let ElementType::Enumeration { members, .. } = open("pets").kind().clone() else { panic!() };
        assert_eq!(members, [("cat".to_owned(), 5), ("dog".to_owned(), -1)]);
        assert_eq!(open("fraction").whole_numbers().unwrap(), [None, None, None, Some(-3), None]);
        assert_eq!(open("fraction").missing().unwrap(), [false, true, false, false, false]);
        assert_eq!(open("huge").whole_numbers().unwrap(), [None, Some(7)]);
        assert_eq!(format!("{:?}", open("pair")), "pair: a compound type of the shape 2");
        assert!(open("pair").whole_numbers().is_err() && open("vlen").numbers::<f32>().is_err());
        assert_eq!(open("null").shape(), [0]);
    }
}

#[test]
fn filters_that_are_plug_ins_are_named() {
    let program = r#"
import h5py
from h5py import h5d, h5p, h5s, h5t
with h5py.File("a.h5", "w") as file:
    for name, number in [(b"blosc", 32001), (b"own", 40000)]:
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk((2,))
        plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
        h5d.create(file.id, name, h5t.STD_U8LE, h5s.create_simple((4,)), plist)
        file[name.decode()].id.write_direct_chunk((0,), b"ab", 0)
"#;
    let Some((_folder, path)) = written_by_h5py("filters_that_are_plug_ins_are_named", program) else {
        return;
    };
    let file = Hdf5::open(&path).unwrap();
    for (name, filter) in [("blosc", "Blosc (number 32001)"), ("own", "number 40000")] {
        let message = file.dataset(name).unwrap_err().to_string();
        assert!(
            message.contains(&format!("the HDF5 filter {filter}")) && message.contains("h5repack"),
            "{message}"
        );
    }
}

#[test]
fn other_files_are_told_from_hdf5() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.h5");
    assert!(matches!(Hdf5::open(&path), Err(Hdf5Error::Io(_))));
    assert!(matches!(Hdf5::open(folder.path()), Err(Hdf5Error::Io(_))));
    for bytes in [&b""[..], b"text", &[0; 5000]] {
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Hdf5::open(&path), Err(Hdf5Error::NotHdf5)));
    }
    let file = File::create(&path).unwrap();
    file.new_dataset::<f32>().shape([1000]).create("x").unwrap().write_raw(&[1.0_f32; 1000]).unwrap();
    file.close().unwrap();
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(Hdf5::open(&path).is_err(), "cut to {cut} bytes");
    }
}
