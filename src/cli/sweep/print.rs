//! How a sweep's result is printed.

use crate::cli::show::{self, AnswerFormat};
use crate::sweep::{CandidateHead, SweepResult, kind_name};

pub(super) fn print(result: &SweepResult, format: AnswerFormat) -> anyhow::Result<()> {
    match format {
        AnswerFormat::Text => show::report(&result.to_text_within(show::width())),
        AnswerFormat::Json => println!("{}", serde_json::to_string_pretty(result)?),
        AnswerFormat::Csv => {
            let mut writer = csv::Writer::from_writer(std::io::stdout());
            writer.write_record([
                "model",
                "layer",
                "pooling",
                "codes",
                "multiply_adds",
                "share",
                "milliseconds",
                "head",
                "c",
                "right",
                "images",
                "accuracy",
                "low",
                "high",
                "log_loss",
                "best",
                "cheapest",
            ])?;
            for (at, CandidateHead { features, kind, c, accuracy, log_loss, .. }) in
                result.candidates.iter().enumerate()
            {
                let optional =
                    |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
                writer.write_record([
                    &result.networks[features.network].name,
                    &features.layer,
                    &features.pooling.to_string(),
                    &features.width.to_string(),
                    &features.multiply_adds.to_string(),
                    &features.share.to_string(),
                    &optional(features.milliseconds),
                    kind_name(*kind),
                    &optional(*c),
                    &accuracy.successes.to_string(),
                    &accuracy.trials.to_string(),
                    &accuracy.value.to_string(),
                    &accuracy.low.to_string(),
                    &accuracy.high.to_string(),
                    &log_loss.to_string(),
                    &(at == result.advice.best).to_string(),
                    &(at == result.advice.cheapest).to_string(),
                ])?;
            }
            writer.flush()?;
        }
    }
    Ok(())
}
