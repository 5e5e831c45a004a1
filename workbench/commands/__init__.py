"""The `recast` command: one module per subcommand."""
