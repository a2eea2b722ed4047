//! Lines of CSV or JSON, to a file or to standard output.

use super::{Format, GenerateError, Generated, Report};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

pub struct Lines {
    out: Box<dyn Write + Send>,
    path: String,
    csv: bool,
    format: Format,
    buffer: String,
    buffered_rows: u64,
    report: Report,
}

impl Lines {
    pub fn stdout(format: Format) -> Self {
        Self::new(Box::new(std::io::stdout()), "standard output".into(), false, format)
    }

    pub fn csv(path: &Path, header: &str) -> Result<Self, GenerateError> {
        let mut lines = Self::new(create(path)?, path.display().to_string(), true, Format::Ampelios);
        lines.buffer.push_str(header);
        lines.buffer.push('\n');
        Ok(lines)
    }

    pub fn json(path: &Path, format: Format) -> Result<Self, GenerateError> {
        Ok(Self::new(create(path)?, path.display().to_string(), false, format))
    }

    fn new(out: Box<dyn Write + Send>, path: String, csv: bool, format: Format) -> Self {
        Self { out, path, csv, format, buffer: String::new(), buffered_rows: 0, report: Report::default() }
    }

    pub fn push<E: Generated>(&mut self, row: &E) {
        if self.csv {
            row.csv(&mut self.buffer);
        } else {
            row.json(self.format, &mut self.buffer);
            self.buffer.push('\n');
        }
        self.buffered_rows += 1;
    }

    pub fn flush(&mut self) -> Result<bool, GenerateError> {
        match self.out.write_all(self.buffer.as_bytes()).and_then(|()| self.out.flush()) {
            Ok(()) => {
                self.report.rows += self.buffered_rows;
                self.report.bytes += self.buffer.len() as u64;
                self.buffer.clear();
                self.buffered_rows = 0;
                Ok(true)
            }
            // `generate … | head`: whoever reads has enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.buffer.clear();
                Ok(false)
            }
            Err(source) => Err(GenerateError::Write { path: self.path.clone(), source }),
        }
    }

    pub fn finish(mut self) -> Result<Report, GenerateError> {
        self.flush()?;
        Ok(self.report)
    }
}

fn create(path: &Path) -> Result<Box<dyn Write + Send>, GenerateError> {
    match File::create(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(source) => Err(GenerateError::Write { path: path.display().to_string(), source }),
    }
}
