"""What all tables share: their metadata, and the columns and keys of a row that a user owns."""

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, MetaData

from service.db.types import Id, Instant, now

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

CONVERSATION = ["conversations.user_id", "conversations.id"]
COMPLETION = ["completions.user_id", "completions.id"]


def owner() -> Column[int]:
    return Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False)


def owner_of_parent() -> Column[int]:
    """For a row that always has an owned parent: the composite foreign key says that the user exists."""
    return Column("user_id", Id, nullable=False)


def moment(name: str) -> Column[object]:
    return Column(name, Instant, nullable=False, server_default=now())


def owned_by(parent: list[str], *columns: str, ondelete: str = "CASCADE") -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["user_id", *columns], parent, ondelete=ondelete)
