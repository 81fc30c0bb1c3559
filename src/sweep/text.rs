//! A sweep's result as plain text: the table of layers, and the advice.

use super::{
    CandidateHead, DatasetSize, EQUAL_WITHIN, LARGE_CLASS, NetworkSummary, NextStep, Selection, Similarity,
    SweepResult, kind_name,
};
use crate::evaluate::{Difference, Proportion, percent, table};
use crate::head::HeadKind;
use crate::network::Pooling;

/// Heads in the order of the table's columns.
const KINDS: [HeadKind; 3] = [HeadKind::Svm, HeadKind::Logistic, HeadKind::Ridge];

impl SweepResult {
    /// Plain text: a table a network, what was chosen, the scenario with its evidence, what to do next, and notes. No
    /// colours, no box drawing.
    pub fn to_text(&self) -> String {
        self.to_text_within(usize::MAX)
    }

    /// As [`to_text`](Self::to_text), with tables of at most `width` characters a line where that can be: names of layers
    /// are shortened and columns that are not needed to choose are left out.
    pub fn to_text_within(&self, width: usize) -> String {
        let mut text = String::new();
        for (at, network) in self.networks.iter().enumerate() {
            text.push_str(&self.layers_text(at, network, width));
            text.push('\n');
        }
        // Narrow terminals have no room for them.
        let shown = text.contains(INTERVAL);
        let intervals = if shown { "; the intervals are those of each line's best head" } else { "" };
        text.push_str(&format!(
            "Accuracies on images held out in {} folds, with C chosen without them{intervals}.\n\n",
            self.folds
        ));
        text.push_str(&self.advice_text());
        if !self.next.is_empty() {
            text.push_str("\nNext:\n");
            for NextStep { what, arguments } in &self.next {
                text.push_str(&format!("  # {what}\n  cnncodes {}\n", quoted(arguments)));
            }
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}"));
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        text
    }

    /// A line about the network, and a line for each layer and pooling.
    fn layers_text(&self, at: usize, network: &NetworkSummary, width: usize) -> String {
        let best = &self.candidates[self.advice.best];
        let cheapest = &self.candidates[self.advice.cheapest];
        let of_network: Vec<&CandidateHead> =
            self.candidates.iter().filter(|candidate| candidate.features.network == at).collect();
        let kinds: Vec<HeadKind> =
            KINDS.into_iter().filter(|kind| of_network.iter().any(|found| found.kind == *kind)).collect();
        let timed = of_network.iter().any(|candidate| candidate.features.milliseconds.is_some());
        let mut header =
            vec!["layer".to_owned(), "pooling".to_owned(), "features".to_owned(), "cost".to_owned()];
        header.extend(timed.then(|| "ms".to_owned()));
        header.extend(kinds.iter().map(|kind| kind_name(*kind).to_owned()));
        header.extend([INTERVAL, ""].map(str::to_owned));
        let mut names: Vec<&str> = Vec::new();
        for candidate in &of_network {
            if !names.contains(&candidate.features.name.as_str()) {
                names.push(&candidate.features.name);
            }
        }
        let rows: Vec<Vec<String>> = names
            .into_iter()
            .map(|name| {
                let heads: Vec<&&CandidateHead> =
                    of_network.iter().filter(|candidate| candidate.features.name == name).collect();
                let leader = heads
                    .iter()
                    .max_by_key(|candidate| candidate.accuracy.successes)
                    .expect("a name in the table is that of a candidate");
                let features = &leader.features;
                let mut row = vec![
                    features.layer.clone(),
                    pooled(features.pooling).unwrap_or_else(|| "-".to_owned()),
                    features.width.to_string(),
                    percent(features.share),
                ];
                row.extend(
                    timed.then(|| {
                        features.milliseconds.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"))
                    }),
                );
                row.extend(kinds.iter().map(|kind| {
                    let head = heads.iter().find(|candidate| candidate.kind == *kind);
                    head.map_or_else(|| "-".to_owned(), |head| percent(head.accuracy.value))
                }));
                row.push(interval(&leader.accuracy));
                let is =
                    |marked: &CandidateHead| marked.features.name == name && marked.features.network == at;
                let mark = match (is(best), is(cheapest)) {
                    (true, _) => "<- best",
                    (_, true) => "<- cheapest",
                    _ => "",
                };
                row.push(mark.to_owned());
                row
            })
            .collect();
        format!(
            "{}: {} layers, {} million multiply-adds for an image\n{}\n",
            network.name,
            network.layers,
            network.multiply_adds / 1_000_000,
            fitted(header, rows, width),
        )
    }

