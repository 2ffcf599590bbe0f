//! What the archive keeps no longer: `parlance archive prune` and `forget`, and the node that does so every hour.
//!
//! Owns: what an operator says and is shown. Must not know: which rows go.

use crate::cli::NodeFlags;

#[derive(clap::Args)]
pub struct Prune {
    /// Only say how many rows would go.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub flags: NodeFlags,
}

#[derive(clap::Args)]
#[group(skip)]
pub struct Forget {
    /// All rows of this conversation.
    #[arg(long, value_name = "ID", required_unless_present = "user", conflicts_with = "user")]
    pub conversation: Option<String>,
    /// What this user wrote is emptied; reactions, memberships and receipts go.
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,
    /// Only say how many rows are concerned.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub flags: NodeFlags,
}

/// What the configuration says of it.
#[cfg(feature = "archive")]
pub fn policies(config: &parlance_gateway::config::Config) -> parlance_archive::Policies {
    let archive = &config.archive;
    let rule = |rule: &parlance_gateway::config::ArchiveRule| parlance_archive::Rule {
        conversations: rule.conversations.clone(),
        days: rule.days,
    };
    parlance_archive::Policies {
        days: archive.days,
        deleted_days: archive.deleted_days,
        rules: archive.retention.iter().map(rule).collect(),
    }
}

#[cfg(feature = "archive")]
pub use wired::{Counts, Says, forget, prune};

#[cfg(feature = "archive")]
mod wired {
    //! A build with it.

    use std::sync::Arc;

    use anyhow::{Context as _, anyhow};
    use parlance_archive::{Forgotten, Removals, Removed};
    use parlance_gateway::config::Config;
    use parlance_gateway::node::Node;
    use parlance_postgres::Session;

    use super::{Forget, Prune, policies};
    use crate::archive::wired::configured;
    use crate::failure::Failure;
    use crate::sources::Sources;

    const NAME: &str = "parlance-archive-retention";

    /// A node counts in its metrics.
    pub struct Counts(pub Arc<Node>);

    impl Removals for Counts {
        fn removed(&self, table: &'static str, rows: u64) {
            self.0.metrics.archive.removed.with_label_values(&[table]).inc_by(rows);
        }
    }

    /// A process of its own has said it in its log.
    pub struct Says;

    impl Removals for Says {
        fn removed(&self, _: &'static str, _: u64) {}
    }

    pub async fn prune(args: &Prune) -> Result<(), Failure> {
        let (config, url) = configured(&Sources::new(Config::default(), &args.flags))?;
        let policies = policies(&config);
        if policies.is_empty() {
            println!("everything is kept for ever: archive.days, archive.deleted_days, archive.retention");
            return Ok(());
        }
        let mut session = Session::connect(&url, NAME).await.context("PostgreSQL")?;
        let rows =
            parlance_archive::prune(&mut session, &policies, args.dry_run).await.context("PostgreSQL")?;
        let rows = rows.ok_or_else(|| anyhow!("somebody else is at it just now"))?;
        print!("{}", told(&rows, if args.dry_run { "would go" } else { "removed" }));
        Ok(())
    }

    pub async fn forget(args: &Forget) -> Result<(), Failure> {
        let (_, url) = configured(&Sources::new(Config::default(), &args.flags))?;
        let whom = match (&args.conversation, &args.user) {
            (Some(id), _) => Forgotten::Conversation(id.clone()),
            (None, Some(id)) => Forgotten::User(id.clone()),
            (None, None) => return Err(Failure::Usage("--conversation or --user: one is needed".to_owned())),
        };
        let mut session = Session::connect(&url, NAME).await.context("PostgreSQL")?;
        let remembers = parlance_archive::remembers(&mut session).await.context("PostgreSQL")?;
        if !remembers {
            eprintln!(
                "not remembered: a later backfill may bring it back, until the schema is migrated (parlance archive migrate) and this is done again"
            );
        }
        let rows = parlance_archive::forget(&mut session, &whom, args.dry_run).await.context("PostgreSQL")?;
        print!("{}", told(&rows, if args.dry_run { "would be forgotten" } else { "forgotten" }));
        Ok(())
    }

    fn told(rows: &Removed, what: &str) -> String {
        let some: Vec<String> = rows
            .iter()
            .filter(|(_, rows)| **rows > 0)
            .map(|(table, rows)| format!("{what}: {rows} of {table}\n"))
            .collect();
        if some.is_empty() { "nothing to do\n".to_owned() } else { some.concat() }
    }
}

#[cfg(not(feature = "archive"))]
pub use without::{forget, prune};

#[cfg(not(feature = "archive"))]
mod without {
    //! A build without it.

    use super::{Forget, Prune};
    use crate::failure::Failure;

    pub async fn prune(_: &Prune) -> Result<(), Failure> {
        Err(Failure::Usage("archive: this program was built without it".to_owned()))
    }

    pub async fn forget(_: &Forget) -> Result<(), Failure> {
        Err(Failure::Usage("archive: this program was built without it".to_owned()))
    }
}
