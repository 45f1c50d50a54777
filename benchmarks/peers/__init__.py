"""How the peers run a prompt. Each module but the driver is run in its package's own environment."""
