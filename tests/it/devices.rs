//! What the network runs on: recorded, and never quietly another device than was asked for.

use cnncodes::codes::CodesFile;
use predicates::prelude::*;
use predicates::str::contains;

use crate::common::{cnncodes, workspace};

#[test]
fn the_device_is_recorded_and_auto_says_what_it_chose() {
    let folder = workspace(5);
    cnncodes(folder.path())
        .args(["extract", "--device", "cpu", "--threads", "1", "-o", "cpu.h5"])
        .assert()
        .success()
        .stdout(contains("on cpu"));
    let cpu = CodesFile::open(&folder.path().join("cpu.h5")).unwrap();
    assert_eq!((cpu.header().device.as_str(), cpu.header().precision.as_str()), ("cpu", "fp32"));
    assert!(cpu.header().runtime.starts_with("ONNX Runtime 1."), "{}", cpu.header().runtime);
    cnncodes(folder.path()).args(["extract", "-o", "auto.h5"]).assert().success();
    let auto = CodesFile::open(&folder.path().join("auto.h5")).unwrap();
    assert!(["cpu", "cuda:0"].contains(&auto.header().device.as_str()), "{}", auto.header().device);
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_says_what_is_missing() {
    let folder = workspace(5);
    for (device, recorded, remedy) in [
        ("cuda", "cuda:0", "scripts/setup --cuda"),
        ("cuda:7", "cuda:7", "scripts/setup --cuda"),
        ("openvino", "openvino", "scripts/setup --openvino"),
    ] {
        let assert = cnncodes(folder.path()).args(["extract", "--device", device, "-o", "codes.h5"]).assert();
        if assert.get_output().status.success() {
            let codes = CodesFile::open(&folder.path().join("codes.h5")).unwrap();
            assert_eq!(codes.header().device, recorded, "it was there, so it must have been used");
        } else {
            // Either the library was built without the provider, or the provider lacks its own libraries.
            assert
                .code(2)
                .stderr(contains(format!("{recorded} cannot be used")))
                .stderr(contains(remedy).or(contains("it needs")));
            assert!(!folder.path().join("codes.h5").exists());
        }
    }
}

#[test]
fn reduced_precision_is_refused_where_it_is_not_to_be_had() {
    let folder = workspace(5);
    cnncodes(folder.path())
        .args(["extract", "--device", "cpu", "--precision", "bf16"])
        .assert()
        .code(2)
        .stderr(contains("bf16 needs --device openvino"));
    for arguments in [["--device", "tpu"], ["--precision", "fp16"]] {
        cnncodes(folder.path()).arg("extract").args(arguments).assert().code(2).stderr(contains("choose"));
    }
}
