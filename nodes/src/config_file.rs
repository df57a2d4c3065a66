//! Settings of the servers: defaults, then the file of `-c`, then flags.

use std::path::Path;

use anyhow::{Context, anyhow};
use hotfire_core::config::{BrokerConfig, ConfigError, NameServerConfig, Setting, Warning};

use crate::failure::Failure;
use crate::output;
use crate::table;

/// Reads the broker's file, if one is given; warnings go to the log.
///
/// # Errors
/// [`Failure::Usage`]: no such file, or a line in it that is not a setting or has a bad value.
pub fn broker(file: Option<&Path>) -> Result<BrokerConfig, Failure> {
    let mut config = read(file, BrokerConfig::read)?;
    if let Some(file) = file {
        config.set_file(path_of(file)?);
    }
    Ok(config)
}

/// As [`broker`].
///
/// # Errors
/// As there.
pub fn name_server(file: Option<&Path>) -> Result<NameServerConfig, Failure> {
    let mut config = read(file, NameServerConfig::read)?;
    if let Some(file) = file {
        config.set_file(path_of(file)?);
    }
    Ok(config)
}

/// Where the file is, whatever folder the server's paths begin in: changed settings are written into it.
fn path_of(file: &Path) -> Result<String, Failure> {
    let path =
        std::path::absolute(file).with_context(|| file.display().to_string()).map_err(Failure::Usage)?;
    Ok(path.display().to_string())
}

fn read<C: Default>(
    file: Option<&Path>,
    parse: impl FnOnce(&str, &str) -> Result<(C, Vec<Warning>), ConfigError>,
) -> Result<C, Failure> {
    let Some(path) = file else {
        return Ok(C::default());
    };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| name.clone()).map_err(Failure::Usage)?;
    let (config, warnings) = parse(&name, &text).map_err(Failure::usage)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// Applies every `--set KEY=VALUE`.
///
/// # Errors
/// [`Failure::Usage`]: not of that form, an unknown key or a bad value.
pub fn set_all(config: &mut BrokerConfig, sets: &[String]) -> Result<(), Failure> {
    for text in sets {
        let (key, value) = key_value(text)?;
        config.set(key, value).map_err(Failure::usage)?;
    }
    Ok(())
}

/// Splits `KEY=VALUE` of `--set`.
///
/// # Errors
/// [`Failure::Usage`] without `=`.
pub fn key_value(text: &str) -> Result<(&str, &str), Failure> {
    text.split_once('=').ok_or_else(|| Failure::Usage(anyhow!("--set {text}: expected KEY=VALUE")))
}

/// Prints every setting with its value, default and source.
pub fn print(settings: &[Setting]) {
    let mut table = table::with_headings(&["setting", "value", "default", "source"]);
    for setting in settings {
        table.add_row([setting.key, &setting.value, &setting.default, setting.source.name()]);
    }
    output::line(table);
}
