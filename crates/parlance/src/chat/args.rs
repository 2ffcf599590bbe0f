//! The flags of `parlance chat`, and the client options they stand for.
//!
//! Owns: names and defaults. Must not know: sockets or the screen.

use std::time::Duration;

use anyhow::Context;
use parlance_client::{Dialect, Framing, Options};
use parlance_gateway::auth;
use parlance_gateway::clock::Clock;
use parlance_model::UserId;

/// How long a token signed on the spot is good for.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// A terminal chat client.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// The dialect to speak: sechat, lingochat, famly, chatgenius or socialhub.
    #[arg(long, default_value = "sechat", value_parser = dialect)]
    pub dialect: Dialect,
    /// What carries it, raw or socketio; only sechat has both, and is spoken raw unless told otherwise.
    #[arg(long, value_parser = framing)]
    pub framing: Option<Framing>,
    /// Who you are: the subject of the token.
    #[arg(long)]
    pub user: String,
    /// The conversation to talk in.
    #[arg(long, default_value = "demo")]
    pub conversation: String,
    /// The gateway; without a path, the dialect's usual mount.
    #[arg(long, default_value = "ws://127.0.0.1:8082")]
    pub url: String,
    /// Your token; without it one is signed with --jwt-secret.
    #[arg(long, env = "PARLANCE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The gateway's HS256 secret, to sign a token with; the one of `parlance dev` by default.
    #[arg(long, env = "PARLANCE_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<String>,
    /// Whom a conversation that your first message creates is with; repeat for several.
    #[arg(long)]
    pub to: Vec<String>,
    /// Do not tell others what you have read (that it reached you is told in any case).
    #[arg(long)]
    pub no_receipts: bool,
    /// Line by line on a terminal, too.
    #[arg(long)]
    pub plain: bool,
    /// Seconds to go on listening after the end of piped input.
    #[arg(long, default_value_t = 0)]
    pub linger: u64,
}

fn dialect(text: &str) -> Result<Dialect, String> {
    Dialect::parse(text).ok_or_else(|| format!("unknown dialect `{text}`: {}", names(" or ")))
}

fn framing(text: &str) -> Result<Framing, String> {
    Framing::parse(text).ok_or_else(|| format!("unknown framing `{text}`: raw or socketio"))
}

fn names(last: &str) -> String {
    let names = Dialect::ALL.map(Dialect::as_str);
    let (end, others) = names.split_last().unwrap_or((&"", &[]));
    format!("{}{last}{end}", others.join(", "))
}

impl Args {
    /// The options of the connection.
    ///
    /// # Errors
    /// When the user is no id, no token can be signed, or the dialect is not spoken in the framing.
    pub fn options(&self) -> anyhow::Result<Options> {
        let user = UserId::parse(&self.user).with_context(|| format!("--user {}", self.user))?;
        let token = match &self.token {
            Some(token) => token.clone(),
            None => {
                let secret = self.jwt_secret.as_deref().unwrap_or(crate::dev::DEV_SECRET);
                auth::sign_dev_token(secret, &user, Some(&self.user), TOKEN_TTL, Clock::system().now())
                    .map_err(anyhow::Error::msg)?
            }
        };
        let mut options = Options::new(&self.url, self.dialect, &self.user);
        if let Some(framing) = self.framing {
            let (dialect, framing_name) = (self.dialect.as_str(), framing.as_str());
            anyhow::ensure!(
                self.dialect.speaks(framing),
                "--framing {framing_name}: {dialect} is not spoken that way"
            );
            options = options.over(framing);
        }
        options.token = Some(token);
        options.conversations = vec![self.conversation.clone()];
        Ok(options)
    }
}
