"""Numbers, tokens and charts as text and markup."""
