//! What the log says beside the views: positions, watermarks, settings, runs, erasures.
//!
//! A fold over batches, fed by the replay and by every commit alike, so that a restart continues exactly where the log ends.

use super::touched::Touched;
use desireline_dataflows::views::catalog::Catalog;
use desireline_dataflows::views::occupancy::tree::Tree;
use desireline_records::{
    Batch, ColdPart, Control, EraseUser, Horizon, LogicalTime, Micros, PartitionKey, PartitionState, Position, SourceId, SourceSettings,
};
use ecow::EcoString;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartitionFold {
    pub position: i64,
    pub max_time: Option<Micros>,
    /// Does not hold the watermark back.
    pub idle: bool,
    /// Keeps the watermark of its source where it is.
    pub held: bool,
}

#[derive(Clone, Debug)]
pub struct SourceFold {
    pub settings: SourceSettings,
    /// Whether the log has its settings: rows may only follow them.
    pub recorded: bool,
    pub partitions: BTreeMap<PartitionKey, PartitionFold>,
    pub watermark: Option<Micros>,
    /// Rows before this are late. Never moves back.
    pub late_before: Option<Micros>,
    /// The last seal.
    pub boundary: Option<Micros>,
    pub cold: Vec<ColdPart>,
    /// Sealed WiFi sessions, and what was counted of them.
    pub cold_stays: Vec<ColdPart>,
    pub cold_cells: Vec<ColdPart>,
    /// WiFi sessions that ended before this are gone, by retention.
    pub retained_from: Option<Micros>,
}

impl SourceFold {
    fn new(settings: SourceSettings) -> Self {
        Self {
            settings,
            recorded: false,
            partitions: BTreeMap::new(),
            watermark: None,
            late_before: None,
            boundary: None,
            cold: Vec::new(),
            cold_stays: Vec::new(),
            cold_cells: Vec::new(),
            retained_from: None,
        }
    }

    /// The watermark that the partitions allow now: the least of the active ones' largest times. Never moves back, and stands
    /// still while a bulk load holds it.
    fn allowed_watermark(&self) -> Option<Micros> {
        if self.partitions.values().any(|p| p.held) {
            return self.watermark;
        }
        let least = self.partitions.values().filter(|p| !p.idle).filter_map(|p| p.max_time).min();
        least.max(self.watermark)
    }

    fn follow_watermark(&mut self, watermark: Micros) {
        self.watermark = Some(watermark).max(self.watermark);
        // A WiFi session is late when the day on which it begins is being sealed.
        if self.settings.wifi.is_some() {
            return;
        }
        if let (Horizon::After(horizon), Some(watermark)) = (self.settings.horizon, self.watermark) {
            let lateness = self.settings.lateness.min(horizon);
            self.late_before = Some(watermark.saturating_sub(lateness)).max(self.late_before);
        }
    }
}

/// An erasure whose rows still lie in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingErasure {
    pub erase: EraseUser,
    pub time: LogicalTime,
}

#[derive(Clone, Debug, Default)]
pub struct LogFold {
    pub sources: BTreeMap<SourceId, SourceFold>,
    pub runs: BTreeMap<EcoString, serde_json::Value>,
    pub erasures: Vec<PendingErasure>,
    /// The last erasure that has been carried out: the log does not name its user any more.
    pub erased_until: LogicalTime,
    pub catalog: Catalog,
    pub paused_projections: BTreeSet<EcoString>,
    pub spaces: Tree,
    /// Records of interfaces that keep their own, by kind and key.
    pub documents: BTreeMap<EcoString, BTreeMap<EcoString, serde_json::Value>>,
    /// What label matrices have not evaluated yet.
    pub touched: Touched,
    pub last_time: LogicalTime,
    pub last_tick: Option<Micros>,
}

impl LogFold {
    pub fn source(&mut self, source: SourceId) -> &mut SourceFold {
        self.sources.entry(source).or_insert_with(|| SourceFold::new(SourceSettings::defaults(source)))
    }

    /// Applies a batch that is durable.
    pub fn apply(&mut self, batch: &Batch) {
        self.last_time = batch.time;
        self.last_tick = batch.tick.or(self.last_tick);
        self.touched.apply(batch);
        for position in &batch.positions {
            self.position(position);
        }
        for control in &batch.controls {
            self.control(control, batch.time);
        }
        for (source, watermark) in &batch.watermarks {
            self.source(*source).follow_watermark(*watermark);
        }
    }

    fn position(&mut self, position: &Position) {
        let partition = self.source(position.source).partitions.entry(position.partition.clone()).or_default();
        partition.position = position.after;
        partition.max_time = position.max_time.max(partition.max_time);
    }

