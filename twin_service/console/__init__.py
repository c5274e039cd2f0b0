"""The live console: a web page of the twin service and the API behind it (docs/console.md).

``feed`` (the tasks that ended last), ``payoffs``, ``plan_rows``, ``snapshot`` and ``what_if`` turn twins into what the
page shows and are sans-IO; ``access`` says who may do what. ``snapshots`` and ``event_stream`` spread the work so that
planning never waits for a reader; ``app`` and ``server`` are the shell, and the only ones that know starlette and
uvicorn: a twin service without a console imports neither.
"""
