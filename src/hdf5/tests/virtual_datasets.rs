//! Virtual datasets as h5py writes them, with every version of the format, and what is refused of them.

use std::error::Error;
use std::fs;

use super::super::{Hdf5, Hdf5Error};
use super::written_by_h5py;

/// Parts of 4, 3 and 5 rows, mapped by the files a.h5 and others.
const PROGRAM: &str = r#"
import h5py, numpy, os
os.mkdir("parts")
values = numpy.arange(12 * 6, dtype="f4").reshape(12, 6)
starts = [0, 4, 7, 12]
for index, (start, end) in enumerate(zip(starts, starts[1:])):
    with h5py.File(f"parts/part-{index:08}.h5", "w") as file:
        # Rows before and after those that are meant, except in the first.
        rows = values[start:end] if index == 0 else numpy.concatenate([values[:1] - 100, values[start:end], values[:1] - 200])
        file.create_dataset("layers/a%2Fb", data=rows, chunks=(2, 6))
for name, options in {
    "a.h5": {}, "latest.h5": {"libver": "latest"}, "v110.h5": {"libver": ("v110", "v110")}, "v112.h5": {"libver": ("v112", "v112")},
    "block.h5": {"userblock_size": 1024},
}.items():
    with h5py.File(name, "w", **options) as file:
        def mapped(gap=None, **options):
            layout = h5py.VirtualLayout(shape=(12, 6), dtype="f4")
            for index, (start, end) in enumerate(zip(starts, starts[1:])):
                if index != gap:
                    rows = end - start + (2 if index > 0 else 0)
                    source = h5py.VirtualSource(f"parts/part-{index:08}.h5", "layers/a%%2Fb", shape=(rows, 6))
                    layout[start:end] = source if index == 0 else source[1:1 + end - start]
            return layout
        group = file.create_group("layers")
        group.create_virtual_dataset("v", mapped())
        for index in range(12):
            group["v"].attrs[f"attribute{index}"] = index
        file["features"] = h5py.SoftLink("/layers/v")
        file["plain"] = values
        file.create_virtual_dataset("gap", mapped(gap=1))
        own = h5py.VirtualLayout(shape=(6, 6), dtype="f4")
        own[2:] = h5py.VirtualSource(".", "plain", shape=(12, 6))[3:7]
        own[:2] = h5py.VirtualSource(".", "plain", shape=(12, 6))[:2]
        file.create_virtual_dataset("own", own)
        for name, build in {
            "columns": lambda layout: layout.__setitem__((slice(None), slice(0, 6)), h5py.VirtualSource(".", "plain", shape=(12, 6))[0:12, 0:6]),
            "strided": lambda layout: layout.__setitem__(slice(None), h5py.VirtualSource(".", "plain", shape=(24, 6))[::2]),
            "halves": lambda layout: (layout.__setitem__((slice(None), slice(0, 3)), h5py.VirtualSource(".", "plain", shape=(12, 6))[:, :3])),
            "above": lambda layout: layout.__setitem__(slice(None), h5py.VirtualSource("../x.h5", "plain", shape=(12, 6))),
            "absolute": lambda layout: layout.__setitem__(slice(None), h5py.VirtualSource("/etc/x.h5", "plain", shape=(12, 6))),
            "missing": lambda layout: layout.__setitem__(slice(None), h5py.VirtualSource("parts/none.h5", "plain", shape=(12, 6))),
            "nested": lambda layout: layout.__setitem__(slice(None), h5py.VirtualSource(".", "layers/v", shape=(12, 6))),
            "larger": lambda layout: layout.__setitem__(slice(None), h5py.VirtualSource("parts/part-00000000.h5", "layers/a%%2Fb", shape=(12, 6))),
        }.items():
            layout = h5py.VirtualLayout(shape=(12, 6), dtype="f4")
            build(layout)
            file.create_virtual_dataset(name, layout)
        layout = h5py.VirtualLayout(shape=(12, 6), dtype="f8")
        layout[:] = h5py.VirtualSource(".", "plain", shape=(12, 6))
        file.create_virtual_dataset("typed", layout)
        endless = h5py.VirtualLayout(shape=(12, 6), dtype="f4", maxshape=(None, 6))
        endless[0:h5py.h5s.UNLIMITED:1] = h5py.VirtualSource(".", "plain", shape=(12, 6), maxshape=(None, 6))[0:h5py.h5s.UNLIMITED:1]
        file.create_virtual_dataset("endless", endless)
"#;

const FILES: [&str; 5] = ["a.h5", "latest.h5", "v110.h5", "v112.h5", "block.h5"];

