"""The topics and their contract: declaration, keys, headers, records, privileges, and the plan for a cluster."""
