//! The one table of what a failed send means: what is done about it, what it is called in status and metrics, and what is said to the
//! person who can cure it. Apart because delivery, status and the probe must say the same.

use rdkafka::types::RDKafkaErrorCode as Code;

/// What is done about a message that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It passes by itself: sent again with backoff, for ever.
    Retry,
    /// Somebody must do something: the lane is blocked with this reason, tries again every so often and recovers by itself.
    WaitForPerson,
    /// This one record is refused for its content. To be believed only of a record that was alone in its batch: of several that are refused
    /// together librdkafka says this whatever the broker said, also of those whose time is refused because a clock is wrong.
    Poison,
    /// The batch or the record is refused for its size: sent again in smaller batches; a single record that is still refused waits for a person.
    BatchTooLarge,
    /// The producer is of no use any more: it is made anew, and what was not acknowledged is sent again.
    Fatal,
    /// Never sent, since its producer was purged or closed on our side; whoever did that sends it again.
    Purged,
}

/// What is done about a produce result with this code.
#[must_use]
pub fn class(code: Code) -> Class {
    judgement(code).0
}

/// The name of the trouble in status and metrics: `snake_case`, stable, few.
#[must_use]
pub fn reason(code: Code) -> &'static str {
    judgement(code).1
}

/// Every code that rdkafka knows, by name; what it does not know yet waits for a person, since no rule for it can be trusted.
#[expect(clippy::too_many_lines, reason = "a table")]
fn judgement(code: Code) -> (Class, &'static str) {
    use Class::{BatchTooLarge, Fatal, Poison, Purged, Retry, WaitForPerson};
    match code {
        // No broker to be had, or not now.
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::NodeUpdate
        | Code::UnknownBroker
        | Code::DestroyBroker
        | Code::BrokerNotAvailable
        | Code::NetworkException
        | Code::RebootstrapRequired
        | Code::ListenerNotFound => (Retry, "no_broker"),
        Code::Resolve => (Retry, "name_not_resolved"),
        Code::MessageTimedOut | Code::OperationTimedOut | Code::TimedOutQueue | Code::RequestTimedOut => (Retry, "timeout"),
        Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::ReplicaNotAvailable
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::PreferredLeaderNotAvailable
        | Code::EligibleLeadersNotAvailable
        | Code::ReassignmentInProgress
        | Code::OffsetNotAvailable => (Retry, "no_leader"),
        Code::ISRInsufficient | Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => (Retry, "not_enough_replicas"),
        Code::WaitingForCoordinator
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::ConcurrentTransactions
        | Code::StaleControllerEpoch
        | Code::NotController
        | Code::StaleBrokerEpoch => (Retry, "coordinator"),
        Code::ThrottlingQuotaExceeded => (Retry, "quota"),
        // Passes when what is under way is done, or did not concern this record.
        Code::InProgress | Code::PreviousInProgress | Code::WaitCache | Code::Interrupted | Code::Retry | Code::Partial => {
            (Retry, "interrupted")
        }
        Code::QueueFull => (Retry, "queue_full"),
        Code::InvalidMessage | Code::BadMessage => (Retry, "damaged_on_the_way"),
        Code::InvalidDifferentRecord => (Retry, "other_record_refused"),

        // Somebody must do something.
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownTopicId => (WaitForPerson, "unknown_topic"),
        Code::UnknownPartition => (WaitForPerson, "unknown_partition"),
        Code::InvalidTopic => (WaitForPerson, "invalid_topic"),
        Code::TopicAuthorizationFailed => (WaitForPerson, "topic_denied"),
        Code::ClusterAuthorizationFailed => (WaitForPerson, "cluster_denied"),
        Code::TransactionalIdAuthorizationFailed => (WaitForPerson, "transactional_id_denied"),
        Code::GroupAuthorizationFailed => (WaitForPerson, "group_denied"),
        Code::UnsupportedSASLMechanism | Code::IllegalSASLState => (WaitForPerson, "sasl_mechanism"),
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::SecurityDisabled
        | Code::DelegationTokenAuthDisabled
        | Code::DelegationTokenNotFound
        | Code::DelegationTokenOwnerMismatch
        | Code::DelegationTokenRequestNotAllowed
        | Code::DelegationTokenAuthorizationFailed
        | Code::DelegationTokenExpired
        | Code::InvalidPrincipalType
        | Code::UnacceptableCredential
        | Code::PrincipalDeserializationFailure => (WaitForPerson, "authentication"),
        Code::SSL => (WaitForPerson, "tls"),
        Code::KafkaStorageError | Code::LogDirNotFound => (WaitForPerson, "broker_disk"),
        Code::InvalidTimestamp => (WaitForPerson, "clock"),
        Code::PolicyViolation => (WaitForPerson, "policy"),
        Code::UnsupportedCompressionType | Code::BadCompression => (WaitForPerson, "compression"),
        Code::UnsupportedVersion
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedFeature
        | Code::NotImplemented
        | Code::UnknownProtocol => (WaitForPerson, "broker_too_old"),
        Code::InvalidRequiredAcks | Code::InvalidTransactionTimeout => (WaitForPerson, "producer_setting"),
        Code::CriticalSystemResource | Code::FileSystem => (WaitForPerson, "this_host"),
        Code::Unknown => (WaitForPerson, "broker_error"),

        // The content or the size of a record.
        Code::InvalidRecord => (Poison, "record_refused"),
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => (BatchTooLarge, "too_large"),

        // The producer itself.
        Code::OutOfOrderSequenceNumber | Code::DuplicateSequenceNumber | Code::GaplessGuarantee => (Fatal, "out_of_sequence"),
        Code::ProducerFenced | Code::Fenced | Code::InvalidProducerEpoch | Code::TransactionCoordinatorFenced => (Fatal, "fenced"),
        Code::UnknownProducerId | Code::InvalidProducerIdMapping => (Fatal, "unknown_producer"),
        Code::Fatal | Code::Inconsistent | Code::State | Code::InvalidTransactionalState => (Fatal, "producer_broken"),

        // Our own doing.
        Code::PurgeQueue | Code::PurgeInflight | Code::BrokerDestroy => (Purged, "purged"),

        // Not among what a send can end with, as far as is known.
        Code::Begin
        | Code::End
        | Code::EndAll
        | Code::NoError
        | Code::Fail
        | Code::PartitionEOF
        | Code::InvalidArgument
        | Code::UnknownGroup
        | Code::ExistingSubscription
        | Code::AssignPartitions
        | Code::RevokePartitions
        | Code::Conflict
        | Code::NoOffset
        | Code::Outdated
        | Code::KeySerialization
        | Code::ValueSerialization
        | Code::KeyDeserialization
        | Code::ValueDeserialization
        | Code::ReadOnly
        | Code::NoEnt
        | Code::Underflow
        | Code::InvalidType
        | Code::PollExceeded
        | Code::NotConfigured
        | Code::Application
        | Code::AssignmentLost
        | Code::Noop
        | Code::AutoOffsetReset
        | Code::LogTruncation
        | Code::OffsetOutOfRange
        | Code::InvalidMessageSize
        | Code::OffsetMetadataTooLarge
        | Code::IllegalGeneration
        | Code::InconsistentGroupProtocol
        | Code::InvalidGroupId
        | Code::UnknownMemberId
        | Code::InvalidSessionTimeout
        | Code::RebalanceInProgress
        | Code::InvalidCommitOffsetSize
        | Code::TopicAlreadyExists
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::OperationNotAttempted
        | Code::NonEmptyGroup
        | Code::GroupIdNotFound
        | Code::FetchSessionIdNotFound
        | Code::InvalidFetchSessionEpoch
        | Code::TopicDeletionDisabled
        | Code::MemberIdRequired
        | Code::GroupMaxSizeReached
        | Code::FencedInstanceId
        | Code::ElectionNotNeeded
        | Code::NoReassignmentInProgress
        | Code::GroupSubscribedToTopic
        | Code::UnstableOffsetCommit
        | Code::ResourceNotFound
        | Code::DuplicateResource
        | Code::InconsistentVoterSet
        | Code::InvalidUpdateVersion
        | Code::FeatureUpdateFailed
        | Code::FencedMemberEpoch
        | Code::UnreleasedInstanceId
        | Code::UnsupportedAssignor
        | Code::StaleMemberEpoch
        | Code::UnknownSubscriptionId
        | Code::TelemetryTooLarge => (WaitForPerson, "unexpected"),
        _ => (WaitForPerson, "unknown_code"),
    }
}