#[test]
fn rows_of_a_virtual_dataset_are_those_of_the_files_that_it_maps() {
    let Some((_folder, path)) =
        written_by_h5py("rows_of_a_virtual_dataset_are_those_of_the_files_that_it_maps", PROGRAM)
    else {
        return;
    };
    let values: Vec<f32> = (0..12 * 6).map(|n| n as f32).collect();
    for name in FILES {
        let file = Hdf5::open(&path.with_file_name(name)).unwrap();
        assert_eq!(file.members("layers").unwrap(), ["v"], "{name}");
        assert!(file.datasets().unwrap().contains(&"/features".to_owned()), "{name}");
        for dataset in ["layers/v", "features"] {
            let dataset = file.dataset(dataset).unwrap();
            assert_eq!((dataset.shape(), dataset.attributes().len()), (&[12, 6][..], 12), "{name}");
            let attribute = dataset.attributes().iter().find(|attribute| attribute.name() == "attribute11");
            assert_eq!(attribute.unwrap().number::<i64>().unwrap(), 11);
            assert_eq!(dataset.numbers::<f32>().unwrap(), values, "{name}");
            for (start, end) in (0..12).flat_map(|start| (start..=12).map(move |end| (start, end))) {
                let mut out = vec![-1.0; (end - start) * 6];
                dataset.read_rows_f32(start as u64..end as u64, &mut out).unwrap();
                assert_eq!(out, values[start * 6..end * 6], "{name}: {start}..{end}");
            }
            assert_eq!(dataset.places_of_f32_rows().unwrap(), None);
        }
        let own = file.dataset("own").unwrap().numbers::<f32>().unwrap();
        assert_eq!(own, [&values[..2 * 6], &values[3 * 6..7 * 6]].concat(), "{name}");
        assert_eq!(file.dataset("columns").unwrap().numbers::<f32>().unwrap(), values, "{name}");
        // Other objects are what they were.
        assert_eq!(file.dataset("plain").unwrap().numbers::<f32>().unwrap(), values, "{name}");
    }
}

#[test]
fn what_is_not_read_of_a_virtual_dataset_is_refused_with_the_reason() {
    let Some((_folder, path)) =
        written_by_h5py("what_is_not_read_of_a_virtual_dataset_is_refused_with_the_reason", PROGRAM)
    else {
        return;
    };
    for name in FILES {
        let file = Hdf5::open(&path.with_file_name(name)).unwrap();
        for (dataset, why) in [
            ("gap", "its rows from 4 on come from no file"),
            ("strided", "other parts than whole, consecutive rows"),
            ("halves", "it maps parts of rows"),
            ("above", "one of them is \"../x.h5\"; only files in the folder"),
            ("absolute", "one of them is \"/etc/x.h5\""),
            ("endless", "it has no end"),
        ] {
            let error = file.dataset(dataset).unwrap_err();
            assert!(
                matches!(&error, Hdf5Error::Unsupported(found) if found.contains(why)),
                "{name}: {dataset}: {error}"
            );
        }
        for (dataset, part, why) in [
            ("missing", "none.h5", "the file cannot be read"),
            ("nested", name, "layers/v: it is a virtual dataset itself"),
            ("larger", "part-00000000.h5", "another shape"),
            ("typed", name, "another type"),
        ] {
            let error = file.dataset(dataset).unwrap().locate().unwrap_err();
            assert!(
                error.to_string().contains(part) && error.to_string().contains("the rows 0 to 11"),
                "{name}: {error}"
            );
            let source = error.source().unwrap().to_string();
            assert!(source.contains(why), "{name}: {dataset}: {source}");
        }
        let dataset = file.dataset("layers/v").unwrap();
        dataset.locate().unwrap();
        let part = path.with_file_name("parts").join("part-00000001.h5");
        let whole = fs::read(&part).unwrap();
        fs::remove_file(&part).unwrap();
        let file = Hdf5::open(&path.with_file_name(name)).unwrap();
        let error = file.dataset("layers/v").unwrap().numbers::<f32>().unwrap_err().to_string();
        assert!(error.contains("the rows 4 to 6 are in") && error.contains("part-00000001.h5"), "{error}");
        fs::write(&part, whole).unwrap();
    }
}

#[test]
fn a_damaged_virtual_file_is_refused_or_read_but_never_a_panic() {
    let Some((_folder, path)) =
        written_by_h5py("a_damaged_virtual_file_is_refused_or_read_but_never_a_panic", PROGRAM)
    else {
        return;
    };
    let changed = path.with_file_name("changed.h5");
    for name in ["a.h5", "latest.h5"] {
        let whole = fs::read(path.with_file_name(name)).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0b101 << (at % 6);
            fs::write(&changed, &bytes).unwrap();
            let Ok(file) = Hdf5::open(&changed) else { continue };
            for dataset in ["layers/v", "own"] {
                if let Ok(dataset) = file.dataset(dataset) {
                    let mut out = [0.0; 6];
                    let _ =
                        (dataset.locate(), dataset.read_rows_f32(3..4, &mut out), dataset.numbers::<f32>());
                }
            }
        }
    }
}
