use super::*;
use crate::formats::to_dead_letter;
use desireline_records::time::{DAY, HOUR};
use desireline_records::{DeadLetterKind, Stay};
use proptest::prelude::*;
use std::sync::Arc;

const NOW: Micros = 1_736_175_600_000_000;
const MAC: &str = "00:1b:44:11:3a:b7";

/// A pseudonym that shows how often it was made.
#[derive(Debug)]
struct Hashed;

impl Pseudonyms for Hashed {
    fn pseudonym(&self, id: &str) -> EcoString {
        eco_format!("p{:032x}", xxhash_rust::xxh3::xxh3_128(id.as_bytes()))
    }
}

fn validator(keyed: bool) -> Validator {
    let pseudonyms = keyed.then(|| Arc::new(Hashed) as Arc<dyn Pseudonyms>);
    let wifi = WifiRules { source: 2_000, max_session: 31 * DAY, strict_mac: false, pseudonyms };
    Validator { wifi: Some(wifi), ..Validator::default() }
}

fn letter(keyed: bool, payload: &[u8]) -> DeadLetter {
    let validator = validator(keyed);
    let refusal = read(&validator, 2_000, payload, NOW).expect_err("refused");
    to_dead_letter(&validator, 2_000, Format::Wifi, NOW, "http", refusal, payload)
}

#[test]
fn the_documented_row() {
    let payload = format!(
        r#"{{"mac_address":"{MAC}","space_id":1403,"sensor_id":"ap-1403-2","start_time":"2025-01-06T09:00:00Z","end_time":null,"x":[]}}"#
    );
    let event = read(&validator(false), 2_000, payload.as_bytes(), NOW).expect("valid");
    assert_eq!((event.user.as_str(), event.item.as_str(), event.time), (MAC, "ap-1403-2", 1_736_154_000_000_000));
    assert_eq!(event.stay, Some(Stay { end: None, space: 1403, randomized: false }));
}

