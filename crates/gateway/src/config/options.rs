//! What every option means: the one text behind the example file and `docs/configuration.md`.

/// Sections with what they are about; the empty name is the top of the file.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("", "Addresses, storage and access."),
    (
        "auth",
        "Verification of user tokens: JWTs, and session tokens through a verifier. At least one kind of key, or the \
         verifier, is needed.",
    ),
    (
        "authoriser",
        "Asking the application's backend whether a user may connect, enter a conversation or write to it: \
         docs/integrations.md. Without `url` nobody is asked.",
    ),
    (
        "webhooks",
        "Telling the application's backend what happened: docs/integrations.md. Without `url` nobody is told, and nothing is \
         written down for it.",
    ),
    (
        "archive",
        "Keeping messages, reactions, members and receipts in PostgreSQL: docs/integrations.md. Without `url` nothing is kept \
         there, and nothing is written down for it.",
    ),
    (
        "outbox",
        "Publishing what an application writes to a table of its PostgreSQL, or to a stream of Redis: docs/integrations.md. \
         Without `url` and `stream` nobody looks anywhere.",
    ),
    ("limits", "Limits on input, output and connections. Sizes in bytes, times in milliseconds."),
    ("timings", "Time spans of presence, typing and housekeeping, in milliseconds."),
    (
        "drain",
        "How clients are sent elsewhere: when the node stops, is replaced, or has many more than the others.",
    ),
    ("retention", "How much history is kept per conversation, user feed and application channel."),
    ("log", "Logging. Never a token, a secret or a message body."),
    ("redis", "How the Redis of `redis_url` is used."),
    (
        "archive.retention",
        "How long the archive keeps some conversations; the first that is about one counts, and `archive.days` for all others. \
         A changed list counts from the next time on that something is removed.",
    ),
    ("auth.keys", "Public key files, each with the one algorithm it may verify."),
    (
        "mounts",
        "Where clients connect, and which dialect is spoken there. A file that has mounts replaces the shipped \
         ones; what a mount does not say it takes from the shipped mount of its dialect.",
    ),
];

