//! Plans: whatever happens to the workers, the parts become the file that one machine would have written, or `merge` says why not.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use assert_cmd::assert::Assert;
use cnncodes::features::{FeatureFile, FeatureFileHeader, FeatureRow, FeatureWriter, WriteOptions};
use cnncodes::plan::Plan;
use predicates::prelude::*;
use predicates::str::contains;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::common::{cnncodes, python, workspace};
use crate::inputs::tar;

/// Runs the program in `folder` with the words of `line`.
fn run(folder: &Path, line: &str) -> Assert {
    cnncodes(folder).args(line.split(' ')).assert()
}

/// Extracts in one run, merges the plan `run`, and asserts that both files are the same, byte for byte.
fn assert_merged_is_whole(folder: &Path, images: &str, layers: &str) {
    let merged = run(folder, "merge run -o merged.h5 --force").get_output().status.code();
    let whole =
        run(folder, &format!("extract {images} {layers} -o whole.h5 --force")).get_output().status.code();
    assert_eq!(merged, whole, "a skipped image gives the same exit status");
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    assert!(read("merged.h5") == read("whole.h5"), "the merged file differs");
}

fn part(number: u64) -> String {
    format!("run/parts/{number:06}.h5")
}

/// A folder with 24 pictures and a plan of 4 parts of the layer fc7.
fn planned() -> tempfile::TempDir {
    let folder = workspace(6);
    run(folder.path(), "plan --layer fc7 -o run --rows-per-part 7").success().stdout(contains(
        "run: 24 images of 4 classes, 4 parts of 7 rows, 160 features each (15.36 kB); id ",
    ));
    folder
}

/// [`planned`], and all parts are done.
fn done() -> tempfile::TempDir {
    let folder = planned();
    run(folder.path(), "extract --plan run").success();
    folder
}

#[test]
fn any_number_of_workers_gives_the_file_of_one_machine() {
    let folder = workspace(12);
    let folder = folder.path();
    fs::write(folder.join("data/fish/0-bad.jpg"), "a letter").unwrap();
    fs::write(folder.join("data/fish/notes.txt"), "no image").unwrap();
    let layers = "--layer pool3,fc7 --pool avg";
    run(folder, &format!("plan {layers} -o run --rows-per-part 5")).success().stdout(contains("10 parts"));
    run(folder, "extract --status run --log json")
        .code(1)
        .stdout(contains("\"missing\":[0,1,2,3,4,5,6,7,8,9]"));
    // The number of shares changes on the way, and shares are repeated.
    run(folder, "extract --plan run --shard 2/3")
        .success()
        .stdout(contains("share 2/3: 3 parts (0 done before, 3 computed"));
    run(folder, "extract --plan run --shard 2/3").success().stdout(contains("3 done before, 0 computed"));
    run(folder, "extract --plan run --shard 0/2")
        .code(1)
        .stdout(contains("2 done before, 3 computed, 0 failed), 14 rows"));
    run(folder, "merge run -o merged.h5").code(2).stderr(contains("4 of 10 parts are missing (1, 3, 7, 9)"));
    assert!(!folder.join("merged.h5").exists());
    run(folder, "extract --plan run --shard 1/2").success();
    run(folder, "extract --status run").success().stdout(
        contains(
            "10 of 10 parts done, 0 missing, 0 unusable; 48 of 49 images have features, 1 could not be read",
        )
        .and(contains("fish/0-bad.jpg (part 0): not an image")),
    );
    assert_merged_is_whole(folder, "data", layers);
    let merged = FeatureFile::open(&folder.join("merged.h5")).unwrap();
    assert_eq!(merged.errors()[0].name, "fish/0-bad.jpg");
    assert_eq!((merged.passed_over()[0].files, merged.part()), (1, None));
}

