"""The audit: floors, controls, statistics, and the ledger of claims with its computed verdicts."""
