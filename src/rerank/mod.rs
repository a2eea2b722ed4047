//! Re-ranking by context.
