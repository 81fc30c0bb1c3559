//! A check as text.

use std::fmt::Write as _;

use super::{CheckVerdict, PreprocessCheck, RankedRecipe};
use crate::evaluate::table;
use crate::images::{CropOffset, Preprocess, Preset, Resize};

impl PreprocessCheck {
    /// The verdict in a sentence or two; `name` is the model's.
    pub fn summary(&self, name: &str) -> String {
        let describe = |ranked: &RankedRecipe| ranked.preprocess.describe();
        let first = self.ranking.first().map(describe).unwrap_or_default();
        match &self.verdict {
            CheckVerdict::Fits => {
                format!(
                    "{name}: the preprocessing fits; no other order or normalisation of the colours makes the network clearly surer"
                )
            }
            CheckVerdict::Better => format!(
                "{name}: the preprocessing seems wrong; the network is clearly surer with another one\n  {first}"
            ),
            CheckVerdict::Surest { clearly: true } => {
                let mut text = format!("{name}: the network is clearly surest with\n  {first}");
                if let Some(next) = self.ranking.get(1) {
                    let [low, high] = next.interval;
                    let _ = write!(
                        text,
                        "\n  ahead by {:.3} (99 % interval {low:.3} to {high:.3}) of\n  {}",
                        next.behind,
                        short(&next.preprocess)
                    );
                }
                text
            }
            CheckVerdict::Surest { clearly: false } => {
                let mut text = format!(
                    "{name}: the network is surest with the first of these, but they are as good within the noise; check the \
                     choice against the network's source\n  {first}"
                );
                for other in self.ranking.iter().skip(1).filter(|ranked| ranked.tied) {
                    let _ = write!(text, "\n  {}", short(&other.preprocess));
                }
                text
            }
            CheckVerdict::CannotTell { why } => {
                format!("{name}: the network cannot tell which preprocessing is right: {why}")
            }
        }
    }

    /// The verdict, the ranking, and what it rests on.
    pub fn to_text(&self, name: &str) -> String {
        let mut text = self.summary(name);
        if self.ranking.is_empty() {
            return text;
        }
        let surest = self.ranking.iter().max_by(|a, b| a.confidence.total_cmp(&b.confidence));
        let standing_out = surest.map_or(0.0, |surest| surest.standing_out);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\n\n{} images; the winning one of {} classes stands out by {standing_out:.1} standard deviations of the scores \
             (by chance: up to {:.1})",
            self.images,
            self.classes,
            self.chance_limit.unwrap_or(f64::INFINITY)
        );
        text.push_str(&rows(&self.ranking));
        text.push_str("\n* the model's own, = within the noise of the surest");
        if !self.crops.is_empty() {
            text.push_str("\n\nOther crops and filters with the first one's colours:\n");
            text.push_str(&rows(&self.crops));
            text.push_str(
                "\nThe surest crop and filter need not be those of the training: a network is often surer if it sees more of \
                 the picture, or a sharper one.",
            );
        }
        text
    }
}

fn rows(ranking: &[RankedRecipe]) -> String {
    let header = ["", "sure", "behind", "99 % interval", ""].map(str::to_owned).to_vec();
    let row = |(index, ranked): (usize, &RankedRecipe)| {
        let [low, high] = ranked.interval;
        let (behind, interval) = match ranked.behind == 0.0 {
            true => (String::new(), String::new()),
            false => (format!("{:.3}", ranked.behind), format!("{low:.3} to {high:.3}")),
        };
        let mark = match (ranked.chosen, ranked.tied) {
            (true, _) => "* ",
            (false, true) => "= ",
            (false, false) => "  ",
        };
        let recipe = format!("{mark}{}", short(&ranked.preprocess));
        vec![(index + 1).to_string(), format!("{:.3}", ranked.confidence), behind, interval, recipe]
    };
    table(header, ranking.iter().enumerate().map(row))
}

/// The recipe without what all of them share.
fn short(recipe: &Preprocess) -> String {
    let line = recipe.describe();
    let end = line.find(", EXIF").unwrap_or(line.len());
    line[..end].to_owned()
}

