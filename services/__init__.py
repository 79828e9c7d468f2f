"""Who does the work, and where? Ray actors, the REST API, the store and the CLI."""
