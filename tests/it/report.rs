//! The report as `--report` writes it, and its map of the features against scikit-learn.

use std::io::Write;
use std::process::{Command, Stdio};

use cnncodes::features::FeatureFile;
use cnncodes::report::SimilarityMap;
use serde_json::{Value, json};

use crate::common::{cnncodes, workspace};

/// The page's data, as its script reads them.
fn data(html: &str) -> Value {
    let json = html.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    serde_json::from_str(json).unwrap()
}

#[test]
fn fit_head_and_evaluate_write_reports_that_say_what_they_print() {
    let folder = workspace(12);
    cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert().success();
    let output = cnncodes(folder.path())
        .args(["fit-head", "--svm", "--report", "out.html", "--format", "json"])
        .assert()
        .success();
    let evaluation: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let html = std::fs::read_to_string(folder.path().join("out.html")).unwrap();
    assert!(html.len() < 5_000_000);
    let value = |share: &Value| format!("{:.1} %", 100.0 * share.as_f64().unwrap());
    let accuracy = &evaluation["accuracy"];
    assert!(html.contains(&format!("<span class=\"number\">{}</span>", value(&accuracy["value"]))));
    assert!(html.contains("cnncodes fit-head --svm --report out.html --format json"), "the command");
    assert!(!html.contains("could not be read"), "all photos have thumbnails");

    let data = data(&html);
    let photos = data["photos"].as_array().unwrap();
    assert_eq!(photos.len(), 48);
    assert!(photos.iter().all(|photo| photo["jpeg"].as_str().unwrap().starts_with("/9j/")));
    let link = photos[0]["link"].as_str().unwrap();
    assert!(folder.path().join(link).is_file(), "{link}");
    let classes = evaluation["confusion"]["counts"].as_array().unwrap().len();
    for truth in 0..classes {
        for predicted in 0..classes {
            let found =
                photos.iter().filter(|photo| photo["label"] == truth && photo["predicted"] == predicted);
            assert_eq!(json!(found.count()), evaluation["confusion"]["counts"][truth][predicted]);
        }
    }
    assert_eq!(data["learning"]["points"].as_array().unwrap().last().unwrap()["accuracy"], *accuracy);

    let output = cnncodes(folder.path())
        .args(["evaluate", "data", "--report", "other.html", "--format", "json"])
        .assert()
        .success();
    let assessment: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let html = std::fs::read_to_string(folder.path().join("other.html")).unwrap();
    assert!(
        html.contains(&format!("<span class=\"number\">{}</span>", value(&assessment["accuracy"]["value"])))
    );
    assert!(html.contains("the head was fitted to 48 of these 48 images"));
}