    /// Which head, how good, which scenario, and why.
    pub(crate) fn advice_text(&self) -> String {
        let advice = &self.advice;
        let (best, cheapest) = (&self.candidates[advice.best], &self.candidates[advice.cheapest]);
        let mut text = self.scenario_text();
        text.push_str(&format!("Best: {}, accuracy {}\n", self.told(best), percent(best.accuracy.value)));
        text.push_str(&format!(
            "  With the choice made again in each fold, without its images: {} ({} of {}), 95 % interval \
             {}; expect this on new images\n",
            percent(advice.selection.accuracy.value),
            advice.selection.accuracy.successes,
            advice.selection.accuracy.trials,
            interval(&advice.selection.accuracy),
        ));
        if advice.cheapest == advice.best {
            text.push_str("  No cheaper layer comes within one standard error of it\n");
        } else if cheapest.features.multiply_adds == best.features.multiply_adds {
            text.push_str(&format!(
                "  No cheaper layer comes within one standard error of it; of the same cost: {}, accuracy {}\n",
                self.told(cheapest),
                percent(cheapest.accuracy.value)
            ));
        } else {
            text.push_str(&format!(
                "Cheapest as good (within one standard error): {}, accuracy {}, {} of the best one's multiply-adds\n",
                self.told(cheapest),
                percent(cheapest.accuracy.value),
                percent(cheapest.features.multiply_adds as f64 / best.features.multiply_adds.max(1) as f64),
            ));
        }
        text
    }

    fn scenario_text(&self) -> String {
        let scenario = &self.advice.scenario;
        let size = match scenario.size {
            DatasetSize::Small => "small",
            DatasetSize::Large => "large",
        };
        let network = &self.networks[scenario.network].name;
        let (name, meaning) = match scenario.similarity {
            Similarity::Undecided if !self.advice.learned => (
                "kind not known".to_owned(),
                "no head does better than chance: check the labels, or try another network".to_owned(),
            ),
            Similarity::Undecided if scenario.difference.is_none() => (
                format!("{size}, similar or different"),
                "only one depth was compared; name more layers".to_owned(),
            ),
            Similarity::Undecided => (
                format!("{size}, and too few to decide whether similar or different"),
                format!(
                    "about {} images would decide it; until then the top features are the safer choice",
                    scenario.images_to_tell.unwrap_or(self.rows)
                ),
            ),
            Similarity::Similar => (
                format!("{size} and similar"),
                match scenario.size {
                    DatasetSize::Small => "use a linear head on the top features".to_owned(),
                    DatasetSize::Large => {
                        "the top features serve well; with so many images, fine-tuning the network may do \
                         still better (cnncodes does not train networks)"
                            .to_owned()
                    }
                },
            ),
            Similarity::Different => (
                format!("{size} and different"),
                match scenario.size {
                    DatasetSize::Small => "use a linear head on an earlier layer".to_owned(),
                    DatasetSize::Large => {
                        "an earlier layer serves better than the top; with so many images, fine-tuning or \
                                    training a network may do still better (cnncodes does not train networks)"
                            .to_owned()
                    }
                },
            ),
        };
        let mut text = format!("Your images, for {network}: {name}\n  {meaning}\n");
        text.push_str(&format!(
            "  {size}: {} different images per class on average, in {} classes (large from {LARGE_CLASS})\n",
            scenario.images_per_class,
            self.class_names.len(),
        ));
        if let (Some(top), Some(earlier), Some(difference)) =
            (&scenario.top, &scenario.earlier, &scenario.difference)
        {
            text.push_str(&format!("  {}\n", evidence(scenario.similarity, top, earlier, difference)));
        }
        text
    }