#[test]
fn every_kind_of_images_can_be_planned() {
    let folder = workspace(3);
    let folder = folder.path();
    let picture =
        |class: &str, number: usize| fs::read(folder.join(format!("data/{class}/{number:03}.jpg"))).unwrap();
    let mut list = String::from("path,label\n../elsewhere/x.jpg,other\n");
    fs::create_dir_all(folder.join("elsewhere")).unwrap();
    fs::create_dir_all(folder.join("lists")).unwrap();
    fs::copy(folder.join("image.jpg"), folder.join("elsewhere/x.jpg")).unwrap();
    let members: Vec<(String, Vec<u8>)> = (1..=3)
        .flat_map(|number| {
            list += &format!("{}/data/fish/{number:03}.jpg,fish\n", folder.display());
            [(format!("{number}.jpg"), picture("fish", number)), (format!("{number}.cls"), b"fish".to_vec())]
        })
        .collect();
    fs::write(folder.join("lists/list.csv"), list).unwrap();
    let members: Vec<(&str, &[u8])> =
        members.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    tar(&folder.join("a.tar"), &members[..4]);
    tar(&folder.join("b.tar"), &members[2..]);
    let mut kinds = vec!["data", "lists/list.csv", "a.tar b.tar", "elsewhere"];
    let arrays = "import h5py, numpy\n\
                  with h5py.File('x.h5', 'w') as file:\n\
                  \x20   file['x'] = numpy.random.default_rng(1).integers(0, 256, (5, 20, 30, 3), dtype='uint8')\n\
                  \x20   file['y'] = numpy.arange(5) % 2\n";
    if python("every_kind_of_images_can_be_planned", folder, arrays) {
        kinds.push("x.h5:/x --labels y");
    }
    for images in kinds {
        for hash in ["", " --hash"] {
            let _ = fs::remove_dir_all(folder.join("run"));
            run(folder, &format!("plan {images} --layer fc7 -o run --rows-per-part 2{hash}")).success();
            run(folder, "extract --plan run --shard 1/2").success();
            run(folder, "extract --plan run --shard 0/2").success();
            assert_merged_is_whole(folder, images, "--layer fc7");
        }
    }
}

#[test]
fn a_plan_is_made_once() {
    let folder = planned();
    let folder = folder.path();
    let before = fs::read(folder.join("run/plan.json")).unwrap();
    run(folder, "plan --layer fc7 -o run --rows-per-part 7")
        .success()
        .stdout(contains("run: up to date, 24 images"));
    run(folder, "plan --layer fc7 -o run --rows-per-part 8")
        .code(2)
        .stderr(contains("run holds another plan").and(contains("name another folder")));
    run(folder, "plan --layer fc6 -o run --rows-per-part 7")
        .code(2)
        .stderr(contains("run holds another plan"));
    assert_eq!(fs::read(folder.join("run/plan.json")).unwrap(), before);
    run(folder, "extract --plan data")
        .code(2)
        .stderr(contains("data holds no plan; `cnncodes plan IMAGES -o data` makes one"));
}

#[test]
fn a_plan_that_was_edited_is_refused_by_everything() {
    let folder = done();
    let folder = folder.path();
    let path = folder.join("run/plan.json");
    let whole = fs::read_to_string(&path).unwrap();
    for (from, to) in [("\"fc7\"", "\"fc6\""), ("\"images\": 24", "\"images\": 23"), ("\"fish\"", "\"bird\"")]
    {
        assert!(whole.contains(from));
        fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        for line in ["extract --plan run", "extract --status run", "merge run -o m.h5"] {
            run(folder, line)
                .code(2)
                .stderr(contains("plan.json was edited or damaged after it was written"));
        }
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    run(folder, "merge run -o m.h5").code(2).stderr(contains("plan.json is not a plan of this program"));
    fs::write(&path, &whole).unwrap();

    let path = folder.join("run/manifest.jsonl.gz");
    let bytes = fs::read(&path).unwrap();
    for at in [20, bytes.len() / 2, bytes.len() - 3] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        run(folder, "merge run -o m.h5")
            .code(2)
            .stderr(contains("manifest.jsonl.gz was edited or damaged after it was written (part "));
    }
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    run(folder, "merge run -o m.h5").code(2).stderr(contains("(part 3 is not what the plan's id says)"));
    fs::write(&path, bytes).unwrap();
    assert_merged_is_whole(folder, "data", "--layer fc7");
}

