//! What the page says: the report's numbers as words, tables and sentences, ready for the template.

mod chosen;
mod confusion_matrix;
mod parts;

use askama::Template;

use super::figures::{NamedValue, percent};
use super::page::ShownPhotos;
use super::{Overlays, Report, Thumbnails};
use crate::dataset::DuplicateSet;
use crate::evaluate::{Proportion, ReliabilityBin, Severity};
use crate::explain::ExplainMethod;
use chosen::{by_name, mistakes};
use confusion_matrix::ConfusionView;
use parts::{
    BinView, CalibrationView, ClassView, DuplicatesView, FindingView, LayerRow, LayersView,
    LearningPointView, LearningView, MapView, NeighboursView, PhotoDetail, PhotoView, SetView, ShareView,
    SuspectsView,
};

pub(super) use chosen::{doubtful, featured};

/// Mistakes that are shown one by one.
const MOST_MISTAKES: usize = 24;
/// Suspects of each kind that are shown.
const MOST_SUSPECTS: usize = 12;
/// Sets of duplicates that are shown.
const MOST_SETS: usize = 60;
/// Sets that are shown before a click.
const SETS_AT_ONCE: usize = 6;
/// Photos of one set that are shown.
const MOST_OF_A_SET: usize = 8;
/// Probability of the given class below which a label is called improbable.
const IMPROBABLE: f64 = 0.05;

/// The page; see page.html.
#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct Page<'a> {
    pub style: &'a str,
    pub script: &'a str,
    pub plot_script: &'a str,
    pub script_hashes: String,
    pub data: String,
    version: &'static str,
    title: &'a str,
    subtitle: &'a str,
    date: String,
    date_iso: String,
    accuracy: ShareView,
    chance: String,
    how: &'a str,
    warnings: Vec<&'a str>,
    notes: Vec<&'a str>,
    sentences: Vec<FindingView>,
    facts: &'a [NamedValue],
    /// What the pictures beside mistakes and suspects show.
    explained: Option<String>,
    /// Whether mistakes have such pictures.
    mistakes_explained: bool,
    layers: Option<LayersView<'a>>,
    learning: Option<LearningView>,
    confusion: ConfusionView<'a>,
    classes: Vec<ClassView<'a>>,
    mistakes: Vec<PhotoView<'a>>,
    mistakes_text: String,
    suspects: Option<SuspectsView<'a>>,
    calibration: CalibrationView,
    map: Option<MapView<'a>>,
    duplicates: Option<DuplicatesView<'a>>,
    provenance: &'a [NamedValue],
    photo_notes: Vec<String>,
}

/// The share of a bin's answers that is right, with its interval.
pub(super) fn proportion(bin: &ReliabilityBin) -> Proportion {
    Proportion::new((bin.accuracy * bin.rows as f64).round() as usize, bin.rows)
}

/// What the pictures show of what speaks for an answer, where there are any.
fn explained(overlays: &Overlays) -> Option<String> {
    if overlays.pictures.is_empty() {
        return None;
    }
    let yellow = match overlays.method {
        ExplainMethod::ActivationMap => "yellow the most, dark violet nothing or less",
        ExplainMethod::Occlusion => {
            "yellow where covering a part of the photo lowers the answer's score most, dark violet where it \
             does not lower it"
        }
    };
    let left_out = match overlays.left_out {
        0 => String::new(),
        left_out => {
            format!(" Each one takes many runs of the network, so {} have none.", photos(left_out))
        }
    };
    Some(format!(
        "The second picture shows what supports the answer, in the head fitted to all photos: {yellow}. The \
         network does not see the darkened margin.{left_out}"
    ))
}

/// `1 photo`, `2 photos`.
fn photos(count: usize) -> String {
    if count == 1 { "1 photo".to_owned() } else { format!("{count} photos") }
}

/// What the parts of a page are made from.
struct PageInputs<'a, 'r> {
    report: &'a Report<'r>,
    predicted: &'a [usize],
    shown: &'a ShownPhotos,
    links: &'a [Option<String>],
}

