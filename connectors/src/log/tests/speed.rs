//! What encoding and decoding cost; a figure to read, not a gate: only a gross ratio fails.

use super::*;
use crate::log::frames::{Frames, Skips};
use crate::log::object::{self, Object};
use bytes::Bytes;
use std::time::Instant;

/// File rows, the shape of bulk loads.
fn rows(count: u64) -> Vec<Event> {
    (0..count)
        .map(|n| Event {
            source: 1,
            movement: Movement::View,
            late: false,
            time: 1_433_221_332_117_000 + n as i64 * 1_733,
            id: EventId([n.wrapping_mul(0x9E37_79B9_7F4A_7C15), n]),
            value: Fixed4(0),
            user: ecow::eco_format!("{}", n.wrapping_mul(7_919) % 1_400_000),
            event_type: "view".into(),
            page: EcoString::new(),
            item: ecow::eco_format!("{}", n.wrapping_mul(104_729) % 460_000),
            extra: None,
            stay: None,
        })
        .collect()
}

#[test]
fn encoding_and_decoding_stay_within_the_budget() {
    let batch = Batch { time: 1, events: rows(50_000), ..Batch::default() };
    let mut best = [f64::MAX; 2];
    for _ in 0..5 {
        let start = Instant::now();
        let (_, chunks) = object::encode_segment(&batch, 1, object::Writer::default()).expect("encodes");
        best[0] = best[0].min(start.elapsed().as_secs_f64());
        let bytes = Bytes::from(chunks.concat());
        let start = Instant::now();
        let mut frames = Frames::of(Object::parse("x", bytes).expect("parses")).expect("reads");
        let mut found = Batch::default();
        frames.read_into(&mut found, &Skips::new()).expect("reads");
        best[1] = best[1].min(start.elapsed().as_secs_f64());
        assert!(found == batch);
    }
    let [encode, decode] = best.map(|seconds| seconds * 1e9 / 50_000.0);
    println!("encode {encode:.0} ns, decode {decode:.0} ns per event");
    // Ten times the budget of an optimised build, a hundred times in an unoptimised one.
    let limit = if cfg!(debug_assertions) { 15_000.0 } else { 1_500.0 };
    assert!(encode < limit && decode < limit, "encode {encode:.0} ns, decode {decode:.0} ns per event");
}
