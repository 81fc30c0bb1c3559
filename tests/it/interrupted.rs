//! Runs of `extract` that are killed or told to stop, and inputs that fail in every way at once.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cnncodes::dataset::Dataset;
use cnncodes::features::FeatureFile;
use cnncodes::images::DecodeOptions;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::common::{cnncodes, fixture, workspace};

const OUTPUT: &str = "features.h5";

fn start(folder: &Path, output: &str) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin("cnncodes"))
        .current_dir(folder)
        .args(["extract", "--layer", "pool3,fc7", "--batch-size", "2", "--threads", "2", "-o", output])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Asserts that two files hold the same in everything that h5diff looks at.
fn assert_same(folder: &Path, a: &str, b: &str) {
    let open = |name: &str| FeatureFile::open(&folder.join(name)).unwrap();
    let (a, b) = (open(a), open(b));
    assert_eq!(a.header(), b.header());
    assert_eq!(a.image_names(), b.image_names());
    assert_eq!((a.labels(), a.sha256(), a.errors()), (b.labels(), b.sha256(), b.errors()));
    for layer in a.layers() {
        let read = |file: &FeatureFile| file.read_layer(Some(&layer.spec.layer)).unwrap().mapv(f32::to_bits);
        assert!(read(&a) == read(&b), "{} differs", layer.spec.layer);
    }
}

#[test]
fn a_run_that_is_killed_twenty_times_ends_with_the_same_file() {
    let folder = workspace(60);
    let folder = folder.path();
    fs::write(folder.join("data/fish/0-bad.jpg"), "a letter").unwrap();
    let begin = Instant::now();
    assert_eq!(start(folder, "whole.h5").wait().unwrap().code(), Some(1));
    let whole = begin.elapsed();

    let mut random = Xoshiro256PlusPlus::seed_from_u64(20);
    let (mut kills, mut resumed) = (0, false);
    while kills < 20 {
        let mut child = start(folder, OUTPUT);
        std::thread::sleep(whole.mul_f64(random.random_range(0.0..1.3)));
        child.kill().unwrap();
        let ended = child.wait_with_output().unwrap();
        if ended.status.code().is_some() {
            // It was done before; the next begins anew.
            assert_eq!(ended.status.code(), Some(1), "{}", String::from_utf8_lossy(&ended.stderr));
            resumed |= String::from_utf8_lossy(&ended.stdout).contains("kept from an interrupted run");
            assert_same(folder, OUTPUT, "whole.h5");
            fs::remove_file(folder.join(OUTPUT)).unwrap();
        } else {
            kills += 1;
            // The kill may have come after the renaming.
            if folder.join(OUTPUT).exists() {
                assert_same(folder, OUTPUT, "whole.h5");
                fs::remove_file(folder.join(OUTPUT)).unwrap();
            }
        }
    }
    assert_eq!(start(folder, OUTPUT).wait().unwrap().code(), Some(1));
    assert_same(folder, OUTPUT, "whole.h5");
    if !resumed {
        eprintln!("no kill left rows to go on from: this machine runs the whole extraction within a second");
    }
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: sends a signal to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_done_and_the_same_command_goes_on() {
    let folder = workspace(60);
    let folder = folder.path();
    assert!(start(folder, "whole.h5").wait().unwrap().success());
    let child = start(folder, OUTPUT);
    let partial = folder.join("features.h5.partial");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !partial.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    interrupt(&child);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("stopping after") && said.contains("of 240 images are done"), "{said}");
    assert!(said.contains("the same command resumes"), "{said}");
    assert!(!folder.join(OUTPUT).exists() && partial.exists());
    let ended = start(folder, OUTPUT).wait_with_output().unwrap();
    assert!(ended.status.success());
    assert_same(folder, OUTPUT, "whole.h5");
}