    /// `fc7 of vgg16 with a logistic head (C = 0.01)`, as far as it needs to be said.
    fn told(&self, candidate: &CandidateHead) -> String {
        let features = &candidate.features;
        let mut text = features.layer.clone();
        text.extend(pooled(features.pooling).map(|pooling| format!(" ({pooling})")));
        if self.networks.len() > 1 {
            text.push_str(&format!(" of {}", self.networks[features.network].name));
        }
        text.push_str(&format!(" with {}", kind_name(candidate.kind)));
        if let Some(c) = candidate.c {
            text.push_str(&format!(", C = {c}"));
        }
        text
    }
}

/// The pooling, if there is one.
fn pooled(pooling: Pooling) -> Option<String> {
    (pooling != Pooling::None).then(|| pooling.to_string())
}

fn evidence(similarity: Similarity, top: &Selection, earlier: &Selection, difference: &Difference) -> String {
    let points = |share: f64| format!("{:+.1}", 100.0 * share);
    let word = match similarity {
        Similarity::Similar => "similar",
        Similarity::Different => "different",
        Similarity::Undecided => "undecided",
    };
    format!(
        "{word}: earlier layers {}, top features {}; earlier minus top {} points, 95 % interval {} to {} \
         (similar: at most {:+.0}; different: above 0)",
        percent(earlier.accuracy.value),
        percent(top.accuracy.value),
        points(difference.value),
        points(difference.low),
        points(difference.high),
        100.0 * EQUAL_WITHIN,
    )
}

fn interval(share: &Proportion) -> String {
    format!("{} to {}", percent(share.low), percent(share.high))
}

/// The arguments as a POSIX shell takes them.
fn quoted(arguments: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    let quote = |argument: &String| match argument.is_empty() || !argument.chars().all(plain) {
        true => format!("'{}'", argument.replace('\'', r"'\''")),
        false => argument.clone(),
    };
    arguments.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Header of the intervals.
const INTERVAL: &str = "95 % interval";
/// The columns that are given up where a table is too wide, one after the other.
const SPARED: [&str; 3] = ["ms", "features", INTERVAL];
/// What is left of a layer's name at least, in the first column, before a column is given up, and after.
const LEAST_NAMES: [usize; 2] = [20, 10];

/// The table, made to fit into lines of `width` characters by shorter names and fewer columns.
fn fitted(mut header: Vec<String>, mut rows: Vec<Vec<String>>, width: usize) -> String {
    let [least, least_of_all] = LEAST_NAMES;
    let mut text = with_names_within(&header, &rows, width, least);
    for spared in SPARED {
        let Some(column) = header.iter().position(|name| name == spared) else { continue };
        if widest_line(&text) <= width {
            return text;
        }
        header.remove(column);
        rows.iter_mut().for_each(|row| drop(row.remove(column)));
        text = with_names_within(&header, &rows, width, least);
    }
    if widest_line(&text) <= width { text } else { with_names_within(&header, &rows, width, least_of_all) }
}

/// The table, with the names in its first column shortened to what `width` leaves them, and no further than `least`.
fn with_names_within(header: &[String], rows: &[Vec<String>], width: usize, least: usize) -> String {
    let text = left_last(&table(header.to_vec(), rows.iter().cloned()));
    let too_wide = widest_line(&text).saturating_sub(width);
    if too_wide == 0 {
        return text;
    }
    let longest = rows.iter().map(|row| row[0].chars().count()).max().unwrap_or(0);
    let room = longest.saturating_sub(too_wide).max(least);
    let shortened = rows.iter().cloned().map(|mut row| {
        row[0] = elided(&row[0], room);
        row
    });
    left_last(&table(header.to_vec(), shortened))
}

fn widest_line(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

/// `text` in at most `room` characters, its middle left out.
fn elided(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let end = room.saturating_sub(1) / 2;
    let start = room.saturating_sub(1) - end;
    text.chars().take(start).chain(['…']).chain(text.chars().skip(length - end)).collect()
}

/// Takes the padding off the ends of lines.
fn left_last(table: &str) -> String {
    table.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
