//! `parlance token`: a token on stdout and nothing else.

use parlance_gateway::auth::sign_dev_token;
use parlance_gateway::clock::Clock;
use parlance_gateway::config::{Config, Overrides};
use parlance_model::UserId;

use crate::cli::TokenArgs;
use crate::dev;
use crate::failure::Failure;
use crate::sources::environment;

/// Signs with the given secret, else with what a gateway configured the same way verifies.
pub fn run(args: TokenArgs) -> Result<(), Failure> {
    let user = UserId::parse(&args.user).map_err(|error| Failure::Usage(format!("--user: {error}")))?;
    let secret =
        match args.secret {
            Some(secret) if secret.is_empty() => return Err(Failure::Usage("--secret: is empty".to_owned())),
            Some(secret) => secret,
            None => {
                let env = environment();
                let config =
                    Config::load_over(&dev::base(), args.config.as_deref(), &env, &Overrides::default())?;
                config.auth.secrets.into_iter().next().ok_or_else(|| {
                    Failure::Usage("auth.secrets: none to sign with; give --secret".to_owned())
                })?
            }
        };
    let now = Clock::system().now();
    let token =
        sign_dev_token(&secret, &user, args.name.as_deref(), args.ttl, now).map_err(anyhow::Error::msg)?;
    println!("{token}");
    Ok(())
}
