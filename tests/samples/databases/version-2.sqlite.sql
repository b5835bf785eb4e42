-- As the consumer of commit e5f8d53 has made it.
CREATE TABLE vmhb_meta (
    name VARCHAR(64) NOT NULL,
    value VARCHAR(255),
    PRIMARY KEY (name)
);

CREATE TABLE vmhb_members (
    name VARCHAR(36) NOT NULL,
    host VARCHAR(255) NOT NULL,
    alive_until DOUBLE NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE vmhb_faults (
    fault_id VARCHAR(36) NOT NULL,
    sequence INTEGER NOT NULL,
    state VARCHAR(16) NOT NULL,
    host VARCHAR(255) NOT NULL,
    instance_uuid VARCHAR(36),
    channel VARCHAR(36),
    own BOOLEAN NOT NULL,
    received_at DOUBLE NOT NULL,
    confirmed_at DOUBLE NOT NULL,
    check_at DOUBLE NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (fault_id)
);

CREATE INDEX vmhb_faults_instance ON vmhb_faults (instance_uuid, state);

CREATE INDEX vmhb_faults_check ON vmhb_faults (state, check_at);

CREATE TABLE vmhb_workers (
    host VARCHAR(255) NOT NULL,
    started_at DOUBLE NOT NULL,
    sequence INTEGER NOT NULL,
    interval DOUBLE NOT NULL,
    heard_at DOUBLE NOT NULL,
    check_at DOUBLE NOT NULL,
    instances INTEGER NOT NULL,
    fault_id VARCHAR(36),
    PRIMARY KEY (host)
);

CREATE INDEX vmhb_workers_check ON vmhb_workers (check_at);

CREATE TABLE vmhb_outbox (
    id INTEGER NOT NULL,
    target VARCHAR(255) NOT NULL,
    fault_id VARCHAR(36) NOT NULL,
    sequence INTEGER NOT NULL,
    change VARCHAR(32) NOT NULL,
    reminder BOOLEAN NOT NULL,
    created DOUBLE NOT NULL,
    next_at DOUBLE NOT NULL,
    attempt INTEGER NOT NULL,
    owner VARCHAR(36) NOT NULL,
    problem TEXT,
    payload TEXT NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT vmhb_outbox_once UNIQUE (target, fault_id, sequence)
);

CREATE INDEX vmhb_outbox_due ON vmhb_outbox (target, next_at);

CREATE TABLE vmhb_memos (
    target VARCHAR(255) NOT NULL,
    fault_id VARCHAR(36) NOT NULL,
    memo TEXT NOT NULL,
    PRIMARY KEY (target, fault_id)
);

CREATE TABLE vmhb_told (
    target VARCHAR(255) NOT NULL,
    fault_id VARCHAR(36) NOT NULL,
    handed BOOLEAN NOT NULL,
    known BOOLEAN NOT NULL,
    remind BOOLEAN NOT NULL,
    bugs INTEGER NOT NULL,
    PRIMARY KEY (target, fault_id)
);

CREATE TABLE vmhb_undelivered (
    id INTEGER NOT NULL,
    target VARCHAR(255) NOT NULL,
    fault_id VARCHAR(36) NOT NULL,
    sequence INTEGER NOT NULL,
    change VARCHAR(32) NOT NULL,
    at DOUBLE NOT NULL,
    kind VARCHAR(16) NOT NULL,
    why TEXT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (id)
);

CREATE TABLE vmhb_permits (
    fault_id VARCHAR(36) NOT NULL,
    attempt INTEGER NOT NULL,
    instance_uuid VARCHAR(36),
    granted_at DOUBLE NOT NULL,
    ended BOOLEAN NOT NULL,
    PRIMARY KEY (fault_id, attempt)
);

CREATE INDEX vmhb_permits_granted ON vmhb_permits (granted_at);

INSERT INTO vmhb_meta (name, value) VALUES ('schema_version', '2'), ('database_id', '11111111-2222-4333-8444-555555555555'), ('permits', '');