    fn control(&mut self, control: &Control, time: LogicalTime) {
        match control {
            Control::Settings(settings) => {
                let source = self.source(settings.source);
                source.settings = settings.clone();
                source.recorded = true;
            }
            Control::Partition(state) => self.partition(state),
            Control::Seal(seal) => {
                let source = self.source(seal.source);
                source.boundary = Some(seal.boundary).max(source.boundary);
                source.cold.extend(seal.parts.iter().cloned());
            }
            Control::ReplaceCold { source, removed, added } => {
                let cold = &mut self.source(*source).cold;
                cold.retain(|part| !removed.contains(&part.name));
                cold.extend(added.iter().cloned());
            }
            Control::Erase(erase) if !erase.user.is_empty() => {
                let keeps_context = self.sources.get(&erase.source).is_some_and(|s| s.settings.context.is_some());
                if let (true, Ok(id)) = (keeps_context, erase.user.parse()) {
                    self.catalog.remove_person(id);
                }
                self.erasures.push(PendingErasure { erase: erase.clone(), time });
            }
            Control::Run { run_id, body } => {
                self.runs.insert(run_id.clone(), body.clone());
            }
            Control::Erase(_) => self.erased_until = self.erased_until.max(time),
            Control::Removed | Control::DeleteEvent { .. } | Control::Model(_) | Control::SkipRow { .. } | Control::Reopen(_) => {}
            Control::Space(space) => drop(self.spaces.put(space.clone())),
            Control::SpaceRemoved { space_id } => drop(self.spaces.remove(*space_id)),
            Control::SealFrom(from) => {
                let source = self.source(from.source);
                source.late_before = Some(from.boundary).max(source.late_before);
            }
            Control::SealStays(seal) => {
                let source = self.source(seal.source);
                source.boundary = Some(seal.boundary).max(source.boundary);
                source.cold_stays.extend(seal.stays.iter().cloned());
                source.cold_cells.extend(seal.cells.iter().cloned());
            }
            Control::ReplaceStays(replace) => {
                let source = self.source(replace.source);
                replace.apply(&mut source.cold_stays, &mut source.cold_cells);
                source.retained_from = replace.retained_from.max(source.retained_from);
            }
            Control::Document { kind, key, body } => {
                let documents = self.documents.entry(kind.clone()).or_default();
                match body {
                    serde_json::Value::Null => drop(documents.remove(key)),
                    body => drop(documents.insert(key.clone(), body.clone())),
                }
            }
            Control::Matrix(_) | Control::MatrixRemoved { .. } | Control::MatrixRows(_) | Control::MatrixModel(_) => {}
            Control::Catalog(entry) => drop(self.catalog.put(entry)),
            Control::Projection { name, paused: true } => drop(self.paused_projections.insert(name.clone())),
            Control::Projection { name, paused: false } => drop(self.paused_projections.remove(name)),
        }
    }

    fn partition(&mut self, state: &PartitionState) {
        match state {
            PartitionState::Active { source, partition } => self.partition_mut(*source, partition).idle = false,
            PartitionState::Idle { source, partition } => self.partition_mut(*source, partition).idle = true,
            PartitionState::Hold { source, partition } => self.partition_mut(*source, partition).held = true,
            // A load is over: its partition will never have rows again.
            PartitionState::Release { source, partition } => {
                self.source(*source).partitions.remove(partition);
            }
            PartitionState::Reset { source, partition, position } => self.partition_mut(*source, partition).position = *position,
        }
    }

    fn partition_mut(&mut self, source: SourceId, partition: &PartitionKey) -> &mut PartitionFold {
        self.source(source).partitions.entry(partition.clone()).or_default()
    }

    /// Completes a batch that is about to be committed: each row's late bit (by the watermarks of earlier batches), the largest
    /// times of its partitions, and the watermarks after it.
    pub fn complete(&self, batch: &mut Batch) {
        let mut last = None;
        for event in &mut batch.events {
            let late_before = match last {
                Some((source, late_before)) if source == event.source => late_before,
                _ => self.sources.get(&event.source).and_then(|s| s.late_before),
            };
            last = Some((event.source, late_before));
            event.late = late_before.is_some_and(|before| event.time < before);
        }
        let mut after: BTreeMap<SourceId, SourceFold> = BTreeMap::new();
        let touched = batch.positions.iter().map(|p| p.source).chain(batch.controls.iter().filter_map(partition_source));
        for source in touched {
            if let Some(known) = self.sources.get(&source) {
                after.entry(source).or_insert_with(|| known.clone());
            }
        }
        let before: BTreeMap<SourceId, Option<Micros>> = after.iter().map(|(source, fold)| (*source, fold.watermark)).collect();
        let mut next = LogFold { sources: after, ..LogFold::default() };
        batch.positions.iter().for_each(|position| next.position(position));
        // A load that is released counts once more before its partition goes.
        let released: Vec<(SourceId, Option<Micros>)> = batch.controls.iter().filter_map(|control| next.released(control)).collect();
        batch.controls.iter().for_each(|control| next.control(control, 0));
        for (source, fold) in &next.sources {
            let loaded = released.iter().filter(|(s, _)| s == source).filter_map(|(_, time)| *time).max();
            let active = fold.partitions.values().any(|p| !p.idle && p.max_time.is_some());
            let allowed =
                if active || fold.partitions.values().any(|p| p.held) { fold.allowed_watermark() } else { loaded.max(fold.watermark) };
            if let Some(watermark) = allowed.filter(|w| before.get(source).is_none_or(|b| Some(*w) > *b)) {
                batch.watermarks.push((*source, watermark));
            }
        }
    }

