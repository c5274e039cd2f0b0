"""The Open Inference Protocol (version 2, gRPC): its messages without needless copies, and what both sides need."""