impl<'a> PageInputs<'a, '_> {
    fn photo(&self, row: usize, lines: Vec<PhotoDetail<'a>>) -> PhotoView<'a> {
        let index = self.shown.index(row);
        let link = index.and_then(|index| self.links[index].as_deref());
        PhotoView { index, name: &self.report.names[row], link, lines }
    }

    /// Whether some of the rows have a picture of what speaks for the answer.
    fn any_explained(&self, rows: &[usize]) -> bool {
        self.report.pictures().any(|(row, _)| rows.contains(&row))
    }

    fn class(&self, class: usize) -> Option<&'a str> {
        Some(&self.report.class_names[class])
    }

    /// Given class and answer of a row, with the probabilities of both.
    fn verdict(&self, row: usize) -> Vec<PhotoDetail<'a>> {
        let (given, said) = (self.report.labels[row], self.predicted[row]);
        let probability = |class: usize| Some(percent(self.report.probabilities[[row, class]]));
        if given == said {
            return vec![PhotoDetail {
                text: "rightly",
                class: self.class(given),
                value: probability(given),
            }];
        }
        vec![
            PhotoDetail { text: "given", class: self.class(given), value: probability(given) },
            PhotoDetail { text: "said", class: self.class(said), value: probability(said) },
        ]
    }

    fn set(&self, rows: &[usize], similarity: f64) -> SetView<'a> {
        let likeness = if similarity >= 1.0 {
            "identical to the eye, or grouped by the user".to_owned()
        } else {
            format!("likeness {similarity:.3}")
        };
        let left_out = rows.len().saturating_sub(MOST_OF_A_SET);
        let likeness = if left_out > 0 { format!("{likeness}; {left_out} more not shown") } else { likeness };
        let photo = |&row: &usize| {
            let given =
                PhotoDetail { text: "given", class: self.class(self.report.labels[row]), value: None };
            self.photo(row, vec![given])
        };
        SetView { likeness, photos: rows.iter().take(MOST_OF_A_SET).map(photo).collect() }
    }

    fn suspects(&self) -> Option<SuspectsView<'a>> {
        let suspects = self.report.suspects.as_ref()?;
        let rows = by_name(self.report);
        let row = |name: &str| rows.get(name).copied();
        let mistakes = mistakes(self.report, self.predicted);
        let rows_of_labels: Vec<usize> =
            suspects.labels.iter().take(MOST_SUSPECTS).filter_map(|suspect| row(&suspect.image)).collect();
        let labels: Vec<usize> =
            rows_of_labels.iter().copied().filter(|row| !mistakes.contains(row)).collect();
        let text = match labels.len() {
            0 => "All of them are among the mistakes above.",
            n if n < rows_of_labels.len() => "Look at the mistakes above first; these come next.",
            _ => "",
        };
        let copies = suspects.copies.iter().take(MOST_SUSPECTS).map(|set| {
            let rows: Vec<usize> = set.images.iter().filter_map(|name| row(name)).collect();
            self.set(&rows, set.similarity)
        });
        let outliers = suspects.outliers.iter().take(MOST_SUSPECTS).filter_map(|outlier| {
            let given = row(&outlier.image)?;
            let mut lines = vec![PhotoDetail {
                text: "given",
                class: self.class(self.report.labels[given]),
                value: None,
            }];
            lines.push(PhotoDetail {
                text: "distance",
                class: None,
                value: Some(format!("{:.3}", outlier.distance)),
            });
            Some(self.photo(given, lines))
        });
        Some(SuspectsView {
            text,
            explained: self.any_explained(&labels),
            labels: labels.into_iter().map(|row| self.photo(row, self.verdict(row))).collect(),
            copies: copies.collect(),
            outliers: outliers.collect(),
        })
    }

    fn copies(&self) -> Option<DuplicatesView<'a>> {
        let sets = self.report.duplicates;
        if sets.is_empty() {
            return None;
        }
        let count: usize = sets.iter().map(|set| set.images.len()).sum();
        let mut text = format!(
            "{} are duplicates of one another, in {}: identical files, or photos that look the same. They \
             were kept on one side of each split, so no head was tested on a duplicate of a photo that it \
             knew.",
            photos(count),
            if sets.len() == 1 { "1 set".to_owned() } else { format!("{} sets", sets.len()) }
        );
        if sets.len() > MOST_SETS {
            text.push_str(&format!(" The first {MOST_SETS} sets are shown."));
        }
        let set = |set: &DuplicateSet<usize>| self.set(&set.images, set.similarity);
        let mut first: Vec<SetView<'_>> = sets.iter().take(MOST_SETS).map(set).collect();
        let others = first.split_off(first.len().min(SETS_AT_ONCE));
        Some(DuplicatesView { text, first, others })
    }

    fn map(&self) -> Option<MapView<'a>> {
        let map = self.report.map.as_ref()?;
        let all = self.report.names.len();
        let text = if map.rows.len() < all {
            format!("It shows {} of the {all} photos, drawn at random.", map.rows.len())
        } else {
            String::new()
        };
        let [first, second] = map.explained;
        let caption = format!(
            "Features were standardised first. t-SNE keeps photos with similar features together; its \
             distances between groups mean little. The two principal components explain {} and {} of the \
             variance.",
            percent(first),
            percent(second)
        );
        let neighbours = self.report.class_names.iter().zip(&map.own_neighbours);
        let neighbours =
            neighbours.filter_map(|(name, share)| Some(NeighboursView { name, value: percent((*share)?) }));
        Some(MapView { has_tsne: map.tsne.is_some(), text, caption, neighbours: neighbours.collect() })
    }

    fn calibration(&self) -> CalibrationView {
        let calibration = &self.report.figures.calibration;
        let bins = calibration.bins.iter().map(|bin| BinView {
            range: format!("{:.0} – {:.0} %", 100.0 * bin.above, 100.0 * bin.up_to),
            claim: percent(bin.confidence),
            right: ShareView::from(&proportion(bin)),
            photos: bin.rows,
        });
        CalibrationView { text: self.trust(), bins: bins.collect() }
    }

    /// How far the probabilities can be trusted, in a sentence or two.
    fn trust(&self) -> String {
        let calibration = &self.report.figures.calibration;
        let claimed: f64 = calibration.bins.iter().map(|bin| bin.rows as f64 * bin.confidence).sum();
        let rows: usize = calibration.bins.iter().map(|bin| bin.rows).sum();
        let claimed = claimed / rows.max(1) as f64;
        let accuracy = &self.report.figures.accuracy;
        let verdict = if claimed > accuracy.high {
            "The answers are less often right than they claim"
        } else if claimed < accuracy.low {
            "The answers are more often right than they claim"
        } else {
            "On the whole the answers are as often right as they claim"
        };
        format!(
            "{verdict}: their mean probability is {}, and {} are right. Claim and truth differ by {} on average over the \
             bins (expected calibration error).",
            percent(claimed),
            percent(accuracy.value),
            percent(calibration.expected_error)
        )
    }

    fn sentences(&self) -> Vec<FindingView> {
        let mut sentences = Vec::new();
        let names = self.report.class_names;
        let confusion = &self.report.figures.confusion;
        if let Some(&(truth, predicted, count)) = confusion.mistakes().first() {
            let of: usize = confusion.counts[truth].iter().sum();
            let text = format!(
                "The most frequent confusion: {count} of {of} {} are taken for {}.",
                names[truth], names[predicted]
            );
            sentences.push(FindingView { text, anchor: "confusion", link: "All confusions" });
        }
        if let Some(learning) = &self.report.learning {
            sentences.push(FindingView {
                text: learning.verdict(),
                anchor: "learning",
                link: "Learning curve",
            });
        }
        if self.report.suspects.is_some() {
            let improbable =
                |row: &usize| self.report.probabilities[[*row, self.report.labels[*row]]] < IMPROBABLE;
            let count = (0..self.report.labels.len()).filter(improbable).count();
            let text = match count {
                0 => format!("No given class has a probability below {:.0} %.", 100.0 * IMPROBABLE),
                1 => format!(
                    "1 photo has a given class that a head finds improbable (below {:.0} %): check its \
                     label.",
                    100.0 * IMPROBABLE
                ),
                _ => format!(
                    "{count} photos have a given class that a head finds improbable (below {:.0} %): check \
                     their labels.",
                    100.0 * IMPROBABLE
                ),
            };
            sentences.push(FindingView { text, anchor: "suspects", link: "Suspects" });
        }
        sentences.push(FindingView { text: self.trust(), anchor: "calibration", link: "Probabilities" });
        sentences
    }
}

