"""Where the state of the twin service is kept: one interface, an embedded database, and one that replicas share."""
