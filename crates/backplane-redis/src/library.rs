//! The functions that run inside Redis: one file per verb, loaded as one library, or run as one script where functions
//! are forbidden (managed services, strict access rules).
//!
//! Owns: that they are there, in the version this build was made with, and that old ones go. Must not know: what the
//! functions do.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parlance_backplane::trail::Kinds;
use sha1::{Digest, Sha1};
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::durable::Socket;
use crate::link::{Command, LinkFault, RedisLink, Reply, Run, at};

/// In the order they build on each other; names carry the library's generation, so that two can stand side by side
/// during a rollout. A change that older nodes would not understand is a new generation.
const FILES: [&str; 21] = [
    include_str!("functions/00_common.lua"),
    include_str!("functions/10_rooms.lua"),
    include_str!("functions/20_presence.lua"),
    include_str!("functions/21_typing.lua"),
    include_str!("functions/30_trail.lua"),
    include_str!("functions/append.lua"),
    include_str!("functions/change.lua"),
    include_str!("functions/config.lua"),
    include_str!("functions/cursor.lua"),
    include_str!("functions/enlist.lua"),
    include_str!("functions/fence.lua"),
    include_str!("functions/index.lua"),
    include_str!("functions/limits.lua"),
    include_str!("functions/nodes.lua"),
    include_str!("functions/numbers.lua"),
    include_str!("functions/overviews.lua"),
    include_str!("functions/range.lua"),
    include_str!("functions/react.lua"),
    include_str!("functions/sequences.lua"),
    include_str!("functions/shared.lua"),
    include_str!("functions/z_sweep.lua"),
];
/// What every file calls its functions: the first generation. A later one is renamed throughout.
const FIRST: &str = "gw1_";
/// Where a library is told of what it keeps a trail.
const KEPT: &str = "local TRAILED = {}";
/// The generation of this build.
pub const GENERATION: u32 = 1;

/// In a script there is nothing to register with: the functions are kept in a table instead.
const SCRIPT_HEAD: &str = "local all, server = {}, redis
local redis = { call = server.call }
function redis.register_function(name, callback)
  if type(name) == 'table' then all[name.function_name] = name.callback else all[name] = callback end
end
";
/// And the one that is named by the first argument is called with the others.
const SCRIPT_TAIL: &str = "local name, args = ARGV[1], {}
for index = 2, #ARGV do args[index - 1] = ARGV[index] end
return all[name](KEYS, args)
";

/// One generation of the functions, as a library and, for a server that allows none, as one script.
pub struct Library {
    generation: u32,
    /// What its functions' names begin with.
    stem: String,
    version: String,
    functions: String,
    script: String,
    hash: String,
    /// Functions are forbidden here: everything goes as a script.
    scripts: AtomicBool,
}

impl Library {
    /// The functions of this build, named as of a generation, and by what they keep a trail of: beside nodes that keep
    /// another one, or none, each has its own.
    pub fn new(generation: u32, kinds: Kinds) -> Self {
        let letters = kinds.letters();
        let name = format!("gw{generation}{letters}");
        let kept: Vec<String> = letters.chars().map(|letter| format!("{letter} = true")).collect();
        let told = format!("local TRAILED = {{{}}}", kept.join(", "));
        let body = FILES.concat().replace(KEPT, &told).replace(FIRST, &format!("{name}_"));
        let version = format!("{:016x}", xxh3_64(body.as_bytes()));
        let said = format!(
            "redis.register_function {{ function_name = '{name}_version', flags = {{ 'no-writes' }}, \
             callback = function() return '{version}' end }}\n"
        );
        let script = format!("{SCRIPT_HEAD}{body}{SCRIPT_TAIL}");
        let hash = Sha1::digest(script.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            generation,
            stem: format!("{name}_"),
            version,
            functions: format!("#!lua name={name}\n{body}{said}"),
            script,
            hash,
            scripts: AtomicBool::new(false),
        }
    }

    /// Whether functions were found to be forbidden.
    pub fn as_scripts(&self) -> bool {
        self.scripts.load(Ordering::Relaxed)
    }

    fn use_scripts(&self, why: &str) {
        if !self.scripts.swap(true, Ordering::Relaxed) {
            tracing::info!(%why, "this Redis allows no functions: scripts do the same");
        }
    }

