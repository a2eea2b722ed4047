//! What several views do alike: gather what comes at a time until the time is complete, then work it off.

use crate::engine::ControlIn;
use desireline_records::LogicalTime;
use std::collections::BTreeMap;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::generic::operator::Operator;

/// An operator that gets the controls of each time together, in the order of times, once no more can come. The output carries no data, only
/// progress.
pub fn controls_at_closed_times<'scope>(
    controls: StreamVec<'scope, LogicalTime, ControlIn>,
    name: &str,
    mut work: impl FnMut(Vec<ControlIn>) + 'static,
) -> StreamVec<'scope, LogicalTime, ()> {
    let mut stash: BTreeMap<LogicalTime, Vec<ControlIn>> = BTreeMap::new();
    controls.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, name, move |_capability, _info| {
        move |(controls, frontier), _output| {
            controls.for_each(|cap, data| stash.entry(*cap.time()).or_default().append(data));
            while let Some(entry) = stash.first_entry() {
                if frontier.less_equal(entry.key()) {
                    break;
                }
                work(entry.remove());
            }
        }
    })
}

/// An operator that gets the updates (spread by `pact`) and the controls of each time together, in the order of times, once neither can
/// bring more of that time. The output carries no data, only progress.
pub fn at_closed_times<'scope, D: 'static>(
    updates: StreamVec<'scope, LogicalTime, D>,
    controls: StreamVec<'scope, LogicalTime, ControlIn>,
    pact: impl ParallelizationContract<LogicalTime, Vec<D>>,
    name: &str,
    mut work: impl FnMut(LogicalTime, Vec<D>, Vec<ControlIn>) + 'static,
) -> StreamVec<'scope, LogicalTime, ()> {
    let mut stash: BTreeMap<LogicalTime, (Vec<D>, Vec<ControlIn>)> = BTreeMap::new();
    updates.binary_frontier::<_, CapacityContainerBuilder<Vec<()>>, _, _, _, _>(
        controls,
        pact,
        Pipeline,
        name,
        move |_capability, _info| {
            move |(updates, updates_frontier), (controls, controls_frontier), _output| {
                updates.for_each(|cap, data| stash.entry(*cap.time()).or_default().0.append(data));
                controls.for_each(|cap, data| stash.entry(*cap.time()).or_default().1.append(data));
                while let Some(entry) = stash.first_entry() {
                    let time = *entry.key();
                    if updates_frontier.less_equal(&time) || controls_frontier.less_equal(&time) {
                        break;
                    }
                    let (updates, controls) = entry.remove();
                    work(time, updates, controls);
                }
            }
        },
    )
}
