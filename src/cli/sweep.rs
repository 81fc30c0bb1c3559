//! `cnncodes sweep`: which layer and which head suit the images, measured.

mod args;
mod next;
mod print;
mod progress;

pub use self::args::Args;
use self::args::Which;
use self::next::NextCommands;
use self::print::print;
use self::progress::SweepProgress;
use super::report::write as write_report;
use super::show::AnswerFormat;
use super::{Status, fit_head, interrupt, show};
use crate::features::FeatureFile;
use crate::network::{Model, ModelsFolder};
use crate::report::{FittingReport, Layers};
use crate::sweep::{Sweep, kind_name};

pub fn run(args: &Args, models: &ModelsFolder) -> anyhow::Result<Status> {
    let report = args.report.file()?;
    let images = args.inputs.open(&args.images)?;
    let named: Vec<Option<&str>> = match &args.model[..] {
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let networks = named.into_iter().map(|name| models.find(name)).collect::<Result<Vec<Model>, _>>()?;
    interrupt::says("finished images are kept, and the same command resumes");
    let mut progress = SweepProgress::default();
    let swept = Sweep::run(images, networks, &args.settings(), &mut |event| progress.show(event));
    progress.end();
    let mut sweep = swept?;
    let advice = &sweep.result.advice;
    let (best, cheapest) = (&sweep.result.candidates[advice.best], &sweep.result.candidates[advice.cheapest]);
    let commands = NextCommands { args, models, sweep: &sweep.result };
    let chosen = args.fit.map(|which| match which {
        Which::Best => best,
        Which::Cheapest => cheapest,
    });
    let mut fitted = None;
    let next = match chosen {
        Some(candidate) => {
            let (features, output) = (commands.features(candidate), commands.head(candidate));
            sweep.write_features(candidate, &features)?;
            let settings = sweep.training_settings(candidate);
            let trained = fit_head::train_and_save(&FeatureFile::open(&features)?, &settings, &output)?;
            let next = vec![commands.classify(candidate)];
            fitted = Some((trained.head, kind_name(candidate.kind), output));
            next
        }
        None => {
            let mut next = vec![commands.extract(best), commands.fit(best)];
            if commands.features(cheapest) != commands.features(best) {
                next.extend([commands.extract(cheapest), commands.fit(cheapest)]);
            }
            next
        }
    };
    sweep.result.next = next;
    print(&sweep.result, args.format)?;
    let is_text = matches!(args.format, AnswerFormat::Text);
    if let Some((head, kind, output)) = fitted.filter(|_| is_text) {
        println!();
        fit_head::print(&head, kind, &output, false);
    }
    if let Some(report) = report {
        let best = &sweep.result.candidates[sweep.result.advice.best];
        let (file, trained) = (sweep.file(best), sweep.fit(best)?);
        let layers = Some(Layers::from(&sweep.result));
        let fitting = FittingReport { file, trained: &trained, output: None, layers };
        write_report(|command, progress| fitting.write(report, models, command, progress))?;
        if is_text {
            println!("\n{}: report", report.display());
        }
    }
    show::problems(sweep.problems(), 20);
    Ok(if sweep.problems().is_empty() { Status::Done } else { Status::Skipped })
}
