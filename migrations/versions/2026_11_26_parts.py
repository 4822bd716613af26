"""Parts of messages: text and images, and which content the images keep."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from service.db.types import Id, Json

revision: str = "2026_11_26_parts"
down_revision: str | None = "2026_11_26_holds"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# A message without parts costs a look at its row. An imported one may speak of images that are not here: they are not
# kept, and nothing fails. In a turn the content is held until the message is there.
POSTGRES = (
    """
    CREATE FUNCTION keep_images() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
      INSERT INTO message_blobs (user_id, message_id, sha256)
      SELECT DISTINCT blobs.user_id, NEW.id, blobs.sha256
      FROM jsonb_array_elements(NEW.parts) AS part
      JOIN blobs ON blobs.user_id = NEW.user_id AND blobs.sha256 = part ->> 'sha256'
      ON CONFLICT DO NOTHING;
      RETURN NULL;
    END
    $body$
    """,
    """
    CREATE TRIGGER keep_images AFTER INSERT ON messages
    FOR EACH ROW WHEN (NEW.parts IS NOT NULL) EXECUTE FUNCTION keep_images()
    """,
)
SQLITE = (
    """
    CREATE TRIGGER keep_images AFTER INSERT ON messages WHEN new.parts IS NOT NULL BEGIN
      INSERT OR IGNORE INTO message_blobs (user_id, message_id, sha256)
      SELECT DISTINCT blobs.user_id, new.id, blobs.sha256
      FROM json_each(new.parts) AS part
      JOIN blobs ON blobs.user_id = new.user_id AND blobs.sha256 = json_extract(part.value, '$.sha256');
    END
    """,
)


def upgrade() -> None:
    op.add_column("messages", sa.Column("parts", Json, nullable=True))
    op.create_table(
        "message_blobs",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("message_id", Id, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "message_id"],
            ["messages.user_id", "messages.id"],
            name=op.f("fk_message_blobs_user_id_message_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id", "sha256"],
            ["blobs.user_id", "blobs.sha256"],
            name=op.f("fk_message_blobs_user_id_sha256"),
            deferrable=True,
            initially="DEFERRED",
        ),
        sa.PrimaryKeyConstraint("user_id", "message_id", "sha256", name=op.f("pk_message_blobs")),
    )
    op.create_index("ix_message_blobs_user_id_sha256", "message_blobs", ["user_id", "sha256"], unique=False)
    connection = op.get_bind()
    for statement in POSTGRES if connection.dialect.name == "postgresql" else SQLITE:
        connection.exec_driver_sql(statement)


def downgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP TRIGGER keep_images ON messages")
        connection.exec_driver_sql("DROP FUNCTION keep_images()")
    else:
        connection.exec_driver_sql("DROP TRIGGER keep_images")
    op.drop_index("ix_message_blobs_user_id_sha256", "message_blobs")
    op.drop_table("message_blobs")
    op.drop_column("messages", "parts")
