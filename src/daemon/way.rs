//! Between a source and its lane: rules, encoder, queue. Apart from the sources because it is what changes under one that goes on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::{Batch, StreamId};
use crate::encode::{self, Encoder};
use crate::lane::Entrance;
use crate::pool::Pool;
use crate::rules::engine::Engine;
use crate::settlement::Settlement;
use crate::source::Outlet;
use crate::tap::{Look, Tap};

/// Where other rules are left for a way; it takes them up with its next batch.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange(Arc<Mutex<Option<Engine>>>);

impl Exchange {
    /// These rules from now on. An event in parts that is under way is judged by them as if its first part had not been seen.
    pub(super) fn leave(&self, rules: Engine) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rules);
    }

    fn take(&self) -> Option<Engine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// See the module. Takes each batch through the rules, encodes it and queues it.
pub(super) struct Way {
    /// `None`: no rule concerned the source when it began, so that it leaves out itself what was settled before.
    pub(super) rules: Option<Engine>,
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
        if !self.sift(&mut batch, look.as_mut()) {
            if let Some(look) = look {
                look.sent(None);
            }
            self.pool.give_block(batch.bytes);
            self.pool.give_events(batch.events);
            return;
        }
        let arena = self.encoder.arena_for(&batch).map(|capacity| self.pool.block(capacity)).unwrap_or_default();
        let (batch, freed) = self.encoder.encode(batch, arena);
        if let Some(block) = freed {
            self.pool.give_block(block);
        }
        if let Some(look) = look {
            look.sent(Some(&batch));
        }
        self.lane.send(batch);
    }

    fn skips(&self) -> bool {
        self.rules.is_some()
    }

    fn protect(&mut self, _: StreamId) {
        // All of the lane: what is on disk has to come before what is only in memory.
        self.lane.protect();
    }

    fn fits(&self, bytes: &[u8]) -> usize {
        self.encoder.fits(bytes)
    }
}

impl Way {
    /// Takes the batch through the rules; whether anything of it is left.
    fn sift(&mut self, batch: &mut Batch, look: Option<&mut Look>) -> bool {
        if let Some(others) = self.others.take() {
            self.rules = Some(others);
        }
        let Some(rules) = &mut self.rules else {
            if let Some(look) = look {
                look.judged(batch, None, &[]);
            }
            return true;
        };
        rules.trace(look.as_ref().map(|look| look.trace()));
        let stream = Arc::clone(&batch.stream);
        let sifted = rules.run(batch, || self.settlement.began(stream.id, &stream.topic));
        if let Some(look) = look {
            let (trace, all) = rules.traced();
            look.judged(batch, trace, all);
        }
        batch.charge.resize(encode::charge_for(batch.bytes.capacity(), batch.events.len()));
        if let Some(sifted) = sifted {
            self.settlement.sift(stream.id, batch.ticket, &stream.topic, sifted, batch.events.is_empty());
        }
        !batch.events.is_empty()
    }
}
