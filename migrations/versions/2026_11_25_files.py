"""Files: blobs of content, the paths that name them, and what each user has of them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from service.db.types import Id, Instant, now

revision: str = "2026_11_25_files"
down_revision: str | None = "2026_11_25_unstored"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    path = sa.String(length=1024).with_variant(sa.String(length=1024, collation="C"), "postgresql")
    op.create_table(
        "blobs",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("token", sa.String(length=16), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("held_until", Instant(), nullable=True),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.CheckConstraint("size >= 0", name=op.f("ck_blobs_size")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_blobs_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "sha256", name=op.f("pk_blobs")),
    )
    op.create_table(
        "files",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("path", path, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("content_type", sa.String(length=200), nullable=False),
        sa.Column("created_at", Instant(), server_default=now(), nullable=False),
        sa.Column("updated_at", Instant(), server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_files_user_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["user_id", "sha256"], ["blobs.user_id", "blobs.sha256"], name=op.f("fk_files_user_id_sha256")
        ),
        sa.PrimaryKeyConstraint("user_id", "path", name=op.f("pk_files")),
    )
    op.create_index("ix_files_user_id_sha256", "files", ["user_id", "sha256"], unique=False)
    op.create_table(
        "file_usage",
        sa.Column("user_id", Id, nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("files", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("bytes >= 0 AND files >= 0", name=op.f("ck_file_usage_counts")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_file_usage_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_file_usage")),
    )


def downgrade() -> None:
    op.drop_table("file_usage")
    op.drop_index("ix_files_user_id_sha256", "files")
    op.drop_table("files")
    op.drop_table("blobs")
