//! Fits one head to features in a raw file, prints a line of JSON and writes the weights: called by `scripts/bench/heads`.

use std::{env, error::Error, fs, io::Read, time::Instant};

use cnncodes_linear_heads::{LinearModel, LogisticParams, RidgeParams, SvmParams};
use linfa::{DatasetBase, traits::Fit};
use ndarray::{Array1, ArrayView2, s};

/// How many times fewer rows and columns the fit before has.
const SMALLER: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, features, labels, columns, c, tolerance, weights] = &arguments[..] else {
        return Err(
            "usage: heads svm|logistic|ridge FEATURES.f32 LABELS.u32 COLUMNS C TOLERANCE WEIGHTS.f64".into(),
        );
    };
    let (columns, c, tolerance): (usize, f64, f64) = (columns.parse()?, c.parse()?, tolerance.parse()?);
    let values = read(features)?;
    let labels: Array1<usize> = fs::read(labels)?
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
        .collect();
    let features = ArrayView2::from_shape((values.len() / columns, columns), &values)?;
    let fit = |features: ArrayView2<'_, f32>, labels: Array1<usize>| -> Result<LinearModel, Box<dyn Error>> {
        let dataset = DatasetBase::new(features, labels);
        Ok(match kind.as_str() {
            "svm" => SvmParams::new().c(c).tolerance(tolerance).fit(&dataset)?,
            "logistic" => LogisticParams::new().c(c).tolerance(tolerance).fit(&dataset)?,
            "ridge" => RidgeParams::new().alphas(vec![c]).fit(&dataset)?.linear,
            other => return Err(format!("no head is called {other}").into()),
        })
    };
    // A small fit of the same shape first, so that the program's own code is in memory.
    let few = (features.nrows() / SMALLER, features.ncols() / SMALLER);
    fit(features.slice(s![..few.0, ..few.1]), labels.slice(s![..few.0]).to_owned())?;
    let before = peak();
    let start = Instant::now();
    let model = fit(features, labels)?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = peak();
    // A row a class: its weights, then its bias.
    let rows = model.weights.rows().into_iter().zip(&model.bias);
    let values =
        rows.flat_map(|(row, &bias)| row.iter().map(|&w| f64::from(w)).chain([bias]).collect::<Vec<_>>());
    fs::write(weights, values.flat_map(f64::to_le_bytes).collect::<Vec<_>>())?;
    let convergence = model.convergence;
    println!(
        "{{\"seconds\": {seconds}, \"objective\": {}, \"gap\": {}, \"iterations\": {}, \"converged\": {}, \
         \"before_mib\": {before}, \"peak_mib\": {peak}}}",
        convergence.objective, convergence.criterion, convergence.iterations, convergence.converged,
    );
    Ok(())
}

/// float32 values, without a second copy of them in memory.
fn read(path: &str) -> std::io::Result<Vec<f32>> {
    let mut file = fs::File::open(path)?;
    let mut values = Vec::with_capacity(file.metadata()?.len() as usize / 4);
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..values.capacity().div_ceil(buffer.len() / 4) {
        let length = buffer.len().min(4 * (values.capacity() - values.len()));
        file.read_exact(&mut buffer[..length])?;
        values.extend(buffer[..length].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    }
    Ok(values)
}

/// Peak resident memory in MiB, as Linux tells it; 0 elsewhere.
fn peak() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
