"""``twinsplit doctor``: is all here that a device needs, and if not, what is to be done (docs/how-to/doctor.md)?

Each module looks at one thing and returns findings; nothing here changes anything, and nothing attaches to the twin.
Modules that need a package which may be missing are imported where they are used, so that the rest still speaks.
"""
