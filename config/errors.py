"""The exceptions of this package, as one tree.

::

    FhirlineError
    ├── ConfigurationError      a setting, a file, a table, a topic or an argument is wrong (exit code 2)
    │   ├── HookMissing         step2_consume: another Faust or aiokafka is installed than the worker needs
    │   ├── AccessRefused       deliver: the FHIR server refuses our credentials, or forbids what we need
    │   ├── OtherKey            step3_restore: patients were erased under another FHIRLINE_ERASURE_KEY
    │   ├── ErasedSince         step3_restore: a patient was erased after the events were mapped
    │   ├── WrappingKeyMissing  kafka: data keys are wrapped by a KEK that the process lacks (worker: 70)
    │   │   └── DataKeyDamaged  kafka: the record of a data key has another form than ours
    │   ├── EncryptionNotSet    kafka: a record is encrypted, and no secrets are set (worker: 70)
    │   ├── StillPlain          keys: a process of ours still writes records that are not encrypted
    │   ├── DestroyedMeanwhile  forget: a data key was destroyed while its patient was let in; the patient stays erased
    │   ├── LetInMeanwhile      forget: a patient was let in while the data keys were being destroyed
    │   ├── NotLost             keys give-up: the data key can be read, or was destroyed before
    │   ├── InputsChanged       replay: a table or setting has changed since the run began
    │   ├── ValueTooLong        tables: a value is longer than an index takes (repeated without the index, if no key)
    │   └── RowConflict         tables: rows have the key of others, which another process may be writing (repeated)
    ├── KafkaAccessError        Kafka cannot be asked or read (exit code 2)
    │   ├── KafkaUnreachable    no broker answered; one may still be starting
    │   ├── KafkaRequestFailed  a broker answered a request with an error, or not in time
    │   ├── KafkaDenied         credentials, a token, a certificate or a privilege were refused
    │   ├── CopiesDiffer        keys: encrypted copies are missing, or differ from their records
    │   ├── NotReadYet          keys: workers or enrichments have not read the encrypted copies
    │   ├── NotSettled          keys: workers kept changing the state entries that were encrypted
    │   └── DataKeyMissing      a data key is lost: it has no record and was not destroyed (worker: exit code 70)
    ├── TokenRefused            kafka: the token endpoint gave no token
    ├── CannotBeOpened          kafka: a record is not what was encrypted (a dead letter)
    ├── UnreadableBody          mappers: a body is no JSON object, or nested too deep (a dead letter, or 400)
    ├── TooComplex              mappers: what an event would become exceeds a limit (a dead letter)
    ├── SearchedTooMuch         mappers: no more of a body is searched for credentials (a text is withheld whole)
    ├── NoRoute                 step1_receive: the path of a webhook names no vendor, tenant or event (404)
    ├── Refusal                 step1_receive: a webhook is answered with another status than 202
    ├── BodyTooLarge            step1_receive: a webhook's body is larger than allowed (413)
    ├── Displaced               step1_receive: an unverified body made room for later ones (429)
    ├── TopicMissing            step1_receive: the raw topic of an ingested file does not exist
    ├── RecordTooLarge          step1_receive: Kafka takes no record of this size (413)
    ├── KafkaUnavailable        step1_receive: Kafka did not acknowledge a raw record (503; enrich: exit code 70)
    ├── GapTooLarge             step2_consume: too many records did not reach the agent (exit code 70)
    ├── PositionsUnknown        step2_consume: the group's committed offsets could not be read (exit code 70)
    ├── LogTruncated            step2_consume: a partition ends before its committed offset (exit code 70)
    ├── RestoreFailed           step3_restore: the state topic could not be read (exit code 70)
    ├── StateEntryTooLarge      step3_restore: a state entry exceeds what Kafka takes (a dead letter)
    ├── PublishFailed           step5_publish: a record was not acknowledged (exit code 70)
    │   └── CannotBeCopied      keys: an encrypted copy is larger than Kafka takes
    ├── CallFailed              enrich: a call of Infermedica's API failed
    ├── NotEnriched             enrich: a survey cannot be completed (a dead letter)
    ├── Abandoned               enrich: the process ends while a survey is fetched
    ├── NotSent                 dead-letters: a dead letter cannot be redriven
    ├── NotMarked               dead-letters: an event was redriven, but its status was not written
    ├── UnreadableBundle        deliver: a record is no transaction Bundle (a dead letter)
    ├── DeliveryAbandoned       deliver: a partition went away while something of it was sent
    ├── AnotherDelivers         deliver: another process began to deliver while a fill was running (exit code 70)
    ├── ServerUnavailable       deliver: the FHIR server gave no answer (sent again)
    ├── OutOfRange              tables: a partition does not have the offset that is to be read next
    ├── Stopped                 tables: the process ends while it waits or rebuilds
    ├── StoreUnavailable        tables: the database does not answer (repeated; at the start exit code 70)
    ├── OtherWriter             tables: another process keeps the same tables (exit code 75)
    │   └── PositionsMoved      tables: another process has moved a position that this one was about to move
    ├── Conflict                tables: a Delta table was committed to by another process (tried again, or OtherWriter)
    ├── UnfitRows               tables: a view does not fit a resource, or its key is wrong (exit code 2)
    ├── FhirPathError           tables: an expression of a view cannot be read, or does not fit a resource
    ├── ViewFailed              tables: a view does not fit a resource
    ├── Interrupted             replay: Ctrl-C; the run can be resumed
    ├── Failed                  replay: a mapping process died
    ├── InvalidErasureRecords   forget: a resource that records an erasure is invalid FHIR, a defect of ours
    ├── CommandFailed           cli: a command ends with one line and an exit code (config/exit_codes.py)
    ├── BrokerDied              demo: the embedded broker ended, or did not answer
    ├── Unmapped                console: a body of the playground cannot be mapped
    ├── TookTooLong             console: the sources of a body's elements take too long, or nobody waits for them
    ├── NoPatient               console: what was typed names no patient
    └── StackFailed             demo: a process of the stack ended, or did not start

Classes that name a package are defined there. tests/config/test_errors.py compares this drawing with the code.
"""


class FhirlineError(Exception):
    """The parent of every exception that this package raises."""


class ConfigurationError(FhirlineError):
    """A setting, a vendor file, a code table, a topic or an argument is wrong.

    The message is one line: what is wrong, where (setting name, or file:line), what to do. Commands print it and
    exit with 2. It never contains a secret's value.
    """


class KafkaAccessError(FhirlineError):
    """Kafka cannot be asked or read. The message is one line; commands print it and exit with 2."""


class KafkaUnreachable(KafkaAccessError):
    """No broker answered in time. It may still be starting; nothing was refused."""


class KafkaRequestFailed(KafkaAccessError):
    """A broker answered a request with an error, or not in time."""


class KafkaDenied(KafkaAccessError):
    """Credentials, a token, a certificate or a privilege were refused."""
