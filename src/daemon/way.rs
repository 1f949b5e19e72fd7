//! Between a source and its lane: rules, encoder, queue. Apart from the sources because it is what changes under one that goes on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::{Batch, StreamId};
use crate::encode::{self, Encoder};
use crate::lane::Entrance;
use crate::ledger::Count;
use crate::pool::Pool;
use crate::rules::engine::Engine;
use crate::rules::route::{self, Share};
use crate::settlement::Settlement;
use crate::source::Outlet;
use crate::tap::{Look, Tap};

/// Rules, and the entrances to the lanes of the topics that they may give events to, in the order of [`Engine::topics`].
#[derive(Debug)]
pub(super) struct Routing {
    pub(super) rules: Engine,
    pub(super) lanes: Vec<Entrance>,
}

/// Where other rules are left for a way; it takes them up with its next batch.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange(Arc<Mutex<Option<Routing>>>);

impl Exchange {
    /// These rules from now on. An event in parts that is under way is judged by them as if its first part had not been seen.
    pub(super) fn leave(&self, routing: Routing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(routing);
    }

    fn take(&self) -> Option<Routing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// See the module. Takes each batch through the rules, encodes it, and queues it, each event in its lane.
pub(super) struct Way {
    /// `None`: no rule concerned the source when it began, so that it leaves out itself what was settled before.
    pub(super) routing: Option<Routing>,
    pub(super) others: Exchange,
    pub(super) settlement: Arc<Settlement>,
    pub(super) encoder: Encoder,
    pub(super) lane: Entrance,
    pub(super) pool: Arc<Pool>,
    pub(super) tap: Arc<Tap>,
}

impl Outlet for Way {
    fn push(&mut self, mut batch: Batch) {
        let mut look = self.tap.look(&batch);
        let Some(others) = self.sift(&mut batch, look.as_mut()) else {
            if let Some(look) = look {
                look.sent(None, |_| None);
            }
            self.pool.give_block(batch.bytes);
            self.pool.give_events(batch.events);
            return;
        };
        let arena = self.encoder.arena_for(&batch).map(|capacity| self.pool.block(capacity)).unwrap_or_default();
        let (mut batch, freed) = self.encoder.encode(batch, arena);
        if let Some(block) = freed {
            self.pool.give_block(block);
        }
        if let Some(look) = look {
            look.sent(Some(&batch), |at| self.routed(at));
        }
        if let Some(Routing { rules, lanes }) = self.routing.as_ref().filter(|_| !others.is_empty()) {
            for (share, given) in &others {
                let lane = usize::from(share.lane).checked_sub(1).map_or(Some(&self.lane), |lane| lanes.get(lane));
                let topic = rules.topic_of(share.lane).unwrap_or(&batch.stream.topic);
                if let Some(lane) = lane {
                    lane.send(route::take(&batch, share, topic, rules.class(share.class), *given));
                }
            }
            route::keep_rest(&mut batch, rules.ways());
        }
        if !batch.events.is_empty() {
            self.lane.send(batch);
        }
    }

    fn skips(&self) -> bool {
        self.routing.is_some()
    }

    fn protect(&mut self, _: StreamId) {
        // All of each lane: what is on disk has to come before what is only in memory.
        self.lane.protect();
        self.routing.iter().flat_map(|routing| &routing.lanes).for_each(Entrance::protect);
    }

    fn fits(&self, bytes: &[u8]) -> usize {
        self.encoder.fits(bytes)
    }
}

impl Way {
    /// The topic of another lane that the event of this number in the last batch goes to.
    fn routed(&self, at: usize) -> Option<String> {
        let rules = &self.routing.as_ref()?.rules;
        rules.topic_of(rules.ways().get(at)?.0).map(ToString::to_string)
    }

    /// Takes the batch through the rules. Returns what of it goes another way than the rest, each share with the number of its part and what its lane
    /// was given of the stream before; `None` if nothing of the batch is left.
    fn sift(&mut self, batch: &mut Batch, look: Option<&mut Look>) -> Option<Vec<(Share, (u32, Count))>> {
        if let Some(others) = self.others.take() {
            self.routing = Some(others);
        }
        let Some(Routing { rules, .. }) = &mut self.routing else {
            if let Some(look) = look {
                look.judged(batch, None);
            }
            return Some(Vec::new());
        };
        rules.trace(look.as_ref().map(|look| look.trace()));
        let stream = Arc::clone(&batch.stream);
        let sifted = rules.run(batch, |topics, number| self.settlement.began(stream.id, topics, number));
        if let Some(look) = look {
            look.judged(batch, Some(rules));
        }
        batch.charge.resize(encode::charge_for(batch.bytes.capacity(), batch.events.len()));
        let Some(sifted) = sifted else { return Some(Vec::new()) };
        let shares = rules.shares(batch);
        let topic = |share: &Share| Arc::clone(rules.topic_of(share.lane).unwrap_or(&stream.topic));
        let others: Vec<_> = shares.iter().map(|share| (topic(share), share.from, share.count)).collect();
        let all = shares.iter().map(|share| share.events.len()).sum::<usize>() == batch.events.len();
        let given = self.settlement.sift((stream.id, batch.ticket), &stream.topic, sifted, &others, all);
        (!batch.events.is_empty()).then(|| shares.into_iter().zip(given).collect())
    }
}

#[cfg(test)]
mod tests;
