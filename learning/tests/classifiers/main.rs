//! The classifier bank against the reference's stored answers, against facts that hold for any rows, and at its edges.

mod oracle;
mod support;
