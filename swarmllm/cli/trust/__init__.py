"""Commands about what experts are worth to this node: audits and receipts."""
