"""Who may call what: rights by certificate, limits by peer, and the door of every gRPC server that holds to both."""