    fn named<'a>(&self, function: &'a str) -> Cow<'a, str> {
        match function.strip_prefix(FIRST) {
            Some(rest) if self.stem != FIRST => format!("{}{rest}", self.stem).into(),
            _ => function.into(),
        }
    }

    /// What a call is on the wire.
    pub fn command(&self, function: &str, keys: &[String], args: Vec<Bytes>) -> Command {
        let name = self.named(function);
        if !self.as_scripts() {
            return Run::Function(&name).command(keys, args);
        }
        Run::Script(&self.hash).command(keys, dispatched(&name, args))
    }

    /// Calls a function; a server that lost the functions, or forbids them, is helped once.
    pub async fn call(
        &self,
        link: &dyn RedisLink,
        function: &str,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Reply, LinkFault> {
        let name = self.named(function);
        if !self.as_scripts() {
            match link.run(Run::Function(&name), keys, args).await {
                Err(LinkFault::NoFunction) => match link.function_load(&self.functions).await {
                    Ok(()) => return link.run(Run::Function(&name), keys, args).await,
                    Err(LinkFault::Forbidden(why)) => self.use_scripts(&why),
                    Err(fault) => return Err(fault),
                },
                Err(LinkFault::Forbidden(why)) => self.use_scripts(&why),
                answer => return answer,
            }
        }
        let args: SmallVec<[&[u8]; 12]> =
            std::iter::once(name.as_bytes()).chain(args.iter().copied()).collect();
        match link.run(Run::Script(&self.hash), keys, &args).await {
            Err(LinkFault::NoScript) => link.run(Run::Text(&self.script), keys, &args).await,
            answer => answer,
        }
    }

    /// Sees to it that one server has this very version, and no longer has what is two generations older.
    pub async fn ensure(&self, server: &mut Socket) -> Result<(), LinkFault> {
        let version = format!("{}version", self.stem);
        match server.ask(Run::Function(&version).command(&[], Vec::new())).await {
            Ok(Reply::Bytes(version)) if version == self.version.as_bytes() => {}
            Ok(_) => self.supply(server, &LinkFault::NoFunction).await?,
            Err(fault) => self.supply(server, &fault).await?,
        }
        match self.drop_old(server).await {
            // Who may not look needs not tidy up.
            Err(LinkFault::Forbidden(_)) => Ok(()),
            done => done,
        }
    }

    /// Gives a server what a call found missing there; any other fault is given back.
    pub async fn supply(&self, server: &mut Socket, missing: &LinkFault) -> Result<(), LinkFault> {
        if *missing == LinkFault::NoFunction && !self.as_scripts() {
            match server.ask(Command::new("FUNCTION", &["LOAD", "REPLACE", &self.functions])).await {
                Err(LinkFault::Forbidden(why)) => self.use_scripts(&why),
                done => return done.map(drop),
            }
        }
        match missing {
            LinkFault::Forbidden(why) => self.use_scripts(why),
            LinkFault::NoFunction | LinkFault::NoScript => {}
            other => return Err(other.clone()),
        }
        server.ask(Command::new("SCRIPT", &["LOAD", &self.script])).await.map(drop)
    }

    async fn drop_old(&self, server: &mut Socket) -> Result<(), LinkFault> {
        let told = server.ask(Command::new("FUNCTION", &["LIST", "LIBRARYNAME", "gw*"])).await?;
        for name in library_names(&told).filter(|name| self.is_old(name)) {
            tracing::info!(%name, "a library of an old release is dropped");
            match server.ask(Command::new("FUNCTION", &["DELETE", name])).await {
                // Another node was faster.
                Ok(_) | Err(LinkFault::Failed(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// The one before stays: nodes of the previous release work with it until they are replaced.
    fn is_old(&self, name: &str) -> bool {
        let generation = name.strip_prefix("gw").map(|rest| rest.trim_end_matches(char::is_alphabetic));
        let generation = generation.and_then(|number| number.parse::<u32>().ok());
        generation.is_some_and(|generation| generation.saturating_add(1) < self.generation)
    }
}

fn dispatched(name: &str, args: Vec<Bytes>) -> Vec<Bytes> {
    std::iter::once(Bytes::copy_from_slice(name.as_bytes())).chain(args).collect()
}

/// From the answer of `FUNCTION LIST`: a list of libraries, each a list of names and values.
fn library_names(told: &Reply) -> impl Iterator<Item = &str> {
    fn elements(reply: &Reply) -> &[Reply] {
        if let Reply::List(all) = reply { all } else { &[] }
    }
    let name = |library| {
        let mut pairs = elements(library).chunks(2);
        let pair = pairs.find(|pair| at(pair, 0).text() == Ok("library_name"))?;
        pair.get(1)?.text().ok()
    };
    elements(told).iter().filter_map(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_two_generations_older_is_old() {
        let library = Library::new(4, Kinds::default());
        let old = |name| library.is_old(name);
        assert_eq!(
            ["gw1", "gw2", "gw3", "gw4", "gw5", "gwen", "gw"].map(old),
            [true, true, false, false, false, false, false]
        );
    }

    #[test]
    fn every_function_is_named_by_its_generation() {
        let library = Library::new(2, Kinds::default());
        assert!(!library.functions.contains("gw1") && library.functions.contains("'gw2_append'"));
        assert_eq!(library.named("gw1_append"), "gw2_append");
        assert_ne!(library.version, Library::new(1, Kinds::default()).version);
    }

    #[test]
    fn a_library_that_keeps_a_trail_has_a_name_of_its_own() {
        let (plain, keeping) = (Library::new(1, Kinds::default()), Library::new(1, Kinds::ALL));
        assert_eq!(
            (plain.named("gw1_append"), keeping.named("gw1_append")),
            ("gw1_append".into(), "gw1encpl_append".into())
        );
        assert!(
            plain.functions.contains("TRAILED = {}")
                && keeping.functions.contains("TRAILED = {e = true, n = true,")
        );
        assert_eq!(
            ["gw1encpl", "gw3encpl"].map(|name| Library::new(3, Kinds::ALL).is_old(name)),
            [true, false]
        );
    }
}