    fn released(&self, control: &Control) -> Option<(SourceId, Option<Micros>)> {
        match control {
            Control::Partition(PartitionState::Release { source, partition }) => {
                let fold = self.sources.get(source)?.partitions.get(partition)?;
                Some((*source, fold.max_time))
            }
            _ => None,
        }
    }
}

fn partition_source(control: &Control) -> Option<SourceId> {
    let Control::Partition(state) = control else { return None };
    Some(match state {
        PartitionState::Active { source, .. }
        | PartitionState::Idle { source, .. }
        | PartitionState::Hold { source, .. }
        | PartitionState::Release { source, .. }
        | PartitionState::Reset { source, .. } => *source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use desireline_records::time::{HOUR, MINUTE};
    use desireline_records::{Event, EventId, Fixed4, Movement};

    fn event(time: Micros) -> Event {
        Event {
            source: 1,
            movement: Movement::View,
            late: false,
            time,
            id: EventId::explicit("x"),
            value: Fixed4(0),
            user: "u".into(),
            event_type: "view".into(),
            page: "".into(),
            item: "".into(),
            extra: None,
            stay: None,
        }
    }

    fn position(partition: &str, max_time: Micros) -> Position {
        Position { source: 1, partition: partition.into(), before: 0, after: 1, max_time: Some(max_time) }
    }

    fn commit(fold: &mut LogFold, mut batch: Batch) -> Batch {
        fold.complete(&mut batch);
        batch.time = fold.last_time + 1;
        fold.apply(&batch);
        batch
    }

    fn with_horizon() -> LogFold {
        let mut fold = LogFold::default();
        let settings = SourceSettings { horizon: Horizon::After(2 * HOUR), lateness: HOUR, ..SourceSettings::defaults(1) };
        commit(&mut fold, Batch { controls: vec![Control::Settings(settings)], ..Batch::default() });
        fold
    }

    #[test]
    fn the_watermark_is_the_least_of_the_active_partitions() {
        let mut fold = with_horizon();
        let batch = Batch { positions: vec![position("a", 100 * MINUTE), position("b", 50 * MINUTE)], ..Batch::default() };
        assert_eq!(commit(&mut fold, batch).watermarks, [(1, 50 * MINUTE)]);
        let idle = Control::Partition(PartitionState::Idle { source: 1, partition: "b".into() });
        let batch = commit(&mut fold, Batch { controls: vec![idle], ..Batch::default() });
        assert_eq!(batch.watermarks, [(1, 100 * MINUTE)]);
        let batch = commit(&mut fold, Batch { positions: vec![position("b", 60 * MINUTE)], ..Batch::default() });
        assert_eq!(batch.watermarks, [], "a watermark never moves back");
    }

    #[test]
    fn late_is_judged_by_earlier_batches_only() {
        let mut fold = with_horizon();
        let batch = Batch { events: vec![event(300 * MINUTE), event(0)], positions: vec![position("a", 300 * MINUTE)], ..Batch::default() };
        let batch = commit(&mut fold, batch);
        assert!(!batch.events[1].late, "the batch that moves the watermark is not judged by it");
        let batch = commit(&mut fold, Batch { events: vec![event(239 * MINUTE), event(240 * MINUTE)], ..Batch::default() });
        assert_eq!([batch.events[0].late, batch.events[1].late], [true, false]);
    }

    #[test]
    fn a_load_holds_the_watermark_until_it_is_released() {
        let mut fold = with_horizon();
        let hold = Control::Partition(PartitionState::Hold { source: 1, partition: "file:1".into() });
        commit(&mut fold, Batch { controls: vec![hold], ..Batch::default() });
        let batch = commit(&mut fold, Batch { positions: vec![position("file:1", 500 * MINUTE)], ..Batch::default() });
        assert_eq!(batch.watermarks, []);
        let release = Control::Partition(PartitionState::Release { source: 1, partition: "file:1".into() });
        let batch = commit(&mut fold, Batch { controls: vec![release], ..Batch::default() });
        assert_eq!(batch.watermarks, [(1, 500 * MINUTE)]);
        let batch = commit(&mut fold, Batch { positions: vec![position("http", 510 * MINUTE)], ..Batch::default() });
        assert_eq!(batch.watermarks, [(1, 510 * MINUTE)], "a finished file holds nothing back");
    }

    #[test]
    fn a_shorter_horizon_never_makes_late_rows_early_again() {
        let mut fold = with_horizon();
        commit(&mut fold, Batch { positions: vec![position("a", 300 * MINUTE)], ..Batch::default() });
        let before = fold.sources[&1].late_before;
        let settings = SourceSettings { horizon: Horizon::After(9 * HOUR), lateness: 9 * HOUR, ..SourceSettings::defaults(1) };
        commit(&mut fold, Batch { controls: vec![Control::Settings(settings)], ..Batch::default() });
        commit(&mut fold, Batch { positions: vec![position("a", 301 * MINUTE)], ..Batch::default() });
        assert_eq!(fold.sources[&1].late_before, before);
    }
}
