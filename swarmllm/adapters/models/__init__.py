"""Model files: where references lead, and how a file that is not on this machine gets here."""
