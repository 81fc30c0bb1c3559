//! [`ExplainQueue`]: pictures of what a head's answers rest on, one image after the other. The network for it is opened when the
//! first picture is asked for. Occlusion takes seconds, so few images may wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use axum::body::Bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crossbeam_channel::{Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use super::api_error::ApiError;
use super::served_head::NetworkSource;
use crate::explain::{ClassExplanation, ExplainSettings, Explainer, overlay};
use crate::head::Head;
use crate::images::{DecodeOptions, decode, encode_jpeg};
use crate::messages::with_causes;
use crate::network::SessionSettings;

/// Images that may wait.
const WAITING: usize = 4;
/// JPEG quality of the pictures, on libjpeg's scale of 0 to 100.
const QUALITY: f32 = 82.0;

/// An image whose answer is to be explained.
struct Question {
    bytes: Bytes,
    class: usize,
    answer: oneshot::Sender<Result<Vec<ClassExplanation>, String>>,
}

/// Explains the answers of one head.
pub(super) struct ExplainQueue {
    head: Arc<Head>,
    network: NetworkSource,
    session: SessionSettings,
    max_pixels: u64,
    /// None until something is asked.
    queue: Mutex<Option<Sender<Question>>>,
}

impl ExplainQueue {
    pub fn new(head: Arc<Head>, network: NetworkSource, session: SessionSettings, max_pixels: u64) -> Self {
        Self { head, network, session, max_pixels, queue: Mutex::new(None) }
    }

    /// What `class` rests on in an image.
    ///
    /// # Errors
    /// Too many images wait, or the network fails.
    pub async fn explain(&self, bytes: Bytes, class: usize) -> Result<Vec<ClassExplanation>, ApiError> {
        let (answer, explained) = oneshot::channel();
        match self.sender()?.try_send(Question { bytes, class, answer }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(ApiError::overloaded()),
            Err(TrySendError::Disconnected(_)) => return Err(ApiError::broken("the explanation")),
        }
        let explained = explained.await.map_err(|_| ApiError::broken("the explanation"))?;
        explained.map_err(|message| {
            ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
        })
    }

    fn sender(&self) -> Result<Sender<Question>, ApiError> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*queue {
            return Ok(sender.clone());
        }
        let (sender, questions) = bounded::<Question>(WAITING);
        let (head, network) = (Arc::clone(&self.head), self.network.clone());
        let (session, max_pixels) = (self.session.clone(), self.max_pixels);
        let work = move || {
            let spec = &head.provenance.spec;
            let settings = ExplainSettings { session, ..ExplainSettings::default() };
            let opened =
                network.open(spec).map_err(|error| with_causes(&error)).and_then(|(graph, layer)| {
                    Explainer::open(&graph, &layer, &head, &spec.preprocess, &settings)
                        .map_err(|error| with_causes(&error))
                });
            let mut explainer = match opened {
                Ok(explainer) => explainer,
                Err(message) => {
                    // As long as somebody asks, this is the answer.
                    for question in questions {
                        let _ = question.answer.send(Err(message.clone()));
                    }
                    return;
                }
            };
            for Question { bytes, class, answer } in questions {
                // Nobody waits for it any more.
                if answer.is_closed() {
                    continue;
                }
                let explain = || explain(&mut explainer, &head, &bytes, class, max_pixels);
                let explained = catch_unwind(AssertUnwindSafe(explain))
                    .unwrap_or_else(|_| Err("the explanation ended by a panic; report this".to_owned()));
                let _ = answer.send(explained);
            }
        };
        let name = thread::Builder::new().name("explain".to_owned());
        name.spawn(work).map_err(|error| ApiError::internal(&error))?;
        *queue = Some(sender.clone());
        Ok(sender)
    }
}

fn explain(
    explainer: &mut Explainer<'_>,
    head: &Head,
    bytes: &[u8],
    class: usize,
    max_pixels: u64,
) -> Result<Vec<ClassExplanation>, String> {
    let preprocess = &head.provenance.spec.preprocess;
    let options = DecodeOptions::for_preprocess(preprocess, max_pixels);
    let photo = decode(bytes, &options).map_err(|error| with_causes(&error))?;
    let pass = explainer.run_on(&photo).map_err(|error| with_causes(&error))?;
    let explained =
        explainer.explain(&pass, &[class], &mut |_, _| {}).map_err(|error| with_causes(&error))?;
    let window = preprocess.window(photo.width(), photo.height());
    let drawn = explained.into_iter().map(|explanation| {
        let picture = overlay(&photo, window, &explanation.map);
        let jpeg = encode_jpeg(&picture, QUALITY).map_err(|error| with_causes(&error))?;
        Ok(ClassExplanation {
            class: head.model.class_names[explanation.class].clone(),
            score: explanation.score,
            method: explanation.method,
            bias: explanation.bias,
            overlay: format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(jpeg)),
        })
    });
    drawn.collect()
}
