"""The rooms behind ``embedonce ablate``: feature sets, rows, fits, comparisons, ledger, tables, figures."""
