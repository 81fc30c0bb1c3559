use ndarray::{Array2, array};
use serde_json::Value;

use super::*;
use crate::dataset::{Duplicates, Likeness};
use crate::evaluate::{Assessment, Difference, LabelledPredictions, SuspectEvidence};
use crate::explain::ExplainMethod;
use crate::head::{FitSettings, HeadKind, TrainingData, fit_head};

/// Names that would be markup, end a script, or turn the text around.
const HOSTILE: [&str; 4] = [
    "a/<img src=x onerror=alert(1)>.jpg",
    "a/</script><script>alert(2)</script>.jpg",
    "b/\"onmouseover='alert(3)' &amp;.jpg",
    "b/\u{202e}gpj.javascript:alert(4).jpg",
];

struct Hostile {
    class_names: Vec<String>,
    names: Vec<String>,
    probabilities: Array2<f64>,
}

impl Hostile {
    fn new() -> Self {
        Self {
            class_names: ["<b>&\"cats\"", "כלבים"].map(String::from).to_vec(),
            names: HOSTILE.map(String::from).to_vec(),
            probabilities: array![[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]],
        }
    }

    fn html(&self, photos: Photos) -> String {
        self.explained_by(ExplainMethod::ActivationMap, photos)
    }

    fn explained_by(&self, method: ExplainMethod, photos: Photos) -> String {
        let labels = [0, 0, 1, 1];
        let judged = LabelledPredictions {
            class_names: &self.class_names,
            names: &self.names,
            labels: &labels,
            probabilities: self.probabilities.view(),
            predicted: &[0, 1, 1, 0],
            unknown: None,
            covered: None,
            trained_on: &[false; 4],
        };
        let duplicates =
            Duplicates::find(&["1", "", "1", ""].map(String::from), &[], Likeness::None).unwrap();
        let evidence = SuspectEvidence {
            class_names: &self.class_names,
            names: &self.names,
            labels: &labels,
            probabilities: self.probabilities.view(),
            predicted: &[0, 1, 1, 0],
            distances: &[0.1, 0.2, 0.3, 0.4],
            duplicates: &duplicates,
        };
        let report = Report {
            title: "SVM head on <fc7>".to_owned(),
            subtitle: "4 photos".to_owned(),
            class_names: &self.class_names,
            names: &self.names,
            labels: &labels,
            probabilities: self.probabilities.view(),
            predicted: &[0, 1, 1, 0],
            photos,
            overlays: Some(Overlays {
                method,
                pictures: [(1, image::RgbImage::new(8, 4))].into(),
                left_out: 2,
            }),
            layers: None,
            figures: Figures::from(&Assessment::new(&judged, 10)),
            learning: None,
            suspects: Some(Suspects::rank(&evidence, 4)),
            duplicates: &duplicates.sets,
            map: SimilarityMap::draw(
                array![[0.0f32, 1.0], [1.0, 0.0], [2.0, 2.0], [0.0, 3.0]].view(),
                &labels,
                2,
            ),
            provenance: vec![NamedValue::code("command", "cnncodes fit-head '<x>'")],
        };
        let date = jiff::Timestamp::from_second(1_795_500_000).unwrap();
        report.html(std::path::Path::new("."), &date, |_, _| ()).unwrap()
    }
}

/// The page's data, as its script reads them.
fn data(html: &str) -> Value {
    let start = html.find("<script type=\"application/json\" id=\"data\">").unwrap();
    let json = &html[start..];
    let json = &json[json.find('>').unwrap() + 1..];
    serde_json::from_str(&json[..json.find("</script>").unwrap()]).unwrap()
}

