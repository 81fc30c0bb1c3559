use super::super::{Advice, CandidateFeatures, Scenario};
use super::*;
use crate::evaluate::Note;

fn candidate(layer: &str, pooling: &str, multiply_adds: u64, kind: HeadKind, right: usize) -> CandidateHead {
    CandidateHead {
        features: CandidateFeatures {
            network: 0,
            layer: layer.to_owned(),
            tensor: layer.to_owned(),
            pooling: pooling.parse().unwrap(),
            default_pooling: crate::network::Pooling::None,
            name: format!("{layer}@{pooling}"),
            shape: vec![16],
            width: 16,
            multiply_adds,
            share: multiply_adds as f64 / 1e8,
            milliseconds: Some(multiply_adds as f64 / 1e7),
            top: layer == "fc7",
        },
        kind,
        c: (kind != HeadKind::Ridge).then_some(0.01),
        accuracy: Proportion::new(right, 100),
        fold_accuracies: vec![right as f64 / 100.0; 5],
        log_loss: 0.1,
        inner: Vec::new(),
        seconds: 0.5,
    }
}

fn result(similarity: Similarity) -> SweepResult {
    let selection =
        |right: usize, at: usize| Selection { accuracy: Proportion::new(right, 100), chosen: vec![at; 5] };
    SweepResult {
        source: "my photos".to_owned(),
        class_names: ["cats", "dogs"].map(String::from).to_vec(),
        class_sizes: vec![50, 50],
        rows: 100,
        groups: 98,
        folds: 5,
        seed: 0,
        chance: 0.5,
        networks: vec![NetworkSummary {
            name: "vgg16".to_owned(),
            sha256: String::new(),
            multiply_adds: 100_000_000,
            features_file: "features/vgg16-sweep.h5".to_owned(),
            layers: 2,
            top: "fc7".to_owned(),
            seconds: 1.0,
        }],
        candidates: vec![
            candidate("pool3", "avg", 20_000_000, HeadKind::Svm, 80),
            candidate("pool3", "avg", 20_000_000, HeadKind::Ridge, 70),
            candidate("fc7", "none", 99_000_000, HeadKind::Svm, 96),
            candidate("fc7", "none", 99_000_000, HeadKind::Ridge, 97),
        ],
        advice: Advice {
            best: 3,
            cheapest: 3,
            as_good: vec![2, 3],
            selection: selection(96, 3),
            learned: true,
            scenario: Scenario {
                similarity,
                size: DatasetSize::Small,
                images_per_class: 49,
                network: 0,
                top: Some(selection(96, 3)),
                earlier: Some(selection(80, 0)),
                difference: Some(Difference {
                    only_first: 1,
                    only_second: 17,
                    value: -0.16,
                    low: -0.24,
                    high: -0.07,
                }),
                images_to_tell: Some(300),
            },
        },
        next: vec![NextStep {
            what: "the features of fc7 alone".to_owned(),
            arguments: ["extract", "my photos", "--layer", "fc7"].map(String::from).to_vec(),
        }],
        duplicates: Vec::new(),
        notes: vec![Note::info("all is well")],
    }
}

#[test]
fn the_text_is_aligned_and_says_what_to_do() {
    let text = result(Similarity::Similar).to_text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "vgg16: 2 layers, 100 million multiply-adds for an image",
            " layer  pooling  features    cost   ms     svm   ridge     95 % interval",
            " pool3      avg        16  20.0 %  2.0  80.0 %  70.0 %  71.1 % to 86.7 %",
            " fc7          -        16  99.0 %  9.9  96.0 %  97.0 %  91.5 % to 99.0 %  <- best",
        ]
    );
    for line in [
        "Your images, for vgg16: small and similar",
        "earlier layers 80.0 %, top features 96.0 %; earlier minus top -16.0 points, 95 % interval -24.0 to \
         -7.0",
        "Best: fc7 with ridge, accuracy 97.0 %",
        "96.0 % (96 of 100), 95 % interval 90.2 % to 98.4 %",
        "No cheaper layer comes within one standard error of it",
        "  # the features of fc7 alone\n  cnncodes extract 'my photos' --layer fc7\n",
        "note: all is well",
    ] {
        assert!(text.contains(line), "{line:?} is missing from\n{text}");
    }
}

#[test]
fn a_table_keeps_within_the_terminals_width() {
    let mut result = result(Similarity::Similar);
    for candidate in &mut result.candidates {
        if candidate.features.layer == "fc7" {
            candidate.features.layer = "global_average_pooling2d".to_owned();
        }
    }
    let table = |width: usize| -> Vec<String> {
        result.to_text_within(width).lines().skip(1).take(3).map(str::to_owned).collect()
    };
    assert_eq!(
        table(100),
        [
            " layer                     pooling  features    cost   ms     svm   ridge     95 % interval",
            " pool3                         avg        16  20.0 %  2.0  80.0 %  70.0 %  71.1 % to 86.7 %",
            " global_average_pooling2d        -        16  99.0 %  9.9  96.0 %  97.0 %  91.5 % to 99.0 %  <- best",
        ]
    );
    assert_eq!(
        table(81),
        [
            " layer                 pooling    cost     svm   ridge     95 % interval",
            " pool3                     avg  20.0 %  80.0 %  70.0 %  71.1 % to 86.7 %",
            " global_ave…pooling2d        -  99.0 %  96.0 %  97.0 %  91.5 % to 99.0 %  <- best",
        ]
    );
    assert_eq!(
        table(54),
        [
            " layer        pooling    cost     svm   ridge",
            " pool3            avg  20.0 %  80.0 %  70.0 %",
            " globa…ing2d        -  99.0 %  96.0 %  97.0 %  <- best",
        ]
    );
}

#[test]
fn other_scenarios_are_told_apart() {
    assert!(
        result(Similarity::Different)
            .to_text()
            .contains("small and different\n  use a linear head on an earlier")
    );
    let undecided = result(Similarity::Undecided).to_text();
    assert!(undecided.contains("too few to decide"), "{undecided}");
    assert!(undecided.contains("about 300 images would decide it"), "{undecided}");
    let mut unlearned = result(Similarity::Undecided);
    unlearned.advice.learned = false;
    assert!(unlearned.to_text().contains("no head does better than chance"));
}

#[test]
fn a_cheaper_layer_that_is_as_good_is_told_with_its_cost() {
    let mut result = result(Similarity::Similar);
    result.advice.cheapest = 0;
    let text = result.to_text();
    assert!(
        text.contains("pool3 (avg) with svm, C = 0.01, accuracy 80.0 %, 20.2 % of the best one's"),
        "{text}"
    );
    assert!(text.contains("<- cheapest"), "{text}");
}

#[test]
fn json_keeps_everything() {
    let before = result(Similarity::Similar);
    let json = serde_json::to_string(&before).unwrap();
    assert_eq!(serde_json::from_str::<SweepResult>(&json).unwrap(), before);
}

#[test]
fn arguments_are_quoted_where_a_shell_needs_it() {
    let arguments = ["a/b.h5", "two words", "it's", "", "$HOME"].map(String::from);
    assert_eq!(quoted(&arguments), r"a/b.h5 'two words' 'it'\''s' '' '$HOME'");
}
