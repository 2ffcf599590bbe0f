//! The functions that run inside Redis: one file per verb, loaded as one library.
//!
//! Owns: that the library is there, in the version this build was made with. Must not know: what the functions do.

use std::sync::LazyLock;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::link::{LinkFault, RedisLink, Reply};

/// In the order they build on each other; names carry the library's generation, so that two can stand side by side
/// during a rollout. A change that older nodes would not understand is a new generation.
const FILES: [&str; 17] = [
    include_str!("functions/00_common.lua"),
    include_str!("functions/10_rooms.lua"),
    include_str!("functions/20_presence.lua"),
    include_str!("functions/21_typing.lua"),
    include_str!("functions/append.lua"),
    include_str!("functions/change.lua"),
    include_str!("functions/cursor.lua"),
    include_str!("functions/fence.lua"),
    include_str!("functions/index.lua"),
    include_str!("functions/limits.lua"),
    include_str!("functions/nodes.lua"),
    include_str!("functions/numbers.lua"),
    include_str!("functions/range.lua"),
    include_str!("functions/react.lua"),
    include_str!("functions/sequences.lua"),
    include_str!("functions/shared.lua"),
    include_str!("functions/z_sweep.lua"),
];
const VERSION: &str = "gw1_version";

struct Library {
    version: String,
    code: String,
}

static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let body = FILES.concat();
    let version = format!("{:016x}", xxh3_64(body.as_bytes()));
    let said = format!(
        "redis.register_function {{ function_name = '{VERSION}', flags = {{ 'no-writes' }}, \
         callback = function() return '{version}' end }}\n"
    );
    Library { version, code: format!("#!lua name=gw1\n{body}{said}") }
});

/// Loads the library unless the server has this very version.
pub async fn ensure(link: &dyn RedisLink) -> Result<(), LinkFault> {
    match link.fcall(VERSION, &[], Vec::new()).await {
        Ok(Reply::Bytes(version)) if version == LIBRARY.version.as_bytes() => Ok(()),
        Ok(_) | Err(LinkFault::NoFunction) => link.function_load(&LIBRARY.code).await,
        Err(fault) => Err(fault),
    }
}

/// Calls a function; a server that lost the library gets it again, once.
pub async fn call(
    link: &dyn RedisLink,
    function: &str,
    keys: &[String],
    args: Vec<Bytes>,
) -> Result<Reply, LinkFault> {
    match link.fcall(function, keys, args.clone()).await {
        Err(LinkFault::NoFunction) => {
            link.function_load(&LIBRARY.code).await?;
            link.fcall(function, keys, args).await
        }
        answer => answer,
    }
}