#[test]
fn hostile_names_stay_text() {
    let html = Hostile::new().html(Photos::below("nowhere"));
    let (before, rest) = html.split_once("id=\"data\">").unwrap();
    let (json, after) = rest.split_once("</script>").unwrap();
    assert!(!json.contains('<'));
    let markup_alone = format!("{before}{after}");
    for markup in
        ["<img src=x", "<script>alert", "<b>&\"cats", "onmouseover='alert(3)' &amp;.jpg\"", "<fc7>", "<x>"]
    {
        assert!(!markup_alone.contains(markup), "{markup:?} came through");
    }
    assert_eq!(html.matches("</script>").count(), 3, "the data, the library and the script");
    let data = data(&html);
    let names: Vec<&str> =
        data["photos"].as_array().unwrap().iter().map(|photo| photo["name"].as_str().unwrap()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    let mut expected = HOSTILE;
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(data["classes"][0], "<b>&\"cats\"");
}

#[test]
fn the_page_says_what_the_second_picture_shows() {
    let hostile = Hostile::new();
    let photos = || Photos::below("nowhere");
    let (map, occlusion) = (hostile.html(photos()), hostile.explained_by(ExplainMethod::Occlusion, photos()));
    assert!(map.contains("in the head fitted to all photos: yellow the most, dark violet"));
    assert!(
        occlusion.contains("yellow where covering a part of the photo lowers the answer&#39;s score most")
    );
    assert!(occlusion.contains("so 2 photos have none."), "as many were left out");
    // The second photo, a mistake, has a picture; the suspects beside the mistakes have none.
    assert_eq!(occlusion.matches("class=\"explained\"").count(), 1);
    assert_eq!(
        data(&occlusion)["photos"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|photo| photo["overlay"].is_string())
            .count(),
        1
    );
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let html = Hostile::new().html(Photos::below("nowhere"));
    for load in ["src=\"http", "href=\"http", "src=\"//", "@import", "url(", "<link", "<iframe"] {
        let markup = html.replace(include_str!("vendor/plot.min.js"), "");
        assert!(!markup.contains(load), "{load:?}");
    }
    let policy =
        html.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(policy.starts_with("default-src 'none'; img-src data:; "), "{policy}");
    assert!(!policy.contains("script-src 'unsafe-inline'"), "{policy}");
}

#[test]
fn the_policy_allows_the_two_scripts_by_their_hashes() {
    use base64::Engine;
    use sha2::Digest;
    let html = Hostile::new().html(Photos::below("nowhere"));
    let scripts: Vec<&str> =
        html.split("<script>").skip(1).map(|rest| rest.split("</script>").next().unwrap()).collect();
    assert_eq!(scripts.len(), 2);
    for script in scripts {
        let hash = base64::prelude::BASE64_STANDARD.encode(sha2::Sha256::digest(script));
        assert!(
            html.contains(&format!("&#39;sha256-{hash}&#39;")) || html.contains(&format!("'sha256-{hash}'"))
        );
    }
}

#[test]
fn figures_and_sentences_are_on_the_page() {
    let html = Hostile::new().html(Photos::below("nowhere"));
    for part in [
        "50.0 %</span>",
        "2 of 4 photos were classified correctly",
        "<strong>15.0 %</strong> and <strong>85.0 %</strong>",
        "aria-label=\"1 of 2 &#60;b&#62;&#38;&#34;cats&#34; taken for כלבים\"",
        "2 of 2 photos classified wrongly: all of them",
        "2 photos are duplicates of one another, in 1 set",
        "4 of 4 photos could not be read in nowhere",
    ] {
        assert!(html.contains(part), "{part:?} is missing");
    }
    let data = data(&html);
    // The surest mistake comes first.
    assert_eq!(data["photos"][0]["name"], HOSTILE[1]);
    assert_eq!(data["photos"][0]["claim"], 0.8);
    assert_eq!(data["photos"][0]["own"], 0.2);
    assert_eq!(data["map"]["tsne"], Value::Null);
}

#[test]
fn links_are_relative_and_cannot_be_a_scheme() {
    let photos = Photos::below("data/pets");
    let link = |name| photos.link(name, std::path::Path::new("out")).unwrap();
    assert_eq!(link("cats/a b.jpg"), "../data/pets/cats/a%20b.jpg");
    assert_eq!(link("javascript:alert(1)"), "../data/pets/javascript%3Aalert%281%29");
    assert_eq!(link("ä\"<.jpg"), "../data/pets/%C3%A4%22%3C.jpg");
    let here = Photos::below(".");
    assert_eq!(here.link("x:y.jpg", std::path::Path::new(".")).unwrap(), "./x%3Ay.jpg");
}

#[test]
fn photos_of_features_are_found_from_the_file_of_features() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("pictures/cats")).unwrap();
    std::fs::write(folder.path().join("pictures/list.csv"), "path,label\n").unwrap();
    let features = folder.path().join("features/x.h5");
    for source in ["pictures", "pictures/list.csv"] {
        assert_eq!(Photos::of_features(source, &features).root(), folder.path().join("pictures"));
    }
    assert_eq!(Photos::of_features("gone", &features).root(), std::path::Path::new("gone"));
}