/// A PNG whose header says that it is enormous, and is sound.
fn bomb(png: &[u8]) -> Vec<u8> {
    let mut bytes = png.to_vec();
    bytes[16..20].copy_from_slice(&30_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&30_000_u32.to_be_bytes());
    let crc = crate::common::png_crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[cfg(unix)]
#[test]
fn a_thousand_images_of_which_a_hundred_are_damaged_give_900_features_and_100_reasons() {
    let folder = workspace(25);
    let folder = folder.path();
    let (data, many) = (folder.join("data"), folder.join("many"));
    let drawn: Vec<_> = Dataset::from_folder(&data).unwrap().samples.iter().map(|s| s.file()).collect();
    assert_eq!(drawn.len(), 100);
    fs::create_dir_all(many.join("things")).unwrap();
    for number in 0..900 {
        fs::copy(&drawn[number % 100], many.join(format!("things/{number:03}-good.jpg"))).unwrap();
    }
    let png = fs::read(fixture("fixtures/images/png_rgb.png")).unwrap();
    let idat = png.windows(4).position(|kind| kind == b"IDAT").unwrap();
    let mut reasons = std::collections::BTreeMap::new();
    for number in 0..10 {
        let jpeg = fs::read(&drawn[number * 7]).unwrap();
        let mut bad_sum = png.clone();
        bad_sum[idat + 10 + number] ^= 0x55;
        let mut noise = jpeg.clone();
        let scan = jpeg.windows(2).position(|marker| marker == [0xFF, 0xDA]).unwrap() + 20;
        noise[scan..].iter_mut().step_by(3).for_each(|byte| *byte = byte.wrapping_mul(31) | 1);
        let html = "<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n";
        for (kind, name, bytes, reason) in [
            ("cut-jpeg", "jpg", jpeg[..jpeg.len() * (number + 1) / 12].to_vec(), "cut-off JPEG"),
            ("cut-png", "png", png[..png.len() - 5 - number].to_vec(), "PNG"),
            ("empty", "jpg", Vec::new(), "empty (0 bytes)"),
            ("text", "jpg", format!("Dear Sir {number},").into_bytes(), "looks like text"),
            ("html", "jpg", html.as_bytes().to_vec(), "web page (HTML)"),
            ("zeros", "jpg", vec![0; 100 + number], "starts with zeros"),
            ("sum", "png", bad_sum, "damaged or cut-off PNG"),
            ("noise", "jpg", noise, "JPEG"),
            ("bomb", "png", bomb(&png), "--max-pixels"),
            ("dangling", "jpg", Vec::new(), "dangling link"),
        ] {
            let file = format!("things/{:03}-{kind}.{name}", number * 90);
            if kind == "dangling" {
                std::os::unix::fs::symlink("nowhere.jpg", many.join(&file)).unwrap();
            } else {
                fs::write(many.join(&file), bytes).unwrap();
            }
            assert_eq!(reasons.insert(file, reason), None);
        }
    }
    assert_eq!(reasons.len(), 100);
    cnncodes(folder).args(["extract", "many", "--layer", "fc7", "-o", OUTPUT]).assert().code(1);
    let file = FeatureFile::open(&folder.join(OUTPUT)).unwrap();
    assert_eq!(file.rows(), 900);
    assert!(file.image_names().iter().zip(0..).all(|(name, n)| *name == format!("things/{n:03}-good.jpg")));
    assert_eq!(file.errors().len(), 100);
    for error in file.errors() {
        let expected = reasons.remove(error.name.as_str());
        assert!(
            expected.is_some_and(|expected| error.reason.contains(expected)),
            "{error:?}, not {expected:?}"
        );
    }
    assert_eq!(reasons, Default::default());
    // Copies of one picture have the same features.
    let features = file.read_layer(None).unwrap();
    for row in 100..900 {
        assert_eq!(features.row(row), features.row(row % 100), "row {row}");
    }
    assert_eq!(DecodeOptions::default().max_pixels, 250_000_000, "what the bomb exceeds");
}
