use super::*;
use desireline_records::time::{DAY, HOUR};
use desireline_records::validate::{Pseudonyms, WifiRules};
use desireline_records::{DeadLetterKind, EventId, Fixed4, Movement};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::Write;

const NOW: Micros = 1_800_000_000_000_000;
const HEADER: &str = "timestamp,visitorid,event,itemid,transactionid\n";

/// Hands out its bytes in pieces of an odd size, as sockets and decompressors do.
struct Trickle(Vec<u8>, usize, usize);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.2).min(self.0.len() - self.1);
        buffer[..count].copy_from_slice(&self.0[self.1..self.1 + count]);
        self.1 += count;
        Ok(count)
    }
}

fn open(content: impl Into<Vec<u8>>, options: CsvOptions) -> Result<CsvReader, CsvError> {
    let content = content.into();
    let length = content.len() as u64;
    CsvReader::from_read(Trickle(content, 0, 1_021), Path::new("shop/events.csv"), length, options)
}

fn drain(reader: &mut CsvReader) -> Progress {
    let mut all = Progress::default();
    while let Some(chunk) = reader.next_chunk(&Validator::default(), NOW).expect("reads") {
        all.events.extend(chunk.progress.events);
        all.dead_letters.extend(chunk.progress.dead_letters);
        all.positions.extend(chunk.progress.positions);
    }
    all
}

fn load(content: impl Into<Vec<u8>>, format: Format) -> Progress {
    drain(&mut open(content, CsvOptions::new(1, format)).expect("opens"))
}

fn ampelios(rows: &str) -> Progress {
    load(format!("{HEADER}{rows}"), Format::Ampelios)
}

#[test]
fn rows_become_events() {
    let all = ampelios("1433221332117,257597,view,355908,\r\n1433224214164,992329,transaction,248676,4000\n");
    assert_eq!((all.events.len(), all.dead_letters.len()), (2, 0));
    let (view, buy) = (&all.events[0], &all.events[1]);
    assert_eq!((view.source, view.time, view.movement), (1, 1_433_221_332_117_000, Movement::View));
    assert_eq!((view.user.as_str(), view.item.as_str(), view.extra.is_none()), ("257597", "355908", true));
    assert_eq!(buy.extra.as_ref().map(|extra| extra.transaction_id.as_str()), Some("4000"));
}

#[test]
fn a_row_and_its_message_are_the_same_event() {
    let file = load("timestamp,visitorid,event,itemid,transactionid,value\n5,7,transaction, 9 ,4,12.50\n", Format::Ampelios);
    let other_order = load("value,event,transactionid,itemid,visitorid,timestamp\n12.5,transaction,4,9,7,5\n", Format::Ampelios);
    let message = br#"{"timestamp":"5","visitorid":"7","event":"transaction","itemid":"9","transactionid":"4","value":12.5}"#;
    let raw = formats::parse(Format::Ampelios, 1, message).expect("parses");
    let event = Validator::default().validate(&raw, NOW, EcoString::new).expect("valid");
    assert_eq!(file.events, std::slice::from_ref(&event));
    assert_eq!(other_order.events, [event]);
    let tidy = ampelios("5,7,view,9,\n");
    let untidy = ampelios("5, 7,\"view\",9\n");
    assert_eq!(tidy.events[0].id, EventId::row(b"5,7,view,9,", 0));
    assert_eq!(tidy.events, untidy.events);
}

#[test]
fn equal_rows_are_told_apart_by_their_ordinal() {
    let all = ampelios("5,7,view,9,\n6,7,view,9,\n5,7,view,9,\n5,7,view,9\n");
    let ids: Vec<_> = all.events.iter().map(|event| event.id).collect();
    let row = |ordinal| EventId::row(b"5,7,view,9,", ordinal);
    assert_eq!(ids, [row(0), EventId::row(b"6,7,view,9,", 0), row(1), row(2)]);
}

