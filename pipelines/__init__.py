"""The top floor: one module per command. It joins the floors below and holds the command line."""
