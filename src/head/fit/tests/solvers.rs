//! Heads with a kernel, and heads of linfa's solvers.

use super::*;

/// Two classes, one inside the other, which no linear head can tell apart.
fn rings() -> Example {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    let labels: Vec<usize> = (0..120).map(|i| i % 2).collect();
    let features = Array2::from_shape_fn((120, 2), |(i, j)| {
        let angle = i as f32 * 0.7;
        let direction = if j == 0 { angle.sin() } else { angle.cos() };
        (1.0 + 2.0 * labels[i] as f32) * direction + rng.random_range(-0.4..0.4)
    });
    Example { features, labels, class_names: ["inner", "outer"].map(String::from).to_vec() }
}

#[test]
fn a_kernel_tells_apart_what_no_line_can_and_is_calibrated_without_its_own_rows() {
    let example = rings();
    let linear = example.fit(HeadKind::Svm).evaluation.accuracy.value;
    let fitted = fit_head(&example.data(), &with_kernel()).unwrap();
    let evaluation = &fitted.evaluation;
    assert!(linear < 0.7 && evaluation.accuracy.value > 0.97, "{linear} {}", evaluation.to_text());
    assert_eq!(evaluation.notes, []);
    let model = &fitted.model;
    let Some(Kernel::Rbf { gamma: Some(gamma) }) = model.kernel.as_ref().map(|map| map.kernel()) else {
        panic!()
    };
    // 2 standardised columns of variance 1.
    assert!((gamma - 0.5).abs() < 1e-6, "{gamma}");
    assert_eq!(model.predict(example.features.view()).unwrap(), example.labels);
    let calibration = model.probabilities(example.features.view()).unwrap();
    assert!(calibration.rows().into_iter().all(|row| (row.sum() - 1.0).abs() < 1e-12));
}

#[test]
fn features_of_any_size_and_constant_columns_give_the_same_kernel_head() {
    let example = Example::new(30, 3);
    let reference = fit_head(&example.data(), &with_kernel()).unwrap().evaluation.confusion;
    for factor in [1e-6f32, 1e6] {
        let mut features = Array2::from_elem((90, 27), 7.0f32);
        features.slice_mut(s![.., 3..]).assign(&(&example.features * factor));
        let data = TrainingData { features: features.view(), ..example.data() };
        assert_eq!(fit_head(&data, &with_kernel()).unwrap().evaluation.confusion, reference);
    }
}

#[test]
fn a_kernel_takes_tuning_and_few_rows_but_neither_weights_nor_many_rows() {
    let example = rings();
    let settings = FitSettings { tuning: Some(Tuning::new(vec![1.0, 1e-7])), ..with_kernel() };
    let tuned = fit_head(&example.data(), &settings).unwrap();
    let chosen = tuned.model.settings.c;
    assert!([Some(1.0), Some(1e-7)].contains(&chosen));
    let plain = FitSettings { c: chosen, ..with_kernel() };
    assert_eq!(fit_head(&example.data(), &plain).unwrap().model.weights, tuned.model.weights);
    assert!(tuned.evaluation.accuracy.value > 0.97, "{}", tuned.evaluation.to_text());
    // A class that is missing from a training fold has no say in it.
    let groups: Vec<usize> = (0..120).map(|i| if i % 2 == 1 { 1000 } else { i }).collect();
    let data = TrainingData { groups: Some(&groups), ..example.data() };
    assert_eq!(fit_head(&data, &with_kernel()).unwrap().evaluation.per_class[1].recall, 0.0);

    let refused =
        |data: &TrainingData<'_>, settings: &FitSettings| fit_head(data, settings).unwrap_err().to_string();
    let weighted = FitSettings { class_weights: ClassWeights::Balanced, ..with_kernel() };
    assert!(refused(&example.data(), &weighted).starts_with("class weights cannot have a kernel"));
    let logistic = FitSettings { kernel: RBF, ..FitSettings::new(HeadKind::Logistic) };
    assert!(refused(&example.data(), &logistic).contains("only an SVM"));
    let many = Example {
        features: Array2::zeros((10_001, 1)),
        labels: (0..10_001).map(|i| i % 2).collect(),
        ..rings()
    };
    let said = refused(&many.data(), &with_kernel());
    assert!(said.contains("10001 images are more than the 10000") && said.contains("square"), "{said}");
}

