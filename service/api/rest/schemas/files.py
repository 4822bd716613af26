"""The shapes of files."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class FileOut(BaseModel):
    """A file without its content. Its entity tag is the hash in quotation marks."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "path": "holidays/beach.jpg",
                "size": 184320,
                "content_type": "image/jpeg",
                "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "created_at": "2026-11-25T21:30:31.174014Z",
                "updated_at": "2026-11-25T21:30:31.174014Z",
            }
        },
    )

    path: str
    size: int = Field(description="In bytes.")
    content_type: str = Field(description="What the client said when it wrote the file.")
    sha256: str = Field(description="Of the content, in hexadecimal digits.")
    created_at: datetime
    updated_at: datetime