/// What is wrong, where, and the remedy. `servers` are the bootstrap servers, joined with commas as Kafka's tools take them.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn words(code: Code, topic: &str, servers: &str) -> String {
    match reason(code) {
        "no_broker" => {
            format!("no broker of {servers} can be reached: `logferry check --connect` says where it ends; nothing is lost, events wait")
        }
        "name_not_resolved" => {
            format!("a broker's name does not resolve (from {servers}): correct DNS, /etc/hosts or the broker's advertised.listeners")
        }
        "timeout" => format!(
            "{servers} did not answer in time for topic \"{topic}\": is the broker overloaded, or the network slow? It is tried again"
        ),
        "no_leader" => {
            format!("a partition of topic \"{topic}\" has no leader just now: brokers of {servers} are down or changing; it is tried again")
        }
        "not_enough_replicas" => format!(
            "topic \"{topic}\" has fewer replicas in sync than its min.insync.replicas: bring the missing brokers of {servers} back, or lower that setting"
        ),
        "unknown_topic" => missing_topic(topic, servers),
        "unknown_partition" => format!(
            "topic \"{topic}\" on {servers} has fewer partitions than before: was it deleted and created anew? Restore its number of partitions (kafka-topics.sh --bootstrap-server {servers} --alter --topic {topic} --partitions N)"
        ),
        "invalid_topic" => format!(
            "\"{topic}\" can't be the name of a topic (at most 249 of A-Z a-z 0-9 . _ -): correct kafka.topic or the source's topic"
        ),
        "topic_denied" => format!(
            "this client may not write to topic \"{topic}\": {}",
            grant(&format!("--operation Write --operation Describe --topic {topic}"), servers)
        ),
        "cluster_denied" => {
            format!("this client may not use an idempotent producer: {}", grant("--operation IdempotentWrite --cluster", servers))
        }
        "authentication" => format!(
            "{servers} refused the credentials ({code}): correct kafka.sasl (mechanism, username, password) or kafka.tls (cert_file, key_file)"
        ),
        "sasl_mechanism" => {
            format!("{servers} does not offer this SASL mechanism ({code}): set kafka.sasl.mechanism to one that the listener has enabled")
        }
        "tls" => format!(
            "TLS with {servers} failed: is its port a TLS listener, and does kafka.tls.ca_file hold the authority that signed the broker's certificate?"
        ),
        "broker_disk" => {
            format!("a broker of {servers} can't write topic \"{topic}\" to its disk: is it full or broken? See the broker's log")
        }
        "clock" => format!(
            "{servers} refuses the time of messages for topic \"{topic}\": set this host's clock right (NTP), or raise the topic's message.timestamp.after.max.ms"
        ),
        "policy" => format!("a policy of {servers} refuses messages for topic \"{topic}\": ask its administrator"),
        "compression" => format!("topic \"{topic}\" on {servers} does not take this compression: set kafka.compression to another"),
        "broker_too_old" => format!("{servers} does not support what is asked of it ({code}): Kafka 2.1 or newer is needed"),
        "producer_setting" => format!("{servers} refuses a setting of the producer ({code}): see [kafka.librdkafka]"),
        "this_host" => format!("the Kafka client lacks memory, threads or files on this host ({code}): raise the service's limits"),
        "record_refused" => {
            format!("topic \"{topic}\" refuses the content of a record ({code}): correct what the topic demands of records")
        }
        "too_large" => format!(
            "topic \"{topic}\" refuses messages of this size: lower kafka.max_event, or raise the topic's limit: kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {topic} --add-config max.message.bytes=BYTES"
        ),
        "fenced" => format!(
            "{servers} knows a newer producer in this one's place ({code}): if it happens again, a second agent runs with the same agent.id: stop one of them"
        ),
        "out_of_sequence" | "unknown_producer" | "producer_broken" => {
            format!("the producer for topic \"{topic}\" can't go on ({code}): it is made anew, and what was not acknowledged is sent again")
        }
        "purged" => format!("taken back from the producer for topic \"{topic}\" before it was sent; it is sent again"),
        _ => format!("sending to topic \"{topic}\" on {servers} failed: {code}; it is tried again, see the broker's log for the cause"),
    }
}

/// What is said of a topic that does not exist.
fn missing_topic(topic: &str, servers: &str) -> String {
    format!(
        "topic \"{topic}\" does not exist on {servers}: create it with kafka-topics.sh --bootstrap-server {servers} --create --topic {topic} --partitions 6 --replication-factor 3, or set kafka.topic"
    )
}

/// The command that grants what is missing.
pub(super) fn grant(what: &str, servers: &str) -> String {
    format!("grant it with kafka-acls.sh --bootstrap-server {servers} --add --allow-principal User:NAME {what}")
}

#[cfg(test)]
mod tests;
