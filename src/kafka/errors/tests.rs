//! The table of errors against librdkafka's own list of them. Apart, with `unsafe`, because that list is only to be had from its C interface.
#![expect(unsafe_code, reason = "rdkafka has no safe way to librdkafka's list of errors")]

use std::ffi::CStr;
use std::ptr;

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaRespErr;

use super::*;

/// Every code that librdkafka describes, with its name there.
fn described() -> Vec<(i32, String)> {
    let (mut first, mut count) = (ptr::null(), 0);
    // SAFETY: both places are live; what comes back is a table that lives as long as the program.
    unsafe { rd::rd_kafka_get_err_descs(&raw mut first, &raw mut count) };
    let mut all = Vec::new();
    for index in 0..count {
        // SAFETY: the table has `count` rows; the code is read as the number it is, whatever rdkafka knows; names are C strings or null.
        let (code, name) = unsafe {
            let row = first.add(index);
            let name = (!(*row).name.is_null()).then(|| CStr::from_ptr((*row).name).to_string_lossy().into_owned());
            ((&raw const (*row).code).cast::<i32>().read(), name)
        };
        all.extend(name.map(|name| (code, name)));
    }
    all
}

fn known() -> impl Iterator<Item = Code> {
    (-200..200).filter_map(|number| RDKafkaRespErr::try_from(number).ok()).map(Code::from)
}

#[test]
fn every_code_of_librdkafka_is_in_one_class_by_name() {
    let described = described();
    assert!(described.len() > 150, "{}", described.len());
    for (number, name) in &described {
        let code = RDKafkaRespErr::try_from(*number).unwrap_or_else(|_| panic!("rdkafka does not know {name} ({number})"));
        assert_ne!(reason(Code::from(code)), "unknown_code", "{name} ({number}) falls through the table");
    }
    // The other way round: rdkafka names nothing that librdkafka does not, but for the marks at the ends of its list.
    let numbers: Vec<i32> = described.iter().map(|(number, _)| *number).collect();
    let alone: Vec<i32> = (-200..200).filter(|number| RDKafkaRespErr::try_from(*number).is_ok() && !numbers.contains(number)).collect();
    let ends =
        [RDKafkaRespErr::RD_KAFKA_RESP_ERR__BEGIN, RDKafkaRespErr::RD_KAFKA_RESP_ERR__END, RDKafkaRespErr::RD_KAFKA_RESP_ERR_END_ALL];
    assert!(alone.iter().all(|number| ends.iter().any(|end| *end as i32 == *number)), "{alone:?}");
}

#[test]
fn every_code_that_rdkafka_knows_has_been_judged_by_name() {
    assert!(known().count() > 150);
    for code in known() {
        assert_ne!(reason(code), "unknown_code", "{code:?}");
    }
}

#[test]
fn reasons_are_fit_for_metrics_and_each_means_one_class() {
    let mut classes = std::collections::HashMap::new();
    for code in known() {
        assert!(reason(code).bytes().all(|b| b == b'_' || b.is_ascii_lowercase()), "{code:?}");
        assert_eq!(*classes.entry(reason(code)).or_insert(class(code)), class(code), "{code:?}");
    }
    assert!(classes.len() < 50);
}

#[test]
fn the_table_of_the_contract_holds() {
    for (code, expected) in [
        (Code::BrokerTransportFailure, Class::Retry),
        (Code::MessageTimedOut, Class::Retry),
        (Code::NotLeaderForPartition, Class::Retry),
        (Code::NotEnoughReplicas, Class::Retry),
        (Code::Authentication, Class::WaitForPerson),
        (Code::TopicAuthorizationFailed, Class::WaitForPerson),
        (Code::UnknownTopic, Class::WaitForPerson),
        (Code::UnknownTopicOrPartition, Class::WaitForPerson),
        (Code::KafkaStorageError, Class::WaitForPerson),
        (Code::Unknown, Class::WaitForPerson),
        (Code::InvalidRecord, Class::Poison),
        (Code::MessageSizeTooLarge, Class::BatchTooLarge),
        (Code::OutOfOrderSequenceNumber, Class::Fatal),
        (Code::Fenced, Class::Fatal),
        (Code::PurgeInflight, Class::Purged),
    ] {
        assert_eq!(class(code), expected, "{code:?}");
    }
}

#[test]
fn what_waits_for_a_person_says_what_to_do() {
    let unknown = words(Code::UnknownTopicOrPartition, "audit", "k1:9092,k2:9092");
    assert!(unknown.contains("kafka-topics.sh --bootstrap-server k1:9092,k2:9092 --create --topic audit"), "{unknown}");
    let denied = words(Code::TopicAuthorizationFailed, "audit", "k1:9092");
    assert!(denied.contains("kafka-acls.sh --bootstrap-server k1:9092 --add") && denied.contains("--topic audit"), "{denied}");
    for code in known() {
        let said = words(code, "audit", "k1:9092");
        assert!(said.contains("audit") || said.contains("k1:9092") || reason(code) == "this_host", "{code:?}: {said}");
        let generic = said.ends_with("see the broker's log for the cause");
        assert_eq!(
            generic,
            matches!(
                reason(code),
                "unexpected"
                    | "transactional_id_denied"
                    | "group_denied"
                    | "interrupted"
                    | "queue_full"
                    | "damaged_on_the_way"
                    | "other_record_refused"
                    | "coordinator"
                    | "quota"
                    | "broker_error"
            ),
            "{code:?}: {said}"
        );
    }
}