#[test]
fn thumbnails_are_small_upright_and_within_the_limit() {
    use base64::Engine;
    let photos = Photos::below(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images"));
    // `tall.jpg` is 60 x 600; the sixth EXIF orientation turns a picture by a quarter.
    let names = ["scene.jpg", "tall.jpg", "jpeg_exif_6.jpg", "missing.jpg"];
    let made = Thumbnails::make(&photos, &names, 1, 1 << 20, |_| ());
    assert_eq!((made.unreadable, made.left_out), (1, 0));
    assert_eq!(made.jpegs[3], None);
    let size = |index: usize| {
        let jpeg = base64::prelude::BASE64_STANDARD.decode(made.jpegs[index].as_ref().unwrap()).unwrap();
        let picture = crate::images::decode(&jpeg, &Default::default()).unwrap();
        (picture.width(), picture.height())
    };
    let original = |name: &str| {
        let bytes = std::fs::read(photos.path(name)).unwrap();
        let picture = crate::images::decode(&bytes, &Default::default()).unwrap();
        (picture.width(), picture.height())
    };
    let fitted = |name: &str, side: u32| {
        let (width, height) = original(name);
        let scale = (f64::from(side) / f64::from(width.max(height))).min(1.0);
        let scaled = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
        (scaled(width), scaled(height))
    };
    assert_eq!(size(0), fitted("scene.jpg", 176));
    assert_eq!(size(1), fitted("tall.jpg", 80));
    assert_eq!(size(2), original("jpeg_exif_6.jpg"), "smaller than a thumbnail, it stays as it is");

    let limit = made.jpegs[0].as_ref().unwrap().len();
    let limited = Thumbnails::make(&photos, &names, 1, limit, |_| ());
    assert_eq!(limited.jpegs[0], made.jpegs[0]);
    assert_eq!((limited.jpegs[1].as_ref(), limited.left_out), (None, 2));
}

/// Two classes that the first column tells apart, more surely with more rows; rows 2k and 2k + 1 are copies.
fn noisy(rows: usize) -> (Array2<f32>, Vec<usize>, Vec<usize>) {
    use rand::{Rng, SeedableRng};
    let mut random = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(3);
    let labels: Vec<usize> = (0..rows).map(|row| row / 2 % 2).collect();
    let mut features = Array2::from_shape_fn((rows, 30), |_| random.random_range(-1.0..1.0));
    for row in 0..rows {
        features[[row, 0]] += labels[row] as f32 * 1.2;
        if row % 2 == 1 {
            for column in 0..30 {
                features[[row, column]] = features[[row - 1, column]];
            }
        }
    }
    (features, labels, (0..rows).map(|row| row / 2).collect())
}

#[test]
fn the_learning_curve_ends_in_the_accuracy_of_the_head() {
    let (features, labels, groups) = noisy(240);
    let class_names = ["a", "b"].map(String::from);
    let data = TrainingData {
        features: features.view(),
        labels: &labels,
        class_names: &class_names,
        groups: Some(&groups),
        row_names: None,
    };
    let settings = FitSettings::new(HeadKind::Logistic);
    let fitted = fit_head(&data, &settings).unwrap();
    let mut told = Vec::new();
    let curve =
        LearningCurve::measure(&data, &settings, &fitted.out_of_fold, |done, total| told.push((done, total)))
            .unwrap();
    let last = curve.points.last().unwrap();
    assert_eq!(last.accuracy, fitted.evaluation.accuracy);
    // 240 rows are 120 photos, 60 a class, of which four fifths are trained on.
    let sizes: Vec<f64> = curve.points.iter().map(|point| point.per_class).collect();
    assert_eq!(sizes, [3.0, 6.0, 12.0, 24.0, 48.0]);
    let first = curve.points[0].accuracy.value;
    assert!(first > 0.5 && last.accuracy.value > first + 0.1, "{curve:?}");
    assert_eq!(told.len(), 20);
    assert_eq!(LearningCurve::measure(&data, &settings, &fitted.out_of_fold, |_, _| ()), Some(curve));
}

#[test]
fn too_few_photos_make_no_learning_curve() {
    let (features, labels, groups) = noisy(16);
    let class_names = ["a", "b"].map(String::from);
    let data = TrainingData {
        features: features.view(),
        labels: &labels,
        class_names: &class_names,
        groups: Some(&groups),
        row_names: None,
    };
    let settings = FitSettings { folds: 2, ..FitSettings::new(HeadKind::Logistic) };
    let fitted = fit_head(&data, &settings).unwrap();
    assert_eq!(LearningCurve::measure(&data, &settings, &fitted.out_of_fold, |_, _| ()), None);
}

#[test]
fn the_verdict_follows_the_interval_of_the_last_doubling() {
    let verdict = |won, lost, trials| {
        let point =
            |per_class| LearningPoint { per_class, accuracy: crate::evaluate::Proportion::new(9, 10) };
        LearningCurve { points: vec![point(10.0), point(20.0)], gain: Difference::paired(won, lost, trials) }
            .verdict()
    };
    assert!(verdict(30, 2, 500).starts_with("More photos would probably help."));
    assert!(verdict(3, 4, 2000).starts_with("More photos of the same kind would hardly help."));
    assert!(verdict(3, 2, 100).starts_with("There are too few photos to decide"));
    assert!(
        verdict(3, 4, 2000)
            .contains("Going from 10 to 20 different photos per class changed the accuracy by −0.05 points"),
        "{}",
        verdict(3, 4, 2000)
    );
}

#[test]
fn classes_that_lie_apart_lie_apart_on_the_map() {
    let (rows, columns) = (90, 12);
    let labels: Vec<usize> = (0..rows).map(|row| row % 3).collect();
    let (noise, ..) = noisy(rows);
    let features = Array2::from_shape_fn((rows, columns), |(row, column)| {
        noise[[row, column]] + if column % 3 == labels[row] { 6.0 } else { 0.0 }
    });
    let map = SimilarityMap::draw(features.view(), &labels, 4).unwrap();
    assert_eq!(map.rows, (0..rows).collect::<Vec<_>>());
    assert_eq!(map.own_neighbours, [Some(1.0), Some(1.0), Some(1.0), None]);
    for places in [&map.pca, map.tsne.as_ref().unwrap()] {
        for row in 0..rows {
            let distance = |other: &usize| {
                (places[row][0] - places[*other][0]).powi(2) + (places[row][1] - places[*other][1]).powi(2)
            };
            let others = (0..rows).filter(|&other| other != row);
            let nearest = others.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap();
            assert_eq!(labels[nearest], labels[row]);
        }
    }
    assert_eq!(
        SimilarityMap::draw(features.view(), &labels, 4).unwrap(),
        map,
        "the same features give the same map"
    );
}

#[test]
fn there_is_no_map_of_nothing() {
    assert_eq!(SimilarityMap::draw(Array2::zeros((20, 5)).view(), &[0; 20], 1), None);
    assert_eq!(SimilarityMap::draw(array![[1.0f32], [2.0]].view(), &[0, 0], 1), None);
}