#[test]
fn an_image_that_changed_after_the_plan_is_an_error_of_its_own() {
    let folder = planned();
    let folder = folder.path();
    let path = folder.join("data/fish/002.jpg");
    let (before, time) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    let put = |bytes: &[u8], time: SystemTime| {
        fs::write(&path, bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    put(&fs::read(folder.join("image.jpg")).unwrap(), time + Duration::from_secs(5));
    run(folder, "extract --plan run")
        .code(1)
        .stderr(contains("fish/002.jpg: it changed after the plan was made; restore it, or make a new plan"));
    run(folder, "merge run -o merged.h5").code(1);
    let merged = FeatureFile::open(&folder.join("merged.h5")).unwrap();
    assert_eq!((merged.rows(), merged.errors()[0].name.as_str()), (23, "fish/002.jpg"));
    // Restored, and its part tried again.
    let status = Plan::open(&folder.join("run")).unwrap().status().unwrap();
    let part_of_fish = status.errors[0].part;
    put(&before, time);
    fs::remove_file(folder.join(part(part_of_fish))).unwrap();
    run(folder, "extract --plan run").success();
    assert_merged_is_whole(folder, "data", "--layer fc7");

    // With hashes the content counts, wherever and whenever it was copied.
    run(folder, "plan --layer fc7 -o hashed --rows-per-part 7 --hash").success();
    put(&before, time + Duration::from_secs(5));
    fs::rename(folder.join("data"), folder.join("moved")).unwrap();
    run(folder, "extract --plan hashed")
        .code(2)
        .stderr(contains("data, does not exist on this machine").and(contains("--root")));
    run(folder, "extract --plan hashed --root moved").success();
    let mut other = before.clone();
    // The JFIF header's density: other bytes, the same picture.
    other[15] ^= 1;
    fs::write(folder.join("moved/fish/002.jpg"), other).unwrap();
    fs::remove_file(folder.join(format!("hashed/parts/{part_of_fish:06}.h5"))).unwrap();
    run(folder, "extract --plan hashed --root moved").code(1).stderr(contains("fish/002.jpg: it changed"));
}

#[test]
fn a_folder_that_is_not_mounted_gives_no_parts() {
    let folder = planned();
    let folder = folder.path();
    fs::create_dir(folder.join("empty")).unwrap();
    run(folder, "extract --plan run --root empty").code(2).stderr(
        contains("part 0 was not computed: none of its 7 images can be read (the first: castle/000.jpg: ")
            .or(contains("part 0 was not computed: none of its 7 images can be read")),
    );
    assert_eq!(fs::read_dir(folder.join("run/parts")).unwrap().count(), 0);
    run(folder, "extract --plan run").success();
    assert_merged_is_whole(folder, "data", "--layer fc7");
}

#[test]
fn damaged_parts_are_made_anew_and_strangers_refused() {
    let folder = done();
    let folder = folder.path();
    let whole: Vec<Vec<u8>> = (0..4).map(|number| fs::read(folder.join(part(number))).unwrap()).collect();
    let write = |number: u64, bytes: &[u8]| fs::write(folder.join(part(number)), bytes).unwrap();

    write(1, &whole[1][..whole[1].len() / 2]);
    run(folder, "extract --status run")
        .code(1)
        .stdout(contains("part 1 cannot be used").and(contains("cut short")));
    run(folder, "merge run -o m.h5").code(2).stderr(contains("000001.h5").and(contains("cut short")));
    run(folder, "extract --plan run --shard 1/4").success().stderr(contains("000001.h5 is computed again"));
    assert!(fs::read(folder.join(part(1))).unwrap() == whole[1]);

    // A part under the name of another.
    write(2, &whole[3]);
    run(folder, "extract --status run").code(1).stdout(contains("part 2 cannot be used: it holds part 3"));
    run(folder, "merge run -o m.h5").code(2).stderr(contains("1 of 4 parts is missing (2)"));
    run(folder, "extract --plan run").success();

    // Twice the same is no harm; twice a different one is.
    fs::write(folder.join("run/parts/copy.h5"), &whole[0]).unwrap();
    run(folder, "merge run -o m.h5").success();
    let mut other = whole[0].clone();
    let fc7 = FeatureFile::open(&folder.join(part(0))).unwrap();
    let value = fc7.read_layer(None).unwrap().iter().copied().fold(0.0, f32::max);
    let at = other.windows(4).position(|bytes| bytes == value.to_le_bytes()).unwrap();
    other[at..at + 4].copy_from_slice(&(value + 1.0).to_le_bytes());
    fs::write(folder.join("run/parts/copy.h5"), other).unwrap();
    run(folder, "merge run -o m.h5 --force")
        .code(2)
        .stderr(contains("are both part 0, and their contents differ"));
    fs::rename(folder.join("run/parts/copy.h5"), folder.join(part(0))).unwrap();
    run(folder, "merge run -o m.h5 --force").code(2).stderr(
        contains(
            "000000.h5: /layers/fc7: its bytes are no longer those that were written (CRC-32); remove it",
        )
        .and(contains("cnncodes extract --plan")),
    );
    write(0, &whole[0]);

    // A part of another plan.
    run(folder, "plan --layer fc6 -o other --rows-per-part 7").success();
    run(folder, "extract --plan other --shard 3/4").success();
    fs::copy(folder.join("other/parts/000003.h5"), folder.join("run/parts/zz.h5")).unwrap();
    run(folder, "merge run -o m.h5 --force").code(2).stderr(contains("zz.h5 belongs to another plan ("));
    fs::rename(folder.join("run/parts/zz.h5"), folder.join(part(3))).unwrap();
    run(folder, "merge run -o m.h5 --force").code(2).stderr(contains("000003.h5 belongs to another plan ("));
    run(folder, "extract --plan run").success().stderr(contains("000003.h5 is computed again"));
    assert!(fs::read(folder.join(part(3))).unwrap() == whole[3]);
    run(folder, "merge run -o m.h5").code(2).stderr(contains("m.h5 exists already"));
    assert_merged_is_whole(folder, "data", "--layer fc7");
}

#[test]
fn the_checksum_of_a_part_is_that_of_zlib() {
    let folder = done();
    let program = "\
import glob, h5py, zlib
rows = []
for path in sorted(glob.glob('run/parts/*.h5')):
    layer = h5py.File(path)['layers/fc7']
    assert (layer.dtype, layer.attrs['crc32'].dtype) == ('<f4', 'u4')
    assert layer.attrs['crc32'] == zlib.crc32(layer[:].tobytes()), path
    rows.append(len(layer))
assert rows == [7, 7, 7, 3], rows
";
    python("the_checksum_of_a_part_is_that_of_zlib", folder.path(), program);
}

#[test]
fn parts_with_other_rows_or_of_another_machine_are_refused() {
    let folder = done();
    let folder = folder.path();
    let plan = Plan::open(&folder.join("run")).unwrap();
    // Part 1 again, with `change` made to its header and its rows.
    let again = |change: &dyn Fn(&mut FeatureFileHeader, &mut Vec<usize>)| {
        let from = FeatureFile::open(&folder.join(part(1))).unwrap();
        let (mut header, mut rows) = (from.header().clone(), (0..from.rows()).collect());
        change(&mut header, &mut rows);
        let values = from.read_layer(None).unwrap();
        let out = folder.join("again.h5");
        let mut writer =
            FeatureWriter::create(&out, &header, WriteOptions { overwrite: true, expected_rows: 7 }).unwrap();
        for row in rows {
            let features = [values.row(row).to_slice().unwrap()];
            let row = FeatureRow {
                name: &from.image_names()[row],
                label: from.labels()[row],
                sha256: &from.sha256()[row],
                perceptual_hash: from.perceptual_hash(row),
                features: &features,
            };
            writer.append(&[row], &[]).unwrap();
        }
        writer.mark_as_part(&cnncodes::features::PlanPart { plan: plan.id().to_owned(), part: 1 });
        writer.finish().unwrap();
        fs::rename(out, folder.join(part(1))).unwrap();
    };
    let whole = fs::read(folder.join(part(1))).unwrap();
    again(&|_, _| ());
    assert!(fs::read(folder.join(part(1))).unwrap() == whole, "the helper changes nothing by itself");
    again(&|_, rows| rows.truncate(6));
    run(folder, "merge run -o m.h5")
        .code(2)
        .stderr(contains("it has 6 rows and 0 errors, and the plan has 7 images in this part"));
    fs::write(folder.join(part(1)), &whole).unwrap();
    again(&|_, rows| rows.swap(2, 3));
    run(folder, "merge run -o m.h5").code(2).stderr(contains("or has it in another place"));
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = files.filter(|name| name.starts_with("m.h5")).collect();
    assert!(left.is_empty(), "a merge that is refused leaves {left:?}");
    fs::write(folder.join(part(1)), &whole).unwrap();
    again(&|header, _| header.class_names.reverse());
    run(folder, "merge run -o m.h5").code(2).stderr(contains("its classes are not those of the plan"));
    fs::write(folder.join(part(1)), &whole).unwrap();
    again(&|header, _| "cuda:0".clone_into(&mut header.device));
    run(folder, "merge run -o m.h5").code(2).stderr(
        contains("on cpu").and(contains("on cuda:0")).and(contains("accept both with --allow-mixed")),
    );
    run(folder, "merge run -o m.h5 --allow-mixed").success();
    assert_eq!(FeatureFile::open(&folder.join("m.h5")).unwrap().header().device, "cpu + cuda:0");
}

fn start(folder: &Path, line: &str) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin("cnncodes"))
        .current_dir(folder)
        .args(line.split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn workers_that_are_killed_and_run_twice_lose_and_double_nothing() {
    let folder = workspace(40);
    let folder = folder.path();
    fs::write(folder.join("data/fish/0-bad.jpg"), "a letter").unwrap();
    run(folder, "plan --layer pool3,fc7 -o run --rows-per-part 9").success();
    let line = "extract --plan run --threads 1 --batch-size 2";
    let begin = Instant::now();
    run(folder, "plan --layer pool3,fc7 -o timed --rows-per-part 9").success();
    run(folder, "extract --plan timed --threads 1 --batch-size 2").code(1);
    let whole = begin.elapsed();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(22);
    for _ in 0..12 {
        let mut workers = [start(folder, line), start(folder, line)];
        std::thread::sleep(whole.mul_f64(random.random_range(0.0..0.5)));
        for worker in &mut workers {
            worker.kill().unwrap();
            worker.wait().unwrap();
        }
        // Every file that has its name is whole.
        let status = Plan::open(&folder.join("run")).unwrap().status().unwrap();
        assert_eq!((status.invalid.len(), status.strangers.len()), (0, 0));
    }
    let workers: Vec<Child> = (0..3).map(|_| start(folder, line)).collect();
    for worker in workers {
        let ended = worker.wait_with_output().unwrap();
        assert!(matches!(ended.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    assert_merged_is_whole(folder, "data", "--layer pool3,fc7");
}

#[cfg(unix)]
#[test]
fn a_full_disk_stops_a_worker_and_leaves_no_part() {
    let folder = planned();
    let folder = folder.path();
    // A limit of 16 kB for a file, which the parts exceed, stands for the full disk.
    let program = assert_cmd::cargo::cargo_bin("cnncodes");
    let line = format!("trap '' XFSZ; ulimit -f 16; exec {} extract --plan run", program.display());
    let ended = Command::new("bash").arg("-c").arg(line).current_dir(folder).output().unwrap();
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{error}");
    assert!(error.contains("cannot write") || error.contains("writing "), "{error}");
    let parts: Vec<_> =
        fs::read_dir(folder.join("run/parts")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(parts.is_empty(), "{parts:?}");
    run(folder, "extract --plan run").success();
    assert_merged_is_whole(folder, "data", "--layer fc7");
}

#[test]
fn a_virtual_file_holds_what_the_merged_one_holds() {
    let folder = workspace(6);
    let folder = folder.path();
    fs::write(folder.join("data/fish/0-bad.jpg"), "a letter").unwrap();
    run(folder, "plan --layer pool3,fc7 -o run --rows-per-part 7").success();
    run(folder, "extract --plan run").code(1);
    run(folder, "merge run -o merged.h5").code(1);
    run(folder, "merge run -o run/virtual.h5 --virtual")
        .code(1)
        .stdout(contains("24 images of 4 parts, 1 without features"));
    run(folder, "merge run -o run/virtual.h5 --virtual").code(2).stderr(contains("exists already"));
    let open = |name: &str| FeatureFile::open(&folder.join(name)).unwrap();
    let (merged, linked) = (open("merged.h5"), open("run/virtual.h5"));
    assert_eq!(merged.header(), linked.header());
    assert_eq!(merged.image_names(), linked.image_names());
    assert_eq!(
        (merged.labels(), merged.sha256(), merged.errors()),
        (linked.labels(), linked.sha256(), linked.errors())
    );
    for layer in ["pool3", "fc7"] {
        assert_eq!(merged.read_layer(Some(layer)).unwrap(), linked.read_layer(Some(layer)).unwrap());
    }
    run(folder, "fit-head --svm merged.h5 --layer fc7 -o a.head.h5").success();
    run(folder, "fit-head --svm run/virtual.h5 --layer fc7 -o b.head.h5").success();
    let weights = |name: &str| cnncodes::head::Head::load(&folder.join(name)).unwrap();
    assert_eq!(format!("{:?}", weights("a.head.h5").model), format!("{:?}", weights("b.head.h5").model));
}

#[cfg(feature = "parquet")]
#[test]
fn parts_become_parquet_files() {
    let folder = done();
    let folder = folder.path();
    run(folder, "merge run -o features --format parquet").success().stdout(contains("24 images of 4 parts"));
    run(folder, "merge run -o m.h5").success();
    let program = "import pandas, h5py, glob, numpy\n\
                   files = sorted(glob.glob('features/*.parquet'))\n\
                   assert files == [f'features/part-{n:06}.parquet' for n in range(4)], files\n\
                   table = pandas.concat([pandas.read_parquet(file) for file in files])\n\
                   with h5py.File('m.h5') as file:\n\
                   \x20   assert list(table['name']) == [name.decode() for name in file['image_names']]\n\
                   \x20   assert numpy.array_equal(numpy.stack(table['features']), file['features'][:])\n";
    python("parts_become_parquet_files", folder, program);
}
