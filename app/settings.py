"""Every setting, its default and its environment variable (MAA_ and the name in capitals)."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The service's settings; the environment overrides the defaults."""

    model_config = SettingsConfigDict(env_prefix="MAA_", frozen=True)

    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    """The largest request body that is read."""
    window_days: int = Field(default=30, ge=1, le=36_500)
    """Counts older than this before the newest one judged are not combined with it."""
    cors_origins: tuple[str, ...] = ("*",)
    """The web origins whose scripts may call, as a JSON list; `*` is any, without credentials."""
