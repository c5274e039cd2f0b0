"""``twinsplit bench load``: how much one edge and one twin service hold, and what becomes of more than that."""
