//! The photos that one event names, each on its way to its outputs, whatever becomes of the others.
//!
//! Two are worked on at once, as far as the memory goes: one is read or stored while the network sees the other.

use std::collections::BTreeMap;

use futures_util::future::OptionFuture;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;

use super::time_share::TimeShare;
use crate::delivery::settle::{self, Done, Order};
use crate::error::Result;
use crate::pipeline::{AT_ONCE, Context, Pipeline};
use crate::store::ObjectRef;

/// Makes of each object what `order` says; what became of each, in their order. `None` is no photo for us.
pub(super) async fn settle_each(
    pipeline: &Pipeline,
    objects: Vec<Result<Option<ObjectRef>>>,
    order: &Order,
    context: &Context,
) -> Vec<Result<Done>> {
    let share = TimeShare::of(context);
    // An object that is named twice is made once: the second waits for the first, and finds that all is done.
    let locks: BTreeMap<_, _> = objects.iter().filter_map(name).map(|name| (name, Mutex::new(()))).collect();
    let work = objects.into_iter().map(|object| {
        let lock = name(&object).and_then(|name| locks.get(&name));
        settle_one(pipeline, object, order, &share, lock, context)
    });
    let work: Vec<_> = work.collect();
    stream::iter(work).buffered(AT_ONCE.get()).collect().await
}

async fn settle_one(
    pipeline: &Pipeline,
    object: Result<Option<ObjectRef>>,
    order: &Order,
    share: &TimeShare<'_>,
    lock: Option<&Mutex<()>>,
    context: &Context,
) -> Result<Done> {
    let attempt = pipeline.begin(context).patient();
    let (bucket, key) = name(&object).unwrap_or_default();
    let work = async {
        let Some(object) = object? else { return Ok(Done::Passed) };
        let _locked = OptionFuture::from(lock.map(Mutex::lock)).await;
        settle::process(&attempt, &object, order).await
    };
    let done = share.run(work).await;
    settle::count(&attempt, &done);
    match &done {
        Ok(done) => tracing::info!(bucket, key, done = done.name(), "object"),
        Err(error) => tracing::warn!(bucket, key, error = error.chain(), "object failed"),
    }
    done
}

/// Bucket and key of the object, if one is named.
pub(super) fn name(object: &Result<Option<ObjectRef>>) -> Option<(String, String)> {
    let object = object.as_ref().ok()?.as_ref()?;
    Some((object.bucket.clone(), object.key.clone()))
}
