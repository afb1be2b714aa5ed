"""What operators configure: the environment, the TOML file, clients and providers, every mistake told at once."""
