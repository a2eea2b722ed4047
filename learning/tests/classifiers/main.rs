//! The classifier bank against the reference's stored answers, against what holds for any rows, and at its edges.

mod bank;
mod edges;
mod invariances;
mod oracle;
mod preparation;
mod references;
mod scores;
mod selection;
mod stored;
mod support;