#[test]
fn bad_rows_are_dead_letters_and_reading_goes_on() {
    let mut content = format!("{HEADER}1,1,view,1,\nx,2,view,1,\n3,3,look,1,\n\n").into_bytes();
    content.extend_from_slice(b"4,\xff4,view,1,\n");
    content.extend_from_slice(format!("5,{},view,1,\n", "5".repeat(70_000)).as_bytes());
    content.extend_from_slice(format!("6,{},view,1,\n", "6".repeat(700_000)).as_bytes());
    content.extend_from_slice(format!("{},7,view,1,\n8,\"8\n9,9,view,1,\n", NOW / 1_000 + 600_000).as_bytes());
    let all = load(content, Format::Ampelios);
    let times: Vec<_> = all.events.iter().map(|event| event.time).collect();
    assert_eq!(times, [1_000, 9_000]);
    let letters: Vec<_> = all.dead_letters.iter().map(|l| (l.kind, l.field.as_str(), l.origin.as_str(), l.user.as_str())).collect();
    let (malformed, invalid) = (DeadLetterKind::Malformed, DeadLetterKind::Invalid);
    assert_eq!(
        letters,
        [
            (malformed, "timestamp", "events.csv:3", "2"),
            (invalid, "event", "events.csv:4", "3"),
            (malformed, "", "events.csv:6", ""),
            (malformed, "", "events.csv:7", ""),
            (malformed, "", "events.csv:8", ""),
            (DeadLetterKind::Quarantined, "timestamp", "events.csv:9", "7"),
            (malformed, "", "events.csv:10", ""),
        ]
    );
    assert!(all.dead_letters.iter().all(|letter| letter.payload.len() <= 4_096 && !letter.detail.is_empty()));
    assert_eq!(all.dead_letters[6].payload, "8,\"8");
}

#[test]
fn a_dead_letter_can_be_read_again() {
    let late = format!("{},7,view,1,\n", NOW / 1_000 + 600_000);
    let letter = &ampelios(&late).dead_letters[0];
    let format: Format = letter.format.parse().expect("a format");
    let raw = formats::parse(format, letter.source, letter.payload.as_bytes()).expect("parses");
    let event = Validator::default().validate(&raw, NOW + 700_000_000, EcoString::new).expect("its time has come");
    assert_eq!(event.id, EventId::row(late.trim().as_bytes(), 0));
    let flat = load("timestamp,user_id,page,properties\n1e30,u,\"/a\"\"b\",\"{\"\"a\"\":1}\"\n", Format::Clickstream);
    let payload: serde_json::Value = serde_json::from_str(&flat.dead_letters[0].payload).expect("JSON");
    assert_eq!(payload, serde_json::json!({"timestamp": "1e30", "user_id": "u", "page": "/a\"b", "properties": {"a": 1}}));
}

#[test]
fn quotes_breaks_and_marks() {
    let content = "\u{feff}page,user_id,timestamp,event_type\r\n\"/a,\"\"b\"\"\r\nc\",u,1700000000,view\r\n/d,\"u\",1700000001.5,\n/e,u,2023-11-14T22:13:22Z,\"search\"";
    let all = load(content, Format::Desireline);
    let seen: Vec<_> = all.events.iter().map(|e| (e.page.as_str(), e.event_type.as_str(), e.time - 1_700_000_000_000_000)).collect();
    assert_eq!(seen, [("/a,\"b\"\r\nc", "view", 0), ("/d", "pageview", 1_500_000), ("/e", "search", 2_000_000)]);
    assert!(all.dead_letters.is_empty());
    let sessions: Vec<_> = all.events.iter().filter_map(|e| e.extra.as_ref().map(|x| x.session_id.as_str())).collect();
    assert_eq!(sessions, ["session_u_1700000000", "session_u_1700000001", "session_u_1700000002"]);
}

#[test]
fn line_numbers_count_breaks_inside_quotes() {
    let all = load("timestamp,user_id,page\n1,u,\"a\nb\"\r\n1,u,\"a\nb\"\n\nx,u,\n", Format::Desireline);
    assert_eq!(all.events.len(), 2);
    assert_eq!(all.dead_letters[0].origin, "events.csv:7");
}

#[test]
fn flat_columns_bring_value_item_and_identity() {
    let content = "timestamp,user_id,event_type,properties,event_id,value\n\
        1,u,purchase,\"{\"\"total_amount\"\":9.5,\"\"product_id\"\":\"\"p\"\"}\",e1,\n1,u,purchase,,,3\n1,u,purchase,{oops,,\n";
    let all = load(content, Format::Clickstream);
    assert_eq!((all.events[0].value, all.events[0].item.as_str()), (Fixed4(95_000), "p"));
    assert_eq!(all.events[0].id, EventId::explicit("e1"));
    assert_eq!(all.events[1].value, Fixed4(30_000));
    assert_eq!(all.events[1].id, EventId::row(b"1,u,purchase,,,3,,,,,,,", 0));
    assert_eq!(all.dead_letters[0].field, "properties");
}

