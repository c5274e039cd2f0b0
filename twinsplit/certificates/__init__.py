"""An authority of one's own, and certificates that tell who shows them: what ``twinsplit certs`` makes.

Needs ``cryptography`` (extra ``twin``). Services themselves only read PEM files: :mod:`twinsplit.transport.tls`.
"""