#[test]
fn photos_that_are_gone_leave_gaps_and_a_word() {
    let folder = workspace(6);
    cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert().success();
    std::fs::remove_dir_all(folder.path().join("data/fish")).unwrap();
    cnncodes(folder.path()).args(["fit-head", "--logistic", "--report", "out.html"]).assert().success();
    let html = std::fs::read_to_string(folder.path().join("out.html")).unwrap();
    assert!(html.contains("6 of 24 photos could not be read in data"));
    let data = data(&html);
    let gaps = data["photos"].as_array().unwrap().iter().filter(|photo| photo["jpeg"].is_null());
    assert!(gaps.clone().all(|photo| photo["name"].as_str().unwrap().starts_with("fish/")));
    assert_eq!(gaps.count(), 6);
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_the_head_is_fitted() {
    let folder = workspace(5);
    cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert().success();
    cnncodes(folder.path())
        .args(["fit-head", "--svm", "--report", "nowhere/out.html"])
        .assert()
        .code(2)
        .stderr(predicates::str::contains("nowhere is not a folder; create it first"));
    assert!(!folder.path().join("models/demo-vgg-fc7-svm.head.h5").exists());
}

const JUDGE: &str = r#"
import json, sys
import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

given = json.load(sys.stdin)
features = np.array(given["features"], dtype=np.float64)
deviation = features.std(axis=0)
varying = deviation > 1e-6 * np.abs(features).max()
features = (features - features.mean(axis=0))[:, varying] / deviation[varying]
pca = PCA(50, svd_solver="full").fit(features)
scores = pca.transform(features)
print(json.dumps({
    "pca": scores[:, :2].tolist(),
    "explained": pca.explained_variance_ratio_[:2].tolist(),
    "trust": trustworthiness(scores, np.array(given["tsne"]), n_neighbors=10),
    "trust_of_sklearn": trustworthiness(
        scores, TSNE(perplexity=30, random_state=0).fit_transform(scores), n_neighbors=10
    ),
}))
"#;

#[test]
fn the_map_is_scikit_learns_pca_and_a_trustworthy_embedding() {
    let Some(python) = std::env::var_os("CNNCODES_PYTHON") else {
        eprintln!("SKIPPED: the_map_is_scikit_learns_pca: CNNCODES_PYTHON names no Python with scikit-learn");
        return;
    };
    let folder = workspace(30);
    cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert().success();
    let file = FeatureFile::open(&folder.path().join("features/demo-vgg-fc7.h5")).unwrap();
    let features = file.read_layer(None).unwrap();
    let labels: Vec<usize> = file.labels().iter().map(|&label| label as usize).collect();
    let map = SimilarityMap::draw(features.view(), &labels, 4).unwrap();
    let rows: Vec<Vec<f32>> = features.rows().into_iter().map(|row| row.to_vec()).collect();

    let mut judge = Command::new(python)
        .args(["-c", JUDGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let given = json!({ "features": rows, "tsne": map.tsne });
    judge.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = judge.wait_with_output().unwrap();
    assert!(output.status.success());
    let expected: Value = serde_json::from_slice(&output.stdout).unwrap();

    for axis in 0..2 {
        let theirs: Vec<f64> =
            expected["pca"].as_array().unwrap().iter().map(|row| row[axis].as_f64().unwrap()).collect();
        let largest = theirs.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        for (ours, theirs) in map.pca.iter().zip(&theirs) {
            assert!((ours[axis] - theirs).abs() < 1e-3 * largest, "{ours:?} {theirs}");
        }
        let share = expected["explained"][axis].as_f64().unwrap();
        assert!((map.explained[axis] - share).abs() < 1e-5, "{:?} {share}", map.explained);
    }
    let trust = expected["trust"].as_f64().unwrap();
    let of_sklearn = expected["trust_of_sklearn"].as_f64().unwrap();
    assert!(trust > of_sklearn - 0.03 && trust > 0.85, "{trust} {of_sklearn}");
}

#[test]
fn a_sweep_reports_all_layers_and_the_best_head() {
    let folder = workspace(12);
    let output = cnncodes(folder.path())
        .args(["sweep", "--layers", "pool3,pool5,fc7", "--pool", "avg", "--heads", "logistic,ridge"])
        .args(["--no-timing", "--report", "out.html", "--format", "json"])
        .assert()
        .success();
    let result: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let html = std::fs::read_to_string(folder.path().join("out.html")).unwrap();
    let shown = &data(&html)["layers"]["candidates"];
    let candidates = result["candidates"].as_array().unwrap();
    assert_eq!(shown.as_array().unwrap().len(), 6);
    let best = result["advice"]["best"].as_u64().unwrap() as usize;
    for (at, candidate) in candidates.iter().enumerate() {
        assert_eq!(shown[at]["accuracy"], candidate["accuracy"]);
        assert_eq!(shown[at]["codes"], candidate["codes"]);
        assert_eq!(shown[at]["head"], candidate["kind"]);
        assert_eq!(shown[at]["best"], json!(at == best));
    }
    let accuracy = 100.0 * candidates[best]["accuracy"]["value"].as_f64().unwrap();
    assert!(
        html.contains(&format!("<span class=\"number\">{accuracy:.1} %</span>")),
        "the best head's accuracy"
    );
    assert!(html.contains("<h2 id=\"layers-title\">"));
    for step in result["next"].as_array().unwrap() {
        assert!(html.contains(&format!("<dt>{}</dt>", step["what"].as_str().unwrap())), "{step}");
    }
}

#[test]
fn reports_show_what_speaks_for_doubtful_answers() {
    let folder = workspace(8);
    let overlays = |report: &str| -> Vec<bool> {
        let html = std::fs::read_to_string(folder.path().join(report)).unwrap();
        let data = data(&html);
        let photos = data["photos"].as_array().unwrap().iter();
        photos.map(|photo| photo["overlay"].as_str().is_some_and(|jpeg| jpeg.starts_with("/9j/"))).collect()
    };
    cnncodes(folder.path()).args(["extract", "--layer", "pool3", "--pool", "avg"]).assert().success();
    cnncodes(folder.path()).args(["fit-head", "--svm", "--report", "maps.html"]).assert().success();
    let shown = overlays("maps.html");
    assert!(shown[0] && shown.iter().filter(|&&shown| shown).count() >= 12, "{shown:?}");
    assert!(shown.contains(&false), "only of doubtful answers");

    cnncodes(folder.path()).args(["extract", "--layer", "fc7"]).assert().success();
    cnncodes(folder.path())
        .args(["fit-head", "features/demo-vgg-fc7.h5", "--svm", "--report", "dense.html"])
        .assert()
        .success();
    let shown = overlays("dense.html");
    assert!(shown.iter().filter(|&&shown| shown).count() >= 12, "by occlusion: {shown:?}");
    let html = std::fs::read_to_string(folder.path().join("dense.html")).unwrap();
    assert!(html.contains("yellow where covering a part of the photo"), "and the page says so");

    std::fs::rename(folder.path().join("models"), folder.path().join("elsewhere")).unwrap();
    cnncodes(folder.path())
        .args(["fit-head", "features/demo-vgg-pool3-avg.h5", "--svm", "--report", "alone.html"])
        .assert()
        .success();
    assert!(!overlays("alone.html").contains(&true), "the network is not at hand");
}