#[test]
fn gzip_is_told_by_its_first_bytes() {
    let mut packed = Vec::new();
    for part in [format!("{HEADER}1,1,view,1,\n"), "2,2,view,2,\n".to_owned()] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(part.as_bytes()).expect("packs");
        packed.extend(encoder.finish().expect("packs"));
    }
    let length = packed.len() as u64;
    let mut reader = open(packed.clone(), CsvOptions::new(1, Format::Ampelios)).expect("opens");
    let chunk = reader.next_chunk(&Validator::default(), NOW).expect("reads").expect("has rows");
    assert_eq!((chunk.progress.events.len(), chunk.rows, chunk.bytes_read, chunk.bytes_total), (2, 2, length, length));
    packed.truncate(packed.len() - 12);
    let mut reader = open(packed, CsvOptions::new(1, Format::Ampelios)).expect("opens");
    let error = reader.next_chunk(&Validator::default(), NOW).expect_err("cut short");
    assert_eq!(error.code(), "csv_io");
}

#[test]
fn headers_that_do_not_fit_are_explained() {
    let header = |content: &str, format| match open(content, CsvOptions::new(1, format)) {
        Err(CsvError::Header { detail, .. }) => detail,
        other => panic!("{content}: {:?}", other.map(|reader| reader.rows())),
    };
    let detail = header("1433221332117,257597,view,355908,\n", Format::Ampelios);
    assert!(detail.contains("missing: timestamp, visitorid, event"), "{detail}");
    let detail = header("page\n/a\n", Format::Clickstream);
    assert!(detail.contains("timestamp or occurred_at, user_id or session_id or client_id"), "{detail}");
    assert!(header("", Format::Ampelios).contains("empty"));
    assert!(header("timestamp,visitorid,event,event\n", Format::Ampelios).contains("twice"));
    assert!(header(&",".repeat(300), Format::Ampelios).contains("columns"));
    assert!(header("\"timestamp\n", Format::Ampelios).contains("no header"));
    let missing = CsvReader::open("/nowhere/at/all.csv", CsvOptions::new(1, Format::Ampelios)).err().expect("missing");
    assert_eq!((missing.code(), missing.retryable()), ("csv_io", false));
}

#[test]
fn columns_can_be_mapped_from_other_names() {
    let mut options = CsvOptions::new(1, Format::Ampelios);
    options.columns = [("ts", "timestamp"), ("customer", "visitorid")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    let mut reader = open("customer,Event,ts,note\n7,view,5,hello\n", options).expect("opens");
    assert_eq!(drain(&mut reader).events[0].user, "7");
}

#[test]
fn a_resumed_load_equals_an_uninterrupted_one() {
    let rows: String = (0..500).map(|i| if i % 7 == 3 { "bad\n".into() } else { format!("{},u{},view,1,\n", i % 20, i % 3) }).collect();
    let content = format!("{HEADER}{rows}");
    let options = CsvOptions { chunk_rows: 64, partition: Some("file:x".into()), ..CsvOptions::new(1, Format::Ampelios) };
    let whole = drain(&mut open(content.clone(), options.clone()).expect("opens"));
    let positions: Vec<_> = whole.positions.iter().map(|p| (p.before, p.after)).collect();
    assert_eq!((positions[0], positions.len(), positions[7]), ((0, 64), 8, (448, 500)));
    for done in [0, 1, 64, 137, 499, 500] {
        let mut reader = open(content.clone(), options.clone()).expect("opens");
        assert_eq!(reader.skip_rows(done).expect("skips"), done);
        let rest = drain(&mut reader);
        let good_before = (0..done).filter(|i| i % 7 != 3).count();
        assert_eq!(rest.events, whole.events[good_before..]);
        assert_eq!(rest.dead_letters, whole.dead_letters[done as usize - good_before..]);
        assert_eq!(rest.positions.first().map(|p| p.before), (done < 500).then_some(done as i64));
    }
    assert_eq!(open(content, options).expect("opens").skip_rows(1_000).expect("skips"), 500);
}

#[test]
fn the_row_limit_is_kept() {
    let options = CsvOptions { rows_max: 2, ..CsvOptions::new(1, Format::Ampelios) };
    let mut reader = open(format!("{HEADER}1,1,view,,\n2,1,view,,\n3,1,view,,\n"), options).expect("opens");
    let error = reader.next_chunk(&Validator::default(), NOW).expect_err("too many");
    assert_eq!((error.code(), error.retryable()), ("csv_too_many_rows", false));
}

#[test]
fn a_fingerprint_names_one_state_of_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.csv");
    let big = vec![b'x'; 500_000];
    std::fs::write(&path, &big).expect("writes");
    let changed = std::fs::metadata(&path).and_then(|m| m.modified()).expect("metadata");
    let set_back = || File::options().write(true).open(&path).and_then(|f| f.set_modified(changed)).expect("sets the time");
    let first = fingerprint(&path).expect("reads");
    assert_eq!(first, fingerprint(&path).expect("reads"));
    let mut last_byte = big.clone();
    *last_byte.last_mut().expect("not empty") = b'y';
    for other in [last_byte, vec![b'x'; 500_001], b"short".to_vec(), Vec::new()] {
        std::fs::write(&path, other).expect("writes");
        set_back();
        assert_ne!(first, fingerprint(&path).expect("reads"));
    }
    std::fs::write(&path, &big).expect("writes");
    set_back();
    assert_eq!(first, fingerprint(&path).expect("reads"));
    File::options()
        .write(true)
        .open(&path)
        .and_then(|f| f.set_modified(changed + std::time::Duration::from_secs(1)))
        .expect("sets the time");
    assert_ne!(first, fingerprint(&path).expect("reads"));
}