impl<'a> Page<'a> {
    /// The page without its style, scripts and data.
    pub fn new(
        report: &'a Report<'_>,
        predicted: &'a [usize],
        shown: &'a ShownPhotos,
        links: &'a [Option<String>],
        thumbnails: &Thumbnails,
        date: &jiff::Timestamp,
    ) -> Self {
        let source = PageInputs { report, predicted, shown, links };
        let figures = &report.figures;
        let notes = |severity: Severity| {
            figures.notes.iter().filter(move |note| note.severity == severity).map(|note| note.text.as_str())
        };
        let wrong = figures.accuracy.trials - figures.accuracy.successes;
        let mistakes = mistakes(report, predicted);
        let mistakes_text = format!(
            "{} of {} classified wrongly{}, the most confident first: the label is wrong, or the photos do \
             not teach it.",
            mistakes.len(),
            photos(wrong),
            if mistakes.len() < wrong { "" } else { ": all of them" }
        );
        let mut photo_notes = Vec::new();
        if thumbnails.unreadable > 0 {
            photo_notes.push(format!(
                "{} of {} could not be read in {} when the report was written, so their thumbnails are missing.",
                thumbnails.unreadable,
                photos(thumbnails.jpegs.len()),
                report.photos.root().display()
            ));
        }
        if thumbnails.left_out > 0 {
            let left_out = photos(thumbnails.left_out);
            photo_notes.push(format!("Thumbnails of {left_out} were left out to keep the file below 5 MB."));
        }
        Self {
            style: "",
            script: "",
            plot_script: "",
            script_hashes: String::new(),
            data: String::new(),
            version: env!("CARGO_PKG_VERSION"),
            title: &report.title,
            subtitle: &report.subtitle,
            date: date.strftime("%-d %B %Y, %H:%M UTC").to_string(),
            date_iso: date.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            accuracy: ShareView::from(&figures.accuracy),
            chance: percent(figures.chance),
            how: &figures.how,
            warnings: notes(Severity::Warning).collect(),
            notes: notes(Severity::Info).collect(),
            sentences: source.sentences(),
            facts: &figures.facts,
            explained: report.overlays.as_ref().and_then(explained),
            mistakes_explained: source.any_explained(&mistakes),
            layers: report.layers.as_ref().map(|layers| LayersView {
                folds: layers.folds,
                advice: &layers.advice,
                next: &layers.next,
                rows: layers
                    .candidates
                    .iter()
                    .map(|candidate| LayerRow {
                        layer: &candidate.layer,
                        head: candidate.head,
                        c: candidate.c.map(|c| c.to_string()).unwrap_or_default(),
                        accuracy: ShareView::from(&candidate.accuracy),
                        width: candidate.width,
                        cost: percent(candidate.cost),
                        milliseconds: candidate.milliseconds.map(|ms| format!("{ms:.1}")).unwrap_or_default(),
                    })
                    .collect(),
            }),
            learning: report.learning.as_ref().map(|curve| {
                let x = |per_class: f64| format!("{per_class:.0}");
                let point = |point: &super::LearningPoint| LearningPointView {
                    x: x(point.per_class),
                    accuracy: ShareView::from(&point.accuracy),
                };
                LearningView {
                    verdict: curve.verdict(),
                    first: curve.points.first().map(|point| x(point.per_class)).unwrap_or_default(),
                    last: curve.points.last().map(|point| x(point.per_class)).unwrap_or_default(),
                    points: curve.points.iter().map(point).collect(),
                }
            }),
            confusion: ConfusionView::new(&report.figures.confusion, report.class_names),
            classes: figures
                .per_class
                .iter()
                .map(|class| ClassView {
                    name: &class.name,
                    precision: percent(class.precision),
                    recall: percent(class.recall),
                    f1: percent(class.f1),
                    photos: class.support,
                })
                .collect(),
            mistakes: mistakes.into_iter().map(|row| source.photo(row, source.verdict(row))).collect(),
            mistakes_text,
            suspects: source.suspects(),
            calibration: source.calibration(),
            map: source.map(),
            duplicates: source.copies(),
            provenance: &report.provenance,
            photo_notes,
        }
    }
}
