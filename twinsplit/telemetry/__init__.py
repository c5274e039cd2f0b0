"""The one catalogue of metrics, their exposition, logging and the count of signalling (design section 9)."""
