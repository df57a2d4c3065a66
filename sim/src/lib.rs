//! core's Runtime inside a seeded simulator.
#[cfg(not(madsim))]
compile_error!(
    "hotfire-sim needs `--cfg madsim`, which .cargo/config.toml sets under [target.'cfg(all())'].\n\
     It is missing because the RUSTFLAGS (or CARGO_ENCODED_RUSTFLAGS) variable replaces the file's flags, or because cargo \
     was started outside the project (its configuration is found from the current folder, not from --manifest-path).\n\
     Fix: unset RUSTFLAGS; give extra flags with CARGO_TARGET_<TRIPLE>_RUSTFLAGS, which are joined."
);
