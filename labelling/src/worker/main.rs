//! What `desireline worker` does.

use super::interpret::{Interpreter, Late};
use super::protocol::{self, Answer, Load};
use super::sandbox::{self, Limits};
use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use std::io::{self, BufReader, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The interpreter recurses on the machine's stack as deep as the code calls.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// How long the function may run for one frame: the first eight bytes of its payload, in milliseconds.
pub const BUDGET_BYTES: usize = 8;

/// Reads requests from standard input and writes answers to standard output until the first ends. The arguments of the process are the
/// limits: bytes of memory and seconds of processor time. Errors go to standard error.
pub fn worker_main() -> ExitCode {
    let mut arguments = std::env::args().rev();
    let cpu_seconds = arguments.next().and_then(|argument| argument.parse().ok());
    let memory_bytes = arguments.next().and_then(|argument| argument.parse().ok());
    let (Some(memory_bytes), Some(cpu_seconds)) = (memory_bytes, cpu_seconds) else {
        eprintln!("the service starts its workers by itself, with the memory in bytes and the processor time in seconds");
        return ExitCode::from(2);
    };
    let serve = move || serve(&Limits { memory_bytes, cpu_seconds });
    let thread = std::thread::Builder::new().name("labelling-worker".to_owned()).stack_size(STACK_BYTES).spawn(serve);
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        Ok(Ok(Err(error))) | Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::FAILURE
        }
        Ok(Err(_)) => ExitCode::FAILURE,
    }
}

fn serve(limits: &Limits) -> io::Result<()> {
    let started = sandbox::lock_down(limits)?;
    let (input, output) = (io::stdin(), io::stdout());
    let (mut input, mut output) = (BufReader::new(input.lock()), output.lock());
    protocol::write(&mut output, protocol::STARTED, &serde_json::to_vec(&started)?)?;
    converse(&mut input, &mut output)
}

fn converse(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut interpreter = None;
    while let Some((tag, payload)) = protocol::read(input, protocol::REQUEST_BYTES_MAX)? {
        let mut answer = match tag {
            protocol::LOAD => load(&payload, &mut interpreter),
            protocol::ROWS => rows(&payload, interpreter.as_ref()),
            other => failed(format!("a frame with the unknown tag {other}")),
        };
        answer.cpu_nanos = cpu_nanos();
        protocol::write(output, protocol::ANSWER, &serde_json::to_vec(&answer)?)?;
    }
    Ok(())
}

fn failed(error: impl ToString) -> Answer {
    Answer { error: Some(error.to_string()), ..Answer::default() }
}

fn load(payload: &[u8], interpreter: &mut Option<Interpreter>) -> Answer {
    *interpreter = None;
    let loaded = serde_json::from_slice::<Load>(payload).map_err(|error| (None, error.to_string()));
    match loaded.and_then(Interpreter::new) {
        Ok(new) => {
            *interpreter = Some(new);
            Answer::default()
        }
        Err((line, message)) => Answer { late: line, error: Some(message), ..Answer::default() },
    }
}

fn rows(payload: &[u8], interpreter: Option<&Interpreter>) -> Answer {
    let Some(interpreter) = interpreter else { return failed("rows before a function") };
    let Some((millis, stream)) = payload.split_first_chunk::<BUDGET_BYTES>() else { return failed("rows without a time") };
    let until = Instant::now() + Duration::from_millis(u64::from_le_bytes(*millis));
    let batch = match batch(stream) {
        Ok(batch) => batch,
        Err(error) => return failed(error),
    };
    match interpreter.votes(&batch, until) {
        Ok(answer) => answer,
        Err(Late(line)) => Answer { late: Some(line.unwrap_or(0)), ..Answer::default() },
    }
}

fn batch(stream: &[u8]) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let mut reader = StreamReader::try_new(stream, None)?;
    reader.next().unwrap_or_else(|| Err(arrow_schema::ArrowError::IpcError("no batch".to_owned())))
}

fn cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
