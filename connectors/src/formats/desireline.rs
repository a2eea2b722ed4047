//! The format `desireline`: the JSON body of `POST /api/ingest`.
//!
//! The fields of a flat `clickstream` event and, all optional, `event_id` (an idempotency key), `source_id`, `item_id`,
//! `transaction_id` and `value` (a number or a decimal string). There is no envelope.

use super::Malformed;
use super::clickstream::Flat;
use super::scalar::object;
use desireline_records::RawEvent;

pub(super) fn parse(text: &str) -> Result<RawEvent<'_>, Malformed> {
    object::<Flat<'_>>("", text)?.into_raw()
}

#[cfg(test)]
mod tests {
    use super::super::{Format, parse};
    use desireline_records::Fixed4;

    #[test]
    fn the_documented_body() {
        let body = br#"{"client_id":"c","user_id":"u","event_type":"purchase","event_id":"e-1","item_id":"i","transaction_id":"t",
            "value":19.99,"timestamp":"2023-11-14T22:13:20Z"}"#;
        let raw = parse(Format::Desireline, 1, body).expect("parses");
        assert_eq!((raw.event_id.as_ref(), raw.item.as_ref(), raw.transaction_id.as_ref()), ("e-1", "i", "t"));
        assert_eq!((raw.value, raw.time), (Some(Fixed4(199_900)), Some(1_700_000_000_000_000)));
    }

    #[test]
    fn there_is_no_envelope() {
        let raw = parse(Format::Desireline, 1, br#"{"user_id":"outer","event":{"user_id":"inner"}}"#).expect("parses");
        assert_eq!(raw.user, "outer");
    }

    #[test]
    fn money_keeps_its_decimals() {
        for (token, units) in
            [("0.1", 1_000), ("9007199254740.9931", 90_071_992_547_409_931), ("\"-3.00005\"", -30_001), ("1e2", 1_000_000)]
        {
            let body = format!("{{\"user_id\":1,\"value\":{token}}}");
            assert_eq!(parse(Format::Desireline, 1, body.as_bytes()).expect(token).value, Some(Fixed4(units)), "{token}");
        }
        for token in ["1e400", "\"NaN\"", "\"inf\"", "99999999999999999999", "true", "[1]", "\"1,5\""] {
            let body = format!("{{\"user_id\":1,\"value\":{token}}}");
            assert_eq!(parse(Format::Desireline, 1, body.as_bytes()).expect_err(token).field, "value", "{token}");
        }
    }
}