fn by_linfa(kind: HeadKind) -> FitSettings {
    FitSettings { solver: Engine::Linfa, ..FitSettings::new(kind) }
}

#[test]
#[cfg(feature = "linfa-engines")]
fn heads_of_linfa_are_nearly_as_accurate_as_ours_and_calibrated_and_record_their_solver() {
    let example = Example::new(40, 3);
    for kind in [HeadKind::Svm, HeadKind::Logistic] {
        let ours = example.fit(kind);
        let fitted = fit_head(&example.data(), &by_linfa(kind)).unwrap();
        let evaluation = &fitted.evaluation;
        let difference = evaluation.accuracy.value - ours.evaluation.accuracy.value;
        assert!(difference.abs() < 0.05 && evaluation.accuracy.value > 0.8, "{}", evaluation.to_text());
        assert_eq!(evaluation.notes, []);
        assert!(evaluation.log_loss < 3f64.ln());
        if kind == HeadKind::Logistic {
            // The same objective, to the same gap.
            let ratio = fitted.model.convergence.objective / ours.model.convergence.objective;
            assert!((ratio - 1.0).abs() < 2e-4, "{ratio}");
        }
        let written = serde_json::to_value(&fitted.model.settings).unwrap();
        assert_eq!(written["solver"], "linfa");
        assert_eq!(serde_json::from_value::<FitSettings>(written).unwrap(), fitted.model.settings);
    }
}

#[test]
#[cfg(feature = "linfa-engines")]
fn linfas_solvers_take_tuning_and_missing_classes_but_neither_weights_nor_kernels_nor_many_rows() {
    let example = Example::new(20, 3);
    for kind in [HeadKind::Svm, HeadKind::Logistic] {
        let settings = FitSettings { tuning: Some(Tuning::new(vec![1.0, 1e-6, 0.01])), ..by_linfa(kind) };
        let chosen = fit_head(&example.data(), &settings).unwrap().model.settings.c.unwrap();
        assert!([1.0, 1e-6, 0.01].contains(&chosen));
        let groups: Vec<usize> = (0..60).map(|i| if i % 3 == 2 { 1000 } else { i }).collect();
        let data = TrainingData { groups: Some(&groups), ..example.data() };
        assert_eq!(fit_head(&data, &by_linfa(kind)).unwrap().evaluation.per_class[2].recall, 0.0);
    }
    let refused = |settings: &FitSettings| fit_head(&example.data(), settings).unwrap_err().to_string();
    for (settings, what) in [
        (by_linfa(HeadKind::Ridge), "ridge regression"),
        (FitSettings { class_weights: ClassWeights::Balanced, ..by_linfa(HeadKind::Svm) }, "class weights"),
        (FitSettings { kernel: RBF, ..by_linfa(HeadKind::Svm) }, "a kernel"),
        (
            FitSettings { standardize: false, ..by_linfa(HeadKind::Logistic) },
            "features that are not standardised",
        ),
    ] {
        let said = refused(&settings);
        assert!(said.starts_with(&format!("linfa's solvers cannot be used with {what}:")), "{said}");
        assert!(said.contains("--solver own"), "{said}");
    }
    let many = Example {
        features: Array2::zeros((4001, 1)),
        labels: (0..4001).map(|i| i % 2).collect(),
        ..Example::new(1, 2)
    };
    let said = fit_head(&many.data(), &by_linfa(HeadKind::Svm)).unwrap_err().to_string();
    assert!(said.contains("4001 images are more than the 4000") && said.contains("--solver own"), "{said}");
}

#[test]
fn the_linear_svm_has_no_plain_hinge() {
    let settings = FitSettings { loss: Loss::Hinge, ..FitSettings::new(HeadKind::Svm) };
    let refused = fit_head(&Example::new(5, 2).data(), &settings);
    assert!(matches!(refused, Err(HeadError::HingeOfLinearSvm)), "{refused:?}");
}
