//! The interpreted tier: a process of its own that runs Python and can do nothing else.
//!
//! The interpreter has no files, network or processes to offer to the code it runs. But it is a large program that runs code of anyone
//! who may write a labelling function, and it can be made to use memory without bound or to die. So it runs in a worker: our own binary,
//! started as `desireline worker`, with an empty environment and three pipes, that gives up everything but reading requests and writing
//! answers before it reads the first request ([`sandbox`]). Its parent bounds what it answers and how long it takes ([`crate::pool`]).

pub mod interpret;
pub mod main;
pub mod protocol;
pub mod rows;
pub mod sandbox;