#[test]
fn fields_come_in_several_spellings() {
    let at = Some(1_736_154_000_000_000);
    for (payload, space, sensor, start, end) in [
        (r#"{"mac_address":"m","space_id":"7","sensor_id":12,"start_time":1736154000}"#, Some(7), "12", at, None),
        (
            r#"{"mac_address":"m","space_id":-7,"start_time":1736154000000,"end_time":"1736154000.5"}"#,
            Some(-7),
            "",
            at,
            at.map(|at| at + 500_000),
        ),
        (r#"{"mac_address":"m","space_id":7,"start_time":"2025-01-06T10:00:00+01:00","end_time":""}"#, Some(7), "", at, None),
        (r#"{"mac_address":"m","space_id":null,"sensor_id":null,"start_time":"2025-01-06 09:00:00"}"#, None, "", at, None),
        (r#"{"mac_address":77}"#, None, "", None, None),
    ] {
        let raw = parse(payload.as_bytes()).expect(payload);
        assert_eq!((raw.space, raw.sensor.as_ref(), raw.start, raw.end), (space, sensor, start, end), "{payload}");
    }
}

#[test]
fn each_fault_names_its_field() {
    for (field, payload) in [
        ("", "[]"),
        ("", ""),
        ("", "{"),
        ("", r#"{"mac_address":1,"mac_address":2}"#),
        ("mac_address", r#"{"mac_address":{},"space_id":1}"#),
        ("mac_address", r#"{"space_id":1,"start_time":5}"#),
        ("space_id", r#"{"mac_address":"m","space_id":1.5}"#),
        ("space_id", r#"{"mac_address":"m","space_id":"B 1"}"#),
        ("space_id", r#"{"mac_address":"m","space_id":true}"#),
        ("space_id", r#"{"mac_address":"m","space_id":99999999999999999999}"#),
        ("space_id", r#"{"mac_address":"m","space_id":2147483648}"#),
        ("sensor_id", r#"{"mac_address":"m","space_id":1,"sensor_id":[1]}"#),
        ("start_time", r#"{"mac_address":"m","space_id":1,"start_time":"monday"}"#),
        ("start_time", r#"{"mac_address":"m","space_id":1}"#),
        ("end_time", r#"{"mac_address":"m","space_id":1,"start_time":5,"end_time":false}"#),
        ("end_time", r#"{"mac_address":"m","space_id":1,"start_time":5,"end_time":4}"#),
    ] {
        let refusal = read(&validator(true), 2_000, payload.as_bytes(), NOW).expect_err(payload);
        assert_eq!(refusal.field(), field, "{payload}");
        assert_ne!(refusal.kind(), DeadLetterKind::Quarantined);
    }
}

#[test]
fn a_dead_letter_holds_the_pseudonym_and_can_be_replayed() {
    let ahead = NOW + HOUR;
    let payload = format!(r#"{{"mac_address":"DA-A1-19-00-FF-01","space_id":7,"start_time":{},"note":"{MAC}"}}"#, ahead / 1_000_000);
    let kept = letter(true, payload.as_bytes());
    let device = Hashed.pseudonym("da:a1:19:00:ff:01");
    assert_eq!((kept.kind, kept.user.as_str(), kept.format.as_str()), (DeadLetterKind::Quarantined, device.as_str(), REPLACED));
    assert_eq!(kept.payload, format!(r#"{{"device":"{device}","randomized":true,"space_id":7,"start_time":{}}}"#, ahead / 1_000_000));
    let again = replay(&validator(true), &kept, ahead).expect("of this format").expect("its time has come");
    let direct = read(&validator(true), 2_000, payload.as_bytes(), ahead).expect("valid");
    assert_eq!(again, direct, "the same session as if it had come now");
}

#[test]
fn nobody_speaks_for_a_device_by_its_pseudonym() {
    let victim = Hashed.pseudonym(MAC);
    let row = |id: &str| format!(r#"{{{id},"space_id":7,"start_time":{}}}"#, (NOW + HOUR) / 1_000_000);
    let posed = letter(true, row(&format!(r#""mac_address":"{victim}""#)).as_bytes());
    assert_ne!(posed.user, victim, "hashed like any other id");
    let posed = replay(&validator(true), &posed, NOW + HOUR).expect("of this format").expect("valid");
    assert_ne!(posed.user, victim);
    let inner = letter(true, row(&format!(r#""device":"{victim}","randomized":true"#)).as_bytes());
    assert!(inner.payload.starts_with("(withheld"), "{}", inner.payload);
    assert!(replay(&validator(true), &inner, NOW + HOUR).expect("of this format").is_err());
    // Kept while addresses were kept, replayed after they are replaced.
    let raw = letter(false, row(&format!(r#""mac_address":"{MAC}","device":"x""#)).as_bytes());
    assert_eq!((raw.format.as_str(), raw.user.as_str()), ("wifi", MAC));
    assert_eq!(replay(&validator(true), &raw, NOW + HOUR).expect("of this format").expect("valid").user, victim);
}

#[test]
fn no_dead_letter_holds_an_address() {
    let bare = MAC.replace(':', "");
    for payload in [
        format!(r#"{{"mac_address":"{MAC}","space_id":"{MAC}","start_time":5}}"#),
        format!(r#"{{"mac_address":"{MAC}","space_id":1,"sensor_id":"ap of {MAC}","start_time":"x"}}"#),
        format!(r#"{{"mac_address":"{MAC}","space_id":1,"sensor_id":"{bare}","start_time":"x"}}"#),
        format!(r#"{{"mac_address":"{bare}","space_id":1,"start_time":"{}"}}"#, MAC.to_uppercase()),
        r#"{"mac_address":"x","space_id":1,"start_time":"001b.4411.3ab7"}"#.to_owned(),
        format!(r#"{{"mac_address":"{MAC}","space_id":1,"start_time":"#),
        format!(r#"{{"mac_address":["{MAC}"],"space_id":1}}"#),
        format!(r#"{{"mac":"{MAC}","space_id":1}}"#),
        format!("{MAC},1,2,3"),
        format!(r#""{MAC}""#),
        format!(r#"{{"mac_address":"{MAC}{}"}}"#, "x".repeat(6_000)),
    ] {
        let kept = letter(true, payload.as_bytes());
        let text = format!("{kept:?}").to_lowercase();
        assert!(!text.contains(MAC) && !text.contains(&bare) && !text.contains("001b.4411.3ab7"), "{payload} is kept as {text}");
        assert!(!kept.payload.is_empty() && kept.payload.len() <= limits::DEAD_LETTER_PAYLOAD);
    }
    let opaque = letter(true, br#"{"mac_address":"Laptop-of-Ann","space_id":1,"sensor_id":"near laptop-of-ann","start_time":"x"}"#);
    assert!(!format!("{opaque:?}").to_lowercase().contains("ann"), "{opaque:?}");
    assert!(opaque.payload.contains(r#""space_id":1"#) && opaque.payload.contains(r#""start_time":"x""#), "the rest is kept");
}

#[test]
fn a_broken_row_is_found_by_its_device() {
    let kept = letter(true, format!(r#"{{"mac_address":"{MAC}","space_id":"#).as_bytes());
    assert_eq!(kept.user, Hashed.pseudonym(MAC), "so that erasing the device finds it");
    assert!(kept.payload.starts_with("(withheld: "));
    let same = letter(true, format!(r#"{{"mac_address":"{MAC}","space_id":"#).as_bytes());
    assert_eq!(kept.payload, same.payload, "equal rows can be told");
    let off = letter(false, format!(r#"{{"mac_address":"{}","space_id":"#, MAC.to_uppercase()).as_bytes());
    assert_eq!((off.user.as_str(), off.payload.contains("00:1B")), (MAC, true), "addresses are kept: so is the row");
}

#[test]
fn without_rules_nothing_is_taken_or_kept() {
    let payload = format!(r#"{{"mac_address":"{MAC}","space_id":7,"start_time":5}}"#);
    let validator = Validator::default();
    let refusal = read(&validator, 2_000, payload.as_bytes(), NOW).expect_err("no rules");
    assert!(refusal.detail().contains("not taken"), "{refusal:?}");
    let kept = to_dead_letter(&validator, 2_000, Format::Wifi, NOW, "http", refusal, payload.as_bytes());
    assert!(kept.user.is_empty() && kept.payload.starts_with("(withheld"), "{kept:?}");
}

#[test]
fn addresses_are_found_inside_of_text() {
    for text in ["00:1b:44:11:3a:b7", "x00-1B-44-11-3A-B7y", "at 001b.4411.3ab7!", "001b44113ab7", "ap 001b44113ab7, 2"] {
        assert!(holds_address(text), "{text}");
    }
    for text in ["", "1736154000000", "2025-01-06T09:00:00.000Z", "ap-1403-2", "x001b44113ab7", "äöüäöüäöüäöüäöü"] {
        assert!(!holds_address(text), "{text}");
    }
}

proptest! {
    #[test]
    fn no_payload_panics_or_shows_its_address(
        keys in proptest::collection::vec("mac_address|space_id|sensor_id|start_time|end_time|device|x", 0..6),
        values in proptest::collection::vec(
            "null|true|-?[0-9]{1,22}(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,4})?|\"00:1b:44:11:3a:b7\"|\"[a-z0-9.:T é-]{0,20}\"|\"\\\\u00[46]1\"|\\[\\]|\\{\\}",
            6,
        ),
        cut_at in 0usize..400,
        keyed in any::<bool>(),
    ) {
        let fields: Vec<String> = keys.iter().zip(&values).map(|(k, v)| format!("\"{k}\":{v}")).collect();
        let payload = format!("{{{}}}", fields.join(","));
        let payload = &payload.as_bytes()[..payload.len().min(cut_at)];
        let validator = validator(keyed);
        if let Err(refusal) = read(&validator, 2_000, payload, NOW) {
            let kept = to_dead_letter(&validator, 2_000, Format::Wifi, NOW, "http", refusal, payload);
            let shown = format!("{kept:?}");
            prop_assert!(!keyed || !shown.contains(MAC), "{shown}");
            prop_assert!(replay(&validator, &kept, NOW).is_some());
        }
    }
}