/// Options in the order they are shown.
pub(super) const OPTIONS: &[(&str, &str)] = &[
    ("listen", "Public listener: client traffic only."),
    (
        "internal_listen",
        "Internal listener: health, metrics, server API. Never put it behind the public balancer.",
    ),
    (
        "advertise",
        "Address (host:port) other nodes reach the internal listener at; absent: `internal_listen`.",
    ),
    (
        "redis_url",
        "Redis (7.0 or later) that all nodes share: `redis://[user:password@]host[:port]`; under Sentinel \
         `redis-sentinel://[user:password@]host:port,host:port/name[?sentinel_user=&sentinel_password=]`; a cluster \
         `redis-cluster://[user:password@]host:port,host:port`, of which some nodes are enough. With TLS `rediss://`, \
         `rediss-sentinel://`, `rediss-cluster://`. User and password may be percent-encoded. Absent: the embedded \
         engine, for one node.",
    ),
    ("redis_url_file", "The same from a file: for an address with a password in it."),
    ("data_dir", "Folder of the embedded engine's file."),
    (
        "ack_level",
        "What an acknowledged message survives: `file` (the process being killed) or `memory` (nothing). With \
         `redis_url`: `redis` (what that Redis survives by itself: with appendonly yes, being killed; of a power loss \
         or a failover all but the last moments), `redis-wait` (the loss of a primary: replicas have it first) or \
         `redis-fsync` (power loss of the Redis host: needs appendfsync always). On either engine `archived`: as `file` or \
         `redis`, and PostgreSQL has it (needs `archive.url`).",
    ),
    (
        "degraded",
        "What becomes of connections while Redis is away: `stay` (they stay, sends are refused with the dialect's \
         retryable error) or `close` (after 5 s they are closed with 1013, for clients that find another place).",
    ),
    ("api_keys", "Keys of the server API; several during rotation. None: the server API refuses every call."),
    (
        "api_keys_file",
        "The same from a file, one a line or comma-separated. Every `…_file` of a secret is read at start, at SIGHUP, and \
         when it has changed; a missing or empty one is an error at start, and later leaves things as they are.",
    ),
    (
        "secrets_check_ms",
        "How often the files of secrets, public keys and certificates are looked at, in milliseconds: when one has changed, \
         everything is read again as at SIGHUP. 0: only at SIGHUP.",
    ),
    (
        "origins",
        "Origins browsers may connect from (`https://app.example`); `*` allows all. Empty: a request with an \
         Origin header must come from the host it is sent to.",
    ),
    (
        "trusted_proxies",
        "Balancers and proxies by address or network (`10.0.0.0/8`, `fd00::/8`): what they say in `proxy_header` is where a \
         client comes from, the last hop that is none of them. Nobody else's word counts. The address is what \
         `limits.connections_per_ip` goes by.",
    ),
    (
        "proxy_header",
        "The header those proxies write, `x-forwarded-for` or `forwarded` (RFC 7239). Only this one is read: the other may \
         have come from the client.",
    ),
    (
        "proxy_protocol",
        "Those proxies begin each connection with a header of the PROXY protocol (version 1 or 2), which says whose it is: \
         for balancers that pass TCP on. One without is closed; `proxy_header` is not read then. Connections of anybody else \
         have none.",
    ),
    (
        "auth.secrets",
        "Shared secrets (HS256, HS384, HS512), at least 32 bytes each; several during rotation.",
    ),
    ("auth.secrets_file", "The same from a file, one a line or comma-separated; rotated without a restart."),
    (
        "auth.jwks_url",
        "Address of a JWK set; `http://` only on the loopback address. Fetched at start, after every reload, every \
         `jwks_refresh_ms`, and for an unknown key id at most every 10 seconds.",
    ),
    (
        "auth.jwks_refresh_ms",
        "How often the set is fetched again, in milliseconds. A key that is no longer in it is refused from then on, \
         and connections that live on it end.",
    ),
    (
        "auth.jwks_keep_ms",
        "How long the keys of the last fetch are good while the set cannot be fetched, in milliseconds; then tokens \
         that need them are refused. Connections that are there stay until their tokens end.",
    ),
    ("auth.issuer", "Issuer (`iss`) a token must name, when set."),
    ("auth.audience", "Audience (`aud`) a token must name, when set."),
    (
        "auth.session_url",
        "Where tokens that are no JWT (not three parts with dots between) are verified, as RFC 7662 says: POST \
         `token=…` as a form, answer `{\"active\":true,\"sub\":…}` with `exp`, `name`, `picture` where known; 401 and \
         404 count as not active. `http://` only on the loopback address. Absent: such tokens are refused.",
    ),
    ("auth.session_secret", "Sent to the verifier as `Authorization: Bearer`, when set."),
    ("auth.session_secret_file", "The same from a file."),
    (
        "auth.session_timeout_ms",
        "How long a question to the verifier may take, in milliseconds; then the client is told to come back.",
    ),
    (
        "auth.session_cache_ms",
        "How long the verifier's yes is good for further connections, in milliseconds, never beyond the session's \
         `exp`; a no is good for 5 seconds.",
    ),
    (
        "auth.session_max_age_ms",
        "How long a connection with a session token lives on one yes of the verifier, in milliseconds, or until the \
         session's `exp` if that is earlier: then the client connects again and is verified again.",
    ),
    (
        "auth.session_recheck_ms",
        "How often the verifier is asked again about the session of a live connection, in milliseconds (up to a \
         quarter less, so that they are not all asked about at once; at most 100 connections a second and node): a yes \
         prolongs it, a no ends it, no answer changes nothing. 0: never.",
    ),
    (
        "auth.revocation_hours",
        "Hours a revocation (`POST /api/v1/tokens/revoke`) is kept; at least as long as any token lives.",
    ),
    (
        "authoriser.url",
        "Where questions are posted as JSON; `http://` only on the loopback address. Absent: nobody is asked.",
    ),
    (
        "authoriser.actions",
        "What is asked about: `connect` (polls of socialhub, too), `join` (entering a room, or subscribing to a \
         conversation), `send`.",
    ),
    (
        "authoriser.timeout_ms",
        "How long a question may take in all, in milliseconds: what is asked about waits for it.",
    ),
    ("authoriser.max_in_flight", "Questions under way at once; more wait, within the time each has."),
    ("authoriser.cache_entries", "Answers remembered; 0 = none. What was not asked for longest goes first."),
    (
        "authoriser.cache_ms",
        "How long a yes is good for the same question, in milliseconds; an answer's `ttl_ms` can only shorten it. 0: every \
         question is asked.",
    ),
    ("authoriser.negative_ms", "The same of a no."),
    (
        "authoriser.on_failure",
        "What holds while there is no answer: `deny` (nobody may; clients are told to try again) or `allow` (whoever may \
         without an authoriser). Nobody becomes a member by `callback` without an answer.",
    ),
    (
        "authoriser.breaker_failures",
        "After so many questions in a row without an answer none is asked for `breaker_open_ms`: `on_failure` holds at once.",
    ),
    (
        "authoriser.breaker_open_ms",
        "For how long, in milliseconds; then one question tries whether the backend answers again.",
    ),
    (
        "authoriser.secret",
        "Signs questions, when set: `Parlance-Signature` is `v1=` and the HMAC-SHA256 of `Parlance-Timestamp`, a dot and the \
         body. At least 32 bytes.",
    ),
    ("authoriser.secret_file", "The same from a file."),
    (
        "authoriser.claims",
        "Claims of the user's token that questions carry (`roles`), each up to 4096 bytes of JSON; larger ones are left out.",
    ),
    (
        "webhooks.url",
        "Where events are posted as JSON; `http://` only on the loopback address. Absent: nowhere. Whether there is one takes \
         effect at the next start.",
    ),
    (
        "webhooks.events",
        "Which: `message.accepted`, `reaction.changed`, `read.moved`, `presence.changed`, `conversation.created`, \
         `members.changed`, `user.connected`, `user.disconnected`.",
    ),
    (
        "webhooks.secret",
        "Signs the calls, when set: `Parlance-Signature` is `v1=` and the HMAC-SHA256 of `Parlance-Timestamp`, a dot and the \
         body. At least 32 bytes.",
    ),
    ("webhooks.secret_file", "The same from a file."),
    ("webhooks.timeout_ms", "How long a call may take in all, in milliseconds."),
    ("webhooks.batch", "Events in a call at most; 1000 is the most."),
    (
        "webhooks.max_in_flight",
        "Calls of a node under way at once. Events of one conversation, and of one user, never overtake each other.",
    ),
    (
        "webhooks.backoff_ms",
        "Between the first failure and the next attempt, in milliseconds; each time twice as long, up to half of it left to \
         chance.",
    ),
    ("webhooks.backoff_max_ms", "At most so long."),
    (
        "webhooks.attempts",
        "An event that the backend refuses (4xx, but for 408, 425 and 429) so often is put aside: `parlance webhooks`.",
    ),
    ("webhooks.give_up_hours", "So is one that could not be told for so many hours."),
    (
        "archive.url",
        "`postgresql://user:password@host:port/database`, with `?sslmode=verify-full&sslrootcert=/path/ca.pem` for TLS: \
         docs/integrations.md. The same at every node. Whether there is one takes effect at the next start, another password \
         with the next connection.",
    ),
    ("archive.url_file", "The same from a file."),
    (
        "archive.run",
        "Whether this node writes to it; false where others do, or `parlance archive run` in a process of its own.",
    ),
    ("archive.batch", "What happened, in a transaction at most; 10000 is the most."),
    (
        "archive.days",
        "Messages that are older are removed from it, every hour, by one of those who write; 0 = nothing is, for ever.",
    ),
    (
        "archive.deleted_days",
        "A conversation that was deleted goes so many days later, with all it had; 0 = it is kept as long as any other.",
    ),
    ("archive.retention.conversations", "A conversation's id, or the beginning of some and `*`."),
    ("archive.retention.days", "As `archive.days`; 0 = for ever."),
    (
        "archive.read",
        "Whether this node reads logs of conversations on there where `retention` has trimmed them: history, and clients that \
         catch up. Takes effect at the next start.",
    ),
    (
        "archive.read_connections",
        "Connections for that at most; 100 is the most. Takes effect at the next start.",
    ),
    (
        "outbox.url",
        "The PostgreSQL where the application writes its events down, as `archive.url`; `parlance outbox migrate` makes the \
         table `parlance.outbox` there. The same at every node. Whether there is one takes effect at the next start, another \
         password with the next connection.",
    ),
    ("outbox.url_file", "The same from a file."),
    (
        "outbox.stream",
        "Name of the stream where the application writes its events down, of up to 64 characters; it may stand beside `url`.",
    ),
    (
        "outbox.redis_url",
        "The Redis (7.0 or later) that has the stream, as `redis_url`; absent: that of the nodes. Logins are in the address; \
         certificates are those of `redis`.",
    ),
    ("outbox.redis_url_file", "The same from a file."),
    (
        "outbox.run",
        "Whether this node publishes; false where others do. Of those that do one does at a time.",
    ),
    ("outbox.batch", "Events that are read together at most; 1000 is the most."),
    ("outbox.poll_ms", "Between two looks for events, in milliseconds, while there are none."),
    ("auth.keys.path", "PEM file of a public key."),
    (
        "auth.keys.algorithm",
        "`RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384` or `EdDSA`.",
    ),
    ("auth.keys.kid", "Key id (`kid`) of tokens signed with it, when they carry one."),
    ("limits.head_bytes", "Request head: size."),
    ("limits.head_count", "Request head: number of headers."),
    ("limits.head_ms", "Request head: time to arrive."),
    ("limits.http_body_bytes", "Body of an HTTP call."),
    (
        "limits.import_bytes",
        "Body of an import of members (`POST /api/v1/conversations/{id}/members/import`), which is read as a stream.",
    ),
    ("limits.unauthenticated_ms", "A raw socket without identity is closed after this."),
    ("limits.message_ms", "A started WebSocket message must be complete within this."),
    ("limits.body_bytes", "Message body after JSON decoding."),
    ("limits.json_depth", "Nesting of JSON."),
    ("limits.recipients", "Recipients a client may name in one message."),
    ("limits.outbox_bytes", "Bytes waiting for one slow connection."),
    ("limits.outbox_frames", "Frames waiting for one slow connection."),
    ("limits.write_stall_ms", "A connection that takes nothing for so long is closed."),
    ("limits.subscriptions", "Channels a connection subscribes, or rooms it enters, itself."),
    ("limits.frames_per_second", "Frames per second of one connection."),
    (
        "limits.connections_per_ip",
        "Connections of one address; 0 = unlimited. Behind a balancer all come from its address, unless it is one of \
         `trusted_proxies`: then it counts what each client has, requests under way and WebSockets.",
    ),
    (
        "limits.connections",
        "Connections of this node, and polling sessions of one of its paths; 0 = unlimited. Beyond it: 503 with \
         `{error, code: \"UNAVAILABLE\"}` and Retry-After.",
    ),
    ("limits.rates", "`false` switches every rate limit off (load tests only)."),
    ("timings.presence_ttl_ms", "A connection counts as there for so long after its last received byte."),
    ("timings.presence_refresh_ms", "How often leases are refreshed; about a third of `presence_ttl_ms`."),
    ("timings.typing_ttl_ms", "Typing ends after so long without a heartbeat."),
    ("timings.sweep_ms", "How often expired leases and typists are looked for."),
    (
        "timings.head_check_ms",
        "How often the heads of live conversations are compared with what was delivered.",
    ),
    ("timings.restore_ms", "How long subscriptions are kept for a client that comes back (socialhub)."),
    ("timings.recovery_ms", "How long a Socket.IO session can be recovered after its transport was cut."),
    (
        "drain.delay_ms",
        "After SIGTERM `/readyz` fails at once; new connections are taken for so long all the same, until every balancer \
         has noticed.",
    ),
    (
        "drain.deadline_ms",
        "After the delay: how long clients have. In the first half they are told to come back elsewhere, in batches; who \
         is there at the end is cut off.",
    ),
    (
        "drain.clients_per_second",
        "Clients of all nodes together that are sent elsewhere in a second; 0 = as many as there are. When half of the \
         deadline is over, the rest is told at once.",
    ),
    (
        "drain.generation",
        "Names the rollout that the node belongs to, the same for all its nodes (in Kubernetes the pods' template hash): \
         nodes of an older one take no new connections while one of a newer one has room, so that nobody comes to a node \
         that is about to stop. They answer 503, which balancers repeat elsewhere, and so does their \
         `/readyz?for=newcomers`. Empty: none.",
    ),
    (
        "drain.rebalance",
        "Send clients elsewhere while this node has many more than the mean: only those that find again what they had, half \
         of the surplus in a round.",
    ),
    ("drain.rebalance_percent", "How many percent more than the mean are left alone."),
    ("retention.entries", "Newest entries kept."),
    ("retention.days", "Days an entry is kept."),
    ("retention.dedupe_hours", "Hours a client's message id is remembered for deduplication; at least 24."),
    (
        "log.level",
        "Level (`error`, `warn`, `info`, `debug`, `trace`) or filter (`info,parlance_gateway=debug`).",
    ),
    (
        "redis.prefix",
        "What every key begins with. Installations with different prefixes share a Redis and see nothing of each \
         other.",
    ),
    ("redis.channel_prefix", "What every channel begins with; absent: as the keys."),
    (
        "redis.wait_replicas",
        "`redis-wait`: replicas of each primary that must have what is acknowledged. The node does not start where \
         fewer are connected.",
    ),
    (
        "redis.wait_ms",
        "`redis-wait`: how long the replicas may take; then the sender is told to try again, and its resend is \
         recognised.",
    ),
    ("redis.username", "ACL user, where `redis_url` names none; absent: `default`."),
    (
        "redis.password",
        "Its password, as it is: nothing is percent-encoded here. A changed one is taken by connections from then on; give \
         the user both passwords meanwhile.",
    ),
    ("redis.password_file", "The same from a file."),
    (
        "redis.sentinel_username",
        "ACL user at the Sentinels, where `redis_url` names none; absent: `default`.",
    ),
    ("redis.sentinel_password", "Its password."),
    ("redis.sentinel_password_file", "The same from a file."),
    (
        "redis.ca_file",
        "Certificates (PEM) that TLS connections to Redis trust; absent: those that browsers trust.",
    ),
    (
        "redis.cert_file",
        "The node's own certificate (PEM), with those between it and its authority, for a Redis that asks for one \
         (`tls-auth-clients`).",
    ),
    ("redis.key_file", "Its private key (PEM)."),
    (
        "redis.server_name",
        "The name that certificates of Redis and Sentinels must be for; absent: the host each is reached at. For servers \
         that tell each other addresses which are in no certificate.",
    ),
    ("log.format", "`auto` (human on a terminal, JSON elsewhere), `human` or `json`."),
    (
        "log.journal",
        "Messages that this node remembers for `parlance explain`: who sent them, which sockets they went to, what was \
         refused; never a text. In memory, at most about 650 bytes each; 0 = none. Read at start.",
    ),
    ("mounts.name", "Names the mount in metrics and limits."),
    ("mounts.path", "The path, exactly."),
    ("mounts.host", "Only for this `Host` header (without port), when set."),
    ("mounts.dialect", "`sechat`, `lingochat`, `famly`, `chatgenius` or `socialhub`."),
    ("mounts.framing", "`raw` (JSON frames on a WebSocket) or `socketio`."),
    (
        "mounts.namespace",
        "The Socket.IO namespace. Several mounts may share a path, each with its own namespace; they share pings, \
         payload limit and time-outs too.",
    ),
    (
        "mounts.membership",
        "Who may write to a conversation that does not exist yet: `open` (the first message creates it with the \
         sender and the named recipients), `managed` (only the server API creates conversations) or `callback` (the \
         authoriser is asked about whoever is no member and enters, subscribes or writes; who may is one from then on, \
         and the conversation is created where there is none).",
    ),
    ("mounts.subjects", "Claims that may name the user, in order; the first present one wins."),
    ("mounts.ping_interval_ms", "Server pings (WebSocket ping frames on raw mounts)."),
    ("mounts.ping_timeout_ms", "A connection silent for `ping_interval_ms` and this is closed."),
    (
        "mounts.max_frame_bytes",
        "Largest WebSocket message (larger ones close with 1009) and polling body (413); Engine.IO's `maxPayload`.",
    ),
    ("mounts.connect_timeout_ms", "A Socket.IO client must have joined a namespace within this."),
    ("mounts.upgrade_timeout_ms", "The change from polling to WebSocket must be done within this."),
    ("mounts.recovery", "Whether Socket.IO clients can recover their session after a short cut."),
    ("mounts.sanitize", "Whether markup is removed from message texts, inward and outward (lingochat: yes)."),
    ("mounts.echo_to_sender", "Whether a message comes back to the very connection that sent it (famly)."),
    ("mounts.connections_per_user", "Connections of one user on this mount over all nodes; 0 = unlimited."),
    ("mounts.presence_scope", "Who hears presence (sechat, famly): `everyone` or `contacts`."),
    (
        "mounts.background_ms",
        "How long an offline is held back, so that a quick return is not announced (sechat: 5 s).",
    ),
    (
        "mounts.presence_throttle_ms",
        "At most one word of a user's presence in this time; the last state is told at its end (famly: 2 s).",
    ),
    (
        "mounts.on_expiry",
        "What a client hears of its token's end: `close` (nothing before) or `warn` (`expiry_warning_ms` ahead, in its \
         dialect's words; famly has none). Either way the connection is closed at the end, unless the client has \
         presented a new token by then.",
    ),
    (
        "mounts.expiry_warning_ms",
        "How long before the end `on_expiry = \"warn\"` tells the client, in milliseconds.",
    ),
    (
        "mounts.allow_unauthenticated_sessions",
        "Let sessions in without a token: whoever the client says it is, it is. Never in production.",
    ),
    ("mounts.messages.limit", "Messages of one user over all nodes within the window; 0 = unlimited."),
    ("mounts.messages.window_ms", "The sliding window they are counted in."),
    ("mounts.polls.limit", "Polls of one user over all nodes within the window (socialhub); 0 = unlimited."),
    ("mounts.polls.window_ms", "The sliding window they are counted in."),
];
