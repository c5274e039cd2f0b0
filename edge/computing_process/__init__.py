"""Tails run by a process of their own, so that streams and tails do not take turns at one interpreter's lock."""