/// The options of `cnncodes models add` that give `recipe`; `None` where they cannot say it.
pub fn options_of(recipe: &Preprocess) -> Option<String> {
    if recipe.preset_name() != Preset::Custom {
        return Some(format!("--preprocess {}", recipe.preset_name()));
    }
    if recipe.crop_offset() != CropOffset::HalfEven {
        return None;
    }
    let (width, height) = recipe.size();
    let resize = match recipe.resize() {
        Resize::ShorterSide(side) => format!("--shorter-side {side}"),
        Resize::Stretch => "--stretch".to_owned(),
        Resize::StretchThenCrop(..) => return None,
    };
    let listed = |values: [f64; 3]| values.map(|value| value.to_string()).join(",");
    let (divisor, mean, std) = recipe.normalisation();
    Some(format!(
        "--preprocess torchvision --size {width}x{height} {resize} --interpolation {} --channel-order {} --divisor {divisor} \
         --mean {} --std {}",
        recipe.interpolation(),
        recipe.channel_order(),
        listed(mean),
        listed(std)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::PreprocessOverrides;

    fn preset(preset: Preset) -> Preprocess {
        Preprocess::preset(preset).unwrap()
    }

    fn found(verdict: CheckVerdict) -> PreprocessCheck {
        let ranked = |of: Preset, behind: f64, chosen: bool| RankedRecipe {
            preprocess: preset(of),
            confidence: 1.25 - behind,
            standing_out: 6.5,
            behind,
            interval: [behind - 0.1, behind + 0.1],
            tied: behind < 0.1,
            chosen,
        };
        let ranking = vec![
            ranked(Preset::Tf, 0.0, false),
            ranked(Preset::KerasCaffe, 0.05, false),
            ranked(Preset::Torchvision, 0.5, true),
        ];
        PreprocessCheck {
            verdict,
            images: 96,
            classes: 1000,
            chance_limit: Some(4.73),
            ranking,
            crops: Vec::new(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_ranking_marks_the_chosen_recipe_and_what_is_within_the_noise() {
        let text = found(CheckVerdict::Better).to_text("net");
        assert!(text.starts_with(
            "net: the preprocessing seems wrong; the network is clearly surer with another one\n  tf: "
        ));
        assert!(
            text.contains("the winning one of 1000 classes stands out by 6.5 standard deviations"),
            "{text}"
        );
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().any(|line| line.starts_with(" 1  1.250 ") && line.contains("= tf: ")), "{text}");
        assert!(lines.iter().any(|line| line.contains("0.050  -0.050 to 0.150  = keras-caffe")), "{text}");
        assert!(lines.iter().any(|line| line.contains("0.500   0.400 to 0.600  * torchvision")), "{text}");
        assert!(!text.contains("EXIF orientation applied\n 2"), "{text}");
    }

    #[test]
    fn a_choice_says_how_sure_it_is() {
        let clearly = found(CheckVerdict::Surest { clearly: true }).summary("net");
        assert!(clearly.contains("clearly surest with\n  tf: "), "{clearly}");
        assert!(
            clearly.contains("ahead by 0.050 (99 % interval -0.050 to 0.150) of\n  keras-caffe: "),
            "{clearly}"
        );
        let tied = found(CheckVerdict::Surest { clearly: false }).summary("net");
        assert!(tied.contains("within the noise") && tied.contains("\n  keras-caffe: "), "{tied}");
        assert!(!tied.contains("torchvision: "), "{tied}");
    }

    #[test]
    fn options_give_the_recipe_or_there_are_none() {
        assert_eq!(options_of(&preset(Preset::Tf)).unwrap(), "--preprocess tf");
        let with = |change: PreprocessOverrides| preset(Preset::Torchvision).with(&change).unwrap();
        let custom = with(PreprocessOverrides { divisor: Some(1.0), ..Default::default() });
        assert_eq!(
            options_of(&custom).unwrap(),
            "--preprocess torchvision --size 224x224 --shorter-side 256 --interpolation bilinear --channel-order rgb \
             --divisor 1 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
        );
        let floored =
            with(PreprocessOverrides { crop_offset: Some(CropOffset::Floor), ..Default::default() });
        assert_eq!(options_of(&floored), None);
        let cropped = with(PreprocessOverrides { stretched: Some((256, 256)), ..Default::default() });
        assert_eq!(options_of(&cropped), None);
    }
}
