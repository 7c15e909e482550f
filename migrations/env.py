"""Runs the migrations against the database that the configuration names."""

from alembic import context

import trainer.tables
from ingest.database import migrating

assert trainer.tables.Run.metadata is not None  # every table is registered before autogenerate

url = context.config.get_main_option("sqlalchemy.url")
if url is None:
    raise SystemExit("no database: run `stovetop db upgrade --data DIR`")

with migrating(url) as connection:
    context.configure(
        connection=connection,
        target_metadata=trainer.tables.Base.metadata,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()