#[tokio::test]
async fn a_thread_reads_ahead_and_stops_with_its_receiver() {
    let content: String = (0..1_000).map(|i| format!("{i},1,view,,\n")).collect();
    let options = CsvOptions { chunk_rows: 100, ..CsvOptions::new(1, Format::Ampelios) };
    let reader = open(format!("{HEADER}{content}"), options.clone()).expect("opens");
    let mut chunks = spawn_reader(reader, Arc::default(), || NOW, 2).expect("a thread");
    let mut rows = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        rows.push(chunk.expect("reads").rows);
    }
    assert_eq!(rows, (1..=10).map(|i| i * 100).collect::<Vec<_>>());

    let clock = Arc::new(());
    let held = clock.clone();
    let tick = move || {
        let _ = &held;
        NOW
    };
    let reader = open(format!("{HEADER}{content}"), options).expect("opens");
    let mut chunks = spawn_reader(reader, Arc::default(), tick, 1).expect("a thread");
    chunks.recv().await.expect("a chunk").expect("reads");
    drop(chunks);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while Arc::strong_count(&clock) > 1 {
        assert!(std::time::Instant::now() < deadline, "the thread has not ended");
        tokio::task::yield_now().await;
    }
}

/// Splits like the reader should, slowly: by the rules of RFC 4180 over the whole text, for sound files only.
fn reference(content: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = vec![String::new()];
    let mut chars = content.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let field = row.last_mut().expect("a row has a field");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.push(chars.next().expect("peeked")),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(String::new()),
            '\n' if !quoted => rows.push(std::mem::replace(&mut row, vec![String::new()])),
            c => field.push(c),
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sound_files_read_as_the_reference_does(
        rows in proptest::collection::vec(("[a-z]{1,5}|[a-z,\"\n]{1,5}|[a-z\u{e9}]{1,3}", "[a-z]{0,3}|[a,\"\n\r]{1,9}"), 1..60),
        piece in 1usize..50,
    ) {
        let cell = |text: &str| if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() };
        let body: String = rows.iter().map(|(user, page)| format!("1,{},{}\n", cell(&format!("u{user}")), cell(page))).collect();
        let content = format!("timestamp,user_id,page\n{body}");
        let length = content.len() as u64;
        let trickle = Trickle(content.clone().into_bytes(), 0, piece);
        let options = CsvOptions { chunk_rows: 7, ..CsvOptions::new(1, Format::Desireline) };
        let mut reader = CsvReader::from_read(trickle, Path::new("x.csv"), length, options).expect("opens");
        let all = drain(&mut reader);
        prop_assert_eq!(all.dead_letters, vec![]);
        let expected: Vec<_> = reference(&content)[1..].iter().map(|row| (row[1].trim().to_owned(), row[2].trim().to_owned())).collect();
        let read: Vec<_> = all.events.iter().map(|e| (e.user.to_string(), e.page.to_string())).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn no_bytes_panic_and_every_row_is_answered(bytes in proptest::collection::vec(
        prop_oneof![Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..400), format in 0usize..3) {
        let format = Format::ALL[format];
        let header = if format == Format::Ampelios { HEADER } else { "timestamp,user_id,page\n" };
        let content = [header.as_bytes(), &bytes].concat();
        let mut reader = open(content, CsvOptions { chunk_rows: 5, ..CsvOptions::new(1, format) }).expect("opens");
        let all = drain(&mut reader);
        prop_assert_eq!(reader.rows(), (all.events.len() + all.dead_letters.len()) as u64);
        let _ = open(bytes, CsvOptions::new(1, format)).map(|mut reader| drain(&mut reader));
    }
}

/// A pseudonym that the tests can read.
#[derive(Debug)]
struct Reversed;

impl Pseudonyms for Reversed {
    fn pseudonym(&self, id: &str) -> EcoString {
        id.chars().rev().collect()
    }
}

fn wifi() -> Validator {
    let wifi = WifiRules { source: 1, max_session: 31 * DAY, strict_mac: false, pseudonyms: Some(Arc::new(Reversed)) };
    Validator { wifi: Some(wifi), ..Validator::default() }
}

#[test]
fn wifi_sessions_are_read_by_their_columns() {
    let content = "sensor_id,mac_address,floor,start_time,space_id,end_time\n\
        ap-1,00:1B:44:11:3A:B7,2,2023-11-14T20:00:00Z,7,2023-11-14T21:00:00Z\n\
        ap-1,00-1b-44-11-3a-b7,2,1699992000,7,\n\
        ,laptop,2,1699992000000,7\n\
        ap-1,00:1b:44:11:3a:b7,2,2023-11-14T20:00:00Z,7,2023-11-14T19:00:00Z\n\
        ap-1,00:1b:44:11:3a:b7,2,2023-11-14T20:00:00Z,B7,\n\
        ap-1,\"00:1b:44:11:3a:b7\n";
    let mut reader = open(content.as_bytes().to_vec(), CsvOptions::new(1, Format::Wifi)).expect("opens");
    let chunk = reader.next_chunk(&wifi(), NOW).expect("reads").expect("has rows");
    let events: Vec<_> = chunk.progress.events.iter().map(|e| (e.user.as_str(), e.time, e.stay.expect("a stay").end)).collect();
    let start = 1_699_992_000_000_000;
    assert_eq!(events, [("7b:a3:11:44:b1:00", start, Some(start + HOUR)), ("7b:a3:11:44:b1:00", start, None), ("potpal", start, None)]);
    assert_eq!(chunk.progress.events[0].id, chunk.progress.events[1].id, "which row it is does not matter");
    let fields: Vec<_> = chunk.progress.dead_letters.iter().map(|letter| (letter.field.as_str(), letter.user.as_str())).collect();
    assert_eq!(fields, [("end_time", "7b:a3:11:44:b1:00"), ("space_id", "7b:a3:11:44:b1:00"), ("", "")]);
    assert!(!format!("{:?}", chunk.progress.dead_letters).contains("00:1b:44"), "{:?}", chunk.progress.dead_letters);
    let again = formats::wifi::replay(&wifi(), &chunk.progress.dead_letters[0], NOW).expect("of this format");
    assert!(again.is_err(), "its end still lies before its start");
    let missing = open(b"mac_address,start_time\n".to_vec(), CsvOptions::new(1, Format::Wifi)).err().expect("no space").to_string();
    assert!(missing.contains("space_id"), "{missing}");
}

#[test]
fn a_load_of_wifi_sessions_goes_on_where_it_stopped() {
    let rows: String = (0..500).map(|n| format!("m{},{n},{},\n", n % 7, 1_699_000_000 + n)).collect();
    let content = format!("mac_address,space_id,start_time,end_time\n{rows}").into_bytes();
    let read = |skip: u64| {
        let mut reader = open(content.clone(), CsvOptions { chunk_rows: 90, ..CsvOptions::new(1, Format::Wifi) }).expect("opens");
        assert_eq!(reader.skip_rows(skip).expect("passes"), skip);
        let mut events = Vec::new();
        while let Some(chunk) = reader.next_chunk(&wifi(), NOW).expect("reads") {
            events.extend(chunk.progress.events);
        }
        events
    };
    let whole = read(0);
    assert_eq!(whole.len(), 500);
    assert_eq!(read(123)[..], whole[123..]);
}
