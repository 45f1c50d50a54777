"""The examples of the docs, started as a user starts them and spoken to from outside."""
